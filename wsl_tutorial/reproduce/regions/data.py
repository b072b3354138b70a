"""The images of Belharbi et al. (2020): parts, sizes, random views and batches."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import train
from ...data import cub, flowers, glands, glas, pets
from ..common import FIXED, Salt
from .settings import Settings


class Part(NamedTuple):
    """Images (3, H, W) uint8, true masks (H', W') bool, labels (N,), and the pixels to measure."""

    images: Sequence[Tensor] | Tensor
    masks: Sequence[Tensor] | Tensor
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
NUMBERS = {  # of training images
    "glas": glas.SIZES["train"],
    "pets": pets.SIZES["train"],
    "cub5": cub.SIZES["five"]["train"],
    "cub": cub.SIZES["all"]["train"],
    "flowers": flowers.SIZES["train"],
}
CLASSES = {"glands": 2, "glas": 2, "pets": 3, "cub5": 5, "cub": 200, "flowers": 102}


def parts_of(config: Settings, seed: int) -> dict[str, Part]:
    """Return the images of "train", "valid" and "test"; the test glands are the same every time."""
    c = config.data
    if c.source != "glands":
        return {split: photos(config, split) for split in ("train", "valid", "test")}
    numbers = (c.train_images, c.validation_images, c.test_images)
    made = {}
    for k, (split, number) in enumerate(zip(("train", "valid", "test"), numbers, strict=True)):
        regime = glands.REGIMES[c.regime]
        if split == "test" and regime.rho is not None:
            regime = replace(regime, rho=0.0)  # in the test the stroma is independent of the class
        generator = train.generator(FIXED if split == "test" else seed, Salt.REGIONS_GLANDS, k)
        found = glands.glands(number, generator, regime, c.size)
        made[split] = Part(found["images"], found["masks"], found["labels"])
    return made


def photos(config: Settings, split: str) -> Part:
    """Return one part of a data set of photos, at the sizes of the config."""
    found = LOADERS[config.data.source](split)
    images, masks, measured = [], [], []
    for k, image in enumerate(found["images"]):
        size = [round(n / config.data.shrink) for n in image.shape[1:]]
        masks.append(resized(found["masks"][k][None], size, "nearest-exact")[0])
        if "borders" in found:
            measured.append(~resized(found["borders"][k][None], size, "nearest-exact")[0])
        grown = max(1.0, config.data.short_side / min(size))
        images.append(resized(image, [round(grown * n) for n in size], "bilinear"))
        if split == "train":  # a training mask is cropped together with its image
            masks[k] = resized(masks[k][None], images[k].shape[1:], "nearest-exact")[0]
    return Part(images, masks, found["labels"], measured or None)


def resized(image: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """Return an image (C, H, W), or a mask, at another size, in its own dtype."""
    if list(image.shape[1:]) == list(size):
        return image
    smooth = {"antialias": True} if mode == "bilinear" else {}
    large = F.interpolate(image[None].float(), list(size), mode=mode, **smooth)[0]
    return large.round().clamp(0, 255).to(image.dtype)


def batches(config: Settings, part: Part, seed: int, device: str) -> Callable:
    """Return, for `train.fit`, a function of the epoch that yields the same batches every time."""
    size, drop_last = config.optimiser.batch, config.optimiser.drop_last

    def epoch_batches(epoch: int) -> Iterable[Batch]:
        g = train.generator(seed, Salt.REGIONS_VIEWS, epoch)
        number = len(part.labels)
        order = torch.randperm(number * config.data.repeat, generator=g) % number
        for step, rows in enumerate(order.split(size)):
            if drop_last and len(rows) < size:
                return
            seen = [view(config, part.images[i], part.masks[i], g) for i in rows.tolist()]
            images, masks = (torch.stack(x).to(device) for x in zip(*seen, strict=True))
            salt = train.generator(seed, Salt.REGIONS_DROPOUT, epoch, step).initial_seed()
            images = scaled(config, jittered(config, images.float() / 255, g))
            yield Batch(images, part.labels[rows].to(device), masks[:, None].float(), salt, epoch)

    return epoch_batches


def steps_of(config: Settings, part: Part) -> int:
    """Return the number of batches in an epoch."""
    return steps_in(config, len(part.labels))


def train_number(config: Settings) -> int:
    """Return the number of training images, without loading them."""
    source = config.data.source
    return config.data.train_images if source == "glands" else NUMBERS[source]


def steps_in(config: Settings, images: int) -> int:
    """Return the number of batches in an epoch over so many images."""
    number, size = images * config.data.repeat, config.optimiser.batch
    return max(1, number // size if config.optimiser.drop_last else -(-number // size))


def view(config: Settings, image: Tensor, mask: Tensor, g: torch.Generator):
    """Return a random crop, reflected at the borders and turned, of an image and its mask."""
    crop, turns = config.data.crop, config.data.turns
    for axis in (1, 2):
        n = image.shape[axis]
        margin = max(round(config.data.reflect * n), -((n - crop) // 2), 0)
        start = torch.randint(n + 2 * margin - crop + 1, (), generator=g) - margin
        at = (start + torch.arange(crop)) % max(2 * n - 2, 1)
        at = torch.minimum(at, 2 * n - 2 - at).clamp_min(0)
        image, mask = image.index_select(axis, at), mask.index_select(axis - 1, at)
    for axis, turn in ((2, "h"), (1, "v")):
        if turn in turns and torch.rand((), generator=g) < 0.5:
            image, mask = image.flip(axis), mask.flip(axis - 1)
    if "r" in turns:
        k = int(torch.randint(4, (), generator=g))
        image, mask = image.rot90(k, (1, 2)), mask.rot90(k)
    return image, mask


def jittered(config: Settings, images: Tensor, g: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue at random; the hue turns in the YIQ plane.

    Up to the clamp every change is linear in an image's colours, so that they are one matrix and
    one constant: contrast adds a grey, which saturation and hue leave as it is.
    """
    if not any(config.data.jitter):
        return images
    drawn = 2 * torch.rand(4, len(images), generator=g) - 1
    light, contrast, colour, hue = (
        d.to(images) * j for d, j in zip(drawn, config.data.jitter, strict=True)
    )
    to = images.new_tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    angle, grey = 2 * torch.pi * hue, images.flatten(2).mean(2) @ to[0] * (1 + light)  # (B,)
    cos, sin = (1 + colour) * angle.cos(), (1 + colour) * angle.sin()
    turn = torch.eye(3).to(images).repeat(len(images), 1, 1)
    turn[:, 1:, 1:] = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    mix = ((1 + light) * (1 + contrast))[:, None, None] * (torch.linalg.inv(to) @ turn @ to)
    colours = torch.baddbmm(-(contrast * grey)[:, None, None], mix, images.flatten(2))
    return colours.clamp_(0, 1).view_as(images)


def scaled(config: Settings, images: Tensor) -> Tensor:
    """Return images in [0, 1] in the units of the network; erased pixels are 0, the mean."""
    mean, sd = config.data.scaled
    return (images - mean) / sd
