"""Chapter 5: counts, the likelihood."""

from itertools import combinations
from math import prod
from random import Random

import torch
from torch import Tensor

from .. import counts, finite_automaton
from .core import Question, asked, choice, double, essay, exam, exercise, listed, solution, some


def joint(*rho: float) -> list[Tensor]:
    """Return P(1), and for each instance the probability that it alone is positive."""
    total, *each = solution.three_instances(*rho)
    return [total, *(total * p for p in each)]


@exercise(
    praise="only the ratios of the odds matter, and doubling all odds keeps them",
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
        f"Three instances are positive with probabilities {listed(rho)}, independently. "
        "Exactly one of them is positive. What is the probability that it is the first instance?",
        *rho,
        number=1,
        solution="Of the three configurations with one positive, take the one in which the first "
        "instance is positive. Divide its probability, $\\rho_1 (1 - \\rho_2)(1 - \\rho_3)$, by "
        "the sum of all three.",
    )


def overwritten(rho: Tensor, y: int) -> float:
    """Return (5.3) with the mistake of overwriting f(j - 1) before it is used."""
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        for j in range(y + 1):
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


@exercise(
    praise="n times y steps, and no subtraction",
    cases=[(double([0.9, 0.3, 0.6, 0.2, 0.5]), y) for y in range(6)],
    mistakes={
        "f(j - 1) must be the old value: go from y down to 0, or write into a new list": (
            overwritten
        ),
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
        f"Three instances are positive with probabilities {listed((a, b, c))}, independently. What "
        "is the probability that exactly two of them are positive?",
        *(double([a, b, c]), 2),
        without="old value|logarithm",
        more={
            "this is the probability of at least two positives, not of exactly two": pairs
            - 2 * a * b * c,
            "the third instance must be negative: multiply by its 1 - rho": pairs,
        },
        solution="Each of the three may be the negative one: $\\rho_1 \\rho_2 (1 - \\rho_3) + "
        "\\rho_1 (1 - \\rho_2) \\rho_3 + (1 - \\rho_1) \\rho_2 \\rho_3$.",
    )


@exercise(
    praise="rho plus the gradient",
    cases=[(double([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]]), torch.tensor([1, 3]))],
    mistakes={
        "this is the gradient, r - rho: add rho": (
            lambda logits, observed: counts.posterior(logits, observed) - logits.sigmoid()
        ),
        "the sign is wrong: you differentiated the loss": (
            lambda logits, observed: 2 * logits.sigmoid() - counts.posterior(logits, observed)
        ),
        "add the probability, not the logit": (
            lambda logits, observed: counts.posterior(logits, observed) - logits.sigmoid() + logits
        ),
        "this is rho: the count has not been used": lambda logits, observed: logits.sigmoid(),
        "this is the proportion y / n of each bag": (
            lambda logits, observed: (observed / logits.shape[1])[:, None].expand_as(logits)
        ),
        "this is the most probable configuration, hard EM; the E-step is soft": (
            counts.map_configuration
        ),
    },
)
def e_step(logits: Tensor, observed: Tensor) -> Tensor:
    """Return the posterior from one gradient, (logits (B, n), counts (B,)) -> (B, n)."""
    return counts.posterior(logits, observed)


def stuck(y: int) -> Tensor:
    """Return the right table, except that state y allows no further label."""
    table = solution.at_least_table(y)
    table[y] = -1
    return table


@exercise(
    praise="a counter that stops growing at y",
    cases=[(3,)],
    mistakes={
        "-1 forbids one positive more: that is 'exactly y'. Where should it lead?": (
            finite_automaton.counts
        ),
        "once y is reached, every further label is allowed": stuck,
        "label 0 is negative and keeps the state; label 1 is positive and raises it": (
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


@asked
def most_probable_pair(r: Random) -> Question:
    rho, two = some(r, 0.1, 0.9, 4), torch.tensor([2])
    best = counts.map_configuration(double([rho]).logit(), two)[0].bool().tolist()
    pairs = list(combinations(range(4), 2))
    (found,) = (pair for pair in pairs if all(best[i] for i in pair))
    wrong = r.sample([pair for pair in pairs if pair != found], 3)
    names = ["first", "second", "third", "fourth"]

    def option(i: int, j: int) -> tuple[str, bool, str]:
        hint = f"{rho[i]:g} and {rho[j]:g} are not the two largest probabilities"
        return f"the {names[i]} and the {names[j]}", (i, j) == found, hint

    return choice(
        r,
        f"Four instances are positive with probabilities {listed(rho)}, independently. Exactly two "
        "are positive. Which two are most probably the positive ones?",
        *(option(*pair) for pair in [found, *wrong]),
        solution="Given the count, the probability of a configuration is proportional to the "
        "product of the odds of its positives. The two largest odds, so the two largest "
        f"probabilities, are the {names[found[0]]} and the {names[found[1]]}.",
    )


@asked
def two_of_three(r: Random) -> Question:
    a, b, c = rho = some(r, 0.1, 0.9, 3)
    logits, two = double([rho]).logit(), torch.tensor([2])
    total = counts.log_likelihood(logits, two).exp().item()
    first, *rest = counts.posterior(logits, two)[0].tolist()
    with_first = a * (b * (1 - c) + (1 - b) * c)
    return exam(
        f"Three instances are positive with probabilities {listed(rho)}, independently. The count "
        "of the bag is two.",
        Question(
            "What is the probability of the count?",
            total,
            {
                "this is the probability of at least two positives, not of exactly two": total
                + a * b * c,
                "the third instance has to be negative": a * b + a * c + b * c,
                "any of the three may be the negative one": a * b * (1 - c),
            },
            solution="Each of the three may be the negative one: "
            f"${a:g} \\cdot {b:g} \\cdot {1 - c:g} + {a:g} \\cdot {1 - b:g} \\cdot {c:g} + "
            f"{1 - a:g} \\cdot {b:g} \\cdot {c:g} = {total:.4g}$.",
        ),
        Question(
            "What is the probability that the first instance is positive, given the count?",
            first,
            {
                "this is the prior": a,
                "divide by the probability of the count": with_first,
                "this is the probability that it is negative": 1 - first,
            },
            solution="The first instance is positive in two of the three terms. Their sum, "
            f"{with_first:.4g}, divided by {total:.4g}, is {first:.4g}.",
        ),
        Question(
            "What is the sum of the posterior probabilities of the three instances?",
            first + sum(rest),
            {
                "this is the sum before the count is known": sum(rho),
                "these are probabilities of three events, not of one": 1,
            },
            solution="The count, 2.",
        ),
        essay(
            "Explain in two sentences why you know this sum without any arithmetic.",
            "every configuration that fits the count has exactly this many positives",
            "a posterior is the expectation of a label, and expectations add up, even of dependent "
            "labels",
            solution="The sum of the posteriors is the expected number of positives, given the "
            "count. In every configuration with this count, the number of positives is the count.",
        ),
    )
