"""Independent tasks, run serially or on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from ._extras import require
from ._progress import bar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    client: Any = None,
    description: str = "tasks",
    progress: bool | None = None,
    finished: Callable[[int, Result], None] | None = None,
) -> list[Result]:
    """Return ``[function(item) for item in items]``.

    Parameters
    ----------
    function : callable
        Of one item; importable where the workers are.
    items : sequence
        Plain data and arrays, which travel to the workers.
    client : dask.distributed.Client, optional
        Run on its workers, as many tasks at a time as they have threads: give each
        one thread (``LocalCluster(n_workers=4, threads_per_worker=1)``,
        ``dask_jobqueue.SLURMCluster(...)``). Here, one after the other, without.
    description : str
        Of the progress bar.
    progress : bool, optional
        Progress bar; by default on a terminal.
    finished : callable, optional
        Called here with the number and the result of each task, in their order.

    Raises
    ------
    TypeError
        If the client is not one of Dask's.
    Exception
        The first that a task raises; tasks that have not begun are cancelled.
    """
    results: list[Result] = []

    def keep(result: Result) -> None:
        results.append(result)
        if finished is not None:
            finished(len(results) - 1, result)

    if client is None:
        for item in bar(items, progress=progress, desc=description):
            keep(function(item))
        return results
    n_threads(client)
    # Impure: two equal tasks of random numbers are two.
    futures = [client.submit(function, item, pure=False) for item in items]
    try:
        for future in bar(futures, progress=progress, desc=description):
            keep(future.result())
        return results
    except BaseException:
        client.cancel(futures)
        raise


@contextmanager
def local_workers(count: int) -> Iterator[Any]:
    """Yield a client of as many processes on this machine, of one thread each.

    For one, yields None: tasks then run here.

    Raises
    ------
    ImportError
        If Dask is not installed.
    """
    if count == 1:
        yield None
        return
    distributed = require("distributed", "several workers")
    with (
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def n_threads(client: Any) -> int:
    """Return the number of tasks that run at a time: threads of all workers, or 1.

    Raises
    ------
    TypeError
        If the client is not one of Dask's.
    """
    if client is None:
        return 1
    if not (hasattr(client, "submit") and hasattr(client, "nthreads")):
        raise TypeError(
            "client must be a dask.distributed.Client (pip install "
            f"'deepspin-ase[distributed]'), got {type(client).__name__}"
        )
    return max(1, sum(client.nthreads().values()))
