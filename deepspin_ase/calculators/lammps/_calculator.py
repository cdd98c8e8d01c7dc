"""ASE calculator with LAMMPS as the engine of a DeepSPIN model, under MPI."""

from __future__ import annotations

import copy
import os
import shutil
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
from typing_extensions import Self

from ...io._lammps import polar
from ...io._lammps_box import LammpsBox
from ...potentials import Potential, load_potential
from ...potentials._torchscript import check_exportable
from ...spins import get_spins
from ...system import System
from .._magnetic import MagneticCalculator, check_finite
from ._export import SUFFIX, export_lammps_model
from ._process import LammpsProcess, environment_python
from ._worker import Message

#: How much LAMMPS' skin exceeds the least that loses no neighbours, A.
_ROOM = 0.01


class DeepSpinLammps(MagneticCalculator):
    """Energy and its derivatives from LAMMPS with ``pair_style deepspin``.

    For structures that are too large for one machine: LAMMPS divides them among
    MPI ranks. It runs as a separate process, in its own environment (see
    ``docs/lammps.md``), keeps its model between calls, and only evaluates: atoms
    and spins are moved by the drivers and optimizers of this package, since LAMMPS'
    own spin dynamics ignores the magnetic forces of these models.

    Results are those of :class:`~deepspin_ase.DeepSpinCalculator`, in the same
    units, without ``energies``.

    Parameters
    ----------
    model : Potential, path or str
        A frozen model of DeePMD-kit (``.pth``), or another potential, model file or
        name of a model, which is converted at the first call
        (:func:`export_lammps_model`).
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
        If the model cannot be loaded or has no spins, or there is no such
        environment.

    Notes
    -----
    LAMMPS starts at the first evaluation and ends with :meth:`close`, with the
    calculator, or at the end of a block ``with DeepSpinLammps(...) as calculator``.

    Its skin follows the moments: less than the longest pseudo-atom arm would
    silently lose neighbours. It gives six components of the virial; the other
    three follow from the torques, because rotating atoms and moments together
    changes no energy: V_ab - V_ba = sum_i torque_ic for cyclic a, b, c.

    Examples
    --------
    >>> with DeepSpinLammps("model.pth", ranks=16) as calculator:  # doctest: +SKIP
    ...     atoms.calc = calculator
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

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        python: str | os.PathLike[str] | None = None,
        ranks: int = 1,
        mpiexec: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, Potential):
            self._potential, label = copy.deepcopy(model), type(model).__name__
        else:
            self._potential, label = load_potential(model), os.fspath(model)
        if not self._potential.uses_spins:
            raise ValueError(f"{label} has no spins: pair_style deepspin needs them")
        if not label.endswith(SUFFIX):
            check_exportable(self._potential)
        self.parameters.update(
            model=label,
            python=environment_python(python),
            ranks=ranks,
            mpiexec=None if mpiexec is None else os.fspath(mpiexec),
        )
        self._numbers = np.array(sorted(self._potential.species or ()))
        # One for all copies of this calculator, such as those of the images of a band.
        self._session = _Session(
            Path(label) if label.endswith(SUFFIX) else self._potential,
            [chemical_symbols[z] for z in self._numbers],
            {k: self.parameters[k] for k in ("python", "ranks", "mpiexec")},
        )

    @property
    def potential(self) -> Potential:
        """The same model in this process."""
        return self._potential

    def __enter__(self) -> Self:
        """Return the calculator."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End LAMMPS."""
        self.close()

    def close(self) -> None:
        """End LAMMPS, also for copies; the next evaluation starts it again."""
        self._session.close()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Have LAMMPS evaluate the structure once; all results are kept.

        Raises
        ------
        ValueError
            If atoms, moments or elements are not what the model takes.
        ImportError
            If the environment cannot run LAMMPS with DeePMD-kit: says why.
        CalculationFailed
            If LAMMPS fails or its process dies (the next evaluation starts it
            again), or a result is not finite.
        """
        super().calculate(atoms, properties, system_changes)
        self.results = {}  # if this fails, none are left of other atoms
        system = System.from_atoms(self.atoms)
        self._check(system)
        box = LammpsBox.of(self.atoms, reduced=True)
        answer = self._session.ask(self._request(system, box))
        results = _results(self.atoms, box, answer)
        check_finite(results)
        self.results = results

    def _check(self, system: System) -> None:
        """Raise ValueError where LAMMPS or the model does not apply."""
        self._potential.check(system)
        numbers = self.atoms.numbers
        carrying = self._potential.magnetic_species
        magnetic = np.isin(numbers, self._numbers if carrying is None else [*carrying])
        lost = np.flatnonzero(magnetic & ~get_spins(self.atoms).any(axis=1))
        if len(lost):
            raise ValueError(
                f"the moment of atom {lost[0]} ({self.atoms.symbols[lost[0]]}) is "
                "zero: LAMMPS keeps magnetic forces times the length of the moments, "
                "so that this one is lost; give it a small moment"
            )

    def _request(self, system: System, box: LammpsBox) -> Message:
        """Return the structure as the worker wants it."""
        skin = self._potential.pair_cutoff(system) - self._potential.cutoff + _ROOM
        types = 1 + np.searchsorted(self._numbers, self.atoms.numbers)
        return {
            "boundary": np.array(" ".join("p" if p else "f" for p in self.atoms.pbc)),
            "low": box.low,
            "lengths": box.lengths,
            "tilts": box.tilts,
            "types": types.astype(np.int64),
            "positions": self.atoms.positions @ box.rotation,
            "moments": polar(get_spins(self.atoms) @ box.rotation),
            "skin": np.array(skin),
        }


class _Session:
    """LAMMPS with one model, started at the first request, and again if it died."""

    def __init__(
        self, model: Path | Potential, elements: list[str], options: dict[str, Any]
    ) -> None:
        self._model = model
        self._elements = elements
        self._options = options
        self._file = None if isinstance(model, Potential) else model.resolve()
        self._process: LammpsProcess | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the session without its process and the file written for it."""
        written = isinstance(self._model, Potential)
        kept = {"_process": None, "_file": None if written else self._file}
        return vars(self) | kept

    def ask(self, request: Message) -> Message:
        """Return the answer of the process (:meth:`LammpsProcess.ask`)."""
        if self._process is None or not self._process.alive:
            self.close()
            self._process = LammpsProcess(
                self._frozen(), self._elements, **self._options
            )
        return self._process.ask(request)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _frozen(self) -> Path:
        """Return the file of the frozen model, written now if there is none."""
        if self._file is None:
            assert isinstance(self._model, Potential)
            folder = tempfile.mkdtemp(prefix="deepspin-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, f"model{SUFFIX}")
            export_lammps_model(path, self._model, python=self._options["python"])
            self._file = path
        return self._file


def _results(atoms: Atoms, box: LammpsBox, answer: Message) -> dict[str, Any]:
    """Return the results in the orientation of the atoms."""
    back = box.rotation.T
    energy = float(answer["energy"])
    magnetic_forces = answer["magnetic_forces"] @ back
    torques = np.cross(get_spins(atoms), magnetic_forces)
    virial = _virial(answer["virial"], torques.sum(axis=0) @ box.rotation)
    virial = back.T @ virial @ back
    results = {
        "energy": energy,
        "free_energy": energy,
        "forces": answer["forces"] @ back,
        "magnetic_forces": magnetic_forces,
        "torques": torques,
        "virial": virial,
    }
    if atoms.pbc.all():
        stress = -0.5 * (virial + virial.T) / atoms.get_volume()
        results["stress"] = full_3x3_to_voigt_6_stress(stress)
    return results


def _virial(components: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """Return the virial (3, 3) from xx, yy, zz, yx, zx, zy and the sum of torques.

    Turning atoms and moments together changes no energy, so that
    sum_i R_i x F_i + m_i x (-dE/dm_i) = 0, and V_ab = sum_i F_ia R_ib.
    """
    xx, yy, zz, yx, zx, zy = components
    x, y, z = torque
    return np.array([[xx, yx + z, zx - y], [yx, yy, zy + x], [zx, zy, zz]])
