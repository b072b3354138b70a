"""The settings of every experiment on Belharbi et al. (2020), and what each protocol replaces."""

from dataclasses import dataclass
from typing import Any

from ..experiment import changed, setting

CODE = "released code"
SURVEY = "code of the survey by Rony et al. (2019)"
OURS = "our benchmark"
B2 = "section B.2"


@dataclass(frozen=True)
class Data:
    """The images, and how a training batch is made of them."""

    source: str = setting("glas", "glas", "section 4")
    shrink: int = setting(1, 1, "images and masks are shrunk by this factor")
    short_side: int = setting(0, 0, f"{CODE}: photos are enlarged to 500 at least, GlaS is not")
    crop: int = setting(480, 480, B2)
    reflect: float = setting(0.5, "none", f"{CODE}: share of the size added on each side of GlaS")
    jitter: tuple[float, ...] = setting((0.5, 0.5, 0.5, 0.05), (0.5, 0.5, 0.5, 0.05), B2)
    turns: str = setting("hv", "hvr", f"{B2}; {CODE}: no rotation. h, v: reflections, r: quarters")
    scaled: tuple[float, float] = setting(
        (0.5, 0.5), (0.5, 0.5), f"{B2}: mean subtracted, divided by the sd"
    )
    repeat: int = setting(1, 1, f"draws of an image in an epoch; {SURVEY}: 8 on GlaS")
    # of synthetic glands
    regime: str = setting("graded", "none", OURS)
    size: int = setting(192, "none", OURS)
    train_images: int = setting(2000, "none", OURS)
    validation_images: int = setting(200, "none", OURS)
    test_images: int = setting(500, "none", OURS)


@dataclass(frozen=True)
class Network:
    """The trunk, where its weights come from, and the maps of its heads."""

    network: str = setting("resnet18", "resnet101", "section 4; baselines: resnet18")
    weights: str = setting("imagenet", "imagenet", "section 4; none; glands: see `glands_weights`")
    start_epochs: int = setting(0, "none", f"{OURS}: epochs of pretraining on glands")
    width: int = setting(64, 64, "channels after the stem")
    stages: int = setting(4, 4, "stages of the residual network")
    blocks: int = setting(0, 0, "residual blocks a stage; 0: all")
    stride: int = setting(32, 32, CODE)
    pool: bool = setting(True, True, "max-pooling in the stem")
    norm: str = setting("running", "running", "batch normalisation; else frozen, or by batch")
    modes: int = setting(5, 5, f"{B2}: maps a class")


@dataclass(frozen=True)
class Method:
    """The loss: how maps become class scores, and the terms of min-max entropy."""

    method: str = setting("min-max", "min-max", "section 3")
    # pooling
    share: float = setting(0.09, 0.09, f"{B2}: share of positions pooled")
    alpha: float = setting(0.0, 0.0, f"{B2}: weight of the smallest positions")
    dropout: float = setting(0.75, 0.75, f"{B2}: 0.75 on GlaS, 0.85 on the others")
    r: float = setting(10.0, "not stated", f"CAM-LSE; {SURVEY}")
    gated: bool = setting(False, "not stated", f"Deep MIL; {SURVEY}: no gate")
    # min-max entropy
    terms: str = setting("+-", "+-", "equation (8): H+ and H-; a: H- of an adversary")
    u: int = setting(0, "0 and 4", "section B.2")
    sigma: float = setting(10.0, 10.0, f"{B2}: slope of the trust")
    omega: float = setting(8.0, 8.0, f"{B2}: slope of the mask")
    threshold: float = setting(0.5, 0.5, f"{B2}: sigma_0")
    whole_batch: bool = setting(True, "none", f"{CODE}: min-max over the batch in training")
    c_scale: float = setting(0.5, "none", f"{CODE}: the classifier sees half the size")
    attached: bool = setting(False, False, f"section A.2; {CODE}: the mask is cut from the graph")
    printed: bool = setting(False, True, f"Algorithm 1: u + 1 looks; {CODE}: u")
    believe: str = setting("trust", "trust", "equation (12)")
    accumulate: bool = setting(True, True, "equation (10)")
    matched: bool = setting(False, False, "divide H_s by the number of looks")
    area: float = setting(0.0, 0.0, "weight of the mask's mean area")
    oracle: bool = setting(False, False, "the true mask for X+ and X-")
    alone: int = setting(0, 0, "first epochs with H_s alone")
    erase_from: int = setting(1, "not stated", f"{CODE}: the first epoch of erasing")
    lazy: bool = setting(False, False, "skip looks at images that did not change")


@dataclass(frozen=True)
class Optimiser:
    """Steps, rates and precision."""

    epochs: int = setting(400, 400, B2)
    batch: int = setting(8, 8, CODE)
    drop_last: bool = setting(False, False, f"{CODE}; {SURVEY}: true")
    optimizer: str = setting("sgd", "sgd", f"{B2}: Nesterov, momentum 0.9; else adamw")
    lr: float = setting(1e-3, 1e-3, B2)
    weight_decay: float = setting(1e-5, 1e-5, B2)
    drop: int = setting(40, 40, f"{B2}: epochs until a tenth of the rate, at least 1e-7; 0: cosine")
    bf16: bool = setting(True, "not stated", f"precision of convolutions; {CODE}: float32")


@dataclass(frozen=True)
class Field:
    """The conditional random field that is applied to the masks after training."""

    crf: bool = setting(False, True, "Table 6")
    crf_thetas: tuple[float, float, float] = setting((13, 3, 3), (13, 3, 3), "section B.3.3: GlaS")
    crf_steps: int = setting(2, 2, "section B.3.3: GlaS")
    crf_weights: tuple[tuple[float, float], ...] = setting(
        ((1, 1), (10, 3)), ((1, 1),), f"section B.3.3; {CODE}: 10 and 3"
    )
    crf_shrink: int = setting(2, 1, "the random field runs on images smaller by this factor")


@dataclass(frozen=True)
class Settings:
    """One method on one data set; the defaults are the paper's method, u = 0, on GlaS."""

    data: Data = Data()
    network: Network = Network()
    method: Method = Method()
    optimiser: Optimiser = Optimiser()
    field: Field = Field()


# As printed ---------------------------------------------------------------------------------------

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
# The survey's training of the baselines, for all data sets and for each.
BASELINE = {"scaled": (0.0, 1.0), "reflect": 0.0, "turns": "hr", "weight_decay": 1e-4, "lr": 0.01}
BASELINES = {
    "glas": {"crop": 416, "repeat": 8, "epochs": 160, "drop": 80, "batch": 32, "drop_last": True},
    "cub5": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 8},
    "cub": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 64},
    "flowers": {"crop": 448, "short_side": 448, "epochs": 90, "drop": 30, "batch": 64},
}


def as_printed(source: str, method: str, u: int = 0) -> Settings:
    """Return the settings of a method on a data set of the paper, as its authors trained it."""
    change: dict[str, Any] = PHOTOS if source != "glas" else {}
    if method == "min-max":
        change = {**change, "u": u, "crf": u == 4}
    else:
        change = {**change, **BASELINE, **BASELINES[source], **HEADS[method]}
    change |= {"lr": 0.1} if method == "u-net" else {}
    return changed(Settings(), source=source, method=method, **change)


# On equal terms -----------------------------------------------------------------------------------


def on_equal_terms(source: str, method: str, u: int = 0) -> Settings:
    """Return the settings of a method trained as min-max entropy is, with one trunk for all."""
    change = {"u": u, "crf": u == 4} if method == "min-max" else HEADS[method]
    if source == "pets":
        change = {**PHOTOS, **change}
    return changed(Settings(), source=source, method=method, **change)


# The ladder on synthetic glands -------------------------------------------------------------------

BENCH = {
    "source": "glands",
    "crop": 192,
    "reflect": 0.0,
    "jitter": (),
    "turns": "hvr",
    "network": "resnet18",
    "weights": "glands",
    "start_epochs": 30,
    "width": 32,
    "stride": 16,
    "dropout": 0.25,
    "epochs": 60,
    "batch": 64,
    "lr": 0.02,
    "weight_decay": 1e-4,
    "drop": 0,
    "bf16": True,
}
STEPS: dict[str, dict[str, Any]] = {
    **{
        m: {"method": m, **HEADS[m], "crf": False}
        for m in ("cam-avg", "cam-max", "cam-lse", "wildcat", "deep-mil")
    },
    "alone": {"terms": ""},
    "plus": {"terms": "+"},
    "u0": {},
    "u1": {"u": 1},
    "u2": {"u": 2},
    "u4": {"u": 4},
    "u4-first": {"u": 4, "accumulate": False},
    "u4-always": {"u": 4, "believe": "always"},
    "u4-unless-wrong": {"u": 4, "believe": "unless wrong"},
    "u4-matched": {"u": 4, "matched": True},
    "attached": {"attached": True},
    "attached-plus": {"attached": True, "terms": "+"},
    "attached-area": {"attached": True, "area": 0.5},
    "adversary": {"attached": True, "terms": "+a"},
    "oracle": {"oracle": True},
}


def on_glands(regime: str, step: str) -> Settings:
    """Return the settings of one step of the ladder in one regime."""
    turns = "h" if regime == "spurious" else BENCH["turns"]  # a quarter turn would change the class
    return changed(Settings(), **{**BENCH, "regime": regime, "turns": turns, **STEPS[step]})


# What the protocols replace -----------------------------------------------------------------------

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
    "optimizer": "adamw",  # its steps do not grow with the number of looks, as the loss does
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
SHORT_LADDER_BASELINE = {
    k: v for k, v in SHORT_LADDER.items() if k not in ("modes", "share", "dropout")
}
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
# Generated images, a few seconds.
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
SMOKE_LADDER = {**SMOKE, "weights": "glands", "start_epochs": 1}
