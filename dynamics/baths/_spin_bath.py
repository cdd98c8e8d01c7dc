"""Heat bath of the spins: the stochastic LLG equation."""

from __future__ import annotations

import warnings

import numpy as np
from ase import units
from torch import Tensor

from ...system import System
from .._state import Context
from ..integrators._precession import Precession
from ..integrators._rotations import with_lengths
from ..integrators._schemes import SchemeState

#: Random rotation in one step, rad (rms), beyond which averages are inaccurate.
MAX_RANDOM_ROTATION = 0.7


class SpinBath:
    """The stochastic LLG equation at given dampings and temperatures.

    Parameters
    ----------
    context : Context
    damping : (B,) array
        alpha.
    temperature_K : (B,) array
    g_factor : float
    scheme : SchemeState
    """

    def __init__(
        self,
        context: Context,
        *,
        damping: np.ndarray,
        temperature_K: np.ndarray,
        g_factor: float,
        scheme: SchemeState,
    ) -> None:
        self._context = context
        self._precession = Precession(
            damping=context.per_atom(damping) if damping.any() else 0.0,
            g_factor=g_factor,
        )
        self._kT = context.per_atom(units.kB * temperature_K)
        self._scheme = scheme
        self._warn_of_large_random_rotations()

    def _amplitude(self, kT: Tensor) -> Tensor | None:
        """Return the standard deviation of the random field (N, 1); None undamped."""
        if isinstance(self._precession.damping, float):
            return None
        context = self._context
        return self._precession.noise_amplitude(context.lengths, kT, abs(context.dt))

    def _warn_of_large_random_rotations(self) -> None:
        """Warn of random rotations that are too large for averages, rms in a step."""
        amplitude = self._amplitude(self._kT)
        if amplitude is None:
            return
        dt, precession = abs(self._context.dt), self._precession
        slowed = (1.0 + precession.damping**2) ** -0.5
        angle = float((precession.gamma * slowed * dt * 2**0.5 * amplitude).max())
        if angle > MAX_RANDOM_ROTATION:
            longest = dt / units.fs * (MAX_RANDOM_ROTATION / angle) ** 2
            warnings.warn(
                f"the heat bath rotates a spin by {angle:.2f} rad (rms) in one step; "
                f"more than {MAX_RANDOM_ROTATION} rad shifts averages by percents: use "
                f"a time step of at most {longest:.2g} fs, or less damping",
                stacklevel=2,
            )

    def advance(
        self, system: System, start: Tensor | None = None, kT: Tensor | None = None
    ) -> Tensor:
        """Return the spins (N, 3) after a time step at the lattice of ``system``.

        Parameters
        ----------
        system : System
        start : (N, 3) tensor, eV/mu_B, optional
            The field at the spins of ``system``, if it is known.
        kT : (N, 1) tensor, eV, optional
            By default that of the bath's temperature.
        """
        context, free = self._context, self._context.constraints.free_spins
        amplitude = self._amplitude(self._kT if kT is None else kT)
        noise = 0.0 if amplitude is None else amplitude * context.normal()

        def evaluate(spins: Tensor) -> tuple[Tensor, None]:
            found = context.evaluate(
                system.replace(spins=spins), forces=False, fraction=0.5
            )
            assert found.magnetic_forces is not None
            return found.magnetic_forces, None

        def rate(spins: Tensor, field: Tensor) -> Tensor:
            context.check_rotation(self._precession.rate(spins, field) * free)
            return self._precession.rate(spins, field + noise) * free

        spins, _ = self._scheme.step(system.spins, evaluate, rate, context.dt, start)
        return with_lengths(spins, context.lengths)
