"""The log of a run: one line per replica with what a user watches."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ase import units

from .observables import (
    kinetic_energy,
    lattice_temperature,
    magnetisation,
    pressure,
    spin_temperature,
    staggered_magnetisation,
    sublattices,
)

if TYPE_CHECKING:
    from .driver import SpinLatticeDynamics

_COLUMNS = (
    ("time_fs", "12.3f"),
    ("replica", "8.0f"),
    ("total_eV", "16.8f"),
    ("potential_eV", "16.8f"),
    ("kinetic_eV", "14.8f"),
    ("T_lattice_K", "12.2f"),
    ("T_spin_K", "12.2f"),
    ("m_muB", "10.6f"),
    ("staggered_muB", "14.6f"),
    ("pressure_GPa", "13.5f"),
    ("drift_eV", "12.3e"),
)


class DynamicsLog:
    """Writes the columns below, one line per replica, every time it is called.

    ============== =============================================================
    time_fs        time since the first step
    replica        number of the structure
    total_eV       potential + kinetic energy
    potential_eV   energy of the model, external field included
    kinetic_eV     of the atoms
    T_lattice_K    2 E_kin / (k f)
    T_spin_K       sum |m x B|^2 / (2 k sum m.B)
    m_muB          length of the mean moment per atom
    staggered_muB  the same with the signs of the first state's sublattices
    pressure_GPa   kinetic and virial, the moments' part included
    drift_eV       change of the conserved energy per atom since the first line;
                   nan where nothing is conserved
    ============== =============================================================

    Parameters
    ----------
    path : path or "-"
        "-" is the standard output.
    driver : SpinLatticeDynamics
    append : bool
        Continue an existing file.
    """

    def __init__(
        self, path: str | os.PathLike[str], driver: SpinLatticeDynamics, append: bool
    ) -> None:
        self.path = None if path == "-" else Path(path)
        self.driver = driver
        self._started = append and self.path is not None and self.path.exists()
        self._signs = sublattices(driver.state.system)
        self._reference: torch.Tensor | None = None

    def values(self) -> dict[str, torch.Tensor]:
        """Return the columns, each (B,)."""
        driver = self.driver
        system, found = driver.state.system, driver.prediction
        kinetic = kinetic_energy(system, driver.state.momenta, driver.mass)
        conserved = driver.conserved_energy()
        if conserved is None:
            drift = torch.full_like(kinetic, torch.nan)
        else:
            if self._reference is None:
                self._reference = conserved
            drift = (conserved - self._reference) / system.counts()
        assert found.magnetic_forces is not None
        return {
            "time_fs": torch.full_like(kinetic, driver.time_fs),
            "replica": torch.arange(driver.n_replicas).to(kinetic),
            "total_eV": found.energy + kinetic,
            "potential_eV": found.energy,
            "kinetic_eV": kinetic,
            "T_lattice_K": lattice_temperature(kinetic, driver.degrees_of_freedom),
            "T_spin_K": spin_temperature(
                system, found.magnetic_forces, driver.constraints.free_spins
            ),
            "m_muB": magnetisation(system).norm(dim=1),
            "staggered_muB": staggered_magnetisation(system, self._signs).norm(dim=1),
            "pressure_GPa": pressure(system, found, kinetic) / units.GPa,
            "drift_eV": drift,
        }

    def write(self) -> None:
        """Write the lines of the present state."""
        rows = torch.stack(list(self.values().values()), dim=1).tolist()
        formats = [form for _, form in _COLUMNS]
        text = "".join(
            " ".join(f"{x:{f}}" for x, f in zip(row, formats, strict=True)) + "\n"
            for row in rows
        )
        if not self._started:
            names = (f"{name:>{int(f.split('.')[0])}}" for name, f in _COLUMNS)
            text = "#" + " ".join(names)[1:] + "\n" + text
        if self.path is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            with self.path.open("a" if self._started else "w") as file:
                file.write(text)
        self._started = True

    def state(self) -> dict[str, Any]:
        """Return how far the file has come, and what drift refers to."""
        size = self.path.stat().st_size if self.path and self._started else 0
        return {
            "started": self._started,
            "size": size,
            "signs": self._signs,
            "reference": self._reference,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Cut the file back to where it was."""
        self._started = state["started"]
        self._signs, self._reference = state["signs"], state["reference"]
        if self.path is not None and self._started:
            cut_back(self.path, state["size"])


def cut_back(path: Path, size: int) -> None:
    """Shorten a file to ``size`` bytes.

    Raises
    ------
    ValueError
        If it is missing or shorter than that.
    """
    if not path.exists() or path.stat().st_size < size:
        raise ValueError(
            f"{path} is missing or shorter than when the checkpoint was written; "
            "put it back, or restore with another file name"
        )
    os.truncate(path, size)
