"""The bonds and tensors of a Hamiltonian, spread over the atoms of structures."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ...system import System
from .._crystal import Crystal, Occupation


@dataclass(frozen=True, eq=False)
class Layout(Occupation):
    """The bonds between the atoms of a System.

    Attributes
    ----------
    i, j, bond : (E,) integer arrays
        Atoms, and the number of the bond in the table.
    images : (E, 3) integer array
        Lattice translations of the second atoms.
    atoms, sites : (m,) integer arrays
        Atoms on sites, and these.
    """

    i: np.ndarray
    j: np.ndarray
    bond: np.ndarray
    images: np.ndarray
    atoms: np.ndarray
    sites: np.ndarray

    @classmethod
    def of(
        cls,
        crystal: Crystal,
        i: np.ndarray,
        j: np.ndarray,
        shift: np.ndarray,
        system: System,
    ) -> Layout:
        """Find the bonds of a table in every structure of a System."""
        own = Occupation.find(crystal, system)
        found: list[tuple[np.ndarray, ...]] = []
        for k, placement in enumerate(own.placements):
            if not (k and placement is own.placements[k - 1]):
                pbc = own.seen.pbc[k].numpy()
                bonds = placement.neighbors(i, j, shift, pbc)
            start = own.seen.slices()[k].start
            first, second, bond, images = bonds
            atoms, sites = placement.atoms + start, placement.sites
            found.append((first + start, second + start, bond, images, atoms, sites))
        arrays = map(np.concatenate, zip(*found, strict=True))
        return cls(own.seen, own.placements, *arrays)

    @cached_property
    def tensors(self) -> dict[tuple[torch.device, torch.dtype], Tensors]:
        """The table spread over the atoms, by device and type, once it was needed."""
        return {}

    def check(self, system: System) -> None:
        """Raise ValueError where an atom off the sites carries a moment."""
        carrying = (system.spins.detach() != 0).any(dim=1).cpu().numpy()
        carrying[self.atoms] = False
        stray = np.flatnonzero(carrying)
        if len(stray):
            raise ValueError(
                f"atom {stray[0]} carries a moment, but is on no site of the exchange "
                "table; set its moment to zero, or add its bonds to the table"
            )

    def lengths(self, system: System) -> Tensor:
        """Return the lengths (E,) of the bonds, A; differentiable."""
        shift = torch.from_numpy(self.images).to(system.device, system.dtype)
        first = torch.from_numpy(self.i).to(system.device)
        second = torch.from_numpy(self.j).to(system.device)
        cells = system.cell[system.index[first]]
        offset = torch.einsum("ea,eab->eb", shift, cells)
        vectors = system.positions[second] - system.positions[first] + offset
        return torch.linalg.vector_norm(vectors, dim=1)


@dataclass(frozen=True)
class Tensors:
    """A table spread over the atoms of a System: E pairs, m atoms on sites.

    Attributes
    ----------
    i, j : (E,) int64 tensors
    J : (E, 3, 3) tensor, eV
    slopes : (E, 3, 3) tensor, eV/A, optional
    distances : (E,) tensor, A
        At which the tensors hold.
    biquadratic : (E,) tensor, eV, optional
    atoms : (m,) int64 tensor
    onsite, fields, cubic, axes : tensors (m, ...), optional
    matrix : sparse tensor, eV
        (N, N) where all J are multiples of unity, else (3 N, 3 N).
    """

    i: Tensor
    j: Tensor
    J: Tensor
    slopes: Tensor | None
    distances: Tensor
    biquadratic: Tensor | None
    atoms: Tensor
    onsite: Tensor | None
    fields: Tensor
    cubic: Tensor | None
    axes: Tensor
    matrix: Tensor

    def exchange(self, e: Tensor) -> Tensor:
        """Return sum_j J_ij e_j, (N, 3), eV."""
        if self.matrix.shape[0] == len(e):
            return self.matrix @ e
        return (self.matrix @ e.reshape(-1)).reshape(-1, 3)

    def site_energies(self, e: Tensor) -> Tensor:
        """Return the on-site energies of unit vectors (m, 3) of the sites, eV."""
        total = -(self.fields * e).sum(dim=1)
        if self.onsite is not None:
            total = total - torch.einsum("ia,iab,ib->i", e, self.onsite, e)
        if self.cubic is not None:
            K1, K2 = self.cubic.unbind(dim=1)
            a, b, c = self._squares(e).unbind(dim=1)
            total = total + K1 * (a * b + b * c + c * a) + K2 * a * b * c
        return total

    def site_pull(self, e: Tensor) -> Tensor:
        """Return minus the derivatives (m, 3) of the on-site energies by e, eV."""
        pull = self.fields
        if self.onsite is not None:
            pull = pull + 2.0 * torch.einsum("iab,ib->ia", self.onsite, e)
        if self.cubic is not None:
            K1, K2 = self.cubic[:, :1], self.cubic[:, 1:]
            squares = self._squares(e)
            others = squares.sum(dim=1, keepdim=True) - squares
            a, b, c = squares.unbind(dim=1)
            products = torch.stack([b * c, c * a, a * b], dim=1)
            cosines = torch.einsum("iab,ib->ia", self.axes, e)
            slope = 2.0 * cosines * (K1 * others + K2 * products)
            pull = pull - torch.einsum("iab,ia->ib", self.axes, slope)
        return pull

    def _squares(self, e: Tensor) -> Tensor:
        return torch.einsum("iab,ib->ia", self.axes, e) ** 2


def sparse_matrix(i: Tensor, j: Tensor, J: Tensor, n: int) -> Tensor:
    """Return exchange as a sparse matrix; see :class:`Tensors`."""
    scalars = J[:, 0, 0]
    identity = torch.eye(3, dtype=J.dtype, device=J.device)
    if torch.equal(J, scalars[:, None, None] * identity):
        rows, columns, values, size = i, j, scalars, n
    else:
        axes = torch.arange(3, device=i.device)
        rows = (3 * i[:, None, None] + axes[:, None]).expand(-1, 3, 3).flatten()
        columns = (3 * j[:, None, None] + axes).expand(-1, 3, 3).flatten()
        values, size = J.flatten(), 3 * n
    pairs = torch.stack([rows, columns])
    # Bonds between the same atoms by way of different images add up.
    whole = torch.sparse_coo_tensor(pairs, values, (size, size), check_invariants=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
        return whole.coalesce().to_sparse_csr()
