"""Second derivatives of the energy by Cartesian positions and moments.

>>> hessian = cartesian_hessian(atoms)  # of the atoms' calculator
>>> changes = hessian.product(moments=np.array([[0, 1, 0], [0, 0, 0]]))
>>> exchange = hessian.blocks([0, 1])

:class:`CartesianHessian` differentiates a Potential twice by autograd;
:class:`DifferenceHessian` takes differences of the forces and magnetic forces of
any ASE calculator. Both have the same methods. The Hessian of the spheres on which
moments of constant length move is in :class:`deepspin_ase.analysis.JointHessian`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from numpy.typing import ArrayLike
from torch import Tensor

from ..._validate import positive, require_calculator
from ...calculators._deepspin import DeepSpinCalculator
from ...neighbors import build_pairs
from ...potentials import Potential
from ...spins import get_spins, set_spins
from ...system import System


class SecondDerivatives:
    """Products of the matrix of second derivatives with directions.

    Attributes
    ----------
    n_atoms : int
        Number of atoms N.
    positions, spins : bool
        What the energy is differentiated by. What it is not has no rows.
    accuracy : float
        Expected error of a product, relative to the largest curvature.
    n_products : int
        Products so far.
    energy : float, eV
    gradients : (2, N, 3) array
        dE/dR, eV/A, and dE/dm, eV/mu_B; zero for what it is not differentiated by.
    """

    n_atoms: int
    positions: bool
    spins: bool
    accuracy: float
    n_products: int
    energy: float
    gradients: np.ndarray

    def _times(self, direction: np.ndarray) -> np.ndarray:
        """Multiply one direction (2, N, 3); rows of what is fixed are zero."""
        raise NotImplementedError

    def product(
        self,
        displacements: ArrayLike | None = None,
        moments: ArrayLike | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return products of the Hessian with K directions.

        Parameters
        ----------
        displacements : (K, N, 3) or (N, 3) array, A, optional
        moments : (K, N, 3) or (N, 3) array, mu_B, optional
            Changes of the Cartesian moments. What is omitted is zero.

        Returns
        -------
        (K, N, 3) or (N, 3) array, eV/A
            Change of dE/dR, to first order: minus that of the forces.
        (K, N, 3) or (N, 3) array, eV/mu_B
            Change of dE/dm: minus that of the magnetic forces.
            Arrays of no rows, (K, 0, 3), stand for positions or spins that the
            Hessian was made without.

        Raises
        ------
        ValueError
            If no direction is given, shapes are not as above, or directions belong
            to what the Hessian was made without.
        """
        parts = {"positions": displacements, "spins": moments}
        given = {
            k: np.asarray(v, dtype=float) for k, v in parts.items() if v is not None
        }
        self._check(given)
        shape = next(iter(given.values())).shape
        zero = np.zeros(shape)
        directions = np.stack([given.get(k, zero) for k in parts], axis=-3)
        first, second = np.moveaxis(self.multiply(directions), -3, 0)
        return (
            first if self.positions else first[..., :0, :],
            second if self.spins else second[..., :0, :],
        )

    def multiply(self, directions: np.ndarray) -> np.ndarray:
        """Return products with directions (..., 2, N, 3): [displacements, moments].

        As :meth:`product`, in one array; rows of positions or spins that the
        Hessian was made without are zero, and such directions count for nothing.

        Raises
        ------
        CalculationFailed
            If a product is not finite.
        """
        flat = directions.reshape(-1, 2, self.n_atoms, 3)
        found = np.empty_like(flat)
        for k, direction in enumerate(flat):
            found[k] = self._times(direction)
        self.n_products += len(flat)
        if not np.isfinite(found).all():
            raise CalculationFailed("a second derivative of the energy is not finite")
        return found.reshape(directions.shape)

    def _check(self, given: dict[str, np.ndarray]) -> None:
        if not given:
            raise ValueError("give displacements (K, N, 3), moments (K, N, 3), or both")
        for name, array in given.items():
            if not getattr(self, name):
                raise ValueError(
                    f"this Hessian was made with {name}=False and takes no "
                    "such directions"
                )
            if array.ndim not in (2, 3) or array.shape[-2:] != (self.n_atoms, 3):
                raise ValueError(
                    f"directions must have shape (K, {self.n_atoms}, 3) or "
                    f"({self.n_atoms}, 3), got {array.shape}"
                )
        if len({array.shape for array in given.values()}) > 1:
            raise ValueError(
                "displacements and moments must have the same shape, got "
                + " and ".join(str(array.shape) for array in given.values())
            )

    def matrix(self) -> np.ndarray:
        """Return all second derivatives, (D, D), symmetric; for small structures.

        D is 3N for positions (eV/A^2), for spins (eV/mu_B^2), or 6N for both,
        positions first. Needs D products.
        """
        n = 3 * self.n_atoms
        unit = np.eye(n).reshape(n, self.n_atoms, 3)
        columns = []
        if self.positions:
            columns.append(self.product(displacements=unit))
        if self.spins:
            columns.append(self.product(moments=unit))
        rows = [np.concatenate(c, axis=1).reshape(n, -1) for c in columns]
        matrix = np.concatenate(rows)
        return 0.5 * (matrix + matrix.T)

    def blocks(self, sites: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return d2E/dm_i dm_j of some sites i with all atoms j.

        Parameters
        ----------
        sites : (n,) integers

        Returns
        -------
        (n, 3, N, 3) array, eV/mu_B^2
            Cartesian second derivatives, at [i, a, j, b] by m_i,a and m_j,b.
            Cheapest from a Hessian made with ``positions=False``.
        """
        chosen = np.arange(self.n_atoms)[np.asarray(sites)]
        unit = np.zeros((len(chosen), 3, self.n_atoms, 3))
        for k, site in enumerate(chosen):
            unit[k, :, site] = np.eye(3)
        _, rows = self.product(moments=unit.reshape(-1, self.n_atoms, 3))
        return rows.reshape(unit.shape)


class CartesianHessian(SecondDerivatives):
    """Second derivatives of a Potential for one structure, by autograd.

    The graph of the first derivatives is kept, and each product is one backward
    pass through it: about the cost of an evaluation, to round-off.

    Parameters
    ----------
    potential : Potential or DeepSpinCalculator
        A calculator's field, device and precision are used.
    structure : Atoms or System
        One structure. Later changes to it are not seen.
    positions, spins : bool
        What to differentiate by; leave out what is not needed, it costs time.

    Raises
    ------
    ValueError
        If the potential does not apply to the structure, or is another program's,
        there are several structures, or neither positions nor spins are chosen.
    """

    def __init__(
        self,
        potential: Potential | DeepSpinCalculator,
        structure: Atoms | System,
        *,
        positions: bool = True,
        spins: bool = True,
    ) -> None:
        if not (positions or spins):
            raise ValueError("nothing to differentiate by: set positions or spins")
        device, dtype = None, torch.float64
        if isinstance(potential, DeepSpinCalculator):
            device, dtype = potential.device, potential.dtype
            potential = potential.potential
        if isinstance(structure, Atoms):
            structure = System.from_atoms(
                structure,
                device=device,
                dtype=dtype,
                require_spins=potential.uses_spins,
            )
        if structure.n_systems != 1:
            raise ValueError(
                f"expected one structure, got a System of {structure.n_systems}"
            )
        if potential.external:
            raise ValueError(
                "another program evaluates the potential and gives no graph of its "
                "derivatives: take differences, DifferenceHessian(atoms)"
            )
        potential.check(structure)
        self.n_atoms = structure.n_atoms
        self.positions, self.spins = positions, spins
        self.accuracy = 1e-10 if structure.dtype == torch.float64 else 1e-4
        self.n_products = 0
        self._chosen = [k for k, on in enumerate((positions, spins)) if on]
        self._differentiate(potential, structure)

    def _differentiate(self, potential: Potential, system: System) -> None:
        """Build the graph of the first derivatives."""
        pairs = build_pairs(system, potential.pair_cutoff(system))
        positions = system.positions.detach().requires_grad_(self.positions)
        spins = system.spins.detach().requires_grad_(self.spins)
        self._leaves = [x for x in (positions, spins) if x.requires_grad]
        with torch.enable_grad():
            energies = potential(
                system.replace(positions=positions, spins=spins), pairs
            )
            total = energies.sum()
            self._gradients = _gradient(
                total[None], self._leaves, None, create_graph=True
            )
        self.energy = float(total.detach())
        self.gradients = np.zeros((2, self.n_atoms, 3))
        for k, gradient in zip(self._chosen, self._gradients, strict=True):
            self.gradients[k] = gradient.detach().cpu().numpy()

    def _times(self, direction: np.ndarray) -> np.ndarray:
        weights = [self._leaves[0].new_tensor(direction[k]) for k in self._chosen]
        # Where a direction is zero its graph need not be walked through.
        terms = [
            (g, w)
            for g, w in zip(self._gradients, weights, strict=True)
            if g.requires_grad and bool(w.any())
        ]
        products = np.zeros_like(direction)
        if terms:
            gradients, given = ([*x] for x in zip(*terms, strict=True))
            second = _gradient(gradients, self._leaves, given)
            for k, found in zip(self._chosen, second, strict=True):
                # Materialized zeros require gradients in torch 2.6.
                products[k] = found.detach().cpu().numpy()
        return products


def _gradient(
    outputs: Sequence[Tensor] | Tensor,
    leaves: Sequence[Tensor],
    weights: Sequence[Tensor] | None,
    *,
    create_graph: bool = False,
) -> Sequence[Tensor]:
    """Differentiate by ``leaves``; zeros where nothing depends on them."""
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    if not any(output.requires_grad for output in outputs):
        return [torch.zeros_like(leaf) for leaf in leaves]
    return torch.autograd.grad(
        outputs,
        leaves,
        weights,
        create_graph=create_graph,
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )


class DifferenceHessian(SecondDerivatives):
    """Second derivatives for any ASE calculator, by central differences.

    Each product takes two calls of the calculator; its error is of second order
    in the step.

    Parameters
    ----------
    atoms : Atoms
        Its calculator gives forces and, for spins, ``magnetic_forces``
        (-dE/dm, eV/mu_B). Later changes to the atoms are not seen.
    positions, spins : bool
        What to differentiate by.
    step : float
        Largest displacement of an atom, A, and change of a moment, mu_B.

    Raises
    ------
    ValueError
        If there is no calculator, it does not give magnetic forces, moments are
        missing, neither positions nor spins are chosen, or the step is not
        positive.
    """

    def __init__(
        self,
        atoms: Atoms,
        *,
        positions: bool = True,
        spins: bool = True,
        step: float = 1e-3,
    ) -> None:
        if not (positions or spins):
            raise ValueError("nothing to differentiate by: set positions or spins")
        require_calculator(atoms)
        if spins:
            require_calculator(atoms, "magnetic_forces", purpose="spins=True")
        self.n_atoms = len(atoms)
        self.positions, self.spins = positions, spins
        self.accuracy = 1e-4
        self.n_products = 0
        self.step = positive("step", step)
        self._atoms = atoms.copy()
        self._atoms.set_constraint()
        self._atoms.calc = atoms.calc
        self._start = atoms.positions.copy(), get_spins(atoms) if spins else None
        self.gradients = self._gradient(np.zeros((2, self.n_atoms, 3)))
        self.energy = float(_property(self._atoms, "energy"))

    def _times(self, direction: np.ndarray) -> np.ndarray:
        largest = np.linalg.norm(direction, axis=-1).max()
        if largest == 0.0:
            return np.zeros_like(direction)
        moved = direction * (self.step / largest)
        difference = self._gradient(moved) - self._gradient(-moved)
        return difference * (largest / (2.0 * self.step))

    def _gradient(self, moved: np.ndarray) -> np.ndarray:
        """Return dE/dR and dE/dm, (2, N, 3), ``moved`` (2, N, 3) away."""
        positions, spins = self._start
        gradient = np.zeros_like(moved)
        self._atoms.positions[:] = positions + moved[0]
        if spins is not None:
            set_spins(self._atoms, spins + moved[1])
            gradient[1] = -_property(self._atoms, "magnetic_forces")
        if self.positions:
            gradient[0] = -_property(self._atoms, "forces")
        return gradient


def _property(atoms: Atoms, name: str) -> np.ndarray:
    assert atoms.calc is not None
    return np.asarray(atoms.calc.get_property(name, atoms))


def cartesian_hessian(
    atoms: Atoms, *, positions: bool = True, spins: bool = True, step: float = 1e-3
) -> SecondDerivatives:
    """Return the second derivatives that the atoms' calculator allows.

    Exact ones where it is a :class:`~deepspin_ase.DeepSpinCalculator` whose potential
    is evaluated here, differences with ``step`` elsewhere; see
    :class:`CartesianHessian` and :class:`DifferenceHessian` for parameters and errors.
    """
    calculator = atoms.calc
    if isinstance(calculator, DeepSpinCalculator) and not calculator.potential.external:
        return CartesianHessian(atoms.calc, atoms, positions=positions, spins=spins)
    return DifferenceHessian(atoms, positions=positions, spins=spins, step=step)
