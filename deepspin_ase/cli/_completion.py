"""``deepspin completion``: completion of commands, options and files in shells."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .._extras import require
from ..potentials import available_models
from ._outcome import Outcome

_SHELLS = ("bash", "zsh", "tcsh")

#: What completes models, by shell: names and files where a function can be had.
_MODELS = {"bash": "_deepspin_models", "zsh": "_deepspin_models", "tcsh": "f"}

_FUNCTIONS = {
    "bash": '_deepspin_models() { compgen -W "NAMES" -- "$1"; compgen -f -- "$1"; }',
    "zsh": "_deepspin_models() { compadd -- NAMES; _files; }",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Write a script that makes a shell complete commands, options, their values, "
        "names of models and files. For bash: deepspin completion bash > "
        "~/.local/share/bash-completion/completions/deepspin"
    )
    parser.add_argument("shell", choices=_SHELLS, help="for which one")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    from . import full_parser, leaves

    shtab = require("shtab", "completions")
    parser = full_parser()
    for command in leaves(parser):
        for action in command._actions:
            _complete(action, shtab.FILE)
    names = " ".join(available_models())
    models = {name: text.replace("NAMES", names) for name, text in _FUNCTIONS.items()}
    script = shtab.complete(parser, shell=arguments.shell, preamble=models)
    print(script)
    return Outcome({"script": script})


def _complete(action: Any, files: dict[str, str]) -> None:
    """Say what completes an argument: models, or files."""
    if action.choices is not None or action.nargs == 0:
        return
    if action.dest in ("model", "engine"):
        action.complete = _MODELS
    elif action.type is Path or not action.option_strings:
        action.complete = files
