"""CUB-200-2011: the official files on a small scale."""

import numpy as np
import pytest
import torch
from PIL import Image
from server import offline

from wsl_tutorial.data import cub

__all__ = ["offline"]  # a fixture of every test here

TEST = (29, 30, 30, 30, 26)  # test images of the five species
OTHERS = ("001.Black_footed_Albatross", "200.Common_Yellowthroat")


def rows() -> list[tuple[str, int, int]]:
    """Return species, file number, whether for training: the five as official, and others."""
    out = []
    for k, folder in enumerate(cub.FIVE):
        valid = cub.VALID[6 * k : 6 * k + 6]
        training = [*valid, *(300 + i for i in range(24))]
        out += [(folder, number, 1) for number in training]
        out += [(folder, 500 + i, 0) for i in range(TEST[k])]
    for folder in OTHERS:
        out += [(folder, 700 + i, int(i < 8)) for i in range(11)]
    return sorted(out)


def write(folder, table):
    """Write the four tables and, for each image of 9 x 6, a segmentation of five annotators."""
    lines = {"images": [], "image_class_labels": [], "train_test_split": [], "bounding_boxes": []}
    for i, (species, number, training) in enumerate(table, 1):
        serial = 118 if number == 20476 else i  # by this name the set is known to be there
        name = f"{species[4:]}_{serial:04d}_{number}"
        lines["images"].append(f"{i} {species}/{name}.jpg")
        lines["image_class_labels"].append(f"{i} {int(species[:3])}")
        lines["train_test_split"].append(f"{i} {training}")
        lines["bounding_boxes"].append(f"{i} {number % 5}.0 1.0 3.0 4.5")
        shape = (6, 9) if i % 2 else (6, 9, 3)  # some photos are grey
        votes = np.zeros((6, 9), np.uint8)
        votes[1:4, 2], votes[1:4, 3], votes[1:4, 4] = 102, 153, 255  # two, three and five of five
        for part, pixels, end in (("images", np.full(shape, 40, np.uint8), "jpg"),
                                  ("segmentations", votes, "png")):  # fmt: skip
            place = folder / part / species / f"{name}.{end}"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(place)
    for name, content in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write(root / "cub/CUB_200_2011", rows())
    return root


@pytest.mark.parametrize(("split", "size"), cub.SIZES["five"].items())
def test_five_species(release, split, size):
    d = cub.load(split, release)
    assert len(d["names"]) == len(d["images"]) == len(d["masks"]) == size
    assert d["labels"].shape == (size,)
    counts = {"train": [24] * 5, "valid": [6] * 5, "test": list(TEST)}[split]
    assert d["labels"].bincount().tolist() == counts
    for name, image, mask, box, label in zip(
        d["names"], d["images"], d["masks"], d["boxes"], d["labels"].tolist(), strict=True
    ):
        assert name.startswith(cub.FIVE[label])
        number = int(name.rpartition("_")[2])
        assert (number in cub.VALID, number >= 500) == (
            split == "valid",
            split == "test" or number in cub.VALID,
        )
        assert image.shape == (3, 6, 9)
        assert image.dtype == torch.uint8
        assert mask.nonzero().tolist() == [[y, x] for y in (1, 2, 3) for x in (3, 4)]
        assert box.tolist() == [number % 5, 1, number % 5 + 3, 5.5]


def test_the_authors_validation_images_are_thirty():
    assert len(set(cub.VALID)) == 30
    assert {s: sum(n.values()) for s, n in cub.SIZES.items()} == {"five": 295, "all": 11788}


def test_all_species(release, monkeypatch):
    sizes = {"train": 5 * 24 + 2 * 2, "valid": 7 * 6, "test": 145 + 6}
    monkeypatch.setitem(cub.SIZES, "all", sizes)
    parts = {split: cub.load(split, release, "all") for split in sizes}
    labels = sorted({int(s[:3]) - 1 for s in (*cub.FIVE, *OTHERS)})
    for d in parts.values():
        assert sorted(set(d["labels"].tolist())) == labels
    assert (parts["valid"]["labels"].bincount()[labels] == 6).all()
    names = [name for d in parts.values() for name in d["names"]]
    assert len(set(names)) == len(names) == len(rows())
    assert parts["test"]["names"][:3] == [
        f"{OTHERS[0]}/Black_footed_Albatross_{i:04d}_{699 + i}" for i in (9, 10, 11)
    ]


def test_what_is_wrong_is_said(release, tmp_path, monkeypatch):
    for bad in (("all", "five"), ("train", "six")):
        with pytest.raises(ValueError, match="split, species: got"):
            cub.load(bad[0], release, bad[1])
    with pytest.raises(ValueError, match="cub: found 151 test images, expected 5794"):
        cub.load("test", release, "all")

    def broken(case, name, change):
        folder = tmp_path / case / "cub"
        write(folder, rows())
        text = (folder / name).read_text()
        (folder / name).unlink()
        if change:
            (folder / name).write_text(change(text))
        return tmp_path / case

    root = broken("table", "train_test_split.txt", None)
    with pytest.raises(FileNotFoundError, match=r"train_test_split\.txt is missing"):
        cub.load("test", root)
    root = broken("row", "bounding_boxes.txt", lambda text: text.replace("\n77 ", "\n7777 "))
    with pytest.raises(ValueError, match="image 77 is not in all of the other tables"):
        cub.load("test", root)
    root = broken("split", "train_test_split.txt", lambda text: text.replace("\n60 0", "\n60 1"))
    with pytest.raises(ValueError, match="cub: found 144 test images, expected 145"):
        cub.load("test", root)
    root = broken("fine", "images.txt", lambda text: text)
    next((root / "cub/segmentations/099.Ovenbird").glob("*_500.png")).unlink()
    with pytest.raises(FileNotFoundError, match=r"Ovenbird_\d+_500\.png is missing"):
        cub.load("test", root)
