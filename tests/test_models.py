"""Test the network that chapters share."""

import pytest
import torch

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
