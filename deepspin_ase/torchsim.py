"""Potentials as models of torch-sim, with moments kept or relaxed at every call.

torch-sim moves the atoms of many structures at once, and knows no moments: they are the
extra ``spins`` of its states, which follow structures wherever it moves them::

    import torch_sim as ts
    from deepspin_ase.torchsim import DeepSpinModel, atoms_of, state_of

    model = DeepSpinModel("NiO", relax="directions")
    final = ts.integrate(
        state_of([atoms, others], model),
        model,
        integrator=ts.Integrator.nve,
        n_steps=1000,
        temperature=300,
        timestep=0.001,
    )
    atoms, others = atoms_of(final)

It needs Python 3.12 and the extra ``torch-sim``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms
from torch import Tensor

from ._extras import require
from .calculators import DeepSpinCalculator
from .optimize import AdiabaticMoments
from .potentials import Potential
from .spins import get_spins, set_spins
from .system import System

__all__ = ["DeepSpinModel", "atoms_of", "state_of"]

torch_sim = require("torch_sim", "models of torch-sim")
interface = require("torch_sim.models.interface", "models of torch-sim")

#: The extra of a state, and what ASE calls it.
_SPINS = {"spins": "initial_magmoms"}


class DeepSpinModel(interface.ModelInterface):  # type: ignore[name-defined]
    """Energies, forces and stress of states with the extra ``spins``.

    Outputs besides are ``magnetic_forces``, -dE/dm (eV/mu_B), and ``spins``, the
    moments (mu_B) at which everything holds. torch-sim keeps both in the state, where
    the next call finds the moments.

    Parameters
    ----------
    model : Potential, path or str
        As for :class:`~deepspin_ase.DeepSpinCalculator`.
    relax : {"directions", "lengths", "vectors"}, optional
        What of the moments goes to the minimum of the energy at every call, see
        :class:`~deepspin_ase.optimize.AdiabaticMoments`; structures are then evaluated
        one after the other. By default the moments stay as they are.
    device : str, optional
        As for :class:`~deepspin_ase.DeepSpinCalculator`.
    dtype : {"float64", "float32", "mixed"}
        Precision of the evaluation. States are in float32 for ``"float32"``, else in
        float64.
    compute_stress : bool
        Stress, at fixed Cartesian moments, in ASE's sign.
    **options
        Of :class:`~deepspin_ase.optimize.AdiabaticMoments`: ``magnetic_force_max``,
        ``steps``.

    Raises
    ------
    ValueError
        As both of these.
    """

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        *,
        relax: str | None = None,
        device: str | None = None,
        dtype: str = "float64",
        compute_stress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.calculator = DeepSpinCalculator(model, device=device, dtype=dtype)
        if relax is None and options:
            raise ValueError(f"{', '.join(options)}: for moments that relax only")
        self.surface = (
            None
            if relax is None
            else AdiabaticMoments(self.calculator, relax, **options)
        )
        self._device = self.calculator.device
        self._dtype = self.calculator.dtype
        self._compute_forces = True
        self._compute_stress = compute_stress

    @property
    def compute_stress(self) -> bool:
        """Whether stress is among the outputs."""
        return self._compute_stress

    @compute_stress.setter
    def compute_stress(self, compute_stress: bool) -> None:
        self._compute_stress = compute_stress

    def forward(self, state: Any, **_: Any) -> dict[str, Tensor]:
        """Evaluate a state of B structures and N atoms.

        Returns
        -------
        dict
            ``energy`` (B,), eV; ``forces`` (N, 3), eV/A; ``stress`` (B, 3, 3), eV/A^3,
            zero without three periodic directions; ``spins`` (N, 3), mu_B;
            ``magnetic_forces`` (N, 3), eV/mu_B.

        Raises
        ------
        ValueError
            If the state has no moments.
        CalculationFailed
            If relaxed moments reach no minimum.
        """
        system = _system(state)
        if self.surface is not None:
            system = system.replace(spins=self._relaxed(system))
        found = self.calculator.compiled.evaluate(system, virial=self.compute_stress)
        assert found.forces is not None and found.magnetic_forces is not None
        outputs = {
            "energy": found.energy,
            "forces": found.forces,
            "magnetic_forces": found.magnetic_forces,
            "spins": system.spins,
        }
        if found.stress is not None:
            periodic = system.pbc.all(dim=1)[:, None, None]
            outputs["stress"] = torch.where(periodic, found.stress, 0.0)
        return {name: x.to(state.positions) for name, x in outputs.items()}

    def _relaxed(self, system: System) -> Tensor:
        """Return the moments (N, 3) that minimise the energy of each structure."""
        assert self.surface is not None
        moments = []
        for atoms in _images(system):
            self.surface.restart()
            moments.append(self.surface.get_magnetic_moments(atoms))
        return torch.cat([torch.from_numpy(m) for m in moments]).to(system.spins)


def _system(state: Any) -> System:
    if not state.has_extras("spins"):
        raise ValueError(
            "the state has no moments: make it by deepspin_ase.torchsim.state_of, or "
            "give the extra spins, (N, 3) in mu_B"
        )
    return System(
        positions=state.positions.detach(),
        spins=state.spins.detach(),
        species=state.atomic_numbers.long(),
        cell=state.row_vector_cell.detach(),
        pbc=state.pbc.expand(state.n_systems, 3),
        index=state.system_idx,
    )


def _images(system: System) -> list[Atoms]:
    """Return the structures of a batch."""
    arrays = (system.positions, system.spins, system.species, system.cell, system.pbc)
    positions, spins, species, cells, pbc = (x.cpu().numpy() for x in arrays)
    index = system.index.cpu().numpy()
    images = []
    for k, cell in enumerate(cells):
        own = index == k
        atoms = Atoms(species[own], positions[own], cell=cell, pbc=pbc[k])
        set_spins(atoms, spins[own])
        images.append(atoms)
    return images


def state_of(atoms: Atoms | Sequence[Atoms], model: DeepSpinModel) -> Any:
    """Return the state of one or several structures, with their moments.

    Raises
    ------
    ValueError
        If moments are missing.
    """
    given = [atoms] if isinstance(atoms, Atoms) else atoms
    images = []
    for image in given:
        copied = image.copy()
        set_spins(copied, get_spins(image))
        images.append(copied)
    return torch_sim.io.atoms_to_state(
        images, model.device, model.dtype, atom_extras_map=_SPINS
    )


def atoms_of(state: Any) -> list[Atoms]:
    """Return the structures of a state, with their moments."""
    found: list[Atoms] = torch_sim.io.state_to_atoms(state, atom_extras_map=_SPINS)
    return found
