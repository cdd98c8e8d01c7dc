"""Files of a run: trajectories and logs that grow, and checkpoints."""

from __future__ import annotations

from ._hdf5 import HDF5Trajectory, iread_hdf5, read_hdf5
from ._logfile import DynamicsLog, LoggedRun
from ._trajectory import AseTrajectory, ExtxyzTrajectory
from ._writers import Snapshots, Writer

__all__ = [
    "AseTrajectory",
    "DynamicsLog",
    "ExtxyzTrajectory",
    "HDF5Trajectory",
    "LoggedRun",
    "Snapshots",
    "Writer",
    "iread_hdf5",
    "read_hdf5",
]
