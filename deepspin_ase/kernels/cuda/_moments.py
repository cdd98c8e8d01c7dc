"""Evaluation of a frozen network on moments in Triton kernels.

Not yet measured on a device: the kernels were compared with torch in Triton's
interpreter, and compiled for compute capabilities 8.0 and 9.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import Instructions, MomentsNetworkData, MomentsSums
from .._layers import through
from .._moment_tables import BEFORE_MOMENTS, MomentLists, sums
from ._geometry import PAIR_WARPS, PAIRS
from ._lists import Links, links_of
from ._moment_kernels import (
    add_moments,
    describe_pairs,
    differentiate_moments,
    gather_pulls,
    multiply,
    multiply_back,
    pull_pairs,
)
from ._network import SHARE, memory

#: Pairs, or atoms, of a program with a lane for each; moments that are summed together.
LANES, ROWS = 128, 32


@dataclass(frozen=True)
class _Products:
    """A list of products on a device."""

    lists: tuple[Tensor, ...]

    @classmethod
    def of(
        cls, instructions: Instructions, real: torch.dtype, device: torch.device
    ) -> _Products:
        out, start = sums(instructions)
        lists = (out, start, instructions.first, instructions.second)
        coefficient = torch.from_numpy(instructions.coefficient).to(device, real)
        return cls((*(_integers(x, device) for x in lists), coefficient))

    def multiply(self, values: Tensor) -> None:
        """Carry out all products in ``values`` (n_values, n)."""
        n = values.shape[1]
        multiply[_blocks(n)](*self.lists, len(self.lists[0]), values, n, BLOCK=LANES)

    def multiply_back(self, values: Tensor, slopes: Tensor) -> None:
        """Bring derivatives back to what the products are made of."""
        n = values.shape[1]
        multiply_back[_blocks(n)](
            *self.lists, len(self.lists[0]), values, slopes, n, BLOCK=LANES
        )


def _blocks(n: int) -> tuple[int]:
    return (triton.cdiv(n, LANES),)


def _integers(values: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int32)).to(device)


class CompiledMoments:
    """A network with frozen weights on a device: a :class:`.MomentsKernel`.

    Values that are not finite come out as such.

    Parameters
    ----------
    data : MomentsNetworkData
    real : torch.dtype
        Of all but geometry, radial functions and sums of forces; float32 or float64.
    device : torch.device
    """

    @torch.no_grad()
    def __init__(
        self, data: MomentsNetworkData, real: torch.dtype, device: torch.device
    ) -> None:
        moments = data.moments
        self.real = real
        self.mixing = moments.mixing.to(device, torch.float64, copy=True).contiguous()
        self.inverse_moment = 1.0 / moments.moment_scale.to(device, torch.float64)
        self.constants = torch.tensor(
            [moments.cutoff], dtype=torch.float64, device=device
        )
        lists = MomentLists.of(moments.rows, moments.mixing.shape[1])
        self.rows = _integers(moments.rows, device)
        self.factor, self.channel, *self.by_channel = (
            _integers(x, device) for x in lists
        )
        self.factors = _Products.of(moments.factors, real, device)
        self.n_factors = moments.factors.n_values
        self.contractions = _Products.of(moments.contractions, real, device)
        self.n_values = moments.contractions.n_values
        self.n_features = moments.n_features
        heads = [data.head(a) for a in range(len(data.fittings))]

        def copied(values: Tensor) -> Tensor:
            return values.to(device, real)

        self.fittings = [[x.mapped(copied) for x in layers] for layers, *_ in heads]
        self.linear = [copied(linear) for _, linear, _ in heads]
        self.constant = torch.stack([x for *_, x in heads]).to(device)

    def __call__(
        self,
        system: System,
        pairs: PairList,
        types: Tensor,
        *,
        derivatives: bool,
        features: Tensor | None = None,
    ) -> tuple[Tensor, MomentsSums]:
        """Evaluate structures, in the type of the System.

        Raises
        ------
        ValueError
            If the pair list does not hold every pair both ways.
        """
        call = _Call(self, system, pairs, types, features)
        with torch.cuda.device_of(system.positions):
            energies, found = call.evaluate(derivatives)
        return energies.to(system.dtype), MomentsSums(
            *(x.to(system.dtype) for x in found)
        )


class _Call:
    """One evaluation."""

    def __init__(
        self,
        network: CompiledMoments,
        system: System,
        pairs: PairList,
        types: Tensor,
        features: Tensor | None,
    ) -> None:
        self.network, self.system, self.types = network, system, types
        self.features = features
        self.links: Links = links_of(pairs, system.n_atoms)
        self.centers = pairs.i
        scale = network.inverse_moment[types][:, None]
        self.scale, self.moments = scale, system.spins.double() * scale
        self.listed = (pairs.j, pairs.shift.contiguous())
        self.placed = (
            system.positions.contiguous(),
            system.index,
            system.cell.contiguous(),
        )

    def evaluate(self, derivatives: bool) -> tuple[Tensor, MomentsSums]:
        """Return energies and their derivatives, in float64."""
        system, n = self.system, self.system.n_atoms
        energies, own = self._empty(n), self._empty(n, 3).zero_()
        pulls = self._empty(len(self.centers), 9) if derivatives else self._empty(0, 9)
        size = self._chunk()
        for begin in range(0, n, size):
            end = min(begin + size, n)
            self._add(begin, end, energies, own, pulls if derivatives else None)
        energies += self.network.constant[self.types]
        forces, turns, virials = (self._empty(n, k).zero_() for k in (3, 3, 9))
        if derivatives:
            gather_pulls[(n,)](
                self.links.first,
                *self.listed,
                self.links.reverse,
                *self.placed,
                pulls,
                forces,
                turns,
                virials,
                BLOCK=PAIRS,
                num_warps=PAIR_WARPS,
            )
        virial = system.sum(virials.view(n, 3, 3))
        return energies, MomentsSums(forces, -self.scale * (turns + own), virial)

    def _add(
        self,
        begin: int,
        end: int,
        energies: Tensor,
        own: Tensor,
        pulls: Tensor | None,
    ) -> None:
        """Evaluate atoms of a chunk; without ``pulls``, energies alone."""
        network, n = self.network, end - begin
        shift, stop = self.links.first[[begin, end]].tolist()
        n_pairs, n_channels = stop - shift, network.mixing.shape[1]
        factors = self._empty(network.n_factors, n_pairs, dtype=network.real)
        radial = self._empty(2 * n_channels + 1, n_pairs, dtype=network.real)
        values = self._empty(network.n_values, n, dtype=network.real)
        values[0] = 1.0
        values[1:BEFORE_MOMENTS] = self.moments[begin:end].T
        if n_pairs:
            describe_pairs[_blocks(n_pairs)](
                self.centers,
                *self.listed,
                *self.placed,
                self.types.int(),
                self.moments,
                network.mixing,
                network.constants,
                factors,
                radial,
                shift,
                n_pairs,
                BASIS=network.mixing.shape[2],
                CHANNELS=n_channels,
                BLOCK=LANES,
            )
            network.factors.multiply(factors)
        add_moments[(n,)](
            self.links.first,
            network.factor,
            network.channel,
            factors,
            radial,
            values,
            shift,
            n_pairs,
            begin,
            n,
            len(network.factor),
            ROWS=ROWS,
            BLOCK=PAIRS,
        )
        network.contractions.multiply(values)
        slopes = torch.zeros_like(values) if pulls is not None else None
        self._fit(begin, end, values, energies, slopes)
        if slopes is None or pulls is None:
            return
        network.contractions.multiply_back(values, slopes)
        own[begin:end] = slopes[1:BEFORE_MOMENTS].T
        if not n_pairs:
            return
        back, along = torch.zeros_like(factors), torch.empty_like(factors[0])
        differentiate_moments[_blocks(n_pairs)](
            self.centers,
            network.rows,
            *network.by_channel,
            factors,
            radial,
            slopes,
            back,
            along,
            shift,
            n_pairs,
            begin,
            n,
            len(network.rows),
            n_channels,
            BLOCK=LANES,
        )
        network.factors.multiply_back(factors, back)
        pull_pairs[_blocks(n_pairs)](
            factors,
            back,
            along,
            radial,
            pulls,
            shift,
            n_pairs,
            n_channels,
            BLOCK=LANES,
        )

    def _fit(
        self,
        begin: int,
        end: int,
        values: Tensor,
        energies: Tensor,
        slopes: Tensor | None,
    ) -> None:
        """Set energies of a chunk, and derivatives by its features."""
        network = self.network
        features = values[-network.n_features :].T
        if self.features is not None:
            self.features[begin:end] = features
        types = self.types[begin:end]
        for a, layers in enumerate(network.fittings):
            rows: Any = slice(None)
            if len(network.fittings) > 1:
                rows = (types == a).nonzero().flatten()
            with torch.enable_grad():
                own = features[rows].requires_grad_(slopes is not None)
                energy = through(layers, own)[:, 0] + own @ network.linear[a]
            energies[begin:end][rows] = energy.detach().double()
            if slopes is not None:
                (gradient,) = torch.autograd.grad(energy.sum(), own)
                slopes[-network.n_features :, rows] = gradient.T

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.system.device)

    def _chunk(self) -> int:
        """Return the number of atoms that take :data:`SHARE` of the memory."""
        network = self.network
        pairs = len(self.centers) / self.system.n_atoms
        of_pair = 2 * network.n_factors + 2 * network.mixing.shape[1] + 1
        numbers = 2 * network.n_values + 4 * network.n_features + of_pair * pairs
        room = SHARE * memory(self.system.device)
        return max(LANES, int(room / (network.real.itemsize * numbers)))
