"""Networks on moments in compiled kernels, for evaluation and for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._data import Instructions, MomentsData, MomentsNetworkData, MomentsSums
from .._layers import Layer
from .._moment_tables import MomentLists, sums
from ._geometry import Geometry, indices, numbers
from ._threads import share

if TYPE_CHECKING:
    from ._moment_kernels import Head, Moments, Products, Space

#: Fewest centers that are worth a thread.
LEAST = 32

#: Layers have multiples of this many outputs.
MULTIPLE = 4


class Descriptor:
    """Radial functions and contractions as arrays, and space to work in.

    Called with structures, it returns their :class:`Described` neighborhoods.

    Parameters
    ----------
    data : MomentsData
    real : torch.dtype
        Of all but geometry, radial functions and sums; float32 or float64.
    layers, width : int
        Number of layers of heads, and most outputs of one; 0 without heads.
    """

    @torch.no_grad()
    def __init__(
        self, data: MomentsData, real: torch.dtype, *, layers: int = 0, width: int = 0
    ) -> None:
        from ._moment_kernels import no_head

        self.model = _model(data, real)
        self.nothing = no_head(self.model.contractions.coefficient.dtype)
        self._layers = layers
        self._width = width
        self._spaces: list[Space] = []

    def __call__(self, system: System, pairs: PairList, types: Tensor) -> Described:
        """Return neighborhoods; types are (N,) int64."""
        return Described(self, system, pairs, types)

    @contextmanager
    def space(self, widest: int) -> Iterator[Space]:
        """Lend work space to a thread; it is used again."""
        from ._moment_kernels import Space

        space = self._spaces.pop() if self._spaces else None
        if space is None or space.listed.shape[1] < widest:
            space = Space.allocate(widest, self.model, self._layers, self._width)
        yield space
        self._spaces.append(space)


def _model(data: MomentsData, real: torch.dtype) -> Moments:
    from ._moment_kernels import Moments

    channels = data.mixing.shape[1]
    padding = (0, 0, 0, channels % 2)
    mixing = torch.nn.functional.pad(data.mixing.double(), padding)
    inverse = (1.0 / data.moment_scale.double()).numpy()
    lists = MomentLists.of(data.rows, mixing.shape[1])
    return Moments(
        cutoff=data.cutoff,
        mixing=np.ascontiguousarray(mixing.numpy()),
        lattice=data.lattice,
        order=np.argsort(inverse == 0.0, kind="stable").astype(np.uint64),
        magnetic=int((inverse > 0.0).sum()),
        inverse_moment=inverse,
        factors=_products(data.factors, real),
        n_factors=data.factors.n_values,
        rows=np.array(data.rows, np.uint32),
        by_channel=lists.bounds.astype(np.uint32),
        factor=lists.factors.astype(np.uint32),
        moment=lists.moments.astype(np.uint32),
        contractions=_products(data.contractions, real),
        n_moments=len(lists.factor),
        n_values=data.contractions.n_values,
        n_features=data.n_features,
    )


def _products(instructions: Instructions, real: torch.dtype) -> Products:
    from ._moment_kernels import Products

    out, start = sums(instructions)
    return Products(
        out=out.astype(np.uint32),
        start=start.astype(np.uint32),
        first=instructions.first.astype(np.uint32),
        second=instructions.second.astype(np.uint32),
        coefficient=torch.from_numpy(instructions.coefficient).to(real).numpy(),
    )


def _whole(width: int) -> int:
    return width + -width % MULTIPLE


def _head(layers: Sequence[Layer], linear: Tensor, real: torch.dtype) -> Head:
    """Return energies by features as arrays, with whole widths."""
    from ._moment_kernels import Head

    parts: list[Tensor] = []
    places = torch.arange(len(linear))  # of the inputs of a layer
    width = _whole(len(places))
    widths = [width]
    for layer in layers:
        outputs = torch.arange(len(layer.bias))
        if layer.copies:
            # Copies of an input that is filled up.
            outputs = torch.cat([k * width + places for k in range(layer.copies)])
        width = _whole(int(outputs[-1]) + 1)
        matrix = torch.zeros(widths[-1], width, dtype=torch.float64)
        bias = torch.zeros(width, dtype=torch.float64)
        matrix[places[:, None], outputs] = layer.matrix
        bias[outputs] = layer.bias
        parts += [matrix.flatten(), matrix.T.flatten(), bias]
        widths.append(width)
        places = outputs
    return Head(
        linear.to(real).numpy(),
        torch.cat([linear[:0], *parts]).to(real).numpy(),
        np.array(widths),
        np.array([layer.copies for layer in layers], dtype=np.int64),
    )


def _contributing(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Return the layers, or none if the last one is zero: after a linear fit alone."""
    *_, last = layers
    return layers if last.matrix.any() or last.bias.any() else ()


class Described:
    """Neighborhoods of a System's atoms, whose features are differentiated both ways.

    Parameters
    ----------
    descriptor : Descriptor
    system : System
    pairs : PairList
    types : (N,) int64 tensor
        Of the atoms.
    """

    def __init__(
        self, descriptor: Descriptor, system: System, pairs: PairList, types: Tensor
    ) -> None:
        self.descriptor = descriptor
        self.model = descriptor.model
        self.geometry = Geometry.of(system, pairs, types)
        self.types = types
        self.spins = numbers(system.spins)
        self.n_systems = system.n_systems
        self.dtype = system.dtype
        self.workers = torch.get_num_threads()

    def is_finite(self) -> bool:
        """Return whether positions, cells and moments are finite."""
        return self.geometry.is_finite() and bool(np.isfinite(self.spins).all())

    def features(self) -> Tensor:
        """Return the features (N, K)."""
        from ._moment_kernels import FEATURES

        result = self._rows()
        nothing = [[np.zeros(s)] * self.workers for s in ((0, 3), (0, 3), (0, 3, 3))]
        self._run(FEATURES, self._centers(), nothing, rows=result)
        return torch.from_numpy(result).to(self.dtype)

    def pull_back(self, gradient: Tensor) -> MomentsSums:
        """Return forces, magnetic forces and virial of dE/d(features) (N, K)."""
        from ._moment_kernels import PULL_BACK

        rows = self._rows()
        rows[...] = gradient.detach().numpy()
        sums = self._sums()
        self._run(PULL_BACK, self._centers(), sums, rows=rows)
        return self._reduced(sums)

    def push_forward(self, moved: Tensor, turned: Tensor, strain: Tensor) -> Tensor:
        """Return the change (N, K) of the features along a displacement.

        Parameters
        ----------
        moved, turned : (N, 3) tensors, A and mu_B
        strain : (B, 3, 3) tensor
        """
        from ._moment_kernels import PUSH_FORWARD

        result = self._rows()
        along = [numbers(x) for x in (moved, turned, strain)]
        same = [[x] * self.workers for x in along]
        self._run(PUSH_FORWARD, self._centers(), same, rows=result)
        return torch.from_numpy(result).to(self.dtype)

    def design(self, scale: Tensor) -> Tensor:
        """Return sums of scaled features and their derivatives.

        See :meth:`~deepspin_ase.kernels.MomentFeatures.design`.
        """
        from ._moment_kernels import design

        factor, centers = numbers(scale), self._centers()
        shape = (len(scale), 1 + 6 * len(self.spins) + 9, self.model.n_features)
        sums = np.zeros((self.workers, *shape))

        def work(worker: int, begin: int, end: int) -> None:
            with self.descriptor.space(self.geometry.widest) as space:
                design(
                    begin,
                    end,
                    centers,
                    self.geometry,
                    self.spins,
                    self.model,
                    space,
                    factor,
                    sums[worker],
                )

        share(work, len(centers), least=1, workers=self.workers)
        return torch.from_numpy(sums[0] if self.workers == 1 else sums.sum(0))

    def energies(
        self, heads: Sequence[Head], *, derivatives: bool, features: Tensor | None
    ) -> tuple[Tensor, MomentsSums]:
        """Return per-atom energies (N,) by the heads of the types, and derivatives.

        Sets ``features`` (N, K), in the type of the descriptor, if given.
        """
        from ._moment_kernels import DERIVATIVES, ENERGIES

        task = DERIVATIVES if derivatives else ENERGIES
        rows = None if features is None else features.numpy()
        energies, sums = np.zeros(len(self.spins)), self._sums()
        for a, head in enumerate(heads):
            centers = indices((self.types == a).nonzero().flatten())
            if len(centers):
                self._run(task, centers, sums, head=head, energies=energies, rows=rows)
        return torch.from_numpy(energies), self._reduced(sums)

    def _centers(self) -> np.ndarray:
        """Return all atoms, those of one type together: their neighbors are alike."""
        return indices(torch.argsort(self.types, stable=True))

    def _rows(self) -> np.ndarray:
        shape = (len(self.spins), self.model.n_features)
        return np.empty(shape, self.model.contractions.coefficient.dtype)

    def _sums(self) -> list[np.ndarray]:
        shape = self.spins.shape
        shapes = (shape, shape, (self.n_systems, 3, 3))
        return [np.zeros((self.workers, *shape)) for shape in shapes]

    def _reduced(self, sums: Sequence[np.ndarray]) -> MomentsSums:
        return MomentsSums(
            *(
                torch.from_numpy(x[0] if len(x) == 1 else x.sum(0)).to(self.dtype)
                for x in sums
            )
        )

    def _run(
        self,
        task: int,
        centers: np.ndarray,
        sums: Sequence[Sequence[np.ndarray] | np.ndarray],
        *,
        head: Head | None = None,
        energies: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> None:
        """Share a task of :func:`._moment_kernels.run`; workers have separate sums."""
        from ._moment_kernels import run

        head = self.descriptor.nothing if head is None else head
        energies = np.zeros(0) if energies is None else energies
        if rows is None:
            rows = np.zeros((0, 0), self.model.contractions.coefficient.dtype)

        def work(worker: int, begin: int, end: int) -> None:
            with self.descriptor.space(self.geometry.widest) as space:
                run(
                    task,
                    begin,
                    end,
                    centers,
                    self.geometry,
                    self.spins,
                    self.model,
                    head,
                    space,
                    energies,
                    rows,
                    *(x[worker] for x in sums),
                )

        share(work, len(centers), least=LEAST, workers=self.workers)


class CompiledMoments:
    """A network with frozen weights, see :class:`.MomentsKernel`.

    Parameters
    ----------
    data : MomentsNetworkData
    real : torch.dtype
        Of all but geometry, radial functions and sums; float32 or float64.
    """

    @torch.no_grad()
    def __init__(self, data: MomentsNetworkData, real: torch.dtype) -> None:
        heads = [data.head(a) for a in range(len(data.fittings))]
        self.heads = [
            _head(_contributing(layers), linear, real) for layers, linear, _ in heads
        ]
        width = max(int(head.widths[1:].max(initial=0)) for head in self.heads)
        layers = max(len(head.copies) for head in self.heads)
        self.descriptor = Descriptor(data.moments, real, layers=layers, width=width)
        self.constants = torch.stack([constant for *_, constant in heads])

    def __call__(
        self,
        system: System,
        pairs: PairList,
        types: Tensor,
        *,
        derivatives: bool,
        features: Tensor | None = None,
    ) -> tuple[Tensor, MomentsSums] | None:
        """Evaluate structures, in the type of the System."""
        described = self.descriptor(system, pairs, types)
        if not described.is_finite():
            return None
        energies, sums = described.energies(
            self.heads, derivatives=derivatives, features=features
        )
        return (energies + self.constants[types]).to(system.dtype), sums
