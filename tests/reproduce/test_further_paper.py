"""A further paper is a folder and its rows of the ledger: nothing else has to know of it."""

import importlib
import json
import sys
from types import SimpleNamespace

import pytest
import sphinx_external_toc.parsing
from book_pages import ROOT, wsl_sphinx

from wsl_tutorial import reproduce
from wsl_tutorial.reproduce import audit, ledger, papers, records, tables
from wsl_tutorial.reproduce.__main__ import main

ROWS = """\
sums-1,sums,Table 1,addition,integers,error,0.50,0.10,%,lower,sums/add,error,mean,2,
sums-2,sums,Table 1,subtraction,integers,error,0.70,,%,lower,,,,,
"""
PACKAGE = {
    "__init__.py": "from .experiments import PAPER",
    "experiments.py": """
from dataclasses import dataclass

from ..experiment import Experiment, Paper, setting
from ..ledger import cells


@dataclass(frozen=True)
class Settings:
    error: float = setting(0.5, 0.5, "table 1")


def add(config, seed, run):
    return {"error": config.error + seed / 100}


ADD = Experiment(
    "sums/add", "Adding up", "addition", Settings(), add, cells("sums/add"), 2, gpu_minutes=0
)
PAPER = Paper("sums", "On sums", "Ada Adder", 2024, "https://example.org", (ADD,))
""",
    "audit.py": """
from ..experiment import Audit, Sentence

AUDIT = Audit("Adder", 4, (Sentence("section 2", "sums commute", True, "a + b", "test_x"),))
""",
}


@pytest.fixture
def out(tmp_path, monkeypatch):
    """Add the paper `sums` for one test; yield a folder for its runs."""
    (tmp_path / "papers" / "sums").mkdir(parents=True)
    for name, text in PACKAGE.items():
        (tmp_path / "papers" / "sums" / name).write_text(text, "utf-8")
    (tmp_path / "ledger.csv").write_text(ledger.CSV.read_text("utf-8") + ROWS, "utf-8")
    monkeypatch.setattr(ledger, "CSV", tmp_path / "ledger.csv")
    monkeypatch.setattr(reproduce, "__path__", [*reproduce.__path__, str(tmp_path / "papers")])
    importlib.invalidate_caches()
    yield tmp_path / "runs"
    for name in [name for name in sys.modules if name.startswith("wsl_tutorial.reproduce.sums")]:
        del sys.modules[name]


def test_it_is_found_in_the_order_of_the_chapters(out):
    assert [paper.room for paper in papers() if paper.audit][:3] == ["presence", "sums", "counts"]
    (sums,) = (paper for paper in papers() if paper.key == "sums")
    assert (sums.cited, sums.name) == ("Adder 2024", "Adder 2024 (sums)")


def test_it_is_listed_run_judged_and_measured(out, capsys):
    assert main(["run", "sums/*", "--protocol", "paper", "--out", str(out)]) == 0
    assert main(["list", "--out", str(out)]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("sums: "))
    assert line == (
        "sums: Adder 2024 (sums): 1 of 1 experiments have records; "
        "2 numbers. Paper's settings: 1 (1 reproduced); not run: 1."
    )
    assert main(["list", "--json", "sums", "--out", str(out)]) == 0
    states = {row["id"]: row["state"] for row in json.loads(capsys.readouterr().out)}
    assert states == {"sums-1": "reproduced", "sums-2": "not written yet"}
    assert main(["table", "sums", "--out", str(out)]) == 0
    assert "| 0.50 ± 0.1 | 0.51 ± 0.01 | paper's settings | 2 |" in capsys.readouterr().out
    assert main(["metrics", "sums", "--out", str(out)]) == 0
    assert "sums/add,paper,error,0.505,0.00707107,2," in capsys.readouterr().out


def test_it_is_published_in_a_file_of_its_own(out):
    assert main(["run", "sums/*", "--protocol", "paper", "--seeds", "0", "--out", str(out)]) == 0
    target = out.parent / "published"
    assert main(["publish", str(out), "--allow-dirty", "--to", str(target)]) == 0
    assert [record["experiment"] for record in records.published(target)] == ["sums/add"]


def test_it_is_audited(out):
    assert "| section 2 | sums commute | stands | a + b | `test_x` |" in audit.sentences_table(
        "sums"
    )
    assert "| Adder 2024 (sums) |" in audit.summary([])
    assert "## Adder 2024 (sums)" in audit.report([])


def test_it_has_a_page_in_the_book(out):
    assert "| Adder 2024 (sums) | 2 |" in tables.summary_markdown([])
    assert "`sums-1`" in wsl_sphinx.Reproduction.text(SimpleNamespace(arguments=["sums"]))
    source = out.parent / "source"
    (source / "book").mkdir(parents=True)
    wsl_sphinx.make_pages(SimpleNamespace(srcdir=source), None)
    page = (source / "book" / "reproductions-sums.md").read_text("utf-8")
    assert page.startswith("# Reproductions: sums\n")
    assert "Adder (2024), *On sums*" in page
    assert "```{reproduction} sums\n" in page
    toc = sphinx_external_toc.parsing.parse_toc_yaml(ROOT / "_toc.yml")
    wsl_sphinx.order_pages(None, SimpleNamespace(external_site_map=toc))
    (part,) = (tree for tree in toc.root.subtrees if "book/reproductions" in tree.items)
    rooms = ("presence", "sums", "counts", "patches", "regions")
    assert part.items[1:-1] == [f"book/reproductions-{room}" for room in rooms]
    assert all(item in toc for item in part.items)


def test_pages_link_to_their_chapter_if_there_is_one():
    pages = {paper.key: wsl_sphinx.page(paper, ROOT) for paper in wsl_sphinx.with_page()}
    assert "[the chapter](../notebooks/07_counts_reproduction.ipynb)" in pages["llp"]
    assert all(page.count("../notebooks/") == 1 for page in pages.values())
