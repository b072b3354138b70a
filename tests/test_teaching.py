"""Slides, equations and figures come whole out of the notebooks."""

import re
from pathlib import Path

import nbformat
import pytest
import teaching

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(*parts: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(part) for part in parts])


def test_a_slide_holds_headings_bold_sentences_and_equations_with_their_lead():
    text = (
        "# Title\n\nFirst words. More.",
        "## Problem\n\nPlain. We need **Assumption 1: all is well.** Then we go on.\n\n"
        "It follows that\n\n$$a < b \\tag{1.1}$$\n\nand [see](x.ipynb) [there](https://a.org).",
    )
    title, columns = teaching.deck(cells(*text))
    assert title == "Title"
    (opening,), (problem,) = columns
    assert "<p>First words.</p>" in opening.html()
    assert problem.items[0] == "<p>We need <strong>Assumption 1: all is well.</strong></p>"
    assert problem.items[1] == "<p>It follows that</p>"
    assert r"\[a &lt; b \tag{1.1}\]" in problem.items[2]
    assert "Plain." in problem.html().partition("notes")[2]
    assert 'see <a href="https://a.org">' in problem.html()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_equation_and_figure_of_a_chapter_is_on_a_slide(file):
    notebook = nbformat.read(file, as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    page = teaching.page(notebook)
    shown = page.split('<aside class="notes">')
    tags = set(re.findall(r"\\tag\{[\d.]+\}", text))
    assert set(re.findall(r"\\tag\{[\d.]+\}", page)) == tags
    outputs = [o for c in notebook.cells for o in c.get("outputs", []) if "data" in o]
    assert page.count("<img ") == sum("image/png" in o["data"] for o in outputs)
    assert len(shown) > len(tags)
    assert ".ipynb" not in page
    assert not re.search("<section>\\s*<h2>[^\n]*</h2>\\s*<aside", page), "a slide without content"


def test_the_equations_are_one_latex_document():
    notebooks = {file.stem: nbformat.read(file, as_version=4) for file in NOTEBOOKS}
    document = teaching.equations(notebooks)
    tags = re.findall(r"\\tag\{(\d+\.\d+)\}", document)
    assert len(tags) == len(set(tags)) > 50
    assert document.count(r"\[") - document.count(r"\\[") == len(tags)
    assert document.count(r"\begin{") == document.count(r"\end{")
    assert r"\cr" not in document
