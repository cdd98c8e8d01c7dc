"""Writing files that are either there complete or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path`` and rename it when the block ends.

    If the block raises, the temporary file is removed and ``path`` is as it was.

    >>> with written_whole("result.npz") as temporary:
    ...     np.savez(temporary, energy=energy)
    """
    path = Path(path)
    # The suffix is kept: numpy and ASE choose the format by it.
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
