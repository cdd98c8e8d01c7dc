"""NEP-Spin models, evaluated by nep-adapters."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols
from typing_extensions import Unpack

from ...system import System
from .._evaluation import Wanted
from .._prediction import Prediction
from ._base import Adapter, numbers_of

#: Opens a model in a process of its own.
_TRIAL = "import sys, nep_adapters as n; n.NEPCalculator(sys.argv[1], sys.argv[2])"


class NEPModel(Adapter):
    """NEP-Spin (``nep.txt``) by nep-adapters, GPL-3.0 and imported at run time.

    On a CUDA device where there is one. All structures of a batch share a call.
    """

    prefix = "nep"
    package = "nep-adapters"
    module = "nep_adapters"
    tested = "1.0.3"

    @property
    def cutoff(self) -> float:
        """Largest distance between atoms that see each other, A."""
        return float(self.loaded.model_info.cutoff_max)

    def pair_cutoff(self, system: System) -> float:
        """Return zero: the program finds neighbors by itself."""
        return 0.0

    def interaction_range(
        self, system: System, *, moments_only: bool = False
    ) -> float | None:
        """Return two cutoffs, A: energies of atoms depend on all their neighbors."""
        return 2.0 * self.cutoff

    def load(self) -> Any:
        """Open the model; see :meth:`Adapter.load`."""
        nep = self.imported("nep_adapters")
        backend = "cuda" if nep.backend_status("cuda").available else "cpu"
        # A truncated file ends the process that opens it.
        command = [sys.executable, "-c", _TRIAL, str(self.path), backend]
        trial = subprocess.run(command, capture_output=True, text=True, check=False)
        if trial.returncode:
            said = (trial.stderr.strip().splitlines() or ["it may be truncated"])[-1]
            raise ValueError(f"{self.package} cannot read {self.path}: {said}")
        calculator = nep.NEPCalculator(str(self.path), backend)
        if calculator.model_info.model_type != "spin":
            raise self.wrong_kind("a NEP without spins")
        symbols = list(calculator.model_info.elements)
        numbers = numbers_of(self, symbols)
        self.species = frozenset(numbers)
        self._types = {number: k for k, number in enumerate(numbers)}
        carrying = _carrying(self.path.read_text(encoding="utf-8")) or symbols
        self.magnetic_species = frozenset(numbers_of(self, carrying))
        return calculator

    def check(self, system: System) -> None:
        """Raise ValueError for foreign atoms and cells that are not periodic."""
        super().check(system)
        if not bool(system.pbc.all()):
            raise ValueError(
                "NEP models take structures that are periodic in all directions: add "
                "vacuum, and set pbc=True"
            )

    def ask(self, system: System, **wanted: Unpack[Wanted]) -> Prediction:
        """Ask nep-adapters; see :meth:`External.ask`."""
        counts = system.counts()
        found = self.loaded.predict_spin_arrays(
            [self._types[z] for z in system.species.tolist()],
            system.positions.numpy(),
            system.spins.numpy(),
            system.cell.transpose(1, 2).reshape(-1, 9).numpy(),
            counts.numpy(),
            np.ones((system.n_systems, 3), dtype=np.int32),
        )
        energies = torch.from_numpy(np.array(found.potential, dtype=float))
        # The transpose of -dE/dstrain, as a mean over the atoms.
        mean = torch.from_numpy(np.array(found.structure_virials, dtype=float))
        virial = mean.reshape(-1, 3, 3).transpose(1, 2) * counts[:, None, None]
        forces = torch.from_numpy(np.array(found.forces, dtype=float))
        magnetic = torch.from_numpy(np.array(found.mforces, dtype=float))
        return Prediction(
            volume=system.volume,
            energy=system.sum(energies),
            energies=energies,
            forces=forces if wanted["forces"] else None,
            magnetic_forces=magnetic if wanted["magnetic_forces"] else None,
            virial=virial if wanted["virial"] else None,
        )


def _carrying(text: str) -> list[str]:
    """Return the elements of the line ``spin_dof_type`` of the head of a model."""
    for line in text.splitlines()[:40]:
        words = line.split()
        if words and words[0] == "spin_dof_type":
            return [word for word in words[1:] if word in chemical_symbols]
    return []
