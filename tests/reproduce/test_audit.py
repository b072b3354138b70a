"""Sentences of the audit that no other test decides, each against an independent path."""

import math
from itertools import combinations, pairwise

import pytest
import scipy.stats
import torch

from wsl_tutorial import metrics, patches, presence


def test_the_constraint_of_a_penalty_holds_only_in_its_limit():
    """Paper (3) of patches: min over maps h of f(h) + lambda |h - H|^2, f not quadratic."""
    network = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(6.0, dtype=torch.float64)

    def task(h):
        """Return the squared distance of the soft centre of a map from (4, 1)."""
        p = h.flatten().softmax(0).view_as(h)
        return (p.sum(1) @ rows - 4) ** 2 + (p.sum(0) @ rows - 1) ** 2

    def slope(value, h):
        leaf = h.clone().requires_grad_()
        return torch.autograd.grad(value(leaf), leaf)[0]

    force = slope(task, network)  # the multiplier of the constraint is -force
    slack, off = [], []
    for weight in (10.0, 100.0, 1000.0, 10_000.0):
        h = network.clone()

        def penalised(h, weight=weight):
            return task(h) + weight * (h - network).square().sum()

        for _ in range(60):  # gradient descent
            h = h - slope(penalised, h) / (2 * weight)
        gap = h - network
        slack.append(gap.norm().item())
        off.append((2 * weight * gap + force).norm().item() / force.norm().item())
    assert min(slack) > 1e-6  # violated for every weight
    assert all(8 < a / b < 12 for a, b in pairwise(slack))
    assert all(8 < a / b < 12 for a, b in pairwise(off))
    assert off[-1] < 1e-3  # the limit has the multiplier, and it is not lambda


def test_eq_10_3_has_no_room_for_both_printed_numbers():
    """Angles, Jin et al. (2021): 97.5 % of nine digits by nine detections, and an AP of 92.2."""
    least, most = metrics.precision_bounds(97.5 - 0.05, 9, 9)
    assert most == 97.45
    assert 92.2 + 0.05 < least < 95
    generator, total = torch.Generator().manual_seed(0), 9 * 400
    hits = torch.arange(total) < round(0.9745 * total)
    orders = [torch.rand(total, generator=generator) for _ in range(20)]
    orders.append(torch.arange(total).double())  # the wrong ones first: no order is worse
    assert min(metrics.average_precision(rank, hits, total) for rank in orders) > 92.25


def test_without_interpolation_there_is_room_for_both_printed_numbers():
    """The precision at each right detection, wrong ones first: between the sum and its limit."""
    total, r = 9 * 4000, 0.975
    right = round(r * total)
    rank = torch.arange(1, right + 1).double()
    least = (rank / (total - right + rank)).sum().item() / total
    assert least == pytest.approx(r - (1 - r) * math.log(1 / (1 - r)), abs=1e-4)
    assert least < 0.922 < r


def test_a_series_cut_inside_a_size_lies_on_either_side():
    """Li (2018), (6) for three labels: full set, then the pairs, then single labels, then none."""
    generator = torch.Generator().manual_seed(6)
    sets = [s for size in (3, 2, 1, 0) for s in combinations(range(3), size)]
    gaps = []
    for _ in range(300):
        p = (3 * torch.randn(4, 5, generator=generator, dtype=torch.float64)).softmax(0)
        terms = torch.stack([(-1) ** (3 - len(s)) * p[[*s, 3]].sum(0).prod() for s in sets])
        value = presence.log_likelihood(p.log()[None], torch.ones(1, 3, dtype=torch.bool)).exp()
        torch.testing.assert_close(terms.sum()[None], value)
        gaps.append(terms.cumsum(0) - value)
    gaps = torch.stack(gaps)[:, :7]  # after 1, ..., 7 of 8 terms
    assert (gaps[:, [0, 6]] > -1e-12).all()  # after all subsets of a size: above, below, above
    assert (gaps[:, 3] < 1e-12).all()
    assert (gaps[:, 2] > 1e-3).any()  # inside a size
    assert (gaps[:, 2] < -1e-3).any()


def eleven_points(hits, total):
    """AP of Everingham et al. (2010): the best precision from the recalls 0, .1, .. on."""
    right = hits.double().cumsum(0)
    recall, precision = right / total, right / torch.arange(1, len(hits) + 1)
    return sum(
        precision[recall >= k / 10 - 1e-12].max().item() if recall[-1] >= k / 10 - 1e-12 else 0.0
        for k in range(11)
    ) / 11  # fmt: skip


def ranked(total, wrong, after):
    """Hits of a class of which so many are missed, its wrong detections after some right ones."""
    hits = torch.ones(total, dtype=torch.bool)
    hits[after : after + wrong] = False
    return hits


def test_eleven_points_by_class_have_room_for_both_printed_numbers():
    """Ten classes of 40, ten digits missed in eight of them: 97.5 % found, and an AP of 92.2."""
    missed = [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]
    assert 1 - sum(missed) / 400 == 0.975
    last = [eleven_points(ranked(40, m, 40 - m), 40) for m in missed]
    assert last == pytest.approx([1, 1] + 8 * [10 / 11])  # (1 + floor(10 r)) / 11
    assert sum(last) / 10 == pytest.approx(1 - 0.8 / 11)
    places = [40, 40, 0, 0, 20, 39, 39, 39, 38, 38]  # some wrong detections with high scores
    aps = [eleven_points(ranked(40, m, a), 40) for m, a in zip(missed, places, strict=True)]
    assert round(100 * sum(aps) / 10, 1) == 92.2
    one = [eleven_points(ranked(40, m, 40 - m), 40) for m in 9 * [0] + [10]]
    assert 100 * sum(one) / 10 == pytest.approx(97.27, abs=0.01)


def test_the_printed_moment_of_pooled_terms_undoes_no_ideal_map_of_several_scales():
    scales = torch.tensor([1.0, 2.0, 4.0])
    ideal = patches.ideal_heatmap(torch.tensor([[[3.0, 2.0, 1.5]]]), (5, 7), scales)
    pooled = ideal.square() / ideal.sum(1, keepdim=True).clamp_min(1e-6)
    printed = (pooled * scales[:, None, None]).sum(1)  # (1, 5, 7)
    assert patches.top_k(pooled.sum(1), 1, printed)[0].tolist() == [[[3.0, 2.0, 0.75]]]
    assert patches.extract(ideal, 1, 3, scales)[0].tolist() == [[[3.0, 2.0, 1.5]]]


def test_two_standard_errors_call_equal_experiments_different():
    """In 18, 12 and 8 % of all cases with 2, 3 and 5 seeds each: Student's t beyond 2."""
    generator = torch.Generator().manual_seed(0)
    for n, expected, level in ((2, 0.1835, 4.303), (3, 0.1161, 2.776), (5, 0.0805, 2.306)):
        a, b = torch.randn(2, 100_000, n, generator=generator, dtype=torch.float64)
        error = ((a.var(1) + b.var(1)) / n).sqrt()
        gap = (a.mean(1) - b.mean(1)).abs()
        assert (gap > 2 * error).double().mean().item() == pytest.approx(expected, abs=0.005)
        assert (gap > level * error).double().mean().item() == pytest.approx(0.05, abs=0.003)
        assert 2 * scipy.stats.t.sf(2, 2 * n - 2) == pytest.approx(expected, abs=1e-4)
