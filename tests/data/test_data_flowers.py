"""Oxford Flowers 102: the official files on a small scale."""

import urllib.request
from dataclasses import replace

import numpy as np
import pytest
import server
import torch
from PIL import Image
from scipy.io import savemat
from server import offline

from wsl_tutorial import data
from wsl_tutorial.data import flowers

__all__ = ["offline"]  # a fixture of every test here

LABELS = [3, 102, 1, 3, 7, 1, 102]
PARTS = {"trnid": [6, 2], "valid": [1], "tstid": [7, 3, 5, 4]}


@pytest.fixture
def release(tmp_path, monkeypatch):
    sizes = {split: len(PARTS[key]) for split, key in flowers.IDS.items()}
    monkeypatch.setattr(flowers, "SIZES", sizes)
    place = tmp_path / "flowers"
    for part in ("jpg", "segmim"):
        (place / part).mkdir(parents=True)
    savemat(place / "setid.mat", {k: np.array([v], np.uint16) for k, v in PARTS.items()})
    savemat(place / "imagelabels.mat", {"labels": np.array([LABELS], np.uint8)})
    for n in range(1, 8):
        photo = np.full((16, 24, 3), 30 * n, np.uint8)
        Image.fromarray(photo).save(place / f"jpg/image_{n:05d}.jpg")
        photo[:, 8:] = flowers.BLUE  # the right two thirds are background
        Image.fromarray(photo).save(place / f"segmim/segmim_{n:05d}.jpg", quality=95, subsampling=0)
    return tmp_path


@pytest.mark.parametrize(("split", "key"), flowers.IDS.items())
def test_splits_are_the_official_ones_in_their_order(release, split, key):
    d = flowers.load(split, release)
    assert d["names"] == [f"image_{n:05d}" for n in PARTS[key]]
    assert d["labels"].tolist() == [LABELS[n - 1] - 1 for n in PARTS[key]]
    assert d["labels"].dtype == torch.int64
    for n, image, mask in zip(PARTS[key], d["images"], d["masks"], strict=True):
        assert image.shape == (3, 16, 24)
        assert (image.int() - 30 * n).abs().max() <= 2
        assert mask.shape == (16, 24)
        assert mask[:, :8].all()  # the blocks of the JPEG are 8 wide: no ringing here
        assert not mask[:, 8:].any()


def test_a_flower_is_whatever_is_above_the_blue(tmp_path):
    colours = [(0, 0, 254), (0, 0, 0), (0, 0, 255), (1, 0, 254), (0, 1, 0), (9, 9, 9)]
    Image.fromarray(np.array([colours], np.uint8)).save(tmp_path / "a.png")
    assert flowers.flower(tmp_path / "a.png").tolist() == [[False, False, True, True, True, True]]


def test_official_sizes():
    assert flowers.SIZES == {"train": 1020, "valid": 1020, "test": 6149}


def test_what_is_wrong_is_said(release):
    with pytest.raises(ValueError, match="split: got 'all'"):
        flowers.load("all", release)
    place = release / "flowers"
    (place / "jpg/image_00005.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"image_00005\.jpg is missing"):
        flowers.load("test", release)
    Image.fromarray(np.zeros((5, 5, 3), np.uint8)).save(place / "jpg/image_00006.jpg")
    with pytest.raises(ValueError, match=r"image_00006.jpg: the image is \(5, 5\), its mask"):
        flowers.load("train", release)
    for numbers in ([1, 2], [8]):
        savemat(place / "setid.mat", {"valid": np.array([numbers], np.uint16)})
        with pytest.raises(ValueError, match=rf"setid.mat: lists {len(numbers)} valid images"):
            flowers.load("valid", release)
    (place / "imagelabels.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"imagelabels\.mat is missing"):
        flowers.load("train", release)


def test_the_two_small_files_alone_are_fetched_where_they_are_missing(release, monkeypatch):
    """The archives are unpacked and gone: 0.55 GB were asked for, or nothing was."""
    place = release / "flowers"
    expected = flowers.load("test", release)
    kept = {name: (place / name).read_bytes() for name in ("setid.mat", "imagelabels.mat")}
    known = data.SETS["flowers"]
    entries = [
        replace(f, bytes=None, sha256=None) if f.path.endswith(".mat") else f for f in known.files
    ]
    monkeypatch.setitem(data.SETS, "flowers", replace(known, files=tuple(entries)))
    asked = []

    def open_(url, timeout):
        asked.append(url.rpartition("/")[2])
        return server.answer(kept[asked[-1]], "no length")

    monkeypatch.setattr(urllib.request, "urlopen", open_)
    for lost in (["setid.mat"], ["imagelabels.mat"], list(kept)):
        asked.clear()
        for name in lost:
            (place / name).unlink()
        assert flowers.load("test", release)["names"] == expected["names"]
        assert sorted(asked) == sorted(lost)


@pytest.mark.parametrize("name", ["setid.mat", "imagelabels.mat"])
def test_damaged_lists_are_named(release, name):
    path = release / "flowers" / name
    whole = path.read_bytes()
    other = release / "flowers" / {"setid.mat": "imagelabels.mat"}.get(name, "setid.mat")
    cuts = [whole[: len(whole) * k // 8] for k in range(8)]
    for content in (*cuts, b"<html>", b"MATLAB 5.0 MAT-file", other.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"\.mat: .*delete (it|both files) and load again"):
            flowers.load("test", release)
