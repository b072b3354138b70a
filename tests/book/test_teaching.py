"""Slides, equations and figures come whole out of the notebooks."""

import html
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import nbformat
import pytest
import teaching
from book_pages import PAGES

from wsl_tutorial import questions
from wsl_tutorial.check import CheckFailed

ROOT = Path(__file__).parents[2]
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


def output(**data: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", data)])


def test_a_table_is_on_a_slide_and_a_long_one_says_where_the_rest_is():
    rows = [f"| {i} | value |" for i in range(40)]
    short, long = ("\n".join(["| a | b |", "|---|---|", *rows[:n]]) for n in (3, 40))
    notebook = cells("# Title\n\nFirst.", "## Tables\n\nWe count. Then $x$:")
    notebook.cells += [output(**{"text/markdown": text}) for text in (short, long)]
    _, (_, (_, *slides)) = teaching.deck(notebook)
    for slide, number, shown in zip(slides, (3, 40), (3, 10), strict=True):
        face, _, notes = slide.html().partition('<aside class="notes">')
        assert face.count("<tr>") == 1 + shown
        assert notes.count("<tr>") == 1 + number
        assert r"\(x\)</span>:</p>" in notes
        assert ("left for the notes and the page: 30." in face) == (number == 40)


def test_what_follows_a_table_stands_on_a_slide_of_its_own():
    notebook = cells("# Title\n\nFirst.", "## Tables\n\nWe count.")
    notebook.cells += [output(**{"text/markdown": "| a |\n|---|\n| 1 |"})]
    notebook.cells += cells("Read it.\n\nThis is **bold**. Hence\n\n$$x$$").cells
    _, (_, (_, shown, after)) = teaching.deck(notebook)
    assert shown.notes[-1] == "Read it.\n"
    assert after.items[0] == "<p>This is <strong>bold</strong>.</p>"
    assert r"\[x\]" in after.items[2]


@pytest.mark.parametrize("length", [1050, 1040, 1030])
def test_a_slide_never_ends_with_the_head_of_a_table(length):
    words = ["A line of text.", "", "| a | b |", "|---|---|", "| 1 | " + "x" * length + " |", ""]
    slide = teaching.table("T", "\n".join([*words, "| late | b |", "|---|---|", "| y | z |"]), "")
    assert "late" not in slide.items[0]
    assert "xxx" in slide.items[0]
    assert "page: 2." in slide.items[1]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_row_of_every_table_is_in_the_notes_and_the_first_on_a_slide(file):
    notebook = nbformat.read(file, as_version=4)
    told = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            told += [source for kind, source in teaching.blocks(cell.source) if kind == "table"]
        shown = [o.get("data", {}) for o in cell.get("outputs", [])]
        told += [data["text/markdown"] for data in shown if "text/markdown" in data]
    _, columns = teaching.deck(notebook)
    slides = [s for column in columns for s in column if s.full and "<img" not in s.items[0]]
    assert [s.notes[2].strip() for s in slides] == [text.strip() for text in told]
    for slide, text in zip(slides, told, strict=True):
        assert slide.html().partition("</aside>")[0].count("<tr>") >= text.count("\n|---")
        assert ("<table>" in slide.items[0]) == (text.lstrip().startswith("|") or "\n|" in text)


RAW = {
    "a row of a table": r"\|[\s:]*-{3}|^\s*\||\|\s*$|\w \| \w",
    "an item of a list": r"^\s*(?:[-*+]|\d+[.)]) ",
    "emphasis": r"\*\*|(?<!\w)\*\w",
    "a heading": r"^\s*#+ ",
    "a quotation": r"^\s*> ",
    "a fence": r"```",
    "mathematics": r"\$",
    "a link": r"\]\(",
}


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_slide_shows_raw_markdown(file):
    """Outside code and mathematics, the visible text of a slide has no mark of Markdown."""
    _, columns = teaching.deck(nbformat.read(file, as_version=4))
    for slide in (s for column in columns for s in column):
        face = slide.html().replace('<aside class="notes">', "")
        face = re.sub(r"<code>.*?</code>|<pre>.*?</pre>", "code", face, flags=re.S)
        face = re.sub(r"\\\[.*?\\\]|\\\(.*?\\\)", "maths", face, flags=re.S)
        for text in re.findall(r">([^<>]+)<", face):
            for what, mark in RAW.items():
                found = re.search(mark, html.unescape(text))
                assert not found, f"{what} on {slide.title!r}: {text[:80]!r}"


@pytest.mark.parametrize(
    "words", ["**Assumption: X and Y. Both hold.** Then", "By $a: B = c. D$ we go. Then"]
)
def test_a_sentence_ends_neither_inside_bold_words_nor_inside_mathematics(words):
    found = teaching.sentences(words)
    assert found[-1] == "Then"
    assert all(s.count("**") % 2 == s.count("$") % 2 == 0 for s in found)


@pytest.mark.parametrize(
    "block",
    ["| a | b |\n|---|---|\n| **1** | $x$ |", "- one\n- **two**", "> said", "1. one\n2. two"],
    ids=["table", "list", "quotation", "numbers"],
)
def test_a_section_of_one_block_shows_it_rendered(block):
    _, (_, (slide,)) = teaching.deck(cells("# Title\n\nFirst.", f"## Part\n\n{block}"))
    face = slide.html().partition("<aside")[0]
    assert re.search("<table>|<li>|<blockquote>", face)
    assert not re.search(r"\||\*\*|&gt;|\d\. ", face)


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
    chapters = {int(Path(page).name[:2]) for page in PAGES if page.startswith("notebooks/")}
    assert set(linked(part("A term"))) == chapters == set(TEXT)
    assert [int(row[0]) for row in rows(part("A term"))] == list(range(1, 14))
    assert "Thirteen weeks" in part("A term")
    stumbles = [int(row[0]) for row in rows(part("Where students stumble"))]
    assert set(stumbles) == chapters
    assert stumbles == sorted(stumbles)
    for file in re.findall(r"\.\./(notebooks/\w+\.ipynb)", PAGE):
        assert (ROOT / file).exists(), file


SESSIONS = {"A block of three weeks": "session", "The term, week by week": "week"}


@pytest.mark.parametrize("heading", SESSIONS)
def test_a_session_names_page_slides_exercises_questions_and_mistakes_that_exist(heading):
    for _, page, deck, exercises, asked, wrong in rows(part(heading)):
        (chapter,) = linked(page)
        assert deck.strip("`") in {file.stem for file in NOTEBOOKS}
        assert int(deck.strip("`")[:2]) == chapter
        in_class, at_home = exercises.split("; ")
        there = {number: kind for number, kind, _ in EXERCISE.findall(TEXT[chapter])}
        assert {in_class, *at_home.split(", ")} <= set(there)
        assert "by hand" in there[in_class]
        assert all("code" in there[number] for number in at_home.split(", "))
        names = re.findall("`(.+?)`", asked)
        made = [questions.make(name, "autumn-2026") for name in names]
        assert [(q.chapter, q.level) for q in made] == [(chapter, "quick"), (chapter, "homework")]
        assert len(wrong) > 20


def test_every_session_and_week_has_its_row():
    block, term = ([int(row[0]) for row in rows(part(heading))] for heading in SESSIONS)
    assert block == [n for n in range(1, 13) if n != 8]
    assert "In session 8 (the slides are again `04_presence_reproduction`)" in PAGE
    assert questions.make("methods-on-the-same-images", "s").chapter == 4
    assert term == list(range(1, 14))
    weeks = [linked(row[1]) for row in rows(part("A term"))]
    assert [linked(row[1]) for row in rows(part("The term, week by week"))] == weeks


COMMANDS = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    for line in block.splitlines()
]


def command(line: str) -> list[str]:
    """The words of a command: for `make` those of the recipe that it would run."""
    words = shlex.split(line)
    if words[0] == "make":
        done = subprocess.run(
            ["make", "--dry-run", "--assume-old=.venv/.ready", *words[1:]],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        found = next(x for x in done.stdout.splitlines() if x.startswith(".venv/bin/python script"))
        words = shlex.split(found)
    assert words[0] == ".venv/bin/python"
    return [sys.executable, *words[1:]]


@cache
def said(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_of_the_page_name_programs_and_options_that_exist(line):
    words = command(line)
    program = words[:3] if words[1] == "-m" else words[:2]
    arguments = words[len(program) :]
    ask = [arguments[0], "--help"] if program[-1] == "wsl_tutorial.reproduce" else ["--help"]
    shown = said(*program, *ask)
    for option in (word for word in arguments if word.startswith("--")):
        assert option in shown


def test_the_page_has_a_command_for_each_material():
    for target in ("slides", "handouts", "bank", "assignments"):
        assert any(line.startswith(f"make {target}") for line in COMMANDS)


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
