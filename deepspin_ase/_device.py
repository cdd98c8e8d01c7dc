"""Devices by their names, with errors that say what there is."""

from __future__ import annotations

import torch


def as_device(device: torch.device | str) -> torch.device:
    """Return a CPU or CUDA device that is there.

    Raises
    ------
    TypeError
        If it is neither a name nor a device.
    ValueError
        If there is no such kind of device, or torch does not find it.
    """
    if not isinstance(device, str | torch.device):
        raise TypeError(f"device must be a name such as 'cpu', got {device!r}")
    try:
        found = torch.device(device)
        known = found.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise ValueError(
            f"device must be 'cpu', 'cuda' or one such as 'cuda:1', got {str(device)!r}"
        )
    if found.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ValueError(
                f"device {str(device)!r} was asked for, but torch finds no CUDA "
                "device: install its CUDA build and a driver, or leave the device out"
            )
        if found.index is not None and found.index >= count:
            raise ValueError(
                f"device {str(device)!r} was asked for, but torch finds {count} CUDA "
                f"devices: the last is 'cuda:{count - 1}'"
            )
    return found
