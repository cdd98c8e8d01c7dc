"""What acts on a run from outside: magnetic fields, spin currents, driven terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from ..potentials import Potential, Prediction, ZeemanWave
from ..system import System
from ..units import MU_B
from ._spin_torque import SpinTorque, as_spin_torque
from ._waveforms import Oscillation, as_waveform, value_at

#: A field in tesla, or a function of the time in fs that returns one.
FieldT: TypeAlias = (
    Sequence[float]
    | np.ndarray
    | Callable[[float], Sequence[float] | np.ndarray]
    | Mapping[str, Any]
)

#: Terms of the energy, each with a factor that is a function of the time in fs.
DrivenTerms: TypeAlias = Sequence[tuple[Potential, Callable[[float], Any]]]


def travelling_wave(
    field_T: Sequence[float],
    waves: Sequence[float],
    frequency_THz: float,
    *,
    elements: Sequence[str] | None = None,
) -> list[tuple[Potential, Callable[[float], Any]]]:
    """Return driven terms of the magnetic field B cos(2 pi (n.s - f t)).

    Parameters
    ----------
    field_T : (3,) sequence
        B, T.
    waves : (3,) sequence
        n, wavelengths along each vector of the structure's cell, as of
        :class:`~deepspin_ase.potentials.ZeemanWave`; the wave goes where n points.
    frequency_THz : float
    elements : sequence of symbols, optional
        Whose moments feel it.

    Raises
    ------
    ValueError
        If an argument does not fit.

    Examples
    --------
    >>> wave = travelling_wave((0.5, 0, 0), (1, 0, 0), frequency_THz=2.0)
    >>> driver = SpinDynamics(atoms, units.fs, damping=0.01, driven_terms=wave)
    """
    return [
        (
            ZeemanWave(field_T, waves, phase_deg=phase, elements=elements),
            Oscillation(1.0, frequency_THz, phase_deg=phase),
        )
        for phase in (0.0, -90.0)
    ]


class ExternalField:
    """A uniform field; adds E = -mu_B sum m.B to what a model predicts.

    Of all replicas, or one for each, which is constant. With it act a spin torque,
    which adds to the magnetic forces but not to the energy, and terms of the energy
    with factors that depend on time.

    Raises
    ------
    ValueError
        If a field is not three finite numbers, or a factor not one.
    TypeError
        If a torque or a driven term is none.
    """

    def __init__(
        self,
        field_T: FieldT | None,
        *,
        spin_torque: SpinTorque | Mapping[str, Any] | None = None,
        driven_terms: DrivenTerms = (),
        n_replicas: int = 1,
    ) -> None:
        self._n_replicas = n_replicas
        self.field_T = as_waveform(field_T)
        self.spin_torque = as_spin_torque(spin_torque)
        self.driven_terms = _checked(driven_terms)
        if field_T is not None:
            self.at(0.0)

    @property
    def acts(self) -> bool:
        """Whether there is anything beside the model."""
        return self.field_T is not None or self.has_no_energy or self.is_driven

    @property
    def has_no_energy(self) -> bool:
        """Whether a spin torque acts."""
        return self.spin_torque is not None

    @property
    def is_driven(self) -> bool:
        """Whether there are driven terms."""
        return bool(self.driven_terms)

    @property
    def changes(self) -> bool:
        """Whether the energy is not conserved: time dependence, or a spin torque."""
        return callable(self.field_T) or self.has_no_energy or self.is_driven

    def at(self, time_fs: float) -> np.ndarray:
        """Return the field at a time, (3,), or (B, 3) of the replicas, eV/mu_B."""
        assert self.field_T is not None and not isinstance(self.field_T, Mapping)
        value = self.field_T(time_fs) if callable(self.field_T) else self.field_T
        field = np.asarray(value, dtype=float)
        shapes = [(3,)] if callable(self.field_T) else [(3,), (self._n_replicas, 3)]
        if field.shape not in shapes or not np.isfinite(field).all():
            raise ValueError(
                "external_field_T must be three finite numbers in tesla, these for "
                f"each of the {self._n_replicas} replicas, or a function of the time "
                f"in fs that returns three; got {value!r}"
            )
        return MU_B * field

    @property
    def of_replicas(self) -> np.ndarray | None:
        """Fields (B, 3) of the replicas, eV/mu_B; None if they share one."""
        if self.field_T is None or callable(self.field_T):
            return None
        field = self.at(0.0)
        return field if field.ndim == 2 else None

    def on_atoms(self, system: System, time_fs: float) -> Tensor:
        """Return the field on every atom at a time, (N, 3), eV/mu_B."""
        if self.field_T is None:
            return torch.zeros_like(system.spins)
        field = torch.as_tensor(self.at(time_fs)).to(system.spins)
        return field[system.index] if field.ndim == 2 else field.expand_as(system.spins)

    def add(self, prediction: Prediction, system: System, time_fs: float) -> Prediction:
        """Return the prediction with all that acts from outside."""
        if self.field_T is not None:
            prediction = self._with_field(prediction, system, time_fs)
        for term, factor in self.driven_terms:
            scale = _factor(factor, time_fs)
            prediction = _with_term(prediction, system, term, scale)
        if self.spin_torque is not None:
            assert prediction.magnetic_forces is not None
            pull = self.spin_torque.field(system, time_fs)
            prediction = prediction.replace(
                magnetic_forces=prediction.magnetic_forces + pull
            )
        return prediction

    def _with_field(
        self, prediction: Prediction, system: System, time_fs: float
    ) -> Prediction:
        field = self.on_atoms(system, time_fs)
        energies = -(system.spins * field).sum(dim=1)
        assert prediction.magnetic_forces is not None
        # The field acts on atoms that carry a moment.
        has_moment = (system.spins != 0).any(dim=1, keepdim=True)
        return prediction.replace(
            energy=prediction.energy + system.sum(energies),
            energies=prediction.energies + energies,
            magnetic_forces=prediction.magnetic_forces + field * has_moment,
        )


def _with_term(
    prediction: Prediction, system: System, term: Potential, factor: float
) -> Prediction:
    """Return a prediction with ``factor`` times a term of the energy."""
    names = ("energy", "energies", "forces", "magnetic_forces", "virial")
    known = [name for name in names if getattr(prediction, name) is not None]
    found = term.evaluate(
        system,
        forces="forces" in known,
        magnetic_forces="magnetic_forces" in known,
        virial="virial" in known,
    )
    changes = {
        name: getattr(prediction, name) + factor * getattr(found, name)
        for name in known
    }
    return prediction.replace(**changes)


def _factor(function: Callable[[float], Any], time_fs: float) -> float:
    """Return the factor of a driven term at a time."""
    value = value_at(function, time_fs)
    if value.size != 1 or not np.isfinite(value).all():
        raise ValueError(
            "the function of a driven term must return one finite number, got "
            f"{value.tolist()} at {time_fs:g} fs"
        )
    return float(value.item())


def _checked(terms: DrivenTerms) -> list[tuple[Potential, Callable[[float], Any]]]:
    """Return driven terms with waveforms made of their plain data."""
    found = []
    for pair in terms:
        term, function = pair if len(pair) == 2 else (None, None)
        function = as_waveform(function)
        if not isinstance(term, Potential) or not callable(function):
            raise TypeError(
                "driven_terms are pairs (Potential, function of the time in fs), got "
                f"{pair!r}"
            )
        _factor(function, 0.0)
        found.append((term, function))
    return found
