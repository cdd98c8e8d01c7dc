"""Evaluation of a frozen network in Triton kernels.

Whether an atom has more neighbors than slots is found out on the device and read once
at the end of a call, so that the device need not wait for the host.

Matrix products in float32 are as exact as torch is told to make them
(:func:`torch.set_float32_matmul_precision`): leave that at its default.

Not yet measured on a device: the kernels were compared with torch in Triton's
interpreter, and compiled for compute capability 9.0.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import NetworkData, NetworkSums
from .._embedding import SECTIONS
from .._layers import through
from ._force_kernels import gather_slopes
from ._geometry import PAIR_WARPS, PAIRS
from ._lists import Chunk, Layout
from ._network_kernels import differentiate_sites, multiply_sites
from ._site_kernels import collect_sites
from ._tables import Tables

logger = logging.getLogger(__name__)

#: Numbers of a block of sites times embedding, the most sites of it, and warps.
TILE, MOST_SITES, TILE_WARPS = 512, 16, 4

#: Part of the device's memory that a chunk of centres may take.
SHARE = 0.25

#: Chunks have a multiple of this many centres, so that addresses are aligned.
STEP = 64


class CompiledNetwork:
    """A network as tables and fitting networks on a device: a :class:`.NetworkKernel`.

    Values that are not finite come out as such.

    Parameters
    ----------
    data : NetworkData
    real : torch.dtype
        Of tables and fitting; float32 or float64.
    device : torch.device

    Attributes
    ----------
    layout : Layout, optional
        The last one.
    chunk : int, optional
        How many centers fit into memory, where not all did.

    Raises
    ------
    NotTabulable
        If an embedding is not smooth.
    """

    @torch.no_grad()
    def __init__(
        self, data: NetworkData, real: torch.dtype, device: torch.device
    ) -> None:
        self.tables = Tables.of(data.to(torch.device("cpu")), real, device)

        def copied(values: Tensor) -> Tensor:
            return values.to(device, real, copy=True)

        self.fittings = [
            [layer.mapped(copied) for layer in layers] for layers in data.fittings
        ]
        self.energy_bias = data.energy_bias.to(device).double().clone()
        self.layout: Layout | None = None
        self.chunk: int | None = None

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

        Raises
        ------
        ValueError
            If the pair list does not hold every pair both ways.
        torch.OutOfMemoryError
            If the device's memory is too small; says about how many atoms would fit.
        """
        self.layout = Layout.of(system, pairs, types, self.layout)
        call = _Call(self, self.layout, system, pairs, virtual)
        with torch.cuda.device_of(system.positions):
            found = call.in_chunks(derivatives)
        if bool(found.crowded):
            return None
        sums = (found.energies, found.forces, found.pulls, found.virial)
        return NetworkSums(*(x.to(system.dtype) for x in sums))


@dataclass(frozen=True)
class _Found:
    """Results of a call, in float64; zeros where no derivatives were asked for.

    Attributes
    ----------
    energies : (N,) tensor, eV
    forces, pulls : (N, 3) tensors, eV/A
        -dE/dR, and dE/d(vector to the pseudo-atom).
    virial : (B, 3, 3) tensor, eV
    crowded : () bool tensor
        Whether an atom has more sites than slots: then the rest is wrong.
    """

    energies: Tensor
    forces: Tensor
    pulls: Tensor
    virial: Tensor
    crowded: Tensor


@dataclass(frozen=True)
class _Sites:
    """The sites around the centres of a chunk; see :func:`collect_sites`."""

    centres: Tensor
    offsets: Tensor
    rows: Tensor
    cells: Tensor
    sites: Tensor
    found: Tensor
    counts: Tensor


def tile(width: int) -> dict[str, int]:
    """Return the constants of the kernels that work on sites times embedding."""
    columns = triton.next_power_of_2(width)
    return {
        "WIDTH": width,
        "COLUMNS": columns,
        "BLOCK": max(1, min(MOST_SITES, TILE // columns)),
        "num_warps": TILE_WARPS,
    }


class _Call:
    """One evaluation."""

    def __init__(
        self,
        network: CompiledNetwork,
        layout: Layout,
        system: System,
        pairs: PairList,
        virtual: Tensor,
    ) -> None:
        self.network, self.tables, self.layout = network, network.tables, layout
        self.system, self.n_pairs = system, len(pairs.i)
        self.real = self.tables.coefficients.dtype
        self.tile = tile(self.tables.coefficients.shape[2])
        #: The pair list and where the atoms are, as both kernels of geometry take it.
        self.listed = (layout.links.first, pairs.j, pairs.shift.contiguous())
        self.placed = (
            system.positions.contiguous(),
            virtual.contiguous(),
            system.index,
            system.cell.contiguous(),
        )

    def in_chunks(self, derivatives: bool) -> _Found:
        """Evaluate with chunks as small as memory demands."""
        size = self.network.chunk or self._first_chunk()
        size = min(size, triton.cdiv(self.system.n_atoms, STEP) * STEP)
        while True:
            try:
                return self.evaluate(size, derivatives)
            except torch.OutOfMemoryError:
                if size == STEP:
                    raise torch.OutOfMemoryError(self._too_large()) from None
            size = self.network.chunk = max(STEP, size // 2 // STEP * STEP)
            logger.info("out of memory: trying chunks of %d centres", size)

    def evaluate(self, size: int, derivatives: bool) -> _Found:
        """Evaluate with chunks of at most ``size`` centres."""
        n, tables = self.system.n_atoms, self.tables
        energies = self._empty(n)
        n_sites = 2 * self.n_pairs + n if derivatives else 0
        slopes = self._empty(n_sites, 4, dtype=self.real).zero_()
        crowded = torch.zeros((), dtype=torch.bool, device=self.system.device)
        for chunk in self.layout.chunks(size):
            sites = self._collect(chunk)
            crowded = crowded | (sites.counts > tables.slots).any()
            products = self._multiply(sites)
            gradients = torch.empty_like(products)
            for a, part in chunk.by_type:
                counts = sites.counts[part]
                found = self._fit(a, products[part], counts, derivatives)
                energies[sites.centres[part]], gradients[part] = found
            if derivatives:
                self._differentiate(sites, gradients, slopes)
        forces, pulls, virials = self._gather(slopes, derivatives)
        virial = self.system.sum(virials.view(n, 3, 3))
        return _Found(energies, forces, pulls, virial, crowded)

    def _empty(self, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.system.device)

    def _collect(self, chunk: Chunk) -> _Sites:
        n, stride, tables = chunk.end - chunk.begin, chunk.n_slots, self.tables
        n_types, n_sites, n_sections = tables.first.shape
        made = _Sites(
            self.layout.centres[chunk.begin : chunk.end],
            self.layout.offsets[chunk.begin : chunk.end + 1],
            self._empty(6, stride, dtype=self.real),
            self._empty(stride, dtype=torch.int32),
            self._empty(stride, dtype=torch.int64),
            self._empty(n, dtype=torch.int32),
            self._empty(n, n_sites, dtype=torch.int32).zero_(),
        )
        collect_sites[(n,)](
            made.centres,
            made.offsets,
            *self.listed,
            *self.placed,
            self.layout.types,
            tables.magnetic,
            tables.constants,
            tables.mean,
            tables.scale,
            tables.first,
            tables.cells,
            made.rows,
            made.cells,
            made.sites,
            stride,
            made.found,
            made.counts,
            self.n_pairs,
            SECTIONS=SECTIONS,
            N_SECTIONS=n_sections,
            N_TYPES=n_types,
            BLOCK=PAIRS,
            num_warps=PAIR_WARPS,
        )
        return made

    def _multiply(self, sites: _Sites) -> Tensor:
        n = len(sites.centres)
        products = self._empty(n, 4, self.tile["WIDTH"], dtype=self.real)
        multiply_sites[(n,)](
            sites.offsets,
            sites.rows,
            sites.cells,
            sites.rows.shape[1],
            sites.found,
            self.tables.coefficients,
            products,
            **self.tile,
        )
        return products

    def _fit(
        self, a: int, products: Tensor, counts: Tensor, derivatives: bool
    ) -> tuple[Tensor, Tensor]:
        """Return energies (n,) of centres of type a, and dE/d(products)."""
        tables, network = self.tables, self.network
        # Slots without a site hold the row of nothing.
        padding = (tables.slots - counts).to(self.real) @ tables.empty[a]
        products = products + tables.nothing[a][:, None] * padding[:, None]
        products = (products / tables.n_slots).requires_grad_(derivatives)
        with torch.enable_grad():
            inner = products[:, :, : tables.width]
            axes = inner[:, :, : tables.axis]
            features = torch.bmm(inner.transpose(1, 2), axes).flatten(1)
            energy = through(network.fittings[a], features)[:, 0]
        gradient = torch.zeros_like(products)
        if derivatives:
            (gradient,) = torch.autograd.grad(energy.sum(), products)
        energy = energy.detach().double() + network.energy_bias[a]
        return energy, gradient / tables.n_slots

    def _differentiate(self, sites: _Sites, gradients: Tensor, slopes: Tensor) -> None:
        differentiate_sites[(len(sites.centres),)](
            sites.centres,
            sites.offsets,
            sites.rows,
            sites.cells,
            sites.sites,
            sites.rows.shape[1],
            sites.found,
            self.layout.types,
            self.tables.scale,
            self.tables.coefficients,
            gradients,
            slopes,
            **self.tile,
        )

    def _gather(self, slopes: Tensor, derivatives: bool) -> tuple[Tensor, ...]:
        n = self.system.n_atoms
        sums = tuple(self._empty(n, k) for k in (3, 3, 9))
        if not derivatives:
            return tuple(x.zero_() for x in sums)
        gather_slopes[(n,)](
            *self.listed,
            self.layout.links.reverse,
            *self.placed,
            self.tables.constants,
            slopes,
            *sums,
            self.n_pairs,
            BLOCK=PAIRS,
            num_warps=PAIR_WARPS,
        )
        return sums

    def _first_chunk(self) -> int:
        """Return the number of centres that take :data:`SHARE` of the memory."""
        tables, size = self.tables, self.real.itemsize
        n_sites = 2 * self.n_pairs / self.system.n_atoms + 1
        biases = sum(layer.bias.numel() for layer in self.network.fittings[0])
        numbers = 6 * n_sites + 12 * self.tile["WIDTH"]
        numbers += 4 * (tables.width * tables.axis + biases)
        room = SHARE * memory(self.system.device)
        fits = int(room / (size * numbers + 12 * n_sites))
        return max(STEP, fits // STEP * STEP)

    def _too_large(self) -> str:
        """Return the message where even the smallest chunk does not fit."""
        n, device = self.system.n_atoms, self.system.device
        listed = 20 + 3 * self.system.dtype.itemsize + 8 * self.real.itemsize
        total = memory(device)
        # Beside the pairs, there is a chunk, and a list while the next one is built.
        fits = (1.0 - SHARE) / 2.0 * total / (self.n_pairs / n * listed + 500)
        return (
            f"{n} atoms with {self.n_pairs} pairs do not fit into the memory of "
            f"{device} ({total / 2**30:.0f} GiB); about {int(fits):d} atoms of this "
            "density would with nothing else on it: use a smaller structure or batch, "
            "dtype='mixed', or the CPU"
        )


def memory(device: torch.device) -> int:
    """Return the memory of a device, bytes."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return 2**32
