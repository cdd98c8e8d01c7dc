"""Uniform electric fields that act on Born effective charges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..._born_charges import NEUTRAL, BornCharges, born_tensors
from ..._validate import as_vector
from ...neighbors import PairList
from ...system import System, check_structure
from .._base import Potential
from .._crystal import Crystal, Occupation, OccupationCache
from .._registry import register

#: Part of a unit field, along directions without period, that is round-off.
_ROUND_OFF = 1e-6


@register
class ElectricField(Potential):
    """Energy in a uniform electric field, E = -V P.F = -e sum_i F.Z_i u_i.

    u_i are displacements from a reference crystal without polarization, and Z_i Born
    effective charges: V P changes by e Z_i u_i to first order (R. Resta, Rev. Mod.
    Phys. 66, 899 (1994), doi:10.1103/RevModPhys.66.899). Displacements are those of the
    fractional coordinates, as for :func:`~deepspin_ase.analysis.polarization`, and
    count from their mean. Atoms are pulled by e F.Z_i; the strain derivative is
    taken at fixed field and charges.

    It applies to any supercell of the reference, which is recognized by its cell and
    positions: strained, moved as a whole, with atoms near their sites in any order,
    wrapped or not. A site that an atom leaves for the next one of its element makes V P
    jump by a quantum of polarization.

    Parameters
    ----------
    field_V_per_A : (3,) sequence
        Cartesian; 0.01 V/A is 1 MV/cm. The field inside the crystal.
    reference : Atoms
        A cell of the crystal with P = 0, centrosymmetric for example; or its plain
        data, as :meth:`arguments` gives it.
    born_charges : {element: charge}, array, or Potential
        Numbers or (3, 3) tensors Z, in e, with Z[a, b] = V dP_a/(e du_b), by element or
        for all atoms of the reference, the same on sites that a translation makes
        equal; their small sum is shared out. Or a potential that predicts ``charges``
        (N,), e, as further quantity: with q_i of the structure as it is,
        E = -e sum_i q_i F.u_i, and its derivatives hold those of the charges.

    Raises
    ------
    ValueError
        If an argument does not fit, or the charges do not add up to zero; on
        evaluation, if a structure is no supercell of the reference, its charges do
        not add up to zero, or the field has a component along a direction that is not
        periodic.

    Examples
    --------
    >>> from deepspin_ase.potentials import bismuth_ferrite, load_potential
    >>> charges = {"Bi": 4.37, "Fe": 3.87, "O": -2.747}
    >>> field = ElectricField((0.01, 0, 0), bismuth_ferrite((0, 0, 0)), charges)
    >>> model = load_potential("BiFeO3") + field
    """

    uses_spins = False

    def __init__(
        self,
        field_V_per_A: Sequence[float],
        reference: Atoms | Mapping[str, Any],
        born_charges: BornCharges | Potential,
    ) -> None:
        super().__init__()
        self.field_V_per_A = as_vector("field_V_per_A", field_V_per_A)
        self._atoms = _as_atoms(reference)
        self.born_charges = born_charges
        if isinstance(born_charges, Potential):
            self.uses_spins = born_charges.uses_spins
        else:
            self._tensors = born_tensors(self._atoms, born_charges)
        self._crystal = Crystal(
            self._atoms.cell.array,
            self._atoms.pbc,
            self._atoms.numbers,
            self._atoms.positions,
            owner="electric field",
            source="field.atoms",
        )
        self._layouts: OccupationCache[_Layout] = OccupationCache()

    @property
    def atoms(self) -> Atoms:
        """A copy of the reference cell."""
        return self._atoms.copy()

    @property
    def reference(self) -> dict[str, Any]:
        """The reference cell as plain data."""
        own = self._atoms
        return {
            "symbols": own.get_chemical_symbols(),
            "positions": own.positions,
            "cell": own.cell.array,
            "pbc": own.pbc,
        }

    def in_field(self, field_V_per_A: Sequence[float]) -> ElectricField:
        """Return the same charges in another field, V/A."""
        return ElectricField(field_V_per_A, self._atoms, self.born_charges)

    def extra_repr(self) -> str:
        """Show the field and the reference."""
        formula = self._atoms.get_chemical_formula()
        return f"field_V_per_A={self.field_V_per_A}, reference {formula}"

    @property
    def cutoff(self) -> float:
        """Cutoff of the model of the charges, A; zero for constant charges."""
        charges = self.born_charges
        return charges.cutoff if isinstance(charges, Potential) else 0.0

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs are needed, A."""
        charges = self.born_charges
        return charges.pair_cutoff(system) if isinstance(charges, Potential) else 0.0

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return zero, as the energy is linear; None with a model of the charges."""
        return None if isinstance(self.born_charges, Potential) else 0.0

    def check(self, system: System) -> None:
        """Raise ValueError where the field does not apply to ``system``."""
        super().check(system)
        if isinstance(self.born_charges, Potential):
            self.born_charges.check(system)
        self._layout(system)

    def _checked_layout(self, system: System) -> _Layout:
        """Find the sites; raise ValueError where the field does not apply."""
        found = Occupation.find(self._crystal, system)
        layout = _Layout(found.seen, found.placements)
        system, field = layout.seen, np.array(self.field_V_per_A)
        for k, (cell, pbc) in enumerate(zip(system.cell, system.pbc, strict=True)):
            periodic = cell[pbc].numpy().T
            outside = field - periodic @ np.linalg.pinv(periodic) @ field
            if np.linalg.norm(outside) > _ROUND_OFF * np.linalg.norm(field):
                raise ValueError(
                    f"the electric field {field.tolist()} V/A has a component along a "
                    f"direction in which structure {k} is not periodic (pbc "
                    f"{pbc.tolist()}): Born charges of a crystal do not know its "
                    "surface. Turn the field into the periodic directions, or set "
                    "pbc=True with the crystal filling the cell"
                )
        if isinstance(self.born_charges, Potential):
            return layout
        charges = layout.spread(self._tensors, system)
        excess = system.sum(charges) / system.counts()[:, None, None]
        worst = excess.abs().flatten(1).amax(dim=1)
        if float(worst.max()) > NEUTRAL:
            raise ValueError(
                f"the Born charges of structure {int(worst.argmax())} do not add up to "
                "zero (a site is empty, or an atom is of an element that the "
                "reference does not have): a charged crystal has no energy in a field"
            )
        return layout

    def dipole(self, system: System, pairs: PairList) -> Tensor:
        """Return V P of each structure, (B, 3), e A; differentiable.

        ``pairs`` are those of :meth:`pair_cutoff`.
        """
        return system.sum(self._dipoles(system, pairs))

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        field = system.positions.new_tensor(self.field_V_per_A)
        return -(self._dipoles(system, pairs) @ field)

    def _dipoles(self, system: System, pairs: PairList) -> Tensor:
        """Return the parts (N, 3) of the atoms in V P, e A."""
        layout = self._layout(system)
        moved = layout.displacements(system)
        if isinstance(self.born_charges, Potential):
            charges = self.born_charges.further_quantities(system, pairs)["charges"]
            return charges[:, None] * moved
        return torch.einsum("nab,nb->na", layout.spread(self._tensors, system), moved)

    def _layout(self, system: System) -> _Layout:
        """Return the sites of the atoms of a System, found once for each lattice."""
        return self._layouts.get(system, lambda: self._checked_layout(system))


class _Layout(Occupation):
    """The sites of the atoms of a System, and what depends on them."""

    def spread(self, values: np.ndarray, system: System) -> Tensor:
        """Return values (n, ...) of the sites for the atoms, (N, ...); others zero."""
        total = np.zeros((system.n_atoms, *values.shape[1:]))
        for placement, own in zip(self.placements, self.seen.slices(), strict=True):
            total[own][placement.atoms] = values[placement.sites]
        return torch.from_numpy(total).to(system.device, system.dtype)

    def displacements(self, system: System) -> Tensor:
        """Return displacements from the sites less their mean, (N, 3), A.

        Zero for atoms on no site; differentiable by positions and cell.
        """
        moved = []
        for k, (placement, own) in enumerate(
            zip(self.placements, system.slices(), strict=True)
        ):
            matrix, reference, places = (
                torch.from_numpy(np.asarray(x, dtype=float)).to(system.positions)
                for x in (
                    placement.supercell,
                    placement.reference,
                    placement.scaled[placement.sites] + placement.cells,
                )
            )
            periodic = system.pbc[k][:, None]
            full = torch.where(periodic, system.cell[k], matrix @ reference)
            lattice = torch.linalg.solve(matrix, full)
            atoms = torch.from_numpy(placement.atoms).to(system.device)
            step = system.positions[own][atoms] - places @ lattice
            step = step - step.mean(0)
            moved.append(
                torch.zeros_like(system.positions[own]).index_add(0, atoms, step)
            )
        return torch.cat(moved)


def _as_atoms(reference: Atoms | Mapping[str, Any]) -> Atoms:
    """Return a copy of the reference without moments, calculator and constraints."""
    if isinstance(reference, Mapping):
        return Atoms(**reference)
    check_structure(reference)
    return Atoms(
        reference.get_chemical_symbols(),
        positions=reference.positions,
        cell=reference.cell,
        pbc=reference.pbc,
    )
