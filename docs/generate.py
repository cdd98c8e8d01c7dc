"""Pages made from the code: public names, keys of files, tutorials."""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import pkgutil
import re
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import jupytext
from pydantic import BaseModel
from pydantic.fields import FieldInfo

import deepspin_ase
from deepspin_ase.analysis.transitions import PhasesConfig
from deepspin_ase.dynamics._config import DRIVERS, RunConfig
from deepspin_ase.potentials import ARCHITECTURES
from deepspin_ase.training import TrainingConfig

ROOT = Path(__file__).parents[1]


def write(folder: Path) -> None:
    """Write all pages, except those that have not changed."""
    pages: dict[str, str | bytes] = {**api(), **configurations(), **tutorials()}
    for path in folder.rglob("*.*"):
        if str(path.relative_to(folder)) not in pages:
            path.unlink()
    for name, content in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


# --- public names ----------------------------------------------------------------


def public_modules() -> list[ModuleType]:
    """Return the package and its public modules that declare ``__all__``.

    Without :mod:`deepspin_ase.torchsim`, which imports what needs a later Python.
    """
    names = [deepspin_ase.__name__]
    for found in pkgutil.walk_packages(deepspin_ase.__path__, "deepspin_ase."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            names.append(found.name)
    names.remove("deepspin_ase.torchsim")
    modules = [importlib.import_module(name) for name in sorted(names)]
    return [m for m in modules if getattr(m, "__all__", None)]


@cache
def homes() -> dict[str, str]:
    """Return where every public name is documented, by all of its full names.

    What several packages export is documented in the innermost.
    """
    found: dict[str, str] = {}
    documented: dict[int, str] = {}
    for module in sorted(public_modules(), key=lambda m: -m.__name__.count(".")):
        for name in module.__all__:
            value, full = getattr(module, name), f"{module.__name__}.{name}"
            if not inspect.ismodule(value):
                found[full] = documented.setdefault(id(value), full)
                defined = getattr(value, "__module__", None)
                found.setdefault(f"{defined}.{name}", found[full])
    return found


def api() -> dict[str, str]:
    """Return a page of every public package, and the list of them."""
    documented = homes()
    pages = {
        f"api/{module.__name__}.rst": _page_of(module, documented)
        for module in public_modules()
    }
    listed = "\n".join(f"   {Path(page).stem}" for page in pages)
    pages["api/index.rst"] = (
        "Public names\n============\n\nEverything else is private and may change "
        f"without notice.\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    return pages


def _page_of(module: ModuleType, documented: Mapping[str, str]) -> str:
    title = module.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:"]
    elsewhere = []
    for name in sorted(module.__all__):
        value, full = getattr(module, name), f"{title}.{name}"
        if inspect.ismodule(value):
            elsewhere.append(f"- ``{name}``: :doc:`{value.__name__}`")
        elif documented[full] != full:
            elsewhere.append(f"- ``{name}``: :py:obj:`{documented[full]}`")
        elif inspect.isclass(value):
            lines += ["", f".. autoclass:: {full}"]
            lines += ["   :members:", "   :show-inheritance:"]
        elif callable(value) and hasattr(value, "__name__"):
            lines += ["", f".. autofunction:: {full}"]
        else:
            text = _comment(module, name)
            lines += ["", f".. py:data:: {name}", "", textwrap.indent(text, "   ")]
    if elsewhere:
        lines[5:5] = ["", "Names from other packages:", "", *elsewhere]
    return "\n".join(lines) + "\n"


def _comment(module: ModuleType, name: str) -> str:
    """Return the comment ``#:`` before the assignment of a name, where that is."""
    folder = Path(str(module.__file__)).parent
    for path in sorted(folder.rglob("*.py")):
        found = re.search(rf"^((?:#: .*\n)+){name}\b.*= ", path.read_text(), re.M)
        if found:
            return re.sub(r"^#: ", "", found.group(1), flags=re.M).strip()
    raise ValueError(f"{module.__name__}.{name} has no comment '#:'")


# --- keys of files ---------------------------------------------------------------


def configurations() -> dict[str, str]:
    """Return pages of all keys that the files of commands may hold."""
    training = _section("", TrainingConfig, "-")
    for name, architecture in ARCHITECTURES.items():
        training += [*_title(f"model, type: {name}", "-"), ""]
        training += _section("model", architecture.config_class, "^")
    return {
        "configuration/train.rst": "\n".join(
            [*_title("Keys of training files (deepspin train)", "="), "", *training]
        ),
        "configuration/phases.rst": "\n".join(
            [
                *_title("Keys of phase diagrams (deepspin phases)", "="),
                "",
                *_section("", PhasesConfig, "-"),
            ]
        ),
        "configuration/md.rst": "\n".join(
            [
                *_title("Keys of run files (deepspin md)", "="),
                "",
                *_section("", RunConfig, "-"),
                *_title("parameters, by driver", "-"),
                "",
                *(
                    f"- ``driver: {name}``: the arguments of "
                    f":class:`.{registered.cls.__name__}`."
                    for name, registered in DRIVERS.items()
                ),
                "",
            ]
        ),
    }


def _section(path: str, config: type[BaseModel], underline: str) -> list[str]:
    """Return what a section holds, and the sections in it."""
    described = attributes_of(config)
    lines = [inspect.cleandoc(config.__doc__ or "").split("\n\nAttributes")[0], ""]
    inner = []
    for name, field in config.model_fields.items():
        kind, text = described[name]
        key = f"{path}.{name}" if path else name
        nested = field.annotation
        if inspect.isclass(nested) and issubclass(nested, BaseModel):
            if nested.model_fields:
                inner += [
                    *_title(key, underline),
                    "",
                    *_section(key, nested, underline),
                ]
                continue
        lines += [f"``{key}`` : {kind}, {_default(field)}"]
        lines += [textwrap.indent(text or "\\ ", "    "), ""]
        for entry in _entries(nested):
            inner += [*_title(f"{key}, entries", underline), ""]
            inner += _section(key, entry, underline)
    return lines + inner


def _entries(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that entries of a list may be."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inside in get_args(annotation) for found in _entries(inside)]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return f"by default ``{json.dumps(field.get_default(call_default_factory=True))}``"


def _title(text: str, underline: str) -> list[str]:
    return [text, underline * len(text)]


def attributes_of(config: type[BaseModel]) -> dict[str, tuple[str, str]]:
    """Return type and description of every key, from the docstring of its class."""
    text = inspect.cleandoc(config.__doc__ or "")
    _, _, section = text.partition("Attributes\n----------\n")
    found = {}
    for names, kind, description in re.findall(
        r"^(\w[\w, ]*) : (.+)\n((?:    .*\n?|\n(?=    ))*)", section + "\n", re.M
    ):
        for name in names.split(", "):
            kind = kind.removesuffix(", optional")
            found[name] = kind, textwrap.dedent(description).strip()
    return found


# --- tutorials -------------------------------------------------------------------


def tutorials() -> dict[str, str | bytes]:
    """Return the tutorials with the results and figures of their notebooks."""
    pages: dict[str, str | bytes] = {}
    for script in sorted((ROOT / "tutorials").glob("[0-9]*.py")):
        results = iter(jupytext.read(script.with_suffix(".ipynb")).cells)
        parts = []
        for cell, ran in zip(jupytext.read(script).cells, results, strict=True):
            if cell.cell_type == "markdown":
                parts.append(cell.source)
                continue
            parts.append(f"```python\n{cell.source}\n```")
            for k, output in enumerate(ran.outputs):
                if output.output_type == "stream" and output.name == "stdout":
                    parts.append(f"```text\n{output.text.rstrip()}\n```")
                elif "image/png" in output.get("data", {}):
                    name = f"{script.stem}_{len(parts)}_{k}.png"
                    pages[f"tutorials/{name}"] = base64.b64decode(
                        output.data["image/png"]
                    )
                    parts.append(f"![]({name})")
        pages[f"tutorials/{script.stem}.md"] = "\n\n".join(parts) + "\n"
    return pages
