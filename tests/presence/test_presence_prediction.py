"""Marginals of labels and the most probable set, tested against all label sets."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import presence
from wsl_tutorial.presence import fast, prediction


def some_bags(seed, batch, channels, positions, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(batch, channels, positions, generator=generator).double()
    return logits.log_softmax(1)


def every_set(log_p, background=True):
    """Return all label sets (2**C, C) and the log-probability of each, (2**C, B)."""
    classes = log_p.shape[1] - background
    sets = torch.tensor(list(itertools.product((False, True), repeat=classes)))
    values = [
        presence.log_likelihood(log_p, own.expand(len(log_p), -1), background=background)
        for own in sets
    ]
    return sets, torch.stack(values)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(1, 5),
    positions=st.sampled_from([1, 2, 5, 30]),
    scale=st.sampled_from([0.1, 1.0, 4.0, 12.0]),
    background=st.booleans(),
)
def test_marginals_and_the_best_set_are_those_of_all_sets(
    seed, classes, positions, scale, background
):
    log_p = some_bags(seed, 6, classes + background, positions, scale)
    sets, value = every_set(log_p, background)
    marginals = torch.einsum("sb,sc->bc", value.exp(), sets.double())
    got = presence.marginals(log_p, background=background)
    torch.testing.assert_close(got, marginals, rtol=1e-7, atol=1e-12)
    best = presence.most_probable_set(log_p, background=background)
    assert best.dtype == torch.bool
    found = presence.log_likelihood(log_p, best, background=background)
    torch.testing.assert_close(found, value.amax(0))


@pytest.mark.parametrize("size", [-1.0, -20, -40, -300, -740, -3e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_small_marginals_keep_their_digits(size, dtype):
    log_p = torch.tensor([[[size] * 3, [math.log(-math.expm1(size))] * 3]], dtype=dtype)
    log_p.requires_grad_()
    got = presence.log_marginals(log_p)
    p = math.exp(size)
    right = math.log(3 - 3 * p + p * p) + size if size > -30 else math.log(3) + size
    assert got.item() == pytest.approx(right, rel=1e-6 if dtype == torch.float32 else 1e-12)
    plain = presence.marginals(log_p).item()
    rounding = 1e-5 if dtype == torch.float32 else 1e-12
    assert plain == pytest.approx(math.exp(right), rel=rounding, abs=1e-44 if size < -80 else 0)
    (slope,) = torch.autograd.grad(got.sum(), log_p)
    expected = p * (1 - p) ** 2 / (1 - (1 - p) ** 3) if size > -30 else 1 / 3
    torch.testing.assert_close(
        slope[0, 0].double(), torch.full((3,), expected).double(), rtol=1e-5, atol=0
    )


def test_a_class_that_is_nowhere_or_everywhere():
    log_p = torch.tensor([[[0.0, 0], [1, 0.5], [0, 0.5]]]).double().log().requires_grad_()
    log_pi = presence.log_marginals(log_p)
    assert log_pi.tolist() == [[-math.inf, 0]]
    (slope,) = torch.autograd.grad(log_pi.sum(), log_p)
    assert slope.isfinite().all()
    assert (slope[0, 0] == 0).all()
    assert presence.most_probable_set(log_p).tolist() == [[False, True]]


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_padding_has_no_say(value, background):
    log_p = some_bags(1, 3, 3 + background, 5)
    mask = torch.tensor([[True, False, True, True, True], [False, True] * 2 + [False], [False] * 5])
    spoilt = log_p.masked_fill(~mask[:, None], value).requires_grad_()
    got = presence.marginals(spoilt, mask, background=background)
    (slope,) = torch.autograd.grad(got.sum(), spoilt)
    assert (slope.movedim(1, 2)[~mask] == 0).all()
    best = presence.most_probable_set(spoilt, mask, background=background)
    for b in range(2):
        own = log_p[b : b + 1, :, mask[b]].requires_grad_()
        alone = presence.marginals(own, background=background)
        torch.testing.assert_close(got[b : b + 1], alone)
        right = torch.autograd.grad(alone.sum(), own)[0]
        torch.testing.assert_close(slope[b : b + 1, :, mask[b]], right)
        alone = presence.most_probable_set(own, background=background)
        assert torch.equal(best[b : b + 1], alone)
    assert (got[2] == 0).all()
    assert not best[2].any()
    log_pi = presence.log_marginals(spoilt, mask, background=background)
    assert (log_pi[2] == -torch.inf).all()


def test_the_best_set_need_not_be_that_of_the_marginals():
    """Three positions with A and B by a fifth each: both marginals are 1 - 0.8 ** 3 = 0.488."""
    log_p = torch.tensor([[[0.2] * 3, [0.2] * 3, [0.6] * 3]]).double().log()
    _, value = every_set(log_p)
    best = presence.most_probable_set(log_p)
    assert value.exp().max().item() == pytest.approx(
        presence.log_likelihood(log_p, best).exp().item()
    )
    assert not (presence.marginals(log_p) > 0.5).any()
    assert best.any()  # one label: 0.8 ** 3 - 0.6 ** 3 = 0.296


def test_a_sure_network_leaves_few_of_many_classes():
    logits = torch.full((3, 101, 30), -12.0).double()
    logits[:, -1] = 0
    for b, labels in enumerate(([3], [5, 50, 99], [])):
        for j, label in enumerate(labels):
            logits[b, label, j] = 3.0
    log_p = logits.log_softmax(1)
    best = presence.most_probable_set(log_p)
    assert [row.nonzero()[:, 0].tolist() for row in best] == [[3], [5, 50, 99], []]
    flat = torch.zeros(1, 41, 20).double().log_softmax(1)
    with pytest.raises(ValueError, match=r"leaves 40 classes.*at most 16.*marginals\(log_p\) > 0"):
        presence.most_probable_set(flat)
    sure = torch.zeros(1, 21, 20).double()
    sure[0, range(20), range(20)] = 9.0  # 20 labels, each seen
    with pytest.raises(ValueError, match="leaves 20 classes"):
        presence.most_probable_set(sure.log_softmax(1))


def test_classes_left_out_change_nothing(monkeypatch):
    log_p = some_bags(2, 40, 9, 12, 3.0)
    log_p = (log_p + 3 * (torch.arange(9) == 8)[:, None]).log_softmax(1)
    best = presence.most_probable_set(log_p)
    left = [int(bag.any()) for bag in best]
    sizes = prediction._candidates(log_p)[1].sum(1)
    assert (sizes < 8).any()  # some bags leave some out
    monkeypatch.setattr(prediction, "_MARGIN", math.inf)  # none is left out
    assert (prediction._candidates(log_p)[1].sum(1) == 8).all()
    assert torch.equal(presence.most_probable_set(log_p), best)
    assert sum(left) > 0


@pytest.mark.parametrize("classes", [3, 9])  # small tables of subsets, and grouped products
def test_the_series_and_the_recursion_have_the_same_sets(classes):
    share = some_bags(4, 5, classes + 1, 7).exp()
    series, size = fast._all_sets(share)
    recursion = fast.label_sets(share)
    torch.testing.assert_close(series.T, recursion, rtol=0, atol=1e-12)
    torch.testing.assert_close(recursion.sum(0), torch.ones(5).double())
    assert (size >= series.abs().sum(1) * (1 - 1e-12)).all()
    assert torch.equal(fast.best_sets(share), recursion.argmax(0))


def test_ties_are_decided_by_the_recursion(monkeypatch):
    log_p = torch.zeros(3, 5, 2).double().log_softmax(1)  # each single label by 3 of 25 grids
    log_p[1] = some_bags(5, 1, 5, 2)[0]
    _, value = every_set(log_p)
    decided = []

    def label_sets(share, compute=fast.label_sets):
        decided.append(len(share))
        return compute(share)

    monkeypatch.setattr(fast, "label_sets", label_sets)
    best = presence.most_probable_set(log_p)
    assert decided == [2]  # two bags of equal classes
    torch.testing.assert_close(presence.log_likelihood(log_p, best), value.amax(0))


def test_sixteen_classes_of_middling_evidence():
    log_p = some_bags(3, 2, 17, 24, 0.5)
    best = presence.most_probable_set(log_p)
    value = presence.log_likelihood(log_p, best)
    for label in range(16):  # no neighbour is better
        other = best.clone()
        other[:, label] = ~other[:, label]
        assert (presence.log_likelihood(log_p, other) <= value).all()


def test_no_bag():
    log_p = torch.zeros(0, 3, 4)
    assert presence.marginals(log_p).shape == (0, 2)
    assert presence.most_probable_set(log_p).shape == (0, 2)
    padding = torch.zeros(2, 4, dtype=torch.bool)
    assert not presence.most_probable_set(torch.zeros(2, 3, 4), padding).any()
