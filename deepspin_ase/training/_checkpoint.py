"""Checkpoints from which a training run resumes bit for bit."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .._config import differences
from .._digest import digest
from .._plain_data import load_plain
from ..data import Dataset, Frame

logger = logging.getLogger(__name__)


def fingerprint(datasets: Iterable[Dataset]) -> str:
    """Return a digest of the structures and labels, wherever they are stored."""

    def known(frame: Frame) -> dict[str, Any]:
        return {k: v for k, v in vars(frame).items() if v is not None}

    return digest([[known(frame) for frame in dataset] for dataset in datasets])


def read_checkpoint(
    path: Path, *, run: dict[str, Any], device: torch.device
) -> dict[str, Any]:
    """Read the checkpoint of the same ``run``, which may have become longer.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is damaged, or its entry ``run`` is another one: the keys are named.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: there is nothing to resume")
    state = load_plain(path, expected="a checkpoint of a training run", device=device)
    if not isinstance(state, dict) or not isinstance(state.get("run"), dict):
        raise ValueError(f"{path} is not a checkpoint of a training run")
    differ = differences(state["run"], run)
    steps = run["training"]["numb_steps"]
    if differ == ["training.numb_steps"] and steps >= state["step"]:
        logger.info(
            "continued at step %d to %d steps instead of %d: learning rate and weights "
            "of the loss now follow the schedule of that length",
            state["step"],
            steps,
            state["run"]["training"]["numb_steps"],
        )
    elif differ:
        raise ValueError(
            f"{path} belongs to another training run ({', '.join(differ)} differ); "
            "set these as they were, train into a new folder, or start from its model "
            "with init_model"
        )
    return state


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Defer Ctrl-C, so that a step is done completely or not at all.

    Yields a function that returns whether to stop. A second Ctrl-C interrupts
    at once. Without effect outside of the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
