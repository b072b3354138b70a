"""Li (2018), arXiv 1811.12346: learning from which classes are present (chapters 1 to 4)."""

from .experiments import PAPER

__all__ = ["PAPER"]
