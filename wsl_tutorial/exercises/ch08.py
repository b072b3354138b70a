"""Chapter 8: patches, lifting."""

from math import isclose
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import patches
from .core import Question, asked, choice, double, essay, exam, exercise, listed


@exercise(
    praise="only the first of the three is a weighted mean of the scales",
    mistakes={
        "the third moment uses h**2 / sum h, not h: square the values": lambda: (22, 11, 11),
        "divide by the sum of h, which is not 1": lambda: (11, 11, 4.6),
        "the printed moment is not divided by anything": lambda: (22, 22, 4.6),
        "the third moment is printed, so not normalised either": lambda: (22, 11, 4.6 / 0.22),
        "this is the plain mean of the scales: weight them by h": lambda: (70 / 3, 11, 4.6),
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
    praise="each window has its own sum",
    cases=[(double([0.3, 1.0, 0.2, -0.4, 0.8, 0.1]), 3, 4.0)],
    mistakes={
        "there are no pixels beyond the ends: padding must have weight 0 in the sum": (
            lambda s, n, a: row(s, n, a, outside=1.0)
        ),
        "the softmax is local: sum over the window, not over the row": (
            lambda s, n, a: (a * s).softmax(0)
        ),
        "multiply the scores by the strength": lambda s, n, a: row(s, n, 1.0),
        "size is the whole window, size // 2 to each side": lambda s, n, a: row(s, 2 * n + 1, a),
        "divide by the sum over the window": lambda s, n, a: (a * s).exp(),
        "this is the logarithm of the result": lambda s, n, a: row(s, n, a).log(),
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
        f"A heat map of one row has the values {listed(h)}. A pixel survives if neither neighbour "
        "is larger, and the two largest are extracted. Where, counted from 0, is the second?",
        places[0, 1, 0].item(),
        {
            "this pixel has a larger neighbour, so it does not survive the suppression": plain[1],
            "this is the largest value, the first place": plain[0],
        },
        solution=f"The largest value, 0.97, is at {top}, and its neighbours are suppressed. The "
        f"next local maximum, the largest of its three pixels, is at {places[0, 1, 0]:g}.",
    )


def step(x: Tensor, x0: Tensor, slope: Tensor, weight: float) -> Tensor:
    """Return the minimum of a linear loss near x with a pull to x0, a step of length 1."""
    return (x - slope + weight * x0) / (1 + weight)


@exercise(
    praise="this step is stable for every penalty",
    cases=[
        (
            torch.tensor([[4.0, 2.0], [1.0, 7.0]]),
            torch.tensor([[3.0, 2.5], [1.0, 5.0]]),
            torch.tensor([[0.2, -0.1], [0.4, 0.3]]),
            *(2.0, 0.75),
        )
    ],
    mistakes={
        "an explicit step diverges for large penalties: divide, as (8.9) does": (
            lambda x, x0, g, lr, penalty: x - lr * (g + 2 * penalty * (x - x0))
        ),
        "the derivative of |x - x0|**2 has a factor 2": (
            lambda x, x0, g, lr, penalty: step(x, x0, lr * g, lr * penalty)
        ),
        "the penalty pulls towards x0, where the round began, not towards x": (
            lambda x, x0, g, lr, penalty: step(x, x, lr * g, 2 * lr * penalty)
        ),
        "the penalty is missing": lambda x, x0, g, lr, penalty: x - lr * g,
        "the loss falls along -g: subtract the gradient": (
            lambda x, x0, g, lr, penalty: step(x, x0, -lr * g, 2 * lr * penalty)
        ),
        "divide the whole numerator, not the term with x0 alone": (
            lambda x, x0, g, lr, penalty: x - lr * g + x0 / (1 + 1 / (2 * lr * penalty))
        ),
    },
)
def proximal_step(x: Tensor, x0: Tensor, g: Tensor, lr: float, penalty: float) -> Tensor:
    """Return Eq. (8.9), (x, x0, g (K, 2), lr, penalty) -> (K, 2)."""
    return step(x, x0, lr * g, 2 * lr * penalty)


@exercise(
    praise="for the release this gives 8e-4",
    cases=[(2, 1e4, 32), (1, 50.0, 1), (5, 300.0, 8)],
    mistakes={
        "the mean divides the gradient of each image by the batch": lambda m, a, b: 1 / (2 * m * a),
        "a larger batch means smaller steps, so a larger penalty": (
            lambda m, a, b: 1 / (2 * m * a * b)
        ),
        "the derivative of lambda |x - x0|**2 has a factor 2": lambda m, a, b: b / (m * a),
        "the penalty depends on the number of steps m": lambda m, a, b: b / (2 * a),
        "more steps mean a smaller penalty: invert the fraction": lambda m, a, b: 2 * m * a / b,
    },
)
def implicit_penalty(steps: int, lr: float, batch: int) -> float:
    """Return the penalty of one image that early stopping amounts to, (steps, lr, batch)."""
    return batch / (2 * steps * lr)


@asked
def penalty_of_a_setting(r: Random) -> Question:
    factor, what = r.choice([2, 3, 4, 5, 10]), r.choice(["steps", "rate", "batch"])
    before = implicit_penalty.right(2, 100.0, 8)
    setting = {"steps": (2 * factor, 100.0, 8), "rate": (2, 100.0 * factor, 8)}
    after = implicit_penalty.right(*setting.get(what, (2, 100.0, 8 * factor)))
    ways = {
        factor: ("it becomes {} times larger", "places that move farther have a weaker pull back"),
        1 / factor: ("it becomes {} times smaller", "the mean over a larger batch shortens steps"),
        1: (
            "it stays as it is",
            "the distance that the places move changes, and with it the penalty",
        ),
        factor**2: (
            "it becomes {} times larger",
            "the penalty does not depend on the square of this setting",
        ),
    }
    named = {"steps": "number of steps", "rate": "learning rate", "batch": "batch"}[what]
    return choice(
        r,
        "A program moves places by some gradient steps on the mean loss of a batch and stops. The "
        f"{named} becomes {factor} times as large. What happens to the penalty of one image that "
        "stopping early amounts to?",
        *(
            (text.format(round(max(x, 1 / x))), isclose(after / before, x), hint)
            for x, (text, hint) in ways.items()
        ),
        solution="The penalty is $B / (2 m \\alpha)$ for $m$ steps at the rate $\\alpha$ in a "
        f"batch of $B$; it changes by the factor {after / before:.3g}.",
    )


@asked
def side_and_step(r: Random) -> Question:
    h = [x / 10 for x in r.sample(range(1, 9), 3)]
    scales = double([10, 20, 40])
    side = patches.first_moment(double(h)[None, :, None, None], scales).item()
    printed = (double(h) @ scales).item()
    x0, x, g = r.randint(5, 9), r.randint(10, 20), r.randint(1, 9) / 10
    lr, penalty = r.choice([0.5, 1.0, 2.0]), r.choice([0.5, 1.0, 2.0, 3.0])
    case = (double([[x]]), double([[x0]]), double([[g]]), lr, penalty)
    moved = proximal_step.right(*case).item()
    return exam(
        f"At one pixel the heat maps of the scales 10, 20 and 40 have the values {listed(h)}.",
        Question(
            "What is the side that the normalised first moment gives?",
            side,
            {
                "divide by the sum of the values, which is not 1": printed,
                "this is the plain mean of the scales": 70 / 3,
            },
            solution=f"$\\sum h_s s / \\sum h_s = {printed:.4g} / {sum(h):.2g} = {side:.4g}$.",
        ),
        proximal_step.question(
            f"A coordinate is at {x}; its round began at {x0}. The gradient of the loss is "
            f"{g:g}, the rate {lr:g} and the penalty $\\lambda = {penalty:g}$. Where does the "
            "implicit (proximal) step lead?",
            *case,
            number=(0, 0),
            solution="The gradient step, then the pull: "
            f"$({x} - {lr:g} \\cdot {g:g} + 2 \\cdot {lr:g} \\cdot {penalty:g} \\cdot {x0}) / "
            f"(1 + 2 \\cdot {lr:g} \\cdot {penalty:g}) = {moved:.4g}$.",
        ),
        essay(
            "Explain in two sentences why the implicit step is safe for every penalty and an "
            "explicit step on the penalty is not.",
            "the implicit step ends between the gradient step and the place where the round began",
            "an explicit step multiplies the distance to it by 1 - 2 lr lambda, which grows in "
            "size once lr lambda is above 1",
            solution="The implicit step is a weighted mean of two points, whatever the penalty. "
            "The explicit one jumps past the start when $2 \\alpha \\lambda > 1$ and farther away "
            "each time when it is above 2.",
        ),
    )
