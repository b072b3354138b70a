"""Make _build/offline from _build/html: the same book, which asks no other host for anything.

python scripts/offline.py [BUILT] [TARGET]

The one thing that the book loads from elsewhere is MathJax. It is fetched with npm, in the version
that _config.yml names, and put beside the pages.
"""

import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOADED = re.compile(r"https://cdn\.jsdelivr\.net/npm/(mathjax@[\d.]+)/(es5/[\w-]+\.js)")


def fetch(package: str, folder: Path) -> None:
    """The published files of an npm package, "name@version", unpacked into `folder`."""
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError(f"npm, which fetches {package}, is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        pack = [npm, "pack", "--silent", package]
        subprocess.run(pack, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        with tarfile.open(archive) as files:
            files.extractall(scratch, filter="data")
        shutil.copytree(Path(scratch, "package"), folder)


def offline(built: Path, target: Path) -> None:
    """Copy the built book and turn the addresses of MathJax into its own."""
    if not (built / "index.html").exists():
        raise FileNotFoundError(f"{built} holds no book; make book first")
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(built, target)
    packages = set()
    for page in target.rglob("*.html"):
        text = page.read_text("utf-8")
        packages |= {package for package, _ in LOADED.findall(text)}
        up = "../" * (len(page.relative_to(target).parts) - 1)
        page.write_text(LOADED.sub(rf"{up}_static/npm/\1/\2", text), "utf-8")
    for package in packages:
        fetch(package, target / "_static" / "npm" / package)


def main() -> int:
    built, target = (ROOT / "_build" / name for name in ("html", "offline"))
    try:
        offline(*(Path(a) for a in (*sys.argv[1:], *(built, target)[len(sys.argv) - 1 :])))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
