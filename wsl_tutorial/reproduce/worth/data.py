"""The canvases that all observers label, and the cells of the network's map."""

import torch
from torch import Tensor

from ... import train
from ...data import lattice
from ..common import DIGITS, FIXED, Salt, shrunk
from .settings import Settings

SALTS = {"train": Salt.WORTH_TRAIN, "test": Salt.WORTH_TEST}


def step(config: Settings) -> int:
    """Return the pixels from cell to cell."""
    return lattice.STEP * (2 if config.network.entry else 1)


def cells(config: Settings) -> int:
    """Return how many cells a side of the network's map has."""
    return lattice.side(config.data.size, step(config))


def world(config: Settings, seed: int, device: str) -> dict[str, dict[str, Tensor]]:
    """Return the canvases of "train" (by the seed, the first `images` of them) and "test"."""
    c = config.data
    made = {}
    for split in ("train", "test"):
        tiles, labels = (x.to(device) for x in DIGITS[c.tiles].load(split))
        made[split] = lattice.canvases(
            shrunk(tiles, c.shrink),
            labels,
            c.most_images if split == "train" else c.test_images,
            c.size,
            train.generator(seed if split == "train" else FIXED, SALTS[split], device=device),
            k=c.instances,
            apart=c.apart,
            clutter=c.clutter,
            step=step(config),
        )
    made["train"] = {name: x[: c.images] for name, x in made["train"].items()}
    return made


def flat(config: Settings, batch: dict[str, Tensor]) -> Tensor:
    """Return the cells (B, K) in reading order, padded with -1."""
    row, column = batch["cells"].unbind(-1)
    return torch.where(row >= 0, row * cells(config) + column, -1)
