"""The canvases of the experiments: digits, Gabor noise and house numbers."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ... import metrics, train
from ...data import canvases, svhn
from ..common import DIGITS, FIXED, Salt, shrunk
from .settings import Data, Settings

SALTS = {
    "train": Salt.PATCHES_TRAIN,
    "validation": Salt.PATCHES_VALIDATION,
    "test": Salt.PATCHES_TEST,
}


class Batch(NamedTuple):
    """Hold images (B, 1, H, W), true boxes (B, L, 4) and classes (B, L), both padded with -1."""

    images: Tensor
    boxes: Tensor
    classes: Tensor

    @property
    def present(self) -> Tensor:
        """Return where an instance is, and no padding, (B, L)."""
        return self.classes >= 0

    @property
    def counts(self) -> Tensor:
        """Return the observation: the number of instances of each class, (B, 10)."""
        return (self.classes[..., None] == torch.arange(10, device=self.classes.device)).sum(1)


@dataclass(frozen=True)
class Rendered:
    """Hold scenes of digits, and render the canvases that are asked for."""

    scenes: canvases.Scenes
    tiles: Tensor
    labels: Tensor
    size: int
    box: float

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        scenes = self.scenes[rows]
        places = scenes.places(self.tiles.shape[-2:], self.box)
        true = metrics.boxes(places).masked_fill(~scenes.present[..., None], -1)
        return Batch(scenes.render(self.tiles, self.size), true, scenes.classes(self.labels))


@dataclass(frozen=True)
class Stored:
    """Hold images in memory: Gabor noise and house numbers."""

    images: Tensor
    boxes: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return Batch(self.images[rows], self.boxes[rows], self.classes[rows])


def tiles(config: Settings, seed: int, device: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Return digits (N, h, w) in [0, 1] and labels of "train", "validation" and "test".

    The seed decides which training digits are kept for validation.
    """
    pools = {split: DIGITS[config.data.tiles].load(split) for split in ("train", "test")}
    g = train.generator(seed, Salt.PATCHES_SPLIT)
    order = torch.randperm(len(pools["train"][1]), generator=g)
    held_out = len(order) // 12  # 5,000 of MNIST's 60,000
    chosen = {
        "train": ("train", order[held_out:]),
        "validation": ("train", order[:held_out]),
        "test": ("test", slice(None)),
    }
    parts = {}
    for name, (pool, index) in chosen.items():
        images, labels = (x[index].to(device) for x in pools[pool])
        parts[name] = (shrunk(images, config.data.shrink)[:, 0], labels)
    return parts


def worlds(config: Settings, seed: int, device: str) -> dict[str, Rendered | Stored]:
    """Return the canvases of "train" and "validation" (by the seed) and "test" (one for all seeds).

    Each kind of device draws different canvases.
    """
    data = config.data
    if data.scene in ("svhn", "houses"):
        return house_numbers(data, seed, device)
    number = {s: getattr(data, f"{s}_canvases") for s in SALTS}
    g = {s: train.generator(FIXED if s == "test" else seed, SALTS[s], device=device) for s in SALTS}
    if data.scene == "gabor":
        return {s: gabor_noise(config, number[s], g[s]) for s in SALTS}
    parts, common = tiles(config, seed, device), {"size": data.size, "box": data.box}
    made = {}
    for s, (images, labels) in parts.items():
        arguments = (number[s], labels, images.shape[1:], g[s])
        if data.scene == "easy":
            scenes = canvases.easy(*arguments, **common)
        else:
            more = {"radius": data.radius, "k": data.instances}
            scenes = canvases.hard(*arguments, **common, **more, uneven=data.scene == "uneven")
        if config.special.fewer and s == "train":
            scenes = thinned(scenes, g[s])
        made[s] = Rendered(scenes, images, labels, data.size, data.box)
    return made


def thinned(scenes: canvases.Scenes, g: torch.Generator) -> canvases.Scenes:
    """Return the scenes with a random subset of their digits, all sizes of it equally likely."""
    n, k = scenes.chosen.shape
    rank = torch.rand(n, k, generator=g, device=g.device).argsort(1)
    number = torch.randint(k + 1, (n, 1), generator=g, device=g.device)
    return replace(scenes, present=scenes.present & (rank < number))


def gabor_noise(config: Settings, n: int, g: torch.Generator) -> Stored:
    """Return n images of Gabor noise with mean 0; all impulses have the same class."""
    size, box = config.data.size, config.data.box
    images, places = canvases.gabor(
        n, g, size=size, k=config.extraction.k, box=box, frequency=2 / box
    )
    absent = places[..., 2] < 0
    boxes = metrics.boxes(places).masked_fill(absent[..., None], -1)
    return Stored(images - 0.5, boxes, -absent.long())


def house_numbers(data: Data, seed: int, device: str) -> dict[str, Stored]:
    """Return house numbers of two digits, four times as wide as high, each image standardised.

    They are those of SVHN (scene "svhn") or generated ("houses").
    """
    held_out, shape = data.validation_canvases, (data.size, 4 * data.size)
    if data.scene == "houses":
        n = data.train_canvases + held_out
        seen, unseen = (seed, Salt.PATCHES_TRAIN), (FIXED, Salt.PATCHES_TEST)
        pool = canvases.streets(n, train.generator(*seen), shape)
        test = canvases.streets(data.test_canvases, train.generator(*unseen), shape)
    else:
        pool = svhn.two_digits("train", size=shape)
        test = svhn.two_digits("test", size=shape, least_height=data.size / 2)
    order = torch.randperm(len(pool["images"]), generator=train.generator(seed, Salt.PATCHES_SPLIT))
    train_rows = order[held_out:][: data.train_canvases]
    chosen = {
        "train": (pool, train_rows),
        "validation": (pool, order[:held_out]),
        "test": (test, slice(data.test_canvases)),
    }
    made = {}
    for s, (source, rows) in chosen.items():
        images, boxes, classes = (
            source[k][rows].to(device) for k in ("images", "boxes", "classes")
        )
        images = images.float()
        sd, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        made[s] = Stored((images - mean) / sd.clamp_min(1), boxes, classes)  # a blank stays 0
    return made
