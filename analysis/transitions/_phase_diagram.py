"""Averages on a grid of temperatures, fields, pressures, strains and compositions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import ArrayLike

from ..._result import Result
from ..._validate import positive_numbers
from .._statistics import Estimate, mean_of_realizations
from ._crossing import peak
from ._phase_averages import enthalpies, order_sizes, reweighted
from ._thermal_sampling import ThermalSamples
from ._transition_order import TransitionOrder, transition_order

#: Halves of a run that differ by more of their errors than this are not equilibrium.
_DRIFT = 4.0

#: Errors by which neighbors differ where there is a step.
_CLEAR = 4.0

#: Axes of the points beside temperature, with their labels.
LABELS = {
    "temperature_K": "temperature (K)",
    "field_T": "field (T)",
    "pressure_GPa": "pressure (GPa)",
    "strain": "strain",
    "composition": "share of sites",
    "sweep": "direction of the sweep",
}

#: What names are drawn under, and the attribute with them.
NAMES = {"phase": "phases", "space group": "space_groups"}

_TEMPERATURE = "temperature_K"

#: What transition lines follow along an axis.
KINDS = ("peak", "step")

#: Quantities of every diagram, with their labels.
QUANTITIES = {
    "order": r"ordered moment ($\mu_B$)",
    "order_along": r"ordered moment along the field ($\mu_B$)",
    "order_across": r"ordered moment across the field ($\mu_B$)",
    "magnetization": r"moment along the field ($\mu_B$)",
    "susceptibility": r"susceptibility of the order ($\mu_B^2$/eV)",
    "field_susceptibility": r"susceptibility along the field ($\mu_B^2$/eV)",
    "heat_capacity": r"heat capacity ($k_B$)",
    "binder": "Binder cumulant",
    "energy": "energy (eV/atom)",
}


@dataclass(frozen=True, eq=False)
class PhaseDiagram(Result):
    """Averages at all points of a grid.

    Attributes
    ----------
    axes : dict of (n,) arrays
        Coordinates of the grid by name, "temperature_K" last; of those of
        "field_T", "pressure_GPa", "strain" and "composition" that were asked for. Of a
        sweep, "sweep" is the first: 1 with the axis rising, then -1 with it falling.
    quantities : dict of arrays
        Value and standard error, the shape of the grid and 2. Per magnetic atom, in
        mu_B: "order", the moment with the propagation vectors, its parts "order_along"
        and "order_across" the field's direction, and "magnetization" along it;
        "susceptibility" of the order and "field_susceptibility", mu_B^2/eV;
        "heat_capacity" in k_B; "binder", U4 of the order; "energy" per atom, eV,
        without that of the field; "order NAME" of other orders, and observables by
        their names. NaN at points that are not sampled yet; errors are NaN where
        samples are too few for one.
    q : (Q, 3) array
        Propagation vectors, reciprocal lattice units of the cell.
    drift : array
        Difference of the mean order of both halves of the run, in standard errors.
    orders : dict of (Q, 3) arrays
        Those of other orders by name.
    direction : (3,) array
        Of the field.
    samples : list of lists of ThermalSamples
        Of each point beside temperature, in the order of the grid; one for each
        realization.
    name : str
        Of the order with ``q``.
    phases : array of str
        Names of the phases at the points, the shape of the grid: that of the strongest
        order with a q that is not zero, with its direction in a field, or
        "ferromagnetic", "polarized" (by a field, more than half) or "paramagnetic".
        Empty at points that are not sampled.
    space_groups : array of str
        Of the mean structures at the points, where they were asked for; else empty.
    """

    axes: dict[str, np.ndarray]
    quantities: dict[str, np.ndarray]
    q: np.ndarray
    drift: np.ndarray
    orders: dict[str, np.ndarray]
    direction: np.ndarray
    samples: list[list[ThermalSamples]]
    name: str
    phases: np.ndarray
    space_groups: np.ndarray

    def line(
        self,
        quantity: str = "heat_capacity",
        axis: str = "temperature_K",
        *,
        kind: str = "peak",
    ) -> np.ndarray:
        """Return where a quantity has its peak or a step along an axis, and the error.

        A transition line: the heat capacity or a susceptibility peaks there, in
        a finite cell near the transition of an infinite one; an order or the
        magnetization jumps where it is of first order.

        Parameters
        ----------
        quantity, axis : str
        kind : {"peak", "step"}
            The highest value: NaN where it is at an end of the axis. Or the middle
            between the two points that differ most, whose half distance is the error:
            NaN where they differ by less than four of their errors.

        Returns
        -------
        array
            The shape of the grid without the axis, and 2.

        Raises
        ------
        ValueError
            If there is no such quantity, axis or kind, or the axis has fewer than four
            points.
        """
        if kind not in KINDS:
            raise ValueError(f"kind must be {' or '.join(KINDS)}, got {kind!r}")
        table = self._table(quantity)
        position = self._position(axis)
        points = self.axes[axis]
        if len(points) < 4:
            raise ValueError(
                f"a {kind} along {axis} needs four points or more, got {len(points)}"
            )
        moved = np.moveaxis(table, position, -2)
        found = np.full((*moved.shape[:-2], 2), np.nan)
        locate = peak if kind == "peak" else _step
        for index in np.ndindex(*moved.shape[:-2]):
            known = np.isfinite(moved[index]).all(axis=1)
            if known.sum() >= 4:
                value, error = moved[index][known].T
                found[index] = locate(points[known], (value, error))
        return found

    def hysteresis(self, quantity: str = "order") -> np.ndarray:
        """Return how far a quantity is higher with the swept axis falling than rising.

        Zero within the error where the run forgets where it came from; elsewhere the
        point lies in the region of two phases of a transition of first order, or
        relaxes slowly.

        Returns
        -------
        array
            Difference and error, the shape of the grid without "sweep", and 2.

        Raises
        ------
        ValueError
            If the diagram is no sweep, or there is no such quantity.
        """
        table = self._table(quantity)
        if "sweep" not in self.axes:
            raise ValueError(
                "hysteresis needs a diagram in both directions: give phase_diagram an "
                'axis as sweep=, such as sweep="field_T"'
            )
        rising, falling = table
        difference = falling[..., 0] - rising[..., 0]
        error = np.hypot(falling[..., 1], rising[..., 1])
        return np.stack([difference, error], axis=-1)

    def reweighted(
        self,
        temperatures_K: ArrayLike,
        fields_T: ArrayLike | None = None,
        pressures_GPa: ArrayLike | None = None,
    ) -> PhaseDiagram:
        """Return the diagram on a finer grid of temperatures, fields and pressures.

        From the samples of all temperatures together, and of all fields or pressures
        where new ones are asked for, by multiple histograms
        (:class:`.transitions.MultiHistogram`). Values are NaN where fewer than 30
        independent samples have weight: outside the sampled range, or where sampled
        points are too far apart.

        Parameters
        ----------
        temperatures_K : (T,) array
        fields_T : (B,) array, optional
        pressures_GPa : (P,) array, optional
            By default those of the diagram.

        Raises
        ------
        ValueError
            If fields or pressures are given of a diagram without, or samples of
            neighboring points do not overlap.
        """
        temperatures = positive_numbers("temperatures_K", temperatures_K)
        given = {"field_T": fields_T, "pressure_GPa": pressures_GPa}
        finer = {n: np.asarray(v, float) for n, v in given.items() if v is not None}
        for name in finer:
            if name not in self.axes:
                raise ValueError(f"this diagram has no points of {name} to go between")
        axes = dict(self.axes) | finer | {"temperature_K": temperatures}
        shape = tuple(map(len, axes.values()))
        points = self._points()
        groups = {"": self.q} | self.orders
        quantities: dict[str, np.ndarray] = {}
        coarse = {n: self.axes[n] for n in finer}
        apart = {n: self.axes[n] for n in self.axes if n not in (*finer, _TEMPERATURE)}
        for here in _places(apart):
            sources = [here | place for place in _places(coarse)]
            targets = [here | place for place in _places(finer)]
            runs = [points[self._index(place)] for place in sources]
            found = [
                reweighted(
                    each,
                    [_conditions(self.axes, place) for place in sources],
                    temperatures,
                    [_conditions(axes, place) for place in targets],
                    groups,
                    self.direction,
                )
                for each in zip(*runs, strict=True)
            ]
            for name in found[0]:
                mean = mean_of_realizations([rows[name] for rows in found])
                table = quantities.setdefault(name, np.full((*shape, 2), np.nan))
                for place, values in zip(targets, mean, strict=True):
                    table[self._index(place)] = values
        return replace(
            self,
            axes=axes,
            quantities=quantities,
            drift=np.zeros(shape),
            samples=[[] for _ in range(int(np.prod(shape[:-1])))],
            phases=np.full(shape, ""),
            space_groups=np.full(shape, ""),
        )

    def _index(self, place: Mapping[str, int]) -> tuple[int, ...]:
        """Return an index of the grid beside temperature."""
        return tuple(place[name] for name in self.axes if name != _TEMPERATURE)

    def transition_order(
        self, at: Mapping[str, float] | None = None
    ) -> TransitionOrder:
        """Tell whether the transition along the temperature is of first order.

        See :func:`.transitions.transition_order`.

        Parameters
        ----------
        at : {axis: value}, optional
            The point on the other axes: the nearest; their first by default.

        Raises
        ------
        ValueError
            If the transition is not between the temperatures, samples of neighboring
            temperatures do not overlap, or it is smeared by disorder.
        """
        others = [name for name in self.axes if name != "temperature_K"]
        if unknown := set(at or {}) - set(others):
            self._position(unknown.pop())
        index = tuple(nearest_point(self.axes[n], (at or {}).get(n)) for n in others)
        runs = self._points()[index]
        if len(runs) != 1:
            raise ValueError(
                "an alloy has a transition in each realization, and none that is sharp"
            )
        place = dict(zip(others, index, strict=True))
        return transition_order(
            runs[0].temperatures_K,
            enthalpies(runs[0], self.direction, *_conditions(self.axes, place)),
            order_sizes(runs[0], {"": self.q})[""],
            runs[0].n_atoms,
        )

    def unfinished(self) -> int:
        """Return the number of points that are not sampled yet."""
        return int(np.isnan(self.drift).sum())

    def _points(self) -> np.ndarray:
        """Return the samples on the grid beside temperature, an array of lists."""
        shape = tuple(len(v) for n, v in self.axes.items() if n != "temperature_K")
        points = np.empty(shape, dtype=object)
        for number, samples in enumerate(self.samples):
            points[np.unravel_index(number, shape) if shape else ()] = samples
        return points

    def _table(self, quantity: str) -> np.ndarray:
        if quantity not in self.quantities:
            raise ValueError(
                f"quantity must be one of {', '.join(self.quantities)}, got "
                f"{quantity!r}"
            )
        return self.quantities[quantity]

    def _position(self, axis: str) -> int:
        if axis not in self.axes:
            raise ValueError(
                f"axis must be one of {', '.join(self.axes)}, got {axis!r}"
            )
        return list(self.axes).index(axis)


def _places(axes: Mapping[str, np.ndarray]) -> list[dict[str, int]]:
    """Return all places of a grid, by the names of its axes."""
    lengths = [range(len(points)) for points in axes.values()]
    return [dict(zip(axes, place, strict=True)) for place in product(*lengths)]


def _conditions(
    axes: Mapping[str, np.ndarray], place: Mapping[str, int]
) -> tuple[float, float]:
    """Return field, T, and pressure, GPa, of a place of a grid."""
    field, pressure = (
        float(axes[name][place[name]]) if name in axes else 0.0
        for name in ("field_T", "pressure_GPa")
    )
    return field, pressure


def nearest_point(points: np.ndarray, value: float | None) -> int:
    return 0 if value is None else int(np.argmin(abs(points - value)))


def _step(x: np.ndarray, curve: tuple[np.ndarray, np.ndarray]) -> Estimate:
    """Return the middle of the largest difference of neighbors, or NaN."""
    values, errors = curve
    changes = abs(np.diff(values))
    k = int(np.argmax(changes))
    if changes[k] <= _CLEAR * np.hypot(errors[k], errors[k + 1]):
        return Estimate(np.nan, np.nan)
    return Estimate((x[k] + x[k + 1]) / 2, (x[k + 1] - x[k]) / 2)


def line_arguments(given: Sequence[str]) -> tuple[str, str, str]:
    """Return quantity, axis and kind of a line of which the first are given."""
    quantity, axis, kind = (*given, *("", "temperature_K", "peak")[len(given) :])
    return quantity, axis, kind
