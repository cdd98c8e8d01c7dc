"""Command-line interface ``deepspin``; the only package that prints."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from .._version import __version__
from . import (
    _convert as convert,
)
from . import (
    _data as data,
)
from . import (
    _demo as demo,
)
from . import (
    _info as info,
)
from . import (
    _md as md,
)
from . import (
    _neb as neb,
)
from . import (
    _relax as relax,
)
from . import (
    _test as test,
)
from . import (
    _train as train,
)
from . import (
    _view as view,
)

#: Modules of the subcommands; each has ``add_parser(subparsers)``, which sets
#: ``run``, a function of the parsed arguments.
COMMANDS = (demo, data, train, test, relax, md, neb, view, info, convert)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``deepspin`` and return its exit code: 0, 2 on bad input, 130 if stopped."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(format="deepspin: %(levelname)s: %(message)s")
    try:
        arguments.run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("deepspin: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deepspin: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepspin", description="DeepSPIN potentials of atoms and spins in ASE."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    return parser
