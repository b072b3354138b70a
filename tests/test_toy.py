"""Test the toy world: the distribution of bags, the observers, and the general sum over hidden
labels, which is a likelihood with the gradient of Fisher's identity."""

import copy
import math
from itertools import pairwise
from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import presence, toy

ALL = list(toy.OBSERVERS.items())


def random_log_p(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(-1)


def test_world_repeats_with_its_seed_and_follows_the_prior():
    points, labels = toy.world(5000, 4, torch.Generator().manual_seed(3))
    again, _ = toy.world(5000, 4, torch.Generator().manual_seed(3))
    assert points.shape == (5000, 4, 2)
    assert torch.equal(points, again)
    share = torch.bincount(labels.flatten()) / labels.numel()
    torch.testing.assert_close(share, torch.tensor(toy.PRIOR), atol=0.02, rtol=0)


def test_world_puts_arms_apart_and_background_in_the_middle():
    points, labels = toy.world(5000, 1, torch.Generator().manual_seed(0))
    centres = torch.stack([points[labels == c].mean(0) for c in range(toy.CLASSES)])
    assert centres[3].norm() < 0.1
    assert torch.cdist(centres[:3], centres[:3])[~torch.eye(3, dtype=torch.bool)].min() > 2


@pytest.mark.parametrize("prior", [(0.5, 0.5), (0.5, 0.5, 0.5, -0.5), (0.1,) * 4, (math.nan,) * 4])
def test_world_refuses_what_is_no_prior(prior):
    with pytest.raises(ValueError, match="prior"):
        toy.world(2, 2, torch.Generator(), prior)


def test_world_takes_whole_numbers():
    assert (toy.world(2, 3, torch.Generator(), (0, 1, 0, 0))[1] == 1).all()
    for wrong in (0, -1, 1.5):
        with pytest.raises(ValueError, match="n_bags must be an int of at least 1, got"):
            toy.world(wrong, 3, torch.Generator())
        with pytest.raises(ValueError, match="bag_size must be an int of at least 1, got"):
            toy.world(2, wrong, torch.Generator())


def test_observers_say_what_they_should():
    labels = torch.tensor([[2, 0, 3, 2], [3, 3, 3, 3], [1, 0, 3, 3]])
    yes, no = True, False
    assert toy.presence(labels).tolist() == [[yes, no, yes], [no, no, no], [yes, yes, no]]
    assert toy.counts(labels).tolist() == [[1, 0, 2, 1], [0, 0, 0, 4], [1, 1, 0, 2]]
    assert toy.patches(labels).tolist() == [[0, 2, 2, 3], [3, 3, 3, 3], [0, 1, 3, 3]]
    assert toy.regions(labels).tolist() == [[2], [3], [0]]


@pytest.mark.parametrize(("name", "observe"), ALL)
def test_observers_do_not_see_the_order_of_points(name, observe):
    h = toy.labellings(4)
    assert torch.equal(observe(h), observe(h[:, [2, 0, 3, 1]]))


def test_patches_and_counts_make_the_same_partition():
    h = toy.labellings(4)
    same = [(o[:, None] == o[None]).all(-1) for o in (toy.patches(h), toy.counts(h))]
    assert torch.equal(*same)


def test_with_one_class_in_the_image_regions_is_presence():
    h = toy.labellings(4)
    single = h[toy.presence(h).sum(-1) == 1]
    assert torch.equal(toy.presence(single).int().argmax(-1), toy.regions(single)[:, 0])


def test_labellings_are_all_different_and_complete():
    h = toy.labellings(3, 4)
    assert h.shape == (64, 3)
    assert len(h.unique(dim=0)) == 64
    assert h.min() == 0
    assert h.max() == 3


def test_labellings_name_the_size_they_refuse():
    with pytest.raises(ValueError, match=r"got 4\*\*11 labellings"):
        toy.labellings(11)
    for n in (0, 2.0):
        with pytest.raises(ValueError, match="n must be an int of at least 1, got"):
            toy.labellings(n)
        with pytest.raises(ValueError, match="k must be an int of at least 1, got"):
            toy.labellings(2, n)


@pytest.mark.parametrize(("name", "observe"), ALL)
def test_probabilities_of_all_observations_sum_to_one(name, observe):
    log_p = random_log_p(4, 4)
    every = observe(toy.labellings(4)).unique(dim=0)
    total = toy.log_marginal(log_p.expand(len(every), 4, 4), observe, every).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(ALL))
def test_gradient_is_posterior_minus_prior(n, seed, observer):
    observe = observer[1]
    logits = 3 * random_log_p(3, n, 4, seed=seed)
    hidden = torch.randint(4, (3, n), generator=torch.Generator().manual_seed(seed))
    logits.requires_grad_()
    log_p = logits.log_softmax(-1)
    toy.log_marginal(log_p, observe, observe(hidden)).sum().backward()
    expected = toy.fisher_gradient(log_p.detach(), observe, observe(hidden))
    torch.testing.assert_close(logits.grad, expected, atol=1e-10, rtol=1e-8)
    assert expected.sum(-1).abs().max() < 1e-12


def test_seeing_all_labels_is_supervised_learning():
    log_p, hidden = random_log_p(5, 3, 4), torch.tensor([[0, 3, 1]] * 5)
    r = toy.posterior(log_p, lambda h: h, hidden)
    assert torch.equal(r, torch.nn.functional.one_hot(hidden, 4).double())
    cross_entropy = torch.nn.functional.nll_loss(
        log_p.flatten(0, 1), hidden.flatten(), reduction="sum"
    )
    value = toy.log_marginal(log_p, lambda h: h, hidden).sum()
    torch.testing.assert_close(value, -cross_entropy)


def test_seeing_nothing_teaches_nothing():
    log_p = random_log_p(5, 3, 4)
    nothing = torch.zeros(5, 1, dtype=torch.int64)
    blind = lambda h: h[..., :1] * 0  # noqa: E731
    assert toy.log_marginal(log_p, blind, nothing).abs().max() < 1e-12
    assert toy.fisher_gradient(log_p, blind, nothing).abs().max() < 1e-12


def test_presence_by_enumeration_is_the_alternating_series():
    log_p = random_log_p(8, 4, 4)
    sets = torch.tensor([[bool(s >> i & 1) for i in range(3)] for s in range(8)])
    series = presence.alternating_series(log_p.transpose(1, 2), sets)
    torch.testing.assert_close(toy.log_marginal(log_p, toy.presence, sets), series)


def test_impossible_observations_are_minus_infinity_with_no_gradient():
    logits = torch.randn(2, 2, 4, dtype=torch.float64, requires_grad=True)
    three = torch.ones(2, 3, dtype=torch.bool)  # three labels on two points
    value = toy.log_marginal(logits.log_softmax(-1), toy.presence, three)
    value.sum().backward()
    assert (value == -torch.inf).all()
    assert (logits.grad == 0).all()
    log_p = logits.detach().log_softmax(-1)
    assert (toy.posterior(log_p, toy.presence, three) == 0).all()
    assert (toy.fisher_gradient(log_p, toy.presence, three) == 0).all()


def test_certain_labels_leave_no_nan():
    log_p = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 1]]).log()
    seen = toy.counts(torch.tensor([0, 3]))
    assert toy.log_marginal(log_p, toy.counts, seen) == 0
    assert toy.posterior(log_p, toy.counts, seen).tolist() == log_p.exp().tolist()


def test_errors_name_the_argument():
    log_p = random_log_p(2, 3, 4)
    with pytest.raises(ValueError, match="observed must be of shape"):
        toy.log_marginal(log_p, toy.presence, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"observed must be of shape \(2, 'd'\), got list"):
        toy.log_marginal(log_p, toy.presence, [[1, 2]])
    with pytest.raises(ValueError, match=r"log_p .* must hold log-probabilities"):
        toy.log_marginal(log_p + 1, toy.presence, torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"log_p must be \(\.\.\., n, k\)"):
        toy.log_marginal(torch.zeros(4), toy.presence, torch.ones(3, dtype=torch.bool))


def test_second_derivatives_where_a_label_is_certain():
    log_p = torch.tensor([[1.0, 0, 0, 0], [0.25] * 4, [0, 0, 0.5, 0.5]], dtype=torch.float64).log()
    leaf, seen = log_p[None].requires_grad_(), torch.tensor([[1, 0, 1, 1]])
    for f in (toy.log_marginal, toy.posterior):
        value = f(leaf, toy.counts, seen)
        weights = torch.arange(value.numel()).to(value).view(value.shape).cos()
        (slope,) = torch.autograd.grad((value * weights).sum(), leaf, create_graph=True)
        (second,) = torch.autograd.grad(slope.square().sum(), leaf)
        assert slope.isfinite().all()
        assert second.isfinite().all()


def test_labels_that_are_no_whole_numbers_are_refused():
    for observe in toy.OBSERVERS.values():
        for dtype in (torch.float16, torch.float32, torch.bool):
            with pytest.raises(ValueError, match="labels must be integer of shape"):
                observe(torch.tensor([[0, 1]]).to(dtype))
        small = observe(torch.tensor([[0, 1, 3]]).to(torch.uint8))
        assert small.tolist() == observe(torch.tensor([[0, 1, 3]])).tolist()


def test_labels_of_more_classes_are_refused():
    for name in ("presence", "counts", "regions"):
        observe = toy.OBSERVERS[name]
        for wrong in (4, -1, 200):
            with pytest.raises(ValueError, match=f"labels must lie between 0 and 3, got {wrong};"):
                observe(torch.tensor([0, wrong]))
        with pytest.raises(ValueError, match="labels must be integer of shape"):
            observe(torch.tensor(1))
        with pytest.raises(ValueError, match="labels must lie between 0 and 3, got 4; pass k"):
            toy.log_marginal(random_log_p(1, 2, 5), observe, observe(torch.tensor([[3, 3]])))
    assert toy.counts(torch.tensor([5, 0]).to(torch.int8), 200).sum() == 2
    with pytest.raises(ValueError, match="k must be an int of at least 2"):
        toy.regions(torch.tensor([0]), 1)


# Statements of chapter 0 about large bags ---------------------------------------------------------


def bits(reports):
    """Return the entropy of a sample of reports (B, d), in bits."""
    _, number = reports.long().unique(dim=0, return_counts=True)
    share = number / number.sum()
    return -(share * share.log2()).sum().item()


def test_merged_reports_make_a_label_weaker_but_their_number_does_not_order_labels():
    _, labels = toy.world(20_000, 16, torch.Generator().manual_seed(0))
    every = bits(toy.counts(labels))
    which, region = bits(toy.presence(labels)), bits(toy.regions(labels))
    assert max(which, region) < every  # both merge reports of counts
    assert len(toy.presence(labels).unique(dim=0)) > len(toy.regions(labels).unique())
    assert which < 1 < region


def test_full_label_sets_lower_the_background_and_then_rounding_errors_rule():
    """The training of the chapter: networks that learn from presence labels of 64 points."""
    for seed in range(3):
        points, labels = toy.world(64, 64, torch.Generator().manual_seed(seed))
        observed = toy.presence(labels)
        assert observed.all(1).float().mean() > 0.9
        torch.manual_seed(seed)
        layers = torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, toy.CLASSES)
        model = torch.nn.Sequential(*layers)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        background, agreement = [], []
        for _ in range(30):
            slopes = []
            for network in (copy.deepcopy(model).double(), model):
                network.zero_grad()
                log_p = network(points.to(network[0].weight)).log_softmax(-1).mT  # (64, 4, 64)
                (-presence.log_likelihood(log_p, observed).mean()).backward()
                slopes.append(torch.cat([p.grad.flatten().double() for p in network.parameters()]))
            agreement.append(torch.cosine_similarity(*slopes, 0).item())
            background.append(log_p[:, 3].exp().mean().item())
            optimizer.step()
        assert all(after < before for before, after in pairwise(background[:11]))
        assert min(agreement[:2]) > 0.9
        assert fmean(cosine < 0.7 for cosine in agreement[12:]) > 0.5


def test_a_full_label_set_makes_the_background_less_probable_at_every_point():
    log_p = random_log_p(20, 5, 4)
    everything = torch.ones(20, 3, dtype=torch.bool)
    assert (toy.posterior(log_p, toy.presence, everything) < log_p.exp())[..., 3].all()
