"""``deepspin export``: a model as self-contained TorchScript."""

from __future__ import annotations

import argparse

from ..potentials import export_torchscript, load_potential
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Write a network on moments, alone or on pair terms, as TorchScript: "
        "torch.jit.load reads it where this package is not installed. "
        "'deepspin convert' writes pseudo-atom networks for DeePMD-kit."
    )
    parser.add_argument("model", help="model file, or name of a model")
    parser.add_argument("output", help="file to write, .pth")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> Outcome:
    export_torchscript(arguments.output, load_potential(arguments.model))
    print(f"{arguments.model} written to {arguments.output}")
    return Outcome({"model": arguments.model, "files": [arguments.output]})
