"""Notebooks are pairs that agree, short of cell, portable, described, and small."""

import ast
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

import notebooks
from conftest import Close

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
ADDRESS = f"{PROJECT['name']} @ git+{PROJECT['urls']['Repository']}"

each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


def load(script: Path) -> nbformat.NotebookNode:
    return nbformat.read(script.with_suffix(".ipynb"), as_version=4)


def code(script: Path, *, first: bool = False) -> list[str]:
    """The sources of the code cells, without the cell that installs the package."""
    return [cell.source for cell in load(script).cells if cell.cell_type == "code"][not first :]


def outputs(script: Path):
    for cell in load(script).cells:
        yield from cell.get("outputs", [])


def test_every_notebook_has_both_forms():
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert SCRIPTS
    assert {path.stem for path in SCRIPTS} == notebooks


@each
def test_both_forms_hold_the_same_cells(script):
    assert notebooks.agrees(script), f"run: python scripts/notebooks.py {script.relative_to(ROOT)}"


def test_outputs_are_kept_only_where_the_code_is_the_same(tmp_path):
    stored = SCRIPTS[0].with_suffix(".ipynb")
    cells = notebooks.read(SCRIPTS[0])
    assert notebooks.reuse(cells, SCRIPTS[0])
    assert notebooks.text(cells) == stored.read_text("utf-8")
    cells = notebooks.read(SCRIPTS[0])
    next(c for c in cells.cells if c.cell_type == "code").source += "  # changed"
    assert not notebooks.reuse(cells, SCRIPTS[0])
    assert not notebooks.reuse(cells, tmp_path / "missing.py")


def test_what_stops_a_notebook_is_told_and_leaves_its_ipynb(tmp_path, monkeypatch, capsys):
    def run(*words) -> int:
        monkeypatch.setattr(sys, "argv", ["notebooks", *map(str, words)])
        return notebooks.main()

    script, stored = tmp_path / "a.py", tmp_path / "a.ipynb"
    script.write_text("# %%\n1\n", "utf-8")
    stored.write_text("<<<<<<< HEAD\n{}\n", "utf-8")
    assert run("--check", script) == 1
    assert run("--text", script) == 1
    assert "a.py: its .ipynb has other code, or none" in capsys.readouterr().err
    for error, said in ((KeyboardInterrupt(), "stopped"), (CellExecutionError("", "E", "e"), "E")):

        def stop(*_, error=error):
            raise error

        monkeypatch.setattr(notebooks, "execute", stop)
        assert run(script) == 1
        assert said in capsys.readouterr().err
    for wrong in (tmp_path / "missing.py", stored, tmp_path):
        with pytest.raises(SystemExit):
            run(script, wrong)
        assert f"scripts: {wrong} is no .py file" in capsys.readouterr().err
    assert stored.read_text("utf-8").startswith("<<<")


@each
def test_it_ran_from_top_to_bottom(script):
    cells = [c for c in load(script).cells if c.cell_type == "code"]
    live = [c for c in cells if "skip-execution" in c.metadata.get("tags", [])]  # widgets
    assert all("nbval-skip" in c.metadata["tags"] and "widgets" in c.source for c in live)
    counts = [c.execution_count for c in cells if c not in live]
    assert counts == list(range(1, len(counts) + 1))


@each
def test_first_cell_installs_the_package_where_it_is_missing(script, monkeypatch):
    cell = load(script).cells[0]
    assert set(cell.metadata["tags"]) == {"remove-cell", "nbval-ignore-output"}
    calls = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    monkeypatch.delenv("WSL_TUTORIAL_SPEC", raising=False)
    exec(compile(cell.source, script.name, "exec"), {})
    assert calls == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    exec(compile(cell.source, script.name, "exec"), {})
    assert calls == [[sys.executable, "-m", "pip", "install", "-q", ADDRESS]]


@each
def test_cells_are_short(script):
    lines = [len(source.splitlines()) for source in code(script)]
    assert max(lines) <= 25
    assert statistics.median(lines) <= 8
    assert [line for source in code(script) for line in source.splitlines() if len(line) > 80] == []


@each
def test_it_imports_only_what_an_installed_package_brings(script):
    trees = [ast.parse(source) for source in code(script, first=True)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {a.name.partition(".")[0] for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.partition(".")[0] for n in nodes if isinstance(n, ast.ImportFrom)}
    needed = {re.match(r"[\w-]+", text)[0] for text in PROJECT["dependencies"]}
    needed |= {"wsl_tutorial", "sklearn", "PIL"}
    needed |= {"ipywidgets"}  # only in a cell that a live kernel runs, which brings them
    assert names - needed - set(sys.stdlib_module_names) == set()


@each
def test_every_figure_is_described_once(script):
    pictures = [o for o in outputs(script) if any("image/" in m for m in o.get("data", {}))]
    for picture in pictures:
        assert picture.metadata["image/png"]["alt"] == picture.data["text/plain"]
    for cell in load(script).cells:
        assert sum("image/png" in o.get("data", {}) for o in cell.get("outputs", [])) <= 1
        assert "plt.show" not in cell.source


@each
def test_outputs_are_quiet(script):
    for output in outputs(script):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.get("text")
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text), "control character in an output"
        assert not re.search(r"(/home|/root|/tmp|/Users)/", text), "a path of one machine"


@each
def test_prose_is_what_colab_renders(script):
    for cell in (c for c in load(script).cells if c.cell_type == "markdown"):
        text = re.sub(r"`[^`]*`", "", cell.source)
        assert not re.search(r"^(```\{|:::)", cell.source, re.MULTILINE), "a directive"
        assert not re.search(r"\{[a-z:]+\}`", cell.source), "a role"
        assert not re.search(r"^\([\w-]+\)=$", text, re.MULTILINE), "a label"
        assert set(re.findall(r"<([a-z]+)[ >]", text)) <= {"div"}, "HTML other than a demo"
        for display in re.findall(r"\$\$(.*?)\$\$", cell.source, re.DOTALL):
            assert "\\tag" not in display or "\\\\" not in display, r"\cr for rows beside a \tag"


@each
def test_it_stays_small(script):
    assert script.with_suffix(".ipynb").stat().st_size < 400_000
    assert "widgets" not in json.loads(script.with_suffix(".ipynb").read_text("utf-8"))["metadata"]


@each
def test_it_has_exercises_and_one_title(script):
    heads = [
        line
        for cell in load(script).cells
        if cell.cell_type == "markdown"
        for line in re.sub(r"```.*?```", "", cell.source, flags=re.DOTALL).splitlines()
        if line.startswith("#")
    ]
    assert [line.partition(" ")[0] for line in heads].count("#") == 1
    assert heads[0].startswith("# ")
    assert "## Exercises" in heads


def test_numbers_in_outputs_are_compared_as_numbers():
    assert Close("loss 0.12345 after 10") == "loss 0.12346 after 10"
    assert Close("-1.0e-9 nan") == "1.0e-9 nan"
    assert Close("loss 0.123") != "loss 0.129"
    assert Close("loss 0.123") != "cost 0.123"
    assert Close("[1, 2]") != "[1, 2, 3]"
