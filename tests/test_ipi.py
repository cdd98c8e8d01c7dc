"""The example of i-PI, as its README says, with i-PI itself.

``DEEPSPIN_IPI`` is the path of ``i-pi`` (``pip install ipi``, in any environment).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "ipi"
STEPS = 5
IPI = os.environ.get("DEEPSPIN_IPI") or shutil.which("i-pi")

pytestmark = pytest.mark.skipif(IPI is None, reason="DEEPSPIN_IPI is not set")


def python(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """Return a folder where i-PI waits, and the name of its socket."""
    folder = shutil.copytree(EXAMPLE, tmp_path / "ipi")
    python(folder, "structure.py")
    name = f"deepspin-{secrets.token_hex(4)}"
    given = (folder / "input.xml").read_text()
    given = given.replace("<total_steps>100", f"<total_steps>{STEPS}")
    given = given.replace("<address>deepspin", f"<address>{name}")
    (folder / "input.xml").write_text(given)
    socket = Path(f"/tmp/ipi_{name}")
    assert IPI is not None
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [IPI, "input.xml"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )
    try:
        for _ in range(600):
            if socket.exists() or running.poll() is not None:
                break
            time.sleep(0.1)
        assert socket.exists(), (folder / "log").read_text()
        yield folder, name
        assert running.wait(60) == 0
    finally:
        running.kill()
        running.wait()
        socket.unlink(missing_ok=True)


@pytest.mark.parametrize("options", [[], ["--relax", "directions"]])
def test_energies_are_those_of_ase(
    server: tuple[Path, str], options: list[str]
) -> None:
    folder, socket = server
    words = ["nio.extxyz", "NiO", *options]
    python(folder, "client.py", *words, "--socket", socket)
    said = python(folder, "compare.py", *words)
    differences = [float(x) for x in re.findall(r"difference (\S+) eV", said)]
    assert len(differences) == 2 and max(differences) < 5e-6
    assert f"{STEPS} steps" in said
    (exchanged,) = re.findall(r"exchanged: (\S+) eV", said)
    assert float(exchanged) > 0.05
