"""Structure of the code: no import circles, no tests for classes of potentials."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepspin_ase.potentials
from deepspin_ase.potentials import Potential

ROOT = Path(__file__).parents[1]
FOLDERS = ("deepspin_ase", "dynamics", "analysis")

#: The one import that would close a circle, and is therefore done when it is needed.
LAZY = ("deepspin_ase.potentials._base", "deepspin_ase.potentials._evaluation")


def sources() -> dict[str, Path]:
    """Return the files of all modules by their names."""
    found = {}
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            inside = path.relative_to(ROOT)
            linked = inside.parts[:2] in (("deepspin_ase", f) for f in FOLDERS[1:])
            if not linked:
                parts = inside.with_suffix("").parts
                parts = parts[1:] if folder == "deepspin_ase" else parts
                name = ".".join(("deepspin_ase", *parts)).removesuffix(".__init__")
                found[name] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield the modules that a module imports, in functions and for types as well."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    # Lazy packages import what their stubs say.
    stub = path.with_suffix(".pyi")
    text = path.read_text() + (stub.read_text() if stub.exists() else "")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(relative, package)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield from [m for m in (inner, base) if m in known][:1]


def circles(edges: dict[str, set[str]]) -> set[str]:
    """Return the modules that import themselves by way of others."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        left = [start]
        while left:
            new = edges[left.pop()] - found
            found |= new
            left += new
        return found

    return {name for name in edges if name in reached(name)}


def test_no_import_circles() -> None:
    known = sources()
    assert len(known) > 200
    edges = {n: set(imported(n, path, known)) - {n} for n, path in known.items()}
    first, second = LAZY
    assert second in edges[first]
    edges[first].discard(second)
    assert not circles(edges)


def test_circles_are_found() -> None:
    edges = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"a"}}
    assert circles(edges) == {"b", "c"}
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def classes_of_potentials() -> set[str]:
    """Return the names of all classes that derive from Potential."""
    found, left = set(), [Potential]
    while left:
        children = left.pop().__subclasses__()
        left += children
        found |= {c.__name__ for c in children if c.__module__.startswith("deepspin")}
    return found


def asked(tree: ast.AST) -> Iterator[str]:
    """Yield the names of classes that isinstance, issubclass or type() compare with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
            "isinstance",
            "issubclass",
        ):
            parts = ast.walk(node.args[1])
        elif isinstance(node, ast.Compare) and any(
            isinstance(side, ast.Call) and getattr(side.func, "id", "") == "type"
            for side in (node.left, *node.comparators)
        ):
            parts = ast.walk(node)
        else:
            continue
        for part in parts:
            yield from (x for x in (getattr(part, "id", None),) if x)
            yield from (x for x in (getattr(part, "attr", None),) if x)


def test_nobody_asks_for_the_class_of_a_potential() -> None:
    """A potential says what it is: only its own room knows classes."""
    names = classes_of_potentials()
    assert {"Sum", "Heisenberg", "DeepSpinNetwork", "PairTerm"} <= names
    for module, path in sources().items():
        if module.split(".")[1:2] not in (["potentials"], ["kernels"]):
            found = names & set(asked(ast.parse(path.read_text())))
            assert not found, f"{module} asks whether a potential is {sorted(found)}"


def test_questions_are_found() -> None:
    text = "isinstance(x, (a.Sum, int)); type(x) in (Material, y); issubclass(c, Pair)"
    found = set(asked(ast.parse(text)))
    assert {"Sum", "Material", "Pair"} <= found


def test_compiled_code_is_kept_in_one_way() -> None:
    """numba's own cache raises where neither the package nor the home is writable."""
    for module, path in sources().items():
        assert not re.search(r"jit\([^)]*cache=", path.read_text("utf-8")), module


def test_kernels_know_no_potential() -> None:
    known = sources()
    for module, path in known.items():
        if module.startswith("deepspin_ase.kernels"):
            targets = {
                t.split(".")[1] for t in imported(module, path, known) if "." in t
            }
            assert targets <= {"kernels", "neighbors", "system"}, module
            if ".cpu" in module or ".cuda" in module:
                other = "cuda" if ".cpu" in module else "cpu"
                assert not [
                    t
                    for t in imported(module, path, known)
                    if t.startswith(f"deepspin_ase.kernels.{other}")
                ], module


@pytest.mark.parametrize("name", ["terms", "networks", "materials", "radial"])
def test_rooms_declare_what_is_public(name: str) -> None:
    room = getattr(deepspin_ase.potentials, name)
    assert room.__all__ == sorted(room.__all__, key=_by_kind)
    for public in room.__all__:
        assert inspect.getdoc(getattr(room, public)), public


def _by_kind(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)
