"""Belharbi et al. (2020), arXiv 1907.12934: min-max entropy, masks from the class of an image."""

from .experiments import PAPER

__all__ = ["PAPER"]
