"""Nested dictionaries with arrays, in the two formats that DeePMD-kit shares.

In YAML an array is a mapping with its type and its values. A ``.dp`` file is
HDF5: the dictionary is a JSON attribute of the file, and an array in it is the
name of a dataset. Arrays stand only in entries named ``@variables``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

from ..._extras import require

#: Nested dictionaries and lists of numbers, strings and, in @variables, arrays.
Tree: TypeAlias = Any

#: Suffixes of YAML files.
YAML = (".yaml", ".yml")

#: Suffixes of the files that hold models independent of a back end.
SUFFIXES = (*YAML, ".dp")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_tree(path: Path) -> Tree:
    """Read a ``.yaml`` or ``.yml`` file, or else HDF5.

    Raises
    ------
    ValueError
        If the file is damaged or of another kind.
    """
    return _read_yaml(path) if path.suffix in YAML else _read_hdf5(path)


def write_tree(path: Path, tree: Tree) -> None:
    """Write a ``.yaml`` or ``.yml`` file, or else HDF5, at full precision."""
    if path.suffix in YAML:
        _write_yaml(path, tree)
    else:
        _write_hdf5(path, tree)


def _map_variables(tree: Tree, change: Callable[[Any], Any]) -> Tree:
    """Return the tree with ``change`` applied to all that is in ``@variables``."""
    if isinstance(tree, list):
        return [_map_variables(value, change) for value in tree]
    if not isinstance(tree, dict):
        return tree
    return {
        key: {name: change(value) for name, value in entry.items()}
        if key == "@variables"
        else _map_variables(entry, change)
        for key, entry in tree.items()
    }


def _read_yaml(path: Path) -> Tree:
    def array(entry: Any) -> Any:
        if isinstance(entry, dict):
            return np.array(entry["value"], dtype=np.dtype(entry["dtype"]))
        return entry

    try:
        with open(path, encoding="utf-8") as stream:
            return _map_variables(yaml.load(stream, _Loader), array)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{path} is not valid YAML{where}; is it truncated?"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} holds a malformed array: {error}") from error


def _write_yaml(path: Path, tree: Tree) -> None:
    def entry(array: Any) -> Any:
        if not isinstance(array, np.ndarray):
            return array
        return {
            "@class": "np.ndarray",
            "@is_variable": True,
            "@version": 1,
            "dtype": array.dtype.name,
            "value": array.tolist(),
        }

    plain = _map_variables(tree, entry)
    with open(path, "w", encoding="utf-8") as stream:
        yaml.dump(plain, stream, _Dumper, default_flow_style=None)


def _read_hdf5(path: Path) -> Tree:
    try:
        with require("h5py", ".dp files (unlike .yaml)").File(path, "r") as file:
            return _map_variables(
                json.loads(file.attrs["json"]),
                lambda name: file[name][()] if isinstance(name, str) else name,
            )
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is damaged, or no .dp file of DeePMD-kit: {error}"
        ) from error


def _write_hdf5(path: Path, tree: Tree) -> None:
    with require("h5py", ".dp files (unlike .yaml)").File(path, "w") as file:

        def name(array: Any) -> str | None:
            if array is None:
                return None
            return str(
                file.create_dataset(f"variable_{len(file):04d}", data=array).name
            )

        file.attrs["json"] = json.dumps(_map_variables(tree, name))
