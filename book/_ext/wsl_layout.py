"""Let long lines of code and of printed sentences wrap, each behind its own indentation.

Each line of a block becomes an element, and the line breaks stay between the elements: the text of
the block, which the copy button and a selection take, is the same. Printed columns do not wrap.
"""

import html
import re

BLOCK = re.compile(
    r'<div class="([^"]*\bhighlight-[^"]*)"><div class="highlight"><pre>(.*?)</pre>', re.DOTALL
)
COLUMNS = re.compile(r"\S {2,}\S")


def text_of(line: str) -> str:
    """Return the text of a line of HTML."""
    return html.unescape(re.sub(r"<[^>]*>", "", line))


def hang(line: str) -> str:
    """Return a line of HTML as an element that knows the indentation of its text."""
    text = text_of(line)
    if not text.strip():
        return line
    inside = len(text) - len(text.lstrip())
    style = f' style="--inside:{inside}"' if inside else ""
    return f'<span class="code-line"{style}>{line}</span>'


def wrap(block: re.Match) -> str:
    """Return a block whose lines wrap; mark an output with columns, which does not."""
    kind, lines = block[1], block[2].split("\n")
    if "output" in kind.split() and any(COLUMNS.search(text_of(line)) for line in lines):
        kind += " columns"
    else:
        lines = map(hang, lines)
    return f'<div class="{kind}"><div class="highlight"><pre>' + "\n".join(lines) + "</pre>"


def wrap_lines(app, pagename, templatename, context, doctree) -> None:
    if "body" in context:
        context["body"] = BLOCK.sub(wrap, context["body"])


def setup(app):
    app.connect("html-page-context", wrap_lines)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
