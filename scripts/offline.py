"""Make _build/offline from _build/html: the same book, which asks no other host for anything.

python scripts/offline.py [BUILT] [TARGET]

The one thing that the book loads from elsewhere is MathJax. It is fetched with npm, in the version
that _config.yml names, and put beside the pages. A folder that the script did not make is refused.
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


def fresh(folder: Path, script: str) -> None:
    """Make `folder`, empty but for a marker; what `script` made there before is removed.

    Raises: FileExistsError for a file, and for a folder with anything in it but without the marker.
    """
    marker = folder / f".made-by-{script}"
    if folder.is_dir() and any(folder.iterdir()):
        if not marker.is_file():
            told = f"{folder} is not empty, and {script} did not make it"
            raise FileExistsError(f"{told}: remove it, or name another folder")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    marker.touch()


def offline(built: Path, target: Path) -> None:
    """Copy the built book and turn the addresses of MathJax into its own.

    Raises: FileNotFoundError where `built` holds no book; ValueError for a target that is, holds or
    lies in `built`; FileExistsError for one with other files in it.
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
