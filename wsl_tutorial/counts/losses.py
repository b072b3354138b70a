"""The baselines: the loss on proportions (DLLP), and the normal approximation of the count."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import logsumexp, per_bag

from ._inputs import checked


def proportion_loss(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (6.1): the loss of DLLP, cross-entropy of the bag's proportion against its mean rho.

    It takes the logarithm of the mean, not the mean of the logarithms, which is a different loss.

    Args and errors: as `log_likelihood`.
    Returns: scalar, the mean over bags in nats; an empty bag counts as 0.
    Source: Ardehaly & Culotta (2017), as described in section 1.1 of the paper.
    """
    loss = _proportion_losses(logits, counts, mask, multiplicity)
    if len(loss) == 0:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} holds no bag to take the mean over"
        )
    return loss.mean().to(logits.dtype)


@per_bag
def _proportion_losses(
    logits: Tensor, counts: Tensor, mask: Tensor | None, multiplicity: Tensor | None
) -> Tensor:
    """Return the loss of each bag (B,), float64."""
    z, m = checked(logits, counts, mask, multiplicity=multiplicity)
    if not z.shape[1]:
        z, m = F.pad(z, (0, 1)), F.pad(m, (0, 1))
    size, log_m = m.sum(1).clamp_min(1).double(), m.double().log()
    share = counts / size
    loss = z.new_zeros(len(z))
    for side, weight in ((z, share), (-z, 1 - share)):
        log_mean = logsumexp(F.logsigmoid(side) + log_m, 1) - size.log()
        counted = (weight > 0) & (m > 0).any(1)  # 0 log 0 is 0
        loss = loss - weight * log_mean.masked_fill(~counted, 0)
    return loss


@per_bag
def normal_approximation(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (6.2): log density at y of the normal with the mean and variance of the count.

    The log of a density may exceed 0. As all rho approach 0 or 1 it grows without bound if these
    labels sum to y, and falls without bound otherwise. The approximation is good where the variance
    is large, which a large bag alone does not ensure. The variance is computed as a logarithm, so
    it vanishes only where all labels are known or the bag is empty.

    Args and errors: as `log_likelihood`.
    Returns:
        (B,); the limit where the variance vanishes: +inf, with gradient 0, where y is the mean,
        else -inf. Also -inf, with gradient 0, where the value overflows the dtype of `logits`.
    Source: chapter 6; the baseline for counts of large variance.
    """
    z, m = checked(logits, counts, mask, multiplicity=multiplicity)
    unsure = (m > 0) & z.isfinite()
    vanishes = ~unsure.any(1)
    log_parts = F.logsigmoid(z) + F.logsigmoid(-z) + m.clamp_min(1).double().log()
    log_parts = log_parts.masked_fill(~unsure, -torch.inf)
    log_variance = log_parts.masked_fill(vanishes[:, None], 0).logsumexp(1)
    gap = counts - (z.sigmoid() * m).sum(1)
    far = 2 * gap.abs().log() - log_variance > math.log(torch.finfo(logits.dtype).max)
    scale = (-log_variance.masked_fill(far | (gap == 0), 0) / 2).exp()  # 0 inf would be NaN
    value = -((gap * scale).square() + log_variance + math.log(2 * math.pi)) / 2
    value = value.masked_fill(vanishes, torch.inf)
    return value.masked_fill(far | vanishes & (gap != 0), -torch.inf).to(logits.dtype)
