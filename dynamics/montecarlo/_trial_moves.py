"""Trial moves of single spins for Metropolis Monte Carlo, and acceptance statistics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from .._state import Stateful
from ..integrators._rotations import with_lengths

#: Width of the cone at the start, and the limits between which it adapts.
FIRST_WIDTH, NARROWEST, WIDEST = 0.5, 1e-7, 60.0

#: Target acceptance of the cone.
TARGET = 0.5

#: Exponent of Robbins and Monro by which the adaptation slows down.
SLOWING = 0.6

MOVES = ("cone", "uniform", "mixed")

Counts: TypeAlias = tuple[Tensor, Tensor]


class Acceptance(Stateful):
    """Numbers of trials and of accepted ones.

    Attributes
    ----------
    tried, accepted : (n,) tensors
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self.tried = torch.zeros(count, dtype=torch.float64, device=device)
        self.accepted = torch.zeros_like(self.tried)

    def add(
        self, accepted: Tensor, index: Tensor, chosen: Tensor | None = None
    ) -> Counts:
        """Count trials, (k,) bool, each under its ``index`` (k,); return the counts.

        Only those that are ``chosen`` (k,) bool, where given.
        """
        tried = torch.ones_like(accepted) if chosen is None else chosen
        both = [
            torch.bincount(index, x.double(), minlength=len(self.tried))
            for x in (tried, accepted & tried)
        ]
        self.add_counts((both[0], both[1]))
        return both[0], both[1]

    def add_counts(self, counts: Counts) -> None:
        """Add numbers of tried and accepted moves, (n,)."""
        self.tried, self.accepted = self.tried + counts[0], self.accepted + counts[1]

    @property
    def rate(self) -> Tensor:
        """Accepted share of the trials, (n,); nan where there was none."""
        return self.accepted / self.tried

    def state_dict(self) -> list[Tensor]:
        """Return the counts."""
        return [self.tried, self.accepted]

    def load_state_dict(self, state: Sequence[Tensor]) -> None:
        """Restore the counts."""
        self.tried, self.accepted = state


class TrialMoves(Stateful):
    """Cone and uniform moves, both as likely there as back.

    ``"cone"``: e' = (e + w x)/|e + w x| with three standard normal numbers x, whose
    distribution depends on the angle between e and e' alone. The width w of each
    replica is adapted to an acceptance of one half (J. D. Alzate-Cardona et al.,
    J. Phys.: Condens. Matter 31, 095802 (2019), doi:10.1088/1361-648X/aaf852) by
    ln w <- ln w + k^-0.6 (acceptance - 1/2) in the k-th of the first sweeps
    (H. Robbins and S. Monro, Ann. Math. Stat. 22, 400 (1951),
    doi:10.1214/aoms/1177729586), and stays from then on.

    ``"uniform"``: e' anywhere on the sphere. ``"mixed"``: one or the other, with equal
    probability (D. Hinzke and U. Nowak, Comput. Phys. Commun. 121-122, 334 (1999),
    doi:10.1016/S0010-4655(99)00348-3).

    Parameters
    ----------
    move : {"cone", "uniform", "mixed"}
    n_replicas : int
    adaptation_steps : int
        Sweeps in which the width adapts.
    device : torch.device

    Attributes
    ----------
    widths : (B,) tensor
        w, the tangent of the typical angle.
    counts : dict of Acceptance
        By kind of move; they start again when the width is settled.
    """

    def __init__(
        self, move: str, n_replicas: int, adaptation_steps: int, device: torch.device
    ) -> None:
        self.move = move
        self.adaptation_steps = adaptation_steps
        self.widths = torch.full(
            (n_replicas,), FIRST_WIDTH, dtype=torch.float64, device=device
        )
        self.adapt_again()

    def adapt_again(self) -> None:
        """Begin the adaptation again, at the present width."""
        self._sweeps = 0
        self._count_from_here()

    def _count_from_here(self) -> None:
        kinds = ("cone", "uniform") if self.move == "mixed" else (self.move,)
        size, device = len(self.widths), self.widths.device
        self.counts = {kind: Acceptance(size, device) for kind in kinds}
        self._recent = Acceptance(size, device)

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return normal numbers (n, 3), and a mask (n,) of the moves by a cone.

        Parameters
        ----------
        n : int
        generator : torch.Generator
        """
        options: dict[str, Any] = {
            "generator": generator,
            "device": self.widths.device,
            "dtype": self.widths.dtype,
        }
        noise = torch.randn((n, 3), **options)
        if self.move == "mixed":
            return noise, torch.rand(n, **options) < 0.5
        cone = torch.full((n,), self.move == "cone", device=self.widths.device)
        return noise, cone

    def moved(
        self,
        spins: Tensor,
        lengths: Tensor,
        replica: Tensor,
        noise: Tensor,
        cone: Tensor,
    ) -> Tensor:
        """Return trial moments (n, 3) of equal lengths.

        Parameters
        ----------
        spins, lengths : (n, 3) and (n, 1) tensors, mu_B
        replica : (n,) int64 tensor
        noise, cone : (n, 3) and (n,) tensors
            Of :meth:`draw`.
        """
        near = spins / lengths + self.widths[replica][:, None] * noise
        return with_lengths(torch.where(cone[:, None], near, noise), lengths)

    def record(self, accepted: Tensor, cone: Tensor, replica: Tensor) -> None:
        """Count trials by kind of move and replica; all arguments are (n,)."""
        by_cone = self._recent.add(accepted, replica, cone)
        if "cone" in self.counts:
            self.counts["cone"].add_counts(by_cone)
        if "uniform" in self.counts:
            self.counts["uniform"].add(accepted, replica, ~cone)

    def end_sweep(self) -> None:
        """Adapt the width while it may."""
        if self._sweeps >= self.adaptation_steps:
            return
        self._sweeps += 1
        rate = torch.nan_to_num(self._recent.rate, nan=TARGET)
        gain = self._sweeps**-SLOWING * (rate - TARGET)
        self.widths = (self.widths * gain.exp()).clamp(NARROWEST, WIDEST)
        self._recent = Acceptance(len(self.widths), self.widths.device)
        if self._sweeps == self.adaptation_steps:
            self._count_from_here()

    def state_dict(self) -> dict[str, Any]:
        """Return widths, sweeps and counts."""
        return {
            "widths": self.widths,
            "sweeps": self._sweeps,
            "counts": {kind: count.state_dict() for kind, count in self.counts.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state_dict`."""
        self.widths, self._sweeps = state["widths"], state["sweeps"]
        for kind, count in self.counts.items():
            count.load_state_dict(state["counts"][kind])


def metropolis(change: Tensor, kT: Tensor, generator: torch.Generator) -> Tensor:
    """Accept changes of energy with the probability min(1, exp(-change/kT)).

    N. Metropolis et al., J. Chem. Phys. 21, 1087 (1953), doi:10.1063/1.1699114. At
    kT = 0 only what does not raise the energy is accepted.

    Parameters
    ----------
    change, kT : (n,) tensors, eV
    generator : torch.Generator

    Returns
    -------
    (n,) bool tensor
    """
    return change <= acceptable(kT, generator)


def acceptable(kT: Tensor, generator: torch.Generator) -> Tensor:
    """Return random changes of energy (n,) up to which moves are accepted, eV.

    -kT ln(1 - u) with u uniform in [0, 1).
    """
    u = torch.rand(kT.shape, generator=generator, device=kT.device, dtype=kT.dtype)
    return -kT * torch.log1p(-u)
