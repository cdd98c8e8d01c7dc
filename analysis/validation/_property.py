"""Properties that a model is validated by: a registry of functions.

A property is a function of a :class:`Subject`, with its settings as keyword-only
arguments, that returns :class:`Findings`; another one draws them. Both are registered::

    @measured("moment", "Length of the moments")
    def moment(subject: Subject, *, points: int = 9) -> Findings: ...

    @drawn("moment")
    def draw_moment(findings: Findings, known: Known) -> Axes: ...
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from ase import Atoms

from ..._json import plain
from ...calculators import DeepSpinCalculator
from ...spins import get_spins, set_spins
from ._materials import Material
from ._references import Reference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: References of a property by the keys of its values.
Known: TypeAlias = Mapping[str, Sequence[Reference]]

#: Errors below this share of a number are not shown.
_ROUND_OFF = 1e-6

Measure = TypeVar("Measure", bound=Callable[..., "Findings"])
Draw = TypeVar("Draw", bound="Callable[[Findings, Known], Axes]")


@dataclass(frozen=True)
class Value:
    """A number of the model.

    Attributes
    ----------
    label : str
        What it is, for tables.
    value : float
    unit : str
    error : float, optional
        Standard error.
    """

    label: str
    value: float
    unit: str
    error: float | None = None

    def __str__(self) -> str:
        return with_error(self.value, self.error)


@dataclass(frozen=True)
class Findings:
    """What a property of a model is.

    Attributes
    ----------
    values : dict of Value
        By the keys that references have.
    curves : dict
        Plain data behind the figure, and for other properties.
    notes : list of str
        Sentences on how to read the numbers.
    """

    values: dict[str, Value]
    curves: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """Return data for JSON; numbers that are not finite become null."""
        found = plain(asdict(self))
        assert isinstance(found, dict)
        return found

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Findings:
        """Return what :meth:`to_plain` made plain; null is not a number."""
        values = {
            key: Value(**{**entry, "value": _number(entry["value"])})
            for key, entry in data["values"].items()
        }
        return cls(values, data["curves"], data["notes"])


def with_error(value: float, error: float | None = None) -> str:
    """Return a number to four digits, or to the two digits of its error."""
    if not math.isfinite(value):
        return "-"
    if error is None or not math.isfinite(error) or error <= _ROUND_OFF * abs(value):
        text = f"{value:.4g}"
        return f"{value:.0f}" if "e+" in text else text
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def plain_atoms(atoms: Atoms) -> dict[str, Any]:
    """Return a periodic structure with moments as plain data."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "moments": get_spins(atoms).tolist(),
    }


def atoms_of(data: Mapping[str, Any]) -> Atoms:
    """Return the structure that :func:`plain_atoms` made plain."""
    atoms = Atoms(data["numbers"], data["positions"], cell=data["cell"], pbc=True)
    set_spins(atoms, np.array(data["moments"]))
    return atoms


@dataclass(frozen=True)
class Subject:
    """A model and a material, as properties get them.

    Attributes
    ----------
    material : Material
    calculator : DeepSpinCalculator
    findings : callable
        Findings of another property, by its name.
    scratch : Path
        For checkpoints of long runs; a folder that is removed in the end.
    """

    material: Material
    calculator: DeepSpinCalculator
    findings: Callable[[str], Findings]
    scratch: Path

    def given(self, atoms: Atoms) -> Atoms:
        """Return the structure, now with the calculator."""
        atoms.calc = self.calculator
        return atoms

    def crystal(self) -> Atoms:
        """Return the relaxed magnetic cell with the calculator."""
        return self.given(atoms_of(self.findings("structure").curves["atoms"]))


@dataclass
class Property:
    """An entry of the registry.

    Attributes
    ----------
    name, title : str
    measure : callable
    missing : callable
        Why a material has no such property; None where it has.
    draw : callable, optional
    """

    name: str
    title: str
    measure: Callable[..., Findings]
    missing: Callable[[Material], str | None]
    draw: Callable[[Findings, Known], Axes] | None = None

    def settings(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return all settings: those given, and the others by default.

        Raises
        ------
        ValueError
            If there is no such setting.
        """
        known = {
            name: parameter.default
            for name, parameter in inspect.signature(self.measure).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(
                f"{self.name} has no setting {', '.join(unknown)}; it has "
                f"{', '.join(known) or 'none'}"
            )
        return known | dict(given)


#: All properties, in the order of a book.
PROPERTIES: dict[str, Property] = {}


def measured(
    name: str,
    title: str,
    *,
    missing: Callable[[Material], str | None] = lambda material: None,
) -> Callable[[Measure], Measure]:
    """Register the function that finds a property.

    Parameters
    ----------
    name, title : str
    missing : callable
        Of a material: why it has no such property, or None.
    """

    def register(function: Measure) -> Measure:
        PROPERTIES[name] = Property(name, title, function, missing)
        return function

    return register


def drawn(name: str) -> Callable[[Draw], Draw]:
    """Register the function that draws a property."""

    def register(function: Draw) -> Draw:
        PROPERTIES[name].draw = function
        return function

    return register
