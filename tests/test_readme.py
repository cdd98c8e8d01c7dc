"""The README: its Python runs, its commands and links lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import matplotlib
import pytest

from deepspin_ase.cli import main
from deepspin_ase.potentials import shipped_models

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.mark.skipif("NiO" not in shipped_models(), reason="the NiO model is missing")
def test_python_runs(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    assert blocks("python")
    namespace: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)


def test_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    for target in targets:
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_commands_exist(capsys):
    named = set(re.findall(r"\bdeepspin ([a-z]+)", "\n".join(blocks("bash"))))
    assert "demo" in named
    for command in named:
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0
        capsys.readouterr()


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text()
    shown = "\n".join(line for line in script.splitlines() if "sed" in line)
    extract = shown.partition("$(")[2].rpartition(")")[0]
    done = subprocess.run(
        ["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout in blocks("bash")
    assert "ruff check" in done.stdout and "&& pytest" in done.stdout
