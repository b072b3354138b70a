"""Every exercise takes the right answer and names each well-known wrong one."""

import re
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from solutions import SOLUTIONS, UNKNOWN
from torch.nn import functional as F

from wsl_tutorial import check, counts, metrics, presence
from wsl_tutorial.exercises import EXERCISES, core
from wsl_tutorial.exercises.core import MOST, close


def as_reader(exercise, function):
    """A function of a case as one that a reader writes: by hand it takes no arguments."""
    return (lambda: function(*exercise.cases[0])) if exercise.by_hand else function


ANSWERED = [
    (exercise, SOLUTIONS.get(name) or as_reader(exercise, exercise.right))
    for name, exercise in EXERCISES.items()
]
RIGHT = {exercise.name: right for exercise, right in ANSWERED}
WRONG = [
    (exercise, hint, as_reader(exercise, wrong))
    for exercise in EXERCISES.values()
    for hint, wrong in exercise.mistakes.items()
]
every = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)
answered = pytest.mark.parametrize(("exercise", "right"), ANSWERED, ids=EXERCISES)


@answered
def test_the_right_answer_passes_with_one_line(exercise, right, capsys):
    exercise(right)
    assert capsys.readouterr().out == f"✓ {exercise.name}: {exercise.praise}\n"


@pytest.mark.parametrize(("exercise", "hint", "wrong"), WRONG)
def test_a_wrong_answer_is_named(exercise, hint, wrong, capsys):
    with pytest.raises(check.CheckFailed, match=f"^{re.escape(hint)}$"):
        exercise(wrong)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "wrong", "hint"), UNKNOWN)
def test_an_unknown_wrong_answer_gets_a_hint(name, wrong, hint):
    with pytest.raises(check.CheckFailed, match=hint):
        EXERCISES[name](wrong)


def test_the_loss_of_the_page_is_a_right_answer():
    """The dtypes of the case fit: `observed / n` is float32."""
    check.dllp_loss(lambda z, y: F.binary_cross_entropy(z.sigmoid().mean(1), y / z.shape[1]))


@every
def test_an_answer_that_is_not_returned_is_named(exercise):
    with pytest.raises(check.CheckFailed, match="end it with a return"):
        exercise(lambda *_: None)


def test_the_chapters_call_every_exercise():
    called = []
    for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.py")):
        found = re.findall(r"^check\.attempt\(check\.(\w+), ", path.read_text("utf-8"), re.M)
        assert all(EXERCISES[name].right.__module__[-2:] == path.name[:2] for name in found)
        called += found
    assert sorted(called) == sorted(EXERCISES)
    assert set(SOLUTIONS) <= set(EXERCISES) <= set(check.__all__)


def test_a_law_follows_from_its_sums():
    """The exercise `exactly`, whose cases are made from the law."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.5], [-9.0, -11.0, -8.0, -12.0, -10.0]])
    law = counts.log_distribution(logits.double())
    assert close(check.exactly.answers(check.exactly.right), law)


# Whatever a reader's function does ----------------------------------------------------------------


def raising(error):
    def function(*_):
        raise error

    return function


def endless(*_):
    while True:
        yield 1


def itself(*_):
    found = []
    found.append(found)
    return found


def too_deep(*arguments):
    return too_deep(*arguments)


class Unprintable(Exception):
    def __str__(self):
        raise ValueError


def answering(value):
    return lambda *_: value


VALUES = {
    "None in a tuple": (0.5, None, 0.5),
    "None in a list": [None] * 3,
    "a string": "0.8",
    "a long string": "x" * 10**6,
    "strings": ("0.8", "0.75", "0.625"),
    "bytes": b"0.8",
    "a dictionary": {"p": 0.8},
    "a set": {1, 2},
    "an empty list": [],
    "lists of other lengths": [[1.0], [1.0, 2.0]],
    "one number": -17.25,
    "many numbers": [0.25] * 1000,
    "too many numbers": [0.25] * (MOST + 1),
    "a list of tensors": [torch.ones(2)] * 3,
    "a list of tensors of other shapes": [torch.ones(2), torch.ones(3), torch.ones(())],
    "an empty tensor": torch.empty(0),
    "a tensor of another shape": torch.full((3, 1, 2, 2, 2), 0.3),
    "a huge tensor": torch.zeros(1).expand(10**12),
    "a tensor on no device": torch.ones(3, device="meta"),
    "a complex tensor": torch.tensor([0.5 + 1j] * 3),
    "a complex number": 0.8 + 1j,
    "a sparse tensor": torch.eye(3).to_sparse(),
    "a nested tensor": torch.nested.nested_tensor(
        [torch.ones(2), torch.ones(3)], layout=torch.jagged
    ),
    "a tensor of NaN": torch.full((3,), torch.nan),
    "infinity": float("inf"),
    "a large whole number": 10**400,
    "a large fraction": Fraction(10**400),
    "an array": np.full((3, 2), 0.123),
    "an array of objects": np.array([None, "a", 1], dtype=object),
    "an array of strings": np.array(["a", "b"]),
    "a huge array": np.broadcast_to(np.zeros(1), (10**7, 10**7)),
    "a class": float,
    "a module": torch.nn.Linear(2, 2),
    "a function": len,
    "an object": object(),
}
DEEDS = {
    "endless": endless,
    "itself": itself,
    "too deep": too_deep,
    "no arguments": lambda: 1,
    "too many arguments": lambda a, b, c, d, e, f, g: 1,
    "no function": None,
    **{
        type(e).__name__: raising(e)
        for e in (
            *(ValueError("x\ny"), KeyError("a"), NotImplementedError(), MemoryError(), OSError()),
            *(SystemExit(1), GeneratorExit(), RecursionError(), AssertionError(), StopIteration()),
            *(Unprintable(), RuntimeError("long " * 1000), ZeroDivisionError(), Warning("w")),
        )
    },
}
ZOO = {name: answering(value) for name, value in VALUES.items()} | DEEDS


@every
def test_whatever_a_function_does_is_a_hint_in_one_line(exercise, capsys):
    for name, function in ZOO.items():
        check.attempt(exercise, function)
        printed = capsys.readouterr().out
        assert printed.startswith("✗ not yet: "), name
        assert printed.count("\n") == 1, name
        assert 20 < len(printed) < 400, name


@answered
def test_a_function_that_changes_its_arguments_does_not_change_the_case(exercise, right, capsys):
    def spoiling(*arguments):
        answer = right(*(a.clone() if torch.is_tensor(a) else a for a in arguments))
        for a in arguments:
            if torch.is_tensor(a):
                a.detach().zero_()
            elif isinstance(a, list):
                a.clear()
        return answer

    if exercise is check.floored:  # its gradient is looked at: there the argument is the case
        spoiling = right
    exercise(spoiling)
    assert capsys.readouterr().out.startswith("✓")


@answered
def test_an_answer_that_is_right_but_for_its_dress_is_taken_or_named(exercise, right, capsys):
    """As arrays, float64 or complex with nothing imaginary: taken; with something: named."""

    def dressed(change):
        def each(value):
            if torch.is_tensor(value):
                return change(value.detach())
            return [each(v) for v in value] if isinstance(value, list | tuple) else value

        return lambda *arguments: each(right(*arguments))

    if exercise is not check.floored:
        for change in (lambda t: t.numpy(), lambda t: t.to(torch.complex128), lambda t: t.double()):
            exercise(dressed(change))
            assert capsys.readouterr().out.startswith("✓")
    imaginary = dressed(lambda t: t + 1e-9j)
    with (
        pytest.raises(check.CheckFailed, match="complex")
        if _has_tensor(right, exercise)
        else (nullcontext())
    ):
        exercise(imaginary)


def _has_tensor(right, exercise) -> bool:
    """Whether a right answer holds a tensor."""
    found = []

    def watch(*arguments):
        answer = right(*arguments)
        parts = answer if isinstance(answer, list | tuple) else [answer]
        found.append(any(torch.is_tensor(p) for p in parts))
        return answer

    exercise(watch)
    return found[0]


def test_a_reader_who_stops_the_cell_stops_it():
    with pytest.raises(KeyboardInterrupt):
        check.attempt(check.two_points, raising(KeyboardInterrupt()))


def test_the_hint_says_what_was_raised_or_returned():
    cases = {
        "two_points raises ValueError: x y": raising(ValueError("x\n  y")),
        "two_points raises SystemExit: 3": raising(SystemExit(3)),
        "two_points returns a dict": answering({"p": 1}),
        "two_points returns a str, '0.8'": answering(("0.8", "0.75", "0.625")),
        "two_points returns nothing": answering((0.8, None, 0.625)),
        "two_points returns a complex number": answering((0.8, 0.75, 0.625 + 1j)),
        r"the shape should be \(3,\), not \(3, 2\)": answering([torch.ones(2)] * 3),
        r"differ in shape: \(1,\) and \(2,\)": answering([[1.0], [1.0, 2.0]]),
    }
    for hint, function in cases.items():
        with pytest.raises(check.CheckFailed, match=hint):
            check.two_points(function)


def test_numbers_beside_the_list_are_no_dress():
    """A k outside 0 .. n, a padded reading and a digit of 2.7 were taken for right."""
    with pytest.raises(check.CheckFailed, match="a whole number from 0 to"):
        check.shares_behind(lambda e, n: [*metrics.counts_behind(e, n), -5])
    with pytest.raises(check.CheckFailed):
        check.collapse(lambda row, b: [*RIGHT["collapse"](row, b), -1])
    with pytest.raises(check.CheckFailed):
        check.transcription(lambda h: [d + 0.7 for d in RIGHT["transcription"](h)])
    with pytest.raises(check.CheckFailed, match="let autograd see"):
        check.floored(lambda p, eta: RIGHT["floored"](p, eta).detach())


@every
def test_every_hint_can_show(exercise):
    """No known mistake gives the right answer, another shape, or the answer of another mistake."""
    answers = [exercise.answers(f) for f in (exercise.right, *exercise.mistakes.values())]
    assert {a.shape for a in answers} == {answers[0].shape}
    pairs = [(a, b) for i, a in enumerate(answers) for j, b in enumerate(answers) if i != j]
    assert not [pair for pair in pairs if exercise.fits(*pair).all()]


# Numbers that are worked out by hand --------------------------------------------------------------

BY_HAND = [e for e in EXERCISES.values() if e.by_hand or tuple(e.cases) == ((),)]
by_hand = pytest.mark.parametrize("exercise", BY_HAND, ids=lambda e: e.name)


@by_hand
def test_a_number_by_hand_may_be_rounded_to_three_digits_or_decimals(exercise, capsys):
    exact = exercise.answers(exercise.right).tolist()
    for rounded in ([round(x, 3) for x in exact], [float(f"{x:.3g}") for x in exact]):
        exercise(lambda rounded=rounded: rounded)
        assert capsys.readouterr().out.startswith("✓")


@by_hand
def test_a_number_by_hand_needs_its_third_digit(exercise):
    exact = exercise.answers(exercise.right).tolist()
    for place, value in enumerate(exact):
        wrong = [*exact[:place], value * 1.01 + 1e-3, *exact[place + 1 :]]
        with pytest.raises(check.CheckFailed):
            exercise(lambda wrong=wrong: wrong)


def test_the_numbers_that_the_solutions_print_are_taken(capsys):
    printed = {
        "three_instances": (0.45, 0.444, 0.444, 0.111),
        "half_found": (0.333, 0.184),
        "three_entropies": (1.5, 1.667, 0.082),
        "three_looks": (0.881, 0, 0.881, 0.797),
        "twenty_claims": (0.358, 0.377, 1),
    }
    for name, numbers in printed.items():
        EXERCISES[name](answering(numbers))
        assert capsys.readouterr().out.startswith("✓")


def test_a_hint_shows_where_and_how_an_answer_differs():
    """It was "expected 0.1, 0.2, got 0.1, 0.2", or four equal numbers of many."""
    made = core.exercise(praise="", mistakes={}, cases=[(0,)])
    six = [0.1, 0.2, 0.3, 0.4, 0.5, 0.61234567]
    cases = [
        ([1 / 3, 2.0], [1 / 3 + 1e-4, 2.0], "expected 0.3333, 2, got 0.3334, 2"),
        ([0.377354, 1.0], [0.3774, 1.0], "expected 0.37735, 1, got 0.3774, 1"),
        ([-0.1, -31.381], [-0.1, -31.3772], "expected -0.1, -31.381, got -0.1, -31.377"),
        (six, [*six[:5], 0.7], "expected ..., 0.6123, got ..., 0.7"),
        (six, [*six[:4], 0.7, 0.8], "expected ..., 0.5, 0.6123, got ..., 0.7, 0.8"),
        (six, [0.7, *six[1:]], "expected 0.1, 0.2, 0.3, 0.4, ..., got 0.7, 0.2, 0.3, 0.4, ..."),
    ]
    for right, wrong, hint in cases:
        with pytest.raises(check.CheckFailed, match=f"^{re.escape(hint)}$"):
            made(answering(right))(answering(wrong))


@every
def test_a_hint_with_numbers_never_shows_the_same_twice(exercise):
    """For answers a little off: by three times the tolerance in one place, or in all."""
    right = exercise.answers(exercise.right)
    for place in (0, -1, slice(None)):
        wrong = right.clone().flatten()
        wrong[place] += 3e-4 * wrong[place].abs() + 3e-6
        wrong = wrong.view_as(right)
        misfit = exercise.fits(wrong, right)
        if not misfit.all():
            expected, got = core.rows(right, wrong, misfit)
            assert expected != got


def test_the_package_solves_its_own_exercises(capsys):
    def by_package(log_p, label):
        labels = torch.zeros(len(log_p), log_p.shape[1] - 1, dtype=torch.bool)
        labels[:, label] = True
        return presence.log_likelihood(log_p, labels)

    check.one_label(by_package)
    check.attempt(check.one_label, by_package)
    check.attempt(check.one_label, lambda log_p, label: by_package(log_p, label).exp())
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == second
    assert third == "✗ not yet: this is the probability; the exercise asks for its logarithm"
