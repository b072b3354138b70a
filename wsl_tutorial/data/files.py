"""Fetch, check, unpack and cache the files of the data sets; `registry` lists them."""

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
from pathlib import Path, PurePosixPath

import numpy as np

from .registry import SETS, DataSet, File, is_tar

AGAIN = "delete it and load again"  # the next call fetches or unpacks it, or says what to put where


class Incomplete(FileNotFoundError, ConnectionError):
    """Report that a file of a data set is missing and its archive could not be downloaded."""


def home() -> Path:
    """Return the user's cache folder, the fallback for downloads and decoded copies."""
    return Path.home() / ".cache" / "wsl-tutorial"


def root(root: str | os.PathLike | None = None) -> Path:
    """Return the folder with the data sets: `root`, else `$WSL_DATA`, else `home()`."""
    return Path(root or os.environ.get("WSL_DATA") or home()).expanduser()


def _roots(folder) -> tuple[Path, ...]:
    """Return the folders to search: an explicit root alone, or the default root and the cache."""
    return (root(folder),) if folder else tuple(dict.fromkeys((root(), home())))


def packaged(path: str) -> Path:
    """Return the path of a file inside an installed package, without importing the package."""
    package, _, inside = path.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{path} comes with {package}, which is not installed")
    return Path(spec.origin).parent / inside


def find(path: str, root: str | os.PathLike | None = None) -> Path | None:
    """Return the first file `path`, relative to the root folders, that is there, else None."""
    return next((p for r in _roots(root) if (p := r / path).is_file()), None)


def _set(name: str) -> DataSet:
    if name not in tuple(SETS):  # a list is neither a key nor a name
        raise ValueError(f"name: no data set {name!r}, there are {', '.join(SETS)}")
    return SETS[name]


def available(name: str, root: str | os.PathLike | None = None) -> bool:
    """Return whether all files of data set `name` are on this machine; download nothing.

    Raises `ValueError` for an unknown name.
    """
    s = _set(name)
    try:
        if not all(packaged(p).is_file() for p in s.packaged):
            return False
    except FileNotFoundError:
        return False
    if all(find(f.path, root) for f in s.files):
        return True
    return bool(s.same_as) and available(s.same_as, root)


def checksums(name: str, root: str | os.PathLike | None = None) -> dict[str, str]:
    """Return the SHA-256 of every file of data set `name` on this machine, for provenance.

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
    """Return the SHA-256 of a file, remembered by path, size and time of change."""
    return _remembered(path, "", _hash)


def _remembered(path: Path, what: str, compute: Callable[[Path], str]) -> str:
    """Return `compute(path)`; only a changed file is read again."""
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
    """Yield a temporary file beside `path`; move it there if the block ends without an error."""
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
    file. Raises `ValueError` where the local file fails its check, `FileNotFoundError` where
    a file without public address is missing, `ConnectionError` where no address gives the official
    file; each names the file and what to do.
    """
    damage = None
    for path in (r / file.path for r in _roots(root)):
        if path.is_file():
            try:
                return _checked(path, file, path, _remembered)
            except ValueError as error:  # another root may have an intact one
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
    """Return the first root that can be written to, or the last one if none can."""
    roots = _roots(folder)
    return next(filter(_can_write, roots), roots[-1])


def _can_write(folder: Path) -> bool:
    """Return whether `folder` may be written to or created; its mode binds the superuser too."""
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
        if is_tar(name):
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
    from tqdm import tqdm

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
    """Yield the opened image (Pillow) of a path, or of the bytes of a file called `name`.

    Raises `ValueError` with the name of the file if it is cut off or not an image, also for errors
    inside the block; `FileNotFoundError` if it is missing.
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
    the bytes are not UTF-8. Raises `ValueError` for bytes that the encoding lacks, `LookupError`
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
    """Read a header of a tar archive: only blocks of zeros end it, anything else is damage."""

    @classmethod
    def fromtarfile(cls, tar):
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            raise
        except (tarfile.HeaderError, *UNREADABLE) as error:
            raise tarfile.ReadError(f"no header at byte {tar.offset:,}: {error}") from error


def members(archive: str | os.PathLike) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a tar archive as (name, content), in the archive's order.

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
                if (file := tar.extractfile(member)) is not None:
                    yield str(name), file.read()
            while tar.fileobj.read(1 << 20):  # to the compressed file's own checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # missing, or not ours to read
            raise
        why = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(f"archive: {archive} is cut off, or none ({why}): {AGAIN}") from error


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
    folder there. Hidden files do not belong to a set. Raises as `fetch` and `members`;
    `FileNotFoundError` where a wanted file is in no archive.
    """
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    found, files = below(name, root), _set(name).files
    plain = {PurePosixPath(f.path).name for f in files if not is_tar(f.path)}
    for file in sorted(files, key=lambda f: find(f.path, root) is None):  # what is here comes first
        elsewhere = {*found, *(plain if is_tar(file.path) else ())}
        if missing := [w for w in wanted if w not in elsewhere and file.gives(w)]:
            try:
                path = fetch(file, root)
            except ConnectionError as error:
                raise Incomplete(f"{_missing(missing)}: {error}") from error
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{_missing(missing)}: {error}") from error
            if is_tar(path.name):
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
    """Return all files below ROOT/NAME by their names, except hidden ones."""
    folders = (r / name for r in reversed(_roots(root)))
    inside = ((f, p) for f in folders for p in sorted(f.rglob("*")) if p.is_file())
    return {p.name: p for f, p in inside if not any(x[0] == "." for x in p.relative_to(f).parts)}


def cached(
    name: str,
    build: Callable[[], dict[str, np.ndarray]],
    root: str | os.PathLike | None = None,
    keys: Iterable[str] = (),
) -> dict[str, np.ndarray]:
    """Return the arrays that `build` makes, kept in `cache/NAME.npz` under the first writable root.

    `name` has to change with everything that the arrays depend on. A kept file that lacks one of
    `keys`, or whose bytes have changed, is named on stderr and built again; if the system refuses
    to read it, its error is raised. If no folder can be written to, nothing is kept.
    """
    places = [r / "cache" / f"{name}.npz" for r in dict.fromkeys((*_roots(root), home()))]
    for path in filter(Path.is_file, places):
        try:
            with np.load(path, allow_pickle=False) as arrays:
                kept = dict(arrays)
            if kept.keys() >= set(keys):
                return kept
        except (OSError, MemoryError):
            if not damaged(path.read_bytes()):  # a cut file may be an OSError as well
                raise
        except Exception as error:
            print(f"{path}: {error}", file=sys.stderr)
        print(f"{path} is damaged, or lacks arrays, and is made anew.", file=sys.stderr)
    arrays = build()
    for path in filter(lambda p: _can_write(p.parent), places):
        with suppress(OSError), replacing(path) as temporary:
            with open(temporary, "wb") as f:
                np.savez(f, **arrays)  # pyright: ignore[reportArgumentType]
            break
    return arrays


def damaged(content: bytes) -> bool:
    """Return whether these are not the bytes of a whole zip file (as .npz and .pt files are).

    Every member is compared with its checksum. Other errors, such as too
    little memory, are raised.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.testzip() is not None
    except MemoryError:
        raise
    except Exception:  # of a damaged header: BadZipFile, zlib.error, NotImplementedError, ...
        return True
