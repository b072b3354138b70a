"""Generators: nests of MNIST digits, canvases of small digits, house numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial.data import digits, houses, mnist


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(a: dict, b: dict) -> bool:
    def equal(x, y):
        if isinstance(x, torch.Tensor):
            return torch.equal(x, y)
        if isinstance(x, list) and x and isinstance(x[0], torch.Tensor):
            return all(map(torch.equal, x, y))
        return x == y

    return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)


# Nests

STROKES = torch.randint(0, 256, (12, 28, 28), generator=seeded(5)).byte()
NAMES = torch.tensor([3, 3, 0, 1, 9, 8, 7, 7, 5, 6, 2, 4])


def slow_nests(images, labels, generator, per_nest):
    """Draw the nests one image at a time, with the same draws."""
    height, width = (int(torch.randint(56, 85, (), generator=generator)) for _ in range(2))
    n = len(images) // per_nest
    top = torch.randint(height - 27, (n, per_nest), generator=generator)
    left = torch.randint(width - 27, (n, per_nest), generator=generator)
    canvas, present = torch.zeros(n, 1, height, width), torch.zeros(n, 10, dtype=torch.bool)
    for i, image in enumerate(images):
        nest, j = divmod(i, per_nest)
        y, x = top[nest, j], left[nest, j]
        canvas[nest, 0, y : y + 28, x : x + 28] += image / 255
        present[nest, labels[i]] = True
    return canvas.clamp(max=1), present


@given(seed=st.integers(0, 10**6), per_nest=st.sampled_from([1, 2, 3, 6]))
@settings(max_examples=25, deadline=None)
def test_nests_are_what_a_loop_over_images_makes(seed, per_nest):
    fast = mnist.nests(STROKES, NAMES, seeded(seed), per_nest=per_nest)
    slow = slow_nests(STROKES, NAMES, seeded(seed), per_nest)
    torch.testing.assert_close(fast[0], slow[0], rtol=0, atol=1e-6)
    assert torch.equal(fast[1], slow[1])


def test_nests_use_every_canvas_size_from_56_to_84_and_every_place():
    dot = torch.ones(2, 28, 28)
    sizes, corners = set(), set()
    for seed in range(600):
        canvas, _ = mnist.nests(dot, torch.tensor([1, 2]), seeded(seed))
        sizes.add(canvas.shape[2])
        sizes.add(canvas.shape[3])
        canvas, _ = mnist.nests(
            dot[:1], torch.tensor([1]), seeded(seed), per_nest=1, height=30, width=31
        )
        corners.add(tuple(canvas[0, 0].nonzero()[0].tolist()))
    assert sizes == set(range(56, 85))
    assert corners == {(y, x) for y in range(3) for x in range(4)}


def test_nests_label_the_set_of_digits_and_keep_floats():
    images, labels = STROKES.double() / 255, NAMES
    canvas, present = mnist.nests(images, labels, seeded(), height=70, width=60)
    assert canvas.shape == (6, 1, 70, 60)
    assert canvas.dtype == torch.float64
    assert 0 <= canvas.min() <= canvas.max() == 1
    assert [row.nonzero()[:, 0].tolist() for row in present[:2]] == [[3], [0, 1]]
    again = mnist.nests(images, labels, seeded(), height=70, width=60)
    assert torch.equal(canvas, again[0])


def test_nests_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match="multiple of per_nest = 5"):
        mnist.nests(STROKES, NAMES, seeded(), per_nest=5)
    with pytest.raises(ValueError, match="images: got 12 images and 11 labels"):
        mnist.nests(STROKES, NAMES[1:], seeded())
    with pytest.raises(ValueError, match="size: a canvas of 20 x"):
        mnist.nests(STROKES, NAMES, seeded(), height=20)
    with pytest.raises(ValueError, match=r"size: got .* expected 1 <= smallest <= largest"):
        mnist.nests(STROKES, NAMES, seeded(), size=(84, 56))
    with pytest.raises(ValueError, match="multiple of per_nest = 0"):
        mnist.nests(STROKES, NAMES, seeded(), per_nest=0)


# Digits


def test_digits_are_scikit_learns_in_a_fixed_split():
    (train, train_labels), (test, test_labels) = digits.load("train"), digits.load("test")
    assert train.shape == (1297, 1, 8, 8)
    assert test.shape == (500, 1, 8, 8)
    assert train.dtype == torch.float32
    assert train.min() == 0
    assert train.max() == 1
    assert train_labels[:5].tolist() == [0, 1, 2, 3, 4]
    assert test_labels.bincount().min() > 40
    with pytest.raises(ValueError, match="split: got 'all'"):
        digits.load("all")


def test_a_writer_of_digits_is_in_training_and_in_test():
    """Each writer begins with 0 to 9, twice: one does ten images before the test set begins."""
    labels = torch.cat([digits.load(split)[1] for split in ("train", "test")])
    begins = (labels.unfold(0, 20, 1) == torch.arange(10).repeat(2)).all(1).nonzero()[:, 0].tolist()
    assert [i for i in begins if 1200 < i < 1500] == [1287, 1297, 1415, 1425]


def scattered(**options):
    images, labels = digits.load()
    options = {"n": 200, "size": 32, "generator": seeded()} | options
    return digits.canvases(images, labels, **options)


def test_canvases_observers_agree():
    """Presence is counts > 0, counts are those of the classes, places are those of the digits."""
    d = scattered(k=(0, 3))
    assert d["images"].shape == (200, 1, 32, 32)
    assert torch.equal(d["labels"], d["counts"] > 0)
    number = d["counts"].sum(1)
    assert set(number.tolist()) == {0, 1, 2, 3}
    for image, counts, places, classes in zip(
        d["images"], d["counts"], d["places"], d["classes"], strict=True
    ):
        present = classes >= 0
        assert classes[present].bincount(minlength=10).tolist() == counts.tolist()
        assert (places[~present] == -1).all()
        rest = image[0].clone()
        for x, y, s in places[present].tolist():
            assert s == 8
            left, top = int(x - 3.5), int(y - 3.5)
            assert rest[top : top + 8, left : left + 8].max() > 0.5
            rest[top : top + 8, left : left + 8] = 0
        assert rest.max() == 0  # nothing but digits


def test_canvases_do_not_overlap_unless_asked():
    def overlaps(d):
        corners = d["places"][..., :2]
        near = ((corners[:, 0] - corners[:, 1]).abs() < 8).all(-1)
        return (near & (d["classes"] >= 0).all(1)).sum().item()

    options = {"n": 2000, "k": (2, 2), "size": 24}
    assert overlaps(scattered(**options)) == 0
    assert overlaps(scattered(**options, overlap=True)) > 100


def test_canvases_let_digits_touch():
    corners = scattered(n=4000, k=(2, 2), size=24)["places"][..., :2]
    x, y = (corners[:, 0] - corners[:, 1]).abs().T
    assert x[y < 8].min() == 8
    assert y[x < 8].min() == 8


def test_canvases_use_every_free_place_alike():
    d = scattered(n=30000, size=(10, 26), k=(1, 2))
    top, left = (d["places"][:, 0, 1] - 3.5).long(), (d["places"][:, 0, 0] - 3.5).long()
    frequency = (top * 19 + left).bincount(minlength=57) / 30000
    assert (frequency - 1 / 57).abs().max() < 5 * (1 / 57 / 30000) ** 0.5
    two = d["classes"][:, 1] >= 0
    assert 0.48 < two.float().mean() < 0.52
    assert ((d["places"][two, 0, 0] - d["places"][two, 1, 0]).abs() >= 8).all()


def test_clutter_adds_strokes_but_no_labels():
    clean, cluttered = scattered(k=(1, 1)), scattered(k=(1, 1), clutter=4)
    for key in ("labels", "counts", "places", "classes"):
        assert torch.equal(clean[key], cluttered[key])
    more = cluttered["images"] - clean["images"]
    assert more.min() == 0
    assert (more.amax((1, 2, 3)) > 0).float().mean() > 0.9
    assert (more > 0).sum((1, 2, 3)).max() <= 4 * 16


def test_canvases_repeat_bit_for_bit():
    assert same(scattered(clutter=2), scattered(clutter=2))
    assert not same(scattered(), scattered(generator=seeded(1)))


def test_canvases_refuse_what_does_not_fit():
    for options in ({"size": 7}, {"size": 12, "k": (1, 3)}):
        with pytest.raises(ValueError, match="size: "):
            scattered(**options)
    assert scattered(size=12, k=(1, 3), overlap=True)["images"].shape[-1] == 12
    for k in ((2, 1), (-1, 1), (0, 0)):
        with pytest.raises(ValueError, match="k: "):
            scattered(k=k)


# House numbers


def test_house_numbers_repeat_bit_for_bit_and_follow_the_seed():
    a, b = (houses.house_numbers(20, seeded(3)) for _ in range(2))
    assert same(a, b)
    assert not same(a, houses.house_numbers(20, seeded(4)))


def test_house_numbers_are_what_they_say():
    d = houses.house_numbers(150, seeded())
    assert d["images"].shape == (150, 3, 64, 64)
    assert d["images"].dtype == torch.uint8
    for digits_, labels, boxes in zip(d["sequences"], d["labels"], d["boxes"], strict=True):
        assert 1 <= len(digits_) <= 5
        assert digits_[0] != 0
        assert labels.nonzero()[:, 0].tolist() == sorted(set(digits_))
        assert boxes.shape == (len(digits_), 4)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= 64).all()
        assert (boxes[1:, 0] > boxes[:-1, 0]).all()  # left to right
        side = (boxes[:, :2] + boxes[:, 2:]).amax(0) - boxes[:, :2].amin(0)
        assert 0.89 < side.max() * (1 + (6 - len(digits_)) / 7) / 64 < 1.11
    lengths = torch.tensor([len(s) for s in d["sequences"]]).bincount() / 150
    assert lengths[2] > lengths[3] > lengths[1] > 0.05


def test_ink_fills_the_boxes_and_nothing_else():
    for seed in range(30):
        dice, numbers = houses._Dice(seeded(seed)), [seed % 10, 8, 1][: 1 + seed % 3]
        face = "matplotlib/mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"
        glyphs = houses._layout(numbers, houses._font(face, houses.EM), dice)
        warp, boxes = houses._view(glyphs, dice, 128, len(numbers))
        rows, columns = np.nonzero(houses._print(numbers, glyphs, face, warp, 128) > 0.3)
        low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
        ink = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert (ink[:2] > low - 2).all()
        assert (ink[2:] < high + 2).all()
        # Slanted ink does not reach every corner of its upright box, but nearly every side.
        assert (np.abs(ink - [*low, *high]) < 0.12 * 128).all()


def test_house_numbers_refuse_bad_arguments():
    for n, size in ((0, 64), (3, 8)):
        with pytest.raises(ValueError, match=r"n, size, generator: .* expected n >= 1, size >= 16"):
            houses.house_numbers(n, seeded(), size)
    assert houses.house_numbers(2, seeded(), 32)["images"].shape == (2, 3, 32, 32)
