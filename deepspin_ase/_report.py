"""Reports of one page: headings, text, tables and figures, as HTML or Markdown."""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from ._files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em auto; max-width: 62em; color: #222 }}
table {{ border-collapse: collapse; margin: 1em 0 }}
th, td {{ padding: 0.25em 0.8em; text-align: right; border-bottom: 1px solid #ccc }}
th:first-child, td:first-child {{ text-align: left }}
img {{ max-width: 100% }}
pre {{ background: #f4f4f4; padding: 1em; overflow: auto }}
</style></head><body>
{body}
</body></html>
"""


@dataclass(frozen=True)
class _Heading:
    text: str
    level: int

    def html(self) -> str:
        return f"<h{self.level}>{html.escape(self.text)}</h{self.level}>"

    def markdown(self, folder: _Figures) -> str:
        return f"{'#' * self.level} {self.text}"


@dataclass(frozen=True)
class _Text:
    text: str

    def html(self) -> str:
        return f"<p>{_inline(self.text)}</p>"

    def markdown(self, folder: _Figures) -> str:
        return self.text


@dataclass(frozen=True)
class _Items:
    items: tuple[str, ...]

    def html(self) -> str:
        rows = "".join(f"<li>{_inline(item)}</li>" for item in self.items)
        return f"<ul>{rows}</ul>"

    def markdown(self, folder: _Figures) -> str:
        return "\n".join(f"- {item}" for item in self.items)


@dataclass(frozen=True)
class _Table:
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def html(self) -> str:
        def line(tag: str, cells: Sequence[str]) -> str:
            inner = "".join(f"<{tag}>{_inline(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inner}</tr>"

        lines = [line("th", self.header), *(line("td", row) for row in self.rows)]
        return f"<table>{''.join(lines)}</table>"

    def markdown(self, folder: _Figures) -> str:
        def line(cells: Sequence[str]) -> str:
            return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"

        rule = "|---|" + "---:|" * (len(self.header) - 1)
        return "\n".join([line(self.header), rule, *map(line, self.rows)])


@dataclass(frozen=True)
class _Figure:
    image: bytes
    caption: str

    def html(self) -> str:
        source = "data:image/png;base64," + base64.b64encode(self.image).decode()
        caption = html.escape(self.caption)
        return f'<img alt="{caption}" src="{source}"><p>{caption}</p>'

    def markdown(self, folder: _Figures) -> str:
        return f"![{self.caption}]({folder.add(self.image)})\n\n*{self.caption}*"


@dataclass(frozen=True)
class _Code:
    text: str

    def html(self) -> str:
        return f"<pre>{html.escape(self.text)}</pre>"

    def markdown(self, folder: _Figures) -> str:
        return f"```text\n{self.text}\n```"


@dataclass
class _Figures:
    """Names that the figures of a page get in its folder, in their order."""

    stem: str
    images: dict[str, bytes] = field(default_factory=dict)

    def add(self, image: bytes) -> str:
        name = f"{self.stem}_{len(self.images) + 1}.png"
        self.images[name] = image
        return name


class Report:
    """A page that is built from top to bottom.

    Texts and cells of tables may hold code in backquotes and Markdown links.

    Parameters
    ----------
    title : str

    Examples
    --------
    >>> report = Report("Relaxation")
    >>> report.text("Converged, see `relaxed.extxyz`.")
    >>> report.table(["step", "energy"], [["0", "-8.31 eV"]])
    >>> report.write_html("relaxation.html")
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._blocks: list[_Heading | _Text | _Items | _Table | _Figure | _Code] = []
        self.heading(title, level=1)

    def heading(self, text: str, *, level: int = 2) -> None:
        """Add a heading."""
        self._blocks.append(_Heading(text, level))

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self._blocks.append(_Text(text))

    def items(self, items: Sequence[str]) -> None:
        """Add a list."""
        self._blocks.append(_Items(tuple(items)))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Add a table; its first column is flush left, the others flush right."""
        self._blocks.append(_Table(tuple(header), tuple(map(tuple, rows))))

    def figure(self, ax: Axes, caption: str, *, dpi: int = 110) -> None:
        """Add the figure of ``ax``, and close it."""
        import matplotlib.pyplot as plt

        figure: Figure = ax.figure  # type: ignore[assignment]
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
        plt.close(figure)
        self._blocks.append(_Figure(buffer.getvalue(), caption))

    def code(self, text: str) -> None:
        """Add text as it stands, in a fixed width."""
        self._blocks.append(_Code(text))

    def html(self) -> str:
        """Return the page; figures are in it."""
        body = "\n".join(block.html() for block in self._blocks)
        return _PAGE.format(title=html.escape(self.title), body=body)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write the page as one file, complete or not at all."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.html(), encoding="utf-8")

    def write_markdown(self, path: str | os.PathLike[str]) -> None:
        """Write the page, and its figures beside it as ``STEM_1.png``, ..."""
        path = Path(path)
        figures = _Figures(path.stem)
        text = "\n\n".join(block.markdown(figures) for block in self._blocks) + "\n"
        for name, image in figures.images.items():
            with atomic_write(path.with_name(name)) as temporary:
                temporary.write_bytes(image)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _inline(text: str) -> str:
    """Return a text as HTML, with its code and links."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2">\1</a>', text)
