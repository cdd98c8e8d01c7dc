"""What an engine of labels is, and the table of engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ase import Atoms

from ..data import Frame


class LabelError(RuntimeError):
    """An engine could not label a structure: the message says why."""


class Waiting(LabelError):
    """The labels of a structure are made elsewhere, and are not there yet."""


class Engine(ABC):
    """Computes labels of one structure at a time.

    Engines are plain data, so that they travel to other processes.
    """

    @abstractmethod
    def label(self, atoms: Atoms, folder: Path) -> Frame:
        """Return the labels of a structure.

        Parameters
        ----------
        atoms : Atoms
            With the moments that are asked for (mu_B).
        folder : Path
            An existing folder for files of this structure alone.

        Returns
        -------
        Frame
            The same atoms in the same order, with the moments that were reached: labels
            belong to these.

        Raises
        ------
        LabelError
            If this structure has no trustworthy labels: not converged, moments not
            reached. Another structure may.
        ImportError, OSError, ValueError
            If the engine cannot label anything: a code that is missing, settings that
            do not fit.
        """

    def mesh(self, atoms: Atoms) -> tuple[int, int, int] | None:
        """Return the numbers of k-points for a cell; None where there are none."""
        return None

    def finished(self, folder: Path) -> bool:
        """Return whether a code that runs on its own has come to its end there."""
        return False

    @abstractmethod
    def provenance(self) -> dict[str, Any]:
        """Return what the labels depend on, as plain data.

        Code and version, functional, basis, mesh of k-points, pseudopotentials, and the
        definition of the moments.
        """


#: Engines by the names that ``deepspin label --engine`` takes; each is built from the
#: settings of a file. Any other name is that of a model.
ENGINES: dict[str, Callable[[Mapping[str, Any]], Engine]] = {}


def make_engine(name: str, settings: Mapping[str, Any] | None = None) -> Engine:
    """Return an engine by name.

    Parameters
    ----------
    name : str
        One of :data:`ENGINES`, or a model: its file, or the name of a shipped one.
    settings : mapping, optional
        Plain data, such as from a YAML file; see the classes of the engines.

    Raises
    ------
    ValueError
        If a setting is unknown, missing or unfit.
    FileNotFoundError
        If the name is neither an engine nor a model.
    """
    settings = settings or {}
    if name in ENGINES:
        return ENGINES[name](settings)
    return ENGINES["model"]({"model": name, **settings})
