"""Train the methods of Belharbi et al. (2020): networks, losses and runs."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from math import exp
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import metrics, regions, train
from ...data import cached
from ..common import Salt, fit, needed, placed, seeded
from ..experiment import changed, plain, settings_of
from ..runner import Interrupted
from . import networks
from .data import CLASSES, Batch, Part, batches, parts_of, steps_of
from .measures import answers, errors_and_entropies, measured_pixels, measures
from .networks import classified, features, pooled
from .settings import Settings

# Networks and their weights -----------------------------------------------------------------------


def model_of(config: Settings, seed: int, device: str) -> networks.Pair:
    """Return the networks of a config, initialised by the seed, with the weights it asks for."""
    classes, c, method = CLASSES[config.data.source], config.network, config.method

    def trunk() -> networks.Trunk:
        return networks.Trunk(c.network, c.width, c.stages, c.blocks, c.stride, c.pool)

    def build() -> networks.Pair:
        if method.method == "u-net":
            return networks.Pair(networks.UNet(c.width))
        body = trunk()
        if method.method == "deep-mil":
            head = networks.Attention(body.features, classes, 128, method.gated)
            return networks.Pair(body, head)
        head, head_c, other = (networks.Maps(body.features, classes, c.modes) for _ in range(3))
        has_c = method.method == "min-max" and method.terms
        adversary = nn.Sequential(trunk(), other) if "a" in method.terms else None
        return networks.Pair(body, head, head_c if has_c else None, adversary)

    model = seeded(build, train.generator(seed, Salt.REGIONS_WEIGHTS))
    model.frozen = c.norm == "frozen"
    for m in model.modules():
        if c.norm == "batch" and isinstance(m, nn.BatchNorm2d):
            m.track_running_stats, m.running_mean, m.running_var = False, None, None
            m.num_batches_tracked = None
    if c.weights == "imagenet" and method.method != "u-net":
        weights, model.quantised = networks.imagenet(c.network)
        names = model.trunk.state_dict().keys()
        model.trunk.load_state_dict({n: v for n, v in weights.items() if n in names})
    if c.weights == "glands" and method.method != "u-net":
        model.trunk.load_state_dict(glands_weights(config, seed, device))
    return placed(model, device)


SHARED = (  # by the run and by the training of its start
    *("network", "width", "stages", "blocks", "stride", "pool", "norm", "bf16", "start_epochs"),
    *("size", "train_images", "batch"),
)


def glands_weights(config: Settings, seed: int, device: str) -> dict[str, Tensor]:
    """Return weights of a trunk trained on labels of glands that all show the class.

    They replace ImageNet's where training from scratch would take too long; cached for other runs.
    """
    own = {name: settings_of(config)[name] for name in SHARED}
    own |= {"crop": own["size"], "epochs": own["start_epochs"], "turns": "hvr", "jitter": ()}
    own |= {"source": "glands", "regime": "everywhere", "weights": "none", "modes": 1}
    own |= {"terms": "", "share": 0.25, "dropout": 0.0, "reflect": 0.0, "drop": 0}
    c = changed(Settings(), **own, lr=0.1, weight_decay=1e-4)

    def build() -> dict:
        model, part = model_of(c, seed, device), parts_of(c, seed)["train"]
        train.fit(
            model,
            partial(from_maps, c),
            batches(c, part, seed, device),
            optimizer_of(c, model),
            epochs=c.optimiser.epochs,
            schedule=schedule_of(c, steps_of(c, part)),
        )
        return {n: v.cpu().numpy() for n, v in model.trunk.state_dict().items()}

    key = hashlib.sha256(json.dumps([plain(c), seed], sort_keys=True).encode()).hexdigest()[:16]
    return {n: torch.from_numpy(v) for n, v in cached(f"glands-{key}", build).items()}


# Losses -------------------------------------------------------------------------------------------


def from_maps(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the cross-entropy of pooled class maps: CAM, WILDCAT, and the localiser alone."""
    maps = needed(model.head)(features(config, model, batch.images))
    return F.cross_entropy(pooled(config, maps, batch.salt), batch.labels)


def from_attention(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the cross-entropy of attended features: Deep MIL."""
    _, logits = needed(model.head)(features(config, model, batch.images))
    return F.cross_entropy(logits, batch.labels)


def from_masks(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the cross-entropy of every pixel: U-Net."""
    return F.cross_entropy(features(config, model, batch.images), batch.masks[:, 0].long())


def always(logits, target, first, t, sigma) -> Tensor:
    """Return exp(-t / sigma): every look is trusted."""
    return torch.full_like(logits[:, 0], exp(-t / sigma)).detach()


def unless_wrong(logits, target, first, t, sigma) -> Tensor:
    """Return the trust without the comparison with the first look."""
    return regions.trust(logits, target, None, t, sigma)


BELIEVE = {"always": always, "unless wrong": unless_wrong}


def rule_of(config: Settings, u: int) -> regions.Rule:
    """Return the rule of erasing; rules that are not the paper's never end the search."""
    c = config.method
    rule = regions.as_printed(u) if c.printed else regions.as_released(u)
    if c.believe in BELIEVE and rule.trust is not None:
        rule = replace(rule, ends="never", trust=BELIEVE[c.believe])
    return rule


def localiser(config: Settings, model: networks.Pair, batch: Batch) -> Callable:
    """Return M for `regions.looks`; unchanged images keep their logits and masks."""
    c, last = config.method, None
    looks = 1 if not c.matched else max(c.u, 1)

    def localise(images: Tensor, moved: Tensor | None = None) -> tuple[Tensor, Tensor]:
        nonlocal last
        head = needed(model.head)
        if moved is None or bool(moved.all()):
            maps = head(features(config, model, images))
        else:
            rows = moved.nonzero()[:, 0]
            maps = needed(last).detach()
            if len(rows):
                maps = maps.index_copy(0, rows, head(features(config, model, images[rows])))
        last = maps
        logits = pooled(config, maps, batch.salt)
        if looks > 1 and logits.requires_grad:
            logits.register_hook(lambda gradient: gradient / looks)
        h, w = images.shape[2:]
        return logits, regions.region(maps, logits, (h, w), c.omega, c.threshold, c.whole_batch)

    return localise


def min_max(config: Settings, model: networks.Pair, batch: Batch) -> Iterator[Tensor]:
    """Yield the parts of the loss of paper (8), or of a variant of it.

    Each detached look is a part of its own, so a step needs the memory of one look.
    """
    c = config.method
    if not c.terms or batch.epoch < c.alone:
        yield from_maps(config, model, batch)
        return
    x, y, salt = batch.images, batch.labels, batch.salt
    rule = rule_of(config, c.u if batch.epoch >= c.erase_from else 0)
    localise = localiser(config, model, batch)
    if c.lazy and c.attached:
        raise ValueError("lazy looks need detached masks: set attached or lazy to False")
    if c.lazy:
        found = regions.lazy_looks(localise, x, y, rule, c.sigma)
    else:
        found = regions.looks(localise, x, y, rule, c.sigma, c.attached)
    loss, trust, mask = x.new_zeros(()), [], None
    for look in found:
        own = look.losses.mean()
        if c.attached or not own.requires_grad:  # no graph: lazy, and no image has changed
            loss = loss + own
        else:
            yield own
        trust.append(look.trust)
        if c.accumulate:
            mask = look.total
        elif mask is None:
            mask = look.region.detach()
    model.note(torch.stack(trust))
    mask = batch.masks if c.oracle else needed(mask)
    loss = loss + c.area * mask.mean()
    if "+" in c.terms:
        loss = loss + F.cross_entropy(classified(config, model, x * mask, salt), y)
    rest = x * (1 - mask)
    if "-" in c.terms:
        logits = classified(config, model, rest, salt)
        loss = loss + regions.cross_entropy_to_uniform(logits).mean()
    if "a" in c.terms:  # M and the adversary pull at one loss in opposite directions
        rest = 2 * rest.detach() - rest
        logits = train.logits(needed(model.adversary), rest, config.optimiser.bf16)
        loss = loss + F.cross_entropy(regions.average_pooling(logits), y)
    yield loss


Loss = Callable[[Settings, networks.Pair, Batch], Tensor | Iterator[Tensor]]
METHODS: dict[str, Loss] = {
    "cam-avg": from_maps,
    "cam-max": from_maps,
    "cam-lse": from_maps,
    "wildcat": from_maps,
    "deep-mil": from_attention,
    "min-max": min_max,
    "u-net": from_masks,
}


# Runs ---------------------------------------------------------------------------------------------


def optimizer_of(config: Settings, model: networks.Pair) -> torch.optim.Optimizer:
    """Return AdamW, or SGD with Nesterov's momentum."""
    c = config.optimiser
    if c.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), c.lr, weight_decay=c.weight_decay)
    return torch.optim.SGD(
        model.parameters(), c.lr, momentum=0.9, weight_decay=c.weight_decay, nesterov=True
    )


def schedule_of(config: Settings, steps: int) -> Callable[[int, int], float]:
    """Return, for `train.fit`, the factor on the learning rate by epoch and step."""
    c = config.optimiser
    if not c.drop:
        return train.cosine(c.epochs, steps, warmup=0.05)
    late = config.method.method == "min-max"  # as released: epoch 40 still has the initial rate
    return lambda epoch, step: max(0.1 ** (max(epoch - late, 0) // c.drop), 1e-7 / c.lr)


def run_method(config: Settings, seed: int, run) -> dict[str, float]:
    """Train one method, and return its measures on the test images after the last epoch."""
    parts, epochs = parts_of(config, seed), config.optimiser.epochs
    model = model_of(config, seed, run.device)
    made, clock = batches(config, parts["train"], seed, run.device), [0.0]

    def timed(epoch: int) -> Iterable[Batch]:
        start = time.monotonic()
        yield from made(epoch)
        clock[0] = time.monotonic() - start

    def evaluate(model: networks.Pair) -> dict[str, float]:
        shares = model.accepted.tolist()[: config.method.u]
        looks = {f"accepted_{t}": share for t, share in enumerate(shares)}
        return {"epoch_seconds": clock[0], **looks, **validation(config, model, parts["valid"])}

    curve = fit(
        model,
        lambda model, batch: METHODS[config.method.method](config, model, batch),
        timed,
        optimizer_of(config, model),
        epochs=epochs,
        schedule=schedule_of(config, steps_of(config, parts["train"])),
        evaluate=evaluate,
        run=run,
    )
    model.eval()
    point = {"epoch_seconds": median(p["epoch_seconds"] for p in curve)}
    point |= {k: v for k, v in curve[-1].items() if k.startswith(("loss", "valid", "accepted"))}
    if config.network.weights == "imagenet":
        point["quantised"] = float(model.quantised)
    return point | measures(config, model, parts, run.device)


def validation(config: Settings, model: networks.Pair, part: Part) -> dict[str, float]:
    """Return the error on held-out images; for the U-Net, the share of wrong pixels."""
    device = str(next(model.parameters()).device)
    found = answers(config, model, part, device)
    if not found.logits:
        masks = found.readings[""]["printed"]
        wrong = [(a != b).double().mean() for a, b in zip(masks, part.masks, strict=True)]
        return {"validation_error": 100 * torch.stack(wrong).mean().item()}
    return {"validation_error": errors_and_entropies(part.labels, found.logits)["error"]}


def run_trivial(config: Settings, seed: int, run) -> dict[str, float]:
    """Return the measures of blind masks and answers, and the mean area of the true masks."""
    part = parts_of(config, seed)["test"]
    true = measured_pixels(part, part.masks)
    point = {"true_area": 100 * torch.stack([t.double().mean() for t in true]).mean().item()}
    for name, masks in metrics.trivial_masks(true).items():
        key = name.lower().replace("-", "_")
        point |= {f"{key}_{k}": v for k, v in metrics.mask_scores(masks, true).items()}
    common = torch.bincount(part.labels).max().item() / len(part.labels)
    run.log(epoch=1, **point)
    return point | {"majority_error": 100 * (1 - common)}


def run_seconds(config: Settings, seed: int, run) -> dict[str, float]:
    """Return the seconds of an epoch with u = 0, with u = 4, and with u = 4 and `lazy`.

    The three take turns at every batch, so that a busy machine slows them alike; the time to make
    the batch counts for each, validation for none. Only the first epochs are measured: the number
    of trusted looks, and with it the time of the third, changes later.
    """
    part = parts_of(config, seed)["train"]
    kinds = {"u0": {"u": 0}, "u4": {"u": 4}}
    if config.network.norm == "frozen":  # else an image's logits depend on the rest of the batch
        kinds["u4_lazy"] = {"u": 4, "lazy": True}
    configs = {name: changed(config, **change) for name, change in kinds.items()}
    models = {name: model_of(c, seed, run.device).train() for name, c in configs.items()}
    steps = {name: optimizer_of(c, models[name]) for name, c in configs.items()}
    for epoch in range(config.optimiser.epochs):
        taken, start = dict.fromkeys(kinds, 0.0), time.monotonic()
        for batch in batches(config, part, seed, run.device)(epoch):
            if run.out_of_time():
                raise Interrupted
            made = time.monotonic() - start
            taken = {name: seconds + made for name, seconds in taken.items()}
            for name, c in configs.items():
                start = time.monotonic()
                steps[name].zero_grad()
                train.backward(min_max(c, models[name], batch))
                steps[name].step()
                if run.device == "cuda":
                    torch.cuda.synchronize()
                taken[name] += time.monotonic() - start
            start = time.monotonic()
        run.log(epoch=epoch + 1, **{f"{name}_seconds": s for name, s in taken.items()})
    point = {f"{name}_seconds": median(p[f"{name}_seconds"] for p in run.curve) for name in kinds}
    point |= {f"{name}_minutes": 400 * point[f"{name}_seconds"] / 60 for name in kinds}
    ratios = {"ratio": "u4", "ratio_lazy": "u4_lazy"}
    return point | {
        ratio: point[f"{kind}_seconds"] / point["u0_seconds"]
        for ratio, kind in ratios.items()
        if kind in kinds
    }
