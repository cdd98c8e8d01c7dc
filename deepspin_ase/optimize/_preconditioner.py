"""Preconditioner: inverse model Hessian fitted to the steps made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import nnls
from scipy.sparse.linalg import cg

from ._filter import SpinLatticeFilter
from ._model_hessian import (
    LatticeStiffness,
    LengthStiffness,
    RotationStiffness,
    Stiffness,
)

#: Forgetting factor: weight of a step after the next one.
_FORGETTING = 0.9

#: Prior weight of the last coefficients against one step. It keeps what recent steps
#: do not constrain, such as stiff bonds once soft modes are left.
_PRIOR = 1e-3

#: Least stiffness over the mean one: modes that cost nothing stay solvable.
_FLOOR = 1e-3

#: Least factor by which one step, and by which all steps scale the first guess.
_LEAST_FACTOR, _LEAST_SCALE = 1e-9, 1e-30

#: Curvatures beyond it, eV/A^2, of a structure that flies apart, are not fitted.
_MOST = 1e60

#: Unknowns up to which a matrix is factorised; beyond, conjugate gradients.
_DENSE = 1200

#: Relative residual of conjugate gradients: the model is no better than this.
_TOLERANCE = 1e-2


class Preconditioner:
    """Approximate inverse Hessian of the coordinates of a filter.

    Lattice (positions and cell), rotations and lengths of the moments have separate
    model Hessians without coupling. Each step s with its
    change y of the gradient is an equation for the coefficients, sum_k theta_k B_k s
    = y, solved by non-negative least squares; a few numbers for many atoms, so that
    one or two steps determine them.
    """

    def __init__(self, coordinates: SpinLatticeFilter) -> None:
        self._filter = coordinates
        self._free = coordinates.free().ravel()
        self._blocks = _blocks(coordinates)

    def update(self, step: np.ndarray, gradient_change: np.ndarray) -> None:
        """Fit the model to a step and its change of the gradient as well, (rows, 3)."""
        for block in self._blocks:
            block.model.update(self._filter.atoms)
            block.update(step.ravel(), gradient_change.ravel())

    def solve(self, forces: np.ndarray) -> np.ndarray:
        """Return the product of the inverse with forces, (rows, 3)."""
        step = np.zeros(forces.size)
        for block in self._blocks:
            free = self._free[block.rows]
            if free.any():
                rows = block.rows[free]
                scale = block.scale[free]
                step[rows] = scale * block.solve(free, scale * forces.ravel()[rows])
        return step.reshape(forces.shape)


@dataclass
class _Block:
    """A model Hessian, its places in the flat rows, and their lengths, A."""

    model: Stiffness
    rows: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray = field(init=False)
    _inverse: _Inverse | None = None

    def __post_init__(self) -> None:
        self.coefficients = self._unit = self.model.guess
        self._normal = np.zeros((len(self._unit),) * 2)
        self._right = np.zeros(len(self._unit))
        self._fitted = False

    def update(self, step: np.ndarray, gradient_change: np.ndarray) -> None:
        """Fit to a step and its change of the gradient as well, flat rows."""
        step, change = step[self.rows], gradient_change[self.rows]
        if not step.any():
            return
        with np.errstate(over="ignore", invalid="ignore"):
            columns = self.model.columns(step / self.scale) / self.scale[:, None]
            size = step @ step
            normal, right = columns.T @ columns / size, columns.T @ change / size
        if not np.abs(np.append(normal, right)).max() < _MOST:
            return
        convex = step @ change > 0.0
        if not self._fitted:
            self._scale_guess(normal, right if convex else -right)
        if convex:
            self._fitted = True
            self._normal = _FORGETTING * self._normal + normal
            self._right = _FORGETTING * self._right + right
            self.coefficients = self._fit()
        self._inverse = None

    def _scale_guess(self, normal: np.ndarray, right: np.ndarray) -> None:
        """Scale the guess so that it fits a step, by the size of its curvature."""
        quadratic = self._unit @ normal @ self._unit
        if quadratic > 0.0:
            factor = max(self._unit @ right / quadratic, _LEAST_FACTOR)
            least = _LEAST_SCALE * self.model.guess
            self._unit = np.clip(factor * self._unit, least, _MOST)
            self.coefficients = self._unit

    def _fit(self) -> np.ndarray:
        """Return the coefficients >= 0 that fit best, near the last ones."""
        unit = self._unit
        normal = unit[:, None] * self._normal * unit
        weight = _PRIOR * max(float(normal.diagonal().max()), 1e-300)
        lower = cholesky(normal + weight * np.eye(len(unit)), lower=True)
        right = unit * self._right + weight * self.coefficients / unit
        try:
            found = nnls(lower.T, solve_triangular(lower, right, lower=True))[0]
            return np.minimum(unit * found, _MOST)
        except RuntimeError:  # nnls has not converged: keep the last fit
            return self.coefficients

    def solve(self, free: np.ndarray, right: np.ndarray) -> np.ndarray:
        if self._inverse is None:
            matrix = self.model.matrix(self.coefficients)
            if not free.all():
                matrix = matrix[free][:, free]
            self._inverse = _Inverse(matrix)
        return self._inverse(right)


class _Inverse:
    """Solves with a positive definite matrix."""

    def __init__(self, matrix: sp.csr_array) -> None:
        floor = _FLOOR * max(float(matrix.diagonal().mean()), 1e-12)
        unit = sp.eye_array(matrix.shape[0])
        self._matrix = sp.csr_array(matrix + floor * unit)
        self._dense = matrix.shape[0] <= _DENSE
        if not self._dense:
            self._jacobi = sp.diags_array(1.0 / self._matrix.diagonal())
            return
        while True:
            try:
                self._factor = cho_factor(self._matrix.toarray())
                return
            except np.linalg.LinAlgError:  # singular within round-off
                floor *= 10.0
                self._matrix = sp.csr_array(matrix + floor * unit)

    def __call__(self, right: np.ndarray) -> np.ndarray:
        if self._dense:
            return cho_solve(self._factor, right)
        return cg(self._matrix, right, rtol=_TOLERANCE, M=self._jacobi)[0]


def _blocks(coordinates: SpinLatticeFilter) -> list[_Block]:
    """Return the model Hessians of the parts that move."""
    places = np.arange(3 * len(coordinates)).reshape(-1, 3)
    atoms, parts = coordinates.atoms, coordinates.blocks
    found = []
    lattice = [places[parts[n]].ravel() for n in ("positions", "cell") if n in parts]
    if lattice:
        deformation = coordinates.deformation
        mask = deformation.mask if deformation else None
        model = LatticeStiffness(atoms, positions="positions" in parts, cell_mask=mask)
        scale = [np.ones(3 * len(atoms))] if "positions" in parts else []
        scale += [np.full(9, coordinates.cell_scale)] if "cell" in parts else []
        found.append(_Block(model, np.concatenate(lattice), np.concatenate(scale)))
    moments: list[tuple[Stiffness, np.ndarray]] = []
    if "spins" in parts:
        moments.append((RotationStiffness(atoms), places[parts["spins"]].ravel()))
    if "magnitudes" in parts:
        moments.append((LengthStiffness(atoms), places[parts["magnitudes"], 0]))
    return found + [
        _Block(model, rows, np.full(len(rows), coordinates.spin_scale))
        for model, rows in moments
    ]
