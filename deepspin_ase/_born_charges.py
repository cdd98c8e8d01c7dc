"""Born effective charges, given by element or by atom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

#: By element, a number or a (3, 3) tensor; or (N,) or (N, 3, 3) for all atoms.
BornCharges: TypeAlias = Mapping[str, ArrayLike] | ArrayLike

#: Mean Born charge per atom (e) that is taken for rounding and removed.
NEUTRAL = 0.05


def born_tensors(atoms: Atoms, born_charges: BornCharges) -> np.ndarray:
    """Return the Born charges (N, 3, 3), e, whose sum is zero.

    Raises
    ------
    ValueError
        If an element or a shape does not fit, a charge is not finite, or they do not
        add up to zero.
    """
    if isinstance(born_charges, Mapping):
        symbols = atoms.get_chemical_symbols()
        missing = sorted(set(symbols) - set(born_charges))
        if missing:
            raise ValueError(f"born_charges lacks {', '.join(missing)}")
        tensors = [_tensor(born_charges[symbol]) for symbol in symbols]
    else:
        given = np.asarray(born_charges, dtype=float)
        if given.shape not in ((len(atoms),), (len(atoms), 3, 3)):
            raise ValueError(
                f"born_charges have shape {given.shape}; expected ({len(atoms)},), "
                f"({len(atoms)}, 3, 3) or {{element: charge}}"
            )
        tensors = [_tensor(charge) for charge in given]
    charges = np.array(tensors)
    excess = charges.mean(axis=0)
    if not np.isfinite(charges).all() or np.abs(excess).max() > NEUTRAL:
        raise ValueError(
            "the Born charges must be finite and add up to zero; their mean is\n"
            f"{excess.round(3)} e per atom"
        )
    return charges - excess


def _tensor(charge: ArrayLike) -> np.ndarray:
    tensor = np.asarray(charge, dtype=float)
    if tensor.shape not in ((), (3, 3)):
        raise ValueError(
            f"a Born charge is a number or a (3, 3) tensor, got shape {tensor.shape}"
        )
    return tensor * np.eye(3) if tensor.ndim == 0 else tensor
