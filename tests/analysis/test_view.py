"""Moments as arrows: figures, web pages, OVITO, and the command that makes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ase.io
import matplotlib
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib import pyplot
from matplotlib.colors import rgb_to_hsv
from matplotlib.image import imread

from deepspin_ase import antiferromagnetic, get_spins, set_spins, spiral, write_extxyz
from deepspin_ase.analysis import plot_spins, write_html, write_ovito
from deepspin_ase.analysis.view import arrow_scale, direction_colors
from deepspin_ase.cli import main

matplotlib.use("Agg")
pytest.importorskip("chemiscope")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def nickel_oxide(direction: str = "z") -> Atoms:
    atoms = bulk("NiO", "rocksalt", 4.17, cubic=True)
    order = antiferromagnetic((0, 0, 1), cell=4.17, direction=direction)
    set_spins(atoms, {"Ni": 1.9}, pattern=order)
    return atoms


def trajectory(n: int = 5) -> list[Atoms]:
    """Moments that turn about z, with what a run would leave in the frames."""
    frames = []
    for k in range(n):
        atoms = nickel_oxide("x")
        turn = np.radians(15 * k)
        spins = get_spins(atoms)
        spins[:, 1], spins[:, 0] = (
            spins[:, 0] * np.sin(turn),
            spins[:, 0] * np.cos(turn),
        )
        set_spins(atoms, spins)
        atoms.set_momenta(np.full((8, 3), 0.1 * k))
        atoms.info["time_fs"] = 2.0 * k
        atoms.calc = SinglePointCalculator(atoms, energy=-k, forces=np.full((8, 3), k))
        atoms.calc.results["magnetic_forces"] = np.full((8, 3), 0.01)
        frames.append(atoms)
    return frames


def data_of(page: Path) -> dict:
    """Return what the page gives to its viewer."""
    text = page.read_text(encoding="utf-8")
    found = re.search(r"\.load\(places, (\{.*\}), warnings\)", text)
    assert found is not None
    return json.loads(found[1])


# --- colours and figures ------------------------------------------------------


def test_colours_tell_directions():
    up, down, none = direction_colors([[0, 0, 2.0], [0, 0, -0.5], [0, 0, 0]])
    assert up[0] > 0.6 > up[2] and down[2] > 0.6 > down[0]  # red and blue
    assert none == pytest.approx([0.6, 0.6, 0.6])
    along_x = direction_colors([[1, 0, 0], [-1, 0, 0], [0, 1, 0]], axis="x")
    assert along_x[0] == pytest.approx(up)
    assert np.ptp(along_x[2]) < 0.05
    angles = np.radians([0, 120, 240])
    flat = np.stack([np.cos(angles), np.sin(angles), 0 * angles], axis=1)
    assert direction_colors(flat) == pytest.approx(np.eye(3), abs=1e-6)
    # Turned by any angle around z, the hue follows.
    hues = rgb_to_hsv(direction_colors(3.0 * flat[[1, 2, 0]]))[:, 0]
    assert hues == pytest.approx([1 / 3, 2 / 3, 0.0])
    tilted = direction_colors([[1, 0, 0.5], [1, 0, -0.5], [0, 1, 0], [0, 0, 1]])
    assert tilted[0].sum() > tilted[1].sum()
    with pytest.raises(ValueError, match="axis"):
        direction_colors([[0, 0, 1.0]], axis="w")


def test_arrows_fit_between_the_atoms():
    atoms = nickel_oxide()
    length = 1.9 * arrow_scale(atoms, get_spins(atoms))
    assert 1.0 < length < 4.17 / 2**0.5


def test_figure_in_three_dimensions():
    ax = plot_spins(nickel_oxide())
    (arrows,) = (c for c in ax.collections if type(c).__name__ == "Line3DCollection")
    colors = arrows.get_colors().reshape(3, 4, -1)  # shafts, left and right strokes
    assert colors[1] == pytest.approx(colors[0])
    assert (colors[0, :, 0] > colors[0, :, 2]).tolist() == [True, False, False, True]
    assert len(ax.lines) == 12
    flat = pyplot.subplots()[1]
    with pytest.raises(ValueError, match="3d"):
        plot_spins(nickel_oxide(), flat)
    pyplot.close("all")


def test_projected_figure():
    atoms = bulk("Fe", "sc", 2.5) * (8, 1, 1)
    set_spins(atoms, {"Fe": 2.0}, pattern=spiral((1 / 8, 0, 0), cell=2.5, normal="y"))
    ax = plot_spins(atoms, view="-y", scale=1.0)
    (arrows,) = (c for c in ax.collections if type(c).__name__ == "Quiver")
    drawn = np.stack([arrows.U, arrows.V], axis=1)
    order = np.argsort(arrows.XY[:, 0] + drawn[:, 0] / 2)
    assert drawn[order] == pytest.approx(get_spins(atoms)[:, [0, 2]], abs=1e-9)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (Å)", "z (Å)")
    # End on: four dots and four crosses, no arrows; oxygen only where asked for.
    end_on = plot_spins(nickel_oxide(), view="z", non_magnetic=False)
    sizes = [len(c.get_offsets()) for c in end_on.collections[:1]]
    assert sizes == [4]
    (quiver,) = (c for c in end_on.collections if type(c).__name__ == "Quiver")
    assert quiver.N == 0
    pyplot.close("all")


def test_nothing_to_draw():
    bare = bulk("NiO", "rocksalt", 4.17, cubic=True)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        plot_spins(bare)
    set_spins(bare, np.zeros(8))
    with pytest.raises(ValueError, match="all moments are zero"):
        plot_spins(bare)


# --- web pages ----------------------------------------------------------------


def test_page_holds_everything(tmp_path):
    page = tmp_path / "run.html"
    frames = trajectory()
    assert write_html(page, iter(frames), scale=0.5) == 5
    text = page.read_text(encoding="utf-8")
    head, rest = text.split("<script>", 1)
    tail = rest.rsplit("</script>", 1)[1]
    for part in (head, tail):
        assert not re.search(r"(src|href)\s*=|url\(|@import", part)
    assert text.count("<script") - text.count('"<script') >= 2
    assert "BSD" in text and "chemiscope" in text.lower()
    data = data_of(page)
    assert len(data["structures"]) == 5
    arrows = data["shapes"]["moments"]["parameters"]["atom"]
    vectors = np.array([arrow["vector"] for arrow in arrows]).reshape(5, 8, 3)
    expected = 0.5 * np.array([get_spins(frame) for frame in frames])
    assert vectors == pytest.approx(expected, abs=1e-4)
    values = {p: v["values"] for p, v in data["properties"].items()}
    assert values["time"] == [0, 2, 4, 6, 8]
    assert values["energy"] == [0, -1, -2, -3, -4]
    assert write_html(page, frames, every=2) == 3
    assert len(data_of(page)["structures"]) == 3


def test_page_of_a_molecule_and_an_awkward_title(tmp_path):
    page = tmp_path / "one.html"
    atoms = Atoms("FeO", [[0, 0, 0], [1.6, 0, 0]])
    set_spins(atoms, [[0, 0, 4.0], [0, 0, 0]])
    assert write_html(page, atoms, title="a </script><b>bold</b> {title}") == 1
    text = page.read_text(encoding="utf-8")
    assert "<b>bold" not in text.split("<script>", 1)[0]
    data = data_of(page)
    assert data["meta"]["name"] == "a </script><b>bold</b> {title}"
    assert data["settings"]["structure"][0]["unitCell"] is False
    assert "cell" not in data["structures"][0]


def test_page_needs_chemiscope_and_moments(tmp_path, monkeypatch):
    bare = bulk("Fe", "sc", 2.5)
    bare.set_initial_magnetic_moments(None)
    with pytest.raises(ValueError, match="carry no magnetic moments"):
        write_html(tmp_path / "x.html", bare)
    with pytest.raises(ValueError, match="every"):
        write_html(tmp_path / "x.html", nickel_oxide(), every=0)
    monkeypatch.setitem(sys.modules, "chemiscope", None)
    with pytest.raises(ImportError, match=r"deepspin-ase\[view\]"):
        write_html(tmp_path / "x.html", nickel_oxide())
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_arrows_are_drawn_offline_in_a_browser(tmp_path):
    """Red and blue arrows in the picture that a headless browser takes, without net."""
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    atoms = bulk("Fe", "sc", 3.0) * (2, 2, 1)
    set_spins(atoms, [[0, 0, 2.0], [0, 0, -2.0], [0, 0, -2.0], [0, 0, 2.0]])
    write_html(page, [atoms, atoms], scale=1.2)
    command = [
        str(CHROMIUM),
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--use-gl=angle",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--window-size=500,500",
        "--timeout=60000",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--screenshot={picture}",
        page.as_uri(),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    red, green, blue = imread(picture)[60:400, 60:, :3].transpose(2, 0, 1)
    reds = (red > 0.3) & (green < 0.4 * red) & (blue < 0.5 * red)
    blues = (blue > 0.3) & (green < 0.7 * blue) & (red < 0.7 * blue)
    assert reds.sum() > 200 and blues.sum() > 200


# --- OVITO and the command ----------------------------------------------------


def test_file_for_ovito(tmp_path):
    """OVITO 3.17 reads these three columns as properties that it draws arrows for."""
    path = tmp_path / "ovito.extxyz"
    frames = trajectory()
    assert write_ovito(path, frames) == 5
    columns = path.read_text().splitlines()[1]
    for column in ("dipoles:R:3", "velo:R:3", "forces:R:3", "magnetic_forces:R:3"):
        assert column in columns
    assert "initial_magmoms" not in columns
    found = ase.io.read(path, index=":")
    for k, (frame, written) in enumerate(zip(frames, found, strict=True)):
        assert written.arrays["dipoles"] == pytest.approx(get_spins(frame), abs=1e-8)
        velocities = frame.get_velocities() * units.fs
        assert written.arrays["velo"] == pytest.approx(velocities, abs=1e-8)
        assert written.get_potential_energy() == -k
    with pytest.raises(ValueError, match="no frames"):
        write_ovito(path, [])
    assert len(ase.io.read(path, index=":")) == 5


def test_view_command(tmp_path, capsys):
    run = tmp_path / "run.extxyz"
    write_extxyz(run, trajectory())
    assert main(["view", str(run), "--every", "2"]) == 0
    assert "3 frames" in capsys.readouterr().out
    assert len(data_of(tmp_path / "run.html")["structures"]) == 3
    figure = tmp_path / "run.png"
    assert main(["view", str(run), "-o", str(figure), "--projection", "z"]) == 0
    assert imread(figure).ndim == 3
    assert main(["view", str(run), "-o", str(tmp_path / "o.extxyz")]) == 0
    assert "5 frames for OVITO" in capsys.readouterr().out
    for wrong, message in (
        (["view", str(run), "-o", str(run)], "itself"),
        (["view", str(run), "-o", "x.gif"], "must end in"),
        (["view", str(tmp_path / "none.h5")], "does not exist"),
        (["view", str(run), "--axis", "q"], "axis"),
        (["view", str(run), "-o", str(figure), "--projection", "k"], "axis"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err
