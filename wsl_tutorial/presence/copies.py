"""Presence of hidden concepts in bags whose instances are near copies of one another.

Shapes: `logits` is (B, K, n), the log odds that an instance shows each of K concepts; `weights` is
(B, n), 0 where a bag is padded; `labels` is bool (B,), true for a positive bag. A bag is positive
if every concept occurs in it. With K = 1 and all weights 1 this is the likelihood of chapter 1 for
one class, 1 - prod(1 - p).

Source: chapter 16; effective numbers of similar things are those of Leinster and Cobbold (2012).
"""

import math
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import (
    BOOL,
    FLOATS,
    check_tensor,
    cut,
    log,
    log_any,
    logsumexp,
    per_bag,
    shown,
)

WIDE = 1e6  # squared distance from the mean, in widths, up to which products may be subtracted


def _two_axes(x: Tensor) -> Tensor:
    """Return an empty tensor of the first two sizes of x."""
    return x.new_empty(x.shape[:2])


@per_bag(answer=_two_axes)
def copy_weights(x: Tensor, width: float, mask: Tensor | None = None) -> Tensor:
    """Eq. (16.1): the weight of each instance, one over its number of near copies in the bag.

    The similarity of two instances is exp(-d^2 / (2 width^2)), d their Euclidean distance. Exact
    copies share the weight of one instance; instances that are far from all others weigh 1. The
    sum of the weights is the effective size of the bag, between 1 and n; the limits are width 0
    (only exact copies count) and infinity (all are copies: 1 / n each).

    Args:
        x: (B, n, D) features; width: at least 0, in units of x, infinity allowed.
        mask: bool (B, n), true for real instances; the others get the weight 0.
    Returns: (B, n).
    Raises: ValueError when shapes or dtypes disagree, a real feature is not finite, or the width is
        negative or NaN.
    """
    check_tensor("x", x, ("B", "n", "D"))
    one = width.dim() == 0 if isinstance(width, Tensor) else isinstance(width, Real)
    if not one or not width >= 0:
        raise ValueError(
            f"width must be a number of at least 0, got {shown(width)}; infinity makes all "
            "instances one"
        )
    if mask is None:
        mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    check_tensor("mask", mask, tuple(x.shape[:2]), x, BOOL)
    x = x.masked_fill(~mask[..., None], 0)
    if not bool(x.isfinite().all()):
        raise ValueError("x must be finite where mask is true; remove or replace NaN and infinity")
    similar = _similarity(x.double(), width) * mask[:, None]
    return (mask / similar.sum(2).clamp_min(1)).to(x.dtype)


def _similarity(x: Tensor, width: float) -> Tensor:
    """Return the similarities (B, n, n) of instances x (B, n, D), exactly 1 on the diagonal.

    The quick way cancels where instances are many widths from the mean of their bag.
    """
    same = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
    if not width:
        number = torch.unique(x.detach().flatten(0, 1), dim=0, return_inverse=True)[1]
        number = number.view(x.shape[:2])
        return (number[:, :, None] == number[:, None]).to(x.dtype) + x[:, :0].sum()
    z = (x - x.detach().mean(1, keepdim=True)) / width
    wide = ~(z.detach().square().sum(2) <= WIDE).all(1)  # NaN too
    z = z.masked_fill(wide[:, None, None], 0)
    square = z.square().sum(2)
    apart = (square[:, :, None] + square[:, None] - 2 * z @ z.mT).clamp_min(0)
    if bool(wide.any()):
        rows = wide.nonzero()[:, 0]
        apart = apart.index_copy(0, rows, torch.stack([_apart(x[row], width) for row in rows]))
    return (-apart / 2).exp().masked_fill(same, 1)


def _apart(x: Tensor, width: float) -> Tensor:
    """Return the squared distances (n, n) of x (n, D) in widths, by differences; inf if far."""
    far = torch.cdist(x.detach(), x.detach(), compute_mode="donot_use_mm_for_euclid_dist")
    i, j = (far <= 40 * width).nonzero(as_tuple=True)  # exp(-40**2 / 2) is 0
    square = ((x[i] - x[j]).nan_to_num() / width).square().sum(1)
    return torch.full_like(far, torch.inf).index_put((i, j), square)


@per_bag(answer=_two_axes)
def log_occurrence(logits: Tensor, weights: Tensor) -> Tensor:
    """Eq. (16.2): the log-probability that each concept occurs, log(1 - prod_j (1 - p_j)^w_j).

    With weights 1 the instances are independent; with weights 1 / n they are n copies of one
    instance. Adding an instance of weight above 0 to a bag never lowers it as long as the other
    weights stay.

    Args: logits (B, K, n); weights (B, n), none below 0.  Returns: (B, K) in nats.
    Raises:
        ValueError: shapes or dtypes disagree, a weight is negative or not finite, or a logit of
            positive weight is NaN.
    """
    return _evidence(logits, weights)[1].to(logits.dtype)


def _evidence(logits: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return -log P(concept is missing) and log P(it occurs), float64 (B, K), of checked input."""
    check_tensor("logits", logits, ("B", "K", "n"))
    check_tensor("weights", weights, (logits.shape[0], logits.shape[2]), logits, FLOATS)
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise ValueError("weights must be at least 0 and finite; take those of copy_weights")
    z = logits.double().masked_fill((weights == 0)[:, None], 0)
    w = weights.double()[:, None]
    if bool(z.isnan().any()):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} must not hold NaN, but for weight 0"
        )
    evidence = (-F.logsigmoid(-z) * w).sum(-1)  # softplus of torch rounds above 20
    return evidence, _log_occurs(evidence, z, w)


def _log_occurs(evidence: Tensor, z: Tensor, w: Tensor) -> Tensor:
    """Return log(1 - exp(-evidence)), also where the evidence, sum_j w_j log(1 + e^z_j), is 0."""
    faint, plenty = evidence < 1e-290, evidence > math.log(2)
    some = log(-torch.expm1(-evidence.masked_fill(faint | plenty, 1)))
    sure = torch.log1p(-(-evidence.masked_fill(~plenty, 1)).exp())
    tail = logsumexp(log(w) + z.masked_fill(~faint[..., None], 0), -1)  # log(1 + e^z) is e^z
    return torch.where(faint, tail, torch.where(plenty, sure, some))


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
    gradient = isinstance(noise, Tensor) and noise.requires_grad
    if gradient or not isinstance(noise, Real | Tensor) or not 0 <= noise < 0.5:
        remedy = "; it has no gradient, take noise.item()" if gradient else ""
        raise ValueError(f"noise must be at least 0 and below 1/2, got {shown(noise)}{remedy}")
    evidence, log_occurs = _evidence(logits, weights)  # (B, K) each
    check_tensor("labels", labels, (len(logits),), logits, BOOL)
    occurs = log_occurs.sum(1)  # (B,)
    misses = -evidence[:, 0] if evidence.shape[1] == 1 else _log_some_missing(evidence, occurs)
    if noise:
        keep, flip = math.log(1 - 2 * noise), math.log(noise)
        sides = [torch.stack([keep + x, x.new_full(x.shape, flip)]) for x in (occurs, misses)]
        occurs, misses = (logsumexp(x, 0) for x in sides)
    return torch.where(labels, cut(occurs), cut(misses)).to(logits.dtype)


def _log_some_missing(evidence: Tensor, occurs: Tensor) -> Tensor:
    """Return log(1 - exp(occurs)), (B,), from the concepts' own chances where occurs is near 0."""
    near = occurs > -math.log(2)
    far = torch.log1p(-occurs.masked_fill(near, -1).exp())
    return torch.where(near, log_any(-evidence), far)
