"""The slides of every chapter in a browser: none is larger than the screen."""

import re
import shutil
from pathlib import Path

import nbformat
import offline
import page_checks
import pytest
import teaching
from book_pages import PAGES

ROOT = Path(__file__).parents[2]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
pytestmark = [
    pytest.mark.skipif(**page_checks.ABSENT),
    pytest.mark.skipif(
        shutil.which("npm") is None, reason="npm, which brings reveal.js, is missing"
    ),
]


@pytest.fixture(scope="module")
def browser():
    with page_checks.started() as browser:
        yield browser


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """The address of all chapters' slides, without the notes, which nobody sees on them."""
    folder = tmp_path_factory.mktemp("slides")
    for package in (teaching.REVEAL, teaching.MATHJAX):
        offline.fetch(package, folder / "npm" / package)
    for name in CHAPTERS:
        notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
        text = re.sub('(?s)(<aside class="notes">).*?(?=</aside>)', r"\1", teaching.page(notebook))
        (folder / f"{Path(name).name}.html").write_text(text, "utf-8")
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


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_slide_is_larger_than_the_screen(projector, slides, name):
    projector.goto(f"{slides}/{Path(name).name}.html")
    projector.wait_for_selector("body[data-fits]", state="attached", timeout=60_000)
    assert projector.evaluate(BEYOND) == []
    assert projector.locator("mjx-merror").count() == 0
