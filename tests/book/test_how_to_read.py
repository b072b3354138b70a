"""The pages on the book itself keep their promises: equations, protocols, the environment."""

import ast
import re
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from wsl_tutorial.reproduce import papers, records

ROOT = Path(__file__).parents[2]
ROOMS = ("presence", "counts", "patches", "regions")
HEAD = re.compile(r"Eq\. \((\d+\.\d+)\): ")


def page(name: str) -> str:
    return " ".join((ROOT / name).read_text("utf-8").split())


def documented() -> list[tuple[str, bool]]:
    """Each function, class and method of the package: its docstring, and whether it is public."""
    found = []
    for path in (ROOT / "wsl_tutorial").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                public = isinstance(node, ast.FunctionDef) and node in tree.body
                found.append((ast.get_docstring(node) or "", public and node.name[0] != "_"))
    return found


def test_an_equation_begins_the_docstring_of_exactly_one_public_function():
    heads = Counter(m[1] for text, _ in documented() if (m := HEAD.match(text)))
    public = Counter(m[1] for text, public in documented() if public and (m := HEAD.match(text)))
    assert set(heads.values()) == {1}
    assert public == heads
    assert "exactly one public function" in page("book/how-to-read.md")
    assert "one public function" in page("CONTRIBUTING.md")


def test_other_docstrings_may_cite_an_equation_and_some_do():
    cited = [text for text, _ in documented() if re.search(r"Eq\. \(\d+\.\d+\)(?!:)", text)]
    assert any(not HEAD.match(text) for text in cited)
    assert "other docstrings may cite it" in page("book/how-to-read.md")


def test_an_equation_has_at_least_one_test_and_some_have_two():
    text = (ROOT / "tests" / "equations" / "test_equations.py").read_text("utf-8")
    tests = Counter(re.findall(r"^def test_eq_(\d+_\d+)", text, re.M))
    assert max(tests.values()) > 1
    assert "at least one test" in page("book/how-to-read.md")


def test_short_runs_are_as_long_as_the_page_tells():
    """From CPUs alone; most below a minute, the longest about twenty."""
    short = [r for r in records.published() if r["protocol"] == "short"]
    seconds = [r["seconds"] for r in short]
    assert median(seconds) < 60
    assert 18 * 60 < max(seconds) < 22 * 60
    assert not [r for r in short if not re.search("Intel|AMD", r["provenance"]["device"])]
    assert "in less than a minute to twenty on a CPU" in page("book/reproductions.md")


@pytest.mark.parametrize("name", ["README.md", "book/reproductions.md", "book/teaching.md"])
def test_a_page_says_which_python_before_its_first_command(name):
    text = (ROOT / name).read_text("utf-8")
    command = re.search(r"^python (-m|scripts)", text, re.M)
    assert "source .venv/bin/activate" in text[: command.start()]


def test_the_page_names_the_key_of_each_method():
    text = page("book/how-to-read.md")
    for paper in papers():
        if paper.room in ROOMS:
            assert f"`{paper.key}` ({paper.room})" in text
