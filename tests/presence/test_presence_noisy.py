"""Labels that are observed with errors, tested against the sum over all true label sets."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import presence
from wsl_tutorial.presence import fast


def some_bags(seed, batch, channels, positions, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, channels, positions, generator=generator).double()
    return logits.log_softmax(1)


def rates(seed, classes, largest=0.5):
    generator = torch.Generator().manual_seed(seed + 1)
    return largest * torch.rand(2, classes, generator=generator).double()


def over_true_sets(log_p, labels, fp, fn, background=True):
    """Return log Prb (B,) and posterior by visiting every true label set of every bag."""
    classes, batch = labels.shape[1], len(labels)
    sets = torch.tensor(list(itertools.product((False, True), repeat=classes)))
    values, posteriors = [], []
    for own in sets.expand(batch, -1, -1).unbind(1):
        right = torch.where(own, torch.where(labels == 1, 1 - fn, fn), 0)
        right = right + torch.where(own, 0, torch.where(labels == 1, fp, 1 - fp))
        chance = torch.where(labels == -1, 1, right).prod(1).log()  # unknown: not observed
        values.append(presence.recursion(log_p, own, background=background) + chance)
        posteriors.append(presence.posterior(log_p, own, background=background))
    log_joint = torch.stack(values)  # (2**C, B)
    weight = log_joint.softmax(0).nan_to_num(0)
    mean = torch.einsum("sb,sbcn->bcn", weight, torch.stack(posteriors))
    return log_joint.logsumexp(0), mean


PATHS = [(1e-4, 1e-250), (10, 1e-250), (10, 1e300)]  # the series, the scan, log space


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 4),
    positions=st.sampled_from([1, 2, 5, 9]),
    scale=st.sampled_from([0.3, 2.0, 12.0]),
    largest=st.sampled_from([0.02, 0.5, 1.0]),
    background=st.booleans(),
)
def test_every_path_is_the_sum_over_true_sets(
    path, seed, classes, positions, scale, largest, background
):
    log_p = some_bags(seed, 3, classes + background, positions, scale)
    labels = torch.randint(-1, 2, (3, classes), generator=torch.Generator().manual_seed(seed))
    labels[0, 0] = 1
    fp, fn = rates(seed, classes, largest)
    value, r = over_true_sets(log_p, labels, fp, fn, background)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_CERTIFICATE", path[0])
        patch.setattr(fast, "_SMALLEST", path[1])
        got = presence.log_likelihood_noisy(log_p, labels, fp, fn, background=background)
        mean = presence.posterior_noisy(log_p, labels, fp, fn, background=background)
    torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mean, r, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("path", PATHS)
def test_gradient_and_curvature(monkeypatch, path):
    monkeypatch.setattr(fast, "_CERTIFICATE", path[0])
    monkeypatch.setattr(fast, "_SMALLEST", path[1])
    log_p = some_bags(1, 3, 4, 4).requires_grad_()
    labels = torch.tensor([[1, 1, 0], [0, 1, 0], [1, -1, 1]])
    fp, fn = rates(1, 3)

    def likelihood(x):
        return presence.log_likelihood_noisy(x.log_softmax(1), labels, fp, fn)

    assert torch.autograd.gradcheck(likelihood, log_p)
    assert torch.autograd.gradgradcheck(likelihood, log_p)
    (slope,) = torch.autograd.grad(
        presence.log_likelihood_noisy(log_p, labels, fp, fn).sum(), log_p
    )
    r = presence.posterior_noisy(log_p.detach(), labels, fp, fn)
    torch.testing.assert_close(slope, r)
    torch.testing.assert_close(r.sum(1), torch.ones(3, 4).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_errors_it_is_the_likelihood(dtype):
    log_p = some_bags(2, 6, 5, 7).to(dtype)
    labels = torch.rand(6, 4, generator=torch.Generator().manual_seed(2)) < 0.5
    for rate in (0, 0.0, [0.0] * 4, torch.zeros(4), torch.zeros(6, 4)):
        got = presence.log_likelihood_noisy(log_p, labels, rate, rate)
        torch.testing.assert_close(got, presence.log_likelihood(log_p, labels))
        got = presence.posterior_noisy(log_p, labels, rate, rate)
        torch.testing.assert_close(got, presence.posterior(log_p, labels))


def test_observations_sum_to_one_and_a_coin_flip_says_nothing():
    log_p = some_bags(3, 1, 5, 6).expand(16, -1, -1)
    every = torch.tensor(list(itertools.product((False, True), repeat=4)))
    fp, fn = rates(3, 4)
    value = presence.log_likelihood_noisy(log_p, every, fp, fn)
    assert value.exp().sum().item() == pytest.approx(1)
    value = presence.log_likelihood_noisy(log_p, every, 0.3, 0.7)  # the same for both truths
    right = torch.where(every, 0.3, 0.7).double().log().sum(1)
    torch.testing.assert_close(value, right, rtol=1e-6, atol=0)
    r = presence.posterior_noisy(log_p, every, 0.3, 0.7)
    torch.testing.assert_close(r, log_p.exp())
    turned = presence.log_likelihood_noisy(log_p, ~every, 1 - fp, 1 - fn)
    torch.testing.assert_close(turned, presence.log_likelihood_noisy(log_p, every, fp, fn))


def test_one_impossible_bag_leaves_the_batch_finite():
    log_p = some_bags(4, 3, 5, 2)
    labels = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]])  # four on two positions
    log_p[1, 0] = -torch.inf  # class 0 is nowhere
    log_p = log_p.log_softmax(1).requires_grad_()
    assert torch.equal(
        presence.log_likelihood(log_p, labels).isinf(), torch.tensor([True, True, False])
    )
    value = presence.log_likelihood_noisy(log_p, labels, 0.01, 0.02)
    assert value.isfinite().all()
    torch.testing.assert_close(
        value.detach(),
        over_true_sets(log_p.detach(), labels, torch.tensor(0.01), torch.tensor(0.02))[0],
    )
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    assert slope.isfinite().all()
    impossible = presence.log_likelihood_noisy(log_p, labels, 0.0, 0.02)
    assert impossible[0] == impossible[1] == -torch.inf
    assert (torch.autograd.grad(impossible.sum(), log_p)[0][:2] == 0).all()


def test_a_label_that_cannot_be_observed_is_impossible_with_gradient_zero():
    log_p = some_bags(5, 2, 3, 3).requires_grad_()
    labels = torch.tensor([[True, False], [False, True]])
    fp, fn = torch.tensor([0.0, 0.1]), torch.tensor([1.0, 0.1])  # label 0 is never observed
    value = presence.log_likelihood_noisy(log_p, labels, fp, fn)
    assert value[0] == -torch.inf
    assert value[1].isfinite()
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    assert (slope[0] == 0).all()
    r = presence.posterior_noisy(log_p.detach(), labels, fp, fn)
    assert (r[0] == 0).all()
    torch.testing.assert_close(r[1], slope[1])


@pytest.mark.parametrize("labels", list(itertools.product((False, True), repeat=2)))
def test_rates_strictly_between_0_and_1_make_nothing_impossible_and_a_rate_of_1_may(labels):
    log_p = torch.tensor([-torch.inf, -torch.inf, 0.0]).double()[None, :, None]  # background alone
    labels = torch.tensor([labels])
    value = presence.log_likelihood_noisy(log_p, labels, 1e-9, 1 - 1e-9)
    expected = torch.where(labels, math.log(1e-9), math.log1p(-1e-9)).sum().double()
    torch.testing.assert_close(value[0], expected)
    value = presence.log_likelihood_noisy(log_p, labels, 1.0, 1.0)  # absent classes are observed
    assert value.item() == (0 if labels.all() else -torch.inf)


@pytest.mark.parametrize("seen", [0.0, -12.0, -60.0, -400.0])
@pytest.mark.parametrize("rate", [1e-2, 1e-8, 1e-30])
def test_weak_evidence_and_small_rates_cancel_nothing(seen, rate):
    """The evidence of an observed label falls to nothing: its false positive rate is left."""
    logits = torch.randn(1, 4, 30, generator=torch.Generator().manual_seed(6)).double()
    logits[:, -1] += 3
    logits[:, :2] += seen
    log_p, labels = logits.log_softmax(1), torch.tensor([[True, True, False]])
    fp = fn = torch.tensor(rate).double()
    value, r = over_true_sets(log_p, labels, fp, fn)
    log_p.requires_grad_()
    got = presence.log_likelihood_noisy(log_p, labels, fp, fn)
    torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-9)
    (slope,) = torch.autograd.grad(got.sum(), log_p)
    torch.testing.assert_close(slope, r, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("certificate", [1e-4, 10])
def test_many_classes_and_positions(monkeypatch, certificate):
    monkeypatch.setattr(fast, "_CERTIFICATE", certificate)
    log_p = some_bags(7, 2, 11, 61, 1.0)
    log_p = (log_p + 4 * (torch.arange(11) == 10)[:, None]).log_softmax(1)
    labels = torch.rand(2, 10, generator=torch.Generator().manual_seed(7)) < 0.3
    fp, fn = rates(7, 10, 0.2)
    got = presence.log_likelihood_noisy(log_p, labels, fp, fn)
    pairs = torch.stack(
        [torch.where(labels, fp, 1 - fp), torch.where(labels, 1 - fn, fn)], 2
    )  # (2, 10, 2)
    right = [presence.plain.log_recursion(log_p, torch.ones(2, 10).bool(), pairs)]
    torch.testing.assert_close(got, right[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_padding_has_no_say(value):
    log_p = some_bags(8, 3, 4, 5)
    labels = torch.tensor([[1, 1, 0], [0, -1, 0], [1, 0, 0]])
    mask = torch.tensor([[True, False, True, True, True], [False, True] * 2 + [False], [False] * 5])
    spoilt = log_p.masked_fill(~mask[:, None], value).requires_grad_()
    got = presence.log_likelihood_noisy(spoilt, labels, 0.1, 0.2, mask)
    (slope,) = torch.autograd.grad(got.sum(), spoilt)
    assert (slope.movedim(1, 2)[~mask] == 0).all()
    r = presence.posterior_noisy(spoilt.detach(), labels, 0.1, 0.2, mask)
    torch.testing.assert_close(r, slope)
    for b in range(2):
        alone = presence.log_likelihood_noisy(
            log_p[b : b + 1, :, mask[b]], labels[b : b + 1], 0.1, 0.2
        )
        torch.testing.assert_close(got[b : b + 1], alone)
    assert got[2].item() == pytest.approx(math.log(0.1 * 0.9 * 0.9))  # the true set is empty


def test_the_limit_counts_the_classes_that_may_be_missed():
    log_p = some_bags(9, 2, 21, 8)
    labels = torch.arange(20).expand(2, -1) < 3
    with pytest.raises(ValueError, match=r"20 classes may occur.*at most 16.*false_negative of 0"):
        presence.log_likelihood_noisy(log_p, labels, 0.1, 0.1)
    fn = torch.where(torch.arange(20) < 10, 0.1, 0.0)
    value = presence.log_likelihood_noisy(log_p, labels, 0.1, fn)
    kept = [*range(10), 20]
    few = log_p[:, kept].log_softmax(1)
    unseen = presence.log_likelihood_noisy(few, labels[:, :10], 0.1, 0.1)
    left = log_p[:, kept].logsumexp(1).sum(1)  # the other ten classes are absent
    torch.testing.assert_close(value, unseen + left + 10 * math.log(0.9))


@pytest.mark.parametrize(
    ("fp", "fn", "message"),
    [
        (-0.1, 0.1, "false_positive must lie between 0 and 1, got -0.1"),
        (0.1, 1.5, "false_negative must lie between 0 and 1, got 1.5"),
        (math.nan, 0.1, "false_positive must lie between 0 and 1, got nan"),
        (None, 0.1, "false_positive must hold numbers of one shape, got NoneType"),
        (0.1, [[0.1], [0.1, 0.2]], "false_negative must hold numbers of one shape, got list"),
        ([0.1, 0.2], 0.1, r"false_positive must be a number or of shape \(3,\) or \(2, 3\)"),
        (0.1, torch.zeros(3, 1), r"false_negative must be .* got shape \(3, 1\)"),
        (0.1, torch.zeros(3, requires_grad=True), r"take false_negative\.detach\(\)"),
    ],
)
def test_bad_rates_are_named(fp, fn, message):
    log_p, labels = some_bags(10, 2, 4, 3), torch.zeros(2, 3, dtype=torch.bool)
    for function in (presence.log_likelihood_noisy, presence.posterior_noisy):
        with pytest.raises(ValueError, match=message):
            function(log_p, labels, fp, fn)


@pytest.mark.parametrize("fp", [0.0, 0.2])
def test_no_class_may_occur(fp):
    """Every bag without a label, and with no label missed: all positions emit the background."""
    log_p = some_bags(5, 2, 3, 4).requires_grad_()
    none = torch.zeros(2, 2, dtype=torch.bool)
    value = presence.log_likelihood_noisy(log_p, none, fp, 0.0)
    right = log_p[:, -1].sum(1) + 2 * math.log(1 - fp)
    torch.testing.assert_close(value, right)
    (slope,) = torch.autograd.grad(value.sum(), log_p)
    only = torch.zeros_like(slope)
    only[:, -1] = 1
    torch.testing.assert_close(slope, only)
    torch.testing.assert_close(presence.posterior_noisy(log_p, none, fp, 0.0), only)
    unknown = torch.full((2, 2), -1)
    value = presence.log_likelihood_noisy(log_p, unknown, fp, 0.1)
    torch.testing.assert_close(value, torch.zeros_like(value))
