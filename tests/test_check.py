"""Every exercise check takes the right answer and names each well-known wrong one."""

import inspect
from math import comb, factorial, prod

import exercises_audit
import exercises_counts
import exercises_counts_reproduction
import exercises_learning
import exercises_patches
import exercises_regions
import exercises_reproduction
import exercises_worth
import pytest
import torch
from torch.autograd import grad

from wsl_tutorial import check, presence, toy


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
