"""Check an exercise: `check.attempt(check.two_points, two_points)` prints praise or a hint.

Every exercise of `wsl_tutorial.exercises` is a function of this module; the package is the
solution sheet.
"""

from .exercises import EXERCISES, CheckFailed, attempt

__all__ = ["CheckFailed", "attempt"]
globals().update(EXERCISES, __all__=[*__all__, *EXERCISES])
