"""Pages made from the code: public names, keys of files, tutorials."""

from __future__ import annotations

import base64
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jupytext

import deepspin_ase

ROOT = Path(__file__).parents[1]


def write(folder: Path) -> None:
    """Write all pages, and none anew that has not changed."""
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
    """Return the package and its public modules that declare ``__all__``."""
    names = [deepspin_ase.__name__]
    for found in pkgutil.walk_packages(deepspin_ase.__path__, "deepspin_ase."):
        if not any(part.startswith("_") for part in found.name.split(".")):
            names.append(found.name)
    modules = [importlib.import_module(name) for name in sorted(names)]
    return [m for m in modules if getattr(m, "__all__", None)]


def homes() -> dict[str, list[str]]:
    """Return the names documented on every page.

    What several packages export is documented where it lies deepest, and listed in
    the others.
    """
    return {m.__name__: sorted(m.__all__) for m in public_modules()}


def api() -> dict[str, str]:
    """Return a page of every public package, and the list of them."""
    modules = public_modules()
    documented: dict[int, str] = {}
    for module in sorted(modules, key=lambda m: -m.__name__.count(".")):
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                documented.setdefault(id(value), f"{module.__name__}.{name}")
    pages = {
        f"api/{module.__name__}.rst": _page_of(module, documented) for module in modules
    }
    listed = "\n".join(f"   {Path(page).stem}" for page in pages)
    pages["api/index.rst"] = (
        "Public names\n============\n\nEverything else is private and may change "
        f"without notice.\n\n.. toctree::\n   :maxdepth: 1\n\n{listed}\n"
    )
    return pages


def _page_of(module: ModuleType, documented: Mapping[int, str]) -> str:
    title = module.__name__
    lines = [title, "=" * len(title), "", f".. automodule:: {title}", "   :no-members:"]
    elsewhere = []
    for name in sorted(module.__all__):
        value, full = getattr(module, name), f"{title}.{name}"
        if inspect.ismodule(value):
            elsewhere.append(f"- ``{name}``: :doc:`{value.__name__}`")
        elif documented[id(value)] != full:
            elsewhere.append(f"- ``{name}``: :py:obj:`{documented[id(value)]}`")
        elif inspect.isclass(value):
            lines += ["", f".. autoclass:: {full}"]
            lines += ["   :members:", "   :show-inheritance:"]
        elif callable(value) and hasattr(value, "__name__"):
            lines += ["", f".. autofunction:: {full}"]
        else:
            lines += ["", f".. autodata:: {full}", "   :no-value:"]
    if elsewhere:
        lines[5:5] = ["", "Names from other packages:", "", *elsewhere]
    return "\n".join(lines) + "\n"


# --- keys of files ---------------------------------------------------------------


def configurations() -> dict[str, str]:
    """Return pages of all keys that the files of commands may hold."""
    raise NotImplementedError


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
