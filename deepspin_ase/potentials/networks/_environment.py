"""The smooth environment row of a neighbour vector, and its chain rule.

With r = |x|, q = 1/(r + p) and the switch w(r), the row of a vector x is
(q w, q^2 w x): se_e2_a of DeePMD-kit (Zhang et al., arXiv:1805.09003) with its
protection p of short distances.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Environment:
    """Environment rows of vectors (..., 3), A.

    Attributes
    ----------
    rcut, rcut_smth : float
        Where the switch reaches zero, and where it leaves one, A.
    protection : float
        p, A.
    """

    rcut: float
    rcut_smth: float
    protection: float

    def _switch(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Return the switch 1 - 10u^3 + 15u^4 - 6u^5 and its derivative."""
        width = self.rcut - self.rcut_smth
        u = ((r - self.rcut_smth) / width).clamp(0.0, 1.0)
        square = u * u
        value = square * u * (-6.0 * square + 15.0 * u - 10.0) + 1.0
        slope = (-30.0 / width) * square * (u - 1.0) ** 2
        return value, slope

    @staticmethod
    def _length(vectors: Tensor) -> Tensor:
        """Return |x|, whose gradient at x = 0 is zero."""
        square = (vectors * vectors).sum(-1)
        positive = square > 0
        return torch.where(positive, torch.where(positive, square, 1.0).sqrt(), 0.0)

    def rows(self, vectors: Tensor) -> Tensor:
        """Return the rows (..., 4) of the vectors; differentiable."""
        r = self._length(vectors)
        q = 1.0 / (r + self.protection)
        radial = q * self._switch(r)[0]
        return torch.cat([radial[..., None], (q * radial)[..., None] * vectors], dim=-1)

    def pull_back(self, vectors: Tensor, gradient: Tensor) -> Tensor:
        """Turn a gradient with respect to the rows into one for the vectors.

        Parameters
        ----------
        vectors : (..., 3) tensor, A
        gradient : (..., 4) tensor

        Returns
        -------
        (..., 3) tensor
            Zero at vectors of length zero, where the rows have a kink.
        """
        r = self._length(vectors)
        q = 1.0 / (r + self.protection)
        w, slope = self._switch(r)
        radial = -q * q * w + q * slope
        tangential = q * q * (slope - 2.0 * q * w)
        along = gradient[..., 0] * radial
        along = along + (gradient[..., 1:] * vectors).sum(-1) * tangential
        along = along / torch.where(r > 0, r, torch.inf)
        return (q * q * w)[..., None] * gradient[..., 1:] + along[..., None] * vectors
