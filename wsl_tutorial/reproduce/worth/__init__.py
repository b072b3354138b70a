"""Compare what weak labels are worth: all observers of the book on one world."""

from ..experiment import Paper
from .claims import CLAIMS
from .experiments import EXPERIMENTS

PAPER = Paper(
    key="worth",
    title="What is a weak label worth?",
    authors="this book",
    year=2026,
    link="https://github.com/weak-supervision/wsl-tutorial",
    experiments=tuple(EXPERIMENTS.values()),
    claims=CLAIMS,
)

__all__ = ["PAPER"]
