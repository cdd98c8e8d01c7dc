"""Work of a dataset's labels between frames of the same atoms.

See :mod:`deepspin_ase.data._conjugacy` for the equations.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ase.geometry import complete_cell

from ._frames import Dataset, Frame

#: The kinds of work, in the order of the columns of :attr:`Pairs.work`.
TERMS = ("forces", "torques", "longitudinal", "virial")

#: Cells whose entries agree to this (A) are equal.
_CELL_TOLERANCE = 1e-6

#: Largest (frames)^2 x atoms of a group, to keep the comparison within seconds.
_MAX_WORK = 1e7


@dataclass(frozen=True)
class Group:
    """n frames of the same N atoms as arrays; they are numbered from ``start``."""

    start: int
    energy: np.ndarray
    fractional: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    spins: np.ndarray
    forces: np.ndarray
    magnetic_forces: np.ndarray
    virial: np.ndarray


def fully_labelled_groups(dataset: Dataset, max_frames: int) -> Iterator[Group]:
    """Sort frames with all labels but the virial by atoms and periodicity."""
    found: dict[tuple[object, ...], list[Frame]] = {}
    for frame in dataset:
        if labelled(frame):
            key = (*frame.numbers.tolist(), *frame.pbc.tolist())
            found.setdefault(key, []).append(frame)
    start = 0
    for frames in found.values():
        most = min(max_frames, int(np.sqrt(_MAX_WORK / frames[0].n_atoms)) + 2)
        if len(frames) > most:
            chosen = np.linspace(0, len(frames) - 1, most).round().astype(int)
            frames = [frames[k] for k in chosen]
        if len(frames) > 1:
            yield _stack(frames, start)
            start += len(frames)


def labelled(frame: Frame) -> bool:
    """Return whether a frame has energy, forces and magnetic forces."""
    known = is_known(frame.energy) and is_known(frame.forces)
    return known and has_magnetic_forces(frame)


def is_known(label: np.ndarray | float | None) -> bool:
    """Return whether a label is there, for all atoms."""
    return label is not None and bool(np.isfinite(label).all())


def has_magnetic_forces(frame: Frame) -> bool:
    """Return whether the magnetic forces of all moments are known."""
    magnetic = frame.spins.any(axis=1)
    if frame.magnetic_forces is None:
        return not magnetic.any()
    if not frame.longitudinal:
        return False
    return bool(np.isfinite(frame.magnetic_forces[magnetic]).all())


def _stack(frames: list[Frame], start: int) -> Group:
    pbc = frames[0].pbc
    cells = np.array([complete_cell(f.cell * pbc[:, None]) for f in frames])
    positions = np.array([f.positions for f in frames])
    zero, unknown = np.zeros_like(positions[0]), np.full((3, 3), np.nan)
    magnetic = [
        zero if f.magnetic_forces is None else f.magnetic_forces for f in frames
    ]
    return Group(
        start=start,
        energy=np.array([f.energy for f in frames]),
        fractional=positions @ np.linalg.inv(cells),
        cell=cells,
        pbc=pbc,
        spins=np.array([f.spins for f in frames]),
        forces=np.array([f.forces for f in frames]),
        magnetic_forces=np.nan_to_num(np.array(magnetic)),
        virial=np.array([unknown if f.virial is None else f.virial for f in frames]),
    )


@dataclass(frozen=True)
class Pairs:
    """P pairs of frames: differences and work between them, energies in eV/atom."""

    index: np.ndarray  # (P, 2) numbers of the two frames
    energy: np.ndarray  # (P,)
    work: np.ndarray  # (P, 4), columns as in TERMS
    displacement: np.ndarray  # (P,) A
    rotation: np.ndarray  # (P,) radian
    strain: np.ndarray  # (P,)
    cell_work: np.ndarray  # (P,) bool: cells are equal, or virials known

    @property
    def size(self) -> int:
        """Number of pairs P."""
        return len(self.energy)

    @classmethod
    def of(cls, group: Group, *, aligned: bool) -> Pairs:
        """Return all pairs of a group."""
        n = len(group.energy)
        return cls.join([_pairs_with(group, a, aligned) for a in range(n - 1)])

    @classmethod
    def join(cls, parts: list[Pairs]) -> Pairs:
        """Put tables one after another."""
        tables = [list(vars(part).values()) for part in parts]
        return cls(*(np.concatenate(columns) for columns in zip(*tables, strict=True)))

    def select(self, chosen: np.ndarray) -> Pairs:
        """Return the pairs where ``chosen`` is true."""
        return Pairs(*(column[chosen] for column in vars(self).values()))


def _pairs_with(group: Group, a: int, aligned: bool) -> Pairs:
    """Return the pairs of frame ``a`` with all later ones."""
    later = slice(a + 1, None)
    n_atoms = group.spins.shape[1]
    step = group.fractional[later] - group.fractional[a]
    step = step - np.round(step) * group.pbc
    step_a, step_b = step @ group.cell[a], step @ group.cell[later]
    done = group.forces[a] * step_a + group.forces[later] * step_b
    forces = -0.5 * done.sum(axis=(1, 2))
    moved = 0.5 * (step_a + step_b)
    moved = moved - moved.mean(axis=1, keepdims=True)

    change = group.cell[later] - group.cell[a]
    strain_a = np.linalg.solve(group.cell[a], change).swapaxes(1, 2)
    strain_b = np.linalg.solve(group.cell[later], change).swapaxes(1, 2)
    done = group.virial[a] * strain_a + group.virial[later] * strain_b
    virial = -0.5 * done.sum(axis=(1, 2))
    equal = np.abs(change).max(axis=(1, 2)) <= _CELL_TOLERANCE
    known = np.isfinite(virial)

    torques, longitudinal, angle = _magnetic_work(group, a, aligned)
    virial = np.where(known, virial, 0.0)
    work = np.stack([forces, torques, longitudinal, virial], axis=1)
    partner = np.arange(a + 1, len(group.energy)) + group.start
    return Pairs(
        index=np.stack([np.full_like(partner, a + group.start), partner], axis=1),
        energy=(group.energy[later] - group.energy[a]) / n_atoms,
        work=work / n_atoms,
        displacement=np.linalg.norm(moved, axis=2).max(axis=1),
        rotation=angle,
        strain=np.abs(strain_a).max(axis=(1, 2)),
        cell_work=equal | known,
    )


def _magnetic_work(
    group: Group, a: int, aligned: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W_torques, W_longitudinal (eV) and the largest angle, each (P,)."""
    spins_a, fields_a = group.spins[a], group.magnetic_forces[a]
    spins_b, fields_b = group.spins[a + 1 :], group.magnetic_forces[a + 1 :]
    if aligned:
        rotation = _best_rotations(spins_b, spins_a)
        spins_b, fields_b = spins_b @ rotation, fields_b @ rotation
    length_a, unit_a = _split(spins_a)
    length_b, unit_b = _split(spins_b)
    normal = np.cross(unit_a, unit_b)
    sine = np.linalg.norm(normal, axis=2)
    angle = np.arctan2(sine, (unit_a * unit_b).sum(axis=2))
    ratio = np.divide(angle, sine, out=np.ones_like(sine), where=sine > 0.0)
    phi = normal * ratio[..., None]
    torque = np.cross(spins_a, fields_a) + np.cross(spins_b, fields_b)
    along = (fields_a * unit_a).sum(axis=1) + (fields_b * unit_b).sum(axis=2)
    return (
        -0.5 * (torque * phi).sum(axis=(1, 2)),
        -0.5 * (along * (length_b - length_a)).sum(axis=1),
        angle.max(axis=1),
    )


def _split(spins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lengths and unit vectors; the latter zero where the moment is."""
    length = np.linalg.norm(spins, axis=-1)
    return length, spins / np.where(length > 0.0, length, 1.0)[..., None]


def _best_rotations(moments: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return (P, 3, 3) matrices R that bring ``moments @ R`` closest to ``target``.

    Kabsch's method (doi:10.1107/S0567739476001873) without its restriction to
    proper rotations: an inversion of all moments is time reversal.
    """
    u, _, vt = np.linalg.svd(np.einsum("pni,nj->pij", moments, target))
    return u @ vt


def pair_work(a: Frame, b: Frame) -> tuple[float, np.ndarray]:
    """Return the energy difference of two frames of the same atoms, and the work (4,).

    Both in eV, b after a; the columns are :data:`TERMS`. An unknown virial does none.
    """
    pair = Pairs.of(_stack([a, b], 0), aligned=False)
    return float(pair.energy[0]) * a.n_atoms, pair.work[0] * a.n_atoms
