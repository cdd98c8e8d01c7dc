"""A heat bath of the spins: the stochastic LLG equation."""

from __future__ import annotations

import numpy as np
from ase import units
from torch import Tensor

from ...system import System
from ..drivers._driver import SpinLatticeDynamics
from ..integrators._precession import Precession
from ..integrators._rotations import with_lengths
from ..integrators._schemes import SchemeState


class SpinBath:
    """The stochastic LLG equation at given dampings and temperatures.

    Parameters
    ----------
    driver : SpinLatticeDynamics
    damping : (B,) array
        alpha.
    temperature_K : (B,) array
    g_factor : float
    scheme : SchemeState
    """

    def __init__(
        self,
        driver: SpinLatticeDynamics,
        *,
        damping: np.ndarray,
        temperature_K: np.ndarray,
        g_factor: float,
        scheme: SchemeState,
    ) -> None:
        self.driver = driver
        self.precession = Precession(
            damping=driver.per_atom(damping) if damping.any() else 0.0,
            g_factor=g_factor,
        )
        self.kT = driver.per_atom(units.kB * temperature_K)
        self.scheme = scheme
        driver.warn_of_random_turns(self._random_turn())

    def _amplitude(self, dt: float) -> Tensor | None:
        """Return the standard deviation of the random field (N, 1); None undamped."""
        if isinstance(self.precession.damping, float):
            return None
        return self.precession.noise_amplitude(self.driver.lengths, self.kT, dt)

    def _random_turn(self) -> float:
        """Return the largest root-mean-square random turn of a step, rad."""
        dt = abs(self.driver.dt)
        amplitude = self._amplitude(dt)
        if amplitude is None:
            return 0.0
        slowed = (1.0 + self.precession.damping**2) ** -0.5
        return float((self.precession.gamma * slowed * dt * 2**0.5 * amplitude).max())

    def turn(self, system: System, dt: float, start: Tensor | None = None) -> Tensor:
        """Return the spins (N, 3) after ``dt`` at the lattice of ``system``.

        ``start`` is the field at the spins of ``system``, if it is known.
        """
        driver, free = self.driver, self.driver.constraints.free_spins
        amplitude = self._amplitude(dt)
        noise = 0.0 if amplitude is None else amplitude * driver.normal()

        def evaluate(spins: Tensor) -> tuple[Tensor, None]:
            found = driver.evaluate(
                system.replace(spins=spins), forces=False, fraction=0.5
            )
            assert found.magnetic_forces is not None
            return found.magnetic_forces, None

        def rate(spins: Tensor, field: Tensor) -> Tensor:
            driver.warn_of_large_turns(self.precession.rate(spins, field) * free)
            return self.precession.rate(spins, field + noise) * free

        spins, _ = self.scheme.step(system.spins, evaluate, rate, dt, start)
        return with_lengths(spins, driver.lengths)
