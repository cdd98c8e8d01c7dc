"""``deepspin phases``."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from processes import other_process

from deepspin_ase.analysis import Result
from deepspin_ase.cli import main
from deepspin_ase.io import write_extxyz
from deepspin_ase.potentials import (
    Heisenberg,
    Shells,
    UniaxialAnisotropy,
    save_potential,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*not in equilibrium:UserWarning")

CONFIG = {
    "structure": "cell.extxyz",
    "model": "model.pt",
    "moments": {"lengths": {"Mn": 2.0}, "q": [0.5, 0.5, 0.5]},
    "repeat": 2,
    "temperatures_K": ["40:160:4"],
    "fields_T": [0, 400],
    "orders": {"ferromagnet": [[0, 0, 0]]},
    "shown": ["order_across", "heat_capacity"],
    "lines": ["heat_capacity"],
    "steps": 200,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_extxyz("cell.extxyz", Atoms("Mn", cell=[3.0] * 3, pbc=True))
    model = Heisenberg(Shells([(3.0, -0.01)])) + UniaxialAnisotropy(2e-3, (0, 0, 1))
    save_potential("model.pt", model)
    return tmp_path


def phases(*more: str, **changes: object) -> int:
    given = {k: v for k, v in (CONFIG | changes).items() if v is not None}
    Path("phases.yaml").write_text(yaml.safe_dump(given))
    return main(["phases", "phases.yaml", *more])


def test_a_run_its_page_and_the_same_after_a_kill(folder: Path, capsys) -> None:
    assert phases("--status") == 0
    assert "no point is done" in capsys.readouterr().out
    assert phases() == 0
    said = capsys.readouterr().out
    assert "peak of the heat capacity" in said
    assert "field (T): 400, temperature (K): " in said
    page = (folder / "phases" / "report.html").read_text()
    assert "All 8 points are sampled" in page
    assert page.count("<img") == 2
    assert "temperatures_K" in page
    found = Result.load("phases/diagram.npz")
    assert found.axes["temperature_K"].tolist() == [40.0, 80.0, 120.0, 160.0]
    np.testing.assert_allclose(found.q, [[1.0, 1.0, 1.0]])
    assert found.quantities["order ferromagnet"][1, 0, 0] > 0.5
    # What a kill leaves: the first point, and the diagram of then.
    for path in (folder / "phases" / "points").glob("point1*"):
        path.unlink()
    (folder / "phases" / "diagram.npz").unlink()
    assert phases() == 0
    again = Result.load("phases/diagram.npz")
    for name, values in found.quantities.items():
        np.testing.assert_array_equal(again.quantities[name], values)
    assert phases("--status") == 0
    assert "8 of 8 points are done" in capsys.readouterr().out


def test_a_sweep_says_where_the_direction_matters(folder: Path) -> None:
    lines = [["order_along", "field_T", "step"]]
    fields = [0, 100, 300, 400]
    assert phases(sweep="field_T", fields_T=fields, lines=lines) == 0
    page = (folder / "phases" / "report.html").read_text()
    assert "the order depends on the direction of the sweep" in page
    assert "direction of the sweep" in page


def test_a_page_of_a_part(folder: Path, capsys) -> None:
    """What is seen while points are missing."""
    assert phases() == 0
    found = Result.load("phases/diagram.npz")
    for values in (*found.quantities.values(), found.drift):
        values[1] = np.nan
    found.save("phases/diagram.npz")
    capsys.readouterr()
    assert phases("--status") == 0
    assert "4 of 8 points are done" in capsys.readouterr().out
    from deepspin_ase.analysis.transitions import write_page

    write_page(found, "part.html", shown=["order"], lines=[["heat_capacity"]])
    page = Path("part.html").read_text()
    assert "4 of 8 points are sampled" in page
    assert "Line:" not in page


def test_a_second_process_is_refused(folder: Path, capsys) -> None:
    output = folder / "phases"
    output.mkdir()
    with other_process(output) as owner:
        assert phases() == 2
    assert f"being written by process {owner.pid}" in capsys.readouterr().err
    assert not [p for p in output.iterdir() if p.name != ".lock"]
    shutil.rmtree(output)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperatures": [1]}, "unknown key 'temperatures'; did you mean"),
        ({"temperatures_K": None}, "'temperatures_K' is missing"),
        ({"temperatures_K": "10:K:3"}, "expected numbers or ranges first:last:count"),
        ({"temperatures_K": [50, 40, 30, 20]}, "temperatures_K must ascend"),
        ({"pressures_GPa": [1]}, "pressures_GPa need method: npt"),
        ({"model": None}, "'model' is missing"),
        ({"moments": None}, "carries no magnetic moments"),
        ({"repeat": 3}, "does not repeat with the periodic cell"),
        ({"lines": [["spin"]]}, "quantity must be one of order"),
        ({"shown": ["order canted"]}, "quantity must be one of order"),
        ({"lines": [["order", "field_T"]]}, "an axis of four points or more"),
        ({"sweep": "time"}, "sweep"),
        ({"direction": "w"}, "axis 'w' is not one of"),
    ],
)
def test_what_cannot_be_run(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, object],
    message: str,
) -> None:
    assert phases(**changes) == 2
    assert message in capsys.readouterr().err
