"""Make the page of solutions from the Markdown beside the exercises: one folded box an exercise."""

import re
from itertools import groupby
from pathlib import Path

from wsl_sphinx import write

from wsl_tutorial.exercises.answers import answers

EXERCISE = re.compile(r"^# \*\*(\d+), (.+?)\.\*\*", re.MULTILINE)
TITLE = re.compile(r"^# # (.+)$", re.MULTILINE)
HEAD = """# Solutions

A worked answer to every exercise. Try an exercise first: the check in the chapter names common
mistakes, and a solution read too early teaches little. *Explain to a colleague* has a model
answer with three points; an answer in your own words that makes the three points is as good.

Code here uses the imports of its chapter. Lines after `>>>` are typed into Python, and what follows
them is printed; all of it is run when the book is tested.
"""
BOX = """
``````{{dropdown}} Exercise {number}, {kind}
:name: solution-{chapter}-{number}

{text}
``````
"""


def page(root: Path) -> str:
    """Return the source of the page; `root` is the folder of the book."""
    text = HEAD
    for chapter, numbered in groupby(answers().items(), lambda item: item[0][0]):
        (script,) = (root / "notebooks").glob(f"{chapter:02}_*.py")
        source = script.read_text("utf-8")
        kinds = dict(EXERCISE.findall(source))
        title = (TITLE.search(source) or ["", script.stem])[1]
        text += f"\n## {title}\n\nThe exercises are at the end of [the chapter]"
        text += f"(../notebooks/{script.stem}.ipynb).\n"
        for (_, number), answer in numbered:
            kind = kinds[str(number)]
            text += BOX.format(chapter=chapter, number=number, kind=kind, text=answer)
    return text


def make_page(app, config):
    """Write the page of solutions, unless it is up to date."""
    write(Path(app.srcdir) / "book" / "solutions.md", page(Path(app.srcdir)))


def setup(app):
    app.connect("config-inited", make_page, priority=850)  # before _toc.yml is read, at 900
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
