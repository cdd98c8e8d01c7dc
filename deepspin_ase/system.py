"""Batches of structures as tensors."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from .spins import get_spins

__all__ = [
    "System",
]

#: Singular value, A, below which lattice vectors count as parallel.
_PARALLEL = 1e-6

Values = TypeVar("Values", Tensor, np.ndarray)


@dataclass(frozen=True)
class System:
    """B structures of N atoms in all.

    Attributes
    ----------
    positions : (N, 3) tensor, A
    spins : (N, 3) tensor, mu_B
    species : (N,) int64 tensor
        Atomic numbers.
    cell : (B, 3, 3) tensor, A
        Rows are lattice vectors; zeros where there is no periodicity.
    pbc : (B, 3) bool tensor
    index : (N,) int64 tensor
        The structure each atom belongs to, ascending.
    """

    positions: Tensor
    spins: Tensor
    species: Tensor
    cell: Tensor
    pbc: Tensor
    index: Tensor

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms | Sequence[Atoms],
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float64,
        require_spins: bool = True,
    ) -> System:
        """Build a System of one or several Atoms.

        ``require_spins=False`` fills missing moments with zeros, for
        potentials that do not depend on them.

        Raises
        ------
        ValueError
            If there are no atoms, positions or cell are not finite, a periodic
            direction has no lattice vector, or moments are missing or malformed.
        """
        images = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        if not images:
            raise ValueError("expected at least one Atoms object")
        for image in images:
            check_structure(image)
        spins = [
            get_spins(image)
            if require_spins or image.has("initial_magmoms")
            else np.zeros((len(image), 3))
            for image in images
        ]
        # Joining copies, also a single array: no tensor shares memory with Atoms.
        arrays = (
            np.concatenate([image.positions for image in images]),
            np.concatenate(spins),
            np.concatenate([image.numbers for image in images]).astype(np.int64),
            np.stack([image.cell.array for image in images]),
            np.stack([image.pbc for image in images]),
            np.repeat(np.arange(len(images)), [len(image) for image in images]),
        )
        tensors = (torch.from_numpy(array) for array in arrays)
        return cls(*tensors).to(device, dtype)

    @classmethod
    def cat(cls, systems: Sequence[System]) -> System:
        """Join several Systems into one batch."""
        offsets = np.cumsum([0] + [s.n_systems for s in systems[:-1]])
        return cls(
            torch.cat([s.positions for s in systems]),
            torch.cat([s.spins for s in systems]),
            torch.cat([s.species for s in systems]),
            torch.cat([s.cell for s in systems]),
            torch.cat([s.pbc for s in systems]),
            torch.cat(
                [s.index + int(o) for s, o in zip(systems, offsets, strict=True)]
            ),
        )

    @property
    def n_systems(self) -> int:
        """Number of structures B."""
        return self.cell.shape[0]

    @property
    def n_atoms(self) -> int:
        """Number of atoms N of all structures together."""
        return self.positions.shape[0]

    @property
    def device(self) -> torch.device:
        """Device of all tensors."""
        return self.positions.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of positions, spins and cell."""
        return self.positions.dtype

    @property
    def volume(self) -> Tensor:
        """(B,) volumes, A^3; zero for structures without three lattice vectors."""
        a, b, c = self.cell.unbind(1)
        return (a * torch.linalg.cross(b, c)).sum(1).abs()

    def counts(self) -> Tensor:
        """Return the (B,) numbers of atoms of the structures."""
        return torch.bincount(self.index, minlength=self.n_systems)

    def sum(self, values: Tensor) -> Tensor:
        """Add per-atom ``values`` (N, ...) up to per-structure sums (B, ...)."""
        if self.n_systems == 1 and values.is_cuda:
            return values.sum(0, keepdim=True)  # always in the same order
        total = values.new_zeros((self.n_systems, *values.shape[1:]))
        return total.index_add(0, self.index, values)

    def replace(self, **changes: Tensor) -> System:
        """Return a copy with the named tensors replaced."""
        return replace(self, **changes)

    def detach(self) -> System:
        """Return the System without the graph of its tensors, which are shared."""
        if not any(getattr(self, f.name).requires_grad for f in fields(self)):
            return self
        return self._each(Tensor.detach)

    def clone(self) -> System:
        """Return a System with copies of all tensors."""
        return self._each(Tensor.clone)

    def _each(self, change: Callable[[Tensor], Tensor]) -> System:
        return System(*(change(getattr(self, f.name)) for f in fields(self)))

    def slices(self) -> list[slice]:
        """Return the range of the atoms of each structure."""
        if self.n_systems == 1:
            return [slice(0, self.n_atoms)]  # without waiting for the device
        ends = np.cumsum(self.counts().tolist()).tolist()
        return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]

    def split(self, values: Values) -> list[Values]:
        """Return the parts (N_k, ...) of per-atom values (N, ...), by structure.

        Parts are views of ``values``. Values per structure (B, ...) need no splitting:
        those of structure k are ``values[k]``.

        Raises
        ------
        ValueError
            If ``values`` has another length than the System has atoms.
        """
        if len(values) != self.n_atoms:
            raise ValueError(
                f"expected values of {self.n_atoms} atoms, got {len(values)}; values "
                "per structure are indexed by the structure"
            )
        return [values[own] for own in self.slices()]

    def __getitem__(self, chosen: int | slice | Sequence[int]) -> System:
        """Return the System of one structure or of some, in the order given.

        Parameters
        ----------
        chosen : int, slice or sequence of int
            Which structures; negative numbers count from the end.

        Raises
        ------
        IndexError
            If there is no such structure, or none is chosen.
        """
        known = range(self.n_systems)
        if isinstance(chosen, slice):
            numbers = list(known[chosen])
        elif isinstance(chosen, Sequence | np.ndarray):
            numbers = [known[operator.index(k)] for k in chosen]
        else:
            numbers = [known[operator.index(chosen)]]
        if not numbers:
            raise IndexError(f"{chosen} is none of {self.n_systems} structures")
        parts = self.slices()
        counts = torch.tensor([parts[k].stop - parts[k].start for k in numbers])

        def atoms(values: Tensor) -> Tensor:
            pieces = [values[parts[k]] for k in numbers]
            return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

        return System(
            atoms(self.positions),
            atoms(self.spins),
            atoms(self.species),
            self.cell[numbers],
            self.pbc[numbers],
            torch.repeat_interleave(counts).to(self.device),
        )

    def __iter__(self) -> Iterator[System]:
        """Iterate over the structures, each as a System."""
        return (self[k] for k in range(self.n_systems))

    def to(
        self,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> System:
        """Return the System on another device or in another float type."""
        if (device is None or torch.device(device) == self.device) and (
            dtype is None or dtype == self.dtype
        ):
            return self
        return System(
            self.positions.to(device, dtype),
            self.spins.to(device, dtype),
            self.species.to(device),
            self.cell.to(device, dtype),
            self.pbc.to(device),
            self.index.to(device),
        )

    def strained(self, strain: Tensor) -> System:
        """Deform positions and cells, x -> (1 + strain) x, at fixed moments.

        Parameters
        ----------
        strain : (B, 3, 3) tensor
            Cartesian moments are kept, so a rotation part rotates the lattice
            under the spins.
        """
        deform = strain.transpose(1, 2)
        moved = torch.einsum("ni,nij->nj", self.positions, deform[self.index])
        return self.replace(
            positions=self.positions + moved, cell=self.cell + self.cell @ deform
        )


def check_structure(atoms: Atoms) -> None:
    """Raise TypeError or ValueError unless positions and cell can be evaluated."""
    if not isinstance(atoms, Atoms):
        raise TypeError(f"expected ase.Atoms, got {type(atoms).__name__}")
    if len(atoms) == 0:
        raise ValueError("the Atoms object is empty")
    if not np.isfinite(atoms.positions).all():
        bad = np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))
        raise ValueError(
            f"the position of atom {bad[0]} is not finite: {atoms.positions[bad[0]]}"
        )
    cell, pbc = atoms.cell.array, atoms.pbc
    if not np.isfinite(cell).all():
        raise ValueError("the cell has entries that are not finite")
    # The smallest singular value is at least |det| / |cell|^2: no need to look for it.
    (a, b, c), (d, e, f), (g, h, i) = cell.tolist()
    determinant = a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g)
    if abs(determinant) > _PARALLEL * np.square(cell).sum():
        return
    for axis in np.flatnonzero(pbc):
        if not cell[axis].any():
            raise ValueError(
                f"direction {axis} is periodic but its lattice vector is zero; "
                "set the cell, or pbc=False"
            )
    periodic = cell[pbc]
    if np.linalg.matrix_rank(periodic, tol=_PARALLEL) < len(periodic):
        raise ValueError("the periodic lattice vectors are parallel: correct the cell")
