"""Chapter 16: your own bags."""

from math import isclose
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .core import Question, asked, choice, double, essay, exam, exercise


@exercise(
    praise="three copies count once",
    mistakes={
        "three copies are one instance: the effective size is 1, not 3": lambda: (
            1 - 0.5**3,
            0.5,
            3,
        ),
        "this is the probability that all are negative: subtract it from one": lambda: (
            0.5**3,
            0.5,
            1,
        ),
        "the effective size is the sum of the three weights 1/3": lambda: (1 - 0.5**3, 0.5, 1 / 3),
    },
)
def three_copies() -> tuple:
    """Return of 3 copies with p = 1/2: P(positive) if independent, if one, effective size."""
    return 1 - 0.5**3, 0.5, 1


@asked
def copies_of_one(r: Random) -> Question:
    copies, percent = r.randint(2, 9), 5 * r.randint(2, 12)
    p = percent / 100
    return Question(
        f"A bag contains {copies} exact copies of one instance, which is positive with a "
        f"probability of {percent} %. A classifier treats them as independent. Which probability "
        "of a positive bag does it compute?",
        1 - (1 - p) ** copies,
        {
            "this is the true probability; the question asks for the classifier's": p,
            "probabilities of independent events do not add up": copies * p,
            "this is the probability that all copies are positive": p**copies,
        },
        solution=f"For independent instances, one minus the probability that all are negative: "
        f"$1 - {1 - p:g}^{{{copies}}}$.",
    )


def _cases() -> list[tuple[Tensor, Tensor]]:
    z = double([[0.5, -1.0, 2.0, -40.0], [-58.0, -60.0, -62.0, -60.0]])
    return [(z, double([[1.0, 0.5, 0.5, 1.0], [0.25, 0.25, 0.25, 0.25]]))]


@exercise(
    praise="softplus and expm1 keep small probabilities",
    cases=_cases(),
    mistakes={
        "the weights belong in the exponent: each log(1 - p) times its weight": lambda z, w: (
            torch.log(1 - (1 - z.sigmoid()).prod(1))
        ),
        "multiply the softplus of each instance by its weight": lambda z, w: torch.log(
            -torch.expm1(-F.softplus(z).sum(1))
        ),
        "at logits of -60 all digits are lost: use softplus and expm1": lambda z, w: torch.log(
            1 - ((1 - z.sigmoid()) ** w).prod(1)
        ),
        "weight the evidence, the softplus of the logit, not the logit": lambda z, w: torch.log(
            -torch.expm1(-F.softplus(w * z).sum(1))
        ),
        "this is the log-probability that the concept does not occur": lambda z, w: (
            -(w * F.softplus(z)).sum(1)
        ),
        "the exercise asks for a logarithm": lambda z, w: -torch.expm1(-(w * F.softplus(z)).sum(1)),
    },
)
def log_occurs(logits: Tensor, weights: Tensor) -> Tensor:
    """Return log P(concept occurs), (logits (B, n), weights (B, n)) -> (B,)."""
    return torch.log(-torch.expm1(-(weights * F.softplus(logits)).sum(1)))


@asked
def copies_with_weights(r: Random) -> Question:
    copies, percent = r.randint(2, 6), 5 * r.randint(3, 17)
    p = percent / 100
    logits = double([[p] * copies]).logit()
    weights = torch.full_like(logits, 1 / copies)
    right = log_occurs.right(logits, weights).exp().item()
    values = {
        p: "",
        1 - (1 - p) ** copies: "this treats the copies as independent, with weights of one",
        p**copies: "this is the probability that independent copies are all positive",
        p / copies: "the weights are exponents of 1 - p, not factors of p",
    }
    return choice(
        r,
        f"A bag consists of {copies} copies of one instance that is positive with a probability of "
        f"{percent} %. Each copy has the weight 1/{copies}. Which probability of a positive bag "
        "does the weighted noisy-OR (16.2) give?",
        *((f"{100 * x:.4g} %", isclose(x, right), hint) for x, hint in values.items()),
        solution=f"$1 - \\prod (1 - p)^{{1/{copies}}} = p$: the copies count once.",
    )


@asked
def slide_or_molecule(r: Random) -> Question:
    some_p, n = 5 * r.randint(8, 19), r.choice([20, 50, 100, 200])
    k = r.randint(2, 4)
    p = some_p / 100
    logits = double([[p] * k + [0.0] * (n - k)]).logit()
    ones, shares = torch.ones_like(logits), torch.full_like(logits, 1 / n)
    plain = log_occurs.right(logits, ones).exp().item()
    weighted = log_occurs.right(logits, shares).exp().item()
    return exam(
        f"A bag has {n} instances. {k} of them are positive with a probability of {some_p} % each, "
        "independently, the others certainly not.",
        Question(
            "What is the probability of a positive bag under the noisy-OR with weights of one?",
            plain,
            {
                "this is the probability that all are negative": 1 - plain,
                "this is the mean over the instances": k * p / n,
                "probabilities of events that can both happen do not add up": k * p,
            },
            solution=f"$1 - {1 - p:g}^{{{k}}} = {plain:.4g}$.",
        ),
        Question(
            f"And with the weight 1/{n} for each instance?",
            weighted,
            {
                "the weights are exponents, not factors": k * p / n,
                "this has weights of one": plain,
                "this is the weighted probability that all are negative": 1 - weighted,
            },
            solution=f"$1 - {1 - p:g}^{{{k}/{n}}} = {weighted:.4g}$.",
        ),
        essay(
            "Which of the two do you want for a slide with one small tumour, and which one for a "
            "molecule with many similar shapes in its bag? Give a reason for each.",
            "the slide: weights of one, since one positive instance makes the bag positive however "
            "many negative ones there are",
            "the molecule: small weights, since its shapes are nearly copies of each other and "
            "should count once",
            solution="On a slide, a tumour in one patch decides, and the number of healthy patches "
            "must not dilute it. The shapes of a molecule are nearly copies: with weights of one, "
            "a molecule with many shapes would be positive by their number alone.",
        ),
    )
