"""Write the audit of chapter 15 as one citable Markdown file, from the published records.

python scripts/report.py [FILE]          _build/report.md
"""

import argparse
import subprocess
import sys
from pathlib import Path

import yaml

from wsl_tutorial.reproduce import audit, evidence

ROOT = Path(__file__).resolve().parents[1]


def git(*words: str) -> str:
    """Return the output of git in this checkout; empty if there is none."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def state() -> tuple[str, str]:
    """Return date and commit of this checkout; a + marks changes that are not committed."""
    commit, _, date = git("log", "-1", "--format=%H %cs").partition(" ")
    changed = "+" if git("status", "--porcelain", "--untracked-files=no") else ""
    return date or "unknown date", f"{commit}{changed}" if commit else "unknown commit"


def citation(date: str, commit: str) -> str:
    """Return a citation of this state of the audit: a sentence and BibTeX, from CITATION.cff."""
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    authors = " and ".join(
        a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in cff["authors"]
    )
    year, title, version, url = date[:4], cff["title"], cff["version"], cff["repository-code"]
    fields = {
        "author": f"{{{authors}}}",
        "title": f"{title}: what the papers claim, and what stands",
        "year": year if year.isdecimal() else "n.d.",
        "note": f"Version {version}, commit {commit}",
        "url": url,
    }
    entry = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    text = f"{authors} ({fields['year']}). *{fields['title']}*. {fields['note']}. <{url}>"
    return f"{text}\n\n```bibtex\n@misc{{wsl-audit,\n{entry}\n}}\n```\n"


def document() -> str:
    """Return the whole report."""
    date, commit = state()
    return "\n".join(
        (
            "# What the papers claim, and what stands\n",
            f"State of {date}, commit {commit} of *Weak supervision, by reproduction*.",
            "Claims and numbers are judged from records by one rule, each on its strongest",
            "evidence: runs with the paper's settings, else with its data, network and measure and",
            "a recipe of ours; runs at reduced size give no verdict. *Not tested* comes with its",
            f"reason. *Undecided*: a gap within its half-width at {evidence.LEVEL:.0%}, by Welch.",
            "A sentence that mathematics decides names the test that decides it. What a public",
            "program computes is shown by cells of chapter 15, at the version named.\n",
            "## How to cite\n",
            citation(date, commit),
            "Cite the paper whose method you use, too. A verdict changes when records arrive: name",
            "the commit.\n",
            audit.report(),
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    default = ROOT / "_build" / "report.md"
    parser.add_argument("file", nargs="?", type=Path, default=default, help=f"default: {default}")
    target = parser.parse_args().file
    text = document()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print(target)
    return 0


if __name__ == "__main__":
    sys.exit(main())
