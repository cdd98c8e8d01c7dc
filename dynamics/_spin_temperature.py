"""Temperature of the directions of the spins, for any model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ase import units
from torch import Tensor

from ..system import System
from .integrators._rotations import rotate

#: Rotation for central differences, rad: small for models in float32 and float64.
_ANGLE = 1e-2

#: Second derivatives below this, relative to the terms they are made of, are zero.
_ROUND_OFF = 1e-10


def rotational_temperature(above: Tensor, below: Tensor) -> Tensor:
    """Return the temperature, (B,), K, of the sums of :func:`rotational_sums`.

    Zero where the second one is.
    """
    return torch.where(below != 0, above / below, 0.0) / units.kB


def rotational_sums(
    system: System,
    field: Callable[[Tensor], Tensor],
    *,
    free: Tensor | float = 1.0,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return sums, (B,), eV^2 and eV, whose ratio is k T of the spins' directions.

    With L_i = m_i x d/dm_i, the generator of rotations of spin i, partial integration
    over the sphere gives k T = <sum_i |L_i E|^2> / <sum_i L_i^2 E> (H. H. Rugh, Phys.
    Rev. Lett. 78, 772 (1997), doi:10.1103/PhysRevLett.78.772; W. B. Nurdin and
    K.-D. Schotte, Phys. Rev. E 61, 3579 (2000), doi:10.1103/PhysRevE.61.3579), exact
    in canonical equilibrium whatever the energy depends on. L_i E is minus the torque
    m_i x B_i; the sum of the second derivatives is that along one random rotation of
    all spins, each component +-1 (M. F. Hutchinson, Commun. Stat. Simul. 18, 1059
    (1989), doi:10.1080/03610918908812806), by central differences: three model calls.
    Both sums scatter: the ratio is reliable for many spins, or few that are ordered,
    not where the second sum comes near zero, and better taken of averages of both. The
    second one is exactly zero where spins are free.

    Parameters
    ----------
    system : System
    field : callable
        Returns B = -dE/dm (N, 3), eV/mu_B, at spins (N, 3), mu_B.
    free : (N, 1) tensor
        Zero for spins that do not count.
    seed : int
        Of the random rotation.
    """
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, system.spins.shape, generator=generator)
    rotation = (2.0 * signs - 1.0).to(system.spins) * free

    def torques(spins: Tensor) -> Tensor:
        return torch.linalg.cross(spins, field(spins)) * free

    ahead, back = (
        torques(rotate(system.spins, sign * _ANGLE * rotation)) for sign in (1.0, -1.0)
    )
    above = system.sum(torques(system.spins).square().sum(1))
    below = system.sum((rotation * (back - ahead)).sum(1)) / (2.0 * _ANGLE)
    # Free spins have no such derivatives: what is left is round-off.
    size = system.sum((rotation * (back.abs() + ahead.abs())).abs().sum(1))
    known = below.abs() * 2.0 * _ANGLE > _ROUND_OFF * size
    return above, torch.where(known, below, 0.0)
