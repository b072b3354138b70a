"""CUB-200-2011: 11,788 photos of 200 species of birds, with boxes and masks.

The official archives, CUB_200_2011.tgz and segmentations.tgz, are looked for below ROOT/cub, packed
or not, and fetched (1.2 GB) where they are missing. For non-commercial research and education.
Cite Wah et al. (2011).

Belharbi et al. (2020) use all species, "CUB", and five of them, "CUB5". Their text gives 111 test
images for the five; these species have 145, of which their printed rates are multiples.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch

from wsl_tutorial import data
from wsl_tutorial.data import masked

# The five species in the authors' order of labels, and the authors' validation images of them
# (their split 0, fold 0), by the last number of the file name.
FIVE = (
    *("019.Gray_Catbird", "171.Myrtle_Warbler", "108.White_necked_Raven", "099.Ovenbird"),
    "178.Swainson_Warbler",
)
VALID = (
    *(20476, 20034, 20596, 20668, 20674, 20416),
    *(166963, 166946, 166708, 166897, 166942, 166917),
    *(797355, 797360, 797361, 797350, 102730, 102746),
    *(92785, 92470, 93086, 92639, 92590, 93208),
    *(794874, 794859, 174692, 794887, 794870, 794890),
)
HELD_OUT = 6  # of the 29 or 30 training images of a species
SIZES = {
    "five": {"train": 120, "valid": 30, "test": 145},
    "all": {"train": 4794, "valid": 1200, "test": 5794},
}


def load(
    split: str = "train", root: str | os.PathLike | None = None, species: str = "five"
) -> dict:
    """One part of CUB, in the official order of images.

    split: "test", the official one; "train" and "valid" divide the official training images.
    species: "five" (120, 30 and 145 images), with the authors' validation images, or "all" (4794,
    1200 and 5794), with their number of 6 for each species, drawn by our own seed.
    Returns names (N strings, species/file without suffix); images (N tensors (3, H, W) uint8) and
    masks (N tensors (H, W) bool, true where most of the five annotators saw the bird), both decoded
    when asked for; boxes float (N, 4): left, top, right, bottom in pixels as annotated; labels
    int64 (N,): the place in `FIVE`, or the official number of the species less 1.
    Raises ValueError for another split or species and where files contradict each other,
    FileNotFoundError where an image is missing, and what `data.fetch` raises.
    """
    if species not in tuple(SIZES) or split not in tuple(SIZES[species]):
        raise ValueError(
            f"split, species: got {split!r}, {species!r}, "
            "expected 'train', 'valid' or 'test', and 'five' or 'all'"
        )
    found = data.unpacked("cub", "Gray_Catbird_0118_20476.png", root)
    known = _table(found, species)
    training = [row for row in known if row.training]
    valid = _valid(training, species)
    parts = {
        "train": [row for row in training if row.name not in valid],
        "valid": [row for row in training if row.name in valid],
        "test": [row for row in known if not row.training],
    }
    chosen = parts[split]
    if len(chosen) != (expected := SIZES[species][split]):
        raise ValueError(f"cub: found {len(chosen)} {split} images, expected {expected}")
    files = [Path(row.name).name for row in chosen]
    images, masks = masked.paired(found, [f"{f}.jpg" for f in files], [f"{f}.png" for f in files])
    corners = torch.tensor([row.box for row in chosen])
    corners[:, 2:] += corners[:, :2]
    return {
        "names": [row.name for row in chosen],
        "images": masked.Decoded(images, masked.pixels),
        "masks": masked.Decoded(masks, lambda path: masked.grey(path) > 127),
        "boxes": corners,
        "labels": torch.tensor([row.label for row in chosen]),
    }


class _Row(NamedTuple):
    """What the tables tell about an image."""

    name: str
    label: int
    training: bool
    box: list[float]  # left, top, width, height


def _table(found: dict[str, Path], species: str) -> list[_Row]:
    tables = []
    for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes"):
        if f"{name}.txt" not in found:
            raise FileNotFoundError(f"{name}.txt is missing from the data set")
        lines = found[f"{name}.txt"].read_text().splitlines()
        tables.append(dict(line.split(maxsplit=1) for line in lines if line.strip()))
    paths, *others = tables
    rows = []
    for number, path in paths.items():
        if not all(number in table for table in others):
            raise ValueError(f"images.txt: image {number} is not in all of the other tables")
        label, training, box = (table[number] for table in others)
        folder = path.split("/")[0]
        if species == "all" or folder in FIVE:
            label = int(label) - 1 if species == "all" else FIVE.index(folder)
            box = [float(x) for x in box.split()]
            rows.append(_Row(path.strip().removesuffix(".jpg"), label, int(training) == 1, box))
    return rows


def _valid(training: list[_Row], species: str) -> set[str]:
    """The names of the validation images."""
    if species == "five":
        return {row.name for row in training if int(row.name.rpartition("_")[2]) in VALID}
    drawn = masked.held_out([row.label for row in training], HELD_OUT)
    return {training[i].name for i in drawn}
