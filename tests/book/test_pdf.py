"""The PDF of the book: all pages in order, ids of their own, links that stay inside."""

import re
import sys

import page_checks
import pdf
import pikepdf
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
def test_two_pages_become_a_pdf_with_outline_contents_and_links(site, tmp_path, monkeypatch):
    target, texts, really = tmp_path / "book.pdf", [], pdf.printed
    monkeypatch.setattr(pdf, "printed", lambda *what: texts.append(what[-1]) or really(*what))
    pdf.make(site, target, ["book/how-to-read", "book/notation"])
    assert not (site / "_all.html").exists()
    with pikepdf.open(target) as printed, printed.open_outline() as outline:
        titles = [str(item.title) for item in pdf.flat(outline.root)]
        sheets = [page.objgen for page in printed.pages]
        place = {str(k): sheets.index(v[0].objgen) + 1 for k, v in printed.Root.Dests.items()}
        kinds = {str(note.Subtype) for page in printed.pages for note in page.get("/Annots", [])}
    assert titles[:2] == ["How to read this book", "A chapter"]
    assert {"Contents", "Notation"} < set(titles)
    assert kinds == {"/Link"}
    assert place["/book-how-to-read"] == 1 < place["/book-notation"] <= len(sheets)
    rows = re.findall(r'<a href="#([\w-]+)">[^<]*</a></td><td>(\d+)</td>', texts[-1])
    assert rows == [
        (name, str(place[f"/{name}"])) for name in ("book-how-to-read", "book-notation")
    ]


def test_what_stops_the_printing_is_a_line_and_leaves_the_pdf(tmp_path, monkeypatch, capsys):
    def run(*words) -> int:
        monkeypatch.setattr(sys, "argv", ["pdf", *map(str, words)])
        return pdf.main()

    def stop(built, target, text):
        target.write_text("half", "utf-8")
        raise KeyboardInterrupt

    built, target = tmp_path / "html", tmp_path / "book.pdf"
    built.mkdir()
    for text in (None, "no redirection"):
        (built / "index.html").write_text(text, "utf-8") if text else None
        assert run(built, target) == 1
        assert capsys.readouterr().err == f"{built} holds no book; make book first\n"
    monkeypatch.setattr(pdf, "order", lambda built: [])
    for wrong in (built, tmp_path / "none" / "book.pdf"):
        assert run(built, wrong) == 1
        assert "name another TARGET" in capsys.readouterr().err
    target.write_text("old", "utf-8")
    monkeypatch.setattr(pdf, "whole", lambda *_: "")
    monkeypatch.setattr(pdf, "printed", stop)
    assert run(built, target) == 1
    assert capsys.readouterr().err == f"stopped; {target} is as it was before\n"
    assert target.read_text("utf-8") == "old"
    assert {file.name for file in tmp_path.iterdir()} == {"html", "book.pdf"}
