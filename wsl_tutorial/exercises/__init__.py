"""Every exercise of the book, chapter by chapter, and the questions for a class."""

from importlib import import_module

from .core import BANK, CheckFailed, Exercise, Question, attempt

__all__ = ["BANK", "EXERCISES", "CheckFailed", "Exercise", "Question", "attempt"]

EXERCISES = {
    name: part
    for chapter in range(17)
    for name, part in vars(import_module(f"{__name__}.ch{chapter:02}")).items()
    if isinstance(part, Exercise)
}
