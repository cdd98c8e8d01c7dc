"""Exchange tensors, anisotropies and fields of a magnet, from any potential.

>>> exchange = exchange_tensors(atoms)  # atoms.calc set
>>> for shell in exchange.shells():
...     print(shell)
>>> plot_exchange(exchange)

Convention: with unit vectors e and every pair counted once,

    E = E0 - sum_{i<j} e_i.J_ij.e_j - sum_i e_i.A_i.e_i - sum_i h_i.e_i,

so that J > 0 is ferromagnetic and a uniaxial anisotropy -K (e.n)^2 has A = K (n n -
1/3). J_ij = J 1 + antisymmetric + symmetric traceless; the antisymmetric part is the
Dzyaloshinskii-Moriya vector D of -D_ij.(e_i x e_j). The energies belong to the
lengths that the moments have in the reference state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._result import Result, plots
from ...potentials import BondHamiltonian
from ...potentials.bonds import averaged_ends
from ...spins import get_spins, set_spins
from ..hessians._bloch import SAME_DISTANCE, Blocks, fold_to_pairs, warn_of_aliasing
from ..hessians._response import Crystal
from ._fit import RawExchange, fit_exchange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The Levi-Civita symbol.
_LEVI_CIVITA = np.cross(np.eye(3)[:, None], np.eye(3)[None]).transpose(2, 0, 1)

#: Tensors below this fraction of the largest are left out: there is no interaction.
NEGLIGIBLE = 1e-13


@dataclass(frozen=True)
class ExchangeShell(Result):
    """Pairs of one kind at one distance.

    Attributes
    ----------
    elements : (str, str)
    distance : float, A
    pairs : float
        Number of such pairs of each atom of the first element, on average.
    isotropic : float, eV
        Mean of J.
    spread : float, eV
        Standard deviation of J among the pairs.
    dm : float, eV
        Mean length of D.
    anisotropic : float, eV
        Mean norm of the symmetric traceless part.
    """

    elements: tuple[str, str]
    distance: float
    pairs: float
    isotropic: float
    spread: float
    dm: float
    anisotropic: float

    def __str__(self) -> str:
        return (
            f"{'-'.join(self.elements)} {self.distance:.3f} A x{self.pairs:g}: J "
            f"{1000 * self.isotropic:.4g} +- {1000 * self.spread:.2g} meV, |D| "
            f"{1000 * self.dm:.3g} meV"
        )


@dataclass(frozen=True, eq=False, repr=False)
class ExchangeTensors(Result):
    """Bilinear exchange of a crystal; see the module for signs and counting.

    Every pair is listed from both of its ends.

    Attributes
    ----------
    atoms : Atoms
        The magnetic cell with the reference moments.
    sites : (n,) integer array
        Its magnetic atoms.
    lengths : (n,) array, mu_B
        Lengths of their moments.
    directions : (n, 3) array
        Unit vectors along them: the reference state.
    blocks : Blocks, eV
        J_ij by pairs; sites are numbered as in ``sites``.
    onsite : (n, 3, 3) array, eV
        A_i, symmetric and traceless.
    fields : (n, 3) array, eV
        h_i = |m_i| mu_B B in a field B; zero where the energy is even in the moments.
    residuals : (P,) array, eV
        Root mean square of what bilinear exchange leaves out of each pair.
    radius : float, A
        Pairs closer than this cannot be confused with their periodic images.
    accuracy : float
        Relative accuracy of the derivatives they were made of.
    """

    atoms: Atoms
    sites: np.ndarray
    lengths: np.ndarray
    directions: np.ndarray
    blocks: Blocks
    onsite: np.ndarray
    fields: np.ndarray
    residuals: np.ndarray
    radius: float = np.inf
    accuracy: float = 0.0

    def __repr__(self) -> str:
        return (
            f"<ExchangeTensors of {self.atoms.get_chemical_formula()}: "
            f"{len(self.sites)} magnetic atoms, {len(self.distances)} pairs>"
        )

    @property
    def i(self) -> np.ndarray:
        """(P,) first atom of each pair, numbered as in ``atoms``."""
        return self.sites[self.blocks.i]

    @property
    def j(self) -> np.ndarray:
        """(P,) second atom of each pair."""
        return self.sites[self.blocks.j]

    @property
    def shift(self) -> np.ndarray:
        """(P, 3) lattice translations of the second atoms, integers."""
        return self.blocks.shift

    @property
    def vectors(self) -> np.ndarray:
        """(P, 3) vectors from the first to the second atoms, A."""
        return self.blocks.vectors

    @property
    def distances(self) -> np.ndarray:
        """(P,) distances, A."""
        return np.linalg.norm(self.blocks.vectors, axis=1)

    @property
    def tensors(self) -> np.ndarray:
        """(P, 3, 3) tensors J_ij, eV."""
        return self.blocks.values

    @property
    def isotropic(self) -> np.ndarray:
        """(P,) isotropic exchange J, a third of the trace, eV."""
        return np.trace(self.tensors, axis1=1, axis2=2) / 3.0

    @property
    def dm(self) -> np.ndarray:
        """(P, 3) Dzyaloshinskii-Moriya vectors D of -D.(e_i x e_j), eV."""
        return 0.5 * np.einsum("cab,pab->pc", _LEVI_CIVITA, self.tensors)

    @property
    def anisotropic(self) -> np.ndarray:
        """(P, 3, 3) symmetric traceless parts, eV."""
        symmetric = 0.5 * (self.tensors + self.tensors.transpose(0, 2, 1))
        return symmetric - self.isotropic[:, None, None] * np.eye(3)

    @classmethod
    def from_potential(cls, model: BondHamiltonian) -> ExchangeTensors:
        """Return the tensors of a list of bonds, such as an exchange table.

        The reference state is that of its cell. Anisotropies are made traceless, which
        changes the energy by a constant.

        Raises
        ------
        ValueError
            If it is not bilinear, or a site has no moment; of others take
            :func:`exchange_tensors`.
        """
        if not model.is_bilinear:
            raise ValueError(
                "ExchangeTensors hold no biquadratic and cubic terms; take "
                "exchange_tensors(atoms), which fits the reference state"
            )
        atoms, sites = model.atoms, model.sites
        spins = get_spins(atoms)[sites]
        lengths = np.linalg.norm(spins, axis=1)
        if not lengths.all():
            raise ValueError(
                f"site {sites[lengths.argmin()]} of the model has no moment: give its "
                "atoms the reference state"
            )
        number = np.full(len(atoms), -1)
        number[sites] = np.arange(len(sites))
        blocks = Blocks(
            number[model.i],
            number[model.j],
            model.shift,
            model.vectors,
            model.tensors,
            (len(sites), len(sites)),
        )
        onsite = model.onsite[sites]
        trace = np.trace(onsite, axis1=1, axis2=2)[:, None, None]
        return cls(
            atoms=atoms,
            sites=sites,
            lengths=lengths,
            directions=spins / lengths[:, None],
            blocks=blocks,
            onsite=onsite - trace * np.eye(3) / 3.0,
            fields=model.fields[sites],
            residuals=np.zeros(len(model.i)),
        )

    def potential(self) -> BondHamiltonian:
        """Return the energy as a potential: for dynamics, Monte Carlo and files."""
        n = len(self.atoms)
        onsite, fields = np.zeros((n, 3, 3)), np.zeros((n, 3))
        onsite[self.sites], fields[self.sites] = self.onsite, self.fields
        atoms = self.atoms.copy()
        moments = np.zeros((n, 3))
        moments[self.sites] = self.lengths[:, None] * self.directions
        set_spins(atoms, moments)
        pairs = self.i, self.j, self.shift
        # Derivatives from both ends differ by their accuracy.
        tensors, _, _ = averaged_ends(*pairs, self.tensors)
        return BondHamiltonian(atoms, *pairs, tensors, onsite=onsite, fields=fields)

    @property
    def aliasing(self) -> float:
        """Largest tensor at the edge of the supercell over the largest of all.

        Where it is not small, the interaction does not end within the supercell
        that was used, and tensors at ``radius`` and beyond are sums over images.
        """
        return self.blocks.fraction_beyond(self.radius)

    def within(self, cutoff: float) -> ExchangeTensors:
        """Return a copy with the pairs up to ``cutoff`` (A) only."""
        keep = self.distances <= cutoff
        blocks = self.blocks.select(keep)
        return replace(self, blocks=blocks, residuals=self.residuals[keep])

    def energy(self, directions: ArrayLike) -> float:
        """Return the energy of an order that repeats with the cell, eV.

        Parameters
        ----------
        directions : (n, 3) array
            Unit vectors of the magnetic sites.
        """
        e = np.asarray(directions, dtype=float)
        if e.shape != self.directions.shape:
            raise ValueError(
                f"directions must have shape {self.directions.shape}, got {e.shape}"
            )
        b = self.blocks
        pairs = np.einsum("pa,pab,pb->", e[b.i], b.values, e[b.j])
        sites = np.einsum("ia,iab,ib->", e, self.onsite, e)
        return float(-0.5 * pairs - sites - np.sum(self.fields * e))

    def field_within(self, distances: ArrayLike) -> np.ndarray:
        """Return the exchange field of the reference order from pairs up to r.

        The mean over the magnetic atoms of sum_j e_i.J_ij.e_j over the pairs closer
        than each distance: how the energy of the order converges with distance.

        Parameters
        ----------
        distances : (D,) array, A

        Returns
        -------
        (D,) array, eV
        """
        e, b = self.directions, self.blocks
        pairs = np.einsum("pa,pab,pb->p", e[b.i], b.values, e[b.j])
        order = np.argsort(self.distances, kind="stable")
        total = np.concatenate([[0.0], np.cumsum(pairs[order])]) / len(self.sites)
        reached = np.asarray(distances, dtype=float) + SAME_DISTANCE
        return total[np.searchsorted(self.distances[order], reached)]

    def shells(self, tolerance: float = 0.02) -> list[ExchangeShell]:
        """Return averages over pairs of the same elements and distance.

        Parameters
        ----------
        tolerance : float
            Pairs whose sorted distances follow each other by less than this, A,
            belong together.
        """
        symbols = np.array(self.atoms.get_chemical_symbols())
        names = np.sort(np.stack([symbols[self.i], symbols[self.j]], axis=1), axis=1)
        shells = []
        for kind in np.unique(names, axis=0):
            own = np.flatnonzero((names == kind).all(axis=1))
            own = own[np.argsort(self.distances[own], kind="stable")]
            gaps = np.diff(self.distances[own]) > tolerance
            for group in np.split(own, np.flatnonzero(gaps) + 1):
                shells.append(self._shell(kind, group, symbols))
        return sorted(shells, key=lambda shell: shell.distance)

    def _shell(
        self, kind: np.ndarray, group: np.ndarray, symbols: np.ndarray
    ) -> ExchangeShell:
        first = (symbols[self.sites] == kind[0]).sum()
        once = group[symbols[self.i[group]] == kind[0]]
        J = self.isotropic[group]
        return ExchangeShell(
            (str(kind[0]), str(kind[1])),
            float(self.distances[group].mean()),
            len(once) / first,
            float(J.mean()),
            float(J.std()),
            float(np.linalg.norm(self.dm[group], axis=1).mean()),
            float(np.linalg.norm(self.anisotropic[group], axis=(1, 2)).mean()),
        )


def exchange_tensors(
    atoms: Atoms,
    *,
    repeat: int | Sequence[int] | None = None,
    cutoff: float | None = None,
) -> ExchangeTensors:
    """Return the exchange tensors about the magnetic order of ``atoms``.

    Second derivatives are taken in a supercell, for the atoms of one cell, with
    the whole order in three orientations (four if it is not collinear), two
    directions each. Only their parts across the moments are used, so that
    potentials of the moments and of their directions give the same. Where the
    energy is not bilinear, tensors are those of the best fit for small deviations
    from the order in its orientations, with root mean square errors ``residuals``.

    Parameters
    ----------
    atoms : Atoms
        The magnetic cell, as small as the order allows, with a calculator that
        gives ``magnetic_forces``. The order need not be stable.
    repeat : int or three ints, optional
        Cells of the supercell. By default enough for the interaction to end
        within it, which is large for networks; check
        :attr:`ExchangeTensors.aliasing` if you choose fewer.
    cutoff : float, optional
        Drop pairs beyond this distance, A.

    Raises
    ------
    ValueError
        If there is no calculator or no moment, the range of the calculator is not
        known and ``repeat`` not given, or the supercell is too small for nearest
        neighbours.

    Warns
    -----
    UserWarning
        If more than a twentieth of the exchange reaches the edge of the supercell.
    """
    crystal = Crystal(atoms, repeat=repeat)
    crystal.check_size()
    result = assemble_tensors(crystal, fit_exchange(crystal))
    warn_of_aliasing(result.aliasing)
    return result if cutoff is None else result.within(cutoff)


def assemble_tensors(crystal: Crystal, raw: RawExchange) -> ExchangeTensors:
    """Fold supercell tensors onto pairs of the crystal."""
    images = crystal.images(crystal.sites, crystal.sites)
    rows = np.zeros((len(raw.tensors), len(crystal.large), 3, 4))
    rows[:, crystal.columns, :, :3] = raw.tensors
    rows[:, crystal.columns, 0, 3] = raw.residuals
    blocks = fold_to_pairs(images, rows, crystal.sites)
    values, residuals = blocks.values[:, :, :3], blocks.values[:, 0, 3]
    norms = np.linalg.norm(values, axis=(1, 2))
    keep = norms > NEGLIGIBLE * norms.max(initial=0.0)
    return ExchangeTensors(
        atoms=crystal.home,
        sites=crystal.sites,
        lengths=crystal.lengths,
        directions=crystal.directions,
        blocks=replace(blocks, values=values).select(keep),
        onsite=raw.onsite,
        fields=raw.fields,
        residuals=residuals[keep],
        radius=images.radius,
        accuracy=raw.accuracy,
    )


@plots(ExchangeTensors)
def plot_exchange(result: ExchangeTensors, ax: Axes | None = None) -> Axes:
    """Draw J, |D| and the anisotropic exchange against distance, in meV."""
    ax = figure_axes(ax)
    symbols = np.array(result.atoms.get_chemical_symbols())
    first, second = np.sort([symbols[result.i], symbols[result.j]], axis=0)
    names = np.char.add(np.char.add(first, "-"), second)
    ax.axhline(0.0, color="0.8", lw=1)
    for name in np.unique(names):
        own = names == name
        ax.plot(result.distances[own], 1e3 * result.isotropic[own], "o", ms=4)
        ax.lines[-1].set_label(f"J {name}")
    D = 1e3 * np.linalg.norm(result.dm, axis=1)
    ax.plot(result.distances, D, "x", color="0.5", ms=4, label="|D|")
    ax.set(xlabel="distance (Å)", ylabel="exchange (meV)")
    ax.legend(frameon=False)
    return ax


def plot_exchange_convergence(result: ExchangeTensors, ax: Axes | None = None) -> Axes:
    """Draw how the exchange field of the order grows with distance, in meV."""
    ax = figure_axes(ax)
    reached = np.unique(np.round(result.distances, 3))
    field = 1e3 * result.field_within(reached)
    ax.plot(reached, field, "o-", ms=4, label="up to a distance")
    whole = 1e3 * result.field_within([np.inf])[0]
    ax.axhline(whole, color="0.8", lw=1, label="of all pairs")
    ax.legend(frameon=False)
    ax.set(xlabel="distance (Å)", ylabel="exchange field (meV)")
    return ax
