"""Reparametrization of a string: images at equal distances along their path."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from ase import Atoms

from .._joint_space import Metric, image_steps, lengths_of, move_image


def redistribute_images(
    images: Sequence[Atoms], metric: Metric, fixed: Sequence[int] = ()
) -> None:
    """Put images at equal distances along the geodesics that join them, in place.

    E, Ren, Vanden-Eijnden, Phys. Rev. B 66, 052301 (2002),
    doi:10.1103/PhysRevB.66.052301. Where images are at equal distances already,
    nothing moves.

    Parameters
    ----------
    images : sequence of Atoms
        The first and the last stay.
    metric : Metric
    fixed : sequence of int
        Images that stay too; distances are equal between each of these and the next.
    """
    before = [image.copy() for image in images]
    cell = metric.strain_scale is not None
    steps = image_steps(before, cell=cell)
    ways = np.concatenate([[0.0], np.cumsum(lengths_of(metric.rows(steps)))])
    nodes = sorted({0, *fixed, len(images) - 1})
    for first, last in itertools.pairwise(nodes):
        targets = np.linspace(ways[first], ways[last], last - first + 1)
        for image, target in zip(range(first + 1, last), targets[1:-1], strict=True):
            k = int(np.searchsorted(ways, target, side="right")) - 1
            t = (target - ways[k]) / (ways[k + 1] - ways[k])
            _put(images[image], before[k])
            move_image(
                images[image],
                t * steps.lattice[k],
                t * steps.rotations[k],
                t * steps.strains[k],
            )


def _put(image: Atoms, state: Atoms) -> None:
    """Copy positions, moments and cell of ``state`` to ``image``."""
    image.cell[:] = state.cell.array
    image.positions[:] = state.positions
    image.arrays["initial_magmoms"][:] = state.arrays["initial_magmoms"]
