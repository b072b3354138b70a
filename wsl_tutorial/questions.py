"""A question bank for teachers: each class has its own numbers, answers, and the same checks.

    python -m wsl_tutorial.questions autumn-2026                 the sheet, in Markdown
    python -m wsl_tutorial.questions autumn-2026 --key           with answers and known mistakes
    python -m wsl_tutorial.questions autumn-2026 --chapters 1 5

Students check themselves: `questions.check("presence-of-two", "autumn-2026", 0.42)`.
"""

import argparse
import random
import reprlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from itertools import count
from math import ceil, comb, exp, factorial, inf, log, log2, log10, sqrt
from numbers import Real
from statistics import pstdev, stdev

import numpy as np
import torch

from . import check as checks
from . import counts, metrics, patches, presence, regions, toy


@dataclass(frozen=True)
class Question:
    """What is asked, the right answer (a number), and hints with the answers of known mistakes."""

    text: str
    answer: float
    mistakes: dict[str, float]


Maker = Callable[[random.Random], Question]
BANK: dict[str, tuple[int, Maker]] = {}  # name: (chapter, maker)


def asked(chapter: int) -> Callable[[Maker], Maker]:
    """Enter a maker of questions into the bank, under its name with dashes."""

    def enter(maker: Maker) -> Maker:
        BANK[maker.__name__.replace("_", "-")] = (chapter, maker)
        return maker

    return enter


def make(name: str, seed: str) -> Question:
    """The question `name` with the numbers of the class `seed`.

    Numbers for which a known mistake gives the right answer are drawn again.

    Raises: ValueError for a name that is not in the bank, and for a seed without a letter.
    """
    for argument, value in (("name", name), ("seed", seed)):
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{argument} {value!r} is not a word")
    if name not in BANK:
        alike = get_close_matches(name, BANK, 1)
        meant = f"; did you mean {alike[0]!r}?" if alike else f", only {', '.join(BANK)}"
        raise ValueError(f"name {name!r} is not in the bank{meant}")
    for attempt in count():
        question = BANK[name][1](random.Random(f"{name} {seed} {attempt}"))
        if not any(near(wrong, question.answer) for wrong in question.mistakes.values()):
            return question


def near(value: float, answer: float) -> bool:
    """Equal to three digits."""
    return abs(value - answer) <= 2e-3 * abs(value) + 1e-9


class NoNumber(checks.CheckFailed, ValueError):
    """An answer that is not a number."""


def check(name: str, seed: str, answer: float) -> None:
    """Print a line when `answer` is right to three digits, else raise `CheckFailed` with a hint.

    answer: a number, or a tensor or an array of one number.
    Raises: ValueError as `make`; `NoNumber`, which is both, for an answer that is not a number.
    """
    question = make(name, seed)
    answer = number(answer)
    if not near(question.answer, answer):
        known = [hint for hint, wrong in question.mistakes.items() if near(wrong, answer)]
        raise checks.CheckFailed(known[0] if known else "not a mistake that we know: start again")
    print(f"✓ {name}")


def number(answer) -> float:
    """Return the one number that an answer holds. Raises `NoNumber` where it holds none."""
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


def some(r: random.Random, low: float, high: float, number: int = 1) -> list[float]:
    """Different numbers of two digits after the point."""
    return [x / 100 for x in r.sample(range(round(100 * low), round(100 * high) + 1), number)]


def listed(values) -> str:
    return ", ".join(f"{v:g}" for v in values)


# Chapter by chapter ------------------------------------------------------------------------------


@asked(0)
def labellings_that_fit(r: random.Random) -> Question:
    a, b, c = r.randint(1, 3), r.randint(2, 4), r.randint(1, 3)
    n = a + b + c
    return Question(
        f"A bag of {n} points has counts {a} of class A, {b} of class B and {c} of the background. "
        "How many labellings of its points have these counts?",
        factorial(n) / (factorial(a) * factorial(b) * factorial(c)),
        {
            "you counted all labellings; only those with these counts are left": 3**n,
            "points of one class cannot be told apart: divide by their orders": factorial(n),
            "you placed class A alone; then place class B among the rest": comb(n, a),
        },
    )


@asked(0)
def posterior_of_a_point(r: random.Random) -> Question:
    p, q = some(r, 0.2, 0.8, 2)
    log_p = torch.tensor([[p, 1 - p], [q, 1 - q]], dtype=torch.float64).log()
    seen = torch.tensor([True, False])
    told = toy.posterior(log_p, lambda h: toy.presence(h, 2), seen[:1])
    return Question(
        f"Two points show class A with probabilities {p:g} and {q:g}, independently. You are told "
        "that A occurs. With which probability is the first point of class A?",
        told[0, 0].item(),
        {
            "this is the probability before you were told anything": p,
            "divide by the probability that A occurs, not by the sum of both": p / (p + q),
            "this is the probability that A occurs": 1 - (1 - p) * (1 - q),
        },
    )


def table(r: random.Random, positions: int) -> list[list[float]]:
    """Probabilities of A, B and the background at some positions, in tenths."""
    rows = []
    for _ in range(positions):
        a, b = r.randint(1, 4), r.randint(1, 4)
        rows.append([a / 10, b / 10, (10 - a - b) / 10])
    return rows


def as_log_p(rows: list[list[float]]) -> torch.Tensor:
    """(1, 3, positions)."""
    return torch.tensor(rows, dtype=torch.float64).log().T[None]


@asked(1)
def presence_of_two(r: random.Random) -> Question:
    rows = table(r, 3)
    log_p, both = as_log_p(rows), torch.tensor([[True, True]])
    one = [torch.tensor([[True, False]]), torch.tensor([[False, True]])]
    alone = [presence.log_likelihood(log_p, mask).exp().item() for mask in one]
    nothing = exp(sum(log(row[2]) for row in rows))
    missing = [1 - nothing - x for x in alone]
    return Question(
        "Three positions emit A, B or the background with probabilities "
        + "; ".join(listed(row) for row in rows)
        + ". With which probability is the label set {A, B}?",
        presence.log_likelihood(log_p, both).exp().item(),
        {
            "A and B are not independent: a position that emits A cannot emit B": (
                missing[0] * missing[1]
            ),
            "bags without any label lack both A and B: you subtracted them twice": (
                1 - sum(alone) - 2 * nothing
            ),
            "1 minus {A} alone minus {B} alone still holds the bags without any label": (
                1 - sum(alone)
            ),
        },
    )


@asked(1)
def only_one_class(r: random.Random) -> Question:
    rows = table(r, 3)
    log_p = as_log_p(rows)
    right = presence.log_likelihood(log_p, torch.tensor([[True, False]])).exp().item()
    alpha = presence.log_alpha(log_p, torch.tensor([[True, False, True]])).exp().item()
    return Question(
        "Three positions emit A, B or the background with probabilities "
        + "; ".join(listed(row) for row in rows)
        + ". With which probability is the label set exactly {A}?",
        right,
        {
            "this is alpha: it also holds the bags that show nothing at all": alpha,
            "this is the probability that all three positions emit A": (
                exp(sum(log(row[0]) for row in rows))
            ),
            "this asks only whether A occurs, whatever else does": (
                1 - exp(sum(log(1 - row[0]) for row in rows))
            ),
        },
    )


@asked(2)
def digits_that_are_lost(r: random.Random) -> Question:
    largest, value = r.randint(2, 9), r.randint(2, 9) * 10.0 ** -r.randint(3, 5)
    lost = log10(largest / value)
    return Question(
        f"The greatest term of an alternating series is {largest}, its sum is {value:g}, and each "
        "term is right to 7 digits. How many digits of the sum are right, rounded up?",
        ceil(7 - lost),
        {
            "this is the number of digits that are lost": ceil(lost),
            "subtraction of close numbers loses digits: all 7 do not survive": 7,
        },
    )


@asked(3)
def loss_of_the_maxima(r: random.Random) -> Question:
    rows = table(r, 3)
    log_p, both = as_log_p(rows), torch.tensor([[True, True]])
    best = [max(row[c] for row in rows) for c in range(2)]
    right = presence.max_pooling_loss(log_p, both).item()
    return Question(
        "Three positions emit A, B or the background with probabilities "
        + "; ".join(listed(row) for row in rows)
        + ". The label set is {A, B}. What is the max-pooling loss of this bag, in nats, with "
        "these probabilities as they stand?",
        right,
        {
            "take the mean over the labels, not the sum": 2 * right,
            "take the mean of the logarithms, not the logarithm of the mean": -log(sum(best) / 2),
            "a loss has the other sign": -right,
            "this is minus the logarithm of the exact likelihood": (
                -presence.log_likelihood(log_p, both).item()
            ),
        },
    )


@asked(4)
def allowed_gap(r: random.Random) -> Question:
    printed, sd = r.randint(30, 90) / 100, r.randint(2, 9) / 100
    ours = [round(printed + r.randint(-9, 9) / 100, 2) for _ in range(5)]
    return Question(
        f"A paper prints {printed:g} ± {sd:.2f} %. Five runs of ours have {listed(ours)} %. By how "
        "many points may our mean differ from the printed one and still be called reproduced?",
        max(0.005, stdev(ours) + sd),
        {
            "our runs scatter too: add their standard deviation": sd,
            "the printed runs scatter too: add the printed ±": stdev(ours),
            "divide by n - 1 in the standard deviation of a sample": pstdev(ours) + sd,
            "the rule adds the deviation of runs, not of their mean": stdev(ours) / sqrt(5) + sd,
        },
    )


@asked(5)
def count_of_three(r: random.Random) -> Question:
    rho = some(r, 0.1, 0.9, 3)
    right = exp_count(rho, 2)
    return Question(
        f"Three instances are positive with probabilities {listed(rho)}, independently. With which "
        "probability are exactly two of them positive?",
        right,
        {
            "at least two is more than exactly two": right + rho[0] * rho[1] * rho[2],
            "the probabilities differ: no binomial of their mean": (
                3 * (sum(rho) / 3) ** 2 * (1 - sum(rho) / 3)
            ),
            "the third instance must be negative: multiply by its 1 - rho": (
                rho[0] * rho[1] + rho[0] * rho[2] + rho[1] * rho[2]
            ),
        },
    )


def exp_count(rho: list[float], y: int) -> float:
    logits = torch.tensor([rho], dtype=torch.float64).logit()
    return counts.log_likelihood(logits, torch.tensor([y])).exp().item()


@asked(5)
def posterior_of_an_instance(r: random.Random) -> Question:
    rho = some(r, 0.1, 0.9, 3)
    logits = torch.tensor([rho], dtype=torch.float64).logit()
    right = counts.posterior(logits, torch.tensor([1]))[0, 0].item()
    return Question(
        f"Three instances are positive with probabilities {listed(rho)}; exactly one of them is. "
        "With which probability is it the first?",
        right,
        {
            "weigh by the odds rho / (1 - rho), not by rho": rho[0] / sum(rho),
            "this is the probability before the count was known": rho[0],
            "divide by the probability of the count": right * exp_count(rho, 1),
        },
    )


@asked(6)
def proportion_loss_of_a_bag(r: random.Random) -> Question:
    rho = some(r, 0.1, 0.9, 4)
    y = r.randint(1, 3)
    logits = torch.tensor([rho], dtype=torch.float64).logit()
    right = counts.proportion_loss(logits, torch.tensor([y])).item()
    means = sum(y / 4 * log(p) + (1 - y / 4) * log(1 - p) for p in rho) / 4
    return Question(
        f"A bag of four instances holds {y} positive ones; the network answers {listed(rho)}. What "
        "is DLLP's loss of this bag, in nats?",
        right,
        {
            "take the logarithm of the mean, not the mean of the logarithms": -means,
            "a loss has the other sign": -right,
            "these are bits; divide by log2(e)": right / log(2),
        },
    )


@asked(7)
def corrected_t(r: random.Random) -> Question:
    gap, sd, splits = r.randint(5, 30) / 10, r.randint(5, 20) / 10, r.choice([5, 10, 20])
    return Question(
        f"Over {splits} random splits with 80 % for training, A beats B by {gap:g} points in the "
        f"mean; the differences have a standard deviation of {sd:g}. What is t, corrected for "
        "the overlap of the training sets?",
        gap / (sd * sqrt(1 / splits + 0.2 / 0.8)),
        {
            "training sets overlap: add the ratio of test to training to 1 / J": (
                gap / (sd / sqrt(splits))
            ),
            "the ratio is test to training, 0.2 / 0.8, not 0.2": (
                gap / (sd * sqrt(1 / splits + 0.2))
            ),
            "divide by the standard deviation of the *mean*": gap / sd,
        },
    )


@asked(8)
def second_place(r: random.Random) -> Question:
    top = r.randint(2, 7)
    h = [round(0.9 - 0.1 * abs(i - top) + r.randint(0, 4) / 100, 2) for i in range(10)]
    other = top + 4 if top + 4 < 10 else top - 4
    h[top], h[other] = 0.97, 0.75
    heat = torch.tensor(h, dtype=torch.float64)[None, None]
    places, _ = patches.extract(heat, 2, 3, 1.0)
    plain = sorted(range(10), key=lambda i: -h[i])
    return Question(
        f"A heat map of one row holds {listed(h)}. Local maxima within three pixels survive, and "
        "the two greatest are extracted. Where, counted from 0, is the second?",
        places[0, 1, 0].item(),
        {
            "its neighbour is greater: it does not survive the suppression": plain[1],
            "this is the first": plain[0],
        },
    )


@asked(9)
def overlap_of_boxes(r: random.Random) -> Question:
    side, right, down = r.choice([10, 20, 30]), r.randint(1, 6), r.randint(1, 6)
    places = torch.tensor([[0.0, 0.0, side], [right, down, side]])
    a, b = metrics.boxes(places).double()
    shared = (side - right) * (side - down)
    return Question(
        f"Two square boxes of {side} pixels are {right} pixels apart in x and {down} in y. What is "
        "their intersection over union?",
        metrics.box_iou(a[None, None], b[None, None]).item(),
        {
            "divide by the union, not by one box": shared / side**2,
            "the shared part counts once in the union": shared / (2 * side**2),
        },
    )


@asked(10)
def least_average_precision(r: random.Random) -> Question:
    objects, recall = r.randint(2, 5), 5 * r.randint(10, 19)
    answers = objects + r.randint(1, 6)
    least, greatest = metrics.precision_bounds(recall, objects, answers)
    return Question(
        f"Each image holds {objects} objects of one class, and a detector gives {answers} boxes an "
        f"image; over 100 images it finds {recall} % of the objects, each once. What is the least "
        "average precision, the area at all recalls, that this allows, in %?",
        least,
        {
            "this is the greatest, with all wrong boxes at the end": greatest,
            "this is the final precision: only found objects count": recall * objects / answers,
            "the final precision is the recall times objects over boxes": recall**2 / 100,
        },
    )


@asked(11)
def two_gradients(r: random.Random) -> Question:
    a, b = some(r, 0.05, 0.45, 2)
    p = [a, b, round(1 - a - b, 2)]
    entropy = -sum(x * log(x) for x in p)
    return Question(
        f"A classifier answers {listed(p)}. What is the derivative of minus its entropy with "
        "respect to the first logit, in nats?",
        a * (log(a) + entropy),
        {
            "this is the derivative of the cross-entropy to the uniform": a - 1 / 3,
            "this is the derivative of the entropy": -a * (log(a) + entropy),
            "this is the derivative with respect to p, not to the logit": log(a) + 1,
        },
    )


@asked(11)
def entropy_that_is_left(r: random.Random) -> Question:
    (p,) = some(r, 0.02, 0.4)
    logits = torch.tensor([[p, 1 - p]], dtype=torch.float64).log()
    right = regions.conditional_entropy(logits).item()
    return Question(
        f"On X+ a classifier of two classes answers {p:g} and {1 - p:g}. What is the entropy that "
        "is left, in nats?",
        right,
        {
            "these are bits": right / log(2),
            "sum over both classes": -p * log(p),
            "this is the cross-entropy to the uniform": -(log(p) + log(1 - p)) / 2,
        },
    )


@asked(12)
def dice_of_all_ones(r: random.Random) -> Question:
    (f,) = some(r, 0.1, 0.9)
    return Question(
        f"Glands cover {100 * f:g} % of an image. A mask marks every pixel as gland. What is its "
        "Dice score F1+, between 0 and 1?",
        2 * f / (1 + f),
        {
            "this is its precision": f,
            "this is the score of the background for an empty mask": 2 * (1 - f) / (2 - f),
        },
    )


@asked(12)
def trust_of_a_step(r: random.Random) -> Question:
    t, (p,) = r.randint(1, 4), some(r, 0.5, 0.95)
    return Question(
        f"In step t = {t} of the erasing with sigma = 10 the classifier is right and surer than at "
        f"first: it answers {p:g} for the true class. What is the trust?",
        exp(-t / 10) * p,
        {
            "the decay is missing": p,
            "the probability of the true class is missing": exp(-t / 10),
            "the decay is exp(-t / sigma), not exp(-t)": exp(-t) * p,
        },
    )


@asked(13)
def rates_not_refuted(r: random.Random) -> Question:
    n, k = r.randint(50, 200), r.randint(0, 4)
    share = k / n
    return Question(
        f"A network errs on {k} of {n} test images. What is the greatest error, in %, that this "
        "does not refute, at 1.96 standard deviations?",
        metrics.wilson_interval(k, n)[1],
        {
            "this is the error that was seen": 100 * share,
            "put p under the root, not k / n": 100 * (share + 1.96 * sqrt(share * (1 - share) / n)),
            "this is the least error that is not refuted": metrics.wilson_interval(k, n)[0],
        },
    )


@asked(14)
def bits_of_a_count(r: random.Random) -> Question:
    classes, a, b = r.randint(5, 10), r.randint(1, 2), r.randint(1, 2)
    digits, most = a + b, r.randint(a + b, 6)
    orders = comb(digits, a)
    p = orders / classes**digits / most
    return Question(
        f"An image holds 1 to {most} digits, each number alike; each digit is of one of {classes} "
        f"classes, alike and independently. How many bits does this count tell: {a} of the first "
        f"class, {b} of the second, none of the others?",
        -log2(p),
        {
            "these are nats": -log(p),
            "a count does not tell the order: several orders have it": -log2(p / orders),
            "how many digits there are is news, too": -log2(p * most),
        },
    )


@asked(15)
def failures_by_luck(r: random.Random) -> Question:
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
    )


# The sheet ---------------------------------------------------------------------------------------


def sheet(seed: str, chapters: list[int] | None = None, key: bool = False) -> str:
    """The questions of some chapters (all, without) in Markdown; with `key` their answers."""
    lines = [f"# Questions for {seed}"]
    for name, (chapter, _) in BANK.items():
        if chapters and chapter not in chapters:
            continue
        question = make(name, seed)
        lines += ["", f"**{name}** (chapter {chapter}). {question.text}"]
        if key:
            lines += ["", f"Answer: {question.answer:.4g}", ""]
            lines += [f"- {wrong:.4g}: {hint}" for hint, wrong in question.mistakes.items()]
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
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
