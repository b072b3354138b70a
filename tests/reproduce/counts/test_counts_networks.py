"""The networks have the layers and parameters of their sources."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from wsl_tutorial.reproduce.counts import networks


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


def count(model):
    return sum(p.numel() for p in model.parameters())


def conv(c_in, c_out, k):
    return c_in * c_out * k * k + c_out


def test_discriminator_has_the_parameters_of_its_layers():
    channels = (3, 64, 64, 64, 128, 128, 128, 256, 128, 64)
    kernels = (3,) * 7 + (1, 1)
    convs = sum(conv(a, b, k) for (a, b), k in zip(pairwise(channels), kernels, strict=True))
    for outputs in (1, 2, 10):
        model = networks.discriminator(gen(), outputs)
        assert count(model) == convs + (64 + 1) * outputs
    assert convs + 65 == 781_057


def test_discriminator_has_no_normalisation_and_the_papers_dropout():
    layers = list(networks.discriminator(gen()).features)
    assert [m.p for m in layers if isinstance(m, nn.Dropout)] == [0.2, 0.5, 0.5]
    assert {m.negative_slope for m in layers if isinstance(m, nn.LeakyReLU)} == {0.2}
    assert [m.stride[0] for m in layers if isinstance(m, nn.Conv2d)] == [1, 1, 2, 1, 1, 2, 1, 1, 1]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in layers)
    at = [i for i, m in enumerate(layers) if isinstance(m, nn.Dropout)]
    convs_before = [sum(isinstance(m, nn.Conv2d) for m in layers[:i]) for i in at]
    assert convs_before == [0, 3, 6]


@pytest.mark.parametrize(("outputs", "shape"), [(1, (5,)), (2, (5, 2)), (10, (5, 10))])
def test_classifiers_answer_one_logit_or_k(outputs, shape):
    small = networks.discriminator(gen(), outputs, (4, 4, 8), channels=1)
    assert small(torch.rand(5, 1, 8, 8)).shape == shape
    assert small.features(torch.rand(5, 1, 8, 8)).shape == (5, 2)


def test_generator_has_the_parameters_of_its_layers():
    dense = 100 * 8192 + 8192
    up = sum(a * b * 25 + b for a, b in ((512, 256), (256, 128), (128, 3)))
    norms = 2 * (512 + 256 + 128)
    model = networks.images_from_noise(gen())
    assert count(model) == dense + up + norms == 4_935_171


@pytest.mark.parametrize(("size", "channels"), [((32, 32), 3), ((120, 96), 3), ((8, 8), 1)])
def test_generator_draws_images_of_the_size_asked_for(size, channels):
    images = networks.images_from_noise(gen(), size, (6, 4, 4), channels)(torch.rand(2, 100))
    assert images.shape == (2, channels, *size)
    assert images.abs().max() <= 1


def test_generator_refuses_other_sizes():
    with pytest.raises(ValueError, match="size"):
        networks.images_from_noise(gen(), (30, 32))


def test_resnet_is_torchvisions_without_its_normalisation():
    from torchvision import models

    whole = models.resnet18()
    norms = sum(count(m) for m in whole.modules() if isinstance(m, nn.BatchNorm2d))
    model = networks.resnet18(gen())
    assert count(model) == count(whole) - norms - (512 * 1000 + 1000) + 512 + 1 == 11_167_425
    assert model(torch.rand(2, 3, 48, 32)).shape == (2,)
    assert model.features(torch.rand(1, 3, 48, 32)).shape == (1, 512)


@pytest.mark.parametrize("name", ["discriminator", "images_from_noise", "resnet18"])
def test_initialisation_depends_on_the_generator_alone(name):
    make = getattr(networks, name)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make(gen(3))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two, other = make(gen(3)), make(gen(4))
    pairs = list(zip(one.parameters(), two.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert any(not torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.2, 0.5])
def test_dropout_keeps_its_share_and_the_mean(p, dtype):
    torch.manual_seed(0)
    layer = networks.Dropout(p)
    x = torch.ones(100_000, dtype=dtype, requires_grad=True)
    y = layer(x)
    assert y.dtype == dtype
    assert set(y.detach().unique().tolist()) == {0.0, torch.tensor(1 / (1 - p), dtype=dtype).item()}
    assert (y == 0).double().mean().item() == pytest.approx(p, abs=4 * (p * (1 - p) / 1e5) ** 0.5)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(slope, y.detach())
    assert layer.eval()(x) is x
