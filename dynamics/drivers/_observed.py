"""ASE's side of a driver: Atoms, observers and the loop of steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.md import MolecularDynamics

from ..._progress import bar
from ..._validate import whole
from ...calculators._deepspin import DeepSpinCalculator
from ...calculators._results import results_of
from ...potentials import Prediction
from .._field import ExternalField
from ..files._writers import Writer
from ._atoms_sync import Mirror, State


class ObservedDynamics(MolecularDynamics):
    """A batch of structures that observers see as Atoms.

    A subclass holds the state and moves it.

    Attributes
    ----------
    images : list of Atoms
        Brought up to date when an observer is due, at every turn of :meth:`irun` and
        at the end of a run; what is changed in them there is taken up.
    state : State
    external_field : ExternalField
    progress : bool, optional
        Progress bar; by default on a terminal.
    """

    images: list[Atoms]
    state: State
    external_field: ExternalField
    progress: bool | None
    _mirror: Mirror
    _writers: list[Writer]
    _checkpoint: str | os.PathLike[str] | None
    _checkpoint_interval: int

    #: States that :meth:`_keep_last_good` goes back to, and their steps.
    _recent: list[tuple[State, int]]

    #: Whether observers are being called, and at which step a checkpoint found that.
    _observing = False
    _observed_step: int | None = None

    @property
    def prediction(self) -> Prediction:
        """What the model says of the present state, virial included."""
        raise NotImplementedError

    @property
    def time_fs(self) -> float:
        """Time since the first step, fs."""
        raise NotImplementedError

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint, whole or not at all."""
        raise NotImplementedError

    def _read_images(self) -> None:
        """Take the state from the Atoms."""
        raise NotImplementedError

    def todict(self) -> dict[str, Any]:
        """Return what ASE writes into trajectory headers."""
        return {
            "type": "molecular-dynamics",
            "md-type": type(self).__name__,
            "timestep": self.dt,
        }

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
        self._mirror.write(self.state)

    def _give_results_to_calculators(self) -> None:
        """Spare calculators a second evaluation of the state."""
        if self.external_field.field_T is not None:
            return
        if len({id(image.calc) for image in self.images}) < len(self.images):
            return
        for image, results in zip(self.images, self._results(), strict=True):
            if isinstance(image.calc, DeepSpinCalculator):
                image.calc.take_results(image, results)

    def _absorb(self) -> None:
        """Take up what was changed in the Atoms since they were written."""
        if self._mirror.changed():
            self._read_images()

    def _refresh_properties(self) -> None:
        """Do nothing: observers get what they need when they are due."""

    def observers_due(self, step: int) -> bool:
        """Return whether an observer will look at the state after ``step`` steps."""
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

    def _march(self, steps: int) -> Iterator[bool]:
        whole("steps", steps)
        self._absorb()
        self._recent = [(self.state, self.nsteps)]
        try:
            for done in super().irun(steps):
                self._recent = [(self.state, self.nsteps), self._recent[0]]
                yield done
        finally:
            for writer in self._writers:
                writer.flush()

    def irun(self, steps: int = 50) -> Iterator[bool]:
        """Run step by step; the Atoms are up to date at every turn."""
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
        """
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
        return self.converged()

    def _keep_last_good(self) -> None:
        """Go back to a state of finite energy; write it where it is not yet."""
        for state, nsteps in [(self.state, self.nsteps), *self._recent]:
            self.state, self.nsteps = state, nsteps
            with suppress(CalculationFailed):
                self.prediction  # noqa: B018 - fails where it is not finite
                break
        else:
            return
        ours = [writer.write for writer in self._writers]
        for function, interval, _, _ in self.observers:
            if function in ours and self.nsteps % interval:
                function()
        for writer in self._writers:
            writer.flush()
