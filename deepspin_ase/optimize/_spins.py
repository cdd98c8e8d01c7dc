"""Relaxation of moments at fixed lattice and lengths."""

from __future__ import annotations

import logging

from ase import Atoms

from .._validate import whole
from ._descent import Descent
from ._filter import SpinLatticeFilter

logger = logging.getLogger(__name__)


def relax_spins(
    atoms: Atoms, *, torque_max: float = 1e-5, steps: int = 500
) -> tuple[bool, int]:
    """Turn the moments to a minimum of the energy, at fixed lattice and lengths.

    By :class:`~.descent.Descent`: L-BFGS on the spheres of constant length.

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
    whole("steps", steps, 1)
    joint = SpinLatticeFilter(atoms, positions=False, torque_max=torque_max)
    descent = Descent(joint)
    descent.begin()
    while True:
        largest = joint.residuals()["torque_max"]
        logger.info(
            "call %d: energy %.6f eV, torque %.2e eV",
            descent.calls,
            descent.energy,
            largest,
        )
        if largest <= torque_max:
            return True, descent.calls
        while not descent.stuck and descent.calls < steps:
            descent.propose()
            if descent.judge():
                break
        else:
            return False, descent.calls
