"""The voters of North Carolina: the official form of the file, its margins, and what is wrong."""

import hashlib
from dataclasses import replace

import pytest
import torch
from real_data import REAL, needs

from wsl_tutorial import data
from wsl_tutorial.data import votes

LINES = [
    " ".join(f'"{name}"' for name in votes.HEADER),
    '"1" "Here" "NORTH 1" 12 6 4 2 7 3 2 3 2 1 3 0 1 1 1 0',
    '"2" "New There" "SOUTH" 5 5 0 0 1 4 0 1 4 0 0 0 0 0 0 0',
]


@pytest.fixture
def fixture(tmp_path, monkeypatch):
    """A tiny file in the official format, under its official name and with its own checksum."""
    content = ("\n".join(LINES) + "\n").encode()
    (tmp_path / "votes").mkdir()
    (tmp_path / "votes" / "senc.tab").write_bytes(content)
    known = data.SETS["votes"]
    (file,) = known.files
    file = replace(file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(data.SETS, "votes", replace(known, files=(file,)))
    return tmp_path


def test_the_file_is_read_as_it_is_written(fixture):
    got = votes.load(fixture)
    assert got["counties"] == ["Here", "New There"]
    assert got["precincts"] == ["NORTH 1", "SOUTH"]
    assert got["groups"].tolist() == [[6, 4, 2], [5, 0, 0]]
    assert got["parties"].tolist() == [[7, 3, 2], [1, 4, 0]]
    assert got["tables"][0].tolist() == [[3, 2, 1], [3, 0, 1], [1, 1, 0]]
    assert all(got[name].dtype == torch.int64 for name in ("groups", "parties", "tables"))


def test_another_file_of_the_name_is_refused(fixture):
    path = fixture / "votes" / "senc.tab"
    path.write_bytes(path.read_bytes().replace(b"12", b"13"))
    with pytest.raises(ValueError, match=r"SHA-256.*delete it and load again"):
        votes.load(fixture)


@pytest.mark.parametrize(
    ("line", "old", "new", "message"),
    [
        (0, '"natam" ', "", "line 1 is .*expected"),
        (1, "12 6", "13 6", "line 2, NORTH 1, does not add up"),
        (1, "7 3 2 3", "8 2 2 3", "line 2, NORTH 1, does not add up"),
        (2, "5 5 0", "5 4 1", "line 3, SOUTH, does not add up"),
        (2, "5 5 0", "5 -5 0", "line 3 is .*16 counts"),
        (2, "5 5 0", "5 5.0 0", "line 3 is .*16 counts"),
        (2, "5 5 0", "5 ² 0", "line 3 is .*16 counts"),
        (2, "5 5 0", "5 9999999999999999999999 0", "line 3 is .*16 counts"),
        (2, " 0 0 0", "", "line 3 is .*16 counts"),
    ],
)
def test_a_damaged_line_is_named(line, old, new, message):
    lines = list(LINES)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new, 1)
    with pytest.raises(ValueError, match=message):
        votes.parse("\n".join(lines))


@pytest.mark.parametrize("text", ["", LINES[0], "<html>"])
def test_a_file_without_precincts_is_refused(text):
    with pytest.raises(ValueError, match=r"line 1 is|no precinct"):
        votes.parse(text)


@needs("votes")
def test_the_official_file_has_its_precincts_and_voters():
    got = votes.load(REAL)
    assert got["groups"].shape == (212, 3)
    assert got["groups"].sum(0).tolist() == [260535, 78246, 27509]
    assert len(set(got["counties"])) == 8
    assert got["groups"].sum(1).aminmax() == (224, 4563)
