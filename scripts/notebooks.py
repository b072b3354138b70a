"""Make notebooks/NN_name.ipynb from notebooks/NN_name.py: executed, and the same bytes every time.

python scripts/notebooks.py                      every notebook
python scripts/notebooks.py notebooks/00_*.py    these only
python scripts/notebooks.py --text               where only prose changed: keep the outputs
python scripts/notebooks.py --check              compare the pairs, execute nothing
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def read(script: Path) -> nbformat.NotebookNode:
    """Return a percent script as a notebook without outputs; cell ids are hashes of the cells."""
    notebook = jupytext.read(script)
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for index, cell in enumerate(notebook.cells):
        cell.id = hashlib.sha256(f"{index} {cell.source}".encode()).hexdigest()[:12]
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "mystnb")}
    return notebook


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Execute all cells in place, on one thread and without data from this machine."""
    os.environ.update(OMP_NUM_THREADS="1", MPLBACKEND="agg", PYTHONHASHSEED="0")
    for private in ("WSL_DATA", "WSL_TUTORIAL_SPEC"):
        os.environ.pop(private, None)
    client = NotebookClient(notebook, timeout=600, record_timing=False, coalesce_streams=True)
    client.execute(cwd=str(folder))
    notebook.metadata.pop("language_info", None)  # it holds the interpreter's version


def text(notebook: nbformat.NotebookNode) -> str:
    """Return a notebook as the text of its file."""
    return nbformat.writes(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def agrees(script: Path) -> bool:
    """Return True if the .ipynb has exactly the cells of the .py; nbval checks the outputs."""
    stored = stored_of(script)
    if stored is None:
        return False
    for cell in (c for c in stored.cells if c.cell_type == "code"):
        cell.update(outputs=[], execution_count=None)
    return text(stored) == text(read(script))


def stored_of(script: Path) -> nbformat.NotebookNode | None:
    """Return the .ipynb of a script; None if it is missing, or broken by marks of a merge."""
    try:
        return nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    except (FileNotFoundError, ValueError):
        return None


def reuse(notebook: nbformat.NotebookNode, script: Path) -> bool:
    """Take the outputs of the stored .ipynb if its code is the same; else return False."""
    stored = stored_of(script)
    if stored is None:
        return False
    new, old = (
        [cell for cell in cells if cell.cell_type == "code"]
        for cells in (notebook.cells, stored.cells)
    )
    if [cell.source for cell in new] != [cell.source for cell in old]:
        return False
    for cell, before in zip(new, old, strict=True):
        cell.update(outputs=before.outputs, execution_count=before.execution_count)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("scripts", nargs="*", type=Path)
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only compare, execute nothing")
    how.add_argument("--text", action="store_true", help="execute nothing: only prose changed")
    options = parser.parse_args()
    scripts = options.scripts or sorted((ROOT / "notebooks").glob("*.py"))
    for script in scripts:
        if script.suffix != ".py" or not script.is_file():
            parser.error(f"scripts: {script} is no .py file; name notebooks/NN_name.py")
    if options.check:
        stale = [str(script) for script in scripts if not agrees(script)]
        print("\n".join(f"differs from its .ipynb: {name}" for name in stale) or "all pairs agree")
        return bool(stale)
    for script in scripts:
        start, notebook = time.perf_counter(), read(script)
        try:
            if not options.text:
                execute(notebook, script.resolve().parent)
            elif not reuse(notebook, script):
                raise ValueError("its .ipynb has other code, or none; run without --text")
        except (CellExecutionError, ValueError, KeyboardInterrupt) as error:
            why = str(error) or "stopped; its .ipynb is as it was before"
            print(f"{script}: {why}", file=sys.stderr)
            return 1
        script.with_suffix(".ipynb").write_text(text(notebook), encoding="utf-8")
        print(f"{script.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
