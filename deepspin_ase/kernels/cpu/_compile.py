"""Just-in-time compilation of kernels with numba, and their cache on the disk."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

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


class KernelCache(FunctionCache):
    """Compiled code on the disk, fresh for all files of the kernels, never fatal.

    numba compares the time of the file that a kernel stands in, and unpickles its index
    before it looks at that: parts in other files, classes that were renamed, and files
    cut off by a full disk or a power failure would go unnoticed or end the run. Here
    the contents of all files beside the kernel count, and whatever cannot be read is
    compiled again.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        folder = Path(function.__code__.co_filename).parent
        self._cache_file._source_stamp = _digest_of_sources(folder)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return compiled code, or None where there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # unpickling raises anything
            logger.warning(
                "compiled code in %s cannot be read and is made again (%s: %s)",
                self.cache_path,
                type(error).__name__,
                error,
            )
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code, where the disk takes it."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or an index that cannot be read
            logger.warning(
                "compiled code cannot be kept in %s (%s: %s)",
                self.cache_path,
                type(error).__name__,
                error,
            )


@cache
def _digest_of_sources(folder: Path) -> str:
    """Return a digest of all files from which the kernels of a folder are compiled."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a kernel at the first call; from the disk where that was done before."""
    return _cached(numba.njit(**_OPTIONS)(function), function)


def compiled_as_written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile in the same way, with arithmetic in the order in which it is written."""
    return _cached(numba.njit(nogil=True)(function), function)


def _cached(kernel: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the kernel with its place on the disk, if there is one."""
    try:
        kernel._cache = KernelCache(function)
    except RuntimeError:  # no folder can be written
        _warn_of_no_folder()
    return kernel


@cache
def _warn_of_no_folder() -> None:
    """Say once why every run begins with the compiler."""
    logger.warning(
        "no folder to keep compiled code in can be written, so that every run compiles "
        "anew, for a minute or more: set NUMBA_CACHE_DIR to a folder of yours"
    )
