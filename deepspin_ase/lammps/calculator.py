"""The ASE calculator that has LAMMPS evaluate a DeepSPIN model under MPI."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from ..calculator import MomentCalculator, check_finite
from ..potentials import Potential, load_potential
from ..potentials.deepmd import frozen
from ..system import System
from .box import LammpsBox
from .export import export_lammps_model
from .process import LammpsProcess


class DeepSpinLammps(MomentCalculator):
    """Energy and its derivatives from LAMMPS with ``pair_style deepspin``.

    For structures that are too large for one machine: LAMMPS divides them among
    MPI ranks. It runs beside this program, in an environment of its own (see
    ``docs/lammps.md``), keeps its model between calls, and only evaluates: atoms
    and spins are moved by the drivers and optimizers of this package, since LAMMPS'
    own spin dynamics ignores the magnetic forces of these models.

    Results are those of :class:`~deepspin_ase.DeepSpinCalculator`, in the same
    units, without ``energies``.

    Parameters
    ----------
    model : Potential, path or str
        A frozen model of DeePMD-kit (``.pth``), or a DeepSpinNetwork, its file or
        name, which is converted at the first call.
    python : path, optional
        The Python of LAMMPS' environment; by default what the variable
        ``DEEPSPIN_LAMMPS_PYTHON`` names.
    ranks : int
        How many MPI ranks. Each uses one thread, unless ``OMP_NUM_THREADS`` says
        otherwise.
    mpiexec : path or str, optional
        The program that starts them, which is called with ``-n RANKS``, such as
        ``srun``; by default the ``mpiexec`` of the environment. Rank 0 must run on
        this machine.

    Raises
    ------
    FileNotFoundError, ValueError
        If the model cannot be loaded or has no spins.

    Notes
    -----
    LAMMPS starts at the first evaluation and ends with :meth:`close`, with the
    calculator, or at the end of the block if used as ``with DeepSpinLammps(...) as
    calculator``. Its skin follows the moments: less than the longest pseudo-atom arm
    would silently lose neighbours. It gives six components of the virial; the
    others follow from them and the torques, as the energy of an isolated rotation
    of atoms and moments together does not change: V_ab - V_ba = sum_i torque_i,c
    for cyclic a, b, c.

    Examples
    --------
    >>> with DeepSpinLammps("model.pth", ranks=16) as atoms.calc:
    ...     SpinLatticeNVE(atoms, timestep=1 * units.fs).run(100)
    """

    name = "deepspin-lammps"
    implemented_properties = [  # noqa: RUF012 - as ASE declares it
        "energy",
        "free_energy",
        "forces",
        "stress",
        "magnetic_forces",
        "torques",
        "virial",
    ]
    ignored_changes = {"initial_charges"}  # noqa: RUF012

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        python: str | os.PathLike[str] | None = None,
        ranks: int = 1,
        mpiexec: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
