"""CIFAR-10 from the official binary archive, and two copies of it: JPEG-75, and birds and cats."""

import os
from pathlib import PurePosixPath

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS

CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
BATCHES = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}


def load(
    split: str = "train", root: str | os.PathLike | None = None, copy: str = "official"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Load CIFAR-10: images (N, 3, 32, 32) uint8 and labels (N,) int64 in the order of `CLASSES`.

    N is 50,000 (train) or 10,000 (test). copy: "official", in the official order, or "jpeg75", a
    lossy copy in the order of its class folders; numbers from it carry its name. Its first reading
    decodes 60,000 files; later ones take the cache. Raises `ValueError` for another split or copy
    or a damaged archive, and what `files.fetch` raises.
    """
    if split not in tuple(BATCHES):
        raise ValueError(f"split: got {split!r}, expected 'train' or 'test'")
    if copy == "official":
        (file,) = SETS["cifar10"].files
        return _binary(files.fetch(file, root), BATCHES[split])
    if copy != "jpeg75":
        raise ValueError(f"copy: got {copy!r}, expected 'official' or 'jpeg75'")
    (file,) = SETS["cifar10-jpeg75"].files
    archive = files.fetch(file, root)
    key = f"cifar10-jpeg75-{files.checksums('cifar10-jpeg75', root)[file.path][:16]}"
    keys = [f"{s}-{what}" for s in BATCHES for what in ("images", "labels")]
    arrays = files.cached(key, lambda: _folders(archive), root, keys)
    images, labels = (torch.from_numpy(arrays[f"{split}-{what}"]) for what in ("images", "labels"))
    return images, labels.long()


def bird_cat(root: str | os.PathLike | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Load the training images of classes 2 (bird), then 3 (cat), each in CIFAR-10's own order.

    Images (10,000, 3, 32, 32) uint8, labels (10,000,) int64 in {2, 3}. They are read from the
    lossless mosaics if these are available, else from the official archive.
    """
    mosaics = SETS["cifar10-bird-cat"].files
    try:
        images = [_mosaic(files.fetch(f, root)) for f in mosaics]
    except FileNotFoundError as missing:
        try:
            all_images, all_labels = load("train", root)
        except ConnectionError as error:
            raise files.Incomplete(f"{missing}; {error}") from error
        images = [all_images[all_labels == c] for c in (2, 3)]
    labels = torch.tensor([2, 3]).repeat_interleave(torch.tensor([len(i) for i in images]))
    return torch.cat(images), labels


def _binary(archive, names) -> tuple[torch.Tensor, torch.Tensor]:
    """Read records of one label byte and 3 x 32 x 32 pixel bytes, batch after batch."""
    found = {PurePosixPath(name).name: content for name, content in files.members(archive)}
    if missing := [name for name in names if len(found.get(name, b"-")) % 3073]:
        raise ValueError(f"archive: {archive} lacks a whole {', '.join(missing)}: {files.AGAIN}")
    records = np.frombuffer(b"".join(found[name] for name in names), np.uint8).reshape(-1, 3073)
    if (records[:, 0] > 9).any():
        raise ValueError(f"archive: {archive} has labels above 9: {files.AGAIN}")
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32).copy())
    return images, torch.from_numpy(records[:, 0].astype(np.int64))


def _folders(archive) -> dict[str, np.ndarray]:
    """Decode SPLIT/CLASS/NNNN.jpg, sorted by class and number; other files are left out."""
    found = {}
    for name, content in files.members(archive):
        split, category = ("", "", *PurePosixPath(name).parts)[-3:-1]
        if split in BATCHES and category in CLASSES and name.endswith(".jpg"):
            with files.image(content, f"{archive}, {name}") as image:
                pixels = np.asarray(image.convert("RGB"))
            if pixels.shape != (32, 32, 3):
                raise ValueError(f"archive: {name} in {archive} is {pixels.shape}: {files.AGAIN}")
            found[split, CLASSES.index(category), name] = pixels.transpose(2, 0, 1)
    arrays = {}
    for split in BATCHES:
        keys = sorted(key for key in found if key[0] == split)
        if not keys:
            raise ValueError(f"archive: {archive} lacks {split}/CLASS/NNNN.jpg: {files.AGAIN}")
        arrays[f"{split}-images"] = np.stack([found[key] for key in keys])
        arrays[f"{split}-labels"] = np.array([c for _, c, _ in keys], np.uint8)
    return arrays


def _mosaic(path) -> torch.Tensor:
    """Cut an image into its tiles of 32 x 32, row by row."""
    with files.image(path) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB")))
    rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
    tiles = pixels.reshape(rows, 32, columns, 32, 3)
    return tiles.permute(0, 2, 4, 1, 3).reshape(-1, 3, 32, 32)
