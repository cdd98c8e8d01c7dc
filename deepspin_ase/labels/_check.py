"""Whether labels are derivatives of the energy: five structures tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ..data import Frame
from ..data._faults import FAULTS
from ..data._pairwork import pair_work
from ..spins import get_spins, set_spins
from ._engine import Engine

#: dE may differ from the work of the labels by this part of it.
TOLERANCE = 0.02

#: Work below this cannot be told from the noise of a self-consistent calculation, eV.
LEAST_WORK = 2e-4

ROTATION_DEG = 10.0
STRETCH = 0.05
DISPLACEMENT = 0.05
STRAIN = 0.01


@dataclass(frozen=True)
class EngineCheck:
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


def check_structures(atoms: Atoms) -> dict[str, Atoms]:
    """Return a reference and four structures near it, by name.

    In each, one thing differs: a moment rotated by 10 degrees, a moment 5 % longer, an
    atom moved by 0.05 A, a strain of 1 % (where there are three periodic directions).

    Raises
    ------
    ValueError
        If no atom has a moment.
    """
    spins = get_spins(atoms)
    magnetic = np.flatnonzero(np.linalg.norm(spins, axis=1) > 0.0)
    if not len(magnetic):
        raise ValueError("the structure has no moments; set them with set_spins")
    atom = int(magnetic[0])
    length = np.linalg.norm(spins[atom])
    unit = spins[atom] / length
    across = np.cross(unit, np.eye(3)[np.abs(unit).argmin()])
    across /= np.linalg.norm(across)
    angle = np.radians(ROTATION_DEG)

    def turned(vector: np.ndarray) -> Atoms:
        changed = spins.copy()
        changed[atom] = vector
        result = atoms.copy()
        set_spins(result, changed)
        return result

    moved = atoms.copy()
    moved.positions[-1] += DISPLACEMENT * np.array([2.0, -1.0, 2.0]) / 3.0
    found = {
        "reference": atoms.copy(),
        "rotated": turned(length * (np.cos(angle) * unit + np.sin(angle) * across)),
        "stretched": turned((1.0 + STRETCH) * spins[atom]),
        "moved": moved,
    }
    if atoms.pbc.all():
        strained = atoms.copy()
        deformation = np.diag([1.0 + STRAIN, 1.0 + 0.5 * STRAIN, 1.0])
        deformation[0, 1] = deformation[1, 0] = 0.25 * STRAIN
        strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        found["strained"] = strained
    return found


def check_engine(engine: Engine, atoms: Atoms, folder: str | Path) -> EngineCheck:
    """Label five structures, and compare energies with the work of the labels.

    Parameters
    ----------
    engine : Engine
    atoms : Atoms
        With moments, and best of low symmetry: where forces vanish, so does most work.
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
    frames = {}
    for name, structure in check_structures(atoms).items():
        inner = Path(folder) / name
        inner.mkdir(parents=True, exist_ok=True)
        frames[name] = engine.label(structure, inner)
    return check_frames(frames)


def check_frames(frames: dict[str, Frame]) -> EngineCheck:
    """Compare the frames of :func:`check_structures` with the one named reference."""
    reference = frames["reference"]
    others = {name: f for name, f in frames.items() if name != "reference"}
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
