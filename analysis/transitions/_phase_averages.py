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
    pressure: float = 0.0,
) -> dict[str, np.ndarray]:
    """Return the quantities (T, 2) of one run in a field along ``axis``, T.

    Where the cell moves, at a pressure in GPa.
    """
    n = samples.n_magnetic
    series = _series(samples, groups, axis)
    totals = enthalpies(samples, axis, field, pressure)
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


def enthalpies(
    samples: ThermalSamples, direction: np.ndarray, field: float, pressure: float = 0.0
) -> np.ndarray:
    """Return the energies (B, F) with those of a field in T and a pressure in GPa."""
    moment = samples.n_magnetic * samples.magnetization @ direction
    found = samples.energy - MU_B * field * moment
    if pressure:
        found = found + pressure * units.GPa * samples.n_atoms * _volume(samples)
    return np.asarray(found)


def _volume(samples: ThermalSamples) -> np.ndarray:
    """Return the volumes (B, F) per atom, A^3."""
    return samples.observables["volume"]


def _between(sampled: np.ndarray, wanted: np.ndarray) -> range:
    """Return which sampled temperatures enclose those that are wanted."""
    first = int(np.searchsorted(sampled, wanted.min(), side="right")) - 1
    last = int(np.searchsorted(sampled, wanted.max(), side="left"))
    end = min(last + 1, len(sampled))
    return range(min(max(first, 0), end - 1), end)


def reweighted(
    runs: Sequence[ThermalSamples],
    sampled: Sequence[tuple[float, float]],
    temperatures: np.ndarray,
    wanted: Sequence[tuple[float, float]],
    groups: Mapping[str, np.ndarray],
    axis: np.ndarray,
) -> dict[str, np.ndarray]:
    """Return the quantities (P, T, 2) at ``wanted`` points from ``sampled`` ones.

    Points are pairs of field, T, and pressure, GPa.
    """
    parts: dict[str, list[np.ndarray]] = {}
    states = []
    cell_moves = any(pressure for _, pressure in (*sampled, *wanted))
    judged_by = ["order", "magnetization", "energy", *["volume"] * cell_moves]
    for run, point in zip(runs, sampled, strict=True):
        series = _series(run, groups, axis)
        for k in _between(run.temperatures_K, temperatures):
            t = run.temperatures_K[k]
            judged = [series[n][k] for n in judged_by]
            kept = independent(np.stack(judged, axis=1))
            for name, values in series.items():
                parts.setdefault(name, []).append(values[k, kept])
            states.append((1.0 / (units.kB * t), point))
    owner = np.repeat(np.arange(len(states)), list(map(len, parts["energy"])))
    data = {name: np.concatenate(values) for name, values in parts.items()}
    n, n_atoms = runs[0].n_magnetic, runs[0].n_atoms
    energy = data["energy"] * n_atoms
    energy = energy - energy.mean()
    moment = MU_B * n * data["magnetization"]
    volume = units.GPa * n_atoms * data["volume"] if cell_moves else 0.0

    def enthalpy(point: tuple[float, float]) -> np.ndarray:
        return np.asarray(energy - point[0] * moment + point[1] * volume)

    joined = MultiHistogram([b * enthalpy(point) for b, point in states], owner)
    order = data["order"]
    rows: dict[str, np.ndarray] = {}
    for i, point in enumerate(wanted):
        total = enthalpy(point)
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
                blank = np.full((len(wanted), len(temperatures), 2), np.nan)
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
