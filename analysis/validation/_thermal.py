"""Properties at temperatures: order, transition, thermal expansion, lengths."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.velocitydistribution import thermalize_momenta
from ase.neighborlist import neighbor_list

from ..._figures import figure_axes
from ...calculators import DeepSpinCalculator
from ...dynamics import (
    LongitudinalSpinLangevin,
    MonteCarlo,
    SpinLatticeLangevin,
    SpinLatticeNPT,
)
from ...spins import get_spins
from ...system import System
from ...units import G_FACTOR, HBAR
from .._statistics import mean_with_error
from ..exchange import exchange_tensors
from ..transitions import SamplingTask, ThermalSamples, model_data, run_sampling
from ..transitions._domains import domains
from ..transitions._size_averages import size_averages
from ..transitions._transition import CRITICAL, find_transition
from ._figures import STYLES, numbers
from ._lattice import lengths, scaled
from ._materials import Material, Size
from ._property import Findings, Known, Subject, Value, drawn, measured

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Transition over that of a mean field, roughly, for three-dimensional magnets.
_BELOW_MEAN_FIELD = 0.72

#: Rotation of a moment in its field in a time step, rad, and longest step, fs.
_ROTATION, _LONGEST_FS = 0.2, 1.5

#: Halves of a run that differ by more of their errors are not in equilibrium.
_DRIFT = 4.0

#: Gilbert damping in runs whose averages alone count.
_DAMPING = 1.0


def _mean_field_K(subject: Subject) -> float:
    """Return the transition temperature of a mean field, J_0 / 3k, K."""
    field = 1e-3 * subject.findings("exchange").values["field"].value
    if not field > 0.0:
        raise ValueError(
            f"the exchange field of the order is {1e3 * field:.1f} meV: it is no "
            "ground state, and has no temperature of transition"
        )
    return float(field / (3.0 * units.kB))


def _arms(material: Material) -> np.ndarray:
    """Return the wave vectors of the order and of its domains, (Q, 3).

    Of the crystal as it is built: strains of the order make domains unlike.
    """
    return domains(material.thermal(material.build()), None, material.sizes)


def _timestep_fs(subject: Subject, crystal: Atoms) -> float:
    """Return a time step that follows moments in the exchange field."""
    field = 1e-3 * abs(subject.findings("exchange").values["field"].value)
    moment = min(lengths(crystal).values())
    rate = G_FACTOR * field / (HBAR * moment)
    return float(min(_LONGEST_FS, _ROTATION / rate / units.fs))


def _sampled(subject: Subject, cell: Atoms, *, moving: bool) -> dict[str, Any]:
    """Return what runs at temperatures are made of: structure, method, options."""
    trial = subject.given(cell.copy())
    driver = MonteCarlo(trial, temperature_K=300.0, rng=0)
    if not moving and driver.allows_overrelaxation:
        return {"atoms": trial, "method": "monte-carlo", "options": {}}
    if not moving:
        trial.set_constraint(FixAtoms([*range(len(trial))]))
    options = {
        "timestep_fs": _timestep_fs(subject, cell),
        "damping": _DAMPING,
        "friction": 0.02 / units.fs,
    }
    return {"atoms": trial, "method": "langevin", "options": options}


def _order(
    subject: Subject,
    run: Mapping[str, Any],
    name: str,
    temperatures: np.ndarray,
    size: Size,
    *,
    steps: int,
    equilibration: int,
    interval: int,
    seed: int,
) -> ThermalSamples:
    """Return samples of the order by temperature.

    ``run`` is that of :func:`_sampled`; its structure is repeated ``size`` times.
    """
    cell = run["atoms"]
    task = SamplingTask(
        model_data(cell.calc),
        cell.repeat(size),
        tuple(temperatures.tolist()),
        tuple(map(tuple, _arms(subject.material).tolist())),
        cell.cell.array,
        steps,
        equilibration,
        interval,
        run["method"],
        run["options"],
        seed,
        str(subject.scratch / name),
    )
    return run_sampling(task, progress=False)


def _crossing(
    subject: Subject,
    run: Mapping[str, Any],
    name: str,
    temperatures: np.ndarray,
    *,
    sizes: Sequence[Size],
    steps: int,
    equilibration: int,
    seed: int,
) -> tuple[Value, dict[str, Any], list[str]]:
    """Return the transition, cumulants by size, and notes.

    Where cumulants do not cross, the transition is where the order of the larger size
    is that of a critical point.
    """
    q = _arms(subject.material)
    averages = []
    for k, size in enumerate(sizes):
        sampled = _order(
            subject,
            run,
            f"{name} {k}",
            temperatures,
            size,
            steps=steps,
            equilibration=equilibration,
            interval=4,
            seed=seed + k,
        )
        averages.append(size_averages(size, [sampled]))
    notes = []
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "size .* is not in equilibrium")
            value, error_K = find_transition(averages, temperatures, q).temperature_K
    except ValueError as error:
        n = averages[-1].n_magnetic / len(q)
        full = float(np.mean([*lengths(run["atoms"]).values()]))
        order = averages[-1].order[:, 0] / full
        value = _falls_below(temperatures, order, n**-CRITICAL)
        error_K = 0.5 * float(temperatures[1] - temperatures[0])
        reason = str(error).partition(";")[0]
        notes.append(f"{name}: by the size of the order, since {reason}.")
    drift = max(float(entry.drift.max()) for entry in averages)
    if drift > _DRIFT:
        notes.append(
            f"{name}: not in equilibrium, halves of a run differ by {drift:.0f} errors."
        )
    curves = {
        "temperatures": temperatures,
        "binder": {str(entry.n_magnetic): entry.binder for entry in averages},
    }
    return Value(f"transition, {name}", value, "K", error_K), curves, notes


# --- order against temperature -----------------------------------------------------


@measured("magnetization", "Order against temperature")
def magnetization(
    subject: Subject,
    *,
    points: int = 7,
    steps: int = 1000,
    equilibration: int = 300,
    seed: int = 1,
) -> Findings:
    """Ordered moment against temperature, at fixed lattice and with moving atoms.

    At the volume of the relaxed crystal, in the larger of the material's two sizes.
    """
    material = subject.material
    cell = material.thermal(subject.crystal())
    guess = _BELOW_MEAN_FIELD * _mean_field_K(subject)
    temperatures = guess * np.linspace(0.2, 1.5, points)
    q = _arms(material)
    full = float(np.mean([*lengths(cell).values()]))
    values, curves, notes = {}, {"temperatures": temperatures, "full": full}, []
    size = material.sizes[1]
    count = int(np.any(get_spins(cell), axis=1).sum()) * int(np.prod(size))
    n = count / len(q)
    for name, moving in (("fixed lattice", False), ("moving atoms", True)):
        order = _order(
            subject,
            _sampled(subject, cell, moving=moving),
            name,
            temperatures,
            size,
            steps=steps,
            equilibration=equilibration,
            interval=5,
            seed=seed,
        ).order
        curve = np.array([mean_with_error(own / full) for own in order])
        center = _falls_below(temperatures, curve[:, 0], n**-CRITICAL)
        label = f"transition by the size of the order, {name}"
        spacing = float(temperatures[1] - temperatures[0])
        values[name] = Value(label, center, "K", 0.5 * spacing)
        curves[name] = curve
    notes.append(
        f"{count} moments of constant length, classical statistics. At its transition "
        f"an order of N moments is about N^-{CRITICAL:g} (N = {n:g} for each domain of "
        "the order); the error is half the spacing of temperatures."
    )
    return Findings(values, curves, notes)


def _falls_below(x: np.ndarray, y: np.ndarray, level: float) -> float:
    """Return where a falling curve passes a level for the last time."""
    above = np.flatnonzero(y > level)
    if not len(above) or above[-1] + 1 == len(x):
        return float(x[-1] if len(above) else x[0])
    k = above[-1]
    return float(x[k] + (y[k] - level) / (y[k] - y[k + 1]) * (x[k + 1] - x[k]))


@drawn("magnetization")
def draw_magnetization(findings: Findings, known: Known) -> Axes:
    """Draw the order over that of the ground state, with errors."""
    ax = figure_axes(figsize=(4.8, 3.4))
    curves = findings.curves
    for name, marker in (("fixed lattice", "o"), ("moving atoms", "s")):
        value, error = numbers(curves[name]).T
        ax.errorbar(
            curves["temperatures"],
            value,
            error,
            fmt=f"{marker}-",
            ms=4,
            lw=1,
            capsize=2,
            label=name,
        )
    for reference in known.get("transition", ()):
        color = STYLES[reference.kind][1]
        label = f"transition, {reference.kind}"
        ax.axvline(reference.value, color=color, ls="--", lw=1, label=label)
    ax.set(xlabel="temperature (K)", ylabel="order / order at 0 K", ylim=(0, 1.05))
    ax.legend(frameon=False, fontsize="small")
    return ax


# --- transition --------------------------------------------------------------------


@measured("transition", "Transition temperature")
def transition(
    subject: Subject,
    *,
    points: int = 5,
    width: float = 0.2,
    steps: int = 1200,
    equilibration: int = 400,
    seed: int = 2,
) -> Findings:
    """Crossing of Binder cumulants: fixed lattice, moving atoms, constant pressure.

    Temperatures lie within ``width``, relative, of what the order of few moments says.
    Constant pressure: moving atoms at the volume of thermal expansion.
    """
    crystal, material = subject.crystal(), subject.material
    rough = subject.findings("magnetization").values
    growth = subject.findings("expansion").curves
    values, curves, notes = {}, {}, []
    for name, moving in (
        ("fixed lattice", False),
        ("moving atoms", True),
        ("constant pressure", True),
    ):
        center = rough["moving atoms" if moving else "fixed lattice"].value
        cell = crystal
        if name == "constant pressure":
            ratio = np.interp(
                center, growth["temperatures"], numbers(growth["lengths"])
            )
            cell = scaled(crystal, float(ratio))
        run = _sampled(subject, material.thermal(cell), moving=moving)
        longer = 4 if run["method"] == "monte-carlo" else 1
        values[name], curves[name], own = _crossing(
            subject,
            run,
            name,
            center * np.linspace(1.0 - width, 1.0 + width, points),
            sizes=material.sizes,
            steps=longer * steps,
            equilibration=longer * equilibration,
            seed=seed,
        )
        notes += own
    notes.append("Classical moments of constant length.")
    return Findings(values, curves, notes)


@measured("exchange-transition", "Transition of the exchange alone")
def exchange_transition(
    subject: Subject,
    *,
    points: int = 9,
    width: float = 0.2,
    steps: int = 3000,
    equilibration: int = 800,
    seed: int = 5,
) -> Findings:
    """Transition of the bilinear Hamiltonian of the model's exchange, by Monte Carlo.

    The exchange about the ground state, of all pairs, with moments of the same length,
    at the volume of the relaxed crystal: it differs from the transition at fixed
    lattice by what energies of moments hold beyond two of them. Once by the order in
    the larger of the material's two sizes, as in :func:`magnetization`, and once by
    Binder cumulants of sizes twice as long, within ``width``, relative.
    """
    crystal, material = subject.crystal(), subject.material
    tensors = exchange_tensors(crystal, repeat=material.exchange_repeat)
    cell = material.thermal(crystal)
    cell.calc = DeepSpinCalculator(tensors.potential())
    run = {"atoms": cell, "method": "monte-carlo", "options": {}}
    sampling = {"steps": steps, "equilibration": equilibration}
    mean_field = _mean_field_K(subject)
    temperatures = mean_field * np.arange(0.1, 1.25, 0.1)
    size = material.sizes[1]
    sampled = _order(
        subject, run, "small", temperatures, size, interval=5, seed=seed, **sampling
    )
    full = float(np.mean([*lengths(cell).values()]))
    order = np.array([mean_with_error(own / full).value for own in sampled.order])
    n = sampled.n_magnetic / len(_arms(material))
    center = _falls_below(temperatures, order, n**-CRITICAL)
    name = "exchange alone"
    value, curves, notes = _crossing(
        subject,
        run,
        name,
        center * np.linspace(1.0 - width, 1.0 + width, points),
        sizes=[(2 * a, 2 * b, 2 * c) for a, b, c in material.sizes],
        seed=seed + 1,
        **sampling,
    )
    label = f"by the size of the order of {sampled.n_magnetic} moments"
    spacing = float(temperatures[1] - temperatures[0])
    values = {
        name: value,
        "small": Value(label, center, "K", 0.5 * spacing),
        "mean field": Value("of a mean field", mean_field, "K"),
    }
    notes.append("Classical moments of constant length.")
    return Findings(values, {name: curves}, notes)


@drawn("transition")
@drawn("exchange-transition")
def draw_transition(findings: Findings, known: Known) -> Axes:
    """Draw Binder cumulants by size and way of sampling."""
    ax = figure_axes(figsize=(5.4, 3.6))
    for k, (name, curve) in enumerate(findings.curves.items()):
        for style, (count, binder) in zip(
            ("--", "-"), curve["binder"].items(), strict=True
        ):
            value, error = numbers(binder).T
            ax.errorbar(
                curve["temperatures"],
                value,
                error,
                fmt=f"o{style}",
                color=f"C{k}",
                ms=3,
                lw=1,
                capsize=2,
                label=f"{name}, {count} moments",
            )
        center, width = findings.values[name].value, findings.values[name].error or 0.0
        ax.axvspan(center - width, center + width, color=f"C{k}", alpha=0.15, lw=0)
    for reference in known.get("transition", ()):
        color = STYLES[reference.kind][1]
        ax.axvline(reference.value, color=color, ls=":", lw=1.2, label=reference.kind)
    ax.set(xlabel="temperature (K)", ylabel="Binder cumulant")
    ax.legend(
        frameon=False,
        fontsize="x-small",
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=2,
    )
    return ax


# --- thermal expansion ---------------------------------------------------------------


@measured("expansion", "Thermal expansion")
def expansion(
    subject: Subject,
    *,
    steps: int = 1500,
    equilibration: int = 600,
    at_K: float = 300.0,
    seed: int = 3,
) -> Findings:
    """Length against temperature at zero pressure, atoms, cell and spins moving.

    Spin-lattice dynamics of classical atoms, which start from their sites at the
    quasi-harmonic length with twice the kinetic energy of the temperature:
    displacements take half of it.
    """
    material, crystal = subject.material, subject.crystal()
    cell = material.thermal(crystal).repeat(material.sizes[0])
    temperatures = np.array(material.temperatures_K)
    guess = np.clip(subject.findings("phonons").values["expansion"].value, 0.0, 40.0)
    images = [scaled(cell, 1.0 + 1e-6 * guess * t) for t in temperatures]
    rng = np.random.default_rng(seed)
    for image, temperature in zip(images, temperatures, strict=True):
        thermalize_momenta(subject.given(image), 2.0 * temperature, rng=rng)
    dt = _timestep_fs(subject, crystal) * units.fs
    driver = SpinLatticeNPT(
        images,
        dt,
        temperature_K=temperatures.tolist(),
        damping=_DAMPING,
        pressure_GPa=0.0,
        tdamp=50.0 * units.fs,
        pdamp=150.0 * units.fs,
        rng=seed,
        progress=False,
    )
    driver.run(equilibration)
    series = []
    for _ in range(steps // 5):
        driver.run(5)
        series.append(driver.state.system.volume.cpu().numpy() ** (1.0 / 3.0))
    start = cell.get_volume() ** (1.0 / 3.0)
    estimates = [mean_with_error(own / start) for own in np.transpose(series)]
    ratio = np.array([e.value for e in estimates])
    errors = np.array([max(e.error, 1e-6) for e in estimates])
    x = temperatures - at_K
    fit, covariance = np.polyfit(x, ratio, 2, w=1.0 / errors, cov="unscaled")
    value = 1e6 * fit[1] / fit[2]
    values = {
        "expansion": Value(
            f"linear thermal expansion, {at_K:.0f} K",
            float(value),
            "1e-6/K",
            float(1e6 * np.sqrt(covariance[1, 1])),
        )
    }
    curves = {
        "temperatures": np.concatenate([[0.0], temperatures]),
        "lengths": np.concatenate([[1.0], ratio]),
        "errors": np.concatenate([[0.0], errors]),
        "quasi-harmonic": float(guess),
        "at": at_K,
    }
    notes = [
        f"{len(cell)} atoms, {steps * dt / units.fs / 1000:.1f} ps after "
        f"{equilibration * dt / units.fs / 1000:.1f} ps; classical atoms, isotropic "
        "changes of the cell, moments of constant length."
    ]
    return Findings(values, curves, notes)


@drawn("expansion")
def draw_expansion(findings: Findings, known: Known) -> Axes:
    """Draw the length against temperature, with slopes of references."""
    ax = figure_axes(figsize=(4.8, 3.4))
    curves = findings.curves
    t, ratio = numbers(curves["temperatures"]), 100 * (numbers(curves["lengths"]) - 1)
    errors = 100 * numbers(curves["errors"])
    ax.errorbar(t, ratio, errors, fmt="o-", ms=4, lw=1, capsize=2, label="model")
    at = curves["at"]
    middle = np.interp(at, t, ratio)
    near = np.array([max(at - 200.0, 0.0), at + 200.0])
    slopes = [(r.kind, r.value, STYLES[r.kind][1]) for r in known.get("expansion", ())]
    for name, slope, color in slopes:
        line = middle + 1e-4 * slope * (near - at)
        ax.plot(near, line, "--", color=color, lw=1.2, label=f"slope, {name}")
    ax.set(xlabel="temperature (K)", ylabel="change of length (%)")
    ax.legend(frameon=False, fontsize="small")
    return ax


# --- stability ---------------------------------------------------------------------


@measured("stability", "Hot and strained crystals")
def stability(
    subject: Subject,
    *,
    temperature_K: float = 600.0,
    strain: float = 0.03,
    time_fs: float = 500.0,
    seed: int = 6,
) -> Findings:
    """Displacements in runs of crystals whose lengths are changed by +-strain.

    Spin-lattice dynamics at a temperature, at fixed cell and with a cell that is free
    in size and shape at zero pressure. Displacements are from the sites of the crystal
    in the cell of the time, its drift taken off.
    """
    material, crystal = subject.material, subject.crystal()
    cell = material.thermal(crystal).repeat(material.sizes[0])
    strains = (-strain, 0.0, strain)
    images = [subject.given(scaled(cell, 1.0 + x)) for x in strains]
    rng = np.random.default_rng(seed)
    for image in images:
        thermalize_momenta(image, temperature_K, rng=rng)
    dt = _timestep_fs(subject, crystal)
    common: dict[str, Any] = {
        "temperature_K": temperature_K,
        "damping": _DAMPING,
        "rng": seed,
        "progress": False,
    }
    runs = {
        "fixed cell": SpinLatticeLangevin(
            images, dt * units.fs, friction=0.02 / units.fs, **common
        ),
        "free cell": SpinLatticeNPT(
            images,
            dt * units.fs,
            pressure_GPa=0.0,
            cell="flexible",
            tdamp=50.0 * units.fs,
            pdamp=150.0 * units.fs,
            **common,
        ),
    }
    sites = cell.get_scaled_positions(wrap=False)
    near = 0.5 * _nearest_distance(cell)
    every = max(1, round(5.0 / dt))
    values, notes = {}, []
    curves: dict[str, Any] = {}
    for name, driver in runs.items():
        series = []
        for _ in range(max(1, round(time_fs / dt / every))):
            driver.run(every)
            series.append(_displacements(driver.state.system, sites))
        away = np.array(series)  # (F, B, N)
        for k, x in enumerate(strains):
            label = f"largest displacement, {name}, {100 * x:+.0f} %"
            values[f"{name} {100 * x:+.0f} %"] = Value(
                label, float(away[:, k].max()), "Å"
            )
        left = int((away[-1] > near).sum())
        kept = (
            f"{left} atoms left their sites" if left else "all atoms keep their sites"
        )
        notes.append(f"{name}: {kept}.")
        curves[name] = away.max(axis=2).T
    ratios = (driver.state.system.volume.cpu().numpy() / cell.get_volume()) ** (1 / 3)
    text = ", ".join(f"{100.0 * (x - 1.0):+.1f} %" for x in ratios)
    notes.append(f"Lengths of free cells in the end: {text}.")
    curves["times_fs"] = every * dt * np.arange(1, len(away) + 1)
    curves["strains"] = np.array(strains)
    notes.append(
        f"{len(cell)} atoms, {temperature_K:.0f} K, {time_fs:.0f} fs each; classical "
        "atoms, moments of constant length."
    )
    return Findings(values, curves, notes)


def _nearest_distance(atoms: Atoms) -> float:
    """Return the shortest distance between atoms, A."""
    return float(neighbor_list("d", atoms, 4.0).min())


def _displacements(system: System, sites: np.ndarray) -> np.ndarray:
    """Return the distances of atoms from their sites, (B, N), A."""
    cells = system.cell.cpu().numpy()
    positions = system.positions.cpu().numpy().reshape(len(cells), -1, 3)
    away = positions - sites @ cells
    away -= away.mean(axis=1, keepdims=True)
    return np.asarray(np.linalg.norm(away, axis=2))


@drawn("stability")
def draw_stability(findings: Findings, known: Known) -> Axes:
    """Draw the largest displacement of an atom against time."""
    ax = figure_axes(figsize=(4.8, 3.4))
    curves = findings.curves
    for style, name in (("-", "fixed cell"), ("--", "free cell")):
        for k, strain in enumerate(curves["strains"]):
            label = f"{name}, {100 * strain:+.0f} %"
            curve = numbers(curves[name][k])
            ax.plot(curves["times_fs"], curve, f"C{k}{style}", lw=1, label=label)
    ax.set(xlabel="time (fs)", ylabel="largest displacement (Å)", ylim=(0, None))
    ax.legend(frameon=False, fontsize="x-small", ncols=2)
    return ax


# --- lengths at temperatures ---------------------------------------------------------


def _fixed_lengths(material: Material) -> str | None:
    return None if material.free_lengths else "lengths of moments are kept"


@measured(
    "thermal-moments", "Length of the moments at temperatures", missing=_fixed_lengths
)
def thermal_moments(
    subject: Subject,
    *,
    temperatures_K: tuple[float, ...] = (100.0, 300.0, 600.0, 900.0, 1200.0),
    steps: int = 1000,
    equilibration: int = 300,
    seed: int = 4,
) -> Findings:
    """Mean length of moments whose three components move, at fixed lattice."""
    material = subject.material
    cell = material.thermal(subject.crystal()).repeat(material.sizes[0])
    magnetic = np.any(get_spins(cell), axis=1)
    driver = LongitudinalSpinLangevin(
        subject.given(cell),
        0.5 * _timestep_fs(subject, cell) * units.fs,
        temperature_K=[*temperatures_K],
        friction=None,
        gamma_L=0.2 / units.fs,
        rng=seed,
        progress=False,
    )
    driver.run(equilibration)
    series = []
    for _ in range(steps // 5):
        driver.run(5)
        series.append(_mean_lengths(driver, magnetic))
    estimates = [mean_with_error(own) for own in np.transpose(series)]
    values = {
        f"{t:.0f} K": Value(f"mean |m| at {t:.0f} K", e.value, "μB", e.error)
        for t, e in zip(temperatures_K, estimates, strict=True)
    }
    curves = {
        "temperatures": np.array(temperatures_K),
        "lengths": np.array([e.value for e in estimates]),
        "errors": np.array([e.error for e in estimates]),
        "ground": float(np.mean([*lengths(cell).values()])),
    }
    notes = [
        f"{int(magnetic.sum())} moments in the measure d³m, atoms fixed: lengths "
        "fluctuate, and grow where the energy is flat."
    ]
    return Findings(values, curves, notes)


def _mean_lengths(driver: LongitudinalSpinLangevin, magnetic: np.ndarray) -> np.ndarray:
    """Return the mean length of the moments of each replica, (B,), mu_B."""
    system = driver.state.system
    norms = np.linalg.norm(system.spins.cpu().numpy(), axis=1)
    return norms.reshape(system.n_systems, -1)[:, magnetic].mean(axis=1)


@drawn("thermal-moments")
def draw_thermal_moments(findings: Findings, known: Known) -> Axes:
    """Draw the mean length against temperature."""
    ax = figure_axes(figsize=(4.8, 3.4))
    curves = findings.curves
    ax.errorbar(
        curves["temperatures"],
        numbers(curves["lengths"]),
        numbers(curves["errors"]),
        fmt="o-",
        ms=4,
        capsize=2,
    )
    ax.axhline(curves["ground"], color="0.6", ls="--", lw=1, label="ground state")
    ax.set(xlabel="temperature (K)", ylabel="mean length (μB)")
    ax.legend(frameon=False, fontsize="small")
    return ax
