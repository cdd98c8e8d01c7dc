"""``deepspin info``: summary of a model."""

from __future__ import annotations

import argparse
import hashlib
import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from ase.data import chemical_symbols
from torch import nn

from .._config import Configuration
from ..potentials import (
    Potential,
    TrainingRange,
    available_models,
    load_potential,
    models_folder,
)
from ..potentials._files import UNITS, read_content
from ..potentials._library import resolve
from ..potentials._watch import unseen
from ..training._metrics import error_kinds
from ._outcome import Outcome

#: What the card says for everybody, shown before the architecture.
_FIRST = ("name", "description", "data", "licence", "valid_range", "citation")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "What a model is: kind, units, data, licence, errors, range of the training "
        "data, size and checksum. Without a model, those that are known by name: "
        "the models of the package, and those in the folder DEEPSPIN_MODELS."
    )
    parser.add_argument("model", nargs="?", help="model file, or name of a model")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    if arguments.model is None:
        known = [_listed(name) for name in available_models()]
        found = {"models": known, "models_folder": models_folder()}
        lines = [
            *(f"{x['name']:<16}{_words(x['elements']):<16}{x['path']}" for x in known),
            f"folder of models: {models_folder()}",
        ]
    else:
        potential = load_potential(arguments.model)
        found = _facts(arguments.model, potential)
        lines = _text(found, potential)
    print("\n".join(lines))
    return Outcome(found)


def _listed(name: str) -> dict[str, Any]:
    """Return a row of the list of models."""
    try:
        path = str(resolve(name))
        elements = _symbols(load_potential(name).species)
    except (ValueError, OSError) as error:
        path, elements = " ".join(str(error).split()), []
    return {"name": name, "elements": elements, "path": path}


def _facts(name: str, potential: Potential) -> dict[str, Any]:
    """Return what is known of a model, as plain data."""
    path = resolve(name)
    content = {} if potential.external else read_content(path)
    return {
        "kind": type(potential).__name__,
        "elements": _symbols(potential.species),
        "magnetic": _symbols(potential.magnetic_species),
        "cutoff_A": potential.cutoff,
        "parameters": sum(p.numel() for p in potential.parameters()),
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "written_by": content.get("written_by"),
        "units": content.get("units", UNITS),
        "architecture": content.get("architecture"),
        "layouts": content.get("layouts", {}),
        "ranges": {part: vars(known) for part, known in _ranges(potential).items()},
        "card": content.get("card", {}),
    }


def _text(facts: Mapping[str, Any], potential: Potential) -> list[str]:
    card = dict(facts["card"])
    about = [key for key in _FIRST if isinstance(card.get(key), str)]
    rows = {key.replace("_", " "): card.pop(key) for key in about}
    errors = card.pop("errors", {})
    rows |= {
        "kind": facts["kind"],
        "elements": _words(facts["elements"]),
        "magnetic": _words(facts["magnetic"]),
        "cutoff": f"{facts['cutoff_A']:g} A",
        "parameters": str(facts["parameters"]),
        "file": facts["file"],
        "size": f"{facts['bytes'] / 1e6:.2f} MB",
        "sha-256": facts["sha256"],
        "written by": facts["written_by"] or "an earlier version, or another program",
        "units": "; ".join(f"{key} {unit}" for key, unit in facts["units"].items()),
    }
    return [
        *(line for key, value in rows.items() for line in _wrapped(key, value)),
        "",
        *_errors(errors),
        *_known(potential),
        "architecture",
        *_architecture(potential, "  "),
        "",
        *_section("card", card, ""),
    ]


def _errors(errors: Any) -> list[str]:
    """Return a table of the errors in a card, or them as they are."""
    kinds = error_kinds()
    known = isinstance(errors, Mapping) and all(
        key == "on" or (key in kinds and _are_errors(found))
        for key, found in errors.items()
    )
    if not errors:
        return []
    if not known:
        return [*_section("errors", {"of": errors}, ""), ""]
    lines = [f"errors on {errors.get('on', 'unnamed')} data{'RMSE':>16}{'MAE':>11}"]
    for key, found in errors.items():
        if key != "on":
            rmse, mae = (1e3 * found.get(x, math.nan) for x in ("rmse", "mae"))
            title, unit = kinds[key].title, kinds[key].unit
            lines.append(f"  {title:<30}{rmse:9.4g}{mae:11.4g}  m{unit}")
    return [*lines, ""]


def _are_errors(found: Any) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(found.get(x, math.nan), int | float) for x in ("rmse", "mae")
    )


def _ranges(potential: Potential) -> dict[str, TrainingRange]:
    """Return what the parts of a potential were trained on, by their names."""
    return {
        name: part.training_range
        for name, part in potential.named_modules()
        if isinstance(part, Potential) and part.training_range is not None
    }


def _known(potential: Potential) -> list[str]:
    lines = []
    for name, known in _ranges(potential).items():
        lines += [f"trained on{f' ({name})' if name else ''}"]
        lines += [f"  {line}" for line in str(known).splitlines()]
        if strange := _symbols(unseen(potential.get_submodule(name), known)):
            lines += [f"  no frame with {', '.join(strange)}, which calculators refuse"]
        lines += [""]
    return lines


def _symbols(numbers: Iterable[int] | None) -> list[str] | None:
    return None if numbers is None else [chemical_symbols[z] for z in sorted(numbers)]


def _words(symbols: list[str] | None) -> str:
    return "any" if symbols is None else ", ".join(symbols) or "none"


def _wrapped(key: str, value: str) -> list[str]:
    """Return lines of a row, of which words stay whole."""
    return textwrap.wrap(
        f"{key:<12}{value}",
        width=88,
        subsequent_indent=12 * " ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _architecture(potential: Potential, indent: str) -> list[str]:
    """Return a line per potential, and the configuration of networks."""
    name = type(potential).__name__
    for argument in potential.arguments().values():
        if isinstance(argument, Configuration):
            return _section(name, argument.to_dict(), indent)
    lines = [f"{indent}{name}({potential.extra_repr()})"]
    for child in potential.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            if isinstance(part, Potential):
                lines += _architecture(part, indent + "  ")
    return lines


def _section(title: str, values: dict[str, Any], indent: str) -> list[str]:
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
    rows = text.rstrip().splitlines() if values else ["empty"]
    return [f"{indent}{title}", *(f"{indent}  {row}" for row in rows)]
