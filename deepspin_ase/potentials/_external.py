"""Potentials that other programs evaluate, and those of ASE calculators."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import voigt_6_to_full_3x3_stress
from torch import Tensor
from typing_extensions import Self, Unpack

from .._validate import require_property, vectors_of
from ..neighbors import PairList
from ..spins import set_spins
from ..system import System
from ._base import Potential
from ._evaluation import Wanted
from ._prediction import Prediction


class External(Potential):
    """A potential that another program evaluates, derivatives included.

    A subclass implements :meth:`ask`. There is no graph of the derivatives: second
    derivatives are differences of the first ones, which
    :func:`~deepspin_ase.analysis.cartesian_hessian` takes.
    """

    external = True

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Return energies and the derivatives asked for.

        Parameters
        ----------
        system : System
            In float64 on the CPU, as the prediction is to be.
        **wanted
            ``forces``, ``magnetic_forces``, ``virial``: which derivatives to compute.
        """
        raise NotImplementedError

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        create_graph: bool,
        **wanted: Unpack[Wanted],
    ) -> Prediction:
        """Ask the other program; ``create_graph`` makes no difference."""
        with torch.enable_grad():  # which the other program may need
            found = self.ask(system.detach().to("cpu", torch.float64), **wanted)
        values = {"volume": found.volume, **found.quantities()}
        return Prediction(**{k: v.to(system.positions) for k, v in values.items()})

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV, which cannot be differentiated.

        Raises
        ------
        ValueError
            If they are to be.
        """
        leaves = (system.positions, system.spins, system.cell)
        if torch.is_grad_enabled() and any(leaf.requires_grad for leaf in leaves):
            raise ValueError(
                f"{type(self).__name__} has no graph of its derivatives: evaluate() "
                "gives the first ones, and second ones are differences of these, which "
                "cartesian_hessian(atoms) takes"
            )
        nothing: Wanted = {"forces": False, "magnetic_forces": False, "virial": False}
        return self.predict(system, pairs, create_graph=False, **nothing).energies


class PotentialOf(External):
    """The potential of an ASE calculator that gives ``magnetic_forces``.

    Drivers, optimizers and analyses take atoms with such a calculator as they are;
    this is for what wants a Potential: sums with other terms, fields, batches, model
    arguments. Structures of a batch are evaluated one after the other.

    Parameters
    ----------
    calculator : Calculator
        Gives ``energy``, ``forces`` (eV/A) and ``magnetic_forces`` (-dE/dm, eV/mu_B)
        for vector moments (N, 3), mu_B, in the initial magnetic moments. Its free
        energy is taken where it has one, since forces are derivatives of that; its
        ``virial`` (-dE/dstrain, eV) or ``stress`` where it gives one. It gets fresh
        Atoms that hold nothing but elements, positions, moments and cell. Copies of
        the potential share it.

    Raises
    ------
    TypeError, ValueError
        If it is no calculator, or does not give magnetic forces.

    Examples
    --------
    >>> potential = PotentialOf(atoms.calc) + Heisenberg(Shells([(2.48, 0.01)]))
    >>> atoms.calc = DeepSpinCalculator(potential, external_field_T=(0, 0, 5))
    """

    def __init__(self, calculator: Calculator) -> None:
        super().__init__()
        require_property(calculator, "magnetic_forces", purpose="PotentialOf")
        if getattr(calculator, "changes_moments", False):
            raise ValueError(
                f"{type(calculator).__name__} changes the moments that it is given, so "
                "that its energy is no function of them: take the calculator inside"
            )
        self.calculator = calculator
        self.gives_forces = _gives_forces(calculator)
        self.gives_virial = _gives_virial(calculator)
        self._images: list[Atoms] | None = None
        self._calculators: list[Calculator] | None = None

    @classmethod
    def of_images(cls, images: Sequence[Atoms]) -> Self:
        """Return the potential of structures that keep calculators of their own.

        It takes batches of as many structures, each of which goes to the calculator
        of its image, with everything else that this has: charges, tags, ``info``.
        """
        potential = cls(images[0].calc)
        calculators: list[Calculator] = [image.calc for image in images]
        for calculator in calculators:
            require_property(calculator, "magnetic_forces")
        potential._images = [image.copy() for image in images]
        potential._calculators = calculators
        potential.gives_forces = all(map(_gives_forces, calculators))
        potential.gives_virial = all(map(_gives_virial, calculators))
        return potential

    def outside(self) -> str:
        """Return what a model file cannot hold: the calculator."""
        return f"the calculator {self.extra_repr()}"

    def extra_repr(self) -> str:
        """Show the kind of the calculator and its parameters."""
        settings = dict(getattr(self.calculator, "parameters", {}))
        return f"{type(self.calculator).__name__} with {settings}"

    def __deepcopy__(self, memo: dict[int, Any]) -> PotentialOf:
        """Return a copy that shares the calculators."""
        for calculator in (self.calculator, *(self._calculators or ())):
            memo[id(calculator)] = calculator
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(copy.deepcopy(self.__getstate__(), memo))
        return copied

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask the calculator about every structure; see :meth:`External.ask`."""
        structures = [
            _results(calculator, image, **wanted)
            for calculator, image in self._placed(system)
        ]
        names = set.intersection(*(set(found) for found in structures))
        values = {name: [found[name] for found in structures] for name in names}
        stacked = {"energy", "virial"}
        joined: dict[str, Any] = {
            name: torch.from_numpy(
                np.stack(found) if name in stacked else np.concatenate(found)
            )
            for name, found in values.items()
        }
        return Prediction(volume=system.volume, **joined)

    def _placed(self, system: System) -> list[tuple[Calculator, Atoms]]:
        """Return every structure as Atoms, with the calculator to ask."""
        if self._images is None or self._calculators is None:
            return [(self.calculator, atoms_of(one)) for one in system]
        if len(self._images) != system.n_systems:
            raise ValueError(
                f"the potential of {len(self._images)} structures got "
                f"{system.n_systems}: each has a calculator of its own"
            )
        for image, one in zip(self._images, system, strict=True):
            image.positions[:] = one.positions.numpy()
            image.cell[:] = one.cell[0].numpy()
            set_spins(image, one.spins.numpy())
        return list(zip(self._calculators, self._images, strict=True))


def atoms_of(system: System) -> Atoms:
    """Return a System of one structure as Atoms."""
    atoms = Atoms(
        system.species.numpy(),
        system.positions.numpy(),
        cell=system.cell[0].numpy(),
        pbc=system.pbc[0].numpy(),
    )
    set_spins(atoms, system.spins.numpy())
    return atoms


def _results(
    calculator: Calculator,
    atoms: Atoms,
    *,
    forces: bool,
    magnetic_forces: bool,
    virial: bool,
) -> dict[str, np.ndarray]:
    """Return what a calculator gives for a structure."""
    if forces:
        require_property(calculator, "forces")
    names = [
        *(["forces"] if forces else []),
        *(["magnetic_forces"] if magnetic_forces else []),
    ]
    found = {name: vectors_of(calculator, name, atoms) for name in names}
    if virial:
        work = _virial(calculator, atoms)
        if work is not None:
            found["virial"] = work
    consistent = "free_energy" in calculator.implemented_properties
    energy = calculator.get_property("free_energy" if consistent else "energy", atoms)
    shares = getattr(calculator, "results", {}).get("energies")
    shares = np.zeros(len(atoms)) if shares is None else np.asarray(shares)
    shares = shares + (energy - shares.sum()) / len(atoms)
    found |= {"energy": energy, "energies": shares}
    return {name: np.array(value, dtype=float) for name, value in found.items()}


def _gives_forces(calculator: Calculator) -> bool:
    return "forces" in calculator.implemented_properties


def _gives_virial(calculator: Calculator) -> bool:
    return bool({"virial", "stress"} & set(calculator.implemented_properties))


def _virial(calculator: Calculator, atoms: Atoms) -> np.ndarray | None:
    """Return -dE/dstrain, (3, 3), eV, or None where it is not known."""
    if "virial" in calculator.implemented_properties:
        return np.asarray(calculator.get_property("virial", atoms))
    periodic = bool(atoms.pbc.all()) and atoms.cell.rank == 3
    if not (periodic and "stress" in calculator.implemented_properties):
        return None
    try:
        stress = np.asarray(calculator.get_property("stress", atoms))
    except NotImplementedError:  # some settings of a calculator give none
        return None
    full = stress if stress.shape == (3, 3) else voigt_6_to_full_3x3_stress(stress)
    return -full * atoms.get_volume()
