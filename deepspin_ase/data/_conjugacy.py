"""Consistency of forces and magnetic forces with the energies they derive from.

For frames a and b of the same atoms, close to each other, the energy difference
must equal the work of the labels along a path between them. By the trapezoid
rule (errors of third order in the distance)::

    E_b - E_a ~ W_forces + W_torques + W_longitudinal + W_virial
    W_forces       = -1/2 sum_i (F_i,a . dr_i,a + F_i,b . dr_i,b)
    W_torques      = -1/2 sum_i (tau_i,a + tau_i,b) . phi_i,    tau = m x M
    W_longitudinal = -1/2 sum_i (M_i,a . e_i,a + M_i,b . e_i,b) (|m_i,b| - |m_i,a|)
    W_virial       = -1/2 (V_a : strain_a + V_b : strain_b)

M = -dE/dm, e = m/|m|, dr the minimum-image change at fixed cell, and phi the
rotation vector that takes e_a to e_b on the shorter arc. The arc keeps the two
parts of M apart: along the chord m_b - m_a a rigid rotation would also pick up
longitudinal fields, which constrained DFT gives less precisely than torques.

The errors of the rule grow with the square of the distance q between two frames. Where
that explains most of what the work leaves of the energy differences, slopes are those
of a fit of dE to W and q^2 W: extrapolated to near pairs.

Where the labels' net torque shows that the energy is invariant under a common
rotation of all spins, the spins of frame b are first rotated (or reversed in time)
together to match the moments of a, so that frames of different orientation can be
compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .._result import Result
from ._frames import Dataset
from ._pairwork import (
    TERMS,
    Group,
    Pairs,
    fully_labelled_groups,
    has_magnetic_forces,
    is_known,
    labelled,
)

#: Fewer pairs than this are inconclusive.
MIN_PAIRS = 10

#: Terms below this part of the whole work are not tested: the trapezoid rule
#: is good to about 1 % at the default distances.
_SMALLEST_PART = 0.02

#: Net torque, relative to the single torques, below which spin space is isotropic.
_ISOTROPIC = 0.02

#: Part of the squared residual that the distance of pairs must explain.
_CURVED = 0.5

#: Coefficients of the quadratic form in strain that replaces a missing virial.
_N_STRAIN = 27


@dataclass(frozen=True)
class ConjugacyReport(Result):
    """Energy differences of pairs of frames against the work of their labels.

    Attributes
    ----------
    n_pairs, n_frames : int
        Pairs compared, and frames in them.
    slope, slope_error : float
        Least-squares slope of dE against the whole work; 1 if conjugate. Its
        standard error is a jackknife over frames. NaN without enough pairs.
    slopes, errors : dict
        The same for each of :data:`TERMS` in one joint fit. Terms that do less
        than 2 % of the work are left out, unless energy differences need them.
    correlation : float
        Of energy differences and work.
    residual, spread : float, meV/atom
        Root mean square of dE - work, and of dE.
    net_torque : float, eV
        Root mean square over frames of |sum m x M|; zero without spin-orbit
        coupling and field.
    aligned : bool
        Whether all spins were rotated together before comparing.
    extrapolated : bool
        Whether slopes are extrapolated to near pairs, since paths between frames are
        too curved for the trapezoid rule.
    untested : str
        Why there was no comparison; empty if there was one.
    cells : str
        ``"compared"``: cells are equal or virials are labelled; ``"fitted"``:
        cells differ without virials, and a quadratic form in the strain was
        fitted along, which finds wrong signs and units but not small errors;
        ``"none"``: no pairs.
    """

    n_pairs: int = 0
    n_frames: int = 0
    slope: float = np.nan
    slope_error: float = np.nan
    slopes: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    correlation: float = np.nan
    residual: float = np.nan
    spread: float = np.nan
    net_torque: float = np.nan
    aligned: bool = False
    extrapolated: bool = False
    cells: str = "none"
    untested: str = ""

    @property
    def conclusive(self) -> bool:
        """Whether there were enough pairs for a conclusion."""
        return self.n_pairs >= MIN_PAIRS

    def problems(self, tolerance: float | None = None) -> list[str]:
        """Return messages about labels that are not conjugate to the energies.

        A slope counts when it is off 1 by more than ``tolerance`` (0.1; 0.5
        where cells had to be fitted) and by more than 3 standard errors.
        """
        if tolerance is None:
            tolerance = 0.5 if self.cells == "fitted" else 0.1
        return [
            f"{name} are not conjugate to the energies: dE = {slope:.2f} "
            f"+- {self.errors[name]:.2f} times their work"
            for name, slope in self.slopes.items()
            if abs(slope - 1.0) > max(tolerance, 3.0 * self.errors[name])
        ]


def conjugacy(
    dataset: Dataset,
    *,
    max_displacement: float = 0.1,
    max_rotation_deg: float = 20.0,
    max_strain: float = 0.02,
    max_frames: int = 400,
) -> ConjugacyReport:
    """Compare energy differences with the work of forces and magnetic forces.

    Pairs are frames of the same atoms in the same order, no atom of which moves
    by more than ``max_displacement`` (A, rigid translation apart), no moment of
    which rotates by more than ``max_rotation_deg``, and no component of the
    strain between which exceeds ``max_strain``. In a Heisenberg
    antiferromagnet the trapezoid rule makes the slope 0.2, 1.1 and 2.4 % too
    large at limits of 10, 20 and 30 degrees.

    Parameters
    ----------
    dataset : Dataset
        Frames without energy, forces or magnetic forces on every moment are
        ignored.
    max_displacement, max_rotation_deg, max_strain : float
    max_frames : int
        Of more frames of the same atoms, evenly spaced ones are taken; fewer
        of structures with more than about 60 atoms.

    Returns
    -------
    ConjugacyReport
    """
    if missing := _missing_labels(dataset):
        return ConjugacyReport(untested=missing)
    groups = list(fully_labelled_groups(dataset, max_frames))
    net, isotropic = _net_torque(groups)
    tables = [Pairs.of(group, aligned=isotropic) for group in groups]
    close = [
        pairs.select(
            (pairs.displacement <= max_displacement)
            & (pairs.rotation <= np.radians(max_rotation_deg))
        )
        for pairs in tables
    ]
    compared = [p.select(p.cell_work & (p.strain <= max_strain)) for p in close]
    if sum(p.size for p in compared) >= MIN_PAIRS:
        return _report(Pairs.join(compared), None, net, isotropic)
    largest = max(range(len(groups)), key=lambda g: close[g].size, default=None)
    few = "too few frames are near to each other"
    if largest is None or close[largest].size < MIN_PAIRS:
        return ConjugacyReport(net_torque=net, untested=few)
    group, pairs = groups[largest], close[largest]
    if len(np.unique(pairs.index)) < 2 * _N_STRAIN:
        text = f"{few} at equal cells, and there are no virials"
        return ConjugacyReport(net_torque=net, untested=text)
    return _report(pairs, _strain_columns(group, pairs), net, isotropic)


def _missing_labels(dataset: Dataset) -> str:
    """Return which labels are missing where fewer than two frames have all."""
    frames = list(dataset)
    if sum(labelled(frame) for frame in frames) > 1:
        return ""
    lacking = {
        "energy": sum(not is_known(f.energy) for f in frames),
        "forces": sum(not is_known(f.forces) for f in frames),
        "magnetic_forces": sum(not has_magnetic_forces(f) for f in frames),
    }
    missing = [
        f"{name} of {count if count < len(frames) else 'all'} frames"
        for name, count in lacking.items()
        if count
    ]
    return f"missing are {', '.join(missing)}" if missing else ""


def _net_torque(groups: list[Group]) -> tuple[float, bool]:
    """Return rms |sum tau| (eV), and whether spin space is isotropic."""
    if not groups:
        return np.nan, False
    net, single = [], []
    for group in groups:
        torques = np.cross(group.spins, group.magnetic_forces)
        net.append((torques.sum(axis=1) ** 2).sum(axis=1))
        single.append((torques**2).sum(axis=(1, 2)))
    total = float(np.sqrt(np.concatenate(net).mean()))
    scale = float(np.sqrt(np.concatenate(single).mean()))
    return total, scale > 1e-6 and total < _ISOTROPIC * scale


def _strain_columns(group: Group, pairs: Pairs) -> np.ndarray:
    """Return (P, 27) differences of all linear and quadratic strain components."""
    metric = group.cell @ group.cell.swapaxes(1, 2)
    inverse = np.linalg.inv(np.linalg.cholesky(metric.mean(axis=0)))
    strain = 0.5 * (inverse @ metric @ inverse.T - np.eye(3))
    i, j = np.triu_indices(3)
    linear = strain[:, i, j]
    i, j = np.triu_indices(6)
    columns = np.concatenate([linear, linear[:, i] * linear[:, j]], axis=1)
    a, b = (pairs.index - group.start).T
    return columns[b] - columns[a]


def _report(
    pairs: Pairs, strain: np.ndarray | None, net: float, aligned: bool
) -> ConjugacyReport:
    """Fit dE against the works; ``strain`` columns stand in for the cell's."""
    extra = np.zeros((pairs.size, 0)) if strain is None else strain
    whole = pairs.work.sum(axis=1)
    if not (whole.any() and pairs.energy.any()):
        text = "neither energies nor labels differ between near frames"
        return ConjugacyReport(net_torque=net, untested=text)
    size = np.sqrt((pairs.work**2).mean(axis=0))
    large = size > _SMALLEST_PART * np.sqrt((size**2).sum())
    # Small works count where energies need them: their labels may be in a wrong unit.
    rest = np.c_[pairs.work[:, large], extra]
    needed = [
        large[k] or (size[k] > 0.0 and _explains(pairs.work[:, [k]], rest, pairs))
        for k in range(len(TERMS))
    ]
    used = np.flatnonzero(needed)
    curvature = _curvature(pairs)
    curved = _explains(curvature, np.c_[pairs.work[:, used], extra], pairs)
    if curved:
        extra = np.c_[extra, curvature]
    slope_and_rest, slope_error = _fit(np.c_[whole, extra], pairs)
    slopes, errors = _fit(np.c_[pairs.work[:, used], extra], pairs)
    energy = pairs.energy
    if curved:
        energy = energy - curvature @ slope_and_rest[-curvature.shape[1] :]
    if strain is not None:
        coefficients = np.linalg.lstsq(strain, energy - whole, rcond=None)[0]
        energy = energy - strain @ coefficients
    names = [TERMS[k] for k in used]
    return ConjugacyReport(
        n_pairs=pairs.size,
        n_frames=len(np.unique(pairs.index)),
        slope=float(slope_and_rest[0]),
        slope_error=float(slope_error[0]),
        slopes=dict(zip(names, slopes[: len(used)].tolist(), strict=True)),
        errors=dict(zip(names, errors[: len(used)].tolist(), strict=True)),
        correlation=float(np.corrcoef(energy, whole)[0, 1]),
        residual=1e3 * float(np.sqrt(((energy - whole) ** 2).mean())),
        spread=1e3 * float(np.sqrt((pairs.energy**2).mean())),
        net_torque=net,
        aligned=aligned,
        extrapolated=curved,
        cells="compared" if strain is None else "fitted",
    )


def _curvature(pairs: Pairs) -> np.ndarray:
    """Return q^2 W (P, k) for the works of displacements, rotations and strains."""
    changes = {
        "forces": pairs.displacement,
        "torques": pairs.rotation,
        "virial": pairs.strain,
    }
    columns = [q**2 * pairs.work[:, TERMS.index(n)] for n, q in changes.items()]
    table = np.stack(columns, axis=1)
    return table[:, table.any(axis=0)]


def _explains(new: np.ndarray, columns: np.ndarray, pairs: Pairs) -> bool:
    """Return whether columns take most of what others leave of the energies."""
    both = np.c_[columns, new]
    if len(np.unique(pairs.index)) < both.shape[1] + 3:
        return False

    def left(columns: np.ndarray) -> float:
        scale = np.sqrt((columns**2).sum(axis=0))
        scaled = columns / np.where(scale > 0.0, scale, 1.0)
        found = np.linalg.lstsq(scaled, pairs.energy, rcond=None)[0]
        return float(((pairs.energy - scaled @ found) ** 2).sum())

    return left(both) < _CURVED * left(columns)


def _fit(columns: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Return least-squares coefficients of dE and their jackknife errors."""
    scale = np.sqrt((columns**2).sum(axis=0))
    scale[scale == 0.0] = 1.0
    a = columns / scale
    square, right = a.T @ a, a.T @ pairs.energy

    def solve(square: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.linalg.lstsq(square, right, rcond=None)[0] / scale

    frames = np.unique(pairs.index)
    without = []
    for k in frames:
        rows = (pairs.index == k).any(axis=1)
        part = a[rows]
        without.append(
            solve(square - part.T @ part, right - part.T @ pairs.energy[rows])
        )
    n = len(frames)
    error = np.sqrt((n - 1) * np.var(without, axis=0))
    return solve(square, right), error
