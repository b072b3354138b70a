"""Pages of the book in a browser without a network: each loaded once, then checked in many ways.

A page is opened on a wide and bright screen. The check of the phone in the dark changes the screen
of the loaded page, and changes it back.
"""

import http.server
import os
import re
import shutil
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest
from paper import BROWSERS, started

BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
NEEDED = os.environ.get("WSL_BROWSER") == "needed"  # as .ci/run says: fail rather than skip
ABSENT = {
    "condition": BROWSER is None and not NEEDED,
    "reason": "neither Chromium nor Chrome is installed",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder: Path):
    """Yield the address of a folder."""
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


class Visit:
    """One page, opened once on a wide and bright screen; what went wrong while it was."""

    def __init__(self, browser, home: str, name: str):
        self.faults: list[str] = []
        self.browser, self.home, self.name = browser, home, name
        self.page = browser.new_page(viewport=WIDE, color_scheme="light")
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.check(request.url))
        self.page.goto(f"{home}/{name}.html", wait_until="load")
        self.page.evaluate("() => window.MathJax ? MathJax.startup.promise : null")

    def hear(self, message) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text} {message.location['url']}")

    def check(self, url: str) -> None:
        if not url.startswith((self.home, "data:", "blob:")):
            self.faults.append(f"another host: {url}")


@pytest.fixture(scope="module")
def visits(site):
    """Yield a function from a name to its page; it opens a page when the name changes."""
    last: list[Visit] = []

    with served(site) as home, started() as browser:

        def visit(name: str) -> Visit:
            if not last or last[0].name != name:
                while last:
                    last.pop().page.close()
                last.append(Visit(browser, home, name))
            return last[0]

        yield visit
        while last:
            last.pop().page.close()


# Checks -------------------------------------------------------------------------------------------


def opens_without_an_error_and_asks_no_other_host(visit: Visit):
    assert visit.faults == []


def every_formula_is_typeset(visit: Visit):
    page = visit.page
    assert page.locator("mjx-merror").count() == 0
    left = page.locator("article .math:not(:has(mjx-container))")
    assert left.count() == 0, left.all_inner_texts()
    text = page.locator("article, .bd-search-container").first.inner_text()
    assert not re.search(RAW, text)


COMMANDS = "begin|frac|sum|prod|log|exp|mathbb|mathrm|tag|left|hat|le|ge"
RAW = rf"\\[()\[\]]|\\(?:{COMMANDS})\b|(?<!\w)\$(?![A-Z][A-Z_]+\b)[^$\s]*[\\_^]"  # no $VARIABLE
LONGEST = {"reproduction": 4500, "audit": 4500, "": 5000}  # words of a chapter, by its name
WORDS = """() => {
  const words = (e) => e.innerText.split(/\\s+/).filter((word) => word).length;
  const article = document.querySelector('article');
  const demos = [...article.querySelectorAll('.demo')].map(words);
  return words(article) - demos.reduce((a, b) => a + b, 0);
}"""


def is_not_too_long(visit: Visit):
    most = next(most for part, most in LONGEST.items() if part in visit.name)
    assert visit.page.evaluate(WORDS) <= most


def axe_finds_nothing_serious(visit: Visit):
    assert violations(visit.page) == []


BEGINS_LATE = """() => [...document.querySelectorAll('.bd-article div.math > mjx-container')]
    .filter(m => m.getBoundingClientRect().left < m.parentElement.getBoundingClientRect().left - 1)
    .length"""  # formulas whose beginning is out of sight


# Boxes with more in them than they show, and things beyond the box around them. Folded parts are
# opened to be measured. On a phone, columns, tables and formulas may scroll in their own box.
CUT = """(scrolling) => {
  const article = document.querySelector('.bd-article');
  const things = 'pre, table, img, svg, div.math, figure, .exercise, .cell_output, details';
  const cut = [];
  for (const e of article.querySelectorAll(things)) {
    if (!e.getClientRects().length || e.closest('svg *, mjx-container, .demo')) continue;
    if (scrolling && e.closest(scrolling)) continue;
    const beyond = e.getBoundingClientRect().right - e.parentElement.getBoundingClientRect().right;
    const over = Math.round(Math.max(e.scrollWidth - e.clientWidth, beyond));
    if (over > 1) cut.push(`${e.tagName} ${e.className}, ${over} px: ${e.innerText?.slice(0, 80)}`);
  }
  return cut;
}"""
UNFOLD = (
    "(open) => document.querySelectorAll('.bd-article details').forEach((d) => (d.open = open))"
)
SCROLLING = ".columns, .pst-scrollable-table-container, div.math, .cell_output:has(.columns, table)"


def nothing_is_cut(visit: Visit):
    page = visit.page
    page.evaluate(UNFOLD, True)
    page.evaluate(FRAME)
    try:
        assert sideways(page) <= 0
        assert page.evaluate(CUT, "") == []
    finally:
        page.evaluate(UNFOLD, False)


def fits_a_phone_in_the_dark(visit: Visit):
    page = visit.page
    page.set_viewport_size(PHONE)
    show_in(page, "dark")
    page.evaluate(UNFOLD, True)
    page.evaluate(FRAME)
    try:
        assert visit.faults == []
        assert sideways(page) <= 0
        assert page.evaluate(CUT, SCROLLING) == []
        assert page.evaluate(BEGINS_LATE) == 0
        page.evaluate(UNFOLD, False)
        contrast = {"type": "rule", "values": ["color-contrast"]}
        assert violations(page, runOnly=contrast) == []
    finally:
        page.evaluate(UNFOLD, False)
        page.set_viewport_size(WIDE)
        show_in(page, "light")


def show_in(page, scheme: str):
    """Change to the dark or the light colours, and bring those on their way to their end.

    In a page that is not in front no transition moves on by itself, and no frame is drawn.
    """
    page.bring_to_front()
    page.emulate_media(color_scheme=scheme)
    page.wait_for_selector(f"html[data-theme={scheme}]", state="attached", timeout=5_000)
    page.evaluate(FRAME)
    page.wait_for_function(SETTLED, polling=20, timeout=5_000)


FRAME = """() => new Promise((done) => {
    requestAnimationFrame(() => setTimeout(done));
    setTimeout(done, 1000);
})"""
SETTLED = """() => {
    const moving = document.getAnimations().filter((a) => a instanceof CSSTransition);
    moving.forEach((a) => a.finish());
    return !moving.length;
}"""


def sideways(page) -> int:
    """Return the pixels that the page is wider than the screen."""
    return page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


# A page has thousands of words in a few dozen colours: the contrast of text and paper is computed
# once for each kind of element.
AXE = """([context, options]) => {
  const seen = new Set();
  const papers = new Map([[null, '']]);
  const paper = (e) => {
    if (!papers.has(e)) {
      const {backgroundColor: colour, backgroundImage: image, opacity} = getComputedStyle(e);
      const clear = colour === 'rgba(0, 0, 0, 0)' && image === 'none' && opacity === '1';
      const behind = paper(e.parentElement);
      papers.set(e, clear ? behind : [colour, image, opacity, behind].join());
    }
    return papers.get(e);
  };
  for (const e of document.querySelectorAll('.bd-article *')) {
    const {color, fontSize, fontWeight, display, position} = getComputedStyle(e);
    const style = [color, fontSize, fontWeight, display, position, paper(e)];
    const kind = [e.tagName, e.className, ...style].join('|');
    const words = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    e.toggleAttribute('data-again', words && !!e.getClientRects().length && seen.has(kind));
    if (words && e.getClientRects().length) seen.add(kind);
  }
  axe.configure({rules: [{id: 'color-contrast', selector: '*:not([data-again])'}]});
  return axe.run(context, options);
}"""


def violations(page, **options) -> list[str]:
    """Return the serious and critical findings of axe-core: rule, element.

    Left out are MathJax's own markup and rows from the fortieth on, made as those above them: axe
    takes a minute for the longest tables. Style sheets are not fetched again for rules that are
    off, and what passes is not listed.
    """
    from axe_playwright_python.sync_playwright import Axe

    left_out = {"exclude": [["mjx-container"], ["tr:nth-child(n + 40)"]]}
    options = {"resultTypes": ["violations"], "preload": False, **options}
    page.evaluate(Axe().axe_script)
    found = page.evaluate(AXE, [left_out, options])["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in grave for node in rule["nodes"]]


def prints_its_article_and_nothing_around_it(visit: Visit):
    page = visit.page
    page.emulate_media(media="print")
    try:
        for around in (".bd-header", ".bd-sidebar-primary", ".bd-sidebar-secondary", ".demo"):
            assert not any(part.is_visible() for part in page.locator(around).all()), around
        paper = page.evaluate(
            "() => document.querySelector('article').getBoundingClientRect().width"
        )
        assert paper > 600
    finally:
        page.emulate_media(media="screen")


FOUND_ALL = (
    "() => document.querySelector('#search-results .search-summary')?.textContent.includes('found')"
)
MISSED = """() => {  // the pages that a search for the words of their title does not find
  const {docnames, titles} = Search._index;
  const found = (words) => Search._performSearch(...Search._parseQuery(words));
  const plain = (title) => title.replace(/<[^>]*>/g, "");  // a chapter has its number in a span
  return docnames.filter((name, i) => !found(plain(titles[i])).some(([other]) => other === name));
}"""


def searched(visit: Visit, words: str) -> tuple[list[str], list[str]]:
    """Return the links and the excerpts that the search page shows for some words."""
    page = visit.browser.new_page()
    try:
        page.goto(f"{visit.home}/search.html?q={quote(words)}")
        page.wait_for_function(FOUND_ALL, timeout=30_000)
        links = [a.get_attribute("href") for a in page.locator("#search-results li a").all()]
        return links, page.locator("#search-results .context").all_inner_texts()
    finally:
        page.close()


def its_demo_works_by_keyboard_and_says_what_it_shows(visit: Visit):
    page = visit.page
    for demo in page.locator(".demo[data-demo]").all():
        demo.scroll_into_view_if_needed()
        says = demo.locator("[aria-live=polite]")
        says.first.wait_for(state="attached", timeout=5_000)
        controls = demo.locator(STOPS).filter(visible=True)
        assert controls.count() > 0
        heard, asked = set(), {}
        for _ in range(2):  # a button that restores what is there says so only after a change
            if asked and heard >= asked.keys():
                break
            controls.first.focus()
            for place in range(controls.count()):
                kind, name, held, inside = page.evaluate(FOCUSED)
                assert inside, "a control is not reached with Tab"
                before = says.all_inner_texts()
                for key in KEYS.get(kind, ()):
                    page.keyboard.press(key)
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


ANY = [
    opens_without_an_error_and_asks_no_other_host,
    every_formula_is_typeset,
    axe_finds_nothing_serious,
]
OF_PAGES = [nothing_is_cut, fits_a_phone_in_the_dark, prints_its_article_and_nothing_around_it]
OF_CHAPTERS = [is_not_too_long]
OF_DEMOS = [its_demo_works_by_keyboard_and_says_what_it_shows]
