"""Load photos with masks: tensors made when asked for, checks, held-out parts.

The sets are too large to be decoded at once, so `images` and `masks` are sequences that read their
files anew at every index: keep what you use more than once, `images = list(found["images"])`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsl_tutorial.data import files

SEED = 0  # of all held-out parts, so that they are the same everywhere


class Decoded(Sequence):
    """Hold tensors that are decoded when asked for: item i is decode(paths[i])."""

    def __init__(self, paths: Sequence[Path], decode: Callable[[Path], Tensor]):
        self.paths, self.decode = paths, decode

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return Decoded(self.paths[i], self.decode)
        return self.decode(self.paths[i])


def pixels(path: Path) -> Tensor:
    """Read an image as (3, H, W) uint8. Raises `ValueError` where the file is no whole image."""
    with files.image(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def grey(path: Path) -> Tensor:
    """Read an image of one channel as (H, W) uint8. Raises as `pixels`."""
    with files.image(path) as image:
        return torch.from_numpy(np.array(image.convert("L")))


def paired(
    found: dict[str, Path], images: Sequence[str], masks: Sequence[str]
) -> tuple[list[Path], list[Path]]:
    """Return the paths of images and of their masks, by file names, after comparing their sizes.

    Raises ValueError for a file that is no image, and where an image and its mask differ in size.
    """
    for pair in zip(images, masks, strict=True):
        sizes = []
        for name in pair:
            with files.image(found[name]) as file:
                sizes.append(file.size)
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{pair[0]}: the image is {sizes[0]}, its mask {sizes[1]} in {pair[1]}: "
                "delete both and load again"
            )
    return [found[name] for name in images], [found[name] for name in masks]


def held_out(labels: Sequence[int], number: int) -> set[int]:
    """Draw the indices of `number` images of every class, with the seed that all sets share.

    Raises ValueError for a class of fewer images.
    """
    generator, drawn = torch.Generator().manual_seed(SEED), set()
    of_image = torch.as_tensor(labels)
    for label in of_image.unique().tolist():
        own = (of_image == label).nonzero()[:, 0]
        if len(own) < number:
            raise ValueError(f"labels: class {label} has {len(own)} images, expected {number}")
        drawn |= set(own[torch.randperm(len(own), generator=generator)[:number]].tolist())
    return drawn
