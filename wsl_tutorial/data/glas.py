"""GlaS (Warwick-QU, 2015): 165 images of colon tissue, benign or malignant, with gland masks.

The data set cannot be downloaded by a program: get
`warwick_qu_dataset_released_2016_07_08.zip` (about 172 MB) from the Tissue Image Analytics Centre,
University of Warwick, for research only, and put it, or what it holds, under ROOT/glas (with its
Grade.csv right there, `data.available` and the records see it, too). A copy with JPEG images and
PNG masks of the same names is read as well. Cite Sirinukunwattana et al. (2017).

79 of the 80 test images come from patients who have training images, too.
"""

import csv
import hashlib
import os
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS

ARCHIVE = "warwick_qu_dataset_released_2016_07_08.zip"
GRADES = ("benign", "malignant")
MISSING = (
    "get GlaS from the University of Warwick, put it there, or set WSL_DATA to a folder that holds "
    "glas"
)
# The authors' validation images (their split 0, fold 0); the paper's 84 training images are 85.
VALID = (2, 5, 12, 18, 24, 26, 36, 38, 51, 52, 54, 63, 65, 68, 72, 74, 77, 83)
SIZES = {"train": 67, "valid": 18, "test": 80, "testA": 60, "testB": 20}

Files = dict[str, Callable[[], bytes]]  # how to read each file, by its name without folders


def load(split: str = "train", root: str | os.PathLike | None = None) -> dict:
    """Load one part of GlaS, in the order of the images' numbers.

    split: "train" (67 images), "valid" (18), "test" (80, which are "testA", 60, then "testB", 20).
    Returns names (N strings); images (N tensors (3, H, W) uint8, most 775 pixels wide and 522
    high); masks (N tensors (H, W) bool, true in glands); labels int64 (N,): 0 benign, 1 malignant;
    patients int64 (N,).
    Raises ValueError for another split, for a file that cannot be read or is not the official one,
    and where files contradict each other; FileNotFoundError where the data set or one of its images
    is missing.
    """
    if split not in tuple(SIZES):
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SIZES)}")
    found = contents(root)
    known = grades(_official(found))
    names = [n for n in sorted(known, key=_order) if split in _parts(n)]
    if len(names) != SIZES[split]:
        raise ValueError(f"Grade.csv: lists {len(names)} {split} images, GlaS has {SIZES[split]}")
    images = [_pixels(found, name, "RGB").permute(2, 0, 1) for name in names]
    masks = [_pixels(found, f"{name}_anno") > 0 for name in names]
    for name, image, mask in zip(names, images, masks, strict=True):
        if image.shape != (3, *mask.shape):
            shapes = f"the image is {tuple(image.shape)}, its mask {tuple(mask.shape)}"
            raise ValueError(f"{name}: {shapes}: {MISSING}")
    patients, labels = zip(*(known[name] for name in names), strict=True)
    return {
        "names": names,
        "images": images,
        "masks": masks,
        "labels": torch.tensor(labels),
        "patients": torch.tensor(patients),
    }


def contents(root: str | os.PathLike | None = None) -> Files:
    """Find the files of the data set: below ROOT/glas, at any depth, and in the archive there.

    Raises FileNotFoundError where there is neither, ValueError for an archive that is damaged.
    """
    there = files.below("glas", root)
    found = {name: path.read_bytes for name, path in there.items() if name != ARCHIVE}
    if ARCHIVE in there:
        try:
            archive = zipfile.ZipFile(there[ARCHIVE])
        except (zipfile.BadZipFile, *files.UNREADABLE) as error:
            if "Grade.csv" in found:  # unpacked; an image that is missing is named
                return found
            raise ValueError(f"root: {there[ARCHIVE]} is damaged ({error}): {MISSING}") from error
        packed = {
            PurePosixPath(name).name: lambda name=name: archive.read(name)
            for name in archive.namelist()
        }
        found = packed | found
    if not found:
        raise FileNotFoundError(
            f"neither Grade.csv nor {ARCHIVE} is in {files.root(root) / 'glas'}: {MISSING}"
        )
    return found


def grades(text: str) -> dict[str, tuple[int, int]]:
    """Parse Grade.csv: name -> (patient, label).

    Raises ValueError for an unknown grade and for a line that does not begin with three fields, a
    name such as testA_1, the number of a patient, and a grade.
    """
    known = {}
    for line in filter(str.strip, text.splitlines()[1:]):
        try:
            (row,) = csv.reader([line], skipinitialspace=True)
            name, patient, grade = (field.strip() for field in row[:3])
            _order(name)
            number = int(patient)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"Grade.csv: {line!r} is no name, patient and grade") from error
        if grade not in GRADES:
            raise ValueError(f"Grade.csv: {name} is {grade!r}, expected one of {GRADES}")
        known[name] = number, GRADES.index(grade)
    return known


def _official(found: Files) -> str:
    """Return the text of Grade.csv, which has to be the official one, byte for byte."""
    (file,) = SETS["glas"].files
    if "Grade.csv" not in found:
        raise FileNotFoundError(f"Grade.csv is missing from GlaS: {MISSING}")
    content = _content(found, "Grade.csv")
    if (got := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise ValueError(f"Grade.csv: has SHA-256 {got}, GlaS has {file.sha256}: {MISSING}")
    return files.text(content)


def _content(found: Files, name: str) -> bytes:
    try:
        return found[name]()
    except (OSError, RuntimeError, zipfile.BadZipFile, *files.UNREADABLE) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"{name}: cannot be read ({error}): {MISSING}") from error


def _order(name: str) -> tuple[str, int]:
    part, _, number = name.partition("_")
    return part, int(number)


def _parts(name: str) -> tuple[str, ...]:
    """Return the splits that an image belongs to."""
    part, number = _order(name)
    if part == "train":
        return ("valid" if number in VALID else "train",)
    return part, "test"


def _pixels(found: Files, name: str, mode: str = "") -> torch.Tensor:
    for suffix in (".bmp", ".png", ".jpg"):
        if name + suffix in found:
            with files.image(_content(found, name + suffix), name + suffix) as image:
                return torch.from_numpy(np.array(image.convert(mode) if mode else image))
    raise FileNotFoundError(f"{name}.bmp is missing from GlaS: {MISSING}")
