"""Riemannian L-BFGS of atoms, cell and moments together."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
from ase import Atoms
from ase.optimize.optimize import Optimizer

from .._files import append_text, locked, require_different
from .._plausible import warn_of_unusual
from .._validate import positive, whole
from ..io._extxyz import extxyz_text
from ._defaults import FMAX
from ._descent import Descent
from ._filter import SpinLatticeFilter

logger = logging.getLogger(__name__)


class SpinLatticeLBFGS(Optimizer):
    """Limited-memory BFGS of atoms, cell and moments, with a scale for each.

    An ASE optimizer (``run``, ``irun``, ``attach``, ``nsteps``) whose steps are
    preconditioned Riemannian L-BFGS: moments move on their spheres, and model
    Hessians of lattice and moments, fitted to every step, give stiff bonds and
    soft spins separate steps.

    Parameters
    ----------
    atoms : Atoms or SpinLatticeFilter
        Atoms are wrapped in a filter of positions and directions of moments.
    logfile : path, file or "-", optional
        One line per step; "-" is the standard output.
    trajectory : path, optional
        Every structure: extended XYZ with all results, or ASE's ``.traj``, which
        keeps the moments but neither magnetic forces nor torques.

    Attributes
    ----------
    filter : SpinLatticeFilter
    descent : Descent
        What makes the steps, and keeps their history.
    n_calls : int
        Model calls so far.
    nsteps : int
        Steps so far; those that were taken back do not count.

    Examples
    --------
    >>> optimizer = SpinLatticeLBFGS(SpinLatticeFilter(atoms, cell=True), logfile="-")
    >>> optimizer.run(fmax=0.01, torque_max=1e-4, stress_max=5e-4)
    """

    def __init__(
        self,
        atoms: Atoms | SpinLatticeFilter,
        *,
        logfile: IO[str] | str | Path | None = None,
        trajectory: str | Path | None = None,
    ) -> None:
        self.filter = (
            atoms if isinstance(atoms, SpinLatticeFilter) else SpinLatticeFilter(atoms)
        )
        self.descent = Descent(self.filter)
        suffix = None if trajectory is None else Path(trajectory).suffix
        as_text = suffix in _TEXT
        if not (as_text or suffix in (None, ".traj")):
            raise ValueError(
                f"trajectories are {', '.join(_TEXT)} or .traj files, not {trajectory}"
            )
        require_different(trajectory=trajectory, logfile=logfile)
        paths = (p for p in (trajectory, logfile) if isinstance(p, str | Path))
        self._files = [Path(path) for path in paths if path != "-"]
        with locked(*self._files):
            super().__init__(
                cast(Atoms, self.filter),
                logfile=logfile,
                trajectory=None if as_text else trajectory,
            )
            if as_text and trajectory is not None:
                append_text(Path(trajectory), "", overwrite=True)
                self.attach(self._write, 1, Path(trajectory))

    @property
    def n_calls(self) -> int:
        """Model calls so far."""
        return self.descent.n_calls

    def run(  # type: ignore[override]
        self,
        fmax: float = FMAX,
        *,
        torque_max: float | None = None,
        stress_max: float | None = None,
        steps: int = 1000,
    ) -> bool:
        """Minimize the energy.

        Parameters
        ----------
        fmax : float
            eV/A.
        torque_max, stress_max : float, optional
            eV and eV/A^3; the filter's by default. Where neither gives a torque,
            the moments have to be settled as well: see :func:`relax`.
        steps : int
            Largest number of steps of this run.

        Returns
        -------
        bool
            Whether forces, torques and stress are all below their thresholds.
        """
        states = self.irun(
            fmax, torque_max=torque_max, stress_max=stress_max, steps=steps
        )
        return [*states][-1]

    def irun(  # type: ignore[override]
        self,
        fmax: float = FMAX,
        *,
        torque_max: float | None = None,
        stress_max: float | None = None,
        steps: int = 1000,
    ) -> Iterator[bool]:
        """Minimize step by step; yield after each step whether it has converged.

        Raises
        ------
        OSError
            If a file cannot be written, or another process writes to it.
        """
        warn_of_unusual("fmax", positive("fmax", fmax))
        whole("steps", steps)
        self.filter.set_limits(torque_max=torque_max, stress_max=stress_max)
        with locked(*self._files):
            self.descent.begin()
            for converged in super().irun(fmax, steps):
                yield bool(converged)
                if self.descent.stuck:
                    logger.warning(
                        "no step lowers the energy any more (%s); the thresholds may "
                        "be below the model's numerical noise",
                        _residuals_text(self.filter),
                    )
                    return

    def gradient_converged(self, gradient: np.ndarray) -> bool:
        """Return whether the descent has converged, as ASE's loop asks."""
        return self.descent.converged(cast(float, self.fmax))

    def step(self) -> None:
        """Make one step, trying shorter ones until one lowers the energy."""
        while not self.descent.stuck:
            self.descent.propose()
            if self.descent.accept():
                return

    def log(self, gradient: np.ndarray) -> None:
        """Write a line with the energy and the residuals."""
        if self.nsteps == 0:
            self.logfile.write(_HEADER)
        left = self.filter.residuals()
        columns = "".join(
            f" {left[name]:13.6f}" if name in left else f" {'-':>13}"
            for name in _COLUMNS
        )
        clock = time.strftime("%H:%M:%S")
        energy = self.descent.energy
        self.logfile.write(f"{self.nsteps:5d} {clock} {energy:16.6f}{columns}\n")

    def _write(self, path: Path) -> None:
        append_text(path, extxyz_text([self.filter.atoms]))


_TEXT = (".extxyz", ".xyz")
_COLUMNS = ("force", "torque", "stress")
_HEADER = (
    f"{'step':>5} {'time':>8} {'energy (eV)':>16} {'force (eV/A)':>13} "
    f"{'torque (eV)':>13} {'stress(eV/A3)':>13}\n"
)


def _residuals_text(coordinates: SpinLatticeFilter) -> str:
    left = coordinates.residuals()
    return ", ".join(f"{name} {value:.2g}" for name, value in left.items())
