"""Potentials compiled once for many evaluations."""

from __future__ import annotations

from typing import Any

import torch

from .._device import as_device
from ..neighbors import NeighborList, PairList, build_pairs
from ..system import System
from ._base import Potential
from ._evaluation import Evaluation
from ._kernels import Kernels
from ._prediction import Prediction
from ._watch import RangeWatch


class CompiledPotential:
    """A Potential with all that repeated evaluations share.

    Terms are sorted, tables made and weights packed at the first evaluation and not
    looked at again. Where weights or settings of the potential are changed later, call
    :meth:`refresh`; :meth:`Potential.evaluate` sees such changes by itself, and is
    slower for that.

    Parameters
    ----------
    potential : Potential
        Brought to the device and type of number, in place.
    device : torch.device or str
    dtype : torch.dtype
    skin : float
        Of the pair list, A.

    Attributes
    ----------
    potential : Potential
    device : torch.device
    dtype : torch.dtype
    neighbors : NeighborList
        Kept from call to call.

    Examples
    --------
    >>> compiled = CompiledPotential(load_potential("model.pt"))
    >>> system = ds.system.System.from_atoms(atoms)
    >>> forces = compiled.evaluate(system).forces
    """

    def __init__(
        self,
        potential: Potential,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
        skin: float = 0.5,
    ) -> None:
        self.device = as_device(device)
        self.dtype = dtype
        self.potential = potential.to(self.device, dtype)
        self.neighbors = NeighborList(skin)
        self._evaluation = Evaluation(potential, Kernels(self.device, dtype))
        self._watch = RangeWatch(potential, set())

    def twin(self, neighbors: NeighborList | None = None) -> CompiledPotential:
        """Return one of the same potential with another pair list.

        Both share tables and weights, and are refreshed together.
        """
        other = type(self).__new__(type(self))
        new = neighbors or NeighborList(self.neighbors.skin)
        vars(other).update(vars(self), neighbors=new)
        return other

    def replaced(self, potential: Potential) -> CompiledPotential:
        """Return one of another potential that shares the pair list.

        What both have in common is not compiled twice.
        """
        other = type(self).__new__(type(self))
        evaluation = Evaluation(potential, self._evaluation.kernels)
        watch = RangeWatch(potential, self._watch.told)
        vars(other).update(
            vars(self), potential=potential, _evaluation=evaluation, _watch=watch
        )
        return other

    def refresh(self) -> None:
        """Take up changes of the potential since the last evaluation.

        Only what has changed is compiled again.
        """
        self._evaluation.refresh()

    def evaluate(
        self,
        system: System,
        pairs: PairList | None = None,
        *,
        forces: bool = True,
        magnetic_forces: bool = True,
        virial: bool = True,
        deviations: bool = False,
    ) -> Prediction:
        """Evaluate a System of any device and type of number.

        Parameters
        ----------
        system : System
        pairs : PairList, optional
            In the type of number of the potential, on its device; by default those of
            :attr:`neighbors`.
        forces, magnetic_forces, virial : bool
            Which derivatives to compute.
        deviations : bool
            Estimate errors, too, where the potential knows how.

        Returns
        -------
        Prediction
            In float64, on the device of the potential.

        Raises
        ------
        ValueError
            If the potential does not apply to the system.

        Warns
        -----
        OutOfRangeWarning
            Once per quantity, where the system is outside of what the potential was
            trained on.
        """
        system = system.to(self.device, self.dtype)
        self.potential.check(system)
        if pairs is None:
            cutoff = self.potential.pair_cutoff(system)
            pairs = self.neighbors.update(system, cutoff)
        self._watch.look(system, pairs)
        found = self._evaluation(
            system,
            pairs,
            forces=forces,
            magnetic_forces=magnetic_forces,
            virial=virial,
            deviations=deviations,
        )
        return found if self.dtype == torch.float64 else _double(found)

    def look(self, system: System) -> None:
        """Look whether a System is in the range of the training data, as in a call.

        Warns
        -----
        OutOfRangeWarning
        """
        system = system.to(self.device, self.dtype)
        self._watch.look(
            system, build_pairs(system, self.potential.pair_cutoff(system))
        )

    def tell_of_stress(self) -> None:
        """Warn, once, if the potential was trained on no stress: cells are to move.

        Warns
        -----
        OutOfRangeWarning
        """
        self._watch.tell_of_stress()

    def state(self) -> dict[str, Any]:
        """Return where the pair list was built: sums run in its order."""
        return self.neighbors.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state returned by :meth:`state`."""
        self.neighbors.restore(state)


def _double(prediction: Prediction) -> Prediction:
    """Return a prediction in float64."""
    values = {"volume": prediction.volume, **prediction.quantities()}
    return Prediction(
        **{name: value.double() for name, value in values.items()},
        deviations={n: v.double() for n, v in prediction.deviations.items()},
    )
