"""OVITO files of trajectories with moments as arrows."""

from __future__ import annotations

import os

import ase.io
from ase import units

from ..._files import atomic_write
from ...io._extxyz import current_results
from ...spins import get_spins
from .._trajectories import Frames, frames_of


def write_ovito(
    path: str | os.PathLike[str], source: Frames, *, replica: int = 0
) -> int:
    """Write frames to an extxyz file for OVITO; return their number.

    OVITO draws arrows for the properties that it knows as vectors, and takes other
    columns as plain numbers. So moments, mu_B, go into the column ``dipoles``, which
    it reads as "Dipole Orientation", velocities, A/fs, into ``velo``, and forces,
    eV/A, into ``forces``; magnetic forces and what else there is keep their names.
    Switch on the visual elements of the vectors in its pipeline. Checked with OVITO
    3.17. The files of :func:`deepspin_ase.write_extxyz` open in it too, but without
    arrows for the moments.

    Parameters
    ----------
    path : path
        The file appears complete or not at all.
    source : Atoms, iterable of Atoms, or path
    replica : int
        Of an HDF5 trajectory with several.

    Raises
    ------
    ValueError
        If there are no frames or a frame has no moments.
    """
    count = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for frame in frames_of(source, replica=replica):
            results = current_results(frame)
            shown = frame.copy()
            shown.arrays["dipoles"] = get_spins(frame)
            del shown.arrays["initial_magmoms"]
            if shown.has("momenta"):
                shown.arrays["velo"] = frame.get_velocities() * units.fs
                del shown.arrays["momenta"]
            for name in ("forces", "magnetic_forces", "torques"):
                if name in results:
                    shown.arrays[name] = results[name]
            if "energy" in results:
                shown.info["energy"] = results["energy"]
            ase.io.write(file, shown, format="extxyz")
            count += 1
    return count
