"""Weak supervision, by reproduction: each formula of the book once, tested."""

__version__ = "0.1.0"
