"""Run notebooks as a reader on Colab does: without the checkout, installed by their own first cell.

python scripts/clean_run.py                       every notebook, in an environment made for it
python scripts/clean_run.py --here                in this interpreter's environment: Colab's image
python scripts/clean_run.py notebooks/00_*.ipynb  these only

The package comes from this repository's last commit, by an address of the form that the notebooks
hold. Time and peak memory go to book/measured.json, and from there into the pages. Exits with 1 if
a notebook fails, or if its first cell replaced the installed PyTorch.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "book" / "measured.json"
MEMORY = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
VERSIONS = "import torch, torchvision; print(torch.__version__, torchvision.__version__)"


def output(*command: str | Path, **options) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options)
    return done.stdout.strip()


def environment(folder: Path) -> Path:
    """Make an environment from the lock, without the package; return its interpreter."""
    uv = ROOT / ".venv" / "bin" / "uv"
    output(uv, "venv", "--quiet", "--seed", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    lock = ROOT / "requirements.lock"
    output(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock)
    return python


def run(notebook: Path, folder: Path) -> dict[str, float]:
    """Execute a copy of the notebook in `folder`; return seconds and peak memory in GB."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.read(notebook, as_version=4)
    made.cells.append(nbformat.v4.new_code_cell(MEMORY))
    client = NotebookClient(made, timeout=1800, resources={"metadata": {"path": str(folder)}})
    seconds = []
    with client.setup_kernel():
        for index, cell in enumerate(made.cells):
            start = time.perf_counter()
            client.execute_cell(cell, index)
            seconds.append(time.perf_counter() - start)
    kilobytes = int(made.cells[-1].outputs[0].text)
    return {
        "install_seconds": seconds[0],
        "seconds": sum(seconds[1:]),
        "gigabytes": kilobytes * 1024 / 1e9,
    }


def inside(notebooks: list[Path]) -> int:
    """Run notebooks in this interpreter's environment; remove the package before each."""
    remove = [sys.executable, "-m", "pip", "uninstall", "-q", "-y", "wsl-tutorial"]
    before, failed = output(sys.executable, "-c", VERSIONS), 0
    commit = output("git", "-C", ROOT, "rev-parse", "HEAD")
    os.environ["WSL_TUTORIAL_SPEC"] = f"wsl-tutorial @ git+file://localhost{ROOT}@{commit}"
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="agg", TQDM_DISABLE="1")
    os.environ.pop("PYTHONPATH", None)
    records = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    where = {"commit": commit, "torch": before.split()[0], "python": platform.python_version()}
    for notebook in notebooks:
        point = None
        subprocess.run(remove, check=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                point = run(notebook, Path(folder))
            except Exception as error:  # whatever a cell raises; the others still run
                print(f"{notebook.name}: {error}", file=sys.stderr)
                failed += 1
        if (after := output(sys.executable, "-c", VERSIONS)) != before:
            print(
                f"{notebook.name} replaced PyTorch: {before} before, {after} after", file=sys.stderr
            )
            return 1
        if point is not None:
            records[notebook.stem] = {**point, "date": time.strftime("%Y-%m-%d"), **where}
            RECORD.write_text(json.dumps(dict(sorted(records.items())), indent=1) + "\n", "utf-8")
            print(f"{notebook.name}: {point}", flush=True)
    return int(failed > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("notebooks", nargs="*", type=Path)
    parser.add_argument("--here", action="store_true", help="use this interpreter's environment")
    options = parser.parse_args()
    chosen = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    chosen = [path.resolve() for path in chosen]
    try:
        if options.here:
            return inside(chosen)
        with tempfile.TemporaryDirectory() as folder:
            python = environment(Path(folder) / "clean")
            command = [python, Path(__file__).resolve(), "--here", *chosen]
            return subprocess.run(command, cwd=folder, check=False).returncode
    except (OSError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
