"""The contract between potentials and everything that uses them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ..kernels import PairTermData
from ..neighbors import PairList, build_pairs
from ..system import System
from ._kernels import Kernels
from ._prediction import Prediction
from ._range import TrainingRange
from ._registry import registered


class QuadraticForm(NamedTuple):
    """An energy that is quadratic in the moments at fixed positions and lengths.

    E = const - sum_i b_i.m_i + sum_i m_i A_i m_i + 1/2 sum_bonds m_i K_ij m_j,

    with two terms of fourth order and more where there are such: 1/2 sum_bonds s_ij
    (m_i.m_j)^2, and cubic anisotropies.

    Attributes
    ----------
    fields : (N, 3) tensor, eV/mu_B
        b_i.
    sites : (N, 3, 3) tensor, eV/mu_B^2
        A_i, symmetric.
    i, j : (E,) int64 tensors
        Bonds, each in both orders.
    tensors : (E, 3, 3) tensor, eV/mu_B^2
        K_ij.
    squares : (E,) tensor, eV/mu_B^4, optional
        s_ij.
    cubic : (N, 11) tensor, optional
        K1 (eV/mu_B^4), K2 (eV/mu_B^6) and three axes, along which a moment has the
        components a, b, c, of K1 (a^2 b^2 + b^2 c^2 + c^2 a^2) + K2 a^2 b^2 c^2.
    """

    fields: Tensor
    sites: Tensor
    i: Tensor
    j: Tensor
    tensors: Tensor
    squares: Tensor | None = None
    cubic: Tensor | None = None

    @classmethod
    def zero(cls, system: System) -> QuadraticForm:
        """Return the form of no energy."""
        none = system.index[:0]
        return cls(
            torch.zeros_like(system.spins),
            system.spins.new_zeros(system.n_atoms, 3, 3),
            none,
            none,
            system.spins.new_zeros(0, 3, 3),
        )


class Predictor(Protocol):
    """What gives the energy of Systems and its derivatives: a Potential, or better.

    What estimates its errors in the same pass has a method ``predict_with_deviations``,
    too, with the same parameters but ``create_graph``.
    """

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction | None:
        """Return a prediction; see :meth:`Potential.predict`."""


class Potential(nn.Module):
    """Energy of atoms and moments; everything else is its derivative.

    A subclass implements :meth:`forward` in differentiable torch. Constructor
    arguments are kept as attributes of the same names: that is all that
    saving and printing a potential need. Potentials add: ``Sum([a, b])``.

    What a potential is, it says itself: callers ask :meth:`terms`,
    :meth:`interaction_range` and :attr:`is_local` instead of its class. A subclass
    with analytic derivatives, faster than those of autograd, implements
    :meth:`predict`.
    """

    #: Whether the energy depends on the moments.
    uses_spins: bool = True

    #: Atomic numbers that the potential knows; None for any.
    species: frozenset[int] | None = None

    #: Atomic numbers that may carry a moment; None for any.
    magnetic_species: frozenset[int] | None = None

    #: Whether the energy of each atom depends on nothing but its pairs within the
    #: pair cutoff: moments farther away leave it as it is. Where in doubt, False.
    is_local: bool = False

    #: Whether the energy is that of the pairs, each by itself; terms of a sum say it.
    is_pairwise: bool = False

    #: Whether another program evaluates the potential (:class:`.External`): it finds
    #: neighbors by itself, and gives derivatives without their graph.
    external: bool = False

    #: Whether predictions hold forces of atoms, and a virial, where they are asked for.
    gives_forces: bool = True
    gives_virial: bool = True

    #: What the potential was trained on; None where that is not known. Calculators and
    #: drivers warn where structures leave it.
    training_range: TrainingRange | None = None

    #: How the potential is evaluated, see :func:`choose_backend`.
    backend: str = "fused"
    mixed: bool = False

    @property
    def cutoff(self) -> float:
        """Largest interaction distance between sites, A."""
        return 0.0

    def pair_cutoff(self, system: System) -> float:
        """Return the distance out to which pairs of atoms are needed, A."""
        return self.cutoff

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        raise NotImplementedError

    def terms(self) -> list[Potential]:
        """Return the potentials that this one is the sum of; itself if it is none."""
        return [self]

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance beyond which no two atoms are coupled, A.

        The energy has no mixed second derivative by positions or moments of atoms
        farther apart: the cutoff of a pair term, two cutoffs for per-atom energies
        that depend on all neighbors together, 2 L cutoffs for L rounds of message
        passing, infinity for Coulomb and dipole sums.

        Parameters
        ----------
        system : System
        moments_only : bool
            Count couplings of moments to moments only: sums leave out their members
            that do not depend on moments.

        Returns
        -------
        float, or None
            None where it is not known, as here, unless a subclass says it.
        """
        return None

    def pair_term(self, species: tuple[int, ...]) -> PairTermData | None:
        """Return the potential as a pair term for compiled kernels.

        Parameters
        ----------
        species : tuple of int
            Atomic numbers that occur.

        Returns
        -------
        PairTermData, or None
            None where it is something else, or is to be evaluated in torch.
        """
        return None

    def quadratic_form(self, system: System, pairs: PairList) -> QuadraticForm | None:
        """Return the energy as a form of the moments, up to a constant.

        None, as here, where it is not quadratic at fixed lengths, or not known.
        """
        return None

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction | None:
        """Return the energy and derivatives by other means than autograd.

        Parameters are those of :meth:`evaluate`, for a system that has passed
        :meth:`check`. None, as here, leaves the derivatives to autograd. Weights may
        change between calls; what is compiled for many calls: :meth:`compiled`.
        """
        return None

    def further_quantities(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        """Return predictions besides the energy and its derivatives; none here.

        Returns
        -------
        dict of tensors
            By the names in :mod:`deepspin_ase.quantities`, such as charges (N,). In
            sums of potentials they add.
        """
        return {}

    def deviations(self, system: System, pairs: PairList) -> dict[str, Tensor]:
        """Return estimated standard deviations of the predictions, by quantity.

        In the shapes and units of the quantities; empty, as here, where the potential
        does not know how wrong it may be.
        """
        return {}

    def compiled(self, kernels: Kernels) -> Predictor:
        """Return what predicts like :meth:`predict`, but from the present weights.

        The potential itself, as here, unless there is something faster.

        Parameters
        ----------
        kernels : Kernels
            Of the device and type of number of the Systems to come.
        """
        return self

    def outside(self) -> str | None:
        """Return what the potential depends on that a model file cannot hold.

        Such as ``"the TorchScript of model.pth"``; None, as here, for potentials that
        are plain data. Members of sums answer for themselves.
        """
        return None

    def check(self, system: System) -> None:
        """Raise ValueError where the potential does not apply to ``system``."""
        if self.species is None and self.magnetic_species is None:
            return
        present, carrying = _elements(system)
        if self.species is not None:
            for z in present:
                if z not in self.species:
                    known = ", ".join(chemical_symbols[k] for k in sorted(self.species))
                    raise ValueError(
                        f"the potential does not know the element "
                        f"{chemical_symbols[z]}; it knows {known}"
                    )
        if self.magnetic_species is not None and self.uses_spins:
            magnetic = " ".join(
                chemical_symbols[z] for z in sorted(self.magnetic_species)
            )
            for z in carrying:
                if z not in self.magnetic_species:
                    raise ValueError(
                        f"{chemical_symbols[z]} carries a moment but is non-magnetic "
                        "in this potential; set its moments to zero (of data: "
                        f"'deepspin data convert INPUT OUTPUT --magnetic {magnetic}')"
                    )

    def evaluate(
        self,
        system: System,
        pairs: PairList | None = None,
        *,
        forces: bool = True,
        magnetic_forces: bool = True,
        virial: bool = True,
        deviations: bool = False,
        create_graph: bool = False,
    ) -> Prediction:
        """Return the energy and the derivatives asked for.

        Parameters
        ----------
        system : System
        pairs : PairList, optional
            Complete out to ``pair_cutoff(system)``; built here if omitted.
        forces, magnetic_forces, virial : bool
            Which derivatives to compute.
        deviations : bool
            Estimate errors, too, where the potential knows how
            (:attr:`Prediction.deviations`); without ``create_graph``.
        create_graph : bool
            Keep the graph, so that the results can be differentiated with
            respect to the potential's parameters.

        Raises
        ------
        ValueError
            If the potential does not apply to the system (see :meth:`check`).
        """
        from ._evaluation import Evaluation, Wanted, differentiable

        self.check(system)
        if pairs is None:
            pairs = build_pairs(system, self.pair_cutoff(system))
        wanted: Wanted = {
            "forces": forces,
            "magnetic_forces": magnetic_forces,
            "virial": virial,
        }
        if create_graph:
            return differentiable(self, system, pairs, **wanted)
        # Taken apart again every time: weights and terms may have changed.
        kernels = self.kernels(system.device, system.dtype)
        evaluation = Evaluation(self, kernels)
        return evaluation(system, pairs, deviations=deviations, **wanted)

    def kernels(self, device: torch.device, dtype: torch.dtype) -> Kernels:
        """Return where compiled kernels of this potential are kept."""
        known: dict[tuple[torch.device, torch.dtype], Kernels]
        known = vars(self).setdefault("_kernels", {})
        if (device, dtype) not in known:
            known[device, dtype] = Kernels(device, dtype)
        return known[device, dtype]

    def __getstate__(self) -> dict[str, Any]:
        """Return the potential without its compiled kernels, for copies."""
        return {k: v for k, v in vars(self).items() if k != "_kernels"}

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments, for saving and printing."""
        import inspect

        names = inspect.signature(type(self).__init__).parameters
        return {name: getattr(self, name) for name in names if name != "self"}

    def extra_repr(self) -> str:
        """Show the constructor arguments where torch prints the module."""
        return ", ".join(
            f"{name}={value!r}"
            for name, value in self.arguments().items()
            if not isinstance(value, nn.Module | list | tuple)
        )

    def __add__(self, other: Potential) -> Potential:
        """Return the sum of two potentials."""
        # By name: the module of sums imports this one.
        total: Potential = registered("Sum")([self, other])
        return total


def _elements(system: System) -> tuple[list[int], list[int]]:
    """Return the atomic numbers that occur, and those that carry a moment.

    Counted where the System is, so that a device is waited for once.
    """
    n = len(chemical_symbols)
    carrying = (system.spins.detach().abs() > 0).any(dim=1)
    kinds = system.species + n * carrying
    if system.device.type == "cpu":
        found = torch.bincount(kinds).nonzero().flatten().tolist()
    else:
        seen = torch.zeros(2 * n, dtype=torch.bool, device=system.device)
        seen[kinds] = True
        found = seen.cpu().nonzero().flatten().tolist()
    magnetic = [k - n for k in found if k >= n]
    return sorted({k % n for k in found}), magnetic
