"""Every page but the chapters in a browser: formulas, phone, dark, print, axe."""

import page_checks
import pytest
from book_pages import PAGES, TOC
from page_checks import ANY, OF_PAGES, visits

__all__ = ["visits"]  # a fixture of every test here

OTHERS = [page for page in PAGES if not page.startswith("notebooks/")]
BY_SPHINX = ["search", "genindex"]  # with no source of ours
pytestmark = pytest.mark.skipif(**page_checks.ABSENT)


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


def test_the_checks_find_what_they_look_for(visits):
    visit = visits(TOC["root"])
    page = visit.page
    page.evaluate("""() => document.querySelector('article').insertAdjacentHTML('beforeend',
        '<div class="highlight"><pre><span class="x" style="color: #bbb">pale</span> ' +
        '<span class="x" style="color: #bbb">pale</span></pre>' +
        '<img src="nowhere.png"><span class="math">\\\\(x\\\\)</span></div>')""")
    page.wait_for_timeout(300)
    for check in [*ANY, OF_PAGES[0]]:
        with pytest.raises(AssertionError):
            check(visit)
    found = page_checks.violations(page)
    assert sum(v.startswith("color-contrast") for v in found) == 1
    assert any(v.startswith("image-alt") for v in found)
    page.close()
    visits("search")  # the spoilt page is opened no more
