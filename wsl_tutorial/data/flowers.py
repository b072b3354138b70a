"""Oxford Flowers 102: 8,189 photos of 102 species, with masks from an automatic segmentation.

The official files, 102flowers.tgz, 102segmentations.tgz, imagelabels.mat and setid.mat, are looked
for below ROOT/flowers, packed or not, and fetched (0.55 GB) where they are missing. Without the
masks, 102segmentations.tgz is not needed. Cite Nilsback & Zisserman (2008), and (2007) for the
segmentation.
"""

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wsl_tutorial.data import files, masked

SPECIES = 102
IDS = {"train": "trnid", "valid": "valid", "test": "tstid"}
SIZES = {"train": 1020, "valid": 1020, "test": 6149}
BLUE = (0, 0, 254)  # what the segmented images show instead of the background


def load(split: str = "train", root: str | os.PathLike | None = None, masks: bool = True) -> dict:
    """Load one official part of the flowers, in the official order.

    split: "train" (1020 images, 10 of each species), "valid" (1020), "test" (6149); masks: without
    them the segmented images are not needed, and the masks are None.
    Returns names (N strings); images (N tensors (3, H, W) uint8) and masks (N tensors (H, W) bool,
    see `flower`), both decoded when asked for; labels int64 (N,): the official number less 1.
    Raises ValueError for another split and where files are damaged or contradict each other,
    FileNotFoundError where an image is missing, and what `files.fetch` raises.
    """
    if split not in tuple(SIZES):
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SIZES)}")
    found = files.unpacked("flowers", ("setid.mat", "imagelabels.mat"), root)
    numbers = _integers(found["setid.mat"], IDS[split])
    labels = _integers(found["imagelabels.mat"], "labels")
    known = set(labels) <= set(range(1, SPECIES + 1))
    inside = len(set(numbers)) == len(numbers) and set(numbers) <= set(range(1, len(labels) + 1))
    if len(numbers) != SIZES[split] or len(labels) != sum(SIZES.values()) or not (known and inside):
        raise ValueError(
            f"setid.mat: lists {len(numbers)} {split} images of {len(labels)} in imagelabels.mat, "
            f"expected {SIZES[split]} of {sum(SIZES.values())}: delete both files and load again"
        )
    names = [f"image_{n:05d}" for n in numbers]
    images = [f"{name}.jpg" for name in names]
    found = files.unpacked("flowers", images, root)
    segmented = [f"segmim_{n:05d}.jpg" for n in numbers]
    if masks:
        try:
            found = files.unpacked("flowers", segmented, root)
        except (OSError, ValueError) as error:
            kind = ValueError if isinstance(error, ValueError) else files.Incomplete
            raise kind(f"{error}; flowers.load(..., masks=False) needs no masks") from error
    masked.paired(found, images, segmented if masks else images)
    return {
        "names": names,
        "images": masked.Decoded([found[name] for name in images], masked.pixels),
        "masks": masked.Decoded([found[name] for name in segmented], flower) if masks else None,
        "labels": torch.tensor([labels[n - 1] - 1 for n in numbers]),
    }


def _integers(path: Path, name: str) -> list[int]:
    """Return the whole numbers of one variable of a .mat file."""
    from scipy.io import loadmat

    try:
        values = np.asarray(loadmat(path)[name])
        if values.dtype.kind not in "iuf" or (values != values.round()).any():
            raise ValueError(f"{name} holds {values.dtype}")
        return values.astype(int).ravel().tolist()
    except MemoryError:
        raise
    except Exception as error:  # scipy raises a dozen kinds for bytes that it cannot read
        if isinstance(error, OSError) and error.errno:
            raise
        raise ValueError(f"{path}: has no whole {name} ({error!r}): {files.AGAIN}") from error


def flower(path: Path) -> Tensor:
    """Return the mask (H, W) bool of a segmented image: true where any channel exceeds `BLUE`.

    The official segmented images are JPEG files, so that the background along a flower is not of
    one colour, and the mask is a little wider than the flower. Belharbi et al. (2020) cut the same
    way but store the mask as JPEG again, which widens it further; that step is left out here.
    """
    return (masked.pixels(path) > torch.tensor(BLUE, dtype=torch.uint8)[:, None, None]).any(0)
