"""Chapter 9: patches, the learning."""

from collections.abc import Callable
from random import Random
from statistics import fmean

import torch
from torch import Tensor

from .. import metrics
from .core import Question, asked, choice, double, essay, exam, exercise, listed, solution


@exercise(
    praise="for nine labels of ten classes it is 0.476",
    mistakes={
        "for K = 2 the order does not count: the guesses 0, 1 contain both labels 1, 0": (
            lambda: (0.5, 0.5)
        ),
        "this is the chance that *all* labels are right": lambda: (0.5, 0.375),
        "one of two right counts 1/2: average over the 16 pairs of bags": lambda: (0.5, 0.875),
        "with K = 1 one guess in two is right": lambda: (1.0, 0.625),
    },
)
def lucky_labels() -> list[float]:
    """Return the share of two-class labels found by chance, for K = 1 and 2, () -> two numbers."""
    bags = [torch.cartesian_prod(*[torch.arange(2)] * k).view(-1, k) for k in (1, 2)]
    return [
        fmean(metrics.label_recall(guess[None], true[None], 2) / 100 for guess in b for true in b)
        for b in bags
    ]


def member(scores: Tensor, k: float, cdf: Callable) -> Tensor:
    """Return the degrees whose sum is k, by halving the range of the threshold."""
    low, high = scores.min() - 50, scores.max() + 50
    for _ in range(100):
        t = (low + high) / 2
        low, high = (t, high) if cdf(scores - t).sum() > k else (low, t)
    return cdf(scores - t)


def clipped(x: Tensor) -> Tensor:
    """Return the distribution function of the uniform law around 0."""
    return (x + 0.5).clamp(0, 1)


@exercise(
    praise="this works for every F: only the threshold changes",
    cases=[(double([0.9, 0.7, 0.65, 0.2, -0.3]), 2, 0.2, cdf) for cdf in (torch.sigmoid, clipped)],
    mistakes={
        "scaling p can give degrees above 1: move a threshold until the sum is K": (
            lambda s, k, eps, cdf: k * cdf(s / eps) / cdf(s / eps).sum()
        ),
        "the degrees do not sum to K: subtract a threshold from the scores": (
            lambda s, k, eps, cdf: cdf(s / eps)
        ),
        "divide by the temperature": lambda s, k, eps, cdf: member(s, k, cdf),
        "divide by the temperature, do not multiply": (
            lambda s, k, eps, cdf: member(s * eps, k, cdf)
        ),
        "the degrees sum to K, not to 1": lambda s, k, eps, cdf: member(s / eps, 1, cdf),
        "use the argument cdf, not always the logistic function": (
            lambda s, k, eps, cdf: member(s / eps, k, torch.sigmoid)
        ),
        "this is the hard choice, whose slope is 0": (
            lambda s, k, eps, cdf: (s >= s.topk(k).values[-1]).double()
        ),
    },
)
def soft_member(scores: Tensor, k: int, temperature: float, cdf: Callable) -> Tensor:
    """Return Eq. (9.1), (scores (n,), k, temperature, cdf) -> (n,)."""
    return member(scores / temperature, k, cdf)


def against_others(losses: Tensor, n: int) -> Tensor:
    """Return losses minus the sum of the others over n."""
    return losses - (losses.sum() - losses) / n


@exercise(
    praise="the factors sum to zero",
    cases=[(double([0.7, 0.2, 0.4, 1.1]),)],
    mistakes={
        "the mean of all draws contains the draw itself: average the M - 1 others": (
            lambda losses: losses - losses.mean()
        ),
        "subtract the mean of the other losses": lambda losses: losses,
        "the sum of the others is not their mean": lambda losses: against_others(losses, 1),
        "this sign is for a reward: a loss keeps its sign": lambda losses: (
            -solution.leave_one_out(losses)
        ),
        "there are M - 1 other draws, not M": lambda losses: against_others(losses, len(losses)),
    },
)
def leave_one_out(losses: Tensor) -> Tensor:
    """Return the factors of (9.5), losses (M,) -> (M,)."""
    return against_others(losses, len(losses) - 1)


def spare(counts: Tensor, k: int) -> Tensor:
    """Return the number of places without an object, (B, 1)."""
    return k - counts.sum(1, keepdim=True)


def beside(first: Tensor, counts: Tensor) -> Tensor:
    """Return counts behind a first column."""
    return torch.cat([first, counts], 1)


@exercise(
    praise="now every place has a label",
    cases=[(torch.tensor([[1, 0, 1], [0, 0, 0], [2, 1, 1]]), 4)],
    mistakes={
        "places with an object are not background: subtract the objects from K": (
            lambda counts, k: beside(torch.full_like(counts[:, :1], k), counts)
        ),
        "the background is class 0, the first column": (
            lambda counts, k: beside(counts, spare(counts, k))
        ),
        "return the number of places without an object, not whether there is one": (
            lambda counts, k: beside((spare(counts, k) > 0).long(), counts)
        ),
        "count the places without an object, not the classes without one": (
            lambda counts, k: beside((counts == 0).sum(1, keepdim=True), counts)
        ),
        "the sign is wrong: subtract the objects from K": (
            lambda counts, k: beside(-spare(counts, k), counts)
        ),
    },
)
def with_background(counts: Tensor, k: int) -> Tensor:
    """Return counts with the background as class 0, (counts (B, C), k) -> (B, C+1)."""
    return beside(spare(counts, k), counts)


@asked
def overlap_of_boxes(r: Random) -> Question:
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
        solution=f"The shared part is ${side - right} \\times {side - down} = {shared}$, the "
        f"union $2 \\cdot {side**2} - {shared}$.",
    )


@asked
def labels_of_the_places(r: Random) -> Question:
    while True:
        objects = [r.randint(0, 3) for _ in range(3)]
        k = sum(objects) + r.randint(2, 4)
        given = torch.tensor([objects])
        right = with_background.right(given, k)
        rows = {h: f(given, k) for h, f in with_background.mistakes.items() if "sign" not in h}
        shown = {h: ", ".join(map(str, x[0].tolist())) for h, x in ({"": right} | rows).items()}
        if len(set(shown.values())) == len(shown):
            break
    return choice(
        r,
        f"An image has {listed(objects)} objects of three classes, and a network extracts {k} "
        "places. The background is class 0, in front of the three. Which counts should the labels "
        "of the places have?",
        *((text, text == shown[""], hint) for hint, text in shown.items()),
        solution=f"{sum(objects)} places show an object, the other {k - sum(objects)} show "
        f"background: {shown['']}.",
    )


@asked
def baseline_of_some_draws(r: Random) -> Question:
    losses = [x / 10 for x in r.sample(range(2, 30), r.randint(3, 6))]
    m = len(losses)
    factor = leave_one_out.right(double(losses))[0].item()
    return exam(
        f"The losses of {m} independent draws of places are {listed(losses)}.",
        leave_one_out.question(
            "Which factor does the gradient of log P of the first draw get, if the baseline is the "
            "mean loss of the other draws?",
            double(losses),
            number=0,
            solution=f"${losses[0]:g} - {fmean(losses[1:]):.4g} = {factor:.4g}$.",
        ),
        Question(
            "A program subtracts the mean of all draws instead. By which factor is its gradient "
            "too small on average?",
            (m - 1) / m,
            {
                "invert the fraction": m / (m - 1),
                "this is the share that is missing": 1 / m,
                "the draw itself is one of them, not two": (m - 2) / m,
            },
            solution=f"The draw itself is in the mean with weight 1/{m}: every factor is "
            f"$(M-1)/M = {(m - 1) / m:.4g}$ of the right one.",
        ),
        essay(
            "Explain in two sentences why a baseline does not change the expected gradient, and "
            "why the draw itself must not be in it.",
            "the expectation of the gradient of log P is zero, so a constant times it adds nothing",
            "a baseline that contains the draw's own loss depends on the draw, so the expectation "
            "of its product with the gradient need not be zero",
            solution="A baseline that does not depend on the draw multiplies a quantity whose "
            "expectation is zero. If it contains the draw's own loss, the baseline and the "
            "gradient of the draw are dependent, and the expectation of the product is not zero.",
        ),
    )
