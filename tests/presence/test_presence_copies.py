"""Hidden concepts in bags of near copies, against numbers of 1000 digits."""

import itertools
import math

import mpmath
import pytest
import torch

from wsl_tutorial import presence

LOGITS = (-1000.0, -745.0, -40.0, -0.5, 0.3, 20.0, 40.0, 900.0)


def exact(logits, weights, noise):
    """Return log P(negative) and log P(positive) of a bag with the logits (K, n)."""
    with mpmath.workdps(1000):
        e = [[mpmath.log1p(mpmath.exp(z)) for z in row] for row in logits]
        sums = [mpmath.fsum(w * x for w, x in zip(weights, row, strict=True)) for row in e]
        occurs = mpmath.fprod(1 - mpmath.exp(-s) for s in sums)
        pair = [noise + (1 - 2 * mpmath.mpf(noise)) * p for p in (1 - occurs, occurs)]
        return [float(mpmath.log(p)) for p in pair]


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("size", [1, 2])
def test_likelihoods_of_sure_and_of_faint_concepts(size, noise):
    bags = torch.tensor(list(itertools.product(LOGITS, repeat=size))).double()
    logits = torch.stack([bags, bags.flip(1) / 3], 2).requires_grad_()  # (B, K, 2)
    weights = torch.tensor([0.5, 0.25]).double().expand(len(bags), -1)
    pairs = [exact(x, (0.5, 0.25), noise) for x in logits.tolist()]
    right = torch.tensor(pairs, dtype=torch.float64)
    for label in (False, True):
        labels = torch.full((len(bags),), label)
        value = presence.log_likelihood_concepts(logits, labels, weights, noise)
        torch.testing.assert_close(value, right[:, int(label)], rtol=1e-12, atol=1e-300)
        (slope,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
        (curve,) = torch.autograd.grad(slope.sum(), logits)
        assert slope.isfinite().all()
        assert curve.isfinite().all()


def by_hand(x, width):
    """Return the weights of one bag of numbers, with 60 digits."""
    with mpmath.workdps(60):
        similar = [[mpmath.exp(-(((mpmath.mpf(a) - b) / width) ** 2) / 2) for b in x] for a in x]
        return [float(1 / mpmath.fsum(row)) for row in similar]


@pytest.mark.parametrize(
    ("x", "width"),
    [
        ([1e9, 1e9, 1e9 + 1, 0], 1.0),  # one far from the others
        ([0, 1, 1, 1 + 1e-12], 1e-12),
        ([0, 1, 1, 3e-170], 1e-170),
        ([0, 1e200, 1e200, 3], 1.0),
        ([1e6, 1e6 + 0.5, -1e6, -1e6], 0.5),
        ([-1.7e308, 1.7e308, 1.7e308, 0], math.inf),
    ],
)
def test_weights_of_far_instances_and_of_narrow_widths(x, width):
    bags = torch.tensor([x, [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)[:, :, None].requires_grad_()
    weights = presence.copy_weights(bags, width)
    expected = [by_hand(bag, width) for bag in bags[:, :, 0].tolist()]
    torch.testing.assert_close(
        weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0
    )
    (slope,) = torch.autograd.grad(weights.square().sum(), bags, create_graph=True)
    assert not slope.isnan().any()
    assert not torch.autograd.grad(slope.sum(), bags)[0].isnan().any()


@pytest.mark.parametrize("width", [1e-6, 1e-12, 1e-200, 0.0])
def test_exact_copies_share_the_weight_of_one(width):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 20, 64, generator=generator)
    pairs = torch.cat([x, x], 1).requires_grad_()
    weights = presence.copy_weights(pairs, width)
    torch.testing.assert_close(weights, torch.full((1, 40), 0.5))
    assert (torch.autograd.grad(weights.sum(), pairs)[0] == 0).all()


def test_two_sure_concepts_do_not_make_a_negative_bag_impossible():
    logits = torch.full((1, 2, 1), 40.0).double().requires_grad_()
    weights = torch.ones(1, 1).double()
    value = presence.log_likelihood_concepts(logits, torch.tensor([False]), weights)
    assert value.item() == pytest.approx(math.log(2) - 40, rel=1e-14)
    (slope,) = torch.autograd.grad(value.sum(), logits)
    torch.testing.assert_close(slope, torch.full_like(slope, -0.5))


def test_a_faint_concept_keeps_its_logarithm():
    logits = torch.tensor([[[-1000.0, -1001.0]]])
    value = presence.log_occurrence(logits, torch.tensor([[1.0, 0.5]]))
    assert value.item() == pytest.approx(-1000 + math.log1p(0.5 * math.exp(-1)), rel=1e-6)
    never = torch.full((1, 1, 2), -torch.inf, requires_grad=True)
    value = presence.log_occurrence(never, torch.ones(1, 2))
    assert value.item() == -torch.inf
    assert (torch.autograd.grad(value.sum(), never)[0] == 0).all()


def test_arguments_of_another_kind_are_named():
    x, one, yes = torch.zeros(1, 2, 1), torch.ones(1, 2), torch.tensor([True])
    for width in (one > 0, None, "a", -1.0, math.nan):
        with pytest.raises(ValueError, match="width must be a number of at least 0, got"):
            presence.copy_weights(x, width)
    for noise in (torch.tensor(0.1, requires_grad=True), "a", 0.5):
        with pytest.raises(ValueError, match="noise must be at least 0 and below 1/2, got"):
            presence.log_likelihood_concepts(one[:, None], yes, one, noise)
    spoilt = torch.tensor([[[torch.nan, 0.0]]])
    with pytest.raises(ValueError, match=r"logits .* must not hold NaN"):
        presence.log_occurrence(spoilt, one)
    assert presence.log_occurrence(spoilt, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(
        -math.log(2)
    )
