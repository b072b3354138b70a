"""The methods of Li (2018): losses, decisions, training, and the runs of the experiments."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import metrics, presence, train
from ...data import svhn
from ..common import Salt, fit
from . import networks
from .data import (
    divide,
    load_numbers,
    nest_batches,
    pixels,
    presence_of,
    shift_and_flip,
    splits,
)
from .psgd import PSGDNewton

# Losses and decisions -----------------------------------------------------------------------------


def exact(config, model: nn.Module, batch) -> Tensor:
    """Return minus the mean log-likelihood of the label sets, by default per position."""
    images, labels = batch
    log_p = train.logits(model, images, config.bf16).log_softmax(1)  # (B, C+1, M, N)
    positions = log_p[0, 0].numel() if config.method.per_position else 1
    return -presence.log_likelihood(log_p, labels).mean() / positions


def cross_entropy(config, model: nn.Module, batch) -> Tensor:
    """Return the loss of the fully supervised baseline; `labels` has one true entry a row."""
    images, labels = batch
    scores = train.logits(model, images, config.bf16).flatten(1)  # (B, C)
    return F.cross_entropy(scores, labels.to(scores.dtype))


def max_pooling_as_printed(config, model: nn.Module, batch) -> Tensor:
    """Return paper (16): probabilities sum to 1 over classes and positions of one image."""
    images, labels = batch
    z = train.logits(model, images, config.bf16)  # (B, C+1, M, N)
    return presence.max_pooling_loss(z.flatten(1).log_softmax(1).view_as(z), labels)


def max_pooling_as_coded(config, model: nn.Module, batch) -> Tensor:
    """Return the loss of the authors' code.

    Probabilities sum to 1 over the whole batch, and nothing is divided by the number of labels.
    """
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
    """Return the class scores of single-object images by rule, from logits (B, K, M, N)."""
    if config.method.loss == "exact":
        log_p = z.log_softmax(1)
        return {"exact": presence.log_alpha_scores(log_p), "mean": presence.mean_scores(log_p)}
    return {config.method.rule: z.amax((2, 3))}  # phi stays in: choosing it is an error


def classification_errors(config, model: nn.Module, images: Tensor, classes: Tensor) -> dict:
    """Return the error in % by decision rule, and how often the rules agree."""
    parts = [
        decisions(config, train.logits(model, pixels(x), config.bf16)) for x in images.split(500)
    ]
    scores = {rule: torch.cat([p[rule] for p in parts]) for rule in parts[0]}
    point = {"test_error": metrics.error_rate(scores[config.method.rule], classes)}
    if len(scores) > 1:
        point |= {f"test_error_{r}_rule": metrics.error_rate(s, classes) for r, s in scores.items()}
        same = scores["exact"].argmax(1) == scores["mean"].argmax(1)
        point["rules_agree"] = 100 * same.double().mean().item()
    return point


# Training -----------------------------------------------------------------------------------------


def network(config, seed: int) -> nn.Sequential:
    """Return the network of a config, initialised by the seed."""
    name, widths = config.network.network, config.network.widths
    name += "_cross_entropy" if config.method.loss == "cross-entropy" else ""
    widths = widths if len(widths) > 1 else widths[0]
    return getattr(networks, name)(train.generator(seed, Salt.PRESENCE_WEIGHTS), widths)


def optimiser(config, model: nn.Module, steps: int, seed: int, device: str):
    """Return optimiser and schedule: the authors' PSGD with a staircase, or AdamW with a cosine."""
    chosen = config.optimiser
    if chosen.optimizer == "psgd":
        count = sum(p.numel() for p in model.parameters())
        psgd = PSGDNewton(
            model,
            chosen.lr,
            train.generator(seed, Salt.PRESENCE_PRECONDITIONER, device=device),
            max_norm=chosen.clip * math.sqrt(count),
            preconditioner_lr=chosen.preconditioner_lr,
            every=chosen.preconditioner_every,
        )
        return psgd, train.staircase(chosen.epochs, steps, chosen.stages)
    adamw = torch.optim.AdamW(model.parameters(), chosen.lr, weight_decay=chosen.weight_decay)
    return adamw, train.cosine(chosen.epochs, steps, chosen.warmup)


def learn(
    config,
    seed: int,
    run,
    batches: Callable[[int], Any],
    steps: int,
    evaluate: Callable[[nn.Module], dict[str, float]],
) -> dict[str, float]:
    """Train the network of a config; return its errors under the three rules of choosing an epoch.

    Raises Interrupted if the run is stopped before its last epoch.
    """
    model = network(config, seed).to(run.device, memory_format=torch.channels_last)
    optimizer, schedule = optimiser(config, model, steps, seed, run.device)
    curve = fit(
        model,
        lambda model, batch: LOSSES[config.method.loss](config, model, batch),
        batches,
        optimizer,
        epochs=config.optimiser.epochs,
        schedule=schedule,
        evaluate=evaluate,
        run=run,
    )
    more = {k: v for k, v in curve[-1].items() if k not in ("epoch", "test_error", "validation")}
    return train.select(curve) | more


# One function for each kind of experiment ---------------------------------------------------------


def run_classification(config, seed: int, run) -> dict[str, float]:
    """Learn and test on one object an image: MNIST and CIFAR-10 (sections 5.1.1 and 5.1.2)."""
    parts = splits(config, seed, run.device)
    images, classes = parts["train"]
    labels, n, size = presence_of(classes), len(classes), config.optimiser.batch
    shift, flip = getattr(config.data, "shift", 0), getattr(config.data, "flip", False)

    def batches(epoch):
        g = train.generator(seed, Salt.PRESENCE_EPOCH, epoch)
        order = torch.randperm(n, generator=g).to(run.device)
        corners = torch.randint(2 * shift + 1, (n, 2), generator=g).to(run.device)
        flips = (torch.rand(n, generator=g) < 0.5 * flip).to(run.device)
        for i in order.split(size):
            yield shift_and_flip(pixels(images[i]), corners[i], flips[i], shift), labels[i]

    def evaluate(model):
        held_out = classification_errors(config, model, *parts["validation"])
        point = classification_errors(config, model, *parts["test"])
        return point | {"validation": held_out["test_error"]}

    return learn(config, seed, run, batches, math.ceil(n / size), evaluate)


def run_nests(config, seed: int, run) -> dict[str, float]:
    """Learn from nests of digits and test on single digits: extended MNIST (section 5.2).

    The epoch is validated by the loss of held-out nests, which needs only their label sets.
    """
    parts = splits(config, seed, run.device)
    images, classes = parts["train"]
    steps = math.ceil(len(classes) / config.optimiser.batch)
    g = train.generator(seed, Salt.PRESENCE_VALIDATION_NESTS)
    held_out = list(nest_batches(config, *parts["validation"], g, run.device))

    def batches(epoch):
        g = train.generator(seed, Salt.PRESENCE_EPOCH, epoch)
        return nest_batches(config, images, classes, g, run.device)

    def evaluate(model):
        losses = [LOSSES[config.method.loss](config, model, batch) for batch in held_out]
        point = classification_errors(config, model, *parts["test"])
        return point | {"validation": torch.stack(losses).mean().item()}

    return learn(config, seed, run, batches, steps, evaluate)


def run_numbers(config, seed: int, run) -> dict[str, float]:
    """Learn from the digits that occur and test on whole sequences: house numbers (section 5.3).

    The epoch is validated by the loss of held-out crops, which needs only their label sets.
    """
    pools, test = load_numbers(config, seed)
    sources, held_out = divide(config, pools, seed, run.device)
    sides, size = (config.data.smallest, config.data.largest), config.optimiser.batch
    crops = test["images"][: config.split.test_images].to(run.device)
    sequences = test["sequences"][: config.split.test_images]

    def batches(epoch):
        g = train.generator(seed, Salt.PRESENCE_EPOCH, epoch)
        for _ in range(config.optimiser.steps):
            images, labels = sources[int(torch.randint(len(sources), (), generator=g))]
            start = int(torch.randint(len(labels) - size + 1, (), generator=g))
            window = slice(start, start + size)
            yield svhn.augment(images[window], g, sides), labels[window]

    def evaluate(model):
        read, finite = [], True
        for x in crops.split(200):
            scores = train.logits(model, x.float() / 256, config.bf16)
            finite = finite and bool(scores.isfinite().all())
            read += metrics.transcribe(scores) if finite else [[]] * len(x)
        losses = [
            LOSSES[config.method.loss](config, model, (x.float() / 256, y)) * len(y)
            for x, y in zip(*(t.split(200) for t in held_out), strict=True)
        ]
        return {
            "test_error": metrics.sequence_error(read, sequences) if finite else math.nan,
            "coverage": metrics.coverage(read) if finite else math.nan,
            "validation": (torch.stack(losses).sum() / len(held_out[1])).item(),
        }

    return learn(config, seed, run, batches, config.optimiser.steps, evaluate)


def run_evaluation_time(config, seed: int, run) -> dict[str, float]:
    """Time one bag in float64: the series as printed, and the package's likelihood (footnote 1)."""
    g = train.generator(seed, Salt.PRESENCE_WEIGHTS)
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
