"""How kernels are compiled, and what all of them take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger(__name__)

#: Rounding may be reordered, but infinities and NaN keep their meaning.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
}


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; from the disk where that was done before."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder can be written
        logger.info("no folder for compiled code: set NUMBA_CACHE_DIR to keep it")
        return numba.njit(**_OPTIONS)(function)
