"""Spin-lattice coupling: derivatives of exchange by displacements and strain.

>>> coupling = spin_lattice_coupling(atoms, 0)
>>> coupling.slopes  # dJ/dr of the pairs of atom 0, eV/A
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
from ..._validate import positive
from ..hessians._bloch import fold_to_pairs
from ..hessians._response import Crystal
from ._fit import RawExchange, fit_exchange
from ._tensors import ExchangeTensors, assemble_tensors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class SpinLatticeCoupling(Result):
    """Derivatives of the exchange of one atom by the position of one atom.

    Signs and counting of J are those of :mod:`deepspin_ase.analysis.exchange._tensors`.

    Attributes
    ----------
    atoms : Atoms
        The magnetic cell.
    site : int
        The magnetic atom i whose pairs are listed.
    displaced : int
        The atom of the same cell that moves; its periodic images do not.
    j : (P,) integer array
        Second atoms of the pairs.
    shift : (P, 3) integer array
        Their lattice translations.
    vectors : (P, 3) array, A
        From i to j.
    gradients : (P, 3, 3, 3) array, eV/A
        dJ_ij[a, b]/du[c] at [p, c, a, b].
    """

    atoms: Atoms
    site: int
    displaced: int
    j: np.ndarray
    shift: np.ndarray
    vectors: np.ndarray
    gradients: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """(P,) distances of the pairs, A."""
        return np.linalg.norm(self.vectors, axis=1)

    @property
    def isotropic(self) -> np.ndarray:
        """(P, 3) gradients of the isotropic exchange, eV/A."""
        return np.trace(self.gradients, axis1=2, axis2=3) / 3.0

    @property
    def slopes(self) -> np.ndarray:
        """(P,) dJ/dr of every pair at fixed positions of all other atoms, eV/A.

        Raises
        ------
        ValueError
            If another atom than ``site`` was displaced.
        """
        if self.displaced != self.site:
            raise ValueError(
                "dJ/dr belongs to a displacement of the site itself; this is that of "
                f"atom {self.displaced}"
            )
        along = self.vectors / self.distances[:, None]
        return -np.einsum("pc,pc->p", self.isotropic, along)


def spin_lattice_coupling(
    atoms: Atoms,
    site: int,
    *,
    displaced: int | None = None,
    repeat: int | Sequence[int] | None = None,
    step: float = 0.01,
) -> SpinLatticeCoupling:
    """Return the derivatives of J_ij of one site by the position of one atom.

    Central differences of the tensors that
    :func:`~deepspin_ase.analysis.exchange_tensors` fits.

    Parameters
    ----------
    atoms : Atoms
        The magnetic cell with a calculator that gives ``magnetic_forces``.
    site : int
        A magnetic atom.
    displaced : int, optional
        The atom that moves; ``site`` by default.
    repeat : int or three ints, optional
        Cells of the supercell, as in ``exchange_tensors``.
    step : float
        Displacement, A.

    Raises
    ------
    ValueError
        As ``exchange_tensors``, or if the site carries no moment.
    """
    crystal = Crystal(atoms, repeat=repeat)
    crystal.check_size()
    moved = site if displaced is None else displaced
    for index in (site, moved):
        if not 0 <= index < len(atoms):
            raise ValueError(f"there is no atom {index} among {len(atoms)}")
    if site not in crystal.sites:
        raise ValueError(f"atom {site} carries no moment")
    positive("step", step)
    own = np.flatnonzero(crystal.sites == site)
    start = crystal.large.positions[moved].copy()
    gradients = []
    for axis in np.eye(3):
        ends = []
        for sign in (1.0, -1.0):
            crystal.large.positions[moved] = start + sign * step * axis
            ends.append(fit_exchange(crystal, own).tensors)
        gradients.append((ends[0] - ends[1]) / (2.0 * step))
    crystal.large.positions[moved] = start
    rows = np.zeros((1, len(crystal.large), 9, 3))
    change = np.stack(gradients, axis=2)[0]
    rows[0, crystal.columns] = change.transpose(0, 2, 3, 1).reshape(-1, 9, 3)
    blocks = fold_to_pairs(crystal.images([site], crystal.sites), rows, [site])
    blocks = blocks.select(np.abs(blocks.values).max(axis=(1, 2)) > 0.0)
    values = blocks.values.reshape(-1, 3, 3, 3).transpose(0, 3, 1, 2)
    return SpinLatticeCoupling(
        crystal.home,
        site,
        moved,
        crystal.sites[blocks.j],
        blocks.shift,
        blocks.vectors,
        values,
    )


def strain_derivative(
    atoms: Atoms,
    strain: ArrayLike,
    *,
    repeat: int | Sequence[int] | None = None,
    step: float = 1e-3,
) -> ExchangeTensors:
    """Return the derivative of exchange by homogeneous strain.

    Positions and cell go to x + t strain x at fixed Cartesian moments; the result
    holds d/dt of tensors, on-site terms and fields, in eV, by central differences.
    Positions inside the cell are not relaxed.

    Parameters
    ----------
    atoms : Atoms
    strain : (3, 3) array
        Such as ``np.eye(3)`` for a change of all lengths.
    repeat : int or three ints, optional
        Cells of the supercell, as in ``exchange_tensors``.
    step : float
        Change of t.

    Raises
    ------
    ValueError
        As ``exchange_tensors``, or if the strain is not a finite matrix.
    """
    direction = np.asarray(strain, dtype=float)
    if direction.shape != (3, 3) or not np.isfinite(direction).all():
        raise ValueError(f"strain must be a finite (3, 3) matrix, got {strain!r}")
    positive("step", step)
    crystal = Crystal(atoms, repeat=repeat)
    crystal.check_size()
    ends = []
    for sign in (1.0, -1.0):
        strained = atoms.copy()
        deform = np.eye(3) + sign * step * direction
        strained.set_cell(atoms.cell.array @ deform.T)
        strained.positions = atoms.positions @ deform.T
        strained.calc = atoms.calc
        ends.append(fit_exchange(Crystal(strained, repeat=crystal.repeat)))
    up, down = ends
    half = 0.5 / step
    raw = RawExchange(
        half * (up.tensors - down.tensors),
        half * np.hypot(up.residuals, down.residuals),
        half * (up.onsite - down.onsite),
        half * (up.fields - down.fields),
        up.accuracy,
    )
    return replace(assemble_tensors(crystal, raw), accuracy=up.accuracy / step)


@plots(SpinLatticeCoupling)
def plot_spin_lattice_coupling(
    result: SpinLatticeCoupling, ax: Axes | None = None
) -> Axes:
    """Draw dJ/dr in meV/A against the distance of the pairs.

    Parameters
    ----------
    result : SpinLatticeCoupling
        Of a displacement of the site itself.
    """
    ax = figure_axes(ax)
    ax.axhline(0.0, color="0.8", lw=1)
    ax.plot(result.distances, 1e3 * result.slopes, "o", ms=4)
    ax.set(xlabel="distance (Å)", ylabel="dJ/dr (meV/Å)")
    return ax
