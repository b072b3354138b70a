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
