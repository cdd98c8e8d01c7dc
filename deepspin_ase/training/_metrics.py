"""Errors of a potential against labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._result import Result
from .._rotations import local_axes
from ..potentials import Potential
from ..quantities import QUANTITIES, Quantity, label_table
from ._batch import Batch


@dataclass(frozen=True)
class ErrorKind:
    """Errors of a quantity, or of its part across or along the moment.

    Attributes
    ----------
    quantity : Quantity
    share : float
        Part of the components of the quantity.
    title, unit : str
    symbol : str, optional
        In the progress bar.
    """

    quantity: Quantity
    share: float
    title: str
    unit: str
    symbol: str | None


#: Parts of a magnetic quantity, and the rows of the local axes that they lie on.
_PARTS = {"transverse": slice(0, 2), "longitudinal": slice(2, 3)}


def error_kinds() -> dict[str, ErrorKind]:
    """Return the kinds of errors by name, in the order of the table of quantities."""
    kinds = {}
    for name, quantity in label_table().items():
        unit = f"{quantity.unit}/atom" if quantity.per_atom_in_errors else quantity.unit
        if not quantity.magnetic:
            kinds[name] = ErrorKind(
                quantity, 1.0, quantity.title, unit, quantity.symbol
            )
            continue
        for part, rows in _PARTS.items():
            kinds[f"{name}_{part}"] = ErrorKind(
                quantity,
                (rows.stop - rows.start) / 3.0,
                f"{quantity.title}, {part}",
                unit,
                quantity.symbol if part == "transverse" else None,
            )
    return kinds


@dataclass(frozen=True)
class Comparison(Result):
    """Labels and predictions of one kind.

    Attributes
    ----------
    label, prediction : flat arrays, in ``unit``
    title, unit : str
    deviation : flat array, optional
        Standard deviations that the potential estimates.
    """

    label: np.ndarray
    prediction: np.ndarray
    title: str
    unit: str
    deviation: np.ndarray | None = None

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return float(np.sqrt(np.mean((self.prediction - self.label) ** 2)))

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.prediction - self.label)))


def compare(
    potential: Potential, batches: Iterable[Batch], *, deviations: bool = False
) -> dict[str, Comparison]:
    """Compare a potential with labels.

    Parameters
    ----------
    potential : Potential
    batches : iterable of Batch
    deviations : bool
        Ask for its estimates of the errors, too.

    Returns
    -------
    dict
        Energy per atom, force components, magnetic-force components along the
        moment (longitudinal) and along two directions across it (transverse),
        virial components per atom, and whatever other quantities are registered;
        kinds without labels or predictions are left out.
    """
    kinds = error_kinds()
    found: dict[str, tuple[list[Tensor], list[Tensor], list[Tensor]]] = {
        name: ([], [], []) for name in kinds
    }
    for batch in batches:
        known = {n: torch.isfinite(x) for n, x in batch.quantities().items()}
        labelled = {name: bool(mask.any()) for name, mask in known.items()}
        predicted = potential.evaluate(
            batch.system,
            batch.pairs,
            deviations=deviations,
            **{n: x for n, x in labelled.items() if QUANTITIES[n].derivative},
        )
        for name, label in batch.quantities().items():
            prediction = getattr(predicted, name, None)
            if prediction is None or not labelled[name]:
                continue
            quantity = QUANTITIES[name]
            estimate = predicted.deviations.get(name)
            squares = None if estimate is None else estimate.square()
            for (kind, a), (_, b), (_, c) in zip(
                _parts(quantity, batch, label),
                _parts(quantity, batch, prediction),
                _variances(quantity, batch, squares),
                strict=True,
            ):
                mask = torch.isfinite(a)
                found[kind][0].append(a[mask])
                found[kind][1].append(b[mask])
                if c is not None:
                    found[kind][2].append(c[mask].sqrt())

    def joined(values: list[Tensor]) -> np.ndarray:
        return torch.cat(values).double().cpu().numpy()

    return {
        name: Comparison(
            joined(label),
            joined(prediction),
            kinds[name].title,
            kinds[name].unit,
            joined(deviation) if len(deviation) == len(label) else None,
        )
        for name, (label, prediction, deviation) in found.items()
        if sum(map(len, label))
    }


def _parts(
    quantity: Quantity, batch: Batch, values: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield the kinds of errors of a quantity, and its values in their unit.

    Parts along moments, where they are not labelled, are NaN.
    """
    if quantity.magnetic:
        axes = _moment_frames(batch.system.spins)
        for part, rows in _PARTS.items():
            components = torch.einsum("nak,nk->na", axes[:, rows], values)
            if part == "longitudinal":
                known = batch.longitudinal[:, None]
                components = torch.where(known, components, torch.nan)
            yield f"{quantity.name}_{part}", components
        return
    if quantity.per_atom_in_errors:
        counts = batch.system.counts().to(values)
        values = values / counts.reshape(-1, *[1] * (values.ndim - 1))
    yield quantity.name, values


def _variances(
    quantity: Quantity, batch: Batch, squares: Tensor | None
) -> Iterator[tuple[str, Tensor | None]]:
    """Yield the kinds of errors of a quantity, and their estimated squares."""
    if squares is None:
        parts = _PARTS if quantity.magnetic else [""]
        yield from ((part, None) for part in parts)
    elif quantity.magnetic:
        axes = _moment_frames(batch.system.spins)
        for part, rows in _PARTS.items():
            yield part, torch.einsum("nak,nk->na", axes[:, rows].square(), squares)
    elif quantity.per_atom_in_errors:
        counts = batch.system.counts().to(squares).square()
        yield "", squares / counts.reshape(-1, *[1] * (squares.ndim - 1))
    else:
        yield "", squares


def _moment_frames(spins: Tensor) -> Tensor:
    """Return (N, 3, 3): two unit vectors across each moment, and one along it."""
    along = (spins / spins.norm(dim=1, keepdim=True).clamp_min(1e-300)).cpu().numpy()
    axes = np.concatenate([local_axes(along), along[:, None]], axis=1)
    return torch.as_tensor(axes, dtype=spins.dtype, device=spins.device)
