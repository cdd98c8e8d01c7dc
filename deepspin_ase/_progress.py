"""Progress bars of long work."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


class Clock:
    """Estimates the time that is left of a number of steps.

    Parameters
    ----------
    start, end : int
        The present step and the last one.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, end
        self._began = time.monotonic()

    def left(self, step: int) -> str:
        """Return the steps and the time that are left, for a line of a log."""
        done = step - self.start
        if not done:
            return f" of {self.end}"
        seconds = (time.monotonic() - self._began) / done * (self.end - step)
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        text = f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
        return f" of {self.end}, {text} left"


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    progress: bool | None = None,
    **options: Any,
) -> tqdm[Any]:
    """Return a progress bar.

    Parameters
    ----------
    iterable : iterable, optional
        What to go through; without, the bar is updated by hand.
    progress : bool, optional
        Show it, or not; by default where the output is a terminal.
    **options
        Of ``tqdm``: ``total``, ``desc``, ``unit``, ...
    """
    hidden = None if progress is None else not progress
    return tqdm(iterable, disable=hidden, **options)
