"""``deepspin train``: training of a network from a configuration file."""

from __future__ import annotations

import argparse
import logging
import os
from contextlib import nullcontext
from pathlib import Path

from .._files import locked, make_folder
from ..potentials import load_card, load_potential
from ..training import Trainer, TrainingConfig, read_config, read_sets
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Train a network. Several processes or GPUs: "
        "torchrun --nproc-per-node 2 -m deepspin_ase train config.yaml"
    )
    parser.add_argument("config", help="training file (YAML), or DeePMD-kit input.json")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder to write to (default: 'output' in the file)",
    )
    parser.add_argument(
        "-r",
        "--restart",
        "--resume",
        action="store_true",
        help="continue from its checkpoint; also a finished run, after numb_steps was "
        "raised",
    )
    parser.add_argument("--device", metavar="NAME", help="cpu (default) or cuda")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    first = int(os.environ.get("RANK", "0")) == 0
    level = logging.INFO if first else logging.ERROR
    logging.getLogger("deepspin_ase").setLevel(level)
    config = read_config(arguments.config)
    output = Path(arguments.output or config.output)
    if first:
        make_folder(output)
    with locked(output) if first else nullcontext():
        steps = _train(config, output, arguments)
    if not first:
        arguments.json = False  # the first process writes the object
        return Outcome()
    model = output / "model.pt"
    print(f"wrote {model}")
    errors = load_card(model).get("errors", {})
    return Outcome({"steps": steps, "errors": errors, "files": [model]})


def _train(config: TrainingConfig, output: Path, arguments: argparse.Namespace) -> int:
    """Train, and return the number of steps."""
    if not arguments.restart and (output / "checkpoint.pt").exists():
        raise ValueError(
            f"{output} already holds a training run; continue it with --restart or "
            "choose another --output"
        )
    trainer = Trainer(
        config,
        read_sets(config.data, config.model),
        output=output,
        baseline=load_potential(config.baseline) if config.baseline else None,
        device=arguments.device,
    )
    if arguments.restart:
        trainer.restore()
        if trainer.step == config.training.numb_steps:
            print(
                f"the run has {trainer.step} steps already; raise training.numb_steps "
                "to continue"
            )
    trainer.run()
    return trainer.step
