"""What is reproduced of Baručić & Kybic (2022): experiments, the ledger cells, and the claims."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import fmean, median, stdev

from scipy import stats

from ...data import groups
from ..evidence import (
    LEVEL,
    Fact,
    Ruling,
    contrast,
    decided,
    exactly,
    mean,
    plus_minus,
    ruling,
    values,
)
from ..experiment import NO_DATA, NO_GPU, Cell, Claim, Experiment, Paper, Whose, claim
from ..ledger import Row, load
from ..ledger import cells as cells_of
from .training import METHODS, Choice, Settings, run_choice, run_methods

NAMES = {
    "supervised": "supervised",
    "dllp": "DLLP",
    "llp_gan": "LLP-GAN",
    "mle_llp": "MLE-LLP",
}
CIFAR, PHOTOS = "CIFAR-10 bird/cat", "group photos"
SIZES = (200, 400, 600, 800, 1000)
BIRD_CAT = ("cifar10-bird-cat",)

EPOCHS = (
    "a fixed number of epochs; the paper stops when its likelihood changes by less than 1e-4, its "
    "program after a given number"
)
TUNED = (
    "learning rates and batches as `rates` has them, the choice of llp/choice under the same "
    "protocol; 3e-4 and 16 for every method where `rates` is empty; the paper takes the best of a "
    "grid that it does not print"
)
ONE_RATE = "learning rate 1e-4 and batch 16 for every method; the paper takes the best of a grid"
SHUFFLED = "instances are shuffled over all bags; the authors' program walks bag after bag"
SCALED = "images in [-1, 1], the range of LLP-GAN's generator, for every method"
LOG_SPACE = "the E-step sums over configurations by recursion; the paper enumerates them"
COMMON = (EPOCHS, TUNED, SHUFFLED, SCALED, LOG_SPACE)
RESNET = "ResNet-18 without batch normalisation, not pretrained, as in the authors' example"
CROPS = "face boxes of 2.5 eye distances; the paper does not print its box"
STAND_IN = (
    "a stand-in for the group photos: birds and cats, as many as the photos' men and women, in "
    "bags whose sizes have the photos' mean; the paper prints no histogram"
)
JPEG = "CIFAR-10, JPEG-75 copy: a lossy copy of the images"


def rates(chosen: dict[str, tuple[float, int]]) -> tuple[tuple[str, float, int], ...]:
    """Learning rate and batch of every method; a variant has those of the method it varies.

    The name of a variant begins with that of its method.
    """
    kin = {m: max((c for c in chosen if m.startswith(c)), key=len, default="") for m in METHODS}
    return tuple((m, *chosen[k]) for m, k in kin.items() if k)


# One core, a few minutes a seed: narrower networks, fewer bags and epochs.
CHOSEN = {  # learning rate and batch: llp/choice, short, seeds 0-2
    "supervised": (1e-4, 64),
    "dllp": (1e-4, 16),
    "dllp_several": (3e-4, 16),
    "llp_gan": (3e-4, 16),
    "mle_llp": (3e-4, 64),
    "direct": (3e-4, 16),
}
SHORT = {
    "widths": (16, 32, 64),
    "generator_widths": (64, 32, 16),
    "dropout": (0.0, 0.0, 0.0),
    "train_bags": 300,
    "test_bags": 250,
    "epochs": 15,
    "rates": rates(CHOSEN),
    "bf16": True,
}
# One core, at most 100 minutes a split: data, network and measures are the paper's; rates of SHORT.
DESK = {"epochs": 15, "rates": rates(CHOSEN)}
SMOKE = {
    "bf16": False,
    "dataset": "digits",
    "network": "discriminator",
    "widths": (4, 4, 4),
    "generator_widths": (8, 4, 4),
    "negatives": 0,
    "positives": 0,
    "train_bags": 12,
    "test_bags": 6,
    "epochs": 2,
}


# What cells and claims are tested by --------------------------------------------------------------


def listed(pairs: dict[str, float], unit: str) -> str:
    return ", ".join(f"{NAMES[m]} {v:.2f}{unit}" for m, v in pairs.items())


def accuracies(records: list[dict]) -> dict[str, float]:
    return {m: mean(records, f"{m}_accuracy") for m in NAMES}


def gaps(records: list[dict], a: str = "mle_llp", b: str = "dllp") -> list[float]:
    """How many points of accuracy method a is above b, a number for every split."""
    pairs = zip(values(records, f"{a}_accuracy"), values(records, f"{b}_accuracy"), strict=True)
    return [x - y for x, y in pairs]


def leads(records: list[dict], a: str, b: str) -> Fact:
    """Return how much method a is above b over paired splits, with its half-width."""
    return contrast((1, gaps(records, a, b)))


RANK = {"supervised": 3, "mle_llp": 2, "dllp": 2, "llp_gan": 1}  # of sections 3.2 and 3.3


def in_place(method: str) -> Callable[[list[dict]], Ruling]:
    """The place of a method among the final accuracies of section 3.2 and 3.3.

    Supervised first, then MLE-LLP and DLLP, then LLP-GAN.
    """

    def test(records):
        above = [o for o in NAMES if RANK[o] > RANK[method]]
        below = [o for o in NAMES if RANK[o] < RANK[method]]
        facts = [leads(records, o, method) for o in above]
        facts += [leads(records, method, o) for o in below]
        return ruling(f"final accuracy: {listed(accuracies(records), ' %')}", *facts)

    return test


def seconds_in_place(row: Row) -> Callable[[list[dict]], Ruling]:
    """The place of a method in Table 1: slower and faster than the same methods as in print.

    The sentence gives the ratio to DLLP, ours and the paper's: seconds are a machine's, and no seed
    changes them.
    """
    same = (r for r in load().values() if (r.table, r.data) == (row.table, row.data))
    printed = {r.metric: r.value for r in same}

    def test(records):
        ours = {m: mean(records, m, math.inf) for m in printed}
        facts = [
            exactly((ours[row.metric] - ours[m]) * math.copysign(1, row.value - printed[m]))
            for m in printed
            if m != row.metric
        ]
        a, b = (x[row.metric] / x["dllp_seconds"] for x in (ours, printed))
        return ruling(f"{a:.2f} of DLLP's seconds, {b:.2f} in the paper", *facts)

    return test


def p_value(gaps: Sequence[float], share: float = 0.0) -> float:
    """Eq. (7.2): how probable so large a mean gap over paired splits is, if the true one is 0.

    Args:
        gaps: one number for every split.
        share: the part of all bags on which each split tests; 0 takes the splits for independent.
    Returns:
        The two-sided p of the paired t-test; not a number with fewer than three splits, 0 where one
        method broke off in a split.
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
    return float(2 * stats.t.sf(abs(t), n - 1))


def spread(records: list[dict], method: str) -> float:
    """Standard deviation of the test accuracy over the splits, mean over the epochs."""
    curves = [[point[f"{method}_accuracy"] for point in r["curve"]] for r in records]
    if len(curves) < 2 or any(v is None for c in curves for v in c):
        return float("nan")
    return fmean(stdev(column) for column in zip(*curves, strict=True))


def distances(records: list[dict], method: str) -> list[float]:
    """How far each split's test accuracy is from the median split, mean over the epochs.

    Their means compare spreads (Brown and Forsythe 1974). Fewer than three splits decide nothing:
    two are equally far from their middle.
    """
    curves = [[point[f"{method}_accuracy"] for point in r["curve"]] for r in records]
    if len(curves) < 3 or any(v is None for c in curves for v in c):
        return [float("nan")] * len(curves)
    middle = [median(column) for column in zip(*curves, strict=True)]
    return [fmean(abs(v - m) for v, m in zip(c, middle, strict=True)) for c in curves]


def supervised_best(records):
    a = accuracies(records)
    return ruling(listed(a, " %"), *(leads(records, "supervised", m) for m in list(a)[1:]))


def gan_least(records):
    text = listed(accuracies(records), " %")
    return ruling(text, *(leads(records, m, "llp_gan") for m in ("mle_llp", "dllp")))


def indistinguishable(records, level: float = LEVEL):
    """The paired t-test sees no difference; with fewer than three splits it could not."""
    d = gaps(records)
    p = p_value(d)
    text = f"MLE-LLP - DLLP = {plus_minus((fmean(d), math.nan), 2)} points, p = {p:.3f} over "
    return ruling(f"{text}{len(d)} paired splits", exactly(p - level))


def half_the_epochs(records):
    ratios = values(records, "epochs_ratio", math.inf)
    text = f"{fmean(ratios):.2f} of DLLP's epochs to 99 % of the own final accuracy"
    return ruling(text, contrast((-1, ratios), plus=0.65))


def steadier(records):
    s = {m: spread(records, m) for m in ("mle_llp", "dllp", "llp_gan")}
    own = distances(records, "mle_llp")
    facts = (
        contrast((1, [x - y for x, y in zip(distances(records, m), own, strict=True)]))
        for m in ("dllp", "llp_gan")
    )
    return ruling(f"sd: {listed(s, ' points')}", *facts)


def elapsed(records):
    t = {m: times(records, m) for m in ("mle_llp", "dllp", "llp_gan")}
    text = f"to the final accuracy: {listed({m: fmean(x) for m, x in t.items()}, ' s')}"
    half = [b / 2 - a for a, b in zip(t["mle_llp"], t["llp_gan"], strict=True)]
    return ruling(text, contrast((1, half)))


def times(records: list[dict], method: str) -> list[float]:
    """Return the seconds that a method took to its final accuracy, a number for every split."""
    parts = (values(records, f"{method}_{key}", math.inf) for key in ("epochs", "seconds"))
    return [a * b for a, b in zip(*parts, strict=True)]


def similar_epochs(records):
    a, b = (values(records, f"{m}_epochs", math.inf) for m in ("llp_gan", "mle_llp"))
    facts = (
        contrast((1, [1.5 * y - x for x, y in zip(a, b, strict=True)])),
        contrast((1, [x - y / 1.5 for x, y in zip(a, b, strict=True)])),
    )
    return ruling(f"{fmean(a):.1f} epochs against {fmean(b):.1f}", *facts)


def comparable_seconds(records):
    ratio = mean(records, "mle_llp_seconds", math.inf) / mean(records, "dllp_seconds", math.inf)
    text = f"MLE-LLP takes {ratio:.2f} of DLLP's seconds an epoch"
    return ruling(text, exactly(2 - ratio), exactly(ratio - 0.5))


def to_supervised(records) -> list[float]:
    """How many points MLE-LLP and DLLP, in the mean, are behind supervised, for every split."""
    pairs = (gaps(records, "supervised", m) for m in ("mle_llp", "dllp"))
    return [(a + b) / 2 for a, b in zip(*pairs, strict=True)]


def always(test: Callable[[list[dict]], Ruling]) -> Callable[..., Ruling]:
    """A claim that has to hold with each number of training bags of figure 3."""

    def on(*parts):
        found = {m: test(records) for m, records in zip(SIZES, parts, strict=True)}
        text = "; ".join(f"{m} bags: {text}" for m, (_, text) in found.items())
        return Ruling(every(holds for holds, _ in found.values()), text)

    return on


def every(answers: Iterable[bool | None]) -> bool | None:
    """Return whether all hold: False if one fails, None if none does and one is undecided."""
    signs = {True: 1.0, False: -1.0, None: math.nan}
    return decided(*(exactly(signs[holds]) for holds in answers))


def indistinguishable_of_five(records):
    """With the level shared by five tests."""
    return indistinguishable(records, LEVEL / len(SIZES))


def gap_shrinks(*parts):
    behind = [to_supervised(records) for records in parts]
    text = ", ".join(f"{fmean(b):.2f}" for b in behind) + " points behind supervised"
    return ruling(text, contrast((1, behind[0]), (-1, behind[-1])))


def approaches_supervised(records):
    gap = to_supervised(records)
    return ruling(f"{fmean(gap):.2f} points behind supervised", contrast((-1, gap), plus=2))


def wider_on_photos(*parts):
    behind = [to_supervised(records) for records in parts]
    photos, others = behind[: len(SIZES)], behind[len(SIZES) :]
    a, b = (fmean(map(fmean, side)) for side in (photos, others))
    signed = [(1 / len(SIZES), b) for b in photos] + [(-1 / len(SIZES), b) for b in others]
    return ruling(f"{a:.2f} points on photos, {b:.2f} on CIFAR", contrast(*signed))


def better(*methods: str) -> Callable[..., Ruling]:
    """A claim on paired splits: the final accuracy of one method is above that of another."""

    def on(*parts):
        x, y = (
            dict(zip((r["seed"] for r in records), values(records, f"{m}_accuracy"), strict=True))
            for m, records in zip(methods, parts, strict=True)
        )
        d = [x[s] - y[s] for s in sorted(x.keys() & y.keys())]
        gap = contrast((1, d))
        return ruling(f"{plus_minus(gap, 2)} points over {len(d)} paired splits", gap)

    return on


# The paper's experiments --------------------------------------------------------------------------


def cells(experiment: str) -> tuple[Cell, ...]:
    """The cells of an experiment: what a figure or Table 1 shows is judged by its place."""
    rows = (row for row in load().values() if row.experiment == experiment)
    claims = {f"{m}_accuracy": in_place(m) for m in NAMES}
    claims |= {row.metric: seconds_in_place(row) for row in rows if row.table == "Table 1"}
    return cells_of(experiment, claims)


CIFAR_CURVES = Experiment(
    name="llp/cifar-curves",
    title="Learning curves, birds and cats",
    method="supervised, DLLP, LLP-GAN, MLE-LLP",
    config=Settings(),
    run=run_methods,
    cells=cells("llp/cifar-curves"),
    seeds=10,
    data=BIRD_CAT,
    protocols={"desk": DESK, "short": SHORT, "smoke": SMOKE},
    deviations=COMMON,
    gpu_minutes=60,
    not_run=NO_GPU,
)
CIFAR_SECONDS = replace(
    CIFAR_CURVES,
    name="llp/cifar-seconds",
    title="Seconds an epoch, birds and cats",
    method=f"{CIFAR_CURVES.method}; variants of MLE-LLP and DLLP",
    config=replace(
        CIFAR_CURVES.config, methods=(*NAMES, "dllp_several", "direct", "mle_llp_reuse"), epochs=6
    ),
    cells=cells("llp/cifar-seconds"),
    seeds=1,
    protocols={"desk": {**DESK, "epochs": 3}, "short": {**SHORT, "epochs": 6}, "smoke": SMOKE},
    gpu_minutes=3,
)


def on_photos(experiment: Experiment) -> Experiment:
    """An experiment on the faces of the group photos."""
    name = experiment.name.replace("cifar", "photos")
    return replace(
        experiment,
        name=name,
        title=experiment.title.replace("birds and cats", "group photos"),
        config=replace(experiment.config, dataset="photos", network="resnet18", blur=1.0, lr=1e-4),
        cells=cells(name),
        data=(),
        protocols={p: f for p, f in experiment.protocols.items() if p != "desk"},
        deviations=(*(ONE_RATE if text == TUNED else text for text in COMMON), RESNET, CROPS),
        not_run=NO_DATA,
    )


PHOTOS_CURVES = on_photos(CIFAR_CURVES)
PHOTOS_SECONDS = on_photos(CIFAR_SECONDS)


def sized(m: int) -> Experiment:
    """Figure 3 on CIFAR: m training bags, the smaller sets inside the larger, 250 test bags."""
    return replace(
        CIFAR_CURVES,
        name=f"llp/cifar-{m}",
        title=f"Birds and cats, {m} training bags",
        config=replace(CIFAR_CURVES.config, train_bags=m, test_bags=250),
        cells=cells(f"llp/cifar-{m}"),
        protocols={
            "desk": {**DESK, "epochs": 8_000 // m},
            "short": {**SHORT, "train_bags": m // 5, "test_bags": 125, "epochs": 16_000 // m},
            "smoke": SMOKE,
        },
        gpu_minutes=m // 20,
    )


CIFAR_SIZED = tuple(sized(m) for m in SIZES)
PHOTOS_SIZED = tuple(
    replace(on_photos(e), title=f"Group photos, {m} training bags")
    for m, e in zip(SIZES, CIFAR_SIZED, strict=True)
)


# Beyond the paper ---------------------------------------------------------------------------------

ABLATION = replace(
    CIFAR_CURVES,
    name="llp/cifar-ablation",
    title="When the E-step comes, hard assignments, and several bags a step; birds and cats",
    method="variants of MLE-LLP and DLLP",
    config=replace(
        CIFAR_CURVES.config,
        methods=(
            "direct",
            "mle_llp_quarter",
            "mle_llp_two",
            "mle_llp_five",
            "mle_llp_hard",
            "mle_llp_reuse",
            "dllp_several",
        ),
    ),
    cells=(),
)
GAN_SEVERAL = replace(
    CIFAR_CURVES,
    name="llp/cifar-gan-several",
    title="LLP-GAN with several bags a step, birds and cats",
    method="LLP-GAN, several bags a step",
    config=replace(CIFAR_CURVES.config, methods=("llp_gan_several",)),
    cells=(),
    gpu_minutes=15,
)
STAND_IN_CURVES = replace(
    CIFAR_CURVES,
    name="llp/stand-in-curves",
    title="Learning curves, a stand-in for the group photos",
    config=replace(
        CIFAR_CURVES.config,
        sizes="photos",
        negatives=groups.PAPER["male"],
        positives=groups.PAPER["female"],
    ),
    cells=(),
    deviations=(*COMMON, STAND_IN),
)
TEN_CLASSES = replace(
    CIFAR_CURVES,
    name="llp/cifar10-jpeg75-classes",
    title="All ten classes from their counts, CIFAR-10, JPEG-75 copy",
    method="supervised, multiclass marginal likelihood",
    config=replace(
        CIFAR_CURVES.config,
        dataset="cifar10-jpeg75",
        classes=10,
        methods=("supervised", "direct"),
        epochs=60,
    ),
    cells=(),
    seeds=3,
    data=("cifar10-jpeg75",),
    protocols={"short": {**SHORT, "train_bags": 900, "epochs": 25}, "smoke": SMOKE},
    deviations=(*COMMON, JPEG),
    gpu_minutes=120,
)
CHOICE = replace(
    CIFAR_CURVES,
    name="llp/choice",
    title="Grid of learning rates and batches, judged by the counts of held-out training bags",
    config=Choice(),
    run=run_choice,
    cells=(),
    seeds=3,
    protocols={
        "short": {**SHORT, "epochs": 10, "rates": ()},
        "smoke": {**SMOKE, "grid_lr": (1e-3, 3e-3), "grid_batch": (8, 16)},
    },
    deviations=tuple(text for text in COMMON if text != TUNED),
    gpu_minutes=180,
)

# Claims -------------------------------------------------------------------------------------------


def of_both(key: str, text: str, source: str, test: Callable) -> tuple[Claim, ...]:
    """A claim about the learning curves, once for each data set."""
    return tuple(
        claim(f"llp-{key}-{name}", f"{data}: {text}", source, (experiment,), test)
        for name, data, experiment in (
            ("photos", PHOTOS, PHOTOS_CURVES),
            ("cifar", CIFAR, CIFAR_CURVES),
        )
    )


def of_figure_3(key: str, text: str, test: Callable) -> tuple[Claim, ...]:
    """A claim about all sizes of the training set, once for each data set."""
    return tuple(
        claim(f"llp-{key}-{name}", f"{data}: {text}", "section 3.3", experiments, test)
        for name, data, experiments in (
            ("photos", PHOTOS, PHOTOS_SIZED),
            ("cifar", CIFAR, CIFAR_SIZED),
        )
    )


def ablated(key: str, text: str, a: tuple[Experiment, str], b: tuple[Experiment, str]) -> Claim:
    """A comparison of final accuracies that the paper does not make."""
    experiments, methods = zip(a, b, strict=True)
    test = better(*methods)
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
        "MLE-LLP varies least over the splits during training (sd, mean over the epochs)",
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
