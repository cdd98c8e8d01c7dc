"""``deepspin info``: summary of a model."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ase.data import chemical_symbols
from torch import nn

from .._config import Configuration
from ..potentials import (
    Potential,
    load_card,
    load_potential,
    shipped_models,
)
from ..potentials._files import resolve


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Kind, architecture and card of a model; without a model, the "
        "models that come with the package."
    )
    parser.add_argument("model", nargs="?", help="model file, or name of a shipped one")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.model is None:
        lines = _shipped()
    else:
        potential = load_potential(arguments.model)
        lines = [
            *_summary(potential),
            f"sha-256     {_hash(resolve(arguments.model))}",
            "",
            "architecture",
            *_architecture(potential, "  "),
            "",
            *_range(potential),
            *_section("card", load_card(arguments.model), ""),
        ]
    print("\n".join(lines))


def _shipped() -> list[str]:
    names = shipped_models()
    if not names:
        return ["no models come with this installation"]
    return [f"{name:<16}{_symbols(load_potential(name).species)}" for name in names]


def _summary(potential: Potential) -> list[str]:
    n_parameters = sum(p.numel() for p in potential.parameters())
    return [
        f"kind        {type(potential).__name__}",
        f"elements    {_symbols(potential.species)}",
        f"magnetic    {_symbols(potential.magnetic_species)}",
        f"cutoff      {potential.cutoff:g} A",
        f"parameters  {n_parameters}",
    ]


def _range(potential: Potential) -> list[str]:
    if potential.training_range is None:
        return []
    lines = str(potential.training_range).splitlines()
    return ["trained on", *(f"  {line}" for line in lines), ""]


def _hash(path: Path) -> str:
    """Return the SHA-256 of a file, as sha256sum prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _symbols(numbers: Iterable[int] | None) -> str:
    if numbers is None:
        return "any"
    return ", ".join(chemical_symbols[z] for z in sorted(numbers)) or "none"


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
