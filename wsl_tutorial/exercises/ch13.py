"""Chapter 13: regions, the reproduction."""

from collections.abc import Callable
from math import sqrt
from random import Random

import torch
from torch import Tensor

from .. import metrics
from .core import Question, asked, choice, essay, exam, exercise, refuse


@exercise(
    praise="no two methods of Table 1 differ by so much on GlaS",
    mistakes={
        "for m = 2 the probability is 2 / 4 = 1/2, not below 5 %": lambda: (2, 2.5),
        "two-sided: either method may be right, so it is 2 / 2^m, and 2 / 2^5 is above 5 %": (
            lambda: (5, 6.25)
        ),
        "m of 80 images are 100 m / 80 percentage points": lambda: (6, 6),
    },
)
def images_apart() -> tuple[int, float]:
    """Return the images that a sign test needs, and points of error, () -> two numbers."""
    m = next(m for m in range(1, 80) if 2 * 0.5**m < 0.05)
    return m, 100 * m / 80


def marks(behind: list[int], rate: float, n: int) -> Tensor:
    """Return 1 for every k that is in the list, 0 for the others."""
    for k in behind:
        refuse(k != int(k) or not 0 <= k <= n, f"k of {n} images is a whole number from 0 to {n}")
    marked = torch.zeros(30_001)
    marked[[int(k) for k in behind]] = 1
    return marked


def all_with(printed: Callable) -> Callable:
    """Return the list of all k that a rule prints as a rate, for each rate and n."""
    return lambda rate, n: [k for k in range(n + 1) if printed(k, n) == round(100 * rate)]


@exercise(
    praise="the decimals limit the possible sizes of the test set",
    cases=[(69.65, 145), (1.25, 80), (33.33, 12), (24.62, 5794), (19.98, 145), (0.0, 30_000)],
    view=marks,
    mistakes={
        "the decimals are cut off, not rounded": all_with(lambda k, n: round(10_000 * k / n)),
        "the rate is in %: 100 k / n, and two decimals more": all_with(lambda k, n: 100 * k // n),
        "return all k, not only the first: a large n has several": (
            lambda rate, n: metrics.counts_behind(rate, n)[:1]
        ),
        "some rates have no k: leave the list empty": (
            lambda rate, n: metrics.counts_behind(rate, n) or [round(rate * n / 100)]
        ),
    },
)
def shares_behind(rate: float, n: int) -> list[int]:
    """Return (13.1), (rate in % with two decimals, cut, n) -> the list of all k."""
    return metrics.counts_behind(rate, n)


@exercise(
    praise="this is the row that the paper does not print",
    cases=[(66.01,), (23.72,), (0.0,), (100.0,)],
    mistakes={
        "this is the lower end of (13.3); the largest value is its upper end": lambda d: 100 - d,
        "d is not f: compute f = d / (2 - d) first, then 2 (1 - f) / (2 - f)": (
            lambda d: 200 * (100 - d) / (200 - d)
        ),
        "return the value in %": lambda d: metrics.all_zeros_bounds(d)[1] / 100,
    },
)
def zeros_from_ones(d: float) -> float:
    """Return the upper end of (13.3), mean F1+ of All-ones in % -> %."""
    return metrics.all_zeros_bounds(d)[1]


def steps(u: int, kappa: float, passes: int = 2) -> float:
    """Return the cost of a step with u looks over that of a step with one look."""
    return (u + passes * kappa) / (1 + passes * kappa)


@exercise(
    praise="the faster the loading, the more erasing adds to an epoch",
    cases=[(4, 0.25, 0.5), (2, 0.25, 0.0), (1, 0.3, 0.2), (8, 1.0, 0.9)],
    mistakes={
        "this is R: the share b of the epoch does not grow with u": lambda u, k, b: steps(u, k),
        "b is a share of the epoch with one look, so the steps are the share 1 - b": (
            lambda u, k, b: steps(u, k) + b
        ),
        "b and 1 - b are exchanged": lambda u, k, b: b * steps(u, k) + 1 - b,
        "the classifier makes two passes, on X+ and on X-": (
            lambda u, k, b: (1 - b) * steps(u, k, passes=1) + b
        ),
        "the classifier does not look again: its passes do not grow with u": (
            lambda u, k, b: (1 - b) * u + b
        ),
    },
)
def slower_by(u: int, kappa: float, b: float) -> float:
    """Return the duration of an epoch of u looks over that of one look, (u, kappa, b) -> ratio."""
    return (1 - b) * steps(u, kappa) + b


@asked
def rates_not_refuted(r: Random) -> Question:
    n, k = r.randint(50, 200), r.randint(0, 4)
    share = k / n
    return Question(
        f"A network errs on {k} of {n} test images. What is the largest error, in %, that this "
        "does not refute, at 1.96 standard deviations?",
        metrics.wilson_interval(k, n)[1],
        {
            "this is the error that was seen": 100 * share,
            "put p under the root, not k / n": 100 * (share + 1.96 * sqrt(share * (1 - share) / n)),
            "this is the smallest error that is not refuted": metrics.wilson_interval(k, n)[0],
        },
        solution=f"The upper end of Wilson's interval for {k} of {n}: the rate $p$ at which "
        "$k/n$ lies 1.96 standard deviations $\\sqrt{p (1 - p) / n}$ below.",
    )


@asked
def rate_that_no_count_has(r: Random) -> Question:
    n = r.randint(20, 90)
    *real, k = r.sample(range(1, n - 1), 4)
    between = int(10_000 * (k + 0.5) / n) / 100
    rates = {between: ""}
    rates |= {int(10_000 * j / n) / 100: f"{j} of {n} images give this rate" for j in real}
    return choice(
        r,
        f"A paper prints error rates on a test set of {n} images, with two decimals, cut. Which of "
        "these rates cannot be right?",
        *((f"{x:.2f} %", not metrics.counts_behind(x, n), hint) for x, hint in rates.items()),
        solution=f"A rate is $100 k / {n}$ for a whole number $k$. {between:.2f} % lies between "
        f"the rates of {k} and {k + 1} images.",
    )


@asked
def errors_that_can_be_seen(r: Random) -> Question:
    n, level = r.randint(50, 200), r.choice([10, 5, 2, 1, 0.5, 0.1])
    m = next(m for m in range(1, n) if 200 * 0.5**m < level)
    upper = metrics.wilson_interval(0, n)[1]
    return exam(
        f"A test set has {n} images.",
        Question(
            "Two methods differ on some of them, and one method is right on all of these. If both "
            "were equally good, each would be a toss of a fair coin. What is the smallest number "
            f"of images for which the two-sided probability of such a result is below {level:g} %?",
            m,
            {
                "either method might be the better one: the probability is twice as large": m - 1,
                "one image less is enough: the probability is below the level already": m + 1,
            },
            solution=f"$2 / 2^{{{m}}} = {2 / 2**m:.3g}$ is below {level:g} %, and "
            f"$2 / 2^{{{m - 1}}}$ is not.",
        ),
        Question(
            "By how many percentage points do the error rates of the two methods differ then?",
            100 * m / n,
            {
                "an error rate is a share of all images, in %": m,
                "this is a share; the question asks for percentage points": m / n,
            },
            solution=f"${m} / {n} = {100 * m / n:.3g}$ %.",
        ),
        Question(
            "A network makes no error on the test set. Which error rate, in %, does this just not "
            "refute, at 1.96 standard deviations (Wilson's interval)?",
            upper,
            {
                "z is squared": 196 / (n + 1.96),
                "this is the rule of three; Wilson's interval has z^2 / (n + z^2)": 300 / n,
                "in %, please": upper / 100,
            },
            solution=f"$z^2 / (n + z^2) = 3.84 / {n + 3.84:g}$, {upper:.3g} %.",
        ),
        essay(
            "A report says that this network without errors recognises the object and not its "
            "surroundings. Explain in two sentences why the test set does not show this.",
            "no error still allows the error rate of the interval: the test set is small",
            "a prediction can be right for another reason: the surroundings may show the class too",
            solution="The interval still contains error rates above zero, and images of one "
            "patient are not independent tests. The surroundings may show the class too, and the "
            "error rate counts right classes, wherever the network looked.",
        ),
    )
