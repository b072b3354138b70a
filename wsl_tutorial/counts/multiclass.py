"""The counts of C classes: their likelihood and the posteriors of the labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import (
    SOFTMAX,
    check_layout,
    check_normalised,
    cut,
    logsumexp,
    per_bag,
)

from . import window
from ._inputs import check_counts, checked_multiplicity, repeated

MAX_STATES = 2**20  # of one bag in the recursion: the product of (count + 1)
HOPELESS = 2.0**42  # estimated frequencies from which `window` is not tried
FEW_STATES = 64  # up to here the recursion is quicker in any case
STEEPEST = 1e4  # -log p up to which sums of differences keep the digits that the window needs


@per_bag
def log_likelihood_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.4): log P(counts | X) with C classes, by a recursion over vectors of counts.

    A bag has product of (count + 1) states, each visited once, in log space. Where fewer
    frequencies than states are needed, `window` computes the same numbers from these: 3,000
    instances in three classes are no problem.

    Args:
        log_p: (B, n, C), log-probabilities of each instance's class; -inf is allowed.
        counts: integer (B, C); a row sums to the number of instances of the bag.
        mask: bool (B, n), true for real instances; None where there is no padding.
        multiplicity: integer (B, n), the number of identical instances that a row stands for; None:
            one each. Thousands cost no more than one.
    Returns:
        (B,) in nats; -inf, with gradient 0, where the counts are impossible.
    Raises:
        ValueError: shapes, dtypes or devices disagree, `log_p` does not normalise, counts do not
            sum to the bag, or a bag has more than 2**20 states and needs more than 2**22
            frequencies.
    Source: chapter 5; Sun, Sheldon & O'Connor (2017) for the messages; `window` for large bags.
    """
    flat, counts, m = _checked(log_p, counts, mask, multiplicity)
    return _multiclass(flat, counts, m).to(log_p.dtype)


@per_bag
def posterior_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.5): P(instance i has class c | counts), the multiclass E-step.

    Args and errors: as `log_likelihood_multiclass`.
    Returns:
        (B, n, C) in the dtype of `log_p`; sums to 1 over the classes and to `counts` over the
        instances; 0 for padding, and throughout where the counts are impossible. Differentiable.
        With `multiplicity`, the expected number of each class among the instances of a row, which
        sums to the multiplicity over the classes.
    Source: chapter 5.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat, counts, m = _checked(log_p, counts, mask, multiplicity)
        flat = flat if log_p.requires_grad else flat.requires_grad_()
        value = _multiclass(flat, counts, m)
        graph = graph and log_p.requires_grad
        (r,) = torch.autograd.grad(value.sum(), flat, create_graph=graph)
    return r.to(log_p.dtype)


def _checked(
    log_p: Tensor, counts: Tensor, mask: Tensor | None, multiplicity: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return checked input: log_p in float64, 0 where padded; counts and multiplicity, int64."""
    check_layout("log_p", log_p, "(B, n, C)", (3,), SOFTMAX.format(dim=2), empty=True)
    m = checked_multiplicity(multiplicity, mask, log_p)
    check_counts("counts", counts, (log_p.shape[0], log_p.shape[2]), log_p)
    counts = counts.long()
    check_normalised(log_p, m > 0)
    with torch.no_grad():
        wrong = (counts < 0).any(1) | (counts.sum(1) != m.sum(1))
        if bool(wrong.any()):
            bag = int(wrong.nonzero()[0])
            raise ValueError(
                "counts must not be negative and must sum to the size of each bag, got "
                f"{counts[bag].tolist()} for bag {bag} of {int(m[bag].sum())} instances; "
                "pass mask if bags are padded"
            )
    return log_p.double().masked_fill((m == 0)[:, :, None], 0), counts, m


def _multiclass(log_p: Tensor, counts: Tensor, m: Tensor) -> Tensor:
    """Return Eq. (5.4) on checked input, (B,), each bag in the way that visits fewer numbers."""
    log_p, counts, m = _own_classes(log_p, counts, m)
    states = (counts + 1).double().prod(1)
    points = window.most_points(counts)
    steep = ((log_p < -STEEPEST) & (log_p > -torch.inf)).flatten(1).any(1)
    large = (states > FEW_STATES) & (points < states) & (points <= window.MAX_GRID) & ~steep
    large |= states > MAX_STATES
    if bool((large & (points > HOPELESS)).any()):
        raise _too_many(states, points)
    value = log_p[:, :0].sum((1, 2))  # zeros, and part of the graph even without bags
    if bool(large.any()):
        try:
            far = window.log_likelihood(log_p[large], counts[large], m[large])
        except window.TooMany:
            raise _too_many(states, points) from None
        value = value.index_put((large,), far)
    if bool((~large).any()):
        alone, real = repeated(log_p[~large], m[~large])
        value = value.index_put((~large,), _recursion(alone, counts[~large], real))
    return value


def _too_many(states: Tensor, points: Tensor) -> ValueError:
    bag = (points * (states > MAX_STATES)).argmax()
    many, most = states[bag].item(), points[bag].item()
    return ValueError(
        f"counts gives a bag {many:.3g} states, the product of (count + 1), and up to {most:.3g} "
        f"frequencies; {MAX_STATES} or {window.MAX_GRID} are allowed: use fewer classes (add their "
        "probabilities and their counts), or smaller bags with counts of their own"
    )


def _recursion(log_p: Tensor, needed: Tensor, real: Tensor) -> Tensor:
    """Return Eq. (5.4) of bags (B, n, K) with real instances first, (B,), level by level.

    Level i has the states that i instances can reach: the vectors of counts with sum i. `needed`
    are the counts (B, K).
    """
    stride = F.pad((needed + 1).cumprod(1), (1, 0), value=1)  # mixed radix: state = counts . stride
    full, stride = stride[:, -1], stride[:, :-1]
    n, most = log_p.shape[1], int(full.max()) if len(full) else 1
    state = torch.arange(most, device=log_p.device).expand(len(full), -1)  # (B, S)
    digit = state[:, :, None] // stride[:, None] % (needed + 1)[:, None]  # (B, S, K)
    level = digit.sum(2).masked_fill(state >= full[:, None], n + 1)
    level, by_level = level.sort(dim=1, stable=True)
    begin = torch.searchsorted(
        level, torch.arange(n + 2, device=level.device).repeat(len(level), 1)
    )
    place = torch.empty_like(state).scatter(1, by_level, state - begin.gather(1, level))
    f = log_p[:, :0].sum((1, 2))[:, None]  # zeros: the one state of level 0
    value = f[:, 0]
    size = real.sum(1)
    for i in range(1, int(size.max()) + 1 if len(size) else 1):
        width = int((begin[:, i + 1] - begin[:, i]).max())
        here = begin[:, i, None] + state[:, :width]
        inside = here < begin[:, i + 1, None]
        s = by_level.gather(1, here.clamp_max(most - 1))  # (B, W)
        has = digit.gather(1, s[:, :, None].expand(-1, -1, digit.shape[2])) > 0
        has = has & inside[:, :, None]  # (B, W, K): instance i can be of this class
        came = place.gather(1, (s[:, :, None] - stride[:, None]).clamp_min(0).flatten(1))
        came = f.gather(1, came.clamp_max(f.shape[1] - 1)).view(has.shape)
        f = logsumexp((came + log_p[:, i - 1, None]).masked_fill(~has, -torch.inf), 2)
        value = torch.where(size == i, f[:, 0], value)  # a bag's last level is one state
    return cut(value)


def _own_classes(log_p: Tensor, counts: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log_p with real rows first and the classes in the bag only, (B, n, K).

    The other results are the counts of these classes, (B, K), and the multiplicity of the rows.
    """
    first = (m == 0).long().argsort(dim=1, stable=True)
    needed, classes = counts.sort(dim=1, descending=True, stable=True)
    kinds = int((counts > 0).sum(1).max()) if len(counts) else 0
    log_p = log_p.gather(1, first[:, :, None].expand_as(log_p))
    classes = classes[:, None, :kinds].expand(-1, log_p.shape[1], -1)
    return log_p.gather(2, classes), needed[:, :kinds], m.gather(1, first)
