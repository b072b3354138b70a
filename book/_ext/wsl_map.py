"""Make the map of the book, an address for each exercise, and the terms of the general index.

`{book-map}` lists for each chapter its equations with their functions, its exercises and the
experiments of its paper, all links, from the chapters themselves when the book is built.
"""

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from wsl_api import equations
from wsl_sphinx import name, parsed, with_page

EXERCISE = re.compile(r"^\*\*(\d+), ([^.*]+)\.\*\*", re.MULTILINE)
TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
USUAL = {  # the parts that every chapter has
    "Problem", "What is hidden", "Derivation", "Code", "Picture", "When it breaks", "Reproduction",
    "Exercises", "Further reading",
}  # fmt: skip


# The map ------------------------------------------------------------------------------------------


def chapters(folder) -> list[tuple[Path, str]]:
    """Return the file and the text of each chapter, in order."""
    found = []
    for file in sorted((Path(folder) / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(file.read_text("utf-8"))["cells"]
        texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "markdown"]
        found.append((file, "\n\n".join(texts)))
    return found


def entry(file: Path, text: str) -> str:
    """Return the part of the map on one chapter."""
    number = int(file.name[:2])
    title = re.search(r"^# (.+)$", text, re.MULTILINE)[1]
    out = [f"## Chapter {number}", "", f"[{title}](../notebooks/{file.name})", ""]
    links = [equation(tag) for tag in TAG.findall(text)]
    out += ["Equations:", "", *(f"- {link}" for link in links), ""] if links else []
    tasks = [f"{{ref}}`{n}, {kind} <exercise-{number}-{n}>`" for n, kind in EXERCISE.findall(text)]
    out += [f"Exercises: {'; '.join(tasks)}.", ""] if tasks else []
    for paper in with_page():
        if paper.audit and paper.audit.chapter == number:
            page = f"{Path(name(paper)).name}.md"
            runs = ", ".join(f"[{e.name}]({page})" for e in paper.experiments)
            out += [f"Experiments: {runs}.", ""]
    return "\n".join(out)


def equation(tag: str) -> str:
    """Return the link to an equation, and to the function that is it."""
    function = equations().get(tag)
    link = f"{{ref}}`({tag}) <eq-{tag}>`"
    return f"{link} {{py:obj}}`{function.partition('.')[2]} <{function}>`" if function else link


class BookMap(SphinxDirective):
    """`{book-map}`: every chapter with its equations, functions, exercises and experiments."""

    def run(self):
        found = chapters(self.env.srcdir)
        for file, _ in found:
            self.env.note_dependency(str(file))
        return parsed(self, "\n\n".join(entry(file, text) for file, text in found))


def mark_exercises(app, doctree) -> None:
    """Give each exercise of a chapter an address: `exercise-2-1`."""
    chapter = re.match(r"notebooks/(\d\d)_", app.env.docname)
    for strong in doctree.findall(nodes.strong) if chapter else ():
        number = re.match(r"(\d+), [^.]+\.$", strong.astext())
        if number and strong.parent.astext().startswith(strong.astext()):
            label = f"exercise-{int(chapter[1])}-{number[1]}"
            strong.parent["ids"].append(label)
            std = app.env.get_domain("std")
            std.note_hyperlink_target(label, app.env.docname, label, f"Exercise {number[1]}")


# The index ----------------------------------------------------------------------------------------


def index_terms(app, doctree) -> None:
    """Enter the names of the notation and the subjects of the chapters in the general index."""
    if app.env.docname == "book/notation":
        for number, row in enumerate(doctree.findall(nodes.row)):
            enter_name(app, row, f"notation-{number}")
    elif app.env.docname.startswith("notebooks/"):
        for section in doctree.findall(nodes.section):
            title = section.next_node(nodes.title)
            shown = " ".join(title.astext().split())
            inside = isinstance(section.parent, nodes.section)
            if inside and shown not in USUAL and not title.next_node(nodes.math):
                enter(app, section["ids"][0], shown)


def enter_name(app, row, label: str) -> None:
    """Enter a row of the notation under its address: name in code, and what it means."""
    cells = [cell.astext().strip() for cell in row.findall(nodes.entry)]
    if len(cells) == 4 and re.fullmatch(r"\w+", cells[1]):
        code = next(row.findall(nodes.literal))
        code["ids"].append(label)
        meaning = re.split(r"[;,:\\$]", cells[3])[0].strip()
        enter(app, label, f"{cells[1]} (argument); {meaning}")


def enter(app, label: str, term: str) -> None:
    """Enter a term; the nodes of the page have been collected before this."""
    entries = app.env.get_domain("index").entries.setdefault(app.env.docname, [])
    entries.append(("single", term, label, "", None))


def setup(app):
    app.add_directive("book-map", BookMap)
    app.connect("doctree-read", mark_exercises)
    app.connect("doctree-read", index_terms)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
