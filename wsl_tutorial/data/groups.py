"""Faces of the Images of Groups data set (Gallagher & Chen, CVPR 2009): one photo is one bag.

The data set has no address that a program may fetch it from: get it from its authors (for
non-commercial research) and unpack its folders under ROOT/images-of-groups.
"""

import os
import re
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.bags import Bags, of_sizes

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "images-of-groups"
FAMILY = ("Fam2a", "Fam4a", "Fam5a", "Fam8a")
OLDER_THAN_12 = (16, 28, 51, 75)  # age codes of 13-19, 20-36, 37-65 and 66+ years
FEMALE, MALE = 1, 2  # gender codes
PAPER = {"bags": 1_913, "male": 3_439, "female": 4_012}  # Baručić & Kybic (2022), section 3.1
SIZE = (120, 96)  # height, width in pixels
LARGEST = 12  # faces in a bag
MISSING = (
    "get the Images of Groups data set from its authors, unpack it there, or set WSL_DATA to a "
    f"folder that holds {FOLDER}"
)


@dataclass(frozen=True)
class Filter:
    """Hold the choices that the paper leaves open: images of at most 12 faces older than 12."""

    folders: tuple[str, ...] = FAMILY
    limit: str = "after"  # whether children count among the 12: "before" the ages are looked at
    singles: bool = True  # whether a bag may have one face


FILTERS = tuple(Filter(FAMILY, *rest) for rest in product(("after", "before"), (True, False)))
Photo = tuple[Path, np.ndarray]  # an image's path; a row a face: eyes x, y, x, y, age, gender


def parse(text: str) -> list[tuple[str, np.ndarray]]:
    """Parse the images of a PersonData.txt: (name, faces (k, 6) int64).

    A face's columns: left eye x, y, right eye x, y in pixels; age code; gender code (1 female,
    2 male). Raises ValueError for a row that is neither an image's name nor a face, and where there
    is no image.
    """
    images: list[tuple[str, list[list[int]]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.fullmatch(r"\s*(-?\d+\s+){5}-?\d+\s*", line) and images:
            images[-1][1].append([int(x) for x in line.split()])
        elif re.search(r"\.jpe?g\s*$", line, re.IGNORECASE):
            images.append((line.strip(), []))
        elif line.strip():
            raise ValueError(f"text: line {number} of PersonData.txt is no image and no face")
    if not images:
        raise ValueError("text: PersonData.txt has no image")
    return [(name, np.array(faces, np.int64).reshape(-1, 6)) for name, faces in images]


def photos(root: str | os.PathLike | None = None, folders: tuple[str, ...] = FAMILY) -> list[Photo]:
    """List the annotated images of some folders.

    Raises FileNotFoundError where a folder is missing, ValueError where its table is damaged.
    """
    found = []
    for folder in folders:
        table = f"{FOLDER}/{folder}/PersonData.txt"
        if (path := files.find(table, root)) is None:
            raise FileNotFoundError(f"{files.root(root) / table} is missing: {MISSING}")
        try:
            found += [(path.parent / name, faces) for name, faces in parse(files.text(path))]
        except ValueError as error:
            raise ValueError(f"{path}: {error}: {MISSING}") from error
    return found


def select(photos: list[Photo], rule: Filter) -> list[Photo]:
    """Select the bags: photos with their faces older than 12, unless there are too many faces."""
    bags = []
    for path, faces in photos:
        grown = faces[np.isin(faces[:, 4], OLDER_THAN_12)]
        counted = faces if rule.limit == "before" else grown
        least = 1 if rule.singles else 2
        if path.parent.name in rule.folders and len(grown) >= least and len(counted) <= LARGEST:
            bags.append((path, grown))
    return bags


def statistics(bags: list[Photo]) -> dict[str, int]:
    """Count bags, male and female faces."""
    genders = np.concatenate([faces[:, 5] for _, faces in bags] or [np.zeros(0)])
    return {
        "bags": len(bags),
        "male": int((genders == MALE).sum()),
        "female": int((genders == FEMALE).sum()),
    }


def papers_filter(photos: list[Photo]) -> Filter:
    """Find the filter that gives the paper's 1,913 bags of 3,439 male and 4,012 female faces.

    Raises ValueError with what each filter gives where none does.
    """
    found = {rule: statistics(select(photos, rule)) for rule in FILTERS}
    for rule, numbers in found.items():
        if numbers == PAPER:
            return rule
    gives = "; ".join(f"{r.limit}, singles {r.singles}: {n}" for r, n in found.items())
    raise ValueError(f"photos: no filter gives the paper's {PAPER}; {gives}")


def crop(
    image: "Image.Image", eyes: np.ndarray, wide: float = 2.5, above: float = 0.4
) -> np.ndarray:
    """Crop one face, uint8 (3, 120, 96): an upright 4:5 box scaled by the distance of the eyes.

    eyes: left x, y, right x, y in pixels; wide: the box's width in eye distances; above: where
    the eyes' midpoint lies in it, from the top. What lies outside the image repeats its edge. The
    paper does not print its box. Raises ValueError where both eyes are at one point.
    """
    (x, y), distance = (eyes[:2] + eyes[2:4]) / 2, np.hypot(*(eyes[2:4] - eyes[:2]))
    if not distance > 0:
        raise ValueError(f"eyes: both at ({x}, {y})")
    height, width = SIZE
    step = wide * distance / width  # image pixels in one pixel of the crop
    columns = x + step * (np.arange(width) - (width - 1) / 2)
    rows = y + step * (np.arange(height) - above * (height - 1))
    if step > 1:  # average over the pixels that fall together
        image = image.reduce(max(1, int(step)))
        columns, rows = ((t + 0.5) / max(1, int(step)) - 0.5 for t in (columns, rows))
    return _bilinear(np.asarray(image.convert("RGB"), np.float32), rows, columns)


def _bilinear(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate at the crossings of rows and columns, uint8 (3, rows, columns); edges repeat."""
    for axis, at in enumerate((rows, columns)):
        at = at.clip(0, pixels.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, pixels.shape[axis] - 1)
        weight = (at - low).reshape([-1 if a == axis else 1 for a in range(3)])
        pixels = pixels.take(low, axis) * (1 - weight) + pixels.take(high, axis) * weight
    return pixels.round().astype(np.uint8).transpose(2, 0, 1)


def load(
    root: str | os.PathLike | None = None, rule: Filter | None = None
) -> tuple[torch.Tensor, torch.Tensor, Bags]:
    """Load faces uint8 (N, 3, 120, 96), labels int64 (N,) (1 female), and the photos as bags.

    rule: which photos and faces; without one, the filter that gives the paper's numbers, and where
    there is none a warning says what each gives and `Filter()` is taken. Raises FileNotFoundError
    where the data set or one of its images is missing, ValueError where a file is damaged.
    """
    found = photos(root)
    if rule is None:
        try:
            rule = papers_filter(found)
        except ValueError as error:
            warnings.warn(str(error), stacklevel=2)
            rule = Filter()
    bags = select(found, rule)
    if missing := [path for path, _ in bags if not path.is_file()]:
        place, name = missing[0].parent, missing[0].name
        raise FileNotFoundError(f"{place}/PersonData.txt lists {name}, which is missing: {MISSING}")
    faces = []
    for path, people in bags:
        with files.image(path) as opened:
            image = opened.convert("RGB")
        try:
            faces += [crop(image, person[:4]) for person in people]
        except ValueError as error:
            raise ValueError(f"{path.parent}/PersonData.txt: {path.name}: {error}") from error
    genders = np.concatenate([people[:, 5] for _, people in bags])
    sizes = torch.tensor([len(people) for _, people in bags])
    images = torch.from_numpy(np.stack(faces))
    return (
        images,
        torch.from_numpy(genders == FEMALE).long(),
        of_sizes(torch.arange(len(images)), sizes),
    )
