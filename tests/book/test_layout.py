"""Lines of code wrap without a change of their text; columns of outputs stay in line."""

import re

import pytest
import wsl_layout
from book_pages import PAGES
from test_book import Page

CODE = '<div class="highlight-python notranslate"><div class="highlight"><pre><span></span>{}</pre>'
PRINTED = '<div class="output stream highlight-myst-ansi"><div class="highlight"><pre>{}</pre>'


def shown(source: str) -> str:
    return wsl_layout.BLOCK.sub(wsl_layout.wrap, source)


@pytest.mark.parametrize("block", [CODE, PRINTED])
@pytest.mark.parametrize("text", ["", "a", "a\n", "if a &lt; b:\n\n    <b>x</b> = 1\n", "a  b\nc"])
def test_the_text_of_a_block_stays_as_it_was(block, text):
    source = block.format(text)
    assert wsl_layout.text_of(shown(source)) == wsl_layout.text_of(source)


def test_a_line_goes_on_behind_its_own_indentation():
    found = re.findall(
        r'class="code-line"( style="--inside:(\d+)")?', shown(CODE.format("a\n  b\n"))
    )
    assert [inside for _, inside in found] == ["", "2"]


@pytest.mark.parametrize(
    ("text", "wraps"), [("a sentence, printed", True), ("name   number\nfour   4", False)]
)
def test_printed_columns_do_not_wrap_and_sentences_do(text, wraps):
    found = shown(PRINTED.format(text))
    assert ("code-line" in found) is wraps
    assert ('columns"' in found) is not wraps


def test_every_chapter_has_code_that_wraps(site):
    for name in PAGES:
        if name.startswith("notebooks/"):
            page = Page(site / f"{name}.html")
            assert sum("code-line" in a.get("class", "") for a in page.all("span")) > 20, name
            assert any("fit.js" in a.get("src", "") for a in page.all("script"))
