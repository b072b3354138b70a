"""Compare numbers in notebook outputs as numbers, and skip cells that need a GPU."""

import math
import os
import re
import subprocess
import sys
from pathlib import Path

import book_sources
import pytest
import torch
from filelock import FileLock

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
pytest.register_assert_rewrite("page_checks")
RTOL, ATOL = 2e-3, 1e-6  # allows for another order of additions, not for a wrong result


class Close(str):
    """Equal another text if the words are the same and the numbers are close."""

    __hash__ = str.__hash__

    def __eq__(self, other):
        if NUMBER.sub("#", self) != NUMBER.sub("#", other):
            return False
        pairs = zip(NUMBER.findall(self), NUMBER.findall(other), strict=True)
        return all(math.isclose(float(a), float(b), rel_tol=RTOL, abs_tol=ATOL) for a, b in pairs)

    def __ne__(self, other):
        return not self == other


def pytest_configure(config):
    if not config.pluginmanager.hasplugin("nbval"):
        return
    from nbval.plugin import IPyNbCell

    plain = IPyNbCell.sanitize
    IPyNbCell.sanitize = lambda cell, text: (
        Close(plain(cell, text)) if isinstance(text, str) else text
    )


def pytest_collection_modifyitems(items):
    """Skip cells tagged `gpu` where there is no GPU."""
    for item in items:
        tags = getattr(getattr(item, "cell", None), "metadata", {}).get("tags", [])
        if "gpu" in tags and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the built book: of `make book` if nothing changed since, else built here, once."""
    if made := book_sources.current():
        return made
    folder = tmp_path_factory.getbasetemp()
    out = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "book"
    out.mkdir(exist_ok=True)
    with FileLock(out / "lock"):
        if not (out / "built").exists():
            program = Path(sys.executable).parent / "jupyter-book"
            build = [program, "build", Path(__file__).parent, "--path-output", out]
            options = {"capture_output": True, "text": True}
            done = subprocess.run([*build, "-n", "-W", "--keep-going"], **options)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
            (out / "built").touch()
    return out / "_build" / "html"
