"""Canvases of digits, Gabor noise and streets: their geometry, their laws, and repeatability."""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from real_data import REAL, needs

from wsl_tutorial.data import canvases, digits, svhn


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def pools():
    images, labels = digits.load()
    return images[:, 0], labels


def distances(points):
    """Return the smallest distance within every sample, without padding."""
    d = torch.cdist(points, points)
    return d.masked_fill(torch.eye(points.shape[1]).bool(), math.inf).nan_to_num(math.inf)


# Poisson disks ------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    st.floats(5, 40), st.floats(5, 40), st.floats(3, 30), st.integers(0, 1000), st.integers(1, 20)
)
def test_points_keep_their_distance_and_stay_inside(w, h, radius, seed, n):
    points, number = canvases.poisson_disk(n, (w, h), radius, gen(seed))
    there = torch.arange(points.shape[1]) < number[:, None]
    assert points.shape[0] == n
    assert (number >= 1).all()
    assert points[there].isfinite().all()
    assert points[~there].isinf().all()
    assert (points[there] >= 0).all()
    assert (points[there] <= torch.tensor([w, h])).all()
    assert distances(points).min() >= radius * (1 - 1e-5)


def test_samples_are_nearly_full():
    """Bridson's samples leave little room: few uniform points are far from all."""
    points, number = canvases.poisson_disk(200, (60, 60), 16, gen())
    probe = 60 * torch.rand(200, 400, 2, generator=gen(1))
    free = (torch.cdist(probe, points).nan_to_num(math.inf).amin(2) >= 16).float().mean()
    assert free < 0.02
    dropped = points.clone()
    dropped[:, 0] = math.inf  # without one point there is room
    assert (torch.cdist(probe, dropped).nan_to_num(math.inf).amin(2) >= 16).float().mean() > 0.04
    assert number.double().mean().item() == pytest.approx(11, abs=0.3)
    assert (number >= 9).double().mean() > 0.97
    assert canvases.poisson_disk(200, (60, 60), 18, gen())[1].ge(9).double().mean() < 0.8


def test_proposals_are_uniform_in_the_ring():
    """The second point of a sample: in the ring, as often in each of two halves of equal area."""
    points, _ = canvases.poisson_disk(2000, (1000, 1000), 100, gen())
    inside = ((points[:, 0] - 500).abs() < 300).all(1)  # far from the border
    away = (points[inside, 1] - points[inside, 0]).norm(dim=1) / 100
    assert (away >= 1).all()
    assert (away <= 2).all()
    half = (away < math.sqrt(2.5)).double()
    assert half.mean().item() == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(len(half)))


@pytest.mark.parametrize(("extent", "radius"), [((10, 10), 0), ((0, 10), 1)])
def test_poisson_disks_refuse_empty_sizes(extent, radius):
    with pytest.raises(ValueError, match="radius, extent"):
        canvases.poisson_disk(2, extent, radius, gen())


# Places -------------------------------------------------------------------------------------------


def test_scattered_points_keep_distance_and_border():
    centres = canvases.scattered(300, 9, 80, 20, 16, gen())
    assert distances(centres).min() >= 16 - 1e-4
    assert centres.min() >= 9.5
    assert centres.max() <= 69.5


def test_uneven_points_crowd():
    even, uneven = (
        canvases.scattered(200, 4, 80, 20, 12, gen(), uneven=flag) for flag in (False, True)
    )
    spread = [(c - c.mean(1, keepdim=True)).norm(dim=2).mean() for c in (even, uneven)]
    assert spread[1] < 0.7 * spread[0]
    assert distances(uneven).min() >= 12 - 1e-4


@pytest.mark.parametrize("k", [5, 40])
def test_too_many_points_are_refused(k):
    with pytest.raises(ValueError, match="k: "):
        canvases.scattered(3, k, 40, 20, 18, gen())


def test_jitter_is_an_eighth_of_the_cell():
    centres = canvases.jittered(4000, 3, 300, 10, 1 / 8, gen())
    middle = torch.tensor([49.5, 149.5, 249.5])
    expected = torch.stack(torch.meshgrid(middle, middle, indexing="xy"), -1).reshape(9, 2)
    off = centres - expected
    assert off.mean(0).abs().max() < 1
    assert off.std((0, 1)).tolist() == pytest.approx([12.5, 12.5], rel=0.02)


# Scenes -------------------------------------------------------------------------------------------


def test_hard_scenes_render_what_they_say():
    """Every canvas is the clipped sum of its tiles at its places, pasted one by one."""
    tiles, labels = pools()
    scenes = canvases.hard(20, labels, (8, 8), gen(), size=32, box=8, radius=7, k=(1, 4))
    images = scenes.render(tiles, 32)
    places, classes = scenes.places((8, 8), 8.0), scenes.classes(labels)
    assert images.shape == (20, 1, 32, 32)
    for image, where, what, chosen in zip(images, places, classes, scenes.chosen, strict=True):
        expected = torch.zeros(32, 32)
        for (x, y, s), c, t in zip(where.tolist(), what.tolist(), chosen.tolist(), strict=True):
            if c < 0:
                assert (x, y, s) == (-1, -1, -1)
                continue
            assert s == 8
            assert labels[t] == c
            top, left = int(y - 3.5), int(x - 3.5)
            expected[top : top + 8, left : left + 8] += tiles[t]
        torch.testing.assert_close(image[0], expected.clamp(max=1))


def test_tiles_that_reach_over_the_edge_are_cut():
    tiles = torch.ones(1, 4, 4)
    corners = torch.tensor([[[-2, -3]], [[4, 5]]])
    scenes = canvases.Scenes(torch.zeros(2, 1).long(), corners, torch.ones(2, 1).bool())
    images = scenes.render(tiles, 6)[:, 0]
    expected = torch.zeros(2, 6, 6)
    expected[0, :2, :1] = expected[1, 4:, 5:] = 1
    assert torch.equal(images, expected)


def test_numbers_of_digits_are_uniform_and_classes_too():
    _, labels = pools()
    scenes = canvases.hard(2000, labels, (8, 8), gen(), size=48, box=8, radius=8, k=(3, 6))
    number = scenes.present.sum(1)
    share = torch.bincount(number, minlength=7)[3:] / 2000
    assert share.tolist() == pytest.approx([0.25] * 4, abs=0.035)
    classes = scenes.classes(labels)
    share = torch.bincount(classes[classes >= 0], minlength=10) / scenes.present.sum()
    assert share.tolist() == pytest.approx([0.1] * 10, abs=0.02)


def test_mnist_hard_at_its_own_size():
    tiles, labels = torch.ones(10, 28, 28), torch.arange(10)
    scenes = canvases.hard(64, labels, (28, 28), gen())
    places = scenes.places((28, 28), 20.0)
    assert places.shape == (64, 9, 3)
    assert distances(places[..., :2]).min() >= 16 - math.sqrt(2)  # rounded to pixels
    assert (places[..., :2] >= 9).all()
    assert (places[..., :2] <= 70).all()
    assert scenes.render(tiles, 80).shape == (64, 1, 80, 80)


def test_easy_scenes_are_sorted_and_stand_in_their_cells():
    _, labels = pools()
    for first in (0, 1):
        scenes = canvases.easy(200, labels, (8, 8), gen(), size=60, box=8, first=first)
        assert (scenes.classes(labels) == torch.arange(first, first + 9)).all()
        places = scenes.places((8, 8), 8.0)
        column = torch.tensor([9.5, 29.5, 49.5] * 3)
        assert (places[..., 0].mean(0) - column).abs().max() < 1.5
        assert (places[..., 1].mean(0) - column.view(3, 3).T.flatten()).abs().max() < 1.5
        assert scenes.chosen[:, 0].unique().numel() > 50


def test_easy_scenes_need_a_tile_of_every_class():
    _, labels = pools()
    for kept, first, missing in ((labels, 2, [10]), (labels[labels % 4 != 1], 1, [1, 5, 9])):
        message = re.escape(f"labels, first: no tile of the classes {missing}")
        with pytest.raises(ValueError, match=message):
            canvases.easy(2, kept, (8, 8), gen(), size=60, box=8, first=first)


def test_scenes_need_a_range_of_numbers_and_streets_room_for_a_crop():
    for k in ((3, 1), (-1, 1)):
        with pytest.raises(ValueError, match=r"k: got .* expected 0 <= smallest <= largest"):
            canvases.hard(2, pools()[1], (8, 8), gen(), k=k)
    with pytest.raises(ValueError, match=r"size: got \(60, 80\), expected a width of 96 or more"):
        canvases.streets(1, gen(), (60, 80))


@pytest.mark.parametrize("make", [canvases.hard, canvases.easy])
def test_scenes_repeat_bit_for_bit(make):
    tiles, labels = pools()
    one, again, other = (
        make(5, labels, (8, 8), gen(s), size=48, box=8).render(tiles, 48)
        if make is canvases.easy
        else make(5, labels, (8, 8), gen(s), size=48, box=8, radius=8, k=(4, 4)).render(tiles, 48)
        for s in (0, 0, 1)
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@needs("mnist")
def test_error_of_a_blank_image_is_that_of_nine_native_digits():
    """Nine digits of MNIST on 80 x 80: 0.35 between them and zeros, 0.32 and their mean."""
    from wsl_tutorial.data import mnist

    images, labels = mnist.load("test", REAL)
    scenes = canvases.hard(300, labels, (28, 28), gen())
    x = scenes.render(images.float() / 255, 80)
    assert x.square().mean().sqrt().item() == pytest.approx(0.351, abs=0.005)
    assert x.std().item() == pytest.approx(0.321, abs=0.005)


# Gabor noise --------------------------------------------------------------------------------------


def test_gabor_noise_is_the_sum_of_its_kernels():
    images, places = canvases.gabor(1, gen(3), size=40, k=3, box=16, frequency=0.125, contrast=0.1)
    there = places[0][places[0, :, 2] > 0]
    assert (there[:, 2] == 16).all()
    # far from every impulse the image is grey, near one it is not
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(40.0), indexing="ij")
    away = torch.stack([(x - p[0]) ** 2 + (y - p[1]) ** 2 for p in there]).amin(0)
    assert (images[0, 0][away > 64] == 0.5).all()
    assert (images[0, 0][away < 1] != 0.5).all()


def test_one_gabor_kernel():
    """An impulse alone: the peak, the period across, the 5 % at the edge of the box."""
    for seed in range(200):  # a canvas with one impulse, well inside
        images, places = canvases.gabor(1, gen(seed), size=65, k=1, box=32, contrast=0.25)
        x, y = places[0, 0, :2].tolist()
        if places.shape[1] == 1 and max(abs(x - 32), abs(y - 32)) < 10:
            break
    z = (images[0, 0] - 0.5) / 0.25
    rows, columns = torch.meshgrid(torch.arange(65.0), torch.arange(65.0), indexing="ij")
    away = ((columns - x) ** 2 + (rows - y) ** 2).sqrt()
    assert z.max() > 0.9
    assert z.min() < -0.2  # a lobe half a period of 16 pixels away
    edge = (away > 14.5) & (away < 16)
    assert z[edge].abs().max() < math.exp(-math.log(20) * (14.5 / 16) ** 2) + 1e-3
    assert (z[away > 16.01] == 0).all()


def test_gabor_numbers_are_poisson_and_never_zero():
    _, places = canvases.gabor(2000, gen(), size=8, k=6, box=4)
    number = (places[..., 2] > 0).sum(1).double()
    assert number.min() >= 1
    assert number.mean().item() == pytest.approx(6, abs=0.2)
    assert number.var().item() == pytest.approx(6, rel=0.12)


# Streets and SVHN ---------------------------------------------------------------------------------


def test_streets_have_two_digits_anywhere():
    made = canvases.streets(12, gen(), (30, 120))
    again = canvases.streets(12, gen(), (30, 120))
    assert all(torch.equal(made[k], again[k]) for k in made)
    assert made["images"].shape == (12, 1, 30, 120)
    assert made["images"].dtype == torch.uint8
    assert made["boxes"].shape == (12, 2, 4)
    assert made["classes"].shape == (12, 2)
    left, top, right, bottom = made["boxes"].unbind(-1)
    assert (left[:, 0] < left[:, 1]).all()
    assert left.min() >= -1
    assert right.max() <= 120
    assert top.min() >= -4
    assert bottom.max() <= 33
    assert left.max() - left.min() > 30
    for image, boxes in zip(made["images"].float(), made["boxes"], strict=True):
        a, b, c, d = boxes[0].clamp(min=0).round().int().tolist()
        assert image[0, b:d, a:c].std() > 3  # there is something in the box


def test_squeezed_boxes_go_with_their_pixels():
    image = torch.zeros(3, 20, 40, dtype=torch.uint8)
    image[:, 5:15, 8:20] = 255
    grey, boxes = svhn.squeeze(image, torch.tensor([[8.0, 5.0, 12.0, 10.0]]), (60, 80))
    assert boxes.tolist() == [[15.5, 14.5, 39.5, 44.5]]
    bright = (grey > 127).nonzero()
    assert bright.amin(0).tolist() == [15, 16]
    assert bright.amax(0).tolist() == [44, 39]


@needs("svhn-full-512")
def test_two_digit_images_of_svhn(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    sizes = {}
    for split, number in (("train", 143), ("test", 169)):
        found = svhn.two_digits(split, REAL, "512")
        known = [a for a in svhn.annotations(split, REAL, "512") if len(a.digits) == 2]
        assert len(known) == number
        assert found["images"].shape == (number, 1, 60, 240)
        assert found["classes"].tolist() == [a.digits for a in known]
        sizes[split] = found["boxes"][..., 3] - found["boxes"][..., 1]
    kept = svhn.two_digits("test", REAL, "512", least_height=30)
    assert len(kept["images"]) == (sizes["test"].amin(1) >= 30).sum() < 169
    assert (kept["boxes"][..., 3] - kept["boxes"][..., 1]).min() >= 30


def test_centres_16_pixels_apart_are_14_8_apart_after_rounding():
    """Rounding moves each coordinate of a difference by less than 1: sqrt(218), at (7, 13)."""
    apart = [
        (math.hypot(a, b), a, b)
        for a in range(20)
        for b in range(a, 20)
        if math.hypot(a + 1, b + 1) > 16
    ]
    assert min(apart) == (math.sqrt(218), 7, 13)
    _, labels = pools()
    scenes = canvases.hard(300, labels, (28, 28), gen(3), size=80, box=20.0, radius=16.0, k=(9, 9))
    places = scenes.places((28, 28), 20.0)[..., :2]
    least = distances(places).min().item()
    assert math.sqrt(218) - 1e-5 <= least < 16
