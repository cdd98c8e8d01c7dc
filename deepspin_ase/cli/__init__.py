"""Command-line interface ``deepspin``; the only package that prints."""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext, redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .._version import __version__

#: Subcommands. The module of each has ``configure(parser)``, which adds arguments and
#: sets ``run``, a function that takes what was parsed and returns an ``Outcome``. It is
#: imported where it is asked for, since what commands compute with takes seconds to
#: import.
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
    "completion": "script for completion in bash, zsh or tcsh",
}

_JSON = "--json"

#: What stands for a value in the help, by its type, where a command does not say.
_METAVARS: dict[Any, str] = {int: "N", float: "X", Path: "FILE"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``deepspin`` and return its exit code.

    0, 2 on bad input, 3 where a result is not what was asked for, 130 if stopped, and
    141 if what reads the output, such as ``head``, has enough of it.

    With ``--json`` the standard output is one JSON object, and everything else goes to
    the standard error.
    """
    given = sys.argv[1:] if argv is None else argv
    try:
        arguments = _parser(given).parse_args(given)
    except _UsageError as error:
        if _JSON in given:
            _write_json(error.command, 2, {"error": str(error)})
        raise
    arguments.words = list(given)
    logging.basicConfig(format="deepspin: %(levelname)s: %(message)s")
    usual = warnings.formatwarning
    warnings.formatwarning = _warning
    try:
        with redirect_stdout(sys.stderr) if arguments.json else nullcontext():
            outcome = arguments.run(arguments)
        if arguments.json:
            _write_json(arguments.command, outcome.exit_code, outcome.found)
        sys.stdout.flush()
    except BrokenPipeError as error:
        if _reader_is_gone():
            return 141
        return _fail(arguments, 2, f"error: {error}")
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _fail(arguments, 2, f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        return _fail(arguments, 130, "interrupted")
    finally:
        warnings.formatwarning = usual
    return int(outcome.exit_code)


def _fail(arguments: argparse.Namespace, exit_code: int, message: str) -> int:
    """Say why a command ended, and return its exit code."""
    print(f"deepspin: {message}", file=sys.stderr)
    if arguments.json:
        found = {"error": message.removeprefix("error: ")}
        with suppress(OSError):  # the output may be what failed
            _write_json(arguments.command, exit_code, found)
    return exit_code


def _write_json(command: str, exit_code: int, found: dict[str, Any]) -> None:
    from ._outcome import as_json

    print(as_json(command, exit_code, found), flush=True)


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


class _UsageError(SystemExit):
    """Arguments that argparse refuses, after it said so."""

    def __init__(self, command: str, message: str) -> None:
        super().__init__(2)
        self.command, self.message = command, message

    def __str__(self) -> str:
        return self.message


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise _UsageError(_name(self), message)


def _name(parser: argparse.ArgumentParser) -> str:
    """Return the name of a command, without that of the program."""
    return parser.prog.partition(" ")[2]


def full_parser() -> argparse.ArgumentParser:
    """Return the parser with the arguments of all commands, which are imported."""
    return _parser(COMMANDS, full=True)


def _parser(argv: Iterable[str], *, full: bool = False) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the command that is asked for."""
    parser = _Parser(
        prog="deepspin", description="DeepSPIN potentials of atoms and spins in ASE."
    )
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    asked = next((word for word in argv if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        command = subparsers.add_parser(name, help=summary)
        if full or name == asked:
            _configure(name, command)
    return parser


def _configure(name: str, command: argparse.ArgumentParser) -> None:
    """Add the arguments of a command, and those that all have."""
    import_module(f"{__name__}._{name}").configure(command)
    for part in leaves(command):
        for action in part._actions:
            if action.option_strings and action.choices is None:
                action.metavar = action.metavar or _METAVARS.get(action.type)
        part.add_argument(
            _JSON,
            action="store_true",
            help="write what was found as one JSON object, everything else to the "
            "standard error",
        )
        part.set_defaults(command=_name(part))


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of the actions of a command, or its own if it has none."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for part in action.choices.values():
                yield from leaves(part)
            return
    yield parser
