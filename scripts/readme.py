"""Write the state of the reproductions into README.md, between its marks, from the records."""

import argparse
import re
from pathlib import Path

from wsl_tutorial.reproduce import ledger, tables

README = Path(__file__).resolve().parents[1] / "README.md"


def between(text: str, mark: str, new: str) -> str:
    """Return the text with what is between `<!-- mark -->` and `<!-- /mark -->` replaced."""
    old = rf"(<!-- {mark} -->).*(<!-- /{mark} -->)"
    text, found = re.subn(old, lambda m: m[1] + new + m[2], text, flags=re.DOTALL)
    if not found:
        raise SystemExit(
            f"README.md has no <!-- {mark} --> with its <!-- /{mark} -->; restore them"
        )
    return text


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    text = between(README.read_text("utf-8"), "numbers", str(len(ledger.load())))
    state = f"\n\n{tables.summary_markdown().strip()}\n\n"
    README.write_text(between(text, "reproductions", state), "utf-8")
