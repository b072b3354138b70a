"""The data sets that there are; files.csv is the table of their files, a line each."""

import csv
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class File:
    """Describe one file: `path` is relative to the root folder, `urls` are tried in turn.

    A file without `urls` has no public address; `bytes` and `sha256` are None where they are not
    known. `holds` are patterns of the file names inside an archive, so that only the archive with a
    missing file is fetched; without patterns, any name may be inside.
    """

    path: str
    bytes: int | None
    sha256: str | None
    urls: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()

    def gives(self, name: str) -> bool:
        """Return whether the file has this name, or may hold a file of this name."""
        if not is_tar(self.path):
            return PurePosixPath(self.path).name == name
        return not self.holds or any(fnmatchcase(name, pattern) for pattern in self.holds)


def is_tar(name: str) -> bool:
    """Return whether a file of this name is a tar archive, compressed or not."""
    return bool(re.search(r"\.(tgz|tar(\.\w+)?)$", name))


@dataclass(frozen=True)
class DataSet:
    """Describe a data set; `packaged` lists files inside installed packages."""

    name: str
    title: str
    licence: str
    files: tuple[File, ...] = ()
    packaged: tuple[str, ...] = ()
    same_as: str = ""  # another set with the same images
    folder: str = ""  # images and masks below it have too many forms to be listed as files


_SETS = (
    DataSet(
        "digits",
        "Optical recognition of handwritten digits, 1,797 images of 8 x 8 (in scikit-learn)",
        "CC BY 4.0 (UCI Machine Learning Repository)",
        packaged=("sklearn/datasets/data/digits.csv.gz",),
    ),
    DataSet("mnist", "MNIST, 60,000 + 10,000 images of 28 x 28", "none stated at the source"),
    DataSet(  # the official page gives the MD5 c32a1d4ab5d03f1284b67883e8d87530
        "cifar10",
        "CIFAR-10, 50,000 + 10,000 colour images of 32 x 32",
        "none stated at the source; cite Krizhevsky (2009)",
    ),
    DataSet(
        "cifar10-jpeg75",
        "CIFAR-10, JPEG-75 copy: lossy, in class folders",
        "as CIFAR-10; cite Krizhevsky (2009)",
    ),
    DataSet(
        "cifar10-bird-cat",
        "CIFAR-10, the 5,000 birds and 5,000 cats of the training set, lossless",
        "as CIFAR-10; cite Krizhevsky (2009)",
        same_as="cifar10",
    ),
    DataSet(  # the source publishes no checksums: the files are checked by their sizes
        "svhn-full",
        "Street View House Numbers, format 1 (full numbers), 33,402 + 13,068 + 202,353 images",
        "non-commercial use only; cite Netzer et al. (2011)",
    ),
    DataSet(
        "svhn-full-512",
        "SVHN full numbers, a sample of 256 training and 256 test images with boxes",
        "non-commercial use only; cite Netzer et al. (2011)",
    ),
    DataSet(
        "glas",
        "GlaS (Warwick-QU, 2015), 165 images of colon tissue with gland masks",
        "research use only; cite Sirinukunwattana et al. (2017)",
        folder="glas",
    ),
    DataSet(
        "pets",
        "Oxford-IIIT Pet, 37 breeds of cats and dogs with trimaps, about 200 images each",
        "CC BY-SA 4.0; cite Parkhi et al. (2012)",
    ),
    DataSet(  # one trimap of each breed stands for the 600 images
        "pets-3",
        "Oxford-IIIT Pet, three of its breeds, JPEG copy with a short side of 256 pixels",
        "CC BY-SA 4.0; cite Parkhi et al. (2012)",
        same_as="pets",
    ),
    DataSet(
        "cub",
        "CUB-200-2011, 11,788 images of 200 species of birds with boxes and segmentations",
        "non-commercial research and education only; cite Wah et al. (2011)",
    ),
    DataSet(
        "flowers",
        "Oxford Flowers 102, 8,189 images with segmentations",
        "none stated at the source; cite Nilsback & Zisserman (2008)",
    ),
    DataSet(  # of version 0.1-5: later versions compress the file
        "votes",
        "Registered voters of 212 precincts of North Carolina (2001), race by party, eiPack's senc",
        "GPL 2 or later (R package eiPack); public records; cite Lau, Moore & Kellermann (2007)",
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
    DataSet(
        "musk1",
        "Musk 1, 92 molecules with 476 shapes of 166 distances",
        "CC BY 4.0 (UCI Machine Learning Repository)",
        same_as="musk1-table",
    ),
    DataSet(
        "musk2",
        "Musk 2, 102 molecules with 6,598 shapes of 166 distances",
        "CC BY 4.0 (UCI Machine Learning Repository)",
        same_as="musk2-table",
    ),
    DataSet(
        "musk1-table",
        "Musk 1, a copy with rows of label, bag and features",
        "as Musk 1; cite Dietterich et al. (1997)",
    ),
    DataSet(
        "musk2-table",
        "Musk 2, a copy with rows of label, bag and features",
        "as Musk 2; cite Dietterich et al. (1997)",
    ),
    DataSet(
        "elephant",
        "Elephant, 200 images with 1,391 segments of 230 features, rows of label, bag and features",
        "none stated at the source; cite Andrews et al. (2002)",
    ),
)


def _files() -> dict[str, tuple[File, ...]]:
    """Read files.csv: the files of each data set, in their order."""
    found: dict[str, tuple[File, ...]] = {}
    with open(Path(__file__).with_name("files.csv"), newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            size, digest = int(row["bytes"] or 0) or None, row["sha256"] or None
            urls, holds = (tuple(row[name].split()) for name in ("urls", "holds"))
            file = File(row["path"], size, digest, urls, holds)
            found[row["set"]] = (*found.get(row["set"], ()), file)
    return found


_FILES = _files()
SETS = {s.name: replace(s, files=_FILES.get(s.name, ())) for s in _SETS}
