"""Assignments for nbgrader: the right answers pass, those to start from fail, all are there."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import assignments
import nbformat
import pytest

from wsl_tutorial import check

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
each = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
SOLUTION = re.compile(f"{assignments.BEGIN}.*?{assignments.END}", re.DOTALL)


def marks(cell) -> dict:
    return cell.metadata["nbgrader"]


@each
def test_every_exercise_of_a_chapter_is_asked_and_graded(script):
    made = assignments.assignment(script)
    nbformat.validate(made)
    names = [marks(cell)["grade_id"] for cell in made.cells]
    assert len(names) == len(set(names))
    numbers = re.findall(r"^# \*\*(\d+), [a-z]", script.read_text("utf-8"), re.MULTILINE)
    asked = [name.removeprefix("exercise-") for name in names if name.startswith("exercise-")]
    assert asked == numbers == [str(n) for n in range(1, len(numbers) + 1)]
    graded = [cell for cell in made.cells if marks(cell)["grade"]]
    assert len(graded) == len(numbers)
    assert all(marks(cell)["points"] > 0 for cell in graded)
    tests = [cell for cell in graded if cell.cell_type == "code"]
    assert len(tests) == script.read_text("utf-8").count("check.attempt(")
    assert all(marks(cell)["locked"] for cell in tests)
    assert not any("Further reading" in cell.source for cell in made.cells)


@each
def test_the_solution_passes_every_check_and_the_start_passes_none(script, capsys):
    space, started, answer = {}, 0, ""
    for cell in assignments.assignment(script).cells:
        name = marks(cell)["grade_id"]
        if cell.cell_type == "code" and name.startswith("answer"):
            answer = cell.source
            exec(SOLUTION.sub("", answer), space)
        elif cell.cell_type == "code" and name.startswith("check"):
            with pytest.raises(check.CheckFailed):
                exec(cell.source, space)
            exec(SOLUTION.search(answer)[0], space)
            exec(cell.source, space)
            started += 1
        elif cell.cell_type == "code":
            exec(cell.source, space)
    assert capsys.readouterr().out.count("✓") == started > 0


def test_the_script_writes_a_course(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["assignments", "--out", str(tmp_path / "course")])
    assert assignments.main() == 0
    files = sorted(file.stem for file in (tmp_path / "course" / "source").rglob("*.ipynb"))
    assert files == [f"ch{script.name[:2]}" for script in SCRIPTS]
    (tmp_path / "thesis.txt").touch()
    monkeypatch.setattr(sys, "argv", ["assignments", "--out", str(tmp_path)])
    assert assignments.main() == 1
    assert "did not make it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nbgrader") is None, reason="nbgrader is not installed")
def test_nbgrader_gives_all_points_for_the_solution_and_none_for_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["assignments", "--out", str(tmp_path / "course")])
    assert assignments.main() == 0
    course = tmp_path / "course"

    def nbgrader(*words: str) -> None:
        done = subprocess.run(["nbgrader", *words], cwd=course, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    nbgrader("generate_assignment", "ch02")
    source, release = (course / d / "ch02" / "ch02.ipynb" for d in ("source", "release"))
    assert assignments.BEGIN not in release.read_text("utf-8")
    for student, file in (("right", source), ("wrong", release)):
        (course / "submitted" / student / "ch02").mkdir(parents=True)
        shutil.copy(file, course / "submitted" / student / "ch02")
    nbgrader("autograde", "ch02")
    nbgrader("export", "--to", "grades.csv")
    rows = (course / "grades.csv").read_text("utf-8").splitlines()
    head = rows[0].split(",")
    grades = {
        r["student_id"]: r
        for r in (dict(zip(head, row.split(","), strict=True)) for row in rows[1:])
    }
    made = json.loads(source.read_text("utf-8"))
    most = sum(
        cell["metadata"]["nbgrader"].get("points", 0)
        for cell in made["cells"]
        if cell["cell_type"] == "code"
    )
    assert float(grades["right"]["score"]) == most > 0
    assert float(grades["wrong"]["score"]) == 0
