"""Mass-weighted velocities of frames, from momenta or finite differences."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units

from ._time_series import PLANCK_MEV_FS


class Velocities:
    """sqrt(mass) times velocity, frame by frame.

    From the momenta if the first frame has any, otherwise from the shortest steps
    from frame to frame, whose spectra :meth:`scale` corrects for the finite step.

    Attributes
    ----------
    n_atoms : int
        Number N of atoms.
    """

    def __init__(self) -> None:
        self.n_atoms = 0
        self._from_momenta = False
        self._before: np.ndarray | None = None

    def __call__(self, frame: Atoms) -> np.ndarray | None:
        """Return (N, 3) numbers, sqrt(eV); from steps, sqrt(amu) A.

        None for the first frame where steps are taken.

        Raises
        ------
        ValueError
            If momenta are missing that the first frame had.
        """
        roots = np.sqrt(frame.get_masses())[:, None]
        if not self.n_atoms:
            self.n_atoms = len(frame)
            self._from_momenta = frame.has("momenta") and frame.get_momenta().any()
        if self._from_momenta:
            if not frame.has("momenta"):
                raise ValueError("the first frame has momenta, a later one has not")
            return np.asarray(frame.get_momenta() / roots)
        cell = frame.cell.complete().array
        now = np.linalg.solve(cell.T, frame.positions.T).T
        before, self._before = self._before, now
        if before is None:
            return None
        step = now - before
        step -= np.where(frame.pbc, np.round(step), 0.0)
        return np.asarray(roots * (step @ cell))

    def scale(self, energies_meV: np.ndarray, timestep_fs: float) -> np.ndarray:
        """Return the correction factors (W,) of spectra at energies (W,).

        A step over dt is the velocity times dt sin(x) / x with x = omega dt / 2.
        """
        if self._from_momenta:
            return np.ones_like(energies_meV)
        # numpy's sinc(y) is sin(pi y) / (pi y).
        response = np.sinc(energies_meV * timestep_fs / PLANCK_MEV_FS)
        return np.asarray((timestep_fs * units.fs * response) ** -2.0)
