"""``deepspin get``: models from servers."""

from __future__ import annotations

import argparse

from ..potentials import get_model
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Fetch a model into the folder of models, where it is found by its name: "
        "DEEPSPIN_MODELS, or deepspin/models in the folder of caches. It is kept if "
        "its checksums are right."
    )
    parser.add_argument(
        "source",
        help="URL or path of a .safetensors or .pt file, or a name in the index that "
        "DEEPSPIN_INDEX names: a JSON file {name: {url: ..., sha256: ...}} or its URL",
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        help="under which it is found (default: that of the file)",
    )
    parser.add_argument(
        "--sha256", metavar="DIGITS", help="what the checksum of the file must be"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    path = get_model(arguments.source, name=arguments.name, sha256=arguments.sha256)
    print(f"{path}\n'deepspin info {path.stem}' says what it is")
    return Outcome({"name": path.stem, "files": [path]})
