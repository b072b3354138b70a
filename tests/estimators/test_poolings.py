"""Test the poolings of baselines, gated attention, and the padding of a DataLoader."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from wsl_tutorial import presence
from wsl_tutorial.data.bags import collate
from wsl_tutorial.models import GatedAttention
from wsl_tutorial.regions import attention_pooling, gated_scores

POOLINGS = {
    "noisy_or": lambda p: 1 - (1 - p).prod(-1),
    "max_pooling": lambda p: p.amax(-1),
    "mean_pooling": lambda p: p.mean(-1),
}


def drawn(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64).log_softmax(1)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_are_their_definitions(name):
    log_p = drawn(4, 3, 2, 5)
    yes, no = getattr(presence, name)(log_p)
    expected = POOLINGS[name](log_p.exp()[:, :-1].flatten(2))
    assert torch.allclose(yes.exp(), expected)
    assert torch.allclose(no.exp(), 1 - expected)
    assert getattr(presence, name)(log_p.float())[0].dtype == torch.float32


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_ignore_padding_and_take_bags_without_background(name):
    pool = getattr(presence, name)
    log_p, mask = drawn(3, 4, 6), torch.arange(6) < torch.tensor([6, 2, 0])[:, None]
    padded = log_p.masked_fill(~mask[:, None], torch.nan).requires_grad_()
    yes, no = pool(padded, mask)
    for bag, size in enumerate((6, 2)):
        alone = pool(log_p[bag : bag + 1, :, :size])
        assert torch.allclose(torch.stack([yes[bag], no[bag]]), torch.stack(alone)[:, 0])
    assert (yes[2] == -torch.inf).all()
    assert (no[2] == 0).all()
    (slope,) = torch.autograd.grad(yes[:2].sum() + no.sum(), padded)
    assert (slope.masked_select(~mask[:, None].expand_as(slope)) == 0).all()
    every = pool(drawn(3, 4, 6), background=False)
    assert every[0].shape == (3, 4)
    assert torch.allclose(torch.stack(every).exp().sum(0), torch.ones(3, 4).double())


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_have_the_gradients_of_finite_differences(name):
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    pool = getattr(presence, name)
    assert torch.autograd.gradcheck(lambda z: pool(z.log_softmax(1)), logits)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_keep_tiny_and_nearly_certain_probabilities(name):
    logits = torch.tensor([[[-800.0, -801.0], [0.0, 0.0]], [[800.0, 801.0], [0.0, 0.0]]]).double()
    yes, no = getattr(presence, name)(logits.log_softmax(1))
    assert (yes[0, 0] > -802) & (yes[0, 0] < -799)
    assert no[1, 0] < -799
    impossible = torch.tensor([[[-torch.inf, -torch.inf], [0.0, 0.0]]]).requires_grad_()
    yes, _ = getattr(presence, name)(impossible)
    assert yes.item() == -torch.inf
    (slope,) = torch.autograd.grad(yes.sum(), impossible)
    assert not slope.isnan().any()


def test_noisy_or_of_one_class_is_the_likelihood():
    log_p = drawn(5, 2, 7)
    yes, no = presence.noisy_or(log_p)
    for pooled, label in ((yes, True), (no, False)):
        labels = torch.full((5, 1), label)
        assert torch.allclose(pooled[:, 0], presence.log_likelihood(log_p, labels))


def test_poolings_refuse_what_is_no_probability():
    with pytest.raises(ValueError, match="log_p"):
        presence.noisy_or(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="mask"):
        presence.max_pooling(drawn(2, 3, 4), torch.ones(2, 4))


def test_gated_attention_is_that_of_regions_and_ignores_padding():
    torch.manual_seed(0)
    net = GatedAttention(nn.Linear(3, 5), 5, classes=2, hidden=4).double()
    bags = torch.randn(2, 6, 3, dtype=torch.float64)
    logits, weights = net(bags)
    h = net.features(bags).movedim(2, 1)  # (B, D, n)
    hidden = (net.v.weight @ h + net.v.bias[:, None]).tanh()
    hidden = hidden * (net.u.weight @ h + net.u.bias[:, None]).sigmoid()
    scores = net.w.weight @ hidden + net.w.bias
    pooled, expected = attention_pooling(h, scores)
    assert torch.allclose(weights, expected[:, 0])
    assert torch.allclose(logits, net.head(pooled[:, 0]))
    for layer in (net.v, net.u, net.w):
        nn.init.zeros_(layer.bias)
    plain = gated_scores(h, net.v.weight, net.w.weight, net.u.weight)
    assert torch.allclose(net(bags)[1], plain[:, 0].softmax(1))
    mask = torch.arange(6) < torch.tensor([6, 2])[:, None]
    padded = bags.masked_fill(~mask[:, :, None], torch.nan)
    logits, weights = net(padded, mask)
    assert torch.allclose(logits[1], net(bags[1:, :2])[0][0])
    assert (weights[1, 2:] == 0).all()
    (slope,) = torch.autograd.grad(logits.sum(), net.v.weight)
    assert slope.isfinite().all()


def test_a_loader_pads_bags_of_all_sizes():
    g = torch.Generator().manual_seed(0)
    bags = [(torch.randn(n, 2, generator=g), torch.tensor([n % 2 == 0]), n) for n in (3, 1, 4)]
    (batch,) = DataLoader(bags, batch_size=3, collate_fn=collate)
    instances, mask, labels, sizes = batch
    assert instances.shape == (3, 4, 2)
    assert mask.sum(1).tolist() == sizes.tolist() == [3, 1, 4]
    assert labels.tolist() == [[False], [False], [True]]
    for row, (own, _, n) in enumerate(bags):
        assert torch.equal(instances[row, :n], own)
        assert (instances[row, n:] == 0).all()
    plain, mask = collate([torch.zeros(0, 2), torch.ones(2, 2)])
    assert mask.tolist() == [[False, False], [True, True]]
    assert plain.shape == (2, 2, 2)
    labels = collate([(torch.ones(2, 3), [1, 0, 1]), (torch.ones(3, 3), [0, 1, 1])])[2]
    assert labels.tolist() == [[1, 0, 1], [0, 1, 1]]


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    "bags",
    [[], [torch.zeros(2, 3), torch.zeros(2, 4)], [torch.zeros(2), torch.zeros(2).long()]],
    ids=["none", "shapes", "dtypes"],
)
def test_a_loader_refuses_bags_of_different_instances(bags):
    with pytest.raises(ValueError, match="bags must be tensors"):
        collate(bags)


@pytest.mark.parametrize(
    ("bag", "message"),
    [
        ((X, {1}), "entry 1 of the bags must be .*, got set; pass labels as a 0/1 vector"),
        ((X, 1, None), "entry 2 of the bags must be .*, got NoneType; .* 0/1 vector"),
        ((X, {"y": {1}}), "entry 1 of the bags must be .*, got dict; .* 0/1 vector"),
        ({"x": X, "y": 1}, r"bags\[0\] must hold .*, got dict; pass \(instances, labels\)"),
        (({1, 2}, 1), r"bags\[0\] must hold .*, got set; pass \(instances, labels\)"),
    ],
)
def test_a_loader_refuses_what_does_not_stack(bag, message):
    with pytest.raises(ValueError, match=message):
        collate([bag, bag])


def test_a_loader_names_labels_of_different_lengths():
    bags = [(X, torch.ones(1)), (X, torch.ones(2))]
    with pytest.raises(ValueError, match=r"got .* shape \(1,\) on cpu and .* shape \(2,\) on cpu;"):
        collate(bags)


def test_a_loader_refuses_tuples_of_different_lengths():
    with pytest.raises(ValueError, match=r"bags must be tuples of one length, got \[2, 1\]"):
        collate([(torch.zeros(2, 3), 1), (torch.zeros(1, 3),)])
