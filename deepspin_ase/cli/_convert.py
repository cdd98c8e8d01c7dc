"""``deepspin convert``: models to share, for LAMMPS and DeePMD-kit; exchange tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from .._config import read_mapping
from .._files import require_different
from ..calculators.lammps import export_lammps_model
from ..calculators.lammps._export import SUFFIX
from ..potentials import Potential, load_card, load_potential, save_potential
from ..potentials import _files as files
from ..potentials.bonds import (
    FORMATS,
    exchange_format,
    read_exchange_table,
    write_exchange_table,
)
from ..potentials.deepmd import SUFFIXES, write_deepmd
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Convert a model between .safetensors and .pt, from and, if it is a "
        "pseudo-atom network, to DeePMD-kit's .yaml and .dp, or write it as the .pth "
        "that pair_style deepspin of LAMMPS with DeePMD-kit takes. With --to, an "
        "exchange table for another code of spins."
    )
    parser.add_argument(
        "input",
        help="model file, shipped model, frozen .pth, backend-neutral .yaml or .dp, or "
        "exchange table (exchange.out, inpsd.dat, .ucf, .cfg, GROGU)",
    )
    parser.add_argument(
        "output",
        help=".safetensors, .pt, .pth, .yaml or .dp; with --to a file or a folder",
    )
    parser.add_argument(
        "--to", choices=FORMATS, help="write bonds for another code of spins"
    )
    parser.add_argument(
        "--elements",
        nargs="+",
        metavar="SYMBOL",
        help="of the sites of an exchange table that does not say them: one, or all",
    )
    parser.add_argument(
        "--alat", type=float, metavar="A", help="length unit of UppASD's input, A"
    )
    parser.add_argument(
        "--card",
        type=Path,
        metavar="FILE",
        help="YAML with what others must know: name, description, data, licence, "
        "valid_range, citation, ...; joins the card of the model",
    )
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> Outcome:
    output = Path(arguments.output)
    suffixes = (*files.SUFFIXES, SUFFIX, *SUFFIXES)
    if arguments.to is None and output.suffix not in suffixes:
        raise ValueError(
            f"{output} must end in one of {', '.join(suffixes)}, or give --to CODE for "
            "an exchange table"
        )
    require_different(input=arguments.input, output=output)
    keeps_card = arguments.to is None and output.suffix in files.SUFFIXES
    if arguments.card is not None and not keeps_card:
        raise ValueError(f"{output} holds no card: {', '.join(files.SUFFIXES)} do")
    more = {} if arguments.card is None else read_mapping(arguments.card)
    potential = _read(arguments)
    if arguments.to is not None:
        try:
            write_exchange_table(potential, output, format=arguments.to)
        except TypeError as error:
            raise ValueError(f"{arguments.input}: {error}") from error
    elif keeps_card:
        table = exchange_format(arguments.input) is not None
        known = {} if table else load_card(arguments.input)
        card = known or {"source": Path(arguments.input).name}
        try:
            save_potential(output, potential, card=card | dict(more))
        except TypeError as error:  # YAML has dates, for one
            raise ValueError(f"{arguments.card}: {error}; write it as text") from error
    elif output.suffix == SUFFIX:
        export_lammps_model(output, potential)
    else:
        write_deepmd(output, potential)
    print(f"{arguments.input} written to {output}")
    kind = type(potential).__name__
    return Outcome({"input": arguments.input, "kind": kind, "files": [output]})


def _read(arguments: argparse.Namespace) -> Potential:
    """Return the model, or the exchange table with what it does not say."""
    options = {}
    if arguments.elements is not None:
        one = len(arguments.elements) == 1
        options["elements"] = arguments.elements[0] if one else arguments.elements
    if arguments.alat is not None:
        options["alat"] = arguments.alat
    if exchange_format(arguments.input) is not None:
        return read_exchange_table(arguments.input, **options)
    if options:
        raise ValueError(
            f"--elements and --alat are for exchange tables; {arguments.input} is none"
        )
    return load_potential(arguments.input)
