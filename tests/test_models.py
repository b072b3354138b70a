"""Test the network that chapters share."""

import pytest
import torch

from wsl_tutorial import models


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


def test_reader_is_drawn_by_its_generator():
    weights = [build(seed)[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
