"""The likelihood of a label set as the chapters derive it: plain, short, and slow.

`fast` computes the same numbers quickly, also where the printed forms cancel.
"""

from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from wsl_tutorial._shapes import BOOL, check_tensor, cut, log, logsumexp, per_bag

from ._inputs import bags_of, flat_mask, flatten, log_shares, restrict


@per_bag
def log_alpha(log_p: Tensor, members: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (1.1): log alpha, the log-probability that only the classes in `members` are emitted.

    Args:
        log_p: (B, C+1, *positions), or (B, C, *positions) without a background, C at least 2.
        members: bool (B, C+1), the background phi included as the last entry, if there is one.
        mask: as `log_likelihood`.
    Returns:
        (B,) log alpha in nats; 0 for a bag without positions, else -inf for an empty set of
        members.
    Raises:
        ValueError: shapes or dtypes disagree, or `log_p` does not normalise.
    Source: Li (2018), paper (4).
    """
    flat = flatten(log_p, mask)
    check_tensor("members", members, (flat.shape[0], flat.shape[1]), flat, BOOL)
    log_q = logsumexp(flat.masked_fill(~members[:, :, None], -torch.inf), 1)  # (B, N)
    real = flat_mask(log_p, mask)
    return cut((log_q if real is None else log_q.masked_fill(~real, 0)).sum(-1))


@per_bag
def alternating_series(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (1.2): Proposition 1, the series of alphas with alternating signs, as printed.

    Summed relative to the leading alpha, in the dtype of `log_p`. It cancels when a label is very
    improbable at every position, or when few positions must show many labels, and can even turn
    negative; the result is then NaN. In float64 it is a reference for all other bags.

    Args and errors: as `log_likelihood`.  Returns: (B,) in nats.
    Source: Li (2018), Proposition 1, paper (6).
    """
    leading, partial, _ = partial_sums(*_own_dtype(log_p, labels, mask, background))
    return cut((leading + log(partial[-1])).masked_fill(leading == -torch.inf, -torch.inf))


@per_bag
def beta_recursion(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (1.3): the likelihood by subtracting every set that misses a label, as printed.

    beta of a set of classes (phi may be one) is the probability that exactly these are emitted:
    alpha less the betas of all smaller sets, about 3**(L+1) subtractions. Computed relative to the
    leading alpha and in the dtype of `log_p`, like the series, and as prone to cancellation.

    Args and errors: as `log_likelihood`.  Returns: (B,) in nats.
    Source: Li (2018), paper (9)-(11).
    """
    flat, index, real = _own_dtype(log_p, labels, mask, background)
    log_w = restrict(flat, index, real)
    leading = logsumexp(log_w, 1).sum(-1)
    finite = leading.masked_fill(leading == -torch.inf, 0)
    phi = log_w.shape[1] - 1
    beta: dict[tuple[int, ...], Tensor] = {}
    value = torch.ones_like(leading)  # the leading alpha, relative to itself
    for chosen in _subsets(range(phi + 1)):
        log_a = logsumexp(log_w[:, list(chosen)], 1).sum(-1)
        smaller = (beta[s] for s in _subsets(chosen) if s != chosen)
        beta[chosen] = (log_a - finite).exp() - sum(smaller, start=torch.zeros_like(leading))
        held = torch.zeros_like(real[:1])  # (1, K)
        held[:, [slot for slot in chosen if slot < phi]] = True
        misses = (real & ~held).any(1) & ~(held & ~real).any(1)  # a label, and holds no padding
        value = value - beta[chosen] * misses
    return cut((leading + log(value)).masked_fill(leading == -torch.inf, -torch.inf))


@per_bag
def recursion(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (2.1): the forward recursion over covered label sets, in log space.

    One position after the other, f(S) <- f(S) (p_phi + sum of p_l, l in S) + sum of p_l f(S - l).
    Every term is non-negative, so nothing cancels. In float32 the logarithms still lose digits as
    they add up: with 784 positions some 4e-4 nats, with 10,000 some 0.03. `log_likelihood` is
    quicker. This form works in the dtype of `log_p`.

    Args, returns and errors: as `log_likelihood`.
    Source: chapter 2; without phi, Pham, Raich & Fern (2017), arXiv 1411.4068.
    """
    flat, index, real = _own_dtype(log_p, labels, mask, background)
    return log_recursion(restrict(flat, index, real), real)


def _own_dtype(
    log_p: Tensor, labels: Tensor, mask: Tensor | None, background: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return `bags_of` in the dtype of log_p."""
    flat, index, real = bags_of(log_p, labels, mask, background)
    return flat.to(log_p.dtype), index, real


def partial_sums(
    flat: Tensor, index: Tensor, real: Tensor, order: int | None = None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the log of the leading alpha (B,), the partial sums of the series, and their errors.

    There is one sum (B,) for up to 0, 1, .. missing labels, relative to the leading alpha. Its
    error is what rounding can have moved: a term is a product of n sums of up to K+1 shares, and
    the terms are then added.
    """
    log_w = restrict(flat, index, real)
    total, log_share = log_shares(log_w)
    share = log_share.exp()  # (B, K+1, N)
    running, size, terms = torch.zeros_like(total[:, 0]), torch.zeros_like(total[:, 0]), 0
    sums, rounding, eps = [], [], torch.finfo(share.dtype).eps
    slots = range(real.shape[1])
    for missing in range(len(slots) + 1 if order is None else min(order, len(slots)) + 1):
        for left_out in combinations(slots, missing):
            kept = [column for column in range(len(slots) + 1) if column not in left_out]
            alpha = log(share[:, kept].sum(1)).sum(-1).exp()  # over the leading one
            alpha = alpha * real[:, list(left_out)].all(1)
            running, size = running + (-1) ** missing * alpha, size + alpha
            terms += 1
        sums.append(running)
        rounding.append((3 * share.shape[1:].numel() + terms) * eps * size)
    return total.sum(-1), sums, rounding


def _subsets(items) -> Iterator[tuple[int, ...]]:
    """Return the non-empty subsets, small ones first."""
    items = tuple(items)
    return (s for size in range(1, len(items) + 1) for s in combinations(items, size))


def log_recursion(log_w: Tensor, real: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return Eq. (2.1) for log-probabilities (B, K+1, N) of the bags' own labels.

    With `weights` (B, K, 2) it is the sum over all covered sets, see `log_weights`.
    """
    labels = log_w.shape[1] - 1
    state = log_w.new_full((len(log_w), 2**labels), -torch.inf)
    state[:, 0] = 0  # before the first position nothing is covered
    for p in log_w.unbind(2):  # (B, K+1)
        again = p[:, -1:]
        for l in range(labels):
            again = torch.cat([again, logaddexp(again, p[:, l, None])], 1)  # (B, 2**(l+1))
        new = state + again
        for l in range(labels):
            entered = state.unflatten(1, (-1, 2, 2**l))[:, :, 0] + p[:, l, None, None]
            without, with_l = new.unflatten(1, (-1, 2, 2**l)).unbind(2)
            new = torch.stack([without, logaddexp(with_l, entered)], 2).flatten(1)
        state = new
    if weights is not None:
        return logsumexp(state + log_weights(weights), 1)
    return cut(state.gather(1, 2 ** real.sum(1, keepdim=True) - 1)[:, 0])


def log_weights(weights: Tensor) -> Tensor:
    """Return the log-weight of every label set, (B, 2**K): the sum over the labels.

    A label has weights[.., 0] where the set does not have it, and weights[.., 1] where it does.
    """
    total = weights.new_zeros(len(weights), 1)
    for pair in log(weights).unbind(1):  # (B, 2)
        total = torch.cat([total + pair[:, :1], total + pair[:, 1:]], 1)
    return total


def logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """Return log(exp a + exp b); no derivative of it is NaN."""
    return logsumexp(torch.stack(torch.broadcast_tensors(a, b)), 0)
