"""Street View House Numbers, format 1 (full numbers): archives, boxes, crops and augmentation.

A box is (left, top, width, height) in pixels as annotated, so that `image[:, top:top + height,
left:left + width]` holds the digit; boxes may reach a little over the image's edge. Digits come in
the order of annotation, and the annotated label 10 is the digit 0.

Li (2018) trains on batches of 32 drawn like this (author's program): one of three sources, each
with probability 1/3: the training images, the odd and the even images of "extra", so that the
training images, 14 % of all, are a third of what the model sees; from a permutation of the source
that is fixed for the whole run, a window of 32 neighbours at a uniform place; then `augment`.
"""

import io
import json
import os
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS

SPLITS = {"official": ("train", "test", "extra"), "512": ("train", "test")}


class Annotation(NamedTuple):
    """Hold the annotation of one image: file name, boxes (n, 4) float and the n digits."""

    name: str
    boxes: torch.Tensor
    digits: list[int]


def load(
    split: str = "train",
    root: str | os.PathLike | None = None,
    copy: str = "official",
    zoom: str = "authors",
    size: int = 64,
) -> dict:
    """Load cropped house numbers in the order of annotation; later readings take the cache.

    split: "train", "test" or "extra"; copy: "official", or "512" for the sample of 256 training
    and 256 test images; zoom and size as in `crop`. Returns images (N, 3, size, size) uint8,
    sequences (N lists of digits) and labels bool (N, 10). Raises as `scenes` and `crop`.
    """
    archive = _archive(split, root, copy)
    digest = files.sha256(archive)[:16]

    def build() -> dict[str, np.ndarray]:
        from tqdm import tqdm

        known = annotations(split, root, copy)
        order = {a.name: i for i, a in enumerate(known)}
        images = np.empty((len(known), 3, size, size), np.uint8)
        for a, image in tqdm(scenes(split, root, copy), f"SVHN {split}", len(known), disable=None):
            images[order[a.name]] = crop(image, a.boxes, zoom, size).numpy()
        digits = np.array([d for a in known for d in a.digits], np.uint8)
        return {
            "images": images,
            "digits": digits,
            "lengths": np.array([len(a.digits) for a in known]),
        }

    keys = ("images", "digits", "lengths")
    arrays = files.cached(f"svhn-{copy}-{split}-{zoom}-{size}-{digest}", build, root, keys)
    ends = arrays["lengths"].cumsum()[:-1]
    sequences = [part.tolist() for part in np.split(arrays["digits"], ends)]
    return {
        "images": torch.from_numpy(arrays["images"]),
        "sequences": sequences,
        "labels": presence(sequences),
    }


def scenes(
    split: str = "train", root: str | os.PathLike | None = None, copy: str = "official"
) -> Iterator[tuple[Annotation, torch.Tensor]]:
    """Yield the full images in the archive's order: annotation and (3, H, W) uint8.

    Raises `ValueError` for an unknown split or copy and where images and annotations do not match,
    `ImportError` without h5py (official archives), and what `files.fetch` raises.
    """
    known = {a.name: a for a in annotations(split, root, copy)}
    archive = _archive(split, root, copy)
    for name, content in files.members(archive):
        path = PurePosixPath(name)
        if path.suffix == ".png" and path.parent.name == split:
            if path.name not in known:
                raise ValueError(
                    f"archive: {name} in {archive} is there or annotated twice, or not annotated: "
                    + files.AGAIN
                )
            with files.image(content, f"{archive}, {name}") as image:
                pixels = np.array(image.convert("RGB"))
            yield known.pop(path.name), torch.from_numpy(pixels).permute(2, 0, 1)
    if known:
        raise ValueError(
            f"archive: {len(known)} annotated {split} images are missing from {archive}: "
            + files.AGAIN
        )


def annotations(
    split: str = "train", root: str | os.PathLike | None = None, copy: str = "official"
) -> list[Annotation]:
    """Read all annotations of a split in the order of their file. Raises as `scenes`."""
    archive = _archive(split, root, copy)
    wanted, parse = {
        "official": (f"{split}/digitStruct.mat", digit_struct),
        "512": (f"{split}.json", _json),
    }[copy]
    for name, content in files.members(archive):
        if name == wanted:
            try:
                return parse(content)
            except (OSError, AttributeError, RuntimeError, *files.UNREADABLE) as error:
                raise ValueError(
                    f"archive: {wanted} in {archive} is damaged ({error!r}): {files.AGAIN}"
                ) from error
    raise ValueError(f"archive: {archive} holds no {wanted}: {files.AGAIN}")


def _archive(split, root, copy):
    if copy not in tuple(SPLITS):
        raise ValueError(f"copy: got {copy!r}, expected 'official' or '512'")
    if split not in SPLITS[copy]:
        raise ValueError(f"split: got {split!r}, expected one of {SPLITS[copy]}")
    archives = SETS["svhn-full" if copy == "official" else "svhn-full-512"].files
    return files.fetch(archives[SPLITS[copy].index(split) if copy == "official" else 0], root)


def digit_struct(content: bytes) -> list[Annotation]:
    """Read the annotations in a `digitStruct.mat` of MATLAB v7.3, which is an HDF5 file.

    A field of an image with several digits is a column of references to 1 x 1 values; a field of an
    image with one digit is the value itself. Raises `ImportError` without h5py.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "digitStruct.mat is an HDF5 file: pip install wsl-tutorial[svhn] to read it"
        ) from error
    file: Any = h5py.File(io.BytesIO(content), "r")
    with file:

        def column(field) -> list[float]:
            values = field[()].ravel()
            return [file[v][()].item() if field.dtype.kind == "O" else v.item() for v in values]

        known = []
        fields = ("left", "top", "width", "height", "label")
        struct = file["digitStruct"]
        for name, box in zip(struct["name"][()].ravel(), struct["bbox"][()].ravel(), strict=True):
            *box, label = (column(file[box][field]) for field in fields)
            name = "".join(map(chr, file[name][()].ravel()))
            known.append(Annotation(name, torch.tensor(box).T, [int(v) % 10 for v in label]))
    return known


def _json(content: bytes) -> list[Annotation]:
    """Parse the sample's annotation: rows are named c and columns r, and minima count from -1."""
    known = []
    for entry in json.loads(content):
        corners = [o["bounding_box"] for o in entry["objects"]]
        low = torch.tensor([[b["minimum"]["r"], b["minimum"]["c"]] for b in corners])
        high = torch.tensor([[b["maximum"]["r"], b["maximum"]["c"]] for b in corners])
        name = entry["image"]["pathname"].replace("\\", "/").rpartition("/")[2]
        digits = [int(o["category"]) % 10 for o in entry["objects"]]
        known.append(Annotation(name, torch.cat([low + 1, high - low], 1).float(), digits))
    return known


def presence(sequences: list[list[int]]) -> torch.Tensor:
    """Return the label sets, bool (N, 10), of N digit sequences."""
    labels = torch.zeros(len(sequences), 10, dtype=torch.bool)
    for row, digits in zip(labels, sequences, strict=True):
        row[digits] = True
    return labels


def crop(
    image: torch.Tensor, boxes: torch.Tensor, zoom: str = "authors", size: int = 64
) -> torch.Tensor:
    """Crop the square around a number, resized to (3, size, size) uint8 by antialiased bicubics.

    image (3, H, W) uint8, boxes (n, 4). The square's side is the longer side of the union of the
    boxes times a factor: with zoom "authors" 1 + (6 - n)/7, so that **the true number of digits n
    sets the scale**, in test images, too; with "count-free" always 11/7, the authors' factor for
    two digits, the most frequent length. A square that reaches over the image's edge is cut there
    and no longer square, as the authors have it. Raises `ValueError` for another zoom, wrong
    shapes, and boxes outside the image. Source: Li (2018), preprocessing programs.
    """
    if zoom not in ("authors", "count-free"):
        raise ValueError(f"zoom: got {zoom!r}, expected 'authors' or 'count-free'")
    if image.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        shapes = f"{tuple(image.shape)} and {tuple(boxes.shape)}"
        raise ValueError(f"image, boxes: got shapes {shapes}, expected (3, H, W) and (n, 4)")
    edge = boxes.new_tensor([image.shape[2], image.shape[1]])  # width, height
    # Pixels count from 1 and both ends are included, as in the authors' program.
    low = (boxes[:, :2] + 1).clamp(min=1).amin(0)
    high = torch.minimum(boxes[:, :2] + boxes[:, 2:], edge).amax(0)
    factor = 1 + (6 - (len(boxes) if zoom == "authors" else 2)) / 7
    half = factor * (high - low).max() / 2
    centre = (low + high) / 2
    left, top = (centre - half + 0.5).floor().clamp(min=1).int().tolist()
    right, bottom = torch.minimum((centre + half + 0.5).floor(), edge).int().tolist()
    cut = image[:, top - 1 : bottom, left - 1 : right]
    if 0 in cut.shape or (high < low).any():
        raise ValueError(f"boxes: {boxes.tolist()} lie outside the image {tuple(image.shape)}")
    resized = torch.nn.functional.interpolate(
        cut[None].float(), (size, size), mode="bicubic", antialias=True
    )
    return resized[0].round().clamp(0, 255).byte()


def two_digits(
    split: str = "train",
    root: str | os.PathLike | None = None,
    copy: str = "official",
    size: tuple[int, int] = (60, 240),
    least_height: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Load whole images labelled with two digits, all squeezed into `size` (height, width).

    split and copy as in `load`. Images with a box lower than `least_height` pixels, after resizing,
    are left out. (Angles, Jin et al. leave out test images below 30 and do not say before or after;
    nor do they state whether they use "extra", or colour: these are grey.)

    Returns images (N, 1, height, width) uint8; boxes (N, 2, 4): left, top, right, bottom in pixels
    whose centres are integers; classes (N, 2) int64. Raises as `scenes`.
    Source: Angles, Jin et al., arXiv 1811.10725v3, section 5.2.
    """
    archive = _archive(split, root, copy)
    digest = files.sha256(archive)[:16]

    def build() -> dict[str, np.ndarray]:
        from tqdm import tqdm

        known = [a for a in annotations(split, root, copy) if len(a.digits) == 2]
        order = {a.name: i for i, a in enumerate(known)}
        images = np.empty((len(known), *size), np.uint8)
        boxes = np.empty((len(known), 2, 4), np.float32)
        for a, image in tqdm(scenes(split, root, copy), f"SVHN {split}", disable=None):
            if a.name in order:
                i = order[a.name]
                images[i], boxes[i] = squeeze(image, a.boxes, size)
        return {"images": images, "boxes": boxes, "classes": np.array([a.digits for a in known])}

    keys = ("images", "boxes", "classes")
    arrays = files.cached(f"svhn2-{copy}-{split}-{size[0]}x{size[1]}-{digest}", build, root, keys)
    found = {name: torch.from_numpy(array) for name, array in arrays.items()}
    found["images"] = found["images"][:, None]
    high = (found["boxes"][..., 3] - found["boxes"][..., 1]).amin(1) >= least_height
    return {name: values[high] for name, values in found.items()}


def squeeze(
    image: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Resize an image (3, H, W) uint8 to grey (h, w) uint8; return it and its boxes as corners.

    boxes (n, 4): left, top, width, height as annotated; returned as left, top, right, bottom.
    """
    grey = (image.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    resized = torch.nn.functional.interpolate(
        grey[None, None], size, mode="bicubic", antialias=True
    )[0, 0]
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
    factor = torch.tensor([size[1] / image.shape[2], size[0] / image.shape[1]]).repeat(2)
    return resized.round().clamp(0, 255).byte(), corners * factor - 0.5


def augment(
    batch: torch.Tensor, generator: torch.Generator, sizes: tuple[int, int] = (50, 70)
) -> torch.Tensor:
    """Augment a batch of SVHN crops: one random crop, channel order, height and width for all.

    batch (B, 3, 64, 64) uint8 -> (B, 3, h, w) float32 in [0, 1), on the device of `batch`. The crop
    leaves out 4 rows and 4 columns; h and w are uniform in sizes[0]..sizes[1] inclusive and reached
    by picking rows and columns; bytes are divided by 256. Raises `ValueError` for another shape or
    type. Source: Li (2018), training program.
    """
    if batch.ndim != 4 or batch.shape[1] != 3 or batch.dtype != torch.uint8:
        got = f"{batch.dtype} {tuple(batch.shape)}"
        raise ValueError(f"batch: got {got}, expected uint8 (B, 3, H, W)")

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator, device=generator.device))

    index = []
    for side in batch.shape[2:]:
        offset, new = draw(0, 4), draw(*sizes)
        steps = torch.arange(new, device=batch.device)
        index.append(offset + steps * (side - 5) // (new - 1))
    channels = torch.randperm(3, generator=generator, device=generator.device).to(batch.device)
    rows, columns = index
    return batch[:, channels[:, None, None], rows[:, None], columns].float() / 256
