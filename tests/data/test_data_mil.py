"""Bags from tables: files in UCI's form and copies that the tests write, and the real sets."""

import gzip
import hashlib
import itertools
from dataclasses import replace

import pytest
import torch
from real_data import REAL

from wsl_tutorial import data
from wsl_tutorial.data import concepts, mil

TINY = {  # set: official file, bags, positive bags, instances, features
    "musk1": ("musk/clean1.data", 3, 2, 5, 2),
    "elephant": ("mil/elephant.csv.gz", 3, 2, 5, 2),
}
UCI = (
    "MUSK-jf78,jf78_1+1,42,-198,1.\nMUSK-jf78,jf78_1+10,42,-191,1.\n\n"
    "NON-MUSK-7,7_1+1,5,6,0.\nMUSK-9,9_1+1,0,1,1.\nMUSK-9,9_1+2,0,2,1.\n"
)
TABLE = "1,4,42,-198\n1,4,42,-191\n0,2,5,6\n1,9,0,1\n1,9,0,2\n"


@pytest.fixture(autouse=True)
def _tiny(request, monkeypatch, tmp_path):
    if request.node.get_closest_marker("data") is None:
        monkeypatch.setattr(mil, "KNOWN", TINY)
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.delenv("WSL_DATA", raising=False)


def copy(root, monkeypatch, name: str) -> None:
    """Write TABLE, gzipped, as the copy of a data set."""
    content = gzip.compress(TABLE.encode(), mtime=0)
    (file,) = data.SETS[name].files
    file = replace(file, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(data.SETS, name, replace(data.SETS[name], files=(file,)))
    (root / "mil").mkdir(parents=True)
    (root / file.path).write_bytes(content)


def test_the_official_file_and_the_copy_hold_the_same_bags(tmp_path, monkeypatch):
    (tmp_path / "a/musk").mkdir(parents=True)
    (tmp_path / "a/musk/clean1.data").write_text(UCI)
    copy(tmp_path / "b", monkeypatch, "musk1-table")
    official, table = (mil.load("musk1", tmp_path / folder) for folder in "ab")
    assert official["names"] == ["MUSK-jf78", "NON-MUSK-7", "MUSK-9"]
    assert table["names"] == ["4", "2", "9"]
    assert official["instances"].tolist() == [[42, -198], [42, -191], [5, 6], [0, 1], [0, 2]]
    for key in ("instances", "bags", "labels"):
        assert torch.equal(official[key], table[key])
        assert official[key].dtype == table[key].dtype
    assert official["bags"].tolist() == [0, 0, 1, 2, 2]
    assert official["labels"].tolist() == [True, False, True]
    assert all(data.available("musk1", tmp_path / folder) for folder in "ab")


def test_a_copy_of_elephant_is_read(tmp_path, monkeypatch):
    copy(tmp_path, monkeypatch, "elephant")
    assert mil.load("elephant", tmp_path)["labels"].tolist() == [True, False, True]


def test_rows_of_a_bag_need_not_be_together(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("1,b,1\n-1,a,2\n1,b,3\n")
    found = mil.read(path)
    assert found["names"] == ["b", "a"]
    assert found["bags"].tolist() == [0, 1, 0]
    assert found["labels"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,a,1,2\n1,b,3\n", "line 2: has 1 features, the first has 2"),
        ("1,a,1\n0,a,3\n", "line 2: bag 'a' has both labels"),
        ("1,a,x\n", "line 1: is no row of a bag"),
        ("2,a,1\n", "line 1: expected a bag, a label 0 or 1"),
        ("0.5,a,1\n", "line 1: expected a bag, a label 0 or 1"),
        ("nan,a,1\n", "line 1: expected a bag, a label 0 or 1"),
        ("1,a,1\ninf,a,1\n", "line 2: expected a bag, a label 0 or 1"),
        ("1,a\n", "line 1: expected a bag"),
        ("1\n", "line 1: is no row of a bag"),
        ("1,,2\n", "line 1: expected a bag"),
        ("1,a,nan\n", "line 1: a feature is not finite"),
        ("1,a,1\n1,a,inf\n", "line 2: a feature is not finite"),
        ("\n \n", "holds no row"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path, text, says):
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        mil.read(path)


def test_what_is_wrong_with_the_files_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"name: got 'tiger', expected one of musk1"):
        mil.load("tiger", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"musk/clean1\.data"):
        mil.load("musk1", tmp_path)
    (tmp_path / "musk").mkdir()
    path = tmp_path / "musk/clean1.data"
    path.write_text(UCI.splitlines(keepends=True)[0])
    with pytest.raises(ValueError, match=r"holds \[1, 1, 1, 2\] bags, positive bags"):
        mil.load("musk1", tmp_path)
    path.write_text("<!doctype html><html>not found</html>")
    with pytest.raises(ValueError, match="it is a web page"):
        mil.load("musk1", tmp_path)
    copy(tmp_path, monkeypatch, "elephant")
    broken = tmp_path / "mil/elephant.csv.gz"
    broken.write_bytes(broken.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"elephant\.csv\.gz: has \d+ bytes"):
        mil.load("elephant", tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        mil.read(broken)


def test_a_batch_holds_every_instance_of_a_bag_once():
    index, mask = mil.batch(torch.tensor([2, 0, 2, 1, 2]))
    assert mask.sum(1).tolist() == [1, 1, 3]
    assert [row[real].tolist() for row, real in zip(index, mask, strict=True)] == [
        [1],
        [3],
        [0, 2, 4],
    ]
    for wrong in ([0, 2], [-1, 0], []):
        with pytest.raises(ValueError, match="bags must be int64"):
            mil.batch(torch.tensor(wrong, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"got torch\.float32"):
        mil.batch(torch.tensor([0.0, 1.0]))


# The unit tests of Raff and Holt ------------------------------------------------------------------


def contents(test: str, part: str, number: int = 400) -> list[tuple[bool, dict[int, int]]]:
    """Return the label of each bag and how many instances of each concept it holds."""
    made = concepts.bags(test, part, number, torch.Generator().manual_seed(0), features=3)
    found = []
    for bag, label in enumerate(made["labels"].tolist()):
        kinds = made["concept"][made["bags"] == bag].tolist()
        found.append((label, {kind: kinds.count(kind) for kind in set(kinds)}))
    return found


@pytest.mark.parametrize(
    ("test", "part"), list(itertools.product(concepts.TESTS, ("train", "test")))
)
def test_labels_follow_the_rule_and_the_poison_does_not(test, part):
    found = contents(test, part)
    assert sum(label for label, _ in found) == 200
    for label, kinds in found:
        both = 1 in kinds and 2 in kinds
        assert label == (1 in kinds or 2 in kinds if test == "single" else both)
        assert (-1 in kinds) == (test != "frequency" and label == (part == "test"))
        assert 1 <= kinds[0] <= 10
    assert {kinds[0] for _, kinds in found} == set(range(1, 11))
    if test == "both":
        assert all(kinds[1] == kinds[2] for label, kinds in found if label)
        assert {kinds[1] for label, kinds in found if label} == {1, 2, 3, 4}
    if test == "frequency":
        many = {kinds.get(1, 0) + kinds.get(2, 0) for label, kinds in found if not label}
        assert many == ({1, 2} if part == "train" else set(range(35, 46)))
        assert {k for label, kinds in found if not label for k in (1, 2) if k in kinds} == {1, 2}


def test_the_instances_have_the_laws_of_their_concepts():
    made = concepts.bags("single", "train", 2000, torch.Generator().manual_seed(1), features=8)
    laws = {-1: concepts.POISON, 0: (0, 1), **dict(enumerate(concepts.SINGLE, 1))}
    for kind, (mean, sd) in laws.items():
        x = made["instances"][made["concept"] == kind]
        assert abs(x.mean() - mean) < 5 * sd / x.numel() ** 0.5
        assert abs(x.std() / sd - 1) < 5 / x.numel() ** 0.5
    again = concepts.bags("single", "train", 2000, torch.Generator().manual_seed(1), features=8)
    assert all(torch.equal(made[key], again[key]) for key in made)


def test_bags_that_cannot_be_drawn_are_refused():
    g = torch.Generator()
    with pytest.raises(ValueError, match="test must be one of single, both, frequency"):
        concepts.bags("triple", "train", 10, g)
    with pytest.raises(ValueError, match="part train or test, got 'both', 'valid'"):
        concepts.bags("both", "valid", 10, g)
    with pytest.raises(ValueError, match="number must be at least 2"):
        concepts.bags("both", "test", 1, g)
    with pytest.raises(ValueError, match="features at least 1"):
        concepts.bags("both", "test", 2, g, features=0)


# The real data ------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize("name", ["musk1", "musk2", "elephant"])
def test_real_sets_have_the_published_numbers(name):
    if not data.available(name, REAL):
        pytest.skip(f"{name} is neither in $WSL_DATA nor in shared/data")
    found = mil.load(name, REAL)
    _, bags, positive, instances, features = mil.KNOWN[name]
    assert found["instances"].shape == (instances, features)
    assert (len(found["labels"]), int(found["labels"].sum())) == (bags, positive)
    constant = (found["instances"].amax(0) == found["instances"].amin(0)).sum()
    assert constant == {"musk1": 0, "musk2": 0, "elephant": 120}[name]
