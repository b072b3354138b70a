"""Chapter 0: one idea."""

from math import comb, factorial, prod
from random import Random

import torch
from torch import Tensor

from .. import presence, toy
from .core import (
    Question,
    asked,
    choice,
    essay,
    exam,
    exercise,
    listed,
    or_background,
    random_log_p,
    solution,
    some,
)


@exercise(
    praise="both grow by the factor 1 / P(o)",
    cases=[(0.6, 0.5)],
    by_hand=True,
    mistakes={
        "you took *exactly* one point of class 0; both may be of class 0": (
            lambda p, q: (
                (one := p * (1 - q) + q * (1 - p)),
                p * (1 - q) / one,
                q * (1 - p) / one,
            )
        ),
        "you took *both* points of class 0; one is enough": lambda p, q: (p * q, 1, 1),
        "two points of background do not show class 0: subtract their probability from P(o)": (
            lambda p, q: (1, p, q)
        ),
        "r is conditional on the observation: divide each probability by P(o)": (
            lambda p, q: (p + q - p * q, p, q)
        ),
    },
)
def two_points(p: float, q: float) -> tuple:
    """Return P(o), r_1 and r_2 of label 0 for two points, by hand, () -> three numbers."""
    seen = p + q - p * q
    return seen, p / seen, q / seen


@asked
def posterior_of_a_point(r: Random) -> Question:
    p, q = some(r, 0.2, 0.8, 2)
    return two_points.question(
        f"Two points show class 0 with probabilities {p:g} and {q:g}, independently. Class 0 "
        "occurs. With which probability is the first point of class 0?",
        *(p, q),
        number=1,
        without="background",
        more={
            "divide by the probability that class 0 occurs, not by the sum of both": p / (p + q),
            "this is the probability that class 0 occurs": p + q - p * q,
        },
        solution=f"Class 0 occurs with the probability $1 - {1 - p:g} \\cdot {1 - q:g} = "
        f"{p + q - p * q:.4g}$. If the "
        f"first point is of class 0, it occurs: ${p:g} / {p + q - p * q:.4g} = "
        f"{p / (p + q - p * q):.4g}$.",
    )


@exercise(
    praise="one bit a bag, keepdim kept",
    cases=[(toy.labellings(3).reshape(8, 8, 3),)],
    mistakes={
        "this is true when *every* point is foreground; one is enough: any, not all": (
            lambda h: (h < 3).all(-1, keepdim=True)
        ),
        "this is true when there is *background*: it is label 3, the last, not label 0": (
            lambda h: (h == 3).any(-1, keepdim=True)
        ),
        "label 0 is a foreground class too; the background is the last label, 3": (
            lambda h: (h > 0).any(-1, keepdim=True)
        ),
        "you count the foreground points; the observer only says whether there is one": (
            lambda h: (h < 3).sum(-1, keepdim=True)
        ),
    },
)
def any_foreground(h: Tensor) -> Tensor:
    """Return the observer of binary multiple-instance learning, labels (..., n) -> (..., 1)."""
    return (h < 3).any(-1, keepdim=True)


@exercise(
    praise="the multinomial coefficient",
    cases=[([2, 1, 0, 1],), ([0, 0, 0, 3],), ([1, 1, 1, 3],)],
    mistakes={
        "you counted every labelling of the bag: count only those with these counts": (
            lambda counts: len(counts) ** sum(counts)
        ),
        "you told apart points of one class: divide by the orders within each class": (
            lambda counts: factorial(sum(counts))
        ),
        "the order of the points matters: n! in the numerator, not the product of the counts": (
            lambda counts: prod(map(factorial, counts))
        ),
        "you chose the points of one class only; choose those of the other classes too": (
            lambda counts: comb(sum(counts), counts[0])
        ),
    },
)
def consistent_with_counts(counts: list[int]) -> int:
    """Return how many labellings have given counts, list of int -> int."""
    return factorial(sum(counts)) // prod(map(factorial, counts))


@asked
def labellings_that_fit(r: Random) -> Question:
    a, b, c = r.randint(1, 3), r.randint(2, 4), r.randint(1, 3)
    return consistent_with_counts.question(
        f"A bag of {a + b + c} points has counts {a} of class A, {b} of class B and {c} of the "
        "background. How many labellings of its points have these counts?",
        [a, b, c],
        solution=f"${a + b + c}!$ orders of the points, divided by the orders within each class: "
        f"${a + b + c}! / ({a}! \\, {b}! \\, {c}!)$.",
    )


@exercise(
    praise="one backward pass is an E-step",
    cases=[
        (
            random_log_p(3, toy.CLASSES, seed=1) + torch.tensor([[0.5], [-1.0], [0.2]]),
            toy.presence,
            toy.presence(torch.tensor([0, 0, 3])),
        )
    ],
    mistakes={
        "this is the gradient, posterior minus prior: add the prior to it": (
            lambda z, *seen: solution.posterior_by_autograd(z, *seen) - z.softmax(-1)
        ),
        "the sign is wrong: you differentiated -log P(o)": (
            lambda z, *seen: 2 * z.softmax(-1) - solution.posterior_by_autograd(z, *seen)
        ),
        "this is the prior: the observation has not been used": lambda z, *seen: z.softmax(-1),
        "you differentiated P(o), not its logarithm": (
            lambda z, *seen: torch.lerp(
                z.softmax(-1),
                solution.posterior_by_autograd(z, *seen),
                toy.log_marginal(z.log_softmax(-1), *seen).exp(),
            )
        ),
        "you added the logits; they become probabilities only after the softmax": (
            lambda z, *seen: solution.posterior_by_autograd(z, *seen) - z.softmax(-1) + z
        ),
    },
)
def posterior_by_autograd(logits: Tensor, observe: toy.Observer, observed: Tensor) -> Tensor:
    """Return the posterior from one backward pass, (logits, observe, observed) -> (n, k)."""
    return toy.posterior(logits.log_softmax(-1), observe, observed)


@asked
def labelling_that_fits(r: Random) -> Question:
    a, b, c = r.sample(range(3), 3)
    seen = toy.presence(torch.tensor([a, c]))

    def option(labels: list[int], hint: str) -> tuple[str, bool, str]:
        labels = r.sample(labels, len(labels))
        fits = torch.equal(toy.presence(torch.tensor(labels)), seen)
        return " ".join("ABC-"[label] for label in labels), fits, hint

    names = ["ABC"[x] for x in (a, b, c)]
    return choice(
        r,
        "An image has four points; each is of class A, B or C, or background (-). Its label set is "
        f"{{{', '.join(sorted((names[0], names[2])))}}}. Which of these labellings is consistent "
        "with it?",
        option([a, c, r.choice([a, c]), 3], ""),
        option([a, a, 3, 3], f"{names[2]} occurs nowhere, and the label set has it"),
        option([a, b, c, 3], f"{names[1]} occurs, and the label set does not have it"),
        option([3, 3, 3, c], f"{names[0]} occurs nowhere, and the label set has it"),
        solution="The classes of the label set occur, each at least once, and no other class does. "
        "The background may occur or not: it is not in the label set.",
    )


@asked
def belief_at_three_points(r: Random) -> Question:
    p = some(r, 0.2, 0.8, 3)
    log_p, seen = or_background(p), torch.tensor([[True]])
    total = presence.log_likelihood(log_p, seen).exp().item()
    first = presence.posterior(log_p, seen)[0, 0, 0].item()
    nowhere = " \\cdot ".join(f"(1 - {x:g})" for x in p)
    return exam(
        f"Three points show class A with probabilities {listed(p)}, independently, and background "
        "otherwise. The observation is: A occurs.",
        Question(
            "What is the probability of the observation?",
            total,
            {
                "probabilities of events that can both happen do not add up": sum(p),
                "this is the probability that A occurs nowhere": 1 - total,
                "one point of class A is enough: this is the probability that all three are": prod(
                    p
                ),
            },
            solution=f"A occurs unless it is missing everywhere: $1 - {nowhere} = {total:.4g}$.",
        ),
        Question(
            "With which probability is the first point of class A, given the observation?",
            first,
            {
                "this is the prior: the observation has not been used": p[0],
                "divide by the probability of the observation, not by the sum of the three": (
                    p[0] / sum(p)
                ),
                "divide by P(o), do not multiply with it": p[0] * total,
            },
            solution="If the first point is of class A, the observation follows. So the joint "
            f"probability is {p[0]:g}, and Bayes gives ${p[0]:g} / {total:.4g} = {first:.4g}$.",
        ),
        Question(
            "By which factor does the belief in class A grow at the second point?",
            1 / total,
            {
                "this is the posterior; divide it by the prior": p[1] / total,
                "this is P(o); a belief grows by 1 / P(o)": total,
            },
            solution=f"$1 / P(o) = {1 / total:.4g}$, as at each point.",
        ),
        essay(
            "Explain in two sentences why the factor is the same at all three points.",
            "A at one point makes the observation certain, so P(A there and o) is the prior",
            "Bayes divides this prior by P(o), which does not depend on the point",
            solution="If a point is of class A, then A occurs, whatever the others are; the "
            "probability of both together is the prior of the point. Bayes divides it by P(o), one "
            "number for the whole image.",
        ),
    )
