"""Presence of hidden concepts in bags whose instances are near copies of one another.

Shapes: `logits` is (B, K, n), the log odds that an instance shows each of K concepts; `weights` is
(B, n), 0 where a bag is padded; `labels` is bool (B,), true for a positive bag. A bag is positive
if every concept occurs in it. With K = 1 and all weights 1 this is the likelihood of chapter 1 for
one class, 1 - prod(1 - p).

Source: chapter 16; effective numbers of similar things are those of Leinster and Cobbold (2012).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import (
    BOOL,
    FLOATS,
    check_tensor,
    cut,
    log,
    logsumexp,
    per_bag,
)


def _two_axes(x: Tensor) -> Tensor:
    """Return an empty tensor of the first two sizes of x."""
    return x.new_empty(x.shape[:2])


@per_bag(answer=_two_axes)
def copy_weights(x: Tensor, width: float, mask: Tensor | None = None) -> Tensor:
    """Eq. (16.1): the weight of each instance, one over its number of near copies in the bag.

    The similarity of two instances is exp(-d^2 / (2 width^2)), d their Euclidean distance. Exact
    copies share the weight of one instance; instances that are far from all others weigh 1. The
    sum of the weights is the effective size of the bag, between 1 and n; the limits are width 0
    (no copies) and infinity (all are copies: 1 / n each).

    Args:
        x: (B, n, D) features; width: at least 0, in units of x, infinity allowed.
        mask: bool (B, n), true for real instances; the others get the weight 0.
    Returns: (B, n).
    Raises: ValueError when shapes or dtypes disagree, a real feature is not finite, or the width is
        negative or NaN.
    """
    check_tensor("x", x, ("B", "n", "D"))
    if not width >= 0:
        raise ValueError(f"width must be at least 0, got {width}; infinity makes all instances one")
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    check_tensor("mask", mask, tuple(x.shape[:2]), x, BOOL)
    x = x.masked_fill(~mask[..., None], 0)
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite where mask is true; remove or replace NaN and infinity")
    similar = _similarity(x.double(), width) * mask[:, None]
    return (mask / similar.sum(2).clamp_min(1)).to(x.dtype)


def _similarity(x: Tensor, width: float) -> Tensor:
    """Return the similarities (B, n, n) of instances x (B, n, D), exactly 1 on the diagonal."""
    same = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    if not width:
        number = torch.unique(x.detach().flatten(0, 1), dim=0, return_inverse=True)[1]
        number = number.view(x.shape[:2])
        return (number[:, :, None] == number[:, None]).to(x.dtype)
    x = (x - x.detach().mean(1, keepdim=True)) / width
    square = x.square().sum(2)
    apart = (square[:, :, None] + square[:, None] - 2 * x @ x.mT).clamp_min(0)
    return (-apart / 2).exp().masked_fill(same, 1)


@per_bag(answer=_two_axes)
def log_occurrence(logits: Tensor, weights: Tensor) -> Tensor:
    """Eq. (16.2): the log-probability that each concept occurs, log(1 - prod_j (1 - p_j)^w_j).

    With weights 1 the instances are independent; with weights 1 / n they are n copies of one
    instance. Adding an instance of weight above 0 to a bag never lowers it as long as the other
    weights stay.

    Args: logits (B, K, n); weights (B, n), none below 0.  Returns: (B, K) in nats.
    Raises: ValueError when shapes or dtypes disagree or a weight is negative or not finite.
    """
    return log(-torch.expm1(-_evidence(logits, weights))).to(logits.dtype)


def _evidence(logits: Tensor, weights: Tensor) -> Tensor:
    """Return -log P(concept is missing), float64 (B, K), of checked input."""
    check_tensor("logits", logits, ("B", "K", "n"))
    check_tensor("weights", weights, (logits.shape[0], logits.shape[2]), logits, FLOATS)
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError("weights must be at least 0 and finite; take those of copy_weights")
    z = logits.double().masked_fill((weights == 0)[:, None], 0)
    return (F.softplus(z) * weights.double()[:, None]).sum(-1)


@per_bag
def log_likelihood_concepts(
    logits: Tensor, labels: Tensor, weights: Tensor, noise: float = 0.0
) -> Tensor:
    """Eq. (16.3): log P(bag label), positive if all concepts occur, flipped with a rate `noise`.

    The concepts occur independently given the bag, each with `log_occurrence`.

    Args: logits (B, K, n), K at least 1; labels bool (B,); weights (B, n); noise in [0, 1/2).
    Returns: (B,) in nats; with noise 0 an impossible label gives -inf with gradient 0.
    Raises: ValueError as `log_occurrence`, for labels that do not fit, and for another noise.
    """
    if not 0 <= noise < 0.5:
        raise ValueError(f"noise must be at least 0 and below 1/2, got {noise}")
    evidence = _evidence(logits, weights)  # (B, K)
    check_tensor("labels", labels, (len(logits),), logits, BOOL)
    occurs = log(-torch.expm1(-evidence)).sum(1)  # (B,)
    # log P(missing) of one concept is a sum: no difference, so no digit is lost
    misses = -evidence[:, 0] if evidence.shape[1] == 1 else log(-torch.expm1(occurs))
    if noise:
        keep, flip = math.log(1 - 2 * noise), math.log(noise)
        sides = [torch.stack([keep + x, x.new_full(x.shape, flip)]) for x in (occurs, misses)]
        occurs, misses = (logsumexp(x, 0) for x in sides)
    return torch.where(labels, cut(occurs), cut(misses)).to(logits.dtype)
