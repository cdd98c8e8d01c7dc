"""``deepspin convert``: models from and to DeePMD-kit."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..potentials import _files as files
from ..potentials import load_card, load_potential, save_potential
from ..potentials.deepmd import SUFFIXES, write_deepmd


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Convert a model between model.safetensors, model.pt and DeePMD-kit. "
        "'dp convert-backend model.yaml model.pth' makes the model for LAMMPS."
    )
    parser.add_argument(
        "input",
        help="model file, shipped model, frozen .pth, or backend-neutral .yaml or .dp",
    )
    parser.add_argument("output", help=".safetensors, .pt, .yaml or .dp")
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    if output.suffix not in (*files.SUFFIXES, *SUFFIXES):
        known = ", ".join([*files.SUFFIXES, *SUFFIXES])
        raise ValueError(f"{output} must end in one of {known}")
    potential = load_potential(arguments.input)
    if output.suffix in files.SUFFIXES:
        card = load_card(arguments.input) or {"source": Path(arguments.input).name}
        save_potential(output, potential, card=card)
    else:
        write_deepmd(output, potential)
    print(f"{arguments.input} written to {output}")
