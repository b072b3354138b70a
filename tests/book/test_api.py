"""The pages of the API: every public function, linked with its equation both ways."""

import importlib
import io
import json
import pkgutil
import re
from html import unescape
from pathlib import Path

import docutils.core
import pytest
from book_pages import PAGES
from wsl_api import rst

import wsl_tutorial

ROOT = Path(__file__).parents[2]
OF_THE_BOOK = {"exercises", "check"}
MODULES = {m.name for m in pkgutil.iter_modules(wsl_tutorial.__path__)}
PUBLIC = sorted(name for name in MODULES - OF_THE_BOOK if not name.startswith("_"))
ROOMS = ("presence", "counts", "patches", "regions")


@pytest.fixture(scope="module")
def text(site):
    """The source of a page by its name."""
    return lambda name: (site / f"{name}.html").read_text("utf-8")


def test_every_public_module_has_a_page():
    assert {f"book/api-{name}" for name in PUBLIC} == {p for p in PAGES if "/api-" in p}


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_function_of_a_room_is_described_listed_and_found(text, site, room):
    page, listed = text(f"book/api-{room}"), text("genindex")
    search = (site / "searchindex.js").read_text("utf-8")
    index = json.loads(re.fullmatch(r"Search\.setIndex\((.*)\)", search.strip(), re.DOTALL)[1])
    found = {row[4] or row[0] for row in index["objects"][f"wsl_tutorial.{room}"]}
    module = importlib.import_module(f"wsl_tutorial.{room}")
    things = [name for name in module.__all__ if callable(getattr(module, name))]
    assert len(things) > 10
    for name in things:
        assert f'id="wsl_tutorial.{room}.{name}"' in page
        assert f'book/api-{room}.html#wsl_tutorial.{room}.{name}"' in listed
        assert name in found


def numbered() -> dict[str, str]:
    """Return equation -> its chapter."""
    texts = {path.stem: path.read_text("utf-8") for path in sorted(ROOT.glob("notebooks/*.py"))}
    tag = r"\\tag\{([^}]*)\}"
    return {number: name for name, source in texts.items() for number in re.findall(tag, source)}


@pytest.mark.parametrize(("number", "chapter"), numbered().items())
def test_an_equation_and_its_function_link_to_each_other(text, number, chapter):
    page = text(f"notebooks/{chapter}")
    assert page.count(f'id="eq-{number}"') == 1
    below = page.partition(f"({number}) in code: ")[2]
    link = re.match(
        r'<a class="reference internal" href="\.\./(book/api-\w+)\.html#([\w.]+)"', below
    )
    assert link
    described = text(link[1]).partition(f'id="{link[2]}"')[2].partition("</dt>\n<dd>")[2]
    start = f'<p><a class="reference internal" href="../notebooks/{chapter}.html#eq-{number}">'
    assert described.startswith(start)
    assert re.match(rf"<span[^>]*>Eq\. \({number}\)</span></a>: ", described.removeprefix(start))


def test_code_in_a_chapter_that_names_a_function_leads_to_it(text):
    link = "../book/api-presence.html#wsl_tutorial.presence.log_likelihood"
    assert text("notebooks/02_presence_numerics").count(f'href="{link}"') > 1


def test_an_example_is_shown_as_code(text):
    example = unescape(re.sub("<[^>]*>", "", text("book/api-counts")))
    assert ">>> counts.log_likelihood(logits, torch.tensor([1])).exp()  # 3/8" in example


def test_no_markup_of_docstrings_is_left_in_the_words(text):
    for name in PUBLIC:
        words = unescape(re.sub("<[^>]*>", "", text(f"book/api-{name}").partition("<article")[2]))
        left = re.findall(r":py:\w+:|:ref:|``|\\ |^ *(?:Args|Raises): ", words, re.MULTILINE)
        assert left == [], name


HOSTILE = """Eq. (99.9): P(a | b) of 2**L sets, x_ and `code_`s, *positions, and *this* one.

8. Where a line begins with a number,
- or with a sign, nothing is a list; (a) neither.

    an indented formula = |x| * y_

Args: x, y: two *numbers*; z: (B, *n).
Raises: ValueError, x < 0.  Source: paper (2).
"""


def test_a_docstring_keeps_its_words_and_has_no_markup_that_it_did_not_mean():
    said = io.StringIO()
    settings = {"warning_stream": said, "report_level": 1}
    made = docutils.core.publish_doctree("\n".join(rst(HOSTILE)), settings_overrides=settings)
    assert said.getvalue() == ""
    words = made.astext()
    for part in ("P(a | b) of 2**L sets, x_ and code_s, *positions, and this one.", "8. Where",
                 "- or with a sign, nothing is a list; (a) neither.", "= |x| * y_"):  # fmt: skip
        assert part in words
    assert words.count("ValueError") == 1
    assert "paper (2)." in words
