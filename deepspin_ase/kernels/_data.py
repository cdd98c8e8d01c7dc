"""Plain data that compiled kernels take and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
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


class Instructions(NamedTuple):
    """Sums of products, value[out] += coefficient * value[first] * value[second].

    Those of one sum follow each other, and its factors are complete before. Value 0 is
    one.

    Attributes
    ----------
    out, first, second : (T,) int64 arrays
    coefficient : (T,) float64 array
    n_values : int
    """

    out: np.ndarray
    first: np.ndarray
    second: np.ndarray
    coefficient: np.ndarray
    n_values: int


class MomentsData(NamedTuple):
    """Moments of the neighborhoods of atoms, and their features.

    Attributes
    ----------
    cutoff : float, A
    mixing : (n_types, channels, basis) tensor
        Radial functions, those of the lattice before those of the spins, in
        :func:`~deepspin_ase.potentials.networks._moments.radial_basis`, by the type of
        the neighbor.
    lattice : int
        How many are of the lattice.
    moment_scale : (n_types,) tensor, mu_B
        Units of the moments, infinite for elements that have none.
    factors : Instructions
        What radial functions are multiplied with: products of value 0, the direction
        to the neighbor (1 to 3), its moment (4 to 6) and that of the atom (7 to 9).
    rows : tuple of (int, int, int)
        Factor f, channel k and count c: the next c moments are sums over neighbors of
        f times the radial functions k to k + c.
    contractions : Instructions
        Features of value 0, the atom's moment (1 to 3) and the moments of the rows.
    n_features : int
        The last values are the features.
    """

    cutoff: float
    mixing: Tensor
    lattice: int
    moment_scale: Tensor
    factors: Instructions
    rows: tuple[tuple[int, int, int], ...]
    contractions: Instructions
    n_features: int

    def weights(self) -> Iterator[Tensor]:
        """Yield every tensor that the features depend on."""
        yield from (self.mixing, self.moment_scale)


class MomentsNetworkData(NamedTuple):
    """A network on moments with frozen weights.

    The energy of an atom is scale (linear.z + fitting(z)) + energy_bias, with its
    features standardized, z = (features - mean)/deviation.

    Attributes
    ----------
    moments : MomentsData
    scale : float, eV
    mean, deviation, linear : (n_types, n_features) tensors
    energy_bias : (n_types,) tensor, eV
    fittings : (n_types,) tuple of layers
        With tanh in all layers but the last, which is linear.
    """

    moments: MomentsData
    scale: float
    mean: Tensor
    deviation: Tensor
    linear: Tensor
    energy_bias: Tensor
    fittings: tuple[tuple[Layer, ...], ...]

    def weights(self) -> Iterator[Tensor]:
        """Yield every tensor that the energy depends on."""
        yield from self.moments.weights()
        yield from (self.mean, self.deviation, self.linear, self.energy_bias)
        for layers in self.fittings:
            for layer in layers:
                yield from layer.weights()

    def head(self, a: int) -> tuple[tuple[Layer, ...], Tensor, Tensor]:
        """Return the energy of atoms of type a by features that are not scaled.

        Returns
        -------
        layers
            Of a fitting network whose energies are in eV.
        (n_features,) tensor
            Linear term, eV per unit of the features.
        tensor
            Constant, eV; all in float64.
        """
        mean, per = self.mean[a].double(), 1.0 / self.deviation[a].double()
        first, *between, last = (x.mapped(Tensor.double) for x in self.fittings[a])
        matrix = first.matrix * per[:, None]
        first = first._replace(matrix=matrix, bias=first.bias - mean @ matrix)
        last = last._replace(
            matrix=self.scale * last.matrix, bias=self.scale * last.bias
        )
        linear = self.scale * self.linear[a].double() * per
        constant = self.energy_bias[a].double() - linear @ mean
        return (first, *between, last), linear, constant


class MomentsSums(NamedTuple):
    """Derivatives of energies by neighborhoods.

    Attributes
    ----------
    forces, magnetic_forces : (N, 3) tensors, eV/A and eV/mu_B
    virial : (B, 3, 3) tensor, eV
        -dE/dstrain.
    """

    forces: Tensor
    magnetic_forces: Tensor
    virial: Tensor


class MomentsKernel(Protocol):
    """A compiled network on moments."""

    def __call__(
        self,
        system: System,
        pairs: PairList,
        types: Tensor,
        *,
        derivatives: bool,
        features: Tensor | None = None,
    ) -> tuple[Tensor, MomentsSums] | None:
        """Evaluate structures, in the type of the System.

        Parameters
        ----------
        system : System
            Without gradients.
        pairs : PairList
        types : (N,) int64 tensor
        derivatives : bool
            Compute more than energies; zeros otherwise.
        features : (N, K) tensor, optional
            Set to the features; of the type of number of the contractions.

        Returns
        -------
        (N,) tensor and MomentsSums, or None
            Energies in eV and their derivatives. None where only torch gives the
            answer: the input is not finite.
        """


class MomentFeatures(Protocol):
    """Features of the neighborhoods of a System, and both ways to differentiate."""

    @property
    def types(self) -> Tensor:
        """Types (N,) of the atoms."""

    def features(self) -> Tensor:
        """Return the features (N, K)."""

    def pull_back(self, gradient: Tensor) -> MomentsSums:
        """Return forces, magnetic forces and virial of dE/d(features) (N, K)."""

    def push_forward(self, moved: Tensor, turned: Tensor, strain: Tensor) -> Tensor:
        """Return the change (N, K) of the features along a displacement.

        Parameters
        ----------
        moved, turned : (N, 3) tensors, A and mu_B
        strain : (B, 3, 3) tensor
        """

    def design(self, scale: Tensor) -> Tensor:
        """Return sums of scaled features and their derivatives, by type of the center.

        For one structure.

        Parameters
        ----------
        scale : (n_types, K) tensor
            Factors of the features.

        Returns
        -------
        (n_types, 1 + 6 N + 9, K) float64 tensor
            Sums, and derivatives by positions, moments and strain.
        """


#: Describes structures (System, pairs and types (N,) int64 of the atoms).
MomentDescriptor = Callable[[System, PairList, Tensor], MomentFeatures]


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
