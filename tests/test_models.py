"""Test the network that chapters share."""

import pytest
import torch
from torch import nn

from wsl_tutorial import models, presence
from wsl_tutorial.data import digits


def build(seed=0, **options):
    return models.reader(torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize(("height", "width"), [(13, 13), (24, 24), (25, 40), (56, 24)])
def test_reader_answers_at_every_second_pixel(height, width):
    answer = build(classes=3)(torch.zeros(2, 1, height, width))
    assert answer.shape == (2, 4, (height - 11) // 2, (width - 11) // 2)


def test_reader_sees_13_pixels_around_its_centre():
    images = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(1)).requires_grad_()
    build()(images)[0, :, 5, 7].sum().backward()
    rows, columns = (images.grad[0, 0].abs() > 0).nonzero().T
    assert (rows.min(), rows.max()) == (2 * 5, 2 * 5 + 12)
    assert (columns.min(), columns.max()) == (2 * 7, 2 * 7 + 12)


def test_reader_gives_equal_windows_equal_outputs():
    """So it cannot emit one fixed class per position in every picture (chapter 3)."""
    answer = build()(torch.zeros(1, 1, 24, 24))  # (1, 11, 6, 6)
    torch.testing.assert_close(answer, answer[:, :, :1, :1].expand_as(answer))


def untrained(seed=0):
    """Return a network, 100 pictures of two digits, their label sets, and the logits."""
    pictures = digits.canvases(
        *digits.load("train"), 100, 24, torch.Generator().manual_seed(3), k=(2, 2)
    )
    model = build(seed)
    return model, pictures["images"], pictures["labels"], model(pictures["images"])


def test_an_untrained_reader_finds_right_sets_improbable_but_not_all_sets():
    """Why chapter 3 adds the floor of wrong labels late, and what the floor is."""
    *_, labels, logits = untrained()
    log_p = logits.detach().log_softmax(1)
    assert presence.log_likelihood(log_p, labels).max() < -20
    assert presence.log_likelihood(log_p, torch.ones_like(labels)).exp().min() > 0.5
    assert round(0.05 / (1 - 0.05) / 2**10, 5) == 0.00005


def test_max_pooling_pushes_each_background_logit_down_but_a_step_may_raise_some():
    """The positions share the weights that a step changes (chapter 3)."""
    model, images, labels, logits = untrained()
    logits.retain_grad()
    joint = logits.flatten(1).log_softmax(1).view_as(logits)
    presence.max_pooling_loss(joint, labels).backward()
    assert (logits.grad[:, 10] >= 0).all()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    change = (model(images) - logits)[:, 10]
    assert change.mean() < 0 < change.max()


def test_reader_is_drawn_by_its_generator():
    weights = [build(seed)[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classes": 0}, "classes must be an int of at least 1, got 0"),
        ({"classes": 2.0}, "classes must be an int of at least 1, got 2.0"),
        ({"widths": (1, 24, -32, 48)}, r"widths\[2\] must be an int of at least 1, got -32"),
    ],
)
def test_reader_of_no_network_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        build(**options)


@pytest.mark.parametrize("name", ["width", "classes", "hidden"])
@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "5"])
def test_attention_of_no_size_is_refused(name, wrong):
    with pytest.raises(ValueError, match=f"{name} must be an int of at least 1, got {wrong!r}"):
        models.GatedAttention(nn.Identity(), **{"width": 3, name: wrong})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instances": [[1.0]]}, r"instances must be a tensor of shape \(B, n, ...\), got list"),
        ({"instances": torch.zeros(3)}, r"instances must be .* of shape \(3,\)"),
        ({"mask": torch.ones(2, 4)}, r"mask must be torch.bool of shape \(2, 4\).*got torch.float"),
        ({"mask": torch.ones(2, 3) > 0}, r"mask must be .*\(2, 4\).* of shape \(2, 3\)"),
        ({"mask": torch.zeros(2, 4) > 0}, "mask must be true for an instance of each bag"),
        ({"instances": torch.zeros(2, 4, 5)}, r"features must be .* of shape \(8, 3\).*\(8, 5\)"),
        ({"instances": torch.zeros(2, 4, 3).double()}, "features must be torch.float32 .*float64"),
        ({"instances": torch.zeros(2, 4, 3, 2)}, r"features must be .* of shape \(8, 3, 2\)"),
    ],
)
def test_attention_refuses_bags_that_do_not_fit(change, said):
    net = models.GatedAttention(nn.Identity(), 3)
    with pytest.raises(ValueError, match=said):
        net(**{"instances": torch.zeros(2, 4, 3), **change})


def test_attention_pools_as_many_features_as_the_mask_is_true():
    net, mask = models.GatedAttention(nn.Identity(), 3), torch.arange(4) < torch.tensor([[2], [4]])
    assert net.pool(torch.zeros(6, 3), mask)[0].shape == (2, 1)
    with pytest.raises(ValueError, match=r"features must be .* of shape \(6, 3\).*\(8, 3\)"):
        net.pool(torch.zeros(8, 3), mask)
