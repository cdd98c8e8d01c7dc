"""Names under which moments and labels stand in the files of others.

Names are compared without regard to case. What a file holds under several names must
agree, or be chosen by ``columns``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress
from numpy.typing import ArrayLike

from ..quantities import QUANTITIES, result_names
from ..spins import get_spins, set_spins

#: Quantities, and the names that they have in files.
NAMES: dict[str, tuple[str, ...]] = {
    "moments": (
        "initial_magmoms",
        "magmoms",
        "magmom",
        "magnetic_moments",
        "spin",
        "spins",
        "moment",
        "moments",
        "ref_magmom",
        "ref_magmoms",
        "dft_magmom",
        "dft_magmoms",
        "initial_noncollinear_magmoms",
        "noncollinear_magmoms",
    ),
    "magnetic_forces": (
        "magnetic_forces",
        "magnetic_force",
        "mforce",
        "mforces",
        "force_mag",
        "forces_mag",
        "mag_force",
        "mag_forces",
        "magforce",
        "magforces",
        "ref_magforces",
        "ref_magnetic_forces",
        "noncollinear_magnetic_forces",
    ),
    "forces": ("forces", "force", "ref_force", "ref_forces", "dft_forces"),
    "energy": ("energy", "ref_energy", "dft_energy"),
    "virial": ("virial", "virials", "ref_virial", "ref_virials", "dft_virial"),
    "stress": ("stress", "ref_stress", "dft_stress"),
}

#: Columns that look like labels and are none, and why.
NOT_LABELS = {
    "spin_forces_vert": "holds the part of the magnetic forces across the moments only"
}

#: Quantities of atoms; the others are of structures.
_PER_ATOM = ("moments", "magnetic_forces", "forces")


def check_columns(columns: Mapping[str, str] | None) -> dict[str, str]:
    """Return names of columns by quantity.

    Raises
    ------
    ValueError
        If a quantity is none of :data:`NAMES`.
    """
    given = dict(columns or {})
    if unknown := sorted(given.keys() - NAMES.keys()):
        raise ValueError(
            f"columns name no {', '.join(unknown)}; they name {', '.join(NAMES)}"
        )
    return given


def standardize(atoms: Atoms, columns: Mapping[str, str] | None = None) -> None:
    """Move moments and labels to the places where this package looks, in place.

    Moments become (N, 3) vectors in ``initial_magmoms``, labels results of a
    ``SinglePointCalculator``, and those that ASE does not know stay in ``arrays`` and
    ``info``, too.

    Parameters
    ----------
    atoms : Atoms
        As ASE reads them.
    columns : {quantity: name}, optional
        Names of the file to take quantities of :data:`NAMES` from.

    Raises
    ------
    ValueError
        If a name that is given is missing, names disagree with each other, or a value
        has another shape than its quantity.
    """
    given = check_columns(columns)
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    moments = _taken("moments", atoms, results, given.get("moments"))
    if moments is not None:
        set_spins(atoms, moments)
        if not get_spins(atoms)[:, :2].any():
            _take_along_z(atoms, given.get("magnetic_forces"))
    found = {
        quantity: _taken(quantity, atoms, results, given.get(quantity))
        for quantity in NAMES
        if quantity != "moments"
    }
    if "energy" in given:
        results.pop("free_energy", None)
    for name, value in found.items():
        if value is None:
            continue
        results[name] = value
        if name in QUANTITIES and not QUANTITIES[name].known_to_ase:
            (atoms.arrays if name in _PER_ATOM else atoms.info)[name] = value
    atoms.calc = SinglePointCalculator(atoms) if results else None
    if results:
        atoms.calc.results.update(results)


def unused_columns(atoms: Atoms) -> list[str]:
    """Return the columns per atom that are neither structure nor labels."""
    known = {"numbers", "positions", "initial_magmoms", *result_names()}
    results = {} if atoms.calc is None else atoms.calc.results
    per_atom = [n for n, x in results.items() if np.shape(x)[:1] == (len(atoms),)]
    return [name for name in (*atoms.arrays, *per_atom) if name not in known]


def settled_moments(initial: ArrayLike | None, computed: ArrayLike | None) -> Any:
    """Return the moments that results belong to, (N,) or (N, 3); None without any.

    They are the computed ones where there are such: the initial ones then are what the
    calculation started from.

    Raises
    ------
    ValueError
        If the initial ones are vectors and the computed ones numbers, whose directions
        are not known.
    """
    if computed is None or initial is None:
        return initial if computed is None else computed
    start, end = np.asarray(initial, dtype=float), np.asarray(computed, dtype=float)
    if end.ndim == 1 and start.ndim == 2 and start[:, :2].any():
        raise ValueError(
            "initial_magmoms are vectors and magmoms are numbers without directions: "
            "nothing says which are the moments; choose by columns (--columns "
            "moments=initial_magmoms)"
        )
    return computed


def _take_along_z(atoms: Atoms, given: str | None) -> None:
    """Make vectors of magnetic forces that are numbers, of moments along z."""
    for name, values in list(atoms.arrays.items()):
        if name == given or name.lower() in NAMES["magnetic_forces"]:
            if values.size == len(atoms) and values.dtype.kind in "fi":
                atoms.arrays[name] = np.outer(values, [0.0, 0.0, 1.0])


def _taken(
    quantity: str, atoms: Atoms, results: dict[str, Any], given: str | None
) -> Any:
    """Remove a quantity from arrays, info and results; return it, or None."""
    places = [atoms.arrays if quantity in _PER_ATOM else atoms.info, results]
    held: dict[str, Any] = {}
    unfit: list[str] = []
    for place in places:
        for name in list(place):
            if name == given or name.lower() in NAMES[quantity]:
                shaped = _shaped(quantity, name, place[name], len(atoms))
                if shaped is not None:
                    held.setdefault(name, shaped)
                    place.pop(name)
                else:
                    unfit.append(name)
    if quantity == "moments" and unfit and not held:
        raise ValueError(
            f"{unfit[0]} does not hold moments, one or three numbers in mu_B for every "
            "atom; name the column that does by columns (--columns moments=NAME), or "
            "remove it"
        )
    if given is not None:
        if given not in held:
            names = sorted({name for place in places for name in place} | held.keys())
            raise ValueError(
                f"there is no {given!r} to take {quantity} from; there are "
                f"{', '.join(names)}"
            )
        return held[given]
    if quantity == "moments" and "initial_magmoms" in held and "magmoms" in held:
        held["magmoms"] = settled_moments(held.pop("initial_magmoms"), held["magmoms"])
    (name, value), *others = list(held.items()) or [("", None)]
    for other, its in others:
        if np.shape(its) != np.shape(value) or not np.allclose(its, value, atol=1e-5):
            raise ValueError(
                f"{name} and {other} differ, and nothing says which are the "
                f"{quantity}; choose by columns (--columns {quantity}={other})"
            )
    return value


def _shaped(quantity: str, name: str, value: Any, n_atoms: int) -> Any:
    """Return a value in the shape of its quantity; None if it is something else."""
    if np.asarray(value).dtype.kind not in "iuf":
        return None
    array = np.asarray(value, dtype=float)
    if quantity == "energy":
        return float(array) if array.ndim == 0 else None
    if quantity == "moments":
        if array.shape == (n_atoms, 1):
            array = array[:, 0]
        return array if array.shape in ((n_atoms,), (n_atoms, 3)) else None
    if quantity in _PER_ATOM:
        return array if array.shape == (n_atoms, 3) else None
    if array.size == 9:
        matrix = array.reshape(3, 3)
    elif array.shape == (6,) and (quantity == "stress" or not array[3:].any()):
        matrix = voigt_6_to_full_3x3_stress(array)
    elif array.shape == (6,):
        raise ValueError(
            f"{name} has six numbers, whose order programs differ in; write all nine"
        )
    else:
        return None
    return full_3x3_to_voigt_6_stress(matrix) if quantity == "stress" else matrix
