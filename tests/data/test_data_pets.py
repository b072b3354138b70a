"""Oxford-IIIT Pet: folders and archives in the official format, and the three real breeds."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from real_data import REAL, needs
from server import offline

from wsl_tutorial import data
from wsl_tutorial.data import File, masked, pets

__all__ = ["offline"]  # a fixture of every test here

# The numbers of the images: 100 of each breed are for training, the rest for the test.
ABYSSINIAN = {*range(1, 233)} - {
    *(23, 28, 35, 38, 39, 41, 42, 53, 59, 64, 147, 162, 163, 171, 186, 187, 188, 189, 194, 198),
    *(199, 200, 203, 208, 209, 211, 214, 218, 222, 227, 229, 231),
}
BENGAL = {*range(1, 202)} - {181}
BULLDOG = {*range(1, 225)} - {
    *(1, 4, 17, 88, 145, 154, 155, 156, 157, 159, 160, 162, 163, 165, 170, 195, 204, 206, 210),
    *(213, 215, 219, 222, 223),
}
NAMES = [
    f"{breed}_{n}"
    for breed, numbers in zip(pets.BREEDS, (ABYSSINIAN, BENGAL, BULLDOG), strict=True)
    for n in numbers
]


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def official() -> dict[str, bytes]:
    """Return the files of both archives, each image 5 x 7: grey, with its number as the level."""
    files = {}
    for name in [*NAMES, "beagle_1"]:
        number = int(name.rpartition("_")[2])
        trimap = np.full((5, 7), 2, np.uint8)
        trimap[1:4, 1:5], trimap[2, 2:4] = 3, 1
        files[f"images/{name}.jpg"] = encoded(np.full((5, 7, 3), number, np.uint8), "JPEG")
        files[f"annotations/trimaps/{name}.png"] = encoded(trimap, "PNG")
        files[f"annotations/trimaps/._{name}.png"] = b"left behind by an operating system"
    return files


def written(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    written(root / "pets", official())
    return root


@pytest.mark.parametrize(("split", "size"), pets.SIZES.items())
def test_splits(release, split, size):
    d = pets.load(split, release)
    assert len(d["names"]) == len(d["images"]) == len(d["masks"]) == len(d["borders"]) == size
    assert d["labels"].shape == (size,)
    assert d["labels"].dtype == torch.int64
    for name, image, mask, border, label in zip(
        d["names"], d["images"], d["masks"], d["borders"], d["labels"].tolist(), strict=True
    ):
        assert name.startswith(pets.BREEDS[label])
        assert image.shape == (3, 5, 7)
        assert (image.int() - int(name.rpartition("_")[2])).abs().max() <= 2  # JPEG
        assert mask.nonzero().tolist() == [[2, 2], [2, 3]]
        assert border.sum() == 10
        assert not (mask & border).any()


def test_the_training_images_are_the_official_ones(release):
    """Against some lines of the official trainval.txt and test.txt."""
    names = {split: set(pets.load(split, release)["names"]) for split in pets.SIZES}
    training = names["train"] | names["valid"]
    assert len(training) == 300
    assert not training & names["test"]
    assert training | names["test"] == set(NAMES) - set(pets.UNLISTED) == set(pets.NAMES)
    ends = {"Abyssinian": (1, 100, 197), "Bengal": (10, 18, 191), "american_bulldog": (18, 200)}
    for breed, numbers in ends.items():
        assert {f"{breed}_{n}" for n in numbers} <= training
    starts = {"Abyssinian": (2, 20, 201), "Bengal": (1, 19, 192), "american_bulldog": (2, 20, 203)}
    for breed, numbers in starts.items():
        assert {f"{breed}_{n}" for n in numbers} <= names["test"]


def test_validation_is_drawn_within_breeds_and_the_same_everywhere(release):
    d = pets.load("valid", release)
    assert d["labels"].bincount().tolist() == [20, 20, 20]
    assert d["names"] == pets.load("valid", release)["names"]
    assert d["names"][:4] == [
        "Abyssinian_108",
        "Abyssinian_126",
        "Abyssinian_129",
        "Abyssinian_131",
    ]


def test_archives_are_fetched_and_unpacked_once(tmp_path, monkeypatch):
    entries = []
    for part in ("images", "annotations"):
        path = tmp_path / f"{part}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in official().items():
                if name.startswith(part):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        entry = File(f"pets/{path.name}", path.stat().st_size, None, (path.as_uri(),))
        entries.append(entry)
    monkeypatch.setitem(data.SETS, "pets", data.DataSet("pets", "t", "l", tuple(entries)))
    d = pets.load("test", tmp_path / "root")
    assert len(d["names"]) == 298
    monkeypatch.setattr(data, "fetch", lambda *a: pytest.fail("fetched again"))
    again = pets.load("test", tmp_path / "root")
    assert again["names"] == d["names"]
    assert torch.equal(again["images"][7], d["images"][7])


def test_images_are_decoded_when_asked_for(release):
    read = []
    d = masked.Decoded([1, 2, 3], lambda path: read.append(path) or torch.tensor(path))
    assert len(d) == 3
    assert read == []
    assert d[-1] == 3
    assert [x.item() for x in d[1:]] == [2, 3]
    assert read == [3, 2, 3]


def test_held_out_images_are_as_many_of_each_class():
    labels = [0] * 9 + [2] * 5 + [0] * 3
    drawn = masked.held_out(labels, 4)
    assert sorted(labels[i] for i in drawn) == [0] * 4 + [2] * 4
    assert drawn == masked.held_out(labels, 4)
    assert masked.held_out(labels, 5) >= set(range(9, 14))
    with pytest.raises(ValueError, match="labels: class 2 has 5 images, expected 6"):
        masked.held_out(labels, 6)


def test_what_is_wrong_is_said(tmp_path, release):
    with pytest.raises(ValueError, match="split: got 'all'"):
        pets.load("all", release)
    files = official()
    del files["images/Bengal_1.jpg"]
    written(tmp_path / "missing/pets", files)
    with pytest.raises(FileNotFoundError, match=r"Bengal_1\.jpg is missing"):
        pets.load("test", tmp_path / "missing")
    files = official()
    files["images/Bengal_1.jpg"] = encoded(np.zeros((7, 5, 3), np.uint8), "JPEG")
    written(tmp_path / "size/pets", files)
    with pytest.raises(ValueError, match=r"Bengal_1.jpg: the image is \(5, 7\), its mask \(7, 5\)"):
        pets.load("test", tmp_path / "size")
    files = {n: c for n, c in official().items() if "Bengal_1." not in n}
    written(tmp_path / "short/pets", files)
    with pytest.raises(FileNotFoundError, match=r"Bengal_1\.jpg is missing.*put it at"):
        pets.load("test", tmp_path / "short")


# The real data


@pytest.mark.data
@needs("pets-3")
def test_real_pets():
    listed = {f.path: f.sha256 for f in data.SETS["pets-3"].files}
    assert data.checksums("pets-3", REAL) == listed
    shares = torch.zeros(2)
    for split, classes in (("train", [80] * 3), ("valid", [20] * 3), ("test", [98, 100, 100])):
        d = pets.load(split, REAL)
        assert d["labels"].bincount().tolist() == classes
        for mask, border in zip(d["masks"], d["borders"], strict=True):
            assert mask.any()
            shares += torch.stack([mask.float().mean(), border.float().mean()]) / 598
    assert shares.tolist() == pytest.approx([0.28, 0.13], abs=0.01)
