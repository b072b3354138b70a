"""The claims of Baručić & Kybic (2022), tested on records, and the paper as a whole."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, stdev

from scipy.special import stdtr

from ..evidence import (
    LEVEL,
    Ruling,
    contrast,
    decided,
    exactly,
    mean,
    plus_minus,
    ruling,
    values,
)
from ..experiment import Claim, Experiment, Paper, Whose, claim
from .experiments import (
    ABLATION,
    CHOICE,
    CIFAR,
    CIFAR_CURVES,
    CIFAR_SECONDS,
    CIFAR_SIZED,
    GAN_SEVERAL,
    PHOTOS,
    PHOTOS_CURVES,
    PHOTOS_SECONDS,
    PHOTOS_SIZED,
    SIZES,
    STAND_IN_CURVES,
    TEN_CLASSES,
    accuracies,
    gaps,
    leads,
    listed,
)

# Statistics of paired splits ----------------------------------------------------------------------


def p_value(gaps: Sequence[float], share: float = 0.0) -> float:
    """Eq. (7.2): how probable so large a mean gap over paired splits is, if the true one is 0.

    Args:
        gaps: one number for every split.
        share: the share of all bags that each split tests on; 0 treats the splits as independent.
    Returns:
        The two-sided p of the paired t-test; NaN with fewer than three splits, 0 if one of the
        methods gave no finite accuracy in a split.
    Source: the paper names no test. share: Nadeau & Bengio (2003), the corrected resampled t-test.
    """
    n = len(gaps)
    if n < 3 or any(math.isnan(gap) for gap in gaps):
        return float("nan")
    if any(math.isinf(gap) for gap in gaps):
        return 0.0
    if not (sd := stdev(gaps)):
        return float(not any(gaps))
    t = fmean(gaps) / (sd * math.sqrt(1 / n + share / (1 - share)))
    return float(2 * stdtr(n - 1, -abs(t)))


def spread(records: list[dict], method: str) -> float:
    """Return the standard deviation of test accuracy over the splits, mean over the epochs."""
    curves = [[point[f"{method}_accuracy"] for point in r["curve"]] for r in records]
    if len(curves) < 2 or any(v is None for c in curves for v in c):
        return float("nan")
    return fmean(stdev(column) for column in zip(*curves, strict=True))


def distances(records: list[dict], method: str) -> list[float]:
    """Return the distance of each split's test accuracy to the median split, mean over the epochs.

    Comparing the means of these distances compares spreads (Brown and Forsythe 1974). NaN with
    fewer than three splits: two splits are equally far from their median.
    """
    curves = [[point[f"{method}_accuracy"] for point in r["curve"]] for r in records]
    if len(curves) < 3 or any(v is None for c in curves for v in c):
        return [float("nan")] * len(curves)
    middle = [median(column) for column in zip(*curves, strict=True)]
    return [fmean(abs(v - m) for v, m in zip(c, middle, strict=True)) for c in curves]


# The claims of section 3.2, on the records of one experiment --------------------------------------


def supervised_best(records):
    """Claim that supervised learning is the most accurate."""
    a = accuracies(records)
    return ruling(listed(a, " %"), *(leads(records, "supervised", m) for m in list(a)[1:]))


def gan_least(records):
    """Claim that LLP-GAN is less accurate than MLE-LLP and DLLP."""
    text = listed(accuracies(records), " %")
    return ruling(text, *(leads(records, m, "llp_gan") for m in ("mle_llp", "dllp")))


def indistinguishable(records, level: float = LEVEL):
    """Claim that the paired t-test finds no difference; undecided with fewer than three splits."""
    d = gaps(records)
    p = p_value(d)
    shown = "too few splits for p" if math.isnan(p) else f"p = {p:.3f}"
    text = f"MLE-LLP - DLLP = {plus_minus((fmean(d), math.nan), 2)} points, {shown}"
    splits = f"{len(d)} paired split{'s' * (len(d) != 1)}"
    return ruling(f"{text}; {splits}", exactly(p - level))


def half_the_epochs(records):
    """Claim that MLE-LLP needs at most 0.65 of DLLP's epochs."""
    ratios = values(records, "epochs_ratio", math.inf)
    text = f"{fmean(ratios):.2f} of DLLP's epochs, each to 99 % of its own final accuracy"
    return ruling(text, contrast((-1, ratios), plus=0.65))


def steadier(records):
    """Claim that MLE-LLP varies less over the splits than DLLP and LLP-GAN."""
    s = {m: spread(records, m) for m in ("mle_llp", "dllp", "llp_gan")}
    own = distances(records, "mle_llp")
    facts = (
        contrast((1, [x - y for x, y in zip(distances(records, m), own, strict=True)]))
        for m in ("dllp", "llp_gan")
    )
    return ruling(f"sd: {listed(s, ' points')}", *facts)


def elapsed(records):
    """Claim that MLE-LLP reaches its final accuracy in less than half of LLP-GAN's time."""
    t = {m: times(records, m) for m in ("mle_llp", "dllp", "llp_gan")}
    text = f"to the final accuracy: {listed({m: fmean(x) for m, x in t.items()}, ' s')}"
    half = [b / 2 - a for a, b in zip(t["mle_llp"], t["llp_gan"], strict=True)]
    return ruling(text, contrast((1, half)))


def times(records: list[dict], method: str) -> list[float]:
    """Return the seconds that a method took to its final accuracy, one number for every split."""
    parts = (values(records, f"{method}_{key}", math.inf) for key in ("epochs", "seconds"))
    return [a * b for a, b in zip(*parts, strict=True)]


def similar_epochs(records):
    """Claim that the epochs of LLP-GAN and MLE-LLP differ by a factor of at most 1.5."""
    a, b = (values(records, f"{m}_epochs", math.inf) for m in ("llp_gan", "mle_llp"))
    facts = (
        contrast((1, [1.5 * y - x for x, y in zip(a, b, strict=True)])),
        contrast((1, [x - y / 1.5 for x, y in zip(a, b, strict=True)])),
    )
    return ruling(f"{fmean(a):.1f} epochs against {fmean(b):.1f}", *facts)


def comparable_seconds(records):
    """Claim that epochs of MLE-LLP and DLLP differ by a factor of at most 2 in time."""
    ratio = mean(records, "mle_llp_seconds", math.inf) / mean(records, "dllp_seconds", math.inf)
    text = f"MLE-LLP takes {ratio:.2f} of DLLP's seconds an epoch"
    return ruling(text, exactly(2 - ratio), exactly(ratio - 0.5))


# The claims of section 3.3, on the records of the experiments of figure 3 -------------------------


def to_supervised(records) -> list[float]:
    """Return how many points MLE-LLP and DLLP, on average, are behind supervised, by split."""
    pairs = (gaps(records, "supervised", m) for m in ("mle_llp", "dllp"))
    return [(a + b) / 2 for a, b in zip(*pairs, strict=True)]


def always(test: Callable[[list[dict]], Ruling]) -> Callable[..., Ruling]:
    """Return the claim that another claim holds with each number of training bags of figure 3."""

    def on(*parts):
        found = {m: test(records) for m, records in zip(SIZES, parts, strict=True)}
        text = "; ".join(f"{m} bags: {text}" for m, (_, text) in found.items())
        return Ruling(every(holds for holds, _ in found.values()), text)

    return on


def every(outcomes: Iterable[bool | None]) -> bool | None:
    """Return whether all claims hold: False if one fails, else None if one is undecided."""
    signs = {True: 1.0, False: -1.0, None: math.nan}
    return decided(*(exactly(signs[holds]) for holds in outcomes))


def indistinguishable_of_five(records):
    """Claim as `indistinguishable`, with the level divided by the number of tests, five."""
    return indistinguishable(records, LEVEL / len(SIZES))


def gap_shrinks(*parts):
    """Claim that the gap to supervised is larger with the fewest bags than with the most."""
    behind = [to_supervised(records) for records in parts]
    text = ", ".join(f"{fmean(b):.2f}" for b in behind) + " points behind supervised"
    return ruling(text, contrast((1, behind[0]), (-1, behind[-1])))


def approaches_supervised(records):
    """Claim that the gap to supervised is less than 2 points."""
    gap = to_supervised(records)
    return ruling(f"{fmean(gap):.2f} points behind supervised", contrast((-1, gap), plus=2))


def wider_on_photos(*parts):
    """Claim that the gap to supervised, mean over figure 3, is larger on the group photos."""
    behind = [to_supervised(records) for records in parts]
    photos, others = behind[: len(SIZES)], behind[len(SIZES) :]
    a, b = (fmean(map(fmean, side)) for side in (photos, others))
    signed = [(1 / len(SIZES), b) for b in photos] + [(-1 / len(SIZES), b) for b in others]
    return ruling(f"{a:.2f} points on photos, {b:.2f} on CIFAR", contrast(*signed))


def better(*methods: str) -> Callable[..., Ruling]:
    """Return the claim that one method is more accurate than another, over paired splits."""

    def on(*parts):
        x, y = (
            dict(zip((r["seed"] for r in records), values(records, f"{m}_accuracy"), strict=True))
            for m, records in zip(methods, parts, strict=True)
        )
        d = [x[s] - y[s] for s in sorted(x.keys() & y.keys())]
        gap = contrast((1, d))
        return ruling(f"{plus_minus(gap, 2)} points over {len(d)} paired splits", gap)

    return on


# The list of claims -------------------------------------------------------------------------------


def of_both(key: str, text: str, source: str, test: Callable) -> tuple[Claim, ...]:
    """Return a claim about the learning curves, once for each data set."""
    return tuple(
        claim(f"llp-{key}-{name}", f"{data}: {text}", source, (experiment,), test)
        for name, data, experiment in (
            ("photos", PHOTOS, PHOTOS_CURVES),
            ("cifar", CIFAR, CIFAR_CURVES),
        )
    )


def of_figure_3(key: str, text: str, test: Callable) -> tuple[Claim, ...]:
    """Return a claim about all sizes of the training set, once for each data set."""
    return tuple(
        claim(f"llp-{key}-{name}", f"{data}: {text}", "section 3.3", experiments, test)
        for name, data, experiments in (
            ("photos", PHOTOS, PHOTOS_SIZED),
            ("cifar", CIFAR, CIFAR_SIZED),
        )
    )


def ablated(key: str, text: str, a: tuple[Experiment, str], b: tuple[Experiment, str]) -> Claim:
    """Return a comparison of final accuracies that the paper does not make."""
    experiments, test = (a[0], b[0]), better(a[1], b[1])
    return claim(f"llp-{key}", text, "not in the paper", experiments, test, Whose.BOOK)


CLAIMS = (
    *of_both(
        "supervised-best",
        "supervised learning is the most accurate",
        "section 3.2",
        supervised_best,
    ),
    *of_both("gan-least", "MLE-LLP and DLLP outperform LLP-GAN", "section 3.2", gan_least),
    *of_both(
        "comparable",
        "MLE-LLP and DLLP are comparable (paired t-test over the splits, p > 0.05)",
        "section 3.2",
        indistinguishable,
    ),
    *of_both(
        "half-the-epochs",
        "MLE-LLP needs about half of DLLP's epochs (read as at most 0.65)",
        "section 3.2",
        half_the_epochs,
    ),
    *of_both(
        "steadier",
        "MLE-LLP varies least over the splits during training (sd, averaged over the epochs)",
        "section 3.2",
        steadier,
    ),
    *of_both(
        "elapsed",
        "MLE-LLP is much faster than LLP-GAN in elapsed time (read as less than half)",
        "section 3.2",
        elapsed,
    ),
    claim(
        "llp-similar-epochs",
        f"{PHOTOS}: LLP-GAN and MLE-LLP need similar numbers of epochs (within a factor of 1.5)",
        "section 3.2",
        (PHOTOS_CURVES,),
        similar_epochs,
    ),
    *(
        claim(
            f"llp-comparable-seconds-{name}",
            f"{data}: epochs of MLE-LLP and DLLP take comparable time (within a factor of 2)",
            "section 3.2, table 1",
            (experiment,),
            comparable_seconds,
        )
        for name, data, experiment in (
            ("photos", PHOTOS, PHOTOS_SECONDS),
            ("cifar", CIFAR, CIFAR_SECONDS),
        )
    ),
    *of_figure_3("always-best", "supervised learning is always the best", always(supervised_best)),
    *of_figure_3("always-least", "LLP-GAN is always the least accurate", always(gan_least)),
    *of_figure_3(
        "always-indistinguishable",
        "MLE-LLP and DLLP are statistically indistinguishable (paired t-tests, p > 0.05 / 5)",
        always(indistinguishable_of_five),
    ),
    *of_figure_3("gap-shrinks", "the gap to supervised is larger with fewer bags", gap_shrinks),
    claim(
        "llp-gap-photos",
        "the gap to supervised is larger on the group photos than on CIFAR",
        "section 3.3",
        (*PHOTOS_SIZED, *CIFAR_SIZED),
        wider_on_photos,
    ),
    claim(
        "llp-approaches",
        f"{CIFAR}: with 1,000 bags the LLP methods approach supervised (read as 2 points)",
        "section 3.3",
        CIFAR_SIZED[-1:],
        approaches_supervised,
    ),
    ablated(
        "soft-beats-hard",
        "MLE-LLP is more accurate than with hard assignments",
        (CIFAR_CURVES, "mle_llp"),
        (ABLATION, "mle_llp_hard"),
    ),
    ablated(
        "direct-beats-delayed",
        "the direct marginal likelihood is more accurate than an E-step once an epoch",
        (ABLATION, "direct"),
        (CIFAR_CURVES, "mle_llp"),
    ),
    ablated(
        "fair-dllp",
        "DLLP with several bags a step is more accurate than with one",
        (ABLATION, "dllp_several"),
        (CIFAR_CURVES, "dllp"),
    ),
)

PAPER = Paper(
    key="llp",
    title="Fast Learning from Label Proportions with Small Bags",
    authors="Denis Baručić and Jan Kybic",
    year=2022,
    link="https://arxiv.org/abs/2110.03426",
    experiments=(
        CIFAR_CURVES,
        CIFAR_SECONDS,
        *CIFAR_SIZED,
        PHOTOS_CURVES,
        PHOTOS_SECONDS,
        *PHOTOS_SIZED,
        ABLATION,
        GAN_SEVERAL,
        STAND_IN_CURVES,
        TEN_CLASSES,
        CHOICE,
    ),
    claims=CLAIMS,
)
