"""Make slides, equations and figures for teachers from the notebooks.

python scripts/teaching.py            _build/teaching/slides/*.html and equations.tex
python scripts/teaching.py --pdf      also slides/*.pdf, printed by Chromium or Chrome
python scripts/teaching.py --figures  also figures/*.svg: executes every notebook, minutes

A slide has what one writes on a board: the heading, sentences with bold words (assumptions), each
displayed equation with the sentence before it, every figure, and the first rows of every table. The
whole text of the page, with its tables, is in the speaker's notes (press S). A slide that does not
fit the screen is set smaller. Slides load nothing from other hosts: MathJax and
reveal.js come from the packages django-static-mathjax and sphinx-revealjs.
"""

import argparse
import html
import importlib.util
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from paper import MARKDOWN, browser_path, fresh, mathjax, opened, rendered
from tqdm import tqdm

from notebooks import execute, read

ROOT = Path(__file__).resolve().parents[1]
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="reveal/dist/reveal.css">
<link rel="stylesheet" href="reveal/dist/theme/white.css">
<style>
.reveal {{ font-size: 26px; }} .reveal h1 {{ font-size: 1.9em; }} .reveal h2 {{ font-size: 1.4em; }}
.reveal h1, .reveal h2, .reveal h3 {{ text-transform: none; }} .reveal p {{ text-align: left; }}
.reveal img {{ max-height: 18em; }} .reveal table {{ font-size: 0.75em; }}
.reveal th, .reveal td {{ padding: 0.15em 0.5em; }} .reveal .rest {{ font-size: 0.75em; }}
</style></head><body><div class="reveal"><div class="slides">
{slides}
</div></div>
<script>MathJax = {{ startup: {{ typeset: false }} }};</script>
<script src="mathjax/tex-mml-chtml.js"></script>
<script src="reveal/dist/reveal.js"></script>
<script src="reveal/plugin/notes/notes.js"></script>
<script>
const parts = "h2, p, li, table, img, mjx-container, mjx-mtd, mjx-mlabeledtr, mjx-labels";
function over(slide) {{
  const box = slide.getBoundingClientRect(), room = Reveal.getConfig().height * Reveal.getScale();
  const wide = [...slide.querySelectorAll(parts)].map((part) => part.getBoundingClientRect());
  const out = (b) => b.width > 0 && (b.left < box.left - 1 || b.right > box.right + 1);
  return box.height > room || wide.some(out);
}}
function fit() {{
  for (const slide of Reveal.getSlides()) {{
    const stack = slide.parentElement, before = [stack.style.display, slide.style.display];
    stack.style.display = slide.style.display = "block";
    for (let size = 100; size > 25 && over(slide); size -= 3) slide.style.fontSize = `${{size}}%`;
    [stack.style.display, slide.style.display] = before;
  }}
}}
const faces = document.querySelectorAll("section > :not(section, aside)");
MathJax.startup.promise.then(() => MathJax.typesetPromise([...faces]))
  .then(() => Promise.all([...document.images].map((image) => image.decode())))
  .then(() => Reveal.initialize({{
    width: 1120, height: 700, transition: "none", hash: true, slideNumber: true,
    controls: false, plugins: [RevealNotes],
  }}))
  .then(fit).then(() => {{ document.body.dataset.fits = "yes"; }})
  .then(() => MathJax.typesetPromise());
</script></body></html>
"""


@dataclass
class Slide:
    """One slide: heading, items (HTML), and the prose that goes with it (Markdown).

    A `full` slide takes no more items: it has a figure or a table.
    """

    title: str
    items: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    full: bool = False

    def html(self) -> str:
        notes = f'<aside class="notes">{rendered(chr(10).join(self.notes))}</aside>'
        first = [opening(note) for note in self.notes[:1]]
        body = [f"<h2>{inline(self.title)}</h2>", *(self.items or first), notes]
        return "\n".join(["<section>", *body, "</section>"])


def inline(markdown: str) -> str:
    return re.sub("^<p>|</p>\n?$", "", rendered(markdown))


def as_paragraph(sentence: str) -> str:
    return f"<p>{inline(sentence)}</p>"


def blocks(markdown: str) -> list[tuple[str, str]]:
    """Return the top-level blocks of a cell: kind ("heading", "math", ..) and source."""
    lines = markdown.splitlines()
    found = []
    for token in MARKDOWN.parse(markdown):
        if token.level == 0 and token.map and token.nesting >= 0:
            kind = token.type.removesuffix("_open").removesuffix("_block")
            found.append((kind, "\n".join(lines[slice(*token.map)]).strip()))
    return found


def opening(note: str) -> str:
    """Return the first sentence of a note; a list, a quotation or code is returned whole."""
    kind, source = blocks(note)[0]
    return as_paragraph(sentences(source)[0]) if kind == "paragraph" else rendered(source)


def sentences(paragraph: str) -> list[str]:
    text, found = " ".join(paragraph.split()), [""]
    for piece in re.split(r"(?:(?<=[.!?:])|(?<=[.!?:]\*\*)) (?=[A-Z$*\[(])", text):
        if found[-1].count("**") % 2 or found[-1].count("$") % 2:  # inside bold words or maths
            found[-1] += f" {piece}"
        else:
            found.append(piece)
    return found[1:]


def board(column: list[Slide]) -> Slide:
    """Return the slide to write on: the last of a column, or a new one if that is full."""
    if column[-1].full or len(column[-1].items) > 4:
        column.append(Slide(column[-1].title))
    return column[-1]


def deck(notebook: nbformat.NotebookNode) -> tuple[str, list[list[Slide]]]:
    """Return the title, and the sections of the page, each a column of slides."""
    title, columns, before = "", [], ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            announced = sentences(before)[-1] if before else ""
            for output in cell.get("outputs", []):
                data = output.get("data", {})
                if "image/png" in data and columns:
                    columns[-1].append(figure(columns[-1][-1].title, output, announced))
                elif "text/markdown" in data and columns:
                    shown = table(columns[-1][-1].title, data["text/markdown"], announced)
                    columns[-1].append(shown)
            continue
        for kind, source in blocks(cell.source):
            if kind == "heading" and source.startswith("# "):
                title = source[2:]
                columns.append([Slide(title)])
            elif kind == "heading":
                words = source.lstrip("# ")
                column = [Slide(words)]
                if source.startswith("## "):
                    columns.append(column)
                else:
                    columns[-1] += column
            elif kind == "table" and columns:
                announced = sentences(before)[-1] if before else ""
                columns[-1].append(table(columns[-1][-1].title, source, announced))
            elif kind == "math":
                slide = board(columns[-1])
                lead = as_paragraph(sentences(before)[-1]) if before else ""
                slide.items += [lead] if lead not in slide.items else []
                slide.items.append(f"<div>{rendered(source)}</div>")
            else:
                bold = [s for s in sentences(source) if kind == "paragraph" and "**" in s]
                slide = board(columns[-1]) if bold else columns[-1][-1]
                slide.notes.append(source + "\n")
                slide.items += map(as_paragraph, bold)
                before = source if kind == "paragraph" else before
    return title, [[s for s in column if s.items or s.notes] for column in columns]


def figure(title: str, output: dict, announced: str) -> Slide:
    png = output["data"]["image/png"].replace("\n", "")
    alt = output["metadata"]["image/png"]["alt"]
    image = f'<img src="data:image/png;base64,{png}" alt="{html.escape(alt)}">'
    return Slide(title, [image], [announced, "", alt + "\n"], full=True)


def table(title: str, markdown: str, announced: str) -> Slide:
    """Return a slide with the first dozen lines or 1,100 characters; the notes have them all."""
    lines, length = markdown.strip().splitlines(), 0
    for number, line in enumerate(lines):
        length += len(line)
        if number > 2 and (number > 11 or length > 1100):
            break
    else:
        number = len(lines)
    while 0 < number < len(lines) and (
        re.fullmatch(r"[|\s:-]*", lines[number - 1]) or re.fullmatch(r"\|[|\s:-]+", lines[number])
    ):
        number -= 1  # no head of a table without a row
    items = [rendered("\n".join(lines[:number]))]
    left = [line for line in lines[number:] if line.strip(" |:-")]
    if left:
        rest = f"Lines left for the notes and the page: {len(left)}."
        items.append(f'<p class="rest">{rest}</p>')
    return Slide(title, items, [announced, "", markdown + "\n"], full=True)


def page(notebook: nbformat.NotebookNode) -> str:
    """Return a chapter as one HTML file of slides."""
    title, columns = deck(notebook)
    slides = "\n".join(
        "<section>\n" + "\n".join(slide.html() for slide in column) + "\n</section>"
        for column in columns
    )
    return PAGE.format(title=html.escape(re.sub(r"[$\\]", "", title)), slides=slides)


def bring(folder: Path) -> None:
    """Put MathJax and reveal.js, from their packages, beside the slides.

    Raises: FileNotFoundError for a package that is not installed.
    """
    spec = importlib.util.find_spec("sphinx_revealjs")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("sphinx-revealjs is not installed; make book installs it")
    reveal = Path(spec.submodule_search_locations[0], "_static", "revealjs")
    for part in ("dist", "plugin/notes", "LICENSE"):
        copy = shutil.copytree if (reveal / part).is_dir() else shutil.copy2
        (folder / "reveal" / part).parent.mkdir(parents=True, exist_ok=True)
        copy(reveal / part, folder / "reveal" / part)
    shutil.copytree(mathjax(), folder / "mathjax")
    shutil.copy2(mathjax().parent / "LICENSE", folder / "mathjax")


def print_slides(folder: Path) -> None:
    """Print every deck of a folder into a PDF file, a page a slide."""
    with opened(viewport={"width": 1120, "height": 700}) as tab:
        for file in tqdm(sorted(folder.glob("*.html")), "PDF", unit="deck"):
            tab.goto(f"{file.resolve().as_uri()}?print-pdf")
            tab.wait_for_selector("body[data-fits]", state="attached", timeout=120_000)
            tab.pdf(path=file.with_suffix(".pdf"), prefer_css_page_size=True, print_background=True)


def equations(notebooks: dict[str, nbformat.NotebookNode]) -> str:
    """Return all equations with a number as one LaTeX document, chapter by chapter."""
    lines = [
        r"\documentclass{article}",
        r"\usepackage{amsmath,amssymb}",
        r"\begin{document}",
    ]
    for notebook in notebooks.values():
        text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
        tagged = [m for m in re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL) if r"\tag{" in m]
        if tagged:
            title = re.search("^# (.*)", text, re.MULTILINE)[1].replace("&", r"\&")
            lines += ["", rf"\section*{{{title}}}"]
            lines += [f"\\[{equation.strip()}\\]".replace(r"\cr", r"\\") for equation in tagged]
    return "\n".join([*lines, r"\end{document}", ""])


def figures(scripts: list[Path], folder: Path) -> None:
    """Execute the notebooks, and save every figure as SVG with its description."""
    for script in scripts:
        notebook, target = read(script), folder / script.stem
        keep = f"from wsl_tutorial import show\nshow.keep({str(target)!r})"
        notebook.cells.insert(1, nbformat.v4.new_code_cell(keep))
        execute(notebook, script.resolve().parent)
        print(f"{script.stem}: {len(list(target.glob('*.svg')))} figures", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pdf", action="store_true", help="also every deck as PDF")
    parser.add_argument("--figures", action="store_true", help="also every figure as SVG")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "teaching")
    options = parser.parse_args()
    scripts = sorted((ROOT / "notebooks").glob("*.py"))
    files = sorted((ROOT / "notebooks").glob("*.ipynb"))
    notebooks = {file.stem: nbformat.read(file, as_version=4) for file in files}
    try:
        if options.pdf:
            browser_path()
        with fresh(options.out, "teaching.py") as new:
            slides = new / "slides"
            slides.mkdir()
            for name, notebook in notebooks.items():
                (slides / f"{name}.html").write_text(page(notebook), "utf-8")
            (new / "equations.tex").write_text(equations(notebooks), "utf-8")
            bring(slides)
            if options.pdf:
                print_slides(slides)
            if options.figures:
                figures(scripts, new / "figures")
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(notebooks)} chapters in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
