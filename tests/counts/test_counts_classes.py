"""Counts of several classes: noise, intervals, losses, labels and shares, against enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from wsl_tutorial import counts
from wsl_tutorial.counts import assignment


def some_bags(seed, batch, n, classes, scale=1.5, padded=True):
    """log_p (B, n, C), counts (B, C) of random labels, and a mask."""
    g = torch.Generator().manual_seed(seed)
    log_p = scale * torch.randn(batch, n, classes, generator=g, dtype=torch.float64)
    mask = torch.rand(batch, n, generator=g) < (0.8 if padded else 2)
    h = torch.randint(classes, (batch, n), generator=g)
    return log_p.log_softmax(2), (F.one_hot(h, classes) * mask[:, :, None]).sum(1), mask


def labellings(bag, labels=None):
    """Every labelling of a bag (n, C): labels (K, n), their log-probability and counts (K, C)."""
    n, classes = bag.shape
    h = torch.tensor(list(itertools.product(range(classes), repeat=n))).view(-1, n)
    return h, bag[torch.arange(n), h].sum(1), F.one_hot(h, classes).sum(1)


# Noise --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "reports"), [(2, 2), (3, 3), (3, 2), (2, 4)])
def test_misreported_classes_by_enumeration(classes, reports):
    log_p, _, mask = some_bags(classes, 3, 4, classes)
    g = torch.Generator().manual_seed(1)
    noise = torch.randn(classes, reports, generator=g).double().log_softmax(1)
    reported = F.one_hot(torch.randint(reports, (3, 4), generator=g), reports)
    y = (reported * mask[:, :, None]).sum(1)
    z = log_p.clone().requires_grad_()
    value = counts.log_likelihood_noisy_multiclass(z, y, noise, mask)
    (slope,) = torch.autograd.grad(value.sum(), z)
    for b in range(3):
        n, total = int(mask[b].sum()), []
        h, log_h, _ = labellings(log_p[b, mask[b]])
        for d in itertools.product(range(reports), repeat=n):
            if torch.equal(F.one_hot(torch.tensor(d, dtype=torch.long), reports).sum(0), y[b]):
                total.append(log_h + noise[h, torch.tensor(d, dtype=torch.long)].sum(1))
        by_true = torch.stack(total).logsumexp(0)  # each true labelling with all its reports
        torch.testing.assert_close(value[b], by_true.logsumexp(0))
        share = by_true.softmax(0)
        truth = (F.one_hot(h, classes) * share[:, None, None]).sum(0)
        torch.testing.assert_close(slope[b, mask[b]], truth)


def test_noise_has_its_limits():
    log_p, y, mask = some_bags(2, 3, 6, 3)
    exact = counts.log_likelihood_multiclass(log_p, y, mask)
    never = torch.eye(3).double().log()
    value = counts.log_likelihood_noisy_multiclass(log_p, y, never, mask)
    torch.testing.assert_close(value, exact)
    of_bags = counts.log_likelihood_noisy_multiclass(log_p, y, never.expand(3, 3, 3), mask)
    torch.testing.assert_close(of_bags, exact)
    blind = torch.full((3, 3), 1 / 3).double().log()
    value = counts.log_likelihood_noisy_multiclass(log_p, y, blind, mask)
    same = torch.full_like(log_p, 1 / 3).log()
    torch.testing.assert_close(value, counts.log_likelihood_multiclass(same, y, mask))


def test_misreported_classes_are_one_channel_of_two_classes():
    """The channel of the count: of j positives some are reported, and some of the n - j others."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(1, 6, generator=g).double()
    hit, false = 0.9, 0.2
    noise = torch.tensor([[1 - false, false], [1 - hit, hit]]).double().log()
    log_p = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    for seen in range(7):
        channel = []
        for j in range(7):
            ways = [
                math.comb(j, k) * hit**k * (1 - hit) ** (j - k) * math.comb(6 - j, seen - k)
                * false ** (seen - k) * (1 - false) ** (6 - j - seen + k)
                for k in range(max(0, seen - 6 + j), min(j, seen) + 1)
            ]  # fmt: skip
            channel.append(sum(ways))
        by_channel = counts.log_likelihood_noisy(z, torch.tensor(channel).double().log())
        y = torch.tensor([[6 - seen, seen]])
        value = counts.log_likelihood_noisy_multiclass(log_p, y, noise)
        torch.testing.assert_close(value, by_channel, rtol=1e-6, atol=1e-6)


# Intervals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 2, 3, 4])
def test_intervals_by_enumeration(classes):
    log_p, _, mask = some_bags(classes, 6, 4, classes)
    g = torch.Generator().manual_seed(2)
    ends = torch.randint(5, (2, 6, classes), generator=g)
    low, high = ends.amin(0), ends.amax(0)
    low[0], high[0] = 0, 9  # all free
    low[1, 1:], high[1, 1:] = 0, 4  # all but one
    z = log_p.clone().requires_grad_()
    value = counts.log_likelihood_interval_multiclass(z, low, high, mask)
    (slope,) = torch.autograd.grad(value.masked_fill(value.isinf(), 0).sum(), z)
    for b in range(6):
        h, log_h, y = labellings(log_p[b, mask[b]])
        log_h = log_h.masked_fill(~((y >= low[b]) & (y <= high[b])).all(1), -torch.inf)
        torch.testing.assert_close(value[b], log_h.logsumexp(0).clamp_max(0))
        if value[b] > -torch.inf:
            r = (F.one_hot(h, classes) * log_h.softmax(0)[:, None, None]).sum(0)
            torch.testing.assert_close(slope[b, mask[b]], r)
        else:
            assert not slope[b].any()
    assert value[0].item() == pytest.approx(0, abs=1e-12)


def test_the_interval_of_one_class_is_that_of_two_classes():
    log_p, _, mask = some_bags(5, 4, 60, 5)
    size = mask.sum(1)
    low, high = torch.zeros(4, 5).long(), size[:, None].expand(4, 5).clone()
    low[:, 2], high[:, 2] = 3, 14
    p = log_p[:, :, 2].exp()
    alone = counts.log_likelihood_interval(p.logit(), low[:, 2], high[:, 2], mask)
    value = counts.log_likelihood_interval_multiclass(log_p, low, high, mask)
    torch.testing.assert_close(value, alone)
    point = counts.log_likelihood_interval_multiclass(log_p[:, :6], *[_few(log_p)] * 2, mask[:, :6])
    m = mask[:, :6]
    possible = _few(log_p).sum(1) == m.sum(1)
    assert (point[~possible] == -torch.inf).all()


def _few(log_p):
    return F.one_hot(torch.arange(6) % 5, 5).sum(0).expand(len(log_p), -1)


def test_intervals_that_do_not_fit_are_refused():
    log_p, y, mask = some_bags(1, 2, 4, 3)
    call = counts.log_likelihood_interval_multiclass
    with pytest.raises(ValueError, match="low must not exceed high"):
        call(log_p, y + 1, y, mask)
    with pytest.raises(ValueError, match="low must not be negative, got -1"):
        call(log_p, y * 0 - 1, y, mask)
    with pytest.raises(ValueError, match=r"high must be integer of shape \(2, 3\)"):
        call(log_p, y, y.double(), mask)
    wide, ends = torch.zeros(1, 400, 5).log_softmax(2), torch.full((1, 5), 100)
    with pytest.raises(ValueError, match=r"high gives .* states"):
        call(wide, ends * 0, ends)


# Losses -------------------------------------------------------------------------------------------


def test_the_proportion_loss_of_classes():
    log_p, y, mask = some_bags(3, 5, 6, 3)
    mask[:, 0] = True
    y = y.clone()
    y[:, 0] += mask.sum(1) - y.sum(1)
    loss = counts.proportion_loss_multiclass(log_p, y, mask)
    hand = [-(c / c.sum() * lp[real].exp().mean(0).log()).sum()
            for lp, c, real in zip(log_p, y, mask, strict=True)]  # fmt: skip
    torch.testing.assert_close(loss, torch.stack(hand).mean())
    z = torch.randn(2, 4).double()
    two = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    both = counts.proportion_loss_multiclass(two, torch.tensor([[3, 1], [0, 4]]))
    torch.testing.assert_close(both, counts.proportion_loss(z, torch.tensor([1, 4])))
    sure = torch.tensor([[[0.0, -torch.inf]] * 3]).requires_grad_()
    assert counts.proportion_loss_multiclass(sure, torch.tensor([[3, 0]])).item() == 0
    with pytest.raises(ValueError, match="holds no bag"):
        counts.proportion_loss_multiclass(two[:0], torch.zeros(0, 2).long())


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_normal_density_of_classes_is_the_textbook_one(classes):
    log_p, y, mask = some_bags(classes, 4, 40, classes)
    value = counts.normal_approximation_multiclass(log_p, y, mask)
    for b in range(4):
        p = log_p[b, mask[b]].exp()
        cov = torch.diag(p.sum(0)) - p.T @ p
        for left_out in range(classes):
            kept = [c for c in range(classes) if c != left_out]
            normal = torch.distributions.MultivariateNormal(p.sum(0)[kept], cov[kept][:, kept])
            torch.testing.assert_close(value[b], normal.log_prob(y[b, kept].double()))
    z = torch.randn(3, 9).double()
    two = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    y = torch.tensor([2, 5, 9])
    both = counts.normal_approximation_multiclass(two, torch.stack([9 - y, y], 1))
    torch.testing.assert_close(both, counts.normal_approximation(z, y))


def test_the_normal_density_gets_close_in_large_bags():
    gaps = []
    for n in (10, 100, 1000):
        log_p, _, _ = some_bags(0, 8, n, 3, padded=False)
        y = log_p.exp().sum(1).round().long()
        y[:, 0] += n - y.sum(1)
        normal = counts.normal_approximation_multiclass(log_p, y)
        gaps.append((normal - counts.log_likelihood_multiclass(log_p, y)).abs().mean().item())
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2], gaps


def test_the_normal_density_without_some_variance():
    p = torch.tensor([[[0.3, 0.7, 0, 0]] * 4 + [[0, 0, 0.5, 0.5]] * 5], dtype=torch.float64)
    z = p.log().requires_grad_()
    apart = counts.normal_approximation_multiclass(z, torch.tensor([[1, 3, 2, 3]]))
    one = counts.normal_approximation(torch.full((1, 4), 0.7).double().logit(), torch.tensor([3]))
    two = counts.normal_approximation(torch.zeros(1, 5).double(), torch.tensor([3]))
    torch.testing.assert_close(apart, one + two, rtol=1e-6, atol=1e-6)
    missed = counts.normal_approximation_multiclass(z, torch.tensor([[2, 3, 2, 2]]))
    assert missed == -torch.inf
    assert not torch.autograd.grad(missed.sum(), z, retain_graph=True)[0].any()
    assert torch.autograd.grad(apart.sum(), z)[0].isfinite().all()
    sure = torch.eye(3).double().log()[None]
    assert counts.normal_approximation_multiclass(sure, torch.tensor([[1, 1, 1]])) == 0
    assert counts.normal_approximation_multiclass(sure, torch.tensor([[2, 1, 0]])) == -torch.inf
    tiny = torch.tensor([[[0.0, -400, -900]] * 3], dtype=torch.float64)
    value = counts.normal_approximation_multiclass(tiny, torch.tensor([[3, 0, 0]]))
    assert value.item() == pytest.approx((1300 - 2 * math.log(6 * math.pi)) / 2)


def test_losses_of_classes_have_derivatives():
    log_p, y, mask = some_bags(4, 2, 5, 3)
    z = log_p.clone().requires_grad_()
    for loss in (counts.normal_approximation_multiclass, counts.proportion_loss_multiclass):
        assert torch.autograd.gradcheck(lambda x, f=loss: f(x.log_softmax(2), y, mask), z)
        assert torch.autograd.gradgradcheck(lambda x, f=loss: f(x.log_softmax(2), y, mask), z)


# The most probable labels -------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 3, 4])
@pytest.mark.parametrize("scale", [0.0, 1.5, 30.0])
def test_the_most_probable_labels_by_enumeration(classes, scale):
    log_p, y, mask = some_bags(classes, 12, 6, classes, scale)
    chosen = counts.map_configuration_multiclass(log_p, y, mask)
    with pytest.raises(ValueError, match=r"log_p must be float32 or float64 .* got ndarray"):
        counts.map_configuration_multiclass(log_p.numpy(), y, mask)
    assert (chosen[~mask] == -1).all()
    for b in range(12):
        bag, h = log_p[b, mask[b]], chosen[b, mask[b]]
        assert torch.equal(F.one_hot(h, classes).sum(0), y[b])
        _, log_h, seen = labellings(bag)
        best = log_h[(seen == y[b]).all(1)].max()
        got = bag[torch.arange(len(h)), h].sum()
        torch.testing.assert_close(got, best, rtol=1e-9, atol=1e-9)


def test_the_most_probable_labels_of_two_classes_and_of_large_bags():
    g = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(4, 200, generator=g, dtype=torch.float64)
    y = torch.tensor([0, 13, 120, 200])
    two = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 2)
    chosen = counts.map_configuration_multiclass(two, torch.stack([200 - y, y], 1))
    assert torch.equal(chosen.bool(), counts.map_configuration(z, y))
    log_p, y, _ = some_bags(1, 2, 300, 10, padded=False)  # far from what log_p expects
    chosen = counts.map_configuration_multiclass(log_p, y)
    assert torch.equal(F.one_hot(chosen, 10).sum(1), y)
    k = F.one_hot(chosen, 10)
    value = (log_p * k).sum((1, 2))
    dual = _dual(log_p, y, k)
    torch.testing.assert_close(value, dual, rtol=1e-9, atol=1e-9)


def _dual(log_p, y, k):
    """The bound sum_i max_c (log p_ic + u_c) - u . y for prices u of the classes: none is higher.

    u are the lengths of the shortest paths between classes with the labels k.
    """
    loss = (log_p[:, :, :, None] - log_p[:, :, None]).masked_fill((k == 0)[..., None], torch.inf)
    cost, u = loss.amin(1), torch.zeros_like(y).double()
    for _ in range(log_p.shape[2]):
        u = torch.minimum(u, (u[:, :, None] + cost).amin(1))
    u = u.clamp_min(-1e9)
    return (log_p + u[:, None]).amax(2).sum(1) - (u * y).sum(1)


def test_the_most_probable_labels_of_groups_and_impossible_counts():
    log_p, _, _ = some_bags(2, 2, 3, 3, padded=False)
    m = torch.tensor([[4, 0, 3], [1, 2, 2]])
    y = torch.tensor([[2, 2, 3], [0, 4, 1]])
    k = counts.map_configuration_multiclass(log_p, y, None, m)
    assert torch.equal(k.sum(1), y)
    assert torch.equal(k.sum(2), m)
    for b in range(2):
        alone = log_p[b].repeat_interleave(m[b], 0)[None]
        h = counts.map_configuration_multiclass(alone, y[b : b + 1])
        best = alone[0, torch.arange(h.shape[1]), h[0]].sum()
        torch.testing.assert_close((log_p[b] * k[b]).sum(), best)
    large = counts.map_configuration_multiclass(log_p, y * 1000, None, m * 1000)
    assert torch.equal(large.sum(1), y * 1000)
    torch.testing.assert_close((log_p * large).sum((1, 2)), 1000 * (log_p * k).sum((1, 2)))
    sure = torch.tensor([[[1.0, 0, 0], [1, 0, 0], [0.5, 0.5, 0]]]).log()
    h = counts.map_configuration_multiclass(sure, torch.tensor([[1, 1, 1]]))
    assert F.one_hot(h[0], 3).sum(0).tolist() == [1, 1, 1]
    assert sure[0, torch.arange(3), h[0]].isinf().sum() == 1
    empty = torch.zeros(2, 0, 3), torch.zeros(2, 3).long()
    assert counts.map_configuration_multiclass(*empty).shape == (2, 0)


def test_a_path_moves_no_more_than_it_can():
    z = torch.tensor([[[0.0, -1, -5], [0, -1, -1.5]]]).double().log_softmax(2)
    start = torch.tensor([[[2, 0, 0], [3, 0, 0]]])
    k = assignment._transport(z, start, torch.tensor([[1, 1, 3]]))
    assert k.tolist() == [[[1, 1, 0], [0, 0, 3]]]


# Shares -------------------------------------------------------------------------------------------


def test_shares_of_counts_are_these_counts():
    g = torch.Generator().manual_seed(0)
    for dtype, most in ((torch.float32, 3000), (torch.float64, 10**6)):
        y = torch.randint(most, (40, 4), generator=g)
        n = y.sum(1)
        p = y.to(dtype) / n[:, None].to(dtype)
        assert torch.equal(counts.counts_from_proportions(p, n), y)
    two = torch.tensor([0.25, 0.5, 0.0, 1.0])
    assert counts.counts_from_proportions(two, 4).tolist() == [1, 2, 0, 4]
    mask = torch.tensor([[True, True, True, False]])
    third = torch.tensor([[1 / 3, 2 / 3]])
    assert counts.counts_from_proportions(third, mask).tolist() == [[1, 2]]
    nothing = torch.tensor([[math.nan, math.nan], [0.5, 0.5]])
    found = counts.counts_from_proportions(nothing, torch.tensor([0, 2]))
    assert found.tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_rounded_shares_have_the_counts_that_enumeration_finds(digits):
    g = torch.Generator().manual_seed(digits)
    found = refused = 0
    for _ in range(60):
        n = int(torch.randint(1, 30, (), generator=g))
        h = torch.randint(3, (n,), generator=g)
        p = [round(v / n, digits) for v in F.one_hot(h, 3).sum(0).tolist()]
        off = 0.5 * 10**-digits + 1e-9
        fits = [
            (a, b, n - a - b)
            for a in range(n + 1)
            for b in range(n + 1 - a)
            if all(abs(k / n - q) <= off for k, q in zip((a, b, n - a - b), p, strict=True))
        ]
        tensor = torch.tensor([p], dtype=torch.float64)
        if len(fits) == 1:
            found += 1
            for given in (tensor, tensor.float()):
                y = counts.counts_from_proportions(given, n, digits)
                assert y.tolist() == [list(fits[0])]
        else:
            refused += 1
            with pytest.raises(ValueError, match="fit several counts of"):
                counts.counts_from_proportions(tensor, n, digits)
    assert found > 5
    assert refused > 5 or digits > 1


def test_shares_that_are_no_counts_are_refused():
    half, call = torch.tensor([[0.5, 0.5]]), counts.counts_from_proportions
    for arguments, message in [
        ((half, 3), "the shares .* of bag 0 are no counts of 3 instances; pass digits"),
        ((half * 2, 2), "are no counts of 2"),
        ((half + torch.nan, 2), "must lie between 0 and 1"),
        ((half - 1, 2), "must lie between 0 and 1"),
        ((torch.tensor([[0.33, 0.67]]), 3), "are no counts of 3 instances; pass digits"),
        ((torch.tensor([[0.3, 0.7]]), 100, 1), "fit several counts of 100 instances; give"),
        ((half.half(), 2), r"p must be float32 or float64 .*; take p.float\(\)"),
        (([0.5, 0.5], 2), "p must be .* got list"),
        ((half, torch.tensor([2, 2])), r"n must be integer of shape \(1,\)"),
        ((half, torch.tensor([2.0])), "n must be integer"),
        ((half, [2]), r"n must be integer of shape \(1,\) .* got list; take torch.as_tensor\(n\)"),
        ((half * 100, 2), "divide percentages by 100, or pass digits"),
        ((half, -2), "n must lie between 0 and .*, got -2"),
        ((half, 10**30), "n must lie between 0 and"),
        ((half, torch.tensor([-2])), "n must not be negative, got -2"),
        ((half, 2, -1), "digits must be an int of at least 0, got -1"),
        ((half, 2, True), "digits must be an int of at least 0, got True"),
        ((half, True), "n must be an int, got True"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(*arguments)
    assert call(torch.tensor([[0.33, 0.67]]), np.int64(3), np.int64(2)).tolist() == [[1, 2]]
    assert call(torch.tensor([[0.12, 0.88]]), 8, 2).tolist() == [[1, 7]]  # 0.125 rounded to even
    assert call(torch.tensor([[0.33333333, 0.66666667]]), 3, 8).tolist() == [[1, 2]]


def test_proportions_passed_as_counts_get_the_remedy():
    z, log_p = torch.zeros(1, 2), torch.zeros(1, 2, 2).log_softmax(2)
    remedy = r"counts must be integer .*; .* counts_from_proportions\(p, n\) if they are prop"
    for call in (
        lambda: counts.log_likelihood(z, torch.tensor([0.5])),
        lambda: counts.log_likelihood_multiclass(log_p, torch.tensor([[0.5, 0.5]])),
        lambda: counts.map_configuration_multiclass(log_p, torch.tensor([[0.5, 0.5]])),
    ):
        with pytest.raises(ValueError, match=remedy):
            call()


def test_nan_and_another_layout_of_log_p_are_named():
    log_p, y = torch.zeros(2, 4, 3).log_softmax(2), torch.tensor([[2, 1, 1], [4, 0, 0]])
    mask = torch.ones(2, 4).bool()
    ends = y, y
    for function, more in [
        (counts.log_likelihood_multiclass, (y,)),
        (counts.posterior_multiclass, (y,)),
        (counts.map_configuration_multiclass, (y,)),
        (counts.normal_approximation_multiclass, (y,)),
        (counts.proportion_loss_multiclass, (y,)),
        (counts.log_likelihood_interval_multiclass, ends),
        (counts.log_likelihood_noisy_multiclass, (y, torch.eye(3).log())),
    ]:
        with pytest.raises(ValueError, match=r"\(B, n, C\), instances before .*transpose\(1, 2\)"):
            function(log_p.mT, *more, mask)
        spoilt = log_p.clone()
        spoilt[1, 2, 0] = torch.nan
        with pytest.raises(ValueError, match=r"log_p of shape .* \(B, n, C\), got NaN in a real"):
            function(spoilt, *more, mask)


def test_right_mean_answers_are_stationary_if_they_are_equal():
    """There (8.10) has no gradient; the likelihood of the counts has one unless all are equal."""
    y = torch.tensor([[1, 2, 1]])
    mean = y[0].double() / 4
    for spread, pulled in ((0.0, False), (0.1, True)):
        apart = spread * torch.tensor([[1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [-1, 1, 0]]).double()
        p = mean + apart  # (4, 3)
        torch.testing.assert_close(p.mean(0), mean)
        pull = counts.posterior_multiclass(p.log()[None], y)[0] - p
        assert (pull.abs().max() > 0.01) == pulled
        assert (pull.abs().max() < 1e-12) != pulled
