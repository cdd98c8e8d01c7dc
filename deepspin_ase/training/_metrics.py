"""Errors of a potential against labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .._rotations import local_axes
from ..potentials import Potential
from ._batch import Batch

#: Names and units of what is compared.
UNITS = {
    "energy": "eV/atom",
    "forces": "eV/A",
    "magnetic_forces_transverse": "eV/mu_B",
    "magnetic_forces_longitudinal": "eV/mu_B",
    "virial": "eV/atom",
}


@dataclass(frozen=True)
class Comparison:
    """Labels and predictions of one kind, flat arrays in the unit of UNITS."""

    label: np.ndarray
    prediction: np.ndarray

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return float(np.sqrt(np.mean((self.prediction - self.label) ** 2)))

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.mean(np.abs(self.prediction - self.label)))


def compare(potential: Potential, batches: Iterable[Batch]) -> dict[str, Comparison]:
    """Compare a potential with labels.

    Returns
    -------
    dict
        Energy per atom, force components, magnetic-force components along the
        moment (longitudinal) and along two directions across it (transverse),
        and virial components per atom; kinds without labels are left out.
    """
    found: dict[str, tuple[list[Tensor], list[Tensor]]] = {
        name: ([], []) for name in UNITS
    }
    for batch in batches:
        with_virial = bool(torch.isfinite(batch.virial).any())
        predicted = potential.evaluate(batch.system, batch.pairs, virial=with_virial)
        assert predicted.forces is not None and predicted.magnetic_forces is not None
        atoms = batch.system.counts().to(batch.energy)
        frame = _moment_frames(batch.system.spins)
        pairs = {
            "energy": (batch.energy / atoms, predicted.energy / atoms),
            "forces": (batch.forces, predicted.forces),
        }
        for name, axes in (
            ("magnetic_forces_transverse", frame[:, :2]),
            ("magnetic_forces_longitudinal", frame[:, 2:]),
        ):
            pairs[name] = tuple(  # type: ignore[assignment]
                torch.einsum("nak,nk->na", axes, values)
                for values in (batch.magnetic_forces, predicted.magnetic_forces)
            )
        if predicted.virial is not None:
            per_atom = atoms[:, None, None]
            pairs["virial"] = (batch.virial / per_atom, predicted.virial / per_atom)
        for name, (label, prediction) in pairs.items():
            known = torch.isfinite(label)
            found[name][0].append(label[known])
            found[name][1].append(prediction[known])
    return {
        name: Comparison(*(torch.cat(part).double().cpu().numpy() for part in parts))
        for name, parts in found.items()
        if sum(len(part) for part in parts[0])
    }


def _moment_frames(spins: Tensor) -> Tensor:
    """Return (N, 3, 3): two unit vectors across each moment, and one along it."""
    along = (spins / spins.norm(dim=1, keepdim=True).clamp_min(1e-300)).cpu().numpy()
    axes = np.concatenate([local_axes(along), along[:, None]], axis=1)
    return torch.as_tensor(axes, dtype=spins.dtype, device=spins.device)
