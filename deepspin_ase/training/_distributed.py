"""Data-parallel training under torchrun: a share of every batch per process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import distributed, nn


@contextmanager
def process_group(device: torch.device) -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started; yields (rank, world size).

    Without torchrun yields (0, 1). Uses gloo on CPU and NCCL on CUDA.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0, 1
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield distributed.get_rank(), distributed.get_world_size()
    finally:
        distributed.destroy_process_group()


def local_device(device: torch.device) -> torch.device:
    """Return this process's own CUDA device, or the device as it is."""
    rank = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and rank is not None:
        return torch.device("cuda", int(rank))
    return device


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over the processes, if there are several.

    Every parameter must have a gradient, on every process: zero where it took
    no part.
    """
    if not distributed.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for gradient, part in zip(
        gradients, flat.split([g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(part.view_as(gradient))


def mean_over_processes(*values: float) -> list[float]:
    """Return the means of the values over the processes."""
    if not distributed.is_initialized():
        return list(values)
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    mean: list[float] = (total / distributed.get_world_size()).tolist()
    return mean
