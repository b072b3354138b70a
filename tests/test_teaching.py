"""Slides, equations and figures come whole out of the notebooks."""

import re
from pathlib import Path

import nbformat
import pytest
import teaching
import yaml

from wsl_tutorial import questions
from wsl_tutorial.check import CheckFailed

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


# The page for teachers: what it names is there ---------------------------------------------------

PAGE = (ROOT / "book" / "teaching.md").read_text("utf-8")
TEXT = {
    int(file.name[:2]): "\n".join(
        cell.source
        for cell in nbformat.read(file, as_version=4).cells
        if cell.cell_type == "markdown"
    )
    for file in NOTEBOOKS
}
EXERCISE = re.compile(r"^\*\*(\d+), (.*?)\.\*\*(.*?)(?=^\*\*\d+, |^## )", re.M | re.S)


def part(heading: str) -> str:
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads and rules."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in found if row[0].isdigit()]


def sections(chapter: int) -> dict[str, str]:
    """Text of each section by its heading; that of a part begins with its subsections."""
    pieces = re.split(r"^#{2,4} (.*)$", TEXT[chapter], flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def tags(text: str) -> set[str]:
    return set(re.findall(r"\\tag\{([\d.]+)\}", text))


def linked(cell: str) -> list[int]:
    return [int(n) for n in re.findall(r"notebooks/(\d\d)_\w+\.ipynb", cell)]


CUTS = {linked(row[1])[0]: re.findall(r"\*(.+?)\*", row[2]) for row in rows(part("A term"))}


def test_each_chapter_of_the_book_has_its_place_in_the_plan():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    chapters = {int(Path(file).name[:2]) for file in files if file.startswith("notebooks/")}
    assert set(linked(part("A term"))) == chapters == set(TEXT)
    assert [int(row[0]) for row in rows(part("A term"))] == list(range(1, 14))
    assert "Thirteen weeks" in part("A term")
    stumbles = [int(row[0]) for row in rows(part("Where students stumble"))]
    assert set(stumbles) == chapters
    assert stumbles == sorted(stumbles)
    for file in re.findall(r"\.\./(notebooks/\w+\.ipynb)", PAGE):
        assert (ROOT / file).exists(), file


@pytest.mark.parametrize("chapter", CUTS)
def test_exercises_by_hand_survive_the_cuts(chapter):
    found = sections(chapter)
    assert CUTS[chapter]
    assert set(CUTS[chapter]) <= set(found)
    cut = "".join(found[name] for name in CUTS[chapter])
    defined = {term for term in re.findall(r"(?<!\*)\*(\w[\w -]{3,})\*(?!\*)", cut)}
    for number, kind, text in EXERCISE.findall(TEXT[chapter]):
        if "by hand" in kind:
            needed = set(re.findall(r"\((\d+\.\d+)\)", text))
            assert not needed & tags(cut), f"exercise {number} needs {needed & tags(cut)}"
            assert not [term for term in defined if term in text], f"exercise {number}"


def test_the_stumbling_blocks_name_what_is_there():
    for first, *words in rows(part("Where students stumble")):
        text, chapter = " ".join(words), int(first)
        exercises = {number for number, _, _ in EXERCISE.findall(TEXT[chapter])}
        assert set(re.findall(r"exercise (\d)", text)) <= exercises
        assert set(re.findall(r"\((\d+\.\d+)\)", text)) <= tags(TEXT[chapter])
        for name in re.findall(r"\*([A-Z][^*]{8,})\*", text):
            assert name in sections(chapter)


def test_the_number_of_exercises_is_the_one_that_is_told():
    numbers = {len(EXERCISE.findall(text)) for text in TEXT.values()}
    assert numbers == {6, 7}
    assert "Each chapter ends with six or seven" in PAGE
    assert "**Exercises.** Six or seven" in (ROOT / "book" / "how-to-read.md").read_text("utf-8")


def test_the_example_names_the_mistake_as_the_page_shows():
    call = re.search(r'questions\.check\("(.+?)", "(.+?)", ([\d.]+)\)\n# CheckFailed: (.*)', PAGE)
    with pytest.raises(CheckFailed) as failed:
        questions.check(call[1], call[2], float(call[3]))
    assert str(failed.value) == call[4]
