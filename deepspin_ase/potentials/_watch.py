"""Warnings where structures leave what potentials were trained on."""

from __future__ import annotations

import warnings

import torch
from ase.data import chemical_symbols
from torch import Tensor, nn

from ..neighbors import PairList
from ..system import System
from ._base import Potential
from ._range import TrainingRange, extremes
from .networks._trainable import Trainable

#: Structures are looked at in the calls 1, 2, 4, ... up to this number, then at this
#: interval, and, but for their features, where the pair list is new.
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
            (part, part.training_range)
            for part in potential.modules()
            if isinstance(part, Potential) and part.training_range is not None
        ]
        self._calls = 0
        self._last: Tensor | None = None

    def look(self, system: System, pairs: PairList) -> None:
        """Look at structures, now and then.

        Raises
        ------
        ValueError
            For atoms of an element that was in no frame.

        Warns
        -----
        OutOfRangeWarning
            Where they are outside.
        """
        if not self._watched:
            return
        self._calls += 1
        rare = bool(self._calls % INTERVAL and self._calls & (self._calls - 1))
        if rare and pairs.i is self._last:
            return
        self._last = pairs.i
        for part, known in self._watched:
            present = set(torch.unique(system.species).tolist())
            if strange := present & unseen(part, known):
                names = ", ".join(chemical_symbols[z] for z in sorted(strange))
                raise ValueError(
                    f"the model lists {names} among its elements, but no frame of its "
                    "training had any: train it with frames that do"
                )
            magnetic = part.magnetic_species if part.uses_spins else _NONE
            found = extremes(system, pairs, magnetic)
            if not rare:
                found |= feature_distances(part, system, pairs)
            left = known.left_by(found)
            for name in sorted(left.keys() - self.told):
                self.told.add(name)
                message = f"{left[name]}; results are extrapolated"
                warnings.warn(message, OutOfRangeWarning, stacklevel=3)

    def tell_of_stress(self) -> None:
        """Warn where a potential that has seen no stress is about to move cells by it.

        Warns
        -----
        OutOfRangeWarning
        """
        seen = all("virial" in known.labels for _, known in self._watched)
        if not seen and "stress" not in self.told:
            self.told.add("stress")
            warnings.warn(
                "stress: the model was trained on none; the cells that it leads to are "
                "guesses",
                OutOfRangeWarning,
                stacklevel=3,
            )


def unseen(potential: nn.Module, known: TrainingRange) -> frozenset[int]:
    """Return atomic numbers that a network has and that were in none of its frames."""
    parts = [part for part in potential.modules() if isinstance(part, Trainable)]
    species = {z for part in parts for z in part.species}
    seen = known.elements
    return frozenset(z for z in species if seen and chemical_symbols[z] not in seen)


@torch.no_grad()
def feature_distances(
    potential: Potential, system: System, pairs: PairList
) -> dict[str, tuple[float, float]]:
    """Return zero and the largest distance of features, by ``features A``."""
    found: dict[str, tuple[float, float]] = {}
    for part in potential.modules():
        distances = (
            part.feature_distances(system, pairs)
            if isinstance(part, Trainable)
            else None
        )
        if distances is None:
            continue
        for number in torch.unique(system.species).tolist():
            largest = float(distances[system.species == number].max())
            found[f"features {chemical_symbols[number]}"] = 0.0, largest
    return found


_NONE: frozenset[int] = frozenset()
