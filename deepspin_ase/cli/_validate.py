"""``deepspin validate``: properties of a model beside experiment and DFT."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .._config import read_mapping
from ..analysis.validation import PROPERTIES, Book, Entry, write_page
from ..analysis.validation._page import to_plain
from ..io import read_structure


def configure(parser: argparse.ArgumentParser) -> None:
    """Add description and arguments."""
    parser.description = (
        "Compute properties of a model of Fe, NiO or BiFeO3, or of a crystal of one's "
        "own, and write them beside known ones: MODEL.md with figures, and MODEL.html. "
        "What is computed stays in the folder; run the command again to go on. "
        "Properties: " + ", ".join(PROPERTIES) + ". The exit code is 3 where one fails."
    )
    parser.add_argument("model", help="model file, or name of a shipped model")
    parser.add_argument(
        "--only", metavar="NAMES", help="properties, separated by commas"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("validation"),
        help="folder (default: %(default)s)",
    )
    parser.add_argument(
        "--material", help="Fe, NiO or BiFeO3; by default that of the model's elements"
    )
    parser.add_argument(
        "--structure", type=Path, help="another crystal: its magnetic cell with moments"
    )
    parser.add_argument(
        "--settings", type=Path, help="YAML file of settings: {eos: {points: 11}}"
    )
    parser.add_argument(
        "--json", action="store_true", help="write the numbers to the standard output"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
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
    stream = sys.stderr if arguments.json else sys.stdout
    failed = []

    def tell(entry: Entry) -> None:
        title = PROPERTIES[entry.name].title
        print(f"{title} ({entry.seconds:.1f} s)", file=stream, flush=True)
        if entry.findings is None:
            failed.append(entry.name)
            print(f"  failed: {entry.failure}", file=stream, flush=True)
            return
        for value in entry.findings.values.values():
            line = f"  {value.label:<44} {value!s:>16} {value.unit}"
            print(line, file=stream, flush=True)

    book.run(only, tell=tell)
    pages = [arguments.output / f"{book.name}{suffix}" for suffix in (".md", ".html")]
    for page in pages:
        write_page(book, page)
    if arguments.json:
        print(json.dumps(to_plain(book), indent=1, ensure_ascii=False))
    else:
        print(f"wrote {pages[0]} and {pages[1]}")
    return 3 if failed else 0
