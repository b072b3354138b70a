"""The data sets: one module a set, their files in `registry`, and how these are had in `files`.

Files are looked for under a root folder (the argument, else `$WSL_DATA`, else the cache in the
home folder) before anything is downloaded. Nothing is downloaded at import, nothing is unpickled.
"""

from .files import (
    Incomplete,
    available,
    cached,
    checksums,
    damaged,
    fetch,
    home,
    root,
    unpacked,
)
from .registry import SETS, DataSet, File

__all__ = [
    "SETS",
    "DataSet",
    "File",
    "Incomplete",
    "available",
    "cached",
    "checksums",
    "damaged",
    "fetch",
    "home",
    "root",
    "unpacked",
]
