"""Exercises: a solution with cases, and well-known mistakes, each under the hint that names it.

Notebooks call an exercise with the reader's function; questions for a class ask for one number of
the same exercise, with numbers of their own.
"""

import random
import re
import reprlib
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import update_wrapper
from itertools import islice
from math import floor, isfinite, log10
from numbers import Real
from types import SimpleNamespace
from typing import SupportsInt, cast

import numpy as np
import torch
from torch import Tensor

MOST = 100_000  # entries of an answer: more are not looked at
RELATIVE, ABSOLUTE = 1e-4, 1e-6  # tolerances of an answer that a program computes


class CheckFailed(AssertionError):
    """Raised when an answer is not right yet; the message says what to look at."""


@dataclass(frozen=True)
class Question:
    """A question with its answer: one number, one of some options, a text, or an exam of parts.

    Args:
        text: the question, Markdown.
        answer: the number, or the index of the right option; None for a text and an exam.
        mistakes: wrong answers (numbers, or indices of options) by the hint that names them.
        options: of a choice, in the order in which they are shown.
        marks: of a text, what earns a point.
        parts: of an exam, its steps; their texts follow `text`.
        solution: how the answer is found, Markdown.
        level: "quick", "homework" or "exam".
        name, chapter: filled in by `questions.make`.
    """

    text: str
    answer: float | None
    mistakes: dict[str, float] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    parts: tuple["Question", ...] = ()
    solution: str = ""
    points: int = 2
    level: str = "homework"
    name: str = ""
    chapter: int = -1

    @property
    def kind(self) -> str:
        if self.parts:
            return "exam"
        return "choice" if self.options else "text" if self.marks else "number"


def choice(r: random.Random, text: str, *options: tuple[str, bool, str], solution: str) -> Question:
    """Return a quick question with options in an order drawn by `r`.

    options: each with its truth, as the package computes it, and the hint for choosing it wrongly.
    Raises: ValueError unless exactly one option is right and all differ.
    """
    drawn = r.sample(options, len(options))
    if sum(bool(true) for _, true, _ in drawn) != 1 or len({o for o, _, _ in drawn}) != len(drawn):
        raise ValueError(f"not exactly one of different options is right: {options}")
    (answer,) = (i for i, (_, true, _) in enumerate(drawn) if true)
    wrong: dict[str, float] = {h: i for i, (_, true, h) in enumerate(drawn) if not true}
    shown = tuple(option for option, _, _ in drawn)
    return Question(text, answer, wrong, options=shown, points=1, level="quick", solution=solution)


def essay(text: str, *marks: str, solution: str) -> Question:
    """Return a question that a person marks, a point for each of `marks`."""
    return Question(text, None, marks=marks, points=len(marks), solution=solution)


def exam(text: str, *parts: Question) -> Question:
    """Return an exam question of several steps."""
    steps = tuple(replace(part, level="exam") for part in parts)
    points = sum(part.points for part in steps)
    return Question(text, None, parts=steps, points=points, level="exam")


@dataclass(eq=False, repr=False)
class Exercise:
    """An exercise; call it with a reader's function to check that function.

    Args:
        right: the solution, a function of one case. Its name is the name of the exercise, and its
            docstring says what is asked for: "Return .., arguments -> shape."
        mistakes: wrong solutions by the hint that names them.
        praise: what is printed when the function is right.
        cases: the arguments that the functions are compared on.
        by_hand: the reader's function takes no arguments; it returns numbers. Such numbers, also
            those of an exercise whose one case is empty, are compared to three digits.
        view: (answer, *case), returns what is compared, if that is not the answer itself.
        signs: by its hint, a function of the answer (a tensor) that is true for a mistake, NaN say.
        look: (ask), raises `CheckFailed` for mistakes that a comparison does not see; `ask` calls
            the reader's function.
    """

    right: Callable
    mistakes: dict[str, Callable]
    praise: str
    cases: Sequence[tuple] = ((),)
    by_hand: bool = False
    view: Callable | None = None
    signs: dict[str, Callable[[Tensor], bool]] = field(default_factory=dict)
    look: Callable[[Callable], None] | None = None

    @property
    def name(self) -> str:
        return self.right.__name__

    def __call__(self, function: Callable) -> None:
        """Print a line if the function is right, else raise `CheckFailed` with a hint.

        The function gets copies of the cases; what it raises becomes a hint, except for
        `KeyboardInterrupt`, with which the reader stops the cell.
        """

        def ask(*arguments):
            given = () if self.by_hand else map(_copy, arguments)
            try:
                return _plain(self.name, function(*given), [MOST])
            except (CheckFailed, KeyboardInterrupt):
                raise
            except BaseException as error:  # SystemExit, too: the notebook goes on
                said = f"{type(error).__name__}: {_short(error)}"
                raise CheckFailed(f"{self.name} raises {said}") from error

        try:
            if self.look:
                self.look(ask)
            self._compare(self.answers(ask))
        except CheckFailed:
            raise
        except Exception as error:  # the comparison cannot take the answer
            form = (self.right.__doc__ or "").removeprefix("Return ")
            raise CheckFailed(f"the answer has another form than this: {form}") from error
        print(f"✓ {self.name}: {self.praise}")

    def answers(self, function: Callable) -> Tensor:
        """Return the answer of a function to the cases, as one tensor."""
        answers = []
        for case in deepcopy(self.cases):
            answer = function(*case)
            answers.append(self.view(answer, *case) if self.view else answer)
        return tensor(answers if len(answers) > 1 else answers[0])

    def _compare(self, answer: Tensor) -> None:
        """Compare with the right answer, then with those of the known mistakes."""
        for hint, shown in self.signs.items():
            refuse(shown(answer), hint)
        right = self.answers(self.right)
        if answer.shape != right.shape:
            expected, got = tuple(right.shape), tuple(answer.shape)
            raise CheckFailed(f"the shape should be {expected}, not {got}")
        fits = self.fits(answer, right)
        if not fits.all():
            for hint, wrong in self.mistakes.items():
                refuse(self.fits(answer, self.answers(wrong)).all(), hint)
            expected, got = rows(right, answer, fits)
            raise CheckFailed(f"expected {expected}, got {got}")

    def fits(self, answer: Tensor, right: Tensor) -> Tensor:
        """Return where an answer equals another one, which is exact: bool, of their shape.

        Numbers that are worked out by hand need three digits or three decimals, all others are
        compared up to rounding.
        """
        if self.by_hand or tuple(self.cases) == ((),):
            allowed = right.clone().apply_(lambda value: max(leeway(value), 5e-4))
            return (answer - right).abs() <= allowed
        return torch.isclose(answer, right, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)

    def question(
        self,
        text: str,
        *arguments,
        number: Callable | int | tuple = (),
        without: str = "$^",
        more: dict[str, float] | None = None,
        solution: str = "",
    ) -> Question:
        """Return a question for one number of this exercise.

        Args:
            text, arguments: the question, and the case that it describes.
            number: which number of the answer, or a function of the answer.
            without: a regular expression; hints with it have no meaning for this number.
            more: the answers of further mistakes.
            solution: how the answer is found.
        """

        def value(function: Callable) -> float:
            answer = tensor(function(*arguments))
            return float(number(answer) if callable(number) else answer[number])

        mistakes = {h: value(f) for h, f in self.mistakes.items() if not re.search(without, h)}
        return Question(text, value(self.right), mistakes | (more or {}), solution=solution)


# Solutions by name, for mistakes: a decorator cannot refer to the function that it decorates.
solution = SimpleNamespace()


def exercise(**parts) -> Callable[[Callable], Exercise]:
    """Make an exercise of the function below, its solution, and of the parts of an `Exercise`."""

    def made(right: Callable) -> Exercise:
        setattr(solution, right.__name__, right)
        found = Exercise(right, **parts)
        update_wrapper(found, right)
        return found

    return made


def attempt(check: Exercise, function: Callable) -> None:
    """Check a reader's function, and print the hint if it fails, so that a notebook goes on."""
    try:
        check(function)
    except CheckFailed as hint:
        print("✗ not yet:", hint)


Maker = Callable[[random.Random], Question]
BANK: dict[str, tuple[int, Maker]] = {}  # name: (chapter, maker)


def asked(maker: Maker) -> Maker:
    """Enter a maker of questions into the bank, under its name with dashes."""
    BANK[maker.__name__.replace("_", "-")] = (int(maker.__module__[-2:]), maker)
    return maker


# Used by several chapters -------------------------------------------------------------------------


def refuse(condition, hint: str) -> None:
    """Raise `CheckFailed` with a hint if the condition holds."""
    if condition:
        raise CheckFailed(hint)


def random_log_p(*shape: int, seed: int = 0) -> Tensor:
    """Return random log-probabilities (B, k, *positions) over the channel axis, float64."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(1)


def double(values) -> Tensor:
    """Return numbers as a tensor, float64."""
    return torch.tensor(values, dtype=torch.float64)


def gradient(function: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """Return the gradient of the sum of a function's values."""
    leaf = at.detach().clone().requires_grad_()
    return torch.autograd.grad(function(leaf).sum(), leaf)[0]


def some(r: random.Random, low: float, high: float, number: int = 1) -> list[float]:
    """Draw different numbers of two digits after the point."""
    return [x / 100 for x in r.sample(range(round(100 * low), round(100 * high) + 1), number)]


def emissions(r: random.Random, number: int = 3) -> tuple[str, Tensor]:
    """Draw the first sentence of a question, and its log-probabilities (1, 3, number)."""
    rows = []
    for _ in range(number):
        a, b = r.randint(1, 4), r.randint(1, 4)
        rows.append([a / 10, b / 10, (10 - a - b) / 10])
    many = {2: "Two", 3: "Three"}[number]
    text = f"{many} positions emit A, B or the background with probabilities "
    return text + "; ".join(map(listed, rows)) + ".", double(rows).log().T[None]


def or_background(p: Sequence[float]) -> Tensor:
    """Return log-probabilities (1, 2, n) of a class and the background at n positions."""
    return torch.stack([double(p), 1 - double(p)]).log()[None]


def padded(reading, *case) -> Tensor:
    """Return a reading of at most nine digits as ten numbers: its digits, padding, its length."""
    return torch.tensor([*reading, *[-1] * (9 - len(reading)), len(reading)])


def listed(values) -> str:
    """Return numbers as words of a question."""
    return ", ".join(f"{v:g}" for v in values)


# What an answer may be ----------------------------------------------------------------------------


def _copy(argument):
    """Return what a function may change; a leaf of autograd stays itself, for its gradient."""
    if torch.is_tensor(argument):
        return argument if argument.requires_grad else argument.clone()
    return deepcopy(argument) if isinstance(argument, list) else argument


def _short(value) -> str:
    """Return the beginning of a text, in one line."""
    try:
        text = " ".join(str(value).split())
    except Exception:
        return "..."
    return text if len(text) <= 120 else f"{text[:120]}..."


def _plain(name: str, value, room: list[int]):
    """Return an answer as numbers, dense tensors and lists of them.

    room: one number, how many entries may still come. Raises `CheckFailed` for anything else.
    """
    if value is None:
        raise CheckFailed(f"{name} returns nothing: end it with a return")
    if isinstance(value, range | Iterator):
        value = list(islice(value, room[0] + 1))
    is_array = isinstance(value, np.ndarray | np.generic)
    size = value.numel() if torch.is_tensor(value) else len(value) if _is_list(value) else 1
    room[0] -= max(value.size if is_array else size, 1)
    refuse(room[0] < 0, f"{name} returns more than {MOST:,} numbers")
    if is_array:
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        value = torch.as_tensor(np.array(value)) if numbers else value.tolist()
    if torch.is_tensor(value):
        return _dense(name, value)
    if _is_list(value):
        return [_plain(name, v, room) for v in value]
    if isinstance(value, complex):
        if value.imag:
            raise CheckFailed(f"{name} returns a complex number, {value:.4g}: it should be real")
        value = value.real
    if not isinstance(value, Real | Decimal):
        kind = f"{type(value).__name__}, {reprlib.repr(value)}"
        raise CheckFailed(f"{name} returns a {_short(kind)}: numbers are asked for")
    try:
        return value if isinstance(value, bool | float) else _whole(value)
    except (OverflowError, ValueError):
        raise CheckFailed(f"{name} returns a number that is too large") from None


def _is_list(value) -> bool:
    return isinstance(value, list | tuple)


def _whole(value: Real | Decimal) -> int | float:
    whole = int(
        cast(SupportsInt, value)
    )  # every number of the two has it; typeshed's Real does not
    return whole if value == whole and abs(whole) < 2**53 else float(value)


def _dense(name: str, value: Tensor) -> Tensor:
    refuse(value.is_meta, f"{name} returns a tensor without values")
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    if value.is_complex():
        refuse((value.imag != 0).any(), f"{name} returns complex numbers: they should be real")
        value = value.real
    return value.cpu()


def tensor(value) -> Tensor:
    """Return numbers, tensors and lists of them as one tensor, float64.

    Raises `CheckFailed` where the parts of a list differ in shape.
    """
    if not _is_list(value):
        return torch.as_tensor(value).detach().double()
    parts = [tensor(v) for v in value]
    if len(shapes := {tuple(p.shape): None for p in parts}) > 1:
        first, second = list(shapes)[:2]
        raise CheckFailed(f"the parts of the answer differ in shape: {first} and {second}")
    return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)


def close(a, b) -> bool:
    """Return whether two answers are equal, up to rounding."""
    a, b = tensor(a), tensor(b)
    return a.shape == b.shape and torch.allclose(a, b, RELATIVE, ABSOLUTE, equal_nan=True)


def leeway(value: float) -> float:
    """Return how far from an exact value a number with three digits may be.

    Half a unit of the third digit, so that the rounded value is right; or two thousandths of the
    value, for results that were rounded on the way.
    """
    if not value or not isfinite(value):
        return 1e-9
    unit = 10.0 ** (floor(log10(abs(value))) - 2)
    return max(unit / 2, 2e-3 * abs(value)) + 1e-9


def rows(right: Tensor, answer: Tensor, fits: Tensor) -> tuple[str, str]:
    """Return four numbers of each as words of a hint, the first that does not fit among them.

    They have four digits, or as many as it takes to see that they differ.
    """
    first = int((~fits.flatten()).nonzero()[0])
    start = first if first >= 4 else 0
    both = [x.flatten()[first].item() for x in (right, answer)]
    differ = (d for d in range(4, 18) if len({f"{value:.{d}g}" for value in both}) == 2)
    digits = next(differ, 17)
    return row(right, start, digits), row(answer, start, digits)


def row(values: Tensor, start: int = 0, digits: int = 4) -> str:
    """Return four numbers as words of a hint, with dots for those before and after them."""
    flat = values.flatten()
    shown = [f"{value:.{digits}g}" for value in flat[start : start + 4].tolist()]
    before, after = ["..."] * (start > 0), ["..."] * (len(flat) > start + 4)
    return ", ".join([*before, *shown, *after])
