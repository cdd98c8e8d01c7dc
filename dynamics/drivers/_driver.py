"""Spin-lattice dynamics: model calls, external field, temperatures, files, restart."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms, units
from torch import Tensor

from ..._files import require_different, to_disk
from ..._plausible import warn_of_short_time, warn_of_unusual
from ..._validate import per_replica, whole
from ...potentials import Prediction
from ...system import System
from .._constraints import Constraints
from .._engine import Engine, check_finite, engine_of
from .._field import DrivenTerms, ExternalField, FieldT
from .._replicas import PerReplica, as_images
from .._spin_temperature import rotational_sums, rotational_temperature
from .._spin_torque import SpinTorque
from .._state import Context, State, on_device
from ..files import _checkpoint as checkpoints
from ..files._logfile import DynamicsLog
from ..files._trajectory import open_trajectory
from ..files._writers import Writer
from ..observables import kinetic_energy, lattice_temperature
from ._atoms_sync import AtomsSync
from ._md_base import BatchedDynamics

#: Angle in one step, rad, beyond which a rotating spin is followed inaccurately.
MAX_ROTATION = 0.5

#: Time steps beyond this, fs, are rarely meant where atoms move.
MAX_LATTICE_STEP = 8.0

#: Arguments that time steps must resolve.
_RESPONSE_TIMES = ("tdamp", "spin_tdamp", "pdamp", "collision_time")

#: Arguments that :meth:`SpinLatticeDynamics.set_temperature` looks at.
_LATER = ("temperature_K", "spin_temperature_K")


class SpinLatticeDynamics(BatchedDynamics):
    """Base class of drivers of atoms with vector moments.

    Works like ASE's :class:`~ase.md.md.MolecularDynamics`: ``run``, ``irun``,
    ``attach``, ``trajectory``, ``logfile``. The state stays on the model's device;
    the Atoms are brought up to date when an observer is due and at the end of a
    run, and changes that an observer makes in them are taken over.

    A driver implements ``step``, which replaces ``self.state``. Its constructor calls
    this one first, then adds what else changes in a run to ``self.parts``
    (:meth:`add_part`), and last calls :meth:`set_temperature` or :meth:`prepare`, in
    which everything is built that depends on structures or temperatures. Saving,
    restoring, resetting after a jump of the state and going back after a failed step
    follow from that. :func:`.drivers.driver` registers it for ``deepspin md``.

    Parameters
    ----------
    atoms : Atoms or sequence of Atoms
        With moments and a calculator that gives ``magnetic_forces``. Several
        structures run as replicas in one batch, as does one structure for which a
        parameter is given as a list; :attr:`images` holds them all.
    timestep : float
        In ASE units: ``1 * ase.units.fs``.
    external_field_T : (3,) or (B, 3) array, callable or mapping, optional
        Uniform field in tesla, one for each replica, or a function of the time in fs
        that returns one, such as a :class:`~deepspin_ase.dynamics.Pulse` or its plain
        data; on top of a field of the calculator.
    spin_torque : SpinTorque or mapping, optional
        Torque of a spin current on moments that follow the damped LLG equation.
    driven_terms : sequence of (Potential, callable), optional
        Terms of the energy, each times a function of the time in fs: an
        :class:`~deepspin_ase.potentials.ElectricField` and a pulse.
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
    reversible: ClassVar[bool] = False

    #: Whether the lattice moves.
    moves_atoms: ClassVar[bool] = True

    #: Whether some atom must carry a moment.
    needs_moments: bool = True

    #: Whether moments follow the damped LLG equation, which takes spin torques.
    takes_spin_torque: ClassVar[bool] = False

    #: Whether the energy may depend on time.
    takes_driven_terms: ClassVar[bool] = True

    #: Whether heat baths need a temperature above zero.
    warm_baths: ClassVar[bool] = False

    #: Names of arguments that may be given per replica.
    replica_arguments: ClassVar[tuple[str, ...]] = (
        "temperature_K",
        "spin_temperature_K",
    )

    #: Temperatures of the baths of lattice and spins, (B,), K; None without a bath.
    temperature_K: np.ndarray | None = None
    spin_temperature_K: np.ndarray | None = None

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
        spin_torque: SpinTorque | Mapping[str, Any] | None = None,
        driven_terms: DrivenTerms = (),
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
            whole(name, interval, 1)
        for name, path in (("logfile", logfile), ("checkpoint", checkpoint)):
            if path is not None and not Path(path).parent.is_dir():
                raise ValueError(f"the folder of the {name} {path} does not exist")
        given = {name: self._arguments.get(name) for name in self.replica_arguments}
        if np.ndim(external_field_T) == 2:  # type: ignore[arg-type]
            given["external_field_T"] = external_field_T
        self.images = as_images(atoms, given)
        self.engine: Engine = engine_of(self.images)
        self.external_field = ExternalField(
            external_field_T,
            spin_torque=spin_torque,
            driven_terms=driven_terms,
            n_replicas=len(self.images),
        )
        self._check_external_field()
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
        self.parts, self.writers, self._recent = {}, [], []
        self._warned = False
        self._dt = float(timestep)
        self._sync = AtomsSync(self.images)
        self._load()
        self.engine.check(self.state.system)
        super().__init__(self.images[0], self._dt)
        self._warn_of_units()
        self._warn_of_unusual()
        if zero_momentum:
            still = self.context.without_total_momentum(
                self.state.system, self.state.momenta
            )
            self.state = replace(self.state, momenta=still)
        require_different(trajectory=trajectory, logfile=logfile, checkpoint=checkpoint)
        if trajectory is not None:
            writer = open_trajectory(trajectory, self, append=append_trajectory)
            self._add_writer(writer, loginterval)
        if logfile is not None:
            self._add_writer(DynamicsLog(logfile, self, append_trajectory), loginterval)
        # Last: a checkpoint that an observer makes is restored after the writers.
        self._checkpoint = checkpoint
        self._checkpoint_interval = checkpoint_interval
        if checkpoint is not None:
            self.attach(self.save, checkpoint_interval, checkpoint)

    def _check_external_field(self) -> None:
        """Raise ValueError for what this driver cannot follow."""
        name = type(self).__name__
        if self.external_field.has_no_energy and not self.takes_spin_torque:
            raise ValueError(
                f"{name} follows an energy, which a spin torque does not have: use "
                "SpinDynamics, SpinLatticeLangevin, SpinLatticeNPT or ThreeTemperature"
            )
        if self.external_field.is_driven and not self.takes_driven_terms:
            raise ValueError(f"{name} has no time, and takes no driven_terms")

    def _add_writer(self, writer: Writer, interval: int) -> None:
        self.writers.append(writer)
        self.attach(writer.write, interval)

    @classmethod
    def parameters(cls) -> dict[str, inspect.Parameter]:
        """Return the arguments by name, those passed on to base classes included."""
        found: dict[str, inspect.Parameter] = {}
        for base in cls.__mro__:
            constructor = vars(base).get("__init__")
            if constructor is None:
                continue
            parameters = list(inspect.signature(constructor).parameters.values())[1:]
            own: dict[str, inspect.Parameter] = {}
            for parameter in parameters:
                # A driver chooses what it gives to a base by position.
                by_name = parameter.kind is parameter.KEYWORD_ONLY
                if by_name or (
                    not found and parameter.kind is not parameter.VAR_KEYWORD
                ):
                    own[parameter.name] = parameter
            found = own | found
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
        return found

    # The state

    @property
    def n_replicas(self) -> int:
        """Number of structures that run together."""
        return len(self.images)

    @property
    def dt(self) -> float:
        """Time step, ASE time; baths follow a change."""
        return self._dt

    @dt.setter
    def dt(self, timestep: float) -> None:
        if timestep != self._dt:
            self._dt = self.context.dt = timestep
            self.prepare()

    @property
    def time_fs(self) -> float:
        """Time since the first step, fs."""
        return float(self.nsteps * self.dt / units.fs)

    @property
    def mass(self) -> Tensor:
        """Masses of the atoms, (N, 1), amu."""
        return self.context.mass

    @property
    def lengths(self) -> Tensor:
        """Lengths of the moments, (N, 1), mu_B."""
        return self.context.lengths

    @property
    def constraints(self) -> Constraints:
        """Constraints of atoms and moments."""
        return self.context.constraints

    def per_atom(self, values: np.ndarray) -> Tensor:
        """Return values per replica (B,) as a column (N, 1) on the device."""
        return self.context.per_atom(values)

    def _load(self) -> None:
        """Take state, masses and constraints from the Atoms."""
        device = self.engine.device
        state = self._sync.read(device)
        spins = state.system.spins
        self.context = Context(
            dt=self._dt,
            mass=torch.from_numpy(self._sync.masses())[:, None].to(device),
            lengths=torch.linalg.vector_norm(spins, dim=1, keepdim=True),
            constraints=Constraints(self.images, device),
            generator=self.generator,
            evaluate=self.evaluate,
            check_rotation=self.warn_of_large_rotations,
            zero_momentum=self.zero_momentum,
            index=state.system.index,
        )
        if self.needs_moments and not bool((self.lengths > 0).any()):
            raise ValueError(
                "all moments are zero: give atoms moments with "
                "deepspin_ase.set_spins, or use ASE's own dynamics"
            )
        allowed = self.constraints.momenta(state.system, state.momenta)
        self.state = replace(state, momenta=allowed)
        self.degrees_of_freedom = torch.tensor(
            [float(i.get_number_of_degrees_of_freedom()) for i in self.images],
            device=device,
        )
        if self.zero_momentum:
            self.degrees_of_freedom -= 3.0

    def set_temperature(
        self,
        temperature_K: PerReplica,
        spin_temperature_K: PerReplica | None = None,
    ) -> None:
        """Change the temperatures of the heat baths from the next step on.

        Parameters
        ----------
        temperature_K : float or sequence
            Of the lattice's bath, or the only one.
        spin_temperature_K : float or sequence, optional
            Of the spins' bath; the lattice's by default.

        Raises
        ------
        ValueError
            If the driver has no such bath, or a temperature is negative, or zero
            where the bath cannot be at zero.
        """
        given = {
            "temperature_K": temperature_K,
            "spin_temperature_K": spin_temperature_K,
        }
        for name, value in given.items():
            if value is not None and name not in self.parameters():
                raise ValueError(f"{type(self).__name__} has no {name}")
            warn_of_unusual(name, value, stacklevel=4)
        if spin_temperature_K is None:
            spin_temperature_K = temperature_K
        count = self.n_replicas
        self.temperature_K = per_replica(
            "temperature_K", temperature_K, count, positive=self.warm_baths
        )
        self.spin_temperature_K = per_replica(
            "spin_temperature_K", spin_temperature_K, count
        )
        self.prepare()

    def evaluate(
        self,
        system: System,
        *,
        forces: bool = True,
        virial: bool = False,
        fraction: float = 1.0,
    ) -> Prediction:
        """Return the prediction of the model, external field included.

        Parameters
        ----------
        system : System
        forces, virial : bool
        fraction : float
            The part of the step that has passed, for fields that depend on time.

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
        """Prediction of the model for the present state.

        With forces and the virial where the calculator gives them.
        """
        found, engine = self.state.prediction, self.engine
        if (
            found is None
            or (engine.gives_forces and found.forces is None)
            or (engine.gives_virial and found.virial is None)
        ):
            found = self.evaluate(
                self.state.system, forces=engine.gives_forces, virial=True, fraction=0.0
            )
            self.state = replace(self.state, prediction=found)
        return found

    def lattice_temperature(self) -> Tensor:
        """Return 2 E_kin / (k f) for f degrees of freedom of the atoms, (B,), K."""
        state = self.state
        kinetic = kinetic_energy(state.system, state.momenta, self.mass)
        return lattice_temperature(kinetic, self.degrees_of_freedom)

    def spin_temperature(self) -> Tensor:
        """Return the temperature of the spins' directions, (B,), K.

        That of :meth:`rotational_sums`; takes two model calls.
        """
        return rotational_temperature(*self.rotational_sums())

    def rotational_sums(self) -> tuple[Tensor, Tensor]:
        """Return sums, (B,), eV^2 and eV, whose ratio is k T of the spins.

        See :func:`~deepspin_ase.dynamics._spin_temperature.rotational_sums`.
        """
        system, known = self.state.system, self.prediction.magnetic_forces

        def field(spins: Tensor) -> Tensor:
            if known is not None and spins is system.spins:
                return known
            rotated = system.replace(spins=spins)
            found = self.evaluate(rotated, forces=False, fraction=0.0).magnetic_forces
            assert found is not None
            return found

        return rotational_sums(
            system, field, free=self.constraints.free_spins, seed=self.nsteps
        )

    def conserved_energy(self) -> Tensor | None:
        """Return the conserved quantity of the motion, (B,), eV; None without one."""
        return None

    def log_columns(self) -> dict[str, Tensor]:
        """Return additional columns of the log, each (B,), by name and unit."""
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

    def _warn_of_unusual(self) -> None:
        """Warn of arguments and masses whose unit may be wrong."""
        for name, value in self._arguments.items():
            if name in _LATER:
                continue
            if name in _RESPONSE_TIMES and warn_of_short_time(
                name, value, self.dt, stacklevel=5
            ):
                continue
            warn_of_unusual(name, value, stacklevel=5)
        lengths = self.state.system.spins.norm(dim=1).cpu().numpy()
        warn_of_unusual("moments", lengths, stacklevel=5)
        if self.moves_atoms:
            warn_of_unusual("masses", self.mass.cpu().numpy(), stacklevel=5)

    def warn_of_large_rotations(self, rate: Tensor) -> None:
        """Warn once where an angular velocity (N, 3) is too large for the time step."""
        if self._warned or self.nsteps % 100:
            return
        angle = float(torch.linalg.vector_norm(rate, dim=1).max()) * abs(self.dt)
        if angle > MAX_ROTATION:
            self._warned = True
            warnings.warn(
                f"a spin rotates by {angle:.2f} rad in one step (step {self.nsteps}); "
                f"more than {MAX_ROTATION} rad is inaccurate: use a time step of at "
                f"most {self.dt / units.fs * MAX_ROTATION / angle:.2g} fs",
                stacklevel=2,
            )

    # Restart

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the rest of a run depends on, as plain data."""
        system, prediction = self.state.system, self.state.prediction
        snapshot = self._snapshot()
        temperatures = {
            name: value.tolist()
            for name in ("temperature_K", "spin_temperature_K")
            if name in self.parameters() and (value := getattr(self, name)) is not None
        }
        return {
            "nsteps": self.nsteps,
            "observed": self._observing,
            "positions": system.positions,
            "spins": system.spins,
            "species": system.species,
            "cell": system.cell,
            "momenta": self.state.momenta,
            "prediction": None if prediction is None else dict(vars(prediction)),
            "lengths": self.lengths,
            "temperatures": temperatures,
            "variables": snapshot.variables,
            "parts": snapshot.parts,
            "engine": self.engine.state_dict(),
            "generator": self.generator.get_state(),
            "writers": {writer.label: writer.state_dict() for writer in self.writers},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`.

        Files of the same names are cut back to where they were.
        """
        generator = state["generator"]  # stays on the CPU
        state = on_device(state, self.engine.device)
        self.nsteps = state["nsteps"]
        self._observed_step = self.nsteps if state["observed"] else None
        self.context.lengths = state["lengths"]
        system = self.state.system.replace(
            species=state.get("species", self.state.system.species),
            **{name: state[name] for name in ("positions", "spins", "cell")},
        )
        found = state["prediction"]
        prediction = None if found is None else Prediction(**found)
        self.state = State(system, state["momenta"], prediction)
        if state["temperatures"]:
            self.set_temperature(**state["temperatures"])
        else:
            self.prepare()
        self._load_parts(state["variables"], state["parts"])
        self.engine.load_state_dict(state["engine"])
        self.generator.set_state(generator)
        with self._locked_files():
            for writer in self.writers:
                if writer.label in state["writers"]:
                    writer.load_state_dict(state["writers"][writer.label])
        self.publish()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all; see :meth:`restore`.

        Raises
        ------
        OSError
            If it cannot be written; an earlier checkpoint of that name stays.
        """
        self.publish()
        state = self.state_dict()
        # Frames that a checkpoint counts must outlast a loss of power.
        for file in (file for writer in self.writers for file in writer.files):
            if file.exists():
                to_disk(file)
        checkpoints.save(
            path,
            driver=type(self).__name__,
            arguments=self._arguments,
            images=self.images,
            state=state,
        )

    @classmethod
    def restore(
        cls, path: str | os.PathLike[str], *, calculator: Any = None, **changes: Any
    ) -> Any:
        """Return a driver that continues from a checkpoint, bit for bit.

        Trajectory and log files are cut back to where they were; files of other
        names (``trajectory="more.extxyz"``) are begun.

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
        BlockingIOError
            If another process writes to the files.
        """
        images, arguments, state = checkpoints.load(
            path, driver=cls.__name__, calculator=calculator, changes=changes
        )
        driver = cls(images if len(images) > 1 else images[0], **arguments)
        driver.load_state_dict(state)
        return driver
