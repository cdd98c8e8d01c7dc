"""Threads for compiled kernels that run without the interpreter's lock.

Plain Python threads instead of numba's own: the result does not hang on which
OpenMP or TBB library is installed or which torch has loaded, calls may come from
several threads at once, and child processes start with threads of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

_pools: dict[int, ThreadPoolExecutor] = {}


def share(
    work: Callable[[int, int, int], None], n: int, *, least: int, workers: int
) -> None:
    """Call ``work(worker, begin, end)`` for parts of ``range(n)``, in parallel.

    Each worker has one part, so that the order of its sums is always the same.

    Parameters
    ----------
    work : callable
    n : int
    least : int
        Parts are not smaller than this.
    workers : int
        The calling thread is one of them.
    """
    parts = max(1, min(workers, n // least))
    if parts == 1:
        work(0, 0, n)
        return
    bounds = [k * n // parts for k in range(parts + 1)]
    tasks = [
        _pool(workers).submit(work, k, bounds[k], bounds[k + 1])
        for k in range(1, parts)
    ]
    try:
        work(0, 0, bounds[1])
    finally:
        wait(tasks)
    for task in tasks:
        task.result()


def _pool(workers: int) -> ThreadPoolExecutor:
    if workers not in _pools:
        _pools[workers] = ThreadPoolExecutor(workers - 1, "deepspin")
    return _pools[workers]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)
