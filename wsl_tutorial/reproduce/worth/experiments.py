"""Every observer with every number of images, and what we claim of them; no paper has these."""

from dataclasses import replace
from itertools import pairwise
from math import nan

from ... import worth
from ..evidence import Ruling, ahead, at_most, mean, plus_minus, ruling
from ..experiment import NO_GPU, Experiment, Paper, Whose, claim
from .training import Settings, run_observer

NUMBERS = (30, 100, 300, 1_000, 3_000, 10_000, 30_000)
AT = 1_000  # images at which observers are compared
# One core: all lengths halved by averaging pixels, chapter 3's network, fewer steps.
SHORT = {
    "most_images": 3_000,
    "test_images": 1_000,
    "shrink": 2,
    "size": 40,
    "entry": 0,
    "widths": (24, 32, 48),
    "steps": 800,
    "batch": 16,
    "lr": 3e-3,
    "points": 8,
}
SMOKE = {
    **SHORT,
    "images": 16,
    "most_images": 16,
    "test_images": 16,
    "tiles": "digits",
    "shrink": 1,
    "size": 32,
    "apart": 4,
    "widths": (4, 4, 4),
    "steps": 4,
    "batch": 4,
    "points": 2,
}
NAMES = {
    "class": "image class: the greatest digit, as regions are told",
    "presence": "presence: which digits",
    "counts": "counts: how many of each",
    "patches": "patches: the counts, by lifting",
    "places": "places: where a digit is, not which",
    "full": "full supervision: which digit where",
}


def experiment(observer: str, images: int) -> Experiment:
    short = {"short": SHORT} if images <= SHORT["most_images"] else {}
    return Experiment(
        name=f"worth/{observer}-{images}",
        title=f"{images:,} canvases",
        method=NAMES[observer],
        config=replace(Settings(), observer=observer, images=images),
        run=run_observer,
        cells=(),
        seeds=2,
        data=("mnist",),
        protocols={**short, "smoke": SMOKE},
        gpu_minutes=3,
        not_run=NO_GPU,
        selects=("both", "higher"),
    )


EXPERIMENTS = {(o, n): experiment(o, n) for o in worth.OBSERVERS for n in NUMBERS}

# Claims -------------------------------------------------------------------------------------------


def at(*pairs: tuple[str, int]) -> list[Experiment]:
    """Experiments by observer and number of images."""
    return [EXPERIMENTS[pair] for pair in pairs]


def more_is_more(*parts: list[dict]) -> Ruling:
    gaps = [ahead(more, less, "both") for less, more in pairwise(parts)]
    shares = ", ".join(f"{mean(records, 'both'):.1f} %" for records in parts)
    steps = ", ".join(plus_minus(gap) for gap in gaps)
    return ruling(f"{shares} found and read, in the order claimed; steps {steps}", *gaps)


def marginal_leads(lifted, marginal):
    gap = ahead(marginal, lifted, "both")
    return ruling(f"the exact likelihood leads by {plus_minus(gap)} points", gap)


def places_from_classes(weak, full):
    a, b = mean(weak, "found"), mean(full, "found")
    gap = plus_minus(ahead(weak, full, "found"))
    text = f"found: {a:.1f} %, under full supervision {b:.1f} %, {gap}"
    return ruling(text, ahead(weak, full, "found", plus=5))


def cannot_read(places):
    """A run that found no digit has read none either, and says nothing."""
    left = at_most(places, "reading", 20, nan)
    text = f"{mean(places, 'reading', nan):.1f} % read, twice the chance of one in ten is 20 %"
    return ruling(f"{text}: {plus_minus(left)} below", left)


CLAIMS = (
    claim(
        "worth-more-is-more",
        f"{AT:,} images: more told, more learnt: class, presence, counts, full (read as an "
        "increasing share of digits found and read, with every step)",
        "not in a paper",
        at(*((o, AT) for o in ("class", "presence", "counts", "full"))),
        more_is_more,
        Whose.BOOK,
    ),
    claim(
        "worth-marginal-leads",
        f"{AT:,} images: of one observation, the exact likelihood learns more than the lifting",
        "not in a paper",
        at(("patches", AT), ("counts", AT)),
        marginal_leads,
        Whose.BOOK,
    ),
    claim(
        "worth-places-from-classes",
        "3,000 images: told which digits occur, and nothing of places, a network finds them (read "
        "as within 5 points of full supervision)",
        "not in a paper",
        at(("presence", 3_000), ("full", 3_000)),
        places_from_classes,
        Whose.BOOK,
    ),
    claim(
        "worth-places-do-not-read",
        "3,000 images: told all places and no class, a network does not read (read as at most "
        "20 % of the digits)",
        "not in a paper",
        at(("places", 3_000)),
        cannot_read,
        Whose.BOOK,
    ),
)

PAPER = Paper(
    key="worth",
    title="What is a weak label worth?",
    authors="this book",
    year=2026,
    link="https://github.com/weak-supervision/wsl-tutorial",
    experiments=tuple(EXPERIMENTS.values()),
    claims=CLAIMS,
)
