"""Every page in a browser: formulas, phone, dark, print, search, demos by keyboard, axe."""

import http.server
import os
import re
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import nbformat
import offline
import pytest
import teaching
from book_pages import PAGES, TOC
from browsers import BROWSERS

ROOT = Path(__file__).parents[2]
MADE = ["search", "genindex"]  # by Sphinx, with no source of ours
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDED = os.environ.get("WSL_BROWSER") == "needed"  # as .ci/run says: fail rather than skip
pytestmark = [
    pytest.mark.skipif(
        BROWSER is None and not NEEDED, reason="neither Chromium nor Chrome is installed"
    ),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm, which brings MathJax, is missing"),
]
each = pytest.mark.parametrize("name", PAGES)
with_made = pytest.mark.parametrize("name", [*PAGES, *MADE])
WITH_DEMO = [page for page in CHAPTERS if "data-demo" in (ROOT / f"{page}.py").read_text("utf-8")]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def home(site, tmp_path_factory):
    """The address of the offline book."""
    folder = tmp_path_factory.mktemp("offline") / "book"
    offline.offline(site, folder)
    with served(folder) as address:
        yield address


@contextmanager
def served(folder: Path):
    """The address of a folder."""
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as tool:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = tool.chromium.launch(executable_path=BROWSER, args=options)
        yield browser
        browser.close()


class Visit:
    """One page, opened once; what went wrong while it was."""

    def __init__(self, browser, home: str, name: str, **options):
        self.faults: list[str] = []
        self.page = browser.new_page(**options)
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.check(request.url, home))
        self.page.goto(f"{home}/{name}.html", wait_until="load")
        self.page.evaluate("() => window.MathJax ? MathJax.startup.promise : null")

    def hear(self, message) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def check(self, url: str, home: str) -> None:
        if not url.startswith((home, "data:", "blob:")):
            self.faults.append(f"another host: {url}")


@pytest.fixture(scope="module")
def visits(browser, home):
    """Pages by name, each opened once on a wide and bright screen."""
    opened: dict[str, Visit] = {}

    def visit(name: str) -> Visit:
        if name not in opened:
            size = {"width": 1280, "height": 900}
            opened[name] = Visit(browser, home, name, viewport=size, color_scheme="light")
        return opened[name]

    yield visit
    for one in opened.values():
        one.page.close()


def sideways(page) -> int:
    """Pixels that the page is wider than the screen."""
    return page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


@with_made
def test_it_opens_without_an_error_and_asks_no_other_host(visits, name):
    assert visits(name).faults == []


def test_the_address_of_the_book_leads_to_its_first_page(browser, home):
    page = browser.new_page()
    try:
        page.goto(f"{home}/index.html")
        page.wait_for_url(f"{home}/{TOC['root']}.html", timeout=10_000)
    finally:
        page.close()


@with_made
def test_every_formula_is_typeset(visits, name):
    page = visits(name).page
    assert page.locator("mjx-merror").count() == 0
    left = page.locator("article .math:not(:has(mjx-container))")
    assert left.count() == 0, left.all_inner_texts()
    text = page.locator("article, .bd-search-container").first.inner_text()
    assert not re.search(r"\\[()\[\]]|\\(frac|sum|log|mathbb)", text)


BEGINS_LATE = """() => [...document.querySelectorAll('.bd-article div.math > mjx-container')]
    .filter(m => m.getBoundingClientRect().left < m.parentElement.getBoundingClientRect().left - 1)
    .length"""  # formulas whose beginning is out of sight


@each
def test_it_fits_a_phone_in_the_dark(browser, home, name):
    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    visit = Visit(browser, home, name, **phone)
    try:
        assert visit.faults == []
        assert sideways(visit.page) <= 0
        assert visit.page.evaluate(BEGINS_LATE) == 0
        assert visit.page.get_attribute("html", "data-theme") == "dark"
        contrast = {"type": "rule", "values": ["color-contrast"]}
        assert violations(visit.page, runOnly=contrast) == []
    finally:
        visit.page.close()


def violations(page, **options) -> list[str]:
    """Return the serious and critical findings of axe-core: rule, element.

    Left out are MathJax's own markup and rows from the fortieth on, made as those above them: axe
    takes a minute for the longest tables.
    """
    from axe_playwright_python.sync_playwright import Axe

    left_out = {"exclude": [["mjx-container"], ["tr:nth-child(n + 40)"]]}
    found = Axe().run(page, left_out, options).response["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in grave for node in rule["nodes"]]


@with_made
def test_axe_finds_nothing_serious(visits, name):
    assert violations(visits(name).page) == []


@each
def test_it_prints_its_article_and_nothing_around_it(visits, name):
    page = visits(name).page
    page.emulate_media(media="print")
    try:
        for around in (".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".demo"):
            assert not any(part.is_visible() for part in page.locator(around).all()), around
        paper = page.evaluate(
            "() => document.querySelector('article').getBoundingClientRect().width"
        )
        assert paper > 600
        assert page.pdf(format="A4").startswith(b"%PDF")
    finally:
        page.emulate_media(media="screen")


FOUND_ALL = (
    "() => document.querySelector('#search-results .search-summary')?.textContent.includes('found')"
)


@pytest.mark.parametrize("name", CHAPTERS)
def test_search_finds_it_by_the_words_of_its_title(visits, browser, home, name):
    words = visits(name).page.inner_text("h1").replace("#", "").strip()
    page = browser.new_page()
    try:
        page.goto(f"{home}/search.html?q={quote(words)}")
        page.wait_for_function(FOUND_ALL, timeout=30_000)
        links = [a.get_attribute("href") for a in page.locator("#search-results li a").all()]
        assert any(f"{name}.html" in link for link in links)
        excerpts = page.locator("#search-results .context").all_inner_texts()
        assert excerpts
        assert not re.search(r"\\[()\[\]]", " ".join(excerpts))
    finally:
        page.close()


@pytest.mark.parametrize("name", WITH_DEMO)
def test_its_demo_works_by_keyboard_and_says_what_it_shows(visits, name):
    page = visits(name).page
    for demo in page.locator(".demo[data-demo]").all():
        demo.scroll_into_view_if_needed()
        says = demo.locator("[aria-live=polite]")
        says.first.wait_for(state="attached", timeout=5_000)
        controls = demo.locator(STOPS).filter(visible=True)
        assert controls.count() > 0
        heard, asked = set(), {}
        for _ in range(2):  # a button that restores what is there says so only after a change
            controls.first.focus()
            for place in range(controls.count()):
                kind, name, held, inside = page.evaluate(FOCUSED)
                assert inside, "a control is not reached with Tab"
                before = says.all_inner_texts()
                for key in KEYS.get(kind, ()):
                    page.keyboard.press(key)
                    page.wait_for_timeout(30)
                    moved = name.startswith(LATER) and page.evaluate(FOCUSED)[2] != held
                    if says.all_inner_texts() != before or moved:
                        heard.add(place)
                        break
                if kind in KEYS:
                    asked[place] = (kind, name)
                page.keyboard.press("Tab")
        silent = [control for place, control in asked.items() if place not in heard]
        assert silent == [], "controls that change nothing in what is announced"
        assert asked, "no control at all"


# Of a group of radio buttons Tab reaches one, and arrows the others.
STOPS = "input:not([type=radio]), input[type=radio]:checked, button, select, [tabindex='0']"
FOCUSED = """() => {
  const e = document.activeElement;
  const legend = e.type == "radio" && e.closest("fieldset").querySelector("legend");
  const name = legend || e.labels?.[0] || e;
  return [e.type || e.tagName, name.innerText, e.value + e.id, !!e.closest(".demo")];
}"""
# Settings of the next step: what is announced is the last one, so only their value has to move.
LATER = ("step of a place", "penalty", "Window of suppression")
# A small move may be lost in rounding, or stop at the end of a range; then it goes to the ends.
KEYS = {
    "button": ("Space",),
    "checkbox": ("Space",),
    "radio": ("ArrowRight",),
    "range": ("ArrowRight", "ArrowLeft", "End", "Home"),
    "number": ("ArrowUp", "ArrowDown"),
    "select-one": ("ArrowDown", "ArrowUp"),
}


# Slides ------------------------------------------------------------------------------------------


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
    with served(folder) as address:
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
