"""Every exercise of the book, chapter by chapter, and the questions for a class."""

from importlib import import_module
from pkgutil import iter_modules

from .core import BANK, CheckFailed, Exercise, Question, attempt

__all__ = ["BANK", "EXERCISES", "CheckFailed", "Exercise", "Question", "attempt"]

EXERCISES = {
    name: part
    for module in iter_modules(__path__)
    if module.name.startswith("ch")
    for name, part in vars(import_module(f"{__name__}.{module.name}")).items()
    if isinstance(part, Exercise)
}
