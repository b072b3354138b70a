"""A deck of slides as PDF."""

import importlib.util
import re
from pathlib import Path

import nbformat
import page_checks
import pytest
import teaching

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(**page_checks.ABSENT)
@pytest.mark.skipif(
    importlib.util.find_spec("sphinx_revealjs") is None,
    reason="sphinx-revealjs, which has reveal.js, is not installed",
)
def test_a_deck_prints_a_page_for_each_slide(tmp_path):
    notebook = nbformat.read(next((ROOT / "notebooks").glob("02_*.ipynb")), as_version=4)
    teaching.bring(tmp_path)
    (tmp_path / "deck.html").write_text(teaching.page(notebook), "utf-8")
    teaching.print_slides(tmp_path)
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "deck.pdf").read_bytes())
    _, columns = teaching.deck(notebook)
    assert len(pages) == sum(map(len, columns)) > 10
