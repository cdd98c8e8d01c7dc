"""Cells that are strained in the course of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase.stress import voigt_6_to_full_3x3_strain

from .._validate import whole
from ._state import State
from ._waveforms import as_waveform, value_at
from .drivers._driver import SpinLatticeDynamics


def strain_ramp(
    driver: SpinLatticeDynamics,
    strain: Callable[[float], Sequence[float] | np.ndarray] | Mapping[str, Any],
    *,
    interval: int = 1,
) -> None:
    """Strain the cells of a driver from now on, atoms in proportion.

    After every ``interval`` steps the cell is (1 + strain) times what it is at no
    strain, with the strain at that time; momenta and moments stay. Attached again after
    a restart, it goes on.

    Parameters
    ----------
    driver : SpinLatticeDynamics
        Any with a fixed cell.
    strain : callable or mapping
        Function of the time in fs that returns the strain (6,) in Voigt order xx, yy,
        zz, yz, xz, xy, shears 2 e_yz and so on, as in ASE: a
        :class:`~deepspin_ase.dynamics.Ramp` for example, or its plain data.
    interval : int

    Raises
    ------
    ValueError
        If the cell moves by itself, or the function does not return six finite
        numbers.

    Examples
    --------
    >>> driver = SpinLatticeLangevin(
    ...     atoms, units.fs, temperature_K=100, friction=0.01 / units.fs, damping=0.1
    ... )
    >>> strain_ramp(driver, Ramp([0] * 6, [0.01, 0, 0, 0, 0, 0], duration_fs=5000))
    """
    if "barostat" in driver.parts:
        raise ValueError(
            f"the cell of {type(driver).__name__} moves by itself: give it stress_GPa "
            "that changes, or strain another driver's"
        )
    whole("interval", interval, 1)
    function = as_waveform(strain)
    deformed = _deformation(function, driver.time_fs)

    def apply() -> None:
        nonlocal deformed
        new = _deformation(function, driver.time_fs)
        change = torch.from_numpy(np.linalg.solve(deformed, new))
        deformed = new
        system = driver.state.system
        change = change.to(system.positions)
        driver.state = State(
            system.replace(
                positions=system.positions @ change, cell=system.cell @ change
            ),
            driver.state.momenta,
        )

    # First of all: what is written belongs to the strained cell.
    driver.insert_observer(apply, 0, interval)


def _deformation(function: Any, time_fs: float) -> np.ndarray:
    """Return 1 + strain, (3, 3), symmetric."""
    found = value_at(function, time_fs)
    if found.shape != (6,) or not np.isfinite(found).all():
        raise ValueError(
            "a strain must be six finite numbers, xx, yy, zz, yz, xz, xy, as a "
            f"function of the time in fs; got {found.tolist()} at {time_fs:g} fs"
        )
    # ASE's function adds one on the diagonal.
    return np.asarray(voigt_6_to_full_3x3_strain(found))
