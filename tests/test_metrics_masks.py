"""Test the measures of masks against scikit-learn, closed forms and cases by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    matthews_corrcoef,
    precision_recall_curve,
)

from wsl_tutorial import metrics


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_masks(seed, sizes=((4, 5), (7, 3), (6, 6))):
    generator = seeded(seed)
    rate = torch.rand(2, len(sizes), generator=generator)
    masks = [
        [torch.rand(size, generator=generator) < r for size, r in zip(sizes, row, strict=True)]
        for row in rate
    ]
    for t in masks[1]:  # what is true is somewhere, and not everywhere
        t[0, 0], t[0, 1] = True, False
    return masks


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), pooled=st.booleans())
def test_mask_scores_are_scikit_learns(seed, pooled):
    predicted, true = some_masks(seed)
    flat = [
        (p.flatten().numpy(), t.flatten().numpy()) for p, t in zip(predicted, true, strict=True)
    ]
    if pooled:
        flat = [tuple(np.concatenate(x) for x in zip(*flat, strict=True))]
    found = metrics.mask_scores(predicted, true, pooled)
    expected = {
        "f1_plus": np.mean([f1_score(t, p, zero_division=1) for p, t in flat]),
        "f1_minus": np.mean([f1_score(~t, ~p, zero_division=1) for p, t in flat]),
        "mcc": np.mean([matthews_corrcoef(t, p) for p, t in flat]),
        "area": np.mean([p.mean() for p, _ in flat]),
    }
    assert found == pytest.approx({name: 100 * x for name, x in expected.items()})


def test_confusion_by_hand():
    predicted = torch.tensor([[[1, 1, 0], [0, 1, 0]], [[0, 0, 0], [0, 0, 0]]]).bool()
    true = torch.tensor([[[1, 0, 0], [1, 1, 1]], [[0, 0, 0], [0, 0, 1]]]).bool()
    assert metrics.confusion(predicted, true).tolist() == [[2, 1, 2, 1], [0, 0, 1, 5]]
    found = metrics.mask_scores(predicted, true)
    assert found["f1_plus"] == pytest.approx(100 * (4 / 7 + 0) / 2)
    assert found["f1_minus"] == pytest.approx(100 * (2 / 5 + 10 / 11) / 2)
    pooled = metrics.mask_scores(predicted, true, pooled=True)
    assert pooled["f1_plus"] == pytest.approx(100 * 4 / 8)


def test_complements_swap_the_two_f1():
    predicted, true = some_masks(3)
    a = metrics.mask_scores(predicted, true)
    b = metrics.mask_scores([~p for p in predicted], [~t for t in true])
    assert (a["f1_plus"], a["mcc"]) == pytest.approx((b["f1_minus"], b["mcc"]))
    assert metrics.mask_scores(true, true) == pytest.approx(
        {"f1_plus": 100, "f1_minus": 100, "mcc": 100, "area": area(true)}
    )
    assert metrics.mask_scores([~t for t in true], true)["mcc"] == pytest.approx(-100)


def area(masks):
    return 100 * np.mean([m.double().mean().item() for m in masks])


def test_trivial_masks_have_the_closed_forms():
    _, true = some_masks(4)
    f = np.array([t.double().mean().item() for t in true])
    trivial = metrics.trivial_masks(true)
    ones, zeros = (metrics.mask_scores(trivial[k], true) for k in ("All-ones", "All-zeros"))
    assert ones["f1_plus"] == pytest.approx(100 * np.mean(2 * f / (1 + f)))
    assert zeros["f1_minus"] == pytest.approx(100 * np.mean(2 * (1 - f) / (2 - f)))
    assert (ones["f1_minus"], zeros["f1_plus"], ones["mcc"], zeros["mcc"]) == (0, 0, 0, 0)
    assert (ones["area"], zeros["area"]) == (100, 0)


def test_empty_masks_agree():
    nothing = torch.zeros(1, 3, 3, dtype=torch.bool)
    assert metrics.mask_scores(nothing, nothing)["f1_plus"] == 100
    assert metrics.mask_scores(~nothing, ~nothing)["f1_minus"] == 100


# Curves


def some_scores(seed, levels=None):
    _, true = some_masks(seed)
    scores = [torch.rand(t.shape, generator=seeded(seed + 1)) + 0.3 * t for t in true]
    scores = [s / 1.3 for s in scores]
    if levels:
        scores = [(s * levels).round() / levels for s in scores]
    return scores, true


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([None, 4]))
def test_precision_recall_is_the_mean_of_interpolated_curves(seed, levels):
    scores, true = some_scores(seed, levels)
    recall, precision = metrics.precision_recall(scores, true, step=0.01)
    curves = []
    for s, t in zip(scores, true, strict=True):
        p, r, _ = precision_recall_curve(t.flatten().numpy(), s.flatten().numpy())
        full = np.flatnonzero(r == 1)[-1]  # where recall 1 is reached
        curves.append(np.interp(recall.numpy(), r[full:][::-1], p[full:][::-1]))
    np.testing.assert_allclose(precision.numpy(), np.mean(curves, 0), atol=1e-12)


def test_areas_of_known_curves():
    _, true = some_scores(1)
    perfect = metrics.precision_recall([t * 3.0 - 5 for t in true], true)
    assert metrics.area_under(*perfect) == pytest.approx(100)
    flat = metrics.precision_recall([torch.zeros(t.shape) for t in true], true, step=0.5)
    assert flat[0].tolist() == [0, 0.5, 1]
    share = area(true) / 100  # everything is taken at once, and a line drawn to there
    assert flat[1].tolist() == pytest.approx([1, (1 + share) / 2, share])


def test_curves_depend_on_the_order_of_scores_only():
    scores, true = some_scores(2)
    a = metrics.precision_recall(scores, true)
    b = metrics.precision_recall([s.exp() * 7 for s in scores], true)
    torch.testing.assert_close(a, b)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_pxap_is_average_precision_of_all_pixels(seed):
    scores, true = some_scores(seed, levels=64)
    expected = average_precision_score(
        torch.cat([t.flatten() for t in true]).numpy(),
        torch.cat([s.flatten() for s in scores]).numpy(),
    )
    assert metrics.pxap(scores, true, step=1 / 64) == pytest.approx(100 * expected)


@pytest.mark.parametrize("steps", [10, 100, 255, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_on_a_threshold_of_pxap_reaches_it(steps, dtype):
    """With the other pixels one step below, the threshold of the true ones separates them."""
    levels = torch.arange(1, steps + 1)
    true = torch.tensor([[True, False]])
    step = levels.to(dtype) * (1 / steps)
    for scores in (levels.to(dtype) / steps, (levels / steps).to(dtype), step.clamp(max=1)):
        below = torch.cat([torch.zeros(1, dtype=dtype), scores[:-1]])
        for pair in torch.stack([scores, below], 1):
            assert metrics.pxap([pair[None]], [true], 1 / steps) == 100
            nearly = torch.stack([pair[0] - 1e-3 / steps, pair[1]])[None]
            assert metrics.pxap([nearly], [true], 1 / steps) == 50


def test_pxap_of_known_maps():
    _, true = some_scores(5)
    assert metrics.pxap([t.float() for t in true], true) == 100
    share = sum(t.sum().item() for t in true) / sum(t.numel() for t in true)
    assert metrics.pxap([t * 0.0 for t in true], true) == pytest.approx(100 * share)
    assert metrics.pxap([t * 0.0 + 1 for t in true], true) == pytest.approx(100 * share)


# Boxes from maps


def slab(value, left, top, right, bottom, size=(20, 24)):
    out = torch.zeros(size)
    out[top:bottom, left:right] = value
    return out


def test_max_box_accuracy_takes_the_largest_part_and_one_threshold_for_all():
    box = torch.tensor([[3.0, 4, 12, 14]])
    plain = slab(1.0, 3, 4, 12, 14)
    assert metrics.max_box_accuracy([plain], [box]) == 100
    assert metrics.max_box_accuracy([plain], [box + 8]) == 0
    small = torch.maximum(plain, slab(1.0, 16, 16, 20, 19))  # a smaller part beside it
    assert metrics.max_box_accuracy([small], [box]) == 100
    diagonal = torch.maximum(slab(1.0, 0, 0, 4, 4), slab(1.0, 4, 4, 8, 8))  # one part: they touch
    assert metrics.max_box_accuracy([diagonal], [torch.tensor([[0.0, 0, 8, 8]])]) == 100
    # Right above 0.6 only, and right below 0.3 only: no threshold serves both.
    high = torch.maximum(slab(0.6, 0, 0, 24, 20), plain)
    low = torch.maximum(slab(0.3, 3, 4, 12, 14), slab(1.0, 3, 4, 5, 6))
    assert metrics.max_box_accuracy([high], [box]) == 100
    assert metrics.max_box_accuracy([low], [box]) == 100
    assert metrics.max_box_accuracy([high, low], [box, box]) == 50
    several = torch.cat([box + 9, box])
    assert metrics.max_box_accuracy([plain], [several]) == 100
    assert metrics.max_box_accuracy([plain * 0], [box]) == 0


def test_max_box_accuracy_is_the_best_of_255_thresholds():
    scores = [s for s in torch.rand(3, 12, 12, generator=seeded(7))]
    scores = [torch.from_numpy(ndimage.gaussian_filter(s.numpy(), 1.5)) for s in scores]
    scores = [(s - s.min()) / (s.max() - s.min()) for s in scores]
    boxes = [torch.tensor([[1.0, 2, 9, 10]]), torch.tensor([[0.0, 0, 12, 9]]), torch.ones(1, 4) * 5]
    right = np.zeros(255)
    for s, box in zip(scores, boxes, strict=True):
        for v in range(255):
            parts, k = ndimage.label((s * 255).byte().numpy() > v, np.ones((3, 3)))
            if k == 0:
                continue
            best = max(range(1, k + 1), key=lambda i: (parts == i).sum())
            rows, columns = np.nonzero(parts == best)
            found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            found = torch.tensor(found)[None, None].double()
            right[v] += metrics.box_iou(found, box[None].double()).item() >= 0.5
    assert metrics.max_box_accuracy(scores, boxes) == pytest.approx(100 * right.max() / 3)
    assert 0 < right.max() < 3


def test_bad_input_is_named():
    predicted, true = some_masks(0)
    scores = [t.float() for t in true]
    box = torch.zeros(1, 4)
    for call, says in (
        (lambda: metrics.mask_scores(predicted[:2], true), "predicted, true: got 2 and 3 images"),
        (lambda: metrics.mask_scores([], []), "predicted, true: got 0 and 0"),
        (
            lambda: metrics.mask_scores(predicted[::-1], true),
            r"predicted, true: got shapes \(6, 6\)",
        ),
        (lambda: metrics.mask_scores(scores, true), "predicted: got torch.float32, expected bool"),
        (lambda: metrics.mask_scores(predicted, scores), "true: got torch.float32, expected bool"),
        (
            lambda: metrics.precision_recall(scores, [t & False for t in true]),
            "scores, true: expect",
        ),
        (lambda: metrics.precision_recall([s / 0 for s in scores], true), "scores, true: expected"),
        (lambda: metrics.pxap([2 * s for s in scores], true), r"scores: got 0.0 \.\. 2.0"),
        (lambda: metrics.pxap(scores, [t & False for t in true]), "true: got no true pixel"),
        (
            lambda: metrics.max_box_accuracy(scores[:1], [torch.tensor([[4.0, 0, 2, 3]])]),
            "boxes: got right < left or bottom < top in image 0",
        ),
        (lambda: metrics.max_box_accuracy(scores, [box]), "scores, boxes: got 3 and 1"),
        (lambda: metrics.max_box_accuracy([scores[0] - 1], [box]), "scores, boxes: expected maps"),
        (lambda: metrics.max_box_accuracy(scores[:1], [box[0]]), "scores, boxes: expected maps"),
    ):
        with pytest.raises(ValueError, match=says):
            call()


def test_a_blind_mask_that_knows_the_middle_has_a_correlation_and_an_area():
    """Regions near the middle, one disc for all images, and a map that falls from the middle."""
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    far = [((y - 15.5 - a) ** 2 + (x - 15.5 - b) ** 2) for a in (-3, 0, 3) for b in (-3, 0, 3)]
    true = [d < 100 for d in far]
    disc = [far[4] < 120] * 9
    found = metrics.mask_scores(disc, true)
    assert found["mcc"] > 50
    ones = metrics.mask_scores([torch.ones_like(t) for t in true], true)
    assert found["f1_plus"] > ones["f1_plus"] + 5  # beyond the curve of chapter 12
    falling = [1 - far[4] / far[4].max()] * 9
    share = area(true)
    assert metrics.pxap(falling, true) > share + 30
    generator = seeded(3)  # what takes all positions at one rate has 0 and the share
    drawn = [[torch.rand(32, 32, generator=generator) < 0.4 for _ in true] for _ in range(20)]
    mcc = np.mean([metrics.mask_scores(masks, true)["mcc"] for masks in drawn])
    assert abs(mcc) < 1
    noise = np.mean([metrics.pxap([torch.rand(32, 32, generator=generator) for _ in true], true)
                     for _ in range(20)])  # fmt: skip
    assert noise == pytest.approx(share, abs=1)


def test_noise_on_few_pixels_has_more_pxap_than_its_share():
    """n pixels in a random order, P of them true: [(P-1)/(n-1) (n - H_n) + H_n] / n."""
    n, p = 10, 3
    harmonic = sum(1 / k for k in range(1, n + 1))
    expected = 100 * ((p - 1) / (n - 1) * (n - harmonic) + harmonic) / n
    assert expected == pytest.approx(45.0, abs=0.1)
    generator, true = seeded(4), torch.arange(n)[None] < p
    order = [(torch.randperm(n, generator=generator) / 16)[None] for _ in range(4000)]
    found = np.mean([metrics.pxap([s], [true], step=1 / 16) for s in order])
    assert found == pytest.approx(expected, abs=1)


def test_an_interval_of_wilson_covers_95_percent_in_the_mean_only():
    from scipy.stats import binom

    def cover(p, n=80):
        ends = [metrics.wilson_interval(k, n) for k in range(n + 1)]
        held = [low <= 100 * p <= high for low, high in ends]
        return binom.pmf(np.arange(n + 1), n, p)[held].sum()

    assert cover(0.0022) == pytest.approx(0.838, abs=1e-3)
    assert np.mean([cover(p) for p in np.linspace(0.0025, 0.9975, 200)]) == pytest.approx(
        0.95, abs=0.005
    )
    for k, n, z in ((1, 10**9, 1.96), (3, 50, 1e4), (0, 80, 1.96), (80, 80, 1.96)):
        low, high = (x / 100 for x in metrics.wilson_interval(k, n, z))
        for p in (low, high):
            assert abs(k / n - p) <= z * (p * (1 - p) / n) ** 0.5 * (1 + 1e-9) + 1e-15


def test_overlapping_intervals_may_hide_a_difference():
    """28 and 15 of 145: the intervals of 95 % overlap, the test of equal shares has p = 0.03."""
    from scipy.stats import barnard_exact, norm

    first, second = (metrics.wilson_interval(k, 145) for k in (28, 15))
    assert first[0] < second[1]
    pooled = 43 / 290
    z = (13 / 145) / (pooled * (1 - pooled) * 2 / 145) ** 0.5
    assert z == pytest.approx(2.15, abs=0.005)
    assert 2 * norm.sf(z) == pytest.approx(0.032, abs=1e-3)
    assert barnard_exact([[28, 15], [117, 130]], n=64).pvalue < 0.05


def test_no_size_up_to_5000_but_multiples_of_145_explains_the_printed_errors_of_cub5():
    from wsl_tutorial.reproduce import ledger

    rates = {
        r.value
        for r in ledger.load().values()
        if (r.paper, r.data, r.measure) == ("minmax", "CUB5", "classification error")
    }

    def fits(n, cut):
        return all(metrics.counts_behind(rate, n, cut=cut) for rate in rates)

    sizes = [n for n in range(1, 5001) if fits(n, True)]
    assert sizes == list(range(145, 5001, 145))
    assert not any(fits(n, False) for n in range(1, 5001))


def test_constant_and_noisy_maps_have_the_areas_that_chapter_13_names():
    true = [torch.arange(400).view(20, 20) < 348]  # the background of a share of 87 %
    constant = metrics.precision_recall([torch.zeros(20, 20)], true)
    assert metrics.area_under(*constant) == pytest.approx(93.5)
    generator = seeded(5)
    noise = [
        metrics.area_under(
            *metrics.precision_recall([torch.rand(20, 20, generator=generator)], true)
        )
        for _ in range(50)
    ]
    assert np.mean(noise) == pytest.approx(87, abs=0.5)
