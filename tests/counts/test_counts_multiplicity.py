"""Rows that stand for several identical instances, against the rows written out one by one."""

import inspect
import math
import time

import input_walks
import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from input_walks import Case
from torch.nn import functional as F

from wsl_tutorial import counts

TWO = torch.tensor([[2000, 3000]])


def some_rows(seed, batch, n, most, scale, classes=0):
    """Values of rows (B, n) or (B, n, C), their multiplicity, a mask, and counts that fit."""
    g = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(batch, n, *[classes] * (classes > 0), generator=g, dtype=torch.float64)
    m = torch.randint(most + 1, (batch, n), generator=g)
    mask = torch.rand(batch, n, generator=g) < 0.8
    if not classes:
        return x, m, mask, (torch.rand(batch, generator=g) * ((m * mask).sum(1) + 1)).long()
    real = written_out(x, m, mask)[1]
    labels = torch.randint(classes, real.shape, generator=g)
    return x.log_softmax(2), m, mask, (F.one_hot(labels, classes) * real[:, :, None]).sum(1)


def written_out(x, m, mask):
    """Return every row as often as it counts, the mask of the result, and the row of each."""
    rows = [torch.arange(m.shape[1]).repeat_interleave(k * r) for k, r in zip(m, mask, strict=True)]
    row = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    at = row.clamp_min(0).view(*row.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return x.gather(1, at), row >= 0, row


def added(r, row, n):
    """Return the sums of r over the copies of each row."""
    return torch.stack([(r * (row == i).view(*row.shape, *[1] * (r.dim() - 2))).sum(1)
                        for i in range(n)], 1)  # fmt: skip


def test_all_functions_of_bags_take_a_multiplicity():
    functions = [f for f in map(vars(counts).get, counts.__all__) if callable(f)]
    without = [f for f in functions if "multiplicity" not in inspect.signature(f).parameters]
    assert without == [counts.counts_from_proportions]


LIKELIHOODS = [counts.log_likelihood, counts.normal_approximation, counts.proportion_loss]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    most=st.sampled_from([1, 3, 40, 200]),
    scale=st.sampled_from([0.0, 0.5, 3.0, 30.0]),
)
def test_two_classes_equal_the_rows_written_out(seed, n, most, scale):
    x, m, mask, y = some_rows(seed, 3, n, most, scale)
    for function in LIKELIHOODS:
        z = x.clone().requires_grad_()
        long, real, row = written_out(z, m, mask)
        values = function(z, y, mask, m), function(long, y, real)
        torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)
        slopes = [torch.autograd.grad(v.masked_fill(v.isinf(), 0).sum(), z, retain_graph=True)[0]
                  for v in values]  # fmt: skip
        torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-8 * max(1, most))
    r = counts.posterior(x, y, mask, m)
    torch.testing.assert_close(r.sum(1), y.double())
    alone = added(counts.posterior(long.detach(), y, real), row, n)
    torch.testing.assert_close(r, alone, rtol=1e-8, atol=1e-9 * max(1, most))
    every = counts.log_distribution(x, mask, m)
    torch.testing.assert_close(
        every, counts.log_distribution(long.detach(), real), rtol=1e-9, atol=1e-9
    )
    chosen = counts.map_configuration(x, y, mask, m)
    first = counts.map_configuration(long.detach(), y, real)
    assert torch.equal(chosen.sum(1), y)
    weight = (x * chosen).sum(1)
    torch.testing.assert_close(weight, (long.detach() * first).sum(1))  # ties may fall otherwise


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    most=st.sampled_from([2, 9, 80]),
    scale=st.sampled_from([0.0, 1.0, 8.0]),
    classes=st.integers(1, 3),
)
def test_several_classes_equal_the_rows_written_out(seed, n, most, scale, classes):
    x, m, mask, y = some_rows(seed, 3, n, most, scale, classes)
    z = x.clone().requires_grad_()
    long, real, _ = written_out(z, m, mask)
    values = [counts.log_likelihood_multiclass(z, y, mask, m),
              counts.log_likelihood_multiclass(long, y, real)]  # fmt: skip
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-9)
    slopes = [torch.autograd.grad(v.sum(), z, retain_graph=True)[0] for v in values]
    torch.testing.assert_close(*slopes, rtol=1e-8, atol=1e-8)
    r = counts.posterior_multiclass(x, y, mask, m)
    torch.testing.assert_close(r, slopes[1], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(r.sum(1), y.double())
    torch.testing.assert_close(r.sum(2), (m * mask).double())


def test_enumeration_noise_and_intervals_take_groups():
    x, m, mask, y = some_rows(3, 4, 4, 4, 1.0)
    long, real, _ = written_out(x, m, mask)
    torch.testing.assert_close(
        counts.enumeration(x, y, mask, m), counts.log_likelihood(x, y, mask, m)
    )
    noise = torch.rand(4, long.shape[1] + 1).double().log()
    for function, more in (
        (counts.log_likelihood_noisy, (noise,)),
        (counts.log_likelihood_interval, (y // 2, y)),
    ):
        torch.testing.assert_close(function(x, *more, mask, m), function(long, *more, real))


def log_binomials(p, sizes, y):
    """log P(y) of two groups as the sum over the positives of the first, from lgamma alone."""
    k = torch.arange(max(0, y - sizes[1]), min(y, sizes[0]) + 1).double()
    total = 0
    for n, j, q in ((sizes[0], k, p[0]), (sizes[1], y - k, p[1])):
        ways = math.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(n - j + 1)
        total = total + ways + j * math.log(q) + (n - j) * math.log1p(-q)
    return total.logsumexp(0).item(), (total.softmax(0) * k).sum().item()


@pytest.mark.parametrize("y", [0, 1, 700, 2600, 4300, 4999, 5000])
@pytest.mark.parametrize("p", [(0.5, 0.5), (0.9, 0.2), (0.01, 0.999)])
def test_two_groups_of_thousands(y, p):
    z = torch.tensor([p], dtype=torch.float64).logit()
    value = counts.log_likelihood(z, torch.tensor([y]), multiplicity=TWO).item()
    truth, first = log_binomials(p, (2000, 3000), y)
    assert value == pytest.approx(truth, rel=1e-9, abs=1e-9)
    r = counts.posterior(z, torch.tensor([y]), multiplicity=TWO)[0].tolist()
    assert r == pytest.approx([first, y - first], rel=1e-7, abs=1e-7)
    log_p = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    both = counts.log_likelihood_multiclass(log_p, torch.tensor([[5000 - y, y]]), multiplicity=TWO)
    assert both.item() == pytest.approx(truth, rel=1e-9, abs=1e-9)


def test_a_group_of_identical_instances_is_binomial_and_multinomial():
    for n in (10, 5000, 10**6):
        m, y = torch.tensor([[n]]), torch.tensor([n // 3])
        z = torch.tensor([[-0.4]], dtype=torch.float64)
        right = torch.distributions.Binomial(n, logits=z[0, 0]).log_prob(y.double())
        torch.testing.assert_close(
            counts.log_likelihood(z, y, multiplicity=m), right, rtol=1e-9, atol=1e-8
        )
        log_p = torch.tensor([[[0.5, 0.3, 0.2]]], dtype=torch.float64).log()
        three = torch.tensor([[n - 2 * (n // 4), n // 4, n // 4]])
        right = torch.distributions.Multinomial(n, logits=log_p[0, 0]).log_prob(three.double())
        value = counts.log_likelihood_multiclass(log_p, three, multiplicity=m)
        torch.testing.assert_close(value, right, rtol=1e-9, atol=1e-8)


def test_a_group_takes_the_time_of_a_row():
    z = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)

    def seconds(m):
        start = time.process_time()
        torch.autograd.grad(counts.log_likelihood(z, m.sum(1) // 2, multiplicity=m).sum(), z)
        return time.process_time() - start

    few, many = (min(seconds(TWO * k) for _ in range(5)) for k in (1, 1000))
    assert many < 30 * few + 0.1  # written out: 1,000 times the work; here about sqrt(1,000)


def test_many_precincts_of_groups_sum_to_their_counts():
    x, m, mask, y = some_rows(0, 300, 4, 900, 1.0)
    r = counts.posterior(x, y, mask, m)
    torch.testing.assert_close(r.sum(1), y.double())
    assert ((r >= 0) & (r <= m * mask)).all()


@pytest.mark.parametrize("size", [1e4, 1e12, 3e38, math.inf])
def test_known_and_nearly_known_groups(size):
    z = torch.tensor([[size, -size, 0.3]], dtype=torch.float64)
    m = torch.tensor([[400, 100, 50]])
    for k in (0, 1, 20, 50):
        observed = torch.tensor([400 + k])
        value = counts.log_likelihood(z, observed, multiplicity=m)
        alone = counts.log_likelihood(z[:, 2:], observed - 400, multiplicity=m[:, 2:])
        torch.testing.assert_close(value, alone)
        r = counts.posterior(z, observed, multiplicity=m)
        torch.testing.assert_close(r, torch.tensor([[400.0, 0, k]]).double())
    if size == math.inf:
        never = counts.log_likelihood(z.requires_grad_(), torch.tensor([399]), multiplicity=m)
        assert never == -torch.inf
        assert (torch.autograd.grad(never.sum(), z)[0] == 0).all()
    else:
        few = counts.log_likelihood(z, torch.tensor([399]), multiplicity=m)
        assert few.item() == pytest.approx(-size, rel=1e-2)


def test_derivatives_with_groups():
    m, y = torch.tensor([[2, 3, 100], [1, 0, 4]]), torch.tensor([60, 2])
    z = torch.tensor([[0.3, -0.2, 0.5], [0.1, math.nan, 0.4]]).double()
    z = z.masked_fill(z.isnan(), 7.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: counts.log_likelihood(x, y, None, m), z)
    assert torch.autograd.gradgradcheck(lambda x: counts.log_likelihood(x, y, None, m), z)
    assert torch.autograd.gradcheck(lambda x: counts.posterior(x, y, None, m), z)
    assert torch.autograd.gradcheck(lambda x: counts.log_distribution(x, None, m)[:, 1:3], z)
    m, y = torch.tensor([[2, 70, 3]]), torch.tensor([[30, 25, 20]])
    z = torch.tensor([[[0.3, 0, 1], [0.2, 0.4, 0], [0, 0, 0.1]]]).double().requires_grad_()

    def three(x):
        return counts.log_likelihood_multiclass(x.log_softmax(2), y, None, m)

    assert torch.autograd.gradcheck(three, z)
    assert torch.autograd.gradgradcheck(three, z)


MASK = torch.tensor([[True, True, True, False], [True] * 4])
GROUPS = {"mask": MASK, "multiplicity": torch.tensor([[3, 0, 70, 5], [1, 1, 0, 2]])}
ONE = torch.tensor([1, 1])
LOGITS = torch.tensor([[0.3, 0.1, -0.4, 2], [0.5, -1, 1, 0.2]]).double()
SAME = torch.tensor([[70, 2, 1], [2, 1, 1]])
LOG_P = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)).double().log_softmax(2)
WALKS = {
    "log_likelihood": Case(counts.log_likelihood, {"logits": LOGITS}, {"counts": ONE, **GROUPS}),
    "posterior": Case(counts.posterior, {"logits": LOGITS}, {"counts": ONE, **GROUPS}),
    "log_likelihood_multiclass": Case(
        counts.log_likelihood_multiclass, {"log_p": LOG_P}, {"counts": SAME, **GROUPS}, {"log_p": 2}
    ),
}


@pytest.mark.parametrize("name", WALKS)
def test_groups_work_in_all_modes(name):
    assert set(input_walks.walk_modes(WALKS[name]).values()) == {"yes"}


@pytest.mark.parametrize("name", ["log_likelihood", "log_likelihood_multiclass"])
def test_groups_meet_no_nan(name):
    input_walks.walk_infinity(WALKS[name])


def test_bad_multiplicity_is_named():
    z, y, m = torch.zeros(1, 2), torch.tensor([1]), torch.tensor([[3, 4]])
    log_p = torch.zeros(1, 2, 2).log_softmax(2)
    for wrong, message in [
        (m.double(), r"multiplicity must be integer of shape \(1, 2\)"),
        (m[:, :1], r"multiplicity must be integer of shape \(1, 2\)"),
        (m > 0, "multiplicity must be integer"),
        (-m, "multiplicity must not be negative, got -4; 0 leaves"),
        (m * 2**60, r"multiplicity must give bags of at most 2\*\*53 instances, got 8.07e\+18"),
        ([[3, 4]], "multiplicity must be integer .* got list"),
    ]:
        for call in (
            lambda m: counts.log_likelihood(z, y, multiplicity=m),
            lambda m: counts.log_distribution(z, multiplicity=m),
            lambda m: counts.log_likelihood_interval(z, y, y, multiplicity=m),
            lambda m: counts.posterior_multiclass(log_p, torch.tensor([[3, 4]]), None, m),
        ):
            with pytest.raises(ValueError, match=message):
                call(wrong)
    with pytest.raises(ValueError, match="got 8 for a bag of 7"):
        counts.log_likelihood(z, torch.tensor([8]), multiplicity=m)
    with pytest.raises(ValueError, match=r"got \[1, 1\] for bag 0 of 7 instances"):
        counts.log_likelihood_multiclass(log_p, torch.tensor([[1, 1]]), multiplicity=m)
    with pytest.raises(ValueError, match=r"log_noise must have shape \(1, 8\)"):
        counts.log_likelihood_noisy(z, torch.zeros(3), multiplicity=m)


def test_a_billion_is_served_or_refused():
    z, m = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[10**9, 10**9]])
    value = counts.log_likelihood(z, torch.tensor([10**9]), multiplicity=m)
    assert value.item() == pytest.approx(-math.log(math.pi * 10**9) / 2, abs=1e-6)
    for call in (
        lambda: counts.log_distribution(z, multiplicity=m),
        lambda: counts.enumeration(z, m[:, 0], multiplicity=m),
        lambda: counts.log_likelihood_interval(z, m[:, 0], m[:, 0], multiplicity=m),
    ):
        with pytest.raises(ValueError, match="multiplicity gives"):
            call()


@pytest.mark.parametrize("m", [10**6, 2**31])
def test_rare_positives_among_billions_keep_their_digits(m):
    z = torch.tensor([[-math.log(m), -math.log(m) - 1]], dtype=torch.float64)
    size, y = torch.tensor([[m, m]]), torch.tensor([1])
    with mpmath.workdps(40):
        odds = [mpmath.exp(x) for x in z[0].tolist()]
        right = mpmath.log(m * sum(odds)) - m * sum(mpmath.log1p(x) for x in odds)
    assert abs(counts.log_likelihood(z, y, None, size).item() - float(right)) < 2e-16 * 2 * m + 1e-9
    both = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    of_classes = counts.posterior_multiclass(both, torch.tensor([[2 * m - 1, 1]]), None, size)
    for r in (counts.posterior(z, y, None, size), of_classes[..., 1]):
        share = torch.tensor([[1.0, math.exp(-1)]], dtype=torch.float64) / (1 + math.exp(-1))
        torch.testing.assert_close(r, share, rtol=1e-11, atol=0)
    with pytest.raises(ValueError, match="multiplicity gives a bag of 4294967297 instances, at"):
        counts.log_likelihood(z, y, None, torch.tensor([[2**32, 1]]))


def test_no_bags_and_no_instances_in_groups():
    none, m = torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.long)
    assert counts.log_likelihood(none, m[:, 0], multiplicity=m).shape == (0,)
    assert counts.log_distribution(none, multiplicity=m).shape == (0, 1)
    zero = torch.zeros(2, 3, dtype=torch.long)
    nothing = torch.full((2, 3), math.nan)
    assert (counts.log_likelihood(nothing, zero[:, 0], multiplicity=zero) == 0).all()
    assert (counts.posterior(nothing, zero[:, 0], multiplicity=zero) == 0).all()
    assert (counts.log_distribution(nothing, multiplicity=zero) == 0).all()
