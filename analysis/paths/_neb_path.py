"""Energies and barriers along a path of atoms, spins and cell."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from scipy.interpolate import PchipInterpolator

from ..._figures import figure_axes
from ..._result import Result, plots
from ..._validate import whole
from ...spins import get_spins
from .._joint_space import Metric, image_steps, lengths_of
from ._path_fit import PathFit

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, eq=False)
class NEBPath(Result):
    """Energies along a path of P images of N atoms.

    Attributes
    ----------
    coordinate : (P,) array, A
        Length of the path from the first image, in the metric of the band.
    energies : (P,) array, eV
    slopes : (P,) array, eV/A
        Derivatives of the energy along the path.
    lengths : dict of (P - 1,) arrays, A
        Ways from image to image of the parts ``lattice``, ``spins`` and ``cell``;
        the squares add to those of the whole.
    work : dict of (P,) arrays, eV
        What each part, and ``magnitudes`` where moments change their lengths, has
        done to the energy up to each image: the integral of minus its force along the
        path, by monotone cubics. The sum is the energy above the first image: what
        the integrals lack between two images is shared out in proportion to the
        slopes of the parts there.
    residual : (P,) array, eV
        What the integrals lacked up to each image; the denser the images, the less.
    bends : (P - 2,) array, rad
        Angles between the ways to and from the inner images.
    straight : float, A
        Distance between the ends.
    climbing : (K,) array of int
        Climbing images.
    spin_scale : float, A/rad
    n_atoms : int
    """

    coordinate: np.ndarray
    energies: np.ndarray
    slopes: np.ndarray
    lengths: dict[str, np.ndarray]
    work: dict[str, np.ndarray]
    residual: np.ndarray
    bends: np.ndarray
    straight: float
    climbing: np.ndarray
    spin_scale: float
    n_atoms: int

    @classmethod
    def of(
        cls,
        images: Sequence[Atoms],
        results: Sequence[Mapping[str, Any]],
        *,
        energies: np.ndarray,
        forces: np.ndarray,
        metric: Metric,
        climbing: Sequence[int] = (),
    ) -> NEBPath:
        """Return the path of evaluated images.

        Parameters
        ----------
        images : P Atoms
        results : P mappings
            Their magnetic forces, eV/mu_B.
        energies : (P,) array, eV
        forces : (P, R, 3) array, eV/A
            Minus the gradients of the energies by rows.
        metric : Metric
        climbing : sequence of int
        """
        cell = metric.strain_scale is not None
        rows = metric.rows(image_steps(images, cell=cell))
        gaps = lengths_of(rows)
        parts = metric.parts(len(images[0]))
        along = -forces * _directions(rows, gaps)
        slopes = {k: along[:, own].sum(axis=(1, 2)) for k, own in parts.items()}
        stretching = _stretching(images, results, gaps)
        if abs(stretching).max() > _ROUND_OFF * abs(along).max():
            slopes["magnitudes"] = stretching
        coordinate = np.concatenate([[0.0], np.cumsum(gaps)])
        lengths = {name: lengths_of(rows[:, own]) for name, own in parts.items()}
        work, residual = _work(coordinate, np.asarray(energies, dtype=float), slopes)
        ends = [images[0], images[-1]]
        straight = metric.rows(image_steps(ends, cell=cell))
        return cls(
            coordinate=coordinate,
            energies=np.asarray(energies, dtype=float),
            slopes=sum(slopes.values(), np.zeros(len(coordinate))),
            lengths=lengths,
            work=work,
            residual=residual,
            bends=_bends(rows, gaps),
            straight=float(lengths_of(straight)[0]),
            climbing=np.array(climbing, dtype=int),
            spin_scale=metric.spin_scale,
            n_atoms=len(images[0]),
        )

    def __repr__(self) -> str:
        return (
            f"<NEBPath: {len(self.energies)} images over {self.length:.3f} A, barriers "
            f"{1e3 * self.barrier_forward:.6g} and "
            f"{1e3 * self.barrier_reverse:.6g} meV>"
        )

    @property
    def length(self) -> float:
        """Length of the path, A."""
        return float(self.coordinate[-1])

    @property
    def detour(self) -> float:
        """Length of the path over the distance of its ends; 1 for a straight path."""
        return self.length / self.straight if self.straight > 0.0 else np.inf

    @property
    def forces(self) -> np.ndarray:
        """Forces along the path, (P,), eV/A: positive where it falls."""
        return -self.slopes

    @cached_property
    def fit(self) -> PathFit:
        """Energy (eV) of the coordinate (A), through energies and slopes."""
        return PathFit(self.coordinate, self.energies, self.slopes)

    @cached_property
    def top(self) -> tuple[float, float]:
        """Coordinate (A) and energy (eV) of the highest point of the fit."""
        return self.fit.highest()

    @property
    def highest(self) -> int:
        """Number of the highest image."""
        return int(self.energies.argmax())

    @property
    def barrier_forward(self) -> float:
        """Highest point of the fit above the first image, eV."""
        return self.top[1] - float(self.energies[0])

    @property
    def barrier_reverse(self) -> float:
        """Highest point of the fit above the last image, eV."""
        return self.top[1] - float(self.energies[-1])

    @property
    def barrier_forward_image(self) -> float:
        """Highest image above the first, eV: the fit's where that image climbed."""
        return float(self.energies.max() - self.energies[0])

    @property
    def barrier_reverse_image(self) -> float:
        """Highest image above the last, eV."""
        return float(self.energies.max() - self.energies[-1])

    @property
    def reaction_energy(self) -> float:
        """Last image above the first, eV."""
        return float(self.energies[-1] - self.energies[0])

    @property
    def fractions(self) -> dict[str, float]:
        """Sums of the squared lengths of each part over that of all parts."""
        squares = {name: float(np.sum(way**2)) for name, way in self.lengths.items()}
        return {
            name: square / sum(squares.values()) for name, square in squares.items()
        }

    def table(self, *, formula_units: int = 1) -> str:
        """Return coordinate, energy, slope, work and residual of images as text.

        Energies are those of the whole structure, or of one of its formula units.
        """
        per = 1e3 / whole("formula_units", formula_units, 1)
        work = {**self.work, "residual": self.residual}
        head = f"{'image':>5} {'s (A)':>9} {'E - E0 (meV)':>14} {'dE/ds (meV/A)':>14}"
        lines = [head + "".join(f" {name + ' (meV)':>17}" for name in work)]
        for k, energy in enumerate(self.energies - self.energies[0]):
            lines.append(
                f"{k:5d} {self.coordinate[k]:9.4f} {per * energy:14.5f} "
                f"{per * self.slopes[k]:14.5f}"
                + "".join(f" {per * done[k]:17.5f}" for done in work.values())
                + (" climbing" if k in self.climbing else "")
            )
        return "\n".join(lines)


#: Below this, relative to forces, moments do not change their lengths.
_ROUND_OFF = 1e-12


def _directions(rows: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return derivatives of the path by its coordinate, (P, R, 3).

    Of the parabola through an image and its neighbours; at the ends, of the line to
    the one neighbour.
    """
    units = rows / gaps[:, None, None]
    weight = (gaps[1:] / (gaps[:-1] + gaps[1:]))[:, None, None]
    inner = weight * units[:-1] + (1.0 - weight) * units[1:]
    return np.concatenate([units[:1], inner, units[-1:]])


def _work(
    coordinate: np.ndarray, energies: np.ndarray, slopes: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the work of each part and what the integrals lacked, (P,), eV."""
    own = np.stack([*slopes.values()])
    whole = PchipInterpolator(coordinate, own, axis=1).antiderivative()(coordinate)
    steps = np.diff(whole, axis=1)
    missing = np.diff(energies) - steps.sum(axis=0)
    weights = abs(own[:, :-1]) + abs(own[:, 1:])
    total = weights.sum(axis=0)
    even = np.full_like(weights, 1.0 / len(weights))
    shares = np.divide(weights, total, out=even, where=total > 0.0)
    summed = np.cumsum(np.pad(steps + shares * missing, ((0, 0), (1, 0))), axis=1)
    residual = np.cumsum(np.pad(missing, (1, 0)))
    return dict(zip(slopes, summed, strict=True)), residual


def _bends(rows: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    products = np.sum(rows[:-1] * rows[1:], axis=(1, 2)) / (gaps[:-1] * gaps[1:])
    return np.arccos(np.clip(products, -1.0, 1.0))


def _stretching(
    images: Sequence[Atoms], results: Sequence[Mapping[str, Any]], gaps: np.ndarray
) -> np.ndarray:
    """Return the slopes due to changes of lengths of moments, (P,), eV/A."""
    spins = np.stack([get_spins(image) for image in images])
    lengths = np.linalg.norm(spins, axis=2)
    along = np.stack([result["magnetic_forces"] for result in results]) * spins
    pulls = np.sum(along, axis=2) / np.where(lengths > 0.0, lengths, 1.0)
    directions = _directions(np.diff(lengths, axis=0)[:, :, None], gaps)[:, :, 0]
    return -np.sum(pulls * directions, axis=1)


def warn_of_folds(path: NEBPath) -> None:
    """Warn where a path folds back on itself, and where it leads down from an end."""
    folded = 1 + np.flatnonzero(path.bends > 0.5 * np.pi)
    if len(folded):
        warnings.warn(
            f"the path folds back at image {folded[0]} (its length is "
            f"{path.detour:.2f} times the distance of the ends): give a stronger "
            "spring, more images, or another first guess",
            stacklevel=3,
        )
    energies = path.energies
    noise = 1e-9 + 1e-6 * float(np.ptp(energies))
    for name, end, next_one in (("first", 0, 1), ("last", -1, -2)):
        if energies[next_one] < energies[end] - noise:
            warnings.warn(
                f"the path leads down from the {name} image, by "
                f"{1e3 * (energies[end] - energies[next_one]):.3g} meV: it is not a "
                "minimum, or there is another next to it, and barriers count from "
                "there",
                stacklevel=3,
            )


@plots(NEBPath)
def plot_path(
    result: NEBPath,
    ax: Axes | None = None,
    *,
    parts: bool = False,
    label: str | None = None,
    formula_units: int = 1,
) -> Axes:
    """Draw the energy along a path: the fit as a curve, the images as dots.

    Parameters
    ----------
    parts : bool
        Draw the work of lattice, spins and cell too, where they move.
    label : str, optional
        Of the curve, to compare paths on one axes.
    formula_units : int
        Of the structure: energies are drawn per formula unit.

    Raises
    ------
    TypeError
        If ``result`` is no NEBPath.
    """
    if not isinstance(result, NEBPath):
        raise TypeError(
            f"expected an NEBPath, such as neb.path(), got {type(result).__name__}"
        )

    ax = figure_axes(ax)
    start = result.energies[0]
    fine = np.linspace(0.0, result.length, 40 * (len(result.energies) - 1) + 1)
    per = 1e3 / whole("formula_units", formula_units, 1)
    curve = per * (result.fit(fine) - start)
    (line,) = ax.plot(fine, curve, label="fit" if label is None else label)
    energies = per * (result.energies - start)
    _dots(ax, result.coordinate, energies, "images", color=line.get_color())
    climbing = result.climbing
    if len(climbing):
        ring = {"markersize": 10, "markerfacecolor": "none", "color": line.get_color()}
        at = result.coordinate[climbing]
        _dots(ax, at, energies[climbing], "climbing image", **ring)
    if parts:
        for name, done in result.work.items():
            if name == "magnitudes" or result.lengths[name].any():
                ax.plot(result.coordinate, per * done, "--", label=f"work of {name}")
    ax.legend(
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        fontsize="small",
        frameon=False,
    )
    unit = "meV" if formula_units == 1 else "meV/f.u."
    ax.set(xlabel="path (Å)", ylabel=f"energy ({unit})")
    return ax


def _dots(ax: Axes, x: np.ndarray, y: np.ndarray, label: str, **options: Any) -> None:
    """Draw dots; those of several paths on one axes have one entry in the legend."""
    known = ax.get_legend_handles_labels()[1]
    ax.plot(x, y, "o", label=None if label in known else label, **options)
