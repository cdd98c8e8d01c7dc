"""DeePMD-kit models evaluated by their own TorchScript."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers
from torch import Tensor

from ...neighbors import PairList
from ...system import System
from .._base import Potential
from .._prediction import Prediction
from ._extended import Structure, Truncation
from ._frozen import open_script
from ._ops import declared_operators, uncompiled

logger = logging.getLogger(__name__)


class DeepmdScript(Potential):
    """A frozen model of DeePMD-kit as a Potential, whatever its descriptor.

    The TorchScript is given this package's pairs instead of its own search among
    all pairs, so that large systems and any subset of periodic directions work.
    Structures of a batch are evaluated one after the other, in the precision
    of the model. The per-atom energies of :meth:`forward` are differentiable,
    also twice. A model without spins does not see the moments.

    Where an atom has more neighbours than the model has slots, the nearest are
    kept, and which of two at equal distance is up to the order of the search (a
    non-magnetic atom and its placeholder always are). Small structures are then
    left to the program's own search, so that they get DeePMD-kit's numbers.

    Such a potential can be a member of sums and committees, but cannot be
    stored in a ``model.pt``, which holds plain data only: keep the ``.pth``. A
    pickled one opens its file again.

    Parameters
    ----------
    path : path
        A ``.pth`` file written by ``dp --pt freeze``.

    Raises
    ------
    ValueError
        If the model cannot run here; says what is missing.
    """

    _type_of: Tensor
    _scales: Tensor

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(path)
        script = open_script(path)
        # By device, in a dictionary that torch does not look into: the precision
        # of the program must not change with that of the potential.
        self._scripts = {torch.device("cpu"): script}
        self._refuse_what_cannot_be_given(script)
        self.uses_spins = hasattr(script, "has_spin") and bool(script.has_spin())
        numbers = [atomic_numbers[symbol] for symbol in script.get_type_map()]
        scales = [0.0] * len(numbers)
        if self.uses_spins:
            scales = script.virtual_scale_mask.tolist()
            self.magnetic_species = frozenset(
                z for z, scale in zip(numbers, scales, strict=True) if scale
            )
        self.species = frozenset(numbers)
        type_of = torch.zeros(max(atomic_numbers.values()) + 1, dtype=torch.int64)
        type_of[numbers] = torch.arange(len(numbers))
        self.register_buffer("_type_of", type_of, persistent=False)
        scale_of = torch.tensor(scales, dtype=torch.float64)
        self.register_buffer("_scales", scale_of, persistent=False)
        self._cutoff = float(script.get_rcut())
        self._truncation = Truncation.of(script, pseudo_atoms=self.uses_spins)
        self._warned = False
        self._try_it(numbers[0])

    def outside(self) -> str:
        """Return what a model file cannot hold: the program."""
        return f"the TorchScript of {self.path}"

    def __getstate__(self) -> dict[str, Any]:
        """Return the potential without its programs, which the file holds."""
        own = {"path": self.path.resolve(), "_scripts": {}}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a potential whose file is still there.

        Raises
        ------
        FileNotFoundError
            If it is not.
        """
        super().__setstate__(state)
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} is missing: a copy of a DeepmdScript runs the program of "
                "its file, which must be there under the same path"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> DeepmdScript:
        """Return a copy that shares the programs, which never change."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        own = {k: v for k, v in super().__getstate__().items() if k != "_scripts"}
        vars(copied).update(copy.deepcopy(own, memo), _scripts=dict(self._scripts))
        return copied

    def _refuse_what_cannot_be_given(self, script: torch.jit.ScriptModule) -> None:
        """Raise ValueError for types and inputs that this package does not know."""
        unknown = [s for s in script.get_type_map() if not atomic_numbers.get(s)]
        if unknown:
            raise ValueError(
                f"{self.path} has the types {', '.join(unknown)}, which are no elements"
            )
        model = getattr(script, "backbone_model", script)
        default = hasattr(model, "has_default_fparam") and model.has_default_fparam()
        if script.get_dim_aparam() or (script.get_dim_fparam() and not default):
            raise ValueError(
                f"{self.path} needs frame or atomic parameters (fparam, aparam), which "
                "cannot be given here; only models with default values work"
            )
        if hasattr(script, "has_spin") and not hasattr(script, "virtual_scale_mask"):
            raise ValueError(
                f"{self.path} is a {script.original_name}, which takes spins otherwise "
                "than as pseudo-atoms; that is not supported"
            )

    def _try_it(self, number: int) -> None:
        """Raise ValueError if the program does not run on a single atom."""
        atom = Atoms([number], magmoms=[[0.0, 0.0, 0.0]])
        try:
            self.evaluate(System.from_atoms(atom))
        except (RuntimeError, torch.jit.Error) as error:
            operator = re.search(r"deepmd::\w+", str(error))
            if operator:
                reason = (
                    f"it calls the operator {operator[0]} of deepmd-kit; if it is "
                    "compressed, use the model it was compressed from"
                )
            else:
                reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"{self.path} cannot run here: {reason}") from error

    def arguments(self) -> dict[str, Any]:
        """Return the path."""
        return {"path": str(self.path)}

    @property
    def data_options(self) -> dict[str, Any]:
        """Options of :func:`deepspin_ase.data.read_dataset` for DeePMD folders."""
        type_map = self._program(torch.device("cpu")).get_type_map()
        scales = zip(type_map, self._scales.tolist(), strict=True)
        return {"default_type_map": type_map, "virtual_scale": dict(scales)}

    @property
    def cutoff(self) -> float:
        """Largest distance of a site from its centre, A."""
        return self._cutoff

    def pair_cutoff(self, system: System) -> float:
        """Return the cutoff plus the arms of the pseudo-atoms on both sides, A."""
        arms = self._arms(system).detach().norm(dim=1)
        return self.cutoff + 2.0 * float(arms.max())

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return the distance between atoms with a common neighbor, A.

        None for message passing, whose number of rounds the program does not say.
        """
        asked = getattr(self._program(torch.device("cpu")), "has_message_passing", None)
        if asked is None or asked():
            return None
        return 2.0 * self.pair_cutoff(system)

    def _arms(self, system: System) -> Tensor:
        """Return the vectors (N, 3) from the atoms to their pseudo-atoms, A."""
        types = self._type_of[system.species]
        return system.spins * self._scales[types][:, None].to(system.dtype)

    def forward(self, system: System, pairs: PairList) -> Tensor:
        """Return per-atom energies (N,), eV; differentiable in everything."""
        outputs = [self._run(s)["atom_energy"] for s in self._split(system, pairs)]
        return torch.cat([x.flatten() for x in outputs]).to(system.dtype)

    def predict(
        self,
        system: System,
        pairs: PairList,
        *,
        forces: bool,
        magnetic_forces: bool,
        virial: bool,
        create_graph: bool,
    ) -> Prediction | None:
        """Return energy and derivatives, which the program computes by itself.

        See :meth:`Potential.evaluate`.
        """
        if create_graph:
            return None
        system = system.detach()
        outputs = [self._run(structure) for structure in self._split(system, pairs)]

        def joined(name: str, *shape: int) -> Tensor:
            parts = [output[name].detach().reshape(shape) for output in outputs]
            return torch.cat(parts).to(system.dtype)

        energies = joined("atom_energy", -1)
        return Prediction(
            energy=system.sum(energies),
            energies=energies,
            volume=system.volume,
            forces=joined("force", -1, 3) if forces else None,
            magnetic_forces=joined("force_mag", -1, 3) if magnetic_forces else None,
            virial=joined("virial", -1, 3, 3) if virial else None,
        )

    def _split(self, system: System, pairs: PairList) -> Iterator[Structure]:
        """Yield the structures of a batch."""
        arms, types = self._arms(system), self._type_of[system.species]
        slices = system.slices()
        starts = torch.tensor([own.start for own in slices], device=system.device)
        bounds = [*torch.searchsorted(pairs.i, starts).tolist(), len(pairs.i)]
        for b, atoms in enumerate(slices):
            start, part = atoms.start, slice(bounds[b], bounds[b + 1])
            yield Structure(
                system.positions[atoms].double(),
                system.spins[atoms].double(),
                arms[atoms].double(),
                types[atoms],
                system.cell[b].double(),
                system.pbc[b],
                PairList(
                    pairs.i[part] - start,
                    pairs.j[part] - start,
                    pairs.shift[part].double(),
                    pairs.cutoff,
                ),
            )

    def _program(self, device: torch.device) -> torch.jit.ScriptModule:
        """Return the program on a device."""
        if device not in self._scripts:
            self._scripts[device] = open_script(self.path, device)
        return self._scripts[device]

    def _run(self, structure: Structure) -> dict[str, Tensor]:
        """Return the program's output; forces are those on the atoms."""
        device = structure.positions.device
        script = self._program(device)
        crowded = self._truncation.happens(structure)
        if crowded and not self._warned:
            self._warned = True
            logger.warning(
                "some atoms have more neighbours than %s has slots; the nearest are "
                "kept, as in DeePMD-kit, and the energy is no longer smooth: use a "
                "model with a larger sel for such densities",
                self.path,
            )
        with declared_operators(), torch.enable_grad(), uncompiled():
            if crowded and structure.can_be_searched(self.cutoff):
                output = script(**structure.alone(self.uses_spins))
            else:
                extended = structure.extended(self._truncation.width)
                output = script.forward_lower(**extended.inputs(self.uses_spins))
                for name in ("force", "force_mag") if self.uses_spins else ("force",):
                    output[name] = extended.gather(output[f"extended_{name}"])
        if not self.uses_spins:
            output["force_mag"] = torch.zeros_like(output["force"])
        return dict(output)
