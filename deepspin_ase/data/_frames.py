"""Labelled structures: one Frame, and immutable sequences of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, overload

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike, NDArray

from ..spins import get_spins

#: What a frame may be labelled with.
LABELS = ("energy", "forces", "magnetic_forces", "virial")

#: Relative difference at which a file's stress and virial contradict each other.
_STRESS_TOLERANCE = 1e-3

_T = TypeVar("_T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Frame:
    """A structure with moments and the labels known for it.

    Arrays are copied and made read-only. Every number is finite, except that
    rows of NaN in ``magnetic_forces`` mark atoms without this label.

    Attributes
    ----------
    numbers : (N,) int array
        Atomic numbers.
    positions : (N, 3) array, A
    cell : (3, 3) array, A
        Rows are lattice vectors; zeros where there is no periodicity.
    pbc : (3,) bool array
    spins : (N, 3) array, mu_B
        Cartesian moments; zero on non-magnetic atoms.
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
        periodic direction has no lattice vector, or the cell has no volume.
    """

    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    spins: NDArray[np.float64]
    energy: float | None = None
    forces: NDArray[np.float64] | None = None
    magnetic_forces: NDArray[np.float64] | None = None
    virial: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        n = np.size(self.numbers)
        shapes: dict[str, tuple[int, ...]] = {
            "numbers": (n,),
            "pbc": (3,),
            "cell": (3, 3),
            "virial": (3, 3),
            "energy": (),
        }
        kinds: dict[str, type[np.generic]] = {"numbers": np.int64, "pbc": np.bool_}
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if value is None and name in LABELS:
                continue
            array = _frozen_array(value, kinds.get(name, np.float64))
            _check_array(name, array, shapes.get(name, (n, 3)))
            object.__setattr__(self, name, float(array) if name == "energy" else array)
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

        A ``SinglePointCalculator`` holds all labels. Magnetic forces are also in
        ``arrays['magnetic_forces']`` and the full virial in ``info['virial']``,
        where ASE's formats keep them; the stress is the symmetric part of
        -virial/V.
        """
        atoms = Atoms(
            numbers=self.numbers,
            positions=self.positions,
            cell=self.cell,
            pbc=self.pbc,
            magmoms=self.spins,
        )
        results: dict[str, Any] = {}
        if self.energy is not None:
            results["energy"] = results["free_energy"] = self.energy
        if self.forces is not None:
            results["forces"] = self.forces.copy()
        if self.magnetic_forces is not None:
            results["magnetic_forces"] = self.magnetic_forces.copy()
            atoms.set_array("magnetic_forces", self.magnetic_forces)
        if self.virial is not None:
            results["virial"] = self.virial.copy()
            atoms.info["virial"] = self.virial.copy()
            if self.volume > 0.0:
                results["stress"] = _stress(self.virial, self.volume)
        if results:
            atoms.calc = SinglePointCalculator(atoms)
            atoms.calc.results.update(results)
        return atoms

    @classmethod
    def from_atoms(cls, atoms: Atoms) -> Frame:
        """Take a frame from Atoms and the results of their calculator, if any.

        The energy is the free energy where the calculator gives one: forces are
        its derivatives. Magnetic forces are those of the calculator or of
        ``arrays['magnetic_forces']``; the virial is that of the calculator or
        of ``info['virial']``, or comes from the stress. Nothing is calculated.

        Raises
        ------
        ValueError
            If moments are missing or malformed, or the calculator's results
            belong to other positions, cell or moments than these Atoms have.
        """
        results = _results(atoms)
        stored = atoms.arrays.get("magnetic_forces")
        return cls(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            spins=get_spins(atoms),
            energy=results.get("free_energy", results.get("energy")),
            forces=results.get("forces"),
            magnetic_forces=results.get("magnetic_forces", stored),
            virial=_virial(atoms, results),
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
        """Tell whether any frame carries the label."""
        return self.count(label) > 0

    def count(self, label: str) -> int:
        """Return how many frames carry the label, one of :data:`LABELS`."""
        if label not in LABELS:
            raise ValueError(f"unknown label {label!r}; expected one of {LABELS}")
        return sum(getattr(frame, label) is not None for frame in self)


def _symbols(numbers: Iterable[NDArray[np.int64]]) -> tuple[str, ...]:
    present = set[int]().union(*(np.unique(some).tolist() for some in numbers))
    return tuple(chemical_symbols[z] for z in sorted(present))


def _frozen_array(value: ArrayLike, kind: type[_T]) -> NDArray[_T]:
    array = np.array(value, dtype=kind)
    array.setflags(write=False)
    return array


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} have shape {array.shape}; expected {shape}")
    finite = np.isfinite(array)
    if name == "magnetic_forces":
        finite |= np.isnan(array).all(axis=1, keepdims=True)
    if not finite.all():
        where = f" at {tuple(np.argwhere(~finite)[0].tolist())}" if shape else ""
        raise ValueError(f"{name} are not finite{where}; correct or drop the frame")


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


def _virial(atoms: Atoms, results: dict[str, Any]) -> np.ndarray | None:
    """Return -dE/dstrain of ``atoms``, of its own or from the stress."""
    virial = results.get("virial", atoms.info.get("virial"))
    if virial is not None:
        virial = np.reshape(np.asarray(virial, dtype=float), (3, 3))
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
