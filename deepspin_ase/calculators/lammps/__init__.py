"""LAMMPS with DeePMD-kit's ``pair_style deepspin``: force engine and data files.

``calculator`` asks a LAMMPS that ``process`` starts, one or many ranks of ``worker``,
in the environment that has it; ``export`` writes models for it. Data files and
orientation are those of :mod:`deepspin_ase.io`.
"""

from __future__ import annotations

from ...io import read_lammps_data, write_lammps_data
from ._calculator import DeepSpinLammps
from ._export import export_lammps_model

__all__ = [
    "DeepSpinLammps",
    "export_lammps_model",
    "read_lammps_data",
    "write_lammps_data",
]
