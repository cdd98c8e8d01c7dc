"""Predicted quantities of a batch of structures."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..quantities import QuantityValues


class Prediction(QuantityValues):
    """Quantities that a Potential predicts for a System of B structures and N atoms.

    Every quantity of :mod:`deepspin_ase.quantities` is an attribute, None where it was
    not predicted.

    Attributes
    ----------
    energy : (B,) tensor, eV
    energies : (N,) tensor, eV
        Per-atom shares of the energy.
    forces : (N, 3) tensor, eV/A, optional
        -dE/dR at fixed moments and cell.
    magnetic_forces : (N, 3) tensor, eV/mu_B, optional
        -dE/dm at fixed positions and cell, longitudinal part included.
    virial : (B, 3, 3) tensor, eV, optional
        -dE/dstrain[a, b] for x_a -> x_a + strain[a, b] x_b at fixed Cartesian
        moments. Not symmetric where torques act.
    volume : (B,) tensor, A^3
    deviations : dict
        Standard deviations by name, in the shape and unit of the quantity: over the
        members of a committee, or as a network with an error model estimates them,
        where they were asked for. Else empty.
    """

    energy: Tensor
    energies: Tensor
    forces: Tensor | None
    magnetic_forces: Tensor | None
    virial: Tensor | None
    volume: Tensor
    deviations: dict[str, Tensor]

    def __init__(
        self,
        *,
        volume: Tensor,
        deviations: Mapping[str, Tensor] | None = None,
        **values: Tensor | None,
    ) -> None:
        super().__init__(values, volume=volume, deviations=dict(deviations or {}))

    @property
    def stress(self) -> Tensor | None:
        """(B, 3, 3) symmetric stress in ASE's sign, eV/A^3; inf without volume."""
        if self.virial is None:
            return None
        symmetric = 0.5 * (self.virial + self.virial.transpose(1, 2))
        return -symmetric / self.volume[:, None, None]
