"""Atomic moments held by a quadratic penalty in GPAW; needs GPAW."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.units import Ha
from gpaw.extensions import Extension
from numpy.typing import NDArray


class MomentConstraint(Extension):
    """Field b = 2 penalty (M - target) on the moment M of each atom.

    M is the moment in the augmentation sphere. The field acts on the electrons, and no
    energy is added: what GPAW returns is the energy of the constrained state without
    the penalty, since the work of the field is taken off with the kinetic correction.
    At self-consistency dE/dM = -b, so that the magnetic force is +b, at the moments
    that are reached.

    Source: constraining fields as Lagrange multipliers, Dederichs et al., Phys. Rev.
    Lett. 53, 2512 (1984); penalty for vectors, Ma and Dudarev, Phys. Rev. B 91, 054420
    (2015).

    Parameters
    ----------
    targets : dict
        Moments (3,) by atom, mu_B.
    penalty : float
        eV/mu_B^2.
    """

    name = "moment_constraint"

    def __init__(self, targets: Mapping[int, Any], penalty: float) -> None:
        self.targets = {int(a): np.asarray(m, dtype=float) for a, m in targets.items()}
        self.penalty = penalty / Ha
        self.moments: dict[int, NDArray[np.float64]] = {}
        self.fields: dict[int, NDArray[np.float64]] = {}
        self._overlaps: dict[int, NDArray[np.float64]] = {}

    def todict(self) -> dict[str, Any]:
        """Return the parameters, as GPAW writes them to its files."""
        targets = {a: m.tolist() for a, m in self.targets.items()}
        return {"targets": targets, "penalty": self.penalty * Ha}

    def __repr__(self) -> str:
        """Return what GPAW's log says of it, from which the log can be read again."""
        parameters = self.todict()
        return "MomentConstraint(targets={targets}, penalty={penalty})".format(
            **parameters
        )

    def update_non_local_hamiltonian(
        self, D_sii: Any, setup: Any, atom_index: int, dH_sii: Any
    ) -> float:
        """Add the field to the atomic Hamiltonian; called by GPAW in each iteration."""
        if atom_index not in self.targets:
            return 0.0
        if atom_index not in self._overlaps:
            self._overlaps[atom_index] = _overlaps(setup)
        overlap = self._overlaps[atom_index]
        moment = np.einsum("vij,ij->v", D_sii[1:4].real, overlap)
        field = 2.0 * self.penalty * (moment - self.targets[atom_index])
        self.moments[atom_index] = moment
        self.fields[atom_index] = Ha * field
        dH_sii[1:4] += field[:, None, None] * overlap
        return 0.0


def _overlaps(setup: Any) -> NDArray[np.float64]:
    """Return the overlaps (i, i) of partial waves within the augmentation sphere."""
    radial = np.asarray(setup.l_j)
    n = len(radial)
    packed = np.zeros((n, n))
    packed[np.triu_indices(n)] = setup.N0_q
    packed += np.triu(packed, 1).T
    which = np.repeat(np.arange(n), 2 * radial + 1)
    m = np.concatenate([np.arange(2 * x + 1) for x in radial])
    same = (radial[which][:, None] == radial[which]) & (m[:, None] == m)
    return np.where(same, packed[which][:, which], 0.0)
