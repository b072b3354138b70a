"""State the claims about the observers, tested on records."""

from itertools import pairwise
from math import nan

from ..evidence import Ruling, ahead, at_most, mean, plus_minus, ruling
from ..experiment import Experiment, Whose, claim
from .experiments import EXPERIMENTS

AT = 1_000  # images at which observers are compared


def at(*pairs: tuple[str, int]) -> list[Experiment]:
    """Return experiments by observer and number of images."""
    return [EXPERIMENTS[pair] for pair in pairs]


def more_is_more(*parts: list[dict]) -> Ruling:
    """Test that the share of digits found and read grows with every step."""
    gaps = [ahead(more, less, "both") for less, more in pairwise(parts)]
    shares = ", ".join(f"{mean(records, 'both'):.1f} %" for records in parts)
    steps = ", ".join(plus_minus(gap) for gap in gaps)
    return ruling(f"{shares} found and read, in this order; differences {steps}", *gaps)


def marginal_leads(lifted, marginal):
    """Test that the exact likelihood finds and reads more than the lifting."""
    gap = ahead(marginal, lifted, "both")
    return ruling(f"the exact likelihood leads by {plus_minus(gap)} points", gap)


def places_from_classes(weak, full):
    """Test that at most 5 points fewer digits are found than under full supervision."""
    a, b = mean(weak, "found"), mean(full, "found")
    gap = plus_minus(ahead(weak, full, "found"))
    text = f"found: {a:.1f} %, under full supervision {b:.1f} %, {gap}"
    return ruling(text, ahead(weak, full, "found", plus=5))


def cannot_read(places):
    """Test that at most 20 % are read; a run that found no digit decides nothing."""
    left = at_most(places, "reading", 20, nan)
    text = f"{mean(places, 'reading', nan):.1f} % read"
    return ruling(f"{text}: {plus_minus(left)} points below 20 %, twice the chance level", left)


CLAIMS = (
    claim(
        "worth-more-is-more",
        f"{AT:,} images: finer labels teach more: class, presence, counts, full (tested: the share "
        "of digits found and read increases with every step)",
        "not in a paper",
        at(*((o, AT) for o in ("class", "presence", "counts", "full"))),
        more_is_more,
        Whose.BOOK,
    ),
    claim(
        "worth-marginal-leads",
        f"{AT:,} images: from the same labels, the exact likelihood learns more than the lifting "
        "(tested: the share of digits found and read)",
        "not in a paper",
        at(("patches", AT), ("counts", AT)),
        marginal_leads,
        Whose.BOOK,
    ),
    claim(
        "worth-places-from-classes",
        "3,000 images: a network trained with the set of digits, without places, finds the digits "
        "(tested: at most 5 points fewer than under full supervision)",
        "not in a paper",
        at(("presence", 3_000), ("full", 3_000)),
        places_from_classes,
        Whose.BOOK,
    ),
    claim(
        "worth-places-do-not-read",
        "3,000 images: a network trained with all places, without classes, does not read (tested: "
        "at most 20 % of the digits)",
        "not in a paper",
        at(("places", 3_000)),
        cannot_read,
        Whose.BOOK,
    ),
)
