"""Read bags from tables: Musk 1 and Musk 2 (molecules), Elephant (images), and tables of your own.

A bag of Musk is a molecule and its instances are the molecule's shapes, 166 distances each; it is
positive if the molecule smells of musk. A bag of Elephant is an image and its instances are
segments, 230 numbers on colour, texture and shape each. In all three a bag is said to be positive
if at least one instance is.

Get Musk from the UCI repository (https://archive.ics.uci.edu/dataset/74 and /75), uncompress
`clean1.data.Z` and `clean2.data.Z` with `gzip -d`, and put `clean1.data` and `clean2.data` under
ROOT/musk. Copies as tables, ROOT/mil/musk1.csv.gz, are read where the official files are missing.
Cite Dietterich, Lathrop and Lozano-Perez (1997) for Musk; Andrews, Tsochantaridis and Hofmann
(2002) for Elephant.
"""

import csv
import gzip
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.bags import of_sizes
from wsl_tutorial.data.registry import SETS

# set: official file, bags, positive bags, instances, features
KNOWN = {
    "musk1": ("musk/clean1.data", 92, 47, 476, 166),
    "musk2": ("musk/clean2.data", 102, 39, 6598, 166),
    "elephant": ("mil/elephant.csv.gz", 200, 100, 1391, 230),
}
Row = tuple[str, float, list[float]]  # bag, label, features


def load(name: str, root: str | os.PathLike | None = None) -> dict:
    """Load "musk1", "musk2" or "elephant", bags in the order of the file.

    Returns names (M strings); instances float64 (N, D); bags int64 (N,), the number 0..M-1 of each
    instance's bag; labels bool (M,).
    Raises ValueError for another name, for a file that cannot be read, and where the numbers of
    bags, positive bags, instances or features are not the published ones; FileNotFoundError where
    the data set is missing.
    """
    if name not in tuple(KNOWN):
        raise ValueError(f"name: got {name!r}, expected one of {', '.join(KNOWN)}")
    official, *published = KNOWN[name]
    copy = SETS[SETS[name].same_as] if SETS[name].same_as else SETS[name]
    if files.find(official, root) or not files.find(copy.files[0].path, root):
        path = files.fetch(SETS[name].files[0], root)
    else:
        path = files.fetch(copy.files[0], root)
    found = read(path)
    labels, x = found["labels"], found["instances"]
    counts = [len(labels), int(labels.sum()), *x.shape]
    if counts != published:
        what = "bags, positive bags, instances and features"
        raise ValueError(f"{path}: holds {counts} {what}, {name} has {published}: {files.AGAIN}")
    return found


def read(path: str | os.PathLike) -> dict:
    """Read bags from a file, in the order of their first rows; returns what `load` returns.

    A file of UCI's form (`clean1.data`) has rows "molecule,shape,features...,class." with the class
    0 or 1. Any other file has rows "label,bag,features..." with the label 0 or 1 (or -1 and 1) and
    no header. The file may be gzipped (.gz).
    Raises ValueError, with the number of the line, for a row that does not fit, for a feature that
    is not finite, and for a bag whose rows disagree on its label.
    """
    path = Path(path)
    parse = _uci if path.name.removesuffix(".gz").endswith(".data") else _table
    names: dict[str, int] = {}
    labels, bags, x = [], [], []
    for line, row in _lines(path):
        bag, label, features = _parsed(parse, row, f"{path}, line {line}")
        if x and len(features) != len(x[0]):
            raise ValueError(
                f"{path}, line {line}: has {len(features)} features, the first has {len(x[0])}"
            )
        if bag not in names:
            names[bag] = len(names)
            labels.append(label)
        elif labels[names[bag]] != label:
            raise ValueError(f"{path}, line {line}: bag {bag!r} has both labels")
        bags.append(names[bag])
        x.append(features)
    if not x:
        raise ValueError(f"{path}: holds no row: {files.AGAIN}")
    return {
        "names": list(names),
        "instances": torch.tensor(x, dtype=torch.float64),
        "bags": torch.tensor(bags),
        "labels": torch.tensor(labels) > 0,
    }


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of every row that is not blank."""
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        for line, row in enumerate(csv.reader(files.text(content).splitlines()), 1):
            if any(field.strip() for field in row):
                yield line, row
    except (gzip.BadGzipFile, csv.Error, *files.UNREADABLE) as error:
        raise ValueError(f"{path}: cannot be read ({error}): {files.AGAIN}") from error


def _parsed(parse, row: list[str], where: str) -> Row:
    try:
        bag, label, features = parse([field.strip() for field in row])
    except (ValueError, IndexError) as error:
        raise ValueError(f"{where}: is no row of a bag ({error})") from error
    if label not in (-1, 0, 1) or not features or not bag:
        raise ValueError(f"{where}: expected a bag, a label 0 or 1, and features")
    if any(value - value != 0 for value in features):  # inf and NaN
        raise ValueError(f"{where}: a feature is not finite; remove or replace it")
    return bag, max(label, 0), features


def _uci(row: list[str]) -> Row:
    return row[0], int(row[-1].removesuffix(".")), [float(value) for value in row[2:-1]]


def _table(row: list[str]) -> Row:
    return row[1], float(row[0]), [float(value) for value in row[2:]]


def batch(bags: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where each bag's instances are: index (M, n) int64 (0 in the padding), mask (M, n).

    bags int64 (N,): numbers 0..M-1, every one of them there, in any order. `x[index]` is then the
    padded batch (M, n, D). Raises ValueError for other bags.
    """
    if bags.dim() != 1 or bags.dtype != torch.int64 or not len(bags) or int(bags.min()) < 0:
        raise ValueError(
            "bags must be int64 of shape (N,), numbers 0..M-1 with none missing, got "
            f"{bags.dtype} of shape {tuple(bags.shape)}; number them with torch.unique"
        )
    sizes = torch.bincount(bags)
    if bool((sizes == 0).any()):
        raise ValueError(
            f"bags must be int64 of shape (N,), numbers 0..M-1 with none missing, got no "
            f"{int(sizes.argmin())}; number them with torch.unique"
        )
    padded = of_sizes(torch.sort(bags, stable=True)[1], sizes)
    return padded.index, padded.mask
