"""The common part of all drivers: state, observers, files and restart."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ...potentials import Prediction
from ...system import System
from .._constraints import Constraints
from .._engine import Engine, check_finite, engine_of
from .._field import ExternalField, FieldT
from .._replicas import as_images
from .._spin_temperature import rotational_temperature
from ..files import _checkpoint as checkpoints
from ..files._logfile import DynamicsLog
from ..files._trajectory import open_trajectory
from ..files._writers import Writer
from ..observables import kinetic_energy, lattice_temperature
from ._atoms_sync import Mirror
from ._observed import ObservedDynamics

#: A spin that turns more than this in one step is followed badly, rad.
MAX_TURN = 0.5

#: The same for the random turns of a bath, root mean square, rad.
MAX_RANDOM_TURN = 0.7


#: Time steps beyond this, fs, are rarely meant where atoms move.
MAX_LATTICE_STEP = 8.0


class SpinLatticeDynamics(ObservedDynamics):
    """Dynamics of atoms with vector moments: what all drivers share.

    Works like ASE's :class:`~ase.md.md.MolecularDynamics`: ``run``, ``irun``,
    ``attach``, ``trajectory``, ``logfile``. The state stays on the model's device;
    the Atoms are brought up to date when an observer is due and at the end of a
    run, and what an observer changes in them is taken up.

    Parameters
    ----------
    atoms : Atoms or sequence of Atoms
        With moments and a calculator that gives ``magnetic_forces``. Several
        structures run as replicas in one batch, as does one structure for which a
        parameter is given as a list; :attr:`images` holds them all.
    timestep : float
        In ASE units: ``1 * ase.units.fs``.
    external_field_T : (3,) array or callable, optional
        Uniform field in tesla, or a function of the time in fs that returns one;
        on top of a field of the calculator.
    zero_momentum : bool
        Take the total momentum away at the start, and what thermostats give.
    rng : int or numpy Generator, optional
        Seed of the driver's own generator.
    trajectory : path, optional
        ``.extxyz`` (one file per replica) and ``.h5`` (one file; extra ``hdf5``)
        hold moments, magnetic forces and momenta; a ``.traj`` file of ASE holds no
        magnetic forces.
    logfile : path or "-", optional
        A line per replica: see :class:`~.files.DynamicsLog`.
    loginterval : int
        Steps between lines and frames.
    append_trajectory : bool
        Continue existing trajectory and log files.
    checkpoint : path, optional
        Written every ``checkpoint_interval`` steps and at the end of a run, for
        :meth:`restore`.
    checkpoint_interval : int
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If moments or calculator are missing, or an argument does not fit.
    """

    #: Whether a negative time step runs the dynamics backwards.
    reversible = False

    #: Whether the lattice moves.
    moves_atoms = True

    mass: Tensor
    lengths: Tensor
    constraints: Constraints
    degrees_of_freedom: Tensor
    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> SpinLatticeDynamics:
        """Keep the arguments: a checkpoint builds the driver again from them."""
        self = super().__new__(cls)
        given = inspect.signature(cls.__init__).bind(self, *args, **kwargs).arguments
        self._arguments = {
            name: value
            for name, value in (given | given.pop("kwargs", {})).items()
            if name not in ("self", "atoms")
        }
        return self

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        timestep: float,
        *,
        external_field_T: FieldT | None = None,
        zero_momentum: bool = False,
        rng: int | np.random.Generator | None = None,
        trajectory: str | os.PathLike[str] | None = None,
        logfile: str | os.PathLike[str] | None = None,
        loginterval: int = 1,
        append_trajectory: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_interval: int = 1000,
        progress: bool | None = None,
    ) -> None:
        if isinstance(timestep, bool) or not isinstance(
            timestep, int | float | np.number
        ):
            raise TypeError(
                f"timestep must be a number (1 * ase.units.fs), got {timestep!r}"
            )
        if not np.isfinite(timestep) or (timestep <= 0.0 and not self.reversible):
            raise ValueError(f"timestep must be finite and > 0, got {timestep}")
        for name, interval in (
            ("loginterval", loginterval),
            ("checkpoint_interval", checkpoint_interval),
        ):
            if not isinstance(interval, int | np.integer) or interval < 1:
                raise ValueError(f"{name} must be a number of steps, got {interval!r}")
        for name, path in (("logfile", logfile), ("checkpoint", checkpoint)):
            if path is not None and not Path(path).parent.is_dir():
                raise ValueError(f"the folder of the {name} {path} does not exist")
        self.images = as_images(atoms, self._replica_values())
        self.engine: Engine = engine_of(self.images)
        self.external_field = ExternalField(external_field_T)
        self.zero_momentum = zero_momentum
        self.progress = progress
        self.generator = torch.Generator(self.engine.device)
        try:
            seed = np.random.default_rng(rng).integers(2**63)
        except (TypeError, ValueError):
            raise ValueError(
                f"rng must be a seed >= 0 or a numpy Generator, got {rng!r}"
            ) from None
        self.generator.manual_seed(int(seed))
        self._warned = False
        # A checkpoint of step 0 that an observer makes is restored after them.
        self._mirror = Mirror(self.images)
        self._read_images()
        self.engine.check(self.state.system)
        super().__init__(self.images[0], float(timestep))
        self._warn_of_units()
        if zero_momentum:
            still = self.without_total_momentum(self.state.momenta)
            self.state = replace(self.state, momenta=still)
        self._writers: list[Writer] = []
        if trajectory is not None:
            writer = open_trajectory(trajectory, self, append=append_trajectory)
            self._add_writer(writer, loginterval)
        if logfile is not None:
            self._add_writer(DynamicsLog(logfile, self, append_trajectory), loginterval)
        self._checkpoint = checkpoint
        self._checkpoint_interval = checkpoint_interval
        if checkpoint is not None:
            self.attach(self.save, checkpoint_interval, checkpoint)

    def _add_writer(self, writer: Writer, interval: int) -> None:
        self._writers.append(writer)
        self.attach(writer.write, interval)

    def _replica_values(self) -> dict[str, Any]:
        """Return the arguments that may be given per replica."""
        return {
            name: self._arguments.get(name)
            for name in ("temperature_K", "spin_temperature_K")
        }

    # The state

    @property
    def n_replicas(self) -> int:
        """Number of structures that run together."""
        return len(self.images)

    @property
    def time_fs(self) -> float:
        """Time since the first step, fs."""
        return float(self.nsteps * self.dt / units.fs)

    def _read_images(self) -> None:
        """Take state, masses and constraints from the Atoms."""
        device = self.engine.device
        self.state = self._mirror.read(device)
        self.mass = torch.from_numpy(self._mirror.masses())[:, None].to(device)
        self.constraints = Constraints(self.images, device)
        allowed = self.constraints.momenta(self.state.system, self.state.momenta)
        self.state = replace(self.state, momenta=allowed)
        self.degrees_of_freedom = torch.tensor(
            [float(i.get_number_of_degrees_of_freedom()) for i in self.images],
            device=device,
        )
        if self.zero_momentum:
            self.degrees_of_freedom -= 3.0
        spins = self.state.system.spins
        self.lengths = torch.linalg.vector_norm(spins, dim=1, keepdim=True)
        if not bool((self.lengths > 0).any()):
            raise ValueError(
                "all moments are zero: give atoms moments with "
                "deepspin_ase.set_spins, or use ASE's own dynamics"
            )
        self._state_changed()

    def _state_changed(self) -> None:
        """Forget what belongs to a state that was left by a jump."""

    def per_atom(self, values: np.ndarray) -> Tensor:
        """Return values per replica (B,) as a column (N, 1) on the device."""
        column = torch.from_numpy(values).to(self.engine.device)
        return column[self.state.system.index][:, None]

    def normal(self) -> Tensor:
        """Return independent standard normal numbers (N, 3)."""
        return torch.randn(
            self.state.momenta.shape,
            generator=self.generator,
            device=self.engine.device,
            dtype=torch.float64,
        )

    def without_total_momentum(self, momenta: Tensor) -> Tensor:
        """Take the velocity of the centre of mass off every structure."""
        system = self.state.system
        velocity = system.sum(momenta) / system.sum(self.mass)
        return momenta - self.mass * velocity[system.index]

    def evaluate(
        self,
        system: System,
        *,
        forces: bool = True,
        virial: bool = False,
        fraction: float = 1.0,
    ) -> Prediction:
        """Call the model, external field included.

        Parameters
        ----------
        system : System
        forces, virial : bool
        fraction : float
            Which part of the step has passed, for fields that depend on time.

        Raises
        ------
        CalculationFailed
            If a result is not finite; the last good state stays.
        """
        prediction = self.engine.evaluate(system, forces=forces, virial=virial)
        time_fs = self.time_fs + fraction * float(self.dt / units.fs)
        prediction = self.external_field.add(prediction, system, time_fs)
        check_finite(prediction, system, self.nsteps + 1)
        return prediction

    @property
    def prediction(self) -> Prediction:
        """What the model says of the present state, virial included."""
        found = self.state.prediction
        if found is None or found.virial is None or found.forces is None:
            found = self.evaluate(self.state.system, virial=True, fraction=0.0)
            self.state = replace(self.state, prediction=found)
        return found

    def lattice_temperature(self) -> Tensor:
        """Return 2 E_kin / (k f) for f degrees of freedom of the atoms, (B,), K."""
        state = self.state
        kinetic = kinetic_energy(state.system, state.momenta, self.mass)
        return lattice_temperature(kinetic, self.degrees_of_freedom)

    def spin_temperature(self) -> Tensor:
        """Return the temperature of the spins' directions, (B,), K.

        See :func:`~deepspin_ase.dynamics._spin_temperature.rotational_temperature`;
        takes two model calls.
        """
        system, known = self.state.system, self.prediction.magnetic_forces

        def field(spins: Tensor) -> Tensor:
            if known is not None and spins is system.spins:
                return known
            turned = system.replace(spins=spins)
            found = self.evaluate(turned, forces=False, fraction=0.0).magnetic_forces
            assert found is not None
            return found

        return rotational_temperature(
            system, field, free=self.constraints.free_spins, seed=self.nsteps
        )

    def conserved_energy(self) -> Tensor | None:
        """Return what the equations of motion conserve, (B,), eV; None if nothing."""
        return None

    def log_columns(self) -> dict[str, Tensor]:
        """Return what a subclass adds to the log, (B,) by name and unit."""
        return {}

    def _warn_of_units(self) -> None:
        """Warn of a time step that is likely to be meant in fs."""
        in_fs = abs(self.dt) / units.fs
        if self.moves_atoms and in_fs > MAX_LATTICE_STEP:
            warnings.warn(
                f"a time step of {in_fs:.3g} fs is long for atoms; time steps are in "
                "ASE units: write 1 * ase.units.fs for 1 fs",
                stacklevel=4,
            )

    def warn_of_large_turns(self, rate: Tensor) -> None:
        """Warn once where a turning rate (N, 3) is too large for the time step."""
        if self._warned or self.nsteps % 100:
            return
        turn = float(torch.linalg.vector_norm(rate, dim=1).max()) * abs(self.dt)
        if turn > MAX_TURN:
            self._warned = True
            warnings.warn(
                f"a spin turns by {turn:.2f} rad in one step (step {self.nsteps}); "
                f"more than {MAX_TURN} rad is inaccurate: use a time step of at most "
                f"{self.dt / units.fs * MAX_TURN / turn:.2g} fs",
                stacklevel=2,
            )

    def warn_of_random_turns(self, turn: float) -> None:
        """Warn where the baths turn spins by too much in one step, rad (rms)."""
        if turn > MAX_RANDOM_TURN:
            warnings.warn(
                f"the heat bath turns a spin by {turn:.2f} rad (rms) in one step; more "
                f"than {MAX_RANDOM_TURN} rad shifts averages by percents: use a time "
                "step of at most "
                f"{self.dt / units.fs * (MAX_RANDOM_TURN / turn) ** 2:.2g} fs, or less "
                "damping",
                stacklevel=2,
            )

    # Restart

    def extra_state(self) -> dict[str, Any]:
        """Return what a subclass needs beyond :class:`State` to continue exactly."""
        return {}

    def restore_extra_state(self, state: dict[str, Any]) -> None:
        """Take up what :meth:`extra_state` returned."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all; see :meth:`restore`."""
        checkpoints.save(path, self)

    @classmethod
    def restore(
        cls, path: str | os.PathLike[str], *, calculator: Any = None, **changes: Any
    ) -> Any:
        """Return a driver that continues from a checkpoint, bit for bit.

        Trajectory and log files are cut back to where they were; files of other
        names (``trajectory="more.extxyz"``) begin anew.

        Parameters
        ----------
        path : path
        calculator : Calculator, optional
            Needed where the checkpoint could not keep the model: calculators other
            than :class:`DeepSpinCalculator`, and TorchScript models.
        **changes
            Arguments to change; functions (``external_field_T``) must be given
            again.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is damaged, of another driver, or of another version.
        """
        return checkpoints.restore(path, cls, calculator, changes)
