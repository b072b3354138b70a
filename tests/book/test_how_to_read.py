"""The pages on the book itself keep their promises: equations, protocols, the environment."""

import ast
import json
import re
from collections import Counter
from pathlib import Path
from statistics import median

import book_pages  # noqa: F401  (it puts book/_ext on the path)
import pytest
import wsl_sphinx

from wsl_tutorial.reproduce import papers, records, tables

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
                public = node in tree.body and node.name[0] != "_"
                found.append((ast.get_docstring(node) or "", public))
    return found


def test_an_equation_begins_the_docstring_of_exactly_one_public_function_or_class():
    heads = Counter(m[1] for text, _ in documented() if (m := HEAD.match(text)))
    public = Counter(m[1] for text, public in documented() if public and (m := HEAD.match(text)))
    assert set(heads.values()) == {1}
    assert public == heads
    assert "exactly one public function or class" in page("book/how-to-read.md")
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
    told = "most runs end in one minute or less, the longest in about twenty, on a CPU"
    assert told in page("book/reproductions.md")


# Programs that the Python of the system has not, or not with our packages; .venv/bin/ has them all.
OURS = r"(?:python3?|pip|uv|jupyter(?:-\w+)?|jupytext|pytest|torchrun|ray|ruff)"
BARE = rf"(?:[A-Z_]+=\S+ +|srun +|\$ +|run=\")*{OURS} +[^\s=]"
PAGES = [
    *map(ROOT.joinpath, ("README.md", "CONTRIBUTING.md")),
    *(path for path in sorted(ROOT.glob("book/*.md")) if not path.match("reproductions-*")),
    *sorted(ROOT.glob("notebooks/*.ipynb")),
]


def prose(path: Path) -> str:
    """The text of a page; of a notebook, that of its cells without code."""
    text = path.read_text("utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def bare_commands(text: str) -> list[str]:
    """The commands of a page that need `source .venv/bin/activate` to work, which nobody typed."""
    blocks = re.findall(r"^ *```(?:bash|sh|console|text)?\n(.*?)^ *```", text, re.M | re.S)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    code = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"(?ms)^ *```.*?^ *```", "", text))
    return [command for command in [*lines, *code] if re.match(BARE, command)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_printed_command_works_as_printed(path):
    in_a_project_of_their_own = 'pip install "wsl-tutorial @'
    found = [c for c in bare_commands(prose(path)) if not c.startswith(in_a_project_of_their_own)]
    assert found == []


def test_the_tables_of_a_paper_print_commands_that_work():
    for paper in papers():
        assert bare_commands(tables.instructions(paper)) == []
        assert ".venv/bin/python -m" in tables.instructions(paper)
        assert bare_commands(wsl_sphinx.page(paper, ROOT)) == []


def test_a_bare_command_is_found():
    text = "Say `python -m this`.\n```bash\nA=1 python x.py\n.venv/bin/python y.py\n```\n"
    assert bare_commands(text) == ["A=1 python x.py", "python -m this"]
    assert bare_commands("`python` and `ray=2`, `.venv/bin/python -m this`") == []


def test_commands_name_programs_that_the_lock_installs():
    text = "\n".join(prose(path) for path in PAGES)
    programs = set(re.findall(r"\.venv/bin/([\w-]+)", text)) - {"python", "activate"}
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    of = {"torchrun": "torch"}
    others = {"ray", "uv"}  # of the extra cluster, which its page installs; of the Makefile
    for program in programs - others:
        assert re.search(rf"^{of.get(program, program)}==", lock, re.M), program


def test_make_lab_installs_what_it_starts():
    recipe = (ROOT / "Makefile").read_text("utf-8").partition("\nlab:")[2].partition("\n\n")[0]
    assert "install" in recipe
    assert recipe.rstrip().endswith("$(BIN)/jupyter-lab --notebook-dir notebooks")


def test_the_page_names_the_key_of_each_method():
    text = page("book/how-to-read.md")
    for paper in papers():
        if paper.room in ROOMS:
            assert f"`{paper.key}` ({paper.room})" in text
