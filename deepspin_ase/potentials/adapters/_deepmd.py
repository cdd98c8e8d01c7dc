"""Models with spins of DeePMD-kit, evaluated by DeePMD-kit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from typing_extensions import Unpack

from ...system import System
from .._evaluation import Wanted
from .._prediction import Prediction
from ._base import Adapter, numbers_of


class DeepmdModel(Adapter):
    """Native-spin and virtual-atom models of DeePMD-kit (``.pt2``, ``.pt``, ``.pth``).

    DeePMD-kit (LGPL-3.0) is imported at run time; it runs on the device that it
    chooses itself. Structures of the same atoms share a call. A ``.pt2`` is a compiled
    program: open those only that you trust.
    """

    prefix = "deepmd"
    package = "deepmd-kit"
    module = "deepmd.infer"  # a folder of data may be named deepmd
    tested = "3.2.0"

    def load(self) -> Any:
        """Open the model; see :meth:`Adapter.load`."""
        model = self.imported(self.module).DeepPot(str(self.path))
        if not model.has_spin:
            raise self.wrong_kind("a model of DeePMD-kit without spins")
        if model.get_ntypes_spin():
            raise self.wrong_kind("a model of DeePMD-kit's TensorFlow back end")
        if model.get_dim_fparam() or model.get_dim_aparam():
            raise ValueError(
                f"{self.path} needs frame or atomic parameters (fparam, aparam), which "
                "cannot be given here"
            )
        numbers = numbers_of(self, list(model.get_type_map()))
        self.species = frozenset(numbers)
        self._types = {number: k for k, number in enumerate(numbers)}
        carries = _carrying(model)
        if carries is not None and len(carries) == len(numbers):
            self.magnetic_species = frozenset(
                z for z, on in zip(numbers, carries, strict=True) if on
            )
        return model

    def check(self, system: System) -> None:
        """Raise ValueError for foreign atoms and cells that are partly periodic."""
        super().check(system)
        pbc = system.pbc
        if bool((pbc.any(dim=1) & ~pbc.all(dim=1)).any()):
            raise ValueError(
                "DeePMD-kit takes structures that are periodic in all directions or in "
                "none: add vacuum, and set pbc=True"
            )

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask DeePMD-kit; see :meth:`External.ask`."""
        found = [self._together(group) for group in _alike(system)]
        energy, forces, virial, shares, magnetic = (
            torch.from_numpy(np.concatenate(parts))
            for parts in zip(*found, strict=True)
        )
        return Prediction(
            volume=system.volume,
            energy=energy,
            energies=shares,
            forces=forces if wanted["forces"] else None,
            magnetic_forces=magnetic if wanted["magnetic_forces"] else None,
            virial=virial if wanted["virial"] else None,
        )

    def _together(self, system: System) -> tuple[np.ndarray, ...]:
        """Evaluate structures of the same atoms."""
        b = system.n_systems
        types = [self._types[z] for z in system.species[: system.n_atoms // b].tolist()]
        cells = system.cell.numpy() if bool(system.pbc.any()) else None
        energy, forces, virial, shares, _, magnetic, _ = self.loaded.eval(
            system.positions.numpy().reshape(b, -1, 3),
            None if cells is None else cells.reshape(b, 9),
            types,
            atomic=True,
            spin=system.spins.numpy().reshape(b, -1, 3),
        )[:7]
        shapes = ((b,), (-1, 3), (b, 3, 3), (-1,), (-1, 3))
        values = (energy, forces, virial, shares, magnetic)
        return tuple(
            np.asarray(value, dtype=float).reshape(shape)
            for value, shape in zip(values, shapes, strict=True)
        )


def _carrying(model: Any) -> Sequence[bool] | None:
    """Return which types carry moments; None where the model does not say."""
    try:
        return model.use_spin
    except AttributeError:  # frozen, as TorchScript: atoms of a result are marked
        types = np.arange(model.get_ntypes())
        places = 2.0 * types[None, :, None] * np.ones(3)
        found = model.eval(places, None, types, atomic=True, spin=np.ones_like(places))
        return np.asarray(found[6]).ravel().tolist()


def _alike(system: System) -> list[System]:
    """Split a batch into runs of structures of the same atoms and periodicity."""
    groups: list[list[System]] = []
    for one in system:
        last = groups[-1][0] if groups else None
        if (
            last is not None
            and torch.equal(last.species, one.species)
            and torch.equal(last.pbc, one.pbc)
        ):
            groups[-1].append(one)
        else:
            groups.append([one])
    return [System.cat(group) for group in groups]
