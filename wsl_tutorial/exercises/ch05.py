"""Chapter 5: counts, the likelihood."""

from math import prod
from random import Random

import torch
from torch import Tensor

from .. import counts, finite_automaton
from .core import Question, asked, double, exercise, listed, solution, some


def joint(*rho: float) -> list[Tensor]:
    """Return P(1), and for each instance the probability that it alone is positive."""
    total, *each = solution.three_instances(*rho)
    return [total, *(total * p for p in each)]


@exercise(
    praise="the odds decide, and doubling all of them changes nothing",
    cases=[(0.5, 0.5, 0.2)],
    by_hand=True,
    mistakes={
        "P(1) counts one positive *and* two negatives: multiply by 1 - rho of the others": (
            lambda *rho: [sum(rho), *(p / sum(rho) for p in rho)]
        ),
        "these are the priors: divide the probability of each configuration by P(1)": (
            lambda *rho: [solution.three_instances(*rho)[0], *rho]
        ),
        "the posteriors sum to the count, 1: divide by P(1)": joint,
        "this is 'at least one'; the count is exactly one": (
            lambda *rho: [(some := 1 - prod(1 - p for p in rho)), *(p / some for p in rho)]
        ),
    },
)
def three_instances(*rho: float) -> list[Tensor]:
    """Return P(1) and the posteriors of three instances, by hand, () -> four numbers."""
    logits, one = double([rho]).logit(), torch.tensor([1])
    return [counts.log_likelihood(logits, one)[0].exp(), *counts.posterior(logits, one)[0]]


@asked
def posterior_of_an_instance(r: Random) -> Question:
    rho = some(r, 0.1, 0.9, 3)
    return three_instances.question(
        f"Three instances are positive with probabilities {listed(rho)}; exactly one of them is. "
        "With which probability is it the first?",
        *rho,
        number=1,
    )


def overwritten(rho: Tensor, y: int) -> float:
    """Return (5.3) with the mistake of overwriting f(j - 1) before it is used."""
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        for j in range(y + 1):
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


@exercise(
    praise="n times y steps, nothing subtracted",
    cases=[(double([0.9, 0.3, 0.6, 0.2, 0.5]), y) for y in range(6)],
    mistakes={
        "f(j - 1) must be the old one: go from y down to 0, or write into a new list": overwritten,
        "this is the probability of at most y: return f(y) alone": (
            lambda rho, y: sum(solution.count_probability(rho, k) for k in range(y + 1))
        ),
        "the exercise asks for the probability, not its logarithm": (
            lambda rho, y: solution.count_probability(rho, y).log()
        ),
        "this takes the mean of rho for every instance: the binomial distribution": (
            lambda rho, y: solution.count_probability(rho.mean().expand_as(rho), y)
        ),
        "positives and negatives are swapped": (
            lambda rho, y: solution.count_probability(rho, len(rho) - y)
        ),
    },
)
def count_probability(rho: Tensor, y: int) -> Tensor:
    """Return P(y | X) by the recursion, rho (n,) and y -> number, for several counts."""
    return counts.log_distribution(rho.logit()[None])[0, y].exp()


@asked
def count_of_three(r: Random) -> Question:
    a, b, c = some(r, 0.1, 0.9, 3)
    pairs = a * b + a * c + b * c
    return count_probability.question(
        f"Three instances are positive with probabilities {listed((a, b, c))}, independently. With "
        "which probability are exactly two of them positive?",
        *(double([a, b, c]), 2),
        without="old one|logarithm",
        more={
            "at least two is more than exactly two": pairs - 2 * a * b * c,
            "the third instance must be negative: multiply by its 1 - rho": pairs,
        },
    )


@exercise(
    praise="rho plus the gradient",
    cases=[(double([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]]), torch.tensor([1, 3]))],
    mistakes={
        "this is the gradient, r - rho: add rho": (
            lambda logits, told: counts.posterior(logits, told) - logits.sigmoid()
        ),
        "the sign is turned: you differentiated the loss": (
            lambda logits, told: 2 * logits.sigmoid() - counts.posterior(logits, told)
        ),
        "add the probability, not the logit": (
            lambda logits, told: counts.posterior(logits, told) - logits.sigmoid() + logits
        ),
        "this is rho: the count has not been used": lambda logits, told: logits.sigmoid(),
        "this is the proportion y / n of each bag": (
            lambda logits, told: (told / logits.shape[1])[:, None].expand_as(logits)
        ),
        "this is the most probable configuration, hard EM; the E-step is soft": (
            counts.map_configuration
        ),
    },
)
def e_step(logits: Tensor, told: Tensor) -> Tensor:
    """Return the posterior from one gradient, (logits (B, n), counts (B,)) -> (B, n)."""
    return counts.posterior(logits, told)


def stuck(y: int) -> Tensor:
    """Return the right table, but for the state y, which nothing may follow."""
    table = solution.at_least_table(y)
    table[y] = -1
    return table


@exercise(
    praise="a counter that saturates",
    cases=[(3,)],
    mistakes={
        "-1 forbids one positive more: that is 'exactly y'. Where should it lead?": (
            finite_automaton.counts
        ),
        "once y is reached, everything that follows is allowed": stuck,
        "label 0 is the negative one and keeps the state; label 1 raises it": (
            lambda y: solution.at_least_table(y).flip(1)
        ),
        "a positive must raise the state by one until it is y": (
            lambda y: torch.arange(y + 1)[:, None].expand(-1, 2)
        ),
    },
)
def at_least_table(y: int) -> Tensor:
    """Return the automaton of 'at least y positives', y -> transition (y + 1, 2)."""
    return (torch.arange(y + 1)[:, None] + torch.arange(2)).clamp_max(y)
