"""Progress bars of long work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


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
