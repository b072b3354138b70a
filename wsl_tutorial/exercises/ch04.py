"""Chapter 4: presence, the reproduction."""

from collections.abc import Callable
from math import comb
from random import Random
from statistics import StatisticsError, fmean, pstdev, stdev

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import metrics
from .ch03 import merged
from .core import (
    CheckFailed,
    Question,
    asked,
    choice,
    essay,
    exam,
    exercise,
    listed,
    padded,
    row,
    tensor,
)


def sd(values: list[float], of: Callable = stdev) -> float:
    """Return the standard deviation, 0 of a single run."""
    return of(values) if values[1:] else 0.0


def _look_at_missing_deviations(ask: Callable) -> None:
    for case in tolerance.cases:
        try:
            ask(*case)
        except CheckFailed as failed:
            if isinstance(failed.__cause__, StatisticsError):
                hint = "one run alone has no standard deviation: count it as 0"
                raise CheckFailed(hint) from None
            if case[0] is None:
                raise CheckFailed("the paper may print no ±: None counts as 0") from None
            raise


@exercise(
    praise="this is the gap at which the two error bars touch",
    cases=[(0.04, 0.005, [0.38, 0.32, 0.39, 0.41]), (None, 0.05, [5.4]), (0.0, 0.05, [8.5, 8.52])],
    look=_look_at_missing_deviations,
    mistakes={
        "our own standard deviation over the seeds is missing": lambda p, r, x: max(r, p or 0),
        "the paper's ± is missing": lambda p, r, x: max(r, sd(x)),
        "a gap below half a unit of the last printed decimal cannot be seen: take the larger": (
            lambda p, r, x: (p or 0) + sd(x)
        ),
        "the rounding is not added; it is the smallest allowed gap": (
            lambda p, r, x: r + (p or 0) + sd(x)
        ),
        "this is the standard error; (4.1) takes the standard deviation over the seeds": (
            lambda p, r, x: max(r, (p or 0) + sd(x) / len(x) ** 0.5)
        ),
        "the sample standard deviation divides by n - 1": (
            lambda p, r, x: max(r, (p or 0) + sd(x, pstdev))
        ),
        "the rule adds the two deviations; it takes no root of squares": (
            lambda p, r, x: max(r, ((p or 0) ** 2 + sd(x) ** 2) ** 0.5)
        ),
    },
)
def tolerance(paper_sd: float | None, rounding: float, ours: list[float]) -> float:
    """Return the gap that (4.1) allows, (paper_sd or None, rounding, ours: list) -> float."""
    return max(rounding, (paper_sd or 0) + sd(ours))


@asked
def allowed_gap(r: Random) -> Question:
    printed, paper_sd = r.randint(30, 90) / 100, r.randint(2, 9) / 100
    ours = [round(printed + r.randint(-9, 9) / 100, 2) for _ in range(5)]
    return tolerance.question(
        f"A paper prints {printed:g} ± {paper_sd:.2f} %. Five of our runs give {listed(ours)} %. "
        "By how many points may our mean differ from the printed one and still be called "
        "reproduced?",
        *(paper_sd, 0.005, ours),
        without="half a unit",
        solution=f"The paper's ± plus the standard deviation of our runs (divided by n - 1): "
        f"{paper_sd:g} + {stdev(ours):.4f}.",
    )


def _maps() -> Tensor:
    """Return small label maps with ties, runs and blank columns, (30, 4, 9)."""
    generator = torch.Generator().manual_seed(6)
    return torch.tensor([1, 2, 10, 10])[torch.randint(4, (30, 4, 9), generator=generator)]


def columns(h: Tensor, last: bool = False) -> list[int]:
    """Return the winning digit of each column, the smallest or the largest of equals, or 10."""
    votes = F.one_hot(h, 11).sum(0)[:, :10]  # (N, 10)
    ties = votes == votes.amax(1, keepdim=True)
    digit = 9 - ties.flip(1).int().argmax(1) if last else ties.int().argmax(1)
    return digit.masked_fill(votes.amax(1) == 0, 10).tolist()


def digits(columns: list[int]) -> list[int]:
    """Return the digits of a row without its blanks."""
    return [c for c in columns if c != 10]


def _look_at_maps(ask: Callable) -> None:
    """Raise with the first map that is read wrongly, unless a known mistake explains all maps."""
    answers = [tensor(ask(*case)) for case in transcription.cases]
    found = [a.tolist() for a in answers]
    for solution in transcription.mistakes.values():
        if found == [solution(*case) for case in transcription.cases]:
            return
    for (h,), answer in zip(transcription.cases, answers, strict=True):
        right = transcription.right(h)
        if answer.tolist() != right:
            rows = " / ".join("".join("0123456789."[k] for k in line) for line in h.tolist())
            raise CheckFailed(f"the map {rows} reads {right}, not [{row(answer)}]")


@exercise(
    praise="each column votes, and a digit is written down when it changes",
    cases=[(h,) for h in _maps()],
    view=padded,
    look=_look_at_maps,
    mistakes={
        "a digit that fills several columns in a row counts once": lambda h: digits(columns(h)),
        "a blank column ends a run: the same digit after it counts again": (
            lambda h: merged(digits(columns(h)))
        ),
        "the background does not vote: one digit in a column is enough": (
            lambda h: digits(merged(F.one_hot(h, 11).sum(0).argmax(1).tolist()))
        ),
        "of equal votes the smallest digit wins": lambda h: digits(merged(columns(h, last=True))),
        "every row of a column votes, not one row alone": lambda h: digits(h[len(h) // 2].tolist()),
        "a sequence keeps order and repeats; this is the set of digits": (
            lambda h: sorted(set(digits(h.flatten().tolist())))
        ),
    },
)
def transcription(h: Tensor) -> list[int]:
    """Return the sequence of a label map by (4.2), h (M, N) with 10 for phi -> list of ints."""
    return metrics.transcribe(F.one_hot(h, 11).permute(2, 0, 1)[None])[0]


@asked
def verdict_by_the_rule(r: Random) -> Question:
    while True:
        printed, paper_sd = r.randint(30, 90) / 100, r.randint(2, 6) / 100
        centre = printed + r.choice([-12, -3, 0, 3, 12]) / 100
        ours = [round(centre + r.randint(-3, 3) / 100, 2) for _ in range(3)]
        gap, allowed = fmean(ours) - printed, tolerance.right(paper_sd, 0.005, ours)
        if abs(abs(gap) - allowed) > 0.01:
            break
    said = f"the gap is {gap:+.3f}, and {allowed:.3f} is allowed"
    return choice(
        r,
        f"A paper prints an error of {printed:g} ± {paper_sd:.2f} %. Three of our runs give "
        f"{listed(ours)} %. Which verdict does the rule of the allowed gap give?",
        ("reproduced", abs(gap) <= allowed, f"{said}: it is too large"),
        ("better", gap < -allowed, f"{said}: our error is not smaller by more than that"),
        ("worse", gap > allowed, f"{said}: our error is not larger by more than that"),
        solution="The allowed gap is the paper's ± plus the standard deviation of our runs, "
        f"{paper_sd:g} + {stdev(ours):.3f}, at least half a unit of the last decimal. Here {said}.",
    )


@asked
def methods_on_the_same_images(r: Random) -> Question:
    both, one = r.randint(10, 40), r.randint(3, 12)
    other = one + r.randint(4, 15)
    n = one + other
    p = 2 * sum(comb(n, k) for k in range(one + 1)) / 2**n
    return exam(
        f"Two methods err on {both + one} and on {both + other} of the same 10,000 images. On "
        f"{both} images both are wrong.",
        Question(
            "On how many images is exactly one method wrong?",
            n,
            {
                "leave out the images on which both are wrong": n + 2 * both,
                "add both directions; do not subtract them": other - one,
                "this is the number of images on which at least one method is wrong": n + both,
            },
            solution=f"${one} + {other} = {n}$: the errors of each method without the {both} "
            "images on which both are wrong.",
        ),
        Question(
            "If the methods were equally good, each of these images would be a toss of a fair "
            "coin. What is the two-sided probability of a split at least as uneven as this one?",
            p,
            {
                "either method might be the better one: double this": p / 2,
                "a more uneven split counts too: add all smaller numbers": 2 * comb(n, one) / 2**n,
            },
            solution=f"Twice the probability of at most {one} heads in {n} tosses, {p:.3g}.",
        ),
        essay(
            "A report prints the two totals alone. Explain in two sentences why they are not "
            "enough for the test.",
            "only images on which the methods differ show which method is better",
            "the same totals are possible with many numbers of images on which both are wrong",
            solution="The coin is tossed only for images on which exactly one method errs. Their "
            "number depends on how many errors both methods share, and the totals do not "
            "contain that.",
        ),
    )
