"""Averages of the points of a phase diagram, and between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ase import units

from ...units import MU_B
from .._statistics import Estimate, mean_with_error
from ._fluctuations import binder_cumulant, heat_capacity, susceptibility
from ._reweighting import MultiHistogram, independent
from ._size_averages import estimate_or_nan
from ._thermal_sampling import ThermalSamples


def order_sizes(
    samples: ThermalSamples, groups: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Return the sizes (B, F) of the orders by name, that of ``q`` under ""."""
    found, first = {}, 0
    for name, waves in groups.items():
        part = samples.order_vectors[:, :, first : first + 2 * len(waves)]
        found[name] = np.linalg.norm(part.reshape(*part.shape[:2], -1), axis=2)
        first += 2 * len(waves)
    return found


def averages(
    samples: ThermalSamples,
    groups: Mapping[str, np.ndarray],
    axis: np.ndarray,
    field: float,
) -> dict[str, np.ndarray]:
    """Return the quantities (T, 2) of one run in a field along ``axis``, T."""
    n = samples.n_magnetic
    series = _series(samples, groups, axis)
    totals = energies_in_field(samples, axis, field)
    rows: dict[str, list[Estimate]] = {}
    for k, t in enumerate(samples.temperatures_K):
        order, m = series["order"][k], series["magnetization"][k]
        found = {
            **{name: mean_with_error(values[k]) for name, values in series.items()},
            "susceptibility": estimate_or_nan(susceptibility, order, t, n),
            "field_susceptibility": estimate_or_nan(_variance, m, t, n),
            "heat_capacity": estimate_or_nan(heat_capacity, totals[k], t, n),
            "binder": estimate_or_nan(binder_cumulant, order),
        }
        for name, estimate in found.items():
            rows.setdefault(name, []).append(estimate)
    return {name: np.array(row, dtype=float) for name, row in rows.items()}


def energies_in_field(
    samples: ThermalSamples, direction: np.ndarray, field: float
) -> np.ndarray:
    """Return the energies (B, F) with that of a field in T, eV."""
    moment = samples.n_magnetic * samples.magnetization @ direction
    return np.asarray(samples.energy - MU_B * field * moment)


def _between(sampled: np.ndarray, wanted: np.ndarray) -> range:
    """Return which sampled temperatures enclose those that are wanted."""
    first = int(np.searchsorted(sampled, wanted.min(), side="right")) - 1
    last = int(np.searchsorted(sampled, wanted.max(), side="left"))
    end = min(last + 1, len(sampled))
    return range(min(max(first, 0), end - 1), end)


def reweighted(
    runs: Sequence[ThermalSamples],
    sampled_T: np.ndarray,
    temperatures: np.ndarray,
    fields_T: np.ndarray,
    groups: Mapping[str, np.ndarray],
    axis: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the quantities (B, T, 2) at other points, from runs at ``sampled_T``."""
    parts: dict[str, list[np.ndarray]] = {}
    states = []
    for run, field in zip(runs, sampled_T, strict=True):
        series = _series(run, groups, axis)
        for k in _between(run.temperatures_K, temperatures):
            t = run.temperatures_K[k]
            judged = [series[n][k] for n in ("order", "magnetization", "energy")]
            kept = independent(np.stack(judged, axis=1))
            for name, values in series.items():
                parts.setdefault(name, []).append(values[k, kept])
            states.append((1.0 / (units.kB * t), field))
    owner = np.repeat(np.arange(len(states)), list(map(len, parts["energy"])))
    data = {name: np.concatenate(values) for name, values in parts.items()}
    n, n_atoms = runs[0].n_magnetic, runs[0].n_atoms
    energy = data["energy"] * n_atoms
    energy = energy - energy.mean()
    moment = MU_B * n * data["magnetization"]
    joined = MultiHistogram([b * (energy - f * moment) for b, f in states], owner)
    order = data["order"]
    rows: dict[str, np.ndarray] = {}
    for i, field in enumerate(fields_T):
        total = energy - field * moment
        for k, t in enumerate(temperatures):
            kT = units.kB * t
            weights = joined.weights(total / kT)
            found = {
                name: joined.estimate(weights, values[:, None], lambda x: x[..., 0])
                for name, values in data.items()
            }
            for name, values, scale in (
                ("susceptibility", order, n / kT),
                ("field_susceptibility", data["magnetization"], n / kT),
                ("heat_capacity", total, 1.0 / (kT**2 * n)),
            ):
                columns = np.stack([values, values**2], axis=1)
                spread = joined.estimate(
                    weights, columns, lambda x: x[..., 1] - x[..., 0] ** 2
                )
                found[name] = Estimate(scale * spread.value, scale * spread.error)
            found["binder"] = joined.estimate(
                weights,
                np.stack([order**2, order**4], axis=1),
                lambda x: 1.0 - x[..., 1] / (3.0 * x[..., 0] ** 2),
            )
            for name, estimate in found.items():
                blank = np.full((len(fields_T), len(temperatures), 2), np.nan)
                rows.setdefault(name, blank)[i, k] = estimate
    return rows


def _series(
    samples: ThermalSamples, groups: Mapping[str, np.ndarray], axis: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what is averaged as it is, (B, F) each."""
    sizes = order_sizes(samples, groups)
    vectors = samples.order_vectors[:, :, : 2 * len(groups[""])]
    along = vectors @ axis
    across = (vectors - along[..., None] * axis).reshape(*along.shape[:2], -1)
    return {
        "order": sizes[""],
        "order_along": np.linalg.norm(along, axis=-1),
        "order_across": np.linalg.norm(across, axis=-1),
        "magnetization": samples.magnetization @ axis,
        "energy": samples.energy / samples.n_atoms,
        **{f"order {name}": values for name, values in sizes.items() if name},
        **samples.observables,
    }


def _variance(along: np.ndarray, temperature: float, n_magnetic: int) -> Estimate:
    """Return the susceptibility of a component, whose sign counts, mu_B^2/eV."""
    shifted = along - along.min() + 1.0  # a size is what susceptibility takes
    return susceptibility(shifted, temperature, n_magnetic)
