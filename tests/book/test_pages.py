"""Every page but the chapters in a browser: formulas, phone, dark, print, axe."""

import re

import page_checks
import pytest
from book_pages import PAGES, TOC
from page_checks import ANY, OF_PAGES, visits

__all__ = ["visits"]  # a fixture of every test here

OTHERS = [page for page in PAGES if not page.startswith("notebooks/")]
BY_SPHINX = ["search", "genindex"]  # with no source of ours
pytestmark = pytest.mark.skipif(**page_checks.ABSENT)


SPOIL = """(html) => document.querySelector('.bd-article').insertAdjacentHTML('beforeend',
    `<div id="spoilt">${html}</div>`)"""
CUT_THINGS = [
    f'<div><pre style="white-space: pre; overflow: auto">{"x" * 400}</pre></div>',
    '<details><pre style="width: 1500px">a folded cell</pre></details>',
    '<div style="overflow: auto"><table style="width: 1500px"><tr><td>1</td></tr></table></div>',
    '<div><img alt="wide" style="display: block; width: 1500px; max-width: none !important"></div>',
]


def checks() -> list:
    """Return page, check: all of one page in a row, so that each is loaded once."""
    made = [(page, check) for page in BY_SPHINX for check in ANY]
    return [(page, check) for page in OTHERS for check in [*ANY, *OF_PAGES]] + made


@pytest.mark.parametrize(("name", "check"), checks())
def test_page(visits, name, check):
    check(visits(name))


def test_the_address_of_the_book_leads_to_its_first_page(visits):
    visit = visits(TOC["root"])
    page = visit.browser.new_page()
    try:
        page.goto(f"{visit.home}/index.html")
        page.wait_for_url(f"{visit.home}/{TOC['root']}.html", timeout=10_000)
    finally:
        page.close()


def test_search_finds_every_page_by_the_words_of_its_title(visits):
    page = visits("search").page
    page.wait_for_function("() => Search._index", timeout=30_000)
    assert set(page.evaluate("() => Search._index.docnames")) == set(PAGES)
    assert page.evaluate(page_checks.MISSED) == []


def test_search_shows_excerpts_without_the_source_of_formulas(visits):
    links, excerpts = page_checks.searched(visits("search"), "Presence, likelihood")
    assert any("01_presence_likelihood" in link for link in links)
    assert excerpts
    assert not re.search(page_checks.RAW, " ".join(excerpts))


def test_a_page_becomes_a_pdf(visits):
    assert visits(TOC["root"]).page.pdf(format="A4").startswith(b"%PDF")


def test_the_checks_find_what_they_look_for(visits):
    visit = visits(TOC["root"])
    page = visit.page
    page.evaluate("""() => document.querySelector('article').insertAdjacentHTML('beforeend',
        '<div class="highlight"><pre><span class="x" style="color: #bbb">pale</span> ' +
        '<span class="x" style="color: #bbb">pale</span></pre>' +
        '<img src="nowhere.png"><span class="math">\\\\(x\\\\)</span></div>')""")
    page.wait_for_timeout(300)
    for check in ANY:
        with pytest.raises(AssertionError):
            check(visit)
    found = page_checks.violations(page)
    assert sum(v.startswith("color-contrast") for v in found) == 1
    assert any(v.startswith("image-alt") for v in found)
    visit.faults.clear()
    for cut in CUT_THINGS:
        page.evaluate(SPOIL, cut)
        for check in [page_checks.nothing_is_cut, page_checks.fits_a_phone_in_the_dark]:
            with pytest.raises(AssertionError, match=r"px|sideways"):
                check(visit)
        page.evaluate("() => document.querySelector('#spoilt').remove()")
    page_checks.nothing_is_cut(visit)
    page.close()
    visits("search")  # the spoilt page is opened no more
