"""Plain data that compiled kernels take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ..neighbors import PairList
from ..system import System
from ._layers import Layer


class NetworkData(NamedTuple):
    """A pseudo-atom network with frozen weights.

    Site types count the elements and, where any is magnetic, their pseudo-atoms.

    Attributes
    ----------
    cutoff, smooth, protection : float, A
        End and beginning of the switch, and protection of short distances.
    magnetic : (n_types,) tuple of bool
        Which elements have pseudo-atoms.
    slots : (n_sites,) tuple of int
        Slots by site type.
    axis : int
        Columns of the descriptor.
    mean, std : (n_types, 4) tensors
        Rows are normalised as (row - mean)/std, by the type of the center.
    energy_bias : (n_types,) tensor, eV
    embeddings : (n_types, n_sites) tuples of layers
        By types of center and site.
    fittings : (n_types,) tuple of layers
    """

    cutoff: float
    smooth: float
    protection: float
    magnetic: tuple[bool, ...]
    slots: tuple[int, ...]
    axis: int
    mean: Tensor
    std: Tensor
    energy_bias: Tensor
    embeddings: tuple[tuple[tuple[Layer, ...], ...], ...]
    fittings: tuple[tuple[Layer, ...], ...]

    @property
    def width(self) -> int:
        """Rows of the descriptor: the width of the embedding."""
        return len(self.embeddings[0][0][-1].bias)

    def to(self, device: torch.device) -> NetworkData:
        """Return the network on another device."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device)

        def through(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
            return tuple(layer.mapped(moved) for layer in layers)

        return self._replace(
            mean=moved(self.mean),
            std=moved(self.std),
            energy_bias=moved(self.energy_bias),
            embeddings=tuple(tuple(map(through, row)) for row in self.embeddings),
            fittings=tuple(map(through, self.fittings)),
        )

    def weights(self) -> Iterator[Tensor]:
        """Yield every tensor that the energy depends on, once."""
        yield from (self.mean, self.std, self.energy_bias)
        networks = {id(x): x for row in self.embeddings for x in row}
        for layers in (*networks.values(), *self.fittings):
            for layer in layers:
                yield from layer.weights()


class NetworkSums(NamedTuple):
    """Energies of a network and their derivatives; zeros where none were asked for.

    Attributes
    ----------
    energies : (N,) tensor, eV
    forces, pulls : (N, 3) tensors, eV/A
        -dE/dR, and dE/d(vector from each atom to its pseudo-atom).
    virial : (B, 3, 3) tensor, eV
        -dE/dstrain.
    """

    energies: Tensor
    forces: Tensor
    pulls: Tensor
    virial: Tensor


class NetworkKernel(Protocol):
    """A compiled network."""

    def __call__(
        self,
        system: System,
        pairs: PairList,
        types: Tensor,
        virtual: Tensor,
        *,
        derivatives: bool,
    ) -> NetworkSums | None:
        """Evaluate structures, in the type of the System.

        Parameters
        ----------
        system : System
            Without gradients.
        pairs : PairList
        types : (N,) int64 tensor
        virtual : (N, 3) tensor, A
            From each atom to its pseudo-atom.
        derivatives : bool
            Compute more than energies.

        Returns
        -------
        NetworkSums, or None
            None where only torch gives the answer: there are more neighbors than
            slots, or the input is not finite.
        """


class TabulatedFunction(Protocol):
    """A function of distance (A) with a cutoff (A); ``knots`` (A) are optional."""

    @property
    def cutoff(self) -> float:
        """Distance from which on the function is zero, A."""

    def __call__(self, r: Tensor) -> Tensor:
        """Return the values at distances r."""


class PairTermData(NamedTuple):
    """A pair term, E_ij = f(r_ij) sum_k w_k I_k, with invariants I_k of the moments.

    Attributes
    ----------
    invariants : tuple of (str, float)
        Names, among :data:`._pair_tables.INVARIANTS`, and weights.
    functions : tuple of ((int, int), function)
        f for every pair of elements that the term acts on: atomic numbers, in the
        order in which invariants that change sign with the order of the atoms count
        positive, each pair once. Functions compare and hash by their values.
    """

    invariants: tuple[tuple[str, float], ...]
    functions: tuple[tuple[tuple[int, int], TabulatedFunction], ...]


class PairSums(NamedTuple):
    """Energies of pair terms and their derivatives.

    Attributes
    ----------
    energies : (N,) tensor, eV
    forces, gradients : (N, 3) tensors
        -dE/dR, eV/A, and dE/dm, eV/mu_B.
    virial : (B, 3, 3) tensor, eV
        -dE/dstrain.
    """

    energies: Tensor
    forces: Tensor
    gradients: Tensor
    virial: Tensor


#: Compiled pair terms: maps structures, pairs and the types (N,) int64 of the atoms,
#: as the elements were counted, to sums in float64; None where only torch gives the
#: answer, because atoms are very close or the input is not finite.
PairKernel = Callable[[System, PairList, Tensor], "PairSums | None"]
