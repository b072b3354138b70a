"""Test the loaders on archives in the official formats that the tests write, and on real ones."""

import gzip
import hashlib
import io
import json
import re
import sys
import tarfile
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from real_data import REAL

from wsl_tutorial import data
from wsl_tutorial.data import File, cifar, cub, files, flowers, glas, mnist, pets, svhn


def real(name: str) -> Path:
    if not data.available(name, REAL):
        pytest.skip(f"{name} is not under $WSL_DATA")
    return REAL


@pytest.fixture(autouse=True)
def _own_home(monkeypatch, tmp_path, request):
    """Hide the user's folders from all tests but those on real data."""
    if request.node.get_closest_marker("data") is None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("WSL_DATA", raising=False)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def store(monkeypatch, tmp_path):
    """Write files under a root as the official ones of a data set; return the root."""

    def write(name: str, files: dict[str, bytes]) -> Path:
        entries = []
        for path, content in files.items():
            place = tmp_path / "root" / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
            entries.append(File(path, len(content), hashlib.sha256(content).hexdigest()))
        monkeypatch.setitem(data.SETS, name, replace(data.SETS[name], files=tuple(entries)))
        return tmp_path / "root"

    return write


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def encoded(pixels: np.ndarray, kind: str, **options) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **options)
    return out.getvalue()


# Where files come from


def test_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    assert data.root() == data.home() == tmp_path / "home/.cache/wsl-tutorial"
    monkeypatch.setenv("WSL_DATA", str(tmp_path / "variable"))
    assert data.root() == tmp_path / "variable"
    assert data.root(tmp_path / "argument") == tmp_path / "argument"


def source(tmp_path, content=b"official" * 1000):
    (tmp_path / "official").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    return File("set/file", len(content), digest, ((tmp_path / "official").as_uri(),))


def test_fetch_downloads_once_checks_and_says_how_much(tmp_path, capsys):
    file = source(tmp_path)
    path = data.fetch(file, tmp_path / "root")
    assert path.read_bytes() == b"official" * 1000
    assert "set/file, 0.0 MB" in capsys.readouterr().err
    (tmp_path / "official").unlink()
    assert data.fetch(file, tmp_path / "root") == path
    assert capsys.readouterr().err == ""


def test_fetch_looks_in_the_cache_after_the_variable(monkeypatch, tmp_path):
    file = source(tmp_path)
    path = data.fetch(file)
    assert path == data.home() / "set/file"
    monkeypatch.setenv("WSL_DATA", str(tmp_path / "elsewhere"))
    assert data.fetch(file) == path


def test_fetch_does_not_write_into_a_read_only_default_root(monkeypatch, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    monkeypatch.setenv("WSL_DATA", str(tmp_path / "locked"))
    assert data.fetch(source(tmp_path)) == data.home() / "set/file"


@pytest.mark.parametrize("wrong", [b"short", b"0fficial" * 1000, b"official" * 2000])
def test_a_wrong_download_is_refused_leaves_nothing_and_the_next_address_is_tried(tmp_path, wrong):
    (tmp_path / "wrong").write_bytes(wrong)
    good = source(tmp_path)
    bad = replace(good, urls=((tmp_path / "wrong").as_uri(),))
    with pytest.raises(ConnectionError, match="set/file could not be downloaded"):
        data.fetch(bad, tmp_path / "root")
    assert not [p for p in (tmp_path / "root").rglob("*") if p.is_file()]
    both = replace(good, urls=bad.urls + good.urls)
    assert data.fetch(both, tmp_path / "root").read_bytes() == b"official" * 1000


def test_offline_the_error_names_the_file_and_its_place(tmp_path):
    file = replace(source(tmp_path), urls=("http://127.0.0.1:9/file",))
    with pytest.raises(ConnectionError) as caught:
        data.fetch(file, tmp_path / "root")
    assert f"put it at {tmp_path / 'root' / 'set/file'}" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no public address: put it at"):
        data.fetch(replace(file, urls=()), tmp_path / "root")


def test_a_file_of_unknown_size_is_taken_as_it_is_announced(tmp_path, capsys):
    file = replace(source(tmp_path), bytes=None, sha256=None)
    assert data.fetch(file, tmp_path / "root").read_bytes() == b"official" * 1000
    assert "set/file, 0.0 MB" in capsys.readouterr().err
    (tmp_path / "root" / "set/file").write_bytes(b"any")
    assert data.fetch(file, tmp_path / "root").read_bytes() == b"any"


def test_a_whole_file_in_a_later_root_is_taken_instead_of_a_damaged_one(tmp_path, monkeypatch):
    file = replace(source(tmp_path), urls=())
    monkeypatch.setenv("WSL_DATA", str(tmp_path / "first"))
    for root, content in ((tmp_path / "first", b"cut"), (data.home(), b"official" * 1000)):
        (root / "set").mkdir(parents=True)
        (root / "set/file").write_bytes(content)
    assert data.fetch(file) == data.home() / "set/file"
    (data.home() / "set/file").write_bytes(b"cut, too")
    with pytest.raises(ValueError, match=r"first/set/file: has 3 bytes.*delete it and load again"):
        data.fetch(file)


def test_a_download_that_ends_early_is_refused(tmp_path, monkeypatch):
    class Cut(io.BytesIO):
        headers: ClassVar = {"Content-Length": "9"}

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Cut(b"official"))
    with pytest.raises(ConnectionError, match="gave 8 bytes"):
        data.fetch(File("f", None, None, ("https://x",)), tmp_path / "root")
    assert not [p for p in (tmp_path / "root").rglob("*") if p.is_file()]


def test_a_damaged_local_file_is_refused(tmp_path):
    file = source(tmp_path)
    path = data.fetch(file, tmp_path / "root")
    path.write_bytes(b"0" * file.bytes)
    with pytest.raises(ValueError, match="SHA-256"):
        data.fetch(file, tmp_path / "root")
    path.write_bytes(b"0")
    with pytest.raises(ValueError, match="has 1 bytes"):
        data.fetch(file, tmp_path / "root")


def test_checksums_are_those_of_the_files_and_remembered(store, monkeypatch):
    root = store("mnist", {"a": b"1", "b": b"2"})
    expected = {k: hashlib.sha256(v).hexdigest() for k, v in {"a": b"1", "b": b"2"}.items()}
    assert data.checksums("mnist", root) == expected
    with monkeypatch.context() as patch:
        patch.setattr(files, "_hash", lambda path: pytest.fail(f"{path} was read again"))
        assert data.checksums("mnist", root) == expected
    (root / "b").write_bytes(b"33")
    assert data.checksums("mnist", root)["b"] == hashlib.sha256(b"33").hexdigest()


def test_available_needs_every_file(store):
    root = store("mnist", {"a": b"1", "b": b"2"})
    assert data.available("mnist", root)
    (root / "b").unlink()
    assert not data.available("mnist", root)
    assert list(data.checksums("mnist", root)) == ["a"]
    assert data.available("digits", root)
    assert data.available("houses", root)
    with pytest.raises(ValueError, match="no data set 'imagenet'"):
        data.available("imagenet")


def test_sets_are_whole():
    for name, s in data.SETS.items():
        assert s.name == name
        assert s.title
        assert s.licence
        assert s.files or s.packaged
        for f in s.files:
            assert f.bytes is None or f.bytes > 0
            assert f.sha256 is None or len(f.sha256) == 64
            assert not Path(f.path).is_absolute()
    assert all(len(v) == 64 for v in data.checksums("houses").values())


# Unpacking


def test_unpack_writes_every_file(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar({"x/1": b"one", "2": b"two"}))
    folder = files._unpack(tmp_path / "a.tar.gz", tmp_path / "out" / "folder", ())
    assert (folder / "x/1").read_bytes() == b"one"
    assert (folder / "2").read_bytes() == b"two"


EVIL = {
    "parent": {"name": "../evil"},
    "deep parent": {"name": "a/../../evil"},
    "absolute": {"name": "/tmp/evil"},
    "backslash": {"name": "..\\evil"},
    "drive": {"name": "c:evil"},
    "symbolic link": {"name": "a", "type": tarfile.SYMTYPE, "linkname": "/etc"},
    "hard link": {"name": "a", "type": tarfile.LNKTYPE, "linkname": "good"},
    "device": {"name": "a", "type": tarfile.CHRTYPE},
    "pipe": {"name": "a", "type": tarfile.FIFOTYPE},
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL.keys())
def test_unpack_refuses_evil_members_and_leaves_nothing(tmp_path, evil):
    member = tarfile.TarInfo()
    for key, value in evil.items():
        setattr(member, key, value)
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("good"))
        archive.addfile(member)
    with pytest.raises(ValueError, match="archive: "):
        files._unpack(tmp_path / "evil.tar", tmp_path / "out" / "folder", ())
    assert not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "evil").exists()


def test_unpacked_takes_what_is_there_before_it_fetches(store):
    content = tar({"images/a.jpg": b"image", "masks/a.png": b"mask"})
    root = store("pets", {"pets/both.tar.gz": content, "pets/list.mat": b"plain"})
    (root / "pets/elsewhere/deep").mkdir(parents=True)
    (root / "pets/elsewhere/deep/a.png").write_bytes(b"own")
    found = data.unpacked("pets", "a.png", root)
    assert found["a.png"].read_bytes() == b"own"
    assert "a.jpg" not in found
    (root / "pets/elsewhere/deep/a.png").unlink()
    for _ in range(2):  # the second time nothing is left to do
        found = data.unpacked("pets", "a.png", root)
        assert found["a.png"] == root / "pets/both/masks/a.png"
        assert found["a.jpg"].read_bytes() == b"image"
        assert found["list.mat"].read_bytes() == b"plain"
    (root / "pets/both/masks/a.png").unlink()
    (root / "pets/both/images/a.jpg").write_bytes(b"own")
    found = data.unpacked("pets", "a.png", root)  # what is missing is unpacked beside what is there
    assert found["a.png"].read_bytes() == b"mask"
    assert found["a.jpg"].read_bytes() == b"own"
    with pytest.raises(FileNotFoundError, match=r"c\.png is missing .*pets/both\.tar\.gz.*put it"):
        data.unpacked("pets", ["a.png", "c.png"], root)


def test_unpacked_writes_beside_a_read_only_root(store, monkeypatch):
    root = store("pets", {"pets/a.tar.gz": tar({"a.png": b"mask"}), "pets/list.mat": b"plain"})
    root.chmod(0o555)
    monkeypatch.setenv("WSL_DATA", str(root))
    found = data.unpacked("pets", "a.png")
    assert found["a.png"] == data.home() / "pets/a/a.png"
    assert found["list.mat"] == root / "pets/list.mat"
    root.chmod(0o755)


@pytest.mark.parametrize("damage", ["empty", "cut", "head", "flipped", "no zip"])
def test_a_damaged_cache_is_named_and_built_anew(tmp_path, capsys, damage):
    arrays = {"a": np.arange(500.0), "b": np.ones(3, np.uint8)}
    data.cached("name", lambda: arrays, tmp_path)
    path = tmp_path / "cache" / "name.npz"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "cut": whole[: len(whole) // 2],
            "head": whole[7:],
            "flipped": whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:],
            "no zip": b"<html>",
        }[damage]
    )
    again = data.cached("name", lambda: arrays, tmp_path)
    assert (again["a"] == arrays["a"]).all()
    assert f"{path} is damaged, or lacks arrays, and is made anew" in capsys.readouterr().err
    assert path.read_bytes() == whole
    data.cached("name", lambda: pytest.fail("built again"), tmp_path)


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "denied")])
def test_a_cache_that_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, error):
    data.cached("name", lambda: {"a": np.ones(3)}, tmp_path)

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(type(error)):
        data.cached("name", lambda: pytest.fail("built again"), tmp_path)


@pytest.mark.parametrize("store", ["[]", "7", "null", "[" * 100_000, '{"a', "\ufeff", ""])
def test_a_damaged_store_of_checksums_is_begun_anew(tmp_path, store):
    (tmp_path / "file").write_bytes(b"content")
    right = hashlib.sha256(b"content").hexdigest()
    data.home().mkdir(parents=True)
    (data.home() / "checksums.json").write_text(store)
    assert files.sha256(tmp_path / "file") == right
    held = json.loads((data.home() / "checksums.json").read_text())
    (data.home() / "checksums.json").write_text(json.dumps(dict.fromkeys(held, 7)))
    assert files.sha256(tmp_path / "file") == right


def test_cached_builds_once_and_falls_back_to_the_home_folder(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    arrays = {"a": np.arange(3)}
    data.cached("name", lambda: arrays, tmp_path / "locked")
    assert (data.home() / "cache/name.npz").is_file()
    again = data.cached("name", lambda: pytest.fail("built again"), tmp_path / "locked")
    assert (again["a"] == arrays["a"]).all()
    data.cached("name", lambda: arrays, tmp_path / "open")
    assert not (tmp_path / "open/cache").exists()
    data.cached("other", lambda: arrays, tmp_path / "open")
    assert (tmp_path / "open/cache/other.npz").is_file()


# MNIST


def idx(values: np.ndarray) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    return gzip.compress(header + values.tobytes())


def test_mnist_reads_idx_files(store, rng):
    images = rng.integers(0, 256, (5, 28, 28), np.uint8)
    labels = np.array([3, 1, 4, 1, 5], np.uint8)
    names = mnist.FILES["test"]
    root = store("mnist", {f"mnist/{names[0]}": idx(images), f"mnist/{names[1]}": idx(labels)})
    x, y = mnist.load("test", root)
    assert x.dtype == torch.uint8
    assert y.dtype == torch.int64
    assert (x.numpy() == images).all()
    assert y.tolist() == labels.tolist()


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0\0\x08\x03\0\0", b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", b"\0\0\x08\x01\0\0\0\x02\x07"],
    ids=["empty", "header cut off", "floats", "values cut off"],
)
def test_damaged_idx_files_are_refused(tmp_path, raw):
    (tmp_path / "x.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(ValueError, match="path: "):
        mnist.idx(tmp_path / "x.gz")


@pytest.mark.parametrize("load", [mnist.load, cifar.load, svhn.load])
def test_unknown_splits_are_refused(load):
    with pytest.raises(ValueError, match="split: got 'validation'"):
        load("validation")


@pytest.mark.data
def test_real_mnist():
    for split, n, first in (("train", 60000, [5, 0, 4, 1, 9]), ("test", 10000, [7, 2, 1, 0, 4])):
        images, labels = mnist.load(split, real("mnist"))
        assert images.shape == (n, 28, 28)
        assert labels[:5].tolist() == first


# CIFAR-10


def binary(rng, n=2):
    """Make an archive of 6 batches of n records; return it with images and labels in order."""
    labels = rng.integers(0, 10, 6 * n, np.uint8)
    labels[:4] = 3, 2, 2, 3
    images = rng.integers(0, 256, (6 * n, 3, 32, 32), np.uint8)
    records = np.hstack([labels[:, None], images.reshape(6 * n, -1)])
    names = [*cifar.BATCHES["train"], *cifar.BATCHES["test"]]
    files = {
        f"cifar-10-batches-bin/{name}": records[n * i : n * (i + 1)].tobytes()
        for i, name in reversed(list(enumerate(names)))
    }
    return files, images, labels


def test_cifar10_reads_the_official_binary_archive(store, rng):
    files, images, labels = binary(rng)
    root = store("cifar10", {"cifar10/cifar-10-binary.tar.gz": tar(files)})
    x, y = cifar.load("train", root)
    assert (x.numpy() == images[:10]).all()
    assert y.tolist() == labels[:10].tolist()
    x, y = cifar.load("test", root)
    assert (x.numpy() == images[10:]).all()
    assert y.dtype == torch.int64


@pytest.mark.parametrize("damage", ["missing", "cut", "label"])
def test_damaged_cifar10_archives_are_refused(store, rng, damage):
    files, _, _ = binary(rng)
    name = "cifar-10-batches-bin/data_batch_3.bin"
    files[name] = {"missing": b"", "cut": files[name][:-1], "label": b"\x0a" + files[name][1:]}[
        damage
    ]
    if damage == "missing":
        del files[name]
    root = store("cifar10", {"cifar10/cifar-10-binary.tar.gz": tar(files)})
    with pytest.raises(ValueError, match="archive: "):
        cifar.load("train", root)


def test_bird_cat_is_the_same_from_the_mosaics_and_from_the_archive(store, rng):
    files, images, labels = binary(rng)
    train_images, train_labels = images[:10], labels[:10]
    root = store("cifar10", {"cifar10/cifar-10-binary.tar.gz": tar(files)})
    expected = cifar.bird_cat(root)
    assert set(expected[1].tolist()) == {2, 3}
    assert (expected[0][expected[1] == 3].numpy() == train_images[train_labels == 3]).all()
    assert data.available("cifar10-bird-cat", root)
    mosaics = {}
    for c, name in ((2, "bird"), (3, "cat")):
        row = np.concatenate(list(train_images[train_labels == c]), 2).transpose(1, 2, 0)
        path = f"cifar10-bird-cat/{name}.webp"
        mosaics[path] = encoded(row, "webp", lossless=True)
    (root / "cifar10/cifar-10-binary.tar.gz").unlink()
    found = cifar.bird_cat(store("cifar10-bird-cat", mosaics))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_mosaics_are_read_row_by_row(tmp_path):
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3).repeat(32, 0).repeat(32, 1)
    (tmp_path / "m").write_bytes(encoded(pixels, "png"))
    tiles = cifar._mosaic(tmp_path / "m")
    assert tiles.shape == (6, 3, 32, 32)
    assert tiles.amin((1, 2, 3)).tolist() == tiles.amax((1, 2, 3)).tolist() == [*range(6)]


def test_jpeg75_is_decoded_once_in_the_order_of_its_folders(store, monkeypatch):
    files = {}
    for split in ("test", "train"):
        for grey, name in enumerate(["truck/0000", "cat/0001", "cat/0000"]):
            pixels = np.full((32, 32, 3), 50 * grey + 10, np.uint8)
            files[f"{split}/{name}.jpg"] = encoded(pixels, "jpeg", quality=75)
    root = store("cifar10-jpeg75", {"cifar10-jpeg75.tar.gz": tar(files)})
    images, labels = cifar.load("train", root, copy="jpeg75")
    assert labels.tolist() == [3, 3, 9]
    assert images.float().mean((1, 2, 3)).round().tolist() == [110, 60, 10]
    monkeypatch.setattr(cifar, "_folders", lambda archive: pytest.fail("decoded again"))
    again = cifar.load("test", root, copy="jpeg75")
    assert again[0].shape == (3, 3, 32, 32)
    with pytest.raises(ValueError, match="copy: got 'png'"):
        cifar.load("train", root, copy="png")


@pytest.mark.data
@pytest.mark.slow
def test_real_jpeg75_pairs_with_the_lossless_birds_and_cats():
    images, labels = cifar.load("train", real("cifar10-jpeg75"), copy="jpeg75")
    assert labels.bincount().tolist() == [5000] * 10
    true, classes = cifar.bird_cat(real("cifar10-bird-cat"))
    assert classes.bincount().tolist() == [0, 0, 5000, 5000]
    for c in (2, 3):
        error = (images[labels == c].float() - true[classes == c].float()).square().mean((1, 2, 3))
        decibels = 10 * (255**2 / error).log10()
        assert decibels.min() > 18
        assert 30 < decibels.median() < 32


# SVHN

SCENES = {  # name: (height, width), boxes, annotated labels
    "1.png": ((60, 90), [(20, 10, 15, 30), (36, 12, 14, 30)], [1, 10]),
    "2.png": ((40, 30), [(8, 5, 10, 25)], [7]),
    "3.png": ((50, 99), [(5, 9, 20, 30), (27, 9, 20, 31), (50, 8, 22, 30)], [2, 2, 9]),
}


def digit_struct(scenes) -> bytes:
    """Make a `digitStruct.mat` as MATLAB v7.3 writes it: HDF5 behind a block of 512 bytes."""
    h5py = pytest.importorskip("h5py")
    out = io.BytesIO()
    with h5py.File(out, "w", userblock_size=512) as file:
        refs, count = file.create_group("#refs#"), iter(range(10**6))

        def reference(values):
            return refs.create_dataset(f"r{next(count)}", data=values).ref

        names, groups = [], []
        for name, (_, boxes, labels) in scenes.items():
            names.append(reference(np.array([[ord(c)] for c in name], np.uint16)))
            group = refs.create_group(f"r{next(count)}")
            for i, field in enumerate(("left", "top", "width", "height", "label")):
                column = [b[i] for b in boxes] if i < 4 else labels
                if len(column) == 1:  # one digit: the value itself
                    group[field] = np.array([column], np.float64)
                else:
                    cells = [[reference(np.array([[float(v)]]))] for v in column]
                    group.create_dataset(field, data=cells, dtype=h5py.ref_dtype)
            groups.append(group.ref)
        struct = file.create_group("digitStruct")
        struct.create_dataset("name", data=[[r] for r in names], dtype=h5py.ref_dtype)
        struct.create_dataset("bbox", data=[[r] for r in groups], dtype=h5py.ref_dtype)
    content = out.getvalue()
    header = b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"
    return header + content[len(header) :]


@pytest.fixture
def street(store, rng):
    """Return the root of an official train archive of three images, and their pixels."""
    pixels = {n: rng.integers(0, 256, (*s[0], 3), np.uint8) for n, s in SCENES.items()}
    files = {f"train/{n}": encoded(p, "png") for n, p in reversed(pixels.items())}
    files["train/digitStruct.mat"] = digit_struct(SCENES)
    files["train/see_bboxes.m"] = b"% a script"
    return store("svhn-full", {"svhn-full/train.tar.gz": tar(files)}), pixels


def test_svhn_annotations_of_one_and_of_several_digits(street):
    root, _ = street
    known = svhn.annotations("train", root)
    assert [a.name for a in known] == ["1.png", "2.png", "3.png"]
    assert [a.digits for a in known] == [[1, 0], [7], [2, 2, 9]]
    for a in known:
        assert a.boxes.tolist() == [[float(v) for v in b] for b in SCENES[a.name][1]]


def test_svhn_scenes_pair_images_with_their_annotations(street):
    root, pixels = street
    found = {a.name: (a, image) for a, image in svhn.scenes("train", root)}
    assert sorted(found) == sorted(pixels)
    for name, (a, image) in found.items():
        assert (image.permute(1, 2, 0).numpy() == pixels[name]).all()
        assert len(a.digits) == len(SCENES[name][2])


def test_svhn_load_crops_in_the_order_of_annotation_and_caches(street, monkeypatch):
    root, pixels = street
    loaded = svhn.load("train", root)
    assert loaded["images"].shape == (3, 3, 64, 64)
    assert loaded["sequences"] == [[1, 0], [7], [2, 2, 9]]
    assert [row.nonzero()[:, 0].tolist() for row in loaded["labels"]] == [[0, 1], [7], [2, 9]]
    for image, (name, (_, boxes, _)) in zip(loaded["images"], SCENES.items(), strict=True):
        whole = torch.from_numpy(pixels[name]).permute(2, 0, 1)
        assert torch.equal(image, svhn.crop(whole, torch.tensor(boxes).float()))
    monkeypatch.setattr(svhn, "scenes", lambda *a: pytest.fail("decoded again"))
    again = svhn.load("train", root)
    assert torch.equal(again["images"], loaded["images"])
    assert again["sequences"] == loaded["sequences"]


def test_svhn_images_with_two_digits_are_squeezed_and_the_low_ones_left_out(store):
    """Of five images three have two digits; boxes of 50 and 70 rows of 120 have 25 and 35 of 60."""
    scenes = SCENES | {
        "4.png": ((120, 80), [(10, 40, 20, 50), (40, 30, 30, 70)], [3, 10]),
        "5.png": ((30, 60), [(8, 4, 10, 15), (30, 4, 10, 16)], [4, 4]),
    }
    files = {"train/digitStruct.mat": digit_struct(scenes)}
    for name, ((height, width), boxes, _) in reversed(scenes.items()):
        pixels = np.zeros((height, width, 3), np.uint8)
        for left, top, w, h in boxes:
            pixels[top : top + h, left : left + w] = 255
        files[f"train/{name}"] = encoded(pixels, "png")
    root = store("svhn-full", {"svhn-full/train.tar.gz": tar(files)})
    kept = {least: svhn.two_digits("train", root, least_height=least) for least in (0, 25, 30, 31)}
    found = kept[0]
    assert found["classes"].tolist() == [[1, 0], [3, 0], [4, 4]]
    assert found["images"].shape == (3, 1, 60, 240)
    # By hand: 60 x 90 is stretched 8/3 times in width; 120 x 80 by 1/2 and 3; 30 x 60 by 2 and 4.
    expected = [
        [[20 * 8 / 3, 10, 35 * 8 / 3, 40], [36 * 8 / 3, 12, 50 * 8 / 3, 42]],
        [[30, 20, 90, 45], [120, 15, 210, 50]],
        [[32, 8, 72, 38], [120, 8, 160, 40]],
    ]
    assert (found["boxes"] - torch.tensor(expected) + 0.5).abs().max() < 1e-4
    for image, boxes in zip(found["images"][:, 0].float(), found["boxes"], strict=True):
        rows, columns = torch.arange(60)[:, None], torch.arange(240)
        inside = torch.zeros(60, 240, dtype=torch.bool)
        for left, top, right, bottom in boxes:
            inside |= (rows > top) & (rows < bottom) & (columns > left) & (columns < right)
        assert ((image > 127) == inside).float().mean() > 0.98
    lists = {least: d["classes"].tolist() for least, d in kept.items()}
    assert lists[25] == lists[0]
    assert lists[30] == [[1, 0], [4, 4]]  # 30 rows are not below 30
    assert lists[31] == []


def test_svhn_refuses_archives_whose_images_and_annotations_differ(store):
    image = encoded(np.zeros((60, 90, 3), np.uint8), "png")
    one = digit_struct({"1.png": SCENES["1.png"]})
    for images in ({}, {"train/1.png": image, "train/2.png": image}):
        content = tar(images | {"train/digitStruct.mat": one})
        root = store("svhn-full", {"svhn-full/train.tar.gz": content})
        with pytest.raises(ValueError, match="archive: "):
            list(svhn.scenes("train", root))
    root = store("svhn-full", {"svhn-full/train.tar.gz": tar({"train/1.png": image})})
    with pytest.raises(ValueError, match=r"holds no train/digitStruct\.mat"):
        svhn.load("train", root)


def test_svhn_without_h5py_says_what_to_install(street, monkeypatch):
    root, _ = street
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install wsl-tutorial\[svhn\]"):
        svhn.annotations("train", root)


def test_svhn_reads_the_sample_of_512(store):
    box = {"minimum": {"r": 19, "c": 9}, "maximum": {"r": 34, "c": 39}}
    image = {"pathname": "test\\7.png", "shape": {"r": 60, "c": 90, "channels": 3}}
    entry = {"image": image, "objects": [{"bounding_box": box, "category": "10"}]}
    files = {
        "./test/7.png": encoded(np.zeros((60, 90, 3), np.uint8), "png"),
        "./test.json": json.dumps([entry]).encode(),
    }
    root = store("svhn-full-512", {"svhn-full-512.tar.gz": tar(files)})
    ((known, image),) = svhn.scenes("test", root, "512")
    assert known == svhn.Annotation("7.png", known.boxes, [0])
    assert known.boxes.tolist() == [[20, 10, 15, 30]]
    assert image.shape == (3, 60, 90)
    with pytest.raises(ValueError, match="split: got 'extra'"):
        svhn.load("extra", root, "512")
    with pytest.raises(ValueError, match="copy: got 'half'"):
        svhn.load("test", root, "half")


@pytest.mark.data
def test_real_svhn_sample_has_its_images_and_boxes_inside():
    root = real("svhn-full-512")
    archive = root / "svhn-full-512.tar.gz"
    contents = dict(files.members(archive))
    for split in ("train", "test"):
        entries = json.loads(contents[f"{split}.json"])
        assert len(entries) == 256
        for e in entries:
            content = contents[e["image"]["pathname"].replace("\\", "/")]
            assert hashlib.md5(content).hexdigest() == e["image"]["checksum"]
        outside = 0
        for known, image in svhn.scenes(split, root, "512"):
            low, high = known.boxes[:, :2], known.boxes[:, :2] + known.boxes[:, 2:]
            edge = torch.tensor([image.shape[2], image.shape[1]])
            assert (low < edge).all()
            assert (high > 0).all()
            outside += ((low < -1) | (high > edge + 2)).any().item()
        assert outside <= 2  # a few annotated boxes reach over the edge
    # The first training image, as in the official digitStruct.mat.
    first = svhn.annotations("train", root, "512")[0]
    assert (first.name, first.digits) == ("1.png", [1, 9])
    assert first.boxes.tolist() == [[246, 77, 81, 219], [323, 81, 96, 219]]


# Crops

NOISE = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 100, 120), np.uint8))


@pytest.mark.parametrize(
    ("boxes", "zoom", "rows", "columns"),
    [
        # Worked by hand with pixels counted from 1: rows 31..52, columns 21..50, factor 11/7.
        ([(20, 30, 14, 22), (36, 30, 14, 22)], "authors", (18, 64), (12, 58)),
        ([(20, 30, 14, 22), (36, 30, 14, 22)], "count-free", (18, 64), (12, 58)),
        # One digit: rows 31..71, columns 41..61, factor 12/7: half a side is 34.3.
        ([(40, 30, 21, 41)], "authors", (16, 85), (16, 85)),
        # The same, factor 11/7: half a side is 31.4.
        ([(40, 30, 21, 41)], "count-free", (19, 82), (19, 82)),
        # Six digits of one place: factor 1.
        ([(40, 30, 41, 41)] * 6, "authors", (30, 71), (40, 81)),
    ],
)
def test_crop_geometry(boxes, zoom, rows, columns):
    side = rows[1] - rows[0]
    assert side == columns[1] - columns[0]
    cut = svhn.crop(NOISE, torch.tensor(boxes).float(), zoom, size=side)  # nothing to resize
    assert torch.equal(cut, NOISE[:, slice(*rows), slice(*columns)])


def test_the_count_sets_the_authors_zoom_and_no_other():
    whole = torch.tensor([[30.0, 30, 40, 40]])
    halves = torch.tensor([[30.0, 30, 20, 40], [50, 30, 20, 40]])
    differs = {
        zoom: not torch.equal(svhn.crop(NOISE, whole, zoom), svhn.crop(NOISE, halves, zoom))
        for zoom in ("authors", "count-free")
    }
    assert differs == {"authors": True, "count-free": False}


def test_a_square_over_the_edge_is_cut_and_stretched():
    ramp = torch.arange(120, dtype=torch.uint8).expand(3, 100, 120)
    cut = svhn.crop(ramp, torch.tensor([[-3.0, 20, 43, 60]]))
    # Columns 1..40 and rows 21..80 of 1: half a side is 50.6, so columns 1..71 remain.
    assert cut.shape == (3, 64, 64)
    assert cut[0, 0, 0] <= 1
    assert 69 <= cut[0, 0, -1] <= 70
    assert (cut[0].float().diff(dim=1) >= 0).all()


def test_resizing_does_not_alias_and_fills_the_range_of_bytes():
    stripes = (torch.arange(400) % 2 * 255).byte().expand(3, 400, 400)
    grey = svhn.crop(stripes, torch.tensor([[10.0, 10, 380, 380]]))
    assert (grey.float() - 127.5).abs().max() < 8
    assert svhn.crop(torch.full((3, 20, 20), 255, dtype=torch.uint8), torch.ones(1, 4)).min() == 255


def test_crop_refuses_what_it_cannot_cut():
    with pytest.raises(ValueError, match="zoom: got 'none'"):
        svhn.crop(NOISE, torch.ones(1, 4), "none")
    with pytest.raises(ValueError, match="image, boxes"):
        svhn.crop(NOISE, torch.ones(0, 4))
    with pytest.raises(ValueError, match="outside the image"):
        svhn.crop(NOISE, torch.tensor([[130.0, 10, 10, 10]]))


def test_augment_is_one_crop_one_channel_order_and_one_size_a_batch():
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    image = torch.stack([y, x, torch.full_like(x, 200)]).byte()
    batch = torch.stack([image, image + 50])
    seen = {key: set() for key in ("top", "left", "height", "width", "order")}
    for seed in range(400):
        out = svhn.augment(batch, torch.Generator().manual_seed(seed)) * 256
        assert torch.equal(out[1], out[0] + 50)
        constant = [c.amin() == c.amax() == 200 for c in out[0]].index(True)
        across = [bool(c[0, 0] != c[0, -1]) for c in out[0]].index(True)
        down = 3 - constant - across
        rows, columns = out[0, down, :, 0].numpy(), out[0, across, 0].numpy()
        for side, values in (("height", rows), ("width", columns)):
            steps = (np.arange(len(values)) * 59 / (len(values) - 1)).astype(int)
            assert (values == values[0] + steps).all()
            seen[side].add(len(values))
        seen["top"].add(int(rows[0]))
        seen["left"].add(int(columns[0]))
        seen["order"].add((down, across))
    assert seen["top"] == seen["left"] == set(range(5))
    assert seen["height"] == seen["width"] == set(range(50, 71))
    assert len(seen["order"]) == 6
    with pytest.raises(ValueError, match=r"batch: got torch\.float32"):
        svhn.augment(batch.float(), torch.Generator())


# What no loader takes

LOADERS = {
    "cifar": cifar.load,
    "cub": cub.load,
    "flowers": flowers.load,
    "glas": glas.load,
    "mnist": mnist.load,
    "pets": pets.load,
    "svhn": svhn.load,
}


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("split", [["train"], {"train": 1}, "all", None, 0])
def test_a_split_that_does_not_exist_is_named(name, split, tmp_path):
    with pytest.raises(ValueError, match=rf"split.*: got {re.escape(repr(split))}"):
        LOADERS[name](split, tmp_path)


def test_other_lists_are_no_names_either(tmp_path):
    with pytest.raises(ValueError, match=r"species: got 'train', \['five'\]"):
        cub.load("train", tmp_path, ["five"])
    with pytest.raises(ValueError, match=r"copy: got \['512'\]"):
        svhn.load("train", tmp_path, ["512"])
    with pytest.raises(ValueError, match=r"name: no data set \['mnist'\]"):
        data.available(["mnist"])


def test_damaged_idx_files_are_named(tmp_path):
    whole = gzip.compress(b"\0\0\x08\1\0\0\0\3abc")
    path = tmp_path / "train-images.gz"
    path.write_bytes(whole)
    assert mnist.idx(path).tolist() == list(b"abc")
    for content in (whole[:-9], b"<html>not found</html>", whole[:12] + b"\xff" + whole[13:], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"path: .*train-images\.gz is no "):
            mnist.idx(path)
    with pytest.raises(FileNotFoundError):
        mnist.idx(tmp_path / "none.gz")
