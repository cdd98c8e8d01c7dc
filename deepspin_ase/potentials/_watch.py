"""Warnings where structures leave what potentials were trained on."""

from __future__ import annotations

import warnings

from torch import Tensor

from ..neighbors import PairList
from ..system import System
from ._base import Potential
from ._range import extremes

#: Structures are looked at in the calls 1, 2, 4, ... up to this number, then at this
#: interval, and where the pair list is new.
INTERVAL = 64


class OutOfRangeWarning(UserWarning):
    """A structure is outside of what a model was trained on."""


class RangeWatch:
    """Warns once per quantity where structures leave what a potential was trained on.

    Parameters
    ----------
    potential : Potential
        It, or parts of it, have a :attr:`~Potential.training_range`.
    told : set of str
        Quantities that need no warning any more; grows.
    """

    def __init__(self, potential: Potential, told: set[str]) -> None:
        self.told = told
        self._watched = [
            (part.training_range, part.magnetic_species if part.uses_spins else _NONE)
            for part in potential.modules()
            if isinstance(part, Potential) and part.training_range is not None
        ]
        self._calls = 0
        self._last: Tensor | None = None

    def look(self, system: System, pairs: PairList) -> None:
        """Look at structures, now and then.

        Warns
        -----
        OutOfRangeWarning
            Where they are outside.
        """
        if not self._watched:
            return
        self._calls += 1
        rare = self._calls % INTERVAL and self._calls & (self._calls - 1)
        if rare and pairs.i is self._last:
            return
        self._last = pairs.i
        for known, magnetic in self._watched:
            left = known.left_by(extremes(system, pairs, magnetic))
            for name in sorted(left.keys() - self.told):
                self.told.add(name)
                message = f"{left[name]}; results are extrapolated"
                warnings.warn(message, OutOfRangeWarning, stacklevel=3)


_NONE: frozenset[int] = frozenset()
