"""The saddlepoint for many classes in large bags, against exact ways where there are any."""

import math
import time

import pytest
import torch
from test_counts_window import bags
from torch.nn import functional as F

from wsl_tutorial import counts
from wsl_tutorial.counts import saddlepoint, window


def two_kinds(log_a, log_b, first, y):
    """Return log P(y), exact, of `first` instances with log_a (C,), and the others with log_b.

    P(y) = n_1! n_2! / prod_c y_c! times the coefficient of x**n_1 in prod_c (a_c x + b_c)**y_c: a
    count of two classes with the classes for rows, which stand for y_c instances each.
    """
    y = y.double()
    ways = math.lgamma(first + 1) + math.lgamma(y.sum() - first + 1) - torch.lgamma(y + 1).sum()
    both = (torch.logaddexp(log_a, log_b) * y).sum()
    z = (log_a - log_b)[None]
    one = counts.log_likelihood(z, torch.tensor([first]), multiplicity=y[None].long())[0]
    return (ways + both + one).item()


def kinds(seed, classes, n, spread):
    """Two kinds of instances: log_p (1, 2, C), multiplicity (1, 2), and counts drawn from them."""
    g = torch.Generator().manual_seed(seed)
    log_p = (spread * torch.randn(1, 2, classes, generator=g, dtype=torch.float64)).log_softmax(2)
    m = torch.tensor([[n // 3, n - n // 3]])
    drawn = [torch.multinomial(p.exp(), int(k), True, generator=g)
             for p, k in zip(log_p[0], m[0], strict=True)]  # fmt: skip
    return log_p, m, torch.bincount(torch.cat(drawn), minlength=classes)[None]


def test_the_oracle_of_two_kinds_is_right():
    log_p, m, y = kinds(0, 3, 30, 1.0)
    exact = counts.log_likelihood_multiclass(log_p, y, None, m).item()
    assert two_kinds(*log_p[0], int(m[0, 0]), y[0]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10, 30])
@pytest.mark.parametrize("n", [1, 7, 100, 3000])
def test_identical_instances_are_answered_exactly(classes, n):
    g = torch.Generator().manual_seed(n)
    p = torch.randn(classes, generator=g, dtype=torch.float64).log_softmax(0)
    y = torch.bincount(torch.multinomial(p.exp(), n, True, generator=g), minlength=classes)
    for seen in (y, n * F.one_hot(torch.tensor(1), classes)):
        right = torch.distributions.Multinomial(n, logits=p).log_prob(seen.double()).item()
        value = saddlepoint.log_likelihood(p[None, None], seen[None], torch.tensor([[n]]))
        assert value.item() == pytest.approx(right, rel=1e-9, abs=1e-8)


# the largest error over sixteen bags, in nats, as the docstring and chapter 5 state them
STATED = {
    (3, 30): (1e-3, 0.01, 0.1),
    (3, 100): (1e-4, 1e-3, 0.01),
    (3, 300): (1e-5, 1e-4, 1e-3),
    (4, 30): (2e-3, 0.03, 0.2),
    (4, 100): (1e-4, 1e-3, 0.03),
}


@pytest.mark.parametrize(("classes", "n"), STATED)
def test_the_stated_errors_against_the_window(classes, n):
    for spread, stated in zip((0.3, 1.0, 4.0), STATED[classes, n], strict=True):
        log_p, y, real = bags([n] * 16, classes, spread, seed=3)
        nearly = saddlepoint.log_likelihood(log_p, y, real.long())
        off = (nearly - window.log_likelihood(log_p, y, real)).abs().max().item()
        assert off < stated, (spread, off)


@pytest.mark.parametrize(
    ("classes", "n", "stated"), [(10, 100, 0.01), (10, 1000, 0.001), (20, 300, 0.02)]
)
def test_the_stated_errors_of_many_classes_against_two_kinds(classes, n, stated):
    for seed in range(5):
        for spread in (0.3, 1.0, 2.0):
            log_p, m, y = kinds(seed, classes, n, spread)
            value = saddlepoint.log_likelihood(log_p, y, m).item()
            off = abs(value - two_kinds(*log_p[0], int(m[0, 0]), y[0]))
            assert off < stated, (seed, spread, off)


def test_sure_labels_have_the_limit_of_certainty():
    g = torch.Generator().manual_seed(0)
    h = torch.randint(10, (1, 100), generator=g)
    y = F.one_hot(h, 10).sum(1)
    noise = torch.randn(1, 100, 10, generator=g, dtype=torch.float64)
    for size in (20.0, 100.0, 1e4, math.inf):
        z = (F.one_hot(h, 10) * min(size, 1e5) + noise).log_softmax(2)
        z = z if size < math.inf else F.one_hot(h, 10).double().log()
        z = z.requires_grad_()
        value = saddlepoint.log_likelihood(z, y, torch.ones(1, 100).long())
        assert value.item() == pytest.approx(0, abs=0.02)  # and no density without bound
        (r,) = torch.autograd.grad(value.sum(), z)
        torch.testing.assert_close(r, F.one_hot(h, 10).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_the_gradient_is_close_to_the_posterior_and_has_its_sums(spread):
    log_p, y, real = bags([60, 41, 60], 4, spread, seed=1)
    z = log_p.clone().requires_grad_()
    (r,) = torch.autograd.grad(saddlepoint.log_likelihood(z, y, real.long()).sum(), z)
    torch.testing.assert_close(r.sum(1), y.double(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(r.sum(2), real.double(), rtol=1e-9, atol=1e-9)
    (exact,) = torch.autograd.grad(window.log_likelihood(z, y, real).sum(), z)
    assert (r - exact).abs().max() < 0.01


def test_derivatives_of_the_approximation():
    log_p, y, real = bags([9, 12], 5, 1.0)

    def of_logits(z):
        z = z.log_softmax(2).masked_fill(~real[..., None], 0)
        return saddlepoint.log_likelihood(z, y, real.long())

    assert torch.autograd.gradcheck(of_logits, log_p.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(of_logits, log_p.clone().requires_grad_(), atol=1e-4)


def test_impossible_counts_and_groups_of_classes():
    p = torch.tensor([[[0.3, 0.7, 0, 0]] * 20 + [[0, 0, 0.5, 0.5]] * 30], dtype=torch.float64)
    z, m = p.log().requires_grad_(), torch.ones(1, 50).long()
    apart = saddlepoint.log_likelihood(z, torch.tensor([[5, 15, 12, 18]]), m)
    one, two = (torch.distributions.Binomial(n, p).log_prob(torch.tensor(k)).item()
                for n, p, k in ((20, 0.3, 5.0), (30, 0.5, 12.0)))  # fmt: skip
    assert apart.item() == pytest.approx(one + two, abs=0.02)
    never = saddlepoint.log_likelihood(z, torch.tensor([[6, 15, 12, 17]]), m)
    assert never == -torch.inf
    for value in (apart, never):
        (slope,) = torch.autograd.grad(value.sum(), z, retain_graph=True)
        assert slope.isfinite().all()
    assert not slope.any()


def test_ten_classes_in_bags_of_a_hundred_are_asked_for_and_not_silent():
    log_p, y, real = bags([100, 4, 90], 10, 1.0)
    with pytest.raises(ValueError, match=r"states, .* frequencies.* pass approximate=True"):
        counts.log_likelihood_multiclass(log_p, y, real)
    z = log_p.float().requires_grad_()
    value = counts.log_likelihood_multiclass(z, y, real, approximate=True)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value[1:2], counts.log_likelihood_multiclass(z[1:2], y[1:2], real[1:2])
    )
    r = counts.posterior_multiclass(z, y, real, approximate=True)
    torch.testing.assert_close(r.sum(1), y.float(), rtol=1e-4, atol=1e-4)
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(r, slope)
    log_p, m, y = kinds(1, 10, 100, 1.0)
    grouped = counts.log_likelihood_multiclass(log_p, y, None, m, approximate=True)
    assert grouped.item() == pytest.approx(two_kinds(*log_p[0], 33, y[0]), abs=0.01)


def test_bags_that_are_exact_stay_exact():
    log_p, y, real = bags([300, 20], 3, 1.0)
    exact = counts.log_likelihood_multiclass(log_p, y, real)
    asked = counts.log_likelihood_multiclass(log_p, y, real, approximate=True)
    assert torch.equal(exact, asked)


def test_the_approximation_is_quick_and_works_in_torchs_modes():
    log_p, y, real = bags([100] * 16, 10, 1.0)

    def total(z):
        return counts.log_likelihood_multiclass(z, y, real, approximate=True).sum()

    start = time.process_time()
    slope = torch.func.grad(total)(log_p)
    assert time.process_time() - start < 5
    r = counts.posterior_multiclass(log_p, y, real, approximate=True)
    torch.testing.assert_close(slope, r)
    by_sample = torch.func.vmap(
        lambda z, c: counts.log_likelihood_multiclass(z[None], c[None], approximate=True)[0]
    )(log_p, y)
    torch.testing.assert_close(by_sample.sum(), total(log_p))
    with torch.inference_mode():
        torch.testing.assert_close(total(log_p), by_sample.sum())
