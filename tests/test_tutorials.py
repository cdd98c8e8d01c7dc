"""Every tutorial runs, and its notebook holds the same cells."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("[0-9]*.py"))

#: Those that take a minute or more.
LONG = ("01", "02", "05", "06", "07", "08", "09", "10", "11")
RUNS = [
    pytest.param(p, marks=[pytest.mark.slow] if p.stem.startswith(LONG) else [])
    for p in TUTORIALS
]


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem)
def test_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=tmp_path,
        env=os.environ | {"MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.png")), "the tutorial drew nothing"


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda p: p.stem)
def test_notebook_is_in_step(path: Path) -> None:
    notebook = jupytext.read(path.with_suffix(".ipynb"))
    script = jupytext.read(path)
    assert [c.source for c in notebook.cells] == [c.source for c in script.cells]
    ran = [c for c in notebook.cells if c.cell_type == "code"]
    assert all(c.execution_count for c in ran), "the notebook holds no results"
