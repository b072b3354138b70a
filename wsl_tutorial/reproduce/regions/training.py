"""How the experiments of Belharbi et al. (2020) run: settings, images, methods, measures."""

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import crf, data, metrics, regions, train
from ...data import cub, flowers, glands, glas, pets
from ..experiment import setting
from ..patches.networks import seeded
from ..runner import Interrupted
from . import networks

CODE = "released code"
SURVEY = "code of the survey by Rony et al. (2019)"
OURS = "our benchmark"
B2 = "section B.2"

# The settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """One method on one data set; the defaults are the paper's method, u = 0, on GlaS."""

    source: str = setting("glas", "glas", "section 4")
    shrink: int = setting(1, 1, "images and masks are made smaller by this factor")
    short_side: int = setting(0, 0, f"{CODE}: photos are enlarged to 500 at least, GlaS is not")
    crop: int = setting(480, 480, B2)
    reflect: float = setting(0.5, "none", f"{CODE}: share of the size added on each side of GlaS")
    jitter: tuple[float, ...] = setting((0.5, 0.5, 0.5, 0.05), (0.5, 0.5, 0.5, 0.05), B2)
    turns: str = setting("hv", "hvr", f"{B2}; {CODE}: no rotation. h, v: reflections, r: quarters")
    scaled: tuple[float, float] = setting((0.5, 0.5), (0.5, 0.5), f"{B2}: mean and sd taken off")
    repeat: int = setting(1, 1, f"draws of an image in an epoch; {SURVEY}: 8 on GlaS")
    # of synthetic glands
    regime: str = setting("graded", "none", OURS)
    size: int = setting(192, "none", OURS)
    train_images: int = setting(2000, "none", OURS)
    validation_images: int = setting(200, "none", OURS)
    test_images: int = setting(500, "none", OURS)
    # network
    network: str = setting("resnet18", "resnet101", "section 4; baselines: resnet18")
    weights: str = setting("imagenet", "imagenet", "section 4; none; glands: see `start`")
    start_epochs: int = setting(0, "none", f"{OURS}: epochs of the start on glands")
    width: int = setting(64, 64, "channels after the stem")
    stages: int = setting(4, 4, "stages of the residual network")
    blocks: int = setting(0, 0, "residual blocks a stage; 0: all")
    stride: int = setting(32, 32, CODE)
    pool: bool = setting(True, True, "max-pooling in the stem")
    norm: str = setting("running", "running", "batch normalisation; else frozen, or by batch")
    modes: int = setting(5, 5, f"{B2}: maps a class")
    # pooling
    method: str = setting("min-max", "min-max", "section 3")
    share: float = setting(0.09, 0.09, f"{B2}: share of positions pooled")
    alpha: float = setting(0.0, 0.0, f"{B2}: weight of the least positions")
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
    lazy: bool = setting(False, False, "unchanged images are not looked at again")
    # optimisation
    epochs: int = setting(400, 400, B2)
    batch: int = setting(8, 8, CODE)
    drop_last: bool = setting(False, False, f"{CODE}; {SURVEY}: true")
    optimizer: str = setting("sgd", "sgd", f"{B2}: Nesterov, momentum 0.9; else adamw")
    lr: float = setting(1e-3, 1e-3, B2)
    weight_decay: float = setting(1e-5, 1e-5, B2)
    drop: int = setting(40, 40, f"{B2}: epochs to a tenth of the rate, 1e-7 at least; 0: cosine")
    bf16: bool = setting(True, "not stated", f"precision of convolutions; {CODE}: float32")
    # conditional random field
    crf: bool = setting(False, True, "Table 6")
    crf_thetas: tuple[float, float, float] = setting((13, 3, 3), (13, 3, 3), "section B.3.3: GlaS")
    crf_steps: int = setting(2, 2, "section B.3.3: GlaS")
    crf_weights: tuple[tuple[float, float], ...] = setting(
        ((1, 1), (10, 3)), ((1, 1),), f"section B.3.3; {CODE}: 10 and 3"
    )
    crf_shrink: int = setting(2, 1, "the field works on images smaller by this factor")


# Images -----------------------------------------------------------------------------------------


class Part(NamedTuple):
    """Images (3, H, W) uint8, true masks (H', W') bool, labels (N,), and what to measure on."""

    images: Sequence[Tensor]
    masks: Sequence[Tensor]
    labels: Tensor
    measured: Sequence[Tensor] | None = None  # bool, as masks; None: all pixels


class Batch(NamedTuple):
    """Images (B, 3, H, W), scaled, labels (B,), masks (B, 1, H, W) float, a seed, the epoch."""

    images: Tensor
    labels: Tensor
    masks: Tensor
    salt: int
    epoch: int


LOADERS: dict[str, Callable[[str], dict]] = {
    "glas": glas.load,
    "pets": pets.load,
    "cub5": partial(cub.load, species="five"),
    "cub": partial(cub.load, species="all"),
    "flowers": flowers.load,
}
CLASSES = {"glands": 2, "glas": 2, "pets": 3, "cub5": 5, "cub": 200, "flowers": 102}


def parts_of(config: Settings, seed: int) -> dict[str, Part]:
    """The images of "train", "valid" and "test"; of glands the test images are always the same."""
    if config.source != "glands":
        return {split: photos(config, split) for split in ("train", "valid", "test")}
    numbers = (config.train_images, config.validation_images, config.test_images)
    made = {}
    for k, (split, number) in enumerate(zip(("train", "valid", "test"), numbers, strict=True)):
        regime = glands.REGIMES[config.regime]
        if split == "test" and regime.rho is not None:
            regime = replace(regime, rho=0.0)  # what the stroma tells in training, it tells no more
        generator = train.generator(0 if split == "test" else seed, 51, k)
        found = glands.glands(number, generator, regime, config.size)
        made[split] = Part(found["images"], found["masks"], found["labels"])
    return made


def photos(config: Settings, split: str) -> Part:
    """One part of a data set of photos, at the sizes that the config asks for."""
    found = LOADERS[config.source](split)
    images, masks, measured = [], [], []
    for k, image in enumerate(found["images"]):
        size = [round(n / config.shrink) for n in image.shape[1:]]
        masks.append(resized(found["masks"][k][None], size, "nearest-exact")[0])
        if "borders" in found:
            measured.append(~resized(found["borders"][k][None], size, "nearest-exact")[0])
        grown = max(1.0, config.short_side / min(size))
        images.append(resized(image, [round(grown * n) for n in size], "bilinear"))
        if split == "train":  # learnt from together
            masks[k] = resized(masks[k][None], images[k].shape[1:], "nearest-exact")[0]
    return Part(images, masks, found["labels"], measured or None)


def resized(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """An image (C, H, W), or a mask, at another size, in its own dtype."""
    if list(image.shape[1:]) == list(size):
        return image
    smooth = {"antialias": True} if mode == "bilinear" else {}
    changed = F.interpolate(image[None].float(), list(size), mode=mode, **smooth)[0]
    return changed.round().clamp(0, 255).to(image.dtype)


def batches(config: Settings, part: Part, seed: int, device: str) -> Callable:
    """For `train.fit`: the batches of an epoch, the same whenever they are asked for."""

    def epoch_batches(epoch: int) -> Iterable[Batch]:
        g = train.generator(seed, 52, epoch)
        number = len(part.labels)
        order = torch.randperm(number * config.repeat, generator=g) % number
        for step, rows in enumerate(order.split(config.batch)):
            if config.drop_last and len(rows) < config.batch:
                return
            seen = [view(config, part.images[i], part.masks[i], g) for i in rows.tolist()]
            images, masks = (torch.stack(x).to(device) for x in zip(*seen, strict=True))
            salt = train.generator(seed, 53, epoch, step).initial_seed()
            images = scaled(config, jittered(config, images.float() / 255, g))
            yield Batch(images, part.labels[rows].to(device), masks[:, None].float(), salt, epoch)

    return epoch_batches


def view(config: Settings, image: Tensor, mask: Tensor, g: torch.Generator):
    """A random crop, reflected at the borders and turned, of an image and its mask."""
    for axis in (1, 2):
        n = image.shape[axis]
        margin = max(round(config.reflect * n), -((n - config.crop) // 2), 0)
        start = torch.randint(n + 2 * margin - config.crop + 1, (), generator=g) - margin
        at = (start + torch.arange(config.crop)) % max(2 * n - 2, 1)
        at = torch.minimum(at, 2 * n - 2 - at).clamp_min(0)
        image, mask = image.index_select(axis, at), mask.index_select(axis - 1, at)
    for axis, turn in ((2, "h"), (1, "v")):
        if turn in config.turns and torch.rand((), generator=g) < 0.5:
            image, mask = image.flip(axis), mask.flip(axis - 1)
    if "r" in config.turns:
        k = int(torch.randint(4, (), generator=g))
        image, mask = image.rot90(k, (1, 2)), mask.rot90(k)
    return image, mask


def jittered(config: Settings, images: Tensor, g: torch.Generator) -> Tensor:
    """Random brightness, contrast, saturation and hue; the hue turns in the plane of YIQ.

    Up to the clamp every change is linear in an image's colours, so that they are one matrix and
    one constant: contrast adds a grey, which saturation and hue leave as it is.
    """
    if not any(config.jitter):
        return images
    drawn = 2 * torch.rand(4, len(images), generator=g) - 1
    light, contrast, colour, hue = (
        d.to(images) * j for d, j in zip(drawn, config.jitter, strict=True)
    )
    to = images.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    angle, grey = 2 * torch.pi * hue, images.flatten(2).mean(2) @ to[0] * (1 + light)  # (B,)
    cos, sin = (1 + colour) * angle.cos(), (1 + colour) * angle.sin()
    turn = torch.eye(3).to(images).repeat(len(images), 1, 1)
    turn[:, 1:, 1:] = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    mix = ((1 + light) * (1 + contrast))[:, None, None] * (torch.linalg.inv(to) @ turn @ to)
    changed = torch.baddbmm(-(contrast * grey)[:, None, None], mix, images.flatten(2))
    return changed.clamp_(0, 1).view_as(images)


def scaled(config: Settings, images: Tensor) -> Tensor:
    """Images in [0, 1] in the units of the network; what is erased becomes the mean."""
    mean, sd = config.scaled
    return (images - mean) / sd


# Networks ---------------------------------------------------------------------------------------


def model_of(config: Settings, seed: int, device: str) -> networks.Pair:
    """The networks of a config, initialised by the seed, then with the weights it asks for."""
    classes = CLASSES[config.source]

    def trunk() -> networks.Trunk:
        return networks.Trunk(
            config.network, config.width, config.stages, config.blocks, config.stride, config.pool
        )

    def build() -> networks.Pair:
        if config.method == "u-net":
            return networks.Pair(networks.UNet(config.width))
        body = trunk()
        if config.method == "deep-mil":
            return networks.Pair(
                body, networks.Attention(body.features, classes, 128, config.gated)
            )
        head, head_c, other = (
            networks.Maps(body.features, classes, config.modes) for _ in range(3)
        )
        told = config.method == "min-max" and config.terms
        adversary = nn.Sequential(trunk(), other) if "a" in config.terms else None
        return networks.Pair(body, head, head_c if told else None, adversary)

    model = seeded(build, train.generator(seed, 54))
    model.frozen = config.norm == "frozen"
    for m in model.modules():
        if config.norm == "batch" and isinstance(m, nn.BatchNorm2d):
            m.track_running_stats, m.running_mean, m.running_var = False, None, None
            m.num_batches_tracked = None
    if config.weights == "imagenet" and config.method != "u-net":
        held, model.quantised = networks.imagenet(config.network)
        names = model.trunk.state_dict().keys()
        model.trunk.load_state_dict({n: v for n, v in held.items() if n in names})
    if config.weights == "glands" and config.method != "u-net":
        model.trunk.load_state_dict(start(config, seed, device))
    return model.to(device, memory_format=torch.channels_last)


START = ("network", "width", "stages", "blocks", "stride", "pool", "norm", "bf16", "start_epochs")


def start(config: Settings, seed: int, device: str) -> dict[str, Tensor]:
    """Weights of a trunk that has learnt the class of glands that all show it, from labels alone.

    They stand for ImageNet's where there is no time to learn from nothing; kept for other runs.
    """
    own = {name: getattr(config, name) for name in (*START, "size", "train_images", "batch")}
    own |= {"crop": config.size, "epochs": config.start_epochs, "turns": "hvr", "jitter": ()}
    own |= {"source": "glands", "regime": "everywhere", "weights": "none", "modes": 1}
    own |= {"terms": "", "share": 0.25, "dropout": 0.0, "reflect": 0.0, "drop": 0}
    c = replace(Settings(), **own, lr=0.1, weight_decay=1e-4)

    def build() -> dict:
        model, part = model_of(c, seed, device), parts_of(c, seed)["train"]
        train.fit(
            model,
            partial(from_maps, c),
            batches(c, part, seed, device),
            optimizer_of(c, model),
            epochs=c.epochs,
            schedule=schedule_of(c, steps_of(c, part)),
        )
        return {n: v.cpu().numpy() for n, v in model.trunk.state_dict().items()}

    key = hashlib.sha256(repr((c, seed)).encode()).hexdigest()[:16]
    return {n: torch.from_numpy(v) for n, v in data.cached(f"glands-{key}", build).items()}


def features(config: Settings, model: networks.Pair, images: Tensor) -> Tensor:
    return train.logits(model.trunk, images, config.bf16)


def pooled(config: Settings, maps: Tensor, salt: int | None = None) -> Tensor:
    """Class scores (B, C) of class maps (B, C, h, w); `salt` draws the dropout of training."""
    if config.method in ("cam-avg", "grad-cam"):
        return regions.average_pooling(maps)
    if config.method == "cam-max":
        return regions.max_pooling(maps)
    if config.method == "cam-lse":
        return regions.log_sum_exp_pooling(maps, config.r)
    k = max(1, round(config.share * maps[0, 0].numel()))
    if salt is None or not config.dropout:
        return regions.wildcat_pooling(maps, k, k if config.alpha else 0, config.alpha)
    g = torch.Generator(maps.device).manual_seed(salt)
    return regions.wildcat_pooling(maps, k, 0, 0.0, config.dropout, g)


def classified(config, model, images: Tensor, salt: int | None = None) -> Tensor:
    """What C says of images, or of masked ones: logits (B, C)."""
    if config.c_scale != 1:
        images = F.interpolate(images, scale_factor=config.c_scale, mode="bilinear")
    return pooled(config, model.head_c(features(config, model, images)), salt)


# What the methods minimise ------------------------------------------------------------------------


def from_maps(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """CAM, WILDCAT, and M alone: cross-entropy of pooled class maps."""
    maps = model.head(features(config, model, batch.images))
    return F.cross_entropy(pooled(config, maps, batch.salt), batch.labels)


def from_attention(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Deep MIL: cross-entropy of attended features."""
    _, logits = model.head(features(config, model, batch.images))
    return F.cross_entropy(logits, batch.labels)


def from_masks(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """U-Net: cross-entropy of every pixel."""
    return F.cross_entropy(features(config, model, batch.images), batch.masks[:, 0].long())


def always(logits, target, first, t, sigma) -> Tensor:
    """Gamma = 1: every look counts."""
    return torch.full_like(logits[:, 0], exp(-t / sigma)).detach()


def unless_wrong(logits, target, first, t, sigma) -> Tensor:
    """The trust without the comparison with the first look."""
    return regions.trust(logits, target, None, t, sigma)


BELIEVE = {"trust": None, "always": always, "unless wrong": unless_wrong}


def localiser(config: Settings, model: networks.Pair, batch: Batch) -> Callable:
    """M for `regions.recursive_erasing`; images that did not change keep the answers they had."""
    held: Tensor | None = None
    looks = 1 if not config.matched else max(config.u, 1)

    def localise(images: Tensor, changed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        nonlocal held
        if changed is None or bool(changed.all()):
            maps = model.head(features(config, model, images))
        else:
            rows = changed.nonzero()[:, 0]
            maps = held.detach()
            if len(rows):
                maps = maps.index_copy(0, rows, model.head(features(config, model, images[rows])))
        held = maps
        logits = pooled(config, maps, batch.salt)
        if looks > 1 and logits.requires_grad:
            logits.register_hook(lambda gradient: gradient / looks)
        shape = (images.shape[2:], config.omega, config.threshold, config.whole_batch)
        return logits, regions.region(maps, logits, *shape)

    return localise


def min_max(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Paper (8) with recursive erasing, or a variant of it."""
    if not config.terms or batch.epoch < config.alone:
        return from_maps(config, model, batch)
    x, y, salt = batch.images, batch.labels, batch.salt
    localise, first = localiser(config, model, batch), []

    def noted(*given: Tensor) -> tuple[Tensor, Tensor]:
        logits, mask = localise(*given)
        first.append(mask.detach())
        return logits, mask

    erased = regions.recursive_erasing(
        localise if config.accumulate else noted,
        x,
        y,
        config.u if batch.epoch >= config.erase_from else 0,
        config.sigma,
        attached=config.attached,
        printed=config.printed,
        believe=BELIEVE[config.believe],
        lazy=config.lazy,
    )
    model.note(erased.trust)
    mask = erased.mask if config.accumulate else first[0]
    mask = batch.masks if config.oracle else mask
    loss = erased.loss + config.area * mask.mean()
    if "+" in config.terms:
        loss = loss + F.cross_entropy(classified(config, model, x * mask, salt), y)
    rest = x * (1 - mask)
    if "-" in config.terms:
        told = classified(config, model, rest, salt)
        loss = loss + regions.cross_entropy_to_uniform(told).mean()
    if "a" in config.terms:  # M and the adversary pull at one loss in opposite directions
        rest = 2 * rest.detach() - rest
        told = regions.average_pooling(train.logits(model.adversary, rest, config.bf16))
        loss = loss + F.cross_entropy(told, y)
    return loss


METHODS: dict[str, Callable[[Settings, networks.Pair, Batch], Tensor]] = {
    "cam-avg": from_maps,
    "cam-max": from_maps,
    "cam-lse": from_maps,
    "wildcat": from_maps,
    "deep-mil": from_attention,
    "min-max": min_max,
    "u-net": from_masks,
}


# Measures ---------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What one map says of some images: scores in [0, 1], masks by the paper's rule, both
    (B, H, W), and log-probabilities (B, K, H, W) for the random field with the class to keep."""

    scores: Tensor
    masks: Tensor
    log_p: Tensor | None
    keep: Tensor | None


def of_class(maps: Tensor, k: Tensor) -> Tensor:
    return maps[torch.arange(len(maps), device=maps.device), k]


def by_rules(maps: Tensor, guess: Tensor, labels: Tensor, uniform: bool = False) -> Reading:
    """Class maps (B, C, H, W), read as the survey's code does and as min-max masks are.

    The paper's mask is where the true class's map is the greatest; of attention, where it is more
    than 1 / (C h w) (`uniform`: maps are attention times h w). Scores: the map of the guess.
    """
    scores = regions.normalise(of_class(maps, guess))
    if uniform:
        return Reading(scores, of_class(maps, labels) > 1 / maps.shape[1], None, None)
    masks = maps.argmax(1) == labels[:, None, None]
    return Reading(scores, masks, maps.log_softmax(1), labels)


@torch.no_grad()
def look(config: Settings, model: networks.Pair, images: Tensor, labels: Tensor, masks: Tensor):
    """Readings by prefix and logits by name, of images (B, 3, H, W), scaled and of one size.

    As released, images are reflected to multiples of 32 and masks cut back.
    """
    (h, w), step = images.shape[2:], 32
    down, right = -h % step, -w % step
    sides = (right // 2, right - right // 2, down // 2, down - down // 2)
    x = F.pad(images, sides, mode="reflect") if down or right else images
    f = features(config, model, x)

    def cut(maps: Tensor) -> Tensor:
        return maps[..., sides[2] : sides[2] + h, sides[0] : sides[0] + w]

    def enlarged(maps: Tensor) -> Tensor:
        return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=True)

    if config.method == "u-net":
        log_p = cut(f).log_softmax(1)
        return {"": Reading(log_p[:, 1].exp(), log_p.argmax(1) == 1, None, None)}, {}
    if config.method == "deep-mil":
        attention, logits = model.head(f)
        maps = cut(enlarged(attention)) * attention[0, 0].numel()
        return {"": by_rules(maps, logits.argmax(1), labels, uniform=True)}, {"": logits}
    maps = model.head(f)
    logits = pooled(config, maps)
    if config.method != "min-max":
        found = {"": by_rules(cut(enlarged(maps)), logits.argmax(1), labels)}
        if config.method == "cam-avg":  # the gradient of a mean is the weight of its map
            bias = model.head.conv.bias.unflatten(0, (-1, config.modes)).mean(1)
            graded = (maps - bias[:, None, None]).relu()
            found["grad_cam_"] = by_rules(cut(enlarged(graded)), logits.argmax(1), labels)
        return found, {"": logits}
    mask = regions.region(maps, logits, x.shape[2:], config.omega, config.threshold)
    m = cut(mask)[:, 0]
    undone = (config.threshold + m.logit() / config.omega).clamp(0, 1)  # T of (9)
    scores = regions.normalise(undone)  # of what is left, as the baselines' maps
    log_p = torch.stack([(1 - m).log(), m.log()], 1)
    answers = {"localiser": logits}
    if model.head_c is not None:
        true = F.pad(masks[:, None].float(), sides, mode="reflect") if down or right else None
        true = masks[:, None].float() if true is None else true
        shown = {"own": mask, "true": true, "all": torch.ones_like(mask)}
        for name, r in shown.items():
            answers |= {f"plus_{name}": classified(config, model, x * r)}
            answers |= {f"minus_{name}": classified(config, model, x * (1 - r))}
    return {"": Reading(scores, undone >= 0.5, log_p, torch.ones_like(labels))}, answers


@dataclass
class Seen:
    """What a model says of all images of a part; masks and scores one by one."""

    readings: dict[str, dict[str, list[Tensor]]]
    logits: dict[str, Tensor]


def seen_in(config: Settings, model: networks.Pair, part: Part, device: str, field=False) -> Seen:
    """Images of one size go together; `field` asks for the random field's masks, too."""
    readings: dict[str, dict[str, list[Tensor]]] = {}
    logits: dict[str, list[Tensor]] = {}
    for rows in alike(part, 100 if config.source == "glands" else 16):
        raw = torch.stack([part.images[i] for i in rows]).to(device)
        labels, size = part.labels[rows].to(device), part.masks[rows[0]].shape
        masks = torch.stack(
            [resized(part.masks[i][None], raw.shape[2:], "nearest-exact")[0] for i in rows]
        )
        found, said = look(
            config, model, scaled(config, raw.float() / 255), labels, masks.to(device)
        )
        for name, value in said.items():
            logits.setdefault(name, []).append(value)
        for prefix, reading in found.items():
            made = {"scores": reading.scores, "printed": reading.masks}
            if field and reading.log_p is not None:
                for weights in config.crf_weights:
                    made[f"crf{weights[0]}"] = smoothed(config, raw.float(), reading, weights)
            for key, value in made.items():
                value = back(value, size).cpu()
                readings.setdefault(prefix, {}).setdefault(key, []).extend(value)
    return Seen(readings, {name: torch.cat(parts).cpu() for name, parts in logits.items()})


def alike(part: Part, most: int) -> list[list[int]]:
    """Indices in order, cut where the size changes or `most` are together."""
    sizes = [(a.shape, b.shape) for a, b in zip(part.images, part.masks, strict=True)]
    groups: list[list[int]] = []
    for i, size in enumerate(sizes):
        if i == 0 or size != sizes[i - 1] or len(groups[-1]) == most:
            groups.append([])
        groups[-1].append(i)
    return groups


def back(values: Tensor, size: Sequence[int]) -> Tensor:
    """Scores or masks (B, H, W) at the size of the true masks."""
    if values.shape[1:] == tuple(size):
        return values
    large = F.interpolate(values[:, None].float(), list(size), mode="bilinear", align_corners=True)
    return large[:, 0] if values.dtype != torch.bool else large[:, 0] >= 0.5


def smoothed(config: Settings, images: Tensor, reading: Reading, weights) -> Tensor:
    """Masks (B, H, W) after the conditional random field."""
    k = config.crf_shrink
    size = [max(1, n // k) for n in images.shape[2:]]
    small, log_p = (F.interpolate(v, size, mode="area") for v in (images, reading.log_p))
    alpha, beta, gamma = config.crf_thetas
    smaller = k * config.shrink  # than the images that the widths are meant for
    thetas = (alpha / smaller, beta, gamma / smaller)
    log_q = crf.mean_field(log_p, small, weights, thetas, config.crf_steps)
    q = F.interpolate(log_q.exp(), images.shape[2:], mode="bilinear")
    return q.argmax(1) == reading.keep[:, None, None]


def dice_by_threshold(scores: Sequence[Tensor], true: Sequence[Tensor], steps: int = 100) -> Tensor:
    """F1+ and F1- (2, steps + 1), in % and means over images, of scores >= 0, 1/steps, .. 1."""
    found = []
    for s, t in zip(scores, true, strict=True):
        bins = (s * steps).long().flatten()
        hits, pixels = (
            b.bincount(minlength=steps + 1).double().flip(0).cumsum(0).flip(0)
            for b in (bins[t.flatten()], bins)
        )
        inside, total = t.sum(), t.numel()
        missed = total - pixels - (inside - hits)  # true negatives
        plus = 2 * hits / (pixels + inside).clamp_min(1)
        found.append(torch.stack([plus, 2 * missed / (2 * total - pixels - inside).clamp_min(1)]))
    return 100 * torch.stack(found).mean(0)


def localisation(scores, true, validation: Tensor) -> dict[str, float]:
    """What does not depend on a method's own cut.

    midrange_*: cut half-way; chosen_*: cut where `validation`, `dice_by_threshold` of held-out
    images, has its greatest sum; f1_minus_matched: the greatest F1- of a cut whose F1+ is not below
    All-ones'; ap_plus, ap_minus, pxap: no cut.
    """
    both = [k for k, t in enumerate(true) if t.any() and not t.all()]
    s, t = [scores[k] for k in both], [true[k] for k in both]
    plus, minus = dice_by_threshold(scores, true)
    best = int(validation.sum(0).argmax())
    halves = metrics.mask_scores([x >= 0.5 for x in scores], true)
    return {
        **{f"midrange_{name}": value for name, value in halves.items()},
        "chosen_f1_plus": plus[best].item(),
        "chosen_f1_minus": minus[best].item(),
        "f1_minus_matched": minus[plus >= plus[0]].max().item(),
        "ap_plus": metrics.area_under(*metrics.precision_recall(s, t)),
        "ap_minus": metrics.area_under(*metrics.precision_recall([-x for x in s], [~x for x in t])),
        "pxap": metrics.pxap(scores, true),
    }


def pairs(part: Part, values: Sequence[Tensor]) -> list[Tensor]:
    """Masks or scores where they are measured."""
    if part.measured is None:
        return list(values)
    return [v[m][None] for v, m in zip(values, part.measured, strict=True)]


def measures(config: Settings, model: networks.Pair, parts: dict[str, Part], device: str):
    """All that is said of a trained model on the test images."""
    part, held_out = parts["test"], parts["valid"]
    seen = seen_in(config, model, part, device, config.crf)
    before = seen_in(config, model, held_out, device)
    true, known = pairs(part, part.masks), pairs(held_out, held_out.masks)
    point: dict[str, float] = said(part.labels, seen.logits)
    for prefix, reading in seen.readings.items():
        scores = pairs(part, reading["scores"])
        validation = dice_by_threshold(pairs(held_out, before.readings[prefix]["scores"]), known)
        found = metrics.mask_scores(pairs(part, reading["printed"]), true)
        found |= localisation(scores, true, validation)
        for key in reading.keys() - {"scores", "printed"}:
            after = metrics.mask_scores(pairs(part, reading[key]), true)
            found |= {f"{key}_{name}": value for name, value in after.items()}
        point |= {prefix + name: value for name, value in found.items()}
    return point | {"auc_minus": point["ap_minus"] / 100}  # the unit of Fig. 6


def said(labels: Tensor, logits: dict[str, Tensor]) -> dict[str, float]:
    """Errors, and the two entropies of the loss at M's mask, at the true one and at All-ones.

    The error of the min-max method is C's on X+, as in the paper, where there is a C.
    """
    point = {}
    for name, value in logits.items():
        if name.startswith("minus"):
            uniform = regions.cross_entropy_to_uniform(value).mean().item()
            point[name.replace("minus", "h_minus")] = uniform
        elif name.startswith("plus"):
            point[name.replace("plus", "h_plus")] = F.cross_entropy(value, labels).item()
        if name in ("", "localiser"):
            point["error"] = point["localiser_error"] = metrics.error_rate(value, labels)
        if name in ("plus_own", "minus_own"):
            point[name.replace("own", "error")] = metrics.error_rate(value, labels)
    return point | ({"error": point["plus_error"]} if "plus_error" in point else {})


# Runs ---------------------------------------------------------------------------------------------


def optimizer_of(config: Settings, model: networks.Pair) -> torch.optim.Optimizer:
    decay = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), **decay)
    return torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, **decay)


def schedule_of(config: Settings, steps: int) -> Callable[[int, int], float]:
    if not config.drop:
        return train.cosine(config.epochs, steps, warmup=0.05)
    late = config.method == "min-max"  # as released: the rate of epoch 40 is still the first
    return lambda epoch, step: max(0.1 ** (max(epoch - late, 0) // config.drop), 1e-7 / config.lr)


def steps_of(config: Settings, part: Part) -> int:
    number = len(part.labels) * config.repeat
    return max(1, number // config.batch if config.drop_last else -(-number // config.batch))


def run_method(config: Settings, seed: int, run) -> dict[str, float]:
    """Train one method; what is measured of it on the test images after the last epoch."""
    parts = parts_of(config, seed)
    model = model_of(config, seed, run.device)
    made, clock = batches(config, parts["train"], seed, run.device), [0.0]

    def timed(epoch: int) -> Iterable[Batch]:
        start = time.monotonic()
        yield from made(epoch)
        clock[0] = time.monotonic() - start

    def evaluate(model: networks.Pair) -> dict[str, float]:
        looks = {f"accepted_{t}": a for t, a in enumerate(model.accepted.tolist()[: config.u])}
        return {"epoch_seconds": clock[0], **looks, **validation(config, model, parts["valid"])}

    curve = train.fit(
        model,
        lambda model, batch: METHODS[config.method](config, model, batch),
        timed,
        optimizer_of(config, model),
        epochs=config.epochs,
        schedule=schedule_of(config, steps_of(config, parts["train"])),
        evaluate=evaluate,
        run=run,
    )
    if len(curve) < config.epochs:
        raise Interrupted
    model.eval()
    point = {"epoch_seconds": median(p["epoch_seconds"] for p in curve)}
    point |= {k: v for k, v in curve[-1].items() if k.startswith(("loss", "valid", "accepted"))}
    if config.weights == "imagenet":
        point["quantised"] = float(model.quantised)
    return point | measures(config, model, parts, run.device)


def validation(config: Settings, model: networks.Pair, part: Part) -> dict[str, float]:
    """The error on held-out images; of the U-Net, the share of wrong pixels."""
    device = str(next(model.parameters()).device)
    seen = seen_in(config, model, part, device)
    if not seen.logits:
        masks = seen.readings[""]["printed"]
        wrong = [(a != b).double().mean() for a, b in zip(masks, part.masks, strict=True)]
        return {"validation_error": 100 * torch.stack(wrong).mean().item()}
    return {"validation_error": said(part.labels, seen.logits)["error"]}


def run_trivial(config: Settings, seed: int, run) -> dict[str, float]:
    """Masks that know nothing, and how large the true ones are."""
    part = parts_of(config, seed)["test"]
    true = pairs(part, part.masks)
    point = {"true_area": 100 * torch.stack([t.double().mean() for t in true]).mean().item()}
    for name, masks in metrics.trivial_masks(true).items():
        key = name.lower().replace("-", "_")
        point |= {f"{key}_{k}": v for k, v in metrics.mask_scores(masks, true).items()}
    common = torch.bincount(part.labels).max().item() / len(part.labels)
    run.log(epoch=1, **point)
    return point | {"majority_error": 100 * (1 - common)}


def run_seconds(config: Settings, seed: int, run) -> dict[str, float]:
    """Seconds of an epoch with u = 0, with u = 4, and with u = 4 and no look for nothing.

    The three take turns at every batch, so that a busy machine slows them alike; making the batch
    counts for each, validation for none. The epochs are the first ones: how many looks are trusted,
    and with it the time of the third, changes later.
    """
    part = parts_of(config, seed)["train"]
    kinds = {"u0": {"u": 0}, "u4": {"u": 4}}
    if config.norm == "frozen":  # else the others of a batch have a part in an image's answers
        kinds["u4_lazy"] = {"u": 4, "lazy": True}
    configs = {name: replace(config, **change) for name, change in kinds.items()}
    models = {name: model_of(c, seed, run.device).train() for name, c in configs.items()}
    steps = {name: optimizer_of(c, models[name]) for name, c in configs.items()}
    for epoch in range(config.epochs):
        taken, start = dict.fromkeys(kinds, 0.0), time.monotonic()
        for batch in batches(config, part, seed, run.device)(epoch):
            if run.out_of_time():
                raise Interrupted
            made = time.monotonic() - start
            taken = {name: seconds + made for name, seconds in taken.items()}
            for name, c in configs.items():
                start = time.monotonic()
                steps[name].zero_grad()
                min_max(c, models[name], batch).backward()
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
