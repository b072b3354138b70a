"""Test loaders on incomplete data sets: they complete the set, or name the file and what to do.

Small releases in the official formats are put under a root packed, unpacked, both or not at all;
files are removed, cut, emptied and exchanged at random; servers answer in every way that servers
do. Whatever the state, a loader gives exactly what it gives from the whole set, or raises an error
that names a file and a remedy, and doing what it says ends with the whole set.
"""

import hashlib
import http.server
import io
import json
import random
import re
import shutil
import tarfile
import threading
import urllib.request
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import server
import test_data
import test_data_glas
import torch
from scipy.io import savemat

from wsl_tutorial import data
from wsl_tutorial.data import (
    File,
    cifar,
    cub,
    files,
    flowers,
    glas,
    groups,
    mnist,
    pets,
    svhn,
)

encoded, tar = test_data.encoded, test_data.tar
URL = "https://data.example/"


@dataclass
class Release:
    """Hold a data set as its source offers it; `files` by their paths under the root."""

    name: str  # in the registry, "" where it is not there
    files: dict[str, bytes]
    load: Callable
    holds: dict[str, tuple[str, ...]] = field(default_factory=dict)
    unchecked: tuple[str, ...] = ()  # neither size nor checksum is published
    patches: tuple = ()  # (object, name, value): the numbers of a small release

    def members(self, path: str) -> dict[str, bytes]:
        """Return the files that an archive unpacks into."""
        if path.endswith(".zip"):
            with zipfile.ZipFile(io.BytesIO(self.files[path])) as archive:
                return {n: archive.read(n) for n in archive.namelist()}
        with tarfile.open(fileobj=io.BytesIO(self.files[path])) as archive:
            return {m.name: archive.extractfile(m).read() for m in archive if m.isreg()}


def noise(rng, *shape) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8)


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def mat(**arrays) -> bytes:
    out = io.BytesIO()
    savemat(out, arrays)
    return out.getvalue()


def of_mnist(rng):
    names = mnist.FILES["test"]
    files = {
        f"mnist/{names[0]}": test_data.idx(noise(rng, 5, 28, 28)),
        f"mnist/{names[1]}": test_data.idx(np.array([3, 1, 4, 1, 5], np.uint8)),
    }
    return Release("mnist", files, lambda root: mnist.load("test", root))


def of_cifar(rng):
    files = {"cifar10/cifar-10-binary.tar.gz": tar(test_data.binary(rng)[0])}
    return Release("cifar10", files, lambda root: cifar.load("train", root))


def of_mosaics(rng):
    files = {
        f"cifar10-bird-cat/{name}.webp": encoded(noise(rng, 32, 64, 3), "webp", lossless=True)
        for name in ("bird", "cat")
    }
    return Release("cifar10-bird-cat", files, cifar.bird_cat)


def of_jpeg75(rng):
    files = {
        f"{split}/{name}.jpg": encoded(noise(rng, 32, 32, 3), "jpeg", quality=75)
        for split in ("test", "train")
        for name in ("truck/0000", "cat/0001")
    }
    path = "cifar10-jpeg75.tar.gz"
    return Release("cifar10-jpeg75", {path: tar(files)}, lambda r: cifar.load("test", r, "jpeg75"))


def of_svhn(rng):
    pytest.importorskip("h5py")
    scenes = test_data.SCENES.items()
    files = {f"test/{n}": encoded(noise(rng, *s[0], 3), "png") for n, s in scenes}
    files["test/digitStruct.mat"] = test_data.digit_struct(test_data.SCENES)
    path = "svhn-full/test.tar.gz"
    patch = (svhn, "SPLITS", {**svhn.SPLITS, "official": ("test",)})
    return Release(
        *("svhn-full", {path: tar(files)}, lambda root: svhn.load("test", root)),
        unchecked=(path,),
        patches=(patch,),
    )


def of_sample(rng):
    box = {"minimum": {"r": 19, "c": 9}, "maximum": {"r": 34, "c": 39}}
    entry = {
        "image": {"pathname": "test\\7.png"},
        "objects": [{"bounding_box": box, "category": "10"}],
    }
    files = {
        "test/7.png": encoded(noise(rng, 60, 90, 3), "png"),
        "test.json": json.dumps([entry]).encode(),
    }
    path = "svhn-full-512.tar.gz"
    return Release("svhn-full-512", {path: tar(files)}, lambda r: svhn.load("test", r, "512"))


def of_cub(rng):
    species = ("001.Auk", "002.Jay")
    rows = [(s, f"{s[4:]}_{i:04d}_{100 + i}") for s in species for i in range(1, 6)]
    tables = {
        "images": [f"{s}/{n}.jpg" for s, n in rows],
        "image_class_labels": [str(int(s[:3])) for s, _ in rows],
        "train_test_split": [str(int(n[-1] in "123")) for _, n in rows],
        "bounding_boxes": [f"{i}.0 1.0 13.0 4.0" for i in range(len(rows))],
    }
    first = {
        f"CUB_200_2011/{name}.txt": "".join(f"{i} {v}\n" for i, v in enumerate(values, 1)).encode()
        for name, values in tables.items()
    }
    first |= {
        f"CUB_200_2011/images/{s}/{n}.jpg": encoded(noise(rng, 16, 24, 3), "jpeg") for s, n in rows
    }
    first["CUB_200_2011/README"] = second_readme = b"read me"
    second = {f"segmentations/{s}/{n}.png": encoded(noise(rng, 16, 24), "png") for s, n in rows} | {
        "segmentations/README": second_readme
    }
    files = {"cub/CUB_200_2011.tgz": tar(first), "cub/segmentations.tgz": tar(second)}
    sizes = {"all": {"train": 4, "valid": 2, "test": 4}}
    return Release(
        *("cub", files, lambda root: cub.load("test", root, "all")),
        holds={f.path: f.holds for f in data.SETS["cub"].files},
        patches=((cub, "SIZES", sizes), (cub, "HELD_OUT", 1)),
    )


def of_flowers(rng, masks=True):
    photos = {f"jpg/image_{n:05d}.jpg": encoded(noise(rng, 16, 24, 3), "jpeg") for n in range(1, 8)}
    segmented = {f"segmim/segmim_{n:05d}.jpg": encoded(noise(rng, 16, 24, 3), "jpeg")
                 for n in range(1, 8)}  # fmt: skip
    ids = {"trnid": [6, 2], "valid": [1], "tstid": [7, 3, 5, 4]}
    files = {
        "flowers/102flowers.tgz": tar(photos),
        "flowers/102segmentations.tgz": tar(segmented),
        "flowers/imagelabels.mat": mat(labels=np.array([[3, 102, 1, 3, 7, 1, 102]], np.uint8)),
        "flowers/setid.mat": mat(**{k: np.array([v], np.uint16) for k, v in ids.items()}),
    }
    sizes = {"train": 2, "valid": 1, "test": 4}
    return Release(
        *("flowers", files, lambda root: flowers.load("test", root, masks)),
        holds={f.path: f.holds for f in data.SETS["flowers"].files},
        unchecked=("flowers/102segmentations.tgz",),
        patches=((flowers, "SIZES", sizes),),
    )


def of_flowers_without_masks(rng):
    release = of_flowers(rng, masks=False)
    del release.files["flowers/102segmentations.tgz"]
    return release


def of_pets(rng):
    names = [f"{breed}_{n}" for breed in pets.BREEDS for n in (1, 10, 7)]
    trimap = np.array([[1, 2, 3, 2]] * 3, np.uint8).repeat(4, 0).repeat(4, 1)
    files = {
        "pets/images.tar.gz": tar(
            {f"images/{n}.jpg": encoded(noise(rng, 12, 16, 3), "jpeg") for n in names}
        ),
        "pets/annotations.tar.gz": tar(
            {f"annotations/trimaps/{n}.png": encoded(trimap, "png") for n in names}
            | {f"annotations/trimaps/._{n}.png": b"left behind" for n in names}
        ),
    }
    return Release(
        *("pets", files, lambda root: pets.load("test", root)),
        holds={f.path: f.holds for f in data.SETS["pets"].files},
        patches=((pets, "NAMES", names), (pets, "HELD_OUT", 1)),
    )


def of_glas(rng):
    files = test_data_glas.official()
    kept = {n: c for n, c in files.items() if re.match(r"Grade|testB_[1-5](\.|_)", n)}
    rows = kept["Grade.csv"].decode().split("\r")
    chosen = [rows[0], *(row for row in rows if re.match(r"testB_[1-5],", row))]
    kept["Grade.csv"] = "\r".join(chosen).encode()
    archive = zipped({f"{test_data_glas.FOLDER}/{n}": c for n, c in kept.items()})
    digest = hashlib.sha256(kept["Grade.csv"]).hexdigest()
    grades = File("glas/Grade.csv", len(kept["Grade.csv"]), digest)
    sets = data.SETS | {"glas": replace(data.SETS["glas"], files=(grades,))}
    return Release(
        *("", {f"glas/{glas.ARCHIVE}": archive}, lambda root: glas.load("testB", root)),
        patches=((glas, "SIZES", {"testB": 5}), (glas, "SETS", sets)),
    )


def folder(files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of a set that comes unpacked, as an archive that is not read."""
    return {"given.tar.gz": tar(files)}


def of_groups(rng):
    files = {}
    for name in groups.FAMILY:
        table = f"{name}.jpg\r\n\t40\t50\t60\t50\t28\t1\r\n"
        files[f"{groups.FOLDER}/{name}/PersonData.txt"] = table.encode()
        files[f"{groups.FOLDER}/{name}/{name}.jpg"] = encoded(noise(rng, 90, 120, 3), "jpeg")

    def load(root):
        images, labels, photos = groups.load(root, groups.Filter())
        return images, labels, photos.index, photos.mask

    return Release("", folder(files), load)


ALL = {
    name.removeprefix("of_"): make for name, make in list(globals().items()) if name[:3] == "of_"
}


def frozen(value):
    """Decode the result of a loader for a comparison."""
    if torch.is_tensor(value):
        return str(value.dtype), tuple(value.shape), value.numpy().tobytes()
    if isinstance(value, dict):
        return {k: frozen(v) for k, v in value.items()}
    if isinstance(value, str | int | float | None):
        return value
    return [frozen(v) for v in value]


@pytest.fixture
def release(request, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    release = ALL[request.param](rng)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WSL_DATA", raising=False)
    for patch in release.patches:
        monkeypatch.setattr(*patch)
    if release.name:
        entries = [
            File(
                path,
                None if path in release.unchecked else len(content),
                None if path in release.unchecked else hashlib.sha256(content).hexdigest(),
                (URL + path,),
                release.holds.get(path, ()),
            )
            for path, content in release.files.items()
        ]
        known = replace(data.SETS[release.name], files=tuple(entries))
        monkeypatch.setitem(data.SETS, release.name, known)
    return release


class Server:
    """Answer for the addresses of a release, each in its own way, and note the requests."""

    def __init__(self, release, ways):
        self.release, self.ways, self.asked = release, ways, []

    def __call__(self, url, timeout):
        path = url.removeprefix(URL)
        if path not in self.release.files:  # a set that another one falls back to
            return server.answer(b"", "not")
        self.asked.append(path)
        return server.answer(self.release.files[path], self.ways.get(path, "not"))


def damage(name: str, out: dict[str, bytes], rng: random.Random) -> bytes:
    """Return a damaged file, or a file of another kind in its place.

    (A whole image in place of another, and a list without its last lines, nobody can tell.)
    """
    kind = rng.choice(["cut", "cut", "empty", "page", "other", "noise"])
    content = out[name]
    start = content.rstrip().rfind(b"\n") + 2 if "Person" in name or "Sets" in name else 0
    alike = () if "cub" in name and name.endswith(".txt") else (Path(name).suffix,)
    others = [c for n, c in out.items() if Path(n).suffix not in alike]
    return {
        "cut": content[: rng.randrange(start, max(start + 1, len(content.rstrip())))],
        "empty": b"",
        "page": server.PAGE,
        "other": rng.choice(others or [b"another"]),
        "noise": rng.randbytes(300),
    }[kind]


def archive(path: str) -> bool:
    return path.endswith((".tgz", ".tar.gz", ".zip"))


def put(release, root, rng, harm) -> set[str]:
    """Put a release under `root` in a random state; return the names of the damaged files."""
    shutil.rmtree(root, ignore_errors=True)
    harmed = set()
    given = "given.tar.gz" in release.files
    for path, content in release.files.items():
        opens = archive(path) and path.split("/")[0] in ("pets", "cub", "flowers", "glas")
        states = ["unpacked"] if given else ["packed", "absent"]
        states += ["unpacked", "both"] if opens and not given else []
        state = rng.choice(states)
        out = {path: content} if state in ("packed", "both") else {}
        if state in ("unpacked", "both"):
            top = "" if given else f"{path.split('/')[0]}/deep/"
            out |= {top + n: c for n, c in release.members(path).items()}
        whole = dict(out)
        for name in whole:
            if rng.random() < harm:
                harmed.add(Path(name).name)
                if rng.random() < 0.4:
                    del out[name]
                else:
                    out[name] = damage(name, whole, rng)
        for name, bytes_ in out.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(bytes_)
    return harmed


def outcome(release, root):
    """Return the result of a load, or the message of its error, of one of the two kinds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return frozen(release.load(root)), ""
    except (OSError, ValueError) as error:
        return None, str(error)


@pytest.mark.parametrize("release", ALL, indirect=True)
def test_every_state_gives_the_whole_set_or_names_the_file_and_the_remedy(
    release, tmp_path, monkeypatch
):
    whole = tmp_path / "whole"
    all_well = Server(release, dict.fromkeys(release.files, "well"))
    monkeypatch.setattr(urllib.request, "urlopen", all_well)
    root, rng = tmp_path / "root", random.Random(0)
    if release.name:
        expected = frozen(release.load(whole))  # everything from the server
    else:
        for path in release.files:
            for name, content in release.members(path).items():
                place = whole / ("glas" if glas.ARCHIVE in path else "") / name
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(content)
        expected = frozen(release.load(whole))
    ends = {"whole": 0, "named": 0}
    for trial in range(50):
        harm = (0.0, 0.1, 0.5)[trial % 3]
        ways = {path: rng.choice(server.WAYS) for path in release.files}
        harmed = put(release, root, rng, harm)
        asked = Server(release, ways)
        monkeypatch.setattr(urllib.request, "urlopen", asked)
        found, message = outcome(release, root)
        ends["named" if message else "whole"] += 1
        if not message:
            assert found == expected, (trial, harmed)
            continue
        names = harmed | {Path(path).name for path in release.files} | {glas.ARCHIVE, "Grade.csv"}
        names |= {f"{n}/PersonData.txt" for n in groups.FAMILY}
        assert any(name in message for name in names), message
        assert re.search(r"delete|put it|get ", message), message
        if release.name:  # the remedy: deleting what is named, from servers that work
            monkeypatch.setattr(urllib.request, "urlopen", all_well)
            for _ in range(40):
                found, message = outcome(release, root)
                if not message:
                    break
                gone = [p for p in root.rglob("*") if p.is_file() and p.name in message]
                assert gone, message
                for path in gone:
                    path.unlink()
            assert not message, message
            assert found == expected
        else:
            assert harmed or not root.exists()
    assert min(ends.values()) > 3, ends


@pytest.mark.parametrize("release", ["pets", "cub", "flowers"], indirect=True)
def test_only_archives_of_missing_files_are_asked_for(release, tmp_path, monkeypatch):
    """Any part unpacked and whole, the rest on servers that work."""
    root, rng = tmp_path / "root", random.Random(1)
    well = dict.fromkeys(release.files, "well")
    monkeypatch.setattr(urllib.request, "urlopen", Server(release, well))
    expected = frozen(release.load(tmp_path / "whole"))
    for _ in range(20):
        shutil.rmtree(root, ignore_errors=True)
        lacks = set()
        for path, content in release.files.items():
            inside = release.members(path) if archive(path) else {Path(path).name: content}
            there = rng.random() < 0.7
            lost = rng.choice(sorted(inside)) if rng.random() < 0.3 else None
            if not there or (lost and "README" not in lost and "._" not in lost):
                lacks.add(path)
            for name, part in inside.items():
                place = root / Path(path).parts[0] / "mine" / name
                place.parent.mkdir(parents=True, exist_ok=True)
                if there and name != lost:
                    place.write_bytes(part)
        asked = Server(release, well)
        monkeypatch.setattr(urllib.request, "urlopen", asked)
        assert frozen(release.load(root)) == expected
        assert set(asked.asked) <= lacks
        assert len(asked.asked) == len(set(asked.asked))
        monkeypatch.setattr(urllib.request, "urlopen", Server(release, {}))
        assert frozen(release.load(root)) == expected  # and nothing any more


@pytest.mark.parametrize("release", ["pets", "cub", "flowers"], indirect=True)
def test_an_archive_that_is_gone_is_not_missed_where_its_files_are(release, tmp_path, monkeypatch):
    """Unpacked, archives deleted; one file lost: the error names it, its archive and the place."""
    for path in release.files:
        inside = release.members(path) if archive(path) else {Path(path).name: release.files[path]}
        for name, content in inside.items():
            place = tmp_path / "root" / Path(path).parts[0] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    monkeypatch.setattr(urllib.request, "urlopen", Server(release, {}))
    names = release.load(tmp_path / "root")["names"]
    lost = Path(names[0]).name + ".jpg"
    next((tmp_path / "root").rglob(lost)).unlink()
    with pytest.raises(data.Incomplete, match=rf"{lost} is missing .* could not be .* put it at"):
        release.load(tmp_path / "root")


def test_a_page_that_was_kept_as_an_archive_is_named(tmp_path, monkeypatch):
    """As an earlier version kept it: of an archive without a published checksum."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (segmentations,) = (f for f in data.SETS["flowers"].files if f.sha256 is None)
    path = tmp_path / segmentations.path
    path.parent.mkdir()
    for content, says in ((server.PAGE, "a web page"), (b"", "empty"), (b"x" * 99, "cut off, or")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"102segmentations.tgz: it is {says}.* delete it"):
            data.fetch(segmentations, tmp_path)
    read = []
    monkeypatch.setattr(files, "members", lambda path: read.append(path) or iter(()))
    path.write_bytes(b"y" * 99)
    for _ in range(3):  # an archive is read through once, not at every load
        assert data.fetch(segmentations, tmp_path) == path
    assert read == [path]


@pytest.mark.parametrize("cut", range(1, 40, 3))
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_archive_cut_anywhere_is_refused(cut, mode, tmp_path):
    """Python's tarfile alone takes an archive that ends at, or inside, a later header for whole."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.USTAR_FORMAT) as tar_:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 700
            tar_.addfile(member, io.BytesIO(random.Random(name).randbytes(700)))
    content = out.getvalue()
    end = 2 * (512 + 1024) if mode == "w" else len(content)  # behind it a tar file has only zeros
    path = tmp_path / "a.tar"
    path.write_bytes(content)
    assert [len(c) for _, c in files.members(path)] == [700, 700]
    path.write_bytes(content[: end * cut // 40])
    with pytest.raises(ValueError, match=r"a\.tar is cut off, or none .*: delete it"):
        list(files.members(path))


def test_a_cut_archive_leaves_nothing_unpacked(tmp_path):
    content = tar({"a.txt": random.Random(0).randbytes(9000), "b.txt": b"b"})
    (tmp_path / "a.tgz").write_bytes(content[:-20])
    with pytest.raises(ValueError, match="cut off"):
        files._unpack(tmp_path / "a.tgz", tmp_path / "out", ())
    assert [p.name for p in tmp_path.iterdir()] == ["a.tgz"]


@pytest.mark.parametrize(
    "content",
    [b"", server.PAGE, b"\x93NUMPY\x01\x00v\x00{'descr': '<i8'", b"PK\x03\x04cut"],
    ids=["empty", "page", "npy", "cut"],
)
def test_a_damaged_cache_is_built_anew(content, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    arrays = {"a": np.arange(300)}
    path = tmp_path / "root/cache/x.npz"
    data.cached("x", lambda: arrays, tmp_path / "root")
    whole = path.read_bytes()
    for bad in (content, whole[:-30], whole[: len(whole) // 2], whole[:200] + b"!" + whole[201:]):
        path.write_bytes(bad)
        found = data.cached("x", lambda: arrays, tmp_path / "root", keys=["a"])
        assert (found["a"] == arrays["a"]).all()
        again = data.cached("x", lambda: pytest.fail("built again"), tmp_path / "root")
        assert (again["a"] == arrays["a"]).all()
    np.savez(path, other=np.arange(3))
    assert (data.cached("x", lambda: arrays, tmp_path / "root", ["a"])["a"] == arrays["a"]).all()
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    path.write_bytes(buffer.getvalue())
    assert (data.cached("x", lambda: arrays, tmp_path / "root", ["a"])["a"] == arrays["a"]).all()


@pytest.mark.parametrize("content", [b"[]", b"7", b'{"a', b"\xff\xfe", b"[" * 10**5])
def test_a_damaged_list_of_checksums_is_written_anew(content, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store = data.home() / "checksums.json"
    store.parent.mkdir(parents=True)
    store.write_bytes(content)
    (tmp_path / "f").write_bytes(b"1")
    for _ in range(2):
        assert files.sha256(tmp_path / "f") == hashlib.sha256(b"1").hexdigest()
    assert len(json.loads(store.read_text())) == 1


# Flowers without masks


@pytest.mark.parametrize("release", ["flowers"], indirect=True)
def test_flowers_without_masks_ask_for_no_segmentations(release, tmp_path, monkeypatch):
    ways = dict.fromkeys(release.files, "well") | {"flowers/102segmentations.tgz": "page"}
    asked = Server(release, ways)
    monkeypatch.setattr(urllib.request, "urlopen", asked)
    plain = flowers.load("test", tmp_path, masks=False)
    assert plain["masks"] is None
    assert "flowers/102segmentations.tgz" not in asked.asked
    with pytest.raises(FileNotFoundError, match=r"segmim_00007\.jpg and 3 more .*masks=False"):
        flowers.load("test", tmp_path)
    ways["flowers/102segmentations.tgz"] = "well"
    full = flowers.load("test", tmp_path)
    assert len(full["masks"]) == 4
    for key in ("names", "images", "labels"):
        assert frozen(full[key]) == frozen(plain[key])


def test_a_real_server_s_answers(tmp_path, monkeypatch):
    """Over HTTP: without a length, cut, a page with status 200, chunked and cut."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    content = tar({"a/1.txt": random.Random(0).randbytes(5000)})

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            way = self.path.strip("/").removesuffix(".tgz")
            body = server.PAGE if way == "page" else content
            self.send_response(200)
            if way in ("length", "cut", "page"):
                self.send_header("Content-Length", str(len(body)))
            elif way == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            body = body[: len(body) // 2] if way in ("cut", "cutnolength") else body
            if way == "chunked":
                body = b"%x\r\n%s" % (len(body), body[:1000])
            self.wfile.write(body)
            self.close_connection = True

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as served:
        threading.Thread(target=served.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{served.server_port}/"
        for size in (None, len(content)):
            for way in ("length", "nolength"):
                file = File(f"{way}-{size}.tgz", size, None, (f"{host}{way}.tgz",))
                assert data.fetch(file, tmp_path / "root").read_bytes() == content
            for way, says in (
                *(("cut", "gave "), ("page", "web page"), ("chunked", "IncompleteRead")),
                ("cutnolength", "gave |cut off"),
            ):
                file = File(f"{way}.tgz", size, None, (f"{host}{way}.tgz",))
                with pytest.raises(ConnectionError, match=rf"{way}\.tgz .*({says}).*put it at"):
                    data.fetch(file, tmp_path / "root")
        served.shutdown()
    assert not [p for p in (tmp_path / "root").iterdir() if "length-" not in p.name]
