"""CUB-200-2011: 11,788 photos of 200 species of birds, with boxes and masks.

The official archives, CUB_200_2011.tgz and segmentations.tgz, are looked for below ROOT/cub, packed
or not, and fetched (1.2 GB) where they are missing. For non-commercial research and education.
Cite Wah et al. (2011).

Belharbi et al. (2020) use all species, "CUB", and five of them, "CUB5". Their text gives 111 test
images for the five; these species have 145, of which their printed rates are multiples.
"""

import os
import re
from pathlib import Path
from typing import NamedTuple

import torch

from wsl_tutorial.data import files, masked

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
TABLES = ("images", "image_class_labels", "train_test_split", "bounding_boxes")
HELD_OUT = 6  # of the 29 or 30 training images of a species
SIZES = {
    "five": {"train": 120, "valid": 30, "test": 145},
    "all": {"train": 4794, "valid": 1200, "test": 5794},
}


def load(
    split: str = "train", root: str | os.PathLike | None = None, species: str = "five"
) -> dict:
    """Load one part of CUB, in the official order of images.

    split: "test", the official one; "train" and "valid" divide the official training images.
    species: "five" (120, 30 and 145 images), with the authors' validation images, or "all" (4794,
    1200 and 5794), with their number of 6 for each species, drawn by our own seed.
    Returns names (N strings, species/file without suffix); images (N tensors (3, H, W) uint8) and
    masks (N tensors (H, W) bool, true where most of the five annotators saw the bird), both decoded
    when asked for; boxes float (N, 4): left, top, right, bottom in pixels as annotated; labels
    int64 (N,): the place in `FIVE`, or the official number of the species less 1.
    Raises ValueError for another split or species and where files are damaged or contradict each
    other, FileNotFoundError where an image is missing, and what `files.fetch` raises.
    """
    if species not in tuple(SIZES) or split not in tuple(SIZES[species]):
        raise ValueError(
            f"split, species: got {split!r}, {species!r}, "
            "expected 'train', 'valid' or 'test', and 'five' or 'all'"
        )
    known = _table(files.unpacked("cub", [f"{name}.txt" for name in TABLES], root), species)
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
    names = [Path(row.name).name for row in chosen]
    images, masks = [f"{name}.jpg" for name in names], [f"{name}.png" for name in names]
    found = files.unpacked("cub", [*images, *masks], root)
    images, masks = masked.paired(found, images, masks)
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
    """Hold what the tables list for an image."""

    name: str
    label: int
    training: bool
    box: list[float]  # left, top, width, height


# A line of each table; images.txt begins with the number of the species, as image_class_labels.
LINES = (
    re.compile(r"(\d+)\s+(\d{3}\.\S+/\S+)\.jpg"),
    re.compile(r"(\d+)\s+(\d+)"),
    re.compile(r"(\d+)\s+([01])"),
    re.compile(r"(\d+)\s+(-?\d+\.\d+(?:\s+-?\d+\.\d+){3})"),
)


def _table(found: dict[str, Path], species: str) -> list[_Row]:
    tables = []
    for name, pattern in zip(TABLES, LINES, strict=True):
        path, table = found[f"{name}.txt"], {}
        for i, line in enumerate(files.text(path).splitlines(), 1):
            if line.strip():
                if not (match := pattern.fullmatch(line.strip())) or match[1] in table:
                    raise ValueError(f"{path}: line {i} is not as in CUB: {files.AGAIN}")
                table[match[1]] = match[2]
        tables.append(table)
        if wrong := sorted(tables[0].keys() ^ table.keys(), key=int):
            listed = ", ".join(f"{t}.txt" for t in TABLES)
            raise ValueError(
                f"{path}: image {wrong[0]} is not in all of the other tables: delete {listed} and "
                "load again"
            )
    rows = []
    for number, path in tables[0].items():
        label, training, box = (table[number] for table in tables[1:])
        folder = path.split("/")[0]
        if int(label) != int(folder[:3]):
            raise ValueError(
                f"{found['image_class_labels.txt']}: image {number} of {folder} has label {label}: "
                + files.AGAIN
            )
        if species == "all" or folder in FIVE:
            label = int(label) - 1 if species == "all" else FIVE.index(folder)
            rows.append(_Row(path, label, training == "1", [float(x) for x in box.split()]))
    return rows


def _valid(training: list[_Row], species: str) -> set[str]:
    """Return the names of the validation images."""
    if species == "five":
        return {row.name for row in training if int(row.name.rpartition("_")[2]) in VALID}
    drawn = masked.held_out([row.label for row in training], HELD_OUT)
    return {training[i].name for i in drawn}
