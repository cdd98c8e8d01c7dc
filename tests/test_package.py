"""The package as it is built, described and laid out."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ase import Atoms, units
from packaging.requirements import Requirement

import deepspin_ase
from deepspin_ase import DeepSpinCalculator, set_spins
from deepspin_ase._extras import EXTRAS, require
from deepspin_ase.cli import main
from deepspin_ase.dynamics import SpinDynamics
from deepspin_ase.potentials import Zeeman, save_potential

ROOT = Path(__file__).parents[1]

#: What a build needs; the rest of the repository is not copied for it.
SOURCES = (
    "setup.cfg",
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CITATION.cff",
    "constraints.txt",
)
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


def copy_of_sources(folder: Path) -> Path:
    """Copy what a build needs, as it stands, into a folder and return it."""
    for name in SOURCES:
        shutil.copy(ROOT / name, folder)
    for name in FOLDERS:
        ignore = shutil.ignore_patterns("__pycache__", "*.tmp*")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_sources(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a clone of the sources without symbolic links, as git makes on Windows."""
    source = copy_of_sources(tmp_path_factory.mktemp("repository"))
    folder = tmp_path_factory.mktemp("clone") / "clone"
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["commit", "--quiet", "--message=test"],
        ["clone", "--quiet", "-c", "core.symlinks=false", ".", str(folder)],
    ):
        subprocess.run([*git, *command], cwd=source, check=True, capture_output=True)
    for name in ("dynamics", "analysis"):
        assert (folder / "deepspin_ase" / name).is_file()
    return folder


def build(kind: str, source: Path, folder: Path) -> Path:
    """Build a ``wheel`` or ``sdist`` into a new folder and return its path."""
    folder.mkdir()
    script = f"from setuptools.build_meta import build_{kind} as b; b({str(folder)!r})"
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


def built_wheel(folder: Path) -> set[str]:
    """Build a wheel and return its files."""
    with zipfile.ZipFile(build("wheel", folder, folder / "dist")) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def wheel(source: Path) -> set[str]:
    return built_wheel(source)


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


#: A calculation with all three folders, which an installed copy does not help with.
SMOKE = """
import sys
sys.meta_path[:] = [f for f in sys.meta_path if "ditable" not in str(f)]
import deepspin_ase as ds
from ase import Atoms, units
from deepspin_ase.analysis import staggered_moments
from deepspin_ase.dynamics import SpinDynamics
from deepspin_ase.potentials import Zeeman

atom = Atoms("Fe", [(0, 0, 0)])
ds.set_spins(atom, [(2.0, 0, 0)])
atom.calc = ds.DeepSpinCalculator(Zeeman((0, 0, 100.0)))
SpinDynamics(atom, units.fs).run(1)
assert abs(ds.get_spins(atom)[0, 1]) > 1e-3
for module in (ds, ds.analysis, ds.dynamics):
    print(module.__file__)
"""


def test_clone_without_links_computes(clone):
    done = subprocess.run(
        [sys.executable, "-c", SMOKE],
        cwd=clone.parent,
        env=os.environ | {"PYTHONPATH": str(clone)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [Path(line).parent for line in done.stdout.splitlines()] == [
        clone / name for name in ("deepspin_ase", "analysis", "dynamics")
    ]


def test_clone_without_links_builds_the_same_wheel(clone, wheel):
    assert built_wheel(clone) == wheel


def test_sdist_builds_the_same_wheel_and_holds_no_tests(source, wheel, tmp_path):
    shutil.copytree(ROOT / "tests", source / "tests", dirs_exist_ok=True)
    built = build("sdist", source, tmp_path / "dist")
    shutil.unpack_archive(built, tmp_path, filter="data")
    folder = tmp_path / built.name.removesuffix(".tar.gz")
    inside = {path.name for path in folder.iterdir()}
    assert {"setup.py", "constraints.txt", "dynamics", "analysis"} <= inside
    assert not {"tests", "tutorials", "benchmarks"} & inside
    assert built_wheel(folder) == wheel


@pytest.fixture(scope="module")
def installed(source: Path, wheel: set[str], tmp_path_factory) -> Path:
    """Return a folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("installed")
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


#: What ASE does with files and names that it does not know without this package.
ASE = """
import sys
from ase.calculators.calculator import get_calculator_class
from ase.io import read
assert "torch" not in sys.modules
frames = read("run.h5", index=":")
print(len(frames), frames[-1].get_initial_magnetic_moments().shape)
print(read("run.h5", index=1).info["time_fs"])
print(read("cell.mcif").get_initial_magnetic_moments().tolist())
atoms = read("run.h5")
atoms.calc = get_calculator_class("deepspin")("model.pt")
print(type(atoms.calc).__name__, atoms.get_potential_energy())
"""

#: A ferromagnet of two atoms, one of them from a translation.
FERROMAGNET = """data_fe
_cell_length_a 2.87
_cell_length_b 2.87
_cell_length_c 2.87
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_space_group_symop_magn_operation.id
_space_group_symop_magn_operation.xyz
1 x,y,z,+1
loop_
_space_group_symop_magn_centering.id
_space_group_symop_magn_centering.xyz
1 x,y,z,+1
2 x+1/2,y+1/2,z+1/2,+1
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Fe1 Fe 0 0 0
loop_
_atom_site_moment.label
_atom_site_moment.crystalaxis_x
_atom_site_moment.crystalaxis_y
_atom_site_moment.crystalaxis_z
Fe1 0 0 2.2
"""


def in_installation(installed: Path, folder: Path, *words: str) -> str:
    """Run Python with the installed package, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ase_finds_calculator_and_formats(installed: Path, tmp_path: Path) -> None:
    atom = Atoms("Fe", [(0, 0, 0)])
    set_spins(atom, [(2.0, 0, 0)])
    field = Zeeman((0, 0, 100.0))
    atom.calc = DeepSpinCalculator(field)
    save_potential(tmp_path / "model.pt", field)
    run = SpinDynamics(atom, units.fs, trajectory=tmp_path / "run.h5", loginterval=1)
    run.run(2)
    (tmp_path / "cell.mcif").write_text(FERROMAGNET)
    said = in_installation(installed, tmp_path, "-c", ASE).splitlines()
    assert said[0] == "3 (1, 3)" and float(said[1]) == pytest.approx(1.0)
    assert said[2] == "[[0.0, 0.0, 2.2], [0.0, 0.0, 2.2]]"
    name, energy = said[3].split()
    assert name == "DeepSpinCalculator"
    assert float(energy) == pytest.approx(atom.get_potential_energy())
    command = ("-m", "ase", "run", "deepspin", "run.h5", "-p", "model='model.pt'")
    assert "error" not in in_installation(installed, tmp_path, *command).lower()


@pytest.mark.parametrize(
    "module, place",
    [
        ("calculator", "deepspin_ase "),
        ("analysis.neb", "deepspin_ase.analysis "),
        ("analysis.symmetry", "deepspin_ase.symmetry "),
        ("lammps.data", "deepspin_ase.calculators "),
        ("potentials.fused.network", "deepspin_ase.kernels "),
    ],
)
def test_old_paths_name_the_new_ones(module, place):
    with pytest.raises(ModuleNotFoundError, match=f"import its names from {place}"):
        importlib.import_module(f"deepspin_ase.{module}")


def test_public_names_are_imported_at_first_use():
    script = """
import sys
import deepspin_ase as ds
from deepspin_ase import analysis
print({"torch", "numpy", "ase"} & set(sys.modules))
ds.units.MU_B
print("torch" in sys.modules)
ds.load_potential
print("torch" in sys.modules)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split("\n")[:3] == ["set()", "False", "True"], done.stderr


@pytest.mark.parametrize("package", [deepspin_ase, deepspin_ase.analysis])
def test_stubs_list_what_they_import(package):
    """Every name of ``__all__`` exists, and no other is imported for the public."""
    assert package.__all__ == sorted(set(package.__all__), key=package.__all__.index)
    for name in package.__all__:
        assert getattr(package, name) is not None
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    imported = {
        alias.name
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(package.__all__) == set(dir(package))


def test_missing_extras_are_named(metadata, monkeypatch):
    names = {"torch_sim": "torch-sim-atomistic"}
    for module, extra in EXTRAS.items():
        name = names.get(module, module)
        assert name in {r.name for r in extra_of(metadata, extra)}
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ImportError, match=rf"need {module}.*ase\[{extra}\]"):
            require(module, "these")


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


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_constraints_pin_what_is_required(metadata, python):
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if not pin.marker or pin.marker.evaluate({"python_version": python}):
                pins.setdefault(pin.name.lower(), []).append(pin)
    for required in requirements(metadata):
        (pin,) = pins[required.name.lower()]
        (version,) = pin.specifier
        assert version.operator == "=="
        assert required.specifier.contains(version.version), required


#: Imports of a script that runs in an environment of its own.
ELSEWHERE = {"_worker.py": {"lammps", "mpi4py"}}

#: What torch and numba bring: Triton where it can be used, and the compiler.
WITH_OTHERS = {"triton", "llvmlite"}


def test_imports_are_required(metadata):
    """Whatever the library imports is installed with it, or optional."""
    names = {"pyyaml": "yaml"}
    installed = {names.get(r.name.lower(), r.name.lower()) for r in required(metadata)}
    extras = metadata["options.extras_require"].keys() - {"test", "docs"}
    optional = {r.name.lower() for extra in extras for r in extra_of(metadata, extra)}
    for folder in FOLDERS:
        for path in modules(ROOT / folder):
            for name in imported(path):
                top = name.split(".")[0]
                known = sys.stdlib_module_names | installed | optional | WITH_OTHERS
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
        if inside.parts[0] not in ("cli", "learning"):
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


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_commands_are_imported_where_asked_for(option):
    script = f"""
import sys
from deepspin_ase.cli import main
try:
    main([{option!r}])
except SystemExit:
    sys.exit(" ".join({{"numpy", "ase", "torch"}} & {{*sys.modules}}))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout
    assert not done.stderr.strip()


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
