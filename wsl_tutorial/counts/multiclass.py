"""The counts of C classes: their likelihood and the posteriors of the labels."""

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import cut, logsumexp, per_bag

from . import saddlepoint, window
from ._inputs import checked_classes, repeated

MAX_STATES = 2**20  # of one bag in the recursion: the product of (count + 1)
HOPELESS = 2.0**42  # estimated frequencies from which `window` is not tried
FEW_STATES = 64  # up to here the recursion is quicker in any case
STEEPEST = 1e4  # -log p up to which sums of differences keep the digits that the window needs


@per_bag(classes=2)
def log_likelihood_multiclass(
    log_p: Tensor,
    counts: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
    approximate: bool = False,
) -> Tensor:
    """Eq. (5.5): log P(counts | X) with C classes, by a recursion over vectors of counts.

    A bag has product of (count + 1) states, each visited once, in log space. Where fewer
    frequencies than states are needed, `window` computes the same numbers from these: 3,000
    instances in three classes are no problem.

    Args:
        log_p: (B, n, C), log-probabilities of each instance's class; -inf is allowed.
        counts: integer (B, C); a row sums to the number of instances of the bag.
        mask: bool (B, n), true for real instances; None where there is no padding.
        multiplicity: integer (B, n), the number of identical instances that a row stands for; None:
            one each. Thousands cost no more than one; at most 2**32 in a bag.
        approximate: bool, what to do with bags of more than 2**20 states for which more than 2**22
            frequencies are expected, such as bags of 100 in ten classes: False refuses those that
            are indeed beyond memory; True takes `saddlepoint`, whose errors chapter 5 states.
            Other bags are exact in both cases.
    Returns:
        (B,) in nats; -inf, with gradient 0, where the counts are impossible.
    Raises:
        ValueError: shapes, dtypes or devices disagree, `log_p` does not normalise, counts do not
            sum to the bag, or a bag has more than 2**20 states and needs more than 2**22
            frequencies.
    Source: chapter 5; Sun, Sheldon & O'Connor (2017) for the messages; `window` for large bags.

    Example:
        >>> import torch
        >>> from wsl_tutorial import counts
        >>> log_p = torch.full((1, 3, 3), 1 / 3).log()  # three instances, three classes
        >>> counts.log_likelihood_multiclass(log_p, torch.tensor([[1, 1, 1]])).exp()  # 6/27
        tensor([0.2222])
    """
    flat, m = checked_classes(log_p, counts, mask, multiplicity)
    return likelihood_of(flat, counts.long(), m, approximate).to(log_p.dtype)


@per_bag(answer=torch.empty_like, classes=2)
def posterior_multiclass(
    log_p: Tensor,
    counts: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
    approximate: bool = False,
) -> Tensor:
    """Eq. (5.6): P(instance i has class c | counts), the multiclass E-step.

    Args and errors: as `log_likelihood_multiclass`.
    Returns:
        (B, n, C) in the dtype of `log_p`; sums to 1 over the classes and to `counts` over the
        instances; 0 for padding, and throughout where the counts are impossible. Differentiable.
        With `multiplicity`, the expected number of each class among the instances of a row, which
        sums to the multiplicity over the classes. Of an approximation, its gradient: the sums are
        kept, and entries may leave [0, 1] by its error.
    Source: chapter 5.

    Example:
        >>> import torch
        >>> from wsl_tutorial import counts
        >>> log_p = torch.tensor([[[0.9, 0.1], [0.5, 0.5]]]).log()  # two instances, two classes
        >>> counts.posterior_multiclass(log_p, torch.tensor([[1, 1]]))
        tensor([[[0.9000, 0.1000],
                 [0.1000, 0.9000]]])
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat, m = checked_classes(log_p, counts, mask, multiplicity)
        flat = flat if log_p.requires_grad else flat.requires_grad_()
        value = likelihood_of(flat, counts.long(), m, approximate)
        graph = graph and log_p.requires_grad
        (r,) = torch.autograd.grad(value.sum(), flat, create_graph=graph)
    return r.to(log_p.dtype) + (log_p[:, :0].sum() if graph else 0)  # in the graph even if n = 0


def likelihood_of(log_p: Tensor, counts: Tensor, m: Tensor, approximate: bool = False) -> Tensor:
    """Return Eq. (5.5) on checked input, (B,), each bag in the way that visits fewer numbers."""
    log_p, counts, m = _own_classes(log_p, counts, m)
    states = (counts + 1).double().prod(1)
    points = window.most_points(counts)
    steep = ((log_p < -STEEPEST) & (log_p > -torch.inf)).flatten(1).any(1)
    large = (states > FEW_STATES) & (points < states) & (points <= window.MAX_GRID) & ~steep
    large |= states > MAX_STATES
    beyond = (states > MAX_STATES) & (points > (window.MAX_GRID if approximate else HOPELESS))
    if bool(beyond.any()) and not approximate:
        raise _too_many(states, points)
    large = large & ~beyond
    few = ~large & ~beyond
    value = log_p[:, :0].sum((1, 2))  # zeros, and part of the graph even without bags
    if bool(large.any()):
        try:
            far = window.log_likelihood(log_p[large], counts[large], m[large])
        except window.TooMany:
            raise _too_many(states, points) from None
        sure = ~far.isnan()
        few = few.masked_scatter(large, ~sure)
        if bool((few & (states > MAX_STATES)).any()):
            raise ValueError(
                f"log_p of shape {tuple(log_p.shape)} makes the labels of a large bag so sure that "
                "rounding leaves no likelihood; lower its scale, or give smaller bags"
            )
        value = value.index_put((large & ~few,), far[sure])
    if bool(few.any()):
        alone, real = repeated(log_p[few], m[few])
        value = value.index_put((few,), _recursion(alone, counts[few], real))
    if bool(beyond.any()):
        nearly = saddlepoint.log_likelihood(log_p[beyond], counts[beyond], m[beyond])
        value = value.index_put((beyond,), nearly)
    return value


def _too_many(states: Tensor, points: Tensor) -> ValueError:
    bag = (points * (states > MAX_STATES)).argmax()
    many, most = states[bag].item(), points[bag].item()
    return ValueError(
        f"counts gives a bag {many:.3g} states, the product of (count + 1), and up to {most:.3g} "
        f"frequencies; {MAX_STATES} or {window.MAX_GRID} are allowed: pass approximate=True, use "
        "fewer classes (add their probabilities and their counts), or smaller bags"
    )


def _recursion(log_p: Tensor, needed: Tensor, real: Tensor) -> Tensor:
    """Return Eq. (5.5) of bags (B, n, K) with real instances first, (B,), level by level.

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
