"""The data of the experiments: images, their division into parts, augmentation, and batches."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import train
from ...data import cifar, digits, houses, mnist, svhn
from ..common import FIXED, Salt

SHAPES = {"mnist": (1, 28), "cifar10": (3, 32), "svhn": (3, 64)}  # channels and side by network


# One object an image ------------------------------------------------------------------------------


def load(dataset: str, split: str, network: str) -> tuple[Tensor, Tensor]:
    """Return images uint8 (N, channels, side, side) and classes (N,).

    The data set "digits" is enlarged to the size that the network takes.
    """
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
    """Return the images and classes of "train", "validation" and "test".

    The seed draws the first two; the test images are the same for every seed.
    """
    split = config.split
    pools = {s: load(config.data.dataset, s, config.network.network) for s in ("train", "test")}
    g, fixed = (train.generator(s, Salt.PRESENCE_SPLIT) for s in (seed, FIXED))
    order = torch.randperm(len(pools["train"][1]), generator=g)
    held_out, rest = order[: split.validation_images], order[split.validation_images :]
    test = torch.randperm(len(pools["test"][1]), generator=fixed)
    chosen = {
        "train": ("train", rest[: split.train_images]),
        "validation": ("train", held_out),
        "test": ("test", test[: split.test_images].sort().values),
    }
    return {
        name: tuple(x[index].to(device) for x in pools[pool])
        for name, (pool, index) in chosen.items()
    }


def pixels(images: Tensor) -> Tensor:
    """Return bytes as float32 in [0, 1]."""
    return images.float() / 255


def presence_of(classes: Tensor) -> Tensor:
    """Return the label sets of single objects, bool (N, 10)."""
    return F.one_hot(classes, 10).bool()


def shift_and_flip(images: Tensor, corners: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Return one crop of each zero-padded image, mirrored where `flips` is true.

    images (B, C, H, W), corners (B, 2) in 0..2 padding, flips bool (B,).
    """
    h, w = images.shape[-2:]
    rows = corners[:, :1] + torch.arange(h, device=images.device)  # (B, H)
    columns = torch.arange(w, device=images.device)
    columns = corners[:, 1:] + torch.where(flips[:, None], columns.flip(0), columns)  # (B, W)
    padded = F.pad(images, [padding] * 4).permute(0, 2, 3, 1)
    index = torch.arange(len(images), device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


# Nests of digits ----------------------------------------------------------------------------------


def nest_batches(
    config, images: Tensor, classes: Tensor, cpu: torch.Generator, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one pass over the images: nests of digits and their label sets."""
    data = config.data
    on_device = train.generator(int(torch.randint(2**31, (), generator=cpu)), device=device)
    order = torch.randperm(len(classes), generator=cpu)
    order = order[: len(order) // data.digits_per_nest * data.digits_per_nest].to(device)
    for i in order.split(config.optimiser.batch):
        sides = torch.randint(data.smallest, data.largest + 1, (2,), generator=cpu).tolist()
        yield mnist.nests(
            images[i, 0],
            classes[i],
            on_device,
            per_nest=data.digits_per_nest,
            height=sides[0],
            width=sides[1],
        )


# House numbers ------------------------------------------------------------------------------------


def load_numbers(config, seed: int) -> tuple[list[dict], dict]:
    """Return the training sources and the test set: images uint8 (N, 3, 64, 64), labels, sequences.

    SVHN has three sources: its training crops, and its extra crops in two halves.
    """
    dataset, zoom, split = config.data.dataset, config.data.zoom, config.split
    if dataset == "houses":
        n = split.train_images + split.validation_images
        pool = houses.house_numbers(n, train.generator(seed, Salt.PRESENCE_SPLIT))
        g = train.generator(FIXED, Salt.PRESENCE_TEST_HOUSES)
        return [pool], houses.house_numbers(split.test_images, g)
    copy = "512" if dataset == "svhn-full-512" else "official"
    sets = {s: svhn.load(s, copy=copy, zoom=zoom) for s in ("train", "test")}
    sources = [sets["train"]]
    if copy == "official":
        extra = svhn.load("extra", zoom=zoom)
        sources += [{k: extra[k][i::2] for k in ("images", "labels")} for i in (1, 0)]
    return sources, sets["test"]


def divide(config, sources: list[dict], seed: int, device: str):
    """Return shuffled (images, labels) of every source, and the crops held out from all of them.

    Each source gives to both parts in proportion to its size.

    Raises ValueError where the sources hold too few crops.
    """
    train_images, validation_images = config.split.train_images, config.split.validation_images
    total = sum(len(s["labels"]) for s in sources)
    if total < train_images + validation_images:
        raise ValueError(f"train_images and validation_images ask for more than {total} crops")
    g = train.generator(seed, Salt.PRESENCE_HOUSE_SPLIT)
    kept, held_out = [], []
    for s in sources:
        order = torch.randperm(len(s["labels"]), generator=g)
        ends = [n * len(order) // total for n in (validation_images, train_images)]
        for i, part in zip(order[: sum(ends)].split(ends), (held_out, kept), strict=True):
            part.append([s[k][i].to(device) for k in ("images", "labels")])
    return kept, [torch.cat(x) for x in zip(*held_out, strict=True)]
