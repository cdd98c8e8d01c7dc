"""The documentation site: it builds without a warning, and holds every public name."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from deepspin_ase.analysis.transitions import PhasesConfig
from deepspin_ase.dynamics._config import RunConfig
from deepspin_ase.potentials import ARCHITECTURES
from deepspin_ase.training import TrainingConfig

pytest.importorskip("sphinx", reason="the extra docs, part of test, is missing")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as CI does, with warnings as errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-b", "html", "-d", str(folder / "trees"), "docs", str(folder / "html")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_public_name_has_an_entry(site, generate):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, uri: uri)
    entries = {name for kind in inventory.values() for name in kind}
    assert set(generate.homes().values()) <= entries
    for module in generate.public_modules():
        page = site / "generated" / "api" / f"{module.__name__}.html"
        text = page.read_text()
        for name in module.__all__:
            assert name in text


def test_tutorials_show_their_figures(site):
    for script in sorted((ROOT / "tutorials").glob("[0-9]*.py")):
        page = (site / "generated" / "tutorials" / f"{script.stem}.html").read_text()
        assert page.count("_images/") >= 1


def test_formulas_are_drawn_without_scripts(site):
    folder = site / "generated" / "tutorials"
    text = (folder / "02_spin_lattice_dynamics.html").read_text()
    assert "<mi>tanh</mi>" in text
    assert "\\frac" not in text.partition("<article")[2].partition("</article>")[0]


def test_pages_need_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        assert 'src="http' not in text and 'rel="stylesheet" href="http' not in text


def keys(config: type, path: str = "") -> set[str]:
    """Return the keys of a configuration and of the sections in it."""
    found = set()
    for name, field in config.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        found |= keys(field.annotation, f"{path}{name}.") if inner else {path + name}
    return found


@pytest.mark.parametrize(
    "page, config, path",
    [
        ("md", RunConfig, ""),
        ("phases", PhasesConfig, ""),
        ("train", TrainingConfig, ""),
        *(("train", a.config_class, "model.") for a in ARCHITECTURES.values()),
    ],
)
def test_every_key_of_files_is_described(site, page, config, path):
    text = (site / "generated" / "configuration" / f"{page}.html").read_text()
    for key in keys(config, path):
        assert f'<span class="pre">{key}</span>' in text, key
