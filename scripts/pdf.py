"""Make _build/book.pdf from _build/html: the whole book, with page numbers, outline and links.

python scripts/pdf.py [BUILT] [TARGET]

The articles of all pages become one long page, which Chromium prints twice: the second time with
the page numbers of the first in its contents. Folded texts are open in it; code that only draws,
and demos, are left out.
"""

import argparse
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

import pikepdf
from paper import opened, stoppable

ROOT = Path(__file__).resolve().parents[1]
ARTICLE = re.compile(r'<article class="bd-article">(.*?)</article>', re.DOTALL)
NEXT = re.compile(r'<a class="right-next"\s+href="([^"]+)"')
TITLE = re.compile(r"<h1>(.*?)<a class=\"headerlink\"", re.DOTALL)
HEAD = re.compile(
    r"<link [^>]*stylesheet[^>]*>|<script>window\.MathJax = .*?</script>"
    r"|<script[^>]*/mathjax/[^>]*></script>"
)
STYLE = """
.book-page { break-before: page; }
body { background: #fff; }
.bd-article .headerlink, .toggle-button, .viewcode-link, .sd-summary-state-marker,
  details.hide > summary, details.above-input { display: none !important; }
.bd-article a::after { content: none !important; }
.cell, .cell_input, .cell_output, .sd-card, div.highlight { box-shadow: none !important; }
pre { break-inside: auto; }
.book-contents table { width: 100%; }
.book-contents td { border: 0; padding: 1px 0; }
.book-contents td:last-child { width: 4em; text-align: right; }
h1, h2, h3 { break-after: avoid; }
mjx-container[display="true"], .pst-scrollable-table-container { overflow: visible !important; }
"""
FOOT = (
    '<div style="width: 100%; text-align: center; font-size: 8px">'
    '<span class="pageNumber"></span></div>'
)
READY = """async () => {
  document.querySelectorAll('details').forEach((d) => (d.open = true));
  document.querySelectorAll('img').forEach((image) => (image.loading = 'eager'));
  await window.MathJax?.startup.promise;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => null)));
  const wides = '.bd-article table, mjx-container[display="true"]';
  for (const wide of document.querySelectorAll(wides)) {
    const room = wide.parentElement.clientWidth / wide.scrollWidth;  // else Chromium shrinks all
    if (room < 1) wide.style.zoom = room - 0.01;
  }
  return [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
    .filter((heading) => heading.checkVisibility())
    .map((heading) => heading.innerText.replace(/[\\s#]+/g, ' ').trim());
}"""


def order(built: Path) -> list[str]:
    """Return the names of the pages in the order in which each links to the next."""
    index = built / "index.html"
    found = re.search(r"url=([\w/.-]+)\.html", index.read_text("utf-8")) if index.exists() else None
    if not found:
        raise FileNotFoundError(f"{built} holds no book; make book first")
    names = [found[1]]
    while found := NEXT.search((built / f"{names[-1]}.html").read_text("utf-8")):
        link = posixpath.join(posixpath.dirname(names[-1]), found[1])
        names.append(posixpath.normpath(link).removesuffix(".html"))
    return names


def article(built: Path, name: str, names: list[str]) -> str:
    """Return the article of a page, with ids of its own, and links that stay in the document."""
    body = ARTICLE.search((built / f"{name}.html").read_text("utf-8"))[1]
    body = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{label(name, m[1])}"', body)
    body = re.sub(
        r'\baria-labelledby="([^"]+)"',
        lambda m: f'aria-labelledby="{" ".join(label(name, i) for i in m[1].split())}"',
        body,
    )
    body = re.sub(r'\b(href|src)="([^"]*)"', lambda m: f'{m[1]}="{moved(m[2], name, names)}"', body)
    return f'<section class="book-page" id="{label(name)}">{body}</section>'


def label(name: str, inside: str = "") -> str:
    return f"{name}--{inside}".replace("/", "-") if inside else name.replace("/", "-")


def moved(link: str, name: str, names: list[str]) -> str:
    """Return where a link of a page leads in the document of all pages."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return link
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
    target = name if not parts.path else path.removesuffix(".html")
    if target in names and (not parts.path or path.endswith(".html")):
        return f"#{label(target, unquote(parts.fragment))}"
    return path


def contents(built: Path, names: list[str], numbers: dict[str, int]) -> str:
    """Return the contents: the title of each page, a link to it, and its page number if known."""
    rows = []
    for name in names:
        body = ARTICLE.search((built / f"{name}.html").read_text("utf-8"))[1]
        title = TITLE.search(body)[1].strip()
        to = f'<a href="#{label(name)}">{title}</a>'
        rows.append(f"<tr><td>{to}</td><td>{numbers.get(label(name), '')}</td></tr>")
    return (
        '<section class="book-page book-contents" id="book-contents"><h1>Contents</h1>'
        f"<table>{''.join(rows)}</table></section>"
    )


def whole(built: Path, names: list[str], numbers: dict[str, int] | None = None) -> str:
    """Return all pages as one, the contents after the first; `numbers` of pages by their id."""
    texts = [(built / f"{name}.html").read_text("utf-8") for name in names]
    heads = [head for text in texts for head in HEAD.findall(text)]  # each once, in order
    links = re.sub(r'"(?:\.\./)+_static', '"_static', "\n".join(dict.fromkeys(heads)))
    pages = [article(built, name, names) for name in names]
    pages.insert(1, contents(built, names, numbers or {}))
    body = "\n".join(pages)
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head>'
        f'<meta charset="utf-8"><title>Weak supervision, by reproduction</title>{links}'
        f'<style>{STYLE}</style></head><body><main><article class="bd-article">{body}'
        "</article></main></body></html>"
    )


def make(built: Path, target: Path, names: list[str]) -> None:
    """Print some pages as one PDF, which takes the place of `target` at the end.

    Raises: FileNotFoundError if there is no book or no browser; InterruptedError at Ctrl-C.
    """
    numbers: dict[str, int] = {}
    with stoppable(target), TemporaryDirectory(prefix=".making-", dir=target.parent) as beside:
        new = Path(beside, target.name)
        for _ in range(2):
            headings = printed(built, new, whole(built, names, numbers))
            numbers = finish(new, headings)
        new.replace(target)


def printed(built: Path, target: Path, text: str) -> list[str]:
    """Print the HTML `text`, which refers to files of the book; return its visible headings."""
    page_of_all = built / "_all.html"
    page_of_all.write_text(text, "utf-8")
    try:
        with opened(viewport={"width": 794, "height": 1123}) as page:
            page.set_default_timeout(600_000)
            page.goto(page_of_all.resolve().as_uri())
            page.emulate_media(media="print")
            headings = page.evaluate(READY)
            page.pdf(
                path=target, format="A4", scale=0.85, outline=True, tagged=True,
                print_background=True, display_header_footer=True,
                header_template="<span></span>", footer_template=FOOT,
                margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
            )  # fmt: skip
    finally:
        page_of_all.unlink()
    return headings


def finish(target: Path, headings: list[str]) -> dict[str, int]:
    """Name the entries of the outline, compress, and return the page number of each id.

    Chromium writes the title of a heading twice where it has laid out the heading twice.
    """
    with pikepdf.open(target, allow_overwriting_input=True) as document:
        with document.open_outline() as outline:
            items = list(flat(outline.root))
            for item, heading in zip(items, headings, strict=True):
                item.title = heading
        page = {sheet.objgen: index for index, sheet in enumerate(document.pages, 1)}
        numbers = {str(k)[1:]: page[v[0].objgen] for k, v in document.Root.Dests.items()}
        document.save(target, object_stream_mode=pikepdf.ObjectStreamMode.generate)
    return numbers


def flat(items: list) -> Iterator:
    """Yield outline entries in the order of the text."""
    for item in items:
        yield item
        yield from flat(item.children)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    build = ROOT / "_build"
    parser.add_argument("built", nargs="?", type=Path, default=build / "html", help="the book")
    parser.add_argument("target", nargs="?", type=Path, default=build / "book.pdf", help="its PDF")
    options = parser.parse_args()
    try:
        names = order(options.built)
        if options.target.is_dir() or not options.target.parent.is_dir():
            raise FileNotFoundError(f"{options.target} is no file in a folder; name another TARGET")
        make(options.built, options.target, names)
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(options.target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
