"""The reproduction of every number in the papers: `python -m wsl_tutorial.reproduce`."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .experiment import Paper


def papers() -> tuple[Paper, ...]:
    """Return the papers in the order of their chapters; those without a chapter come last.

    A paper is a package of this folder that exports PAPER. $WSL_PAPERS (module names, separated by
    commas) replaces them. Raises ValueError if an experiment and the ledger do not fit together.
    """
    from . import ledger

    names = [f"{__name__}.{found.name}" for found in pkgutil.iter_modules(__path__) if found.ispkg]
    if os.environ.get("WSL_PAPERS"):
        names = os.environ["WSL_PAPERS"].split(",")
    found = tuple(sorted(filter(None, map(load, names)), key=chapter))
    ledger.check(found, ledger.load())
    return found


def load(name: str) -> Paper | None:
    """Import a paper with its audit, if it has one; None if the module exports no PAPER."""
    module = importlib.import_module(name)
    paper, folder = getattr(module, "PAPER", None), getattr(module, "__path__", ())
    if paper is None or "audit" not in {part.name for part in pkgutil.iter_modules(folder)}:
        return paper
    audit = importlib.import_module(f"{name}.audit").AUDIT
    return dataclasses.replace(paper, room=name.rpartition(".")[2], audit=audit)


def chapter(paper: Paper) -> float:
    """Return the number of the chapter on a paper; infinity if it has none."""
    return paper.audit.chapter if paper.audit else math.inf
