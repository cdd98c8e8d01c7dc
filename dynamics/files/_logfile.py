"""Log file of a run: one line of observables per replica."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

import torch
from ase import units
from torch import Tensor

from ..._files import append_text
from .._state import State
from ..observables import (
    kinetic_energy,
    lattice_temperature,
    magnetization,
    pressure,
    staggered_magnetization,
    sublattices,
)
from ._writers import Snapshots, Writer, truncate_to

_FORMATS = {
    "time_fs": "12.3f",
    "replica": "8.0f",
    "total_eV": "16.8f",
    "potential_eV": "16.8f",
    "kinetic_eV": "14.8f",
    "T_lattice_K": "12.2f",
    "T_spin_K": "12.2f",
    "m_muB": "10.6f",
    "staggered_muB": "14.6f",
    "pressure_GPa": "13.5f",
    "drift_eV": "12.3e",
}


class LoggedRun(Snapshots, Protocol):
    """Source of the columns of a log: a driver, or anything like it."""

    state: State
    degrees_of_freedom: Tensor

    @property
    def mass(self) -> Tensor:
        """Masses of the atoms, (N, 1), amu."""

    def spin_temperature(self) -> Tensor:
        """Return the temperature of the spins, (B,), K."""

    def conserved_energy(self) -> Tensor | None:
        """Return the conserved quantity, (B,), eV, or None."""

    def log_columns(self) -> dict[str, Tensor]:
        """Return additional columns, each (B,), by name and unit."""


class DynamicsLog(Writer):
    """Log with the columns below, one line per replica at every call of ``write``.

    ============== =============================================================
    time_fs        time since the first step
    replica        number of the structure
    total_eV       potential + kinetic energy
    potential_eV   energy of the model, external field included
    kinetic_eV     of the atoms
    T_lattice_K    2 E_kin / (k f)
    T_spin_K       of the spins' directions, at two more model calls a line: see
                   :func:`~deepspin_ase.dynamics._spin_temperature.rotational_sums`
    m_muB          length of the mean moment per magnetic atom
    staggered_muB  the same with the signs of the first state's two sublattices
    pressure_GPa   kinetic and virial, the moments' part included; nan where the
                   calculator gives no stress
    drift_eV       change of the conserved energy per atom since the first line;
                   nan where nothing is conserved
    ============== =============================================================

    Drivers may add columns (``log_columns``).

    Parameters
    ----------
    path : path or "-"
        "-" is the standard output.
    source : LoggedRun
    append : bool
        Continue an existing file.
    """

    def __init__(
        self, path: str | os.PathLike[str], source: LoggedRun, append: bool
    ) -> None:
        super().__init__(Path(path))
        self._source = source
        self.on_disk = path != "-"
        self._started = append and self.on_disk and self.path.exists()
        self._signs = sublattices(source.state.system)
        self._reference: Tensor | None = None

    def values(self) -> dict[str, Tensor]:
        """Return the columns, each (B,)."""
        run = self._source
        system, found = run.state.system, run.prediction
        kinetic = kinetic_energy(system, run.state.momenta, run.mass)
        conserved = run.conserved_energy()
        if conserved is None:
            drift = torch.full_like(kinetic, torch.nan)
        else:
            if self._reference is None:
                self._reference = conserved
            drift = (conserved - self._reference) / system.counts()
        assert found.magnetic_forces is not None
        return {
            "time_fs": torch.full_like(kinetic, run.time_fs),
            "replica": torch.arange(run.n_replicas).to(kinetic),
            "total_eV": found.energy + kinetic,
            "potential_eV": found.energy,
            "kinetic_eV": kinetic,
            "T_lattice_K": lattice_temperature(kinetic, run.degrees_of_freedom),
            "T_spin_K": run.spin_temperature(),
            "m_muB": magnetization(system).norm(dim=1),
            "staggered_muB": staggered_magnetization(system, self._signs).norm(dim=1),
            "pressure_GPa": pressure(system, found, kinetic) / units.GPa,
            "drift_eV": drift,
        } | {name: x.to(kinetic) for name, x in run.log_columns().items()}

    def write(self) -> None:
        """Write the lines of the present state."""
        values = self.values()
        rows = torch.stack(list(values.values()), dim=1).tolist()
        formats = [_FORMATS.get(name, f"{len(name) + 2}.6g") for name in values]
        text = "".join(
            " ".join(f"{x:{f}}" for x, f in zip(row, formats, strict=True)) + "\n"
            for row in rows
        )
        if not self._started:
            widths = (int(form.split(".")[0]) for form in formats)
            names = (f"{n:>{w}}" for n, w in zip(values, widths, strict=True))
            text = "#" + " ".join(names)[1:] + "\n" + text
        if self.on_disk:
            append_text(self.path, text, overwrite=not self._started)
        else:
            sys.stdout.write(text)
            sys.stdout.flush()
        self._started = True

    def state_dict(self) -> dict[str, Any]:
        """Return the file size, and the references of staggered order and drift."""
        in_file = self._started and self.on_disk
        size = self.path.stat().st_size if in_file else 0
        return {
            "started": self._started,
            "size": size,
            "signs": self._signs,
            "reference": self._reference,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._started = state["started"]
        self._signs, self._reference = state["signs"], state["reference"]
        if self._started and self.on_disk:
            truncate_to(self.path, state["size"])
