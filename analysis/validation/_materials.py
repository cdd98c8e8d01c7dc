"""Materials that models are validated for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import ArrayLike

from ...orders import antiferromagnetic
from ...potentials import Potential, bismuth_ferrite
from ...spins import get_spins, set_spins
from ...system import check_structure

#: Components of the tensor of elastic constants, Voigt's numbers from 0, that are one
#: in a crystal system, by name. A negative sign marks C24 = -C14.
CUBIC = {
    "C11": ((0, 0, 1), (1, 1, 1), (2, 2, 1)),
    "C12": ((0, 1, 1), (0, 2, 1), (1, 2, 1)),
    "C44": ((3, 3, 1), (4, 4, 1), (5, 5, 1)),
}
TRIGONAL = {
    "C11": ((0, 0, 1), (1, 1, 1)),
    "C33": ((2, 2, 1),),
    "C12": ((0, 1, 1),),
    "C13": ((0, 2, 1), (1, 2, 1)),
    "C44": ((3, 3, 1), (4, 4, 1)),
    "C14": ((0, 3, 1), (1, 3, -1), (4, 5, 1)),
}

Size: TypeAlias = tuple[int, int, int]
Elastic: TypeAlias = Mapping[str, Sequence[tuple[int, int, int]]]


@dataclass(frozen=True)
class Material:
    """A crystal with a magnetic order, and what its properties need to know.

    Attributes
    ----------
    name : str
    elements : tuple of str
        That a model must know.
    build : callable
        Returns the magnetic cell with moments.
    lattice : callable
        Of a cell: label, value and unit of its lattice constants, by key.
    free_lengths : bool
        Whether lengths of moments relax.
    spin : float, optional
        S of the magnetic ions; moments precess with g = |m|/S. Without, with that of
        the electron.
    elastic : mapping
        Components of the elastic tensor that are averaged, by name.
    frame : (3, 3) array
        Rows: axes that elastic constants refer to.
    path : str, optional
        Through the Brillouin zone of ``path_cell``; ASE's by default.
    path_cell : callable, optional
        Of the magnetic cell: the ideal primitive cell whose zone that is.
    points : mapping
        Wave vectors of phonons that are listed, in units of the reciprocal lattice of
        ``path_cell``, by name.
    phonon_supercell, exchange_repeat : int
        Multiples of the magnetic cell.
    sizes : two of (int, int, int)
        Multiples of ``thermal_cell`` in runs at temperatures.
    thermal_cell : (3, 3) array
        Multiples of the magnetic cell.
    temperatures_K : tuple of float
        Of thermal expansion.
    phases : mapping
        Builders of other structures and orders, of the volume per atom (A^3), by name.
        The first is the reference.
    volumes : (float, float)
        Least and largest volume of phases over that of the relaxed crystal.
    born_charges : mapping
        By element, e, of ferroelectrics.
    """

    name: str
    elements: tuple[str, ...]
    build: Callable[[], Atoms]
    lattice: Callable[[Atoms], dict[str, tuple[str, float, str]]]
    free_lengths: bool = False
    spin: float | None = None
    elastic: Elastic = field(default_factory=dict)
    frame: np.ndarray = field(default_factory=lambda: np.eye(3))
    path: str | None = None
    path_cell: Callable[[Atoms], ArrayLike] | None = None
    points: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    phonon_supercell: int = 3
    exchange_repeat: int = 4
    sizes: tuple[Size, Size] = ((2, 2, 2), (3, 3, 3))
    thermal_cell: np.ndarray = field(default_factory=lambda: np.eye(3, dtype=int))
    temperatures_K: tuple[float, ...] = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0)
    phases: Mapping[str, Callable[[float], Atoms]] = field(default_factory=dict)
    volumes: tuple[float, float] = (0.94, 1.06)
    born_charges: Mapping[str, float] = field(default_factory=dict)

    def check(self, potential: Potential) -> None:
        """Raise ValueError unless a potential knows the elements and moments."""
        atoms = self.build()
        known = potential.species
        lacking = [e for e in self.elements if known and atomic_numbers[e] not in known]
        if lacking:
            raise ValueError(
                f"the model does not know {', '.join(lacking)}, which {self.name} "
                "needs: choose another model, material or structure"
            )
        if not potential.uses_spins:
            raise ValueError(
                "the model does not depend on moments: there is no magnet to validate"
            )
        magnetic = potential.magnetic_species
        carrying = atoms.numbers[np.any(get_spins(atoms), axis=1)]
        if magnetic is not None and not {*carrying.tolist()} <= magnetic:
            raise ValueError(
                f"{self.name} carries moments on elements that have none in the model"
            )

    def thermal(self, crystal: Atoms) -> Atoms:
        """Return the cell that is repeated in runs at temperatures."""
        return make_supercell(crystal, self.thermal_cell)


def material_of(structure: Atoms) -> Material:
    """Return the material of a structure of one's own, with the moments it has.

    Raises
    ------
    ValueError
        If it carries no moments or is not periodic in three directions.
    """
    check_structure(structure)
    if not structure.has("initial_magmoms") or not get_spins(structure).any():
        raise ValueError(
            "the structure carries no magnetic moments: set them with set_spins, or "
            "write them into the file"
        )
    if not structure.pbc.all():
        raise ValueError("the structure must be periodic in three directions")

    def build() -> Atoms:
        atoms = Atoms(
            structure.numbers, structure.positions, cell=structure.cell, pbc=True
        )
        set_spins(atoms, get_spins(structure))
        return atoms

    def lattice(atoms: Atoms) -> dict[str, tuple[str, float, str]]:
        lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
        return {
            **{n: (n, x, "Å") for n, x in zip("abc", lengths, strict=True)},
            **{
                n: (n, x, "degrees")
                for n, x in zip(("alpha", "beta", "gamma"), angles, strict=True)
            },
        }

    elements = tuple(dict.fromkeys(structure.get_chemical_symbols()))
    name = structure.get_chemical_formula()
    return Material(name, elements, build, lattice)


def material_for(potential: Potential) -> Material:
    """Return the material that has the elements of a potential.

    Raises
    ------
    ValueError
        If there is none.
    """
    known = {chemical_symbols[z] for z in potential.species or ()}
    for material in MATERIALS.values():
        if known == {*material.elements}:
            return material
    raise ValueError(
        "no material has the elements of the model "
        f"({', '.join(sorted(known)) or 'any'}): name one of {', '.join(MATERIALS)}, "
        "or give a structure"
    )


# --- iron ------------------------------------------------------------------------


def _fe(lattice: str, volume: float, moment: float, signs: Sequence[int]) -> Atoms:
    """Return bcc, fcc or hcp iron with collinear layers along z.

    Layers of the cubic cells are square planes, half of the edge apart.
    """
    if lattice == "hcp":
        a = (volume * 4.0 / np.sqrt(3.0) / 1.59) ** (1.0 / 3.0)
        atoms = bulk("Fe", "hcp", a, c=1.59 * a)
    else:
        per_cube = {"bcc": 2, "fcc": 4}[lattice]
        a = (per_cube * volume) ** (1.0 / 3.0)
        edge = a if lattice == "bcc" else a / np.sqrt(2.0)
        layers = max(2, len(signs))
        atoms = Atoms(
            f"Fe{layers}",
            [
                (0.5 * edge * (k % 2), 0.5 * edge * (k % 2), 0.5 * a * k)
                for k in range(layers)
            ],
            cell=(edge, edge, 0.5 * a * layers),
            pbc=True,
        )
    pattern = np.resize(signs, len(atoms))
    spins = np.zeros((len(atoms), 3))
    spins[:, 2] = moment * pattern
    set_spins(atoms, spins)
    return atoms


def _fe_phase(lattice: str, moment: float, *signs: int) -> Callable[[float], Atoms]:
    return lambda volume: _fe(lattice, volume, moment, signs)


def _iron() -> Atoms:
    atoms = bulk("Fe", "bcc", 2.8665)
    set_spins(atoms, {"Fe": 2.2})
    return atoms


def _cubic(label: str, atoms_per_cube: int) -> Callable[[Atoms], dict[str, Any]]:
    def lattice(atoms: Atoms) -> dict[str, tuple[str, float, str]]:
        volume = atoms.get_volume() / len(atoms)
        return {"a": (label, (atoms_per_cube * volume) ** (1.0 / 3.0), "Å")}

    return lattice


FE = Material(
    "Fe",
    ("Fe",),
    _iron,
    _cubic("lattice constant a", 2),
    free_lengths=True,
    elastic=CUBIC,
    path="GHNGPH",
    points={"H": (0.5, -0.5, 0.5), "N": (0.0, 0.0, 0.5), "P": (0.25, 0.25, 0.25)},
    phonon_supercell=4,
    exchange_repeat=7,
    sizes=((3, 3, 3), (4, 4, 4)),
    thermal_cell=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]),
    temperatures_K=(150.0, 300.0, 450.0, 600.0, 800.0, 1000.0),
    phases={
        "bcc FM": _fe_phase("bcc", 2.2, 1),
        "bcc AFM": _fe_phase("bcc", 1.6, 1, -1),
        "bcc NM": _fe_phase("bcc", 0.0, 1),
        "fcc FM": _fe_phase("fcc", 2.5, 1),
        "fcc AFM": _fe_phase("fcc", 1.6, 1, -1),
        "fcc AFMD": _fe_phase("fcc", 1.9, 1, 1, -1, -1),
        "fcc NM": _fe_phase("fcc", 0.0, 1),
        "hcp NM": _fe_phase("hcp", 0.0, 1),
    },
    volumes=(0.84, 1.12),
)


# --- nickel oxide ------------------------------------------------------------------

#: Length of the moments in the data of the shipped model, mu_B.
_NI_MOMENT = 1.277

#: Vectors of the cell of type II in those of the primitive cell, and rows of the cube.
_TYPE_II = np.array([[1.0, 0.5, 0.5], [0.5, 1.0, 0.5], [0.5, 0.5, 1.0]])


def _nickel_oxide(
    q: Sequence[float] | None = (0.5, 0.5, 0.5), volume: float = 4.186**3 / 8.0
) -> Atoms:
    """Return the cell of type II; other orders (None: ferromagnetic) in the cube."""
    a = (8.0 * volume) ** (1.0 / 3.0)
    if q == (0.5, 0.5, 0.5):
        places = a * np.array([(0, 0, 0), (1, 1, 1), (0.5, 0.5, 0.5), (1.5, 1.5, 1.5)])
        atoms = Atoms("Ni2O2", places, cell=a * _TYPE_II, pbc=True)
    else:
        atoms = bulk("NiO", "rocksalt", a, cubic=True)
    order = None
    if q is not None:
        order = antiferromagnetic(q, direction=(1, 1, -2), cell=a)
    set_spins(atoms, {"Ni": _NI_MOMENT}, pattern=order)
    return atoms


def _rhombohedral(atoms: Atoms) -> dict[str, tuple[str, float, str]]:
    cube = np.linalg.solve(_TYPE_II, atoms.cell.array)
    unit = cube / np.linalg.norm(cube, axis=1, keepdims=True)
    cosines = [unit[0] @ unit[1], unit[1] @ unit[2], unit[2] @ unit[0]]
    angle = float(np.degrees(np.arccos(np.mean(cosines))))
    return {
        "a": ("lattice constant a", float(np.linalg.norm(cube, axis=1).mean()), "Å"),
        "angle": ("angle of the cube above 90°", angle - 90.0, "degrees"),
    }


NIO = Material(
    "NiO",
    ("Ni", "O"),
    _nickel_oxide,
    _rhombohedral,
    spin=1.0,
    elastic=CUBIC,
    path="XGLW",
    path_cell=lambda atoms: bulk("NiO", "rocksalt", _rhombohedral(atoms)["a"][1]).cell,
    points={"Γ": (0.0, 0.0, 0.0), "X": (0.5, 0.0, 0.5)},
    phonon_supercell=3,
    exchange_repeat=4,
    # Even, so that all domains of the order repeat.
    sizes=((2, 2, 2), (4, 4, 2)),
    phases={
        "AFM-II": lambda volume: _nickel_oxide((0.5, 0.5, 0.5), volume),
        "AFM-I": lambda volume: _nickel_oxide((0.0, 0.0, 1.0), volume),
        "FM": lambda volume: _nickel_oxide(None, volume),
    },
)


# --- bismuth ferrite -----------------------------------------------------------------

#: Wave vectors of orders other than G, which need a larger cell.
_ORDERS = {"FM": (0, 0, 0), "A": (0, 0, 0.5), "C": (0.5, 0.5, 0)}

#: Multiples of the cell of ten atoms that are the doubled pseudo-cube.
_DOUBLED = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]


def _bismuth_ferrite(
    polar: float, tilt: float, volume: float, q: Sequence[float] | None = None
) -> Atoms:
    """Return G order in ten atoms, or the order of a wave vector in forty."""
    a = (5.0 * volume) ** (1.0 / 3.0)
    atoms = bismuth_ferrite((polar,) * 3, (tilt,) * 3, a=a, spin_axis=(1, 1, 1))
    if q is None:
        return atoms
    large = make_supercell(atoms, _DOUBLED)
    ideal = make_supercell(bismuth_ferrite((0, 0, 0), a=a), _DOUBLED)
    order = antiferromagnetic(q, direction=(1, 1, 1), cell=a)
    set_spins(ideal, {"Fe": 4.0}, pattern=order)
    set_spins(large, get_spins(ideal))
    return large


def _hexagonal(atoms: Atoms) -> dict[str, tuple[str, float, str]]:
    """Return a and c of the hexagonal cell of the rhombohedral one."""
    cell = atoms.cell.array
    edges = [np.linalg.norm(cell[k] - cell[k - 1]) for k in range(3)]
    height = float(np.linalg.norm(cell.sum(axis=0)))
    return {
        "a": ("hexagonal a", float(np.mean(edges)), "Å"),
        "c": ("hexagonal c", height, "Å"),
    }


BIFEO3 = Material(
    "BiFeO3",
    ("Bi", "Fe", "O"),
    lambda: bismuth_ferrite(spin_axis=(1, 1, 1)),
    _hexagonal,
    spin=2.5,
    elastic=TRIGONAL,
    frame=np.array([[1, -1, 0], [1, 1, -2], [1, 1, 1]])
    / np.sqrt([[2.0], [6.0], [3.0]]),
    path="ZGLFG",
    phonon_supercell=2,
    exchange_repeat=3,
    sizes=((2, 2, 2), (3, 3, 2)),
    temperatures_K=(100.0, 200.0, 300.0, 400.0, 500.0, 600.0),
    phases={
        "R3c G": lambda volume: _bismuth_ferrite(1.0, 1.0, volume),
        "R3c C": lambda volume: _bismuth_ferrite(1.0, 1.0, volume, _ORDERS["C"]),
        "R3c A": lambda volume: _bismuth_ferrite(1.0, 1.0, volume, _ORDERS["A"]),
        "R3c FM": lambda volume: _bismuth_ferrite(1.0, 1.0, volume, _ORDERS["FM"]),
        "R-3c G": lambda volume: _bismuth_ferrite(0.0, 1.0, volume),
        "R3m G": lambda volume: _bismuth_ferrite(1.0, 0.0, volume),
        "cubic G": lambda volume: _bismuth_ferrite(0.0, 0.0, volume),
    },
    volumes=(0.92, 1.04),
    born_charges={"Bi": 4.37, "Fe": 3.87, "O": -2.747},
)

#: Materials by name.
MATERIALS = {material.name: material for material in (FE, NIO, BIFEO3)}
