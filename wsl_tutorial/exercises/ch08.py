"""Chapter 8: patches, lifting."""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import patches
from .core import Question, asked, double, exercise, listed


@exercise(
    praise="one of three is a side",
    mistakes={
        "the terms h**2 / sum h are not the h: square first": lambda: (22, 11, 11),
        "divide by the sum of h, which is not 1": lambda: (11, 11, 4.6),
        "the printed moment is not divided by anything": lambda: (22, 22, 4.6),
        "the third moment is printed, so not normalised either": lambda: (22, 11, 4.6 / 0.22),
        "this is the plain mean of the scales: weigh them": lambda: (70 / 3, 11, 4.6),
    },
)
def three_sides() -> tuple:
    """Return (8.6), the printed moment, and that of pooled terms, () -> three numbers."""
    h, scales = double([0.1, 0.3, 0.1]), double([10, 20, 40])
    moment = patches.first_moment(h[None, :, None, None], scales)
    return moment.item(), h @ scales, h.square() / h.sum() @ scales


def row(scores: Tensor, size: int, strength: float, outside: float = 0.0) -> Tensor:
    """Return the softmax over a window, with a weight of each pixel outside."""
    e = (strength * scores).exp()
    return e / F.pad(e, (size // 2, size // 2), value=outside).unfold(0, size, 1).sum(1)


@exercise(
    praise="every window by itself",
    cases=[(double([0.3, 1.0, 0.2, -0.4, 0.8, 0.1]), 3, 4.0)],
    mistakes={
        "padding is no pixel: outside there is nobody, with weight 0": (
            lambda s, n, a: row(s, n, a, outside=1.0)
        ),
        "the softmax is local: sum over the window, not over the row": (
            lambda s, n, a: (a * s).softmax(0)
        ),
        "multiply the scores by the strength": lambda s, n, a: row(s, n, 1.0),
        "size is the whole window, size // 2 to each side": lambda s, n, a: row(s, 2 * n + 1, a),
        "divide by the sum over the window": lambda s, n, a: (a * s).exp(),
        "this is its logarithm": lambda s, n, a: row(s, n, a).log(),
    },
)
def local_softmax_row(scores: Tensor, size: int, strength: float) -> Tensor:
    """Return Eq. (8.1) in one dimension, (scores (n,), size, strength) -> (n,)."""
    return patches.local_softmax(scores[None, None], size, strength)[0, 0]


@asked
def second_place(r: Random) -> Question:
    top = r.randint(2, 7)
    h = [round(0.9 - 0.1 * abs(i - top) + r.randint(0, 4) / 100, 2) for i in range(10)]
    other = top + 4 if top + 4 < 10 else top - 4
    h[top], h[other] = 0.97, 0.75
    places, _ = patches.extract(double(h)[None, None], 2, 3, 1.0)
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


def step(x: Tensor, x0: Tensor, slope: Tensor, weight: float) -> Tensor:
    """Return the minimum of a linear loss near x with a pull to x0, a step of length 1."""
    return (x - slope + weight * x0) / (1 + weight)


@exercise(
    praise="no penalty is too great",
    cases=[
        (
            torch.tensor([[4.0, 2.0], [1.0, 7.0]]),
            torch.tensor([[3.0, 2.5], [1.0, 5.0]]),
            torch.tensor([[0.2, -0.1], [0.4, 0.3]]),
            *(2.0, 0.75),
        )
    ],
    mistakes={
        "an explicit step on the penalty runs away for great penalties: divide instead": (
            lambda x, x0, g, lr, penalty: x - lr * (g + 2 * penalty * (x - x0))
        ),
        "the derivative of |x - x0|**2 has a factor 2": (
            lambda x, x0, g, lr, penalty: step(x, x0, lr * g, lr * penalty)
        ),
        "the penalty pulls to x0, where the round began, not to x": (
            lambda x, x0, g, lr, penalty: step(x, x, lr * g, 2 * lr * penalty)
        ),
        "the penalty is missing": lambda x, x0, g, lr, penalty: x - lr * g,
        "the loss falls along -g": (
            lambda x, x0, g, lr, penalty: step(x, x0, -lr * g, 2 * lr * penalty)
        ),
        "divide everything, not the start alone": (
            lambda x, x0, g, lr, penalty: x - lr * g + x0 / (1 + 1 / (2 * lr * penalty))
        ),
    },
)
def proximal_step(x: Tensor, x0: Tensor, g: Tensor, lr: float, penalty: float) -> Tensor:
    """Return Eq. (8.9), (x, x0, g (K, 2), lr, penalty) -> (K, 2)."""
    return step(x, x0, lr * g, 2 * lr * penalty)


@exercise(
    praise="8e-4 for the release",
    cases=[(2, 1e4, 32), (1, 50.0, 1), (5, 300.0, 8)],
    mistakes={
        "the mean divides the gradient of each image by the batch": lambda m, a, b: 1 / (2 * m * a),
        "a larger batch means smaller steps, so a greater penalty": (
            lambda m, a, b: 1 / (2 * m * a * b)
        ),
        "the derivative of lambda |x - x0|**2 has a factor 2": lambda m, a, b: b / (m * a),
        "all steps together go the way: m belongs in it": lambda m, a, b: b / (2 * a),
        "more steps hold less: turn the fraction round": lambda m, a, b: 2 * m * a / b,
    },
)
def implicit_penalty(steps: int, lr: float, batch: int) -> float:
    """Return the penalty of one image that early stopping amounts to, (steps, lr, batch)."""
    return batch / (2 * steps * lr)
