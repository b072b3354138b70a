"""What this book needs beyond Jupyter Book: described figures, tables from records, a dated foot.

Nothing here runs a notebook; a page is a function of the stored outputs and the stored records.
"""

import json
import os
import subprocess
from importlib import metadata, resources
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from wsl_tutorial.reproduce import costs, papers, records, tables


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
    """Under a notebook's title: what it took where it was measured, as book/measured.json says."""
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
    """One sentence from one record of scripts/clean_run.py."""
    return (
        f"Runs in {record['seconds']:.0f} seconds with {record['gigabytes']:.1f} GB of memory "
        f"(measured on {record['date']} on one CPU core, PyTorch {record['torch']}, "
        f"commit {record['commit'][:10]})."
    )


class Reproduction(SphinxDirective):
    """`{reproduction} mcmil`: one paper's tables, from the records as they stand at this build.

    Without an argument: the state of all papers, one line each.
    """

    optional_arguments = 1

    def text(self):
        return tables.markdown(*self.arguments) if self.arguments else tables.summary_markdown()

    def run(self):
        results = Path(str(resources.files("wsl_tutorial") / "results"))
        for file in [results / "paper-values.csv", *results.glob("runs/*.jsonl"), tables.__file__]:
            self.env.note_dependency(str(file))
        lines = StringList(self.text().splitlines(), source="records")
        box = nodes.Element()
        self.state.nested_parse(lines, self.content_offset, box, match_titles=True)
        return box.children


class Costs(Reproduction):
    """`{costs}`: the GPU hours of all runs, as they stand at this build."""

    optional_arguments = 0

    def text(self):
        return costs.markdown(records.published())


class Memory(Reproduction):
    """`{memory}`: the peak memory of the recorded runs, as they stand at this build."""

    optional_arguments = 0

    def text(self):
        return costs.memory(records.published())


def spread_metrics(app, error):
    """A file with every metric of a paper's experiments, to which its page links."""
    if error is None and app.builder.format == "html":
        for paper in papers():
            text = tables.metrics(paper.key, records.published())
            (Path(app.outdir) / f"metrics-{paper.key}.csv").write_text(text, "utf-8")


def commit(folder) -> str:
    """The commit that the book was built from; empty where neither git nor $WSL_COMMIT knows."""
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
    """The theme links a script for live kernels, from another host, that no page here uses."""
    scripts = context.get("script_files", [])
    context["script_files"] = [
        script
        for script in scripts
        if "thebe"
        not in f"{getattr(script, 'filename', script)}{getattr(script, 'attributes', '')}"
    ]


def drop_false_list(app, pagename, templatename, context, doctree):
    """Docutils calls the bibliography a list, and none of its entries an item of one."""
    if "body" in context:
        false = '<div role="list" class="citation-list">'
        context["body"] = context["body"].replace(false, '<div class="citation-list">')


def setup(app):
    app.add_directive("reproduction", Reproduction)
    app.add_directive("costs", Costs)
    app.add_directive("memory", Memory)
    app.connect("source-read", describe_figures)
    app.connect("source-read", state_cost)
    app.connect("builder-inited", sign)
    app.connect("build-finished", spread_metrics)
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_false_list)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
