"""What the models of other programs have in common."""

from __future__ import annotations

import copy
import hashlib
import importlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import torch
from ase.data import atomic_numbers
from torch import Tensor
from typing_extensions import Self

from ...system import System
from .._external import External


class Adapter(External):
    """A model of another program, from its file.

    A subclass implements :meth:`load` and :meth:`ask`. Copies share what was loaded;
    pickled ones open the file again. Model files cannot hold it.

    Parameters
    ----------
    path : path
    trust : bool
        Whether the file may run code when it is opened.

    Raises
    ------
    ImportError
        If the program is not installed, or of a release that does not go with this
        package; says which one does.
    ValueError
        If the program cannot read the file, it is of another kind, or it is a pickle
        and not trusted.
    """

    #: Of the names of such models, ``prefix:path``.
    prefix: ClassVar[str]

    #: Package of the program, the module that is imported, and the release that the
    #: adapter was tested with.
    package: ClassVar[str]
    module: ClassVar[str]
    tested: ClassVar[str]

    #: What pip takes, where no registry has the package or the release.
    source: ClassVar[str] = ""

    #: Whether files are pickles.
    runs_code: ClassVar[bool] = False

    #: What was loaded.
    loaded: Any

    def __init__(self, path: str | os.PathLike[str], *, trust: bool = False) -> None:
        super().__init__()
        self.path = Path(path)
        self.trust = trust
        self._open()

    def _open(self) -> None:
        if self.runs_code and not self.trust:
            raise ValueError(
                f"{self.path} is a pickle, which can run code when it is opened: if "
                "you trust where it comes from, name it "
                f"{self.prefix}+trust:{self.path}"
            )
        try:
            self.imported(self.module)
        except ImportError as error:
            raise ImportError(
                f"{self.prefix}: models need {self.package}: pip install "
                f"'{self.source or self.package}'"
            ) from error
        self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
        try:
            self.loaded = self.load()
        except Exception as error:
            if isinstance(error, ValueError | OSError) and str(self.path) in str(error):
                raise
            missing = isinstance(error, AttributeError | TypeError)
            other = missing and self._release() != self.tested
            if other or isinstance(error, ImportError):
                raise ImportError(
                    f"{self.package} {self._release()} does not go with this release, "
                    f"tested with {self.tested} ({_first_line(error)}): pip install "
                    f"'{self.source or f'{self.package}=={self.tested}'}'"
                ) from error
            raise ValueError(
                f"{self.package} cannot read {self.path}: {_first_line(error)}"
            ) from error

    def load(self) -> Any:
        """Return the opened model; set what the potential says of itself."""
        raise NotImplementedError

    def wrong_kind(self, what: str) -> ValueError:
        """Return the error of a file that is no model with vector moments."""
        return ValueError(
            f"{self.path} is {what}: {self.prefix}: takes models whose input are "
            "vector moments and that give magnetic forces"
        )

    def outside(self) -> str:
        """Return what a model file cannot hold: the model of the other program."""
        return f"the model of {self.package} in {self.path}"

    def extra_repr(self) -> str:
        """Show the file and its checksum."""
        return f"path={str(self.path)!r}, sha256={self.sha256}"

    def imported(self, name: str) -> Any:
        """Return a module of the program."""
        return importlib.import_module(name)

    def _release(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "of unknown version"

    def __getstate__(self) -> dict[str, Any]:
        """Return the potential without what was loaded."""
        own = {"path": self.path.resolve(), "loaded": None}
        return super().__getstate__() | own

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore a potential whose file is still there."""
        super().__setstate__(state)
        self._open()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares what was loaded."""
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        own = {k: v for k, v in super().__getstate__().items() if k != "loaded"}
        vars(copied).update(copy.deepcopy(own, memo), loaded=self.loaded)
        return copied


def numbers_of(adapter: Adapter, symbols: list[str]) -> list[int]:
    """Return the atomic numbers of the types of a model.

    Raises
    ------
    ValueError
        If a type is no element.
    """
    unknown = [symbol for symbol in symbols if not atomic_numbers.get(symbol)]
    if unknown:
        raise ValueError(
            f"{adapter.path} has the types {', '.join(unknown)}, which are no elements"
        )
    return [atomic_numbers[symbol] for symbol in symbols]


def full_virial(symmetric: Tensor, system: System, magnetic_forces: Tensor) -> Tensor:
    """Return the virial at fixed moments from its symmetric part, (B, 3, 3), eV.

    Energies that stay as they are where lattice and moments turn together determine
    the antisymmetric part by the torques, (W_ab - W_ba)/2 = 1/2 sum_c eps_abc T_c with
    T = sum_i m_i x (-dE/dm_i).
    """
    torques = system.sum(torch.linalg.cross(system.spins, magnetic_forces))
    levi_civita = torch.zeros(3, 3, 3, dtype=symmetric.dtype)
    for a, b, c in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        levi_civita[a, b, c], levi_civita[b, a, c] = 1.0, -1.0
    mean = 0.5 * (symmetric + symmetric.transpose(1, 2))
    return mean + 0.5 * torch.einsum("abc,nc->nab", levi_civita, torques)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
