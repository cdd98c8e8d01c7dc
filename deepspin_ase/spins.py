"""Vector moments on ASE Atoms: reading, setting, building and turning them.

Moments are Cartesian vectors in mu_B and live in
``atoms.arrays['initial_magmoms']`` with shape (N, 3). Scalars mean moments
along z. Non-magnetic atoms carry zero.
"""

from __future__ import annotations

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike


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


def _as_vectors(moments: ArrayLike, n_atoms: int) -> np.ndarray:
    """Return moments (N,) or (N, 3) as a new finite (N, 3) float array."""
    moments = np.array(moments, dtype=float)
    if moments.shape == (n_atoms,):
        moments = moments[:, None] * np.array([0.0, 0.0, 1.0])
    if moments.shape != (n_atoms, 3):
        raise ValueError(
            f"moments have shape {moments.shape}; expected ({n_atoms},) for "
            f"moments along z or ({n_atoms}, 3) for vectors, in mu_B"
        )
    bad = np.flatnonzero(~np.isfinite(moments).all(axis=1))
    if len(bad):
        raise ValueError(f"the moment of atom {bad[0]} is not finite: {moments[bad[0]]}")
    return moments
