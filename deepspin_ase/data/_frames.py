"""Labelled structures: single frames and immutable sequences of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from typing import Any, overload

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from .._validate import as_symbols
from ..io._columns import settled_moments
from ..quantities import QUANTITIES, Quantity, QuantityValues, label_table
from ..spins import get_spins, set_spins
from ._torques import across, torques_of

#: Relative difference at which a file's stress and virial contradict each other.
_STRESS_TOLERANCE = 1e-3


class Frame(QuantityValues):
    """A structure with moments and the labels known for it.

    Arrays are copied and made read-only. Every number is finite, except that NaN in
    a label marks what is not labelled: an atom's row as a whole, or the energy or
    virial.

    Parameters
    ----------
    numbers : (N,) int array
        Atomic numbers.
    positions : (N, 3) array, A
    cell : (3, 3) array, A
        Rows are lattice vectors; zeros where there is no periodicity.
    pbc : (3,) bool array
    spins : (N, 3) array, mu_B
        Cartesian moments; zero on non-magnetic atoms.
    longitudinal : bool
        Whether ``magnetic_forces`` are known along the moments, too; if not, they are
        those of torques, and lie across.
    weights : mapping of str to float
        Factors in the loss of a training by the name of the label, 1 where not given.
    **labels
        Labels by their names in :mod:`deepspin_ase.quantities`, in the units given
        there: those below, and any that is registered. None if not known.

    Attributes
    ----------
    numbers, positions, cell, pbc, spins, longitudinal, weights
    energy : float, optional, eV
        The energy that the forces are derivatives of.
    forces : (N, 3) array, optional, eV/A
    magnetic_forces : (N, 3) array, optional, eV/mu_B
        -dE/dm at fixed positions and cell, longitudinal part included.
    virial : (3, 3) array, optional, eV
        -dE/dstrain at fixed Cartesian moments, ``virial[a, b]`` being the sum
        of F_a r_b; not symmetric where torques act. Equals -V x stress.

    Raises
    ------
    ValueError
        If a shape is wrong, a number is not finite, an element is unknown, a
        periodic direction has no lattice vector, the cell has no volume, or a weight
        is negative or of no label.
    TypeError
        If a label is not in the table of quantities.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    spins: NDArray[np.float64]
    longitudinal: bool
    weights: Mapping[str, float]
    energy: float | None
    forces: NDArray[np.float64] | None
    magnetic_forces: NDArray[np.float64] | None
    virial: NDArray[np.float64] | None

    def __init__(
        self,
        numbers: ArrayLike,
        positions: ArrayLike,
        cell: ArrayLike,
        pbc: ArrayLike,
        spins: ArrayLike,
        *,
        longitudinal: bool = True,
        weights: Mapping[str, float] | None = None,
        **labels: ArrayLike | None,
    ) -> None:
        n = np.size(np.asarray(numbers))
        structure = {
            "numbers": _checked_array("numbers", numbers, (n,), np.int64),
            "positions": _checked_array("positions", positions, (n, 3)),
            "cell": _checked_array("cell", cell, (3, 3)),
            "pbc": _checked_array("pbc", pbc, (3,), np.bool_),
            "spins": _checked_array("spins", spins, (n, 3)),
        }
        table = label_table()
        known = {name: v for name, v in labels.items() if v is not None}
        if unknown := sorted(known.keys() - table.keys()):
            raise TypeError(
                f"a frame has no label {', '.join(unknown)}; labels are "
                f"{', '.join(table)} (deepspin_ase.quantities)"
            )
        values = {name: _checked_label(table[name], v, n) for name, v in known.items()}
        super().__init__(
            values,
            **structure,
            longitudinal=bool(longitudinal),
            weights=_checked_weights(weights or {}),
        )
        if n == 0:
            raise ValueError("the frame holds no atoms")
        if not ((self.numbers > 0) & (self.numbers < len(chemical_symbols))).all():
            raise ValueError(f"unknown atomic numbers in {sorted(set(self.numbers))}")
        if (self.pbc & ~self.cell.any(axis=1)).any():
            raise ValueError(
                "a periodic direction has a zero lattice vector; set the cell, or "
                "pbc=False (DeePMD: an empty file 'nopbc' beside type.raw)"
            )
        if self.pbc.all() and self.volume < 1e-8:
            raise ValueError("the cell has no volume; correct it, or set pbc=False")

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return len(self.numbers)

    @property
    def symbols(self) -> list[str]:
        """Chemical symbols of the N atoms."""
        return [chemical_symbols[z] for z in self.numbers]

    @property
    def volume(self) -> float:
        """Volume of the cell, A^3; zero where a lattice vector is missing."""
        return float(abs(np.linalg.det(self.cell)))

    def to_atoms(self) -> Atoms:
        """Return Atoms that carry the moments and, in ASE's places, the labels.

        A ``SinglePointCalculator`` holds all labels. Those that ASE does not know
        are also in ``arrays`` (magnetic forces) or ``info`` (the full virial), where
        ASE's formats keep them; the stress is the symmetric part of -virial/V.
        Magnetic forces that are not known along the moments are there as torques, and
        weights in ``info`` as ``config_energy_weight`` and the like.
        """
        atoms = Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            magmoms=self.spins,
        )
        results: dict[str, Any] = {}
        for name, value in self.quantities().items():
            if not np.isfinite(value).any():
                continue
            if name == "magnetic_forces" and not self.longitudinal:
                torques = torques_of(value, self.spins)
                results["torques"] = atoms.arrays["torques"] = torques
                continue
            results[name] = copy(value)
            if not QUANTITIES[name].known_to_ase:
                place = atoms.arrays if QUANTITIES[name].per_atom else atoms.info
                place[name] = copy(value)
        if "energy" in results:
            results["free_energy"] = self.energy
        virial = results.get("virial")
        if virial is not None and self.volume > 0.0:
            results["stress"] = _stress(virial, self.volume)
        if results:
            atoms.calc = SinglePointCalculator(atoms)
            atoms.calc.results.update(results)
        atoms.info |= {f"config_{n}_weight": w for n, w in self.weights.items()}
        return atoms

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Frame:
        """Take a frame from Atoms and the results of their calculator, if any.

        The energy is the free energy where the calculator gives one: forces are
        its derivatives. Moments are the computed ``magmoms`` where it gives these, and
        else those of the Atoms, which a calculation may only have started from.
        Labels that ASE does not know are those of the calculator,
        or of ``arrays`` (magnetic forces) and ``info`` (the virial); a missing
        virial comes from the stress, and missing magnetic forces, across the moments
        alone, from the torques m x magnetic forces. Nothing is calculated.

        Weights in the loss are ``config_weight`` of ``info`` times
        ``config_energy_weight``, ``config_forces_weight`` and so on, as in MACE.

        Raises
        ------
        ValueError
            If moments are missing or malformed, or the calculator's results
            belong to other positions, cell or moments than these Atoms have.
        """
        results = _results(atoms)
        found = {name: _stored(atoms, results, q) for name, q in label_table().items()}
        found["energy"] = results.get("free_energy", results.get("energy"))
        found["virial"] = _with_stress(atoms, results, found["virial"])
        carrier = Atoms(atoms.numbers)
        moments = settled_moments(
            atoms.arrays.get("initial_magmoms"), results.get("magmoms")
        )
        if moments is not None:
            set_spins(carrier, moments)
        spins = get_spins(carrier)
        torques = results.get("torques", atoms.arrays.get("torques"))
        longitudinal = True
        if found["magnetic_forces"] is None and torques is not None:
            found["magnetic_forces"] = across(torques, spins)
            longitudinal = False
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            spins=spins,
            longitudinal=longitudinal,
            weights=_weights_in(atoms.info),
            **found,
        )


class Dataset(Sequence[Frame]):
    """An immutable sequence of frames.

    Parameters
    ----------
    frames : iterable of Frame
    name : str
        Where the frames come from; used in messages and reports.
    """

    def __init__(self, frames: Iterable[Frame], *, name: str = "") -> None:
        self._frames = tuple(frames)
        self.name = name

    def __len__(self) -> int:
        return len(self._frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...

    @overload
    def __getitem__(self, index: slice | ArrayLike) -> Dataset: ...

    def __getitem__(self, index: int | slice | ArrayLike) -> Frame | Dataset:
        """Return a Frame for an integer, a Dataset for a slice or index array."""
        if isinstance(index, int | np.integer):
            return self._frames[index]
        if isinstance(index, slice):
            return Dataset(self._frames[index], name=self.name)
        chosen = np.arange(len(self))[np.asarray(index)]
        return Dataset((self._frames[i] for i in chosen), name=self.name)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self._frames)

    def __add__(self, other: Dataset) -> Dataset:
        if not isinstance(other, Dataset):
            return NotImplemented
        names = [name for name in (self.name, other.name) if name]
        return Dataset(
            (*self._frames, *other._frames), name=" + ".join(dict.fromkeys(names))
        )

    def __repr__(self) -> str:
        elements = ", ".join(self.elements)
        return f"<Dataset {self.name!r}: {len(self)} frames of {elements}>"

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols of all elements present, by atomic number."""
        return _symbols(frame.numbers for frame in self)

    @property
    def magnetic_elements(self) -> tuple[str, ...]:
        """Symbols of the elements that carry a non-zero moment in some frame."""
        return _symbols(frame.numbers[frame.spins.any(axis=1)] for frame in self)

    def has(self, label: str) -> bool:
        """Return whether any frame carries the label."""
        return self.count(label) > 0

    def count(self, label: str) -> int:
        """Return the number of frames with a label, see :mod:`deepspin_ase.quantities`.

        Raises
        ------
        ValueError
            If there is no such label.
        """
        if label not in label_table():
            raise ValueError(
                f"unknown label {label!r}; expected one of {', '.join(label_table())}"
            )
        values = (getattr(frame, label) for frame in self)
        return sum(x is not None and bool(np.isfinite(x).any()) for x in values)


def keep_moments(
    dataset: Dataset, elements: Iterable[str]
) -> tuple[Dataset, dict[str, float]]:
    """Set the moments of all other elements to zero, and their magnetic forces.

    Calculations leave small moments on oxygen and the like, which models treat as
    non-magnetic: there, a moment is what is self-consistent, and no variable.

    Parameters
    ----------
    dataset : Dataset
    elements : iterable of str
        Those that keep their moments.

    Returns
    -------
    Dataset
    dict
        The largest moment (mu_B) of each element that lost some.

    Raises
    ------
    ValueError
        If a symbol is unknown or not in the data.
    """
    kept = as_symbols(tuple(elements)) or ()
    if missing := sorted(set(kept) - set(dataset.elements)):
        raise ValueError(
            f"there is no {', '.join(missing)} in {dataset.name}; the elements are "
            f"{', '.join(dataset.elements)}"
        )
    dropped: dict[str, float] = {}
    frames = []
    for frame in dataset:
        symbols = np.array(frame.symbols)
        other = ~np.isin(symbols, kept)
        lengths = np.linalg.norm(frame.spins, axis=1)
        for k in np.flatnonzero(other & (lengths > 0.0)):
            name = str(symbols[k])
            dropped[name] = max(dropped.get(name, 0.0), float(lengths[k]))
        changes = {"spins": np.where(other[:, None], 0.0, frame.spins)}
        if frame.magnetic_forces is not None:
            zeroed = np.where(other[:, None], 0.0, frame.magnetic_forces)
            changes["magnetic_forces"] = zeroed
        frames.append(frame.replace(**changes))
    return Dataset(frames, name=dataset.name), dropped


def _symbols(numbers: Iterable[NDArray[np.int64]]) -> tuple[str, ...]:
    present = set[int]().union(*(np.unique(some).tolist() for some in numbers))
    return tuple(chemical_symbols[z] for z in sorted(present))


def _checked_array(
    name: str,
    value: ArrayLike,
    shape: tuple[int, ...],
    kind: type[np.generic] = np.float64,
    *,
    masked: Quantity | None = None,
) -> NDArray[Any]:
    """Return a read-only copy, whose shape and numbers are checked.

    Of a quantity that is ``masked``, NaN is allowed, and extended to the atom's row or
    the structure's tensor.
    """
    array = np.array(value, dtype=kind)
    if array.shape != shape:
        raise ValueError(f"{name} have shape {array.shape}; expected {shape}")
    finite = np.isfinite(array)
    if masked is not None:
        inner = tuple(range(array.ndim - len(masked.shape), array.ndim))
        unknown = np.isnan(array).any(axis=inner, keepdims=True)
        array = np.where(unknown, np.nan, array)
        finite |= unknown
    if not finite.all():
        where = f" at {tuple(np.argwhere(~finite)[0].tolist())}" if shape else ""
        raise ValueError(f"{name} are not finite{where}; correct or drop the frame")
    array.setflags(write=False)
    return array


def _checked_label(
    quantity: Quantity, value: ArrayLike, n_atoms: int
) -> NDArray[np.float64] | float:
    shape = quantity.shape_of(n_atoms)
    array = _checked_array(quantity.name, value, shape, masked=quantity)
    return array if array.ndim else float(array)


def _checked_weights(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the weights other than 1, in the order of the labels."""
    table = label_table()
    if unknown := sorted(weights.keys() - table.keys()):
        raise ValueError(
            f"weights of {', '.join(unknown)}: there are no such labels; known are "
            f"{', '.join(table)}"
        )
    values = {name: float(weights[name]) for name in table if name in weights}
    for name, value in values.items():
        if not 0.0 <= value < np.inf:
            raise ValueError(f"the weight of {name} is {value:g}; it must not be < 0")
    return {name: value for name, value in values.items() if value != 1.0}


def _weights_in(info: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights that MACE's keys in ``info`` mean."""
    whole = float(info.get("config_weight", 1.0))
    return {
        name: whole * float(info.get(f"config_{name}_weight", 1.0))
        for name in label_table()
    }


def _results(atoms: Atoms) -> dict[str, Any]:
    """Return the results of the calculator of ``atoms``, which must be current."""
    results = getattr(atoms.calc, "results", None)
    if not results:
        return {}
    changes = atoms.calc.check_state(atoms)
    if changes:
        raise ValueError(
            f"the calculator's results were made before {', '.join(changes)} of these "
            "Atoms changed; calculate again, or attach the results after the change"
        )
    return dict(results)


def _stress(virial: np.ndarray, volume: float) -> np.ndarray:
    """Return the symmetric stress of a virial in ASE's sign and Voigt order."""
    return full_3x3_to_voigt_6_stress(-0.5 * (virial + virial.T) / volume)


def _stored(atoms: Atoms, results: dict[str, Any], quantity: Quantity) -> Any:
    """Return a quantity from the results, or from where ASE's formats leave it."""
    place = atoms.arrays if quantity.per_atom else atoms.info
    fallback = None if quantity.known_to_ase else place.get(quantity.name)
    value = results.get(quantity.name, fallback)
    if value is None or quantity.per_atom:
        return value
    # A (3, 3) tensor may be stored as nine numbers.
    return np.reshape(np.asarray(value, dtype=float), quantity.shape)


def _with_stress(
    atoms: Atoms, results: dict[str, Any], virial: np.ndarray | None
) -> np.ndarray | None:
    """Return -dE/dstrain: the virial, which the stress must not contradict."""
    if "stress" not in results:
        return virial
    volume = atoms.get_volume()
    stress = np.asarray(results["stress"], dtype=float)
    if stress.shape != (6,):
        raise ValueError(f"the stress has shape {stress.shape}; expected (6,)")
    if virial is None:
        return -volume * voigt_6_to_full_3x3_stress(stress)
    scale = max(float(np.abs(stress).max()), 1e-6)
    if np.abs(_stress(virial, volume) - stress).max() > _STRESS_TOLERANCE * scale:
        raise ValueError(
            "the virial and the stress contradict each other: the virial must be "
            "-V x stress, in eV; remove the wrong one"
        )
    return virial
