"""Belharbi et al. (2020), arXiv 1907.12934: min-max entropy, masks from the class of an image."""

from ..experiment import Paper
from .claims import CLAIMS
from .experiments import BLIND, DEEP, EQUAL, LADDER, PETS_TRIVIAL, PRINTED, SECONDS, TRIVIAL


def further(held) -> dict[str, str]:
    """Return the further tables of the reproduction page; importing them needs matplotlib."""
    from . import page

    return page.further(held)


PAPER = Paper(
    key="minmax",
    title="Min-max Entropy for Weakly Supervised Pointwise Localization",
    authors="Soufiane Belharbi, Jérôme Rony, Jose Dolz, Ismail Ben Ayed, Luke McCaffrey and "
    "Eric Granger",
    year=2020,
    link="https://arxiv.org/abs/1907.12934",
    experiments=(
        *PRINTED.values(),
        *DEEP,
        *TRIVIAL.values(),
        *SECONDS,
        *EQUAL.values(),
        PETS_TRIVIAL,
        *LADDER.values(),
        *BLIND,
    ),
    claims=CLAIMS,
    further=further,
)

__all__ = ["PAPER"]
