"""What a weak label is worth: every observer of the book on one world; beyond the papers."""

from .experiments import PAPER

__all__ = ["PAPER"]
