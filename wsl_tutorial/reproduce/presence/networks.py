"""The all-convolutional networks of Li (2018): no pooling, normalisation, skip or dropout."""

from itertools import pairwise

import torch
from torch import nn


def all_convolutional(
    channels: tuple[int, ...],
    kernels: tuple[int, ...],
    strides: tuple[int, ...],
    paddings: tuple[int, ...],
    generator: torch.Generator,
) -> nn.Sequential:
    """Return convolutions with leaky ReLU (slope 0.1) between them; the last gives the logits.

    Weights and biases are drawn from N(0, 1/fan_in), fan_in = C_in k^2, by `generator` (CPU).
    Maps (B, channels[0], H, W) to logits (B, channels[-1], M, N).

    Raises ValueError where the four tuples do not describe the same number of layers.
    Source: Li (2018), section 5.1.1, and the authors' code.
    """
    if not len(channels) - 1 == len(kernels) == len(strides) == len(paddings):
        raise ValueError(
            "channels must have one entry more than kernels, strides and paddings, got "
            f"{len(channels)}, {len(kernels)}, {len(strides)}, {len(paddings)}"
        )
    layers = []
    for (c_in, c_out), k, s, p in zip(pairwise(channels), kernels, strides, paddings, strict=True):
        conv = nn.utils.skip_init(nn.Conv2d, c_in, c_out, k, stride=s, padding=p)
        for parameter in conv.parameters():  # weight, then bias
            nn.init.normal_(parameter, std=(c_in * k * k) ** -0.5, generator=generator)
        layers += [conv, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


def mnist(generator: torch.Generator, width: int = 64) -> nn.Sequential:
    """Return a network of 429,131 parameters; H becomes ceil(H/2) - 10, so 28 to 4 and 84 to 32."""
    channels = (1, *[width] * 5, 11)
    return all_convolutional(channels, (5,) * 6, (1, 1, 2, 1, 1, 1), (2, 2, 2, 1, 0, 0), generator)


def mnist_cross_entropy(generator: torch.Generator, width: int = 64) -> nn.Sequential:
    """Return a network of 427,530 parameters, 28 x 28 to 10 logits: its last layer is linear."""
    channels = (1, *[width] * 5, 10)
    return all_convolutional(channels, (5,) * 6, (1, 1, 2, 1, 1, 1), (2, 2, 1, 0, 0, 0), generator)


def cifar10(
    generator: torch.Generator, widths: tuple[int, int, int] = (128, 192, 256)
) -> nn.Sequential:
    """Return a network of 2,832,203 parameters, 32 x 32 to 4 x 4."""
    a, b, c = widths
    channels = (3, a, a, a, b, b, b, c, c, c, 11)
    strides = (1, 1, 1, 2, 1, 1, 2, 1, 1, 1)
    return all_convolutional(channels, (3,) * 10, strides, (1,) * 8 + (0, 0), generator)


def cifar10_cross_entropy(
    generator: torch.Generator, widths: tuple[int, int, int] = (128, 192, 256)
) -> nn.Sequential:
    """Return a network of 2,829,898 parameters, 32 x 32 to 10 logits by a full 3 x 3 layer."""
    a, b, c = widths
    channels = (3, a, a, a, b, b, b, c, c, c, 10)
    strides = (1, 1, 1, 2, 1, 1, 2, 1, 1, 1)
    return all_convolutional(channels, (3,) * 10, strides, (1,) * 6 + (0,) * 4, generator)


def svhn(
    generator: torch.Generator, widths: tuple[int, int, int] = (128, 192, 256)
) -> nn.Sequential:
    """Return a network of 7,864,139 parameters; a side of 64 becomes 28, one of 50 becomes 21.

    Widths of 96, 128, 192 make 4,106,059 parameters, widths of 48, 64, 96 make 1,041,835.
    """
    a, b, c = widths
    channels = (3, a, a, a, b, b, b, c, c, c, 11)
    strides = (1, 1, 1, 2, 1, 1, 1, 1, 1, 1)
    return all_convolutional(channels, (5,) * 10, strides, (2,) * 9 + (0,), generator)
