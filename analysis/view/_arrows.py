"""Colours of directions, and figures of moments as arrows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.data.colors import jmol_colors
from numpy.typing import ArrayLike

from ..._figures import figure_axes
from ..._validate import positive
from ...spins import unit_vector
from .._trajectories import spins_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Mean squared cosine to one line above which moments are coloured as collinear.
_COLLINEAR = 0.8

#: Part of a moment in the plane of a drawing below which it gets a dot or a cross.
_END_ON = 0.3


def direction_colors(
    vectors: ArrayLike, axis: str | ArrayLike | None = None
) -> np.ndarray:
    """Return colours (N, 3), RGB from 0 to 1, by the directions of vectors (N, 3).

    Parameters
    ----------
    vectors : (N, 3) array
        Of any lengths; where they are zero, grey.
    axis : (3,) array or str, optional
        Red along it, blue against it, pale across. By default the line that most
        vectors lie along, if they do; otherwise the hue runs once around z, in red
        from x, and light is up, dark is down.

    Raises
    ------
    ValueError
        If ``axis`` is no direction.
    """
    from matplotlib import colormaps
    from matplotlib.colors import hsv_to_rgb

    array = np.asarray(vectors, dtype=float).reshape(-1, 3)
    lengths = np.linalg.norm(array, axis=1)
    seen = lengths > 0
    e = array / np.where(seen, lengths, 1.0)[:, None]
    line = main_axis(e) if axis is None else unit_vector(axis)
    if line is not None:
        colors = colormaps["coolwarm"](0.5 + 0.5 * e @ line)[:, :3]
    else:
        hue = np.arctan2(e[:, 1], e[:, 0]) / (2.0 * np.pi) % 1.0
        across = np.hypot(e[:, 0], e[:, 1])
        # HSL of lightness 1/2 + up/4, as HSV.
        light = 0.5 + 0.25 * e[:, 2]
        value = light + across * np.minimum(light, 1.0 - light)
        saturation = 2.0 * (1.0 - light / value)
        colors = hsv_to_rgb(np.stack([hue, saturation, value], axis=1))
    return np.where(seen[:, None], colors, 0.6)


def main_axis(directions: np.ndarray) -> np.ndarray | None:
    """Return the unit vector of the line that directions (N, 3) lie along, if any.

    Its largest component is positive.
    """
    seen = directions.any(axis=1)
    if not seen.any():
        return None
    parts, lines = np.linalg.eigh(directions[seen].T @ directions[seen] / seen.sum())
    if parts[-1] < _COLLINEAR:
        return None
    line = lines[:, -1]
    return np.asarray(line * np.sign(line[np.abs(line).argmax()]))


def arrow_scale(atoms: Atoms, moments: np.ndarray) -> float:
    """Return the length of arrows, A/mu_B, that suits the distances of the atoms.

    The longest arrow gets 0.65 times the mean spacing of the magnetic atoms.
    """
    lengths = np.linalg.norm(moments, axis=1)
    magnetic = lengths > 0
    cell = atoms.cell.complete().array
    if atoms.pbc.all():
        volume = abs(np.linalg.det(cell))
    else:
        extent = np.ptp(atoms.positions, axis=0)
        volume = float(np.prod(np.maximum(extent, 2.5)))
    spacing = (volume / max(int(magnetic.sum()), 1)) ** (1.0 / 3.0)
    return float(0.65 * np.clip(spacing, 1.0, 4.0) / max(lengths.max(), 1e-12))


def plot_spins(
    atoms: Atoms,
    ax: Axes | None = None,
    *,
    view: str | ArrayLike | None = None,
    axis: str | ArrayLike | None = None,
    scale: float | None = None,
    non_magnetic: bool = True,
) -> Axes:
    """Draw atoms with their moments as arrows, coloured by direction.

    Parameters
    ----------
    atoms : Atoms
    ax : Axes, optional
        Three-dimensional unless ``view`` is given. Made here by default.
    view : (3,) array or str, optional
        Draw the projection that is seen from this direction: moments that point out
        of the plane, to the viewer, are dots, those that point into it crosses.
    axis : (3,) array or str, optional
        Of the colours, see :func:`direction_colors`.
    scale : float, A/mu_B, optional
        Length of the arrows.
    non_magnetic : bool
        Draw the atoms without moment too.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If moments are missing or all zero, a direction has no length, or ``scale`` is
        not positive.
    """
    moments = spins_of(atoms)
    scale = arrow_scale(atoms, moments) if scale is None else positive("scale", scale)
    magnetic = moments.any(axis=1)
    shown = atoms[np.flatnonzero(magnetic | non_magnetic)]
    arrows = scale * moments[magnetic], direction_colors(moments[magnetic], axis)
    tails = atoms.positions[magnetic] - arrows[0] / 2.0
    if view is None:
        return _draw_in_space(shown, tails, *arrows, ax)
    return _draw_in_plane(shown, tails, *arrows, unit_vector(view), ax)


def _draw_in_space(
    atoms: Atoms, tails: np.ndarray, arrows: np.ndarray, colors: np.ndarray, ax: Any
) -> Axes:
    ax = figure_axes(ax, subplot_kw={"projection": "3d"})
    if not hasattr(ax, "zaxis"):
        raise ValueError(
            "the axes are flat: make them with projection='3d', or give view="
        )
    for edge in _cell_edges(atoms):
        ax.plot(*edge.T, color="0.7", linewidth=0.8)
    ax.scatter(*atoms.positions.T, c=jmol_colors[atoms.numbers], s=14, alpha=0.5)
    # All shafts, then one stroke of all heads, then the other.
    strokes = np.tile(colors, (3, 1))
    ax.quiver(*tails.T, *arrows.T, colors=strokes, arrow_length_ratio=0.35)
    ax.set(xlabel="x (Å)", ylabel="y (Å)", zlabel="z (Å)")
    ends = np.concatenate([atoms.positions, tails, tails + arrows, *_cell_edges(atoms)])
    middle = 0.5 * (ends.max(axis=0) + ends.min(axis=0))
    half_width = 0.55 * np.ptp(ends, axis=0).max()
    for set_limits, center in zip(
        (ax.set_xlim, ax.set_ylim, ax.set_zlim), middle, strict=True
    ):
        set_limits(center - half_width, center + half_width)
    ax.set_box_aspect((1, 1, 1))
    return ax


def _draw_in_plane(
    atoms: Atoms,
    tails: np.ndarray,
    arrows: np.ndarray,
    colors: np.ndarray,
    normal: np.ndarray,
    ax: Any,
) -> Axes:
    ax = figure_axes(ax)
    right = _right_of(normal)
    basis = np.array([right, np.cross(normal, right)])
    for edge in _cell_edges(atoms):
        ax.plot(*(basis @ edge.T), color="0.8", linewidth=0.8, zorder=0)
    ax.scatter(
        *(basis @ atoms.positions.T),
        c=jmol_colors[atoms.numbers],
        s=20,
        alpha=0.4,
        zorder=1,
    )
    flat, height = arrows @ basis.T, arrows @ normal
    lengths = np.linalg.norm(arrows, axis=1)
    end_on = np.linalg.norm(flat, axis=1) < _END_ON * lengths
    # Nearest to the viewer last.
    rows = np.argsort(tails @ normal, kind="stable")
    rows = rows[~end_on[rows]]
    ax.quiver(
        *(basis @ tails[rows].T),
        *flat[rows].T,
        color=colors[rows],
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.007,
        zorder=2,
    )
    middles = basis @ (tails + arrows / 2.0).T
    for sign, marker in ((1, "."), (-1, "x")):
        chosen = end_on & (np.sign(height) == sign)
        x, y = middles[:, chosen]
        ax.scatter(x, y, s=90, facecolors="w", edgecolors=colors[chosen], zorder=2)
        ax.scatter(x, y, s=40, c=colors[chosen], marker=marker, zorder=3)
    names = [_name(row) for row in basis]
    ax.set(xlabel=f"{names[0]} (Å)", ylabel=f"{names[1]} (Å)")
    ax.set_aspect("equal")
    ax.margins(0.12)
    return ax


def _right_of(normal: np.ndarray) -> np.ndarray:
    """Return the direction to the right as seen from ``normal``, with z or y up."""
    up = "z" if abs(normal[2]) < 0.9 else "y"
    return unit_vector(np.cross(unit_vector(up), normal))


def _name(direction: np.ndarray) -> str:
    """Return x, y, -z, ..., or the components of a direction."""
    k = int(np.abs(direction).argmax())
    if abs(direction[k]) > 1.0 - 1e-9:
        return ("-" if direction[k] < 0 else "") + "xyz"[k]
    return "[" + ", ".join(f"{x:.2g}" for x in direction + 0.0) + "]"


def _cell_edges(atoms: Atoms) -> list[np.ndarray]:
    """Return the edges (2, 3), A, of the cell; none where there is no cell."""
    if atoms.cell.rank < 3:
        return []
    corners = np.indices((2, 2, 2)).reshape(3, -1).T
    points = corners @ atoms.cell.array
    return [
        points[[a, b]]
        for a in range(8)
        for b in range(a + 1, 8)
        if np.abs(corners[a] - corners[b]).sum() == 1
    ]
