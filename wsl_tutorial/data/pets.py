"""Oxford-IIIT Pet: 600 photos of two breeds of cats and one of dogs, with trimaps.

Belharbi et al. (2020) do not use this set. Here it stands in for their CUB5, five species of birds,
where CUB is not at hand: photos of single animals, few for each class, classes that differ in what
covers a part of the body. Cite Parkhi et al. (2012); the photos belong to their owners.

A trimap is 1 in the animal, 2 in the background and 3 in a band along the outline that is left
unclassified: about 28, 59 and 13 % of the pixels of these breeds.
"""

import os

import torch

from wsl_tutorial.data import files, masked

BREEDS = ("Abyssinian", "Bengal", "american_bulldog")
# The official list is in the order of text, with the dot before ".jpg" behind all digits; its first
# 100 images of a breed, the last of which are these, are for training.
LAST = {"Abyssinian": "1", "Bengal": "191", "american_bulldog": "202"}
UNLISTED = ("Abyssinian_34", "Abyssinian_82")  # not in the official list; 34 has an empty trimap
ABSENT = {  # the numbers up to the last one that no image has
    "Abyssinian": (
        *(23, 28, 35, 38, 39, 41, 42, 53, 59, 64, 147, 162, 163, 171, 186, 187, 188, 189),
        *(194, 198, 199, 200, 203, 208, 209, 211, 214, 218, 222, 227, 229, 231),
    ),
    "Bengal": (181,),
    "american_bulldog": (
        *(1, 4, 17, 88, 145, 154, 155, 156, 157, 159, 160, 162, 163, 165, 170, 195, 204, 206, 210),
        *(213, 215, 219, 222, 223),
    ),
}
NAMES = [
    f"{breed}_{n}"
    for breed, last in zip(BREEDS, (232, 201, 224), strict=True)
    for n in range(1, last + 1)
    if n not in ABSENT[breed] and f"{breed}_{n}" not in UNLISTED
]
HELD_OUT = 20  # of the 100 training images of a breed, the share of CUB5
SIZES = {"train": 240, "valid": 60, "test": 298}


def load(split: str = "train", root: str | os.PathLike | None = None) -> dict:
    """Load one part of the three breeds, breed after breed, in the order of the images' numbers.

    split: "train" (240 images) and "valid" (60), which are the official training images, divided
    within each breed by our own seed; "test" (298, the official ones).
    Read from ROOT/pets: the official archives, which are fetched where they are missing, or what
    they hold, or the smaller copy with images and trimaps of the same names.
    Returns names (N strings); images (N tensors (3, H, W) uint8) and masks (N tensors (H, W) bool,
    true in animals, 1 of the trimap), both decoded when asked for; borders, as masks, true in the
    unclassified band, 3: to leave it out of a measure, compare `mask[~border][None]`; labels int64
    (N,): 0 Abyssinian, 1 Bengal, 2 american_bulldog.
    Raises ValueError for another split and where files are damaged or contradict each other,
    FileNotFoundError where an image is missing, and what `files.fetch` raises.
    """
    if split not in tuple(SIZES):
        raise ValueError(f"split: got {split!r}, expected one of {', '.join(SIZES)}")
    training = [name for name in NAMES if _is_training(name)]
    valid = {training[i] for i in masked.held_out([_label(n) for n in training], HELD_OUT)}
    parts = {"valid": valid, "train": set(training) - valid, "test": set(NAMES) - set(training)}
    names = [name for name in NAMES if name in parts[split]]
    images, trimaps = [f"{name}.jpg" for name in names], [f"{name}.png" for name in names]
    found = files.unpacked("pets", [*images, *trimaps], root)
    images, trimaps = masked.paired(found, images, trimaps)
    return {
        "names": names,
        "images": masked.Decoded(images, masked.pixels),
        "masks": masked.Decoded(trimaps, lambda path: masked.grey(path) == 1),
        "borders": masked.Decoded(trimaps, lambda path: masked.grey(path) == 3),
        "labels": torch.tensor([_label(name) for name in names]),
    }


def _label(name: str) -> int:
    return BREEDS.index(name.rpartition("_")[0])


def _is_training(name: str) -> bool:
    breed, _, number = name.rpartition("_")
    return number + "~" <= LAST[breed] + "~"  # "~" is behind all digits
