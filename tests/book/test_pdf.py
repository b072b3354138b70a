"""The PDF of the book: all pages in order, ids of their own, links that stay inside."""

import re

import page_checks
import pdf
import pytest
from book_pages import PAGES, TOC


@pytest.fixture(scope="module")
def names(site):
    return pdf.order(site)


def test_the_pages_are_those_of_the_book_in_its_order(names):
    assert names[0] == TOC["root"]
    assert sorted(names) == sorted(PAGES)
    chapters = [name for name in names if name.startswith("notebooks/")]
    assert chapters == sorted(chapters)


def test_every_id_is_unique_and_every_link_inside_leads_to_one(site, names):
    text = pdf.whole(site, names)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(set(ids)) == len(ids) > 1000
    links = set(re.findall(r'\bhref="#([^"]+)"', text))
    assert len(links) > 500
    assert links <= set(ids)
    left = {link for link in re.findall(r'<a [^>]*href="([^"#][^"]*)"', text) if "://" not in link}
    assert not [link for link in left if link.endswith(".html") and "_modules" not in link
                and link != "genindex.html"]  # fmt: skip


def test_every_picture_is_there(site, names):
    pictures = re.findall(r'<img [^>]*src="([^":]+)"', pdf.whole(site, names))
    assert len(pictures) > 50
    assert not [picture for picture in pictures if not (site / picture).is_file()]


@pytest.mark.skipif(**page_checks.ABSENT)
def test_two_pages_become_a_pdf_with_outline_and_links(site, tmp_path):
    target = tmp_path / "book.pdf"
    pdf.make(site, target, ["book/how-to-read", "book/notation"])
    printed = target.read_bytes()
    assert printed.startswith(b"%PDF")
    assert b"/Outlines" in printed
    assert printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") > 2
    assert b"/Subtype /Link" in printed
    assert not (site / "_all.html").exists()
