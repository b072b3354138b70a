"""MNIST from its official idx files, and the nests of digits of Li (2018), section 5.2."""

import gzip
import os
import zlib

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def load(
    split: str = "train", root: str | os.PathLike | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load MNIST: images (N, 28, 28) uint8, labels (N,) int64; N = 60,000 (train) or 10,000 (test).

    Raises `ValueError` for another split or a damaged file, and what `files.fetch` raises.
    """
    if split not in tuple(FILES):
        raise ValueError(f"split: got {split!r}, expected 'train' or 'test'")
    known = {f.path: f for f in SETS["mnist"].files}
    images, labels = (idx(files.fetch(known[f"mnist/{name}"], root)) for name in FILES[split])
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        shapes = f"{tuple(images.shape)} images and {tuple(labels.shape)} labels"
        raise ValueError(f"{' and '.join(FILES[split])}: hold {shapes}: delete both and load again")
    return images, labels.long()


def idx(path: str | os.PathLike) -> torch.Tensor:
    """Read a gzipped idx file of unsigned bytes as a uint8 tensor of the shape in its header.

    Raises `ValueError` where the file is not gzipped or is cut off, and where the header is not of
    that kind or the length does not fit it.
    """
    with gzip.open(path) as f:
        try:
            raw = f.read()
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(
                f"path: {path} is no whole gzip file ({error}): {files.AGAIN}"
            ) from error
    if raw[:3] != b"\0\0\x08" or len(raw) < 4 * (1 + raw[3]):
        raise ValueError(f"path: {path} is no idx file of unsigned bytes: {files.AGAIN}")
    shape = np.frombuffer(raw, ">u4", raw[3], 4).astype(int)
    values = np.frombuffer(raw, np.uint8, offset=4 * (1 + raw[3]))
    if values.size != shape.prod():
        raise ValueError(
            f"path: {path} holds {values.size} values, its header states {shape}: {files.AGAIN}"
        )
    return torch.from_numpy(values.reshape(shape).copy())


def nests(
    images: torch.Tensor,
    labels: torch.Tensor,
    generator: torch.Generator,
    size: tuple[int, int] = (56, 84),
    per_nest: int = 2,
    height: int | None = None,
    width: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw extended MNIST: canvases on which `per_nest` consecutive images are scattered.

    images (n * per_nest, 28, 28) uint8 or float in [0, 1], labels (n * per_nest,) in 0..9.
    Canvas height and width are drawn once a batch, each uniformly from size[0]..size[1] inclusive,
    unless `height` or `width` fixes them. Each image is added at a uniform place (images may
    overlap) and the sum is clipped at 1. All tensors stay on the device of `images`, where
    `generator` has to be, too.

    Returns images (n, 1, H, W) float and labels bool (n, 10): the set of digits on each canvas.
    Raises `ValueError` where the batch does not divide into nests or the canvas is too small.
    Source: Li (2018), section 5.2; sizes and clipping from the author's program.
    """
    if not 1 <= size[0] <= size[1]:
        raise ValueError(f"size: got {size}, expected 1 <= smallest <= largest")
    if per_nest < 1 or len(images) % per_nest or len(images) != len(labels):
        raise ValueError(
            f"images: got {len(images)} images and {len(labels)} labels, "
            f"expected equally many and a multiple of per_nest = {per_nest}"
        )
    device, n = images.device, len(images) // per_nest
    if height is None:
        height = int(torch.randint(size[0], size[1] + 1, (), generator=generator, device=device))
    if width is None:
        width = int(torch.randint(size[0], size[1] + 1, (), generator=generator, device=device))
    h, w = images.shape[-2:]
    if height < h or width < w:
        raise ValueError(f"size: a canvas of {height} x {width} is smaller than {h} x {w}")
    top = torch.randint(height - h + 1, (n, per_nest, 1, 1), generator=generator, device=device)
    left = torch.randint(width - w + 1, (n, per_nest, 1, 1), generator=generator, device=device)
    rows = top + torch.arange(h, device=device)[:, None]
    columns = left + torch.arange(w, device=device)

    if not images.is_floating_point():
        images = images.float() / 255
    nested = images.reshape(n, per_nest, h, w)
    canvas = nested.new_zeros(n, height, width)
    nest = torch.arange(n, device=device)[:, None, None]
    for j in range(per_nest):  # one image a nest at a time: no two threads add to one pixel
        canvas[nest, rows[:, j], columns[:, j]] += nested[:, j]
    present = torch.zeros(n, 10, dtype=torch.bool, device=device)
    present.scatter_(1, labels.reshape(n, per_nest), True)
    return canvas.clamp_(max=1)[:, None], present
