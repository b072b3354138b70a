"""A question bank for teachers: each class has its own numbers, answers, and the same checks.

    python -m wsl_tutorial.questions autumn-2026                 the sheet, in Markdown
    python -m wsl_tutorial.questions autumn-2026 --key           with answers and known mistakes
    python -m wsl_tutorial.questions autumn-2026 --chapters 1 5

Every chapter has a quick question with options, homework of one number, and an exam question of
several steps. Students check themselves: `questions.check("presence-of-two", "autumn-2026", 0.42)`.
The questions stand beside the exercises of their chapter, in `wsl_tutorial.exercises`.
"""

import argparse
import random
import reprlib
import sys
from dataclasses import replace
from decimal import Decimal
from difflib import get_close_matches
from itertools import count
from math import inf, isnan
from numbers import Real

import numpy as np
import torch

from .exercises import BANK, CheckFailed, Question
from .exercises.core import leeway

LETTERS = "abcdefgh"


def make(name: str, seed: str) -> Question:
    """Return the question `name` with the numbers of the class `seed`.

    Numbers for which a known mistake gives the right answer, or none, are drawn again.

    Raises: ValueError for a name that is not in the bank, and for a seed without a letter.
    """
    for argument, value in (("name", name), ("seed", seed)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{argument} {value!r} is not a word")
    if name not in BANK:
        alike = get_close_matches(name, BANK, 1)
        meant = f"; did you mean {alike[0]!r}?" if alike else f", only {', '.join(BANK)}"
        raise ValueError(f"name {name!r} is not in the bank{meant}")
    chapter, maker = BANK[name]
    drawn = (maker(random.Random(f"{name} {seed} {attempt}")) for attempt in count())
    question = next(question for question in drawn if distinct(question))
    parts = tuple(
        replace(part, name=f"{name}-{letter}", chapter=chapter)
        for letter, part in zip(LETTERS, question.parts, strict=False)
    )
    return replace(question, name=name, chapter=chapter, parts=parts)


def distinct(question: Question) -> bool:
    """Return whether every known mistake gives an answer, and a wrong one."""
    if question.answer is None:
        return all(map(distinct, question.parts))
    wrong = question.mistakes.values()
    return not any(isnan(w) or near(w, question.answer) for w in wrong)


def near(value: float, answer: float) -> bool:
    """Return whether an answer equals an exact value to three digits."""
    return abs(value - answer) <= leeway(value)


class NoNumber(CheckFailed, ValueError):
    """Raised for an answer that is not a number."""


def check(name: str, seed: str, answer) -> None:
    """Print a line when `answer` is right to three digits, else raise `CheckFailed` with a hint.

    answer: a number, or a tensor or an array of one number; for a question with options the letter
        of one; for an exam a list of answers to its parts, None for a part that is left out.
    Raises: ValueError as `make`, and for a text, which a person marks; `NoNumber`, which is both,
        for an answer that is not a number.
    """
    question = make(name, seed)
    if question.parts:
        given = answer if isinstance(answer, list | tuple) else [answer]
        if len(given) != len(question.parts):
            raise NoNumber(f"{name} has {len(question.parts)} parts, each with an answer or None")
        for part, one in zip(question.parts, given, strict=True):
            if one is not None:
                _check_one(part, one)
    else:
        _check_one(question, answer)
    print(f"✓ {name}")


def _check_one(question: Question, answer) -> None:
    if question.answer is None:
        raise ValueError(f"{question.name} is a text: a person marks it")
    letters = LETTERS[: len(question.options)]
    chosen = isinstance(answer, str) and len(answer) == 1 and answer in letters
    value = letters.index(answer) if chosen else number(answer)
    if not near(question.answer, value):
        known = [hint for hint, wrong in question.mistakes.items() if near(wrong, value)]
        part = f"{question.name}: " if question.level == "exam" else ""
        raise CheckFailed(part + (known[0] if known else "not a mistake that we know: start again"))


def number(answer) -> float:
    """Return the one number that an answer consists of. Raises `NoNumber` for anything else."""
    try:
        value = (
            answer.item() if isinstance(answer, torch.Tensor | np.ndarray | np.generic) else answer
        )
        if isinstance(value, complex) and value.imag == 0:
            value = value.real
        if isinstance(value, Real | Decimal) and not isinstance(value, bool):
            return float(value)
    except OverflowError:
        return inf
    except (RuntimeError, ValueError):  # more than one number, or a tensor without values
        pass
    shown = " ".join(reprlib.repr(answer).split())
    raise NoNumber(f"answer {shown} is not a number, as 0.42 is")


def sheet(seed: str, chapters: list[int] | None = None, key: bool = False) -> str:
    """Return the questions of some chapters, or of all, in Markdown; with `key` their answers."""
    lines = [f"# Questions for {seed}"]
    for name, (chapter, _) in BANK.items():
        if chapters and chapter not in chapters:
            continue
        question = make(name, seed)
        head = f"**{name}** (chapter {chapter}, {points(question)})."
        lines += ["", f"{head} {question.text}".strip()]
        for letter, part in zip(LETTERS, question.parts, strict=False):
            lines += ["", f"({letter}) {part.text} [{points(part)}]"]
            lines += _below(part, key)
        lines += _below(question, key)
    return "\n".join(lines) + "\n"


def points(question: Question) -> str:
    """Return the number of points of a question, in words."""
    return f"{question.points} point{'s' * (question.points != 1)}"


def written(question: Question, answer: float) -> str:
    """Return an answer to a question as a student writes it: a letter, a count, or four digits."""
    if question.options:
        return LETTERS[int(answer)]
    whole = float(answer).is_integer() and abs(answer) < 1e9
    return f"{answer:.0f}" if whole else f"{answer:.4g}"


def _below(question: Question, key: bool) -> list[str]:
    """Return the options of a question; with `key` also answer, solution, and mistakes or marks."""
    options = list(zip(LETTERS, question.options, strict=False))
    lines = ["", *(f"- ({letter}) {option}" for letter, option in options)] if options else []
    if not key or question.parts:
        return lines

    def shown(value: float) -> str:
        return f"({written(question, value)})" if options else written(question, value)

    if question.answer is not None:
        lines += ["", f"Answer: {shown(question.answer)}"]
    lines += ["", question.solution, ""]
    lines += [f"- {shown(wrong)}: {hint}" for hint, wrong in question.mistakes.items()]
    return lines + [f"- 1 point: {mark}" for mark in question.marks]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("seed", help="the name of the class: another name, other numbers")
    chapters = sorted({chapter for chapter, _ in BANK.values()})
    parser.add_argument("--chapters", type=int, nargs="+", choices=chapters, help="only these")
    parser.add_argument("--key", action="store_true", help="with answers and known mistakes")
    options = parser.parse_args(arguments)
    try:
        print(sheet(options.seed, options.chapters, options.key), end="")
    except ValueError as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
