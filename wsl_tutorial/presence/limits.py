"""Lower and upper bounds of the likelihood, for more labels than the exact one takes."""

import math

import torch
from torch import Tensor

from wsl_tutorial._shapes import check_int, log, log_any, per_bag

from ._inputs import MAX_LABELS, bags_of, log_shares, restrict, two_like
from .fast import log_likelihood
from .plain import partial_sums


@per_bag(answer=two_like)
def bounds(
    log_p: Tensor,
    labels: Tensor,
    order: int,
    mask: Tensor | None = None,
    *,
    background: bool = True,
) -> tuple[Tensor, Tensor]:
    """Eq. (2.4): bounds on log Prb from the series truncated at `order` missing labels.

    Partial sums of the alternating series over- and under-estimate in turn (Bonferroni). The best
    of each kind up to `order` is returned, moved outwards by the largest possible rounding error,
    so that bounds in float32 hold too. From order L on both are `log_likelihood`.

    Args:
        log_p, mask, background: as `log_likelihood`, and so is labels, bool or integer (B, C), but
            for any number present a row. The cost is that of the subsets that miss at most
            `order` of a bag's labels, 466 for 30 labels and order 2.
        order: at least 0; 0 gives (-inf, log alpha).
    Returns:
        (lower, upper), each (B,) in nats; lower is -inf where no partial sum is surely positive.
    Raises:
        ValueError: as `log_likelihood`, but for its limit on labels; a negative order, or one that
            takes more than 2**16 subsets.
    Source: chapter 2. Li (2018), section 3.2, says that a truncated paper (6) bounds nothing. That
        is true of a series that begins with phi alone, or that is cut between two sets of one size,
        but not of one that begins with the full set and is cut after all sets of a size.
    """
    check_int("order", order)
    flat, index, real = bags_of(log_p, labels, mask, background, limit=None)
    most = real.shape[1]
    terms = sum(math.comb(most, missing) for missing in range(min(order, most) + 1))
    if terms > 2**MAX_LABELS:
        raise ValueError(
            f"labels holds a bag of {most} labels, of which order {order} takes {terms} subsets, "
            f"expected at most {2**MAX_LABELS}; lower the order or use bracket"
        )
    leading, partial, rounding = partial_sums(flat.double(), index, real, order)
    lower, upper = torch.zeros_like(leading), torch.full_like(leading, torch.inf)
    for missing, (value, off) in enumerate(zip(partial, rounding, strict=True)):
        if missing % 2:
            lower = torch.maximum(lower, value - off)
        else:
            upper = torch.minimum(upper, value + off)
    sides = _outward(leading + log(lower), leading + log(upper), log_p, flat.shape[2])
    complete = (real.sum(1) <= order).nonzero()[:, 0]
    padding = None if mask is None else mask[complete]
    exact = log_likelihood(log_p[complete], labels[complete], padding, background=background)
    lower, upper = (side.index_copy(0, complete, exact) for side in sides)
    return lower, upper


@per_bag(answer=two_like)
def bracket(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> tuple[Tensor, Tensor]:
    """Eq. (2.5): the cheap bracket of log Prb, O(labels x positions), for any number of labels.

    Let miss_l be the probability that label l is emitted nowhere. The union bound gives the lower
    side; negative association of the labels' occurrences gives the upper one. Both are moved
    outwards by the largest possible rounding error. A label's 1 - miss_l is kept as a logarithm, so
    that it may be as small as the probabilities in `log_p`.

    Args and errors: as `log_likelihood`, without its limit on labels.
    Returns: (lower, upper), each (B,) in nats; equal up to rounding for at most one label.
    Source: chapter 2; Joag-Dev & Proschan (1983) for negative association.
    """
    flat, index, real = bags_of(log_p, labels, mask, background, limit=None)
    log_w = restrict(flat.double(), index, real)
    total, log_share = log_shares(log_w)
    log_present = log_any(log_share[:, :-1]).masked_fill(~real, 0)  # (B, K), log(1 - miss_l)
    several = real.sum(1) > 1
    rounding = 4 * torch.finfo(log_w.dtype).eps * log_w.shape[1:].numel()
    missing = ((1 - log_present.exp()) * real).sum(1)  # (B,)
    lower = log((1 - missing - rounding).clamp_min(0))
    upper = log_present.sum(1)
    lower = torch.where(several, lower, upper)
    leading = total.sum(-1)
    return _outward(leading + lower, leading + upper + rounding * several, log_p, flat.shape[2])


def _outward(lower: Tensor, upper: Tensor, like: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Return both sides (B,) in the dtype of `like`, apart by the rounding of sums over n."""
    sums, cast = 4 * n * torch.finfo(lower.dtype).eps, torch.finfo(like.dtype).eps
    sizes = (side.abs().nan_to_num(posinf=0) for side in (lower, upper))
    below, above = (sums + (sums + cast) * size for size in sizes)
    return (lower - below).to(like.dtype), (upper + above).to(like.dtype)
