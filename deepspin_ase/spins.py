"""Vector moments on ASE Atoms: reading, setting and rotating them.

Moments are Cartesian vectors in mu_B and live in
``atoms.arrays['initial_magmoms']`` with shape (N, 3). Scalars mean moments
along z. Non-magnetic atoms carry zero. Magnetic orders to set are built in
:mod:`deepspin_ase.orders`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from ._rotations import local_axes
from ._validate import non_negative

__all__ = [
    "cant_spins",
    "get_spins",
    "rotate_spins",
    "set_spins",
    "unit_vector",
]

#: The directions (M, 3) of the moments of M magnetic sites, given as Atoms.
Order: TypeAlias = Callable[[Atoms], np.ndarray]

_AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def get_spins(atoms: Atoms) -> np.ndarray:
    """Return the moments of ``atoms`` as a copy.

    Returns
    -------
    (N, 3) array, mu_B
        Scalar moments are returned along z.

    Raises
    ------
    ValueError
        If no moments are set, or they are not (N,) or (N, 3) finite numbers.
        Missing moments never become silent zeros.
    """
    if not atoms.has("initial_magmoms"):
        raise ValueError(
            "these Atoms carry no magnetic moments; set them with "
            "deepspin_ase.set_spins(atoms, moments) (zeros for non-magnetic atoms)"
        )
    return _as_vectors(atoms.arrays["initial_magmoms"], len(atoms))


def set_spins(
    atoms: Atoms,
    moments: ArrayLike | Mapping[str, float],
    *,
    pattern: ArrayLike | Order | None = None,
) -> None:
    """Set the moments of ``atoms`` in place, replacing previous ones.

    Parameters
    ----------
    atoms : Atoms
    moments : (N,) or (N, 3) array or {element: magnitude}, mu_B
        Vectors, or magnitudes along ``pattern``. Elements that a dictionary
        does not name carry zero; a negative magnitude points against the
        pattern, which makes a ferrimagnet of two elements.
    pattern : optional
        Directions of the magnitudes: an order from
        :mod:`deepspin_ase.orders`, (N,) signs +1 or -1 along z, or
        (N, 3) directions of any length. Those of atoms without moment are ignored.
        By default moments are along z.

    Raises
    ------
    ValueError
        If shapes do not fit, numbers are not finite, a named element is not in
        ``atoms``, or the pattern gives a magnetic atom no direction.
    TypeError
        If moments are no numbers, or the pattern is a name.

    Examples
    --------
    >>> set_spins(iron, {"Fe": 2.2})
    >>> set_spins(nio, {"Ni": 1.9}, pattern=antiferromagnetic((.5, .5, .5), cell=4.17))
    """
    n_atoms = len(atoms)
    if isinstance(pattern, str):
        raise TypeError(
            f"pattern is an order or directions, not {pattern!r}: give an order such "
            "as antiferromagnetic((0.5, 0.5, 0.5)), with its wave vector in reciprocal "
            'lattice units, spiral(...) or collinear("x"), or (N,) signs +1 and -1'
        )
    if isinstance(moments, Mapping):
        moments = _magnitudes(atoms, moments)
    if pattern is None:
        spins = _as_vectors(moments, n_atoms)
    elif np.shape(moments) == (n_atoms,):
        spins = _as_vectors(moments, n_atoms)
        magnetic = spins[:, 2] != 0.0
        directions = _directions(atoms, magnetic, pattern)
        spins[magnetic] = spins[magnetic, 2:] * directions
    else:
        raise ValueError(
            f"a pattern needs magnitudes, ({n_atoms},) or {{element: magnitude}}; "
            f"got moments of shape {np.shape(moments)}"
        )
    # ASE keeps the shape of an array that is there, such as bulk("Fe")'s (N,).
    atoms.set_initial_magnetic_moments(None)
    atoms.set_initial_magnetic_moments(spins + 0.0)  # -0.0 becomes 0.0


def rotate_spins(
    atoms: Atoms,
    angle_deg: float,
    *,
    axis: str | ArrayLike,
    lattice: bool = False,
    indices: ArrayLike | None = None,
) -> None:
    """Rotate the moments in place, alone or together with the lattice.

    Parameters
    ----------
    atoms : Atoms
    angle_deg : float
        Angle in degrees, right-handed about ``axis``.
    axis : (3,) array or str
        Cartesian axis of any length, or ``"x"``, ``"-z"``, ...
    lattice : bool
        Rotate positions, cell and momenta as well, about the origin: the whole
        crystal, whose energy must not change.
    indices : (K,) integers or (N,) booleans, optional
        Rotate only the moments of these atoms; not with ``lattice``.

    Raises
    ------
    ValueError
        If the axis has no length, moments are missing, or ``indices`` are
        given together with ``lattice``.
    """
    if lattice and indices is not None:
        raise ValueError("the lattice rotates as a whole: give indices or lattice=True")
    rotation = Rotation.from_rotvec(np.radians(angle_deg) * unit_vector(axis))
    spins = get_spins(atoms)
    chosen = slice(None) if indices is None else np.asarray(indices)
    spins[chosen] = rotation.apply(spins[chosen].reshape(-1, 3))
    set_spins(atoms, spins)
    if lattice:
        atoms.cell[:] = rotation.apply(atoms.cell.array)
        atoms.positions[:] = rotation.apply(atoms.positions)
        if atoms.has("momenta"):
            atoms.arrays["momenta"][:] = rotation.apply(atoms.arrays["momenta"])


def cant_spins(
    atoms: Atoms,
    reduced_temperature: float,
    *,
    seed: int | np.random.Generator | None = None,
) -> None:
    """Tilt every moment at random about its direction, in place (thermal disorder).

    The tilt angle theta of each moment is drawn independently from the
    Boltzmann distribution in a mean field B along its present direction,
    p(theta) ~ sin(theta) exp(cos(theta) / t) with t = kT / (m B) (Fisher,
    Proc. R. Soc. A 217, 295 (1953)); lengths are kept.

    Parameters
    ----------
    atoms : Atoms
    reduced_temperature : float
        t = kT / (m B) >= 0. The mean of cos(theta) is coth(1/t) - t, and for
        small t the root mean square tilt is sqrt(2 t) rad. In mean-field
        theory t = T / (3 Tc) well below the transition temperature Tc.
    seed : int or numpy Generator, optional

    Raises
    ------
    ValueError
        If moments are missing or the temperature is negative or not finite.
    """
    t = non_negative("reduced_temperature", reduced_temperature)
    spins = get_spins(atoms)
    if t == 0.0:
        return
    rng = np.random.default_rng(seed)
    u = 1.0 - rng.uniform(size=len(spins))  # in (0, 1]
    # Inverse of the cumulative distribution of cos(theta), without overflow.
    cosine = np.clip(1.0 + t * np.log(u + (1.0 - u) * np.exp(-2.0 / t)), -1.0, 1.0)
    azimuth = rng.uniform(0.0, 2.0 * np.pi, size=len(spins))
    length = np.linalg.norm(spins, axis=1, keepdims=True)
    along = spins / np.where(length > 0, length, 1.0)
    first, second = np.moveaxis(local_axes(along), 1, 0)
    across = np.cos(azimuth)[:, None] * first + np.sin(azimuth)[:, None] * second
    tilted = cosine[:, None] * along + np.sqrt(1.0 - cosine**2)[:, None] * across
    set_spins(atoms, length * tilted)


def unit_vector(vector: str | ArrayLike) -> np.ndarray:
    """Return (3,) ``vector``, or the Cartesian axis ``"x"``, ``"-z"``, at length 1.

    Raises
    ------
    ValueError
        If it is not such an axis, not a (3,) vector, or has no length.
    """
    if isinstance(vector, str):
        if vector.removeprefix("-") not in _AXES:
            raise ValueError(f"axis {vector!r} is not one of x, y, z, -x, -y, -z")
        sign = -1.0 if vector.startswith("-") else 1.0
        return sign * np.array(_AXES[vector.removeprefix("-")])
    array = np.asarray(vector, dtype=float)
    length = np.linalg.norm(array)
    if array.shape != (3,) or not np.isfinite(length) or length == 0.0:
        raise ValueError(f"expected a vector (3,) of finite length > 0, got {array}")
    return array / length


def _magnitudes(atoms: Atoms, moments: Mapping[str, float]) -> np.ndarray:
    """Return the magnitudes (N,) of a dictionary by element."""
    symbols = np.array(atoms.get_chemical_symbols())
    magnitudes = np.zeros(len(atoms))
    for element, magnitude in moments.items():
        sites = symbols == element
        if not sites.any():
            raise ValueError(
                f"there is no {element!r} in these Atoms; "
                f"the elements are {', '.join(sorted(set(symbols)))}"
            )
        if np.ndim(magnitude) != 0:
            raise ValueError(
                f"the moment of {element} must be one magnitude in mu_B, "
                f"got {magnitude}; give directions as pattern"
            )
        if isinstance(magnitude, str | bool | np.bool_):
            raise TypeError(
                f"the moment of {element} must be a number, in mu_B, got {magnitude!r}"
            )
        magnitudes[sites] = magnitude
    return magnitudes


def _directions(
    atoms: Atoms, magnetic: np.ndarray, pattern: ArrayLike | Order
) -> np.ndarray:
    """Return the unit vectors (M, 3) of the M magnetic sites."""
    n_atoms, sites = len(atoms), np.flatnonzero(magnetic)
    if callable(pattern):
        directions = pattern(atoms[sites])
        expected: list[tuple[int, ...]] = [(len(sites), 3)]
    else:
        directions = np.asarray(pattern, dtype=float)
        expected = [(n_atoms,), (n_atoms, 3)]
    if directions.shape not in expected:
        raise ValueError(
            f"the pattern has shape {directions.shape}; "
            f"expected {' or '.join(map(str, expected))}"
        )
    if not callable(pattern):
        directions = directions[sites]
    if directions.ndim == 1:
        if (np.abs(directions) != 1.0).any():
            raise ValueError("a pattern of signs holds +1 or -1 for magnetic atoms")
        directions = directions[:, None] * np.array(_AXES["z"])
    length = np.linalg.norm(directions, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length) & (length > 0))[:, 0])
    if len(bad):
        raise ValueError(
            f"the pattern gives atom {sites[bad[0]]}, which carries a moment, "
            f"no direction: {directions[bad[0]]}"
        )
    return directions / length


def _as_vectors(moments: ArrayLike, n_atoms: int) -> np.ndarray:
    """Return moments (N,) or (N, 3) as a new finite (N, 3) float array."""
    try:
        given = np.asarray(moments)
    except ValueError:  # ragged
        given = np.asarray(None)
    if given.dtype.kind not in "iuf":  # neither texts nor booleans
        raise TypeError(f"moments must be numbers, in mu_B, got {moments!r}")
    vectors = given.astype(float)
    if vectors.shape == (n_atoms,):
        vectors = vectors[:, None] * np.array(_AXES["z"])
    if vectors.shape != (n_atoms, 3):
        raise ValueError(
            f"moments have shape {vectors.shape}; expected ({n_atoms},) for "
            f"moments along z or ({n_atoms}, 3) for vectors, in mu_B"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            f"the moment of atom {bad[0]} is not finite: {vectors[bad[0]]}"
        )
    return vectors
