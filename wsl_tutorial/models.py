"""Build the small network that chapters share."""

from itertools import pairwise
from typing import cast

import torch
from torch import nn


def reader(
    generator: torch.Generator,
    classes: int = 10,
    widths: tuple[int, int, int, int] = (1, 24, 32, 48),
) -> nn.Sequential:
    """Return a small all-convolutional network for scattered digits of 8 x 8 pixels.

    Four 3 x 3 convolutions without padding, the second with stride 2, leaky ReLU between them: each
    position of the output sees 13 x 13 pixels, neighbours are 2 pixels apart, and position (m, n)
    is centred on pixel row 6 + 2 m, column 6 + 2 n.

    Args:
        generator: draws the weights (He et al. 2015), on the CPU; biases start at 0.
        classes: C, without the background.
        widths: channels of the input and of the three hidden layers.
    Returns:
        a model from (B, widths[0], H, W) to logits (B, C+1, M, N), M = (H - 11) // 2.
    Source: after Li (2018), section 5.1.1, at a sixteenth of the size.
    """
    layers = []
    for k, (c_in, c_out) in enumerate(pairwise((*widths, classes + 1))):
        conv = nn.utils.skip_init(nn.Conv2d, c_in, c_out, 3, stride=2 if k == 1 else 1)
        conv = cast(nn.Conv2d, conv)
        nn.init.kaiming_normal_(conv.weight, 0.1, generator=generator)
        nn.init.zeros_(cast(torch.Tensor, conv.bias))
        layers += [conv, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])
