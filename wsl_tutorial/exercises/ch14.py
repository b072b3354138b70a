"""Chapter 14: what a weak label is worth."""

from math import comb, log, log2
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from .. import worth
from .core import (
    Question,
    asked,
    choice,
    double,
    essay,
    exam,
    exercise,
    random_log_p,
    solution,
)


def yes_or_no(p: float) -> float:
    """Return the bits of an answer that is *yes* with probability p."""
    return worth.entropy(double([p, 1 - p]))


def numbers(k: tuple[int, int]) -> range:
    """Return the numbers of digits from the smallest to the largest."""
    return range(k[0], k[1] + 1)


def missing(k: tuple[int, int]) -> float:
    """Return the probability that no digit is a 7."""
    return fmean(0.9**n for n in numbers(k))


@exercise(
    praise="at most one bit, and much less if one of the answers is rare",
    cases=[((0, 3),), ((1, 3),), ((2, 2),), ((1, 1),)],
    mistakes={
        "a canvas contains K digits, and any of them may be the 7": lambda k: yes_or_no(0.9),
        "average the probability over K, not the bits": (
            lambda k: fmean(yes_or_no(0.9**n) for n in numbers(k))
        ),
        "the power of the mean number of digits is not the mean of the powers": (
            lambda k: yes_or_no(0.9 ** fmean(numbers(k)))
        ),
        "the answer *no* carries bits too: add its term": (
            lambda k: -(1 - missing(k)) * log2(1 - missing(k))
        ),
        "these are nats; bits take the logarithm to base 2": (
            lambda k: log(2) * yes_or_no(missing(k))
        ),
    },
)
def seven_bits(k: tuple[int, int]) -> float:
    """Return bits of "is there a 7?", k = (smallest, largest) number of digits, (k) -> bits."""
    return yes_or_no(missing(k))


def _improbable() -> tuple[Tensor, int, Tensor]:
    """Return three bags twice, seen and not seen; in one the class is improbable everywhere."""
    log_p = torch.cat([random_log_p(3, 4, 5, seed=14)] * 2)
    log_p[[2, 5], 1] -= 40
    return log_p.log_softmax(1), 1, torch.arange(6) < 3


def nowhere(log_p: Tensor, label: int) -> Tensor:
    """Return log P(no cell holds the class)."""
    return torch.log1p(-log_p[:, label].exp()).sum(1)


def occurs(log_p: Tensor, label: int) -> Tensor:
    """Return log P(some cell holds the class)."""
    return torch.log(-torch.expm1(nowhere(log_p, label)))


def blunt(log_p: Tensor, label: int, seen: Tensor) -> Tensor:
    """Return the right answer, computed where digits are lost."""
    missing = (1 - log_p[:, label].exp()).log().sum(1)
    return torch.where(seen, (1 - missing.exp()).log(), missing)


@exercise(
    praise="accurate down to probabilities of e-40",
    cases=[_improbable()],
    mistakes={
        "inaccurate: use log1p and expm1 where a probability is near 0": blunt,
        "that is only the most probable cell; any cell may contain the class": (
            lambda p, label, seen: torch.where(seen, p[:, label].amax(1), nowhere(p, label))
        ),
        "where seen is false the class occurs nowhere: the product of 1 - p": (
            lambda p, label, seen: occurs(p, label)
        ),
        "seen and not seen are exchanged": lambda p, label, seen: solution.any_of(p, label, ~seen),
        "that is the probability that *every* cell contains the class": (
            lambda p, label, seen: torch.where(seen, p[:, label].sum(1), nowhere(p, label))
        ),
    },
)
def any_of(log_p: Tensor, label: int, seen: Tensor) -> Tensor:
    """Return log P(a class occurs, or not), (log_p (B, C+1, N), label, seen (B,)) -> (B,)."""
    return torch.where(seen, occurs(log_p, label), nowhere(log_p, label))


def near(n: int, d: int) -> int:
    """Return the number of ordered pairs along one axis that are nearer than d."""
    return n + 2 * sum(n - i for i in range(1, min(d, n)))


@exercise(
    praise="the number of near pairs is a product over the two axes",
    cases=[(4, 2), (10, 4), (14, 5), (5, 1)],
    mistakes={
        "you counted all pairs: subtract the pairs that are too near": (
            lambda n, d: n**2 * (n**2 - 1) // 2
        ),
        "every pair is counted twice: a set has no order": lambda n, d: n**4 - near(n, d) ** 2,
        "rows *or* columns: only pairs that are near in both are too near": (
            lambda n, d: (n**2 - near(n, d)) ** 2 // 2
        ),
        "a distance of exactly `apart` is allowed": lambda n, d: (n**4 - near(n, d + 1) ** 2) // 2,
        "a cell is near itself: do not subtract this pair twice": (
            lambda n, d: (n**4 - n**2 - near(n, d) ** 2) // 2
        ),
    },
)
def pairs_apart(cells: int, apart: int) -> int:
    """Return pairs of cells at least `apart` rows or columns apart, (cells, apart) -> int."""
    return worth.choices(cells, apart, 2)


@exercise(
    praise="if clicks are slower, counts carry more bits a second",
    cases=[(6.0, 17.0, 2.5, 1.5), (4.0, 5.0, 1.0, 3.0), (2.0, 8.0, 3.0, 1.0)],
    mistakes={
        "a full label takes the seconds of a counts label too: subtract them": (
            lambda bits, full, s, clicks: full / bits * s / clicks
        ),
        "divide by the clicks of a label": lambda bits, full, s, clicks: (full / bits - 1) * s,
        "that is the inverse ratio": (lambda bits, full, s, clicks: (bits / full - 1) * s / clicks),
        "equal bits a second, not equal seconds": lambda bits, full, s, clicks: 0,
    },
)
def break_even(bits: float, full: float, seconds: float, clicks: float) -> float:
    """Return seconds a click for equal bits a second, from (bits, bits, seconds, clicks)."""
    return (full / bits - 1) * seconds / clicks


@asked
def bits_of_a_count(r: Random) -> Question:
    classes, a, b = r.randint(5, 10), r.randint(1, 2), r.randint(1, 2)
    digits, most = a + b, r.randint(a + b, 6)
    orders = comb(digits, a)
    p = orders / classes**digits / most
    return Question(
        f"An image contains 1 to {most} digits, each number with equal probability; each digit has "
        f"one of {classes} classes, equally probable and independent. How many bits do these "
        f"counts carry: {a} of the first class, {b} of the second, none of the others?",
        -log2(p),
        {
            "these are nats": -log(p),
            "counts have no order: several orders have these counts": -log2(p / orders),
            "the number of digits carries bits, too": -log2(p * most),
        },
        solution=f"The number of digits has the probability $1/{most}$, an order of the classes "
        f"${classes}^{{-{digits}}}$, and {orders} orders have these counts: $-\\log_2 {p:.3g} = "
        f"{-log2(p):.4g}$.",
    )


@asked
def number_with_the_most_bits(r: Random) -> Question:
    classes = r.randint(4, 20)
    best = max(range(1, 2 * classes), key=lambda k: yes_or_no((1 - 1 / classes) ** k))
    hints = {
        best: "",
        1: f"with one digit the answer is *no* with probability {classes - 1}/{classes}",
        4 * best: "with so many digits the answer is *yes* almost always",
        10 * best: "with so many digits the answer *yes* is nearly certain",
    }
    bits = {k: yes_or_no((1 - 1 / classes) ** k) for k in hints}
    return choice(
        r,
        f"A canvas has K digits, each of one of {classes} equally probable classes, independent. "
        "An observer says whether a certain class occurs. For which K does the answer carry the "
        "most bits?",
        *((str(k), bits[k] == max(bits.values()), hint) for k, hint in hints.items()),
        solution="A yes-or-no answer carries most where both are equally likely, here where "
        f"$(1 - 1/{classes})^K$ is closest to one half: K = {best}, {bits[best]:.3g} bits.",
    )


@asked
def price_of_a_label(r: Random) -> Question:
    least, more = r.randint(0, 2), r.randint(1, 4)
    k = (least, least + more)
    seven, number = seven_bits.right(k), worth.entropy(torch.full((more + 1,), 1 / (more + 1)))
    cheap, full = r.randint(3, 8), r.randint(10, 25)
    seconds, clicks = r.randint(2, 6), r.choice([1.5, 2.5, 4.5])
    return exam(
        f"A canvas has {k[0]} to {k[1]} digits, each number with equal probability; each digit has "
        "one of ten classes, equally probable and independent.",
        Question(
            "How many bits does the answer to *is there a 7?* carry?",
            seven,
            {
                "average the probability over the numbers of digits, not the bits": (
                    fmean(yes_or_no(0.9**n) for n in numbers(k))
                ),
                "any of the digits may be the 7": yes_or_no(0.9),
                "these are nats": log(2) * seven,
            },
            solution="No 7 occurs with the mean of $0.9^K$ over the numbers of digits, "
            f"{missing(k):.4g}; the entropy of yes and no is {seven:.4g} bits.",
        ),
        Question(
            "How many bits does the number of digits carry?",
            number,
            {
                "these are nats": log(2) * number,
                "both ends count": log2(more),
                "the largest number of digits is not the number of cases": log2(k[1]),
            },
            solution=f"{more + 1} equally likely numbers: $\\log_2 {more + 1} = {number:.4g}$.",
        ),
        break_even.question(
            f"A label of counts carries {cheap} bits and takes {seconds} seconds; a full label "
            f"carries {full} bits and needs {clicks:g} clicks on average besides the counts. At "
            "how many seconds a click do both carry equally many bits a second?",
            *(float(cheap), float(full), float(seconds), clicks),
            without="equal bits",
            solution=f"The full label may take ${full}/{cheap}$ times as long, so its clicks "
            f"${full - cheap}/{cheap} \\cdot {seconds}$ seconds, over {clicks:g} clicks: "
            f"{(full / cheap - 1) * seconds / clicks:.4g}.",
        ),
        essay(
            "Explain in two sentences why the label with the most bits a second need not be the "
            "one to buy.",
            "bits measure how much a label narrows down, not whether the task needs it",
            "an example: the number of digits has bits, but they are not about classes",
            solution="A bit about something that the task does not ask for may not help with it. "
            "The number of digits is an example: it carries bits and does not distinguish "
            "the classes; so measure the accuracy that each label buys.",
        ),
    )
