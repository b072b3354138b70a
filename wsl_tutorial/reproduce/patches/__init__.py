"""Angles, Jin et al. (2021), arXiv 1811.10725: learning where things are from a bag of labels."""

from .experiments import PAPER

__all__ = ["PAPER"]
