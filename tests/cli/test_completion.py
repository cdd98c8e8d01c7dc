"""``deepspin completion``: what bash completes with the script."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deepspin_ase.cli import COMMANDS, main

BASH = shutil.which("bash")

#: What bash does at the tabulator key with what the script registered.
ASK = """
source ./script
eval "words=($1)"
COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1))
function=$(complete -p deepspin | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$function deepspin "${words[-1]}" "${words[-2]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the script, a structure and a model of one's own."""
    pytest.importorskip("shtab", reason="the extra completion is missing")
    folder = tmp_path_factory.mktemp("completion")
    assert main(["completion", "zsh"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEEPSPIN_MODELS", str(folder / "models"))
        patch.chdir(folder)
        with (folder / "script").open("w") as script:
            patch.setattr("sys.stdout", script)
            assert main(["completion", "bash"]) == 0
    (folder / "fe.extxyz").touch()
    (folder / "mine.pt").touch()
    return folder


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deepspin ''", set(COMMANDS)),
        ("deepspin re", {"relax"}),
        ("deepspin data ''", {"info", "convert"}),
        ("deepspin relax --pre", {"--pressure-GPa"}),
        ("deepspin relax fe", {"fe.extxyz"}),
        ("deepspin relax fe.extxyz -m ''", {"NiO", "Fe", "BiFeO3", "mine.pt"}),
        ("deepspin relax fe.extxyz -m Ni", {"NiO"}),
        ("deepspin curie cell --method mon", {"monte-carlo"}),
        ("deepspin convert mine.pt ta --to sp", {"spirit", "spinw"}),
    ],
)
def test_bash_completes(folder: Path, line: str, expected: set[str]) -> None:
    assert BASH is not None
    command = [BASH, "--norc", "-c", ASK, "bash", line]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert not done.stderr
    assert expected <= set(done.stdout.split()), done.stdout
    if len(expected) == 1:
        assert set(done.stdout.split()) == expected


def test_a_shell_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["completion", "fish"])
    assert "invalid choice: 'fish'" in capsys.readouterr().err
