"""Base of all drivers: state, parts, observers and the loop of steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.md import MolecularDynamics
from torch import Tensor

from ..._files import locked
from ..._progress import bar
from ..._validate import whole
from ...calculators import DeepSpinCalculator
from ...calculators._results import results_of
from ...potentials import Prediction
from .._field import ExternalField
from .._state import Context, State, Stateful
from ..files._writers import Writer
from ._atoms_sync import AtomsSync

Part = TypeVar("Part", bound=Stateful)


@dataclass(frozen=True)
class _Snapshot:
    """Everything that a step changes, except random numbers."""

    nsteps: int
    state: State
    lengths: Tensor
    variables: dict[str, Any]
    parts: dict[str, Any]


class BatchedDynamics(MolecularDynamics):
    """A batch of structures that observers see as Atoms.

    A subclass fills ``images``, ``state`` and ``context`` in its constructor and moves
    the state in ``step``.

    Attributes
    ----------
    images : list of Atoms
        Brought up to date when an observer is due, in every iteration of :meth:`irun`
        and at the end of a run; changes made in them there are taken over.
    state : State
    context : Context
    external_field : ExternalField
    parts : dict of Stateful
        What changes in a run besides the state: memories of integrators, chains,
        barostats, counters of moves. Saved, restored, reset and taken back with it.
    writers : list of Writer
        Trajectory and log, in the order in which they are written.
    progress : bool, optional
        Progress bar; by default on a terminal.
    """

    #: Names of further attributes, tensors, that a step replaces.
    variables: ClassVar[tuple[str, ...]] = ()

    images: list[Atoms]
    state: State
    context: Context
    external_field: ExternalField
    parts: dict[str, Stateful]
    writers: list[Writer]
    progress: bool | None
    _sync: AtomsSync
    _checkpoint: str | os.PathLike[str] | None
    _checkpoint_interval: int

    #: Latest states first, for :meth:`_keep_last_good`.
    _recent: list[_Snapshot]

    #: Whether observers are being called, and at which step a checkpoint found that.
    _observing = False
    _observed_step: int | None = None

    @property
    def prediction(self) -> Prediction:
        """Prediction of the model for the present state, virial included."""
        raise NotImplementedError

    @property
    def time_fs(self) -> float:
        """Time since the first step, fs."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all."""
        raise NotImplementedError

    def _load(self) -> None:
        """Take the state from the Atoms."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Bring baths and parameters to the present structures and temperatures.

        Called after a change of either; a constructor calls it, or
        ``set_temperature``, last.
        """

    def todict(self) -> dict[str, Any]:
        """Return the entries of ASE's trajectory headers."""
        return {
            "type": "molecular-dynamics",
            "md-type": type(self).__name__,
            "timestep": self.dt,
        }

    # Parts

    def add_part(self, name: str, part: Part) -> Part:
        """Put a part into :attr:`parts` and return it.

        It continues from the state of the part that it replaces, if there is one.
        """
        if name in self.parts:
            part.load_state_dict(self.parts[name].state_dict())
        self.parts[name] = part
        return part

    def _state_changed(self) -> None:
        """Reset what belongs to a state that was left by a jump."""
        for part in self.parts.values():
            part.reset()
        self.prepare()

    def _snapshot(self) -> _Snapshot:
        return _Snapshot(
            self.nsteps,
            self.state,
            self.context.lengths,
            {name: getattr(self, name) for name in self.variables},
            {name: part.state_dict() for name, part in self.parts.items()},
        )

    def _rewind(self, to: _Snapshot) -> None:
        """Go back to an earlier state."""
        self.nsteps, self.state, self.context.lengths = to.nsteps, to.state, to.lengths
        self._load_parts(to.variables, to.parts)

    def _load_parts(self, variables: dict[str, Any], parts: dict[str, Any]) -> None:
        for name, value in variables.items():
            setattr(self, name, value)
        for name, state in parts.items():
            self.parts[name].load_state_dict(state)

    # Atoms and observers

    def frames(self) -> list[Atoms]:
        """Return copies of all structures as they are now, with their results."""
        self.publish()
        frames = []
        for image, results in zip(self.images, self._results(), strict=True):
            frame = image.copy()
            frame.info["time_fs"] = self.time_fs
            frame.calc = SinglePointCalculator(frame)
            frame.calc.results.update(results)
            frames.append(frame)
        return frames

    def _results(self) -> list[dict[str, Any]]:
        return results_of(self.prediction, self.state.system)

    def publish(self) -> None:
        """Write the state into the Atoms."""
        self._sync.write(self.state)

    def _give_results_to_calculators(self) -> None:
        """Spare calculators a second evaluation of the state."""
        if self.external_field.acts:
            return
        if len({id(image.calc) for image in self.images}) < len(self.images):
            return
        for image, results in zip(self.images, self._results(), strict=True):
            if isinstance(image.calc, DeepSpinCalculator):
                image.calc.take_results(image, results)

    def _absorb(self) -> None:
        """Take over changes made in the Atoms since they were written."""
        if self._sync.changed():
            self._load()
            self._state_changed()
            self._remember()

    def _refresh_properties(self) -> None:
        """Do nothing: observers get what they need when they are due."""

    def observers_due(self, step: int) -> bool:
        """Return whether an observer is due after ``step`` steps."""
        return any(
            step % interval == 0 if interval > 0 else step == -interval
            for _, interval, _, _ in self.observers
        )

    def call_observers(self) -> None:
        """Bring the Atoms up to date and call the observers that are due."""
        if not self.observers_due(self.nsteps):
            return
        if self.nsteps == self._observed_step:
            return
        self.publish()
        self._give_results_to_calculators()
        self._observing = True
        super().call_observers()
        self._observing = False
        self._absorb()

    # The loop

    def _remember(self) -> None:
        # Three: after a step, its end, the end of the step before, and the state that
        # an observer may have changed in between.
        self._recent = [self._snapshot(), *self._recent[:2]]

    def _march(self, steps: int) -> Iterator[bool]:
        whole("steps", steps)
        self._recent = []
        self._absorb()
        self._remember()
        try:
            for done in super().irun(steps):
                self._remember()
                yield done
        except CalculationFailed:
            # A step that failed half-way may have moved parts already.
            if self._recent[0].nsteps == self.nsteps:
                self._rewind(self._recent[0])
            raise
        finally:
            for writer in self.writers:
                writer.flush()

    def _locked_files(self) -> AbstractContextManager[None]:
        """Keep other processes from the files of this run."""
        paths = [writer.path for writer in self.writers if writer.on_disk]
        if self._checkpoint is not None:
            paths.append(Path(self._checkpoint))
        return locked(*paths)

    def irun(self, steps: int = 50) -> Iterator[bool]:
        """Run step by step; the Atoms are up to date in every iteration.

        Raises
        ------
        CalculationFailed, OSError
            As :meth:`run`.
        """
        with self._locked_files():
            for done in self._march(steps):
                self.publish()
                yield done
                self._absorb()

    def run(self, steps: int = 50) -> bool:
        """Run ``steps`` steps.

        Raises
        ------
        CalculationFailed
            If an energy is not finite: the last good state is in the Atoms, the
            trajectory and the log; the checkpoint is an earlier one, as it was.
        OSError
            If a file cannot be written, or another process writes to it.
        """
        with self._locked_files():
            self._run(steps)
        return self.converged()

    def _run(self, steps: int) -> None:
        first = self.nsteps
        with bar(total=steps, progress=self.progress, unit="step") as shown:
            try:
                for _ in self._march(steps):
                    shown.update(self.nsteps - first - shown.n)
            except CalculationFailed:
                self._keep_last_good()
                raise
            finally:
                self.publish()
        if self._checkpoint is not None and self.nsteps % self._checkpoint_interval:
            self.save(self._checkpoint)

    def _keep_last_good(self) -> None:
        """Go back to a state of finite energy; write it where it is not yet."""
        for snapshot in [self._snapshot(), *self._recent]:
            self._rewind(snapshot)
            with suppress(CalculationFailed):
                self.prediction  # noqa: B018 - fails where it is not finite
                break
        else:
            return
        ours = [writer.write for writer in self.writers]
        for function, interval, _, _ in self.observers:
            if function in ours and self.nsteps % interval:
                function()
        for writer in self.writers:
            writer.flush()
