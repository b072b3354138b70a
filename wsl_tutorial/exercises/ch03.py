"""Chapter 3: presence, learned."""

from collections.abc import Callable
from itertools import groupby
from math import log
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import presence
from .core import (
    CheckFailed,
    Question,
    asked,
    choice,
    close,
    double,
    emissions,
    essay,
    exam,
    exercise,
    gradient,
    listed,
    or_background,
    padded,
    refuse,
    solution,
    some,
)


@exercise(
    praise="the maximum alone misses a quarter of the probability",
    mistakes={
        "do not add probabilities of events that can both happen: take 1 - prod(1 - p)": (
            lambda: (1.1, 0.6, 0.6)
        ),
        "Prb is the chance of *at least one*; 0.6 x 0.5 is the chance of both": (
            lambda: (0.3, 0.6, 1.0)
        ),
        "the posterior is not the prior: divide by Prb": lambda: (0.8, 0.6, 0.6),
        "position 1 may emit the class while position 2 does too: 0.6 / Prb": (
            lambda: (0.8, 0.6, 0.375)
        ),
    },
)
def one_class() -> tuple:
    """Return Prb, largest p and posterior of position 1, for one class and p = (0.6, 0.5)."""
    return 0.8, 0.6, 0.75


@asked
def loss_of_the_maxima(r: Random) -> Question:
    text, log_p = emissions(r)
    both = torch.tensor([[True, True]])
    right = presence.max_pooling_loss(log_p, both).item()
    best = log_p[0, :2].amax(1).exp().mean().item()
    return Question(
        f"{text} The label set is {{A, B}}. What is the max-pooling loss of this bag, in nats, "
        "with these probabilities as they stand?",
        right,
        {
            "take the mean over the labels, not the sum": 2 * right,
            "take the mean of the logarithms, not the logarithm of the mean": -log(best),
            "a loss has the other sign": -right,
            "this is minus the logarithm of the exact likelihood": (
                -presence.log_likelihood(log_p, both).item()
            ),
        },
        solution="$-\\frac12 (\\log \\max p_A + \\log \\max p_B)$: the mean over the two labels "
        "of minus the logarithm of the largest probability.",
    )


def _sigmoid_case() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, 3, 2, 3, generator=generator, dtype=torch.float64) - 1
    logits[3] = 40.0  # sure of every class everywhere
    return logits, torch.tensor([[True, False, True], [False] * 3, [True] * 3, [True] * 3])


def independent(logits: Tensor, labels: Tensor, present: Callable, absent: int = 1) -> Tensor:
    """Return the sum over classes, with another rule for those present or without those absent."""
    nowhere = F.logsigmoid(-logits).flatten(2).sum(-1)  # (B, C)
    return torch.where(labels, present(logits.flatten(2)), absent * nowhere).sum(1)


def somewhere(logits: Tensor) -> Tensor:
    """Return log P(some position emits the class)."""
    return torch.log(-torch.expm1(F.logsigmoid(-logits).sum(-1)))


def _look_at_large_logits(ask: Callable) -> None:
    if close(ask(*sigmoids.cases[0]), solution.sigmoids(*sigmoids.cases[0])):
        wild = ask(torch.full((1, 1, 1, 1), 40.0), torch.tensor([[False]]))
        hint = "1 - sigmoid(40) is 0 in float32: use logsigmoid(-logits)"
        refuse(not close(wild, torch.tensor([-40.0])), hint)


@exercise(
    praise="no sum over 2**L subsets, because the classes do not compete",
    cases=[_sigmoid_case()],
    look=_look_at_large_logits,
    mistakes={
        "absent classes contribute too: no position may emit them": (
            lambda x, labels: independent(x, labels, somewhere, absent=0)
        ),
        "a class occurs if *some* position emits it, not if all do": (
            lambda x, labels: independent(x, labels, lambda z: F.logsigmoid(z).sum(-1))
        ),
        "this takes the best position only; sum over all ways to occur": (
            lambda x, labels: independent(x, labels, lambda z: F.logsigmoid(z.amax(-1)))
        ),
        "this is the probability; the exercise asks for its logarithm": (
            lambda x, labels: solution.sigmoids(x, labels).exp()
        ),
        "the sign is wrong: this is the loss": lambda x, labels: -solution.sigmoids(x, labels),
    },
)
def sigmoids(logits: Tensor, labels: Tensor) -> Tensor:
    """Return independent sigmoids, (logits (B, C, M, N), labels (B, C)) -> (B,)."""
    return independent(logits, labels, somewhere)


def merged(row: list[int]) -> list[int]:
    """Return a row with equal neighbours as one."""
    return [c for c, _ in groupby(row)]


def dropped(row: list[int], background: int) -> list[int]:
    """Return a row without the background."""
    return [c for c in row if c != background]


@exercise(
    praise="the reading rule of the paper's house numbers",
    cases=[
        ([10, 1, 1, 10, 1, 5, 5], 10),
        ([7, 7, 10, 10, 7, 7, 10], 10),
        ([10] * 7, 10),
        ([3, 4, 4, 3, 10, 10, 3], 10),
    ],
    view=padded,
    mistakes={
        "merge first, then drop: equal digits with background between them are two digits": (
            lambda row, background: merged(dropped(row, background))
        ),
        "repeats are one digit: merge them": dropped,
        "the background is not a digit: drop it at the end": lambda row, background: merged(row),
        "a digit may come back later: merge neighbours, not all equal digits": (
            lambda row, background: list(dict.fromkeys(dropped(row, background)))
        ),
    },
)
def collapse(row: list[int], background: int) -> list[int]:
    """Return a row of classes to its reading, (list of int, background) -> list of int."""
    return dropped(merged(row), background)


def _look_at_gradient(ask: Callable) -> None:
    log_prb, eta = floored.cases[0]
    leaf = log_prb.clone().requires_grad_()
    answer = ask(leaf, eta)
    if close(answer, solution.floored(log_prb, eta)):
        slope = None
        if torch.is_tensor(answer) and answer.requires_grad:
            (slope,) = torch.autograd.grad(answer.sum(), leaf, allow_unused=True)
        if slope is None or not close(slope, torch.sigmoid(log_prb - log(eta))):
            raise CheckFailed("the value is right, its gradient is not w: let autograd see log_prb")


@exercise(
    praise="its gradient is w, at no extra cost",
    cases=[(double([-0.1, -3.0, -7.0, -1000.0]), 1e-3)],
    look=_look_at_gradient,
    mistakes={
        "a clamp has no gradient below the floor: add eta to Prb instead": (
            lambda log_prb, eta: log_prb.clamp_min(log(eta))
        ),
        "eta is added to Prb, not to its logarithm": lambda log_prb, eta: log_prb + eta,
        "you added the logarithms: that is log(Prb * eta)": (
            lambda log_prb, eta: log_prb + log(eta)
        ),
        "this is the probability; the exercise asks for its logarithm": (
            lambda log_prb, eta: log_prb.exp() + eta
        ),
    },
)
def floored(log_prb: Tensor, eta: float) -> Tensor:
    """Return log(Prb + eta) and its gradient, (log_prb (B,), eta) -> (B,)."""
    return torch.logaddexp(log_prb, double(log(eta)))


@asked
def reading_of_a_row(r: Random) -> Question:
    a, b = r.sample(range(10), 2)
    row = [*[a] * r.randint(1, 3), 10, a, *[b] * r.randint(2, 3), *[10] * r.randint(0, 2), a]
    right = solution.collapse(row, 10)

    def option(reading: list[int], hint: str) -> tuple[str, bool, str]:
        return " ".join(map(str, reading)), reading == right, hint

    return choice(
        r,
        "A row of a label map is "
        + " ".join("." if c == 10 else str(c) for c in row)
        + ", with a point for background. What is its reading?",
        option(merged_then_dropped(row), ""),
        option(merged(dropped(row, 10)), "background between equal digits keeps them apart"),
        option(dropped(row, 10), "neighbours that are equal are one digit"),
        option(list(dict.fromkeys(dropped(row, 10))), "a digit may come back later"),
        solution="Merge equal neighbours first, then drop the background: "
        + " ".join(map(str, right))
        + ".",
    )


def merged_then_dropped(row: list[int]) -> list[int]:
    """Return the reading of a row with 10 for the background."""
    return dropped(merged(row), 10)


@asked
def weight_of_a_bag(r: Random) -> Question:
    p, eta = some(r, 0.05, 0.3, 2), r.choice([0.02, 0.05, 0.1, 0.2])
    log_p, seen = or_background(p), torch.tensor([[True]])
    log_prb = presence.log_likelihood(log_p, seen)
    total, exact = log_prb.exp().item(), -log_prb.item()
    largest = presence.max_pooling_loss(log_p, seen).item()
    weight = gradient(lambda x: solution.floored(x, eta), log_prb).item()
    return exam(
        f"A network gives a class the probabilities {listed(p)} at two positions. The label of the "
        "image says that the class occurs; no other class exists.",
        Question(
            "What is the exact loss, minus the log-likelihood, in nats?",
            exact,
            {
                "this is the loss for the largest probability alone": largest,
                "these are bits": exact / log(2),
                "the label asks for one position or more, not for both": -log(p[0] * p[1]),
                "this is the probability of the label": total,
            },
            solution=f"$-\\log(1 - {1 - p[0]:g} \\cdot {1 - p[1]:g}) = {exact:.4g}$.",
        ),
        Question(
            "What is the max-pooling loss, in nats?",
            largest,
            {
                "the maximum, not the mean": -log(sum(p) / 2),
                "the largest probability, not the smallest": -log(min(p)),
            },
            solution=f"$-\\log {max(p):g} = {largest:.4g}$. It is larger: the other position's "
            "share is missing.",
        ),
        Question(
            f"The loss becomes $-\\log(\\mathrm{{Prb}} + \\eta)$ with $\\eta = {eta:g}$. By which "
            "weight is the gradient of this bag multiplied?",
            weight,
            {
                "this is the share of eta; the weight is the share of Prb": 1 - weight,
                "this is Prb; divide it by Prb + eta": total,
            },
            solution=f"$w = \\mathrm{{Prb}} / (\\mathrm{{Prb}} + \\eta) = {total:.4g} / "
            f"{total + eta:.4g} = {weight:.4g}$.",
        ),
        essay(
            "Explain in two sentences what the weight does to an image with a wrong label, late in "
            "the training, and what it costs early in the training.",
            "late: the network gives a wrong label a small Prb, so its weight is near 0",
            "early: Prb may be small for right labels too, and then they are learned slowly",
            solution="A good network finds a wrong label improbable, and the weight takes the "
            "image out of the training. At first the network may find right labels improbable, "
            "too, and then they get small weights as well.",
        ),
    )
