"""Whether labels are derivatives of the energy: five structures tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from .._result import Result
from ..data import Frame
from ..data._faults import FAULTS
from ..data._pairwork import pair_work
from ..spins import get_spins, set_spins
from ._engine import Engine

#: dE may differ from the work of the labels by this part of it.
TOLERANCE = 0.03

#: Work below this cannot be told from the noise of a self-consistent calculation, eV.
LEAST_WORK = 2e-4

ROTATION_DEG = 5.0
STRETCH = 0.02
DISPLACEMENT = 0.02
STRAIN = 0.005

#: Torques (eV) and forces (eV/A) below these have no direction.
LEAST_TORQUE = 1e-4
LEAST_FORCE = 1e-3


@dataclass(frozen=True)
class EngineCheck(Result):
    """Energy differences from a reference against the work of the labels.

    Attributes
    ----------
    names : tuple of str
        ``rotated``, ``stretched``, ``moved`` and ``strained``, as far as the labels
        allow.
    differences, works : (n,) array, eV
        Of energy, and of the labels by the trapezoid rule.
    untested : dict of str
        Reasons, by name, why a structure says nothing.
    faults : tuple of str
        What would make all of them agree, where they do not.
    tolerance : float
        By which a ratio may differ from one.
    """

    names: tuple[str, ...]
    differences: np.ndarray
    works: np.ndarray
    untested: dict[str, str]
    faults: tuple[str, ...] = ()
    tolerance: float = TOLERANCE

    @property
    def ratios(self) -> np.ndarray:
        """Energy differences over works (n,)."""
        return self.differences / self.works

    @property
    def ok(self) -> bool:
        """Whether something was tested, and all of it agrees."""
        agree = np.abs(self.ratios - 1.0) <= self.tolerance
        return bool(len(self.names) and agree.all())

    def __str__(self) -> str:
        lines = [f"{'':<12}{'dE (meV)':>12}{'work (meV)':>12}{'dE/work':>10}"]
        rows = zip(self.names, self.differences, self.works, strict=True)
        for name, energy, work in rows:
            lines.append(
                f"{name:<12}{1e3 * energy:12.4f}{1e3 * work:12.4f}{energy / work:10.4f}"
            )
        lines += [f"{name:<12}not tested: {why}" for name, why in self.untested.items()]
        if not self.names:
            lines.append("nothing could be tested")
        elif self.ok:
            lines.append("the labels are derivatives of the energy")
        else:
            lines.append("the labels are NOT derivatives of the energy")
            lines += [f"it would agree if {fault}" for fault in self.faults]
            if not self.faults:
                lines.append(
                    "no known fault explains it: converge further (k-points, density), "
                    "and look at whether moments are held everywhere"
                )
        return "\n".join(lines)


def check_structures(atoms: Atoms, reference: Frame) -> dict[str, Atoms]:
    """Return structures near a reference, by name.

    In each, one thing differs: a moment rotated by 5 degrees, a moment 2 % longer or
    shorter, an atom moved by 0.02 A, a strain of 0.5 % (where there are three periodic
    directions). Moment and atom are those with the largest torque, longitudinal and
    other force, and go against it: there the work is large, and nothing cancels, so
    that the trapezoid rule is precise.

    Parameters
    ----------
    atoms : Atoms
        With the moments that the reference was asked for.
    reference : Frame
        Its labels.

    Raises
    ------
    ValueError
        If no atom has a moment.
    """
    spins = get_spins(atoms)
    if not spins.any():
        raise ValueError(
            "the structure has no magnetic moments; set them with set_spins"
        )
    zeros = np.zeros_like(spins)
    fields, forces = (
        zeros if found is None else np.nan_to_num(found)
        for found in (reference.magnetic_forces, reference.forces)
    )
    torques = np.cross(spins, fields)
    lengths = np.linalg.norm(spins, axis=1)
    # Where all torques vanish, that of the longest moment.
    turned = int((np.linalg.norm(torques, axis=1) + 1e-9 * lengths).argmax())
    axis = -torques[turned]
    if np.linalg.norm(axis) < LEAST_TORQUE:
        axis = np.cross(spins[turned], np.eye(3)[np.abs(spins[turned]).argmin()])
    angle = np.radians(ROTATION_DEG)
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis))
    along = (spins * fields).sum(axis=1)
    changed = int((np.abs(along) + 1e-9 * lengths).argmax())
    factor = 1.0 - STRETCH if along[changed] > 0.0 else 1.0 + STRETCH

    def with_moment(k: int, moment: np.ndarray) -> Atoms:
        moments = spins.copy()
        moments[k] = moment
        result = atoms.copy()
        set_spins(result, moments)
        return result

    moved = atoms.copy()
    first = int(np.linalg.norm(forces, axis=1).argmax())
    uphill = -forces[first]
    if np.linalg.norm(uphill) < LEAST_FORCE:
        uphill = np.array([2.0, -1.0, 2.0])
    moved.positions[first] += DISPLACEMENT * uphill / np.linalg.norm(uphill)
    found = {
        "rotated": with_moment(turned, rotation.apply(spins[turned])),
        "stretched": with_moment(changed, factor * spins[changed]),
        "moved": moved,
    }
    if atoms.pbc.all():
        strained = atoms.copy()
        strain = STRAIN * np.array(
            [[1.0, 0.25, 0.0], [0.25, 0.5, 0.0], [0.0, 0.0, 0.0]]
        )
        if reference.virial is not None and (reference.virial * strain).sum() > 0.0:
            strain = -strain
        cell = atoms.cell.array @ (np.eye(3) + strain)
        strained.set_cell(cell, scale_atoms=True)
        found["strained"] = strained
    return found


def check_engine(engine: Engine, atoms: Atoms, folder: str | Path) -> EngineCheck:
    """Label five structures, and compare energies with the work of the labels.

    Parameters
    ----------
    engine : Engine
    atoms : Atoms
        With moments, and best of low symmetry: where forces vanish, so does most work.
        See :func:`check_structures` for what is changed.
    folder : path
        For the files of the engine, one folder per structure; made if missing.

    Returns
    -------
    EngineCheck

    Raises
    ------
    LabelError
        If one of the structures cannot be labelled.
    ValueError
        If no atom has a moment.
    """

    def labelled(name: str, structure: Atoms) -> Frame:
        inner = Path(folder) / name
        inner.mkdir(parents=True, exist_ok=True)
        return engine.label(structure, inner)

    reference = labelled("reference", atoms)
    near = check_structures(atoms, reference)
    return check_frames(reference, {n: labelled(n, x) for n, x in near.items()})


def check_frames(reference: Frame, others: dict[str, Frame]) -> EngineCheck:
    """Compare the labels of :func:`check_structures` with those of the reference."""
    untested, tested = {}, {}
    for name, frame in others.items():
        if name == "strained" and frame.virial is None:
            untested[name] = "the engine gives no stress"
        elif frame.magnetic_forces is None or reference.magnetic_forces is None:
            untested[name] = "magnetic forces are missing"
        elif abs(pair_work(reference, frame)[1].sum()) < LEAST_WORK:
            untested[name] = (
                f"the work is below {1e3 * LEAST_WORK:.1f} meV; start from a less "
                "symmetric structure"
            )
        else:
            tested[name] = frame
    found = _compare(reference, tested, untested)
    if found.ok or not tested:
        return found
    faults = []
    for fault in FAULTS:
        changed = {name: fault.mend(frame) for name, frame in tested.items()}
        if _compare(fault.mend(reference), changed, {}).ok:
            faults.append(fault.meaning)
    return EngineCheck(
        found.names, found.differences, found.works, untested, tuple(faults)
    )


def _compare(
    reference: Frame, others: dict[str, Frame], untested: dict[str, str]
) -> EngineCheck:
    pairs = [pair_work(reference, frame) for frame in others.values()]
    return EngineCheck(
        tuple(others),
        np.array([energy for energy, _ in pairs]),
        np.array([work.sum() for _, work in pairs]),
        untested,
    )
