"""Angles, Jin et al. (2021), arXiv 1811.10725: learning where things are from a bag of labels."""

from .. import ledger
from ..experiment import NO_DATA, Paper, Reason, Why
from .claims import CLAIMS
from .experiments import EXPERIMENTS

__all__ = ["PAPER"]


def further(held) -> dict[str, str]:
    """Return the further tables of the reproduction page; importing them needs matplotlib."""
    from . import page

    return page.further(held)


NOT_REBUILT = Reason(Why.COST, "a network of 15 M parameters, 200,000 steps with seven losses")
SELECTION = Reason(NO_DATA, "the authors' 9,780 images from PASCAL VOC 2007 and COCO")
PAPER = Paper(
    key="mist",
    title="MIST: Multiple Instance Spatial Transformer",
    authors="Baptiste Angles, Yuhe Jin, Simon Kornblith, Andrea Tagliasacchi and Kwang Moo Yi",
    year=2021,
    link="https://arxiv.org/abs/1811.10725",
    experiments=EXPERIMENTS,
    claims=CLAIMS,
    further=further,
    quoted={
        row.id: NOT_REBUILT if row.method == "Zhang 2018" else SELECTION
        for row in ledger.load().values()
        if row.paper == "mist" and (row.method == "Zhang 2018" or row.table == "Table 4")
    },
)
