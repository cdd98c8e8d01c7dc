"""Exchange tensors from second derivatives in several rotated reference states.

At a reference state only the components of J_ij across both moments show in the
energy of small deviations. The whole order is therefore rotated against the lattice,
and one J_ij is fitted to all orientations: exactly where the energy is bilinear in
the directions of the moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation
from tqdm import tqdm

from ..._progress import bar
from ..._rotations import local_axes
from ..hessians._response import Crystal, transverse_products

#: Smallest eigenvalue of the fit's normal matrix that counts as determined.
DETERMINED = 1e-3


@dataclass(frozen=True, eq=False)
class RawExchange:
    """Exchange between n sites of a cell and the M moments of its supercell.

    Attributes
    ----------
    tensors : (n, M, 3, 3) array, eV
        J_ij; zero for a site with itself.
    residuals : (n, M) array, eV
        Root mean square, over the orientations, of what bilinear exchange does
        not describe.
    onsite : (n, 3, 3) array, eV
        A_i, symmetric and traceless.
    fields : (n, 3) array, eV
        h_i.
    accuracy : float
        Relative accuracy of the second derivatives.
    """

    tensors: np.ndarray
    residuals: np.ndarray
    onsite: np.ndarray
    fields: np.ndarray
    accuracy: float


def orientations(directions: np.ndarray) -> np.ndarray:
    """Return rotations (K, 3, 3) of an order that show all components of J.

    For a collinear order three put it along orthogonal axes; others take a fourth.
    """
    axes = np.linalg.svd(directions, full_matrices=True)[2]
    quarter = 0.5 * np.pi * axes
    vectors = [np.zeros(3), quarter[1], quarter[2]]
    if np.linalg.matrix_rank(directions, tol=1e-6) > 1:
        vectors.append(quarter[0])
    return Rotation.from_rotvec(vectors).as_matrix()


def fit_exchange(
    crystal: Crystal, sites: Sequence[int] | np.ndarray | None = None
) -> RawExchange:
    """Fit exchange and on-site terms of some sites of a cell.

    Parameters
    ----------
    crystal : Crystal
        Its supercell may be displaced.
    sites : (n,) integers, optional
        Positions in ``crystal.sites``; all by default.
    """
    chosen = np.arange(len(crystal.sites)) if sites is None else np.asarray(sites)
    rotations = orientations(crystal.directions)
    derivatives, gradients = [], []
    total = 2 * len(rotations) * len(chosen)
    with bar(total=total, desc="exchange") as progress:
        for rotation in rotations:
            crystal.rotate_moments(rotation)
            gradients.append(crystal.gradients()[chosen])
            rows, accuracy = _rows(crystal, rotation, chosen, progress)
            derivatives.append(rows)
    crystal.rotate_moments(np.eye(3))
    tensors, residuals = [], []
    for n, site in enumerate(chosen):
        J, residual = _fit_row(
            crystal, rotations, int(site), [rows[n] for rows in derivatives]
        )
        tensors.append(J)
        residuals.append(residual)
    onsite, fields = _fit_sites(
        crystal, rotations, chosen, np.array(tensors), derivatives, gradients
    )
    return RawExchange(np.array(tensors), np.array(residuals), onsite, fields, accuracy)


def _rows(
    crystal: Crystal, rotation: np.ndarray, chosen: np.ndarray, progress: tqdm
) -> tuple[np.ndarray, float]:
    """Return P_i |m_i||m_j| d2E/dm_i dm_j P_j, (n, M, 3, 3), eV, and its accuracy."""
    e = crystal.directions @ rotation.T
    products, accuracy = transverse_products(crystal, e, chosen, progress.update)
    others = np.tile(e, (crystal.n_cells, 1))
    along = np.einsum("ixjb,jb->ixj", products, others)
    products -= along[..., None] * others
    return np.einsum("ixa,ixjb->ijab", local_axes(e)[chosen], products), accuracy


def _fit_row(
    crystal: Crystal, rotations: np.ndarray, site: int, rows: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return J (M, 3, 3) of one site, and what it leaves out, (M,)."""
    # Moments along the same line have the same fit.
    signs = np.sign(crystal.directions @ [1.0, np.sqrt(2.0), np.sqrt(3.0)])
    rounded = np.round(signs[:, None] * crystal.directions, 12)
    _, first, kind = np.unique(rounded, axis=0, return_index=True, return_inverse=True)
    lines = crystal.directions[first]
    kind = np.tile(kind.ravel(), crystal.n_cells)
    count = len(kind)
    normal, target = np.zeros((len(lines), 9, 9)), np.zeros((count, 9))
    projectors = []
    for rotation, row in zip(rotations, rows, strict=True):
        e = lines @ rotation.T
        across = np.eye(3) - e[:, :, None] * e[:, None, :]
        own = across[kind[site]]
        projectors.append((own, across))
        normal += np.einsum("ac,jbd->jabcd", own, across).reshape(-1, 9, 9)
        target -= row.reshape(count, 9)
    if np.linalg.eigvalsh(normal)[:, 0].min() < DETERMINED:
        raise ValueError(
            "the orientations of this order do not determine all components of J"
        )
    inverse = np.linalg.inv(normal)
    J, square = np.zeros((count, 3, 3)), np.zeros(count)
    for k in range(len(lines)):
        members = kind == k
        J[members] = (target[members] @ inverse[k]).reshape(-1, 3, 3)
        for (own, across), row in zip(projectors, rows, strict=True):
            missed = own @ J[members] @ across[k] + row[members]
            square[members] += (missed**2).sum(axis=(1, 2))
    J[site], square[site] = 0.0, 0.0
    return J, np.sqrt(square / len(rotations))


def _fit_sites(
    crystal: Crystal,
    rotations: np.ndarray,
    chosen: np.ndarray,
    tensors: np.ndarray,
    derivatives: list[np.ndarray],
    gradients: list[np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Return A (n, 3, 3) and h (n, 3) from the on-site derivatives.

    On the sphere, with S_i = sum_j J_ij e_j and f_i = S_i + 2 A_i e_i + h_i, the
    gradient is -P f and the second derivative -2 P A P + (e.f) P.
    """
    basis = _traceless_symmetric()
    onsite, fields = [], []
    for n, k in enumerate(chosen):
        left, right = [], []
        for rotation, rows, gradient in zip(
            rotations, derivatives, gradients, strict=True
        ):
            e = rotation @ crystal.directions[k]
            t = local_axes(e[None])[0]
            others = np.tile(crystal.directions @ rotation.T, (crystal.n_cells, 1))
            pull = np.einsum("jab,jb->a", tensors[n], others)
            slope = crystal.lengths[k] * gradient[n]
            curved = t @ rows[n, k] @ t.T - (e @ slope) * np.eye(2)
            left.append(-np.hstack([2.0 * t @ (basis @ e).T, t]))
            right.append(t @ (slope + pull))
            across = np.einsum("xa,cab,yb->xyc", t, basis, t)
            along = np.einsum("a,cab,b->c", e, basis, e)
            of_A = -2.0 * across + 2.0 * np.eye(2)[:, :, None] * along
            of_h = np.eye(2)[:, :, None] * e
            left.append(np.concatenate([of_A, of_h], axis=2).reshape(4, 8))
            right.append((curved - (e @ pull) * np.eye(2)).ravel())
        found = np.linalg.lstsq(
            np.concatenate(left), np.concatenate(right), rcond=None
        )[0]
        onsite.append(np.tensordot(found[:5], basis, axes=1))
        fields.append(found[5:])
    return np.array(onsite), np.array(fields)


def _traceless_symmetric() -> np.ndarray:
    """Return a basis (5, 3, 3) of the symmetric traceless matrices."""
    basis = np.zeros((5, 3, 3))
    for n, (a, b) in enumerate([(0, 1), (0, 2), (1, 2)]):
        basis[n, a, b] = basis[n, b, a] = 1.0
    basis[3] = np.diag([1.0, -1.0, 0.0])
    basis[4] = np.diag([-1.0, -1.0, 2.0])
    return basis
