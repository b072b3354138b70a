"""What is reproduced of Belharbi et al. (2020): experiments, ledger cells and claims."""

from collections.abc import Callable
from dataclasses import replace
from math import floor, inf, nan
from typing import Any

from ..evidence import (
    Fact,
    Ruling,
    ahead,
    at_least,
    behind,
    contrast,
    exactly,
    mean,
    plus_minus,
    ruling,
    told,
    values,
)
from ..experiment import NO_DATA, NO_GPU, Experiment, Paper, Whose, Why, claim
from ..ledger import Row, cells, load
from .training import Settings, run_method, run_seconds, run_trivial

LAST = "the last epoch; the paper takes that of the lowest validation error, of equals the last"
WEIGHTS = (
    "torchvision's ImageNet weights and stem; where the metric `quantised` is 1, a copy of "
    "ResNet-18 with fewer bits (66.74 % top-1, not 69.76 %); the authors' has a deep stem"
)
TRUNK = "ResNet-18; the paper's min-max method has ResNet-101, as minmax/*-resnet101 have"
HUE = "the hue turns in the plane of YIQ, not in HSV"
SURVEYED = (
    "head, pooling and training after the code of the survey that the authors wrote at the time "
    "(Rony et al. 2019); the paper states little of its baselines"
)
GRADED = "Grad-CAM reads the network of CAM-Avg; on GlaS and CUB5 the paper trained another one"
NO_AFFINE = "no rotations by 10 degrees, shears and changes of scale in training on photos"
LIKE_OURS = "trained as the min-max method, for a comparison on equal terms"
FIELD = (
    "pairs of pixels within three widths, at half of the size; the authors' program approximates"
)
OWN_SPLIT = "validation images drawn by our own seed"
STAND_IN = "a stand-in for CUB5: three breeds of Oxford-IIIT Pet"
CLOCK = "seconds of our machine, without validation; the ratio is what can be compared"
SYNTHETIC = "synthetic glands: not in the paper"
STARTED = "the trunk starts from labels of glands that all show the class, in place of ImageNet"
COMMON = (LAST, WEIGHTS)

# One core, a few minutes a seed: a third of the size, twice the resolution of the maps for it,
# statistics of batch normalisation as in ImageNet, and all methods trained alike.
SHORT = {
    "shrink": 3,
    "crop": 160,
    "short_side": 0,
    "reflect": 0.25,
    "scaled": (0.45, 0.225),
    "jitter": (0.3, 0.3, 0.3, 0.03),
    "turns": "hvr",
    "repeat": 1,
    "network": "resnet18",
    "stride": 16,
    "norm": "frozen",
    "alone": 3,
    "epochs": 10,
    "batch": 8,
    "drop_last": False,
    "optimizer": "adamw",  # it does not see that four looks make four times the loss
    "lr": 1e-4,
    "weight_decay": 1e-4,
    "drop": 0,
    "bf16": True,
    "crf_weights": ((1, 1),),
}
SHORT_PETS = {
    **SHORT,
    "shrink": 2,
    "crop": 112,
    "reflect": 0.0,
    "turns": "h",
    "epochs": 8,
    "crf": False,
}
SHORT_OURS = {"dropout": 0.5}
# One core, at most 100 minutes a seed: data, network, sizes and measures of the paper, fewer steps.
DESK = {
    "optimizer": "adamw",
    "lr": 1e-4,
    "drop": 0,
    "bf16": True,
    "crf_weights": ((1, 1),),
}
DESK_BASELINE = {**DESK, "epochs": 8}
DESK_OURS = {**DESK, "epochs": 40, "lr": 3e-4}
DESK_UNET = {**DESK, "epochs": 8, "lr": 1e-3}
SHORT_UNET = {
    **SHORT,
    "width": 8,
    "norm": "running",
    "optimizer": "sgd",
    "lr": 0.05,
    "epochs": 30,
}
SHORT_LADDER = {
    "size": 64,
    "crop": 64,
    "train_images": 1000,
    "validation_images": 200,
    "test_images": 200,
    "width": 8,
    "stages": 2,
    "blocks": 1,
    "stride": 4,
    "pool": False,
    "norm": "batch",
    "modes": 1,
    "share": 0.25,
    "dropout": 0.0,
    "c_scale": 1.0,
    "start_epochs": 25,
    "alone": 2,
    "epochs": 8,
    "batch": 32,
    "lr": 0.01,
}
SMOKE = {
    "bf16": False,
    "source": "glands",
    "shrink": 1,
    "short_side": 0,
    "size": 32,
    "crop": 32,
    "train_images": 8,
    "validation_images": 4,
    "test_images": 4,
    "repeat": 1,
    "network": "resnet18",
    "weights": "none",
    "width": 4,
    "stages": 2,
    "blocks": 1,
    "stride": 4,
    "epochs": 2,
    "batch": 4,
    "drop_last": False,
    "crf_thetas": (2, 3, 1),
}

# The paper's experiments --------------------------------------------------------------------------

NAMES = {
    "cam-avg": "CAM-Avg, Grad-CAM",
    "cam-max": "CAM-Max",
    "cam-lse": "CAM-LSE",
    "wildcat": "WILDCAT",
    "deep-mil": "Deep MIL",
    "min-max": "min-max",
    "u-net": "U-Net, full supervision",
}
SETS = {"glas": "GlaS", "cub5": "CUB5", "cub": "CUB", "flowers": "OxF"}
DATA = {"glas": "glas", "cub5": "cub", "cub": "cub", "flowers": "flowers", "pets": "pets-3"}
HEADS: dict[str, dict[str, Any]] = {
    "cam-avg": {"modes": 1, "crf": True},
    "cam-max": {"modes": 1, "crf": True},
    "cam-lse": {"modes": 1, "crf": True},
    "wildcat": {"modes": 4, "share": 0.1, "alpha": 0.6, "dropout": 0.0, "crf": True},
    "deep-mil": {},
    "u-net": {"width": 16, "weights": "none"},
}
PHOTOS = {
    "short_side": 500,
    "reflect": 0.0,
    "jitter": (),
    "turns": "h",
    "dropout": 0.85,
    "crf_thetas": (19, 11, 5),
    "crf_steps": 5,
}
# How the survey trains its baselines.
BASELINE = {"scaled": (0.0, 1.0), "reflect": 0.0, "turns": "hr", "weight_decay": 1e-4, "lr": 0.01}
BASELINES = {
    "glas": {"crop": 416, "repeat": 8, "epochs": 160, "drop": 80, "batch": 32, "drop_last": True},
    "cub5": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 8},
    "cub": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 64},
    "flowers": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 64},
}


def printed(source: str, method: str, u: int = 0) -> Experiment:
    """A method on a data set of the paper, trained and cut as its authors did."""
    ours, photos = method == "min-max", source != "glas"
    change: dict[str, Any] = PHOTOS if photos else {}
    if not ours:
        change = {**change, **BASELINE, **BASELINES[source], **HEADS[method]}
    else:
        change = {**change, "u": u, "crf": u == 4}
    change |= {"lr": 0.1} if method == "u-net" else {}
    said = (*COMMON, *(() if ours else (SURVEYED,)), *((GRADED,) if method == "cam-avg" else ()))
    said += (TRUNK,) if ours else ()
    said += (FIELD,) if change.get("crf") else ()
    said += (() if photos else (HUE,)) + ((NO_AFFINE,) if photos and not ours else ())
    said += (OWN_SPLIT,) if source == "cub" else ()
    small = {**SHORT, **SHORT_OURS, "lazy": u == 4} if ours else SHORT
    desk = DESK_OURS if ours else DESK_BASELINE
    if method == "u-net":
        small, desk = SHORT_UNET, DESK_UNET
    name = f"minmax/{source}-{method}" + (f"-u{u}" if ours else "")
    return Experiment(
        name=name,
        title=SETS[source],
        method=f"min-max u={u}" if ours else NAMES[method],
        config=replace(Settings(), source=source, method=method, **change),
        run=run_method,
        cells=cells(name),
        seeds=3,
        data=(DATA[source],),
        protocols={"smoke": SMOKE} if photos else {"desk": desk, "short": small, "smoke": SMOKE},
        deviations=said,
        gpu_minutes=MINUTES[source][ours],
        selects=SELECTS,
        not_run=NO_DATA if photos else NO_GPU,
    )


MINUTES = {"glas": (3, 15), "cub5": (1, 20), "cub": (30, 600), "flowers": (10, 180)}
SELECTS = ("validation_error", "lower")


def truncated(row: Row) -> Callable[[list[dict]], Ruling]:
    """A cell without chance in it: ours, cut to two decimals as the paper's numbers are."""

    def test(records: list[dict]) -> Ruling:
        ours = mean(records, row.metric)
        cut = floor(100 * ours + 1e-6) / 100
        same = exactly(0.005 - abs(cut - row.value))
        return ruling(f"{ours:.4f}, printed {row.value:.2f}", same)

    return test


def trivial(source: str, base: Experiment) -> Experiment:
    """All-ones and All-zeros."""
    own, name = base.config.source in SETS, f"minmax/{source}-trivial"
    ones = (row for row in load().values() if row.experiment == name)
    cut = {row.metric: truncated(row) for row in ones if row.decimals == 2}
    return replace(
        base,
        name=name,
        method="All-ones, All-zeros",
        config=replace(base.config, bf16=base.config.source == "glands"),  # no network: as recorded
        run=run_trivial,
        cells=cells(name, cut),
        seeds=1,
        protocols={p: f for p, f in SHORTS.items() if p in base.protocols}
        if own
        else base.protocols,
        deviations=(),
        gpu_minutes=0,
        not_run=NO_DATA if base.not_run is NO_DATA else Why.NO_RUN,
    )


SHORTS = {"short": {"shrink": 3}, "smoke": SMOKE}
METHODS = ("cam-avg", "cam-max", "cam-lse", "wildcat", "deep-mil", "u-net")
PRINTED = {
    (s, m, u): printed(s, m, u)
    for s in SETS
    for m, u in (*((m, 0) for m in METHODS), ("min-max", 0), ("min-max", 4))
}
DEEP = tuple(  # the paper's trunk, for whom has its weights
    replace(
        e,
        name=f"{e.name}-resnet101",
        config=replace(e.config, network="resnet101"),
        cells=(),
        protocols={"smoke": SMOKE},
        deviations=tuple(text for text in e.deviations if text != TRUNK),
        gpu_minutes=60,
    )
    for e in (PRINTED["glas", "min-max", u] for u in (0, 4))
)
TRIVIAL = {s: trivial(s, PRINTED[s, "cam-avg", 0]) for s in SETS}


def slower(records: list[dict]) -> Ruling:
    """Durations of one run; no seed changes them."""
    a, b = (mean(records, f"{name}_minutes") for name in ("u0", "u4"))
    return ruling(f"400 epochs in {a:.0f} and {b:.0f} minutes; {CLOCK}", exactly(b - a))


def timed(source: str) -> Experiment:
    """Table 5: epochs of u = 0 and u = 4, side by side."""
    base, name = PRINTED[source, "min-max", 0], f"minmax/{source}-seconds"
    return replace(
        base,
        name=name,
        title=f"{SETS[source]}, seconds of an epoch",
        method="min-max u=0, u=4, and u=4 without looks for nothing",
        config=replace(base.config, epochs=5, crf=False, erase_from=0),
        run=run_seconds,
        cells=cells(name, {"u0_minutes": slower, "u4_minutes": slower}),
        seeds=1,
        protocols={  # a step of min-max takes as long at any rate
            name: {**fields, "lr": 1e-4, "epochs": 2, "lazy": False, "alone": 0}
            for name, fields in base.protocols.items()
        },
        deviations=(WEIGHTS, CLOCK),
        gpu_minutes=3,
    )


SECONDS = (timed("glas"), timed("cub5"))


# Equal terms, and pets ----------------------------------------------------------------------------


def equal(source: str, method: str, u: int = 0) -> Experiment:
    """A method trained as ours, with one trunk for all."""
    ours = method == "min-max"
    change = {"u": u, "crf": u == 4} if ours else HEADS[method]
    base = PRINTED["glas" if source == "glas" else "cub5", method, u]
    pets = source == "pets"
    small = {**SHORT_PETS, **SHORT_OURS, "lazy": u == 4} if ours else SHORT_PETS
    said = (*COMMON, LIKE_OURS, *((GRADED,) if method == "cam-avg" else ()), FIELD, HUE)
    return replace(
        base,
        name=f"minmax/{source}" + ("" if pets else "-equal") + f"-{method}" + f"-u{u}" * ours,
        title="Oxford-IIIT Pet, three breeds" if pets else "GlaS, equal terms",
        config=replace(
            Settings(),
            source=source,
            method=method,
            **({**PHOTOS, **change} if pets else change),
        ),
        cells=(),
        data=(DATA[source],),
        protocols={"short": small, "smoke": SMOKE} if pets else {"smoke": SMOKE},
        deviations=(*said, STAND_IN) if pets else said,
        gpu_minutes=15,
        not_run=NO_GPU,
    )


EQUAL = {
    (s, m, u): equal(s, m, u)
    for s, methods in (("glas", METHODS[:5]), ("pets", ("cam-avg", "wildcat", "deep-mil")))
    for m, u in (*((m, 0) for m in methods), ("min-max", 0), ("min-max", 4))
}
PETS_TRIVIAL = replace(
    trivial("pets", EQUAL["pets", "cam-avg", 0]), protocols={"short": {"shrink": 2}, "smoke": SMOKE}
)

# The ladder: synthetic glands ---------------------------------------------------------------------

BENCH = replace(
    Settings(),
    source="glands",
    crop=192,
    reflect=0.0,
    jitter=(),
    turns="hvr",
    network="resnet18",
    weights="glands",
    start_epochs=30,
    width=32,
    stride=16,
    dropout=0.25,
    epochs=60,
    batch=64,
    lr=0.02,
    weight_decay=1e-4,
    drop=0,
    bf16=True,
)
REGIMES = {
    "graded": "some glands show the class better",
    "head": "one small part shows the class well",
    "everywhere": "every gland shows the class",
    "one": "one gland",
    "spurious": "the stroma tells the class in training",
    "unbalanced": "classes of 70 and 30 %",
}
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    **{m: (NAMES[m], {"method": m, **HEADS[m], "crf": False}) for m in METHODS[:5]},
    "alone": ("H_s", {"terms": ""}),
    "plus": ("H_s + H+", {"terms": "+"}),
    "u0": ("min-max u=0", {}),
    "u1": ("min-max u=1", {"u": 1}),
    "u2": ("min-max u=2", {"u": 2}),
    "u4": ("min-max u=4", {"u": 4}),
    "u4-first": ("min-max u=4, the mask of the first look", {"u": 4, "accumulate": False}),
    "u4-always": ("min-max u=4, every look trusted", {"u": 4, "believe": "always"}),
    "u4-unless-wrong": ("min-max u=4, looks not compared", {"u": 4, "believe": "unless wrong"}),
    "u4-matched": ("min-max u=4, H_s by the number of looks", {"u": 4, "matched": True}),
    "attached": ("min-max u=0, mask attached", {"attached": True}),
    "attached-plus": ("H_s + H+, mask attached", {"attached": True, "terms": "+"}),
    "attached-area": ("min-max u=0, attached, area term", {"attached": True, "area": 0.5}),
    "adversary": ("H_s + H+, against an adversary", {"attached": True, "terms": "+a"}),
    "oracle": ("min-max u=0, true masks", {"oracle": True}),
}
FEW = ("cam-avg", "alone", "u0", "u4")


def rung(regime: str, step: str) -> Experiment:
    """One step of the ladder in one regime."""
    method, change = STEPS[step]
    turns = "h" if regime == "spurious" else BENCH.turns  # a quarter turn would change the class
    short = SHORT_LADDER if change.get("method", "min-max") == "min-max" else LADDER_BASELINE
    return Experiment(
        name=f"minmax/{regime}-{step}",
        title=f"Synthetic glands: {REGIMES[regime]}",
        method=method,
        config=replace(BENCH, regime=regime, turns=turns, **change),
        run=run_method,
        cells=(),
        seeds=3,
        protocols={"short": short, "smoke": {**SMOKE, "weights": "glands", "start_epochs": 1}},
        deviations=(SYNTHETIC, STARTED, LAST),
        gpu_minutes=3,
        not_run=NO_GPU,
        selects=SELECTS,
    )


LADDER_BASELINE = {k: v for k, v in SHORT_LADDER.items() if k not in ("modes", "share", "dropout")}
LADDER = {
    (r, s): rung(r, s)
    for r in REGIMES
    for s in (STEPS if r in ("graded", "head") else FEW)
    if not (r == "graded" and s in ("u1", "u2"))
}
BLIND = tuple(
    replace(trivial(r, LADDER[r, "cam-avg"]), deviations=(SYNTHETIC,)) for r in ("graded", "head")
)

# Claims -------------------------------------------------------------------------------------------


EQUAL_CUT = ("midrange_f1_plus", "midrange_f1_minus", "pxap")
NEAR = 1.0  # points: "not below" and "the same" are read as within so much


def not_below(ours, other, metric: str) -> Fact:
    """Return how much the gap is above -1 point."""
    return ahead(ours, other, metric, plus=NEAR)


def fewer_false_positives(ours, *others):
    """F1- above at one cut for all with F1+ not below, and PxAP above."""
    plus, minus, free = EQUAL_CUT
    facts = [ahead(ours, o, metric) for o in others for metric in (minus, free)]
    facts += [not_below(ours, o, plus) for o in others]
    return ruling("; ".join(told(ours, o, *EQUAL_CUT) for o in others), *facts)


def fewer_as_printed(ours, *others):
    """Every method by its own cut, as the paper's Table 2."""
    facts = [ahead(ours, o, "f1_minus") for o in others]
    facts += [not_below(ours, o, "f1_plus") for o in others]
    return ruling("; ".join(told(ours, o, "f1_plus", "f1_minus") for o in others), *facts)


def erasing_helps(four, *others):
    """F1+ above, F1- not below; by the midrange cut, which is the paper's own for its method."""
    plus, minus = "midrange_f1_plus", "midrange_f1_minus"
    facts = [ahead(four, o, plus) for o in others] + [not_below(four, o, minus) for o in others]
    return ruling("; ".join(told(four, o, plus, minus) for o in others), *facts)


def competitive(ours, *others):
    """At most 2.5 points above each baseline, so above the best."""
    best = min(mean(o, "error", inf) for o in others)
    text = f"{mean(ours, 'error', inf):.1f} %, the best baseline {best:.1f} %"
    return ruling(text, *(behind(ours, o, "error", plus=2.5) for o in others))


def field_helps(ours, *others):
    """F1+ plus F1- grows, and by more than that of the others does in the mean."""

    def gain(records, side):
        before, after = values(records, f"f1_{side}"), values(records, f"crf1_f1_{side}")
        return [b - a for a, b in zip(before, after, strict=True)]

    def grown(records):
        return [a + b for a, b in zip(*(gain(records, s) for s in ("plus", "minus")), strict=True)]

    facts = (
        contrast((1, grown(ours))),
        contrast((1, grown(ours)), *((-1 / len(others), grown(o)) for o in others)),
    )
    text = "F1+ plus F1- changes by {}, less what it does for the baselines {}"
    return ruling(text.format(*(plus_minus(fact, 2) for fact in facts)), *facts)


def beats_zeros(ours, blind):
    zeros = mean(blind, "all_zeros_f1_minus")
    text = f"F1- {mean(ours, 'midrange_f1_minus'):.1f} %, All-zeros {zeros:.1f} %"
    return ruling(text, at_least(ours, "midrange_f1_minus", zeros))


def moderate(records):
    """Durations of one run; no seed changes them."""
    ratio = mean(records, "ratio", inf)
    return ruling(f"an epoch of u = 4 takes {ratio:.2f} of u = 0", exactly(2.5 - ratio))


def cut_explains(ours, cam):
    """One cut leaves at most half of a lead that is there."""
    own, one = (ahead(ours, cam, key) for key in ("f1_minus", "midrange_f1_minus"))

    def taken(records):
        pairs = (values(records, key) for key in ("f1_minus", "midrange_f1_minus"))
        return [a / 2 - b for a, b in zip(*pairs, strict=True)]

    text = (
        f"F1- ahead by {plus_minus(own)} with each method's own cut, by {plus_minus(one)} with one"
    )
    return ruling(text, own, contrast((1, taken(ours)), (-1, taken(cam))))


def same_map(a, b):
    """Within 1 point on either side."""
    facts = (ahead(a, b, "pxap", plus=NEAR), ahead(b, a, "pxap", plus=NEAR))
    return ruling(told(a, b, "pxap"), *facts)


def gains_ordered(*parts):
    """u = 4 less u = 0 in F1+: in both regimes of weak evidence more than where it is strong."""
    pairs = list(zip(parts[::2], parts[1::2], strict=True))
    gains = [ahead(four, zero, EQUAL_CUT[0]) for zero, four in pairs]

    def beyond_strong(k):
        signed = zip((-1, 1, 1, -1), (*pairs[k], *pairs[2]), strict=True)
        return contrast(*((weight, values(records, EQUAL_CUT[0])) for weight, records in signed))

    text = "F1+ gains: " + ", ".join(map(plus_minus, gains)) + " (graded, head, everywhere)"
    return ruling(text, beyond_strong(0), beyond_strong(1))


def not_removed(alone, zero, four):
    """Neither is above H_s alone by more than 1 point."""
    text = f"u = 0: {told(zero, alone, 'pxap')}; u = 4: {told(four, alone, 'pxap')}"
    return ruling(text, *(not_below(alone, other, "pxap") for other in (zero, four)))


def drifts(attached, area, zero):
    """An area is neither good nor bad: a run without one decides nothing."""
    parts = (mean(r, "midrange_area", nan) for r in (attached, area, zero))
    text = "area {:.1f} %, with an area term {:.1f} %, detached {:.1f} %".format(*parts)
    return ruling(text, *(ahead(attached, o, "midrange_area", nan) for o in (area, zero)))


def all_ones_is_optimal(zero, oracle):
    """H+ + H- of All-ones, where X+ = X and X- = 0, no more than of the run's own masks."""

    def sums(records, masks):
        pairs = (values(records, f"h_{side}_{masks}", nan) for side in ("plus", "minus"))
        return [a + b for a, b in zip(*pairs, strict=True)]

    def lead(records, own):
        return contrast((1, sums(records, own)), (-1, sums(records, "all")))

    named = (("min-max", zero, "own"), ("true masks", oracle, "true"))
    text = "; ".join(f"{n}: {plus_minus(lead(r, own), 2)}" for n, r, own in named)
    return ruling(f"H+ + H- of the masks less those of All-ones, nats: {text}", lead(zero, "own"))


def of(source: str, *names: str, table=PRINTED) -> tuple[Experiment, ...]:
    """Experiments by method; u0 and u4 are the min-max ones."""
    pick = {"u0": ("min-max", 0), "u4": ("min-max", 4)}
    return tuple(table[(source, *pick.get(n, (n, 0)))] for n in names)


def on(regime: str, *steps: str) -> tuple[Experiment, ...]:
    return tuple(LADDER[regime, s] for s in steps)


BY = "not in the paper"
CAMS = ("cam-avg", "cam-max", "cam-lse", "wildcat")
A = "F1- above, F1+ at most 1 point below, cut at the midrange, and PxAP above"
B = "erasing (u = 4): F1+ above, F1- at most 1 point below"
CLAIMS = (
    claim(
        "minmax-a-printed",
        "GlaS, each method by its own cut: u = 4 has F1- above the CAM methods, and F1+ at most 1 "
        "point below",
        "table 2",
        of("glas", "u4", *CAMS),
        fewer_as_printed,
    ),
    claim(
        "minmax-a-cut",
        f"GlaS, u = 4 against CAM-Avg and WILDCAT: {A}",
        "section 4",
        of("glas", "u4", "cam-avg", "wildcat"),
        fewer_false_positives,
    ),
    claim(
        "minmax-a-equal",
        f"GlaS, one trunk and one training for all, u = 4 against CAM-Avg and WILDCAT: {A}",
        "section 4",
        of("glas", "u4", "cam-avg", "wildcat", table=EQUAL),
        fewer_false_positives,
    ),
    claim(
        "minmax-a-pets",
        f"Pets, u = 4 against CAM-Avg and WILDCAT: {A}",
        "section 4, of other data",
        of("pets", "u4", "cam-avg", "wildcat", table=EQUAL),
        fewer_false_positives,
    ),
    claim("minmax-b-glas", f"GlaS, {B}", "table 4", of("glas", "u4", "u0"), erasing_helps),
    claim(
        "minmax-c-glas",
        "GlaS: the class of u = 4 is competitive (read as at most 2.5 points of error, two images, "
        "above the best baseline)",
        "table 1",
        of("glas", "u4", *CAMS, "deep-mil"),
        competitive,
    ),
    claim(
        "minmax-d-field",
        "GlaS: the random field helps u = 4 (F1+ + F1- grows) and more than it helps CAM methods",
        "section B.3.3",
        of("glas", "u4", *CAMS),
        field_helps,
    ),
    claim(
        "minmax-e-seconds",
        "erasing costs a moderate increase of training time (read as a factor of 2.5)",
        "section B.3.2",
        SECONDS[:1],
        moderate,
    ),
    claim(
        "minmax-zeros",
        "GlaS: u = 4 has more F1- than All-zeros",
        "not in the paper",
        (*of("glas", "u4"), TRIVIAL["glas"]),
        beats_zeros,
        Whose.BOOK,
    ),
    *(
        claim(
            f"minmax-a-{regime}",
            f"synthetic glands ({regime}), u = 4 against H_s alone and CAM-Avg: {A}",
            BY,
            on(regime, "u4", "alone", "cam-avg"),
            fewer_false_positives,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-b-{regime}",
            f"synthetic glands ({regime}), {B} than u = 0, u = 4 with the first mask, H_s divided",
            BY,
            on(regime, "u4", "u0", "u4-first", "u4-matched"),
            erasing_helps,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-cut-{regime}",
            f"synthetic glands ({regime}): one cut for all takes half of u = 0's lead over CAM-Avg "
            "in F1-, or more",
            BY,
            on(regime, "u0", "cam-avg"),
            cut_explains,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    *(
        claim(
            f"minmax-detached-{regime}",
            f"synthetic glands ({regime}): detached, u = 0 has the PxAP of H_s alone (within 1 "
            "point)",
            BY,
            on(regime, "u0", "alone"),
            same_map,
            Whose.BOOK,
        )
        for regime in ("graded", "head")
    ),
    claim(
        "minmax-erasing-where",
        "erasing gains more F1+ where evidence is graded or small than where it is everywhere",
        BY,
        (*on("graded", "u0", "u4"), *on("head", "u0", "u4"), *on("everywhere", "u0", "u4")),
        gains_ordered,
        Whose.BOOK,
    ),
    claim(
        "minmax-spurious",
        "a stroma that tells the class: the min-max terms do not raise PxAP above H_s alone (read "
        "as by at most 1 point)",
        BY,
        on("spurious", "alone", "u0", "u4"),
        not_removed,
        Whose.BOOK,
    ),
    claim(
        "minmax-drift",
        "attached and without an area term, masks grow larger than detached ones",
        BY,
        on("graded", "attached", "attached-area", "u0"),
        drifts,
        Whose.BOOK,
    ),
    claim(
        "minmax-all-ones",
        "All-ones has no more of H+ + H- than the masks that were learnt",
        BY,
        on("graded", "u0", "oracle"),
        all_ones_is_optimal,
        Whose.BOOK,
    ),
)

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
)
