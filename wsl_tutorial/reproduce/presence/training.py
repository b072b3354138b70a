"""How the experiments of Li (2018) run: their settings, data, losses, decisions and measures."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import metrics, presence, train
from ...data import cifar, digits, houses, mnist, svhn
from ..experiment import setting
from ..runner import Interrupted
from . import networks
from .psgd import PSGDNewton

CODE = "authors' code"


# The settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mnist:
    """One digit an image (section 5.1.1); the other configs override what differs."""

    dataset: str = setting("mnist", "MNIST", "section 5.1.1")
    network: str = setting("mnist", "5 feature layers, 1 detection layer, 5 x 5", "section 5.1.1")
    widths: tuple[int, ...] = setting((64,), (64,), CODE)
    loss: str = setting("exact", "exact", "equation (3)")
    per_position: bool = setting(True, True, f"{CODE}: loss divided by MN; not in the text")
    rule: str = setting("exact", "exact and mean", "equations (13) and (14)")
    epochs: int = setting(20, 20, CODE)
    batch: int = setting(64, 64, "section 5")
    optimizer: str = setting("psgd", "psgd", "section 5: a Newton type method")
    lr: float = setting(0.02, "0.02 (the text says 0.01)", CODE)
    stages: int = setting(2, 2, "section 5: a tenth of the rate for the last half")
    clip: float = setting(0.1, 0.1, f"{CODE}: bound on the step over sqrt(parameters)")
    preconditioner_lr: float = setting(0.01, 0.01, CODE)
    preconditioner_every: int = setting(
        5, "not stated", f"steps from one fit to the next; {CODE}: 1", before=1
    )
    weight_decay: float = setting(0.0, 0.0, CODE)
    warmup: float = setting(0.0, 0.0, CODE)
    bf16: bool = setting(True, "not stated", f"precision of convolutions; {CODE}: float32")
    train_images: int = setting(55_000, 60_000, CODE)
    validation_images: int = setting(5_000, 0, CODE)
    test_images: int = setting(10_000, 10_000, CODE)


@dataclass(frozen=True)
class ExtendedMnist(Mnist):
    """Two digits on a canvas (section 5.2); tested on plain MNIST."""

    dataset: str = setting("mnist", "synthesised from MNIST", "section 5.2")
    rule: str = setting("mean", "mean", f"equation (14); {CODE}")
    smallest: int = setting(56, 56, f"{CODE}: least side of a canvas")
    largest: int = setting(84, 84, f"{CODE}: greatest side of a canvas")
    digits_per_nest: int = setting(2, 2, "section 5.2")


@dataclass(frozen=True)
class Cifar10(Mnist):
    """One object an image (section 5.1.2)."""

    dataset: str = setting("cifar10", "CIFAR-10", "section 5.1.2")
    network: str = setting("cifar10", "9 feature layers, 1 detection layer, 3 x 3", "section 5.1.2")
    widths: tuple[int, ...] = setting((128, 192, 256), (128, 192, 256), CODE)
    epochs: int = setting(64, 64, CODE)
    batch: int = setting(32, 32, "section 5")
    lr: float = setting(0.01, 0.01, "section 5")
    train_images: int = setting(45_000, 50_000, CODE)
    shift: int = setting(4, 4, f"{CODE}: padding before the random crop")
    flip: bool = setting(True, True, CODE)


@dataclass(frozen=True)
class HouseNumbers(Mnist):
    """Several digits a crop (section 5.3); measured on whole sequences."""

    dataset: str = setting("svhn-full", "SVHN, full numbers", "section 5.3")
    network: str = setting("svhn", "10 layers, 5 x 5", "section 5.3")
    widths: tuple[int, ...] = setting(
        (128, 192, 256), "three sizes: 48-64-96, 96-128-192, 128-192-256", CODE
    )
    rule: str = setting("transcription", "transcription", "section 5.3")
    zoom: str = setting("authors", "authors", f"{CODE}: the number of digits sets the zoom")
    epochs: int = setting(21, 21, CODE)
    steps: int = setting(7_367, 7_367, f"{CODE}: steps an epoch")
    batch: int = setting(32, 32, "section 5")
    lr: float = setting(0.01, 0.01, "section 5")
    stages: int = setting(3, 3, CODE)
    clip: float = setting(0.05, 0.05, CODE)
    smallest: int = setting(50, 50, f"{CODE}: least side after rescaling")
    largest: int = setting(70, 70, f"{CODE}: greatest side after rescaling")
    train_images: int = setting(230_755, 235_755, CODE)
    test_images: int = setting(13_068, 13_068, CODE)


@dataclass(frozen=True)
class EvaluationTime:
    """One likelihood with many labels (footnote 1)."""

    side: int = setting(100, 100, "footnote 1")
    classes: int = setting(100, 100, "footnote 1")
    labels: int = setting(16, 16, "footnote 1")
    repeats: int = setting(1, "not stated", "footnote 1")


# Losses, decisions, optimisers ------------------------------------------------------------------


def exact(config, model: nn.Module, batch) -> Tensor:
    """Minus the mean log-likelihood of the label sets, by default over the number of positions."""
    images, labels = batch
    log_p = train.logits(model, images, config.bf16).log_softmax(1)  # (B, C+1, M, N)
    positions = log_p[0, 0].numel() if config.per_position else 1
    return -presence.log_likelihood(log_p, labels).mean() / positions


def cross_entropy(config, model: nn.Module, batch) -> Tensor:
    """The strongly supervised baseline; `labels` has one true entry a row."""
    images, labels = batch
    scores = train.logits(model, images, config.bf16).flatten(1)  # (B, C)
    return F.cross_entropy(scores, labels.to(scores.dtype))


def max_pooling_as_printed(config, model: nn.Module, batch) -> Tensor:
    """Paper (16): probabilities sum to 1 over classes and positions of one image."""
    images, labels = batch
    z = train.logits(model, images, config.bf16)  # (B, C+1, M, N)
    return presence.max_pooling_loss(z.flatten(1).log_softmax(1).view_as(z), labels)


def max_pooling_as_coded(config, model: nn.Module, batch) -> Tensor:
    """The authors' program: probabilities sum to 1 over the whole batch, no division by |L|."""
    images, labels = batch
    z = train.logits(model, images, config.bf16)
    log_q = z - z.logsumexp((0, 1, 2, 3))
    return -(log_q[:, :-1].amax((2, 3)) * labels).sum(1).mean()


LOSSES = {
    "exact": exact,
    "cross-entropy": cross_entropy,
    "max-pooling-as-coded": max_pooling_as_coded,
    "max-pooling-as-printed": max_pooling_as_printed,
}


def decisions(config, z: Tensor) -> dict[str, Tensor]:
    """Class scores of single-object images by rule, from logits (B, K, M, N)."""
    if config.loss == "exact":
        log_p = z.log_softmax(1)
        return {"exact": presence.log_alpha_scores(log_p), "mean": presence.mean_scores(log_p)}
    return {config.rule: z.amax((2, 3))}  # phi stays in: choosing it is an error


def network(config, seed: int) -> nn.Sequential:
    """The network of a config, initialised by the seed."""
    name = config.network + ("_cross_entropy" if config.loss == "cross-entropy" else "")
    widths = config.widths if len(config.widths) > 1 else config.widths[0]
    return getattr(networks, name)(train.generator(seed, 0), widths)


def optimiser(config, model: nn.Module, steps: int, seed: int, device: str):
    """(optimiser, schedule): the authors' PSGD with its staircase, or AdamW with a cosine."""
    if config.optimizer == "psgd":
        count = sum(p.numel() for p in model.parameters())
        psgd = PSGDNewton(
            model,
            config.lr,
            train.generator(seed, 1, device=device),
            max_norm=config.clip * math.sqrt(count),
            preconditioner_lr=config.preconditioner_lr,
            every=config.preconditioner_every,
        )
        return psgd, train.staircase(config.epochs, steps, config.stages)
    adamw = torch.optim.AdamW(model.parameters(), config.lr, weight_decay=config.weight_decay)
    return adamw, train.cosine(config.epochs, steps, config.warmup)


def learn(
    config,
    seed: int,
    run,
    batches: Callable[[int], Any],
    steps: int,
    evaluate: Callable[[nn.Module], dict[str, float]],
) -> dict[str, float]:
    """Train the network of a config; return its errors under the three rules of choosing."""
    model = network(config, seed).to(run.device, memory_format=torch.channels_last)
    optimizer, schedule = optimiser(config, model, steps, seed, run.device)
    curve = train.fit(
        model,
        lambda model, batch: LOSSES[config.loss](config, model, batch),
        batches,
        optimizer,
        epochs=config.epochs,
        schedule=schedule,
        evaluate=evaluate,
        run=run,
    )
    if len(curve) < config.epochs:
        raise Interrupted
    more = {k: v for k, v in curve[-1].items() if k not in ("epoch", "test_error", "validation")}
    return train.select(curve) | more


# One object an image, and nests of digits ---------------------------------------------------------

SHAPES = {"mnist": (1, 28), "cifar10": (3, 32), "svhn": (3, 64)}  # channels, side


def load(dataset: str, split: str, network: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, channels, side, side) and classes (N,); "digits" is enlarged to fit."""
    if dataset == "mnist":
        images, classes = mnist.load(split)
        return images[:, None], classes
    if dataset.startswith("cifar10"):
        return cifar.load(split, copy=dataset.partition("-")[2] or "official")
    channels, side = SHAPES[network]
    images, classes = digits.load(split)
    large = F.interpolate(images, size=(side, side), mode="bilinear").expand(-1, channels, -1, -1)
    return (255 * large).round().byte(), classes


def splits(config, seed: int, device: str) -> dict[str, tuple[Tensor, Tensor]]:
    """The images of "train", "validation" (both by the seed) and "test" (always the same)."""
    pools = {s: load(config.dataset, s, config.network) for s in ("train", "test")}
    order = torch.randperm(len(pools["train"][1]), generator=train.generator(seed, 2))
    held_out, rest = order[: config.validation_images], order[config.validation_images :]
    test = torch.randperm(len(pools["test"][1]), generator=train.generator(0, 2))
    chosen = {
        "train": ("train", rest[: config.train_images]),
        "validation": ("train", held_out),
        "test": ("test", test[: config.test_images].sort().values),
    }
    return {
        name: tuple(x[index].to(device) for x in pools[pool])
        for name, (pool, index) in chosen.items()
    }


def pixels(images: Tensor) -> Tensor:
    """Bytes as float32 in [0, 1]."""
    return images.float() / 255


def presence_of(classes: Tensor) -> Tensor:
    """Label sets bool (N, 10) of single objects."""
    return F.one_hot(classes, 10).bool()


def shift_and_flip(images: Tensor, corners: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Random crops of zero-padded images, some mirrored.

    images (B, C, H, W), corners (B, 2) in 0..2 padding, flips bool (B,).
    """
    h, w = images.shape[-2:]
    rows = corners[:, :1] + torch.arange(h, device=images.device)  # (B, H)
    columns = torch.arange(w, device=images.device)
    columns = corners[:, 1:] + torch.where(flips[:, None], columns.flip(0), columns)  # (B, W)
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def classification_errors(config, model: nn.Module, images: Tensor, classes: Tensor) -> dict:
    """Errors in % by decision rule, and how often the rules agree."""
    parts = [
        decisions(config, train.logits(model, pixels(x), config.bf16)) for x in images.split(500)
    ]
    scores = {rule: torch.cat([p[rule] for p in parts]) for rule in parts[0]}
    point = {"test_error": metrics.error_rate(scores[config.rule], classes)}
    if len(scores) > 1:
        point |= {f"test_error_{r}_rule": metrics.error_rate(s, classes) for r, s in scores.items()}
        same = scores["exact"].argmax(1) == scores["mean"].argmax(1)
        point["rules_agree"] = 100 * same.double().mean().item()
    return point


def run_classification(config, seed: int, run) -> dict[str, float]:
    """One object an image: MNIST and CIFAR-10 (sections 5.1.1 and 5.1.2)."""
    parts = splits(config, seed, run.device)
    images, classes = parts["train"]
    labels, n = presence_of(classes), len(classes)
    shift, flip = getattr(config, "shift", 0), getattr(config, "flip", False)

    def batches(epoch):
        g = train.generator(seed, 3, epoch)
        order = torch.randperm(n, generator=g).to(run.device)
        corners = torch.randint(2 * shift + 1, (n, 2), generator=g).to(run.device)
        flips = (torch.rand(n, generator=g) < 0.5 * flip).to(run.device)
        for i in order.split(config.batch):
            yield shift_and_flip(pixels(images[i]), corners[i], flips[i], shift), labels[i]

    def evaluate(model):
        held_out = classification_errors(config, model, *parts["validation"])
        point = classification_errors(config, model, *parts["test"])
        return point | {"validation": held_out["test_error"]}

    return learn(config, seed, run, batches, math.ceil(n / config.batch), evaluate)


def nested(config, images: Tensor, classes: Tensor, cpu: torch.Generator, device: str):
    """The batches of one pass over the images: nests of digits and their label sets."""
    on_device = train.generator(int(torch.randint(2**31, (), generator=cpu)), device=device)
    order = torch.randperm(len(classes), generator=cpu)
    order = order[: len(order) // config.digits_per_nest * config.digits_per_nest].to(device)
    for i in order.split(config.batch):
        sides = torch.randint(config.smallest, config.largest + 1, (2,), generator=cpu).tolist()
        yield mnist.nests(
            images[i, 0],
            classes[i],
            on_device,
            per_nest=config.digits_per_nest,
            height=sides[0],
            width=sides[1],
        )


def run_nests(config, seed: int, run) -> dict[str, float]:
    """Extended MNIST (section 5.2): learn from nests, test on single digits.

    The epoch is validated by the loss of held-out nests, which needs their label sets alone.
    """
    parts = splits(config, seed, run.device)
    images, classes = parts["train"]
    held_out = list(nested(config, *parts["validation"], train.generator(seed, 4), run.device))

    def batches(epoch):
        return nested(config, images, classes, train.generator(seed, 3, epoch), run.device)

    def evaluate(model):
        losses = [LOSSES[config.loss](config, model, batch) for batch in held_out]
        point = classification_errors(config, model, *parts["test"])
        return point | {"validation": torch.stack(losses).mean().item()}

    return learn(config, seed, run, batches, math.ceil(len(classes) / config.batch), evaluate)


# House numbers ----------------------------------------------------------------------------------


def load_numbers(config, seed: int) -> tuple[list[dict], dict]:
    """(training sources, test set) of crops: images uint8 (N, 3, 64, 64), labels, sequences."""
    if config.dataset == "houses":
        n = config.train_images + config.validation_images
        pool = houses.house_numbers(n, train.generator(seed, 2))
        return [pool], houses.house_numbers(config.test_images, train.generator(0, 5))
    copy = "512" if config.dataset == "svhn-full-512" else "official"
    sets = {s: svhn.load(s, copy=copy, zoom=config.zoom) for s in ("train", "test")}
    sources = [sets["train"]]
    if copy == "official":
        extra = svhn.load("extra", zoom=config.zoom)
        sources += [{k: extra[k][i::2] for k in ("images", "labels")} for i in (1, 0)]
    return sources, sets["test"]


def divide(config, sources: list[dict], seed: int, device: str):
    """Shuffled (images, labels) of every source, and of crops held out from all in proportion.

    Raises ValueError where the sources hold too few crops.
    """
    total = sum(len(s["labels"]) for s in sources)
    if total < config.train_images + config.validation_images:
        raise ValueError(f"train_images and validation_images ask for more than {total} crops")
    g = train.generator(seed, 6)
    kept, held_out = [], []
    for s in sources:
        order = torch.randperm(len(s["labels"]), generator=g)
        ends = [n * len(order) // total for n in (config.validation_images, config.train_images)]
        for i, part in zip(order[: sum(ends)].split(ends), (held_out, kept), strict=True):
            part.append([s[k][i].to(device) for k in ("images", "labels")])
    return kept, [torch.cat(x) for x in zip(*held_out, strict=True)]


def run_numbers(config, seed: int, run) -> dict[str, float]:
    """House numbers (section 5.3): learn from the digits that occur, test on whole sequences.

    The epoch is validated by the loss of held-out crops, which needs their label sets alone.
    """
    pools, test = load_numbers(config, seed)
    sources, held_out = divide(config, pools, seed, run.device)
    sides = (config.smallest, config.largest)
    crops = test["images"][: config.test_images].to(run.device)
    sequences = test["sequences"][: config.test_images]

    def batches(epoch):
        g = train.generator(seed, 3, epoch)
        for _ in range(config.steps):
            images, labels = sources[int(torch.randint(len(sources), (), generator=g))]
            start = int(torch.randint(len(labels) - config.batch + 1, (), generator=g))
            window = slice(start, start + config.batch)
            yield svhn.augment(images[window], g, sides), labels[window]

    def evaluate(model):
        read, finite = [], True
        for x in crops.split(200):
            scores = train.logits(model, x.float() / 256, config.bf16)
            finite = finite and bool(scores.isfinite().all())
            read += metrics.transcribe(scores) if finite else [[]] * len(x)
        losses = [
            LOSSES[config.loss](config, model, (x.float() / 256, y)) * len(y)
            for x, y in zip(*(t.split(200) for t in held_out), strict=True)
        ]
        return {
            "test_error": metrics.sequence_error(read, sequences) if finite else math.nan,
            "coverage": metrics.coverage(read) if finite else math.nan,
            "validation": (torch.stack(losses).sum() / len(held_out[1])).item(),
        }

    return learn(config, seed, run, batches, config.steps, evaluate)


# Footnote 1 -------------------------------------------------------------------------------------


def run_evaluation_time(config, seed: int, run) -> dict[str, float]:
    """Seconds for one bag: the series as printed, and the package's likelihood; float64."""
    g = train.generator(seed, 0)
    z = torch.randn(1, config.classes + 1, config.side, config.side, generator=g).double()
    log_p = z.log_softmax(1).to(run.device)
    labels = (torch.arange(config.classes, device=run.device) < config.labels)[None]
    seconds, value = {}, {}
    for name in ("alternating_series", "log_likelihood"):
        times = []
        for _ in range(config.repeats):
            start = time.perf_counter()
            value[name] = getattr(presence, name)(log_p, labels).item()
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return {
        "seconds_as_printed": seconds["alternating_series"],
        "seconds_package": seconds["log_likelihood"],
        "difference_nats": abs(value["alternating_series"] - value["log_likelihood"]),
    }
