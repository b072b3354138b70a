"""The claims about patches, tested against loops, enumeration, limits and finite differences."""

import inspect
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from wsl_tutorial import patches

DTYPES = [torch.float32, torch.float64]
SCALES = torch.tensor([14.0, 17.0, 20.0, 24.0, 28.0], dtype=torch.float64)


def randn(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def rand(*shape, seed=0, dtype=torch.float64):
    return torch.special.ndtr(randn(*shape, seed=seed)).to(dtype)


def some_places(seed, batch, k, width, height, side=(3.0, 8.0)):
    """Return places anywhere in the image and a little outside it, off the grid of pixels."""
    u = rand(batch, k, 3, seed=seed)
    extent = torch.tensor([width + 1.0, height + 1.0, side[1] - side[0]])
    return u * extent - torch.tensor([1.0, 1.0, -side[0]])


def window(h, i, j, size):
    r = size // 2
    return h[max(i - r, 0) : i + r + 1, max(j - r, 0) : j + r + 1]


# The local softmax -------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    size=st.sampled_from([1, 3, 5, 15]),
    floor=st.sampled_from([0.0, 1e-6, 0.3]),
)
def test_local_softmax_is_a_softmax_in_every_clipped_window(seed, shape, size, floor):
    h = randn(2, *shape, seed=seed)
    p = patches.local_softmax(h, size, 3.0, floor)
    for b, i, j in itertools.product(range(2), range(shape[0]), range(shape[1])):
        rival = floor * (3 * h[b].max()).exp()
        by_hand = (3 * h[b, i, j]).exp() / ((3 * window(h[b], i, j, size)).exp().sum() + rival)
        torch.testing.assert_close(p[b, i, j], by_hand)
    by_scale = patches.local_softmax(h[None], size, 3.0, floor)
    torch.testing.assert_close(by_scale, p[None])


def test_great_strength_makes_the_hard_maximum():
    h = randn(1, 12, 12)
    hard = patches.suppress(h, 5) > -torch.inf
    p = patches.local_softmax(h, 5, 1e6)
    torch.testing.assert_close(p, hard.double())
    h[:, 2, 2:4] = 9.0  # two equal neighbours share
    assert patches.local_softmax(h, 5, 1e6)[0, 2, 2:4].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_constant_map_gives_one_over_the_size_of_the_window(dtype):
    h = torch.full((1, 6, 8), 3.0, dtype=dtype, requires_grad=True)
    p = patches.local_softmax(h, 5, 10.0)
    inside = torch.tensor([[len(window(torch.ones(6, 8), i, j, 5).flatten()) for j in range(8)]
                           for i in range(6)])  # fmt: skip
    torch.testing.assert_close(p[0], (1 / inside).to(dtype))
    assert torch.autograd.grad((p * randn(6, 8, dtype=dtype)).sum(), h)[0].isfinite().all()


def test_scores_of_any_size_neither_overflow_nor_vanish():
    h = torch.zeros(1, 9, 40)
    h[0, 4, 4], h[0, 4, 30] = 5000.0, 50.0  # the second peak is no rival of the first
    h.requires_grad_()
    p = patches.local_softmax(h, 15, 10.0)
    assert p[0, 4, 4] == p[0, 4, 30] == 1
    p.sum().backward()
    assert h.grad.isfinite().all()
    for height, floor in itertools.product((5000, -5000), (0.0, 1e-6)):
        far = height + randn(1, 9, 9).float()
        exact = patches.local_softmax(far.double(), 5, 10.0, floor)
        p = patches.local_softmax(far, 5, 10.0, floor)
        torch.testing.assert_close(p.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_the_maps_have_the_derivatives_of_finite_differences(floor):
    h, scales = randn(2, 3, 4, 5).requires_grad_(), SCALES[:3]
    assert torch.autograd.gradcheck(lambda h: patches.local_softmax(h, 3, 2.0, floor), h)
    maps = patches.local_softmax(h.detach(), 3, 2.0, floor).requires_grad_()
    assert torch.autograd.gradcheck(patches.pool_scales, maps)
    assert torch.autograd.gradcheck(lambda m: patches.first_moment(m, scales), maps)


def test_the_floor_is_a_threshold_below_the_maximum_of_the_map():
    h = torch.full((1, 9, 40), -9.0, dtype=torch.float64)
    h[0, 4, 4] = 0.0
    drop = math.log(1e6) / 10  # 1.4
    for below in (0.5, 1.0, drop, 2.0):
        h[0, 4, 30] = -below
        p = patches.local_softmax(h, 15, 10.0, 1e-6)[0, 4, 30].item()
        assert p == pytest.approx(1 / (1 + math.exp(10 * (below - drop))), rel=1e-6)


def test_inside_the_map_the_floor_is_the_arithmetic_of_the_release():
    h = randn(1, 20, 20)
    e = (10 * (h - h.max())).exp()
    inside = e[:, 7:-7, 7:-7] / (F.avg_pool2d(e, 15, 1) * 225 + 1e-6)
    torch.testing.assert_close(patches.local_softmax(h, 15, 10.0, 1e-6)[:, 7:-7, 7:-7], inside)


# From maps to places -----------------------------------------------------------------------------


def test_pooling_and_moments_over_scale():
    h = rand(2, 3, 4, 5)
    scales = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    pooled, side = patches.pool_scales(h), patches.first_moment(h, scales)
    torch.testing.assert_close(pooled, h.square().sum(1) / h.sum(1))
    assert (pooled <= h.amax(1)).all()
    assert (pooled >= h.mean(1)).all()
    torch.testing.assert_close(side, (h * scales[:, None, None]).sum(1) / h.sum(1))


def test_the_printed_moment_is_no_inverse():
    scales = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for share, printed, renormalised in ([(0.5, 0.5), 0.75, 1.5], [(0.8, 0.2), 0.72, 1.0588235]):
        h = torch.tensor(share, dtype=torch.float64).view(1, 2, 1, 1)
        pooled = h * h / h.sum(1, keepdim=True)
        assert (pooled[0, :, 0, 0] * scales).sum().item() == pytest.approx(printed)
        moment = (pooled[0, :, 0, 0] * scales).sum() / pooled.sum()
        assert moment.item() == pytest.approx(renormalised)
        true = share[0] * 1 + share[1] * 2
        assert patches.first_moment(h, scales).item() == pytest.approx(true)


def test_a_map_without_response_has_the_mean_scale_and_no_gradient_of_nan():
    h = torch.zeros(1, 5, 2, 2, dtype=torch.float64, requires_grad=True)
    pooled, side = patches.pool_scales(h), patches.first_moment(h, SCALES)
    assert (pooled == 0).all()
    assert (side == SCALES.mean()).all()
    (pooled.sum() + side.sum()).backward()
    assert (h.grad == 0).all()


def survivors(h, size):
    """Return the pixels that are first in their window, by value and then in reading order."""
    rank = [(-h[i, j].item(), i, j) for i, j in itertools.product(*map(range, h.shape))]
    near = size // 2
    return [
        (i, j)
        for v, i, j in rank
        if v < math.inf
        and all((v, i, j) <= o for o in rank if max(abs(o[1] - i), abs(o[2] - j)) <= near)
    ]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    levels=st.sampled_from([1, 2, 4, 1000]),
    size=st.sampled_from([1, 3, 5, 7]),
)
def test_suppression_keeps_the_first_of_every_window(seed, shape, levels, size):
    h = (levels * rand(2, *shape, seed=seed)).floor() - levels / 2  # ties, and values below 0
    h[rand(2, *shape, seed=seed + 1) < 0.1] = -torch.inf
    kept = patches.suppress(h, size)
    for one, was in zip(kept, h, strict=True):
        found = [tuple(p) for p in (one > -torch.inf).nonzero().tolist()]
        assert found == sorted(survivors(was, size))
        assert all(one[p] == was[p] for p in found)
    assert (patches.suppress(h[:, None], size)[:, 0] == kept).all()


def test_of_a_plateau_one_pixel_survives():
    kept = patches.suppress(torch.zeros(1, 9, 9), 5) > -torch.inf
    assert kept.nonzero().tolist() == [[0, 0, 0]]
    h = torch.zeros(1, 9, 9)
    h[0, 3:5, 3:5] = 1.0
    h[0, 8, 8] = 1.0  # a corner counts as any pixel
    kept = patches.suppress(h, 5)
    assert (kept == 1).nonzero().tolist() == [[0, 3, 3], [0, 8, 8]]


def test_one_place_is_the_argmax():
    h = randn(50, 9, 7)
    for size in (1, 3, 9):
        places, values = patches.extract(h, 1, size, 6.0)
        best = h.flatten(1).argmax(1)
        assert (places[:, 0, 1] * 7 + places[:, 0, 0] == best).all()
        assert (values[:, 0] == h.flatten(1).amax(1)).all()
        assert (places[:, 0, 2] == 6).all()


def test_top_k_is_sorted_and_ties_are_read_in_order():
    h = torch.tensor([[[1.0, 3.0, 3.0], [2.0, 3.0, -5.0]]])
    places, values = patches.top_k(h, 6, 2.0)
    assert values.tolist() == [[3.0, 3.0, 3.0, 2.0, 1.0, -5.0]]
    assert places[0, :, :2].tolist() == [[1, 0], [2, 0], [1, 1], [0, 1], [0, 0], [2, 1]]


def test_fewer_maxima_than_places_repeat_the_best_one():
    h = torch.full((2, 9, 9), -torch.inf)
    h[0, 4, 6], h[0, 2, 1] = -1.0, -3.0
    h.requires_grad_()
    places, values = patches.extract(h, 4, 5, 3.0)
    assert places[0, :, :2].tolist() == [[6, 4], [1, 2], [6, 4], [6, 4]]
    assert values[0].tolist() == [-1.0, -3.0, -torch.inf, -torch.inf]
    assert (places[1, :, :2] == 0).all()
    assert (values[1] == -torch.inf).all()
    values[0, :2].sum().backward()
    assert h.grad.nonzero().tolist() == [[0, 2, 1], [0, 4, 6]]


@st.composite
def apart(draw, size=5, width=23, height=17):
    """Draw K centres of which no two share a window, and a side for each."""
    cells = st.tuples(st.integers(0, width - 1), st.integers(0, height - 1))
    chosen = []
    for x, y in draw(st.lists(cells, min_size=1, max_size=9)):
        if all(max(abs(x - a), abs(y - b)) > size // 2 for a, b, _ in chosen):
            chosen.append((x, y, draw(st.floats(14.0, 28.0))))
    return torch.tensor(chosen, dtype=torch.float64)[None]


@settings(max_examples=60, deadline=None)
@given(places=apart())
def test_extraction_inverts_the_ideal_map(places):
    k = places.shape[1]
    by_position = places[0, :, :2].tolist()
    h = patches.ideal_heatmap(places, (17, 23), SCALES)
    assert h.shape == (1, 5, 17, 23)
    assert h.sum().item() == pytest.approx(k)
    assert ((h > 0).sum(1) <= 2).all()
    back, values = patches.extract(h, k, 5, SCALES)
    order = [back[0, :, :2].tolist().index(p) for p in by_position]
    torch.testing.assert_close(back[:, order], places, rtol=1e-12, atol=1e-9)
    assert (values >= 0.5).all()
    single, _ = patches.extract(patches.ideal_heatmap(places, (17, 23)), k, 5, 20.0)
    assert sorted(single[0, :, :2].tolist()) == sorted(by_position)


def test_a_side_is_split_between_the_scales_below_and_above_it_not_the_two_nearest():
    scales = torch.tensor([6.0, 8.0, 12.0]).double()  # 6 is nearer to 8.5 than 12 is
    places = torch.tensor([[[3.0, 2.0, 8.5]]]).double()
    h = patches.ideal_heatmap(places, (5, 7), scales)
    assert h[0, :, 2, 3].tolist() == [0, 0.875, 0.125]
    assert patches.extract(h, 1, 5, scales)[0].tolist() == places.tolist()


def test_only_one_of_the_maps_with_the_same_places_is_ideal():
    places = torch.tensor([[[4.0, 3.0, 5.0], [9.0, 8.0, 5.0]]]).double()
    ideal = patches.ideal_heatmap(places, (12, 14))
    for h in (ideal, 0.6 * ideal, ideal + 0.3 * rand(1, 12, 14)):
        found, _ = patches.extract(h, 2, 5, 5.0)
        assert sorted(found[0].tolist()) == places[0].tolist()


def test_ideal_maps_round_clamp_merge_and_are_constant():
    places = [[2.49, 1.5, 14.0], [-3.0, 99.0, 5.0], [2.0, 2.0, 99.0], [4.5, 0.5, 20.0]]
    places = torch.tensor([places]).requires_grad_()
    h = patches.ideal_heatmap(places, (6, 7))
    assert h[0].nonzero().tolist() == [[1, 5], [2, 2], [5, 0]]  # a half goes up, even or odd
    assert h.max() == 1
    h = patches.ideal_heatmap(places, (6, 7), SCALES.float())
    assert not h.requires_grad
    assert h[0, :, 2, 2].tolist() == [1, 0, 0, 0, 1]  # both ends of the scales
    assert h[0, :, 5, 0].tolist() == [1, 0, 0, 0, 0]
    one = patches.ideal_heatmap(places, (6, 7), SCALES[:1].float())
    assert (one[:, 0] == patches.ideal_heatmap(places, (6, 7))).all()


def test_places_shift_with_the_map():
    h = torch.full((1, 5, 30, 30), 1e-3, dtype=torch.float64)
    h[:, :, 8:20, 8:20] = rand(1, 5, 12, 12)
    places, values = patches.extract(h, 4, 5, SCALES)
    moved, same = patches.extract(h.roll((3, -2), (2, 3)), 4, 5, SCALES)
    torch.testing.assert_close(moved, places + torch.tensor([-2.0, 3.0, 0.0]))
    assert (same == values).all()


@pytest.mark.parametrize("spread", [3.0, 5.0, 20.0])
def test_maps_that_underflow_have_finite_gradients(spread):
    """The softmax of strength 10 leaves pixels that are subnormal or 0 at every scale."""
    scores = (spread * randn(2, 5, 30, 30)).float()
    maps = patches.local_softmax(scores, 15, 10.0).requires_grad_()
    assert (maps.sum(1) < torch.finfo(torch.float32).tiny).any()
    pooled, side = patches.pool_scales(maps), patches.first_moment(maps, SCALES.float())
    (gradient,) = torch.autograd.grad(pooled.sum() + side.sum(), maps)
    assert gradient.isfinite().all()
    assert (side - side.clamp(SCALES[0], SCALES[-1])).abs().max() < 1e-5  # rounding


def test_a_place_without_coordinates_makes_its_pixel_nan():
    places = torch.tensor([[[torch.nan, 2.0, 20.0], [4.0, 3.0, 20.0]], [[1.0, 1.0, 20.0]] * 2])
    for scales in (None, SCALES.float()):
        h = patches.ideal_heatmap(places, (6, 7), scales)
        assert h[0].isnan().any()
        assert h[0, ..., 3, 4].sum() == 1
        assert h[1].isfinite().all()


# Sampling and placing ----------------------------------------------------------------------------


def bilinear(image, x, y):
    """Interpolate one image (H, W), continued with zeros, at one point."""
    value, (height, width) = 0.0, image.shape
    for j, i in itertools.product(*((math.floor(v), math.floor(v) + 1) for v in (x, y))):
        if 0 <= i < height and 0 <= j < width:
            value += (1 - abs(x - j)) * (1 - abs(y - i)) * image[i, j].item()
    return value


def test_sampling_is_bilinear_from_edge_to_edge():
    images, places = randn(2, 1, 6, 7), some_places(1, 2, 4, 7, 6)
    out = patches.sample(images, places, 5)
    assert out.shape == (2, 4, 1, 5, 5)
    for b, k, i, j in itertools.product(range(2), range(4), range(5), range(5)):
        x, y, s = places[b, k].tolist()
        by_hand = bilinear(images[b, 0], x + s * (j / 4 - 0.5), y + s * (i / 4 - 0.5))
        assert out[b, k, 0, i, j].item() == pytest.approx(by_hand, abs=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_box_as_large_as_the_image_is_the_image(dtype):
    images = randn(2, 3, 9, 9, dtype=dtype)
    whole = torch.tensor([[[4.0, 4.0, 8.0]]], dtype=dtype).expand(2, 1, 3)
    torch.testing.assert_close(patches.sample(images, whole, 9)[:, 0], images)
    one = torch.tensor([[[0.0, 0.0, 1.0]]], dtype=dtype)  # an image of a single pixel
    single = patches.sample(torch.ones(1, 1, 1, 1, dtype=dtype), one, 3)[0, 0, 0]
    torch.testing.assert_close(single[1], torch.tensor([0.5, 1.0, 0.5], dtype=dtype))


def test_sampling_and_placing_shift_with_the_image():
    images, places = torch.zeros(1, 2, 24, 24, dtype=torch.float64), some_places(2, 1, 3, 6, 6)
    images[:, :, 8:16, 8:16] = randn(1, 2, 8, 8)
    places = places + torch.tensor([9.0, 9.0, 0.0])
    step = torch.tensor([3.0, -2.0, 0.0])
    before = patches.sample(images, places, 8)
    after = patches.sample(images.roll((-2, 3), (2, 3)), places + step, 8)
    torch.testing.assert_close(after, before)
    there = patches.place(before, places + step, (24, 24))
    torch.testing.assert_close(there, patches.place(before, places, (24, 24)).roll((-2, 3), (3, 4)))


def test_far_outside_the_image_there_is_nothing():
    far = torch.tensor([[[40.0, 3.0, 6.0], [3.0, -40.0, 6.0]]])
    assert (patches.sample(torch.ones(1, 1, 8, 8), far, 4) == 0).all()
    assert (patches.place(torch.ones(1, 2, 1, 4, 4), far, (8, 8)) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_placing_inverts_sampling_on_whole_pixels(dtype):
    """Side = size - 1 and edges on pixels; two boxes that do not overlap."""
    for size in (4, 5):
        half = (size - 1) / 2
        places = torch.tensor([[[2 + half, 1 + half, size - 1], [9 + half, 5 + half, size - 1]]])
        places = places.to(dtype)
        image = torch.zeros(1, 2, 14, 16, dtype=dtype)
        for x, y in ((2, 1), (9, 5)):
            image[:, :, y : y + size, x : x + size] = randn(1, 2, size, size, seed=x, dtype=dtype)
        out = patches.sample(image, places, size)
        back = patches.place(out, places, (14, 16))
        assert back.shape == (1, 2, 2, 14, 16)
        torch.testing.assert_close(back.sum(1), image, rtol=1e-4, atol=1e-5)
        other = randn(1, 2, 2, size, size, dtype=dtype)
        again = patches.sample(patches.place(other, places, (14, 16))[:, 0], places[:, :1], size)
        torch.testing.assert_close(again, other[:, :1], rtol=1e-4, atol=1e-5)


def test_a_placed_patch_lies_in_its_box_and_keeps_its_shape():
    """Bilinear interpolation reproduces a plane, so the round trip is exact inside the box."""
    y, x = torch.meshgrid(torch.arange(30.0), torch.arange(30.0), indexing="ij")
    image = (3 + 0.5 * x - 0.2 * y).double()[None, None]
    places = torch.tensor([[[14.3, 12.8, 11.7]]], dtype=torch.float64)
    back = patches.place(patches.sample(image, places, 32), places, (30, 30))[0, 0]
    inside = torch.maximum((x - 14.3).abs(), (y - 12.8).abs()) <= 11.7 / 2
    step = 11.7 / 31
    outside = torch.maximum((x - 14.3).abs(), (y - 12.8).abs()) >= 11.7 / 2 + step
    torch.testing.assert_close(back[0][inside], image[0, 0][inside])
    assert (back[0][outside] == 0).all()
    assert (inside | outside).sum() > 800


def test_derivatives_of_the_sampler_and_its_inverse():
    """Finite differences, at places off the kinks of the piecewise bilinear function."""
    images, places = randn(2, 2, 7, 8), some_places(3, 2, 3, 8, 7)
    images.requires_grad_()
    places.requires_grad_()
    assert torch.autograd.gradcheck(lambda i, p: patches.sample(i, p, 4), (images, places))
    small = randn(2, 3, 2, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda q, p: patches.place(q, p, (7, 8)), (small, places))
    labels = randn(2, 2, 7, 8, seed=5)

    def reconstruct(p):
        return patches.reconstruction_loss(labels, patches.sample(images, p, 4), p)

    assert torch.autograd.gradcheck(reconstruct, places)


# Losses ------------------------------------------------------------------------------------------


def test_proportions_of_labels_and_places():
    logits = randn(2, 4, 3)
    labels = [[0, 0, 2], [1]]  # L = 3 and 1, K = 4
    counts = torch.stack([torch.tensor(l).bincount(minlength=3) for l in labels])
    loss = patches.proportion_loss(logits, counts)
    for b, of_bag in enumerate(labels):
        one_hot = F.one_hot(torch.tensor(of_bag), 3).double().mean(0)
        difference = one_hot - logits[b].softmax(1).mean(0)
        torch.testing.assert_close(loss[b], (difference**2).sum())
    sure = 1e3 * F.one_hot(torch.tensor([[0, 2, 0]]), 3).double()
    assert patches.proportion_loss(sure, counts[:1]).item() == pytest.approx(0, abs=1e-12)
    none = patches.proportion_loss(logits[:1], torch.zeros(1, 3, dtype=torch.int64))
    torch.testing.assert_close(none, logits[:1].softmax(2).mean(1).square().sum(1))
    assert torch.autograd.gradcheck(lambda z: patches.proportion_loss(z, counts), logits.clone()
                                    .requires_grad_())  # fmt: skip


def test_heat_map_and_reconstruction_losses():
    h, places = rand(2, 9, 9), torch.tensor([[[2.0, 3.0, 4.0]], [[6.2, 7.7, 4.0]]]).double()
    loss = patches.heatmap_loss(h, places)
    target = torch.zeros(2, 9, 9).double()
    target[0, 3, 2] = target[1, 8, 6] = 1
    torch.testing.assert_close(loss, ((h - target) ** 2).mean((1, 2)))
    weights = torch.tensor([0.5, 2.0]).double().requires_grad_()
    weighted = patches.heatmap_loss(h.requires_grad_(), places, weights=weights)
    torch.testing.assert_close(weighted, loss * torch.tensor([0.5, 2.0]))
    weighted.sum().backward()
    assert weights.grad is None
    by_scale = patches.ideal_heatmap(places, (9, 9), SCALES)
    assert patches.heatmap_loss(by_scale, places, SCALES).tolist() == [0, 0]
    images, small = randn(2, 3, 9, 9), randn(2, 1, 3, 4, 4)
    value = patches.reconstruction_loss(images, small, places)
    by_hand = (images - patches.place(small, places, (9, 9))[:, 0]).square().mean((1, 2, 3))
    torch.testing.assert_close(value, by_hand)


# The lifting -------------------------------------------------------------------------------------


def brightness(images, net):
    """Return a task loss: minus the mean output of a network on the patches, image by image."""
    return lambda places: -net(patches.sample(images, places, 6)).flatten(1).mean(1)


def some_task(seed=0):
    images = randn(3, 1, 12, 12, seed=seed)
    net = torch.nn.Linear(6, 2).double()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(randn(*p.shape, seed=seed + 1))
    return images, net, some_places(seed, 3, 2, 12, 12)


def test_one_move_is_one_gradient_step_on_the_centres():
    images, net, places = some_task()
    x = places.clone().requires_grad_()
    task = brightness(images, net)
    (g,) = torch.autograd.grad(task(x).sum(), x)
    moved = patches.move(places, task, 1, 0.7)
    assert g[..., :2].abs().min() > 0
    torch.testing.assert_close(moved[..., :2], places[..., :2] - 0.7 * g[..., :2])
    assert (moved[..., 2] == places[..., 2]).all()
    assert not moved.requires_grad
    assert all(p.grad is None for p in net.parameters())
    with torch.no_grad():
        assert (patches.move(places, task, 1, 0.7) == moved).all()
    alone = patches.move(places[1:2], brightness(images[1:2], net), 1, 0.7)
    torch.testing.assert_close(alone, moved[1:2])  # whatever else is in the batch
    assert (patches.move(places, task, 0, 0.7) == places).all()


def test_lifting_with_two_steps_adds_two_gradients():
    """Only one step is back-propagation through a differentiable choice of places."""
    target = torch.tensor([2.0, -1.0]).double()

    def task_loss(places):
        return (places[:, 0, :2] - target).pow(4).sum(1)

    theta = randn(1, 1, 6, 7).requires_grad_()
    v0 = patches.soft_argmax(theta, 1.0, 5.0)

    def slope(v):
        leaf = v.detach().requires_grad_()
        return torch.autograd.grad(task_loss(leaf).sum(), leaf)[0]

    def pulled(vector):
        return torch.autograd.grad(v0, theta, vector, retain_graph=True)[0]

    rate, chain = 0.01, pulled(slope(v0))
    lifted = [pulled((v0 - patches.move(v0, task_loss, n, rate)).detach()) for n in (1, 2)]
    torch.testing.assert_close(lifted[0], rate * chain)
    v1 = v0.detach() - rate * slope(v0)
    torch.testing.assert_close(lifted[1], rate * pulled(slope(v0) + slope(v1)))
    parallel = [torch.cosine_similarity(x.flatten(), chain.flatten(), 0).item() for x in lifted]
    assert parallel[0] == pytest.approx(1, abs=1e-12)
    assert parallel[1] < 1 - 1e-6


def test_normalised_moves_have_a_length_in_pixels():
    images, net, places = some_task(3)
    for scale in (1.0, 1e-9):
        task = brightness(scale * images, net)
        moved = patches.move(places, task, 1, 0.5, normalise=True)
        length = (moved - places).norm(dim=-1)
        torch.testing.assert_close(length, torch.full_like(length, 0.5))
    flat = patches.move(places, brightness(0 * images, net), 2, 0.5, normalise=True)
    assert (flat == places).all()


@pytest.mark.parametrize("scale", [1e-20, 1e-35, 1e20])
def test_a_direction_has_length_one_whatever_the_scale(scale):
    places, slope = torch.zeros(2, 3, 3), scale * torch.tensor([0.6, -0.8])
    moved = patches.move(places, lambda x: (slope * x[..., :2]).sum((1, 2)), 1, 0.5, normalise=True)
    torch.testing.assert_close(moved[0, 0], torch.tensor([-0.3, 0.4, 0.0]))


def test_sides_move_at_their_own_rate_and_stay_within_the_scales():
    images, net, places = some_task(5)
    scales = torch.tensor([2.0, 4.0, 9.0]).double()
    x = places.clone().requires_grad_()
    task = brightness(images, net)
    (g,) = torch.autograd.grad(task(x).sum(), x)
    moved = patches.move(places, task, 1, 0.7, 0.1, side_lr=0.2, scales=scales)
    assert g[..., 2].abs().min() > 0
    for part, lr in ((slice(0, 2), 0.7), (slice(2, 3), 0.2)):
        step = places[..., part] - lr * g[..., part] / (1 + 2 * lr * 0.1)
        torch.testing.assert_close(moved[..., part], step)
    for slope, end in ((1.0, 2.0), (-1.0, 9.0)):
        pull = partial(lambda slope, x: slope * x[..., 2].sum(1), slope)
        far = patches.move(places, pull, 9, 0.0, side_lr=5.0, scales=scales)
        assert (far[..., 2] == end).all()
        assert (far[..., :2] == places[..., :2]).all()
    still = patches.move(places, task, 3, 0.7, scales=scales)
    assert (still[..., 2] == places[..., 2]).all()


def test_the_lifting_learns_how_large_things_are():
    """The task has its minimum at boxes of side 6, the map at 4; the target is the moved side."""
    scales = torch.tensor([4.0, 8.0]).double()
    start = torch.tensor([[[5.0, 5.0, 4.0]]]).double()
    eta = patches.ideal_heatmap(start, (11, 11), scales).requires_grad_()

    def task_loss(places):
        return (places[..., 2] - 6).square().sum(1)

    for _ in range(150):
        places, _ = patches.extract(eta.detach(), 1, 3, scales)
        lifted = patches.lifted_step(eta, places, task_loss, 1, 0.0, side_lr=0.3, scales=scales)
        (slope,) = torch.autograd.grad(lifted.heat.sum(), eta)
        with torch.no_grad():
            eta -= 30 * slope
    assert patches.extract(eta.detach(), 1, 3, scales)[0][0, 0].tolist() == pytest.approx([5, 5, 6])


def test_the_penalty_holds_places_however_great_it_is():
    images, net, places = some_task(4)
    task = brightness(images, net)
    for penalty in (1e3, 1e30):
        moved = patches.move(places, task, 20, 1.0, penalty)
        assert (moved - places).abs().max() < 2 / penalty
    free = patches.move(places, task, 20, 1.0)
    assert (free - places).abs().max() > 0.1


def test_moves_find_the_minimum_of_the_task_with_its_penalty():
    """(x - a)**2 + penalty (x - x0)**2 has its minimum at (a + penalty x0) / (1 + penalty)."""
    a, places = torch.tensor([5.0, 1.0]).double(), some_places(5, 2, 3, 9, 9)
    moved = patches.move(places, lambda x: (x[..., :2] - a).square().sum((1, 2)), 400, 0.1, 0.6)
    torch.testing.assert_close(moved[..., :2], (a + 0.6 * places[..., :2]) / 1.6)


def test_stopping_early_is_a_penalty():
    """On a linear loss m steps of size lr end at the minimum under the penalty 1 / (2 m lr)."""
    slope, places = torch.tensor([3.0, -1.0]).double(), some_places(6, 1, 2, 9, 9)
    moved = patches.move(places, lambda x: (slope * x[..., :2]).sum((1, 2)), 4, 0.05)
    proximal = places[..., :2] - slope / (2 * (1 / (2 * 4 * 0.05)))
    torch.testing.assert_close(moved[..., :2], proximal)


def two_networks(seed=0):
    torch.manual_seed(seed)
    heat = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 1)
    ).double()
    return heat, torch.nn.Sequential(torch.nn.Flatten(2), torch.nn.Linear(36, 3)).double()


def forward(heat, task_net, images, counts):
    """Return the heat map, its places, and the task loss as a function of places."""
    h = patches.local_softmax(heat(images)[:, 0], 7, 10.0)
    start, _ = patches.extract(h, 2, 5, 5.0)

    def task_loss(places):
        return patches.proportion_loss(task_net(patches.sample(images, places, 6)), counts)

    return h, start, task_loss


@pytest.mark.parametrize("printed", [False, True])
def test_one_backward_of_the_lifted_step_is_the_algorithm(printed):
    """Three steps of the algorithm block by block, in both orders, end in the same weights."""
    images, counts = rand(4, 1, 14, 14), torch.tensor([[1, 1, 0], [0, 0, 2], [2, 0, 0], [0, 1, 1]])
    kept = {}
    for way in ("by hand", "lifted"):
        heat, task_net = two_networks()
        tau = torch.optim.Adam(task_net.parameters(), 1e-2)
        eta = torch.optim.Adam(heat.parameters(), 1e-2)
        both = torch.optim.Adam([*heat.parameters(), *task_net.parameters()], 1e-2)

        def step(optimizer, loss):
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()

        for _ in range(3):
            h, start, task_loss = forward(heat, task_net, images, counts)
            if way == "lifted":
                update = (lambda loss: step(tau, loss)) if printed else None  # noqa: B023
                lifted = patches.lifted_step(
                    h, start, task_loss, 2, 3.0, weights=lambda l: (-2.5 * l).exp(),
                    update_task=update,
                )  # fmt: skip
                step(eta if printed else both, lifted.task + lifted.heat)
                continue
            if printed:
                loss = task_loss(start)
                step(tau, loss)
                moved = patches.move(start, task_loss, 2, 3.0)
            else:
                moved = patches.move(start, task_loss, 2, 3.0)
                loss = task_loss(moved)
                step(tau, loss)
            weight = (-2.5 * loss.detach()).exp()
            step(eta, weight * (h - patches.ideal_heatmap(moved, (14, 14))).square().mean((1, 2)))
        kept[way] = [p.detach().clone() for p in (*heat.parameters(), *task_net.parameters())]
    start = [*two_networks()[0].parameters(), *two_networks()[1].parameters()]
    for a, b, first in zip(*kept.values(), start, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert (a != first).any()


def test_the_losses_of_the_lifted_step_share_no_parameter():
    images, counts = rand(2, 1, 14, 14), torch.tensor([[1, 1, 0], [0, 0, 2]])
    heat, task_net = two_networks()
    h, start, task_loss = forward(heat, task_net, images, counts)
    lifted = patches.lifted_step(h, start, task_loss, 2, 3.0, penalty=0.1)
    assert lifted.task.shape == lifted.heat.shape == (2,)
    for loss, own, other in ((lifted.task, task_net, heat), (lifted.heat, heat, task_net)):
        mine = torch.autograd.grad(loss.sum(), own.parameters(), retain_graph=True)
        assert all((g != 0).any() for g in mine)
        foreign = torch.autograd.grad(loss.sum(), other.parameters(), allow_unused=True,
                                      retain_graph=True)  # fmt: skip
        assert all(g is None for g in foreign)


def blobs(generator, batch=16, size=24):
    """Return images of two blobs in noise, and their centres (B, 2, 2), at least 8 pixels apart."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centres = torch.empty(batch, 2, 2)
    near = torch.ones(batch, dtype=torch.bool)
    while near.any():
        centres[near] = 5 + (size - 10) * torch.rand(int(near.sum()), 2, 2, generator=generator)
        near = (centres[:, 0] - centres[:, 1]).abs().amax(1) < 8
    square = (x - centres[..., :1, None]) ** 2 + (y - centres[..., 1:, None]) ** 2
    noise = 0.1 * torch.randn(batch, 1, size, size, generator=generator)
    return (-square / 8).exp().sum(1, keepdim=True) + noise, centres


def test_lifting_learns_to_localise_without_locations():
    """A small network starts far from the blobs; the task loss only rewards bright patches."""
    torch.manual_seed(1)
    generator = torch.Generator().manual_seed(1)
    heat = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 5, padding=2), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 5, padding=2)
    )
    optimizer = torch.optim.Adam(heat.parameters(), 1e-2)

    def detect(images):
        h = patches.local_softmax(heat(images)[:, 0], 9, 10.0)
        return h, patches.extract(h, 2, 5, 6.0)[0]

    def distance():
        images, centres = blobs(torch.Generator().manual_seed(2))
        gap = (detect(images)[1][:, :, None, :2] - centres[:, None]).norm(dim=-1)
        return gap.amin(1).mean()  # of each blob to the nearest place, in pixels

    before = distance()
    for _ in range(40):
        images, _ = blobs(generator)
        h, places = detect(images)
        task = lambda p: -patches.sample(images, p, 7).flatten(1).mean(1)  # noqa: B023, E731
        lifted = patches.lifted_step(h, places, task, 2, 1.0, normalise=True)
        optimizer.zero_grad()
        (lifted.task + lifted.heat).mean().backward()
        optimizer.step()
    assert before > 4
    assert distance() < 0.7


# Soft top-K --------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(2, 12),
    temperature=st.sampled_from([0.01, 0.1, 1.0, 30.0]),
    data=st.data(),
)
def test_soft_top_k_is_a_logistic_threshold(seed, n, temperature, data):
    k = data.draw(st.integers(1, n - 1))
    s = randn(3, n, seed=seed)
    p = patches.soft_top_k(s, k, temperature)
    torch.testing.assert_close(p.sum(1), torch.full((3,), k).double(), rtol=1e-9, atol=1e-9)
    t = s - temperature * torch.logit(p)  # one threshold for all items of a row
    middle = (p > 1e-6) & (p < 1 - 1e-6)
    spread = t.masked_fill(~middle, -torch.inf).amax(1) - t.masked_fill(~middle, torch.inf).amin(1)
    assert (spread[middle.any(1)] < 1e-6 * temperature).all()
    assert (p.gather(1, s.argsort(1)).diff() >= 0).all()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(patches.soft_top_k(s[:, order], k, temperature), p[:, order])


def test_sinkhorn_converges_to_the_closed_form_and_so_does_its_gradient():
    s, weight = randn(4, 10), randn(4, 10, seed=1)
    grads = []
    for f in (lambda s: patches.soft_top_k(s, 3, 0.25),
              lambda s: patches.sinkhorn_top_k(s, 3, 0.5, 400)):  # fmt: skip
        x = s.clone().requires_grad_()
        p = f(x)
        grads.append((p.detach(), *torch.autograd.grad((weight * p).sum(), x)))
    for closed, iterated in zip(*grads, strict=True):
        torch.testing.assert_close(closed, iterated, rtol=1e-8, atol=1e-9)


def test_derivative_of_soft_top_k():
    s = randn(2, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: patches.soft_top_k(s, 3, 0.4), s)
    p = patches.soft_top_k(s, 3, 0.4).detach()[0]
    v = p * (1 - p)
    jacobian = torch.autograd.functional.jacobian(lambda x: patches.soft_top_k(x, 3, 0.4), s[:1])
    by_hand = (torch.diag(v) - v[:, None] * v / v.sum()) / 0.4
    torch.testing.assert_close(jacobian[0, :, 0], by_hand)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cold_soft_top_k_is_hard_and_keeps_finite_gradients(dtype):
    s = torch.tensor([[3.0, -1.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0]], dtype=dtype, requires_grad=True)
    for temperature in (1e-3, 1e-12):
        p = patches.soft_top_k(s, 2, temperature)
        torch.testing.assert_close(p[0], torch.tensor([1.0, 0, 1, 0], dtype=dtype))
        torch.testing.assert_close(p[1], torch.full((4,), 0.5, dtype=dtype))
        (g,) = torch.autograd.grad((p * randn(2, 4, dtype=dtype)).sum(), s)
        assert g.isfinite().all()
        assert (g[0] == 0).all()


@pytest.mark.parametrize("low", [-1e9, -1e15, -1e20, -1e38])
def test_an_outlier_does_not_spoil_the_threshold(low):
    s = torch.tensor([[1.0, 2.0, 3.0, 4.0, low], [low, low, low, 0.0, low]])
    p = patches.soft_top_k(s, 2, 0.1)
    torch.testing.assert_close(p.sum(1), torch.full((2,), 2.0))
    torch.testing.assert_close(p[0, :4], patches.soft_top_k(s[:1, :4], 2, 0.1)[0])


def test_a_common_shift_of_the_scores_changes_nothing():
    s = torch.tensor([[0.25, 0.375, 0.5, 0.8125]])  # exact beside 1000
    for shift in (0.0, 100.0, 1000.0):
        p = patches.sinkhorn_top_k(s + shift, 2, 0.25, 300)
        torch.testing.assert_close(p, patches.soft_top_k(s, 2, 0.125))


def test_soft_top_k_passes_over_suppressed_scores():
    s = randn(3, 6)
    s[0, 1] = s[1, :4] = s[2] = -torch.inf
    s.requires_grad_()
    p = patches.soft_top_k(s, 2, 0.3)
    rest = [0, 2, 3, 4, 5]
    torch.testing.assert_close(p[0, rest], patches.soft_top_k(s[:1, rest], 2, 0.3)[0])
    torch.testing.assert_close(p[1], torch.tensor([0.0, 0, 0, 0, 1, 1]).double())
    assert (p[2] == 0).all()
    p.square().sum().backward()
    assert s.grad.isfinite().all()
    assert (s.grad[2] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_sinkhorn_passes_over_suppressed_scores(dtype):
    s, weight = randn(4, 6, dtype=dtype), randn(4, 6, seed=1, dtype=dtype)
    s[0, 1] = s[1, :4] = s[2] = s[3, 1:] = -torch.inf  # 5, 2, 0 and 1 are left
    s.requires_grad_()
    p = patches.sinkhorn_top_k(s, 2, 0.6, 300)
    (gradient,) = torch.autograd.grad((weight * p).sum(), s)
    assert p[1:].tolist() == [[0, 0, 0, 0, 1, 1], [0] * 6, [1, 0, 0, 0, 0, 0]]
    assert (gradient[1:] == 0).all()
    rest = [0, 2, 3, 4, 5]
    free = s.detach()[:1, rest].requires_grad_()
    alone = patches.soft_top_k(free, 2, 0.3)
    (slope,) = torch.autograd.grad((weight[:1, rest] * alone).sum(), free)
    torch.testing.assert_close(p[:1, rest], alone)
    torch.testing.assert_close(gradient[:1, rest], slope, rtol=1e-5, atol=1e-5)
    assert p[0, 1] == gradient[0, 1] == 0


# Estimators with noise ---------------------------------------------------------------------------


def top_marginals(s, sigma, k):
    """Return P(item in the top k of s + sigma z) by quadrature, for three items and k = 1 or 2."""
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    sign = 1 if k == 1 else -1  # of three, the top two leave out the least
    best = []
    for i in range(3):
        others = [torch.special.ndtr(sign * (s[i] - s[j]) / sigma + z) for j in range(3) if j != i]
        best.append(torch.trapezoid(density * others[0] * others[1], z))
    return torch.stack(best) if k == 1 else 1 - torch.stack(best)


@pytest.mark.parametrize("k", [1, 2])
def test_perturbed_top_k_and_its_gradient_are_unbiased(k):
    s = torch.tensor([0.3, -0.2, 0.4]).double().requires_grad_()
    weight = torch.tensor([1.0, -2.0, 0.5]).double()
    exact = top_marginals(s, 0.5, k)
    (slope,) = torch.autograd.grad((weight * exact).sum(), s)
    rows = s.detach().expand(4000, 3).requires_grad_()  # estimates of 50 samples each
    out = patches.perturbed_top_k(rows, k, 0.5, 50, torch.Generator().manual_seed(0))
    assert out.shape == (4000, k, 3)
    torch.testing.assert_close(out.sum(2), torch.ones(4000, k).double())
    (estimates,) = torch.autograd.grad((out.sum(1) * weight).sum(), rows)
    for values, truth in ((out.detach().sum(1), exact.detach()), (estimates, slope)):
        error = values.std(0) / math.sqrt(4000)
        assert ((values.mean(0) - truth).abs() < 4 * error).all()
        assert (error < 0.02).all()


def test_rows_of_perturbed_top_k_sum_to_one_at_any_scale_of_scores():
    for scale in (1.0, 1e5):
        s = scale * randn(2, 1000, dtype=torch.float32)
        out = patches.perturbed_top_k(s, 3, 0.05, 20, torch.Generator().manual_seed(0))
        torch.testing.assert_close(out.sum(2), torch.ones(2, 3))


def test_rows_of_perturbed_top_k_are_in_the_order_of_the_index():
    s = torch.tensor([[7.0, 9.0, -9.0, 0.0, 8.0]])
    out = patches.perturbed_top_k(s, 3, 1e-3, 4, torch.Generator().manual_seed(0))
    assert out[0].argmax(1).tolist() == [0, 1, 4]


def test_perturbed_top_k_never_chooses_suppressed_scores():
    s, weight = randn(3, 5), randn(2, 5, seed=1)
    s[0, 1] = s[1, :4] = s[2] = -torch.inf  # 4, 1 and 0 are left
    s.requires_grad_()
    sigma, samples = 0.5, 40
    out = patches.perturbed_top_k(s, 2, sigma, samples, torch.Generator().manual_seed(3))
    (gradient,) = torch.autograd.grad((weight * out).sum(), s)
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(3, samples, 5, generator=generator, dtype=torch.float64)
    value, slope = torch.zeros(3, 2, 5).double(), torch.zeros(3, 5).double()
    for b in range(3):
        real = [i for i in range(5) if s[b, i] > -torch.inf]
        for z in noise[b]:
            chosen = sorted(sorted(real, key=lambda i: -(s[b, i] + sigma * z[i]).item())[:2])
            gain = sum(weight[row, i] for row, i in enumerate(chosen))
            for row, i in enumerate(chosen):
                value[b, row, i] += 1 / samples
            slope[b, real] += gain * z[real] / (sigma * samples)
    torch.testing.assert_close(out, value)
    torch.testing.assert_close(gradient, slope)
    assert out.sum(2).tolist() == [pytest.approx(row) for row in ([1, 1], [1, 0], [0, 0])]
    assert (gradient[s == -torch.inf] == 0).all()


def test_straight_through_has_hard_values_and_soft_gradients():
    soft = torch.tensor([0.3, -torch.inf, 0.9], requires_grad=True)
    gate = patches.straight_through(torch.ones(3), soft)
    assert gate.tolist() == [1, 1, 1]
    (gate * torch.tensor([2.0, 3.0, 4.0])).sum().backward()
    assert soft.grad.tolist() == [2, 0, 4]


def sequences(h, k, size):
    """Return every ordered choice of k pixels under suppression, with its log-probability."""
    height, width = h.shape

    def grow(chosen, log_p):
        left = [
            q for q in range(height * width)
            if all(max(abs(q % width - c % width), abs(q // width - c // width)) > size // 2
                   for c in chosen)
        ]  # fmt: skip
        if len(chosen) == k or not left:
            return [(chosen + chosen[:1] * (k - len(chosen)), log_p)]
        log_z = torch.logsumexp(h.flatten()[left], 0)
        return [s for q in left for s in grow([*chosen, q], log_p + h.flatten()[q] - log_z)]

    return grow([], torch.zeros((), dtype=h.dtype))


def draw_many(h, k, size, draws, seed=0):
    many = h.expand(draws, *h.shape)
    generator = torch.Generator().manual_seed(seed)
    places, log_prob = patches.draw_places(many, k, size, 2.0, generator)
    return (places[..., 1] * h.shape[1] + places[..., 0]).long(), log_prob


@pytest.mark.parametrize(("shape", "size"), [((2, 3), 1), ((2, 4), 3), ((1, 3), 3)])
def test_drawn_places_have_the_law_of_plackett_and_luce_under_suppression(shape, size):
    h = randn(*shape)
    law = {tuple(c): p for c, p in sequences(h, 2, size)}
    assert torch.stack(list(law.values())).exp().sum().item() == pytest.approx(1)
    index, log_prob = draw_many(h, 2, size, 20_000)
    drawn = [tuple(i) for i in index.tolist()]
    assert set(drawn) <= set(law)
    torch.testing.assert_close(log_prob, torch.stack([law[c] for c in drawn]))
    for chosen, log_p in law.items():
        p = log_p.exp().item()
        error = math.sqrt(p * (1 - p) / 20_000)
        assert abs(drawn.count(chosen) / 20_000 - p) < 4.5 * error + 1e-12


def test_reinforce_is_unbiased_and_its_baseline_lowers_the_variance():
    h = randn(2, 3).requires_grad_()
    value = 5 + randn(6, 6, seed=1)  # the loss of every ordered pair
    exact = sum(p.exp() * value[tuple(c)] for c, p in sequences(h, 2, 3))
    (slope,) = torch.autograd.grad(exact, h)
    images, draws = 5000, 4
    many = h.detach().expand(images, 2, 3).requires_grad_()
    repeated = many.repeat(draws, 1, 1)  # (M B, H, W)
    places, log_prob = patches.draw_places(repeated, 2, 3, 2.0, torch.Generator().manual_seed(0))
    index = (places[..., 1] * 3 + places[..., 0]).long()
    losses = value[index[:, 0], index[:, 1]].view(draws, images)
    surrogate = patches.reinforce(losses, log_prob.view(draws, images))
    torch.testing.assert_close(surrogate, losses.mean(0))
    (g,) = torch.autograd.grad(surrogate.sum(), many, retain_graph=True)
    plain = (losses * log_prob.view(draws, images)).mean(0)
    (without,) = torch.autograd.grad(plain.sum(), many)
    assert ((g.mean(0) - slope).abs() < 4.5 * g.std(0) / math.sqrt(images)).all()
    assert (g.std(0) < 0.5 * without.std(0)).all()
    seen = losses.clone().requires_grad_()
    patches.reinforce(seen, log_prob.detach().view(draws, images)).sum().backward()
    torch.testing.assert_close(seen.grad, torch.full_like(seen, 1 / draws))


def test_drawing_stops_when_no_pixel_is_left():
    h = torch.full((3, 3, 3), 0.5, dtype=torch.float64)
    h[1] = -torch.inf
    h[2, 0, 0] = -torch.inf
    h.requires_grad_()
    places, log_prob = patches.draw_places(h, 3, 5, 2.0, torch.Generator().manual_seed(0))
    assert (places == places[:, :1]).all()  # a window holds the map
    assert log_prob.tolist() == pytest.approx([-math.log(9), 0, -math.log(8)])
    log_prob.sum().backward()
    assert h.grad.isfinite().all()
    assert (h.grad[1] == 0).all()


HEIGHTS = {  # functions that do not depend on what is added to all scores of a map
    "draw_places": lambda h: patches.draw_places(h, 3, 3, 2.0, fresh(0)),
    "perturbed_top_k": lambda h: patches.perturbed_top_k(h.flatten(1), 3, 0.7, 50, fresh(0)),
    "soft_top_k": lambda h: patches.soft_top_k(h.flatten(1), 3, 0.7),
    "soft_argmax": lambda h: patches.soft_argmax(h[:, None], 0.7, 2.0),
    "local_softmax": lambda h: patches.local_softmax(h, 5, 0.7, 1e-6),
}


@pytest.mark.parametrize("name", HEIGHTS)
def test_a_height_added_to_all_scores_changes_nothing(name):
    """Eighths are exact at 2**20 in float32, so any difference is an error of the function."""
    low = ((8 * randn(4, 5, 6)).round() / 8).float()
    low[0, 0, 0], low[1, 2] = 2.0**17, -(2.0**17)  # and what is left after one far above
    answers, slopes = [], []
    for height in (0.0, 2.0**20, -(2.0**20)):
        leaf = (low + height).requires_grad_()
        answer = HEIGHTS[name](leaf)
        answer = answer if isinstance(answer, tuple) else (answer,)
        answers.append(torch.cat([x.detach().flatten() for x in answer]))
        weights = [torch.arange(x.numel()).view(x.shape).cos() for x in answer]
        value = sum((x * w).sum() for x, w in zip(answer, weights, strict=True))
        slopes.append(torch.autograd.grad(value, leaf)[0])
    for found in (answers, slopes):
        for other in found[1:]:
            torch.testing.assert_close(other, found[0], rtol=1e-5, atol=1e-6)


def test_soft_argmax_is_a_mean_and_in_the_limit_the_maximum():
    h = randn(2, 3, 5, 6)
    hard = patches.soft_argmax(h, 1e6, 4.0)
    best = h.flatten(2).argmax(2)
    torch.testing.assert_close(hard[..., 1] * 6 + hard[..., 0], best.double())
    middle = patches.soft_argmax(torch.zeros(1, 1, 5, 6), 10.0, 4.0)
    torch.testing.assert_close(middle, torch.tensor([[[2.5, 2.0, 4.0]]]))
    assert torch.autograd.gradcheck(lambda h: patches.soft_argmax(h, 2.0, 4.0), h.requires_grad_())


def test_places_keep_their_digits_under_autocast():
    """A model may run in bfloat16; coordinates, sides and weights must not."""
    h, hs = rand(2, 3, 40, 40, dtype=torch.float32), rand(2, 5, 9, 9, dtype=torch.float32)
    functions = (
        lambda: patches.soft_argmax(h, 10.0, 4.0),
        lambda: patches.first_moment(hs, SCALES.float()),
        lambda: patches.perturbed_top_k(hs[:, 0, 0], 3, 0.3, 9, torch.Generator().manual_seed(0)),
    )
    for f in functions:
        with torch.autocast("cpu", torch.bfloat16):
            low = f()
        torch.testing.assert_close(low, f(), rtol=0, atol=0)


# What does not fit, and every function -----------------------------------------------------------


def calls(dtype=torch.float64, device="cpu", generator=None):
    """Return calls of all public functions: (name, function, differentiable arguments)."""
    h = rand(2, 9, 9, dtype=dtype).to(device)
    hs = rand(2, 5, 9, 9, seed=1, dtype=dtype).to(device)
    scales, places = SCALES.to(device, dtype), some_places(0, 2, 3, 9, 9).to(device, dtype)
    images = randn(2, 2, 9, 9, seed=2, dtype=dtype).to(device)
    small = randn(2, 3, 2, 4, 4, seed=3, dtype=dtype).to(device)
    logits, losses = small.flatten(2), small[..., 0, 0, 0]
    counts = torch.ones(2, 32, dtype=torch.int64, device=device)
    scores = h.flatten(1)

    def task(x):
        return patches.sample(images, x, 4).square().flatten(1).sum(1)

    return [
        ("local_softmax", lambda h: patches.local_softmax(h, 5, 10.0, 1e-6), [h]),
        ("pool_scales", patches.pool_scales, [hs]),
        ("first_moment", lambda h: patches.first_moment(h, scales), [hs]),
        ("suppress", lambda h: patches.suppress(h, 3), [h]),
        ("top_k", lambda h: patches.top_k(h, 4, h)[0][..., 2], [h]),
        ("extract", lambda h: patches.extract(h, 4, 3, scales)[1], [hs]),
        ("ideal_heatmap", lambda h: h * patches.ideal_heatmap(places, (9, 9), scales), [hs]),
        ("sample", lambda i, p: patches.sample(i, p, 4), [images, places]),
        ("place", lambda q, p: patches.place(q, p, (9, 9)), [small, places]),
        (
            "proportion_distance",
            lambda z: patches.proportion_distance(z[:, 0], counts),
            [logits],
        ),
        ("proportion_loss", lambda z: patches.proportion_loss(z, counts), [logits]),
        ("reconstruction_loss", lambda q: patches.reconstruction_loss(images, q, places), [small]),
        ("heatmap_loss", lambda h: patches.heatmap_loss(h, places, scales), [hs]),
        ("move", lambda h: h * patches.move(places, task, 2, 0.1, 0.2)[:, :1, :1], [h]),
        (
            "move",
            lambda h: h * patches.move(places, task, 1, 0.1, side_lr=0.1, scales=scales)[:, :1, :1],
            [h],
        ),
        ("lifted_step", lambda h: patches.lifted_step(h, places, task, 2, 0.1).heat, [h]),
        ("soft_top_k", lambda s: patches.soft_top_k(s, 3, 0.3), [scores]),
        ("sinkhorn_top_k", lambda s: patches.sinkhorn_top_k(s, 3, 0.3, 9), [scores]),
        ("perturbed_top_k", lambda s: patches.perturbed_top_k(s, 3, 0.3, 9, generator), [scores]),
        ("straight_through", lambda s: patches.straight_through(scores, s), [scores]),
        ("draw_places", lambda h: patches.draw_places(h, 3, 3, 4.0, generator)[1], [h]),
        ("reinforce", lambda p: patches.reinforce(losses, p), [losses]),
        ("soft_argmax", lambda h: patches.soft_argmax(h, 3.0, 4.0), [hs]),
    ]


def test_every_public_function_is_called_here():
    public = {
        name for name, f in inspect.getmembers(patches, inspect.isfunction)
        if f.__module__.startswith(patches.__name__) and not name.startswith("_")
    }  # fmt: skip
    assert public == {name for name, _, _ in calls()}


def outputs(dtype, constant=False):
    """Return (value, gradients) by name under one seed; draws get the same noise in both dtypes."""
    found = {}
    for name, f, arguments in calls(dtype, generator=torch.Generator().manual_seed(0)):
        if constant:
            arguments = [torch.full_like(a, 0.25) for a in arguments]
        arguments = [a.clone().requires_grad_() for a in arguments]
        value = f(*arguments)
        assert value.dtype == dtype, name
        total = value.masked_fill(value == -torch.inf, 0).square().sum()
        found[name] = (value.detach(), *torch.autograd.grad(total, arguments))
    return found


def test_float32_agrees_with_float64():
    single, double = outputs(torch.float32), outputs(torch.float64)
    for name in set(single) - {"perturbed_top_k", "draw_places"}:  # other noise in other dtypes
        for a, b in zip(single[name], double[name], strict=True):
            torch.testing.assert_close(a.double(), b, rtol=2e-4, atol=2e-4, msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_input_gives_no_nan(dtype):
    for name, values in outputs(dtype, constant=True).items():
        assert not any(v.isnan().any() for v in values), name


def test_nothing_waits_for_a_device():
    """On tensors without data, reading a value fails; it would break a CUDA graph too."""
    for name, f, arguments in calls(device="meta"):
        arguments = [a.requires_grad_() for a in arguments]
        value = f(*arguments)
        torch.autograd.grad(value.sum(), arguments)
        assert value.is_meta, name


def test_images_of_a_batch_do_not_know_each_other():
    h, places = rand(3, 5, 9, 9), some_places(0, 3, 2, 9, 9)
    for f in (
        lambda b: patches.local_softmax(h[b], 5, 10.0, 1e-6),
        lambda b: patches.suppress(h[b], 3),
        lambda b: patches.extract(h[b], 3, 3, SCALES)[0],
        lambda b: patches.ideal_heatmap(places[b], (9, 9), SCALES),
        lambda b: patches.sample(h[b], places[b], 4),
        lambda b: patches.soft_top_k(h[b, 0].flatten(1), 3, 0.1),
    ):
        together = f(slice(None))
        for b in range(3):
            torch.testing.assert_close(f(slice(b, b + 1)), together[b : b + 1])
        assert f(slice(0, 0)).shape[1:] == together.shape[1:]


def bad_input():
    h, hs, scales = torch.zeros(2, 9, 9), torch.zeros(2, 5, 9, 9), SCALES.float()
    places, images, small = torch.ones(2, 3, 3), torch.zeros(2, 1, 9, 9), torch.zeros(2, 3, 1, 4, 4)
    yield patches.local_softmax, (h.long(), 5, 1.0), "heatmap must be float32 or float64 of shape"
    yield patches.local_softmax, (h[0], 5, 1.0), r"heatmap .*, got torch.float32 of shape \(9, 9\)"
    yield patches.local_softmax, (h, 4, 1.0), "size must be odd, .*got 4"
    yield patches.local_softmax, (h, 5.0, 1.0), "size must be an int of at least 1, got 5.0"
    yield patches.suppress, (h, -1), "size must be an int of at least 1, got -1"
    yield patches.suppress, (h, 3.0), "size must be an int of at least 1, got 3.0"
    yield patches.suppress, (h.tolist(), 3), "heatmap .* got .*list"
    yield patches.pool_scales, (h,), r"heatmap must .* \(B, S, H, W\)"
    yield patches.first_moment, (hs, scales[:4]), r"scales must .* \(5,\).*got .*\(4,\)"
    yield patches.first_moment, (hs, 20.0), "scales must .*got .*float"
    yield patches.top_k, (hs, 3, 20.0), r"heatmap must .* \(B, H, W\)"
    yield patches.top_k, (h, 0, 20.0), "k must be an int of at least 1, got 0"
    yield patches.top_k, (h, 82, 20.0), "k must be between 1 and the 81 pixels, got 82"
    yield patches.top_k, (h, 3.0, 20.0), "k must be an int of at least 1, got 3.0"
    yield patches.extract, (h, 2.5, 5, 20.0), "k must be an int.*got 2.5"
    yield patches.top_k, (h, 3, h[:1]), r"side must .* \(2, 9, 9\) .*got .*\(1, 9, 9\)"
    yield patches.extract, (hs, 3, 5, scales.double()), "scales must be torch.float32"
    yield patches.ideal_heatmap, (places[..., :2], (9, 9)), r"places must .* \(B, K, 3\)"
    yield patches.ideal_heatmap, (places, (9, 9), scales[:, None]), r"scales must .* \(S,\)"
    yield patches.sample, (images[0], places, 4), r"images must .* \(B, C, H, W\)"
    yield patches.sample, (images, places[:1], 4), r"places must .* \(2, K, 3\) .*got .*\(1, 3, 3\)"
    yield patches.sample, (images, places.double(), 4), "places must be torch.float32"
    yield patches.sample, (images, places, 1), "size must be an int of at least 2, got 1"
    yield patches.sample, (images, places, 4.0), "size must be an int of at least 2, got 4.0"
    yield patches.place, (small[..., :3], places, (9, 9)), "patches must be .*at least 2, got shape"
    yield patches.place, (small[:, :2], places, (9, 9)), r"patches must be \(B, 3, C, size, size\)"
    yield patches.place, (small[0], places, (9, 9)), r"patches must .* \(B, K, C, size, size\)"
    yield patches.proportion_loss, (small[..., 0, 0], torch.ones(2, 3)), r"counts must .* \(2, 1\)"
    yield patches.heatmap_loss, (hs, places), r"heatmap must .* \(B, H, W\)"
    yield patches.heatmap_loss, (h, places, None, torch.ones(2, 1)), r"weights must .* \(2,\)"
    yield patches.move, (places[0], None, 1, 1.0), r"places must .* \(B, K, 3\)"
    yield patches.soft_top_k, (h, 3, 1.0), r"scores must .* \(B, n\)"
    yield patches.soft_top_k, (h[0], 9, 1.0), "k must be between 1 and 8 .*scores, got 9"
    yield patches.sinkhorn_top_k, (h[0], 0, 1.0, 9), "k must be an int of at least 1, got 0"
    yield patches.soft_top_k, (h[0], 3, 0.0), "temperature must be greater than 0, got 0.0"
    yield patches.sinkhorn_top_k, (h[0], 3.0, 1.0, 9), "k must be an int.*got 3.0"
    yield patches.sinkhorn_top_k, (h[0], 3, -1.0, 9), "temperature must be greater than 0, got -1"
    yield patches.sinkhorn_top_k, (h[0], 3, 1.0, 0), "iterations must be an int of at least 1.*0"
    yield patches.perturbed_top_k, (h[0], 3.0, 1.0, 9, None), "k must be an int.*got 3.0"
    yield patches.perturbed_top_k, (h[0], 3, 0.0, 9, None), "sigma must be greater than 0, got 0.0"
    yield patches.perturbed_top_k, (h[0], 3, math.nan, 9, None), "sigma must be .*got nan"
    yield patches.perturbed_top_k, (h[0], 3, 1.0, 0, None), "samples must be an int of at least 1"
    yield patches.perturbed_top_k, (h[0], 3, 1.0, 2.5, None), "samples must be an int.*got 2.5"
    yield patches.draw_places, (h, 3, 2, 1.0, None), "size must be odd, .*got 2"
    yield patches.draw_places, (h, 0, 3, 1.0, None), "k must be an int of at least 1, got 0"
    yield patches.draw_places, (h, 2.0, 3, 1.0, None), "k must be an int of at least 1, got 2.0"
    yield patches.reinforce, (h[0, :1], h[0, :1]), r"losses must .*2 draws, got shape \(1, 9\)"
    yield patches.reinforce, (h[0], h[0, :2]), r"log_prob must .* \(9, 9\) .*got .*\(2, 9\)"
    yield patches.reconstruction_loss, (images.expand(2, 3, 9, 9), small, places), "patches must"
    yield patches.soft_argmax, (h, 1.0, 1.0), r"heatmap must .* \(B, K, H, W\)"
    yield patches.soft_argmax, (hs, 0.0, 1.0), "strength must be greater than 0, got 0.0"
    yield patches.local_softmax, (h, 5, -1.0), "strength must be greater than 0, got -1.0"
    yield patches.local_softmax, (h, 5, 1.0, -1.0), "floor must not be negative, got -1.0"
    yield patches.extract, (h, 3, 5, scales), "scales must be a number for one map, got .*5"
    yield patches.ideal_heatmap, (places, (9,)), r"shape must be \(H, W\).*got \(9,\)"
    yield patches.ideal_heatmap, (places, (9.0, 9)), r"shape must be \(H, W\).*got \(9.0, 9\)"
    yield patches.place, (small, places, (0, 9)), r"shape must be \(H, W\).*got \(0, 9\)"
    yield patches.heatmap_loss, (hs, places, scales[:1]), r"scales must .* \(5,\).*got .*\(1,\)"
    yield patches.heatmap_loss, (hs[:, :1], places, scales), r"scales must .* \(1,\).*got .*\(5,\)"
    yield patches.proportion_distance, (h[0], torch.ones(2, 9)), r"counts must .* \(9, 9\)"
    yield patches.straight_through, (h, h[:1]), r"soft must have the shape of hard, \(2, 9, 9\)"
    yield (
        patches.move,
        (places, torch.mean, 1, 1.0),
        r"task_loss must return shape \(2,\), got .*\(\)",
    )
    yield patches.move, (places, None, -1, 1.0), "steps must be an int of at least 0, got -1"
    yield patches.move, (places, None, 1, 1.0, -0.5), "penalty must not be negative, got -0.5"
    yield (
        patches.move,
        (places, None, 1, 1.0, 0.0, False, 1.0),
        "scales must be given where side_lr",
    )
    yield patches.top_k, (h, True, 20.0), "k must be an int .*got True"
    yield patches.suppress, (h, True), "size must be an int .*got True"
    yield patches.ideal_heatmap, (places, (True, 9)), r"shape must be \(H, W\).*got \(True, 9\)"
    for wrong in (None, [2.0, 3.0], torch.tensor([3.0]), torch.tensor(3.0)):
        says = "side must be a number of pixels, got"
        if not isinstance(wrong, torch.Tensor):
            yield patches.top_k, (h, 1, wrong), says
        yield patches.draw_places, (h, 1, 3, wrong, None), says
        yield patches.soft_argmax, (hs, 1.0, wrong), says
    weight = torch.ones(2, requires_grad=True)
    for loss in (lambda p: torch.zeros(2), lambda p: weight * 2):
        yield patches.move, (places, loss, 1, 1.0), "task_loss must depend on the places"
    task = (h, places.tolist(), torch.mean, 0, 1.0)
    yield patches.lifted_step, task, "places must be .* got list"
    task = (h, places, torch.mean, 0, 1.0)
    yield patches.lifted_step, task, r"task_loss must return shape \(2,\)"


@pytest.mark.parametrize(("function", "arguments", "message"), list(bad_input()))
def test_bad_input_is_named(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_whole_numbers_may_be_numpys():
    seeded = torch.Generator().manual_seed
    h, n = torch.randn(2, 9, 9), np.int64
    places, _ = patches.extract(h, n(2), n(3), 3.0)
    assert torch.equal(places, patches.extract(h, 2, 3, 3.0)[0])
    assert torch.equal(patches.local_softmax(h, n(3), 1.0), patches.local_softmax(h, 3, 1.0))
    for k, iterations in ((2, 4), (n(2), n(4))):
        soft = patches.sinkhorn_top_k(h[0], k, 1.0, iterations), patches.soft_top_k(h[0], k, 1.0)
        assert soft[0].shape == soft[1].shape == (9, 9)
    drawn = [patches.draw_places(h, k, s, 3.0, seeded(1))[0] for k, s in ((2, 3), (n(2), n(3)))]
    assert torch.equal(*drawn)
    assert patches.perturbed_top_k(h[0], n(2), 1.0, n(5), seeded(1)).shape == (9, 2, 9)
    small = patches.sample(h[:, None], places, n(4))
    assert small.shape == (2, 2, 1, 4, 4)
    assert patches.place(small, places, (n(9), n(9))).shape == (2, 2, 1, 9, 9)
    assert patches.ideal_heatmap(places, (n(9), n(9))).shape == (2, 9, 9)
    task = lambda p: p.square().sum((1, 2))  # noqa: E731
    assert torch.equal(patches.move(places, task, n(1), 0.1), patches.move(places, task, 1, 0.1))


# Second derivatives -------------------------------------------------------------------------------


def test_soft_top_k_has_the_second_derivative_of_its_threshold():
    s = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(lambda s: patches.soft_top_k(s, 1, 1.0)[0, 2], s)
    exact = torch.tensor(
        [
            [-0.0252972, 0.0142403, 0.0110569],
            [0.0142403, -0.0207367, 0.0064964],
            [0.0110569, 0.0064964, -0.0175533],
        ]
    )
    torch.testing.assert_close(hessian[0, :, 0].float(), exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize(("n", "k", "temperature"), [(2, 1, 0.5), (5, 4, 1.0), (8, 3, 0.1)])
def test_soft_top_k_does_not_change_to_second_order_when_all_scores_move(n, k, temperature):
    s = randn(1, n, seed=n)
    assert torch.autograd.gradcheck(lambda s: patches.soft_top_k(s, k, temperature), s.clone()
                                    .requires_grad_())  # fmt: skip
    assert torch.autograd.gradgradcheck(
        lambda s: patches.soft_top_k(s, k, temperature), s.clone().requires_grad_(), atol=1e-4
    )
    for i in range(n):
        f = lambda s, i=i: patches.soft_top_k(s, k, temperature)[0, i]  # noqa: E731
        rows = torch.autograd.functional.hessian(f, s)[0, :, 0].sum(1)
        assert rows.abs().max() < 1e-9


def test_soft_top_k_has_finite_second_derivatives_where_nothing_moves():
    for s in ([[0.0, 1e4, 1.0, -torch.inf]], [[5.0, -torch.inf, 1.0, -torch.inf]], [[0, 0, 0, 0]]):
        leaf = torch.tensor(s, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(
            patches.soft_top_k(leaf, 2, 0.1)[:, 0].sum(), leaf, create_graph=True
        )
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        assert slope.isfinite().all()
        assert second.isfinite().all()


def test_perturbed_top_k_estimates_second_derivatives_without_bias():
    """Of two scores p_1 = Phi(d), d = (s_1 - s_2) / (sigma sqrt 2), so p_1'' = -d phi(d) / ..."""
    sigma, s = 0.7, torch.tensor([[0.3, -0.2]], dtype=torch.float64)

    def first(s):
        return patches.perturbed_top_k(s, 1, sigma, 400_000, fresh(1))[0, 0, 0]

    d = 0.5 / (sigma * math.sqrt(2))
    curve = -d * math.exp(-d * d / 2) / math.sqrt(2 * math.pi) / (2 * sigma**2)
    hessian = torch.autograd.functional.hessian(first, s)[0, :, 0]
    exact = curve * torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(hessian, exact, rtol=0, atol=0.02)


def fresh(seed=0):
    return torch.Generator().manual_seed(seed)


def test_reinforce_has_the_second_derivative_of_the_expected_loss_in_the_mean():
    """Average over all pairs of draws from three outcomes, whose losses have gradients too."""

    def parts(theta):
        return theta.log_softmax(0), torch.stack([theta[0] ** 2, theta[1] * theta[2], theta.sum()])

    def expected(theta):
        log_p, losses = parts(theta)
        return (log_p.exp() * losses).sum()

    theta = torch.tensor([0.4, -0.3, 0.8], dtype=torch.float64)
    first, second = torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for i, j in itertools.product(range(3), repeat=2):

        def estimate(theta, draws=(i, j)):
            log_p, losses = parts(theta)
            draws = torch.tensor(draws)[:, None]
            return patches.reinforce(losses[draws], log_p[draws])[0]

        weight = (parts(theta)[0][i] + parts(theta)[0][j]).exp()
        first += weight * torch.autograd.functional.jacobian(estimate, theta)
        second += weight * torch.autograd.functional.hessian(estimate, theta)
    torch.testing.assert_close(first, torch.autograd.functional.jacobian(expected, theta))
    torch.testing.assert_close(second, torch.autograd.functional.hessian(expected, theta))


# What the text says, and its conditions -----------------------------------------------------------


def test_an_entry_of_sinkhorn_may_exceed_one_before_its_limit():
    few = patches.sinkhorn_top_k(torch.tensor([[5.0, 0, 0, 0]]), 2, 0.1, 1)
    assert few[0, 0] > 1.99
    assert few.sum().item() == pytest.approx(2)
    many = patches.sinkhorn_top_k(torch.tensor([[0.7, 0.2, 0.1, 0.0]]), 2, 0.5, 500)
    assert (many <= 1 + 1e-6).all()


def test_the_side_has_a_gradient_in_maps_of_several_scales_and_the_centre_has_none():
    scales = torch.tensor([6.0, 10.0]).double()
    h = torch.zeros(1, 2, 12, 12).double()
    h[0, :, 5, 6] = torch.tensor([0.6, 0.3])
    h.requires_grad_()
    places, _ = patches.extract(h, 1, 3, scales)
    assert places[0, 0].tolist() == pytest.approx([6, 5, 22 / 3])
    slopes = [torch.autograd.grad(places[0, 0, i], h, retain_graph=True)[0] for i in range(3)]
    assert not slopes[0].any()
    assert not slopes[1].any()
    assert slopes[2][0, 0, 5, 6] < 0 < slopes[2][0, 1, 5, 6]


def test_the_derivative_between_two_rows_is_the_mean_of_both():
    image = torch.tensor([[[[0.0, 1.0], [0.0, 5.0]]]]).double()
    places = torch.tensor([[[0.5, 0.5, 1e-9]]]).double().requires_grad_()
    (slope,) = torch.autograd.grad(patches.sample(image, places, 3)[0, 0, 0, 1, 1], places)
    assert slope[0, 0, 0].item() == pytest.approx(3)


def test_the_derivative_of_a_placed_patch_jumps_at_its_edge():
    ones = torch.ones(1, 1, 1, 9, 9).double()

    def value(x):
        return patches.place(ones, torch.tensor([[[x, 10.0, 8.0]]]).double(), (20, 20))[
            0, 0, 0, 10, 14
        ]

    assert value(10.0) == 1
    step = 2**-10
    assert (value(10.0) - value(10 - step)).item() / step == pytest.approx(1)  # fades outside
    assert (value(10 + step) - value(10.0)).item() == pytest.approx(0)
    assert (value(10.0) - value(10 - 1e-9)).abs() < 1e-8  # continuous


def test_two_survivors_may_share_the_window_of_a_third_pixel():
    kept = patches.suppress(torch.tensor([[[1.0, 0.0, 1.0]]]), 3)
    assert kept[0, 0].tolist() == [1, -torch.inf, 1]
    for seed in range(20):
        at = (patches.suppress((3 * rand(1, 9, 9, seed=seed)).floor(), 5) > -torch.inf).nonzero()
        apart = (at[:, None] - at).abs().amax(-1)
        assert (apart[~torch.eye(len(at), dtype=torch.bool)] > 2).all()
    assert torch.equal(patches.suppress(torch.zeros(1, 3, 3), 1), torch.zeros(1, 3, 3))


def test_pooled_terms_sum_to_one_where_one_scale_has_it_all():
    scales = torch.tensor([1.0, 2.0]).double()
    for h, total, printed in (((1.0, 0.0), 1, 1.0), ((1.0, 1.0), 1, 1.5), ((0.5, 0.5), 0.5, 0.75)):
        h = torch.tensor(h).double()
        pooled = h.square() / h.sum()
        assert pooled.sum().item() == total
        assert (pooled @ scales).item() == printed


def test_a_penalty_pulls_back_what_has_no_gradient():
    """The gradient is 0 beyond 0.4: the second normalised step is that of the penalty alone."""

    def task(places):
        return (0.4 - places[..., 0]).clamp_min(0).sum(1)

    moved = patches.move(torch.zeros(1, 1, 3), task, 2, 1.0, penalty=0.5, normalise=True)
    assert moved[0, 0, 0].item() == 0.25  # 1 / 2, then half of it
    free = patches.move(torch.zeros(1, 1, 3), task, 2, 1.0, normalise=True)
    assert free[0, 0, 0].item() == 1  # no step of its own


def test_stopping_early_is_the_penalty_only_on_a_way_that_is_flat_as_a_whole():
    def share(m, step, penalty=0.0):
        bowl = lambda p: 0.5 * (p[:, 0, 0] - 1).square()  # noqa: E731
        start, rounds = torch.zeros(1, 1, 3).double(), m if not penalty else 4000
        return patches.move(start, bowl, rounds, step, penalty)[0, 0, 0].item()

    assert share(200, 0.01) == pytest.approx(0.866, abs=1e-3)
    assert share(200, 0.01, 1 / (2 * 200 * 0.01)) == pytest.approx(0.667, abs=1e-3)
    assert share(2, 0.01) == pytest.approx(share(2, 0.01, 1 / (2 * 2 * 0.01)), abs=5e-4)


def test_rounding_costs_half_a_pixel_along_each_axis():
    places = torch.tensor([[[10.49, 8.49, 4.0]]]).double()
    back, _ = patches.extract(patches.ideal_heatmap(places, (20, 20)), 1, 3, 4.0)
    assert (back - places).norm().item() == pytest.approx(0.693, abs=1e-3)


def test_a_dot_that_moves_a_pixel_changes_the_distance_by_twice_the_difference_of_the_map():
    h = torch.zeros(1, 5, 5).double()
    h[0, 2, 2], h[0, 2, 3] = 1.5, -0.5
    gaps = [(patches.ideal_heatmap(torch.tensor([[[x, 2.0, 3.0]]]).double(), (5, 5)) - h).square()
            .sum().item() for x in (2.0, 3.0)]  # fmt: skip
    assert gaps[1] - gaps[0] == pytest.approx(2 * (1.5 + 0.5))


# NaN is not hidden --------------------------------------------------------------------------------


def test_a_nan_in_a_map_makes_its_places_nan_and_no_other_image():
    h = rand(3, 7, 7)
    h[1, 3, 3] = torch.nan
    places, values = patches.extract(h, 2, 3, 4.0)
    assert values[1, 0].isnan()
    assert places.isnan().all((1, 2)).tolist() == [False, True, False]
    assert places[[0, 2]].isfinite().all()
    drawn, log_p = patches.draw_places(h, 2, 3, 4.0, fresh())
    assert log_p.isnan().tolist() == [False, True, False]
    assert drawn.isnan().all((1, 2)).tolist() == [False, True, False]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_place_that_is_not_finite_gives_a_patch_and_an_image_of_nan(bad):
    places = PLACES.clone()
    places[0, 1, 0] = bad
    for out in (
        patches.sample(rand(1, 1, 9, 9), places, 4),
        patches.place(rand(1, 2, 1, 4, 4), places, (9, 9)),
    ):
        assert out[0, 1].isnan().all()
        assert out[0, 0].isfinite().all()
    assert patches.ideal_heatmap(places, (9, 9)).isnan().any()


PLACES = torch.tensor([[[3.3, 2.6, 3.1], [5.2, 4.7, 2.3]]]).double()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_row_of_scores_with_a_nan_chooses_nobody(bad):
    s = randn(2, 5)
    s[0, 2] = bad
    for p in (
        patches.soft_top_k(s, 2, 0.5),
        patches.sinkhorn_top_k(s, 2, 0.5, 9),
        patches.perturbed_top_k(s, 2, 0.5, 9, fresh()).flatten(1),
    ):
        assert p[0].isnan().all()
        assert p[1].isfinite().all()
    few = torch.tensor([[bad, 1.0, -torch.inf, -torch.inf]])
    assert patches.sinkhorn_top_k(few, 2, 0.5, 9).isnan().all()
    assert patches.soft_top_k(few, 2, 0.5).isnan().all()


def test_a_nan_slope_moves_a_place_to_nan():
    nan = lambda p: (p[..., 0] * torch.nan).sum(1)  # noqa: E731
    for normalise in (False, True):
        assert patches.move(PLACES, nan, 1, 1.0, normalise=normalise)[..., 0].isnan().all()
    assert patches.straight_through(torch.ones(2), torch.tensor([torch.nan, 1.0]))[0].isnan()


def test_counts_of_any_dtype_have_the_same_proportions():
    logits = randn(1, 4, 3)
    loss = patches.proportion_loss(logits, torch.tensor([[200, 100, 3]]))
    for dtype in (torch.uint8, torch.int16, torch.float16, torch.float32):
        counts = torch.tensor([[200, 100, 3]]).to(dtype)
        torch.testing.assert_close(patches.proportion_loss(logits, counts), loss)
    shares = patches.proportion_loss(logits, torch.tensor([[0.2, 0.1, 0.003]]).double())
    torch.testing.assert_close(shares, loss)


def test_places_move_in_inference_mode():
    images, net, places = some_task()
    moved = patches.move(places, brightness(images, net), 2, 0.7)
    scales = torch.tensor([2.0, 9.0]).double()
    with torch.inference_mode():
        torch.testing.assert_close(patches.move(places, brightness(images, net), 2, 0.7), moved)
        made = places.clone()  # an inference tensor
        torch.testing.assert_close(patches.move(made, brightness(images, net), 2, 0.7), moved)
        aside = patches.move(made, brightness(images, net), 2, 0.7, side_lr=0.1, scales=scales)
        assert (aside[..., 2] != places[..., 2]).any()
        with pytest.raises(RuntimeError, match="Inference tensors"):
            patches.move(places, brightness(images + 0, net), 2, 0.7)


def test_no_linear_rule_returns_the_side_that_was_put_in():
    """A linear rule scales with the map; the side does not, and (8.6) divides."""
    scales = torch.tensor([1.0, 2.0], dtype=torch.float64)
    h = torch.tensor([0.5, 0.5], dtype=torch.float64)
    for factor in (1.0, 2.0):
        side = patches.first_moment((factor * h)[None, :, None, None], scales).item()
        assert side == pytest.approx(1.5)
    assert (2 * h) @ scales == pytest.approx(2 * (h @ scales).item())  # the printed moment


def test_a_step_that_overshoots_raises_its_block():
    """Block coordinate descent never rises only if no step raises its own block: x**2, rate 1.5."""
    start = torch.tensor([[[1.0, 0.0, 1.0]]], dtype=torch.float64)

    def loss(places):
        return places[..., 0].square().sum(1)

    moved = patches.move(start, loss, 1, 1.5)
    assert loss(start).item() == pytest.approx(1)
    assert loss(moved).item() == pytest.approx(4)
    assert loss(patches.move(start, loss, 1, 0.5)).item() == pytest.approx(0)
