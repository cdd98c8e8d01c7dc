"""Models of DeePMD-kit, read and written without deepmd-kit.

``frozen`` reads ``.pth`` files, ``neutral`` reads and writes the files that all
back ends of DeePMD-kit share, ``parameters`` turns either into a network of
this package, and ``script`` runs what is no such network as it is.
"""

from __future__ import annotations

from ._entries import complete, magnetic_elements
from ._files import (
    is_writable,
    load_deepmd,
    recognises,
    refuse_other_kinds,
    write_deepmd,
)
from ._parameters import activation
from ._script import DeepmdScript
from ._trees import SUFFIXES

__all__ = [
    "SUFFIXES",
    "DeepmdScript",
    "activation",
    "complete",
    "is_writable",
    "load_deepmd",
    "magnetic_elements",
    "recognises",
    "refuse_other_kinds",
    "write_deepmd",
]
