"""Command-line interface ``deepspin``; the only package that prints."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module

from .._version import __version__

#: Subcommands. The module of each has ``configure(parser)``, which adds arguments and
#: sets ``run``, a function of what was parsed. It is imported where it is asked for,
#: since what commands compute with takes seconds to import.
COMMANDS = {
    "demo": "see the shipped NiO model at work",
    "data": "look into labelled data, convert them",
    "label": "energies and magnetic forces of structures, by DFT or a model",
    "train": "train a network",
    "learn": "from a crystal to a model, by active learning",
    "test": "compare a model with labelled data",
    "relax": "relax atoms, spins and cell together",
    "md": "run spin-lattice dynamics",
    "neb": "find the path and the barrier between two structures",
    "curie": "transition temperature of a magnetic order, doped crystals too",
    "phases": "phase diagram over temperature, field, pressure, strain, doping",
    "validate": "properties of a model beside experiment and DFT",
    "view": "moments as arrows in a web page",
    "info": "what a model is",
    "get": "fetch a model into the folder of models",
    "convert": "models from and to DeePMD-kit, exchange tables between codes",
    "export": "a model as TorchScript that runs without this package",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``deepspin`` and return its exit code.

    0, 2 on bad input, 3 where a result is not what was asked for, 130 if stopped, and
    141 if what reads the output, such as ``head``, has enough of it.
    """
    given = sys.argv[1:] if argv is None else argv
    arguments = _parser(given).parse_args(given)
    logging.basicConfig(format="deepspin: %(levelname)s: %(message)s")
    usual = warnings.formatwarning
    warnings.formatwarning = _warning
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError as error:
        if _reader_is_gone():
            return 141
        print("deepspin: error:", error, file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        print("deepspin: error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deepspin: interrupted", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = usual
    return code or 0


def _reader_is_gone() -> bool:
    """Say whether the standard output is a broken pipe; drop what is left of it."""
    if not hasattr(select, "poll"):
        return False
    output = sys.stdout.fileno()
    watched = select.poll()
    watched.register(output, 0)
    gone = any(event & select.POLLERR for _, event in watched.poll(0))
    if gone:  # Python writes what is left when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _warning(message: Warning | str, *_: object, **__: object) -> str:
    """Return a warning as it is shown: without the place in the code."""
    return f"deepspin: WARNING: {message}\n"


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the command that is asked for."""
    parser = argparse.ArgumentParser(
        prog="deepspin", description="DeepSPIN potentials of atoms and spins in ASE."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = subparsers.add_parser(name, help=summary)
        if name == asked:
            import_module(f"{__name__}._{name}").configure(command)
    return parser
