"""Structures with spins, magnetic forces and torques in extended XYZ files.

The format of ASE, so that every program that reads extxyz reads these files. Results
that ASE alone would drop on writing are kept: vector moments are in the column
``initial_magmoms`` and magnetic forces (-dE/dm, eV/mu_B), torques (eV) and
committee deviations in columns of their names. Numbers per atom are written
with eight decimals.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, overload

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_properties
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import string2index

from .._files import atomic_write, reading
from .._validate import path_first
from ..quantities import results_unknown_to_ase
from ..spins import get_spins, set_spins
from ._columns import standardize
from ._extxyz_frames import read_frames


def write_extxyz(path: str | os.PathLike[str], images: Atoms | Sequence[Atoms]) -> None:
    """Write one or several structures with their results to an extxyz file.

    The file is written atomically. Results are those that an attached
    calculator already has for the present positions and moments; nothing is
    computed here. Without a calculator, arrays named ``magnetic_forces`` and
    ``torques`` are written as they are.

    Raises
    ------
    ValueError
        If there is nothing to write, or moments are malformed. Structures
        without moments are written without.
    TypeError
        If it is not given a path and structures, in this order.
    """
    one = isinstance(images, Atoms | str | os.PathLike)
    frames: list[Any] = [images] if one else list(images)
    if not frames:
        raise ValueError("there are no structures to write")
    for frame in frames:
        path_first("write_extxyz", path, frame, Atoms)
    text = extxyz_text(frames)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def extxyz_text(images: Sequence[Atoms]) -> str:
    """Return the text that :func:`write_extxyz` writes."""
    text = StringIO()
    frames = [_with_results_as_arrays(atoms) for atoms in images]
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


@overload
def read_extxyz(
    path: str | os.PathLike[str],
    index: int,
    *,
    columns: Mapping[str, str] | None = None,
) -> Atoms: ...


@overload
def read_extxyz(
    path: str | os.PathLike[str],
    index: str | slice = ":",
    *,
    columns: Mapping[str, str] | None = None,
) -> list[Atoms]: ...


def read_extxyz(
    path: str | os.PathLike[str],
    index: int | str | slice = ":",
    *,
    columns: Mapping[str, str] | None = None,
) -> Atoms | list[Atoms]:
    """Read structures with their moments and results from an extxyz file.

    Parameters
    ----------
    path : path
    index : int, str or slice
        Frames, as in :func:`ase.io.read`; all by default.
    columns : {quantity: name}, optional
        Names that the file has for ``moments``, ``magnetic_forces``, ``forces``,
        ``energy``, ``virial`` or ``stress``, such as ``{"moments": "dft_spin"}``. Those
        that other programs use, such as ``spin`` and ``mforce``, are known.

    Returns
    -------
    Atoms or list of Atoms
        Moments are (N, 3) vectors. Energy, forces, stress, magnetic forces,
        torques and all other results are those of an attached
        SinglePointCalculator; the results per atom that ASE does not know are
        in ``atoms.arrays`` as well.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated or not an extxyz file, or holds no structure, if a
        given column is missing, or two columns hold different moments or labels.

    Notes
    -----
    Moments are the computed ``magmoms`` where a file has both these and
    ``initial_magmoms``, which a calculation starts from.
    """
    chosen: Any = string2index(index) if isinstance(index, str) else index
    with reading(path, "an extxyz file"):
        frames = read_frames(Path(path), chosen)
    if not frames:
        raise ValueError(f"{os.fspath(path)} holds no structure at index {index!r}")
    for k, atoms in enumerate(frames):
        try:
            standardize(atoms, columns)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}, frame {k}: {error}") from error
        _take_results(atoms)
    return frames if isinstance(chosen, slice) else frames[0]


def current_results(atoms: Atoms) -> dict[str, Any]:
    """Return the results that the calculator holds for the present atoms."""
    calculator = atoms.calc
    if calculator is None or calculator.check_state(atoms):
        return {}
    return calculator.results


def _extra_names() -> tuple[list[str], list[str]]:
    """Return the results that ASE would drop, kept in arrays and in info."""
    return results_unknown_to_ase(per_atom=True), results_unknown_to_ase(per_atom=False)


def _with_results_as_arrays(atoms: Atoms) -> Atoms:
    """Return a copy with the results that ASE would drop in arrays and info."""
    frame = atoms.copy()
    if frame.has("initial_magmoms"):
        set_spins(frame, get_spins(frame))
    if atoms.calc is None:
        return frame
    results = current_results(atoms)
    per_atom, per_frame = _extra_names()
    # Results replace what was read from a file once, or remove it as outdated.
    for name in (*per_atom, *per_frame, *results):
        frame.arrays.pop(name, None)
        frame.info.pop(name, None)
    frame.arrays.update({k: np.array(results[k]) for k in per_atom if k in results})
    frame.info.update({k: results[k] for k in per_frame if k in results})
    known = {k: v for k, v in results.items() if k in all_properties}
    frame.calc = SinglePointCalculator(frame, **known)
    return frame


def _take_results(atoms: Atoms) -> None:
    """Copy results that ASE does not know from arrays and info to the calculator."""
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    per_atom, per_frame = _extra_names()
    results |= {k: atoms.arrays[k].copy() for k in per_atom if k in atoms.arrays}
    results |= {k: atoms.info.pop(k) for k in per_frame if k in atoms.info}
    if results:
        atoms.calc = SinglePointCalculator(atoms)
        atoms.calc.results.update(results)
