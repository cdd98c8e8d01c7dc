"""Pages of docs/models: the shipped models beside experiment and DFT.

python validation/remake.py [MODEL ...] [--only NAMES]

Computes what is missing of the validation book of each model, with the settings of
validation/settings.yaml, a few minutes of one core each, and writes
docs/models/MODEL.md with its figures. Results are kept in validation/MODEL/results, one
file for each property, so that it goes on where it was stopped; those of a model that
has changed are computed anew. Known values are in analysis/validation/references.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import yaml

from deepspin_ase.analysis.validation import MATERIALS, Book, Entry, write_page
from deepspin_ase.potentials import shipped_models

ROOT = Path(__file__).parents[1]


def tell(entry: Entry) -> None:
    """Print a line for each property."""
    state = "failed: " + entry.failure if entry.findings is None else "done"
    print(f"  {entry.name:<18}{entry.seconds:7.1f} s  {state}", flush=True)


def main() -> None:
    """Remake the pages that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="by default all that are shipped")
    parser.add_argument("--only", help="properties, separated by commas")
    arguments = parser.parse_args()
    shipped = [name for name in shipped_models() if name in MATERIALS]
    settings = yaml.safe_load((ROOT / "validation" / "settings.yaml").read_text())
    for model in arguments.models or shipped:
        print(model)
        book = Book(model, ROOT / "validation" / model, settings=settings)
        try:
            book.run(arguments.only and arguments.only.split(","), tell=tell)
        finally:
            write_page(book, ROOT / "docs" / "models" / f"{model}.md")


if __name__ == "__main__":
    main()
