"""Votes: registered voters of 212 precincts of south-east North Carolina (2001), race by party.

The file is `senc.tab` of the R package eiPack (Lau, Moore & Kellermann 2007), from the records of
the North Carolina General Assembly. Race and party of each voter are on the register, so that the
cross table of each precinct is known, and methods that see its margins alone can be checked.
"""

import csv
import os

import numpy as np
import torch

from wsl_tutorial.data import files
from wsl_tutorial.data.registry import SETS

GROUPS = ("white", "black", "natam")  # natam: Native American
PARTIES = ("dem", "rep", "non")  # non: unaffiliated
CELLS = tuple(f"{group}{party}" for group in ("wh", "bl", "natam") for party in PARTIES)
HEADER = ["county", "precinct", "total", *GROUPS, *PARTIES, *CELLS]


def load(root: str | os.PathLike | None = None) -> dict:
    """Load the precincts, in the order of the file: by county.

    Returns counties and precincts (m strings each); groups (m, 3) int64, the voters of each of
    `GROUPS`; parties (m, 3) int64, those of each of `PARTIES`; tables (m, 3, 3) int64, the true
    cross table, a row a group.
    Raises as `files.fetch`, and as `parse`.
    """
    (file,) = SETS["votes"].files
    return parse(files.text(files.fetch(file, root)))


def parse(text: str) -> dict:
    """Parse the text of the file; see `load` for the result.

    Raises ValueError, with the number of the line, for another header, for a line that is not a row
    name, two names and 16 counts, and where the margins of a table are not those of its line.
    """
    lines = list(csv.reader(text.splitlines(), delimiter=" ", skipinitialspace=True))
    if not lines or lines[0] != HEADER:
        raise ValueError(f"senc.tab: line 1 is {lines[:1]}, expected {HEADER}: {files.AGAIN}")
    rows = [(number, row) for number, row in enumerate(lines[1:], 2) if row]
    if not rows:
        raise ValueError(f"senc.tab: has no precinct: {files.AGAIN}")
    counts = torch.from_numpy(np.array([_counts(number, row) for number, row in rows]))  # (m, 16)
    total, groups, parties, cells = counts.split((1, 3, 3, 9), 1)
    tables = cells.unflatten(1, (3, 3))
    agree = (tables.sum(2) == groups).all(1) & (tables.sum(1) == parties).all(1)
    agree &= groups.sum(1) == total[:, 0]
    if not bool(agree.all()):
        number, row = rows[int((~agree).nonzero()[0])]
        raise ValueError(f"senc.tab: line {number}, {row[2]}, does not add up: {files.AGAIN}")
    return {
        "counties": [row[1] for _, row in rows],
        "precincts": [row[2] for _, row in rows],
        "groups": groups,
        "parties": parties,
        "tables": tables,
    }


def _counts(number: int, row: list[str]) -> list[int]:
    """Return the counts of a line: total, groups, parties and cells."""
    fields = row[3:]
    if len(fields) != len(HEADER) - 2 or not all(map(_is_count, fields)):
        raise ValueError(
            f"senc.tab: line {number} is {row}, expected a row name, a county, a precinct and "
            f"{len(HEADER) - 2} counts: {files.AGAIN}"
        )
    return [int(field) for field in fields]


def _is_count(field: str) -> bool:
    return field.isascii() and field.isdecimal() and len(field) < 10
