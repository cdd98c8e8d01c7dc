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

#: Steps and changes of the torques from which the curvature is estimated.
MEMORY = 20

#: Share of the expected decrease of the energy that a step must bring (Armijo).
DECREASE = 1e-4

#: Relative round-off of an energy, which no step is blamed for.
ROUND_OFF = 1e-12

_History = deque[tuple[np.ndarray, np.ndarray]]


def relax_spins(
    atoms: Atoms, *, torque_max: float = 1e-5, steps: int = 500
) -> tuple[bool, int]:
    """Turn the moments to a minimum of the energy, at fixed lattice and lengths.

    Limited-memory BFGS on the spheres of constant length: each moment turns about
    an axis across it, and what earlier steps taught is turned along (parallel
    transport; Huang, Gallivan, Absil, SIAM J. Optim. 25, 1660 (2015),
    doi:10.1137/140955483). A step that does not lower the energy is taken back
    and shortened.

    Parameters
    ----------
    atoms : Atoms
        Its calculator gives ``magnetic_forces`` (eV/mu_B). The moments are
        changed in place.
    torque_max : float
        Converged when no torque m x (-dE/dm) exceeds this, eV.
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
    energy, torques = _evaluate(atoms, spins)
    history: _History = deque(maxlen=MEMORY)
    shorten = 1.0
    for call in range(1, steps + 1):
        largest = np.linalg.norm(torques, axis=1).max()
        logger.info("call %d: energy %.6f eV, torque %.2e eV", call, energy, largest)
        if largest <= torque_max or call == steps:
            break
        turn = shorten * _step(torques, history)
        trial = _turned(spins, turn)
        set_spins(atoms, trial)
        trial_energy, trial_torques = _evaluate(atoms, trial)
        needed = DECREASE * np.sum(turn * torques) - ROUND_OFF * abs(energy)
        if trial_energy > energy - needed:
            set_spins(atoms, spins)
            shorten *= 0.25
            if shorten < 1e-2 and history:
                history.clear()
                shorten = 1.0
            continue
        _learn(history, turn, _turned(torques, turn) - trial_torques)
        spins, energy, torques, shorten = trial, trial_energy, trial_torques, 1.0
    return bool(largest <= torque_max), call


def _evaluate(atoms: Atoms, spins: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the energy, eV, and the torques (N, 3), eV."""
    magnetic_forces = atoms.calc.get_property("magnetic_forces", atoms)
    return atoms.get_potential_energy(), np.cross(spins, magnetic_forces)


def _step(torques: np.ndarray, history: _History) -> np.ndarray:
    """Return rotation vectors (N, 3), rad, that lower the energy.

    The two-loop recursion of BFGS; the torque is minus the gradient.
    """
    turn = torques.copy()
    factors = []
    for change, gain in reversed(history):
        factors.append(np.sum(change * turn) / np.sum(change * gain))
        turn -= factors[-1] * gain
    if history:
        change, gain = history[-1]
        turn *= np.sum(change * gain) / np.sum(gain * gain)
    else:
        turn *= 0.05 / np.linalg.norm(turn, axis=1).max()
    for (change, gain), factor in zip(history, reversed(factors), strict=True):
        turn += change * (factor - np.sum(gain * turn) / np.sum(change * gain))
    return turn * min(1.0, MAX_TURN / np.linalg.norm(turn, axis=1).max())


def _learn(history: _History, turn: np.ndarray, gain: np.ndarray) -> None:
    """Carry the history along and add what the step ``turn`` taught."""
    carried = [(_turned(a, turn), _turned(b, turn)) for a, b in history]
    history.clear()
    history.extend(carried)
    if np.sum(turn * gain) > 1e-8 * np.linalg.norm(turn) * np.linalg.norm(gain):
        history.append((turn, gain))


def _turned(vectors: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Rotate (N, 3) ``vectors`` by rotation vectors (N, 3), rad (Rodrigues)."""
    angle = np.linalg.norm(turn, axis=1, keepdims=True)
    axis = turn / np.where(angle > 0, angle, 1.0)
    along = axis * np.sum(axis * vectors, axis=1, keepdims=True)
    across = vectors - along
    return along + across * np.cos(angle) + np.cross(axis, vectors) * np.sin(angle)
