"""The slides of every chapter in a browser: none is too large, none shows raw marks."""

import importlib.util
import re
from pathlib import Path

import nbformat
import page_checks
import pytest
import teaching
from book_pages import PAGES

ROOT = Path(__file__).parents[2]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
pytestmark = [
    pytest.mark.skipif(**page_checks.ABSENT),
    pytest.mark.skipif(
        importlib.util.find_spec("sphinx_revealjs") is None,
        reason="sphinx-revealjs, which has reveal.js, is not installed",
    ),
]


@pytest.fixture(scope="module")
def browser():
    with page_checks.started() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All chapters' slides, without the notes, which nobody sees on them."""
    folder = tmp_path_factory.mktemp("slides")
    teaching.bring(folder)
    for name in CHAPTERS:
        notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
        text = re.sub('(?s)(<aside class="notes">).*?(?=</aside>)', r"\1", teaching.page(notebook))
        (folder / f"{Path(name).name}.html").write_text(text, "utf-8")
    return folder


@pytest.fixture(scope="module")
def slides(folder):
    """The address of the slides."""
    with page_checks.served(folder) as address:
        yield address


BEYOND = """() => {
  document.querySelectorAll("mjx-assistive-mml").forEach((hidden) => hidden.remove());
  return Reveal.getSlides().map((slide) => {
    const {h, v} = Reveal.getIndices(slide), face = document.createRange();
    Reveal.slide(h, v);
    face.setStart(slide, 0);
    face.setEndBefore(slide.querySelector("aside"));
    const box = face.getBoundingClientRect();
    const inside = box.left >= 0 && box.top >= 0 && box.right <= innerWidth &&
      box.bottom <= innerHeight && box.width > 100 && box.height > 20;
    return inside ? null : [h, v, box.left, box.top, box.right, box.bottom];
  }).filter(Boolean);
}"""


@pytest.fixture(scope="module")
def projector(browser):
    """One screen for all: what it has loaded once it keeps."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    yield page
    page.close()


# The text of each slide but for formulas, which are typeset, and code.
SHOWN = """() => Reveal.getSlides().map((slide) => {
  const face = slide.cloneNode(true);
  face.querySelectorAll("aside, mjx-container, code, pre").forEach((part) => part.remove());
  return [face.querySelector("h1, h2")?.textContent, face.textContent];
})"""
RAW = re.compile(r"\$|\\[()\[\]]|\*\*|^\s*\||\|\s*$|\|\s*:?-{3}", re.MULTILINE)


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_slide_is_larger_than_the_screen(projector, slides, name):
    projector.goto(f"{slides}/{Path(name).name}.html")
    projector.wait_for_selector("body[data-fits]", state="attached", timeout=60_000)
    assert projector.evaluate(BEYOND) == []
    assert projector.locator("mjx-merror").count() == 0
    raw = [(title, text) for title, text in projector.evaluate(SHOWN) if RAW.search(text)]
    assert raw == []


@pytest.mark.parametrize("text", ["a $x$", r"\(x", r"x \]", "| a | b |", "|---|", "a |", "**b**"])
def test_raw_marks_are_found(text):
    assert RAW.search(f"words\n{text}\nwords")
    assert not RAW.search("words of a | b, 3 - 2")
