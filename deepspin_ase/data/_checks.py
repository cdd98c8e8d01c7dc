"""Contents of a dataset and defects that would spoil a training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.formula import Formula

from .._result import Result
from ..neighbors import build_pairs
from ..quantities import label_table
from ..system import System
from ._conjugacy import ConjugacyReport, conjugacy
from ._faults import FAULTS
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

#: Elements whose largest moment is below this part of the largest of all are not
#: magnetic, unless they are named.
WEAK = 0.1

#: Two groups of values are apart if the gap between them is this many times the spread
#: within them, and more than this part of the values (lengths of moments) or eV/atom.
_APART, _GAP_OF_MOMENTS, _GAP_OF_ENERGIES = 5.0, 0.05, 0.2

#: Frames that known faults are tried on.
_TRIED_FRAMES = 60


@dataclass(frozen=True)
class Range(Result):
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
class Problem(Result):
    """One finding.

    Attributes
    ----------
    kind : str
        ``"unit moments"``, ``"non-magnetic moment"``, ``"zero moment"``,
        ``"duplicate"``, ``"too close"``, ``"outlier"``, ``"two groups"``,
        ``"net force"``, ``"zero magnetic forces"``, ``"conjugacy"`` or ``"fault"``.
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
class DataReport(Result):
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
        Elements that may carry moments; by default those with a moment of more than
        a tenth of the largest.

    Returns
    -------
    DataReport
        Its problems are: moments that are all of length one, moments on other elements,
        zero moments on these,
        duplicated frames, atoms too close, outliers in energy, forces and
        magnetic forces, energies or lengths of moments in two groups, forces that do
        not sum to zero, magnetic forces that are exactly zero, and labels that are not
        conjugate to the energies (see :func:`conjugacy`), with the known fault that
        explains it, if there is one.

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
        *_check_groups(dataset),
        *_check_net_force(dataset),
        *_check_zero_magnetic_forces(dataset, work),
        *(Problem("conjugacy", message) for message in work.problems()),
        *_known_faults(dataset, work),
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
    largest = _largest_moments(dataset)
    if magnetic_elements is None:
        least = WEAK * max(largest.values(), default=0.0)
        magnetic_elements = [n for n, m in largest.items() if m > least]
    names = set(magnetic_elements)
    unknown = sorted(names - set(atomic_numbers))
    if unknown:
        raise ValueError(f"magnetic_elements names no elements: {', '.join(unknown)}")
    problems = []
    lengths = [np.linalg.norm(frame.spins, axis=1) for frame in dataset]
    known = np.concatenate([x[x > 0.0] for x in lengths]) if lengths else np.zeros(0)
    if len(known) and (np.abs(known - 1.0) < 1e-4).all():
        text = (
            "all moments are 1 mu_B long: are they directions, whose lengths are "
            "elsewhere?"
        )
        problems.append(Problem("unit moments", text))
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
            text = (
                f"moments on {name}, up to {largest[name]:.3g} mu_B, which is not "
                "magnetic; set them to zero (deepspin data convert --magnetic "
                f"{' '.join(sorted(names)) or 'ELEMENT'})"
            )
            problems.append(Problem("non-magnetic moment", text, wrong))
    return problems


def _largest_moments(dataset: Dataset) -> dict[str, float]:
    """Return the largest moment of each magnetic element, mu_B."""
    found = dict.fromkeys(dataset.magnetic_elements, 0.0)
    for frame in dataset:
        lengths = np.linalg.norm(frame.spins, axis=1)
        for name in found:
            own = lengths[frame.numbers == atomic_numbers[name]]
            found[name] = max(found[name], float(own.max(initial=0.0)))
    return found


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


def _check_groups(dataset: Dataset) -> list[Problem]:
    """Find energies, or lengths of moments, that fall into two groups of frames."""
    problems = []
    by_formula: dict[str, list[int]] = {}
    for k, frame in enumerate(dataset):
        by_formula.setdefault(_formula(frame), []).append(k)
    for formula, members in by_formula.items():
        energies = np.array([_energy(dataset[k]) for k in members])
        gap, upper = _two_groups(energies)
        if gap > _GAP_OF_ENERGIES:
            text = (
                f"energies of {formula} fall into two groups, {gap:.3g} eV/atom apart: "
                "two codes, pseudopotentials or zeros of energy in one set?"
            )
            far = tuple(np.array(members)[upper].tolist())
            problems.append(Problem("two groups", text, far))
    for name in dataset.magnetic_elements:
        mean = np.full(len(dataset), np.nan)
        for k, frame in enumerate(dataset):
            own = frame.spins[frame.numbers == atomic_numbers[name]]
            if len(own):
                mean[k] = np.linalg.norm(own, axis=1).mean()
        gap, upper = _two_groups(mean)
        if gap > _GAP_OF_MOMENTS * np.nanmean(mean):
            text = (
                f"moments of {name} fall into two groups of frames, {gap:.3g} mu_B "
                "apart: two definitions of moments (spheres, projectors) in one set?"
            )
            far = tuple(np.flatnonzero(upper).tolist())
            problems.append(Problem("two groups", text, far))
    return problems


def _two_groups(values: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the gap between two groups of values, and which are in the upper one.

    The gap is zero unless it is much wider than the groups, each of which has a tenth
    of the values or more.
    """
    known = np.sort(values[np.isfinite(values)])
    least = max(3, len(known) // 10)
    if len(known) < 2 * least:
        return 0.0, np.zeros(len(values), dtype=bool)
    gaps = np.diff(known)[least - 1 : len(known) - least]
    cut = least + int(gaps.argmax())
    gap, low, high = float(gaps.max()), known[:cut], known[cut:]
    if gap <= _APART * max(np.ptp(low), np.ptp(high)):
        return 0.0, np.zeros(len(values), dtype=bool)
    return gap, np.nan_to_num(values, nan=-np.inf) >= high[0]


def _check_zero_magnetic_forces(
    dataset: Dataset, work: ConjugacyReport
) -> list[Problem]:
    """Find frames whose magnetic forces are zeros, where that cannot be meant.

    Where all are zero and the energies agree, moments were self-consistent.
    """
    labelled, zero = [], []
    for k, frame in enumerate(dataset):
        if frame.magnetic_forces is not None and frame.spins.any():
            labelled.append(k)
            if not np.nan_to_num(frame.magnetic_forces[_has_moment(frame)]).any():
                zero.append(k)
    agree = work.conclusive and not work.problems()
    if not zero or (len(zero) == len(labelled) and agree):
        return []
    text = (
        "magnetic forces are exactly zero: they were not computed, as in the first "
        "ionic step of ABACUS, or moments were not constrained; drop the frames or "
        "the label"
    )
    return [Problem("zero magnetic forces", text, tuple(zero))]


def _known_faults(dataset: Dataset, work: ConjugacyReport) -> list[Problem]:
    """Name the fault that explains why labels are not conjugate, if one does."""
    if not work.problems():
        return []
    frames = list(dataset)
    if len(frames) > _TRIED_FRAMES:
        chosen = np.linspace(0, len(frames) - 1, _TRIED_FRAMES).round().astype(int)
        frames = [frames[k] for k in chosen]
    left = {}
    for fault in FAULTS:
        found = conjugacy(Dataset(fault.mend(frame) for frame in frames))
        if found.conclusive and not found.problems():
            left[fault.meaning] = found.residual / found.spread
    if not left:
        return []
    return [Problem("fault", f"it would agree if {min(left, key=lambda k: left[k])}")]


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
