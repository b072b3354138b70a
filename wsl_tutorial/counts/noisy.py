"""Counts that are noisy, or known to a range: likelihoods from the whole distribution."""

import math
from functools import partial

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    check_floats,
    check_layout,
    check_normalised,
    logsumexp,
    per_bag,
    widened,
)

from ._inputs import (
    check_counts,
    check_sums,
    checked,
    checked_classes,
    repeated,
)
from .binary import log_distribution_of
from .multiclass import MAX_STATES, likelihood_of


@widened
def log_likelihood_noisy(
    logits: Tensor,
    log_noise: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Eq. (6.2): log-likelihood of an observation of the count with noise: the sum over the counts.

    Args:
        logits: (B, n).
        log_noise: (B, n+1) or (n+1,), log-probability of the observation given each true count j;
            with `multiplicity`, n is the size of the largest bag.
        mask, multiplicity: as `log_likelihood`.
    Returns: (B,) in nats; -inf, with gradient 0, where the observation is impossible.
    Raises: ValueError, as `log_likelihood`, or for another shape of log_noise.
    Source: chapter 6.
    """
    check_layout("logits", logits, "(B, n)", (2,), empty=True)
    check_floats("log_noise", log_noise)
    one = log_noise.expand(len(logits), -1) if log_noise.dim() == 1 else log_noise
    if multiplicity is None:
        _check_noise(one, log_noise, (logits.shape[0], logits.shape[1] + 1))
    return _log_likelihood_noisy(logits, one, mask, multiplicity)


def _check_noise(of_bags: Tensor, log_noise: Tensor, shape: tuple[int, int]) -> None:
    """Raise ValueError unless there is a number for each bag and true count."""
    if tuple(of_bags.shape) != shape:
        got = tuple(log_noise.shape)
        raise ValueError(f"log_noise must have shape {shape} or {shape[1:]}, got {got}")


@per_bag
def _log_likelihood_noisy(
    logits: Tensor, log_noise: Tensor, mask: Tensor | None, multiplicity: Tensor | None
) -> Tensor:
    z, m = checked(logits, None, mask, multiplicity=multiplicity)
    log_f = log_distribution_of(z, m, multiplicity is not None)
    _check_noise(log_noise, log_noise, (log_f.shape[0], log_f.shape[1]))
    if not bool((log_noise <= 1e-3).all()):
        raise ValueError(
            f"log_noise of shape {tuple(log_noise.shape)} must hold log-probabilities, got "
            f"{log_noise.max().item()}; take the logarithm of P(observation | j)"
        )
    return _at_most_one(logsumexp(log_f + log_noise.double(), 1)).to(logits.dtype)


@per_bag
def log_likelihood_interval(
    logits: Tensor,
    low: Tensor,
    high: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Eq. (6.3): log P(low <= y <= high | X).

    Args:
        logits: (B, n).
        low, high: integer (B,), both ends included.
        mask, multiplicity: as `log_likelihood`.
    Returns: (B,) in nats.
    Raises: ValueError, as `log_likelihood`, or for an empty interval.
    Source: chapter 6.
    """
    checked(logits, low, mask, "low", multiplicity)
    z, m = checked(logits, high, mask, "high", multiplicity)
    if not bool((low <= high).all()):
        raise ValueError("low must not exceed high")
    log_f = log_distribution_of(z, m, multiplicity is not None)
    j = torch.arange(log_f.shape[1], device=logits.device)
    inside = (j >= low[:, None]) & (j <= high[:, None])
    return _at_most_one(logsumexp(log_f.masked_fill(~inside, -torch.inf), 1)).to(logits.dtype)


def _at_most_one(value: Tensor) -> Tensor:
    """Return log-probabilities without rounding above 0, which is no part of the gradient."""
    return value - value.detach().clamp_min(0)


# Several classes ----------------------------------------------------------------------------------


@partial(widened, classes=2)
def log_likelihood_noisy_multiclass(
    log_p: Tensor,
    counts: Tensor,
    log_confusion: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
    approximate: bool = False,
) -> Tensor:
    """Eq. (6.4): log-likelihood of counts of classes that were misreported before the count.

    Each instance's class c is reported as d with a known probability, independently of the other
    instances, and the reports are counted. Then the reports are independent with probabilities
    sum_c p_c confusion_cd, and Eq. (5.5) holds for them: exact, and no dearer than without noise.
    `log_likelihood_noisy` has any channel from the true count of a bag to the observation, also one
    that loses or invents instances; here the observed counts always sum to the size of the bag. For
    two classes, this model is the channel of a sum of two binomials. The gradient in `log_p` is the
    posterior of the true classes.

    Args:
        log_p: (B, n, C).
        counts: integer (B, D), the number of reports of each class; a row sums to the bag's size.
        log_confusion: (C, D) or (B, C, D), log P(report d | class c), normalised over d.
        mask, multiplicity, approximate: as `log_likelihood_multiclass`.
    Returns: (B,) in nats; -inf, with gradient 0, where the counts are impossible.
    Raises: ValueError, as `log_likelihood_multiclass`, or where log_confusion does not normalise.
    Source: chapter 6.
    """
    check_layout("log_p", log_p, "(B, n, C)", (3,), empty=True)
    check_layout("log_confusion", log_confusion, "(C, D) or (B, C, D)", (2, 3), empty=True)
    two = log_confusion.dim() == 2
    of_bags = log_confusion.expand(len(log_p), -1, -1) if two else log_confusion
    return _noisy_multiclass(log_p, counts, of_bags, mask, multiplicity, approximate)


@per_bag(classes=2)
def _noisy_multiclass(
    log_p: Tensor,
    counts: Tensor,
    log_confusion: Tensor,
    mask: Tensor | None,
    multiplicity: Tensor | None,
    approximate: bool,
) -> Tensor:
    z, m = checked_classes(log_p, None, mask, multiplicity)
    shape = (log_p.shape[0], log_p.shape[2], log_confusion.shape[2])
    if tuple(log_confusion.shape) != shape:
        raise ValueError(
            f"log_confusion must have shape {shape[1:]} or {shape}, one row for each of the "
            f"{shape[1]} classes of log_p, got {tuple(log_confusion.shape[1:])} for "
            f"{len(log_confusion)} bags"
        )
    check_counts("counts", counts, (len(z), log_confusion.shape[2]), log_p)
    check_sums(counts.long(), m)
    check_normalised(log_confusion, name="log_confusion")
    reported = logsumexp(z[..., None] + log_confusion[:, None].double(), 2)
    reported = reported.masked_fill((m == 0)[:, :, None], 0)
    return likelihood_of(reported, counts.long(), m, approximate).to(log_p.dtype)


@per_bag(classes=2)
def log_likelihood_interval_multiclass(
    log_p: Tensor,
    low: Tensor,
    high: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Return log P(low_c <= count of class c <= high_c for all c | X): Eq. (6.3) for C classes.

    Classes whose interval is as wide as the bag count as one. So the interval of one class, the
    others free, costs what it costs in two classes. The gradient in `log_p` is the posterior of the
    classes.

    Args:
        log_p: (B, n, C).
        low, high: integer (B, C), both ends included; 0 and the size of the bag, or more, for a
            free class.
        mask, multiplicity: as `log_likelihood_multiclass`; time grows with the instances.
    Returns: (B,) in nats; -inf, with gradient 0, where no counts are possible.
    Raises:
        ValueError: as `log_likelihood_multiclass`, or for an empty interval, or where the product
            of (high + 1) over all bounded classes but one exceeds 2**20.
    Source: chapter 6.
    """
    z, m = checked_classes(log_p, None, mask, multiplicity)
    low, high = _checked_ends(low, high, m, log_p)
    z, low, high = _bounded_classes(z, low, high, m)
    alone, real = repeated(z, m)
    return _box(alone, low, high, real).to(log_p.dtype)


def _checked_ends(low: Tensor, high: Tensor, m: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return checked ends of the intervals, int64 (B, C); high at most the size of the bag."""
    size = m.sum(1, keepdim=True)
    for name, x in (("low", low), ("high", high)):
        check_counts(name, x, (log_p.shape[0], log_p.shape[2]), log_p)
        if bool((x < 0).any()):
            raise ValueError(f"{name} must not be negative, got {int(x.min())}")
    if not bool((low <= high).all()):
        raise ValueError("low must not exceed high")
    return low.long(), torch.minimum(high.long(), size)


def _bounded_classes(
    z: Tensor, low: Tensor, high: Tensor, m: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return classes with the free ones of each bag as one, which comes last; else the widest is.

    A bag with fewer bounded classes than others gets classes without probability.
    """
    size = m.sum(1, keepdim=True)
    free = (low == 0) & (high == size)
    widest = high == high.amax(1, keepdim=True) if high.shape[1] else free
    widest = widest & (widest.cumsum(1) == 1)
    free = torch.where(free.any(1, keepdim=True), free, widest)
    order = free.long().argsort(dim=1, stable=True)
    kinds = int((~free).sum(1).max()) if len(z) else 0
    bounded = ~free.gather(1, order)[:, :kinds]
    others = logsumexp(z.masked_fill(~free[:, None], -torch.inf), 2)
    low, high = (
        torch.cat([x.gather(1, order)[:, :kinds] * bounded, (x * free).amax(1, keepdim=True)], 1)
        for x in (low, high)
    )
    z = z.gather(2, order[:, None].expand_as(z))[:, :, :kinds]
    z = torch.cat([z.masked_fill(~bounded[:, None], -torch.inf), others[:, :, None]], 2)
    return z, low, high


def _box(z: Tensor, low: Tensor, high: Tensor, real: Tensor) -> Tensor:
    """Return log P(low <= counts <= high), (B,), by adding instances; the last class is implied."""
    kinds, size = z.shape[2] - 1, real.sum(1)
    top = high[:, :-1].amax(0).tolist() if len(z) else [0] * kinds
    states = math.prod(v + 1 for v in top)
    if states > MAX_STATES:
        raise ValueError(
            f"high gives {states:.3g} states, the product of (high + 1) over the bounded classes "
            f"but one; {MAX_STATES} are allowed: leave more classes free, or lower high"
        )
    f = z.new_full((len(z), *[v + 1 for v in top]), -torch.inf)
    f[(slice(None), *[0] * kinds)] = 0
    f = f + z[:, :0].sum()  # 0, and part of the graph even without instances
    ones = [1] * kinds
    for i in range(z.shape[1]):
        terms = [f + z[:, i, -1].view(-1, *ones)]
        for c in range(kinds):
            moved = torch.nn.functional.pad(f, [0, 0] * (kinds - 1 - c) + [1, 0], value=-torch.inf)
            terms.append(moved.narrow(c + 1, 0, top[c] + 1) + z[:, i, c].view(-1, *ones))
        grown = logsumexp(torch.stack(terms), 0)
        f = torch.where(real[:, i].view(-1, *ones), grown, f)
    inside, rest = torch.ones_like(f, dtype=torch.bool), size.view(-1, *ones)
    for c in range(kinds):
        v = torch.arange(top[c] + 1, device=z.device).view(
            [-1 if d == c else 1 for d in range(kinds)]
        )
        inside &= (v >= low[:, c].view(-1, *ones)) & (v <= high[:, c].view(-1, *ones))
        rest = rest - v
    inside &= (rest >= low[:, -1].view(-1, *ones)) & (rest <= high[:, -1].view(-1, *ones))
    value = logsumexp(f.masked_fill(~inside, -torch.inf)[..., None].flatten(1), 1)
    return _at_most_one(value)
