"""Test the measures of boxes, by hand-made cases and by brute force."""

import math
import re
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import metrics


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(seed, n=6, k=4, l=3, classes=3):
    """Draw detections and padded truths on a small canvas."""
    g = gen(seed)
    places = torch.rand(n, k, 3, generator=g) * 6 + torch.tensor([0.0, 0.0, 4.0])
    true = torch.rand(n, l, 3, generator=g) * 6 + torch.tensor([0.0, 0.0, 4.0])
    number = torch.randint(1, l + 1, (n, 1), generator=g)
    there = torch.arange(l) < number
    truth = torch.randint(classes, (n, l), generator=g).masked_fill(~there, -1)
    guess = torch.randint(classes, (n, k), generator=g)
    iou = metrics.box_iou(metrics.boxes(places), metrics.boxes(true))
    return iou, guess, torch.rand(n, k, generator=g), truth


def test_iou_of_boxes_by_hand():
    a = torch.tensor([[[0.0, 0, 2, 2], [5, 5, 5, 9]]])
    b = torch.tensor([[[1.0, 0, 3, 2], [0, 0, 2, 2], [2, 0, 4, 2]]])
    assert metrics.box_iou(a, b)[0, 0].tolist() == pytest.approx([1 / 3, 1, 0])
    assert metrics.box_iou(a, b)[0, 1].tolist() == [0, 0, 0]  # no area
    with pytest.raises(ValueError, match="a, b"):
        metrics.box_iou(a[0], b)


def test_iou_equals_torchvisions():
    from torchvision.ops import box_iou

    places = torch.rand(5, 7, 3, generator=gen()) * 10
    a, b = metrics.boxes(places), metrics.boxes(places.flip(1))
    expected = torch.stack([box_iou(x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(metrics.box_iou(a, b), expected)


def test_boxes_of_places():
    assert metrics.boxes(torch.tensor([10.0, 20, 4])).tolist() == [8, 18, 12, 22]


def test_perfect_detections_score_all():
    iou, _, scores, truth = scene(0, k=3)
    exact = torch.eye(3).expand_as(iou)
    present = truth >= 0
    assert metrics.detected(exact, present) == 100
    assert metrics.matched(exact, present) == 100
    assert metrics.detected_and_classified(exact, truth, truth) == 100
    assert metrics.label_recall(truth, truth, 3) == 100
    assert metrics.mean_average_precision(exact, truth, scores, truth) == pytest.approx(100)
    assert metrics.centre_error(torch.where(exact > 0, 0.0, 5.0), present) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_an_iou_that_equals_the_threshold_reaches_it_and_is_not_above_it(dtype):
    one, there = torch.tensor([[1]]), torch.tensor([[True]])
    for tenths in range(1, 11):
        iou = torch.tensor([[[tenths]]], dtype=dtype) / 10
        for shift, reached in ((0, 100), (1e-2, 0)):
            threshold = tenths / 10 + shift
            assert metrics.detected_and_classified(iou, one, one, threshold) == reached
            found = metrics.mean_average_precision(iou, one, torch.tensor([[0.5]]), one, threshold)
            assert found == reached
        assert metrics.detected(iou, there, tenths / 10) == 0
        assert metrics.matched(iou, there, tenths / 10) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_padded_detections_play_no_role(value):
    iou, guess, scores, truth = scene(0, k=3)
    guess[:, 1] = -1
    spoilt, lost = iou.clone(), scores.clone()
    spoilt[:, 1], lost[:, 1] = value, value
    kept = [x[:, ::2] for x in (iou, guess, scores)]
    expected = metrics.mean_average_precision(*kept, truth)
    assert metrics.mean_average_precision(spoilt, guess, lost, truth) == pytest.approx(expected)
    both = metrics.detected_and_classified(*kept[:2], truth)
    assert metrics.detected_and_classified(spoilt, guess, truth) == both


def test_a_distance_is_not_inside():
    ones = torch.ones(1, 1, dtype=torch.int64)
    with pytest.raises(
        ValueError, match=r"inside: got numbers from 7\.3.* to 7\.3.*, expected bool"
    ):
        metrics.precision_recall_f1(torch.full((1, 1, 1), 7.3), ones, ones)


def test_one_detection_may_serve_two_boxes_but_is_matched_once():
    iou = torch.tensor([[[0.6, 0.7], [0.1, 0.2]]])  # (1, 2 detections, 2 boxes)
    present = torch.ones(1, 2, dtype=torch.bool)
    assert metrics.detected(iou, present) == 100
    assert metrics.matched(iou, present) == 50
    assert metrics.detected(iou, present, 0.65) == 50
    assert metrics.detected(iou, torch.tensor([[True, False]]), 0.65) == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 4), st.integers(1, 4))
def test_matching_is_the_largest_of_all(seed, k, l):
    iou, _, _, truth = scene(seed, 3, k, l)
    best = 0
    for image, present in zip((iou > 0.3).numpy(), (truth >= 0).numpy(), strict=True):
        able = image & present
        square = np.zeros((4, 4), bool)
        square[:k, :l] = able
        best += max(square[list(p), range(4)].sum() for p in permutations(range(4)))
    expected = 100 * best / (truth >= 0).sum().item()
    assert metrics.matched(iou, truth >= 0, 0.3) == pytest.approx(expected)
    assert metrics.matched(iou, truth >= 0, 0.3) <= metrics.detected(iou, truth >= 0, 0.3) + 1e-9


def both_in_words(iou, guess, truth, threshold):
    """Apply the released rule, one image and one box at a time."""
    hits = 0
    for image, g, t in zip(iou.tolist(), guess.tolist(), truth.tolist(), strict=True):
        used = set()
        for j, label in enumerate(t):
            able = [i for i in range(len(g)) if i not in used and g[i] == label and label >= 0]
            if able:
                best = max(able, key=lambda i: image[i][j])
                if image[best][j] >= threshold:
                    used.add(best)
                    hits += 1
    return 100 * hits / sum(label >= 0 for t in truth.tolist() for label in t)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(1, 4))
def test_both_is_the_rule_in_words(seed, k, l):
    iou, guess, _, truth = scene(seed, 5, k, l, classes=2)
    ours = metrics.detected_and_classified(iou, guess, truth, 0.3)
    assert ours == pytest.approx(both_in_words(iou, guess, truth, 0.3))


def test_both_needs_the_class_and_takes_each_detection_once():
    iou = torch.tensor([[[0.6, 0.9], [0.5, 0.2]]])
    truth = torch.tensor([[4, 4]])
    assert metrics.detected_and_classified(iou, torch.tensor([[4, 3]]), truth) == 50
    assert metrics.detected_and_classified(iou, torch.tensor([[3, 3]]), truth) == 0
    # the first box takes the detection that the second would need
    assert metrics.detected_and_classified(iou, torch.tensor([[4, 4]]), truth) == 50
    assert metrics.detected_and_classified(iou.flip(2), torch.tensor([[4, 4]]), truth) == 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_label_recall_counts_multiplicity(seed):
    _, guess, _, truth = scene(seed, 8, 4, 4)
    missing = {None: 0, 0: 0}
    for g, t in zip(guess.tolist(), truth.tolist(), strict=True):
        for c in range(3):
            lost = max(0, t.count(c) - g.count(c))
            missing[None] += lost
            missing[0] += lost if c else 0
    for left_out, lost in missing.items():
        expected = 100 * (1 - lost / (truth >= 0).sum().item())
        ours = metrics.label_recall(guess, truth, 3, leave_out=left_out)
        assert ours == pytest.approx(expected)


def test_label_recall_without_class_0_forgives_missing_zeros():
    truth, guess = torch.tensor([[0, 0, 5]]), torch.tensor([[5, 5, 5]])
    assert metrics.label_recall(guess, truth, 10) == pytest.approx(100 / 3)
    assert metrics.label_recall(guess, truth, 10, leave_out=0) == 100


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_centre_error_is_the_least_of_all_pairings(seed, k, l):
    g = gen(seed)
    distance = torch.rand(1, k, l, generator=g)
    d = distance[0].numpy() if k <= l else distance[0].T.numpy()
    best = min(
        sum(d[i, p[i]] for i in range(len(d))) for p in permutations(range(d.shape[1]), len(d))
    )
    present = torch.ones(1, l, dtype=torch.bool)
    assert metrics.centre_error(distance, present) == pytest.approx(best / len(d), rel=1e-5)


def test_centre_error_leaves_out_padding_and_detections_without_place():
    distance = torch.tensor([[[3.0, 0.5], [torch.inf, torch.inf]]])
    assert metrics.centre_error(distance, torch.tensor([[True, False]])) == 3
    assert metrics.centre_error(distance, torch.tensor([[True, True]])) == 0.5


def test_average_precision_by_hand():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    hits = torch.tensor([True, False, True, False])
    # precision 1 up to recall 1/3, 2/3 up to 2/3, nothing after
    assert metrics.average_precision(scores, hits, 3) == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert metrics.average_precision(scores, ~hits, 2) == pytest.approx(50)  # made to fall
    tied = torch.zeros(2)
    assert metrics.average_precision(tied, torch.tensor([True, False]), 1) == 50
    assert metrics.average_precision(tied[:0], torch.tensor([], dtype=torch.bool), 1) == 0


def test_average_precision_equals_scikit_learns_where_it_is_monotone():
    """Without the falling envelope the area is scikit-learn's, where all objects are detected."""
    from sklearn.metrics import precision_recall_curve

    g = gen(4)
    scores, hits = torch.rand(50, generator=g), torch.rand(50, generator=g) < 0.4
    precision, recall, _ = precision_recall_curve(hits.numpy(), scores.numpy())
    envelope = np.maximum.accumulate(precision[:-1])  # its thresholds rise
    expected = 100 * (envelope * -np.diff(recall)).sum()
    ours = metrics.average_precision(scores, hits, int(hits.sum()))
    assert ours == pytest.approx(expected, rel=1e-6)


def map_in_words(iou, guess, scores, truth, threshold):
    """Compute the mean average precision detection by detection, in the order of their scores."""
    total = []
    for c in sorted(set(truth[truth >= 0].tolist())):
        found = []
        for b in range(len(iou)):
            free = [j for j in range(truth.shape[1]) if truth[b, j] == c]
            every = list(free)
            order = [i for i in scores[b].argsort(descending=True).tolist() if guess[b, i] == c]
            for i in order:
                if threshold > 0:
                    best = max(every, key=lambda j: float(iou[b, i, j]), default=None)
                    good = best in free and float(iou[b, i, best]) >= threshold
                else:
                    best = free[0] if free else None
                    good = best is not None
                if good:
                    free.remove(best)
                found.append((float(scores[b, i]), good))
        found.sort(reverse=True)
        hits = np.array([h for _, h in found], float)
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        total.append(100 * (envelope * hits).sum() / int((truth == c).sum()))
    return float(np.mean(total))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(1, 4), st.sampled_from([0.0, 0.3]))
def test_mean_average_precision_is_the_rule_in_words(seed, k, l, threshold):
    iou, guess, scores, truth = scene(seed, 6, k, l, classes=2)
    ours = metrics.mean_average_precision(iou, guess, scores, truth, threshold)
    expected = map_in_words(iou, guess, scores, truth, threshold)
    assert ours == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_chance_of_labels_is_the_simulated_one():
    """Independent labels: 47.6 % of nine, 24.7 % of three; without class 0, 52.9 and 32.2."""
    for k, expected in ((9, (47.6, 52.9)), (3, (24.7, 32.2))):
        guess, truth = torch.randint(10, (2, 20_000, k), generator=gen(k))
        ours = [metrics.label_recall(guess, truth, 10, leave_out=c) for c in (None, 0)]
        assert ours == pytest.approx(expected, abs=0.4)


def test_precision_and_recall_with_background():
    inside = torch.tensor([[[1, 0], [1, 0], [0, 0]], [[0, 1], [0, 1], [0, 0]]]).bool()
    truth = torch.tensor([[3, 5], [7, 5]])
    guess = torch.tensor([[3, 3, 0], [0, 5, 2]])  # hit, second on one box, none; none, hit, wrong
    precision, recall, f1 = metrics.precision_recall_f1(inside, guess, truth)
    assert (precision, recall) == (50, 50)
    assert f1 == 50
    nothing = torch.zeros_like(guess)
    assert metrics.precision_recall_f1(inside, nothing, truth) == (0, 0, 0)
    padded = truth.masked_fill(truth == 7, 0)  # released padding: background as a class
    assert metrics.precision_recall_f1(inside, guess, padded)[1] == pytest.approx(200 / 3)


def test_printed_precision_and_recall_give_the_printed_f1():
    """87.4 and 55.5 make 67.9; 72.7 and 51.0 make 59.9, where the paper prints 60.0."""
    for precision, recall, f1 in ((87.4, 55.5, 67.9), (72.7, 51.0, 59.9)):
        assert 2 / (1 / precision + 1 / recall) == pytest.approx(f1, abs=0.06)


RATES = {  # each with the shapes of its arguments; the last one says which objects are true
    metrics.detected: ("iou BKL", "present BL"),
    metrics.matched: ("iou BKL", "present BL"),
    metrics.detected_and_classified: ("iou BKL", "guess BK", "truth BL"),
    metrics.precision_recall_f1: ("inside BKL", "guess BK", "truth BL"),
    metrics.label_recall: ("guess BK", "truth BL"),
    metrics.centre_error: ("distance BKL", "present BL"),
    metrics.mean_average_precision: ("iou BKL", "guess BK", "scores BK", "truth BL"),
}
each_rate = pytest.mark.parametrize("rate", RATES, ids=lambda rate: rate.__name__)


def arguments(rate, **sizes):
    """Return arguments of ones by name (10 classes where needed)."""
    sizes = {"B": 2, "K": 3, "L": 2} | sizes
    given = {}
    for name, axes in (pair.split() for pair in RATES[rate]):
        x = torch.ones([sizes[a] for a in axes])
        kind = {"guess": torch.int64, "truth": torch.int64, "present": torch.bool}
        given[name] = x.to(kind.get(name, torch.float32))
    return given | ({"classes": 10} if rate is metrics.label_recall else {})


@each_rate
def test_other_shapes_are_refused(rate):
    """Every axis of every argument: missing, one of one, one too many."""
    names = ", ".join(pair.split()[0] for pair in RATES[rate])
    rate(**arguments(rate))
    for name, axes in (pair.split() for pair in RATES[rate]):
        for axis, letter in enumerate(axes):
            if sum(letter in pair.split()[1] for pair in RATES[rate]) == 1:
                continue  # any size will do
            given = arguments(rate)
            x = given[name]
            for wrong in (x.select(axis, 0), x.narrow(axis, 0, 1), torch.cat([x, x], axis)):
                expected = rf"{names}: got shapes .*{re.escape(str(tuple(wrong.shape)))}.*expected"
                with pytest.raises(ValueError, match=expected):
                    rate(**given | {name: wrong})


@each_rate
@pytest.mark.parametrize("sizes", [{}, {"B": 0}, {"L": 0}, {"K": 0}])
def test_no_true_object_is_refused(rate, sizes):
    given = arguments(rate, **sizes)
    last = RATES[rate][-1].split()[0]
    given[last] = torch.full_like(given[last], False if last == "present" else -1)
    with pytest.raises(ValueError, match=f"{last}: got no true object"):
        rate(**given)


def test_background_is_no_true_object():
    with pytest.raises(ValueError, match="truth: got no true object"):
        metrics.precision_recall_f1(torch.ones(1, 1, 1), *torch.zeros(2, 1, 1).long())


@each_rate
def test_without_detections_nothing_is_found(rate):
    found = rate(**arguments(rate, K=0))
    if rate is metrics.centre_error:
        assert math.isnan(found)  # no pair has a distance
    else:
        assert found == ((0, 0, 0) if rate is metrics.precision_recall_f1 else 0)


def test_label_recall_refuses_labels_of_other_classes():
    guess, truth = torch.tensor([[3, 12]]), torch.tensor([[3, -1]])
    assert metrics.label_recall(guess, truth, 10) == 100  # a guess that is never right
    with pytest.raises(ValueError, match="truth, classes: got label 12, expected less than 10"):
        metrics.label_recall(truth, guess, 10)
    for c in (-1, 10):
        with pytest.raises(ValueError, match=f"leave_out: got {c}, expected 0 to 9, or None"):
            metrics.label_recall(guess, truth, 10, leave_out=c)


def test_average_precision_refuses_what_cannot_be():
    scores, hits = torch.rand(3, generator=gen()), torch.tensor([True, False, True])
    for wrong in (hits[:2], hits[:, None]):
        with pytest.raises(ValueError, match=r"scores, hits: got shapes \(3,\) and .* \(N,\)"):
            metrics.average_precision(scores, wrong, 2)
    for total in (1, 0, -1):
        with pytest.raises(ValueError, match=f"total: got {total}, expected 2 or more"):
            metrics.average_precision(scores, hits, total)
    with pytest.raises(ValueError, match="total: got 0, expected 1 or more"):
        metrics.average_precision(scores, ~hits[[0, 2, 0]], 0)


def found_area(tau, theta):
    """Compute the area of the centres of unit squares that a square of side tau finds."""
    u = (torch.arange(1200, dtype=torch.float64) + 0.5) / 1000
    true = torch.stack(torch.meshgrid(u, u, indexing="ij"), -1).view(1, -1, 2)
    unit = metrics.boxes(torch.nn.functional.pad(true, (0, 1), value=1.0))
    fixed = metrics.boxes(torch.tensor([[[0.0, 0.0, tau]]]).double())
    return 4 * (metrics.box_iou(fixed, unit) > theta).double().sum().item() / 1000**2


def test_fixed_boxes_of_another_size_find_more_than_eq_10_2():
    area = {tau: found_area(tau, 0.5) for tau in (0.9, 1.0, 1.06, 1.12, 1.18, 1.3)}
    assert area[1.0] == pytest.approx(metrics.found_by_chance(1, 1, 10), rel=2e-3)
    assert area[1.12] == pytest.approx(0.26897, rel=1e-3)
    assert area[1.12] / area[1.0] == pytest.approx(1.0669, abs=2e-3)
    assert max(area, key=area.get) == 1.12
    for tau in (1.0, 1.06, 1.12, 1.18, 1.3):  # the closed form
        m, c = (1 + tau) / 2, (1 + tau**2) / 3
        exact = 4 * ((tau - 1) / 2 * (m - c) + m * (1 - c) + c * math.log(c))
        assert area[tau] == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("threshold", [0.5, 0.98, 0.9999, 1 - 1e-9])
def test_found_by_chance_keeps_its_digits_near_threshold_one(threshold):
    d = (1 - threshold) / (1 + threshold)
    exact = math.fsum(d**i / (i * (i - 1)) for i in range(2, 200))
    assert metrics.found_by_chance(1, 1, 2, threshold) == pytest.approx(100 * exact, rel=1e-11)


def test_of_all_fixed_predictions_one_to_nine_is_right_most_often_as_released():
    """Uniform labels: whatever ignores the image is a mixture of fixed predictions."""

    def more(t):  # the chance that the t-th copy of a label is right
        return sum(math.comb(9, n) * 0.1**n * 0.9 ** (9 - n) for n in range(t, 10))

    def released(copies):  # of the labels 1 to 9; a missing 0 counts as right
        right = sum(more(t) for k in copies for t in range(1, k + 1))
        return 100 * (0.9 + right) / 9

    def splits(n, most):
        if n == 0:
            yield ()
        for k in range(min(n, most), 0, -1):
            yield from ((k, *rest) for rest in splits(n - k, k))

    rates = {copies: released(copies) for n in range(10) for copies in splits(n, n)}
    best = max(rates, key=rates.get)
    assert best == (1,) * 9
    assert rates[best] == pytest.approx(71.258, abs=1e-3)  # channel-wise in Table 2: 75.5
    truth = torch.randint(10, (20_000, 9), generator=gen(2))
    for labels in ([1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 2, 2, 3, 4, 5, 6, 7], [0] * 9):
        copies = [labels.count(c) for c in range(1, 10)]
        drawn = metrics.label_recall(torch.tensor(labels).expand(20_000, 9), truth, 10, leave_out=0)
        assert drawn == pytest.approx(released(copies), abs=0.4)


def test_label_recall_by_chance_of_many_labels():
    assert metrics.label_recall_by_chance(10, 9, 9) == pytest.approx(47.6, abs=0.1)
    assert 95 < metrics.label_recall_by_chance(10, 3000, 3000) < 100  # no overflow
    assert metrics.label_recall_by_chance(1, 4, 2) == pytest.approx(50)
