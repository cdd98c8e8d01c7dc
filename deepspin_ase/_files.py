"""Atomic writes of files."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path next to ``path`` that replaces it when the block ends.

    If the block raises, the temporary file is removed and ``path`` is unchanged.

    >>> with atomic_write("result.npz") as temporary:
    ...     np.savez(temporary, energy=-8.3)
    """
    path = Path(path)
    # The suffix is kept: numpy and ASE choose the format by it.
    temporary = path.with_name(f".{secrets.token_hex(4)}.tmp.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
