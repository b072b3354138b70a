"""Chapter 11: regions, entropy."""

from collections.abc import Callable
from math import log, log2
from random import Random

import torch
from torch import Tensor

from .. import regions
from .core import (
    Question,
    asked,
    choice,
    double,
    essay,
    exam,
    exercise,
    gradient,
    listed,
    solution,
    some,
)

ENTROPY, CROSS, LOG3 = 1.5, 5 / 3, log2(3)  # of (1/2, 1/4, 1/4), in bits


@exercise(
    praise="H below log C, and (11.2) above",
    mistakes={
        "(11.2) is not log C: that is its smallest value, for p = u": lambda: (ENTROPY, LOG3, 0),
        "(11.2) is the mean surprise under u, not under p": (
            lambda: (ENTROPY, ENTROPY, LOG3 - ENTROPY)
        ),
        "this is KL(p || u) = log C - H(p); the exercise asks for KL(u || p)": (
            lambda: (ENTROPY, CROSS, LOG3 - ENTROPY)
        ),
        "KL = cross-entropy minus the entropy *of u*, which is log C": (
            lambda: (ENTROPY, CROSS, CROSS - ENTROPY)
        ),
        "in units of log 2, please: these are nats": (
            lambda: [log(2) * x for x in solution.three_entropies()]
        ),
    },
)
def three_entropies() -> tuple:
    """Return H, (11.2) and KL(u || p) of the answer (1/2, 1/4, 1/4), () -> bits."""
    return ENTROPY, CROSS, CROSS - LOG3


def slope(logits: Tensor, entropy: float = 1) -> Tensor:
    """Return p (log p + H) of each class, with a factor before the entropy H."""
    p = logits.softmax(1)
    return torch.special.xlogy(p, p) + entropy * p * regions.conditional_entropy(logits)[:, None]


@exercise(
    praise="it vanishes where the classifier is certain",
    cases=[(double([[2.0, 0.0, -1.0], [0.3, -torch.inf, 0.1]]),)],
    signs={"0 times -inf is NaN: where p is 0, the entry is 0": lambda a: a.isnan().any()},
    mistakes={
        "this is the gradient of H; the exercise asks for -H": lambda z: -slope(z),
        "this is the gradient of (11.2), p - 1/C": lambda z: z.softmax(1) - 1 / z.shape[1],
        "each p depends on all logits: the normaliser contributes + H": lambda z: slope(z, 0),
        "this is the derivative for p, not for the logits": (
            lambda z: z.log_softmax(1).masked_fill(z == -torch.inf, 0) + 1
        ),
        "the sign of H is wrong: H is minus the mean of log p": lambda z: slope(z, -1),
    },
)
def entropy_gradient(logits: Tensor) -> Tensor:
    """Return gradient of -H in the logits (B, C), some of them -inf -> (B, C)."""
    return gradient(lambda z: -regions.conditional_entropy(z), logits)


@asked
def two_gradients(r: Random) -> Question:
    a, b = some(r, 0.05, 0.45, 2)
    p = [a, b, round(1 - a - b, 2)]
    return entropy_gradient.question(
        f"A classifier answers {listed(p)}. What is the derivative of minus its entropy with "
        "respect to the first logit, in nats?",
        double([p]).log(),
        number=(0, 0),
        solution="The derivative is $p_1 (\\log p_1 + H)$ with the entropy $H$ of the answer.",
    )


@asked
def entropy_that_is_left(r: Random) -> Question:
    (p,) = some(r, 0.02, 0.4)
    right = regions.conditional_entropy(double([[p, 1 - p]]).log()).item()
    return Question(
        f"On X+ a classifier of two classes answers {p:g} and {1 - p:g}. What is the entropy of "
        "this answer, in nats?",
        right,
        {
            "these are bits": right / log(2),
            "sum over both classes": -p * log(p),
            "this is the cross-entropy to the uniform": -(log(p) + log(1 - p)) / 2,
        },
        solution=f"$-{p:g} \\log {p:g} - {1 - p:g} \\log {1 - p:g} = {right:.4g}$.",
    )


def negative_entropy(p: Tensor) -> Tensor:
    """Return the sum of p log p."""
    return torch.special.xlogy(p, p).sum()


@exercise(
    praise="it is zero for a classifier that predicts the prior",
    cases=[(double([[1.0, -0.5, 0.2], [-2.0, 800.0, 0.0]]), double([0.5, 0.3, 0.2]))],
    signs={
        "one number an image: no mean over the batch": lambda a: a.shape == (),
        "a certain row underflows: use log_softmax, not the log of softmax": (
            lambda a: not a.isfinite().all()
        ),
    },
    mistakes={
        "this is KL(p || prior): weight the logarithms with the prior, not with p": (
            lambda z, prior: (z.softmax(1) * (z.log_softmax(1) - prior.log())).sum(1)
        ),
        "this is (11.3); subtract the entropy of the prior": regions.cross_entropy_to_prior,
        "subtract H(prior) from (11.3), do not add it": (
            lambda z, prior: regions.cross_entropy_to_prior(z, prior) - negative_entropy(prior)
        ),
        "the target is the prior, not the uniform distribution": (
            lambda z, prior: solution.divergence_from_prior(z, torch.full_like(prior, 1 / 3))
        ),
        "the logits are not normalised: take log_softmax": (
            lambda z, prior: (prior * (prior.log() - z)).sum(1)
        ),
    },
)
def divergence_from_prior(logits: Tensor, prior: Tensor) -> Tensor:
    """Return KL(prior || p) of logits (B, C) and prior (C,) -> (B,)."""
    return regions.cross_entropy_to_prior(logits, prior) + negative_entropy(prior)


def _joint() -> Tensor:
    """Return a law of Y, X+ and X- with a class impossible for one X+, another for one X-."""
    joint = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    joint[0, 1], joint[1, :, 1] = 0, 0
    return joint / joint.sum()


def left_open(joint: Tensor) -> Tensor:
    """Return H(Y | X) of a joint law, Y the first axis."""
    return negative_entropy(joint.sum(0)) - negative_entropy(joint)


def from_information(rule: Callable) -> Callable:
    """Return a function of a joint law that applies a rule to I(Y; X-), I(Y; X+) and I(Y; X)."""

    def answer(joint: Tensor):
        h = -negative_entropy(joint.sum((1, 2)))
        return rule(*(h - left_open(part) for part in (joint.sum(1), joint.sum(2), joint)))

    return answer


@exercise(
    praise="a complete mask need not be sufficient, nor a sufficient one complete",
    cases=[(_joint(),)],
    signs={"0 log 0 is 0: use torch.special.xlogy": lambda a: a.isnan().any()},
    mistakes={
        "conditional and marginal information differ: use X+ in the second": (
            from_information(lambda minus, plus, both: (minus, minus))
        ),
        "the second is I(Y; X) minus I(Y; X+), not I(Y; X) itself": (
            from_information(lambda minus, plus, both: (minus, both))
        ),
        "you conditioned on X-: I(Y; X+ | X-)": (
            from_information(lambda minus, plus, both: (minus, both - minus))
        ),
        "the first is of X- alone, not of X+": (
            from_information(lambda minus, plus, both: (plus, both - plus))
        ),
        "these are bits; the exercise asks for nats": (
            lambda joint: [x / log(2) for x in solution.mutual_information(joint)]
        ),
        "these are the remaining entropies of Y, not the information about Y": (
            lambda joint: (left_open(joint.sum(1)), left_open(joint))
        ),
    },
)
def mutual_information(joint: Tensor) -> tuple[Tensor, Tensor]:
    """Return I(Y; X-) and I(Y; X- | X+) of joint (2, a, b) -> two numbers, in nats."""
    return from_information(lambda minus, plus, both: (minus, both - plus))(joint)


@asked
def largest_cross_entropy(r: Random) -> Question:
    def answer(low: float, high: float) -> list[float]:
        (p,) = some(r, low, high)
        (q,) = some(r, (1 - p) / 2 - 0.01, (1 - p) / 2 + 0.01)
        return r.sample([p, q, round(1 - p - q, 2)], 3)

    answers = [answer(0.9, 0.94), answer(0.36, 0.4), answer(0.5, 0.6), answer(0.7, 0.8)]
    logits = double(answers).log()
    cross = regions.cross_entropy_to_uniform(logits)
    entropy = regions.conditional_entropy(logits)
    hints = ["", "this one has the largest entropy; (11.2) is smallest for the uniform answer"]
    hints += [f"{listed(p)} is closer to uniform than another one" for p in answers[2:]]
    return choice(
        r,
        "Four classifiers of three classes answer "
        + "; ".join(listed(sorted(p)) for p in sorted(answers))
        + ". Which answer has the largest cross-entropy (11.2) to the uniform distribution?",
        *((listed(p), c == cross.max(), h) for p, c, h in zip(answers, cross, hints, strict=True)),
        solution="$-\\frac1C \\sum_c \\log \\hat p_c$ is largest where the product of the "
        f"probabilities is smallest, here for the surest answer: {cross.max():.3g} nats. Its "
        f"entropy is the smallest, {entropy.min():.3g} nats.",
    )


@asked
def entropies_of_an_answer(r: Random) -> Question:
    a, b = some(r, 0.05, 0.45, 2)
    p = [a, b, round(1 - a - b, 2)]
    z = double([p]).log()
    h, cross = regions.conditional_entropy(z).item(), regions.cross_entropy_to_uniform(z).item()
    step = solution.entropy_gradient(z)[0, 0].item()
    return exam(
        f"A classifier of three classes answers {listed(p)}.",
        Question(
            "What is the entropy of its answer, in nats?",
            h,
            {"these are bits": h / log(2), "this is the cross-entropy (11.2)": cross},
            solution=f"$-\\sum p \\log p = {h:.4g}$.",
        ),
        Question(
            "What is the divergence $\\mathrm{KL}(u \\,\\|\\, \\hat p)$ from the uniform "
            "distribution, in nats?",
            cross - log(3),
            {
                "this is KL of the other order, log C minus the entropy": log(3) - h,
                "this is the cross-entropy; subtract the entropy log C of u": cross,
                "subtract the entropy of u, not of the answer": cross - h,
                "these are bits": (cross - log(3)) / log(2),
            },
            solution=f"The cross-entropy (11.2), {cross:.4g}, minus $\\log 3$: "
            f"{cross - log(3):.4g}.",
        ),
        Question(
            "What is the derivative of the negative entropy in the first logit, in nats?",
            step,
            {
                "the normaliser brings the entropy: p (log p + H)": a * log(a),
                "this is the derivative of the entropy; its sign is turned": -step,
                "this is the gradient of (11.2)": a - 1 / 3,
            },
            solution=f"$p (\\log p + H) = {a:g} \\cdot ({log(a):.4g} + {h:.4g}) = {step:.4g}$.",
        ),
        essay(
            "The background of an image is to be made uninformative. Explain in two sentences what "
            "the cross-entropy to the uniform distribution does for a classifier that is almost "
            "sure there, and the negative entropy does not.",
            "the gradient p (log p + H) of the negative entropy goes to zero as p goes to one",
            "the gradient p - 1/C of the cross-entropy stays, so it pushes a sure answer back",
            solution="Where the classifier is almost sure, the negative entropy is nearly flat in "
            "the logits and pushes hardly at all. The cross-entropy has the slope $p - 1/C$ there, "
            "which is large just where the answer is sure.",
        ),
    )
