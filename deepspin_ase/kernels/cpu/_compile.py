"""How kernels are compiled, and what all of them take."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba

logger = logging.getLogger(__name__)

#: Rounding may be reordered, but infinities and NaN keep their meaning. C does not
#: call kernels.
_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "no_cfunc_wrapper": True,
}

#: Python does not call parts of kernels.
_PART: dict[str, Any] = {**_OPTIONS, "no_cpython_wrapper": True}


def inlined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as a part of every kernel that calls it.

    Parts that stay functions are compiled once more with each kernel, with other
    rounding, and which of both runs depends on what was on the disk.
    """
    return numba.njit(forceinline=True, **_PART)(function)


def merged(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile as lines of the kernel, for a part that is called in one place.

    Inlined parts are first compiled by themselves, which takes long for those that
    have parts of their own.
    """
    return numba.njit(inline="always", **_PART)(function)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel at the first call; from the disk where that was done before.

    numba looks whether the kernel's own file has changed; delete its ``__pycache__``
    after work on a part in another file.
    """
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    except RuntimeError:  # no folder can be written
        logger.info("no folder for compiled code: set NUMBA_CACHE_DIR to keep it")
        return numba.njit(**_OPTIONS)(function)
