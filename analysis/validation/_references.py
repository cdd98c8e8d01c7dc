"""Measured and computed values that models are compared with."""

from __future__ import annotations

from importlib import resources
from typing import Literal

import yaml

from ..._config import Configuration


class Reference(Configuration):
    """A value from elsewhere.

    Attributes
    ----------
    kind : {"experiment", "DFT", "model"}
        ``model``: of a fitted Hamiltonian or potential.
    value : float
    unit : str
    source : str
    error : float, optional
    doi : str, optional
    note : str
        Temperature, functional, what it holds for.
    checked : bool
        Whether the value was compared with its source, its abstract, or data made
        from it.
    """

    kind: Literal["experiment", "DFT", "model"]
    value: float
    unit: str
    source: str
    error: float | None = None
    doi: str | None = None
    note: str = ""
    checked: bool = False


def references_of(material: str) -> dict[str, dict[str, list[Reference]]]:
    """Return the references of a material by property and key; none if not known.

    Raises
    ------
    ValueError
        If the file that holds them is not as it should be.
    """
    file = resources.files(__package__) / "references" / f"{material}.yaml"
    if not file.is_file():
        return {}
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {
        name: {
            key: [
                Reference.from_dict(entry, where=f"{material}.{name}.{key}")
                for entry in entries
            ]
            for key, entries in keys.items()
        }
        for name, keys in content.items()
    }
