"""The reproduction of every number in the papers: `python -m wsl_tutorial.reproduce`."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .experiment import Paper

PAPERS = ("presence", "counts", "patches", "regions", "worth")  # one more: CONTRIBUTING.md


def papers() -> tuple[Paper, ...]:
    """The papers that have a package here; $WSL_PAPERS (module names, commas) replaces them.

    Raises ValueError where an experiment and the ledger do not fit together.
    """
    from . import ledger

    names = [f"{__name__}.{name}" for name in PAPERS]
    if os.environ.get("WSL_PAPERS"):
        names = os.environ["WSL_PAPERS"].split(",")
    found = tuple(importlib.import_module(name).PAPER for name in names)
    ledger.check(found, ledger.load())
    return found
