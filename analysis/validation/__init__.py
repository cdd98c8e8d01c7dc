"""Validation of models: their properties beside experiment and DFT.

>>> from deepspin_ase.potentials.materials import reference
>>> book = Book(reference.fe(), "validation")
>>> book.run(["structure", "eos"])
>>> print(book.findings("eos").values["B0"])
182.3
>>> write_page(book, "iron.html")

:data:`PROPERTIES` has all properties, :data:`MATERIALS` the materials whose known
values come with the package. A book of another crystal has numbers of the model alone:
``Book("model.pt", "folder", structure=atoms)``.
"""

from __future__ import annotations

from ._book import Book, Entry
from ._materials import MATERIALS, Material
from ._page import write_page
from ._property import (
    PROPERTIES,
    Findings,
    Property,
    Subject,
    Value,
    drawn,
    measured,
)
from ._references import Reference, references_of

__all__ = [
    "MATERIALS",
    "PROPERTIES",
    "Book",
    "Entry",
    "Findings",
    "Material",
    "Property",
    "Reference",
    "Subject",
    "Value",
    "drawn",
    "measured",
    "references_of",
    "write_page",
]
