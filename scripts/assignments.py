"""Make an nbgrader assignment of the exercises of every chapter.

python scripts/assignments.py            a course in _build/nbgrader

`nbgrader generate_assignment ch02` there makes the students' version, `nbgrader autograde ch02`
grades. A cell with code has the wrong answer of the chapter to start from; the check of the book
is its test. Answers in words are graded by hand.
"""

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from paper import fresh

from notebooks import ROOT, read, text

POINTS = {"code": 2, "words": 3}
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CONFIG = """c = get_config()
c.CourseDirectory.course_id = "weak-supervision"
c.ClearSolutions.code_stub = {{"python": "# Change the code above until the cell below prints ✓."}}
c.ClearSolutions.text_stub = "Your answer."
c.ExecutePreprocessor.timeout = 300
c.Exchange.root = "{exchange}"
"""
HEAD = """# Exercises of chapter {number}: {title}

Edit each code cell until the cell below it prints a ✓; a hint tells you of a known mistake. Write
the other answers in words. The text of the chapter is on the page *{title}* of the book."""
CALL = re.compile(r"^check\.attempt\((check\.\w+), (\w+)\)$", re.MULTILINE)
SOLUTION = """

{begin}
def {name}(*case):
    return {check}.right(*(case or {check}.cases[0]))
{end}"""
EXERCISE = re.compile(r"^\*\*(\d+),", re.MULTILINE)


def cell(kind: str, source: str, name: str, **marks) -> nbformat.NotebookNode:
    """Return a cell that nbgrader knows under a name; marks: grade, solution, points."""
    made = (nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell)(source)
    marks = {"grade": False, "solution": False} | marks
    marks |= {"locked": not marks["solution"], "task": False, "schema_version": 3}
    made.metadata["nbgrader"] = marks | {"grade_id": name}
    made.id = name
    return made


def imports(cells: list) -> str:
    """Return the imports of a chapter, once each, and those of the check."""
    nodes = (node for c in cells if c.cell_type == "code" for node in ast.parse(c.source).body)
    lines = [ast.unparse(node) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    return "\n".join(dict.fromkeys([*lines, "from wsl_tutorial import check"]))


def exercises(cells: list) -> Iterator[tuple[str, str, str]]:
    """Yield number, text and code of the exercises of a chapter; the code is empty for words."""
    for index, found in enumerate(cells):
        if found.cell_type != "markdown":
            continue
        *before, last = re.split(r"^(?=\*\*\d+,)|^## ", found.source, flags=re.MULTILINE)
        after = cells[index + 1] if index + 1 < len(cells) else found
        for part in [*before, last]:
            if number := EXERCISE.match(part):
                code = after.source if part is last and after.cell_type == "code" else ""
                yield number[1], part.strip(), code


def answered(number: str, code: str) -> Iterator[nbformat.NotebookNode]:
    """Yield the cells below an exercise: one to answer in, and for code one that checks."""
    if not code:
        marks = {"grade": True, "solution": True, "points": POINTS["words"]}
        yield cell("markdown", f"{BEGIN}\n{END}", f"answer-{number}", **marks)
        return
    check, name = CALL.search(code).groups()
    right = SOLUTION.format(check=check, name=name, begin=BEGIN, end=END)
    start = CALL.sub("", code).strip() + "\n"
    yield cell("code", start + right, f"answer-{number}", solution=True)
    test = f"{check}({name})"
    yield cell("code", test, f"check-{number}", grade=True, points=POINTS["code"])


def assignment(script: Path) -> nbformat.NotebookNode:
    """Return the exercises of a chapter as the source of an assignment."""
    made = read(script)
    mark = re.compile("^## Exercises$", re.MULTILINE)
    at, begin = next((i, m.end()) for i, c in enumerate(made.cells) if (m := mark.search(c.source)))
    made.cells[at].source = made.cells[at].source[begin:]
    title = next(c.source for c in made.cells if c.source.startswith("# "))
    title = title.partition("\n")[0].removeprefix("# ")
    cells = [cell("markdown", HEAD.format(number=int(script.name[:2]), title=title), "head")]
    setup = imports([c for c in made.cells[:at] if "remove-cell" not in c.metadata.get("tags", [])])
    cells.append(cell("code", setup, "setup"))
    for number, words, code in exercises(made.cells[at:]):
        cells += [cell("markdown", words, f"exercise-{number}"), *answered(number, code)]
    made.cells = cells
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "nbgrader")
    out = parser.parse_args().out
    scripts = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
    try:
        with fresh(out, "assignments.py") as new:
            for script in scripts:
                name = f"ch{script.name[:2]}"
                (new / "source" / name).mkdir(parents=True)
                file = new / "source" / name / f"{name}.ipynb"
                file.write_text(text(assignment(script)), "utf-8")
            config = CONFIG.format(exchange=(out.resolve() / "exchange").as_posix())
            (new / "nbgrader_config.py").write_text(config, "utf-8")
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(scripts)} assignments in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
