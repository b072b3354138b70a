"""Put the state of the reproductions, as the records tell it, between its marks in README.md."""

import re
from pathlib import Path

from wsl_tutorial.reproduce import tables

README = Path(__file__).resolve().parents[1] / "README.md"
MARKS = re.compile(r"(<!-- reproductions -->\n).*(<!-- /reproductions -->)", re.DOTALL)

if __name__ == "__main__":
    state = f"\n{tables.summary_markdown().strip()}\n\n"
    text = README.read_text("utf-8")
    README.write_text(MARKS.sub(lambda m: m[1] + state + m[2], text), "utf-8")
