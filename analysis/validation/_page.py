"""The page of a validation book: tables beside experiment and DFT, and figures."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..._report import Report
from ._book import Book, Entry
from ._property import PROPERTIES, Value, with_error
from ._references import Reference

#: Values within this share of a reference, or this many standard errors, agree.
_SHARE, _ERRORS = 0.10, 2.0

#: Mark of references that nobody compared with their sources.
_UNCHECKED = "†"

#: In notes on what is no minimum.
_UNSTABLE = "UNSTABLE"

_KINDS = {"experiment": "experiment", "DFT": "DFT", "model": "another model"}

_HEADER = ("", "unit", "model", "experiment", "calculated", "deviation")


def write_page(book: Book, path: str | os.PathLike[str]) -> None:
    """Write the properties that a book holds as a page.

    Parameters
    ----------
    book : Book
    path : path
        ``.html`` for one file with everything in it; ``.md`` for Markdown, with figures
        beside it as ``STEM_1.png``, ...

    Raises
    ------
    ValueError
        For another suffix.
    OSError
        If a file cannot be written.
    """
    path, report = Path(path), page_of(book)
    if path.suffix == ".html":
        report.write_html(path)
    elif path.suffix == ".md":
        report.write_markdown(path)
    else:
        raise ValueError(f"{path} must end in .md or .html")


def page_of(book: Book) -> Report:
    """Return the page of the properties that were computed."""
    entries = [e for name in PROPERTIES if (e := book.stored(name)) is not None]
    report = Report(f"{book.name}: validation")
    sources = _Sources()
    report.text(
        f"What the model `{book.name}` makes of {book.material.name}, beside "
        "experiment and calculations; numbers in brackets are sources. Made by "
        "`deepspin validate`. The deviation is that from the first experiment, or "
        "else from the first calculation that is given."
    )
    _summarize(report, book, entries)
    for entry in entries:
        _describe(report, book, entry, sources)
    reasons = [
        f"{PROPERTIES[name].title}: {reason}."
        for name in PROPERTIES
        if (reason := book.missing(name)) is not None
    ]
    if reasons:
        report.heading("Left out")
        report.items(reasons)
    if sources.listed:
        report.heading("Sources")
        report.items(sources.items())
        if sources.unchecked:
            report.text(f"{_UNCHECKED} Not compared with the source.")
    return report


def to_plain(book: Book) -> dict[str, Any]:
    """Return values, references and deviations of a book as data for JSON."""
    found: dict[str, Any] = {}
    for name in PROPERTIES:
        entry = book.stored(name)
        if entry is None:
            continue
        plain = entry.to_plain()
        values = plain["findings"]["values"] if plain["findings"] else {}
        for key, value in values.items():
            known = book.references.get(name, {}).get(key, [])
            value["references"] = [r.to_dict() for r in known]
        found[name] = {
            "values": values,
            "notes": plain["findings"]["notes"] if plain["findings"] else [],
            "failure": plain["failure"],
            "warnings": plain["warnings"],
            "seconds": plain["seconds"],
        }
    return {"model": book.name, "material": book.material.name, "properties": found}


class _Sources:
    """Sources in the order in which they are cited."""

    def __init__(self) -> None:
        self.listed: list[tuple[str, str | None]] = []
        self.unchecked = False

    def mark(self, reference: Reference) -> str:
        """Return the number in brackets, with a mark if the value was not checked."""
        key = reference.source, reference.doi
        if key not in self.listed:
            self.listed.append(key)
        self.unchecked |= not reference.checked
        number = f"[{self.listed.index(key) + 1}]"
        return number if reference.checked else f"{number}{_UNCHECKED}"

    def items(self) -> list[str]:
        return [
            f"[{k}] {source}"
            + ("" if doi is None else f", [doi:{doi}](https://doi.org/{doi})")
            for k, (source, doi) in enumerate(self.listed, start=1)
        ]


def _summarize(report: Report, book: Book, entries: Sequence[Entry]) -> None:
    """Say how much agrees, and list what does not."""
    total, far, unstable = 0, [], []
    for entry in entries:
        if entry.findings is None:
            continue
        known = book.references.get(entry.name, {})
        unstable += [
            f"{PROPERTIES[entry.name].title}: {note}"
            for note in entry.findings.notes
            if _UNSTABLE in note
        ]
        for key, value in entry.findings.values.items():
            reference = _first(known.get(key, []))
            if reference is None:
                continue
            total += 1
            if not _agree(value, reference):
                far.append(
                    f"{PROPERTIES[entry.name].title}, {value.label}: {value} "
                    f"{value.unit}, where {_KINDS[reference.kind]} has "
                    f"{with_error(reference.value, reference.error)}"
                )
    failed = [PROPERTIES[e.name].title for e in entries if e.findings is None]
    if total or unstable or failed:
        report.heading("Summary")
    if total:
        report.text(
            f"{total - len(far)} of {total} numbers with a reference are within 10 % "
            "of it, or within two standard errors." + (" The others:" if far else "")
        )
    if far:
        report.items(far)
    if unstable:
        report.text("Not stable:")
        report.items(unstable)
    if failed:
        report.text(f"Failed: {', '.join(failed)}.")


def _describe(report: Report, book: Book, entry: Entry, sources: _Sources) -> None:
    """Add a property to the page."""
    entry_property = PROPERTIES[entry.name]
    report.heading(entry_property.title)
    if entry.findings is None:
        report.text(f"Failed: {entry.failure}.")
        return
    known = book.references.get(entry.name, {})
    rows = []
    for key, value in entry.findings.values.items():
        references = known.get(key, [])
        rows.append(
            [
                value.label,
                value.unit.replace("1e-6", "10⁻⁶"),
                str(value),
                _cited(references, "experiment", sources),
                _cited(references, "DFT", sources, "model"),
                _deviation(value, _first(references)),
            ]
        )
    if rows:
        report.table(_HEADER, rows)
    if entry_property.draw is not None and rows:
        ax = entry_property.draw(entry.findings, known)
        report.figure(ax, f"{entry_property.title} of {book.material.name}.")
    report_notes = [*entry.findings.notes, *(f"Warning: {w}" for w in entry.warnings)]
    if report_notes:
        report.items(report_notes)


def _cited(
    references: Sequence[Reference], kind: str, sources: _Sources, *others: str
) -> str:
    parts = []
    for reference in references:
        if reference.kind in (kind, *others):
            text = with_error(reference.value, reference.error)
            note = f" ({reference.note})" if reference.note else ""
            parts.append(f"{text}{note} {sources.mark(reference)}")
    return "; ".join(parts)


def _first(references: Sequence[Reference]) -> Reference | None:
    """Return the reference that a value is measured against."""
    for kind in ("experiment", "DFT", "model"):
        for reference in references:
            if reference.kind == kind:
                return reference
    return None


def _agree(value: Value, reference: Reference) -> bool:
    error = math.hypot(value.error or 0.0, reference.error or 0.0)
    allowed = max(_SHARE * abs(reference.value), _ERRORS * error)
    return abs(value.value - reference.value) <= allowed


def _deviation(value: Value, reference: Reference | None) -> str:
    if reference is None or not math.isfinite(value.value) or reference.value == 0.0:
        return ""
    share = 100.0 * (value.value - reference.value) / abs(reference.value)
    digits = 1 if abs(share) < 9.95 else 0
    return f"{share:+.{digits}f} %"
