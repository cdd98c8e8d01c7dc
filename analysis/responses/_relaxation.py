"""Exchange of heat between spins and lattice: relaxation time and coupling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta
from scipy.optimize import least_squares

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import non_negative, positive, whole
from ...dynamics import SpinLatticeDynamics, SpinLatticeLangevin, SpinLatticeNVE
from ...dynamics.integrators import Midpoint
from .._model import Model
from .._statistics import Estimate
from ._model import with_calculator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Damping and friction (1/fs) of the baths that bring both to their temperatures.
_DAMPING, _FRICTION = 0.2, 0.02


@dataclass(frozen=True, eq=False)
class SpinLatticeRelaxation(Result):
    """Temperatures of spins and lattice on their way to a common one.

    Attributes
    ----------
    times_fs : (K,) array
    spin_K, spin_error_K, lattice_K, lattice_error_K : (K,) arrays
        Of averages over the replicas, with standard errors.
    energy_eV : (K,) array
        Change of the total energy of a replica since the start: of its drift, or to
        the bath.
    degrees_of_freedom : float
        Of the lattice of a replica.
    tau_fs : Estimate
        Of exp(-t/tau) in the difference of the temperatures.
    difference_K : Estimate
        That it starts from.
    spin_share : Estimate
        C_s/(C_s + C_l), heat capacity of the spins in that of both: the lattice warms
        by this part of the difference.
    final_K : Estimate
        The temperature that both come to.
    """

    times_fs: np.ndarray
    spin_K: np.ndarray
    spin_error_K: np.ndarray
    lattice_K: np.ndarray
    lattice_error_K: np.ndarray
    energy_eV: np.ndarray
    degrees_of_freedom: float
    tau_fs: Estimate
    difference_K: Estimate
    spin_share: Estimate
    final_K: Estimate

    @property
    def heat_eV(self) -> np.ndarray:
        """Heat that the lattice of a replica has taken up, (K,), with C_l = k f."""
        gained = self.lattice_K - self.lattice_K[0]
        return np.asarray(units.kB * self.degrees_of_freedom * gained)

    @property
    def coupling_eV_per_K_ps(self) -> float:
        """G of the heat flow G (T_s - T_l) in a replica, with C_l = k f."""
        capacity = units.kB * self.degrees_of_freedom
        return 1e3 * capacity * self.spin_share.value / self.tau_fs.value


def spin_lattice_relaxation(
    atoms: Atoms,
    lattice_K: float,
    spin_K: float,
    *,
    steps: int = 2000,
    equilibration: int = 1000,
    timestep_fs: float = 1.0,
    interval: int = 10,
    replicas: int = 16,
    damping: float = 0.0,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> SpinLatticeRelaxation:
    """Return the time in which spins and lattice of two temperatures come to one.

    Heat baths hold replicas of the structure at both temperatures; then the baths go,
    and atoms and spins exchange heat at constant energy,

        C_s dT_s/dt = -C_l dT_l/dt = -G (T_s - T_l)

    (E. Beaurepaire et al., Phys. Rev. Lett. 76, 4250 (1996),
    doi:10.1103/PhysRevLett.76.4250), of which T_s - T_l decays as exp(-t/tau), 1/tau =
    G (1/C_s + 1/C_l). Only that exchange counts which the model has: through exchange
    that depends on distances, anisotropies of the surroundings, dipoles. ``damping``
    adds what it lacks. One time describes an exchange that is slow against vibrations
    and spin waves; the plot shows whether it does. Errors are those of a jackknife over
    the replicas.

    Parameters
    ----------
    atoms : Atoms
        The whole structure, with moments, in order.
    lattice_K, spin_K : float
        At the start.
    steps, equilibration : int
        Steps without baths, of several relaxation times, and with them before.
    timestep_fs : float
    interval : int
        Steps between temperatures.
    replicas : int
        At least two, in one batch.
    damping : float
        Gilbert damping in the relaxation; heat of the spins then goes to a bath at
        ``lattice_K``, too.
    model : Potential, Calculator, path or str, optional
        By default the calculator of ``atoms``.
    seed : int
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If there is no model, moments are missing, the temperatures are equal, numbers
        are not as described, or no decay is found within the run.
    """
    positive("lattice_K", lattice_K)
    if positive("spin_K", spin_K) == lattice_K:
        raise ValueError(
            f"spins and lattice both start at {spin_K:g} K: there is nothing to relax"
        )
    non_negative("damping", damping)
    whole("replicas", replicas, 2)
    whole("steps", steps, 20 * whole("interval", interval, 1))
    image = with_calculator(atoms, model)
    rng = np.random.default_rng(seed)
    images = [image.copy() for _ in range(replicas)]
    for copy in images:
        copy.calc = image.calc
        thermalize_momenta(copy, temperature_K=lattice_K, rng=rng)
    dt = timestep_fs * units.fs
    SpinLatticeLangevin(
        images,
        dt,
        temperature_K=lattice_K,
        spin_temperature_K=spin_K,
        friction=_FRICTION / units.fs,
        damping=_DAMPING,
        rng=rng,
        progress=False,
    ).run(equilibration)
    driver: SpinLatticeDynamics
    if damping > 0.0:
        driver = SpinLatticeLangevin(
            images,
            dt,
            temperature_K=lattice_K,
            friction=0.0,
            damping=damping,
            rng=rng,
            progress=progress,
        )
    else:
        scheme = Midpoint(tolerance=1e-7)
        driver = SpinLatticeNVE(images, dt, spin_integrator=scheme, progress=progress)
    measured: list[np.ndarray] = []

    def measure() -> None:
        above, below = driver.rotational_sums()
        lattice = driver.lattice_temperature()
        half = 0.5 * units.kB * driver.degrees_of_freedom
        energy = driver.prediction.energy + half * lattice
        found = [x.cpu().numpy() for x in (above, below, lattice, energy)]
        measured.append(np.stack(found, axis=-1))

    driver.attach(measure, interval)
    driver.run(steps)
    return _relaxation(
        np.stack(measured, axis=1),
        interval * timestep_fs,
        float(driver.degrees_of_freedom.mean()),
    )


@plots(SpinLatticeRelaxation)
def plot_spin_lattice_relaxation(
    result: SpinLatticeRelaxation, ax: Axes | None = None
) -> Axes:
    """Draw both temperatures and their fits against the time."""
    ax = figure_axes(ax)
    final, share = result.final_K.value, result.spin_share.value
    decay = result.difference_K.value * np.exp(-result.times_fs / result.tau_fs.value)
    for name, values, errors, part in (
        ("spins", result.spin_K, result.spin_error_K, 1.0 - share),
        ("lattice", result.lattice_K, result.lattice_error_K, -share),
    ):
        (line,) = ax.plot(result.times_fs, values, ".", ms=3, label=name)
        color = line.get_color()
        ax.fill_between(
            result.times_fs, values - errors, values + errors, color=color, alpha=0.2
        )
        ax.plot(result.times_fs, final + part * decay, color=color)
    ax.set(xlabel="time (fs)", ylabel="temperature (K)")
    ax.legend(title=f"{result.tau_fs.value:.3g} ± {result.tau_fs.error:.1g} fs")
    return ax


def _relaxation(
    series: np.ndarray, interval_fs: float, degrees_of_freedom: float
) -> SpinLatticeRelaxation:
    """Fit sums, lattice temperatures and energies (R, K, 4) of replicas."""
    count = len(series)
    times = interval_fs * np.arange(series.shape[1])

    def temperatures(mean: np.ndarray) -> np.ndarray:
        return np.stack([mean[..., 0] / mean[..., 1] / units.kB, mean[..., 2]])

    mean = series.mean(axis=0)
    both = temperatures(mean)
    left_out = temperatures((count * mean - series) / (count - 1))  # (2, R, K)
    errors = _jackknife(left_out, axis=1)
    weights = np.maximum(np.hypot(*errors), 1e-9)
    apart = both[0] - both[1]
    fallen = np.flatnonzero(abs(apart) < abs(apart[0]) / np.e)
    guess = np.array([times[fallen[0]] if len(fallen) else times[-1], apart[0]])
    decay = _decay(times, apart, weights, np.maximum(guess, [times[1], -np.inf]))
    if not times[1] / 3.0 < decay[0] < 2.0 * times[-1]:
        raise ValueError(
            f"the difference of the temperatures, {apart[0]:.0f} K at the start and "
            f"{apart[-1]:.0f} K after {times[-1]:g} fs, does not decay within the run: "
            "take more steps, or more replicas"
        )
    found = _fit(times, both, weights, decay)
    each = np.array([_fit(times, left_out[:, r], weights, decay) for r in range(count)])
    scatter = _jackknife(each, axis=0)
    tau, difference, share, final = (
        Estimate(float(value), float(error))
        for value, error in zip(found, scatter, strict=True)
    )
    return SpinLatticeRelaxation(
        times,
        both[0],
        errors[0],
        both[1],
        errors[1],
        mean[:, 3] - mean[0, 3],
        degrees_of_freedom,
        tau,
        difference,
        share,
        final,
    )


def _decay(
    times: np.ndarray, apart: np.ndarray, errors: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return tau and the initial value of an exponential decay (K,)."""

    def off(x: np.ndarray) -> np.ndarray:
        return np.asarray((x[1] * np.exp(-times / x[0]) - apart) / errors)

    bounds = ([1e-3 * times[1], -np.inf], [1e3 * times[-1], np.inf])
    return np.asarray(least_squares(off, start, bounds=bounds, x_scale=abs(start)).x)


def _fit(
    times: np.ndarray, both: np.ndarray, errors: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Return tau, difference, share and final temperature of both (2, K)."""
    tau, difference = _decay(times, both[0] - both[1], errors, start)
    # T_l = T_final - share (T_s - T_l), of the fit: without its noise on both sides.
    slope, final = np.polyfit(difference * np.exp(-times / tau), both[1], 1)
    return np.array([tau, difference, -slope, final])


def _jackknife(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the standard errors of what each replica was left out of."""
    count = values.shape[axis]
    return np.asarray(np.sqrt(count - 1) * values.std(axis=axis))
