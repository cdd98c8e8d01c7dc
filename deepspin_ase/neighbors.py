"""Pair (neighbor) lists with periodic images and a Verlet skin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch
from ase.geometry import complete_cell
from scipy.spatial import cKDTree
from torch import Tensor

from ._cell_list import search_cells
from ._validate import non_negative
from .system import System

__all__ = [
    "NeighborList",
    "PairList",
    "build_pairs",
]

#: Two atoms closer than this (A) are one atom written twice.
COINCIDENT = 1e-3

#: Largest coordinate, A: beyond, differences in float64 are wrong by 1e-8 A and more.
FARTHEST = 1e8

#: Cells of vesin's search. Where there would be more, it makes them longer by one
#: factor, and Python dies of a division by zero (SIGFPE, vesin 0.6.2) where no whole
#: cell is left in a short direction.
MAX_CELLS = 1e5

#: Periodic images within reach beyond which a cell is not one of angstroms: an atom in
#: a cube of 0.3 A and a cutoff of 6 A has 69,000.
MAX_IMAGES = 1e5

Made = TypeVar("Made")


@dataclass(frozen=True)
class PairList:
    """All ordered pairs (i, j) within ``cutoff``, each i-j also as j-i, sorted by i.

    Attributes
    ----------
    i, j : (E,) int64 tensors
        Atom indices in the System.
    shift : (E, 3) tensor
        Lattice translations of atom j, in the System's float type.
    cutoff : float
        The distance out to which the list is complete, A. Lists that are
        reused with a skin also hold pairs beyond it.
    """

    i: Tensor
    j: Tensor
    shift: Tensor
    cutoff: float
    _derived: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)
    _bound: _Vectors | None = field(default=None, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the list without what was derived from it, for copies."""
        return vars(self) | {"_derived": {}, "_bound": None}

    def vectors(self, system: System) -> Tensor:
        """Return R_j + shift - R_i, (E, 3), A; differentiable."""
        bound = self._bound
        if bound is None or bound.system is not system:
            return self._vectors(system)
        if bound.values is None:
            bound.values = self._vectors(system)
        return bound.values

    def bound(self, system: System, vectors: Tensor | None = None) -> PairList:
        """Return the list for one evaluation of ``system``.

        It computes the vectors once, for all terms of a sum, or takes those given.
        """
        return replace(self, _bound=_Vectors(system, vectors))

    def derived(self, make: Callable[[PairList, int], Made], n_atoms: int) -> Made:
        """Return what ``make`` makes of the list of ``n_atoms`` atoms.

        It is made once and lives as long as the list; so it must follow from the
        pairs alone, not from ``cutoff``.
        """
        if (make, n_atoms) not in self._derived:
            self._derived[make, n_atoms] = make(self, n_atoms)
        made: Made = self._derived[make, n_atoms]
        return made

    def with_cutoff(self, cutoff: float) -> PairList:
        """Return the same pairs, complete out to another distance, A."""
        return replace(self, cutoff=cutoff, _bound=None)

    def _vectors(self, system: System) -> Tensor:
        if system.n_systems == 1:
            offset = self.shift @ system.cell[0]
        elif self.shift.device.type != "cpu":
            cells = system.cell[system.index[self.i]]
            offset = torch.bmm(self.shift[:, None], cells)[:, 0]
        else:
            # Pairs are sorted by structure: a small product for each saves memory.
            ends = torch.cumsum(system.counts(), 0) - 1
            counts = torch.searchsorted(self.i, ends, right=True).tolist()
            bounds = zip([0, *counts[:-1]], counts, strict=True)
            offset = torch.cat(
                [self.shift[a:b] @ system.cell[k] for k, (a, b) in enumerate(bounds)]
            )
        positions = system.positions
        return positions[self.j] - positions[self.i] + offset

    def repeated(self, times: int, n_atoms: int) -> PairList:
        """Return the list of ``times`` copies of a System of ``n_atoms`` atoms."""
        offset = n_atoms * torch.arange(times, device=self.i.device)[:, None]
        return PairList(
            (self.i + offset).flatten(),
            (self.j + offset).flatten(),
            self.shift.repeat(times, 1),
            self.cutoff,
        )


class _Vectors:
    """Vectors of a list of pairs in one System, once they are known."""

    def __init__(self, system: System, values: Tensor | None = None) -> None:
        self.system = system
        self.values = values


Backend = Callable[
    [np.ndarray, np.ndarray, np.ndarray, float],
    tuple[np.ndarray, np.ndarray, np.ndarray],
]


def _vesin_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from vesin import NeighborList as VesinList

    search = VesinList(cutoff=cutoff, full_list=True, sorted=True)
    i, j, shift = search.compute(
        points=positions, box=cell, periodic=pbc.tolist(), quantities="ijS"
    )
    return i, j, shift


def _scipy_pairs(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(cell)
    fractional = positions @ inverse
    home = np.where(pbc, np.floor(fractional), 0.0)
    fractional = fractional - home
    # Images of the home cell whose atoms can be within the cutoff of it.
    margin = cutoff * np.linalg.norm(inverse, axis=0)
    span = np.where(pbc, np.ceil(margin), 0).astype(int)
    shifts = np.stack(
        np.meshgrid(*(np.arange(-n, n + 1) for n in span), indexing="ij"), axis=-1
    ).reshape(-1, 3)
    image = (fractional[None] + shifts[:, None]).reshape(-1, 3)
    near = np.flatnonzero(
        (((image >= -margin) & (image <= 1.0 + margin)) | ~pbc).all(axis=1)
    )
    tree = cKDTree(fractional @ cell)
    images = cKDTree(image[near] @ cell)
    found = tree.sparse_distance_matrix(images, cutoff, output_type="ndarray")
    i, ghost = found["i"], near[found["j"]]
    j, shift = ghost % len(positions), shifts[ghost // len(positions)]
    keep = (i != j) | shift.any(axis=1)
    i, j, shift = i[keep], j[keep], shift[keep]
    order = np.argsort(i, kind="stable")
    i, j, shift = i[order], j[order], shift[order]
    return i, j, shift + (home[i] - home[j]).astype(int)


_BACKENDS: dict[str, Backend] = {"vesin": _vesin_pairs, "scipy": _scipy_pairs}


def build_pairs(
    system: System, cutoff: float, *, backend: str | None = None
) -> PairList:
    """List all pairs within ``cutoff`` (A), periodic images included.

    Cells may be shorter than the cutoff and periodic in any subset of
    directions. ``backend`` is ``"vesin"`` (the default on the CPU), ``"scipy"``, or
    ``"torch"`` (the default elsewhere), which works on the System's own device; all
    give the same pairs.

    Raises
    ------
    ValueError
        If two atoms coincide, positions or cell are not finite, the cell is too small
        to be one in angstroms, or the backend is unknown.
    """
    if backend is None:
        backend = "vesin" if system.device.type == "cpu" else "torch"
    if backend not in (*_BACKENDS, "torch"):
        known = sorted([*_BACKENDS, "torch"])
        raise ValueError(f"unknown neighbor backend {backend!r}: {known}")
    if not bool(torch.isfinite(system.positions.sum() + system.cell.sum())):
        raise ValueError("positions or cell are not finite")
    if float(system.positions.detach().abs().max()) > FARTHEST:
        k = int(system.positions.detach().abs().amax(1).argmax())
        raise ValueError(
            f"atom {k} is farther than {FARTHEST:.0e} A from the origin, where "
            "distances have too few digits; wrap the atoms into the cell"
        )
    # On-site terms have no cutoff, but atoms must not coincide; a search
    # for very short distances is slow.
    radius = max(cutoff, 1.0)
    _check_images(system, radius)
    if backend == "torch":
        i, j, shift = search_cells(system, radius)
    else:
        i, j, shift = _on_host(system, radius, backend)
    pairs = PairList(i, j, shift.to(system.dtype), cutoff)
    _check_distances(system, pairs)
    return pairs


def _on_host(
    system: System, radius: float, backend: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Search every structure on the CPU."""
    positions = system.positions.detach().cpu().numpy().astype(float)
    cells = system.cell.detach().cpu().numpy().astype(float)
    pbc = system.pbc.cpu().numpy()
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for b, own in enumerate(system.slices()):
        points, start = positions[own], own.start
        cell = complete_cell(np.where(pbc[b][:, None], cells[b], 0.0))
        flat = _has_no_cells(points, cell, pbc[b], radius)
        search = _BACKENDS["scipy" if flat else backend]
        i, j, shift = search(points, cell, pbc[b], radius)
        parts.append((i.astype(np.int64) + start, j.astype(np.int64) + start, shift))

    def join(k: int) -> Tensor:
        joined = np.concatenate([part[k] for part in parts])
        return torch.from_numpy(joined).to(system.device)

    return join(0), join(1), join(2)


def _has_no_cells(
    points: np.ndarray, cell: np.ndarray, pbc: np.ndarray, radius: float
) -> bool:
    """Return whether vesin's search would be left without a cell in some direction."""
    normals = np.linalg.inv(cell).T  # of lengths 1 / heights
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    heights = np.abs((cell * normals).sum(1))
    extents = np.where(pbc, heights, np.ptp(points @ normals.T, axis=0))
    counts = np.maximum(extents / radius, 1.0)
    shrunk = min(1.0, float(MAX_CELLS / counts.prod()) ** (1 / 3))
    return bool(shrunk < 1.0 and counts.min() * shrunk < 2.0)


def _check_images(system: System, radius: float) -> None:
    """Raise ValueError where a search would not end for all the images in reach."""
    periodic = torch.where(system.pbc[:, :, None], system.cell.detach(), 0.0)
    # Columns of the inverse have lengths of one over the heights of the cell.
    inverse = np.linalg.pinv(periodic.cpu().numpy().astype(float))
    images = (2.0 * radius * np.linalg.norm(inverse, axis=1) + 1.0).prod(axis=1)
    if images.max(initial=0.0) > MAX_IMAGES:
        k = int(images.argmax())
        raise ValueError(
            f"the cell of structure {k} is so small that {images[k]:.0e} images of it "
            f"lie within {radius:g} A: are its vectors in angstroms?"
        )


def _check_distances(system: System, pairs: PairList) -> None:
    with torch.no_grad():
        distance = pairs.vectors(system).norm(dim=1)
    if len(distance) and distance.min() < COINCIDENT:
        k = int(distance.argmin())
        raise ValueError(
            f"atoms {int(pairs.i[k])} and {int(pairs.j[k])} coincide (distance "
            f"{float(distance[k]):.1e} A); remove one of them"
        )


class NeighborList:
    """Pair list with a Verlet skin, rebuilt only when it could miss a pair.

    With atoms displaced by at most u from where the list was built, beyond
    the homogeneous deformation F of the cell, every pair now within the cutoff
    was then within ``(cutoff + 2 u) ||F^-1||``: the list is kept while that
    stays inside cutoff + skin. Positions are compared as they are, without
    minimum images, so wrapping atoms into the cell triggers a rebuild.

    Parameters
    ----------
    skin : float
        Extra distance, A. Zero rebuilds whenever anything moves.
    backend : str, optional
        See :func:`build_pairs`.
    """

    def __init__(self, skin: float = 0.5, *, backend: str | None = None) -> None:
        self.skin = non_negative("skin", skin)
        self.backend = backend
        self.n_builds = 0
        self._pairs: PairList | None = None
        self._built: System | None = None
        #: Tensors of that System with their versions (numbers of in-place writes).
        self._seen: dict[str, tuple[Tensor, int]] = {}

    def update(self, system: System, cutoff: float) -> PairList:
        """Return pairs complete to ``cutoff`` (A) for ``system``."""
        if self._pairs is None or not self._reusable(system, cutoff):
            self._pairs = build_pairs(system, cutoff + self.skin, backend=self.backend)
            self._built = system.detach().clone()
            self._seen = {k: (x, x._version) for k, x in vars(system).items()}
            self.n_builds += 1
        return self._pairs.with_cutoff(cutoff)

    def clear(self) -> None:
        """Build the next list anew, so that it depends on its structure alone."""
        self._pairs = self._built = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without versions of tensors, which copies do not share."""
        return vars(self) | {"_seen": {}}

    def state(self) -> dict[str, Any]:
        """Return the structures and the cutoff that the present list was built for."""
        if self._built is None or self._pairs is None:
            return {}
        return {"built": dict(vars(self._built)), "cutoff": self._pairs.cutoff}

    def restore(self, state: dict[str, Any]) -> None:
        """Rebuild the list from the state returned by :meth:`state`."""
        if state:
            self._built = System(**state["built"])
            self._pairs = build_pairs(
                self._built, state["cutoff"], backend=self.backend
            )

    def _unchanged(self, name: str, system: System) -> bool:
        """Return whether a tensor is the same as when the list was built.

        Comparing contents synchronizes with the device; the same object, not written
        to since, needs no comparison.
        """
        now = getattr(system, name)
        seen = self._seen.get(name)
        if seen is not None and now is seen[0] and now._version == seen[1]:
            return True
        return torch.equal(getattr(self._built, name), now)

    def _reusable(self, system: System, cutoff: float) -> bool:
        built, pairs = self._built, self._pairs
        assert built is not None and pairs is not None
        if (
            built.positions.shape != system.positions.shape
            or built.device != system.device
            or built.dtype != system.dtype
            or not self._unchanged("index", system)
            or not self._unchanged("pbc", system)
        ):
            return False
        with torch.no_grad():
            reference = built.positions
            stretch = 1.0
            if not self._unchanged("cell", system):
                usable = torch.linalg.det(built.cell).abs() > 1e-8
                if not (usable.all() and torch.isfinite(system.cell).all()):
                    return False
                deform = torch.linalg.solve(built.cell, system.cell)
                reference = torch.einsum("ni,nij->nj", reference, deform[system.index])
                stretch = float(
                    (1.0 / torch.linalg.svdvals(deform)[:, -1].clamp_min(1e-12)).max()
                )
            moved = float((system.positions - reference).norm(dim=1).max())
        return (cutoff + 2.0 * moved) * stretch <= pairs.cutoff
