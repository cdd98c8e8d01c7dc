"""Thermal conductivity of lattice and spins by Green and Kubo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ase import Atoms, units
from ase.md.velocitydistribution import thermalize_momenta

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import positive, whole
from ...calculators import DeepSpinCalculator
from ...dynamics import (
    SpinDynamics,
    SpinLatticeDynamics,
    SpinLatticeLangevin,
    SpinLatticeNVE,
)
from ...dynamics.integrators import Midpoint
from ...dynamics.integrators._precession import Precession
from ...neighbors import NeighborList
from .._model import Model
from ._heat_current import heat_current
from ._model import with_calculator

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: W/(m K) in eV/(A K) per ASE time.
_W_PER_M_K = units.J / (units.s * units.m)

#: Correlations are summed up to so many correlation times, as for
#: :func:`deepspin_ase.analysis._statistics.autocorrelation_time`.
_WINDOW = 5.0


@dataclass(frozen=True, eq=False)
class ThermalConductivity(Result):
    """Conductivity and correlations of the heat current.

    Attributes
    ----------
    temperature_K : float
    volume : float, A^3
    times_fs : (K,) array
    correlations : (R, K, 3) array, eV^2 A^2 per ASE time^2
        <J_a(0) J_a(t)> of R replicas.
    integrals : (K, 3) array, W/(m K)
        Their mean, integrated up to each time.
    window : (3,) integer array
        Times up to which the conductivities are integrated.
    conductivity, error : (3,) arrays, W/(m K)
        Along x, y and z, with standard errors from the scatter of the replicas.
    """

    temperature_K: float
    volume: float
    times_fs: np.ndarray
    correlations: np.ndarray
    integrals: np.ndarray
    window: np.ndarray
    conductivity: np.ndarray
    error: np.ndarray


def thermal_conductivity(
    atoms: Atoms,
    temperature_K: float,
    *,
    steps: int = 20000,
    equilibration: int = 2000,
    timestep_fs: float = 1.0,
    interval: int = 5,
    replicas: int = 8,
    correlation_fs: float | None = None,
    lattice: bool = True,
    model: Model | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> ThermalConductivity:
    """Return the thermal conductivity of a classical crystal with its moments.

    kappa_aa = 1/(V k T^2) int_0^inf <J_a(0) J_a(t)> dt (R. Kubo, J. Phys. Soc. Jpn. 12,
    570 (1957), doi:10.1143/JPSJ.12.570) with the current of :func:`heat_current`, to
    which lattice and moments both contribute. Replicas are brought to the temperature
    with heat baths and then run without; the mean of their currents is taken away.

    Parameters
    ----------
    atoms : Atoms
        The whole periodic structure, with moments.
    temperature_K : float
    steps, equilibration : int
        Steps of each replica without baths, and with them before.
    timestep_fs : float
    interval : int
        Steps between currents.
    replicas : int
        At least two, in one batch.
    correlation_fs : float, optional
        Time up to which correlations are integrated; by default five correlation
        times of each component, found from their sum (as in A. Sokal's windowing).
    lattice : bool
        Without, atoms stand still and the conductivity is that of the spins.
    model : Potential, Calculator, path or str, optional
        By default the calculator of ``atoms``; a potential that ``is_local``.
    seed : int
    progress : bool, optional
        Progress bar; by default on a terminal.

    Raises
    ------
    ValueError
        If there is no model or it is not local, the cell has no volume, moments are
        missing, or numbers are not as described.
    """
    positive("temperature_K", temperature_K)
    whole("replicas", replicas, 2)
    whole("steps", steps, 100 * whole("interval", interval, 1))
    image = with_calculator(atoms, model)
    if image.cell.rank < 3:
        raise ValueError("a conductivity needs a volume: give the structure a cell")
    calculator = image.calc
    assert isinstance(calculator, DeepSpinCalculator)
    images = [image.copy() for _ in range(replicas)]
    rng = np.random.default_rng(seed)
    for copy in images:
        copy.calc = calculator
        if lattice:
            thermalize_momenta(copy, temperature_K=temperature_K, rng=rng)
    dt = timestep_fs * units.fs
    bath: SpinLatticeDynamics
    driver: SpinLatticeDynamics
    baths: dict[str, Any] = {
        "temperature_K": temperature_K,
        "damping": 0.1,
        "rng": rng,
        "progress": False,
    }
    free: dict[str, Any] = {
        "spin_integrator": Midpoint(tolerance=1e-7),
        "progress": progress,
    }
    if lattice:
        bath = SpinLatticeLangevin(images, dt, friction=0.02 / units.fs, **baths)
    else:
        bath = SpinDynamics(images, dt, **baths)
    bath.run(equilibration)
    driver = (SpinLatticeNVE if lattice else SpinDynamics)(images, dt, **free)
    potential = calculator.potential
    cutoff = potential.pair_cutoff(driver.state.system)
    neighbors = NeighborList()
    precession = Precession()
    currents: list[np.ndarray] = []

    def measure() -> None:
        system, momenta = driver.state.system, driver.state.momenta
        found = driver.prediction.magnetic_forces
        assert found is not None
        rates = torch.linalg.cross(precession.rate(system.spins, found), system.spins)
        current = heat_current(
            potential,
            system,
            momenta / driver.mass if lattice else torch.zeros_like(momenta),
            driver.mass,
            rates * driver.constraints.free_spins,
            pairs=neighbors.update(system, cutoff),
        )
        currents.append(current.cpu().numpy())

    driver.attach(measure, interval)
    driver.run(steps)
    series = np.stack(currents, axis=1)
    return _integrated(
        series,
        temperature_K,
        image.get_volume(),
        interval * timestep_fs,
        correlation_fs,
    )


@plots(ThermalConductivity)
def plot_thermal_conductivity(
    result: ThermalConductivity, ax: Axes | None = None
) -> Axes:
    """Draw the integrals along x, y and z against the time they are taken up to."""
    ax = figure_axes(ax)
    for k, label in enumerate("xyz"):
        (line,) = ax.plot(result.times_fs, result.integrals[:, k], label=label)
        ax.axvline(result.times_fs[result.window[k]], color=line.get_color(), ls=":")
    ax.set(xlabel="time (fs)", ylabel="conductivity (W/(m K))")
    ax.set_xlim(0.0, 4.0 * float(result.times_fs[result.window].max()))
    ax.legend()
    return ax


def _integrated(
    series: np.ndarray,
    temperature: float,
    volume: float,
    interval_fs: float,
    correlation_fs: float | None,
) -> ThermalConductivity:
    """Correlate and integrate currents (R, F, 3)."""
    count = series.shape[1]
    away = series - series.mean(axis=(0, 1))
    padded = 1 << (2 * count - 1).bit_length()
    power = np.abs(np.fft.rfft(away, padded, axis=1)) ** 2
    kept = count // 2
    correlations = np.fft.irfft(power, axis=1)[:, :kept]
    correlations /= np.arange(count, count - kept, -1)[:, None]
    dt = interval_fs * units.fs
    scale = dt / (volume * units.kB * temperature**2) / _W_PER_M_K
    # The trapezoidal rule: half of the first and of the last value.
    sums = np.cumsum(correlations, axis=1) - 0.5 * (correlations[:, :1] + correlations)
    integrals = scale * sums
    mean = integrals.mean(axis=0)
    if correlation_fs is None:
        first = scale * np.maximum(correlations.mean(axis=0)[0], 1e-300)
        times = np.arange(kept)[:, None]
        window = np.argmax(times >= _WINDOW * np.maximum(mean / first, 0.5), axis=0)
        window = np.where(window == 0, kept - 1, window)
    else:
        last = round(positive("correlation_fs", correlation_fs) / interval_fs)
        if not 0 < last < kept:
            raise ValueError(
                f"correlation_fs must lie between {interval_fs:g} and "
                f"{interval_fs * (kept - 1):g}, half of the run, got {correlation_fs}"
            )
        window = np.full(3, last)
    each = integrals[:, window, np.arange(3)]
    return ThermalConductivity(
        temperature,
        volume,
        interval_fs * np.arange(kept),
        correlations,
        mean,
        window,
        each.mean(axis=0),
        each.std(axis=0, ddof=1) / np.sqrt(len(each)),
    )
