"""``deepspin convert``: models to share, for LAMMPS, and from and to DeePMD-kit."""

from __future__ import annotations

import argparse
from pathlib import Path

from .._config import read_mapping
from .._files import require_different
from ..calculators.lammps import export_lammps_model
from ..calculators.lammps._export import SUFFIX
from ..potentials import _files as files
from ..potentials import load_card, load_potential, save_potential
from ..potentials.deepmd import SUFFIXES, write_deepmd


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Convert a model between .safetensors and .pt, from and, if it is a "
        "pseudo-atom network, to DeePMD-kit's .yaml and .dp, or write it as the .pth "
        "that pair_style deepspin of LAMMPS with DeePMD-kit takes."
    )
    parser.add_argument(
        "input",
        help="model file, shipped model, frozen .pth, or backend-neutral .yaml or .dp",
    )
    parser.add_argument("output", help=".safetensors, .pt, .pth, .yaml or .dp")
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="YAML with what others must know: name, description, data, licence, "
        "valid_range, citation, ...; joins the card of the model",
    )
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> None:
    output = Path(arguments.output)
    suffixes = (*files.SUFFIXES, SUFFIX, *SUFFIXES)
    if output.suffix not in suffixes:
        known = ", ".join(suffixes)
        raise ValueError(f"{output} must end in one of {known}")
    require_different(input=arguments.input, output=output)
    if arguments.card is not None and output.suffix not in files.SUFFIXES:
        raise ValueError(f"{output} holds no card: {', '.join(files.SUFFIXES)} do")
    more = {} if arguments.card is None else read_mapping(arguments.card)
    potential = load_potential(arguments.input)
    if output.suffix in files.SUFFIXES:
        card = load_card(arguments.input) or {"source": Path(arguments.input).name}
        try:
            save_potential(output, potential, card=card | more)
        except TypeError as error:  # YAML has dates, for one
            raise ValueError(f"{arguments.card}: {error}; write it as text") from error
    elif output.suffix == SUFFIX:
        export_lammps_model(output, potential)
    else:
        write_deepmd(output, potential)
    print(f"{arguments.input} written to {output}")
