"""Configuration of Sphinx: ``sphinx-build -W --keep-going docs build/docs``.

Nothing is fetched: formulas become MathML, the theme brings its own fonts and scripts,
and tutorials show the results that their notebooks hold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate
import mathml
from docutils.nodes import Element
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.domains.python import PyObject
from sphinx.environment import BuildEnvironment

import deepspin_ase

project = "deepspin-ase"
author = "The deepspin-ase developers"
version = release = deepspin_ase.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3
#: Words in the types of parameters, "label or list", are looked up as names.
suppress_warnings = ["ref.python"]
exclude_patterns = ["_*"]

html_theme = "furo"
html_title = f"deepspin-ase {release}"
html_math_renderer = "mathml"
html_copy_source = False

#: Signatures show defaults as they are written.
autodoc_preserve_defaults = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True


def keep_colons(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep napoleon from taking what stands before a colon for a property's type."""
    if what in ("property", "attribute"):
        lines[:0] = ["..", ""]


def escape_bars(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Keep absolute values, ``|m|``, from being read as substitutions."""
    for k, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [part.replace("|", r"\|") for part in parts[::2]]
        lines[k] = "``".join(parts)


def skip_fields(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields of named tuples, which the class describes."""
    return True if isinstance(value, type(_Fields.x)) else None


class _Fields(NamedTuple):
    x: int


def find_elsewhere(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element
) -> Element | None:
    """Lead names that several packages export to where they are documented."""
    if node.get("refdomain") != "py":
        return None
    target, homes = node["reftarget"], generate.homes()
    home = homes.get(target)
    for full in set(homes.values()) if home is None else ():
        # Written with another prefix, or a member: ``Potential.evaluate``.
        name = full.rpartition(".")[2]
        if target.rpartition(".")[2] == name:
            home = full
        elif target.startswith(f"{name}."):
            home = full + target.removeprefix(name)
    if home is None:
        return None
    return env.domains.python_domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], home, node, content
    )


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages that are made from the code, and draw formulas as MathML."""
    mathml.setup(app)
    # Names of attributes in a class's list are no references: many classes have each.
    for field in PyObject.doc_field_types:
        if field.name == "variable":
            field.rolename = ""
    app.connect("builder-inited", lambda app: generate.write(HERE / "generated"))
    app.connect("autodoc-process-docstring", keep_colons, priority=400)  # first
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("missing-reference", find_elsewhere)
    return {"parallel_read_safe": True}
