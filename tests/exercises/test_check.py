"""Every exercise check takes the right answer and names each well-known wrong one."""

import inspect
from contextlib import nullcontext
from fractions import Fraction
from math import comb, factorial, prod

import exercises_audit
import exercises_counts
import exercises_counts_reproduction
import exercises_learning
import exercises_patches
import exercises_regions
import exercises_reproduction
import exercises_worth
import numpy as np
import pytest
import torch
from torch.autograd import grad

from wsl_tutorial import check, metrics, presence, toy


def by_autograd(logits, observe, observed, sign=1, log=True, add="prior"):
    logits = logits.requires_grad_()
    log_p = logits.log_softmax(-1)
    value = toy.log_marginal(log_p, observe, observed)
    (slope,) = grad(sign * (value if log else value.exp()), logits)
    return slope + {"prior": log_p.exp(), "logits": logits, "": torch.zeros(())}[add]


def log_alpha_one(log_p, label):
    return log_p[:, [label, -1]].logsumexp(1).flatten(1).sum(-1)


def log_alpha_phi(log_p):
    return log_p[:, -1].flatten(1).sum(-1)


def one_label(log_p, label):
    alpha = log_alpha_one(log_p, label)
    return alpha + torch.log1p(-(log_alpha_phi(log_p) - alpha).exp())


def missing(log_p):
    """The probability that label 0, and that label 2, is emitted nowhere: (B, 2)."""
    return (1 - log_p[:, [0, 2]].exp()).flatten(2).prod(-1)


def at_least(log_p, labels):
    """At least the labels 0 and 2, which the check asks for."""
    neither = (1 - log_p[:, [0, 2]].exp().sum(1)).flatten(1).prod(-1)
    return (1 - missing(log_p).sum(-1) + neither).log()


def words(L, n, extra=1):
    return sum((-1) ** (L - s) * comb(L, s) * (s + extra) ** n for s in range(L + 1))


def multinomial(c):
    return factorial(sum(c)) // prod(factorial(x) for x in c)


CASES = [
    (
        check.two_points,
        lambda: (0.8, 0.75, 0.625),
        [
            (lambda: (0.5, 0.6, 0.4), "exactly"),
            (lambda: (0.3, 1.0, 1.0), "both"),
            (lambda: (1.0, 0.6, 0.5), "two points of background"),
            (lambda: (0.8, 0.6, 0.5), "divide what is left"),
            (lambda: (0.8, 0.75, 0.6), "expected 0.8, 0.75, 0.625, got 0.8, 0.75, 0.6"),
        ],
    ),
    (
        check.any_foreground,
        lambda h: (h < 3).any(-1, keepdim=True),
        [
            (lambda h: (h < 3).all(-1, keepdim=True), "any, not all"),
            (lambda h: (h > 0).any(-1, keepdim=True), "label 0 is a foreground class"),
            (lambda h: (h == 3).any(-1, keepdim=True), "the last, not label 0"),
            (lambda h: (h < 3).sum(-1, keepdim=True), "you count"),
            (lambda h: (h < 3).any(-1), "the shape should be"),
            (lambda h: None, "end it with a return"),
        ],
    ),
    (
        check.consistent_with_counts,
        multinomial,
        [
            (lambda c: 4 ** sum(c), "every labelling"),
            (lambda c: factorial(sum(c)), "divide by the orders"),
            (lambda c: prod(factorial(x) for x in c), "in the numerator"),
            (lambda c: comb(sum(c), c[0]), "one class only"),
            (lambda c: 7, "expected 12, 1, 120, got 7"),
            (lambda c: None, "end it with a return"),
        ],
    ),
    (
        check.posterior_by_autograd,
        by_autograd,
        [
            (lambda *a: by_autograd(*a, add=""), "add the prior"),
            (lambda *a: by_autograd(*a, sign=-1), "the sign is turned"),
            (lambda logits, *_: logits.softmax(-1), "has not been used"),
            (lambda *a: by_autograd(*a, log=False), "not its logarithm"),
            (lambda *a: by_autograd(*a, add="logits"), "no probabilities before the softmax"),
        ],
    ),
    (
        check.one_label,
        one_label,
        [
            (lambda p, l: p[:, l].flatten(1).sum(-1), "phi may be emitted too"),
            (log_alpha_one, "phi alone too"),
            (lambda p, l: one_label(p, l).exp(), "asks for its logarithm"),
            (lambda p, l: log_alpha_one(p, l) - log_alpha_phi(p), "not a difference of logarithms"),
            (lambda p, l: (1 - (1 - p[:, l].exp()).flatten(1).prod(-1)).log(), "no \\*other\\*"),
        ],
    ),
    (
        check.at_least,
        at_least,
        [
            (presence.log_likelihood, "other classes may appear"),
            (lambda p, l: (1 - missing(p)).prod(-1).log(), "not independent"),
            (lambda p, l: (1 - missing(p).sum(-1)).log(), "taken off twice"),
            (lambda p, l: (1 - at_least(p, l).exp()).log(), "is \\*missing\\*"),
            (lambda p, l: at_least(p, l).exp(), "asks for the logarithm"),
        ],
    ),
    (
        check.count_labellings,
        words,
        [
            (lambda L, n: words(L, n, extra=0), "you forgot phi"),
            (lambda L, n: (L + 1) ** n, "take off those that miss"),
            (lambda L, n: (L + 1) ** n - L * L**n, "went twice"),
        ],
    ),
]
CASES += [*exercises_learning.CASES, *exercises_reproduction.CASES, *exercises_counts.CASES]
CASES += exercises_counts_reproduction.CASES
CASES += exercises_patches.CASES
CASES += exercises_regions.CASES
CASES += exercises_worth.CASES
CASES += exercises_audit.CASES
WRONG = [(c, wrong, hint) for c, _, mistakes in CASES for wrong, hint in mistakes]


@pytest.mark.parametrize(("exercise", "right"), [case[:2] for case in CASES])
def test_the_right_answer_passes_with_one_line(exercise, right, capsys):
    exercise(right)
    printed = capsys.readouterr().out
    assert printed.startswith(f"✓ {exercise.__name__}")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(("exercise", "wrong", "hint"), WRONG)
def test_a_wrong_answer_is_named(exercise, wrong, hint, capsys):
    with pytest.raises(check.CheckFailed, match=hint):
        exercise(wrong)
    assert capsys.readouterr().out == ""


def test_no_exercise_goes_untested():
    here = {
        n
        for n, f in inspect.getmembers(check, inspect.isfunction)
        if f.__module__ == check.__name__
    }
    assert {n for n in here if n[0] != "_"} - {"attempt"} == {case[0].__name__ for case in CASES}


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
    "too many numbers": [0.25] * (check.MOST + 1),
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
EXERCISES = {case[0].__name__: case[0] for case in CASES}


@pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES.keys())
def test_whatever_a_function_does_is_a_hint_in_one_line(exercise, capsys):
    for name, function in ZOO.items():
        check.attempt(exercise, function)
        printed = capsys.readouterr().out
        assert printed.startswith("✗ not yet: "), name
        assert printed.count("\n") == 1, name
        assert 20 < len(printed) < 400, name


@pytest.mark.parametrize(("exercise", "right"), [case[:2] for case in CASES])
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


@pytest.mark.parametrize(("exercise", "right"), [case[:2] for case in CASES])
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
        check.collapse(lambda row, b: [*EXERCISE_RIGHT["collapse"](row, b), -1])
    with pytest.raises(check.CheckFailed):
        check.transcription(lambda h: [d + 0.7 for d in EXERCISE_RIGHT["transcription"](h)])
    with pytest.raises(check.CheckFailed, match="let autograd see"):
        check.floored(lambda p, eta: EXERCISE_RIGHT["floored"](p, eta).detach())


EXERCISE_RIGHT = {case[0].__name__: case[1] for case in CASES}


@pytest.mark.parametrize(("exercise", "right"), [case[:2] for case in CASES])
def test_every_hint_can_show(exercise, right, monkeypatch):
    """No known mistake gives the right answer, another shape, or the answer of another mistake."""
    seen = []
    monkeypatch.setattr(check, "_judge", lambda *arguments: seen.append(arguments))
    exercise(right)
    for _, _, answer, mistakes, _ in seen:
        answers = [check._tensor(a) for a in (answer, *mistakes.values())]
        assert {a.shape for a in answers} == {answers[0].shape}
        assert not [
            (a, b) for i, a in enumerate(answers) for b in answers[:i] if check._close(a, b)
        ]


def test_the_package_solves_its_own_exercises(capsys):
    def by_package(log_p, label):
        labels = torch.zeros(len(log_p), log_p.shape[1] - 1, dtype=torch.bool)
        labels[:, label] = True
        return presence.log_likelihood(log_p, labels)

    check.one_label(by_package)
    check.attempt(check.one_label, by_package)
    check.attempt(check.one_label, log_alpha_one)
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == second
    assert third.startswith("✗ not yet: alpha counts")
