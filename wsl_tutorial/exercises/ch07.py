"""Chapter 7: counts, the reproduction."""

from random import Random
from statistics import fmean, pstdev, stdev

import torch
from torch import Tensor

from .core import Question, asked, choice, essay, exam, exercise, listed


def first(accuracy: list[float], level: float) -> int:
    """Return the first epoch, counted from 1, that reaches a level."""
    return next(t for t, a in enumerate(accuracy, 1) if a >= level)


def final(accuracy: list[float]) -> float:
    """Return the mean of the last tenth of the epochs, three at least."""
    return fmean(accuracy[-max(3, len(accuracy) // 10) :])


@exercise(
    praise="the first epoch at the level",
    cases=[
        ([50, 70, 84.5, 86, 88, 89.5, 90.5, 95, *[89] * 14, 93, 92, 85],),
        ([50, 60, 70, 80, 81.5, 82.5, 84, 85, 86, 87, *[83] * 26, 90, 84, 80, 82],),
    ],
    mistakes={
        "the final accuracy is a mean of the last epochs, not the best epoch": (
            lambda x: first(x, 0.99 * max(x))
        ),
        "the final accuracy is a mean of the last epochs, not the last one": (
            lambda x: first(x, 0.99 * x[-1])
        ),
        "the last tenth has at least three epochs": (
            lambda x: first(x, 0.99 * fmean(x[-max(1, len(x) // 10) :]))
        ),
        "for a long curve take the mean of the last tenth, not of the last three epochs": (
            lambda x: first(x, 0.99 * fmean(x[-3:]))
        ),
        "99 % of the final accuracy is enough": lambda x: first(x, final(x)),
        "count the epochs from 1": lambda x: first(x, 0.99 * final(x)) - 1,
    },
)
def arrival(accuracy: list[float]) -> int:
    """Return the first epoch at 99 % of the final accuracy, list of accuracies -> int."""
    return first(accuracy, 0.99 * final(accuracy))


def t(gaps: list[float], variance: float, sd=stdev) -> float:
    """Return the mean gap over its standard deviation, from the variance added to 1/K."""
    return fmean(gaps) / (sd(gaps) * (1 / len(gaps) + variance) ** 0.5)


@exercise(
    praise="splits of one data set are not independent",
    cases=[
        ([0.4, -0.1, 0.6, 0.3], 0.2),
        ([1.2, 0.4, -0.3, 0.8, 0.1], 0.0),
        ([-0.2, -0.5, 0.1], 0.5),
    ],
    mistakes={
        "this treats the splits as independent: `share` is not used": lambda d, q: t(d, 0),
        "the bags that splits share add share / (1 - share), not share": lambda d, q: t(d, q),
        "1/K and share / (1 - share) are parts of a variance: take the root of their sum": (
            lambda d, q: fmean(d) / (stdev(d) * (1 / len(d) + q / (1 - q)))
        ),
        "the sample standard deviation divides by K - 1": lambda d, q: t(d, q / (1 - q), pstdev),
        "t has the sign of the mean gap": lambda d, q: abs(t(d, q / (1 - q))),
    },
)
def resampled_t(gaps: list[float], share: float) -> float:
    """Return the statistic of (7.2), (gaps: list, share) -> float."""
    return t(gaps, share / (1 - share))


@asked
def corrected_t(r: Random) -> Question:
    gap, sd, splits = r.randint(5, 30) / 10, r.randint(5, 20) / 10, r.choice([5, 10, 20])
    off = sd * ((splits - 1) / 2) ** 0.5  # two gaps off the mean have the same deviation
    return resampled_t.question(
        f"Over {splits} random splits with 80 % for training, A is better than B by {gap:g} points "
        f"on average; the differences have a standard deviation of {sd:g}. What is t, corrected "
        "for the overlap of the training sets?",
        *([gap + off, gap - off, *[gap] * (splits - 2)], 0.2),
        without="sign|sample",
        more={"divide by the standard deviation of the *mean*": gap / sd},
        solution=f"The share for testing is $q = 0.2$, so $q / (1 - q) = 0.25$ and $t = {gap:g} / "
        f"({sd:g} \\sqrt{{1/{splits} + 0.25}})$.",
    )


def _bags() -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, counts and mask of five bags with padding."""
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(8))
    mask = torch.arange(6) < torch.tensor([4, 3, 2, 4, 1])[:, None]
    return logits.masked_fill(torch.arange(6) > 3, 0.0), torch.tensor([1, 3, 1, 4, 1]), mask


def off(logits: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
    """Return the error of the number of positive decisions in each bag."""
    return (((logits >= 0) & mask).sum(1) - counts).double()


@exercise(
    praise="a criterion without labels",
    cases=[_bags()],
    mistakes={
        "padding is counted as instances: use the mask": (
            lambda z, y, m: off(z, y, m | True).abs().mean()
        ),
        "errors of different bags must not cancel: take the absolute value first, then the mean": (
            lambda z, y, m: off(z, y, m).mean().abs()
        ),
        "take the absolute value": lambda z, y, m: off(z, y, m).mean(),
        "count the instances with a logit of 0 or more; do not add probabilities": (
            lambda z, y, m: ((z.sigmoid() * m).sum(1) - y).abs().mean()
        ),
        "take the absolute error, not its square": lambda z, y, m: off(z, y, m).square().mean(),
        "take the mean over the bags, not the sum": lambda z, y, m: off(z, y, m).abs().sum(),
        "divide by the number of bags, not of instances": (
            lambda z, y, m: off(z, y, m).abs().sum() / m.sum()
        ),
    },
)
def error_of_counts(logits: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
    """Return mean |predicted - counts|, (logits (B, n), counts (B,), mask (B, n)) -> scalar."""
    return off(logits, counts, mask).abs().mean()


@asked
def arrival_of_a_curve(r: Random) -> Question:
    while True:
        rise = sorted(r.sample(range(60, 92), 7))
        curve = [float(x) for x in [*rise, *(r.randint(88, 95) for _ in range(5))]]
        epochs = {
            arrival.right(curve): "",
            first(curve, 0.99 * max(curve)): "the final accuracy is a mean of the last epochs, not "
            "the best one",
            first(curve, 0.99 * curve[-1]): "the final accuracy is the mean of the last three "
            "epochs, not the last one",
            first(curve, final(curve)) if max(curve) >= final(curve) else 0: "99 % of the final "
            "accuracy is enough",
        }
        if len(epochs) == 4:
            break
    return choice(
        r,
        f"The accuracies of twelve epochs are {listed(curve)} %. The final accuracy is the mean of "
        "the last three. In which epoch, counted from one, does the curve first reach 99 % of it?",
        *((str(t), t == arrival.right(curve), hint) for t, hint in epochs.items()),
        solution=f"The final accuracy is {final(curve):.4g} %, and 99 % of it is "
        f"{0.99 * final(curve):.4g} %. The curve first reaches this level in epoch "
        f"{arrival.right(curve)}.",
    )


@asked
def splits_that_overlap(r: Random) -> Question:
    gap, sd, splits = r.randint(5, 30) / 10, r.randint(5, 20) / 10, r.choice([5, 10, 20])
    tested = r.choice([10, 20, 25])
    off = sd * ((splits - 1) / 2) ** 0.5
    gaps = [gap + off, gap - off, *[gap] * (splits - 2)]
    plain, corrected = resampled_t.right(gaps, 0.0), resampled_t.right(gaps, tested / 100)
    return exam(
        f"On {splits} random splits of one data set, each with {tested} % of the bags for testing, "
        f"A is better than B by {gap:g} points on average. The differences have a standard "
        f"deviation of {sd:g}.",
        Question(
            "What is the statistic of the usual paired t-test, without correction?",
            plain,
            {
                "divide by the standard deviation of the mean": gap / sd,
                "this is corrected for the overlap; the usual test is not": corrected,
                "multiply by the root of the number of splits, not by the number": (
                    gap / sd * splits
                ),
            },
            solution=f"${gap:g} / ({sd:g} / \\sqrt{{{splits}}}) = {plain:.4g}$.",
        ),
        Question(
            "What is it when it is corrected for the overlap of the training sets?",
            corrected,
            {
                "this treats the splits as independent": plain,
                "the term is q / (1 - q), not q": gap / (sd * (1 / splits + tested / 100) ** 0.5),
            },
            solution=f"$1/K$ becomes $1/K + q/(1-q)$ with $q = {tested / 100:g}$: {corrected:.4g}.",
        ),
        essay(
            "Explain in two sentences why the statistic of the usual test is too large here.",
            "the splits share most of their training bags, so the gaps are correlated",
            "the mean of correlated gaps varies more than independent gaps would suggest",
            solution="Every two splits train on largely the same bags, so the peculiarities of "
            "these bags affect all gaps. The usual variance of the mean, $s^2 / K$, holds for "
            "independent gaps and is too small here.",
        ),
    )
