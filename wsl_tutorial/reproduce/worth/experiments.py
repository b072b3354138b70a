"""Every observer with every number of images, and what we claim of them; no paper has these."""

from dataclasses import replace
from itertools import pairwise

from ... import worth
from ..experiment import NO_GPU, Experiment, Paper, claim, mean
from .training import Settings, run_observer

NUMBERS = (30, 100, 300, 1_000, 3_000, 10_000, 30_000)
AT = 1_000  # images at which observers are compared
# One core, a minute: all lengths halved by averaging pixels, chapter 3's network, fewer steps.
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
        cost="minutes on a GPU (estimate); short: 10 to 30 seconds of one core",
        not_run=NO_GPU,
    )


EXPERIMENTS = {(o, n): experiment(o, n) for o in worth.OBSERVERS for n in NUMBERS}

# Claims -------------------------------------------------------------------------------------------


def at(*pairs: tuple[str, int]) -> list[Experiment]:
    """Experiments by observer and number of images."""
    return [EXPERIMENTS[pair] for pair in pairs]


def more_is_more(*parts: list[dict]) -> tuple[bool, str]:
    values = [mean(records, "both") for records in parts]
    holds = all(a < b for a, b in pairwise(values))
    return holds, ", ".join(f"{v:.1f} %" for v in values) + " found and read, in the order claimed"


def marginal_leads(lifted, marginal):
    gap = mean(marginal, "both") - mean(lifted, "both")
    return gap > 0, f"the exact likelihood leads by {gap:.1f} points"


def places_from_classes(weak, full):
    a, b = mean(weak, "found"), mean(full, "found")
    return a >= b - 5, f"found: {a:.1f} %, under full supervision {b:.1f} %"


def cannot_read(places):
    value = mean(places, "reading")
    return value <= 20, f"{value:.1f} % read, twice the chance of one in ten is 20 %"


CLAIMS = (
    claim(
        "worth-more-is-more",
        f"{AT:,} images: more told, more learnt: class, presence, counts, full (read as an "
        "increasing share of digits found and read)",
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
