"""Configurations read from files: checked, with errors that name the key."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from typing_extensions import Self


class Configuration(BaseModel):
    """Base of all configurations: immutable, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], *, where: str = "") -> Self:
        """Build from nested plain data, such as a YAML file.

        Parameters
        ----------
        values : mapping
        where : str
            Prefix of the keys in messages.

        Raises
        ------
        ValueError
            Names every unknown, missing or unfit key and, where a known key is
            spelt alike, that one.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_explain(cls, problem, where) for problem in error.errors()]
            raise ValueError("; ".join(lines)) from None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a YAML file, or a JSON file by its suffix.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is neither; names every key that is unknown, missing or unfit.
        """
        with problems_of(path):
            return cls.from_dict(read_mapping(Path(path)))

    @model_validator(mode="before")
    @classmethod
    def _refuse_booleans(cls, values: Any) -> Any:
        """Refuse true and false for numbers, of which pydantic makes 1 and 0."""
        if isinstance(values, Mapping):
            for name, value in values.items():
                field = cls.model_fields.get(name)
                parts = value if isinstance(value, list) else [value]
                given = [part for part in parts if isinstance(part, bool)]
                if given and field and not re.search("bool|Any", str(field.annotation)):
                    raise ValueError(f"{name} must not be {str(given[0]).lower()}")
        return values

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys that may be given, for messages."""
        return list(cls.model_fields)

    def to_dict(self) -> dict[str, Any]:
        """Return nested plain data, the inverse of :meth:`from_dict`."""
        return self.model_dump()

    def meaning(self) -> dict[str, Any]:
        """Return nested plain data that are equal where configurations mean the same.

        What can be written in several ways, as one number or one per element, is
        brought to one of them by subclasses.
        """
        return {
            name: value.meaning() if isinstance(value, Configuration) else value
            for name, value in self
        }


@contextmanager
def problems_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give errors of a configuration the name of its file."""
    try:
        yield
    except ValueError as error:
        if os.fspath(path) in str(error):
            raise
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Read nested plain data from a YAML file, or a JSON file by its suffix.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is neither, or holds no keys.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"{path} {what}; expected a configuration file (YAML)")
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not a YAML or JSON file: {error}") from None
    if not isinstance(values, Mapping):
        raise ValueError(f"{path} does not hold a configuration")
    return values


def numbers(given: Any) -> list[Any]:
    """Return numbers of a list in which texts are ranges, ``"first:last:count"``.

    What is neither stays as it is, for a check that names its key.

    Raises
    ------
    ValueError
        If a text is no number and no range.
    """
    found: list[Any] = []
    for entry in given if isinstance(given, list | tuple) else [given]:
        if not isinstance(entry, str):
            found.append(entry)
            continue
        parts = entry.split(":")
        try:
            if len(parts) == 3:
                first, last, count = float(parts[0]), float(parts[1]), int(parts[2])
                found += np.linspace(first, last, count).tolist()
            else:
                found.append(float(entry))
        except ValueError:
            raise ValueError(
                "expected numbers or ranges first:last:count, such as 900:1100:9, got "
                f"{entry!r}"
            ) from None
    return found


def differences(
    first: Mapping[str, Any], second: Mapping[str, Any], where: str = ""
) -> list[str]:
    """Return the keys, below ``where``, in which nested plain data differ."""
    found = []
    for key in dict.fromkeys([*first, *second]):
        a, b = first.get(key), second.get(key)
        name = f"{where}.{key}" if where else key
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, name)
        elif a != b:
            found.append(name)
    return found


def _explain(cls: type[BaseModel], problem: Any, where: str) -> str:
    path = [str(part) for part in problem["loc"]]
    name = ".".join([where, *path] if where else path)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(cls, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        return f"unknown key {name!r}; {hint}"
    if problem["type"] == "missing":
        return f"{name!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{name}: {message}" if name else message


def _known_keys(cls: type[BaseModel], path: list[str]) -> list[str]:
    """Return the keys of the section at ``path``."""
    section: Any = cls
    for part in path:
        field = section.model_fields.get(part)
        if field is None:
            return []
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        section = next((c for c in candidates if hasattr(c, "known_keys")), None)
        if section is None:
            return []
    keys: list[str] = section.known_keys()
    return keys
