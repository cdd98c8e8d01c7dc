"""Lists of networks on moments as arrays, for all back ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ._data import Instructions

#: Values before the first moment: one, and the atom's own reduced moment.
BEFORE_MOMENTS = 4


class MomentLists(NamedTuple):
    """Of which factor and radial function each of V moments is the sum.

    Attributes
    ----------
    factor, channel : (V,) int64
    bounds : (channels + 1,) int64
        Moments with radial function k are those from ``bounds[k]`` to
        ``bounds[k + 1]`` of
    factors, moments : (V,) int64
        the factors and the places of the moments among the values, sorted by radial
        function.
    """

    factor: np.ndarray
    channel: np.ndarray
    bounds: np.ndarray
    factors: np.ndarray
    moments: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, int]], channels: int) -> MomentLists:
        """Make the lists of rows, see :class:`._data.MomentsData`."""
        each = np.array([(f, k + n) for f, k, count in rows for n in range(count)])
        factor, channel = each.T
        order = np.argsort(channel, kind="stable")
        return cls(
            factor,
            channel,
            np.searchsorted(channel[order], np.arange(channels + 1)),
            factor[order],
            BEFORE_MOMENTS + order,
        )


def sums(instructions: Instructions) -> tuple[np.ndarray, np.ndarray]:
    """Return which values are made, (S,), and the bounds (S + 1,) of their terms."""
    begin = np.flatnonzero(np.diff(instructions.out, prepend=-1))
    return instructions.out[begin], np.append(begin, len(instructions.out))
