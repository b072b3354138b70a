"""Chapter 16: your own bags."""

from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .core import Question, asked, double, exercise


@exercise(
    praise="three copies speak once",
    mistakes={
        "three copies are one instance: 0.5 is missed once": lambda: (1 - 0.5**3, 0.5, 3),
        "the bag is positive if it is not missed: one minus": lambda: (0.5**3, 0.5, 1),
        "the effective size adds up 1/3 three times": lambda: (1 - 0.5**3, 0.5, 1 / 3),
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
        f"A bag holds {copies} exact copies of one instance, which is positive with a probability "
        f"of {percent} %. A classifier takes them as independent. Which probability of a positive "
        "bag does it state?",
        1 - (1 - p) ** copies,
        {
            "this is the true probability; the question asks for the classifier's": p,
            "probabilities of independent events do not add up": copies * p,
            "this is the probability that all copies are positive": p**copies,
        },
    )


def _cases() -> list[tuple[Tensor, Tensor]]:
    z = double([[0.5, -1.0, 2.0, -40.0], [-30.0, -50.0, -35.0, -60.0]])
    return [(z, double([[1.0, 0.5, 0.5, 1.0], [0.25, 0.25, 0.25, 0.25]]))]


@exercise(
    praise="softplus and expm1 keep small probabilities",
    cases=_cases(),
    mistakes={
        "the weights belong in the exponent: each log(1 - p) times its weight": lambda z, w: (
            torch.log(-torch.expm1(-F.softplus(z).sum(1)))
        ),
        "weights times logits are no likelihood": lambda z, w: torch.log(
            -torch.expm1(-F.softplus(w * z).sum(1))
        ),
        "this is the logarithm of missing": lambda z, w: -(w * F.softplus(z)).sum(1),
        "the exercise asks for a logarithm": lambda z, w: -torch.expm1(-(w * F.softplus(z)).sum(1)),
    },
)
def log_occurs(logits: Tensor, weights: Tensor) -> Tensor:
    """Return log P(concept occurs), (logits (B, n), weights (B, n)) -> (B,)."""
    return torch.log(-torch.expm1(-(weights * F.softplus(logits)).sum(1)))
