"""Angles, Jin et al. (2021), arXiv 1907.11178: learning where things are from a bag of labels."""

from .experiments import PAPER

__all__ = ["PAPER"]
