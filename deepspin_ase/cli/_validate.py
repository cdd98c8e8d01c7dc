"""``deepspin validate``: properties of a model beside experiment and DFT."""

from __future__ import annotations

import argparse
from pathlib import Path

from .._config import read_mapping
from ..analysis.validation import PROPERTIES, Book, Entry, write_page
from ..analysis.validation._page import to_plain
from ..io import read_structure
from ._outcome import Outcome


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Compute properties of a model of Fe, NiO or BiFeO3, or of a crystal of one's "
        "own, and write them beside known ones: MODEL.md with figures, and MODEL.html. "
        "What is computed stays in the folder; run the command again to go on. "
        "Properties: " + ", ".join(PROPERTIES) + ". The exit code is 3 where one fails."
    )
    parser.add_argument("model", help="model file, or name of a model")
    parser.add_argument(
        "--only", metavar="NAMES", help="some properties, separated by commas"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("validation"),
        metavar="FOLDER",
        help="folder to write to (default: %(default)s)",
    )
    parser.add_argument(
        "--material",
        metavar="NAME",
        help="Fe, NiO or BiFeO3; by default that of the model's elements",
    )
    parser.add_argument(
        "--structure", type=Path, help="another crystal: its magnetic cell with moments"
    )
    parser.add_argument(
        "--settings", type=Path, help="YAML file of settings: {eos: {points: 11}}"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> Outcome:
    book = Book(
        arguments.model,
        arguments.output,
        material=arguments.material,
        structure=None
        if arguments.structure is None
        else read_structure(arguments.structure),
        settings=None
        if arguments.settings is None
        else read_mapping(arguments.settings),
    )
    only = None if arguments.only is None else arguments.only.split(",")
    failed = []

    def tell(entry: Entry) -> None:
        title = PROPERTIES[entry.name].title
        print(f"{title} ({entry.seconds:.1f} s)", flush=True)
        if entry.findings is None:
            failed.append(entry.name)
            print(f"  failed: {entry.failure}", flush=True)
            return
        for value in entry.findings.values.values():
            line = f"  {value.label:<44} {value!s:>16} {value.unit}"
            print(line, flush=True)

    book.run(only, tell=tell)
    pages = [arguments.output / f"{book.name}{suffix}" for suffix in (".md", ".html")]
    for page in pages:
        write_page(book, page)
    print(f"wrote {pages[0]} and {pages[1]}")
    return Outcome(to_plain(book) | {"files": pages}, 3 if failed else 0)
