"""Contents of a dataset and defects that would spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.formula import Formula

from ..neighbors import build_pairs
from ..quantities import label_table
from ..system import System
from ._conjugacy import ConjugacyReport, conjugacy
from ._frames import Dataset, Frame

#: Neighbours nearer than this part of the sum of covalent radii are too close.
TOO_CLOSE = 0.6

#: Deviations from the median beyond this many robust standard deviations, and
#: forces this many times the median, are outliers.
OUTLIER = 10.0

#: Mean force per atom (eV/A) above which forces do not sum to zero.
NET_FORCE = 0.01

#: Fewer frames than this have no outliers.
_MIN_FRAMES = 10


@dataclass(frozen=True)
class Range:
    """Smallest, mean, standard deviation and largest of a quantity."""

    minimum: float
    mean: float
    std: float
    maximum: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Range | None:
        """Return the range of the finite ``values``, None if there are none."""
        array = np.asarray(list(values), dtype=float)
        array = array[np.isfinite(array)]
        if not len(array):
            return None
        return cls(
            float(array.min()),
            float(array.mean()),
            float(array.std()),
            float(array.max()),
        )


@dataclass(frozen=True)
class Problem:
    """One finding.

    Attributes
    ----------
    kind : str
        ``"non-magnetic moment"``, ``"zero moment"``, ``"duplicate"``,
        ``"too close"``, ``"outlier"``, ``"net force"`` or ``"conjugacy"``.
    message : str
        The defect and the remedy.
    frames : tuple of int
        The frames it concerns; empty if the whole dataset.
    """

    kind: str
    message: str
    frames: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.frames:
            return self.message
        some = ", ".join(map(str, self.frames[:5]))
        more = f", ... ({len(self.frames)} in all)" if len(self.frames) > 5 else ""
        return f"{self.message} [frame{'s'[: len(self.frames) > 1]} {some}{more}]"


@dataclass(frozen=True)
class DataReport:
    """Contents and findings of :func:`check_dataset`.

    Attributes
    ----------
    n_frames : int
    compositions : dict
        Number of frames of each formula.
    labels : dict
        Number of frames with each label of :mod:`deepspin_ase.quantities`.
    ranges : dict
        :class:`Range` of each quantity present, by its name and unit.
    problems : tuple of Problem
        Empty if nothing is wrong.
    conjugacy : ConjugacyReport
    """

    n_frames: int
    compositions: dict[str, int]
    labels: dict[str, int]
    ranges: dict[str, Range]
    problems: tuple[Problem, ...]
    conjugacy: ConjugacyReport

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def check_dataset(
    dataset: Dataset, *, magnetic_elements: Iterable[str] | None = None
) -> DataReport:
    """Summarise a dataset and search it for defects that would spoil a training.

    Shapes and finite numbers need no check here: no :class:`Frame` lacks them.

    Parameters
    ----------
    dataset : Dataset
    magnetic_elements : iterable of str, optional
        Elements that may carry moments; by default those that do.

    Returns
    -------
    DataReport
        Its problems are: moments on other elements, zero moments on these,
        duplicated frames, atoms too close, outliers in energy, forces and
        magnetic forces, forces that do not sum to zero, and labels that are
        not conjugate to the energies (see :func:`conjugacy`).

    Raises
    ------
    ValueError
        If ``magnetic_elements`` holds an unknown symbol.
    """
    closest = [_closest(frame) for frame in dataset]
    work = conjugacy(dataset)
    problems = [
        *_check_moments(dataset, magnetic_elements),
        *_check_duplicates(dataset),
        *_check_distances(closest),
        *_check_outliers(dataset),
        *_check_net_force(dataset),
        *(Problem("conjugacy", message) for message in work.problems()),
    ]
    return DataReport(
        n_frames=len(dataset),
        compositions=dict(Counter(_formula(frame) for frame in dataset)),
        labels={label: dataset.count(label) for label in label_table()},
        ranges=_ranges(dataset, [distance for distance, _ in closest]),
        problems=tuple(problems),
        conjugacy=work,
    )


def _formula(frame: Frame) -> str:
    return Formula.from_list(frame.symbols).format("metal")


def _closest(frame: Frame) -> tuple[float, float]:
    """Return the least distance (A), and the least relative to covalent radii.

    Infinite if no neighbours are within the sum of the largest radii + 0.5 A.
    """
    radii = covalent_radii[frame.numbers]
    system = System.from_atoms(frame.to_atoms())
    try:
        pairs = build_pairs(system, 2.0 * float(radii.max()) + 0.5)
    except ValueError:  # atoms coincide; nothing else is left for it to reject
        return 0.0, 0.0
    distance = pairs.vectors(system).norm(dim=1).numpy()
    if not len(distance):
        return np.inf, np.inf
    touching = radii[pairs.i.numpy()] + radii[pairs.j.numpy()]
    return float(distance.min()), float((distance / touching).min())


def _check_moments(
    dataset: Dataset, magnetic_elements: Iterable[str] | None
) -> list[Problem]:
    if magnetic_elements is None:
        magnetic_elements = dataset.magnetic_elements
    names = set(magnetic_elements)
    unknown = sorted(names - set(atomic_numbers))
    if unknown:
        raise ValueError(f"magnetic_elements names no elements: {', '.join(unknown)}")
    problems = []
    for name in dataset.elements:
        magnetic = name in names
        number = atomic_numbers[name]
        wrong = tuple(
            k
            for k, frame in enumerate(dataset)
            if (_has_moment(frame)[frame.numbers == number] != magnetic).any()
        )
        if wrong and magnetic:
            text = f"{name} is magnetic but some of its moments are zero"
            problems.append(Problem("zero moment", text, wrong))
        elif wrong:
            text = f"moments on {name}, which is not magnetic; set them to zero"
            problems.append(Problem("non-magnetic moment", text, wrong))
    return problems


def _has_moment(frame: Frame) -> np.ndarray:
    """Return (N,) bool."""
    return np.asarray(frame.spins.any(axis=1))


def _check_duplicates(dataset: Dataset) -> list[Problem]:
    seen: dict[bytes, int] = {}
    repeated = []
    for k, frame in enumerate(dataset):
        arrays = (frame.positions, frame.cell, frame.spins)
        key = frame.numbers.tobytes() + b"".join(
            (np.round(array, 6) + 0.0).tobytes() for array in arrays
        )
        if seen.setdefault(key, k) != k:
            repeated.append(k)
    text = "the same structure and moments as an earlier frame; drop one"
    return [Problem("duplicate", text, tuple(repeated))] if repeated else []


def _check_distances(closest: list[tuple[float, float]]) -> list[Problem]:
    near = tuple(k for k, (_, ratio) in enumerate(closest) if ratio < TOO_CLOSE)
    if not near:
        return []
    least = min(closest[k][0] for k in near)
    text = f"atoms as close as {least:.2f} A; check the positions and the cell"
    return [Problem("too close", text, near)]


def _check_outliers(dataset: Dataset) -> list[Problem]:
    problems = []
    groups: dict[str, list[int]] = {}
    for k, frame in enumerate(dataset):
        if np.isfinite(_energy(frame)):
            groups.setdefault(_formula(frame), []).append(k)
    for formula, members in groups.items():
        values = np.array([_energy(dataset[k]) for k in members])
        away = np.abs(values - np.median(values))
        limit = OUTLIER * 1.4826 * max(float(np.median(away)), 1e-4)
        far = tuple(members[k] for k in np.flatnonzero(away > limit))
        if far and len(members) >= _MIN_FRAMES:
            text = (
                f"energies of {formula} up to {away.max():.3f} eV/atom off the median"
            )
            problems.append(Problem("outlier", text, far))
    for label, quantity in label_table().items():
        if quantity.kind != "vector":
            continue
        largest = [_largest(getattr(frame, label)) for frame in dataset]
        size = np.array(largest, dtype=float)
        known = size[np.isfinite(size) & (size > 0.0)]
        if len(known) < _MIN_FRAMES:
            continue
        median = float(np.median(known))
        far = tuple(np.flatnonzero(size > OUTLIER * median).tolist())
        if far:
            text = (
                f"{label} up to {np.nanmax(size):.3g} {quantity.unit}; in half of the "
                f"frames the largest is below {median:.3g}"
            )
            problems.append(Problem("outlier", text, far))
    return problems


def _check_net_force(dataset: Dataset) -> list[Problem]:
    net = [
        0.0 if f.forces is None else float(np.linalg.norm(f.forces.mean(axis=0)))
        for f in dataset
    ]
    bad = tuple(k for k, value in enumerate(net) if value > NET_FORCE)
    if not bad:
        return []
    most = max(net[k] for k in bad)
    text = f"forces do not sum to zero: up to {most:.3g} eV/A per atom"
    return [Problem("net force", text, bad)]


def _energy(frame: Frame) -> float:
    return np.nan if frame.energy is None else frame.energy / frame.n_atoms


def _largest(vectors: np.ndarray | None) -> float:
    """Return the length of the longest row; NaN if there is none."""
    if vectors is None:
        return np.nan
    length = np.linalg.norm(vectors, axis=1)
    return float(np.nanmax(length)) if np.isfinite(length).any() else np.nan


def _ranges(dataset: Dataset, closest: list[float]) -> dict[str, Range]:
    """Return the ranges of all quantities that the dataset has."""
    force, moment, transverse, longitudinal = ([np.zeros(0)] for _ in range(4))
    for frame in dataset:
        length = np.linalg.norm(frame.spins, axis=1)
        magnetic = length > 0.0
        moment.append(length[magnetic])
        if frame.forces is not None:
            force.append(np.linalg.norm(frame.forces, axis=1))
        if frame.magnetic_forces is not None:
            unit = frame.spins[magnetic] / length[magnetic, None]
            along = (frame.magnetic_forces[magnetic] * unit).sum(axis=1)
            rest = frame.magnetic_forces[magnetic] - along[:, None] * unit
            transverse.append(np.linalg.norm(rest, axis=1))
            longitudinal.append(along)
    found = {
        "atoms": Range.of(frame.n_atoms for frame in dataset),
        "energy, eV/atom": Range.of(_energy(frame) for frame in dataset),
        "|force|, eV/A": Range.of(np.concatenate(force)),
        "|moment|, mu_B": Range.of(np.concatenate(moment)),
        "|magnetic force|, transverse, eV/mu_B": Range.of(np.concatenate(transverse)),
        "magnetic force, longitudinal, eV/mu_B": Range.of(np.concatenate(longitudinal)),
        "least distance, A": Range.of(closest),
    }
    return {name: value for name, value in found.items() if value is not None}
