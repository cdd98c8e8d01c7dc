"""Energy surfaces over collective displacements of atoms and spins.

Coordinates are :class:`Displacement` (D) of atoms along a pattern,
:class:`RelativeRotation` (C) of sublattices against each other,
:class:`CollectiveRotation` (R) of all moments together, or anything with their
``apply``. :func:`scan_landscape` evaluates a grid of one or more of them in batches.

>>> d, r = Displacement([[0, 0, 0], [0, 0, 1]]), CollectiveRotation("x")
>>> grids = [np.linspace(-0.1, 0.1, 5), np.linspace(0, 180, 7)]  # A, degrees
>>> surface = scan_landscape(atoms, coordinates=[d, r], grids=grids)
>>> axes = plot_landscape(surface)
>>> surface.save("surface.npz")
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._progress import bar
from ..._result import Result, plots
from ...calculators._deepspin import BATCH_ATOMS, DeepSpinCalculator, batches
from ...spins import get_spins, set_spins
from .._model import Model, model_of
from ._collective import Coordinate

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_DERIVATIVES = ("forces", "magnetic_forces", "torques")


@dataclass(frozen=True, eq=False, repr=False)
class Landscape(Result):
    """Energies on a grid of collective coordinates.

    Attributes
    ----------
    labels, units : tuples of str
        Of the coordinates.
    grids : tuple of (n_k,) arrays
        Amplitudes of each coordinate, in its unit.
    energy : (n_1, n_2, ...) array, eV
        Of the whole structure.
    start : float, eV
        Energy of the structure as it was given (all amplitudes zero).
    n_atoms : int
        Number of atoms N.
    forces, magnetic_forces, torques : (n_1, n_2, ..., N, 3) arrays, optional
        eV/A, eV/mu_B and eV; where derivatives were asked for.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    grids: tuple[np.ndarray, ...]
    energy: np.ndarray
    start: float
    n_atoms: int
    forces: np.ndarray | None = None
    magnetic_forces: np.ndarray | None = None
    torques: np.ndarray | None = None

    def __repr__(self) -> str:
        points = " x ".join(str(len(grid)) for grid in self.grids)
        labels = ", ".join(self.labels)
        return f"<Landscape over {labels}: {points} points, {self.n_atoms} atoms>"

    @property
    def minimum(self) -> tuple[float, ...]:
        """Amplitudes of the grid point of lowest energy."""
        lowest = np.unravel_index(self.energy.argmin(), self.energy.shape)
        return tuple(float(g[k]) for g, k in zip(self.grids, lowest, strict=True))

    def relative_meV_per_atom(self, reference: str = "minimum") -> np.ndarray:
        """Return energies above the grid's ``"minimum"`` or above the ``"start"``."""
        zeros = {"minimum": self.energy.min(), "start": self.start}
        if reference not in zeros:
            raise ValueError(f"reference must be one of {[*zeros]}, got {reference!r}")
        return 1000.0 * (self.energy - zeros[reference]) / self.n_atoms


def scan_landscape(
    atoms: Atoms,
    *,
    coordinates: Sequence[Coordinate],
    grids: Sequence[ArrayLike],
    derivatives: bool = False,
    model: Model | None = None,
    max_atoms: int = BATCH_ATOMS,
) -> Landscape:
    """Evaluate the energy for all combinations of amplitudes.

    Parameters
    ----------
    atoms : Atoms
        The structure in which all amplitudes are zero, with its moments.
    coordinates : sequence of Coordinate
        Applied in this order: rotations about different axes do not commute.
    grids : sequence of (n_k,) arrays
        Amplitudes of each coordinate, in its unit.
    derivatives : bool
        Keep forces, magnetic forces and torques of all points too.
    model : Potential, Calculator, path or str, optional
        What :class:`~deepspin_ase.DeepSpinCalculator` takes, or such a
        calculator, whose device, precision and field are used, or another one that
        gives magnetic forces; by default the calculator of ``atoms``.
    max_atoms : int
        See :meth:`DeepSpinCalculator.evaluate`.

    Raises
    ------
    ValueError
        If there is no model, grids do not match coordinates, a pattern does not
        match the structure, or the model does not take a structure.
    CalculationFailed
        If an energy is not finite.
    """
    axes = _amplitudes(coordinates, grids)
    model = model_of(atoms, model)
    calculator = (
        model if isinstance(model, DeepSpinCalculator) else DeepSpinCalculator(model)
    )
    atoms = atoms.copy()
    if not calculator.potential.uses_spins and not atoms.has("initial_magmoms"):
        set_spins(atoms, np.zeros((len(atoms), 3)))
    points = list(itertools.product(*axes))
    images = (_displaced(atoms, coordinates, point) for point in points)
    wanted = {"forces": derivatives, "magnetic_forces": derivatives, "virial": False}
    found = []
    with bar(total=len(points), desc="landscape") as progress:
        for batch in batches(images, max_atoms):
            found += calculator.evaluate(batch, **wanted)
            progress.update(len(batch))
    names = ("energy", *(_DERIVATIVES if derivatives else ()))
    joined = {name: np.stack([results[name] for results in found]) for name in names}
    bad = np.flatnonzero(~np.isfinite(joined["energy"]))
    if len(bad):
        point = [float(amplitude) for amplitude in points[bad[0]]]
        raise CalculationFailed(f"the energy at amplitudes {point} is not finite")
    (start,) = calculator.evaluate([atoms], **dict.fromkeys(wanted, False))
    shape = tuple(len(axis) for axis in axes)
    return Landscape(
        labels=tuple(c.label for c in coordinates),
        units=tuple(c.unit for c in coordinates),
        grids=axes,
        start=start["energy"],
        n_atoms=len(atoms),
        **{k: v.reshape(*shape, *v.shape[1:]) for k, v in joined.items()},
    )


def _amplitudes(
    coordinates: Sequence[Coordinate], grids: Sequence[ArrayLike]
) -> tuple[np.ndarray, ...]:
    """Return the grids as arrays, checked."""
    if not coordinates or len(coordinates) != len(grids):
        raise ValueError(
            f"expected one grid for each coordinate, got {len(coordinates)} "
            f"coordinates and {len(grids)} grids"
        )
    axes = tuple(np.asarray(grid, dtype=float) for grid in grids)
    for coordinate, axis in zip(coordinates, axes, strict=True):
        if axis.ndim != 1 or len(axis) == 0 or not np.isfinite(axis).all():
            raise ValueError(
                f"the grid of {coordinate.label} must be a list of finite "
                f"amplitudes, got shape {axis.shape}"
            )
    return axes


def _displaced(
    atoms: Atoms, coordinates: Sequence[Coordinate], amplitudes: Sequence[float]
) -> Atoms:
    """Return the structure at a point of the grid."""
    state = atoms.positions, get_spins(atoms)
    for coordinate, amplitude in zip(coordinates, amplitudes, strict=True):
        state = coordinate.apply(*state, amplitude)
    image = atoms.copy()
    image.positions, spins = state
    set_spins(image, spins)
    return image


@plots(Landscape)
def plot_landscape(
    result: Landscape,
    ax: Axes | None = None,
    *,
    reference: str = "minimum",
    max_meV: float | None = None,
    n_slices: int = 3,
) -> Any:
    """Draw energies in meV/atom: a curve, a contour map, or a row of maps.

    Parameters
    ----------
    result : Landscape
        Of one, two or three coordinates. Three give ``n_slices`` maps of the
        first two, at values of the third spread over its grid.
    ax : Axes, or a sequence of them for three coordinates, optional
        Made here by default.
    reference : "minimum" or "start"
        Zero of energy.
    max_meV : float, optional
        Top of the colour scale or of the curve, meV/atom.
    n_slices : int
        Number of maps for three coordinates.

    Returns
    -------
    Axes, or an array of them for three coordinates
    """
    energy = result.relative_meV_per_atom(reference)
    if energy.ndim > 3:
        raise ValueError(f"cannot draw {energy.ndim} coordinates; reduce to three")
    if energy.ndim == 3:
        return _plot_slices(result, energy, ax, max_meV, n_slices)
    ax = figure_axes(ax)
    if energy.ndim == 1:
        ax.plot(result.grids[0], energy, "o-", markersize=3)
        ax.set(xlabel=_axis_label(result, 0), ylabel="energy (meV/atom)")
        if max_meV is not None:
            ax.set_ylim(top=max_meV)
        return ax
    mesh = _plot_map(ax, result, energy, _levels(energy, max_meV))
    ax.figure.colorbar(mesh, ax=ax, label="energy (meV/atom)")
    return ax


def _axis_label(result: Landscape, k: int) -> str:
    return f"{result.labels[k]} ({result.units[k]})"


def _levels(energy: np.ndarray, max_meV: float | None) -> np.ndarray:
    """Return round contour levels, shared by all maps of a figure."""
    from matplotlib.ticker import MaxNLocator

    top = energy.max() if max_meV is None else max_meV
    # A flat surface still gets a range, hence one colour.
    top = max(top, energy.min() + 1e-6)
    return np.asarray(MaxNLocator(20).tick_values(energy.min(), top))


def _plot_map(
    ax: Axes, result: Landscape, energy: np.ndarray, levels: np.ndarray
) -> Any:
    """Draw energies (n_1, n_2) over the first two coordinates."""
    if min(energy.shape) < 2:
        raise ValueError("a map needs at least two amplitudes of both coordinates")
    x, y = result.grids[:2]
    extend = "max" if energy.max() > levels[-1] else "neither"
    mesh = ax.contourf(x, y, energy.T, levels, cmap="viridis", extend=extend)
    ax.contour(x, y, energy.T, levels[::2], colors="white", linewidths=0.4, alpha=0.6)
    ax.set(xlabel=_axis_label(result, 0), ylabel=_axis_label(result, 1))
    return mesh


def _plot_slices(
    result: Landscape,
    energy: np.ndarray,
    axes: Any,
    max_meV: float | None,
    n_slices: int,
) -> np.ndarray:
    """Draw a row of maps at values of the third coordinate, on one colour scale."""
    import matplotlib.pyplot as plt

    third = result.grids[2]
    if axes is None:
        count = min(n_slices, len(third))
        _, axes = plt.subplots(
            1,
            count,
            figsize=(3.0 * count + 1.2, 3.2),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
    row = np.array(axes, dtype=object).ravel()
    chosen = np.linspace(0, len(third) - 1, len(row)).round().astype(int)
    levels = _levels(energy, max_meV)
    for ax, k in zip(row, chosen, strict=True):
        mesh = _plot_map(ax, result, energy[:, :, k], levels)
        ax.set_title(f"{result.labels[2]} = {third[k]:.4g} {result.units[2]}")
    for ax in row[1:]:
        ax.set_ylabel("")
    row[0].figure.colorbar(mesh, ax=row.tolist(), label="energy (meV/atom)")
    return row
