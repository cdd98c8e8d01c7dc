"""``deepspin train``: training of a network from a configuration file."""

from __future__ import annotations

import argparse
import logging
import os

from ..data import Dataset, read_dataset
from ..potentials import load_potential
from ..training import Trainer, read_config


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Train a network. Several processes or GPUs: "
        "torchrun --nproc-per-node 2 -m deepspin_ase train config.yaml"
    )
    parser.add_argument("config", help="training file (YAML), or DeePMD-kit input.json")
    parser.add_argument(
        "-o", "--output", help="folder to write to (default: 'output' in the file)"
    )
    parser.add_argument(
        "-r", "--restart", action="store_true", help="continue from its checkpoint"
    )
    parser.add_argument("--device", help="cpu (default) or cuda")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    logging.getLogger("deepspin_ase").setLevel(logging.INFO)
    config = read_config(arguments.config)
    validation = config.data.validation
    trainer = Trainer(
        config,
        read_dataset(config.data.training),
        read_dataset(validation) if validation else Dataset([]),
        output=arguments.output or config.output,
        baseline=load_potential(config.baseline) if config.baseline else None,
        device=arguments.device,
    )
    if arguments.restart:
        trainer.restore()
    elif (trainer.output / "checkpoint.pt").exists():
        raise ValueError(
            f"{trainer.output} already holds a training run; continue it with "
            "--restart or choose another --output"
        )
    trainer.run()
    if int(os.environ.get("RANK", "0")) == 0:
        print(f"wrote {trainer.output / 'model.pt'}")
