"""Hamiltonians as lists of bonds: exchange tables of other codes, models by hand.

With unit vectors e = m/|m| and every bond counted once,

    E = - sum_bonds [e_i.J_ij.e_j + B_ij (e_i.e_j)^2]
        - sum_i [e_i.A_i.e_i + h_i.e_i]
        + sum_i [K1_i (a^2 b^2 + b^2 c^2 + c^2 a^2) + K2_i a^2 b^2 c^2].

J > 0 is ferromagnetic. J_ij = J 1 + antisymmetric + symmetric traceless; the
antisymmetric part is the Dzyaloshinskii-Moriya vector D of -D.(e_i x e_j). A = K n n is
a uniaxial anisotropy -K (e.n)^2, and a, b, c are direction cosines of e. This is the
convention of all terms in :mod:`deepspin_ase.potentials.terms` and of
:class:`~deepspin_ase.analysis.ExchangeTensors`; what files of other codes hold instead
is said by their readers and writers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.build import make_supercell
from numpy.typing import ArrayLike
from torch import Tensor

from ..._digest import digest
from ...build import random_alloy
from ...neighbors import PairList
from ...spins import get_spins, set_spins
from ...system import System, check_structure
from .._base import Potential, QuadraticForm
from .._crystal import Crystal, OccupationCache
from .._prediction import Prediction
from .._registry import register
from ..terms._sites import unit_spins
from ._bonds import completed, shaped
from ._layout import Layout, Tensors, sparse_matrix
from ._symmetry import SymmetricBonds, symmetric_bonds


@register
class BondHamiltonian(Potential):
    """Exchange, anisotropies and fields of the sites and bonds of a crystal.

    Bonds are named by their sites and the lattice translation between them, so that
    bonds of equal length may differ. The energy is in the module's convention. It
    applies to any supercell of the crystal, recognized by its cell and positions:
    strained, with atoms that moved, in another order, with empty sites and with atoms
    of other elements, which carry no moment. Directions that are not periodic have
    open ends.

    Sites of different elements may share a place: the species of an alloy, each with
    bonds of its own. An atom is on the site of its element; :meth:`disordered` draws
    which of them is where.

    The bonds follow the atoms. Without ``slopes`` the energy does not depend on where
    these are, and forces and stress are zero.

    Parameters
    ----------
    atoms : Atoms
        The cell, with its moments as the reference state (mu_B); or its plain data, as
        :meth:`arguments` gives it.
    i, j : (P,) integers
        Sites of the bonds, numbered as the atoms.
    shift : (P, 3) integers
        Lattice translation of j.
    tensors : (P,) or (P, 3, 3) array, eV
        J_ij: numbers for isotropic exchange. A bond may be listed from one of its ends
        or from both, and counts once in either case.
    dm : (P, 3) array, eV, optional
        Vectors D_ij, added to the tensors.
    biquadratic : (P,) array, eV, optional
        B_ij.
    slopes : (P,) or (P, 3, 3) array, eV/A, optional
        Derivatives of J_ij by the length of the bond, about the lengths that the bonds
        have in ``atoms``.
    onsite : (n, 3, 3) array, eV, optional
        A_i, symmetric.
    cubic : (n, 2) array, eV, optional
        K1_i and K2_i.
    cubic_axes : (n, 3, 3) array, optional
        Orthogonal unit vectors as rows, of which a, b, c are the components;
        Cartesian by default.
    fields : (n, 3) array, eV, optional
        h_i = |m_i| mu_B B in a field B.
    shares : (n,) array, optional
        Parts of the sites in the alloy, one by default; of sites that share a place up
        to one in all, with equal parts by default.
    per_moment : bool
        Numbers are for moments, not unit vectors: E = - sum_bonds m_i.J_ij.m_j in
        eV/mu_B^2 (B in eV/mu_B^4, A in eV/mu_B^2, h in eV/mu_B, K1 in eV/mu_B^4,
        K2 in eV/mu_B^6). They are multiplied with the lengths of the moments of
        ``atoms``, once and for all.

    Raises
    ------
    ValueError
        If an array has another shape or is not finite, a site does not exist, a bond
        joins a site with itself, leaves a direction that is not periodic, is listed
        twice, or from both ends with different numbers, or sites that share a place
        are of one element, or their shares add up to more than one.

    Examples
    --------
    >>> from ase.build import bulk
    >>> from deepspin_ase import set_spins
    >>> from deepspin_ase.potentials import BondHamiltonian
    >>> chain = bulk("Fe", "sc", a=2.5)
    >>> chain.pbc = (True, False, False)
    >>> set_spins(chain, {"Fe": 2.0})
    >>> model = BondHamiltonian(chain, [0], [0], [(1, 0, 0)], [0.01])
    >>> ring = model.repeat((6, 1, 1)).atoms
    >>> round(float(model.energy(ring)), 6)
    -0.06
    """

    cutoff = 0.0

    def __init__(
        self,
        atoms: Atoms | Mapping[str, Any],
        i: ArrayLike,
        j: ArrayLike,
        shift: ArrayLike,
        tensors: ArrayLike,
        *,
        dm: ArrayLike | None = None,
        biquadratic: ArrayLike | None = None,
        slopes: ArrayLike | None = None,
        onsite: ArrayLike | None = None,
        cubic: ArrayLike | None = None,
        cubic_axes: ArrayLike | None = None,
        fields: ArrayLike | None = None,
        shares: ArrayLike | None = None,
        per_moment: bool = False,
    ) -> None:
        super().__init__()
        self._atoms = _as_atoms(atoms)
        n = len(self._atoms)
        lengths = np.linalg.norm(get_spins(self._atoms), axis=1)
        scale = lengths if per_moment else np.ones(n)
        bonds = completed(
            self._atoms,
            i,
            j,
            shift,
            tensors,
            dm=dm,
            biquadratic=biquadratic,
            slopes=slopes,
            scale=scale,
        )
        self.i, self.j, self.shift = bonds.i, bonds.j, bonds.shift
        self.tensors, self.biquadratic = bonds.tensors, bonds.biquadratic
        self.slopes = bonds.slopes
        #: Number of bonds that were listed from one of their ends only.
        self.one_sided = bonds.one_sided
        own = shaped("onsite", onsite, (n, 3, 3)) * scale[:, None, None] ** 2
        self.onsite = 0.5 * (own + own.transpose(0, 2, 1))
        powers = np.stack([scale**4, scale**6], axis=1)
        self.cubic = shaped("cubic", cubic, (n, 2)) * powers
        self.cubic_axes = np.tile(np.eye(3), (n, 1, 1))
        if cubic_axes is not None:
            self.cubic_axes = shaped("cubic_axes", cubic_axes, (n, 3, 3))
            products = self.cubic_axes @ self.cubic_axes.transpose(0, 2, 1)
            if not np.allclose(products, np.eye(3), atol=1e-6):
                raise ValueError("cubic_axes must be orthogonal unit vectors as rows")
        self.fields = shaped("fields", fields, (n, 3)) * scale[:, None]
        self.per_moment = False
        numbers = self._atoms.numbers
        self.magnetic_species = frozenset(numbers[self.sites].tolist())
        self._crystal = Crystal(
            self._atoms.cell.array,
            self._atoms.pbc,
            numbers,
            self._atoms.positions,
        )
        #: (n,) parts of the sites in the alloy; of sites on their own 1.
        self.shares = self._checked_shares(shares)
        self._layouts: OccupationCache[Layout] = OccupationCache()

    def _checked_shares(self, shares: ArrayLike | None) -> np.ndarray:
        places, atoms = self.places, self._atoms
        count = np.bincount(places)
        if len(set(zip(places, atoms.numbers, strict=True))) < len(atoms):
            crowded = atoms.positions[np.flatnonzero(count[places] > 1)[0]]
            raise ValueError(
                f"two sites of one element share the place {crowded.round(4).tolist()} "
                "A: only those of different elements of an alloy do"
            )
        if shares is None:
            return 1.0 / count[places]
        given = shaped("shares", shares, (len(atoms),))
        total = np.bincount(places, given).max(initial=0.0)
        if (given < 0.0).any() or total > 1.0 + 1e-9:
            raise ValueError(
                "shares of sites are between 0 and 1, and those of one place add up to "
                f"1 at most; got {given.min():g} to {given.max():g}, a sum {total:g}"
            )
        return given

    # --- what it is ---

    @property
    def atoms(self) -> Atoms:
        """A copy of the cell, with the moments of the reference state."""
        return self._atoms.copy()

    @cached_property
    def sites(self) -> np.ndarray:
        """(k,) integers: the sites that take part or carry a moment."""
        taking = np.zeros(len(self._atoms), dtype=bool)
        taking[self.i] = True
        taking |= np.linalg.norm(get_spins(self._atoms), axis=1) > 0
        for values in (self.onsite, self.cubic, self.fields):
            taking |= np.abs(values).reshape(len(values), -1).max(axis=1) > 0
        return np.flatnonzero(taking)

    @property
    def vectors(self) -> np.ndarray:
        """(P, 3) vectors from the first to the second sites, A."""
        positions, cell = self._atoms.positions, self._atoms.cell.array
        return positions[self.j] + self.shift @ cell - positions[self.i]

    @property
    def distances(self) -> np.ndarray:
        """(P,) lengths of the bonds, A."""
        return np.linalg.norm(self.vectors, axis=1)

    @property
    def isotropic(self) -> np.ndarray:
        """(P,) isotropic exchange J, a third of the trace, eV."""
        return np.trace(self.tensors, axis1=1, axis2=2) / 3.0

    @property
    def dm(self) -> np.ndarray:
        """(P, 3) Dzyaloshinskii-Moriya vectors D of -D.(e_i x e_j), eV."""
        t = self.tensors
        pairs = ((1, 2), (2, 0), (0, 1))
        return np.stack([0.5 * (t[:, a, b] - t[:, b, a]) for a, b in pairs], axis=1)

    @property
    def anisotropic(self) -> np.ndarray:
        """(P, 3, 3) symmetric traceless parts of the tensors, eV."""
        symmetric = 0.5 * (self.tensors + self.tensors.transpose(0, 2, 1))
        return symmetric - self.isotropic[:, None, None] * np.eye(3)

    @property
    def places(self) -> np.ndarray:
        """(n,) integers: numbers of the places of the sites, of an alloy's shared."""
        return self._crystal.places

    @property
    def is_alloy(self) -> bool:
        """Whether sites share places, or are empty in part."""
        return bool((self.shares != 1.0).any())

    @property
    def parent(self) -> Atoms:
        """The cell with the first of the species on every place, with its moments."""
        first = np.unique(self.places, return_index=True)[1]
        return self._atoms[np.sort(first)]

    @property
    def is_bilinear(self) -> bool:
        """Whether there are no biquadratic and cubic terms."""
        return not (self.biquadratic.any() or self.cubic.any())

    def arguments(self) -> dict[str, Any]:
        """Return the constructor arguments, for saving and printing."""
        own = self._atoms
        atoms = {
            "symbols": own.get_chemical_symbols(),
            "positions": own.positions,
            "cell": own.cell.array,
            "pbc": own.pbc,
            "moments": get_spins(own),
        }
        names = ("i", "j", "shift", "tensors")
        rest = ("biquadratic", "slopes", "onsite", "cubic", "fields")
        found = {"atoms": atoms} | {name: getattr(self, name) for name in names}
        given = {name: getattr(self, name) for name in rest}
        found |= {name: values for name, values in given.items() if values.any()}
        if self.cubic.any():
            found["cubic_axes"] = self.cubic_axes
        if self.is_alloy:
            found["shares"] = self.shares
        return found

    def extra_repr(self) -> str:
        """Show the crystal, the number of bonds, and a digest of their values."""
        formula = self._atoms.get_chemical_formula()
        name = digest(self.arguments())[:8]
        return f"{formula}, {len(self.sites)} sites, {len(self.i) // 2} bonds, {name}"

    def energy(self, atoms: Atoms) -> float:
        """Return the energy of a structure with its moments, eV."""
        system = System.from_atoms(atoms)
        found = self.evaluate(system, forces=False, magnetic_forces=False, virial=False)
        return float(found.energy)

    # --- other cells, other bonds ---

    def repeat(
        self, size: int | Sequence[int] | Sequence[Sequence[int]]
    ) -> BondHamiltonian:
        """Return the Hamiltonian of a supercell, with the same energies.

        It is not needed for evaluations, which take any supercell; it makes bonds of
        its sites differ.

        Parameters
        ----------
        size : int, three ints, or a (3, 3) matrix of ints
            Repetitions, or rows of the supercell in lattice vectors.

        Raises
        ------
        ValueError
            If it is none of these, or repeats a direction that is not periodic, or this
            is an alloy, of which :meth:`disordered` draws a structure first.
        """
        if self.is_alloy:
            raise ValueError(
                "an alloy's cell has no supercell: draw a structure, "
                "`alloy = h.disordered(h.parent.repeat(4), seed=1)`, and take `h`, or "
                "`h.on(alloy)`"
            )
        matrix = np.asarray(size)
        if matrix.dtype.kind not in "iu" or matrix.shape not in ((), (3,), (3, 3)):
            raise ValueError(
                f"size must be a whole number, three, or a (3, 3) matrix, got {size!r}"
            )
        pbc = self._atoms.pbc
        if matrix.ndim == 0:
            matrix = np.where(pbc, matrix, 1)
        if matrix.ndim == 1:
            matrix = np.diag(matrix)
        if round(float(np.linalg.det(matrix))) < 1:
            raise ValueError(f"size {size!r} makes no right-handed supercell")
        fixed = matrix[~pbc], matrix[:, ~pbc].T
        if any((rows != np.eye(3, dtype=int)[~pbc]).any() for rows in fixed):
            raise ValueError(f"size {size!r} repeats a direction that is not periodic")
        if np.count_nonzero(matrix) == 3 and np.diag(matrix).all():
            large = self._atoms.repeat(np.diag(matrix))
        else:
            large = make_supercell(self._atoms, matrix)
        return self.on(large)

    def on(self, atoms: Atoms) -> BondHamiltonian:
        """Return the Hamiltonian with a supercell of the crystal as its cell.

        Parameters
        ----------
        atoms : Atoms
            With moments; its vacancies and atoms of other elements have no bonds.

        Raises
        ------
        ValueError
            If it is not a supercell of the crystal.
        """
        found = self._layout(System.from_atoms(atoms))
        own, sites = found.atoms, found.sites
        n = len(atoms)

        def spread(values: np.ndarray) -> np.ndarray:
            total = np.zeros((n, *values.shape[1:]))
            total[own] = values[sites]
            return total

        axes = np.tile(np.eye(3), (n, 1, 1))
        axes[own] = self.cubic_axes[sites]
        return BondHamiltonian(
            atoms,
            found.i,
            found.j,
            found.images,
            self.tensors[found.bond],
            biquadratic=self.biquadratic[found.bond],
            slopes=self.slopes[found.bond],
            onsite=spread(self.onsite),
            cubic=spread(self.cubic),
            cubic_axes=axes,
            fields=spread(self.fields),
        )

    def disordered(
        self, atoms: Atoms, seed: int | np.random.Generator | None = None
    ) -> Atoms:
        """Return a structure with the species of the alloy drawn at random.

        It is a ``disorder`` of :func:`~deepspin_ase.analysis.curie_temperature`.
        Moments have the lengths of the reference state, along those of ``atoms`` or,
        where a species is opposite in the reference state, against them.

        Parameters
        ----------
        atoms : Atoms
            A supercell of ``parent``.
        seed : int or numpy Generator, optional

        Raises
        ------
        ValueError
            If it is no supercell, or too small for the shares.
        """
        found = self._layout(System.from_atoms(atoms))
        rng = np.random.default_rng(seed)
        places, moments = self.places, get_spins(self._atoms)
        alloy, name = atoms.copy(), "place_of_alloy"
        own = np.full(len(atoms), -1)
        own[found.atoms] = places[found.sites]
        alloy.set_array(name, own)
        for place in np.unique(places[self.shares != 1.0]):
            first, *others = np.flatnonzero(places == place)
            shares = {self._atoms.symbols[k]: float(self.shares[k]) for k in others}
            signs = np.where(moments[others] @ moments[first] < 0, -1.0, 1.0)
            lengths = signs * np.linalg.norm(moments[others], axis=1)
            empty = 1.0 - self.shares[places == place].sum()
            if empty > 1e-9:
                shares["X"] = float(empty)
            alloy = random_alloy(
                alloy,
                {symbol: share for symbol, share in shares.items() if share},
                sublattice=np.flatnonzero(alloy.arrays[name] == place),
                moments={
                    symbol: float(length)
                    for symbol, length in zip(shares, lengths, strict=False)
                    if shares[symbol]
                },
                seed=rng,
            )
        del alloy.arrays[name]
        return alloy

    def changed(self, **arguments: Any) -> BondHamiltonian:
        """Return a copy with other arguments of the constructor, such as ``onsite``."""
        return BondHamiltonian(**self.arguments() | arguments)

    def select(self, keep: ArrayLike) -> BondHamiltonian:
        """Return a copy with some of its bonds: a mask (P,), of both ends alike."""
        mask = np.asarray(keep, dtype=bool)
        names = ("i", "j", "shift", "tensors", "biquadratic", "slopes")
        return self.changed(**{name: getattr(self, name)[mask] for name in names})

    def within(self, cutoff: float) -> BondHamiltonian:
        """Return a copy with the bonds up to ``cutoff`` (A) only."""
        return self.select(self.distances <= cutoff)

    def symmetrized(
        self,
        *,
        crystal: Atoms | None = None,
        symprec: float = 1e-3,
        tolerance: float = 1e-2,
    ) -> BondHamiltonian:
        """Return a copy with all symmetry images of its bonds, and means over them.

        A table of one bond of each kind is completed, one of all bonds is checked and
        freed of noise. The symmetry is that of the atoms without moments, by spglib:
        exchange that the order of the moments lowers, by spin-orbit coupling, does not
        have it. On-site anisotropies are averaged, too; cubic terms and fields stay.

        Parameters
        ----------
        crystal : Atoms, optional
            All atoms, where the table lists the magnetic ones only, which may be more
            symmetric: in the same cell.
        symprec : float, A
            Tolerance of positions: of tables with few digits 0.01.
        tolerance : float
            Largest deviation of a tensor from the mean of those that symmetry makes
            equal, relative to the largest tensor.

        Raises
        ------
        ValueError
            If the table breaks the symmetry by more than the tolerance.
        """
        found = self._symmetric(crystal, symprec)
        if found.violation > tolerance:
            raise ValueError(
                f"the table breaks the symmetry of the crystal: {found.worst} differs "
                f"from the mean of its images by {100 * found.violation:.3g} % of the "
                f"largest tensor (tolerance {100 * tolerance:.3g} %). Correct it, or "
                "give the crystal with all atoms, or a larger tolerance"
            )
        i, j, *shift = found.bonds.T
        return self.changed(
            i=i,
            j=j,
            shift=np.array(shift).T,
            tensors=found.tensors,
            biquadratic=found.biquadratic,
            slopes=found.slopes,
            onsite=found.onsite,
        )

    def symmetry_violation(
        self, *, crystal: Atoms | None = None, symprec: float = 1e-3
    ) -> float:
        """Return how far a tensor is from the mean of its symmetry images.

        The largest deviation relative to the largest tensor; parameters are those of
        :meth:`symmetrized`. Images that are not listed do not count.
        """
        return self._symmetric(crystal, symprec).violation

    def _symmetric(self, crystal: Atoms | None, symprec: float) -> SymmetricBonds:
        if self.is_alloy:
            raise ValueError("symmetry is not looked for in alloys")
        return symmetric_bonds(
            self._atoms,
            np.column_stack([self.i, self.j, self.shift]),
            self.tensors,
            self.biquadratic,
            self.slopes,
            self.onsite,
            crystal=self._atoms if crystal is None else crystal,
            symprec=symprec,
        )

    # --- Potential ---

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the length of the longest bond, A."""
        layout = self._layout(system)
        return float(layout.lengths(system).max()) if len(layout.i) else 0.0

    def check(self, system: System) -> None:
        """Raise ValueError unless moments are on sites of a supercell."""
        super().check(system)
        self._layout(system).check(system)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV."""
        layout = self._layout(system)
        t = self._tensors(layout, system)
        e = unit_spins(system)
        tensors = t.J
        if t.slopes is not None:
            longer = layout.lengths(system) - t.distances
            tensors = tensors + longer[:, None, None] * t.slopes
        a, b = e[t.i], e[t.j]
        energies = torch.einsum("pa,pab,pb->p", a, tensors, b)
        if t.biquadratic is not None:
            energies = energies + t.biquadratic * (a * b).sum(dim=1) ** 2
        total = torch.zeros_like(system.positions[:, 0])
        total = total.index_add(0, t.i, -0.5 * energies)
        return total.index_add(0, t.atoms, t.site_energies(e[t.atoms]))

    @torch.no_grad()
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
        """Return the energy and derivatives of frozen, bilinear bonds."""
        if create_graph or self.slopes.any() or self.biquadratic.any():
            return None
        layout = self._layout(system)
        t = self._tensors(layout, system)
        e = unit_spins(system)
        pull = t.exchange(e)
        energies = -0.5 * (e * pull).sum(dim=1)
        own = e[t.atoms]
        energies = energies.index_add(0, t.atoms, t.site_energies(own))
        found = None
        if magnetic_forces:
            pull = pull.index_add(0, t.atoms, t.site_pull(own))
            across = pull - (pull * e).sum(dim=1, keepdim=True) * e
            lengths = system.spins.norm(dim=1, keepdim=True)
            found = torch.where(lengths > 0, across / lengths, 0.0)
        return Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=torch.zeros_like(system.positions) if forces else None,
            magnetic_forces=found,
            virial=torch.zeros_like(system.cell) if virial else None,
        )

    @torch.no_grad()
    def quadratic_form(self, system: System, pairs: PairList) -> QuadraticForm | None:
        """Return the energy as a form of the moments."""
        layout = self._layout(system)
        t = self._tensors(layout, system)
        lengths = system.spins.norm(dim=1)
        inverse = torch.where(lengths > 0, 1.0 / lengths, 0.0)
        J = t.J
        if t.slopes is not None:
            longer = layout.lengths(system) - t.distances
            J = J + longer[:, None, None] * t.slopes
        scale = inverse[t.i] * inverse[t.j]
        J = scale[:, None, None] * J
        # A moment and its own image turn together.
        apart = t.i != t.j
        form = QuadraticForm.zero(system)
        sites = form.sites.index_add(0, t.i[~apart], -0.5 * J[~apart])
        own = inverse[t.atoms]
        if t.onsite is not None:
            sites = sites.index_add(0, t.atoms, -(own**2)[:, None, None] * t.onsite)
        sites = 0.5 * (sites + sites.transpose(1, 2))
        coupled = apart & (scale > 0)
        squares = cubic = None
        if t.biquadratic is not None:
            squares = -(t.biquadratic * scale**2)[coupled]
        if t.cubic is not None:
            powers = torch.stack([own**4, own**6], dim=1)
            values = torch.cat([t.cubic * powers, t.axes.flatten(1)], dim=1)
            cubic = values.new_zeros(system.n_atoms, 11).index_copy(0, t.atoms, values)
        return form._replace(
            fields=form.fields.index_add(0, t.atoms, own[:, None] * t.fields),
            sites=sites,
            i=t.i[coupled],
            j=t.j[coupled],
            tensors=-J[coupled],
            squares=squares,
            cubic=cubic,
        )

    def _layout(self, system: System) -> Layout:
        """Return the bonds of the atoms of a System, found once for each lattice."""
        bonds = self._crystal, self.i, self.j, self.shift
        return self._layouts.get(system, lambda: Layout.of(*bonds, system))

    def _tensors(self, layout: Layout, system: System) -> Tensors:
        """Return the table for the atoms, spread once on each device."""
        key = system.device, system.dtype
        if key not in layout.tensors:
            layout.tensors[key] = self._spread(layout, system)
        return layout.tensors[key]

    def _spread(self, layout: Layout, system: System) -> Tensors:
        def tensor(values: np.ndarray) -> Tensor:
            dtype = system.dtype if values.dtype.kind == "f" else torch.int64
            return torch.from_numpy(np.ascontiguousarray(values)).to(
                system.device, dtype
            )

        bond, sites = layout.bond, layout.sites
        i, j, J = tensor(layout.i), tensor(layout.j), tensor(self.tensors[bond])
        squares = self.biquadratic
        return Tensors(
            i,
            j,
            J,
            slopes=tensor(self.slopes[bond]) if self.slopes.any() else None,
            distances=tensor(self.distances[bond]),
            biquadratic=tensor(squares[bond]) if squares.any() else None,
            atoms=tensor(layout.atoms),
            onsite=tensor(self.onsite[sites]) if self.onsite.any() else None,
            fields=tensor(self.fields[sites]),
            cubic=tensor(self.cubic[sites]) if self.cubic.any() else None,
            axes=tensor(self.cubic_axes[sites]),
            matrix=sparse_matrix(i, j, J, system.n_atoms),
        )


def _as_atoms(atoms: Atoms | Mapping[str, Any]) -> Atoms:
    """Return a copy of the cell without calculator and constraints."""
    if isinstance(atoms, Mapping):
        given = dict(atoms)
        moments = given.pop("moments")
        own = Atoms(**given)
        set_spins(own, moments)
        return own
    check_structure(atoms)
    own = Atoms(
        atoms.get_chemical_symbols(),
        positions=atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
    )
    set_spins(own, get_spins(atoms))
    return own
