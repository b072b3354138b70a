"""Every chapter in a browser: formulas, layout, length, phone, dark, print, demos, axe."""

from pathlib import Path

import page_checks
import pytest
from book_pages import PAGES
from page_checks import ANY, OF_CHAPTERS, OF_DEMOS, OF_PAGES, visits

__all__ = ["visits"]  # a fixture of every test here

ROOT = Path(__file__).parents[2]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]
WITH_DEMO = [page for page in CHAPTERS if "data-demo" in (ROOT / f"{page}.py").read_text("utf-8")]
pytestmark = pytest.mark.skipif(**page_checks.ABSENT)


def checks() -> list:
    """Return chapter, check: all of one chapter in a row, so that each is loaded once."""
    all_checks = [*ANY, *OF_DEMOS, *OF_PAGES, *OF_CHAPTERS]
    pairs = [(page, check) for page in CHAPTERS for check in all_checks]
    return [(page, check) for page, check in pairs if check not in OF_DEMOS or page in WITH_DEMO]


@pytest.mark.parametrize(("name", "check"), checks())
def test_chapter(visits, name, check):
    check(visits(name))
