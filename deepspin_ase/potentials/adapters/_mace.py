"""Magnetic models of MACE, evaluated by MACE."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from typing_extensions import Unpack

from ...neighbors import build_pairs
from ...system import System
from .._evaluation import Wanted
from .._prediction import Prediction
from ._base import Adapter, full_virial

#: Class that averages a model over both directions of time.
_SYMMETRISED = "TimeReversalSymmetrizedMACE"


class MACEModel(Adapter):
    """``MagneticMACE`` models of mace-torch (MIT).

    Releases up to 0.3.16 have no such models; the development version does. Beyond the
    largest moment of each element in the training, ``m_max``, they extrapolate, which
    :meth:`check` refuses. Time reversal is exact where the model was symmetrised
    (``TimeReversalSymmetrizedMACE``); else ``TimeReversal(potential)`` makes it so.
    """

    prefix = "mace"
    package = "mace-torch"
    module = "mace"
    tested = "its development version"
    source = "git+https://github.com/ACEsuit/mace"
    runs_code = True

    @property
    def cutoff(self) -> float:
        """Largest distance between atoms that see each other, A."""
        return self._cutoff

    def pair_cutoff(self, system: System) -> float:
        """Return zero: neighbors are found in :meth:`ask`."""
        return 0.0

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return two cutoffs for each round of messages, A."""
        return 2.0 * self._rounds * self.cutoff

    def load(self) -> Any:
        """Open the model; see :meth:`Adapter.load`."""
        model = torch.load(self.path, map_location="cpu", weights_only=False)
        inside = model.model if type(model).__name__ == _SYMMETRISED else model
        name = type(inside).__name__
        if not isinstance(model, torch.nn.Module) or "Magnetic" not in name:
            raise self.wrong_kind(f"a {name}, not a MagneticMACE")
        if "SCF" in name:
            raise self.wrong_kind(
                f"a {name}, which changes the moments: AdiabaticMoments does that for "
                "the model in it"
            )
        self.numbers = torch.as_tensor(inside.atomic_numbers).tolist()
        self.species = frozenset(self.numbers)
        self._cutoff = float(inside.r_max)
        self._rounds = int(inside.num_interactions)
        limits = getattr(inside, "m_max", None)
        self._limits = None if limits is None else limits.double().flatten()
        return model.double().eval().requires_grad_(False)

    def check(self, system: System) -> None:
        """Raise ValueError for foreign atoms and moments beyond ``m_max``."""
        super().check(system)
        if self._limits is None:
            return
        limit = self._limits[self._kinds(system)].to(system.spins)
        if bool((system.spins.norm(dim=1) > limit).any()):
            raise ValueError(
                "a moment is longer than the longest that the model was made for "
                f"({float(self._limits.max()):.3g} mu_B)"
            )

    def _kinds(self, system: System) -> Tensor:
        """Return the number of each atom's element in the model, (N,)."""
        known = torch.tensor(self.numbers)
        return (system.species.cpu()[:, None] == known).int().argmax(dim=1)

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask MACE; see :meth:`External.ask`."""
        virial = wanted["virial"] and bool(system.pbc.any())
        found = self.loaded(
            self._data(system),
            training=False,
            compute_force=True,
            compute_virials=virial,
            compute_stress=virial,
            compute_magforces=True,
        )
        magnetic = found["magforces"].detach()
        symmetric = found["virials"].detach() if virial else None
        return Prediction(
            volume=system.volume,
            energy=found["energy"].detach(),
            energies=found["node_energy"].detach(),
            forces=found["forces"].detach() if wanted["forces"] else None,
            magnetic_forces=magnetic if wanted["magnetic_forces"] else None,
            virial=(
                None if symmetric is None else full_virial(symmetric, system, magnetic)
            ),
        )

    def _data(self, system: System) -> dict[str, Tensor]:
        """Return a batch in the model's terms."""
        pairs = build_pairs(system, self.cutoff)
        cells = system.cell[system.index[pairs.i]]
        shift = pairs.shift.to(system.positions)
        kinds = torch.nn.functional.one_hot(self._kinds(system), len(self.numbers))
        ends = torch.cat([torch.zeros(1, dtype=torch.int64), system.counts().cumsum(0)])
        return {
            "positions": system.positions.clone(),
            "node_attrs": kinds.to(system.positions),
            "magmom": system.spins.clone(),
            "edge_index": torch.stack([pairs.i, pairs.j]),
            "shifts": torch.einsum("pa,pab->pb", shift, cells),
            "unit_shifts": shift,
            "cell": system.cell.reshape(-1, 3),
            "pbc": system.pbc,
            "batch": system.index,
            "ptr": ends,
            "head": torch.zeros(system.n_systems, dtype=torch.int64),
        }
