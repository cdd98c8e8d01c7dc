"""Orders that sampled moments show by themselves, and names of phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from ase import Atoms

from ...orders import phases_per_vector
from ...spins import get_spins
from ...symmetry import conventional_cell, star
from ..order._structure_factor import structure_factor
from ._domains import distinct_waves, domains
from ._thermal_sampling import ThermalSamples, wave_weights

#: Least share of the squared moments that tells an order.
_LEAST = 0.1

#: Name of the order with q = 0.
UNIFORM = "ferromagnetic"

#: Largest denominator of components of q that are written as fractions.
_DENOMINATOR = 48


def found_orders(
    images: Sequence[Atoms], fields: Sequence[float]
) -> dict[str, np.ndarray]:
    """Return propagation vectors (Q, 3) of orders by name, the strongest first.

    q = 0, and those where the structure factor of a sampled structure is highest beside
    it, with all arms of their stars, if they hold a tenth of the squared moments or
    more. Strongest is the one with most of them in all
    structures of the weakest field. If none holds as much, the strongest is returned.

    Parameters
    ----------
    images : sequence of Atoms
        Thermal samples, of one crystal.
    fields : sequence of float
        On each.
    """
    crystal = images[0]
    stars: list[np.ndarray] = []
    for image in images:
        for q in _peaks(image):
            known = np.concatenate(stars) if stars else np.zeros((0, 3))
            together = np.concatenate([known, [q]])
            if len(distinct_waves(crystal, together, crystal)) > len(known):
                arms = domains(crystal, q, [(1, 1, 1)])
                stars.append(distinct_waves(crystal, arms, crystal))
    shares = np.array([_shares(image, stars) for image in images])
    weak = np.abs(fields) <= np.abs(fields).min()
    strength = shares[weak].sum(axis=0)
    count = np.any(get_spins(crystal), axis=1).sum()
    least = max(_LEAST, 2.0 * np.log(count) / count)
    ranks = np.argsort(-strength, kind="stable")
    kept = [k for k in ranks if shares[:, k].max() > least] or [ranks[0]]
    return {order_name(crystal, stars[k]): stars[k] for k in kept}


def _peaks(image: Atoms) -> list[np.ndarray]:
    """Return q = 0, and q (3,) of the highest S(q) that is not uniform."""
    found = structure_factor(image)
    uniform = structure_factor(image, (0, 0, 0)).intensity[0]
    others = abs(found.intensity - uniform) > 1e-6 * uniform
    if not others.any():
        return [np.zeros(3)]
    parts = {n: getattr(found, n)[others] for n in ("q", "q_cartesian", "tensor")}
    return [np.zeros(3), replace(found, **parts).peak_q]


def _shares(image: Atoms, stars: Sequence[np.ndarray]) -> list[float]:
    """Return the parts of the squared moments that are in stars of q.

    Beyond what they hold of independent moments.
    """
    spins = get_spins(image)
    magnetic = np.any(spins, axis=1)
    square = (spins[magnetic] ** 2).sum(axis=1).mean()
    found = []
    for arms in stars:
        sums = wave_weights(image, arms)[1:] @ spins
        waves = np.any(abs(sums) > 1e-12, axis=1).sum()
        found.append(float((sums**2).sum() / square - waves / magnetic.sum()))
    return found


def order_name(crystal: Atoms, q: np.ndarray) -> str:
    """Return the name of an order with the arms q (Q, 3).

    In reciprocal lattice units of the conventional cell, that arm of the star which
    looks simplest.
    """
    waves = wave_weights(crystal, q)[1:]
    magnetic = np.any(get_spins(crystal), axis=1)
    if len(q) == 1 and np.ptp(waves[:, magnetic], axis=1).max() < 1e-6 / magnetic.sum():
        return UNIFORM
    cell = conventional_cell(crystal)
    arms = star(crystal, q[0])
    if cell is not None:
        arms = phases_per_vector(Atoms(cell=cell), arms, crystal.cell)
    both = np.concatenate([arms, -arms]).round(6) + 0.0
    best = max(both, key=lambda arm: (-np.abs(arm).sum().round(4), *arm))
    parts = [Fraction(float(x)).limit_denominator(_DENOMINATOR) for x in best]
    return f"q = ({', '.join(map(str, parts))})"


def phase_name(
    samples: Sequence[ThermalSamples],
    orders: Mapping[str, np.ndarray],
    replica: int,
    direction: np.ndarray,
    field: float | None,
) -> str:
    """Return the name of the phase that a point has.

    That of the strongest order with q which is not zero, if there is one; then
    "ferromagnetic" without a field, in one "polarized" if more than half of the moments
    is along it, or "paramagnetic". An order is one if its cumulant is nearer to 2/3
    than to that of normal fluctuations of all of its components, and its square more
    than four times what independent moments have. Added is "along the field" if two
    thirds of its square are along, "across the field" if less than a sixth.

    Parameters
    ----------
    samples : sequence of ThermalSamples
        Of one realization each.
    orders : dict of (Q, 3) arrays
        By name, in the order of the samples.
    replica : int
    direction : (3,) array
    field : float or None
        T; None if fields are no matter of the diagram.
    """
    found = {}
    spins = np.concatenate([get_spins(s.final[replica]) for s in samples])
    full = np.sqrt((spins[np.any(spins, axis=1)] ** 2).sum(axis=1).mean())
    first = 0
    for name, q in orders.items():
        parts = [
            s.order_vectors[replica, :, first : first + 2 * len(q)] for s in samples
        ]
        first += 2 * len(q)
        vectors = np.concatenate(parts)
        squares = (vectors**2).sum(axis=(1, 2))
        waves = int((vectors**2).mean(axis=(0, 2)).round(12).astype(bool).sum())
        if _is_ordered(squares / full**2, 3 * waves, samples[0].n_magnetic):
            along = ((vectors @ direction) ** 2).sum(axis=1).mean() / squares.mean()
            found[name] = (squares.mean(), along)
    uniform = [name for name in found if not orders[name].any()]
    for name in uniform:
        del found[name]
    if found:
        name = max(found, key=lambda n: found[n][0])
        return name if field is None else name + _direction(found[name][1])
    along = np.mean([s.magnetization[replica] @ direction for s in samples])
    if field:
        return "polarized" if abs(along) > full / 2.0 else "paramagnetic"
    return uniform[0] if uniform else "paramagnetic"


def _is_ordered(squares: np.ndarray, components: int, count: int) -> bool:
    """Return whether an order is one, from its squares (F,) over those of moments."""
    mean = squares.mean()
    if mean < 4.0 * components / (3.0 * count):
        return False
    cumulant = 1.0 - (squares**2).mean() / (3.0 * mean**2)
    normal = 1.0 - (1.0 + 2.0 / components) / 3.0
    return bool(cumulant > (normal + 2.0 / 3.0) / 2.0)


def _direction(along: float) -> str:
    if along > 2.0 / 3.0:
        return ", along the field"
    return ", across the field" if along < 1.0 / 6.0 else ""
