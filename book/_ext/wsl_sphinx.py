"""Extend Jupyter Book: described figures, pages and tables from records, a dated foot.

Nothing here runs a notebook; a page is a function of the stored outputs and the stored records.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from functools import cache
from importlib import metadata, resources
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective
from sphinx_external_toc.api import Document, FileItem

from wsl_tutorial.reproduce import audit, costs, ledger, papers, records, tables

PAGES = "book/reproductions-*"  # the pattern of the pages of the papers in _toc.yml
PAGE = """# Reproductions: {room}

The numbers that {cited} ({year}), *{title}*, prints, beside ours where we have a result, made from
the records when the book is built. [Reproductions](reproductions.md) explains the verdicts and what
*evidence* means{chapter}.

```{{reproduction}} {key}
```

## Every metric

Runs measure more than these tables show: <a href="../metrics-{key}.csv"
download>metrics-{key}.csv</a> has the mean and standard deviation of every recorded metric
(`.venv/bin/python -m wsl_tutorial.reproduce metrics {key}` prints it), and each
[record](https://github.com/weak-supervision/wsl-tutorial/tree/main/wsl_tutorial/results/runs) has
its settings.
"""


def with_page():
    """Return the papers with printed numbers, in the order of the book: each has a page."""
    return [paper for paper in papers() if paper.key in ledger.paper_keys()]


def page(paper, folder):
    """Return the source of the page of a paper; `folder` is the root of the book."""
    number = f"{paper.audit.chapter:02}" if paper.audit else "none"
    chapter = next((Path(folder) / "notebooks").glob(f"{number}_*.ipynb"), None)
    link = f"; [the chapter](../notebooks/{chapter.name}) discusses them" if chapter else ""
    cited = paper.audit.cited if paper.audit else paper.authors
    facts = {"room": paper.room, "year": paper.year, "title": paper.title, "key": paper.key}
    return PAGE.format(cited=cited, chapter=link, **facts)


def make_pages(app, config):
    """Write the page of every paper; a page that is up to date keeps its time."""
    for paper in with_page():
        write(Path(app.srcdir) / f"{name(paper)}.md", page(paper, app.srcdir))


def write(file: Path, text: str):
    """Write a page, unless it is up to date."""
    if not file.exists() or file.read_text("utf-8") != text:
        file.write_text(text, "utf-8")


def name(paper):
    """Return the name of the page of a paper, as the table of contents has it."""
    return PAGES.replace("*", paper.room)


def order_pages(app, config):
    """Put the pages of the papers, in their order, where _toc.yml has their pattern."""
    list_pages(config, PAGES, [name(paper) for paper in with_page()])


def list_pages(config, pattern: str, names: list[str]):
    """Put pages, in this order, where _toc.yml has their pattern."""
    for tree in config.external_site_map.root.subtrees:
        if pattern in tree.items:
            at = tree.items.index(pattern)
            tree.items[at : at + 1] = map(FileItem, names)
            for page_name in names:
                config.external_site_map[page_name] = Document(page_name)


class Pages(SphinxDirective):
    """`{pages}`: a table of the papers, each with a link to its page."""

    def run(self):
        rows = []
        for paper in with_page():
            cited = paper.audit.cited if paper.audit else paper.authors
            link = f"[{paper.room}]({Path(name(paper)).name}.md)"
            rows.append((f"{cited} ({paper.year}), *{paper.title}*", link))
        return parsed(self, tables.grid(("paper", "page"), rows))


def parsed(directive, text):
    """Return the nodes of some Markdown."""
    box = nodes.Element()
    lines = StringList(text.splitlines(), source="records")
    directive.state.nested_parse(lines, directive.content_offset, box, match_titles=True)
    return box.children


def describe_figures(app, docname, source):
    """Move the description of a figure from its output, where Jupyter keeps it, onto the image."""
    if not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            facts = output.get("metadata", {}).get("image/png", {})
            if "alt" in facts:
                image = {"alt": facts["alt"], "width": f"{facts['width']}px"}
                cell["metadata"].setdefault("mystnb", {}).setdefault("image", {}).update(image)
    source[0] = json.dumps(notebook)


def state_cost(app, docname, source):
    """State time and memory under a notebook's title, as measured in book/measured.json."""
    file = Path(app.srcdir) / "book" / "measured.json"
    app.env.note_dependency(str(file))
    record = json.loads(file.read_text("utf-8")).get(Path(docname).name)
    if record is None or not app.env.doc2path(docname).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    title = next(cell for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    head, *rest = "".join(title["source"]).splitlines()
    title["source"] = "\n".join([head, "", "{.measured}", cost(record), *rest])
    source[0] = json.dumps(notebook)


def cost(record: dict) -> str:
    """Return one sentence from one record of scripts/clean_run.py.

    Older records have one and two decimals, so fewer would round them twice.
    """
    return (
        f"Runs in {record['seconds']:.1f} seconds with {record['gigabytes']:.2f} GB of memory "
        f"(measured on {record['date']} on one CPU core, PyTorch {record['torch']}, "
        f"commit {record['commit'][:10]})."
    )


class MethodCosts(SphinxDirective):
    """`{method-costs}`: the times that scripts/method_costs.py measured, a row a function."""

    def run(self):
        file = Path(self.env.srcdir) / "book" / "method-costs.json"
        self.env.note_dependency(str(file))
        return parsed(self, method_costs(json.loads(file.read_text("utf-8"))))


def method_costs(record: dict) -> str:
    """Return a table of milliseconds: functions and classes down, sizes of bags across."""
    cells = {(c["function"], c["classes"], c["size"]): c for c in record["cells"]}
    sizes = sorted({size for _, _, size in cells})
    rows = []
    for function, classes in dict.fromkeys(key[:2] for key in cells):
        row = (cells[function, classes, size].get("milliseconds", "refused") for size in sizes)
        rows.append(
            (f"`{function}`", str(classes), *(f"{t:g}" if t != "refused" else t for t in row))
        )
    head = ("function", "classes", *(f"{size} instances" for size in sizes))
    return (
        f"Milliseconds for {record['bags']} bags, value and gradient, on one core (processor "
        f"time, measured on {record['date']} while other programs ran, PyTorch {record['torch']}). "
        "For presence, half of the classes occur; for counts, all classes are equally frequent, "
        "which costs most. Times differ between machines: compare the cells only with each other."
        "\n\n" + tables.grid(head, rows)
    )


class Reproduction(SphinxDirective):
    """`{reproduction} mcmil`: one paper's tables, from the records at the time of the build.

    Without an argument: the state of all papers, one line each.
    """

    optional_arguments = 1

    def text(self):
        if not self.arguments:
            return tables.summary_markdown()
        (key,) = self.arguments
        return f"{tables.markdown(key)}\n{audit.page(key, records.published())}"

    def run(self):
        results = Path(str(resources.files("wsl_tutorial") / "results"))
        for file in [results / "paper-values.csv", *results.glob("runs/*.jsonl"), tables.__file__]:
            self.env.note_dependency(str(file))
        return parsed(self, self.text())


class Costs(Reproduction):
    """`{costs}`: the GPU hours of all runs, at the time of the build."""

    optional_arguments = 0

    def text(self):
        return costs.markdown(records.published())


class Memory(Reproduction):
    """`{memory}`: the peak memory of the recorded runs, at the time of the build."""

    optional_arguments = 0

    def text(self):
        return costs.memory(records.published())


def spread_metrics(app, error):
    """Write a file with every metric of a paper's experiments, to which its page links."""
    if error is None and app.builder.format == "html":
        for paper in papers():
            text = tables.metrics(paper.key, records.published())
            (Path(app.outdir) / f"metrics-{paper.key}.csv").write_text(text, "utf-8")


def bring_mathjax(app, error):
    """Put MathJax beside the pages, from the package that has its files: no network is needed."""
    if error is None and app.builder.format == "html":
        script = app.config.mathjax_path.rpartition("/")[2]
        spec = importlib.util.find_spec("mathjax")
        if spec is None:
            raise ExtensionError("django-static-mathjax is not installed; it is in the extra book")
        files = Path(spec.submodule_search_locations[0], "static", "mathjax")
        target = Path(app.outdir, "_static", "mathjax")
        for name in ("a11y", "input", "output", "sre", "ui"):
            shutil.copytree(files / "es5" / name, target / name, dirs_exist_ok=True)
        for file in (files / "es5" / script, files / "LICENSE"):
            shutil.copy2(file, target)


@cache
def commit(folder) -> str:
    """Return the commit of the source of the book; empty if neither git nor $WSL_COMMIT has it."""
    command = ["git", "-C", str(folder), "rev-parse", "--short=10", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        found = ""
    return found or os.environ.get("WSL_COMMIT", "")


def sign(app):
    """Write version and commit under every page."""
    foot = f"Version {metadata.version('wsl-tutorial')}"
    if built_from := commit(app.srcdir):
        url = app.config.html_theme_options["repository_url"]
        foot += f', commit <a href="{url}/commit/{built_from}">{built_from}</a>'
    licences = "text and figures CC BY 4.0, code MIT"
    app.builder.theme_options["extra_footer"] = f"<p>{foot} · {licences}</p>"


def drop_thebe(app, pagename, templatename, context, doctree):
    """Drop the theme's script for live kernels: it is on another host, and no page uses it."""
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script
        for script in scripts
        if "thebe"
        not in f"{getattr(script, 'filename', script)}{getattr(script, 'attributes', '')}"
    ]


def drop_false_list(app, pagename, templatename, context, doctree):
    """Remove the role `list` that docutils gives the bibliography without items."""
    if "body" in context:
        false = '<div role="list" class="citation-list">'
        context["body"] = context["body"].replace(false, '<div class="citation-list">')


def setup(app):
    app.add_directive("reproduction", Reproduction)
    app.add_directive("pages", Pages)
    app.add_directive("method-costs", MethodCosts)
    app.add_directive("costs", Costs)
    app.add_directive("memory", Memory)
    app.connect("config-inited", make_pages, priority=850)  # before _toc.yml is read, at 900
    app.connect("config-inited", order_pages, priority=950)
    app.connect("source-read", describe_figures)
    app.connect("source-read", state_cost)
    app.connect("builder-inited", sign)
    app.connect("build-finished", spread_metrics)
    app.connect("build-finished", bring_mathjax)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_false_list)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
