"""Bags are drawn without replacement, counted, split and nested; photos become bags of faces."""

import numpy as np
import pytest
import torch
from PIL import Image

from wsl_tutorial.data import bags, groups


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# Bags -------------------------------------------------------------------------------------------


def test_bags_use_every_instance_at_most_once_and_nearly_all():
    drawn = bags.draw(10_000, bags.uniform(), gen())
    used = drawn.instances()
    assert len(used) == len(used.unique()) == drawn.sizes.sum()
    assert 10_000 - len(used) < 12
    assert used.min() >= 0
    assert used.max() < 10_000
    assert 1_350 < len(drawn) < 1_510  # mean size 7


def test_sizes_are_uniform_from_2_to_12():
    sizes = bags.draw(70_000, bags.uniform(), gen()).sizes
    share = torch.bincount(sizes, minlength=13) / len(sizes)
    assert share[:2].sum() == 0
    assert (share[2:] - 1 / 11).abs().max() < 0.01


def test_instances_are_in_random_order():
    order = bags.draw(1_000, bags.uniform(), gen()).instances()
    assert not torch.equal(order, order.sort().values)
    assert torch.equal(order, bags.draw(1_000, bags.uniform(), gen()).instances())
    assert not torch.equal(order, bags.draw(1_000, bags.uniform(), gen(1)).instances())


def test_at_most_so_many_bags():
    assert len(bags.draw(1_000, bags.uniform(), gen(), most=7)) == 7


def test_geometric_shares_have_the_mean_and_a_constant_ratio():
    mean = 7_451 / 1_913
    share = bags.geometric(mean)
    assert share.sum() == pytest.approx(1)
    assert (share @ torch.arange(1, 13).double()).item() == pytest.approx(mean)
    assert torch.allclose(share[1:] / share[:-1], (share[1] / share[0]).expand(11))
    assert bags.geometric(6.5).std() < 1e-9  # the middle of 1..12: uniform


def test_counts_are_those_of_a_loop():
    drawn, labels = bags.draw(200, bags.uniform(), gen()), torch.randint(4, (200,), generator=gen())
    told = bags.counts(drawn, (labels > 1).long())
    by_class = bags.counts(drawn, labels, 4)
    for b in range(len(drawn)):
        inside = labels[drawn.index[b][drawn.mask[b]]]
        assert told[b] == (inside > 1).sum()
        assert by_class[b].tolist() == [(inside == c).sum().item() for c in range(4)]


def test_split_is_a_partition():
    train, test = bags.split(1_433, gen())
    assert (len(train), len(test)) == (1_146, 287)
    assert torch.equal(torch.cat([train, test]).sort().values, torch.arange(1_433))


def test_nested_subsets_share_their_test_bags():
    parts = {m: bags.nested(1_433, gen(5), m) for m in (200, 400, 1_000)}
    small, middle, large = (set(parts[m][0].tolist()) for m in parts)
    assert len(small) == 200
    assert small < middle < large
    for train, test in parts.values():
        assert torch.equal(test, parts[200][1])
        assert len(test) == 250
        assert not set(train.tolist()) & set(test.tolist())
    assert not torch.equal(bags.nested(1_433, gen(6), 200)[1], parts[200][1])


def test_rows_of_bags_are_bags():
    drawn = bags.draw(100, bags.uniform(), gen())
    some = drawn[torch.tensor([3, 1])]
    assert torch.equal(some.sizes, drawn.sizes[[3, 1]])
    first = drawn.index[3][drawn.mask[3]]
    assert torch.equal(some.to("cpu").instances()[: len(first)], first)


PAIR = bags.of_sizes(torch.arange(2), torch.tensor([2]))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (
            lambda: bags.of_sizes(torch.arange(5), torch.tensor([3, 3])),
            "sizes: .* sum of at most 5",
        ),
        (lambda: bags.of_sizes(torch.arange(5), torch.tensor([0, 3])), "sizes"),
        (lambda: bags.draw(1, bags.uniform(), gen()), "shares, total: no bag drawn fits into 1 in"),
        (
            lambda: bags.counts(PAIR, torch.tensor([0, 5])),
            r"labels: got 0 \.\. 5, expected 0 \.\. 1",
        ),
        (lambda: bags.counts(PAIR, torch.tensor([0, -1]), 3), r"labels: got -1 \.\. 0"),
        (lambda: bags.draw(0, bags.uniform(), gen()), "shares, total: no bag drawn fits into 0 in"),
        (lambda: bags.draw(9, torch.zeros(3), gen()), "shares"),
        (lambda: bags.draw(9, torch.tensor([1.0, torch.inf]), gen()), "shares: expected"),
        (lambda: bags.uniform(5, 2), "smallest"),
        (lambda: bags.geometric(12.0), "mean"),
        (lambda: bags.nested(300, gen(), 100), "train"),
    ],
)
def test_bad_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


# Images of Groups ---------------------------------------------------------------------------------


def face(x=40, y=50, distance=20, age=28, gender=1):
    return (x, y, x + distance, y, age, gender)


def write(root, folder, images, size=(160, 140)):
    """Write a folder in the official form: photos with a gradient, and PersonData.txt."""
    place = root / groups.FOLDER / folder
    place.mkdir(parents=True)
    lines = []
    for name, faces in images.items():
        lines += [name, *("\t".join(map(str, f)) for f in faces)]
        columns = np.arange(size[0], dtype=np.uint8)[None, :, None]
        Image.fromarray(np.tile(columns, (size[1], 1, 3))).save(place / name, quality=98)
    (place / "PersonData.txt").write_text("\r\n".join(lines) + "\r\n")


@pytest.fixture
def album(tmp_path):
    """Return ten photos: alone, with children, crowded by children, crowded, without adults."""
    photos = {
        "1_a_b_c.jpg": [face(gender=2)],
        "2_a_b_c.jpg": [face(gender=1), face(gender=2, age=75), face(age=5)],
        "3_a_b_c.jpg": [face(gender=1)] * 12 + [face(age=10)],
        "4_a_b_c.jpg": [face(gender=2)] * 13,
        "5_a_b_c.jpg": [face(age=1), face(age=10)],
        "6_a_b_c.jpg": [],
    }
    for folder in groups.FAMILY:
        write(tmp_path, folder, photos if folder == "Fam4a" else {f"{folder}.jpg": []})
    return tmp_path


def test_person_data_is_read(album):
    found = groups.photos(album)
    assert [len(faces) for path, faces in found if path.parent.name == "Fam4a"] == [
        1,
        3,
        13,
        13,
        2,
        0,
    ]
    faces = next(f for path, f in found if path.name.startswith("2_"))
    assert faces.tolist()[1] == [40, 50, 60, 50, 75, 2]
    with pytest.raises(ValueError, match="line 2"):
        groups.parse("a.jpg\n1\t2\t3\n")
    with pytest.raises(FileNotFoundError, match="Fam2a"):
        groups.photos(album / "elsewhere")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_person_data_is_read_in_any_encoding(album, encoding):
    place = album / groups.FOLDER / "Fam4a"
    (place / "1_a_b_c.jpg").rename(place / "1_é.jpg")
    text = (place / "PersonData.txt").read_text().replace("1_a_b_c", "1_é")
    (place / "PersonData.txt").write_bytes(text.encode(encoding))
    path, faces = groups.photos(album, ("Fam4a",))[0]
    assert path.is_file()
    assert faces.tolist() == [[40, 50, 60, 50, 28, 2]]


def test_what_is_wrong_with_a_folder_of_groups_is_named(album):
    place = album / groups.FOLDER / "Fam4a"
    table = (place / "PersonData.txt").read_bytes()
    for content, says in ((table[:-5], "line 38"), (b"", "has no image"), (b"<html>", "line 1")):
        (place / "PersonData.txt").write_bytes(content)
        with pytest.raises(ValueError, match=rf"Fam4a/PersonData\.txt: .*{says}.*get the Images"):
            groups.photos(album)
    (place / "PersonData.txt").write_bytes(table)
    (place / "1_a_b_c.jpg").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"1_a_b_c\.jpg: is no whole image"):
        groups.load(album, groups.Filter())
    (place / "1_a_b_c.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"PersonData\.txt lists 1_a_b_c\.jpg, which is mi"):
        groups.load(album, groups.Filter())


def test_filters_are_told_apart(album):
    photos = groups.photos(album)
    numbers = {
        (rule.limit, rule.singles): groups.statistics(groups.select(photos, rule))
        for rule in groups.FILTERS
    }
    assert numbers["after", True] == {"bags": 3, "male": 2, "female": 13}
    assert numbers["before", True] == {"bags": 2, "male": 2, "female": 1}
    assert numbers["after", False] == {"bags": 2, "male": 1, "female": 13}
    assert numbers["before", False] == {"bags": 1, "male": 1, "female": 1}


def test_the_papers_numbers_choose_the_filter(album, monkeypatch):
    photos = groups.photos(album)
    with pytest.raises(ValueError, match=r"1913.*'bags': 3, 'male': 2"):
        groups.papers_filter(photos)
    monkeypatch.setattr(groups, "PAPER", {"bags": 2, "male": 1, "female": 13})
    assert groups.papers_filter(photos) == groups.Filter(limit="after", singles=False)


def test_faces_become_bags_with_a_warning_where_the_numbers_differ(album):
    with pytest.warns(UserWarning, match="no filter gives"):
        images, labels, photos = groups.load(album)
    assert images.shape == (15, 3, 120, 96)
    assert images.dtype == torch.uint8
    assert photos.sizes.tolist() == [1, 2, 12]
    assert bags.counts(photos, labels).tolist() == [0, 1, 12]
    assert torch.equal(photos.instances(), torch.arange(15))


@pytest.mark.parametrize("distance", [8, 20, 120])
def test_crop_is_a_box_scaled_by_the_eyes(distance):
    """On a horizontal gradient the value is the column, so the crop shows which box it is."""
    columns = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (200, 1, 3))
    eyes = np.array([128 - distance / 2, 60, 128 + distance / 2, 60])
    face = groups.crop(Image.fromarray(columns), eyes)
    assert face.shape == (3, 120, 96)
    expected = 128 + 2.5 * distance / 96 * (np.arange(96) - 47.5)
    assert np.abs(face[0, 60] - expected.clip(0, 255)).max() < 2.5
    turned = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[:, None, None], (1, 256, 3)))
    rows = 60 + 2.5 * distance / 96 * (np.arange(120) - 0.4 * 119)
    assert np.abs(groups.crop(turned, eyes)[0, :, 48] - rows.clip(0, 199)).max() < 2.5


def test_crop_needs_two_eyes():
    with pytest.raises(ValueError, match="eyes"):
        groups.crop(Image.new("RGB", (9, 9)), np.array([3, 3, 3, 3]))
