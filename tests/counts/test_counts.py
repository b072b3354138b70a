"""The claims of chapters 5 and 6 about counts, tested against enumeration of all configurations."""

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd.functional import hessian
from torch.nn import functional as F

from wsl_tutorial import counts, finite_automaton, presence, toy
from wsl_tutorial.counts import binary

DTYPES = [torch.float32, torch.float64]
BINARY = [
    counts.log_likelihood,
    counts.posterior,
    counts.enumeration,
    counts.map_configuration,
    counts.proportion_loss,
    counts.normal_approximation,
]


def some_bags(seed, batch, n, scale=2.0, dtype=torch.float64, full=False):
    """Return logits, counts drawn uniformly, and a mask with padding anywhere in the bag."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, n, generator=generator, dtype=dtype)
    mask = torch.rand(batch, n, generator=generator) < (2 if full else 0.7)
    y = (torch.rand(batch, generator=generator) * (mask.sum(1) + 1)).long()
    return logits, y, mask


def released(rho, y):
    """Return log P(y) and phi of one bag by enumeration: paper (6), (10) and (11)."""
    n = len(rho)
    h = torch.tensor([h for h in itertools.product((0, 1), repeat=n) if sum(h) == y])
    joint = torch.where(h == 1, rho, 1 - rho).prod(1)  # (H,), paper (3)
    alpha = joint / joint.sum()  # paper (10)
    return joint.sum().log(), (alpha[:, None] * h).sum(0)  # phi, below paper (11)


def exact(rho, y):
    """Return P(y) by the recursion in rational arithmetic, without rounding."""
    f = [Fraction(1)]
    for r in map(Fraction, rho):
        f = [a * (1 - r) + b * r for a, b in zip([*f, 0], [0, *f], strict=True)]
    return f[y]


def log_fraction(x):
    """Return the log of a Fraction that may be outside the range of a float."""
    shift = x.denominator.bit_length() - x.numerator.bit_length()
    return math.log(float(x * Fraction(2) ** shift)) - shift * math.log(2)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 9),
    scale=st.sampled_from([0.0, 0.3, 2.0, 8.0, 30.0]),
)
def test_every_form_equals_enumeration_of_the_paper(seed, n, scale):
    logits, y, mask = some_bags(seed, 4, n, scale)
    value = counts.log_likelihood(logits, y, mask)
    phi = counts.posterior(logits, y, mask)
    printed = counts.enumeration(logits, y, mask)
    every = counts.log_distribution(logits, mask).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(value, printed, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(every, printed, rtol=1e-9, atol=1e-9)
    for b in range(4):
        log_p, target = released(logits[b, mask[b]].sigmoid(), y[b].item())
        if logits.abs().max() < 15:  # 1 - rho loses its digits beyond
            torch.testing.assert_close(value[b], log_p, rtol=1e-8, atol=1e-8)
            torch.testing.assert_close(phi[b, mask[b]], target, rtol=1e-7, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 150), scale=st.sampled_from([0.1, 2.0, 20.0]))
def test_fisher_shift_sums_and_range(seed, n, scale):
    logits, y, mask = some_bags(seed, 4, n, scale)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(counts.log_likelihood(logits, y, mask).sum(), logits)
    logits = logits.detach()
    phi = counts.posterior(logits, y, mask)
    torch.testing.assert_close(phi, (logits.sigmoid() * mask) + gradient, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(phi.sum(1), y.double(), rtol=1e-9, atol=1e-9)
    assert ((phi >= 0) & (phi <= 1)).all()
    assert (phi[~mask] == 0).all()
    moved = counts.posterior(logits + torch.tensor([[-700.0], [-3], [0.5], [50]]), y, mask)
    torch.testing.assert_close(moved, phi, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        counts.log_distribution(logits, mask).logsumexp(1).exp(), torch.ones(4).double()
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 100))
def test_order_padding_and_names_of_the_labels_do_not_matter(seed, n):
    logits, y, mask = some_bags(seed, 3, n)
    value, phi = counts.log_likelihood(logits, y, mask), counts.posterior(logits, y, mask)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(counts.log_likelihood(logits[:, order], y, mask[:, order]), value)
    torch.testing.assert_close(counts.posterior(logits[:, order], y, mask[:, order]), phi[:, order])
    swapped = counts.log_likelihood(-logits, mask.sum(1) - y, mask)
    torch.testing.assert_close(swapped, value)
    for b in range(3):
        alone = logits[b : b + 1, mask[b]]
        torch.testing.assert_close(counts.log_likelihood(alone, y[b : b + 1])[0], value[b])
    junk = logits.masked_fill(~mask, torch.nan)
    torch.testing.assert_close(counts.log_likelihood(junk, y, mask), value)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130, 300, 3000])
def test_any_size_against_rational_arithmetic(n, dtype):
    """The logits are multiples of log 2, so that rho is rational and the truth is exact."""
    power = torch.arange(n) * 7 % 9 - 4
    logits = (power.double() * math.log(2)).to(dtype)[None]
    rho = [Fraction(2) ** p / (1 + Fraction(2) ** p) for p in power.tolist()]
    for y in {0, 1, n // 2, n - 1, n} if n < 200 else {n // 2}:
        truth = log_fraction(exact(rho, y)) if n <= 300 else None
        observed = torch.tensor([y])
        value = counts.log_likelihood(logits, observed).item()
        tolerance = 1e-11 if dtype == torch.float64 else 2e-6
        if truth is not None:
            assert value == pytest.approx(truth, rel=tolerance, abs=tolerance)
        phi = counts.posterior(logits, observed)
        assert phi.double().sum().item() == pytest.approx(y, rel=1e-5)
        assert phi.isfinite().all()


@pytest.mark.parametrize("y", [0, 1, 40, 1500, 2960, 2999, 3000])
def test_three_thousand_instances_against_log_space(y):
    generator = torch.Generator().manual_seed(1)
    logits = 4 * torch.randn(1, 3000, generator=generator, dtype=torch.float64)
    truth = counts.log_distribution(logits)[0, y].item()
    assert counts.log_likelihood(logits, torch.tensor([y])).item() == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [20.0, 100.0, 1e4, 1e30, math.inf])
@pytest.mark.parametrize("n", [1, 8, 12, 100])
def test_saturated_probabilities_give_no_nan(n, size, dtype):
    """y = n where all rho are 0 is 0 / 0 in the released code."""
    sign = torch.tensor([[-1.0], [1.0], [1.0], [-1.0]]).expand(-1, n)
    y = torch.tensor([n, n, 0, 0])
    logits = (sign * size).to(dtype).requires_grad_()
    value = counts.log_likelihood(logits, y)
    (gradient,) = torch.autograd.grad(value.sum(), logits, create_graph=True)
    assert not value.isnan().any()
    assert gradient.isfinite().all()
    phi = counts.posterior(logits.detach(), y)
    if size == math.inf:
        assert (value == torch.tensor([-torch.inf, 0, -torch.inf, 0])).all()
        assert (gradient == 0).all()
        assert (phi == torch.tensor([0.0, 1, 0, 0])[:, None]).all()
    else:
        expected = torch.tensor([-n * size, 0, -n * size, 0], dtype=dtype)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
        assert (phi == torch.tensor([1.0, 1, 0, 0], dtype=dtype)[:, None]).all()


def test_the_released_float32_products_do_break_there():
    _, phi = released(torch.full((8,), 1e-6), 8)
    assert phi.isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_far_apart_and_tied_logits(dtype):
    logits = torch.tensor([[800.0, 800, -800], [800, -800, 0], [-900, -900, -905]], dtype=dtype)
    y = torch.tensor([1, 2, 1])
    value = counts.log_likelihood(logits, y).double()
    expected = torch.tensor([-800 + math.log(2), math.log(0.5), -900 + math.log(2 + math.exp(-5))])
    torch.testing.assert_close(value, expected.double(), rtol=1e-6, atol=1e-6)
    near = math.exp(-5) / (2 + math.exp(-5))
    phi = torch.tensor([[0.5, 0.5, 0], [1, 0, 1], [(1 - near) / 2, (1 - near) / 2, near]])
    torch.testing.assert_close(counts.posterior(logits, y), phi.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e12, 1e30, 3e38])
@pytest.mark.parametrize("n", [8, 100, 3000])
def test_huge_logits_of_both_signs(n, size, dtype):
    """Half at +size, half at -size: beside e**-size only the cheapest configurations remain."""
    half, logits = n // 2, torch.full((1, n), size, dtype=dtype)
    logits[:, ::2] *= -1
    for y in (half - 1, half, half + 1, 3, n - 3):
        wrong = abs(y - half)  # so many of one half are on the other side
        ways, observed = math.log(math.comb(half, wrong)), torch.tensor([y])
        z = logits.clone().requires_grad_()
        value = counts.log_likelihood(z, observed)
        expected = ways - wrong * logits[0, 1].double()
        torch.testing.assert_close(value[0], expected.to(dtype), rtol=1e-6, atol=1e-9)
        share = torch.tensor([max(y - half, 0), min(y, half)]).double() / half
        phi = share.repeat(half)[None]
        torch.testing.assert_close(
            counts.posterior(logits, observed).double(), phi, rtol=1e-6, atol=0
        )
        (gradient,) = torch.autograd.grad(value, z)
        torch.testing.assert_close(gradient, (phi - (logits > 0).double()).to(dtype))


@pytest.mark.parametrize("size", [1e12, 1e30, 1.7e308])
@pytest.mark.parametrize("n", [100, 3000])
def test_huge_logits_are_known_labels_to_the_others(n, size):
    few = torch.randn(1, 8, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    known = torch.full((1, n), size, dtype=torch.float64)
    known[:, : n // 2] *= -1
    logits = torch.cat([known, few], 1)
    for k in range(9):
        observed = torch.tensor([k])
        value = counts.log_likelihood(logits, observed + n // 2)
        torch.testing.assert_close(value, counts.enumeration(few, observed))
        _, phi = released(few[0].sigmoid(), k)
        r = counts.posterior(logits, observed + n // 2)
        torch.testing.assert_close(r[0, n:], phi, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(r[:, :n], (known > 0).double(), rtol=1e-12, atol=1e-12)


def test_known_labels_leave_a_smaller_bag():
    logits = torch.tensor([[0.3, math.inf, -1.2, -math.inf, 0.7]], dtype=torch.float64)
    rest, observed = logits[:, [0, 2, 4]], torch.tensor([3])
    value = counts.log_likelihood(logits, observed)
    torch.testing.assert_close(value, counts.log_likelihood(rest, observed - 1))
    torch.testing.assert_close(value, counts.enumeration(logits, observed))
    phi = counts.posterior(logits, observed)
    torch.testing.assert_close(phi[:, [0, 2, 4]], counts.posterior(rest, observed - 1))
    assert phi[0, 1] == 1
    assert phi[0, 3] == 0
    assert counts.enumeration(logits, torch.tensor([5])) == -torch.inf


@pytest.mark.parametrize("n", [1, 4, 70])
def test_first_and_second_derivatives(n):
    logits, y, mask = some_bags(3, 3, n, 1.0)
    logits.requires_grad_()

    def likelihood(x):
        return counts.log_likelihood(x, y, mask)

    assert torch.autograd.gradcheck(likelihood, logits)
    assert torch.autograd.gradgradcheck(likelihood, logits, fast_mode=True)
    assert torch.autograd.gradcheck(lambda x: counts.posterior(x, y, mask), logits, fast_mode=True)
    assert counts.posterior(logits, y, mask).requires_grad
    with torch.no_grad():
        assert not counts.posterior(logits, y, mask).requires_grad


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
def test_map_configuration_is_the_most_probable(seed, n):
    logits, y, mask = some_bags(seed, 4, n)
    chosen = counts.map_configuration(logits, y, mask)
    assert (chosen.sum(1) == y).all()
    assert not (chosen & ~mask).any()
    for b in range(4):
        z = logits[b, mask[b]]
        best = max(itertools.combinations(range(len(z)), y[b]), key=lambda h: z[list(h)].sum())
        assert chosen[b, mask[b]].nonzero()[:, 0].tolist() == sorted(best)


def test_map_configuration_of_known_labels_and_ties():
    logits = torch.tensor([[-math.inf, 5.0, -math.inf, 0.0], [1.0, 1.0, 1.0, 9.0]])
    mask = torch.tensor([[True, False, True, False], [True, True, True, False]])
    chosen = counts.map_configuration(logits, torch.tensor([1, 2]), mask)
    assert chosen.tolist() == [[True, False, False, False], [True, True, False, False]]


# One recursion, two observations ----------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 8))
def test_counts_is_an_automaton(seed, n):
    logits, y, mask = some_bags(seed, 3, n)
    log_p = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], 2)
    accept = F.one_hot(y, n + 1).bool()
    value = finite_automaton.log_marginal(log_p, finite_automaton.counts(n), accept, mask=mask)
    torch.testing.assert_close(value, counts.log_likelihood(logits, y, mask))
    r = finite_automaton.posterior(log_p, finite_automaton.counts(n), accept, mask=mask)
    torch.testing.assert_close(r[..., 1], counts.posterior(logits, y, mask))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(1, 4), n=st.integers(1, 6))
def test_presence_is_an_automaton(seed, classes, n):
    generator = torch.Generator().manual_seed(seed)
    log_p = torch.randn(3, classes + 1, n, generator=generator, dtype=torch.float64).log_softmax(1)
    labels = torch.rand(3, classes, generator=generator) < 0.5
    accept = F.one_hot((labels * 2 ** torch.arange(classes)).sum(1), 2**classes).bool()
    machine = finite_automaton.presence(classes)
    value = finite_automaton.log_marginal(log_p.transpose(1, 2), machine, accept)
    torch.testing.assert_close(value, presence.log_likelihood(log_p, labels))
    r = finite_automaton.posterior(log_p.transpose(1, 2), machine, accept)
    torch.testing.assert_close(r.transpose(1, 2), presence.posterior(log_p, labels))


def test_an_automaton_says_what_does_not_fit():
    log_p, machine = torch.zeros(2, 3, 2).log_softmax(2), finite_automaton.counts(3)
    every = torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(finite_automaton.log_marginal(log_p, machine, every), torch.zeros(2))
    with pytest.raises(ValueError, match=r"log_p must be \(B, n, k\)"):
        finite_automaton.log_marginal(log_p[0], machine, every)
    with pytest.raises(ValueError, match=r"states 0 \.\. 3"):
        finite_automaton.log_marginal(log_p, machine + 1, every)
    for accept in (every[:3], every.long(), every.tolist(), every.expand(3, 4)):
        with pytest.raises(ValueError, match=r"accept must be torch.bool of shape \((2, )?4,?\)"):
            finite_automaton.log_marginal(log_p, machine, accept)
    with pytest.raises(ValueError, match=r"transition must be integer of shape \(S, k\), got list"):
        finite_automaton.log_marginal(log_p, machine.tolist(), every)
    for start in (torch.ones(2, 3, dtype=torch.bool), 0.0, True):
        with pytest.raises(ValueError, match="start must be an int, got"):
            finite_automaton.log_marginal(log_p, machine, every, start)
    for table, name in ((finite_automaton.counts, "most"), (finite_automaton.presence, "classes")):
        for size in (-1, 1.5):
            with pytest.raises(ValueError, match=f"{name} must be an int of at least 0, got"):
                table(size)
    real = torch.ones(2, 3, dtype=torch.bool)
    wide = torch.ones(2, 4, dtype=torch.bool)
    for mask in (real[:1], real[:, :2], wide, wide[:1], real.float(), real.long(), real.tolist()):
        for function in (finite_automaton.log_marginal, finite_automaton.posterior):
            with pytest.raises(
                ValueError, match=r"mask must be torch.bool of shape \(2, 3\) on cpu, got"
            ):
                function(log_p, machine, every, mask=mask)


# More than two classes --------------------------------------------------------------------------


def some_classes(seed, batch, n, classes, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, n, classes, generator=generator, dtype=torch.float64)
    mask = torch.rand(batch, n, generator=generator) < 0.8
    h = torch.randint(classes, (batch, n), generator=generator)
    observed = (F.one_hot(h, classes) * mask[:, :, None]).sum(1)
    return logits, observed, mask


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    classes=st.integers(2, 4),
    scale=st.sampled_from([0.2, 2.0, 15.0]),
)
def test_multiclass_equals_enumeration(seed, n, classes, scale):
    logits, observed, mask = some_classes(seed, 3, n, classes, scale)
    log_p = logits.log_softmax(2)
    value = counts.log_likelihood_multiclass(log_p, observed, mask)
    r = counts.posterior_multiclass(log_p, observed, mask)
    for b in range(3):
        if not mask[b].any():
            assert value[b] == 0
            continue
        bag = log_p[b, mask[b]]

        def observe(h):
            return toy.counts(h, classes)

        torch.testing.assert_close(value[b], toy.log_marginal(bag, observe, observed[b]))
        torch.testing.assert_close(r[b, mask[b]], toy.posterior(bag, observe, observed[b]))
    assert (r[~mask] == 0).all()


@pytest.mark.parametrize(("n", "classes"), [(12, 10), (12, 3), (40, 3), (25, 4)])
def test_multiclass_fisher_sums_and_the_binary_case(n, classes):
    logits, observed, mask = some_classes(0, 3, n, classes)
    logits.requires_grad_()
    value = counts.log_likelihood_multiclass(logits.log_softmax(2), observed, mask)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    log_p = logits.detach().log_softmax(2)
    r = counts.posterior_multiclass(log_p, observed, mask)
    torch.testing.assert_close(r, gradient + log_p.exp() * mask[:, :, None])
    torch.testing.assert_close(r.sum(1), observed.double())
    torch.testing.assert_close(r.sum(2), mask.double())
    z = log_p[..., 1] - log_p[..., 0]
    two = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    y = observed[:, 1:].sum(1)
    both = counts.log_likelihood_multiclass(two, torch.stack([mask.sum(1) - y, y], 1), mask)
    torch.testing.assert_close(both, counts.log_likelihood(z, y, mask))
    assert counts.posterior_multiclass(logits.log_softmax(2), observed, mask).requires_grad


def test_multiclass_derivatives_and_impossible_counts():
    logits, observed, mask = some_classes(4, 2, 4, 3, 1.0)
    logits.requires_grad_()

    def likelihood(x):
        return counts.log_likelihood_multiclass(x.log_softmax(2), observed, mask)

    assert torch.autograd.gradcheck(likelihood, logits)
    assert torch.autograd.gradgradcheck(likelihood, logits)
    sure = torch.tensor([[[1.0, 0, 0], [1, 0, 0], [0, 0.5, 0.5]]]).log().requires_grad_()
    value = counts.log_likelihood_multiclass(sure, torch.tensor([[1, 1, 1]]))
    (gradient,) = torch.autograd.grad(value.sum(), sure)
    assert value == -torch.inf
    assert (gradient == 0).all()
    possible = counts.log_likelihood_multiclass(sure, torch.tensor([[2, 0, 1]]))
    assert possible.item() == pytest.approx(math.log(0.5))


# Noise, intervals, and the other losses ----------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_intervals_and_noise_are_sums_over_counts(dtype):
    logits, _, mask = some_bags(5, 4, 7, dtype=dtype)
    size = mask.sum(1)
    low, high = size // 3, size - 1
    probability = counts.log_distribution(logits, mask).exp()
    by_hand = torch.stack([probability[b, low[b] : high[b] + 1].sum() for b in range(4)])
    value = counts.log_likelihood_interval(logits, low, high, mask)
    torch.testing.assert_close(value, by_hand.log())
    one = counts.log_likelihood_interval(logits, low, low, mask)
    torch.testing.assert_close(one, counts.log_likelihood(logits, low, mask))
    noise = torch.rand(4, 8, dtype=dtype)
    observed = counts.log_likelihood_noisy(logits, noise.log(), mask)
    torch.testing.assert_close(observed, (probability * noise).sum(1).log())
    shared = counts.log_likelihood_noisy(logits, noise[0].log(), mask)
    torch.testing.assert_close(shared, (probability * noise[0]).sum(1).log())
    with pytest.raises(ValueError, match="low must not exceed high"):
        counts.log_likelihood_interval(logits, high + 1, low, torch.ones_like(mask))
    with pytest.raises(ValueError, match="high must lie between 0"):
        counts.log_likelihood_interval(logits, low, size + 1, mask)
    with pytest.raises(ValueError, match="log_noise must have shape"):
        counts.log_likelihood_noisy(logits, noise[:, :7], mask)
    many = torch.linspace(-2, 2, 300).double() * torch.linspace(0.1, 1, 8).double()[:, None]
    none, every = torch.zeros(8, dtype=torch.int64), torch.full((8,), 300)
    whole = counts.log_likelihood_interval(many, none, every)
    for value in (whole, counts.log_likelihood_noisy(many, torch.zeros(301).double())):
        assert (value <= 0).all()  # no rounding above certainty
        torch.testing.assert_close(value, torch.zeros_like(value))


def test_log_distribution_has_finite_derivatives():
    logits, _, mask = some_bags(6, 3, 5, 1.0)
    logits.requires_grad_()
    noise = torch.tensor([0.1, 0.2, 0.5, 0.1, 0.05, 0.05]).double().log()

    def likelihood(x):
        return counts.log_likelihood_noisy(x, noise, mask)

    assert torch.autograd.gradcheck(likelihood, logits)
    assert torch.autograd.gradgradcheck(likelihood, logits)
    never = torch.full((6,), -math.inf).double()
    value = counts.log_likelihood_noisy(logits, never, mask)
    assert (value == -torch.inf).all()
    assert (torch.autograd.grad(value.sum(), logits)[0] == 0).all()


def test_proportion_loss_is_the_log_of_the_mean():
    logits, y, mask = some_bags(7, 6, 5)
    mask[:, 0] = True
    by_hand = []
    for z, observed, real in zip(logits, y, mask, strict=True):
        mean, share = z[real].sigmoid().mean(), observed / real.sum()
        by_hand.append(-(share * mean.log() + (1 - share) * (1 - mean).log()))
    torch.testing.assert_close(counts.proportion_loss(logits, y, mask), torch.stack(by_hand).mean())
    saturated = counts.proportion_loss(torch.full((1, 3), -200.0), torch.tensor([3]))
    assert saturated.item() == pytest.approx(200)


def test_normal_approximation_is_close_for_large_bags_and_not_for_small():
    generator = torch.Generator().manual_seed(0)
    gaps = []
    for n in (4, 40, 400):
        logits = torch.randn(1, n, generator=generator, dtype=torch.float64)
        y = logits.sigmoid().sum(1).round().long()
        normal = counts.normal_approximation(logits, y)
        gaps.append((normal - counts.log_likelihood(logits, y)).abs().item())
        mean, sd = logits.sigmoid().sum(), (logits.sigmoid() * (-logits).sigmoid()).sum().sqrt()
        density = torch.distributions.Normal(mean, sd).log_prob(y.double())
        torch.testing.assert_close(normal, density)
    assert gaps[0] > 10 * gaps[2]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [30.0, 800.0, 1e8])
def test_normal_approximation_of_sure_labels(size, dtype):
    """The variance is 3 exp(-size), which a float holds only as a logarithm."""
    logits = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).expand(-1, 3).to(dtype) * size
    observed = torch.tensor([3, 0, 2, 3])  # the mean, the mean, beside it, far from it
    z = logits.clone().requires_grad_()
    value = counts.normal_approximation(z, observed)
    (gradient,) = torch.autograd.grad(value.sum(), z)
    log_variance = math.log(3) - z[0, 0].item()
    at_mean = torch.tensor(-(log_variance + math.log(2 * math.pi)) / 2).to(dtype)
    torch.testing.assert_close(value[:2], at_mean.expand(2))
    torch.testing.assert_close(gradient[:2], logits[:2].sign() / 6)
    if size == 30:
        distance = torch.tensor([-1, -9], dtype=dtype) * math.exp(-log_variance) / 2
        torch.testing.assert_close(value[2:], distance + at_mean)
        torch.testing.assert_close(gradient[2:], distance[:, None] * logits[2:].sign() / 3)
    else:
        assert (value[2:] == -torch.inf).all()
        assert (gradient[2:] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_normal_approximation_without_variance_is_a_point(dtype):
    inf = math.inf
    logits = torch.tensor([[0.3, 0.1, 0.0], [inf, -inf, 2.0], [inf, inf, -inf], [inf, -inf, 2.0]])
    mask = torch.tensor([[False] * 3, [True, True, False], [True] * 3, [True] * 3])
    logits = logits.to(dtype).requires_grad_()
    observed = torch.tensor([0, 1, 1, 2])
    value = counts.normal_approximation(logits, observed, mask)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value[:3].tolist() == [inf, inf, -inf]
    assert (gradient[:3] == 0).all()
    alone = counts.normal_approximation(logits[3:, 2:].detach(), observed[3:] - 1)
    torch.testing.assert_close(value[3:], alone)
    assert gradient[3].isfinite().all()
    empty = counts.normal_approximation(torch.zeros(2, 0, dtype=dtype), torch.tensor([0, 0]))
    assert empty.tolist() == [inf, inf]


# What does not fit -------------------------------------------------------------------------------


def bad_inputs():
    logits, y = torch.zeros(2, 3), torch.tensor([1, 2])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    yield (logits.long(), y, None), "logits must be float32 or float64 .*, got torch.int64"
    yield (logits.tolist(), y, None), "logits must be float32 or float64 .*, got list"
    yield (
        (logits[0], y, None),
        r"logits must be [^,]+ \(B, n\), got .* of shape \(3,\).*logits\[None\]",
    )
    yield (logits + torch.nan, y, None), "logits of shape .* must not hold NaN"
    yield (logits, y.float(), None), r"counts must be integer .*; take counts.long\(\) if .* whole"
    yield (logits, y[:, None], None), r"counts must .* shape \(2, 1\) .*; take counts.reshape\(2,\)"
    yield (logits, (logits > 0).long(), None), "counts must .*; the functions called _multiclass"
    yield (logits, y > 1, None), "counts must be integer of shape"
    yield (logits, y[:1], None), r"counts must be integer of .* got torch.int64 of shape \(1,\)"
    yield (logits, [1, 2], None), "counts must be integer of shape .* got list"
    yield (logits, y - 2, None), "counts must lie between 0 and the size of each bag, got -1"
    yield (logits, y + 2, None), "got 4 for a bag of 3"
    yield (logits, y, mask), "got 2 for a bag of 1"
    yield (logits, y, mask.int()), r"mask must be torch.bool of shape \(2, 3\)"
    yield (logits, y, mask[:, :2]), r"mask must be torch.bool of shape \(2, 3\)"


@pytest.mark.parametrize(("arguments", "message"), list(bad_inputs()))
def test_bad_input_is_named(arguments, message):
    for function in BINARY:
        with pytest.raises(ValueError, match=message):
            function(*arguments)


def test_bad_multiclass_input_is_named():
    log_p, observed = torch.zeros(1, 3, 2).log_softmax(2), torch.tensor([[1, 2]])
    for function in (counts.log_likelihood_multiclass, counts.posterior_multiclass):
        for arguments, message in [
            ((log_p[0], observed), r"log_p must be [^,]+ \(B, n, C\)"),
            ((log_p + 1, observed), "sum to 1 over dim 2"),
            ((log_p, observed.float()), r"counts must be integer of shape \(1, 2\)"),
            ((log_p, observed + 1), "must sum to the size of each bag"),
            ((log_p, torch.tensor([[-1, 4]])), "must not be negative"),
            ((log_p, observed, torch.tensor([[True, True, False]])), "must sum to the size"),
        ]:
            with pytest.raises(ValueError, match=message):
                function(*arguments)
    many = torch.zeros(1, 33, 11).log_softmax(2)
    with pytest.raises(ValueError, match="states, the product of"):
        counts.log_likelihood_multiclass(many, torch.full((1, 11), 3))


def test_enumeration_refuses_large_bags():
    with pytest.raises(ValueError, match="at most 20; use log_likelihood"):
        counts.enumeration(torch.zeros(1, 21), torch.tensor([3]))


def test_empty_batches_and_empty_bags():
    for n in (0, 3):
        nothing, none = torch.zeros(0, n), torch.zeros(0, dtype=torch.int64)
        assert counts.log_likelihood(nothing, none).shape == (0,)
        assert counts.posterior(nothing, none).shape == (0, n)
    nothing, none = torch.zeros(2, 0), torch.zeros(2, dtype=torch.int64)
    assert counts.log_distribution(nothing).tolist() == [[0], [0]]
    assert counts.log_likelihood_interval(nothing, none, none).tolist() == [0, 0]
    assert counts.proportion_loss(nothing, none) == 0
    logits, y = torch.ones(2, 3, requires_grad=True), torch.tensor([0, 1])
    mask = torch.tensor([[False] * 3, [True] * 3])
    value = counts.log_likelihood(logits, y, mask)
    value.sum().backward()
    assert value[0] == 0
    assert logits.grad.isfinite().all()
    assert counts.proportion_loss(logits.detach(), y, mask).isfinite()
    empty = counts.log_likelihood_multiclass(torch.zeros(0, 3, 2), torch.zeros(0, 2).long())
    assert empty.shape == (0,)


# Torch's modes, and arithmetic at its ends --------------------------------------------------------


def test_a_posterior_in_inference_mode_and_under_transforms():
    logits, observed = torch.zeros(1, 3), torch.tensor([1])
    third = torch.full((1, 3), 1 / 3)
    with torch.inference_mode():
        torch.testing.assert_close(counts.posterior(torch.zeros(1, 3), observed), third)
        even = torch.zeros(1, 2, 2).log_softmax(2)
        r = counts.posterior_multiclass(even, torch.tensor([[1, 1]]))
        torch.testing.assert_close(r, torch.full((1, 2, 2), 0.5))
    torch.testing.assert_close(
        torch.func.vmap(counts.posterior)(logits[None], observed[None])[0], third
    )
    logits, y, mask = some_bags(8, 4, 6)

    def total(z):
        return counts.log_likelihood(z, y, mask).sum()

    slope = (counts.posterior(logits, y, mask) - logits.sigmoid()) * mask
    torch.testing.assert_close(torch.func.grad(total)(logits), slope)
    bent = torch.func.jacfwd(lambda z: counts.posterior(z, y, mask))(logits)
    by_reverse = torch.autograd.functional.jacobian(lambda z: counts.posterior(z, y, mask), logits)
    torch.testing.assert_close(bent, by_reverse)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e4, 1e30, 1e35, math.inf])
def test_the_proportion_loss_of_sure_and_wrong_labels(size, dtype):
    """The cross-entropy of 1/2 against e**-size is size / 2; no replacement of log 0 appears."""
    logits = torch.full((1, 2), -size, dtype=dtype, requires_grad=True)
    loss = counts.proportion_loss(logits, torch.tensor([1]))
    torch.testing.assert_close(loss, torch.tensor(size / 2, dtype=dtype))
    (slope,) = torch.autograd.grad(loss, logits)
    right = torch.full_like(slope, 0 if size == math.inf else -0.25)
    torch.testing.assert_close(slope, right)
    for sign in (-1, 1):  # sure and right: 0 log 0 is 0
        known = torch.full((1, 2), sign * size, dtype=dtype)
        observed = torch.tensor([1 + sign])
        assert counts.proportion_loss(known, observed).item() == pytest.approx(0, abs=1e-12)
    empty = counts.proportion_loss(logits, torch.tensor([0]), torch.zeros(1, 2).bool())
    assert empty.item() == 0
    with pytest.raises(ValueError, match="holds no bag"):
        counts.proportion_loss(torch.zeros(0, 2), torch.zeros(0).long())


@pytest.mark.parametrize("size", [1e31, 1e35, 3e38])
def test_no_form_takes_a_large_logit_for_certainty(size):
    logits, observed = torch.tensor([[-size, -size, 0.0]]), torch.tensor([2])
    expected = torch.tensor([-size + math.log(2) - math.log(2)])
    for form in (counts.log_likelihood, counts.enumeration):
        torch.testing.assert_close(form(logits, observed), expected)
    torch.testing.assert_close(counts.log_distribution(logits)[:, 2], expected)
    noise = torch.tensor([-math.inf, -math.inf, 0, -math.inf])
    torch.testing.assert_close(counts.log_likelihood_noisy(logits, noise), expected)
    torch.testing.assert_close(
        counts.log_likelihood_interval(logits, observed, observed + 1), expected
    )
    log_p = torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)], 2)
    both = counts.log_likelihood_multiclass(log_p, torch.tensor([[1, 2]]))
    torch.testing.assert_close(both, expected)


def test_noise_that_is_no_probability_is_refused():
    logits = torch.zeros(1, 2)
    for wrong in (torch.tensor([0.0, math.nan, 0]), torch.tensor([0.5, 0, 0])):
        with pytest.raises(ValueError, match="must hold log-probabilities"):
            counts.log_likelihood_noisy(logits, wrong)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int64])
def test_counts_at_the_end_of_their_dtype(dtype):
    """127 and 255 instances: one more would not fit into the dtype."""
    n = min(torch.iinfo(dtype).max, 255)
    logits = torch.zeros(1, n, dtype=torch.float64)
    observed = torch.tensor([n]).to(dtype)
    right = -n * math.log(2)
    assert counts.log_likelihood(logits, observed).item() == pytest.approx(right)
    assert counts.proportion_loss(logits, observed).item() == pytest.approx(math.log(2))
    log_p = torch.zeros(1, n, 2, dtype=torch.float64).log_softmax(2)
    both = counts.log_likelihood_multiclass(log_p, torch.stack([observed, 0 * observed], 1))
    assert both.item() == pytest.approx(right)


# What chapters 5 and 6 say of learning ------------------------------------------------------------


def slope_of(f, logits):
    z = logits.clone().requires_grad_()
    return torch.autograd.grad(f(z), z)[0]


def test_beyond_64_instances_the_shift_makes_the_count_probable_and_below_it_need_not():
    logits = torch.cat([torch.tensor([5.0]), torch.full((63,), 0.0)])[None].double()
    for n, least in ((64, 2.0**-64), (65, 1 / 66), (200, 1 / 201)):
        z = torch.cat([logits, torch.zeros(1, n - 64).double()], 1)
        bag = binary._Bag(z, torch.tensor([1]), None)
        log_f = binary.log_distribution_of(bag.log_b - bag.log_a, bag.real)[0]
        assert log_f[1].exp() >= least * (1 - 1e-9)
        mode = int(log_f.argmax())
        assert (mode == 1) is (n > 64)


def test_dllp_and_likelihood_agree_bag_by_bag_up_to_the_size_and_not_in_their_sum():
    logits, y = torch.zeros(2, 4).double(), torch.tensor([2, 0])
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    likelihood = slope_of(lambda z: counts.log_likelihood(z, y, mask).sum(), logits)
    dllp = -2 * slope_of(lambda z: counts.proportion_loss(z, y, mask), logits)
    torch.testing.assert_close(likelihood[0], 2 * dllp[0])
    torch.testing.assert_close(likelihood[1], 4 * dllp[1])
    assert likelihood.sum().item() == pytest.approx(-1)  # of a logit that all share
    assert dllp.sum().item() == pytest.approx(0)


def test_the_normal_form_pushes_on_contrasts_as_the_likelihood_does_only_near_one_half():
    """At rho = q = y / n, along a contrast: (6 x - 1) / 2n, x = q (1 - q), against x / (n - 1)."""
    for n, y in ((100, 10), (100, 50), (100, 25)):
        q = y / n
        x = q * (1 - q)
        z = torch.full((1, n), math.log(q / (1 - q)), dtype=torch.float64)
        along = torch.zeros_like(z)
        along[0, :2] = torch.tensor([1.0, -1]) / math.sqrt(2)
        observed = torch.tensor([y])
        bent = []
        for f in (counts.log_likelihood, counts.normal_approximation):
            leaf = z.clone().requires_grad_()
            (slope,) = torch.autograd.grad(f(leaf, observed).sum(), leaf, create_graph=True)
            product = torch.autograd.grad((slope * along).sum(), leaf, retain_graph=True)[0]
            bent.append((product * along).sum().item())
        assert bent[0] == pytest.approx(x / (n - 1), rel=1e-6)
        assert bent[1] == pytest.approx((6 * x - 1) / (2 * n), rel=1e-6)
        assert slope[0, 0].item() == pytest.approx(-(1 - 2 * q) / (2 * n), rel=1e-6, abs=1e-12)


def test_a_large_bag_of_rare_positives_is_not_normal():
    n = 10_000
    z = torch.full((1, n), math.log(1e-4 / (1 - 1e-4)), dtype=torch.float64)
    none = torch.tensor([0])
    assert counts.log_likelihood(z, none).exp().item() == pytest.approx(0.3679, abs=1e-4)
    assert counts.normal_approximation(z, none).exp().item() == pytest.approx(0.2420, abs=1e-4)


def test_the_normal_density_grows_without_bound_only_where_the_sure_labels_meet_the_count():
    observed = torch.tensor([1])
    sure = [counts.normal_approximation(torch.tensor([[s, -s]]).double(), observed).item()
            for s in (1.0, 10, 100)]  # fmt: skip
    wrong = [counts.normal_approximation(torch.tensor([[s, s]]).double(), observed).item()
             for s in (1.0, 10, 100)]  # fmt: skip
    assert sure[0] < sure[1] < sure[2]
    assert wrong == pytest.approx([-0.72, -5502, -6.7e42], rel=0.01)


def test_a_met_count_pushes_up_the_upper_but_not_only_the_y_upper():
    rho = torch.tensor([[9.0, 8, 3]], dtype=torch.float64) / 20
    push = counts.posterior(rho.logit(), torch.tensor([1])) - rho
    assert push[0].tolist() == pytest.approx([0.0425, 0.0013, -0.0438], abs=5e-5)


def second_derivative(z, y):
    return hessian(lambda x: counts.log_likelihood(x[None], torch.tensor([y])).sum(), z)


def test_the_curvature_averaged_over_counts_is_minus_the_covariance_of_the_posteriors():
    """It is 0 along contrasts of equal instances, whose posteriors are all y / n."""
    for z in (torch.full((5,), 0.3).double().logit(), torch.linspace(-2, 1, 5).double()):
        shares = counts.log_distribution(z[None])[0].exp()
        mean = sum(p * second_derivative(z, y) for y, p in enumerate(shares))
        r = counts.posterior(z.expand(6, -1), torch.arange(6)) - z.sigmoid()
        torch.testing.assert_close(mean, -(shares[:, None] * r).T @ r)
        contrast = torch.tensor([1.0, -1, 0, 0, 0]).double()
        assert abs(contrast @ mean @ contrast) < 1e-12 or len(set(z.tolist())) > 1


def test_only_small_differences_grow_near_the_constant_answer():
    small = torch.tensor([[0.5, 0.51, 0.49, 0.5]]).double()
    large = torch.tensor([[30.0, 30, 30, 5, 3, 2]]).double() / 100
    for rho, y, grows in ((small, 2, True), (large, 1, False)):
        push = counts.posterior(rho.logit(), torch.tensor([y]))[0] - rho[0]
        apart = (push[:, None] - push) * (rho[0][:, None] - rho[0])
        assert bool((apart >= -1e-12).all()) is grows


def test_equal_instances_are_pushed_apart_by_counts_near_half_the_bag_and_not_by_0_and_n():
    """Elsewhere it depends on rho: for a small rho the count 1 pushes apart, too."""
    contrast = torch.zeros(12).double()
    contrast[:2] = torch.tensor([1.0, -1])
    negative = {}
    for rho in (0.5, 0.05):
        z = torch.full((12,), rho).double().logit()
        bent = [(contrast @ second_derivative(z, y) @ contrast).item() / 2 for y in range(13)]
        for y, found in enumerate(bent):
            x = y / 12 * (1 - y / 12)
            assert found == pytest.approx(12 / 11 * x - rho * (1 - rho), abs=1e-7)
        negative[rho] = [y for y, found in enumerate(bent) if found < 0]
    assert negative == {0.5: [0, 1, 2, 3, 4, 8, 9, 10, 11, 12], 0.05: [0, 12]}


def test_contrasts_change_the_loss_of_dllp_and_lower_the_likelihood_away_from_the_constant_answer():
    sure = torch.tensor([[0.9, 0.6, 0.3, 0.2]]).double().logit()
    two, contrast = torch.tensor([2]), torch.tensor([1.0, -1, 0, 0]).double()
    first, last = (counts.proportion_loss(sure + s * contrast, two).item() for s in (0, 1))
    assert last > first + 0.004
    bent = second_derivative(torch.tensor([3.0, 3, 3, -3, -3, -3]).double(), 3)
    contrast = torch.tensor([1.0, -1, 0, 0, 0, 0]).double()
    assert contrast @ bent @ contrast < -0.07


def test_posteriors_are_proportional_to_the_odds_for_the_count_one_only():
    rho = torch.tensor([[0.9, 0.5, 0.2]]).double()
    one, two = (counts.posterior(rho.logit(), torch.tensor([y])) for y in (1, 2))
    odds = rho / (1 - rho)
    torch.testing.assert_close(one, odds / odds.sum())
    assert not torch.allclose(two, 2 * odds / odds.sum(), atol=0.1)


def test_products_in_float32_vanish_if_the_count_makes_eight_sure_predictions_wrong():
    sure, unsure = torch.full((8,), 1e-6), torch.full((4,), 0.5)
    for rho, y, vanish in (
        (torch.cat([sure, unsure]), 12, True),
        (torch.cat([sure, unsure]), 8, False),  # eight positives, four of them unsure
        (torch.full((12,), 1e-6), 8, True),  # four predictions are right
        (1 - sure, 0, True),
        (sure[:7], 7, False),
    ):
        h = toy.labellings(len(rho), 2)
        h = h[h.sum(1) == y].bool()
        assert bool((torch.where(h, rho, 1 - rho).prod(1) == 0).all()) is vanish


def test_an_automaton_pads_to_the_state_with_the_most_transitions():
    run_length = torch.stack([torch.zeros(9), torch.arange(1, 10).clamp_max(8)], 1).long()
    for table, most in ((finite_automaton.counts(8), 2), (run_length, 9)):
        assert finite_automaton._incoming(table)[0].shape == (9, most)


def test_one_large_bag_takes_no_n_times_y_steps():
    z = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0)).double()
    z.requires_grad_()
    value = counts.log_likelihood(z, torch.tensor([10_000]))  # the literal loop: 2e8 cells
    (slope,) = torch.autograd.grad(value.sum(), z)
    assert (slope.sum() + z.sigmoid().sum()).item() == pytest.approx(10_000)
