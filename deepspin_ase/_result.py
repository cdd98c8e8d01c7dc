"""Results: frozen dataclasses that are saved, loaded, drawn and printed."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from ase import Atoms
from ase.constraints import dict2constraint
from typing_extensions import Self

from ._files import atomic_write, reading
from ._plain_data import check_archive
from .constraints import FixSpins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Kind = TypeVar("Kind", bound=type)
Function = TypeVar("Function", bound=Callable[..., Any])


class Result:
    """Base of all results: frozen dataclasses of arrays, numbers and other results.

    >>> order = structure_factor(atoms)
    >>> print(order)
    >>> order.save("order.npz")
    >>> axes = Result.load("order.npz").plot()
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        storable(cls)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to an ``.npz`` file, complete or not at all.

        Arrays have the names of their attributes, so that ``numpy.load`` reads them
        without this package. Structures lose their calculators.
        """
        arrays: dict[str, np.ndarray] = {}
        tree = json.dumps(_encode(self, "", arrays))
        with atomic_write(path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays, **{_TREE: np.array(tree)})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read the result that :meth:`save` wrote; ``Result.load`` reads any.

        Raises
        ------
        FileNotFoundError
        ValueError
            If the file holds no result, or one of another class.
        """
        check_archive(Path(path), expected="a result")
        with reading(path, "a result"):
            # A stream that is closed here: numpy leaves damaged archives open.
            with open(path, "rb") as stream, np.load(stream) as stored:
                arrays = dict(stored)
            found = _decode(json.loads(str(arrays.pop(_TREE))), arrays)
        if not isinstance(found, cls):
            name = type(found).__name__
            raise ValueError(
                f"{os.fspath(path)} holds {name}, not {cls.__name__}: read it with "
                f"{name}.load or Result.load"
            )
        return found

    def plot(self, ax: Axes | None = None, **options: Any) -> Any:
        """Draw the result; see the ``plot_...`` function of its class for options.

        Parameters
        ----------
        ax : Axes, optional
            Drawn into; new ones in a figure by default.

        Returns
        -------
        Axes

        Raises
        ------
        TypeError
            If there is no figure for this class.
        """
        function = _PLOTS.get(type(self))
        if function is None:
            drawn = ", ".join(sorted(kind.__name__ for kind in _PLOTS))
            raise TypeError(
                f"there is no figure of {type(self).__name__}; there are of {drawn}"
            )
        return function(self, ax, **options)

    def __str__(self) -> str:
        """Return names and values of the attributes, large arrays by their range."""
        rows = [type(self).__name__]
        for name, value in _fields(self).items():
            rows.append(f"  {name:<24} {_described(value)}")
        return "\n".join(rows)


def storable(kind: Kind) -> Kind:
    """Register a dataclass or NamedTuple of plain data, so that results may hold it."""
    known = _KINDS.setdefault(kind.__name__, kind)
    if known.__qualname__ != kind.__qualname__ or known.__module__ != kind.__module__:
        raise TypeError(f"there are two classes of results named {kind.__name__}")
    _KINDS[kind.__name__] = kind  # a dataclass with slots is made twice
    return kind


def convertible(
    kind: type[Any],
    to_plain: Callable[[Any], Mapping[str, Any]],
    from_plain: Callable[[dict[str, Any]], Any],
) -> None:
    """Register how objects of a foreign class become plain data and are made again."""
    _FOREIGN[kind.__name__] = _Foreign(kind, to_plain, from_plain)


def plots(kind: type[Result]) -> Callable[[Function], Function]:
    """Decorate the function ``plot_x(result, ax=None, ...)`` behind ``kind.plot``.

    Its docstring gets the sentence on ``ax`` that all of them share.
    """

    def register(function: Function) -> Function:
        _PLOTS[kind] = function
        summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
        shared = "In ``ax``, by default in new axes of a figure, which are returned."
        function.__doc__ = "\n\n".join(filter(None, (summary, shared, rest)))
        return function

    return register


class _Foreign(NamedTuple):
    kind: type[Any]
    to_plain: Callable[[Any], Mapping[str, Any]]
    from_plain: Callable[[dict[str, Any]], Any]


#: Name of the array that holds everything but the arrays, as JSON.
_TREE = "__result__"

#: Elements up to which arrays are printed.
_PRINTED = 6

#: Packages whose functions return results.
_PACKAGES = (
    "analysis",
    "data",
    "labels",
    "optimize",
    "potentials",
    "symmetry",
    "training",
)

_KINDS: dict[str, Any] = {}
_FOREIGN: dict[str, _Foreign] = {}
_PLOTS: dict[type[Result], Callable[..., Any]] = {}


def _fields(value: Any) -> dict[str, Any]:
    """Return the attributes of a dataclass or NamedTuple."""
    if isinstance(value, tuple):
        return value._asdict()  # type: ignore[attr-defined]
    return {
        field.name: getattr(value, field.name) for field in dataclasses.fields(value)
    }


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """Return ``value`` as data for JSON, its arrays moved to ``arrays``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, np.ndarray | np.generic | complex):
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise TypeError(f"{name} is an array of objects, which are not plain data")
        arrays[name] = array
        return {"array" if isinstance(value, np.ndarray) else "number": name}

    def inside(parts: Mapping[Any, Any]) -> list[list[Any]]:
        prefix = f"{name}." if name else ""
        return [[k, _encode(v, f"{prefix}{k}", arrays)] for k, v in parts.items()]

    kind = type(value)
    if _KINDS.get(kind.__name__) is kind:
        return {"kind": kind.__name__, "parts": inside(_fields(value))}
    for known, foreign in _FOREIGN.items():
        if isinstance(value, foreign.kind):
            return {"foreign": known, "parts": inside(foreign.to_plain(value))}
    if kind in (list, tuple):
        return {kind.__name__: inside(dict(enumerate(value)))}
    if isinstance(value, Mapping) and all(isinstance(k, str | int) for k in value):
        return {"dict": inside(value)}
    raise TypeError(f"{name}, of class {kind.__name__}, is not plain data")


def _decode(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """Return the object that :func:`_encode` wrote."""
    if not isinstance(tree, dict):
        return tree
    if "array" in tree:
        return arrays[tree["array"]]
    if "number" in tree:
        return arrays[tree["number"]][()]
    parts = tree["parts"] if "parts" in tree else next(iter(tree.values()))
    found = {key: _decode(part, arrays) for key, part in parts}
    if "kind" in tree:
        return _kind(tree["kind"])(**found)
    if "foreign" in tree:
        _import_rooms(tree["foreign"] not in _FOREIGN)
        return _FOREIGN[tree["foreign"]].from_plain(found)
    if "dict" in tree:
        return found
    return list(found.values()) if "list" in tree else tuple(found.values())


def _kind(name: str) -> Any:
    _import_rooms(name not in _KINDS)
    if name not in _KINDS:
        raise ValueError(f"unknown class of results {name!r}: of another version?")
    return _KINDS[name]


def _import_rooms(needed: bool) -> None:
    """Import the packages that have results, whose classes then are known."""
    for name in _PACKAGES if needed else ():
        package = importlib.import_module(f"{__package__}.{name}")
        for room in pkgutil.iter_modules(package.__path__):
            # What needs an extra that is missing holds no results.
            with suppress(ModuleNotFoundError):
                importlib.import_module(f"{package.__name__}.{room.name}")


def _described(value: Any) -> str:
    """Return a value for :meth:`Result.__str__`."""
    if isinstance(value, np.ndarray) and value.size > _PRINTED:
        text = f"{value.shape}"
        if value.dtype.kind in "iuf" and np.isfinite(value).any():
            known = value[np.isfinite(value)]
            text += f" from {known.min():.6g} to {known.max():.6g}"
        return text
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        shown = [_described(part) for part in value[:_PRINTED]]
        return ", ".join(shown) + ", ..." * (len(value) > _PRINTED)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_described(v)}" for k, v in value.items())
    if isinstance(value, Atoms):
        return value.get_chemical_formula()
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return str(value)


def _plain_atoms(atoms: Atoms) -> dict[str, Any]:
    """Return a structure as plain data.

    Entries of ``info`` that are no plain data are left out, as ASE's file formats do.
    """
    return {
        "arrays": atoms.arrays,
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "info": {k: v for k, v in atoms.info.items() if _is_plain(v)},
        "constraints": [constraint.todict() for constraint in atoms.constraints],
    }


def _is_plain(value: Any) -> bool:
    try:
        _encode(value, "", {})
    except TypeError:
        return False
    return True


def _atoms(parts: dict[str, Any]) -> Atoms:
    arrays = parts["arrays"]
    atoms = Atoms(
        numbers=arrays.pop("numbers"),
        positions=arrays.pop("positions"),
        cell=parts["cell"],
        pbc=parts["pbc"],
        info=parts["info"],
    )
    for name, values in arrays.items():
        atoms.set_array(name, values)
    atoms.set_constraint([_constraint(data) for data in parts["constraints"]])
    return atoms


def _constraint(data: dict[str, Any]) -> Any:
    if data["name"] == FixSpins.__name__:
        return FixSpins(**data["kwargs"])
    return dict2constraint(data)


convertible(Atoms, _plain_atoms, _atoms)
