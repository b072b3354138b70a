"""The networks have the paper's parameter counts and the authors' output sizes."""

import pytest
import torch

from wsl_tutorial.reproduce.presence import networks


def make(name, *args):
    return getattr(networks, name)(torch.Generator().manual_seed(0), *args)


@pytest.mark.parametrize(
    ("name", "args", "count"),
    [
        ("mnist", (), 429_131),
        ("mnist_cross_entropy", (), 427_530),
        ("cifar10", (), 2_832_203),
        ("cifar10_cross_entropy", (), 2_829_898),
        ("svhn", ((48, 64, 96),), 1_041_835),
        ("svhn", ((96, 128, 192),), 4_106_059),
        ("svhn", ((128, 192, 256),), 7_864_139),
    ],
)
def test_parameter_counts_are_the_papers(name, args, count):
    assert sum(p.numel() for p in make(name, *args).parameters()) == count


@pytest.mark.parametrize(
    ("name", "args", "image", "output"),
    [
        ("mnist", (2,), (1, 28, 28), (11, 4, 4)),
        ("mnist", (2,), (1, 56, 84), (11, 18, 32)),
        ("mnist", (2,), (1, 57, 61), (11, 19, 21)),
        ("mnist_cross_entropy", (2,), (1, 28, 28), (10, 1, 1)),
        ("cifar10", ((2, 2, 2),), (3, 32, 32), (11, 4, 4)),
        ("cifar10_cross_entropy", ((2, 2, 2),), (3, 32, 32), (10, 1, 1)),
        ("svhn", ((2, 2, 2),), (3, 64, 60), (11, 28, 26)),
        ("svhn", ((2, 2, 2),), (3, 50, 70), (11, 21, 31)),
    ],
)
def test_output_sizes_are_the_authors(name, args, image, output):
    assert make(name, *args)(torch.rand(2, *image)).shape == (2, *output)


def test_receptive_field_of_the_mnist_network_is_37_pixels_with_step_2():
    model = make("mnist", 4).double()
    image = torch.rand(1, 1, 84, 84, dtype=torch.float64, requires_grad=True)
    seen = []
    for n in (15, 16):
        (g,) = torch.autograd.grad(model(image)[0, :, 15, n].sum(), image)
        columns = g[0, 0].abs().sum(0).nonzero().flatten()
        seen.append((columns[0].item(), len(columns)))
    assert [width for _, width in seen] == [37, 37]
    assert seen[1][0] - seen[0][0] == 2


def test_weights_and_biases_are_normal_with_variance_one_over_fan_in():
    model = make("mnist")
    weight, bias = model[2].weight, model[2].bias
    assert weight.std().item() == pytest.approx(1600**-0.5, rel=0.02)
    biases = torch.cat([model[i].bias * (1600**0.5) for i in (2, 4, 6, 8)])
    assert biases.std().item() == pytest.approx(1, rel=0.15)
    assert bias.abs().max() > 0


def test_initialisation_depends_on_the_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = make("mnist", 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    two = make("mnist", 3)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_tuples_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="channels"):
        networks.all_convolutional((1, 2), (5, 5), (1, 1), (0, 0), torch.Generator())
