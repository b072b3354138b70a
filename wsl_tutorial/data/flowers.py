"""Oxford Flowers 102: 8,189 photos of 102 species, with masks from an automatic segmentation.

The official files, 102flowers.tgz, 102segmentations.tgz, imagelabels.mat and setid.mat, are looked
for below ROOT/flowers, packed or not, and fetched (0.55 GB) where they are missing. Cite Nilsback &
Zisserman (2008), and (2007) for the segmentation.
"""

import os
from pathlib import Path

import torch
from scipy.io import loadmat
from torch import Tensor

from wsl_tutorial import data
from wsl_tutorial.data import masked

IDS = {"train": "trnid", "valid": "valid", "test": "tstid"}
SIZES = {"train": 1020, "valid": 1020, "test": 6149}
BLUE = (0, 0, 254)  # what the segmented images show instead of the background


def load(split: str = "train", root: str | os.PathLike | None = None) -> dict:
    """One official part of the flowers, in the official order.

    split: "train" (1020 images, 10 of each species), "valid" (1020), "test" (6149).
    Returns names (N strings); images (N tensors (3, H, W) uint8) and masks (N tensors (H, W) bool,
    see `flower`), both decoded when asked for; labels int64 (N,): the official number less 1.
    Raises ValueError for another split and where files contradict each other, FileNotFoundError
    where an image is missing, and what `data.fetch` raises.
    """
    if split not in tuple(SIZES):
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SIZES)}")
    found = data.unpacked("flowers", "segmim_00001.jpg", root)
    for name in ("setid.mat", "imagelabels.mat"):
        if name not in found:
            raise FileNotFoundError(f"{name} is missing from the data set")
    numbers = loadmat(found["setid.mat"])[IDS[split]].ravel().tolist()
    labels = loadmat(found["imagelabels.mat"])["labels"].ravel().tolist()
    if len(numbers) != SIZES[split] or not all(1 <= n <= len(labels) for n in numbers):
        raise ValueError(
            f"setid.mat: lists {len(numbers)} {split} images of {len(labels)}, "
            f"expected {SIZES[split]}"
        )
    images, segmented = masked.paired(
        found,
        [f"image_{n:05d}.jpg" for n in numbers],
        [f"segmim_{n:05d}.jpg" for n in numbers],
    )
    return {
        "names": [path.stem for path in images],
        "images": masked.Decoded(images, masked.pixels),
        "masks": masked.Decoded(segmented, flower),
        "labels": torch.tensor([int(labels[n - 1]) - 1 for n in numbers]),
    }


def flower(path: Path) -> Tensor:
    """The mask (H, W) bool of a segmented image: true where anything is left above `BLUE`.

    The official segmented images are JPEG files, so that the background along a flower is not of
    one colour, and the mask is a little wider than the flower. Belharbi et al. (2020) cut the same
    way but store the mask as JPEG again, which widens it further; that step is left out here.
    """
    return (masked.pixels(path) > torch.tensor(BLUE, dtype=torch.uint8)[:, None, None]).any(0)
