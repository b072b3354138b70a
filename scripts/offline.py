"""Make _build/offline from _build/html: the same book, which loads nothing from other hosts.

python scripts/offline.py [BUILT] [TARGET]

The book loads MathJax only. npm fetches the version in _config.yml, which goes beside the pages.
The script overwrites only folders that it made.
"""

import argparse
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
    """Unpack the published files of an npm package, "name@version", into `folder`."""
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


def fresh(folder: Path, script: str) -> None:
    """Make `folder`, empty except for a marker; remove what `script` made there before.

    Raises: FileExistsError for a file, and for a folder with files but without the marker.
    """
    marker = folder / f".made-by-{script}"
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            reason = f"{folder} is not empty, and {script} did not make it"
            raise FileExistsError(f"{reason}: remove it, or name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def offline(built: Path, target: Path) -> None:
    """Copy the built book and replace the addresses of MathJax by local ones.

    Raises: FileNotFoundError if `built` has no book; ValueError for a target that is, contains or
    is inside `built`; FileExistsError for a target with other files.
    """
    if not (built / "index.html").exists():
        raise FileNotFoundError(f"{built} holds no book; make book first")
    source, goal = built.resolve(), target.resolve()
    if goal in (source, *source.parents) or source in goal.parents:
        raise ValueError(f"target {target} is, holds or lies in the built book {built}")
    fresh(target, "offline.py")
    shutil.copytree(built, target, dirs_exist_ok=True)
    packages = set()
    for page in target.rglob("*.html"):
        text = page.read_text("utf-8")
        packages |= {package for package, _ in LOADED.findall(text)}
        up = "../" * (len(page.relative_to(target).parts) - 1)
        page.write_text(LOADED.sub(rf"{up}_static/npm/\1/\2", text), "utf-8")
    for package in packages:
        fetch(package, target / "_static" / "npm" / package)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    build = ROOT / "_build"
    parser.add_argument("built", nargs="?", type=Path, default=build / "html", help="the book")
    parser.add_argument("target", nargs="?", type=Path, default=build / "offline", help="its copy")
    options = parser.parse_args()
    try:
        offline(options.built, options.target)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
