"""The baselines: the loss on proportions (DLLP), and the normal approximation of the count."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import check_tensor, logsumexp, per_bag

from ._inputs import checked, checked_classes


def proportion_loss(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (6.1): the loss of DLLP, cross-entropy of the bag's proportion against its mean rho.

    It takes the logarithm of the mean, not the mean of the logarithms, which is a different loss.

    Args and errors: as `log_likelihood`, and without a bag.
    Returns: scalar, the mean over bags in nats; an empty bag counts as 0.
    Source: Ardehaly & Culotta (2017), as described in section 1.1 of the paper.
    """
    loss = _proportion_losses(logits, counts, mask, multiplicity)
    if len(loss) == 0:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} holds no bag to take the mean over"
        )
    return loss.mean().to(torch.promote_types(logits.dtype, torch.float32))


@per_bag(answer=lambda logits: logits.new_empty(logits.shape[0], dtype=torch.float64))
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
    """Eq. (6.5): log density at y of the normal with the mean and variance of the count.

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


# Several classes ----------------------------------------------------------------------------------


def proportion_loss_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Return the loss of DLLP for C classes, Eq. (6.1) with a sum over the classes.

    Args and errors: as `log_likelihood_multiclass`, and without a bag.
    Returns: scalar, the mean over bags in nats; an empty bag counts as 0.
    Source: Ardehaly & Culotta (2017).
    """
    loss = proportion_losses_multiclass(log_p, counts, mask, multiplicity)
    if len(loss) == 0:
        raise ValueError(f"log_p of shape {tuple(log_p.shape)} holds no bag to take the mean over")
    return loss.mean().to(torch.promote_types(log_p.dtype, torch.float32))


@per_bag(answer=lambda log_p: log_p.new_empty(log_p.shape[0], dtype=torch.float64), classes=2)
def proportion_losses_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Return the loss of each bag (B,), float64, of which `proportion_loss_multiclass` is the mean.

    Args and errors: as there.
    """
    z, m = checked_classes(log_p, counts, mask, multiplicity)
    return _cross_entropy(z, m, counts / m.sum(1, keepdim=True).clamp_min(1).double())


@per_bag(answer=lambda log_p: log_p.new_empty(log_p.shape[0], dtype=torch.float64), classes=2)
def share_losses(log_p: Tensor, shares: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return `proportion_losses_multiclass` for shares that need not be those of whole counts.

    Args:
        log_p, mask: as there; shares: float64 (B, C), none negative, which sum to 1.
    Raises: ValueError where these do not fit.
    """
    z, m = checked_classes(log_p, None, mask, None)
    check_tensor("shares", shares, (len(z), z.shape[2]), dtypes=(torch.float64,))
    if not bool(((shares >= 0).all(1) & ((shares.sum(1) - 1).abs() < 1e-9)).all()):
        raise ValueError(
            "shares must not be negative and must sum to 1 in each bag; divide by sums"
        )
    return _cross_entropy(z, m, shares)


def _cross_entropy(z: Tensor, m: Tensor, share: Tensor) -> Tensor:
    """Return the cross-entropy (B,) of the shares (B, C) against the mean probabilities."""
    if not z.shape[1]:
        return z.sum((1, 2))
    size = m.sum(1, keepdim=True).clamp_min(1).double()
    log_mean = logsumexp(z + m.double().log()[:, :, None], 1) - size.log()
    log_mean = log_mean.masked_fill(share == 0, 0)  # 0 log 0 is 0
    return -(share * log_mean).sum(1)


@per_bag(classes=2)
def normal_approximation_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Return the log density at the counts of the normal with their mean and covariance.

    The density is that of all counts but one; which one is left out makes no difference. A vector
    of whole numbers has a cell of volume 1, so the density stands for its probability without a
    correction for continuity; like every density it may exceed 1. Directions in which the counts
    cannot vary, such as those of a class that no instance can have, are no part of the density: the
    counts meet the mean there, or the value is -inf. (Eq. (6.5), for two classes, is +inf where no
    label is unsure and the count is met; here it is 0, the log of 1.)

    The covariance is the Laplacian of a graph of the classes with the weights sum_i p_ia p_ib.
    Eliminating one class after the other keeps all weights positive, so that nothing cancels; they
    are kept as logarithms.

    Args and errors: as `log_likelihood_multiclass`.
    Returns: (B,); -inf, with gradient 0, also where the value overflows the dtype of `log_p`.
    Source: chapter 6; the elimination is that of Grassmann, Taksar and Heyman (1985).
    """
    z, m = checked_classes(log_p, counts, mask, multiplicity)
    gap = counts - (z.exp() * m[:, :, None]).sum(1)
    most = math.log(torch.finfo(log_p.dtype).max) - 1
    log_det, square, dims, met = _eliminated(*_rare_first(_log_weights(z, m), gap), most)
    value = -(square + log_det + dims * math.log(2 * math.pi)) / 2
    return value.masked_fill(~met, -torch.inf).to(log_p.dtype)


def _log_weights(z: Tensor, m: Tensor) -> Tensor:
    """Return log sum_i m_i p_ia p_ib, (B, C, C), -inf on the diagonal."""
    pairs = [logsumexp(z + z[:, :, c, None] + m.double().log()[:, :, None], 1) if z.shape[1] else
             z.new_full((len(z), z.shape[2]), -torch.inf) for c in range(z.shape[2])]  # fmt: skip
    both = torch.stack(pairs, 1) if pairs else z.new_zeros(len(z), 0, 0)
    return both.masked_fill(torch.eye(z.shape[2], dtype=torch.bool, device=z.device), -torch.inf)


def _rare_first(log_s: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights and gaps by rising variance: a tiny one is not a difference of larger ones."""
    order = torch.logsumexp(log_s.detach(), 2).argsort(1)
    log_s = log_s.gather(1, order[:, :, None].expand_as(log_s))
    return log_s.gather(2, order[:, None].expand_as(log_s)), gap.gather(1, order)


def _eliminated(log_s: Tensor, gap: Tensor, most: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return log-determinant, squared distance, rank and whether the gap can be met, each (B,).

    They are those of the covariance D - S with weights S (B, C, C), D the sums of its rows, and of
    gap (B, C); a distance beyond exp(most) is not met. A class without weights to the remaining
    ones is the last of its group: the gaps of a group sum to a whole number, and to 0 if the counts
    are possible.
    """
    log_det = square = gap.new_zeros(len(gap))
    dims, met = log_det.clone(), torch.ones_like(log_det, dtype=torch.bool)
    for _ in range(log_s.shape[1]):
        row = log_s[:, 0, 1:]
        log_d = logsumexp(F.pad(row, (0, 1), value=-torch.inf), 1)
        last, here = log_d == -torch.inf, gap[:, 0]
        met = met & ~(last & (here.detach().abs() > 0.5))
        safe = log_d.masked_fill(last, 0)
        log_det, dims = log_det + safe, dims + ~last
        log_gap = here.abs().masked_fill(here == 0, 1).log() * 2 - safe
        none = last | (here == 0)
        met = met & (none | (log_gap < most))
        none = none | (log_gap >= most)
        square = square + log_gap.masked_fill(none, 0).exp().masked_fill(none, 0)
        log_share = row - safe[:, None]  # of the weight that goes to each remaining class
        gap = gap[:, 1:] + log_share.exp() * here[:, None]
        log_s = logsumexp(torch.stack([log_s[:, 1:, 1:], log_share[:, :, None] + row[:, None]]), 0)
        itself = torch.eye(row.shape[1], dtype=torch.bool, device=row.device)
        log_s = log_s.masked_fill(itself, -torch.inf)
    return log_det, square, dims, met
