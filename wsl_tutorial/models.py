"""Build the small networks that chapters and estimators share."""

from itertools import pairwise
from typing import cast

import torch
from torch import nn

from wsl_tutorial._shapes import BOOL, check_int, check_tensor, check_values, described

_NO_INSTANCE = "mask must be true for an instance of each bag, got a bag of none; leave it out"


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
    Raises: ValueError, a number that is no int of at least 1.
    Source: after Li (2018), section 5.1.1, at a sixteenth of the size.
    """
    check_int("classes", classes, 1)
    for k, width in enumerate(widths):
        check_int(f"widths[{k}]", width, 1)
    layers = []
    for k, (c_in, c_out) in enumerate(pairwise((*widths, classes + 1))):
        conv = nn.utils.skip_init(nn.Conv2d, c_in, c_out, 3, stride=2 if k == 1 else 1)
        conv = cast(nn.Conv2d, conv)
        nn.init.kaiming_normal_(conv.weight, 0.1, generator=generator)
        nn.init.zeros_(cast(torch.Tensor, conv.bias))
        layers += [conv, nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


class GatedAttention(nn.Module):
    """Pool the instances of a bag by gated attention, and classify the pooled features.

    Every instance has features h and the score w (tanh(V h) * sigmoid(U h)); the softmax of the
    scores over a bag gives the weights a, and z = sum a h is classified by a linear layer.

    Args:
        features: network from (n, ...) instances to (n, width) features.
        width: the size of the features.
        classes: C, the number of logits of a bag.
        hidden: L, the rows of V and U.
    Raises: ValueError, a size that is no int of at least 1.
    Source: Ilse, Tomczak & Welling (2018), "Attention-based deep multiple instance learning",
        (7), (9).
    """

    def __init__(self, features: nn.Module, width: int, classes: int = 1, hidden: int = 64):
        super().__init__()
        for name, size in (("width", width), ("classes", classes), ("hidden", hidden)):
            check_int(name, size, 1)
        self.features = features
        self.v, self.u = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.w = nn.Linear(hidden, 1)
        self.head = nn.Linear(width, classes)

    def forward(self, instances: torch.Tensor, mask: torch.Tensor | None = None):
        """Return the logits of bags (B, C) and the weights of their instances (B, n).

        instances (B, n, ...); mask bool (B, n), true for real instances: the features of padding
        are not computed, and its weights are 0. A bag has at least one instance.

        Raises: ValueError where an argument is of another shape or dtype, a bag has no instance, or
            the features have another width.
        """
        if not isinstance(instances, torch.Tensor) or instances.dim() < 2:
            wanted = "a tensor of shape (B, n, ...)"
            raise ValueError(f"instances must be {wanted}, got {described(instances)}")
        if mask is None:
            mask = instances.new_ones(instances.shape[:2], dtype=torch.bool)
        check_tensor("mask", mask, tuple(instances.shape[:2]), instances, BOOL)
        return self.pool(self.features(instances[mask]), mask)

    def pool(self, features: torch.Tensor, mask: torch.Tensor):
        """Return logits (B, C) and weights (B, n) from the features of real instances (N, width).

        The features come bag after bag, as the true entries of the mask (B, n).

        Raises: ValueError as `forward`.
        """
        check_tensor("mask", mask, ("B", "n"), self.head.weight, BOOL)
        check_values(mask.any(1), lambda: _NO_INSTANCE)
        bag = mask.nonzero()[:, 0]
        check_tensor("features", features, (len(bag), self.head.in_features), self.head.weight)
        scores = self.w(self.v(features).tanh() * self.u(features).sigmoid())[:, 0]  # (N,)
        padded = scores.new_full(mask.shape, -torch.inf).masked_scatter(mask, scores)
        weights = padded.softmax(1)  # (B, n)
        pooled = features.new_zeros(len(mask), features.shape[1])
        pooled = pooled.index_add(0, bag, weights[mask][:, None] * features)  # (B, width)
        return self.head(pooled), weights
