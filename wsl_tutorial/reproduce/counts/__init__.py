"""Baručić & Kybic (2022), arXiv 2110.03426: learning from counts (chapters 5 to 7)."""

from .claims import PAPER

__all__ = ["PAPER"]
