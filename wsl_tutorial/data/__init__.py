"""The data sets: where they live, how they are fetched, checked and unpacked; one module a set.

Files are looked for under a root folder (the argument, else `$WSL_DATA`, else the cache in the
home folder) before anything is downloaded. Nothing is downloaded at import, nothing is unpickled.
"""

import codecs
import gzip
import hashlib
import http.client
import importlib.util
import io
import json
import lzma
import os
import re
import secrets
import struct
import sys
import tarfile
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

__all__ = [
    *("SETS", "DataSet", "File", "Incomplete", "available", "checksums", "fetch", "home", "root"),
    *("unpack", "unpacked"),
]

AGAIN = "delete it and load again"  # the next call fetches or unpacks it, or says what to put where


class Incomplete(FileNotFoundError, ConnectionError):
    """A file of a data set is missing, and the archive that holds it could not be downloaded."""


@dataclass(frozen=True)
class File:
    """One file of a data set: `path` is relative to the root folder, `urls` are tried in turn.

    An empty `urls` marks a file that has no public address; `bytes` and `sha256` are None where
    they are not known. `holds` gives patterns of the file names inside an archive, so that only the
    archive that holds a missing file is fetched; without patterns, any name may be inside.
    """

    path: str
    bytes: int | None
    sha256: str | None
    urls: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()

    def gives(self, name: str) -> bool:
        """Return whether the file has this name, or may hold a file of this name."""
        if not _is_tar(self.path):
            return PurePosixPath(self.path).name == name
        return not self.holds or any(fnmatchcase(name, pattern) for pattern in self.holds)


@dataclass(frozen=True)
class DataSet:
    """What there is to know about a data set; `packaged` lists files inside installed packages."""

    name: str
    title: str
    licence: str
    files: tuple[File, ...] = ()
    packaged: tuple[str, ...] = ()
    same_as: str = ""  # another set that holds the same images
    folder: str = ""  # images and masks below it have too many forms to be files of the set


MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
SVHN = "http://ufldl.stanford.edu/housenumbers/"
TORONTO = "https://www.cs.toronto.edu/~kriz/"
OXFORD = "https://www.robots.ox.ac.uk/~vgg/data/"
CALTECH = "https://data.caltech.edu/records/"


def _mnist(name: str, size: int, sha256: str) -> File:
    urls = (MIRROR + name, "http://yann.lecun.com/exdb/mnist/" + name)
    return File(f"mnist/{name}", size, sha256, urls)


SETS = {
    s.name: s
    for s in (
        DataSet(
            "digits",
            "Optical recognition of handwritten digits, 1,797 images of 8 x 8 (in scikit-learn)",
            "CC BY 4.0 (UCI Machine Learning Repository)",
            packaged=("sklearn/datasets/data/digits.csv.gz",),
        ),
        DataSet(
            "mnist",
            "MNIST, 60,000 + 10,000 images of 28 x 28",
            "none stated at the source",
            (
                _mnist(
                    "train-images-idx3-ubyte.gz",
                    9912422,
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                ),
                _mnist(
                    "train-labels-idx1-ubyte.gz",
                    28881,
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                ),
                _mnist(
                    "t10k-images-idx3-ubyte.gz",
                    1648877,
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                ),
                _mnist(
                    "t10k-labels-idx1-ubyte.gz",
                    4542,
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ),
            ),
        ),
        DataSet(
            "cifar10",
            "CIFAR-10, 50,000 + 10,000 colour images of 32 x 32",
            "none stated at the source; cite Krizhevsky (2009)",
            (
                # MD5 c32a1d4ab5d03f1284b67883e8d87530 on the official page.
                File(
                    "cifar10/cifar-10-binary.tar.gz",
                    170052171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    (TORONTO + "cifar-10-binary.tar.gz",),
                ),
            ),
        ),
        DataSet(
            "cifar10-jpeg75",
            "CIFAR-10, JPEG-75 copy: lossy, in class folders",
            "as CIFAR-10; cite Krizhevsky (2009)",
            (
                File(
                    "cifar10-jpeg75.tar.gz",
                    19433861,
                    "70260124a4d2364bd32a0a222ddcd4197d2afa56725518368da092f67d4c29fe",
                ),
            ),
        ),
        DataSet(
            "cifar10-bird-cat",
            "CIFAR-10, the 5,000 birds and 5,000 cats of the training set, lossless",
            "as CIFAR-10; cite Krizhevsky (2009)",
            (
                File(
                    "cifar10-bird-cat/bird.webp",
                    8296128,
                    "7510ba4c5ce4a6f949ecc9fddb22baac4612530d54574120f27a81f732940c9c",
                ),
                File(
                    "cifar10-bird-cat/cat.webp",
                    8354990,
                    "68effb95217b189d616a05e84b8e156059984c2a3a15aee0574b85fb4665d0ab",
                ),
            ),
            same_as="cifar10",
        ),
        DataSet(
            "svhn-full",
            "Street View House Numbers, format 1 (full numbers), 33,402 + 13,068 + 202,353 images",
            "non-commercial use only; cite Netzer et al. (2011)",
            # The source publishes no checksums: these three are checked by their sizes.
            (
                File("svhn-full/train.tar.gz", 404141560, None, (SVHN + "train.tar.gz",)),
                File("svhn-full/test.tar.gz", 276555967, None, (SVHN + "test.tar.gz",)),
                File("svhn-full/extra.tar.gz", 1955489752, None, (SVHN + "extra.tar.gz",)),
            ),
        ),
        DataSet(
            "svhn-full-512",
            "SVHN full numbers, a sample of 256 training and 256 test images with boxes",
            "non-commercial use only; cite Netzer et al. (2011)",
            (
                File(
                    "svhn-full-512.tar.gz",
                    9581083,
                    "def100eeae21b7c077cb2d1841e3425d9fa01c4c10cbff279a180a7c5fec4c36",
                ),
            ),
        ),
        DataSet(
            "glas",
            "GlaS (Warwick-QU, 2015), 165 images of colon tissue with gland masks",
            "research use only; cite Sirinukunwattana et al. (2017)",
            # The images have too many forms to be listed: their checksum is taken, not compared.
            (
                File(
                    "glas/Grade.csv",
                    6832,
                    "215e0cfcc70493ad221348de0e0006b58897e8d4e502e585e28e3e410108261f",
                ),
            ),
            folder="glas",
        ),
        DataSet(
            "pets",
            "Oxford-IIIT Pet, 37 breeds of cats and dogs with trimaps, about 200 images each",
            "CC BY-SA 4.0; cite Parkhi et al. (2012)",
            (
                File(
                    "pets/images.tar.gz",
                    791918971,
                    "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
                    (OXFORD + "pets/data/images.tar.gz",),
                    ("*.jpg",),
                ),
                File(
                    "pets/annotations.tar.gz",
                    19173078,
                    "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
                    (OXFORD + "pets/data/annotations.tar.gz",),
                    ("*.png", "*.txt", "*.xml"),
                ),
            ),
        ),
        DataSet(
            "pets-3",
            "Oxford-IIIT Pet, three of its breeds, JPEG copy with a short side of 256 pixels",
            "CC BY-SA 4.0; cite Parkhi et al. (2012)",
            # One trimap of each breed stands for the 600 images.
            (
                File(
                    "pets/trimaps/Abyssinian_1.png",
                    1381,
                    "ca5d40d3753bc9b3336fc9236e2c700bfbd978535304c89e3c6b4122f5a616bb",
                ),
                File(
                    "pets/trimaps/Bengal_1.png",
                    1895,
                    "0627fc3844665010875b1baaae6c4fd6a79680437f639ee65b6bbc05d09a2a6f",
                ),
                File(
                    "pets/trimaps/american_bulldog_2.png",
                    1472,
                    "833853e0a75fa293c964e8c05b5c23bfba0fe6129209f641845c775f98c6e7f9",
                ),
            ),
            same_as="pets",
        ),
        DataSet(
            "cub",
            "CUB-200-2011, 11,788 images of 200 species of birds with boxes and segmentations",
            "non-commercial research and education only; cite Wah et al. (2011)",
            (
                File(
                    "cub/CUB_200_2011.tgz",
                    1150585339,
                    "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
                    (CALTECH + "65de6-vp158/files/CUB_200_2011.tgz",),
                    ("*.jpg", "*.txt"),
                ),
                File(
                    "cub/segmentations.tgz",
                    39272883,
                    "dc77f6cffea0cbe2e41d4201115c8f29a6320ecb04fffd2444f51b8066e4b84f",
                    (CALTECH + "w9d68-gec53/files/segmentations.tgz",),
                    ("*.png",),
                ),
            ),
        ),
        DataSet(
            "flowers",
            "Oxford Flowers 102, 8,189 images with segmentations",
            "none stated at the source; cite Nilsback & Zisserman (2008)",
            (
                File(
                    "flowers/102flowers.tgz",
                    344862509,
                    "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
                    (OXFORD + "flowers/102/102flowers.tgz",),
                    ("image_*.jpg",),
                ),
                # Neither size nor checksum is published.
                File(
                    "flowers/102segmentations.tgz",
                    None,
                    None,
                    (OXFORD + "flowers/102/102segmentations.tgz",),
                    ("segmim_*.jpg",),
                ),
                File(
                    "flowers/imagelabels.mat",
                    502,
                    "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
                    (OXFORD + "flowers/102/imagelabels.mat",),
                ),
                File(
                    "flowers/setid.mat",
                    14989,
                    "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
                    (OXFORD + "flowers/102/setid.mat",),
                ),
            ),
        ),
        DataSet(
            "houses",
            "Generated house numbers, drawn with the DejaVu fonts that come with matplotlib",
            "generated; MIT like the code",
            packaged=tuple(
                f"matplotlib/mpl-data/fonts/ttf/DejaVu{face}.ttf"
                for face in ("Sans", "Sans-Bold", "SansMono-Bold", "Serif", "Serif-Bold")
            ),
        ),
    )
}


def home() -> Path:
    """The user's cache folder, which downloads and decoded copies fall back to."""
    return Path.home() / ".cache" / "wsl-tutorial"


def root(root: str | os.PathLike | None = None) -> Path:
    """The folder that data sets are looked for in: `root`, else `$WSL_DATA`, else `home()`."""
    return Path(root or os.environ.get("WSL_DATA") or home()).expanduser()


def _roots(folder) -> tuple[Path, ...]:
    """An explicit root stands alone; the default root is followed by the cache folder."""
    return (root(folder),) if folder else tuple(dict.fromkeys((root(), home())))


def packaged(path: str) -> Path:
    """The place of a file inside an installed package, without importing the package."""
    package, _, inside = path.partition("/")
    return Path(importlib.util.find_spec(package).origin).parent / inside


def find(path: str, root: str | os.PathLike | None = None) -> Path | None:
    """Return the first file `path`, relative to the root folders, that is there, else None."""
    return next((p for r in _roots(root) if (p := r / path).is_file()), None)


def _set(name: str) -> DataSet:
    if name not in tuple(SETS):  # a list is no key, and no name either
        raise ValueError(f"name: no data set {name!r}, there are {', '.join(SETS)}")
    return SETS[name]


def available(name: str, root: str | os.PathLike | None = None) -> bool:
    """Whether all files of data set `name` are on this machine; downloads nothing.

    Raises `ValueError` for an unknown name.
    """
    s = _set(name)
    if not all(packaged(p).is_file() for p in s.packaged):
        return False
    if all(find(f.path, root) for f in s.files):
        return True
    return bool(s.same_as) and available(s.same_as, root)


def checksums(name: str, root: str | os.PathLike | None = None) -> dict[str, str]:
    """The SHA-256 of every file of data set `name` that is on this machine, for provenance.

    `FOLDER/*` has one for all images and masks below a folder: of the lines "name checksum", in the
    order of names. Only the first call reads the other files. Raises `ValueError` for an unknown
    name.
    """
    s = _set(name)
    found = {f.path: p for f in s.files if (p := find(f.path, root))}
    if not found and s.same_as:
        return checksums(s.same_as, root)
    found |= {p: packaged(p) for p in s.packaged}
    sums = {path: sha256(place) for path, place in found.items()}
    if s.folder and (inside := below(s.folder, root)):
        pictures = [p for _, p in sorted(inside.items()) if p.suffix in (".bmp", ".jpg", ".png")]
        lines = "".join(f"{p.name} {_hash(p)}\n" for p in pictures)
        sums[f"{s.folder}/*"] = hashlib.sha256(lines.encode()).hexdigest()
    return sums


def _hash(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sha256(path: Path) -> str:
    """The SHA-256 of a file, remembered by path, size and time of change."""
    return _remembered(path, "", _hash)


def _remembered(path: Path, what: str, compute: Callable[[Path], str]) -> str:
    """Return what `compute` makes of a file; only a changed file is read again."""
    stat, store = path.stat(), home() / "checksums.json"
    key = f"{what}{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
    try:
        known = json.loads(store.read_bytes())
    except (OSError, ValueError, RecursionError):
        known = {}
    known = known if isinstance(known, dict) else {}
    if not isinstance(known.get(key), str):
        known[key] = compute(path)
        with suppress(OSError), replacing(store) as temporary:
            temporary.write_text(json.dumps(known, indent=0))
    return known[key]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary file beside `path` and moves it there when the block ends without error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def fetch(file: File, root: str | os.PathLike | None = None) -> Path:
    """Return the checked local copy of `file`: found under the root folder, else downloaded there.

    A file without a known checksum has to be of the kind that its name states, and whole. The size
    is announced before a download starts; a download that is cut off or fails its check leaves no
    file behind. Raises `ValueError` where the local file fails its check, `FileNotFoundError` where
    a file without public address is missing, `ConnectionError` where no address gives the official
    file; each names the file and what to do.
    """
    damage = None
    for path in (r / file.path for r in _roots(root)):
        if path.is_file():
            try:
                return _checked(path, file, path, _remembered)
            except ValueError as error:  # another root may hold a whole one
                damage = damage or error
    if damage:
        raise ValueError(f"{damage}: {AGAIN}") from damage
    path = _writable(root) / file.path
    place = f"put it at {path}, or set WSL_DATA to a folder that holds {file.path}"
    if not file.urls:
        raise FileNotFoundError(f"{file.path} has no public address: {place}")
    failures = []
    for url in file.urls:
        try:
            with replacing(path) as temporary:
                _download(url, temporary, file)
                _checked(temporary, file, url, lambda path, _, compute: compute(path))
            return path
        except (OSError, ValueError, http.client.HTTPException) as error:
            failures.append(f"{url} ({error})")
    raise ConnectionError(
        f"{file.path} could not be downloaded from {', '.join(failures)}: {place}"
    )


def _writable(folder) -> Path:
    """The first root that files can be written to; the last one where none can."""
    roots = _roots(folder)
    return next(filter(_can_write, roots), roots[-1])


def _can_write(folder: Path) -> bool:
    """Whether `folder` may be written to or created; its mode binds the superuser, too."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    return os.access(there, os.W_OK) and bool(there.stat().st_mode & 0o222)


def _checked(path: Path, file: File, source, read: Callable) -> Path:
    size = path.stat().st_size
    if file.bytes and size != file.bytes:
        raise ValueError(f"{source}: has {size:,} bytes, {file.path} has {file.bytes:,}")
    if file.sha256:
        if (got := read(path, "", _hash)) != file.sha256:
            raise ValueError(f"{source}: has SHA-256 {got}, {file.path} has {file.sha256}")
    elif wrong := read(path, "kind of ", lambda path: _kind(path, file.path)):
        raise ValueError(f"{source}: is not {file.path}: it is {wrong}")
    return path


def _is_tar(name: str) -> bool:
    return bool(re.search(r"\.(tgz|tar(\.\w+)?)$", name))


PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)\b", re.I | re.S
)
MATLAB = re.compile(rb"MATLAB (?:5\.0|7\.3) MAT-file")


def _kind(path: Path, name: str) -> str:
    """Return what is wrong with a file that should be `name`, "" where it is whole."""
    with open(path, "rb") as f:
        head = f.read(1024)
    suffix = PurePosixPath(name).suffix
    if not head:
        return "empty"
    if PAGE.match(head):
        return "a web page"
    if suffix == ".mat" and not MATLAB.match(head):
        return "no MATLAB file"
    try:
        if _is_tar(name):
            for _ in members(path):
                pass
        elif suffix == ".gz":
            with gzip.open(path) as f:
                while f.read(1 << 20):
                    pass
        elif suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                return f"damaged in {bad}" if (bad := archive.testzip()) else ""
        elif suffix in (".bmp", ".jpg", ".png", ".webp"):
            with image(path) as picture:
                picture.load()
    except (gzip.BadGzipFile, zipfile.BadZipFile, *UNREADABLE) as error:
        return f"cut off, or of another kind ({error})"
    return ""


def _download(url: str, target: Path, file: File) -> None:
    with urllib.request.urlopen(url, timeout=30) as answer, open(target, "wb") as out:
        size = file.bytes or int(answer.headers.get("Content-Length") or 0)  # 0: not known
        announced = f"{size / 1e6:,.1f} MB" if size else "of unknown size"
        print(f"Downloading {file.path}, {announced}, from {url}", file=sys.stderr)
        got = 0  # the bar's own count stays 0 where bars are switched off
        with tqdm(total=size or None, unit="B", unit_scale=True, leave=False) as bar:
            while block := answer.read(1 << 20):
                if not got and PAGE.match(block):
                    raise ValueError("answered with a web page")
                out.write(block)
                bar.update(len(block))
                got += len(block)
                if size and got > size:  # longer than the official file: do not fill the disk
                    break
        if size and got != size:
            raise ValueError(f"gave {got:,} bytes or more, expected {size:,}")


@contextmanager
def image(file: Path | bytes, name: str = "") -> Iterator:
    """Give the opened image (Pillow) of a path, or of the bytes of a file called `name`.

    Whatever goes wrong inside the block because the file is cut off, or no image, is raised as a
    `ValueError` that names the file; a missing file raises `FileNotFoundError`.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as opened:
            yield opened
    except (OSError, *UNREADABLE, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno:  # missing, or not ours to read
            raise
        raise ValueError(f"{name or file}: is no whole image ({error}): {AGAIN}") from error


UNREADABLE = (  # what decoders raise for damaged bytes
    *(EOFError, IndexError, KeyError, NotImplementedError, OverflowError, RecursionError),
    *(SyntaxError, TypeError, ValueError, struct.error, zlib.error),
)
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark begins alike
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def text(file: Path | bytes, encoding: str = "") -> str:
    """Return the text of a file, or of its bytes, without a byte-order mark.

    The mark decides the encoding, else `encoding` does; without both it is UTF-8, or Latin-1 where
    the bytes are no UTF-8. Raises `ValueError` for bytes that the encoding has not, `LookupError`
    for an unknown encoding.
    """
    content = file if isinstance(file, bytes) else file.read_bytes()
    marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    try:
        return content.decode(marked or encoding or "utf-8")
    except UnicodeDecodeError:
        if marked or encoding:
            raise
        return content.decode("latin-1")


class _Header(tarfile.TarInfo):
    """A header of a tar archive: only blocks of zeros end the archive, anything else is damage."""

    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:
            raise
        except (tarfile.HeaderError, *UNREADABLE) as error:
            raise tarfile.ReadError(f"no header at byte {tar.offset:,}: {error}") from error


def members(archive: str | os.PathLike) -> Iterator[tuple[str, bytes]]:
    """The regular files of a tar archive as (name, content), in the archive's order.

    Raises `ValueError` at a member that is a link or a device or whose name leaves the archive, and
    for an archive that is cut off, damaged or none.
    """
    try:
        with tarfile.open(archive, tarinfo=_Header) as tar:
            for member in tar:
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or set(member.name) & set("\\:\0"):
                    raise ValueError(f"archive: {member.name!r} leaves {archive}: {AGAIN}")
                if not (member.isreg() or member.isdir()):
                    raise ValueError(
                        f"archive: {member.name!r} in {archive} is no regular file: {AGAIN}"
                    )
                if member.isreg():
                    yield str(name), tar.extractfile(member).read()
            while tar.fileobj.read(1 << 20):  # to the compressed file's own checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # missing, or not ours to read
            raise
        why = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"archive: {archive} is cut off, or none ({why}): {AGAIN}") from error


def unpack(archive: str | os.PathLike, folder: str | os.PathLike) -> Path:
    """Writes the regular files of a tar archive under `folder`, all of them or none.

    Returns `folder`. Raises `FileExistsError` where `folder` exists, `ValueError` as `members`.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"folder: {folder} exists already")
    return _unpack(archive, folder, ())


def _unpack(archive, folder: Path, there: Iterable[str]) -> Path:
    """Write the files of an archive that are not `there`, once the whole archive has been read."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        inside, new = Path(temporary) / "files", []
        inside.mkdir()
        for name, content in members(archive):
            if PurePosixPath(name).name not in there:
                (inside / name).parent.mkdir(parents=True, exist_ok=True)
                (inside / name).write_bytes(content)
                new.append(name)
        if not folder.exists():
            os.replace(inside, folder)
            return folder
        for name in new:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(inside / name, folder / name)
    return folder


def unpacked(
    name: str, wanted: str | Iterable[str], root: str | os.PathLike | None = None
) -> dict[str, Path]:
    """Return the files of data set `name`, by their names without folders; `wanted` are among them.

    Files are looked for below ROOT/NAME, at any depth. For those of `wanted` that are missing, the
    archives that hold them, and no others, are fetched, and what is missing is unpacked into a
    folder there. Hidden files are no part of a set. Raises as `fetch` and `members`;
    `FileNotFoundError` where a wanted file is in no archive.
    """
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    found, files = below(name, root), _set(name).files
    plain = {PurePosixPath(f.path).name for f in files if not _is_tar(f.path)}
    for file in sorted(files, key=lambda f: find(f.path, root) is None):  # what is here comes first
        elsewhere = {*found, *(plain if _is_tar(file.path) else ())}
        if missing := [w for w in wanted if w not in elsewhere and file.gives(w)]:
            try:
                path = fetch(file, root)
            except ConnectionError as error:
                raise Incomplete(f"{_missing(missing)}: {error}") from error
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{_missing(missing)}: {error}") from error
            if _is_tar(path.name):
                _unpack(path, _writable(root) / name / path.name.partition(".")[0], found)
            found = below(name, root)
    if missing := [w for w in wanted if w not in found]:
        places = ", ".join(f.path for f in files if f.gives(missing[0])) or "no official file"
        folder = _roots(root)[0] / name
        raise FileNotFoundError(f"{_missing(missing)} ({places}): put it below {folder}")
    return found


def _missing(names: list[str]) -> str:
    more = f" and {len(names) - 1} more files are" if names[1:] else " is"
    return f"{names[0]}{more} missing from the data set"


def below(name: str, root: str | os.PathLike | None = None) -> dict[str, Path]:
    """Return all files below ROOT/NAME by their names; hidden ones are no part of a set."""
    folders = (r / name for r in reversed(_roots(root)))
    inside = ((f, p) for f in folders for p in sorted(f.rglob("*")) if p.is_file())
    return {p.name: p for f, p in inside if not any(x[0] == "." for x in p.relative_to(f).parts)}


def cached(
    name: str,
    build: Callable[[], dict[str, np.ndarray]],
    root: str | os.PathLike | None = None,
    keys: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """The arrays that `build` makes, kept in `cache/NAME.npz` under the first writable root.

    `name` has to change with whatever the arrays are made from. A kept file that cannot be read or
    lacks one of `keys` is built anew. Where no folder can be written to, nothing is kept.
    """
    places = [r / "cache" / f"{name}.npz" for r in dict.fromkeys((*_roots(root), home()))]
    for path in filter(Path.is_file, places):
        with suppress(OSError, zipfile.BadZipFile, AttributeError, *UNREADABLE):
            with np.load(path, allow_pickle=False) as arrays:
                kept = dict(arrays)
            if kept.keys() >= set(keys):
                return kept
    arrays = build()
    for path in filter(lambda p: _can_write(p.parent), places):
        with suppress(OSError), replacing(path) as temporary:
            with open(temporary, "wb") as f:
                np.savez(f, **arrays)
            break
    return arrays
