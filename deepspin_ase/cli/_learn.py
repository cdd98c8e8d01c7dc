"""``deepspin learn``: active learning from a crystal to a model."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from .._distributed import local_workers
from ..labels import Waiting
from ..learning import ActiveLearning, LearnConfig
from ..learning._loop import summary
from ..learning._report import write_report
from ._options import add_run
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Train, explore by dynamics, label what is uncertain, and again, until the "
        "model is accurate wherever walkers go. Run the command again to go on."
    )
    add_run(parser, LearnConfig.__name__)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    config = LearnConfig.read(arguments.config)
    learning = ActiveLearning(config)
    if arguments.status:
        done = learning.generations()
        for state in done:
            print(summary(state))
        print(f"{len(done)} of {learning.config.generations} generations done")
        return Outcome({"generations": done})
    logging.getLogger("deepspin_ase").setLevel(logging.INFO)
    try:
        with local_workers(config.workers) as learning.client:
            done = learning.run()
    except Waiting as waiting:
        print(waiting)
        done = learning.generations()
        return Outcome({"generations": done, "waiting": str(waiting)}, 3)
    report = write_report(learning)
    converged = learning.converged(done)
    print(
        "converged" if converged else "not converged: more generations, or a wider goal"
    )
    print(f"model: {learning.model}; report: {report}")
    told: dict[str, Any] = {
        "converged": converged,
        "generations": done,
        "model": learning.model,
        "files": [report],
    }
    return Outcome(told, 0 if converged else 3)
