"""The data of Baručić & Kybic (2022): bags, their split by seed, augmentation and batches."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import train
from ...data import bags, cifar, digits, groups
from ..common import FIXED, Salt
from .settings import Data, Method, Settings


@dataclass(frozen=True)
class Task:
    """Images uint8 (N, C, H, W), classes (N,), and bags with their counts, on one device."""

    images: Tensor
    classes: Tensor
    train: bags.Bags
    test: bags.Bags
    train_counts: Tensor
    test_counts: Tensor


def load(config: Data) -> tuple[Tensor, Tensor, bags.Bags]:
    """Return images, classes and all bags; the bags are the same for every seed."""
    if config.dataset == "photos":
        return groups.load()
    if config.dataset == "digits":
        images, classes = digits.load()
        images, classes = (255 * images).byte(), classes if config.classes > 2 else classes % 2
    elif config.dataset == "cifar10-bird-cat":
        images, classes = cifar.bird_cat()
        classes = (classes == cifar.CLASSES.index("cat")).long()
    else:
        images, classes = cifar.load(copy=config.dataset.partition("-")[2] or "official")
    wanted = ((0, config.negatives), (1, config.positives))
    if any(n for _, n in wanted):
        kept = torch.cat([(classes == c).nonzero()[:, 0][: n or None] for c, n in wanted])
        images, classes = images[kept], classes[kept]
    if config.sizes == "photos":
        faces = groups.PAPER["male"] + groups.PAPER["female"]
        shares = bags.geometric(faces / groups.PAPER["bags"], groups.LARGEST)
    else:
        shares = bags.uniform(config.smallest, config.largest)
    return images, classes, bags.draw(len(images), shares, train.generator(FIXED, Salt.COUNTS_BAGS))


def splits(config: Data, seed: int, device: str, validate: bool = False) -> Task:
    """Return the split of a seed, the same for all methods.

    With `validate` the test bags are a fifth of the training bags.
    """
    images, classes, all_bags = load(config)
    g = train.generator(seed, Salt.COUNTS_SPLIT)
    if config.train_bags:
        rows, test = bags.nested(len(all_bags), g, config.train_bags, config.test_bags)
    else:
        rows, test = bags.split(len(all_bags), g)
    if validate:
        kept, held_out = bags.split(len(rows), g)
        rows, test = rows[kept], rows[held_out]
    parts = [all_bags[r].to(device) for r in (rows, test)]
    images, classes = images.to(device), classes.to(device)
    kinds = config.classes if config.classes > 2 else None
    return Task(images, classes, *parts, *(bags.counts(part, classes, kinds) for part in parts))


# Augmentation -------------------------------------------------------------------------------------


def augment(images: Tensor, config: Data, g: torch.Generator) -> Tensor:
    """Flip, jitter in colour and blur images (B, C, H, W) in [0, 1], each independently."""

    def factors(low: float, high: float) -> Tensor:
        u = torch.rand(len(images), 1, 1, 1, generator=g, device=images.device)
        return low + (high - low) * u

    images = torch.where(factors(0, 1) < 0.5 * config.flip, images.flip(-1), images)
    brightness, contrast, saturation = (
        factors(1 - config.jitter, 1 + config.jitter) for _ in range(3)
    )
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    grey = images.mean(1, keepdim=True)
    images = (grey + saturation * (images - grey)).clamp(0, 1)
    return blurred(images, factors(0, config.blur)) if config.blur else images


def blurred(images: Tensor, sigma: Tensor, radius: int = 1) -> Tensor:
    """Return images with a Gaussian blur of its own strength for each; edges are replicated.

    images (B, C, H, W), sigma (B, 1, 1, 1) in pixels; taps -radius..radius in both directions.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    spread = sigma.flatten().clamp_min(1e-3)[:, None]  # below it the neighbours' weight is 0
    taps = (-0.5 * (offsets / spread) ** 2).softmax(1)  # (B, 2 radius + 1)
    taps = taps.T[..., None, None, None]
    for axis, pad in ((2, [0, 0, radius, radius]), (3, [radius, radius, 0, 0])):
        wide, n = F.pad(images, pad, mode="replicate"), images.shape[axis]
        images = sum(w * wide.narrow(axis, k, n) for k, w in enumerate(taps))
    return images


def pixels(images: Tensor) -> Tensor:
    """Return images of [0, 1] scaled to [-1, 1], the range that the networks take."""
    return 2 * images - 1


# Batches ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Augmented images (b, C, H, W) and their places, row and column (b,), in a table of bags.

    For methods that learn from instances the table has all training bags. For methods that learn
    from bags it has the bags of this batch: mask (k, n), counts (k,) or (k, classes).
    """

    images: Tensor
    instance: Tensor
    row: Tensor
    column: Tensor
    mask: Tensor | None = None
    counts: Tensor | None = None
    refresh: bool = False  # whether an E-step precedes this training step

    def table(self, z: Tensor) -> Tensor:
        """Return values of instances, (b,) or (b, classes), as a table (k, n[, classes])."""
        empty = z.new_zeros(*self.mask.shape, *z.shape[1:])
        return empty.index_put((self.row, self.column), z)


def padded(part: bags.Bags, z: Tensor) -> Tensor:
    """Return values of all instances of some bags, (N,), as a table (m, n) padded with zeros."""
    table = z.new_zeros(part.mask.shape)
    table[part.mask] = z
    return table


def instance_batches(
    config: Settings, method: Method, task: Task, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield the batches of one epoch over the instances of the training bags, in random order."""
    device = task.images.device
    row, column = task.train.mask.nonzero(as_tuple=True)
    g = train.generator(seed, Salt.COUNTS_ORDER, epoch)
    order = torch.randperm(len(row), generator=g).to(device)
    g = train.generator(seed, Salt.COUNTS_AUGMENTATION, epoch, device=device)
    chunks = order.split(config.optimiser.batch)
    every = max(1, round(method.period * len(chunks)))  # steps from one E-step to the next
    for step, chosen in enumerate(chunks):
        r, c = row[chosen], column[chosen]
        instance = task.train.index[r, c]
        images = augment(task.images[instance].float() / 255, config.data, g)
        refresh = method.loss == "targets" and (epoch * len(chunks) + step) % every == 0
        yield Batch(images, instance, r, c, refresh=refresh)


def bag_batches(
    config: Settings, method: Method, task: Task, seed: int, epoch: int
) -> Iterator[Batch]:
    """Yield the batches of one epoch over the training bags, in random order; bags stay whole."""
    device, k = task.images.device, config.method.bags_per_step if method.several else 1
    g = train.generator(seed, Salt.COUNTS_ORDER, epoch)
    order = torch.randperm(len(task.train), generator=g)
    g = train.generator(seed, Salt.COUNTS_AUGMENTATION, epoch, device=device)
    lengths = [int(s.sum()) for s in task.train.sizes.cpu()[order].split(k)]
    order = order.to(device)
    part, observed = task.train[order], task.train_counts[order]
    row, column = part.mask.nonzero(as_tuple=True)
    tables = zip(part.mask.split(k), observed.split(k), strict=True)
    flat = (t.split(lengths) for t in (part.instances(), row % k, column))
    for (mask, counts), instance, r, c in zip(tables, *flat, strict=True):
        images = augment(task.images[instance].float() / 255, config.data, g)
        yield Batch(images, instance, r, c, mask, counts)
