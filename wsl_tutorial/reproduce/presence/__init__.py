"""Li (2018), arXiv 1811.12346: learning from which classes are present (chapters 1 to 4)."""

from ..experiment import Paper, Reason, Why
from .claims import CLAIMS
from .experiments import EXPERIMENTS

__all__ = ["PAPER"]

PAPER = Paper(
    key="mcmil",
    title="A Multiclass Multiple Instance Learning Method with Exact Likelihood",
    authors="Xi-Lin Li",
    year=2018,
    link="https://arxiv.org/abs/1811.12346",
    experiments=EXPERIMENTS,
    claims=CLAIMS,
    quoted={"mcmil-016": Reason(Why.QUOTED, "not to be reproduced")},
)
