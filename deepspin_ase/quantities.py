"""Table of the quantities that potentials predict and data are labelled with.

One row of :data:`QUANTITIES` is all that a quantity needs to be read and written
(DeePMD npy, extxyz, HDF5), trained on, compared, plotted and returned by calculators.
A potential predicts it in :meth:`Potential.further_quantities
<deepspin_ase.potentials.Potential.further_quantities>`, or as a part of its
:class:`~deepspin_ase.potentials.Prediction`::

    register_quantity(
        Quantity("charges", "atom", "e", title="charges", deepmd_file="charge")
    )
"""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from typing import Any, Literal

from ase.calculators.calculator import all_properties
from typing_extensions import Self

__all__ = [
    "QUANTITIES",
    "Quantity",
    "QuantityValues",
    "label_table",
    "register_quantity",
    "result_names",
    "results_unknown_to_ase",
]

#: Shape of a quantity for each structure or each atom, by its kind.
_SHAPES: dict[str, tuple[int, ...]] = {
    "structure": (),
    "matrix": (3, 3),
    "atom": (),
    "vector": (3,),
}


@dataclass(frozen=True)
class Quantity:
    """A row of the table.

    Attributes
    ----------
    name : str
        In predictions, frames, batches, results of calculators and files.
    kind : {"structure", "matrix", "atom", "vector"}
        A number per structure, (B,); a tensor per structure, (B, 3, 3); a number
        per atom, (N,); a vector per atom, (N, 3).
    unit : str
    title : str
        In figures and tables.
    symbol : str, optional
        In the progress bar of a training.
    derivative : bool
        Whether it is a derivative of the energy, computed on request.
    time_reversal : int
        +1 if even under reversal of all moments, -1 if odd.
    magnetic : bool
        Of vectors: conjugate to the moments. They rotate with the moments, are known
        on atoms with a moment only (NaN on others), and their errors are split into
        parts across and along the moment.
    per_atom_in_errors : bool
        Whether errors are divided by the number of atoms, and training losses by
        its root.
    deepmd_file : str, optional
        Stem of the file in DeePMD-kit's npy folders; only quantities that have one
        can be labels.
    deepmd_prefactor : str, optional
        Ending of DeePMD-kit's ``start_pref_*`` and ``limit_pref_*``.
    dpdata_name : str, optional
    loss_weights : (float, float)
        Default weights in the training loss, at the start and in the limit.
    """

    name: str
    kind: Literal["structure", "matrix", "atom", "vector"]
    unit: str
    title: str
    symbol: str | None = None
    derivative: bool = False
    time_reversal: Literal[1, -1] = 1
    magnetic: bool = False
    per_atom_in_errors: bool = False
    deepmd_file: str | None = None
    deepmd_prefactor: str | None = None
    dpdata_name: str | None = None
    loss_weights: tuple[float, float] = (0.0, 0.0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape for one atom or one structure."""
        return _SHAPES[self.kind]

    @property
    def per_atom(self) -> bool:
        """Whether there is a value for each atom, not for each structure."""
        return self.kind in ("atom", "vector")

    @property
    def known_to_ase(self) -> bool:
        """Whether ASE's own files and calculators carry it."""
        return self.name in all_properties

    def shape_of(self, n_atoms: int) -> tuple[int, ...]:
        """Return the shape for one structure of ``n_atoms`` atoms."""
        return (n_atoms, *self.shape) if self.per_atom else self.shape


#: All quantities by name, in the order in which they appear.
QUANTITIES: dict[str, Quantity] = {}


def register_quantity(quantity: Quantity) -> None:
    """Add a row to the table.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if quantity.name in QUANTITIES:
        raise ValueError(f"the quantity {quantity.name!r} is registered already")
    QUANTITIES[quantity.name] = quantity


def label_table() -> dict[str, Quantity]:
    """Return the quantities that data may be labelled with, by name."""
    return {name: q for name, q in QUANTITIES.items() if q.deepmd_file is not None}


def result_names() -> list[str]:
    """Return the names of all results that calculators may give.

    The quantities, those that follow from them (free energy, torques and stress), and
    the deviations of committees.
    """
    return [
        *QUANTITIES,
        "free_energy",
        "torques",
        "stress",
        *(f"{name}_deviation" for name in QUANTITIES),
    ]


def results_unknown_to_ase(*, per_atom: bool) -> list[str]:
    """Return the names of results per atom, or per structure, that ASE would drop."""
    rows = [q for q in QUANTITIES.values() if q.per_atom == per_atom]
    return [
        *(q.name for q in rows if not q.known_to_ase),
        *(["torques"] if per_atom else []),
        *(f"{q.name}_deviation" for q in rows),
    ]


class QuantityValues:
    """Immutable values of quantities, an attribute each; None where unknown.

    Base of records that hold further attributes besides: their constructors take all
    attributes by name.
    """

    def __init__(self, quantities: dict[str, Any], **others: Any) -> None:
        unknown = quantities.keys() - QUANTITIES.keys()
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no {', '.join(sorted(unknown))}; "
                f"quantities are {', '.join(QUANTITIES)} (deepspin_ase.quantities)"
            )
        self.__dict__.update(others)
        self.__dict__.update({name: quantities.get(name) for name in QUANTITIES})

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(
            f"{type(self).__name__} is immutable: use .replace({name}=...)"
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {', '.join(self.quantities())}>"

    def quantities(self) -> dict[str, Any]:
        """Return the quantities that are known, in the order of the table."""
        values = vars(self)
        return {n: values[n] for n in QUANTITIES if values.get(n) is not None}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some attributes replaced; None removes a quantity."""
        return type(self)(**(vars(self) | changes))


for _row in (
    Quantity(
        "energy",
        "structure",
        "eV",
        title="energy",
        symbol="E",
        per_atom_in_errors=True,
        deepmd_file="energy",
        deepmd_prefactor="e",
        dpdata_name="energies",
        loss_weights=(0.02, 1.0),
    ),
    Quantity("energies", "atom", "eV", title="energies of atoms"),
    Quantity(
        "forces",
        "vector",
        "eV/A",
        title="forces",
        symbol="F",
        derivative=True,
        deepmd_file="force",
        deepmd_prefactor="fr",
        dpdata_name="forces",
        loss_weights=(1000.0, 1.0),
    ),
    Quantity(
        "magnetic_forces",
        "vector",
        "eV/mu_B",
        title="magnetic forces",
        symbol="FM",
        derivative=True,
        time_reversal=-1,
        magnetic=True,
        deepmd_file="force_mag",
        deepmd_prefactor="fm",
        dpdata_name="force_mags",
        loss_weights=(1000.0, 1.0),
    ),
    Quantity(
        "virial",
        "matrix",
        "eV",
        title="virial",
        symbol="V",
        derivative=True,
        per_atom_in_errors=True,
        deepmd_file="virial",
        deepmd_prefactor="v",
        dpdata_name="virials",
    ),
):
    register_quantity(_row)
