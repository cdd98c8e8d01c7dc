"""Other processes that hold the files of a run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWNER = """
import sys
from deepspin_ase._files import locked
with locked(*sys.argv[1:]):
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(*paths: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process hold the locks of paths while the block runs."""
    command = [sys.executable, "-c", _OWNER, *map(str, paths)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()
