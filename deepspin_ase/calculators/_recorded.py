"""Results of model calls on the disk, from which a deterministic run resumes.

A minimization depends on nothing but its start and what the model says. Where every
answer is kept, the same run repeats its steps without model calls up to where it was
stopped, to the same bits, and goes on from there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from .._digest import digest
from .._files import append_bytes
from ..potentials import Potential
from ..potentials._files import identifying_data
from ._deepspin import DeepSpinCalculator
from ._magnetic import MagneticCalculator

_MAGIC = b"deepspin-ase results 1\n"

#: Before each entry: bytes of its content, and their checksum.
_HEAD = struct.Struct("<II")

#: Bytes of the digest of structures.
_KEY = hashlib.sha256().digest_size

Results = dict[str, Any]


class RecordedResults:
    """Results of model calls, appended to a file one by one.

    The file is made with the first of them, so that a run that is refused leaves none.
    What a kill left incomplete at the end of the file is cut off.

    Parameters
    ----------
    path : path
    run : mapping
        Plain data that identify what the results belong to, model and start among
        them; they are compared with those in the file.
    start : sequence of Atoms
        Structures that the run begins with, kept in a new file to the last bit, for
        those that do not get them from elsewhere.

    Attributes
    ----------
    run : dict
    start : list of dict
        Positions, cell and moments.

    Raises
    ------
    ValueError
        If the file belongs to something else, or is damaged before its end.
    OSError
        If it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        run: Mapping[str, Any] | None = None,
        start: Sequence[Atoms] = (),
    ) -> None:
        self.path = Path(path)
        self._calls: dict[bytes, bytes] = {}
        self._head = b""
        if self.path.exists() and self.path.stat().st_size:
            self._read()
        else:
            self.run = json.loads(json.dumps(dict(run or {})))
            self.start = [_geometry(atoms) for atoms in start]
            head = json.dumps(self.run).encode(), _packed(self.start)
            self._head = _MAGIC + b"".join(_entry(part) for part in head)
        if run is not None:
            self._check_run(json.loads(json.dumps(dict(run))))

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self._calls)

    def get(self, images: Sequence[Atoms]) -> list[Results] | None:
        """Return the results of a call, to the last bit the same, if it is known."""
        content = self._calls.get(_key(images))
        if content is None:
            return None
        return _unpacked(content)

    def add(self, images: Sequence[Atoms], results: Sequence[Results]) -> None:
        """Append the results of a call.

        Raises
        ------
        OSError
            If they cannot be written; those before stay.
        """
        key, content = _key(images), _packed(results)
        entry = self._head + _entry(key + content)
        append_bytes(self.path, entry, overwrite=bool(self._head))
        self._head = b""
        self._calls[key] = content

    def _read(self) -> None:
        data = self.path.read_bytes()
        if not data.startswith(_MAGIC):
            raise self._damaged("it begins with something else")
        contents, whole = [], len(_MAGIC)
        while whole + _HEAD.size <= len(data):
            size, checksum = _HEAD.unpack_from(data, whole)
            start = whole + _HEAD.size
            content = data[start : start + size]
            if len(content) < size:
                break
            if zlib.crc32(content) != checksum:
                raise self._damaged(f"the checksum at byte {whole} is wrong")
            contents.append(content)
            whole = start + size
        if len(contents) < 2:
            raise self._damaged("it ends in its head")
        self.run, self.start = json.loads(contents[0]), _unpacked(contents[1])
        self._calls = {c[:_KEY]: c[_KEY:] for c in contents[2:]}
        if whole < len(data):
            os.truncate(self.path, whole)

    def _check_run(self, now: dict[str, Any]) -> None:
        differ = [k for k in self.run | now if self.run.get(k) != now.get(k)]
        if differ:
            raise ValueError(
                f"{self.path} belongs to another run: {', '.join(differ)} differ. "
                "Continue with what it began with, remove it, or choose another place"
            )

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"{self.path} is damaged or no file of results ({reason}): remove it, and "
            "begin anew"
        )


def _entry(content: bytes) -> bytes:
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _geometry(atoms: Atoms) -> Results:
    """Return all that a model depends on."""
    names = ("numbers", "positions", "initial_magmoms")
    arrays = {k: atoms.arrays[k] for k in names if k in atoms.arrays}
    return arrays | {"cell": atoms.cell.array, "pbc": atoms.pbc}


def _key(images: Sequence[Atoms]) -> bytes:
    return bytes.fromhex(digest([_geometry(atoms) for atoms in images]))


def _packed(rows: Sequence[Results]) -> bytes:
    """Return numbers and arrays of several structures as the bytes of an npz file."""
    stream = io.BytesIO()
    names = {"count": len(rows)} | {
        f"{k}.{name}": value
        for k, row in enumerate(rows)
        for name, value in row.items()
    }
    np.savez(stream, **names)
    return stream.getvalue()


def _unpacked(content: bytes) -> list[Results]:
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        rows: list[Results] = [{} for _ in range(int(stored["count"]))]
        for name, value in stored.items():
            k, _, quantity = name.partition(".")
            if quantity:
                rows[int(k)][quantity] = value if value.ndim else value.item()
    return rows


class RecordedCalculator(MagneticCalculator):
    """A calculator that is asked only for what a file does not hold yet.

    It gives what that calculator gives, magnetic forces where that does.

    Parameters
    ----------
    calculator : Calculator
    record : RecordedResults
    """

    def __init__(self, calculator: Calculator, record: RecordedResults) -> None:
        super().__init__()
        self.calculator = calculator
        self.record = record
        self.implemented_properties = list(calculator.implemented_properties)
        self.parameters = calculator.parameters

    @property
    def potential(self) -> Potential:
        """The Potential of the calculator, if it has one."""
        return cast(MagneticCalculator, self.calculator).potential

    def set_atoms(self, atoms: Atoms) -> None:
        """Leave it to the calculator to refuse atoms."""
        if isinstance(self.calculator, MagneticCalculator):
            self.calculator.set_atoms(atoms)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Take the results from the file, or compute and append them."""
        super().calculate(atoms, properties, system_changes)
        known = self.record.get([self.atoms])
        if known is not None and set(properties) <= known[0].keys():
            self.results = known[0]
            return
        if isinstance(self.calculator, DeepSpinCalculator):
            self.calculator.clear_pairs()
        for name in properties:
            self.calculator.get_property(name, self.atoms)
        self.results = dict(self.calculator.results)
        self.record.add([self.atoms], [self.results])


def identity(calculator: Calculator) -> str:
    """Return a digest of a model: its weights, or kind and parameters."""
    known: Any = calculator.parameters
    if isinstance(calculator, DeepSpinCalculator):
        known = [known, identifying_data(calculator.potential)]
    return digest([type(calculator).__name__, known])
