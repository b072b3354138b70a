"""The map of the book and its index: whole, and every link leads to what it names."""

import re
from pathlib import Path

import pytest
import wsl_api
import wsl_map
import wsl_sphinx
from book_pages import PAGES
from test_book import Page

ROOT = Path(__file__).parents[2]
CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]


def links(page: Page) -> list[str]:
    return [a.get("href", "") for a in page.all("a")]


@pytest.fixture(scope="module")
def map_page(site):
    return Page(site / "book" / "map.html")


def test_the_map_has_every_chapter_equation_and_function(map_page):
    found = set(links(map_page))
    assert {f"../{name}.html" for name in CHAPTERS} <= found
    tags = [tag for _, text in wsl_map.chapters(ROOT) for tag in wsl_map.TAG.findall(text)]
    assert len(tags) > 80
    for tag in tags:
        assert any(link.endswith(f"#eq-{tag}") for link in found), tag
    for name in wsl_api.equations().values():
        assert any(link.endswith(f"#{name}") for link in found), name


def test_the_map_has_every_exercise_and_experiment(map_page):
    found = links(map_page)
    for file, text in wsl_map.chapters(ROOT):
        numbers = [n for n, _ in wsl_map.EXERCISE.findall(text)]
        assert numbers == [str(n + 1) for n in range(len(numbers))]
        assert len(numbers) >= 4, file.name
        for n in numbers:
            assert f"../notebooks/{file.stem}.html#exercise-{int(file.name[:2])}-{n}" in found
    words = " ".join(map_page.words)
    for paper in wsl_sphinx.with_page():
        assert paper.audit is None or all(e.name in words for e in paper.experiments)


def test_every_link_of_map_and_index_leads_to_an_element(site, map_page):
    pages = {}
    for source in (map_page, Page(site / "genindex.html")):
        for link in links(source):
            file, _, fragment = link.partition("#")
            target = (source.path.parent / file).resolve() if file else source.path
            if "://" in link or not fragment:
                continue
            if target not in pages:
                pages[target] = Page(target).ids
            assert fragment in pages[target], f"{source.path.name}: {link}"


def test_the_index_has_functions_arguments_and_subjects(site):
    text = re.sub(r"<[^>]*>|\s+", " ", (site / "genindex.html").read_text("utf-8"))
    for term in ("log_likelihood()", "log_p (argument)", "Max-pooling", "Proportions: DLLP"):
        assert term in text
