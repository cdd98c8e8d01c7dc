"""Codes that run on their own: input files, a command, output files."""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from ase import Atoms
from pydantic import Field

from .._config import Configuration
from ..data import Frame, read_dataset
from ._engine import Engine, LabelError, Waiting

#: What a shell returns where it does not find a command, or must not run it.
_NO_COMMAND = (126, 127)

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]


class ExternalEngine(Configuration, Engine):
    """Base of engines that write input files, run a command and read output files.

    Attributes
    ----------
    command : str, optional
        Run by the shell in the folder of a structure, such as ``"srun vasp_ncl"``.
        Without one, inputs are written, and outputs that are there are read: run the
        code by a job script in between (``deepspin label`` writes one).
    kpts : (int, int, int), optional
        Mesh of k-points, with the Gamma point.
    kpt_spacing : float
        Largest distance of k-points instead, 2 pi/A.
    """

    command: str | None = None
    kpts: tuple[Count, Count, Count] | None = None
    kpt_spacing: Positive = 0.04

    @property
    @abstractmethod
    def format(self) -> str:
        """Format of the outputs, for :func:`~deepspin_ase.data.read_dataset`."""

    @abstractmethod
    def write_inputs(self, atoms: Atoms, folder: Path) -> None:
        """Write the input files of one structure."""

    @abstractmethod
    def finished(self, folder: Path) -> bool:
        """Return whether the code has come to its end in a folder."""

    def label(self, atoms: Atoms, folder: Path) -> Frame:
        """Write inputs, run the command, read outputs; see :meth:`Engine.label`.

        What the command prints is in ``output.txt``. Outputs that are complete are
        read, and the code not run again.

        Raises
        ------
        Waiting
            If there is no command, and no complete outputs.
        """
        order = self.order(atoms)
        if not self.finished(folder):
            self.write_inputs(atoms[order], folder)
            if self.command is None:
                raise Waiting("the inputs are written; run the code there")
            self._run(folder)
            if not self.finished(folder):
                raise LabelError(
                    f"{self.command!r} left no complete outputs; see "
                    f"{folder / 'output.txt'}"
                )
        try:
            (frame,) = read_dataset(folder, format=self.format)
        except ValueError as error:
            raise LabelError(str(error)) from error
        back = np.argsort(order)
        per_atom = {
            name: getattr(frame, name)[back]
            for name in ("forces", "magnetic_forces")
            if getattr(frame, name) is not None
        }
        # Codes wrap atoms, and print fewer digits than they read.
        return frame.replace(
            numbers=atoms.numbers,
            positions=atoms.positions,
            cell=atoms.cell.array,
            pbc=atoms.pbc,
            spins=frame.spins[back],
            **per_atom,
        )

    def order(self, atoms: Atoms) -> list[int]:
        """Return the atoms sorted by element, as the files of these codes want them."""
        symbols = atoms.get_chemical_symbols()
        return sorted(
            range(len(atoms)), key=lambda k: species(symbols).index(symbols[k])
        )

    def elements(self, atoms: Atoms, *settings: str) -> list[str]:
        """Return the elements in the order of the files.

        Raises
        ------
        ValueError
            If one of the settings, dictionaries by element, lacks an element.
        """
        elements = species(atoms.get_chemical_symbols())
        for name in settings:
            missing = [x for x in elements if x not in getattr(self, name)]
            if missing:
                raise ValueError(f"{name} of {', '.join(missing)} are not given")
        return elements

    def mesh(self, atoms: Atoms) -> tuple[int, int, int]:
        """Return the numbers of k-points for a cell."""
        return mesh_of(atoms, self.kpts, self.kpt_spacing)

    def _run(self, folder: Path) -> None:
        assert self.command is not None
        with (folder / "output.txt").open("wb") as output:
            code = subprocess.run(
                self.command,
                shell=True,
                cwd=folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        if code == 0:
            return
        lines = (folder / "output.txt").read_text("utf-8", "replace").split("\n")
        last = next((line.strip() for line in lines[::-1] if line.strip()), "nothing")
        if code in _NO_COMMAND:
            raise OSError(f"the command {self.command!r} cannot be run: {last}")
        raise LabelError(f"{self.command!r} ended with code {code}: {last[:300]}")


def species(symbols: Sequence[str]) -> list[str]:
    """Return the elements in the order in which they come first."""
    return list(dict.fromkeys(symbols))


def mesh_of(
    atoms: Atoms, kpts: tuple[int, int, int] | None, spacing: float
) -> tuple[int, int, int]:
    """Return a mesh of k-points, given or of at most the spacing (2 pi/A)."""
    if kpts is not None:
        return kpts
    lengths = np.linalg.norm(atoms.cell.reciprocal().array, axis=1) * atoms.pbc
    n = np.maximum(1, np.ceil(lengths / spacing - 1e-9)).astype(int)
    return int(n[0]), int(n[1]), int(n[2])
