"""Sentences of the audit that no other test decides, each against an independent path."""

import math
from itertools import pairwise

import pytest
import torch

from wsl_tutorial import metrics


def test_the_constraint_of_a_penalty_holds_only_in_its_limit():
    """Paper (3) of patches: min over maps h of f(h) + lambda |h - H|^2, f not quadratic."""
    network = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.arange(6.0, dtype=torch.float64)

    def task(h):
        """How far the soft centre of a map is from (4, 1), squared."""
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
