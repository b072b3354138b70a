"""The claims of Angles, Jin et al. (2021), two of our own, and how records decide them."""

from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import cast

from ..evidence import (
    Fact,
    Ruling,
    ahead,
    at_least,
    behind,
    contrast,
    mean,
    plus_minus,
    ruling,
    values,
)
from ..experiment import Claim, Whose, claim
from .experiments import (
    CHANCE,
    CHANNELS,
    ESTIMATORS,
    GABOR,
    HARD,
    NUMBERS_ALL,
    PRINTED_ORDER,
    RECONSTRUCTIONS,
    SOFT_HARD,
    SOFT_THREE,
    THREE,
    WRONG_K,
)

NAMES = {"iou50": "digits found, points:", "both": "found and named, points:"}


def ordered(*parts: list[dict]) -> Ruling:
    """Decide whether the mean error of reconstruction rises from each experiment to the next."""
    errors = ", ".join(f"{mean(records, 'rmse', inf):.4g}" for records in parts)
    gaps = (behind(a, b, "rmse") for a, b in pairwise(parts))
    return ruling(f"RMSE {errors}; claimed to increase", *gaps)


def clearer(metric: str) -> Callable[..., Ruling]:
    """Return a test of whether the second experiment is above the first."""

    def test(first: list[dict], second: list[dict]) -> Ruling:
        return ruling(
            f"{NAMES[metric]} {plus_minus(ahead(second, first, metric))}",
            ahead(second, first, metric),
        )

    return test


def localised(records: list[dict]) -> Ruling:
    """Decide whether at least 97 % of the digits are found."""
    text = f"{mean(records, 'iou50'):.1f} % of the digits with IoU above one half"
    return ruling(text, at_least(records, "iou50", 97))


def at_chance(records: list[dict], chance: list[dict]) -> Ruling:
    """Decide whether a method finds at most what a fixed grid finds, plus 5 points.

    A run that broke off counts as 0.
    """
    grid = values(chance, "iou50_grid")
    text = (
        f"found {mean(records, 'iou50'):.1f} %, by a fixed grid {mean(chance, 'iou50_grid'):.1f} %"
    )
    return ruling(text, contrast((1, grid), (-1, values(records, "iou50")), plus=5))


def isolates(mist: list[dict], channels: list[dict]) -> Ruling:
    """Decide whether MIST finds more than 90 % of the digits and channel-wise less than 50 %."""
    a, b = mean(mist, "iou50"), mean(channels, "iou50")
    low = contrast((-1, values(channels, "iou50")), plus=50)
    text = f"IoU above one half: MIST {a:.1f} %, channel-wise {b:.1f} %"
    return ruling(text, at_least(mist, "iou50", 90), low)


def gap_grows(mist_3, soft_3, mist_9, soft_9) -> Ruling:
    """Decide whether the lead over soft top-K is positive and grows from three digits to nine."""
    few, many = ahead(mist_3, soft_3, "both"), ahead(mist_9, soft_9, "both")
    parts = zip((-1, 1, 1, -1), (mist_3, soft_3, mist_9, soft_9), strict=True)
    more = contrast(*((weight, values(records, "both")) for weight, records in parts))
    text = f"lead of {plus_minus(few)} points with three digits, {plus_minus(many)} with nine"
    return ruling(text, few, more)


def forgiving(nine: list[dict], *others: list[dict]) -> Ruling:
    """Decide whether each wrong K costs at most 2.1 points of AP, rounded."""
    text = ", ".join(plus_minus(ahead(records, nine, "ap50")) for records in others)
    left = (ahead(records, nine, "ap50", plus=2.15) for records in others)
    return ruling(f"AP changes by {text} points", *left)


def fall(record: dict, key: str) -> float:
    """Return Spearman's correlation of a loss with the epochs, from its peak on.

    Return inf if the loss does not fall: if it is not finite in some epoch, or constant, or if
    fewer than three epochs or less than half of them remain from its peak on.
    """
    numbers = [point[key] for point in record["curve"]]
    if None in numbers:
        return inf
    numbers = numbers[numbers.index(max(numbers)) :]
    if len(numbers) < max(3, len(record["curve"]) / 2) or len(set(numbers)) == 1:
        return inf
    from scipy import stats  # takes seconds, which other commands can spare

    correlation, _ = stats.spearmanr(range(len(numbers)), numbers)
    return float(cast(float, correlation))  # scipy's annotations call it an object


def falls(records, key: str) -> tuple[Fact, str]:
    """Return how far the mean correlation of the seeds is below -0.8, and the correlations."""
    found = [fall(record, key) for record in records]
    shown = ", ".join(f"{value:.2f}" if value < inf else "no fall" for value in found)
    return contrast((-1, found), plus=-0.8), shown


def smooth(records: list[dict]) -> Ruling:
    """Decide whether both losses fall smoothly, see `falls`."""
    (task, a), (heat, b) = (falls(records, key) for key in ("task_loss", "heat_loss"))
    return ruling(f"correlation with the epoch: task {a}; heat map {b}", task, heat)


def impulses_found(gabor: list[dict], chance: list[dict]) -> Ruling:
    """Decide whether half of the impulses are found, and more than by chance."""
    near, other = values(gabor, "within_3px"), values(chance, "within_3px_other")
    text = (
        f"{mean(gabor, 'within_3px'):.1f} % of the impulses; by the places of other canvases "
        f"{mean(chance, 'within_3px_other'):.1f} %"
    )
    return ruling(text, at_least(gabor, "within_3px", 50), contrast((1, near), (-1, other)))


def crosses(mist: list[dict], supervised: list[dict]) -> Ruling:
    """Decide whether MIST leads up to an IoU of .60, and supervised from .70."""
    low, high = ("00", "50", "60"), ("70", "80", "90")
    gaps = {at: ahead(mist, supervised, f"ap{at}") for at in (*low, *high)}
    text = ", ".join(f".{at}: {plus_minus(gap)}" for at, gap in gaps.items())
    facts = (gaps[at] if at in low else ahead(supervised, mist, f"ap{at}") for at in gaps)
    return ruling(f"AP of MIST minus supervised at IoU {text}", *facts)


def of_table_1(scene: str, data: str) -> Claim:
    """Return the claim on the order of the methods in Table 1."""
    order = tuple(RECONSTRUCTIONS[scene, m] for m in ("mist", "grid", "channel-wise", "air"))
    text = f"{data}: MIST reconstructs best, then grid, channel-wise, AIR"
    return claim(f"mist-reconstruction-{scene}", text, "table 1", order, ordered)


CLAIMS = (
    of_table_1("easy", "MNIST easy"),
    of_table_1("hard", "MNIST hard"),
    claim(
        "mist-isolates",
        "MNIST hard, reconstruction: MIST isolates digits (read as: finds more than 90 %) and "
        "channel-wise does not (less than 50 %)",
        "section 5.1",
        (RECONSTRUCTIONS["hard", "mist"], RECONSTRUCTIONS["hard", "channel-wise"]),
        isolates,
    ),
    claim(
        "mist-localises",
        "MNIST hard: MIST, trained without places, finds at least 97 % of the digits",
        "table 2",
        (HARD,),
        localised,
    ),
    claim(
        "mist-channel-wise-fails",
        "MNIST hard: channel-wise fails to localise (read as: at most 5 points above a fixed grid)",
        "table 2",
        (CHANNELS, CHANCE["hard"]),
        at_chance,
    ),
    claim(
        "mist-gap-grows",
        "MIST's lead over soft top-K (box and class right) grows from three digits to nine",
        "table 3",
        (THREE, SOFT_THREE, HARD, SOFT_HARD),
        gap_grows,
    ),
    claim(
        "mist-wrong-k",
        "a wrong K in training costs little (read as: at most 2.1 points of AP, tested on canvases "
        "with as many digits as in training)",
        "table 5",
        (HARD, *WRONG_K),
        forgiving,
    ),
    claim(
        "mist-smooth",
        "MNIST hard: both losses fall smoothly after a first rise (read as: their mean rank "
        "correlation with the epoch is at most -0.8)",
        "section 5.3",
        (HARD,),
        smooth,
    ),
    claim(
        "mist-gabor",
        "Gabor noise: the impulses are found (read as: at least half of them within 3 pixels of a "
        "detection, and more than by chance)",
        "section 5.1",
        (GABOR, CHANCE["gabor"]),
        impulses_found,
    ),
    claim(
        "mist-svhn-crosses",
        "SVHN: MIST is better than supervised up to IoU .60, and worse from .70 on",
        "earlier version, table 4",
        NUMBERS_ALL[:2],
        crosses,
    ),
    claim(
        "mist-learns-where",
        "MNIST hard: MIST finds more digits than its untrained heat map network",
        "not in the paper",
        (ESTIMATORS["hard", "frozen"], HARD),
        clearer("iou50"),
        Whose.BOOK,
    ),
    claim(
        "mist-places-first",
        "MNIST-3: with places moved before the task step, MIST finds and names more digits",
        "not in the paper",
        (PRINTED_ORDER, THREE),
        clearer("both"),
        Whose.BOOK,
    ),
)
