"""Networks on moments in compiled kernels, for evaluation and for training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from ._geometry import Geometry, indices, numbers
from ._threads import share

if TYPE_CHECKING:
    from ._fitting_kernels import Fitting
    from ._moment_kernels import Moments

#: Fewest centers that are worth a thread.
LEAST = 32

#: Forces, magnetic forces and virial.
Sums = tuple[Tensor, Tensor, Tensor]


def moments_model(
    *, lattice_mixing: Tensor, spin_mixing: Tensor, real: torch.dtype, **rest: Any
) -> Moments:
    """Return radial functions and contractions as arrays for kernels.

    Parameters
    ----------
    lattice_mixing, spin_mixing : (n_types, channels, basis) tensors
    real : torch.dtype
        Of all but geometry, radial functions and sums; float32 or float64.
    **rest
        The other attributes of :class:`Moments`.
    """
    from ._moment_kernels import UNROLLED, Moments

    def padded(mixing: Tensor) -> np.ndarray:
        filling = -mixing.shape[1] % UNROLLED
        full = torch.nn.functional.pad(mixing.detach(), (0, 0, 0, filling))
        return np.ascontiguousarray(full.double().numpy())

    rest["coefficient"] = torch.from_numpy(rest["coefficient"]).to(real).numpy()
    for name in ("out", "first", "second"):
        rest[name] = rest[name].astype(np.uint32)
    for name in ("order", "parent", "axis"):
        rest[name] = rest[name].astype(np.uint64)
    return Moments(
        lattice_mixing=padded(lattice_mixing), spin_mixing=padded(spin_mixing), **rest
    )


class Head(NamedTuple):
    """Energy of an atom of one type as a function of its features.

    Attributes
    ----------
    linear : (K,)
        eV per unit of the features.
    fitting : Fitting
    constant : float, eV
    """

    linear: np.ndarray
    fitting: Fitting
    constant: float

    @classmethod
    def of(
        cls,
        layers: Sequence[tuple[Tensor, Tensor, int]],
        linear: Tensor,
        constant: float,
        real: torch.dtype,
    ) -> Head:
        """Take dense layers with tanh in between: matrix, bias, copies of the input."""
        from ._fitting_kernels import CODES, Fitting

        parts: list[Tensor] = []
        for matrix, bias, _ in layers:
            parts += [matrix.flatten(), matrix.T.flatten(), bias, torch.ones_like(bias)]
        fitting = Fitting(
            torch.cat(parts).to(real).numpy(),
            np.array([len(layers[0][0]), *(len(bias) for _, bias, _ in layers)]),
            np.array([copies for _, _, copies in layers]),
            CODES["tanh"],
        )
        return cls(linear.to(real).numpy(), fitting, constant)


class Described:
    """Neighborhoods of a System's atoms, whose features are differentiated both ways.

    Parameters
    ----------
    model : Moments
    system : System
    pairs : PairList
    types : (N,) int64 tensor
        Of the atoms, as the model counts them.
    """

    def __init__(
        self, model: Moments, system: System, pairs: PairList, types: Tensor
    ) -> None:
        self.model = model
        self.geometry = Geometry.of(system, pairs, types)
        self.types = types
        self.spins = numbers(system.spins)
        self.n_systems = system.n_systems
        self.dtype = system.dtype
        self.workers = torch.get_num_threads()

    def features(self) -> Tensor:
        """Return the features (N, K)."""
        from . import _moment_kernels as kernels

        result = self._array(len(self.spins), self.model.n_features)
        self._shared(lambda *rest: kernels.features(*rest, result))
        return torch.from_numpy(result).to(self.dtype)

    def pull_back(self, gradient: Tensor) -> Sums:
        """Return -dE/dR, -dE/dm and -dE/dstrain of dE/d(features) (N, K)."""
        from . import _moment_kernels as kernels

        slope = self._array(*gradient.shape)
        slope[...] = gradient.detach().numpy()
        sums = self._sums()

        def work(*arguments: Any) -> None:
            *rest, forces, fields, virial = arguments
            kernels.pull_back(*rest, slope, forces, fields, virial)

        self._shared(work, *sums)
        return self._reduced(sums)

    def push_forward(self, moved: Tensor, turned: Tensor, strain: Tensor) -> Tensor:
        """Return the change (N, K) of the features along a displacement.

        Parameters
        ----------
        moved, turned : (N, 3) tensors, A and mu_B
        strain : (B, 3, 3) tensor
        """
        from . import _moment_kernels as kernels

        result = self._array(len(self.spins), self.model.n_features)
        along = [numbers(x) for x in (moved, turned, strain)]

        def work(*rest: Any) -> None:
            turn = self._array(kernels.LANES, 3)
            kernels.push_forward(*rest, turn, *along, result)

        self._shared(work)
        return torch.from_numpy(result).to(self.dtype)

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
        from . import _moment_kernels as kernels

        factor = numbers(scale)
        shape = (len(scale), 1 + 6 * len(self.spins) + 9, self.model.n_features)
        sums = np.zeros((self.workers, *shape))

        def work(*arguments: Any) -> None:
            *rest, result = arguments
            kernels.design(*rest, factor, result)

        self._shared(work, sums)
        return torch.from_numpy(sums[0] if self.workers == 1 else sums.sum(0))

    def evaluate(
        self, heads: Sequence[Head], *, derivatives: bool
    ) -> tuple[Tensor, Sums]:
        """Return per-atom energies (N,) by the heads of the types, and derivatives."""
        from . import _moment_kernels as kernels

        energies, sums = np.zeros(len(self.spins)), self._sums()
        for a, head in enumerate(heads):
            centers = indices((self.types == a).nonzero().flatten())

            def work(*arguments: Any, head: Head = head) -> None:
                *rest, forces, fields, virial = arguments
                fits = kernels.fitting_space(head.fitting)
                answer = (derivatives, fits, energies, forces, fields, virial)
                kernels.evaluate(*rest, head.linear, head.fitting, *answer)

            if len(centers):
                self._shared(work, *sums, centers=centers)
        constant = torch.tensor([head.constant for head in heads], dtype=torch.float64)
        total = torch.from_numpy(energies) + constant[self.types]
        return total.to(self.dtype), self._reduced(sums)

    def _array(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, self.model.coefficient.dtype)

    def _sums(self) -> list[np.ndarray]:
        shape = self.spins.shape
        shapes = (shape, shape, (self.n_systems, 3, 3))
        return [np.zeros((self.workers, *shape)) for shape in shapes]

    def _reduced(self, sums: Sequence[np.ndarray]) -> Sums:
        a, b, c = (torch.from_numpy(x.sum(0)).to(self.dtype) for x in sums)
        return a, b, c

    def _shared(
        self,
        work: Callable[..., None],
        *sums: np.ndarray,
        centers: np.ndarray | None = None,
    ) -> None:
        """Share work on the centers, all of them by default.

        Called with (begin, end, centers, geometry, spins, model, space, own, *sums);
        every worker has separate sums.
        """
        from ._moment_kernels import LANES, Space

        if centers is None:
            centers = np.arange(len(self.spins), dtype=np.uint64)

        def part(worker: int, begin: int, end: int) -> None:
            work(
                begin,
                end,
                centers,
                self.geometry,
                self.spins,
                self.model,
                Space.allocate(self.geometry.widest, self.model),
                self._array(LANES, 3),
                *(x[worker] for x in sums),
            )

        share(part, len(centers), least=LEAST, workers=self.workers)


class _PulledBack(torch.autograd.Function):
    """Forces of dE/d(features), linear in these: the gradient is the transposed map."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor, described: Described) -> Sums:
        ctx.described = described
        return described.pull_back(slope)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.described.push_forward(*gradients), None


def pulled_back(slope: Tensor, described: Described) -> Sums:
    """Return forces, magnetic forces and virial; differentiable in ``slope``."""
    result: Sums = _PulledBack.apply(slope, described)
    return result
