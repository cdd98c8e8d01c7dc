"""Relaxation of moments."""

from __future__ import annotations

import logging
from collections import deque

import numpy as np
from ase import Atoms

from .spins import get_spins, set_spins

logger = logging.getLogger(__name__)

#: No moment turns by more than this in one step, rad.
MAX_TURN = 0.3


def relax_spins(
    atoms: Atoms, *, torque_max: float = 1e-5, steps: int = 500
) -> tuple[bool, int]:
    """Turn the moments to a minimum of the energy, at fixed lattice and lengths.

    Descends along the torques with Barzilai-Borwein steps (IMA J. Numer. Anal. 8,
    141 (1988)) on the spheres of constant |m|; a step that raises the energy above
    all of the last ten is taken back and shortened.

    Parameters
    ----------
    atoms : Atoms
        Its calculator gives ``torques`` (eV). The moments are changed in place.
    torque_max : float
        Converged when no torque exceeds this, eV.
    steps : int
        Largest number of model calls.

    Returns
    -------
    bool, int
        Whether it converged, and how many model calls it took.

    Raises
    ------
    ValueError
        If the atoms carry no moments or no calculator.
    """
    if atoms.calc is None:
        raise ValueError("relax_spins needs atoms with a calculator")
    spins = get_spins(atoms)
    set_spins(atoms, spins)
    energy, torques = _evaluate(atoms)
    recent = deque([energy], maxlen=10)
    scale = 0.05 / max(np.abs(torques).max(), 1e-12)
    for step in range(1, steps):
        largest = np.linalg.norm(torques, axis=1).max()
        logger.info("step %d: energy %.6f eV, torque %.2e eV", step, energy, largest)
        if largest <= torque_max:
            return True, step
        turn = scale * torques
        turn *= min(1.0, MAX_TURN / np.linalg.norm(turn, axis=1).max())
        trial = _turned(spins, turn)
        set_spins(atoms, trial)
        trial_energy, trial_torques = _evaluate(atoms)
        if trial_energy > max(recent):
            set_spins(atoms, spins)
            scale *= 0.25
            continue
        change = torques - trial_torques
        curvature = np.sum(turn * change)
        if curvature > 0:
            scale = np.sum(turn * turn) / curvature
        else:
            scale *= 2.0
        spins, energy, torques = trial, trial_energy, trial_torques
        recent.append(energy)
    return bool(np.linalg.norm(torques, axis=1).max() <= torque_max), steps


def _evaluate(atoms: Atoms) -> tuple[float, np.ndarray]:
    torques = atoms.calc.get_property("torques", atoms)
    return atoms.get_potential_energy(), torques


def _turned(spins: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotate each moment by a vector across it, (N, 3), rad."""
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    axis = turn / np.where(angle > 0, angle, 1.0)
    return spins * np.cos(angle) + np.cross(axis, spins) * np.sin(angle)
