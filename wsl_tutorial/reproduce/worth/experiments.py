"""Every observer with every number of images, and what we claim of them; no paper has these."""

from dataclasses import replace
from itertools import pairwise
from math import nan, sqrt
from statistics import variance

from ... import worth
from ..experiment import NO_GPU, Experiment, Paper, ahead, claim, decided, mean, values
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
        cost="about 3 GPU minutes a seed (estimate)",
        not_run=NO_GPU,
    )


EXPERIMENTS = {(o, n): experiment(o, n) for o in worth.OBSERVERS for n in NUMBERS}

# Claims -------------------------------------------------------------------------------------------


def at(*pairs: tuple[str, int]) -> list[Experiment]:
    """Experiments by observer and number of images."""
    return [EXPERIMENTS[pair] for pair in pairs]


def more_is_more(*parts: list[dict]) -> tuple[bool | None, str]:
    gaps = [ahead(more, less, "both") for less, more in pairwise(parts)]
    shares = ", ".join(f"{mean(records, 'both'):.1f} %" for records in parts)
    steps = ", ".join(f"{gap:+.1f} ± {error:.1f}" for gap, error in gaps)
    return decided(*gaps), f"{shares} found and read, in the order claimed; steps {steps}"


def marginal_leads(lifted, marginal):
    gap, error = ahead(marginal, lifted, "both")
    return decided((gap, error)), f"the exact likelihood leads by {gap:.1f} ± {error:.1f} points"


def places_from_classes(weak, full):
    gap, error = ahead(weak, full, "found")
    a, b = mean(weak, "found"), mean(full, "found")
    text = f"found: {a:.1f} %, under full supervision {b:.1f} %, {gap:+.1f} ± {error:.1f}"
    return decided((gap + 5, error)), text


def cannot_read(places):
    value, shares = mean(places, "reading"), values(places, "reading")
    error = 2 * sqrt(variance(shares) / len(shares)) if len(shares) > 1 else nan
    text = f"{value:.1f} ± {error:.1f} % read, twice the chance of one in ten is 20 %"
    return decided((20 - value, error)), text


CLAIMS = (
    claim(
        "worth-more-is-more",
        f"{AT:,} images: more told, more learnt: class, presence, counts, full (read as an "
        "increasing share of digits found and read, each step by two standard errors)",
        "ours",
        at(*((o, AT) for o in ("class", "presence", "counts", "full"))),
        more_is_more,
    ),
    claim(
        "worth-marginal-leads",
        f"{AT:,} images: of one observation, the exact likelihood learns more than the lifting",
        "ours",
        at(("patches", AT), ("counts", AT)),
        marginal_leads,
    ),
    claim(
        "worth-places-from-classes",
        "3,000 images: told which digits occur, and nothing of places, a network finds them (read "
        "as within 5 points of full supervision)",
        "ours",
        at(("presence", 3_000), ("full", 3_000)),
        places_from_classes,
    ),
    claim(
        "worth-places-do-not-read",
        "3,000 images: told all places and no class, a network does not read (read as at most "
        "20 % of the digits)",
        "ours",
        at(("places", 3_000)),
        cannot_read,
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
