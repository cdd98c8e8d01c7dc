"""Configuration of Sphinx: ``sphinx-build -W --keep-going docs build/docs``.

Nothing is fetched: formulas become MathML, the theme brings its own fonts and scripts,
and tutorials show the results that their notebooks hold.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate
import mathml
from sphinx.application import Sphinx

import deepspin_ase

project = "deepspin-ase"
author = "The deepspin-ase developers"
version = release = deepspin_ase.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3
suppress_warnings = ["autosectionlabel.*"]
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


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages that are made from the code, and draw formulas as MathML."""
    mathml.setup(app)
    app.connect("builder-inited", lambda app: generate.write(HERE / "generated"))
    return {"parallel_read_safe": True}
