"""Turn Markdown with formulas into HTML and PDF; what the scripts for teachers share.

Chromium or Chrome prints; MathJax comes from the package django-static-mathjax. Nothing is loaded
from other hosts.
"""

import html
import importlib.util
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 11pt/1.45 "Liberation Serif", "DejaVu Serif", Georgia, serif; }}
h1 {{ font-size: 1.5em; break-before: page; }} h1:first-of-type {{ break-before: auto; }}
h2 {{ font-size: 1.15em; margin-top: 1.4em; break-after: avoid; }}
p, li {{ break-inside: avoid; orphans: 3; widows: 3; }}
table {{ border-collapse: collapse; font-size: 0.9em; }} tr {{ break-inside: avoid; }}
th, td {{ border: 1px solid #999; padding: 0.15em 0.5em; text-align: left; }}
code {{ font-size: 0.9em; overflow-wrap: anywhere; }}
mjx-container svg g {{ stroke: none; }} /* a stroke of width 0 is printed as a hairline */
</style><script>MathJax = {{ tex: {{ packages: {{ "[-]": ["noundefined"] }} }} }};</script>
<script src="{mathjax}"></script></head><body>
{body}
</body></html>
"""


def inline_or_block(content: str, options: dict) -> str:
    """Return a formula between the marks that MathJax looks for."""
    left, right = (r"\[", r"\]") if options["display_mode"] else (r"\(", r"\)")
    return left + html.escape(content) + right


MARKDOWN = MarkdownIt("commonmark").enable("table").use(dollarmath_plugin, renderer=inline_or_block)


def rendered(markdown: str) -> str:
    """Return the HTML of some Markdown; links to other pages of the book become text."""
    text = MARKDOWN.render(markdown)
    return re.sub(r'<a href="(?!https?:)[^"]*">(.*?)</a>', r"\1", text, flags=re.DOTALL)


def mathjax() -> Path:
    """Return the folder of MathJax. Raises FileNotFoundError if its package is not installed."""
    spec = importlib.util.find_spec("mathjax")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("django-static-mathjax is not installed; make book installs it")
    return Path(spec.submodule_search_locations[0], "static", "mathjax", "es5")


def page(markdown: str) -> str:
    """Return some Markdown as an HTML page that typesets its formulas; an h1 begins a new sheet."""
    title = html.escape(markdown.lstrip("# ").partition("\n")[0])
    script = (mathjax() / "tex-svg-full.js").as_uri()
    return PAGE.format(title=title, mathjax=script, body=rendered(markdown))


def browser_path() -> str:
    """Return the path of a browser. Raises FileNotFoundError if there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise FileNotFoundError("PDF needs Chromium or Chrome, and neither is installed")
    return found


@contextmanager
def started() -> Iterator:
    """Yield a headless browser that reaches no host but this one. Raises OSError if it fails."""
    from playwright.sync_api import Error, sync_playwright

    path = browser_path()
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", OFFLINE]
    try:
        with sync_playwright() as tool:
            browser = tool.chromium.launch(executable_path=path, args=arguments)
            try:
                yield browser
            finally:
                browser.close()
    except Error as error:
        raise OSError(f"{path} failed: {error.message.partition(chr(10))[0]}") from error


@contextmanager
def opened(**options) -> Iterator:
    """Yield a page of such a browser; options: those of a new page."""
    with started() as browser:
        yield browser.new_page(**options)


@contextmanager
def printer() -> Iterator[Callable[[str, Path], None]]:
    """Yield a function that prints Markdown into a PDF file."""
    with opened() as tab, TemporaryDirectory() as folder:
        source = Path(folder, "page.html")

        def print_to(markdown: str, file: Path) -> None:
            source.write_text(page(markdown), "utf-8")
            tab.goto(source.as_uri())
            tab.evaluate("MathJax.startup.promise")
            if tab.locator("[data-mml-node=merror]").count():
                raise ValueError(f"{file.name}: a formula cannot be typeset")
            margin = dict.fromkeys(("top", "right", "bottom", "left"), "20mm")
            tab.pdf(path=file, format="A4", margin=margin)

        yield print_to


@contextmanager
def stoppable(target: Path) -> Iterator[None]:
    """Raise InterruptedError, an OSError with one sentence, at Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedError(f"stopped; {target} is as it was before") from None


@contextmanager
def fresh(folder: Path, script: str) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` at the end, unless an error ends it.

    A marker lists its files, so that the next time `script` replaces these and no others.

    Raises: FileExistsError for a file, and for a folder with files that are not on such a list;
        InterruptedError at Ctrl-C.
    """
    folder, marker = folder.resolve(), f".made-by-{script}"
    refuse_others(folder, marker, script)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        stoppable(folder),
        TemporaryDirectory(prefix=".making-", dir=folder.parent) as beside,
    ):
        new = Path(beside, "new")
        new.mkdir()
        yield new
        (new / marker).write_text("".join(f"{name}\n" for name in sorted(files(new))), "utf-8")
        if folder.exists():
            folder.rename(Path(beside, "old"))
        new.rename(folder)


def files(folder: Path) -> set[str]:
    """Return the names of all files below a folder, but for hidden ones."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {name.as_posix() for name in found if not any(p[0] == "." for p in name.parts)}


def refuse_others(folder: Path, marker: str, script: str) -> None:
    """Raise FileExistsError for a file, and for a folder with files that `script` did not make."""
    file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
    if file:
        raise FileExistsError(f"{file} is a file, not a folder: name another folder with --out")
    if folder.is_dir() and any(folder.iterdir()):
        remedy = "move it away, or name another folder with --out"
        if not (folder / marker).is_file():
            raise FileExistsError(f"{folder} is not empty, and {script} did not make it: {remedy}")
        listed = (folder / marker).read_text("utf-8").splitlines()
        if others := sorted(files(folder).difference(listed)):
            raise FileExistsError(f"{script} did not make {folder / others[0]}: {remedy}")
