"""Chapter 15: the audit."""

from math import isclose
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import counts
from .core import Question, asked, choice, double, essay, exam, exercise, solution

NONE, ONE = 0.95**20, 0.95**19  # of twenty tests none fails, or one does: 20 * 0.05 is 1


@exercise(
    praise="one failure is a little more likely than none",
    mistakes={
        "multiply the probabilities of passing; only the expected number is a sum": (
            lambda: (0, 1, 1)
        ),
        "any of the twenty may be the one that fails: a factor is missing": (
            lambda: (NONE, ONE / 20, 1)
        ),
        "exactly one: the other nineteen pass": lambda: (NONE, 1, 1),
        "that is the probability of one failure or more": lambda: (NONE, 1 - NONE, 1),
        "the expected number is a sum of twenty probabilities": lambda: (NONE, ONE, 0.05),
        "that all twenty fail is not that none does": lambda: (0.05**20, ONE, 1),
    },
)
def twenty_claims() -> tuple:
    """Return 20 true claims, 5 % each: P(none fails), P(one fails), expected failures."""
    return NONE, ONE, 1


@asked
def failures_by_luck(r: Random) -> Question:
    claims, percent = r.randint(3, 25), r.randint(1, 10)
    alpha = percent / 100
    return Question(
        f"A list has {claims} true claims; each is tested independently and called false with a "
        f"probability of {percent} %. With which probability is at least one called false?",
        1 - (1 - alpha) ** claims,
        {
            "this is the expected number of failures": claims * alpha,
            "this is the probability that none fails": (1 - alpha) ** claims,
            "this is the probability that exactly one fails": (
                claims * alpha * (1 - alpha) ** (claims - 1)
            ),
        },
        solution=f"One minus the probability that none is: $1 - {1 - alpha:g}^{{{claims}}}$.",
    )


def _at_most() -> list[tuple[Tensor]]:
    """Return log P(count <= k) of two bags, right to the last digit."""
    logits = double([[0.5, -1.0, 2.0, 0.0, -0.5], [-9.0, -11.0, -8.0, -12.0, -10.0]])
    above = counts.log_distribution(logits).exp().flip(1).cumsum(1).flip(1)[:, 1:]
    return [(row,) for row in F.pad(torch.log1p(-above), (0, 1))]


@exercise(
    praise="expm1 is accurate where a difference of exp is not",
    cases=_at_most(),
    signs={
        "the digits are gone: factor the larger out, expm1 keeps the rest": lambda a: (
            a.isinf().any()
        )
    },
    mistakes={
        "subtract probabilities, not their logarithms": lambda x: x.diff(prepend=x[:1]),
        "exactly 0 is at most 0: the first number stays": (
            lambda x: F.pad(solution.exactly(x)[1:], (1, 0))
        ),
        "log P(0) belongs at the front: it is at_most[0]": lambda x: solution.exactly(x).roll(-1),
        "these are probabilities; the exercise asks for logarithms": (
            lambda x: solution.exactly(x).exp()
        ),
        "this is the logarithm of a difference of logarithms": (
            lambda x: torch.cat([x[:1], x.diff().log()])
        ),
    },
)
def exactly(at_most: Tensor) -> Tensor:
    """Return log P(count = k) from log P(count <= k), (at_most (n+1,)) -> (n+1,)."""
    apart = torch.log(-torch.expm1(-at_most.diff()))
    return torch.cat([at_most[:1], at_most[1:] + apart])


def _attention() -> Tensor:
    scores = 1.5 * torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(15))
    return scores.flatten(1).softmax(1).view_as(scores)


@exercise(
    praise="uniform attention selects nothing",
    cases=[(_attention(), 0, 1.0), (_attention(), 2, 2.0)],
    mistakes={
        "attention adds up to 1 for each class: uniform attention is 1 / (h w)": (
            lambda a, label, times: a[label] > times / a.numel()
        ),
        "multiply the uniform attention by `times`": lambda a, label, times: solution.attended(
            a, label, 1
        ),
        "divide by the number of positions, not by one side": (
            lambda a, label, times: a[label] > times / len(a[0])
        ),
        "no arg-max: a position may be above it for several classes": (
            lambda a, label, times: a.argmax(0) == label
        ),
        "more than, not less than": lambda a, label, times: ~solution.attended(a, label, times),
    },
)
def attended(attention: Tensor, label: int, times: float) -> Tensor:
    """Return positions above times the uniform attention, (attention (C, h, w), label, times)."""
    return attention[label] > times / attention[0].numel()


def _digits() -> tuple[Tensor, Tensor]:
    """Return which of 3 detections hits which of 7 places, and which places hold a digit."""
    able = torch.rand(4, 3, 7, generator=torch.Generator().manual_seed(15)) < 0.3
    return able, torch.arange(7) < torch.tensor([7, 4, 5, 2])[:, None]


def found(able: Tensor, present: Tensor) -> Tensor:
    """Return the present digits that some detection hits, bool (B, L)."""
    return able.any(1) & present


@exercise(
    praise="the denominator is the number of objects, whatever was detected",
    cases=[_digits()],
    mistakes={
        "divide by the digits that are there, not by the detections": (
            lambda able, present: found(able, present).sum() / able[..., 0].numel()
        ),
        "padding is no digit: divide by the digits that are present": (
            lambda able, present: found(able, present).sum() / present.numel()
        ),
        "padding is found by accident: leave it out": (
            lambda able, present: able.any(1).sum() / present.sum()
        ),
        "a digit found twice is found once": (
            lambda able, present: (able & present[:, None]).sum() / present.sum()
        ),
        "these are the detections that hit something, not the digits that are found": (
            lambda able, present: (able & present[:, None]).any(2).sum() / present.sum()
        ),
        "the mean over images is another measure: count digits of all images together": (
            lambda able, present: (found(able, present).sum(1) / present.sum(1)).mean()
        ),
    },
)
def share_found(able: Tensor, present: Tensor) -> Tensor:
    """Return share of present digits found, (able (B, K, L), present (B, L)) -> scalar."""
    return found(able, present).sum() / present.sum()


@asked
def uniform_share(r: Random) -> Question:
    classes, side, other = r.randint(2, 6), r.randint(7, 12), r.randint(13, 16)
    even = torch.zeros(classes, side, other).flatten(1).softmax(1)[0, 0].item()
    shares = {
        side * other: "",
        classes * side * other: "attention adds up to one for each class, not over the classes",
        side: "divide by the number of positions, not by one side",
        classes: "attention is distributed over the positions, not over the classes",
    }
    return choice(
        r,
        f"An attention map of {classes} classes has {side} x {other} positions; for each class it "
        "adds up to one over the positions. Which attention does a position get from a class that "
        "prefers none?",
        *((f"1/{n}", isclose(1 / n, even, rel_tol=1e-5), hint) for n, hint in shares.items()),
        solution=f"Uniform attention over {side * other} positions, $1/{side * other}$.",
    )


@asked
def claims_of_a_list(r: Random) -> Question:
    m, percent = r.randint(5, 30), r.randint(2, 10)
    alpha = percent / 100
    none = (1 - alpha) ** m
    one = m * alpha * (1 - alpha) ** (m - 1)
    return exam(
        f"A list has {m} true claims. Each is tested independently and called false with a "
        f"probability of {percent} %.",
        Question(
            "With which probability is none called false?",
            none,
            {
                "this is the probability that one is called false, or more": 1 - none,
                "probabilities of independent events multiply": 1 - m * alpha,
            },
            solution=f"${1 - alpha:g}^{{{m}}} = {none:.4g}$.",
        ),
        Question(
            "With which probability is exactly one called false?",
            one,
            {
                "any of the claims may be the one": one / m,
                "this is the probability of one or more": 1 - none,
                "the others have to pass": m * alpha,
            },
            solution=f"${m} \\cdot {alpha:g} \\cdot {1 - alpha:g}^{{{m - 1}}} = {one:.4g}$.",
        ),
        Question(
            "How many are called false in the mean?",
            m * alpha,
            {"this is the probability of one or more": 1 - none, "sum over the claims": alpha},
            solution=f"${m} \\cdot {alpha:g} = {m * alpha:.4g}$.",
        ),
        essay(
            "One claim of the list was called false. Explain in two sentences what a reader may "
            "conclude, and which further facts decide about the claim.",
            f"even if all {m} claims are true, one or more are called false with a probability of "
            f"{100 * (1 - none):.0f} %",
            "the size of the gap and its uncertainty decide, or a test of this claim anew",
            solution=f"If all {m} claims are true, one or more are called false with a probability "
            f"of {100 * (1 - none):.0f} %, so a failure alone does not prove that its claim is "
            "wrong. How large the gap is beside its uncertainty, and whether it comes again with "
            "new seeds, says more.",
        ),
    )
