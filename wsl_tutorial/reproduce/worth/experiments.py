"""Every observer with every number of images; no paper has these."""

from ... import worth
from ..experiment import NO_GPU, Experiment, changed
from .methods import run_observer
from .settings import SHORT, SMOKE, Settings

NUMBERS = (30, 100, 300, 1_000, 3_000, 10_000, 30_000)
NAMES = {
    "class": "image class: the greatest digit, as regions are told",
    "presence": "presence: which digits",
    "counts": "counts: how many of each",
    "patches": "patches: the counts, by lifting",
    "places": "places: where a digit is, not which",
    "full": "full supervision: which digit where",
}


def experiment(observer: str, images: int) -> Experiment:
    """Return the experiment of an observer with so many labelled canvases."""
    short = {"short": SHORT} if images <= SHORT["most_images"] else {}
    return Experiment(
        name=f"worth/{observer}-{images}",
        title=f"{images:,} canvases",
        method=NAMES[observer],
        config=changed(Settings(), observer=observer, images=images),
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
