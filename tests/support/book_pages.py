"""The names of the book's pages: those of _toc.yml, and those that its extension makes."""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "book" / "_ext"))
import wsl_api  # noqa: E402
import wsl_sphinx  # noqa: E402

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
ENTRIES = [entry for part in TOC["parts"] for entry in part["chapters"]]
MADE = [wsl_sphinx.name(paper) for paper in wsl_sphinx.with_page()]
MADE += wsl_api.names()
PAGES = [TOC["root"], *(e["file"] for e in ENTRIES if "file" in e), *MADE]
