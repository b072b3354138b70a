"""Make the pages of the API from the docstrings, and link functions and equations both ways.

There is a page for each public module of the package, written when the book is built: a new module
or function needs no line anywhere. Autodoc reads the functions; this file says which, in which
groups, and turns our docstrings into reStructuredText.

An equation of a chapter, `\\tag{2.3}`, and the function whose docstring begins with `Eq. (2.3):`
link to each other. So does inline code that names a public function, `presence.log_likelihood`.
"""

import importlib
import inspect
import pkgutil
import re
from functools import cache, partial
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import SphinxDirective
from wsl_sphinx import commit, list_pages, parsed, write

import wsl_tutorial
from wsl_tutorial.reproduce import tables

ROOT = Path(wsl_tutorial.__file__).parents[1]
PAGES = "book/api-*"  # the pattern of these pages in _toc.yml
LEFT_OUT = {"exercises", "check"}  # of the book itself, not for other programs
BY_MODULE = {"data"}  # a package whose modules are used by their own names
PROGRAM = {"reproduce"}  # a program: of its modules, only what is an equation of the book
EQUATION = re.compile(r"Eq\. \((\d+\.\d+)\)")
FAR = 10**6  # beyond every chapter
GROUP = re.compile(r"^# (\S.*?) -{8,}$", re.MULTILINE)


# What there is ------------------------------------------------------------------------------------


@cache
def modules() -> dict:
    """Return the documented modules of the package by their short names, rooms first."""
    names = [m.name for m in pkgutil.iter_modules(wsl_tutorial.__path__)]
    shown = (name for name in names if name[0] != "_" and name not in LEFT_OUT)
    found = {name: importlib.import_module(f"wsl_tutorial.{name}") for name in shown}
    order = sorted(found, key=lambda n: (n in PROGRAM, first_of(things(found[n])), n))
    return {name: found[name] for name in order}


def own(module) -> dict:
    """Return the public functions and classes that a module defines, in the order of its source."""
    found = {
        name: thing
        for name, thing in vars(module).items()
        if name[0] != "_" and (inspect.isfunction(thing) or inspect.isclass(thing))
        if thing.__module__ == module.__name__ and thing.__doc__ and name == thing.__name__
    }
    return dict(sorted(found.items(), key=lambda item: line(item[1])))


def line(thing) -> int:
    return inspect.getsourcelines(inspect.unwrap(thing))[1]


def groups(module) -> list[tuple[str, str, dict]]:
    """Return title, text and things, by full name, of each group of a page.

    The groups of a package are its modules, those of a module the parts that a comment heads.
    """
    if not hasattr(module, "__path__"):
        return parts(module)
    found, kind = [], module.__name__.rpartition(".")[2]
    for inner in inner_modules(module, pkgutil.walk_packages if kind in PROGRAM else None):
        title, _, text = (inner.__doc__ or "").partition("\n")
        title = title.rstrip(".")
        if kind in BY_MODULE:
            title = f"`{inner.__name__.rpartition('.')[2]}`: {title}"
        group = shown(inner, module, kind)
        if group or (text.strip() and kind not in PROGRAM):
            found.append((title, "" if kind in PROGRAM else text, group))
    return sorted(found, key=lambda group: first_of(group[2]))


def inner_modules(package, walk=None) -> list:
    """Return the public modules of a package, in alphabetical order."""
    inner = (walk or pkgutil.iter_modules)(package.__path__, package.__name__ + ".")
    names = sorted(m.name for m in inner if "._" not in m.name)
    return [importlib.import_module(name) for name in names]


def shown(inner, package, kind: str) -> dict:
    """Return what the page of a package shows of one of its modules, by full name."""
    if kind in BY_MODULE | PROGRAM:
        every = {f"{inner.__name__}.{name}": thing for name, thing in own(inner).items()}
        return {n: t for n, t in every.items() if kind in BY_MODULE or number_of(t)[0] < FAR}
    short = inner.__name__.rpartition(".")[2]
    if short in package.__all__ and getattr(package, short) is inner:
        return {f"{inner.__name__}.{name}": thing for name, thing in own(inner).items()}
    public = {name: getattr(package, name) for name in package.__all__}
    return {f"{package.__name__}.{n}": t for n, t in own(inner).items() if public.get(n) is t}


def first_of(things: dict) -> tuple[int, int]:
    """Return the first equation of some things."""
    return min(map(number_of, things.values()), default=(FAR, 0))


def number_of(thing) -> tuple[int, int]:
    """Return chapter and number of the equation of a thing, (FAR, 0) if it has none."""
    found = re.match(EQUATION.pattern + ":", thing.__doc__ or "")
    return tuple(map(int, found[1].split("."))) if found else (FAR, 0)


def parts(module) -> list[tuple[str, str, dict]]:
    """Return the groups of one module: what stands below each heading comment."""
    source = Path(module.__file__).read_text("utf-8")
    heads = [(source.count("\n", 0, m.start()) + 1, m[1]) for m in GROUP.finditer(source)]
    found = [(title, "", {}) for _, title in [(0, ""), *heads]]
    for name, thing in own(module).items():
        at = sum(row < line(thing) for row, _ in heads)
        found[at][2][f"{module.__name__}.{name}"] = thing
    return [group for group in found if group[2]]


def things(module) -> dict:
    """Return everything that the page of a module documents, by full name."""
    return {name: thing for _, _, group in groups(module) for name, thing in group.items()}


@cache
def equations() -> dict[str, str]:
    """Return number -> full name of all functions that are an equation, in the book's order."""
    found = {number_of(t): n for module in modules().values() for n, t in things(module).items()}
    return {f"{a}.{b}": found[a, b] for a, b in sorted(found) if a < FAR}


@cache
def known() -> dict[str, str]:
    """Return how code names a public thing -> its full name: `presence.posterior`."""
    names = [name for module in modules().values() for name in things(module)]
    names += [f"{wsl_tutorial.__name__}.{module}" for module in modules()]
    return {short: name for name in names for short in (name, name.partition(".")[2])}


# Docstrings to reStructuredText -------------------------------------------------------------------

SECTION = re.compile(
    r"((?:Args|Returns|Yields|Raises|Source|Example)(?:, returns)?(?: and errors)?): *(.*)"
)


def rst(text: str, module: str = "", parameters=()) -> list[str]:
    """Return a docstring as lines of reStructuredText.

    Names in it are looked for in `module`; the `parameters` of the function are no links.
    """
    text = re.sub(r" {2,}((?:Returns|Raises|Source): )", r"\n\1", inspect.cleandoc(text))
    out = []
    for block in re.split(r"\n[ ]*\n", text):
        lines = block.splitlines()
        if lines and lines[0].lstrip().startswith(">>>"):
            out += [*inspect.cleandoc("\n" + block).splitlines(), ""]
        elif lines and all(row.startswith("    ") for row in lines):
            out += [".. code-block:: text", "", *lines, ""]
        else:
            for head, body in sections(lines):
                out += [*section(head, body, lambda s: inline(s, module, parameters)), ""]
    return out


def sections(lines: list[str]) -> list[tuple[str, list[str]]]:
    """Return the sections of a paragraph: ("", its prose) first, then ("Args", its lines) .."""
    found: list[tuple[str, list[str]]] = [("", [])]
    for row in lines:
        if head := SECTION.fullmatch(row):
            found.append((head[1], [head[2]] if head[2] else []))
        else:
            found[-1][1].append(row)
    return [part for part in found if part[1]]


def section(head: str, body: list[str], inline) -> list[str]:
    """Return one section: a field, with an item for each `name: text` of several."""
    text = inspect.cleandoc("\n" + "\n".join(body)) if body[0].startswith(" ") else "\n".join(body)
    if not head and not any(row.startswith(" ") for row in body):
        return inline(text).splitlines()
    if head == "Example":
        return [".. rubric:: Example", "", *text.splitlines()]
    items = re.split(r"\n(?=\S)", text) if body[0].startswith(" ") or not head else [text]
    name = r"`?([*\w]+(?:, [*\w]+)*)`?(?:[:,]|(?= for ))\s*"
    named = [head in ("", "Args", "Raises") and re.match(name, item) for item in items]
    marked = [inline(i[m.end() :] if m else i) for i, m in zip(items, named, strict=True)]
    if all(named):
        names = [", ".join(f"``{n}``" for n in m[1].split(", ")) for m in named]
        marked = [f"{name}: {text}" for name, text in zip(names, marked, strict=True)]
        marked = [f"- {item}" for item in marked] if len(marked) > 1 else marked
    rows = [re.sub(r"\s*\n\s*", " ", item) for item in marked]
    if not head:
        return rows
    gap = [""] if len(rows) > 1 and all(named) else []
    return [f":{head.replace('Args', 'Arguments')}:", *gap, *(f"   {row}" for row in rows)]


def inline(text: str, module: str = "", parameters=()) -> str:
    """Return running text with code and links marked, and the rest protected from markup."""
    out = []
    for place, piece in enumerate(re.split(r"`([^`]+)`", text)):
        if place % 2 == 0:
            out.append(protect(piece))
            continue
        code = " ".join(piece.split())
        target = None if code in parameters else named(code, module)
        marked = f":py:obj:`{code} <{target}>`" if target else f"``{code}``"
        out.append(f"\\ {marked}\\ ")
    return "".join(out)


def protect(text: str) -> str:
    """Return text in which only *emphasis* and numbers of equations are markup."""
    text = text.replace("\\", "\\\\").replace("|", "\\|")
    pieces = re.split(r"(?<![\w*)])(\*\w[^*\n]*[\w.]\*)(?![\w*])", text)
    text = "".join(p if i % 2 else p.replace("*", "\\*") for i, p in enumerate(pieces))
    text = re.sub(r"(?<=\w)_(?!\w)", r"\\_", text)
    text = re.sub(r"(?m)^(\s*)(\(?)(\d+|[A-Za-z])([.)])(?= )", r"\1\\\2\3\\\4", text)  # no list
    text = re.sub(r"(?m)^(\s*)([-+])(?= )", r"\1\\\2", text)
    return EQUATION.sub(
        lambda m: f":ref:`{m[0]} <eq-{m[1]}>`" if m[1] in equations() else m[0], text
    )


def named(code: str, module: str) -> str | None:
    """Return the full name of the public thing that code names, seen from a module."""
    near = f"{module.removeprefix('wsl_tutorial.')}.{code}"
    return known().get(near) or (known().get(code) if "." in code else None)


def convert(app, what, name, thing, options, lines) -> None:
    """Convert a docstring for autodoc."""
    if name.startswith("wsl_tutorial."):
        signed = callable(thing) and not inspect.isclass(thing)
        parameters = inspect.signature(thing).parameters if signed else ()
        module = name.rpartition(".")[0]
        while module not in known() and "." in module:
            module = module.rpartition(".")[0]
        lines[:] = rst("\n".join(lines), module, parameters)


# Pages --------------------------------------------------------------------------------------------


def page(short: str) -> str:
    """Return the source of the page of a module."""
    module = modules()[short]
    name = module.__name__
    out = [short, "=" * len(short), "", f".. py:module:: {name}", "", *rst(module.__doc__, name)]
    out += [f"In code: ``from wsl_tutorial import {short}``. All modules: :doc:`api`.", ""]
    for title, text, group in groups(module):
        if title:
            title = inline(title, name)
            out += [title, "-" * len(title), ""]
        before = short in BY_MODULE
        out += rst(text, name) if before else []
        for full, thing in group.items():
            kind = "class" if inspect.isclass(thing) else "function"
            out += [f".. auto{kind}:: {full}", *["   :members:"] * (kind == "class"), ""]
        out += [] if before else rst(text, name)
    return "\n".join(out) + "\n"


def names() -> list[str]:
    """Return the names of the pages, as the table of contents has them."""
    return [PAGES.replace("*", short) for short in modules()]


def make_pages(app, config) -> None:
    """Write the pages; one that is up to date keeps its time."""
    for short, name in zip(modules(), names(), strict=True):
        write(Path(app.srcdir) / f"{name}.rst", page(short))


def order_pages(app, config) -> None:
    list_pages(config, PAGES, names())


class Modules(SphinxDirective):
    """`{modules}`: a table of the modules, each with a link to its page."""

    def run(self):
        rows = []
        for short, module in modules().items():
            here = things(module)
            span = [n for n, name in equations().items() if name in here]
            refs = " to ".join(f"{{ref}}`({n}) <eq-{n}>`" for n in span[:1] + span[1:][-1:])
            text = (module.__doc__ or "").partition("\n")[0]
            rows.append((f"{{py:mod}}`{short} <{module.__name__}>`", text, refs))
        return parsed(self, tables.grid(("module", "what is in it", "equations"), rows))


class Equations(SphinxDirective):
    """`{equations}`: a table of the numbered equations, each with the function that is it."""

    def run(self):
        rows = []
        found = {name: t for module in modules().values() for name, t in things(module).items()}
        for number, name in equations().items():
            text = " ".join(found[name].__doc__.partition("\n\n")[0].split()).partition(": ")[2]
            link = f"{{py:obj}}`{name.partition('.')[2]} <{name}>`"
            rows.append(
                (f"{{ref}}`({number}) <eq-{number}>`", link, re.sub(r"([|*])", r"\\\1", text))
            )
        return parsed(self, tables.grid(("equation", "function", "what it is"), rows))


# Links --------------------------------------------------------------------------------------------


def mark_equations(app, doctree) -> None:
    """Give each displayed equation with a number an address, and a line with its function."""
    for block in list(doctree.findall(nodes.math_block)):
        for number in re.findall(r"\\tag\{(\d+\.\d+)\}", block.astext()):
            label = f"eq-{number}"
            block["ids"].append(label)
            std = app.env.get_domain("std")
            std.note_hyperlink_target(label, app.env.docname, label, f"Eq. ({number})")
            if number in equations():
                app.env.note_dependency(file_of(equations()[number]))
                below = nodes.paragraph("", f"({number}) in code: ", classes=["in-code"])
                below += code_link(equations()[number], app.env.docname)
                block.parent.insert(block.parent.index(block) + 1, below)


def file_of(name: str) -> str:
    """Return the file that defines a public thing."""
    module, _, thing = name.rpartition(".")
    return str(
        inspect.getsourcefile(inspect.unwrap(getattr(importlib.import_module(module), thing)))
    )


def link_code(app, doctree) -> None:
    """Link inline code that names a public function to its description."""
    inside = nodes.reference | nodes.title | addnodes.pending_xref | addnodes.desc_signature
    for code in list(doctree.findall(nodes.literal)):
        target = known().get(code.astext().removesuffix("()"))
        above, parent = False, code.parent
        while parent is not None and not above:
            above, parent = isinstance(parent, inside), parent.parent
        if target and "." in code.astext() and not above:
            code.replace_self(code_link(target, app.env.docname, code.astext()))


def code_link(target: str, docname: str, text: str = "") -> addnodes.pending_xref:
    """Return a reference to a function; the build fails where it leads nowhere."""
    options = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refdoc": docname}
    shown = nodes.literal("", text or target.partition(".")[2], classes=["xref", "py"])
    return addnodes.pending_xref("", shown, refexplicit=True, refwarn=True, **options)


def source_of(repository: str, domain: str, info: dict) -> str | None:
    """Return where the repository has the source of a function, at the commit of the build."""
    thing = importlib.import_module(info["module"])
    for name in info["fullname"].split("."):
        thing = getattr(thing, name, None)
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return None
    lines, first = inspect.getsourcelines(inspect.unwrap(thing))
    file = Path(inspect.getsourcefile(inspect.unwrap(thing))).relative_to(ROOT).as_posix()
    where = f"{repository}/blob/{commit(ROOT) or 'main'}/{file}"
    return f"{where}#L{first}-L{first + len(lines) - 1}"


def skip_foreign(app, what, name, thing, skip, options) -> bool | None:
    """Leave out methods that another package adds to our classes, such as `set_fit_request`."""
    module = getattr(thing, "__module__", None) or wsl_tutorial.__name__
    return True if callable(thing) and not module.startswith(wsl_tutorial.__name__) else None


def link_sources(app, config) -> None:
    config.linkcode_resolve = partial(source_of, config.html_theme_options["repository_url"])


def setup(app):
    for extension in ("sphinx.ext.autodoc", "sphinx.ext.linkcode"):
        app.setup_extension(extension)
    app.add_directive("modules", Modules)
    app.add_directive("equations", Equations)
    app.connect("config-inited", make_pages, priority=850)
    app.connect("config-inited", order_pages, priority=950)
    app.connect("config-inited", link_sources)
    app.connect("autodoc-process-docstring", convert)
    app.connect("autodoc-skip-member", skip_foreign)
    app.connect("doctree-read", mark_equations)
    app.connect("doctree-read", link_code)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
