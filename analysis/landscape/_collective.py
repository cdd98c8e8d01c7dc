"""Collective coordinates: one amplitude that changes a whole structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ...spins import get_spins, unit_vector


class Coordinate(Protocol):
    """A collective coordinate of atoms and moments, with one amplitude."""

    @property
    def label(self) -> str:
        """Short name, for axes and files."""

    @property
    def unit(self) -> str:
        """Unit of the amplitude."""

    def apply(
        self, positions: np.ndarray, spins: np.ndarray, amplitude: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return new positions (N, 3), A, and moments (N, 3), mu_B."""


@dataclass(frozen=True, eq=False)
class Displacement:
    """D: atoms move by the amplitude times ``vectors``.

    Parameters
    ----------
    vectors : (N, 3) array, dimensionless
        Where the rows have length one, the amplitude is the distance moved, A.
    label, unit : str
    """

    vectors: ArrayLike
    label: str = "D"
    unit: str = "Å"

    def apply(
        self, positions: np.ndarray, spins: np.ndarray, amplitude: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return displaced positions, and the unchanged moments."""
        vectors = np.asarray(self.vectors, dtype=float)
        if vectors.shape != positions.shape or not np.isfinite(vectors).all():
            raise ValueError(
                f"the vectors of {self.label} must be finite numbers of shape "
                f"{positions.shape}; theirs is {vectors.shape}"
            )
        return positions + amplitude * vectors, spins


@dataclass(frozen=True, eq=False)
class RelativeRotation:
    """C: sublattices rotate relative to each other.

    Moment i rotates by the amplitude times ``weights[i]``. Choose an axis across
    the moments: rotations about their own direction change nothing.

    Parameters
    ----------
    axis : (3,) array or str
        Cartesian, of any length, or ``"x"``, ``"-z"``, ...
    weights : (N,) array
        With +1/2 and -1/2 on two sublattices the amplitude is the change of the
        angle between them; :meth:`of_sublattices` finds these.
    label, unit : str
    """

    axis: str | ArrayLike
    weights: ArrayLike
    label: str = "C"
    unit: str = "deg"

    @classmethod
    def of_sublattices(
        cls, atoms: Atoms, *, axis: str | ArrayLike, label: str = "C"
    ) -> RelativeRotation:
        """Rotate the up against the down moments of an order close to collinear.

        Raises
        ------
        ValueError
            If moments are missing or do not form two opposite sublattices, each
            within 60 degrees of a common line.
        """
        spins = get_spins(atoms)
        line = np.linalg.svd(spins, full_matrices=False)[2][0]
        along = spins @ line
        if (np.abs(along) < 0.5 * np.linalg.norm(spins, axis=1)).any() or not (
            along.min() < 0.0 < along.max()
        ):
            raise ValueError(
                "the moments do not form two opposite sublattices; "
                "give RelativeRotation the weights (N,) of the atoms"
            )
        return cls(axis, 0.5 * np.sign(along), label=label)

    def apply(
        self, positions: np.ndarray, spins: np.ndarray, amplitude: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the unchanged positions, and rotated moments."""
        weights = np.asarray(self.weights, dtype=float)
        if weights.shape != (len(spins),) or not np.isfinite(weights).all():
            raise ValueError(
                f"the weights of {self.label} must be finite numbers of shape "
                f"({len(spins)},); theirs is {weights.shape}"
            )
        angles = np.radians(amplitude) * weights
        rotation = Rotation.from_rotvec(angles[:, None] * unit_vector(self.axis))
        return positions, rotation.apply(spins)


@dataclass(frozen=True, eq=False)
class CollectiveRotation:
    """R: all moments rotate together.

    Only anisotropy, Dzyaloshinskii-Moriya and dipole terms, and fields,
    distinguish these states; without spin-orbit coupling the energy is constant.

    Parameters
    ----------
    axis : (3,) array or str
        Cartesian, of any length, or ``"x"``, ``"-z"``, ...
    label, unit : str
    """

    axis: str | ArrayLike
    label: str = "R"
    unit: str = "deg"

    def apply(
        self, positions: np.ndarray, spins: np.ndarray, amplitude: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the unchanged positions, and rotated moments."""
        rotation = Rotation.from_rotvec(np.radians(amplitude) * unit_vector(self.axis))
        return positions, rotation.apply(spins)
