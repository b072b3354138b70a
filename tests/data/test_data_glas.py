"""GlaS: archives and folders in the official format that the tests write, and the real data."""

import hashlib
import io
import re
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from real_data import REAL

from wsl_tutorial import data, metrics
from wsl_tutorial.data import glas

NAMES = [f"{part}_{k}" for part, n in (("testA", 60), ("testB", 20), ("train", 85)) for k in
         range(1, n + 1)]  # fmt: skip
FOLDER = "Warwick QU Dataset (Released 2016_07_08)"


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def official(kinds=("bmp", "bmp")) -> dict[str, bytes]:
    """Return the files of the release, each image 6 x 5 pixels: (k, part, 7), one gland."""
    rows = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    files = {}
    for i, name in enumerate(sorted(NAMES)):  # in the order of text, as in the release
        number = int(name.split("_")[1])
        grade = "malignant" if number % 3 == 0 else "benign"
        rows.append(f"{name},{i % 16 + 1}, {grade}, healthy")
        image = np.full((6, 5, 3), (number, len(name), 7), np.uint8)
        mask = np.zeros((6, 5), np.uint8)
        mask[1:4, 2:4] = 1 + number % 3  # the glands' numbers
        files[f"{name}.{kinds[0]}"] = encoded(image, {"jpg": "JPEG"}.get(kinds[0], kinds[0]))
        files[f"{name}_anno.{kinds[1]}"] = encoded(mask, kinds[1])
    return files | {"Grade.csv": "\r".join(rows).encode()}


def written(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def known(monkeypatch, grades: bytes) -> None:
    """Make these the official grades."""
    (file,) = data.SETS["glas"].files
    file = replace(file, bytes=len(grades), sha256=hashlib.sha256(grades).hexdigest())
    monkeypatch.setitem(data.SETS, "glas", replace(data.SETS["glas"], files=(file,)))


@pytest.fixture(autouse=True)
def _official_grades(request, monkeypatch):
    if request.node.get_closest_marker("data") is None:
        known(monkeypatch, official()["Grade.csv"])


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    written(root / "glas" / FOLDER, official())
    return root


@pytest.mark.parametrize(("split", "size"), glas.SIZES.items())
def test_splits(release, split, size):
    d = glas.load(split, release)
    assert len(d["names"]) == len(d["images"]) == len(d["masks"]) == size
    assert d["labels"].shape == d["patients"].shape == (size,)
    for name, image, mask, label in zip(
        d["names"], d["images"], d["masks"], d["labels"].tolist(), strict=True
    ):
        number = int(name.split("_")[1])
        assert image.shape == (3, 6, 5)
        assert image.dtype == torch.uint8
        assert image[:, 0, 0].tolist() == [number, len(name), 7]
        assert mask.dtype == torch.bool
        assert mask.nonzero().amin(0).tolist() == [1, 2]
        assert mask.sum() == 6
        assert label == (number % 3 == 0)


def test_splits_are_disjoint_and_in_the_order_of_numbers(release):
    names = {s: glas.load(s, release)["names"] for s in glas.SIZES}
    assert sorted(names["train"] + names["valid"] + names["test"]) == sorted(NAMES)
    assert names["test"] == names["testA"] + names["testB"]
    assert names["test"][:3] == ["testA_1", "testA_2", "testA_3"]
    assert names["valid"] == [f"train_{k}" for k in glas.VALID]
    assert len(set(glas.VALID)) == 18


def test_the_archive_and_the_copy_give_the_same(release, tmp_path):
    (tmp_path / "zip/glas").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "zip/glas" / glas.ARCHIVE, "w") as archive:
        for name, content in official().items():
            archive.writestr(f"{FOLDER}/{name}", content)
    written(tmp_path / "copy/glas", official(("jpg", "png")))
    expected = glas.load("valid", release)
    for root in (tmp_path / "zip", tmp_path / "copy"):
        d = glas.load("valid", root)
        assert d["names"] == expected["names"]
        for key in ("labels", "patients"):
            assert torch.equal(d[key], expected[key])
        for key, off in (("images", 3), ("masks", 0)):  # a JPEG may differ by little
            pairs = zip(d[key], expected[key], strict=True)
            assert all((a.int() - b.int()).abs().max() <= off for a, b in pairs)


def test_what_is_wrong_is_said(tmp_path, release, monkeypatch):
    with pytest.raises(ValueError, match="split: got 'all'"):
        glas.load("all", release)
    with pytest.raises(FileNotFoundError, match=r"neither Grade\.csv nor warwick"):
        glas.load("train", tmp_path)
    files = official()
    cases = {
        "missing": (FileNotFoundError, r"testB_7_anno.bmp is missing"),
        "size": (ValueError, r"testB_2: the image is \(3, 6, 5\), its mask"),
        "grade": (ValueError, "testB_3 is 'bening'"),
        "short": (ValueError, "lists 19 testB images, GlaS has 20"),
        "fields": (ValueError, r"Grade.csv: 'testB_3, 1' is no name, patient and grade"),
        "patient": (ValueError, r"Grade.csv: 'testB_3,one, benign' is no name"),
        "number": (ValueError, r"Grade.csv: 'testB,1, benign' is no name"),
        "cut off": (ValueError, r"testB_4\.bmp: is no whole image"),
        "not an image": (ValueError, r"testB_5_anno\.bmp: is no whole image"),
    }
    lines = {
        "grade": ["testB_3,1, bening, x"],
        "short": [],
        "fields": ["testB_3, 1"],
        "patient": ["testB_3,one, benign"],
        "number": ["testB,1, benign"],
    }
    for case, (error, says) in cases.items():
        broken = dict(files)
        if case == "missing":
            del broken["testB_7_anno.bmp"]
        elif case == "size":
            broken["testB_2_anno.bmp"] = encoded(np.zeros((5, 6), np.uint8), "bmp")
        elif case == "cut off":
            broken["testB_4.bmp"] = broken["testB_4.bmp"][:-40]
        elif case == "not an image":
            broken["testB_5_anno.bmp"] = b"<html>not found</html>"
        else:
            rows = broken["Grade.csv"].decode().split("\r")
            at = next(i for i, row in enumerate(rows) if row.startswith("testB_3,"))
            rows[at : at + 1] = lines[case]
            broken["Grade.csv"] = "\r".join(rows).encode()
        known(monkeypatch, broken["Grade.csv"])
        written(tmp_path / case / "glas", broken)
        with pytest.raises(error, match=says):
            glas.load("testB", tmp_path / case)


def test_grades_of_another_release_are_refused(tmp_path):
    """One patient's grade is exchanged: every other check passes."""
    files = official()
    files["Grade.csv"], n = re.subn(
        rb"(testB_2,\d+), benign", rb"\1, malignant", files["Grade.csv"]
    )
    assert n == 1
    written(tmp_path / "glas", files)
    with pytest.raises(ValueError, match=r"Grade\.csv: has SHA-256 [0-9a-f]{64}, GlaS has"):
        glas.load("testB", tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "glas").mkdir()
    archive = tmp_path / "glas" / glas.ARCHIVE
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in official().items():
            file.writestr(f"{FOLDER}/{name}", content)
    whole = archive.read_bytes()
    at = whole.index(official()["testB_20.bmp"], whole.index(b"testB_20.bmp"))
    archive.write_bytes(whole[: at + 60] + b"damage" + whole[at + 66 :])
    with pytest.raises(ValueError, match=r"testB_20\.bmp: cannot be read \(Bad CRC"):
        glas.load("testB", tmp_path)
    archive.write_bytes(whole[:5000])
    with pytest.raises(ValueError, match=rf"root: .*{glas.ARCHIVE} is damaged"):
        glas.load("testB", tmp_path)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "")
    with pytest.raises(FileNotFoundError, match=r"Grade\.csv is missing"):
        glas.load("testB", tmp_path)


def test_the_checksum_of_the_images_sees_every_byte(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "home", lambda: tmp_path / "home")
    files = official()
    written(tmp_path / "a/glas", files)
    written(tmp_path / "b/glas", dict(reversed(files.items())) | {"readme.txt": b"x"})
    sums = data.checksums("glas", tmp_path / "a")
    assert sums == data.checksums("glas", tmp_path / "b")
    pictures = sorted(set(files) - {"Grade.csv"})
    lines = "".join(f"{n} {hashlib.sha256(files[n]).hexdigest()}\n" for n in pictures)
    assert sums == {
        "glas/Grade.csv": hashlib.sha256(files["Grade.csv"]).hexdigest(),
        "glas/*": hashlib.sha256(lines.encode()).hexdigest(),
    }
    mask = files["testA_9_anno.bmp"]
    (tmp_path / "b/glas/testA_9_anno.bmp").write_bytes(mask[:-1] + bytes([mask[-1] ^ 1]))
    assert data.checksums("glas", tmp_path / "b")["glas/*"] != sums["glas/*"]


# The real data


@pytest.fixture(scope="module")
def real():
    try:
        glas.contents(REAL)
    except FileNotFoundError:
        pytest.skip("glas is neither in $WSL_DATA nor in shared/data")
    return {split: glas.load(split, REAL) for split in ("train", "valid", "test")}


@pytest.mark.data
def test_real_glas_has_the_known_numbers(real):
    grades = {split: d["labels"].bincount().tolist() for split, d in real.items()}
    assert grades == {"train": [29, 38], "valid": [8, 10], "test": [37, 43]}
    sizes = [tuple(m.shape) for m in real["test"]["masks"]]
    assert sizes.count((522, 775)) == 72
    known = torch.cat([real["train"]["patients"], real["valid"]["patients"]])
    assert torch.isin(real["test"]["patients"], known).sum() == 79
    assert data.available("glas", REAL)
    (listed,) = data.SETS["glas"].files
    sums = data.checksums("glas", REAL)
    assert sums[listed.path] == listed.sha256
    assert set(sums) == {listed.path, "glas/*"}


@pytest.mark.data
def test_real_all_ones_is_the_papers(real):
    """Belharbi et al. (2020), Table 2: 66.01, so F1+ is a mean over images at their own sizes."""
    true = real["test"]["masks"]
    trivial = metrics.trivial_masks(true)
    ones, zeros = (metrics.mask_scores(m, true) for m in trivial.values())
    assert ones["f1_plus"] == pytest.approx(66.01, abs=0.01)
    assert zeros["f1_minus"] == pytest.approx(64.04, abs=0.01)
    assert metrics.mask_scores(trivial["All-ones"], true, pooled=True)["f1_plus"] > 67
