"""Data of DeePMD-kit's TensorFlow back end, where moments are further atoms.

With n elements, an atom of type n + k is the pseudo-atom of an atom of the k-th
magnetic element, in the order in which they stand. It sits at R' = R + s m, where R
and m are position and moment of the atom and s = virtual_len / spin_norm in A/mu_B. Its
row among the forces is -dE/dm in eV/mu_B; the force on the atom is -dE/dR at a fixed
moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols
from ase.geometry import find_mic

from ..quantities import label_table

#: Moments in mu_B that no atom has: such a pseudo-atom belongs to another atom.
_TOO_LARGE = 15.0


@dataclass(frozen=True)
class PseudoAtoms:
    """Which rows are atoms, which are pseudo-atoms, and of what.

    Attributes
    ----------
    atoms : (N,) int array
        Rows of the atoms.
    rows : (P,) int array
        Rows of the pseudo-atoms.
    owners : (P,) int array
        Their atoms, positions in ``atoms``.
    scales : (P,) array, A/mu_B
        Their distance from the atom per moment.
    """

    atoms: np.ndarray
    rows: np.ndarray
    owners: np.ndarray
    scales: np.ndarray

    @classmethod
    def of_types(
        cls,
        path: Path,
        types: np.ndarray,
        numbers_of_type: np.ndarray,
        virtual_scale: Mapping[str, float] | None,
    ) -> PseudoAtoms:
        """Pair the pseudo-atoms among the types of a system with its atoms.

        Raises
        ------
        ValueError
            If the scales are not given, or the counts do not agree.
        """
        n_types = len(numbers_of_type)
        names = [chemical_symbols[z] for z in numbers_of_type]
        if virtual_scale is None:
            raise ValueError(
                f"{path} has atoms of type {types.max()}, but there are {n_types} "
                f"elements ({', '.join(names)}). If these are pseudo-atoms (data of "
                "DeePMD-kit's TensorFlow back end), give virtual_scale, which is "
                "virtual_len / spin_norm of each magnetic element, such as {'Ni': "
                "0.314} (--virtual-scale Ni=0.314); else complete the type map"
            )
        magnetic = [k for k, name in enumerate(names) if virtual_scale.get(name)]
        if types.max() >= n_types + len(magnetic):
            raise ValueError(
                f"{path} has pseudo-atoms of type {types.max()}, but there are "
                f"{n_types} elements, {len(magnetic)} of them with a virtual_scale "
                f"({', '.join(names[k] for k in magnetic) or 'none'})"
            )
        atoms = np.flatnonzero(types < n_types)
        rows, owners, scales = [], [], []
        for k, element in enumerate(magnetic):
            own = np.flatnonzero(types[atoms] == element)
            pseudo = np.flatnonzero(types == n_types + k)
            if len(own) != len(pseudo):
                raise ValueError(
                    f"{path} has {len(own)} atoms of {names[element]} and "
                    f"{len(pseudo)} pseudo-atoms of them (type {n_types + k})"
                )
            rows.append(pseudo)
            owners.append(own)
            scales.append(np.full(len(own), virtual_scale[names[element]]))
        return cls(
            atoms, np.concatenate(rows), np.concatenate(owners), np.concatenate(scales)
        )

    def split(
        self, folder: Path, arrays: Mapping[str, np.ndarray], *, periodic: bool
    ) -> dict[str, np.ndarray]:
        """Return the arrays of a set, by their names in Frame, of the atoms alone.

        Raises
        ------
        ValueError
            If a pseudo-atom is too far from its atom.
        """
        per_atom = {name for name, q in label_table().items() if q.per_atom}
        result = {
            name: array[:, self.atoms] if name in per_atom | {"positions"} else array
            for name, array in arrays.items()
        }
        arms = arrays["positions"][:, self.rows] - result["positions"][:, self.owners]
        if periodic:
            pairs = zip(arms, arrays["cell"], strict=True)
            arms = np.array([find_mic(arm, cell)[0] for arm, cell in pairs])
        moments = np.zeros_like(result["positions"])
        moments[:, self.owners] = arms / self.scales[:, None]
        largest = np.linalg.norm(moments, axis=2).max(initial=0.0)
        if largest > _TOO_LARGE:
            raise ValueError(
                f"{folder} has pseudo-atoms that mean moments of {largest:.3g} mu_B; "
                "expected them in the order of their atoms, at virtual_scale times the "
                "moment"
            )
        result["spins"] = moments
        if "forces" in arrays:
            magnetic_forces = np.zeros_like(result["positions"])
            magnetic_forces[:, self.owners] = arrays["forces"][:, self.rows]
            result["magnetic_forces"] = magnetic_forces
        return result
