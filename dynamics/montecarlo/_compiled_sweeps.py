"""Moves of coupled moments at chosen sites, in compiled code.

``model`` is a tuple of arrays: where the neighbors of each atom begin (N + 1,), the
neighbors (E,), their couplings K_ij (E, 1) or (E, 9), fields b_i (N, 3), anisotropies
A_i (N, 3, 3), and biquadratic couplings (E,) and cubic anisotropies (N, 11) or none of
them, as in :class:`~.montecarlo.Couplings`.
None of the sites couples to another one.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numba import njit

from ...kernels.cpu._compile import compiled_as_written

Model: TypeAlias = tuple[
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
    np.ndarray,
]

#: Pairs of sites, and their energies by what sits on them; see :func:`try_swaps`.
Table: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@njit(nogil=True)
def _field(i: int, model: Model, spins: np.ndarray) -> tuple[float, float, float]:
    """Return b_i - sum_j K_ij m_j, eV/mu_B."""
    first, neighbors, pairs, fields, _, _, _ = model
    x, y, z = fields[i, 0], fields[i, 1], fields[i, 2]
    if pairs.shape[1] == 1:
        for e in range(first[i], first[i + 1]):
            j, k = neighbors[e], pairs[e, 0]
            x -= k * spins[j, 0]
            y -= k * spins[j, 1]
            z -= k * spins[j, 2]
    else:
        for e in range(first[i], first[i + 1]):
            s, t, u = spins[neighbors[e]]
            k = pairs[e]
            x -= k[0] * s + k[1] * t + k[2] * u
            y -= k[3] * s + k[4] * t + k[5] * u
            z -= k[6] * s + k[7] * t + k[8] * u
    return x, y, z


@njit(nogil=True)
def _quadratic(tensor: np.ndarray, m: tuple[float, float, float]) -> float:
    """Return m A m, A symmetric."""
    x, y, z = m
    diagonal = tensor[0, 0] * x * x + tensor[1, 1] * y * y + tensor[2, 2] * z * z
    across = tensor[0, 1] * x * y + tensor[0, 2] * x * z + tensor[1, 2] * y * z
    return diagonal + 2.0 * across


@njit(nogil=True)
def _biquadratic(
    i: int, model: Model, spins: np.ndarray, m: tuple[float, float, float]
) -> float:
    """Return sum_j s_ij (m.m_j)^2 of a moment m at site i."""
    first, neighbors, squares = model[0], model[1], model[5]
    x, y, z = m
    total = 0.0
    for e in range(first[i], first[i + 1]):
        s, t, u = spins[neighbors[e]]
        total += squares[e] * (x * s + y * t + z * u) ** 2
    return total


@njit(nogil=True)
def _cubic(k: np.ndarray, m: tuple[float, float, float]) -> float:
    """Return the cubic anisotropy (11,) of a moment m."""
    x, y, z = m
    a = (k[2] * x + k[3] * y + k[4] * z) ** 2
    b = (k[5] * x + k[6] * y + k[7] * z) ** 2
    c = (k[8] * x + k[9] * y + k[10] * z) ** 2
    return k[0] * (a * b + b * c + c * a) + k[1] * a * b * c


@compiled_as_written
def quartic_energies(
    sites: np.ndarray, model: Model, spins: np.ndarray, energies: np.ndarray
) -> None:
    """Set ``energies`` (n, 2) of ``sites`` (n,): biquadratic and cubic, eV."""
    for k in range(len(sites)):
        i = sites[k]
        m = (spins[i, 0], spins[i, 1], spins[i, 2])
        energies[k, 0] = _biquadratic(i, model, spins, m) if len(model[5]) else 0.0
        energies[k, 1] = _cubic(model[6][i], m) if len(model[6]) else 0.0


@compiled_as_written
def local_fields(
    sites: np.ndarray, model: Model, spins: np.ndarray, fields: np.ndarray
) -> None:
    """Set ``fields`` (n, 3) to b_i - sum_j K_ij m_j of ``sites`` (n,), eV/mu_B."""
    for k in range(len(sites)):
        fields[k] = _field(sites[k], model, spins)


@njit(nogil=True)
def _nonlinear_change(
    i: int,
    model: Model,
    spins: np.ndarray,
    old: tuple[float, float, float],
    new: tuple[float, float, float],
) -> float:
    """Return the change of what is not linear in the moment of site i, eV."""
    tensor = model[4][i]
    change = _quadratic(tensor, new) - _quadratic(tensor, old)
    if len(model[5]):
        change += _biquadratic(i, model, spins, new)
        change -= _biquadratic(i, model, spins, old)
    if len(model[6]):
        change += _cubic(model[6][i], new) - _cubic(model[6][i], old)
    return change


@compiled_as_written
def try_moves(
    sites: np.ndarray,
    structure: np.ndarray,
    model: Model,
    spins: np.ndarray,
    noise: np.ndarray,
    cone: np.ndarray,
    widths: np.ndarray,
    threshold: np.ndarray,
    accepted: np.ndarray,
) -> None:
    """Try one move of each site and change ``spins`` (N, 3) where it is accepted.

    Parameters
    ----------
    sites, structure : (n,) arrays
        Atoms, and the structures that they belong to.
    noise : (n, 3) array
        Standard normal numbers.
    cone : (n,) bool array
        Whether the new direction is that of e + w noise, or of noise.
    widths : (B,) array
        w of each structure.
    threshold : (n,) array, eV
        Energy below which a move is accepted, -kT ln(1 - u) with u uniform.
    accepted : (n,) bool array
        Set.
    """
    for k in range(len(sites)):
        i = sites[k]
        a, b, c = spins[i]
        length = math.sqrt(a * a + b * b + c * c)
        x, y, z = noise[k]
        if cone[k]:
            width = widths[structure[k]] * length
            x, y, z = a + width * x, b + width * y, c + width * z
        scale = length / math.sqrt(x * x + y * y + z * z)
        x, y, z = scale * x, scale * y, scale * z
        fx, fy, fz = _field(i, model, spins)
        change = _nonlinear_change(i, model, spins, (a, b, c), (x, y, z))
        change -= (x - a) * fx + (y - b) * fy + (z - c) * fz
        accepted[k] = change <= threshold[k]
        if accepted[k]:
            spins[i] = (x, y, z)


@compiled_as_written
def overrelax(
    sites: np.ndarray, model: Model, spins: np.ndarray, threshold: np.ndarray
) -> None:
    """Rotate the moments of ``sites`` by pi about their fields, in place.

    m -> 2 (m.H) H/H^2 - m, at constant energy where that is linear in m; else where
    the rest of it does not rise above ``threshold`` (n,), as for :func:`try_moves`,
    which is empty where there is no rest. Moments without a field stay.
    """
    for k in range(len(sites)):
        i = sites[k]
        x, y, z = _field(i, model, spins)
        square = x * x + y * y + z * z
        if square == 0.0:
            continue
        a, b, c = spins[i]
        along = 2.0 * (a * x + b * y + c * z) / square
        x, y, z = along * x - a, along * y - b, along * z - c
        # Lengths are kept against round-off.
        scale = math.sqrt((a * a + b * b + c * c) / (x * x + y * y + z * z))
        x, y, z = scale * x, scale * y, scale * z
        if len(threshold):
            change = _nonlinear_change(i, model, spins, (a, b, c), (x, y, z))
            if change > threshold[k]:
                continue
        spins[i] = (x, y, z)


@njit(nogil=True)
def _uniform(state: np.ndarray) -> float:
    """Return the next number in [0, 1) of a counter ``state`` (1,) of uint64.

    SplitMix64: G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014, 453,
    doi:10.1145/2660193.2660195.
    """
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return float(z >> np.uint64(11)) * 2.0**-53


@compiled_as_written
def flip_clusters(
    sites: np.ndarray,
    bounds: np.ndarray,
    model: Model,
    spins: np.ndarray,
    kT: np.ndarray,
    axes: np.ndarray,
    seeds: np.ndarray,
) -> int:
    """Reflect clusters of moments, m -> m - 2 (m.r) r, in place; return their size.

    Parameters
    ----------
    sites : (n,) array
        Magnetic atoms, those of each structure together.
    bounds : (B + 1,) array
        Where the sites of each structure begin.
    model : Model
        Couplings are numbers; there are no fields and no anisotropies.
    spins : (N, 3) array
    kT : (B,) array, eV
    axes : (B, C, 3) array
        Unit vectors r of C clusters in each structure.
    seeds : (B,) array of uint64
        Of the random numbers; moved on.
    """
    first, neighbors, pairs, _, _, _, _ = model
    stack = np.empty(len(spins), np.int64)
    inside = np.zeros(len(spins), np.bool_)
    flipped = 0
    for b in range(len(kT)):
        state = seeds[b : b + 1]
        for c in range(axes.shape[1]):
            x, y, z = axes[b, c]
            n = bounds[b + 1] - bounds[b]
            start = sites[bounds[b] + int(_uniform(state) * n)]
            stack[0], inside[start] = start, True
            size, done = 1, 0
            while done < size:
                i = stack[done]
                done += 1
                along = x * spins[i, 0] + y * spins[i, 1] + z * spins[i, 2]
                spins[i, 0] -= 2.0 * along * x
                spins[i, 1] -= 2.0 * along * y
                spins[i, 2] -= 2.0 * along * z
                for e in range(first[i], first[i + 1]):
                    j = neighbors[e]
                    if inside[j]:
                        continue
                    other = x * spins[j, 0] + y * spins[j, 1] + z * spins[j, 2]
                    # The cost of flipping only one of the two.
                    cost = -2.0 * pairs[e, 0] * along * other
                    if cost > 0.0 and kT[b] * -math.log(1 - _uniform(state)) < cost:
                        inside[j], stack[size] = True, j
                        size += 1
            for k in range(size):
                inside[stack[k]] = False
            flipped += size
    return flipped


@njit(nogil=True)
def _surroundings(site: int, other: int, table: Table, kinds: np.ndarray) -> float:
    """Return the energy of the pairs of a site, eV.

    Those with itself and with ``other`` by half: they are met from both ends.
    """
    first, neighbors, distances, energies = table
    total = 0.0
    own = kinds[site]
    for e in range(first[site], first[site + 1]):
        j = neighbors[e]
        weight = 0.5 if j == site or j == other else 1.0
        total += weight * energies[distances[e], own, kinds[j]]
    return total


@compiled_as_written
def try_changes(
    sites: np.ndarray,
    steps: np.ndarray,
    threshold: np.ndarray,
    table: Table,
    elements: tuple[np.ndarray, np.ndarray, np.ndarray],
    kinds: np.ndarray,
) -> int:
    """Try changes of elements one after the other; return the number of those made.

    Parameters
    ----------
    sites, steps : (n,) arrays
        The new element is as many places and one further among those that change.
    threshold : (n,) array, eV
        As for :func:`try_moves`.
    table : tuple of arrays
        As for :func:`try_swaps`.
    elements : tuple of arrays
        Kinds that change (M,), the place of every kind among them (K,), and chemical
        potentials of all kinds (K,), eV.
    kinds : (N,) array
        Of the atoms; changed.
    """
    own, place, mu = elements
    made = 0
    for k in range(len(sites)):
        i = sites[k]
        old = kinds[i]
        new = own[(place[old] + 1 + steps[k]) % len(own)]
        before = _surroundings(i, -1, table, kinds) - mu[old]
        kinds[i] = new
        after = _surroundings(i, -1, table, kinds) - mu[new]
        if after - before <= threshold[k]:
            made += 1
        else:
            kinds[i] = old
    return made


@compiled_as_written
def try_swaps(
    trials: np.ndarray,
    threshold: np.ndarray,
    table: Table,
    kinds: np.ndarray,
    who: np.ndarray,
) -> int:
    """Try swaps of atoms one after the other; return the number of those made.

    Parameters
    ----------
    trials : (n, 2) array
        Atoms.
    threshold : (n,) array, eV
        As for :func:`try_moves`.
    table : tuple of arrays
        Where the neighbors of each site begin (N + 1,), the neighbors (E,), their
        distances (E,), and energies by distance and kinds (R, K, K), eV.
    kinds : (N,) array
        Of the atoms at the sites; changed.
    who : (N,) array
        Atoms at the sites; changed.
    """
    site_of = np.empty_like(who)
    for site in range(len(who)):
        site_of[who[site]] = site
    made = 0
    for k in range(len(trials)):
        a, b = trials[k]
        i, j = site_of[a], site_of[b]
        before = _surroundings(i, j, table, kinds) + _surroundings(j, i, table, kinds)
        kinds[i], kinds[j] = kinds[j], kinds[i]
        after = _surroundings(i, j, table, kinds) + _surroundings(j, i, table, kinds)
        if after - before <= threshold[k]:
            who[i], who[j] = b, a
            site_of[a], site_of[b] = j, i
            made += 1
        else:
            kinds[i], kinds[j] = kinds[j], kinds[i]
    return made
