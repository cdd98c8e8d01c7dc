"""The validation book of a model: properties that are computed once and kept."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed

from ..._digest import digest
from ..._files import atomic_write, locked, make_folder
from ...calculators import DeepSpinCalculator
from ...potentials import Potential, load_potential
from ...potentials._files import plain_data
from ...potentials._library import resolve
from ...potentials.adapters import split
from ._materials import MATERIALS, Material, material_for, material_of
from ._property import PROPERTIES, Findings, Subject
from ._references import Reference, references_of

#: Modules that register properties, in the order of a book.
for _module in ("_lattice", "_magnetism", "_thermal", "_ferroic"):
    import_module(f"{__package__}.{_module}")

#: What a property of a bad model ends with; it is written into the book.
_FAILURES = (CalculationFailed, ValueError, FloatingPointError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Entry:
    """A property of a model, as it is kept.

    Attributes
    ----------
    name : str
    identity : str
        Digest of model, material and settings.
    needs : list of str
        Properties that it was made of.
    findings : Findings or None
        None where it failed.
    failure : str
        Why.
    warnings : list of str
        Given while it was computed.
    seconds : float
        Of the processor that it took, without the properties that it needed.
    """

    name: str
    identity: str
    needs: list[str]
    findings: Findings | None
    failure: str
    warnings: list[str]
    seconds: float

    def to_plain(self) -> dict[str, Any]:
        """Return data for JSON."""
        found = None if self.findings is None else self.findings.to_plain()
        return {**vars(self), "findings": found}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Entry:
        """Return what :meth:`to_plain` made plain."""
        found = data["findings"]
        findings = None if found is None else Findings.from_plain(found)
        return cls(**{**data, "findings": findings})


class Book:
    """Properties of a model, computed where they are missing, and kept in a folder.

    Every property is a file ``results/NAME.json``: a book that was stopped goes on
    with the next, and one of another model, material or settings is computed anew.

    Parameters
    ----------
    model : Potential, path or str
        As for :class:`~deepspin_ase.DeepSpinCalculator`.
    folder : path
        Made if missing.
    material : str, optional
        Name of one of :data:`MATERIALS`; by default that with the model's elements.
    structure : Atoms, optional
        A crystal of one's own, its magnetic cell with moments, instead.
    settings : mapping, optional
        Settings by property: ``{"transition": {"steps": 20000}}``.

    Attributes
    ----------
    name : str
        Of the model.
    material : Material
    references : dict
        Known values by property and key.

    Raises
    ------
    ValueError
        If there is no such material, property or setting, or the model does not know
        the elements or moments.
    """

    def __init__(
        self,
        model: Potential | str | os.PathLike[str],
        folder: str | os.PathLike[str],
        *,
        material: str | None = None,
        structure: Atoms | None = None,
        settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if isinstance(model, Potential):
            self.potential, self.name = model, type(model).__name__
        else:
            self.potential, self.name = load_potential(model), Path(model).stem
        self._file = _file_of(model)
        self.material = _material(self.potential, material, structure)
        self.material.check(self.potential)
        self.folder = Path(folder)
        given = dict(settings or {})
        _known(given)
        self.settings = {
            name: entry.settings(given.get(name, {}))
            for name, entry in PROPERTIES.items()
        }
        self.references: dict[str, dict[str, list[Reference]]] = {}
        if structure is None:
            self.references = references_of(self.material.name)
        self._entries: dict[str, Entry] = {}
        #: Seconds that properties took that the present one needs.
        self._inside = 0.0

    def missing(self, name: str) -> str | None:
        """Return why the material has no such property; None where it has."""
        return PROPERTIES[name].missing(self.material)

    def run(
        self,
        only: Iterable[str] | None = None,
        *,
        tell: Callable[[Entry], None] = lambda entry: None,
    ) -> None:
        """Compute properties, and those that they need.

        Parameters
        ----------
        only : iterable of str, optional
            Names; all that the material has by default.
        tell : callable
            Is given each entry when it is there.

        Raises
        ------
        ValueError
            If there is no such property, or the material has none.
        OSError
            If the folder cannot be written, or another process writes there.
        """
        names = [*PROPERTIES] if only is None else list(only)
        _known(names)
        for name in names:
            reason = self.missing(name)
            if reason is not None and only is not None:
                raise ValueError(f"{self.material.name} has no {name}: {reason}")
        make_folder(self.folder / "results")
        with locked(self.folder / "results"):
            for name in names:
                if self.missing(name) is None:
                    tell(self.entry(name))

    def entry(self, name: str) -> Entry:
        """Return a property, from its file or computed now."""
        if name not in self._entries:
            self._entries[name] = self.stored(name) or self._computed(name)
        return self._entries[name]

    def stored(self, name: str) -> Entry | None:
        """Return a property that was computed before with this model and settings."""
        path = self._path(name)
        if not path.exists():
            return None
        try:
            entry = Entry.from_plain(json.loads(path.read_text(encoding="utf-8")))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read as a property of a validation ({error}): "
                "remove it, and it is computed anew"
            ) from None
        same = entry.identity == self._identity(name)
        return entry if same and all(map(self.stored, entry.needs)) else None

    def findings(self, name: str) -> Findings:
        """Return what a property is.

        Raises
        ------
        ValueError
            If it failed.
        """
        entry = self.entry(name)
        if entry.findings is None:
            raise ValueError(f"it needs {name}, which failed")
        return entry.findings

    def _computed(self, name: str) -> Entry:
        needs: list[str] = []

        def findings(needed: str) -> Findings:
            needs.append(needed)
            return self.findings(needed)

        # A calculator of its own: warnings, and the last bits, do not depend on what
        # was computed before.
        calculator = DeepSpinCalculator(self.potential)
        identity = self._identity(name)
        scratch = self.folder / "results" / f"{name}-{identity[:16]}"
        subject = Subject(self.material, calculator, findings, scratch)
        outside, self._inside = self._inside, 0.0
        began = time.process_time()
        found, failure = None, ""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = PROPERTIES[name].measure(subject, **self.settings[name])
            except _FAILURES as error:
                failure = " ".join(str(error).split())
        seconds = time.process_time() - began
        entry = Entry(
            name,
            identity,
            [*dict.fromkeys(needs)],
            found,
            failure,
            _distinct([str(w.message) for w in caught]),
            seconds - self._inside,
        )
        self._inside = outside + seconds
        text = json.dumps(entry.to_plain(), ensure_ascii=False)
        with atomic_write(self._path(name)) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(scratch, ignore_errors=True)
        # What is written is what is used: a book that goes on has the same numbers.
        return Entry.from_plain(json.loads(text))

    def _path(self, name: str) -> Path:
        return self.folder / "results" / f"{name}.json"

    def _identity(self, name: str) -> str:
        return digest([self._model, self.settings[name]])

    @cached_property
    def _model(self) -> str:
        """Digest of material and model: of its file, that options may be added."""
        if self._file is None:
            content: Any = plain_data(self.potential)
        else:
            content = hashlib.sha256(self._file.read_bytes()).hexdigest()
        return digest([content, self.material.build()])


def _distinct(messages: list[str]) -> list[str]:
    """Return the first of messages that differ in their numbers only."""
    return [*{re.sub(r"[\d.]+", "", m): m for m in messages[::-1]}.values()][::-1]


def _file_of(model: Potential | str | os.PathLike[str]) -> Path | None:
    """Return the file of a model; None for potentials, folders, other programs'."""
    if isinstance(model, Potential) or split(model) is not None:
        return None
    path = resolve(model)
    return path if path.is_file() else None


def _known(names: Iterable[str]) -> None:
    """Raise ValueError for a name that is no property."""
    for name in names:
        if name not in PROPERTIES:
            near = difflib.get_close_matches(name, PROPERTIES, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "there are"
            listed = "" if near else f" {', '.join(PROPERTIES)}"
            raise ValueError(f"there is no property {name!r}; {hint}{listed}")


def _material(
    potential: Potential, name: str | None, structure: Atoms | None
) -> Material:
    if structure is not None:
        if name is not None:
            raise ValueError("give a material or a structure, not both")
        return material_of(structure)
    if name is None:
        return material_for(potential)
    if name not in MATERIALS:
        raise ValueError(
            f"there is no material {name!r}; there are {', '.join(MATERIALS)}, and any "
            "other one as a structure"
        )
    return MATERIALS[name]
