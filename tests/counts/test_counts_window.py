"""Counts of large bags by the tilted characteristic function, against all other ways to them."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wsl_tutorial import counts
from wsl_tutorial.counts import multiclass, window


def bags(sizes, classes, spread, seed=0):
    """log_p (B, n, C), counts (B, C) drawn from it, and the mask (B, n)."""
    g = torch.Generator().manual_seed(seed)
    b, n = len(sizes), max(sizes)
    log_p = spread * torch.randn(b, n, classes, generator=g, dtype=torch.float64)
    log_p = log_p.log_softmax(2)
    real = torch.arange(n) < torch.tensor(sizes)[:, None]
    drawn = torch.multinomial(log_p.exp().flatten(0, 1), 1, generator=g).view(b, n)
    y = F.one_hot(drawn, classes).masked_fill(~real[:, :, None], 0).sum(1)
    return log_p.masked_fill(~real[:, :, None], 0), y, real


def one_by_one(log_p, y):
    """log P(y) of one bag in extended precision: instances join one after the other."""
    p, top = np.exp(log_p.numpy().astype(np.longdouble)), y.tolist()[:-1]
    f = np.zeros([v + 1 for v in top], dtype=np.longdouble)
    f[(0,) * f.ndim] = 1
    for row in p:
        new = f * row[-1]
        for c in range(f.ndim):
            up = tuple(slice(1, None) if a == c else slice(None) for a in range(f.ndim))
            down = tuple(slice(None, -1) if a == c else slice(None) for a in range(f.ndim))
            new[up] += f[down] * row[c]
        f = new
    return float(np.log(f[tuple(top)]))


@pytest.mark.parametrize("classes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("spread", [0.3, 2.0, 8.0])
def test_small_bags_equal_the_recursion(classes, spread):
    log_p, y, real = bags([1, 2, 3, 5, 7, 8, 8, 6], classes, spread)
    slopes = []
    for way in (window.log_likelihood, multiclass._recursion):
        z = log_p.clone().requires_grad_()
        value = way(z, y, real)
        value.sum().backward()
        slopes.append((value.detach(), z.grad))
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(
    ("n", "classes", "spread"), [(310, 3, 1.5), (310, 3, 6.0), (100, 4, 1.0), (60, 5, 1.0)]
)
def test_large_bags_equal_extended_precision(n, classes, spread):
    log_p, y, real = bags([n], classes, spread)
    assert window.log_likelihood(log_p, y, real).item() == pytest.approx(
        one_by_one(log_p[0], y[0]), rel=1e-12
    )


@pytest.mark.parametrize("y", [[400, 60, 40], [0, 250, 250], [1, 2, 497], [500, 0, 0]])
def test_unlikely_counts_keep_their_digits(y):
    log_p, _, real = bags([500], 3, 2.0)
    y = torch.tensor([y])
    assert window.log_likelihood(log_p, y, real).item() == pytest.approx(
        one_by_one(log_p[0], y[0]), rel=1e-12
    )


def test_the_posterior_sums_to_one_and_to_the_counts():
    log_p, y, real = bags([40, 130, 7], 3, 2.0)
    z = log_p.clone().requires_grad_()
    (r,) = torch.autograd.grad(window.log_likelihood(z, y, real).sum(), z)
    assert (r >= 0).all()
    torch.testing.assert_close(r.sum(2), real.double())
    torch.testing.assert_close(r.sum(1), y.double())


def test_a_certain_instance_and_impossible_classes():
    """With zeros among the probabilities: by enumeration of all labels."""
    g = torch.Generator().manual_seed(1)
    p = torch.rand(6, 3, generator=g, dtype=torch.float64) * torch.tensor(
        [[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1], [1, 0, 1], [1, 1, 1]]
    )
    p = p / p.sum(1, keepdim=True)
    found = {}
    for labels in itertools.product(range(3), repeat=6):
        y = tuple(labels.count(c) for c in range(3))
        found[y] = found.get(y, 0) + float(np.prod([p[i, c].item() for i, c in enumerate(labels)]))
    every = [y for y in itertools.product(range(7), repeat=3) if sum(y) == 6]
    y = torch.tensor(every)
    z = p.log().expand(len(y), -1, -1).clone().requires_grad_()
    value = window.log_likelihood(z, y, torch.ones(len(y), 6, dtype=torch.bool))
    value[value > -torch.inf].sum().backward()
    wanted = torch.tensor([found[tuple(row)] for row in every], dtype=torch.float64)
    torch.testing.assert_close(value.detach().exp(), wanted, rtol=1e-12, atol=0)
    assert (value == -torch.inf).any()
    assert z.grad.isfinite().all()
    assert not z.grad[value == -torch.inf].any()


def test_impossible_counts_of_a_large_bag_alone():
    sure = torch.tensor([1.0, 0, 0]).double().log().expand(1, 40, 3).clone().requires_grad_()
    value = counts.log_likelihood_multiclass(sure, torch.tensor([[20, 10, 10]]))
    assert value.item() == -torch.inf
    assert not torch.autograd.grad(value.sum(), sure)[0].any()


def test_extreme_logits():
    log_p = torch.tensor([[[0.0, -900.0, -1000.0]] * 4], dtype=torch.float64)
    y, real = torch.tensor([[2, 1, 1]]), torch.ones(1, 4, dtype=torch.bool)
    assert window.log_likelihood(log_p, y, real).item() == pytest.approx(np.log(12) - 1900)


def test_derivatives_of_first_and_second_order():
    log_p, y, real = bags([4, 6], 3, 1.0)
    z = log_p.clone().requires_grad_()

    def of_logits(z):
        return window.log_likelihood(z.log_softmax(2).masked_fill(~real[..., None], 0), y, real)

    assert torch.autograd.gradcheck(of_logits, z)
    assert torch.autograd.gradgradcheck(of_logits, z)


def test_no_bags_and_padding():
    log_p, y, real = bags([5, 9], 3, 1.0)
    assert window.log_likelihood(log_p[:0], y[:0], real[:0]).shape == (0,)
    alone = [
        window.log_likelihood(log_p[i : i + 1, :n], y[i : i + 1], real[i : i + 1, :n])
        for i, n in enumerate((5, 9))
    ]
    torch.testing.assert_close(window.log_likelihood(log_p, y, real), torch.cat(alone))


def test_the_bounds_are_bounds():
    """On a grid far too coarse: what it adds is no more than was promised."""
    log_p, y, _ = bags([120], 3, 1.0)
    q, one = log_p.exp(), ones(log_p)
    exact = sums(q, y, *full(q, y, 121))
    for points in (10, 15, 20, 30):
        n, k, weight, _ = full(q, y, points, error=True)
        off = (sums(q, y, n, k, weight) - exact).abs()
        assert off <= window._alias(q, y, one, F.pad(n, (0, 1), value=999)).sum() + 1e-15
    n = torch.tensor([121, 121])
    for tolerance in (1e-2, 1e-4, 1e-8):
        k, weight, error = window._frequencies(q, ones(q), n, tolerance)
        off = (sums(q, y, n, k, weight) - exact).abs()
        assert len(k) < 121 * 61
        assert off <= error


def ones(q):
    return torch.ones(q.shape[:2], dtype=torch.long)


def sums(q, y, n, k, weight):
    return window._sums(q, y, ones(q), n, k, weight, slope=False)[0]


def full(q, y, points, error=False):
    n = torch.tensor([points] * (q.shape[2] - 1))
    k, weight, rest = window._frequencies(q, ones(q), n, 0.0)
    return (n, k, weight, rest) if error else (n, k, weight)


def test_the_cheaper_way_is_taken_and_both_serve_one_batch(monkeypatch):
    log_p, y, real = bags([3, 60, 5], 3, 1.0)
    alone = [
        multiclass._recursion(log_p[i : i + 1], y[i : i + 1], real[i : i + 1]) for i in range(3)
    ]
    seen = []
    plain = window.log_likelihood
    monkeypatch.setattr(
        window, "log_likelihood", lambda z, *more: seen.append(len(z)) or plain(z, *more)
    )
    z = log_p.clone().requires_grad_()
    value = counts.log_likelihood_multiclass(z, y, real)
    assert seen == [1]
    torch.testing.assert_close(value, torch.cat(alone), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        counts.posterior_multiclass(log_p, y, real), torch.autograd.grad(value.sum(), z)[0]
    )


def test_a_bag_that_neither_way_can_serve_is_refused():
    log_p, y, real = bags([120], 10, 0.1)
    with pytest.raises(ValueError, match=r"counts .* states, .* frequencies"):
        counts.log_likelihood_multiclass(log_p, y, real)


def test_classes_that_no_bag_has_cost_nothing():
    """Thirty classes have 2**30 sets; the three that the bag has, eight."""
    log_p, y, real = bags([70], 3, 1.0)
    wide = torch.full((1, 70, 30), -torch.inf, dtype=torch.float64)
    wide[..., [4, 17, 29]] = log_p
    few = torch.zeros(1, 30, dtype=torch.long)
    few[0, [4, 17, 29]] = y[0]
    wide[0, 0] = -torch.inf
    wide[0, 0, 4] = 0
    log_p[0, 0] = wide[0, 0, [4, 17, 29]]
    assert counts.log_likelihood_multiclass(wide, few, real).item() == pytest.approx(
        one_by_one(log_p[0], y[0]), rel=1e-12
    )


def test_many_classes_in_small_bags_are_served():
    log_p, y, real = bags([12], 10, 1.0)
    assert counts.log_likelihood_multiclass(log_p, y, real).item() == pytest.approx(
        one_by_one(log_p[0], y[0]), rel=1e-12
    )


def test_counts_that_do_not_fit_are_refused_with_their_bag():
    log_p, y, real = bags([5, 9], 3, 1.0)
    y[1] += 1
    with pytest.raises(ValueError, match=r"got \[.*\] for bag 1 of 9 instances; pass mask"):
        counts.log_likelihood_multiclass(log_p, y, real)


def nearly_sure(scale, size=12, bags=8):
    """Return bags whose counts contradict what most labels say, and the recursion's answer."""
    generator = torch.Generator().manual_seed(7)
    z = scale * torch.randn(bags, size, 3, generator=generator, dtype=torch.float64)
    log_p, y = z.log_softmax(2), torch.tensor([[size // 3] * 3]).expand(bags, -1)
    real = torch.ones(bags, size, dtype=torch.bool)
    return log_p, y, multiclass._recursion(log_p, y, real)


@pytest.mark.parametrize("scale", [30, 100, 1000, 5000])
def test_nearly_sure_labels_have_a_tilt(scale):
    log_p, y, right = nearly_sure(scale)
    m = torch.ones_like(log_p[:, :, 0], dtype=torch.long)
    torch.testing.assert_close(window.log_likelihood(log_p, y, m), right)
    r = counts.posterior_multiclass(log_p, y)
    torch.testing.assert_close(r.sum(1), y.double())
    torch.testing.assert_close(r.sum(2), m.double())


def test_what_rounding_hides_is_left_to_the_recursion_or_refused(monkeypatch):
    log_p, y, right = nearly_sure(1000)
    monkeypatch.setattr(window, "GENTLE", 1e9)
    monkeypatch.setattr(window, "STEPS", 2)
    m = torch.ones_like(log_p[:, :, 0], dtype=torch.long)
    assert window.log_likelihood(log_p, y, m).isnan().any()
    log_p.requires_grad_()
    value = counts.log_likelihood_multiclass(log_p, y)
    torch.testing.assert_close(value.detach(), right)
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    torch.testing.assert_close(slope.sum(1), y.double())
    monkeypatch.setattr(multiclass, "MAX_STATES", 100)
    with pytest.raises(ValueError, match=r"log_p of shape \(8, 12, 3\) .* so sure"):
        counts.log_likelihood_multiclass(log_p, y)


def test_the_largest_flow_agrees_with_the_condition_of_hall(monkeypatch):
    g = torch.Generator().manual_seed(0)
    found = []
    for _ in range(60):
        classes, n = torch.randint(1, 6, (2,), generator=g).tolist()
        z = torch.where(torch.rand(4, n, classes, generator=g) < 0.45, 0.0, -torch.inf)
        m = torch.randint(0, 4, (4, n), generator=g)
        drawn = (torch.randint(0, classes, (size,), generator=g) for size in m.sum(1).tolist())
        y = torch.stack([torch.bincount(k, minlength=classes) for k in drawn])
        sets = window.is_possible(z, y, m)
        with monkeypatch.context() as patch:
            patch.setattr(window, "HALL", 0)
            assert torch.equal(window.is_possible(z, y, m), sets)
        found.append(sets)
    assert 0.1 < torch.cat(found).double().mean() < 0.9


def test_sixty_classes_of_which_few_are_possible():
    """A cycle: instance i can have the classes i and i + 1, so there are two labellings."""
    log_p = torch.full((1, 60, 60), -torch.inf, dtype=torch.float64)
    i = torch.arange(60)
    log_p[0, i, i], log_p[0, i, (i + 1) % 60] = torch.tensor([0.6, 0.4]).double().log()
    y = torch.ones(1, 60, dtype=torch.long)
    labels = counts.map_configuration_multiclass(log_p, y)
    assert torch.equal(labels[0], i)
    y[0, 0], y[0, 1], y[0, 2] = 0, 3, 0  # three instances of class 1, which only two can have
    m = torch.ones(1, 60, dtype=torch.long)
    assert not window.is_possible(log_p, y, m).any()
