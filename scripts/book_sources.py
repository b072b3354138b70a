"""Keep a digest of what the book is made of beside it, so that tests know whether it is new.

python scripts/book_sources.py jupyter-book build . ...    runs the command, then keeps the digest
"""

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("book", "notebooks", "wsl_tutorial", "_config.yml", "_toc.yml", "requirements.lock")
KEPT = Path("_build", "sources")


def digest() -> str | None:
    """Return a digest of the files of which the book is made; None without a git checkout."""
    list_files = ["git", "ls-files", "-co", "-z", "--exclude-standard", "--", *SOURCES]
    try:
        done = subprocess.run(list_files, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    total = hashlib.sha256(sys.prefix.encode())
    for name in sorted(filter(None, done.stdout.split("\0"))):
        if (ROOT / name).is_file():  # git lists deleted files too
            content = (ROOT / name).read_bytes()
            total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def current() -> Path | None:
    """Return the folder of the book if it was built without an error from the files as they are."""
    kept = ROOT / KEPT
    new = kept.is_file() and kept.read_text("utf-8") == digest()
    return kept.parent / "html" if new else None


def main(command: list[str]) -> int:
    """Run the command; if it succeeds, keep the digest of what was there when it began."""
    before, kept = digest(), ROOT / KEPT
    kept.unlink(missing_ok=True)
    status = subprocess.run(command).returncode
    if status == 0 and before:
        kept.write_text(before, "utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
