"""Digits on a lattice: what is returned is what is drawn, and every choice is as probable."""

from collections import Counter

import pytest
import torch

from wsl_tutorial import worth
from wsl_tutorial.data import digits, lattice


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def tiles():
    return digits.load()


def test_what_is_told_is_what_is_drawn(tiles):
    images, labels = tiles
    made = lattice.canvases(images, labels, 40, 32, gen(), k=(0, 3), apart=4)
    pool = {tuple(x.flatten().tolist()): y for x, y in zip(images, labels.tolist(), strict=True)}
    for image, cells, classes in zip(*made.values(), strict=True):
        rest = image[0].clone()
        for (row, column), c in zip(cells.tolist(), classes.tolist(), strict=True):
            assert (row == -1) == (column == -1) == (c == -1)
            if c >= 0:
                assert lattice.centres(torch.tensor([row, column])).tolist() == [
                    2 * column + 6.5,
                    2 * row + 6.5,
                ]
                at = (slice(2 * row + 3, 2 * row + 11), slice(2 * column + 3, 2 * column + 11))
                assert pool[tuple(image[0][at].flatten().tolist())] == c
                rest[at] = 0
        assert rest.abs().max() == 0


def test_digits_keep_their_distance_and_stay_inside(tiles):
    made = lattice.canvases(*tiles, 200, 32, gen(1), k=(3, 3), apart=4)
    cells = made["cells"]
    assert cells.min() == 0
    assert cells.max() == lattice.side(32) - 1
    gap = (cells[:, :, None] - cells[:, None]).abs().amax(-1) + 99 * torch.eye(3).long()
    assert gap.min() == 4


def test_every_choice_of_cells_is_as_probable():
    number = torch.full((40_000,), 2)
    cells = lattice.scattered(len(number), 3, 2, number, gen(2))
    sets = Counter(tuple(sorted(map(tuple, pair))) for pair in cells.tolist())
    assert len(sets) == worth.choices(3, 2, 2)
    expected = len(number) / len(sets)
    chi2 = sum((n - expected) ** 2 / expected for n in sets.values())
    assert chi2 < 2.5 * len(sets)  # its mean is one less than the sets, its sd sqrt(2 sets)


def test_classes_are_as_probable_whatever_the_tiles(tiles):
    images, labels = tiles
    few = torch.cat([(labels == c).nonzero()[: 3 + 5 * c, 0] for c in range(10)])
    made = lattice.canvases(images[few], labels[few], 4_000, 32, gen(3), k=(2, 2), apart=4)
    share = made["classes"].flatten().bincount() / 8_000
    assert (share - 0.1).abs().max() < 0.015  # 4.5 standard deviations


def test_clutter_adds_ink_and_tells_nothing(tiles):
    bare, strewn = (lattice.canvases(*tiles, 20, 32, gen(4), clutter=c) for c in (0, 3))
    assert torch.equal(bare["cells"], strewn["cells"])
    assert torch.equal(bare["classes"], strewn["classes"])
    assert (strewn["images"] >= bare["images"]).all()
    assert (strewn["images"] > bare["images"]).flatten(1).any(1).all()


def test_another_step_is_the_same_world_enlarged(tiles):
    images, labels = tiles
    big = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    small = lattice.canvases(images, labels, 5, 32, gen(5))
    large = lattice.canvases(big, labels, 5, 64, gen(5), step=4)
    assert torch.equal(small["cells"], large["cells"])
    assert torch.equal(torch.nn.functional.avg_pool2d(large["images"], 2), small["images"])


def test_bad_input_is_named(tiles):
    images, labels = tiles
    with pytest.raises(ValueError, match="wider than 14 pixels"):
        lattice.canvases(torch.zeros(10, 1, 16, 16), torch.arange(10), 1, 32, gen())
    with pytest.raises(ValueError, match="do not fit"):
        lattice.canvases(images, labels, 2, 16, gen(), k=(3, 3))
    for size, k in ((10, (1, 3)), (32, (3, 1)), (32, (-1, 1))):
        with pytest.raises(ValueError, match=r"k, size: got .* at least the 14 pixels of a window"):
            lattice.canvases(images, labels, 2, size, gen(), k=k)
    few = labels % 5 != 4
    with pytest.raises(ValueError, match=r"labels: no digit of the classes \[4, 9\]"):
        lattice.canvases(images[few], labels[few], 2, 32, gen())
