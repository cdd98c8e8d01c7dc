"""Reports: one page as HTML, and as Markdown with its figures beside it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.image import imread

from deepspin_ase._report import Report

matplotlib.use("Agg")


@pytest.fixture
def report() -> Report:
    page = Report("Iron <bcc>")
    page.text("Stored in `a_b.json`, see [source](https://doi.org/10.1/a?b&c).")
    page.heading("Lattice")
    page.table(["quantity", "value"], [["|m|", "2.2 < 2.4"]])
    page.items(["one", "two"])
    ax = plt.subplots()[1]
    ax.plot([0, 1])
    page.figure(ax, "A line.")
    page.code("a  <b>")
    return page


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}

    def handle_starttag(self, tag, attributes):
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)


def test_html_is_one_file_with_everything_in_it(report: Report, tmp_path: Path) -> None:
    plt.close("all")
    report.write_html(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    reader = _Reader()
    reader.feed(text)
    assert not reader.open
    assert reader.texts["h1"] == ["Iron <bcc>"]
    assert reader.texts["td"] == ["|m|", "2.2 < 2.4"]
    assert reader.texts["li"] == ["one", "two"]
    assert reader.texts["code"] == ["a_b.json"]
    assert reader.texts["a"] == ["source"]
    assert reader.texts["pre"] == ["a  <b>"]
    assert 'href="https://doi.org/10.1/a?b&amp;c"' in text
    assert text.count("data:image/png;base64,") == 1
    assert not re.search(r'src="(?!data:)', text)
    assert not plt.get_fignums()


def test_markdown_has_its_figures_beside_it(report: Report, tmp_path: Path) -> None:
    report.write_markdown(tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.startswith("# Iron <bcc>\n\nStored in `a_b.json`")
    assert "| quantity | value |\n|---|---:|\n| \\|m\\| | 2.2 < 2.4 |" in text
    assert "![A line.](page_1.png)" in text
    assert imread(tmp_path / "page_1.png").ndim == 3
    assert len(list(tmp_path.iterdir())) == 2
