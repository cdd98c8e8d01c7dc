"""Safetensors files with a checksum of the whole.

The format, https://huggingface.co/docs/safetensors, is 8 bytes with the length of a
header, the header, JSON that has type, shape and place of every tensor and free texts
under ``__metadata__``, and the bytes of the tensors. One of the texts is the SHA-256 of
the file in which the digits of the checksum are zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._files import atomic_write

SUFFIX = ".safetensors"

#: NumPy's names of the types of numbers.
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U8": "|u1",
    "BOOL": "|b1",
}
_NAMES = {np.dtype(dtype): name for name, dtype in _TYPES.items()}

#: What stands for the checksum while it is computed.
_NO_CHECKSUM = "0" * 64


def is_safetensors(path: Path) -> bool:
    """Say whether a file is one by its name, or begins like one."""
    if path.suffix == SUFFIX:
        return True
    with path.open("rb") as stream:
        start = stream.read(9)
    # A zip archive, or another format, would have a header of more than 2^48 bytes.
    return start[6:] == b"\0\0{"


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write tensors and texts, whole or not at all.

    Raises
    ------
    TypeError
        If a tensor has a type of numbers that is not written.
    OSError
        If it cannot be written; an earlier file of that name stays.
    """
    arrays = {name: value.detach().cpu().numpy() for name, value in tensors.items()}
    # Aligned, as readers want them who map files into memory.
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": {"sha256": _NO_CHECKSUM, **metadata}}
    end = 0
    for name in names:
        array = arrays[name]
        if array.dtype not in _NAMES:
            raise TypeError(f"{name}: tensors of {array.dtype} are not written")
        start, end = end, end + array.nbytes
        header[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = (arrays[name].astype(_TYPES[header[name]["dtype"]]) for name in names)
    content = b"".join(
        [len(text).to_bytes(8, "little"), text, *(array.tobytes() for array in data)]
    )
    checksum = hashlib.sha256(content).hexdigest()
    content = content.replace(_NO_CHECKSUM.encode(), checksum.encode(), 1)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_safetensors(
    path: Path, *, expected: str
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the tensors and texts that :func:`write_safetensors` wrote.

    Parameters
    ----------
    path : Path
    expected : str
        What the file should be, for messages.

    Raises
    ------
    ValueError
        If it is truncated, was changed by a single bit, or is something else.
    """
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8:start].decode())
        metadata = header.pop("__metadata__", {})
        checksum = metadata.get("sha256")
    except Exception as error:  # whatever the damage leads to
        raise ValueError(
            f"{path} is truncated, damaged or something else; expected {expected}"
        ) from error
    if not isinstance(checksum, str):
        raise ValueError(
            f"{path} is a safetensors file of something else; expected {expected}"
        )
    blank = content.replace(checksum.encode(), _NO_CHECKSUM.encode(), 1)
    if hashlib.sha256(blank).hexdigest() != checksum:
        raise ValueError(
            f"{path} is truncated, or was changed after it was written: its checksum "
            "is wrong. Copy it again, or write it again"
        )
    return {name: _tensor(content, start, of) for name, of in header.items()}, metadata


def _tensor(content: bytes, start: int, entry: Mapping[str, Any]) -> torch.Tensor:
    begin, end = entry["data_offsets"]
    array = np.frombuffer(content[start + begin : start + end], _TYPES[entry["dtype"]])
    native = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(native.reshape(entry["shape"]))
