"""Presence: the bag tells *which* classes occur, each position hides a class.

Shapes used throughout: `log_p` is (B, C+1, *positions), log-probabilities over the channel axis at
each position, the last channel being the background phi; `labels` is bool (B, C). Positions may
have any number of axes, none included (one position). The likelihoods compute in float64 whatever
they are given, and answer in the dtype of `log_p`; bags of different label sets share a batch.

Source of all of this: Li (2018), "A multiclass multiple instance learning method with exact
likelihood", arXiv 1811.12346; "paper (6)" below is its equation 6. What the paper does not have
(the forward recursion, the certificate, the posterior, the bounds) is derived in the chapters.
"""

import math
from collections.abc import Iterator
from itertools import combinations

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    SOFTMAX,
    check_floats,
    cut,
    log,
    log_any,
    logsumexp,
    per_bag,
    refuse_transforms,
)

MAX_LABELS = 16  # per bag: time and memory grow as 2**labels; `bracket` has no such limit
_CERTIFICATE = 1e-4  # the series must keep this share of the size of its terms, see Eq. (2.2)
_SMALLEST = 1e-250  # what is below this in the scan may have lost paths to underflow
_SMALLEST_TWICE = 1e-100  # the same where a second derivative, 1 / value**2, must not overflow
_SCANNED = 2**24  # states and positions of the bags that one scan takes


@per_bag
def log_likelihood(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (2.2): log Prb(label set | P), exact up to rounding, however weak the evidence.

    The alternating series, normalised so that its leading term is 1, where a certificate bounds its
    rounding: with n positions and float64's eps, an error of at most about n eps / 1e-4 in log Prb,
    2e-9 for 784. The forward recursion over covered label sets, which only adds, elsewhere. Twice
    differentiable; the gradient with respect to `log_p` is `posterior`, so no entry exceeds 1.

    Args:
        log_p: (B, C+1, *positions), float32 or float64.
        labels: bool (B, C), at most 16 true a row.
    Returns:
        (B,) log-likelihoods in nats; -inf, with gradient 0, where the label set is impossible.
    Raises:
        ValueError: shapes, dtypes or devices disagree, `log_p` does not normalise, too many labels.
    Source: Li (2018), Proposition 1, for what is computed; chapter 2 for how.
    """
    flat, index, real = _bags(log_p, labels)
    return _LogLikelihood.apply(flat, index, real)


@per_bag
def posterior(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (2.3): Prb(position emits class | label set), the exact E-step.

    Args and errors: as `log_likelihood`.
    Returns:
        (B, C+1, *positions) in the dtype of `log_p`; sums to 1 over the classes; all zero for an
        impossible label set, whose posterior is undefined. All entries lie between 0 and 1; where
        the series is used, each has an absolute error of up to some n eps / 1e-4, so that 1e-20 may
        come out as 0. The gradient of `recursion` keeps relative digits. Differentiable.
    Source: chapter 2; the same E-step in Pham, Raich & Fern (2017), arXiv 1411.4068.
    """
    flat, index, real = _bags(log_p, labels)
    _, responsibility = _evaluate(flat, index, real, with_posterior=True)
    return responsibility.reshape(log_p.shape)


@per_bag
def recursion(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (2.1): the forward recursion over covered label sets, in log space.

    One position after the other, f(S) <- f(S) (p_phi + sum of p_l, l in S) + sum of p_l f(S - l).
    Every term is non-negative, so float32 keeps the digits of the logarithms that it adds, not
    those of Prb: with 784 positions some 4e-4 nats may be lost, with 10,000 some 0.03. This is the
    plain form that the text derives; `log_likelihood` is quicker. It works in the dtype of `log_p`.

    Args, returns and errors: as `log_likelihood`.
    Source: chapter 2; for one label set a bag, Pham, Raich & Fern (2017), arXiv 1411.4068.
    """
    flat, index, real = _bags(log_p, labels)
    return _log_recursion(_restrict(flat, index, real), real)


@per_bag
def log_alpha(log_p: Tensor, members: Tensor) -> Tensor:
    """Eq. (1.1): log alpha, the log-probability that only the classes in `members` are emitted.

    Args:
        log_p: (B, C+1, *positions).
        members: bool (B, C+1), the background phi included as the last entry.
    Returns:
        (B,) log alpha in nats; -inf for an empty set of members.
    Raises:
        ValueError: shapes or dtypes disagree, or `log_p` does not normalise.
    Source: Li (2018), paper (4).
    """
    flat = _flatten(log_p)
    _check_mask("members", members, (flat.shape[0], flat.shape[1]), flat)
    return cut(logsumexp(flat.masked_fill(~members[:, :, None], -torch.inf), 1).sum(-1))


@per_bag
def alternating_series(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (1.2): Proposition 1, the series of alphas with alternating signs, as printed.

    Summed relative to the leading alpha in the dtype of `log_p`. It cancels when the evidence for a
    label is weak and can even turn negative (answered as NaN): the teaching form and, in float64
    on well-conditioned bags, an oracle.

    Args and errors: as `log_likelihood`.  Returns: (B,) in nats.
    Source: Li (2018), Proposition 1, paper (6).
    """
    leading, partial, _ = _partial_sums(*_bags(log_p, labels))
    return cut((leading + log(partial[-1])).masked_fill(leading == -torch.inf, -torch.inf))


@per_bag
def beta_recursion(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (1.3): the likelihood by subtracting every set that misses a label, as printed.

    beta of a set of classes (phi may be one) is the probability that exactly these are emitted:
    alpha less the betas of all smaller sets, 3**(L+1) subtractions. Relative to the leading alpha
    and in the dtype of `log_p`, like the series, and as prone to cancellation.

    Args and errors: as `log_likelihood`.  Returns: (B,) in nats.
    Source: Li (2018), paper (9)-(11).
    """
    flat, index, real = _bags(log_p, labels)
    log_w = _restrict(flat, index, real)
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
def bounds(log_p: Tensor, labels: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Eq. (2.4): bounds on log Prb from the series truncated at `order` missing labels.

    Partial sums of the alternating series over- and under-estimate in turn (Bonferroni). The best
    of each kind up to `order` is returned, moved outwards by what rounding may have cost, so that
    float32 bounds hold too. From order L on both are `log_likelihood`.

    Args:
        log_p: as `log_likelihood`; labels: bool (B, C), any number true a row. The cost is that of
            the subsets that miss at most `order` of a bag's labels, 466 for 30 labels and order 2.
        order: at least 0; 0 gives (-inf, log alpha).
    Returns:
        (lower, upper), each (B,) in nats; lower is -inf where no partial sum is surely positive.
    Raises:
        ValueError: as `log_likelihood`, but for its limit on labels; a negative order, or one that
            takes more than 2**16 subsets.
    Source: chapter 2; Li (2018), section 3.2, says that truncating paper (6) bounds nothing, which
        is so for a cut after some of the sets of one size, but not after all of them.
    """
    if order < 0:
        raise ValueError(f"order must be at least 0, got {order}")
    flat, index, real = _bags(log_p, labels, limit=None)
    most = real.shape[1]
    terms = sum(math.comb(most, missing) for missing in range(min(order, most) + 1))
    if terms > 2**MAX_LABELS:
        raise ValueError(
            f"labels holds a bag of {most} labels, of which order {order} takes {terms} subsets, "
            f"expected at most {2**MAX_LABELS}; lower the order or use bracket"
        )
    leading, partial, rounding = _partial_sums(flat.double(), index, real, order)
    lower, upper = torch.zeros_like(leading), torch.full_like(leading, torch.inf)
    for missing, (value, off) in enumerate(zip(partial, rounding, strict=True)):
        if missing % 2:
            lower = torch.maximum(lower, value - off)
        else:
            upper = torch.minimum(upper, value + off)
    sides = _outward(leading + log(lower), leading + log(upper), flat)
    complete = (real.sum(1) <= order).nonzero()[:, 0]
    exact = log_likelihood(log_p[complete], labels[complete])
    return tuple(side.index_copy(0, complete, exact) for side in sides)


@per_bag
def bracket(log_p: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. (2.5): the cheap bracket of log Prb, O(labels x positions), for any number of labels.

    With miss_l the probability that label l is emitted nowhere: the union bound gives the lower
    side, negative association of the labels' occurrences the upper one. Both are moved outwards by
    what rounding may have cost. A label's 1 - miss_l is kept as a logarithm, so it may be as small
    as the probabilities that `log_p` holds.

    Args and errors: as `log_likelihood`, without its limit on labels.
    Returns: (lower, upper), each (B,) in nats; for at most one label equal but for rounding.
    Source: chapter 2; Joag-Dev & Proschan (1983) for negative association.
    """
    flat, index, real = _bags(log_p, labels, limit=None)
    log_w = _restrict(flat.double(), index, real)
    total, log_share = _log_shares(log_w)
    log_present = log_any(log_share[:, :-1]).masked_fill(~real, 0)  # (B, K), log(1 - miss_l)
    several = real.sum(1) > 1
    rounding = 4 * torch.finfo(log_w.dtype).eps * log_w.shape[1:].numel()
    missing = ((1 - log_present.exp()) * real).sum(1)  # (B,)
    lower = log((1 - missing - rounding).clamp_min(0))
    upper = log_present.sum(1)
    lower = torch.where(several, lower, upper)
    leading = total.sum(-1)
    return _outward(leading + lower, leading + upper + rounding * several, flat)


def max_pooling_loss(log_p: Tensor, labels: Tensor) -> Tensor:
    """Eq. (3.1): the traditional multiclass MIL loss, minus the mean log of each label's maximum.

    The paper normalises over classes *and* positions of one image before it calls this:
    `log_p = logits.flatten(1).log_softmax(1).view_as(logits)`; softmax at each position, which is
    right for the likelihood, lets this loss be zero for a constant answer.

    Args:
        log_p: (B, C+1, *positions), no entry above 0; labels: bool (B, C).
    Returns: scalar, the mean over bags in nats; a bag without labels counts as 0.
    Raises: ValueError when shapes or dtypes disagree, a probability exceeds 1, or there is no bag.
    Source: Li (2018), paper (16), supplementary A.
    """
    best = _mean_of_maxima(log_p, labels)
    if len(best) == 0:
        raise ValueError(f"log_p of shape {tuple(log_p.shape)} holds no bag to take the mean over")
    return -best.mean()


@per_bag
def _mean_of_maxima(log_p: Tensor, labels: Tensor) -> Tensor:
    """The mean over a bag's labels of their largest log-probability: (B,)."""
    flat = _flatten(log_p, normalised=False)
    _check_mask("labels", labels, (flat.shape[0], flat.shape[1] - 1), flat)
    best = flat[:, :-1].amax(-1).masked_fill(~labels, 0)  # (B, C)
    return best.sum(1) / labels.sum(1).clamp_min(1)


@per_bag
def log_alpha_scores(log_p: Tensor) -> Tensor:
    """Eq. (3.2): log alpha of {label, phi} for every label; its arg max is the exact decision.

    Args: log_p (B, C+1, *positions).  Returns: (B, C) in nats.  Raises: as `log_likelihood`.
    Source: Li (2018), paper (13), for samples that hold instances of one class.
    """
    flat = _flatten(log_p)
    return cut(_logaddexp(flat[:, :-1], flat[:, -1:]).sum(-1))


@per_bag
def mean_scores(log_p: Tensor) -> Tensor:
    """Eq. (3.3): each label's probability averaged over the positions, the approximate decision.

    Args: log_p (B, C+1, *positions).  Returns: (B, C).  Raises: as `log_likelihood`.
    Source: Li (2018), paper (14).
    """
    return _flatten(log_p)[:, :-1].exp().mean(-1)


def input_gradient(
    model: torch.nn.Module, images: Tensor, label: int, position: tuple[int, ...]
) -> Tensor:
    """Eq. (3.4): how strongly each pixel moves log p of `label` at `position`.

    Args:
        model: maps images to logits (B, C+1, *positions).
        images: (B, channels, H, W).
        label: class index, C for the background; position: one index per position axis.
    Returns: (B, H, W), the absolute gradient summed over the channels.
    Raises:
        ValueError: label or position lie outside the model's answer, or images are whole numbers.
        RuntimeError: under `torch.func` or forward-mode AD; the answer has no derivative.
    Source: Li (2018), section 5.4.
    """
    refuse_transforms("input_gradient", images)
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; convert them")
    with torch.inference_mode(False), torch.enable_grad():
        images = (images.clone() if images.is_inference() else images).detach().requires_grad_()
        logits = model(images)
        half = logits.dtype in (torch.float16, torch.bfloat16)  # autocast leaves them so
        log_p = (logits.float() if half else logits).log_softmax(1)
        if len(position) != log_p.dim() - 2 or not 0 <= label < log_p.shape[1]:
            raise ValueError(
                f"label {label} at position {tuple(position)} does not fit the model's answer, "
                f"expected one of {log_p.shape[1]} classes and {log_p.dim() - 2} position indices"
            )
        inside = all(0 <= i < size for i, size in zip(position, log_p.shape[2:], strict=True))
        if not inside:
            raise ValueError(f"position {tuple(position)} lies outside {tuple(log_p.shape[2:])}")
        chosen = log_p[(slice(None), label, *position)].sum()
        (gradient,) = torch.autograd.grad(chosen, images)
    return gradient.abs().sum(1)


# Checks ----------------------------------------------------------------------------------------


def _flatten(log_p: Tensor, normalised: bool = True) -> Tensor:
    """(B, C+1, *positions) -> (B, C+1, N), checked."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=1))
    if log_p.dim() < 2 or log_p.shape[1] < 2 or math.prod(log_p.shape[2:]) == 0:
        raise ValueError(
            f"log_p must be (B, C+1, *positions) with a class, a background and a position, "
            f"got shape {tuple(log_p.shape)}"
        )
    flat = log_p.flatten(2) if log_p.dim() > 2 else log_p[:, :, None]
    with torch.no_grad():
        off = (flat.exp().sum(1) - 1).abs() if normalised else flat
        if not bool((off <= 1e-3).all()):
            raise ValueError(
                f"log_p of shape {tuple(log_p.shape)} must hold log-probabilities"
                + (f" that sum to 1 over dim 1; {SOFTMAX.format(dim=1)}" if normalised else "")
            )
    return flat


def _check_mask(name: str, mask: Tensor, shape: tuple[int, int], like: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask)
        raise ValueError(f"{name} must be a bool tensor of shape {shape}, got {got}")
    if mask.device != like.device:
        raise ValueError(f"{name} is on {mask.device}, log_p on {like.device}")


def _bags(
    log_p: Tensor, labels: Tensor, limit: int | None = MAX_LABELS
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked input as (log_p (B, C+1, N), index (B, K+1), real (B, K)).

    K is the largest number of labels of a bag; `index` holds the rows of log_p.flatten(0, 1) of its
    labels, then of padding, phi last; `real` tells the labels from the padding.
    """
    flat = _flatten(log_p)
    _check_mask("labels", labels, (flat.shape[0], flat.shape[1] - 1), flat)
    most = int(labels.sum(1).max()) if len(labels) else 0
    if limit is not None and most > limit:
        raise ValueError(
            f"labels holds a bag of {most} labels, the exact likelihood takes at most {limit} "
            "(its cost doubles with each); use bracket for more"
        )
    real, index = labels.sort(dim=1, descending=True, stable=True)
    index = torch.nn.functional.pad(index[:, :most], (0, 1), value=labels.shape[1])
    bag = torch.arange(len(flat), device=flat.device)[:, None]
    return flat, flat.shape[1] * bag + index, real[:, :most]


# The printed forms -----------------------------------------------------------------------------


def _restrict(flat: Tensor, index: Tensor, real: Tensor) -> Tensor:
    """log p of each bag's own labels (padding: -inf), phi last: (B, K+1, N)."""
    padding = torch.nn.functional.pad(~real, (0, 1))
    return flat.flatten(0, 1)[index].masked_fill(padding[:, :, None], -torch.inf)


def _log_shares(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum over classes (B, N), and log of the classes' parts of it (B, K+1, N)."""
    total = logsumexp(log_w, 1)
    return total, log_w - total.masked_fill(total == -torch.inf, 0)[:, None]


def _subsets(items) -> Iterator[tuple[int, ...]]:
    """The non-empty subsets, small ones first."""
    items = tuple(items)
    return (s for size in range(1, len(items) + 1) for s in combinations(items, size))


def _partial_sums(
    flat: Tensor, index: Tensor, real: Tensor, order: int | None = None
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """log of the leading alpha (B,); over it, the series up to 0, 1, .. missing labels, and how far
    rounding can have moved each: a term is n sums of up to K+1 shares, the terms are then added.
    """
    log_w = _restrict(flat, index, real)
    total, log_share = _log_shares(log_w)
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


def _outward(lower: Tensor, upper: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """The sides (B,) in the dtype of `flat`, apart by the rounding of sums over its positions."""
    sums, cast = 4 * flat.shape[2] * torch.finfo(lower.dtype).eps, torch.finfo(flat.dtype).eps
    sizes = (side.abs().nan_to_num(posinf=0) for side in (lower, upper))
    below, above = (sums + (sums + cast) * size for size in sizes)
    return (lower - below).to(flat.dtype), (upper + above).to(flat.dtype)


# The likelihood and its posterior ----------------------------------------------------------------


class _LogLikelihood(torch.autograd.Function):
    """Value and posterior in one pass; the gradient with respect to log p *is* the posterior."""

    @staticmethod
    def forward(ctx, flat: Tensor, index: Tensor, real: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[0]
        value, responsibility = _evaluate(flat, index, real, with_posterior=wanted)
        ctx.save_for_backward(flat, index, real, *([responsibility] if wanted else []))
        return value

    @staticmethod
    def backward(ctx, grad: Tensor):
        flat, index, real, responsibility = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for: build its graph
            _, responsibility = _evaluate(flat, index, real, with_posterior=True)
        return grad[:, None, None] * responsibility, None, None


def _evaluate(
    flat: Tensor, index: Tensor, real: Tensor, with_posterior: bool
) -> tuple[Tensor, Tensor | None]:
    """Log-likelihood (B,) and posterior (B, C+1, N); bags of few labels apart where that pays."""
    (bags, most), few = real.shape, (real.shape[1] + 1) // 2
    groups = [(torch.arange(bags, device=real.device), most)]
    if most > 1 and bags * 2**most * flat.shape[2] > 2 * _block_size(flat):
        short = real.sum(1) <= few
        groups = [((~short).nonzero()[:, 0], most), (short.nonzero()[:, 0], few)]
    value = flat.new_zeros(bags)
    posterior = flat.new_zeros(flat.shape) if with_posterior else None
    for rows, labels in groups:
        if len(rows) == 0:
            continue
        own = index[rows]
        own = torch.cat([own[:, :labels], own[:, -1:]], 1)
        log_w = _restrict(flat, own, real[rows, :labels]).double()
        mine, resp = _solve(log_w, real[rows, :labels], with_posterior)
        value.index_copy_(0, rows, mine.to(flat.dtype))
        if with_posterior:
            resp = resp.to(flat.dtype).masked_fill((mine == -torch.inf)[:, None, None], 0)
            posterior.flatten(0, 1).index_copy_(0, own.flatten(), resp.flatten(0, 1))
    if with_posterior:  # the series errs by some 1e-12
        posterior = posterior.clamp(0, 1) if posterior.requires_grad else posterior.clamp_(0, 1)
    return value, posterior


def _solve(log_w: Tensor, real: Tensor, with_posterior: bool) -> tuple[Tensor, Tensor | None]:
    """Log-likelihood (b,) and posterior (b, K+1, N), by series, scan or log-space recursion."""
    largest = log_w.amax(1)  # (b, N)
    never = largest == -torch.inf  # a position that can emit nothing allowed
    possible = ~never.any(-1)
    if not bool(possible.all()):
        log_w, largest = log_w.masked_fill(never[:, None], 0), largest.masked_fill(never, 0)
    share = log_w.softmax(1)  # (b, K+1, N)
    total = largest - share.amax(1).log()  # (b, N), logsumexp with one exponential less
    leading = total.sum(-1)
    relative, resp, kept = _series(share, real, with_posterior)
    value = leading + relative.log()
    for rows in _parts((~kept & possible).nonzero()[:, 0], share):
        scaled, scan_resp, safe = _scan(share[rows], real[rows], with_posterior)
        value = value.index_copy(0, rows, leading[rows] + scaled)
        if with_posterior:
            resp = resp.index_copy(0, rows, scan_resp)
        if not bool(safe.all()):
            rows = rows[~safe]
            plain, plain_resp = _recursion_posterior(log_w[rows], real[rows], with_posterior)
            value = value.index_copy(0, rows, plain)
            if with_posterior:
                resp = resp.index_copy(0, rows, plain_resp)
    return value.masked_fill(~possible, -torch.inf), resp


def _parts(rows: Tensor, share: Tensor) -> tuple[Tensor, ...]:
    """Row numbers in groups whose scan fits comfortably in memory."""
    if len(rows) == 0:
        return ()
    _, columns, positions = share.shape
    return rows.split(max(1, _SCANNED // (2 ** (columns - 1) * positions)))


def _members(labels: int, like: Tensor) -> Tensor:
    """(2**K, K+1): row S holds 1 for each label in the subset S (bit l of S), and for phi."""
    subsets = torch.arange(2**labels, device=like.device)[:, None]
    bits = (subsets >> torch.arange(labels, device=like.device)) & 1
    return torch.cat([bits, torch.ones_like(subsets)], 1).to(like)


def _signs(real: Tensor, members: Tensor) -> Tensor:
    """(B, 2**K): (-1)**(labels missing from S), 0 where S holds padding."""
    odd = 1 - 2 * (members[:, :-1].sum(1) % 2)  # (-1)**|S|
    labels = real.sum(1, keepdim=True)
    inside = torch.arange(len(odd), device=real.device) < 2**labels  # real slots are the low bits
    return odd * inside * (1 - 2 * (labels % 2))


def _series(share: Tensor, real: Tensor, with_posterior: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. (2.2), over the leading alpha: value (B,), posterior, and which bags are certified.

    T = sum over subsets S of signs times products over positions of q(S), q the share of S and phi.
    Products may underflow: against the leading term, 1, what is lost is nothing.
    """
    members = _members(share.shape[1] - 1, share)
    signs = _signs(real, members)
    parts = share.clamp_min(1e-300).split(max(1, _block_size(share) // max(1, signs.numel())), -1)
    if len(members) <= 256:
        products = torch.stack([(members @ part).prod(-1) for part in parts]).prod(0)  # (B, 2**K)
    else:
        products = _grouped_products(share)
    terms = signs * products.masked_fill(products < 1e-280, 0)  # denormals are slow
    value = terms.sum(1)
    kept = value > _CERTIFICATE * terms.abs().sum(1)
    value = torch.where(kept, value, torch.ones_like(value))
    if not (with_posterior and bool(kept.any())):
        return value, share, kept
    # d T / d share = sum over S of +-product / q; where q is 0, so are product and share
    scale = (terms / value[:, None])[:, :, None]  # (B, 2**K, 1)
    weights = [members.T @ (scale / (members @ part)) for part in parts]
    return value, share * torch.cat(weights, -1), kept


def _block_size(like: Tensor) -> int:
    """Elements of a block: a CPU's cache, a GPU's memory."""
    return 2**16 if like.device.type == "cpu" else 2**27


def _unscaled(like: Tensor) -> int:
    """The first labels, which the scan need not scale: 3**these rows has a table of `_pairs`."""
    return 4 if like.device.type == "cpu" else 5


def _grouped_products(share: Tensor, group: int = 5) -> Tensor:
    """Products over positions of all subset sums, (B, 2**K), few passes over the 2**K x N table.

    A subset splits into a low and a high half; q = a(low) + b(high), and a product of `group` such
    sums is one matrix product of inner size 2**group: sums of products, no logarithm, no sign.
    """
    batch, columns, positions = share.shape
    half = (columns - 1) // 2
    low = (
        _members(half, share) @ share[:, [*range(half), columns - 1]]
    )  # phi goes with the low half
    high = _members(columns - 1 - half, share)[:, :-1] @ share[:, half:-1]
    pad = -positions % group
    low = torch.nn.functional.pad(low, (0, pad), value=1.0).unflatten(-1, (-1, group))
    high = torch.nn.functional.pad(high, (0, pad)).unflatten(-1, (-1, group))
    left, right = torch.ones_like(low[..., :1]), torch.ones_like(high[..., :1])
    for i in range(group):  # (B, 2**half, N / group, 2**group)
        left = torch.cat([left * low[..., i, None], left], -1)
        right = torch.cat([right, right * high[..., i, None]], -1)
    left, right = left.transpose(1, 2), right.permute(0, 2, 3, 1)
    block = max(1, 16 * _block_size(share) // (batch * left.shape[2] * right.shape[3]))
    pairs = zip(left.split(block, 1), right.split(block, 1), strict=True)
    products = torch.stack([(a @ b).prod(1) for a, b in pairs]).prod(0)  # (B, 2**low, 2**high)
    return products.transpose(1, 2).flatten(1)


def _scan(
    share: Tensor, real: Tensor, with_posterior: bool
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Eq. (2.1) in linear space: relative log-likelihood, posterior, and which bags stay in range.

    Chunks of positions are scanned side by side, then merged by union products. Positions commute.
    But for the first four or five, a label's shares are divided by their sum, a factor that every
    state holding the label owes: states stay below 1, and those of the scaled labels do not
    underflow, however weak these are.
    """
    smallest = _SMALLEST
    if torch.is_grad_enabled() and share.requires_grad:
        smallest = max(smallest, _SMALLEST_TWICE)
    bags, columns, positions = share.shape
    labels = columns - 1
    chunks = _chunks(bags, labels, positions, share)
    padded = torch.nn.functional.pad(share, (0, -positions % chunks))
    padded[:, -1, positions:] = 1  # phi for sure
    p = padded.unflatten(2, (-1, chunks)).permute(2, 1, 3, 0).flatten(2)  # (steps, K+1, chunks * b)
    sums = share[:, :-1].sum(-1).T.clamp_min(_SMALLEST)  # (K, b)
    plain = _unscaled(share)
    sums = torch.cat([torch.ones_like(sums[:plain]), sums[plain:]])
    owed = sums.repeat(1, chunks)  # (K, chunks * b)
    first = p[:, :-1] / owed
    members = _members(labels, share)
    state = share.new_zeros([2] * labels + [chunks * bags])
    state.view(len(members), -1)[0] = 1  # nothing is covered yet
    states = [state]
    for now, new in zip(p.unbind(), first.unbind(), strict=True):
        states.append(_forward(states[-1], members @ now, new))
    full, after = _merge(states.pop(), owed, real, smallest if with_posterior else None)
    safe = (full > smallest) & ((sums > _SMALLEST) | ~real.T).all(0)
    value = log(full) + sums.log().masked_fill(~real.T, 0).sum(0)
    if not with_posterior:
        return value, None, safe
    weight = _walk_back(states, after, members, p, first)
    weight = weight.unflatten(2, (chunks, bags)).permute(3, 1, 0, 2).flatten(2)
    return value, weight[..., :positions], safe


def _chunks(bags: int, labels: int, positions: int, like: Tensor) -> int:
    """How many chunks of positions are scanned side by side, a power of two: the quickest number.

    Scanning costs by positions / chunks, and merging by chunks. A CPU pays for products, as
    measured. Another device pays for launches, some 3 K a position, and for memory, some 50 bytes a
    product of a merge: estimated at 5 microseconds and 3 TB/s. It must hold all states, too.
    """
    if like.device.type == "cpu":
        doublings = round(math.log2(positions * 4.0 ** (7 - labels) / bags) / 2)
    else:
        best = positions * max(labels, 1) * 9e5 / (3.0**labels * bags)  # its square root
        held = (_SCANNED // (2**labels * bags)).bit_length() - 1
        doublings = min(round(math.log2(best) / 2), held)
    return 2 ** min(max(doublings, 0), positions.bit_length() - 1)


def _walk_back(
    states: list[Tensor], after: Tensor, members: Tensor, p: Tensor, first: Tensor
) -> Tensor:
    """(steps, K+1, M): mass of the paths on which a position emits each label, or phi.

    From the states before each position, and `after`, what completes those after the last one.
    """
    again, enter = [], []  # the masses, but for the factor of the position itself
    for before, now, new in zip(states[::-1], p.unbind()[::-1], first.unbind()[::-1], strict=True):
        again.append(members.T @ (before * after).view(len(members), -1))
        after, entering = _backward(before, after, members @ now, new)
        enter += entering
    weight = p * torch.stack(again[::-1])
    weight[:, :-1].addcmul_(first, torch.stack(enter).view_as(first).flip(0))
    return weight


def _forward(state: Tensor, again: Tensor, first: Tensor) -> Tensor:
    """States (2, .., 2, M) after one more position; bit `label` of a state is axis -2 - label.

    Probability `again` (2**K, M) that it brings nothing new, `first` (K, M) that it brings a label.
    """
    new = state * again.view_as(state)
    for label, p in enumerate(first.unbind()):
        new.select(-2 - label, 1).addcmul_(state.select(-2 - label, 0), p)
    return new


def _backward(
    before: Tensor, after: Tensor, again: Tensor, first: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """What completes each state before a position, from what completes it after.

    And K masses (M,) of the paths that first see a label there, but for its probability.
    """
    new, entering = after * again.view_as(after), []
    for label, p in enumerate(first.unbind()):
        completed = after.select(-2 - label, 1)
        new.select(-2 - label, 0).addcmul_(completed, p)
        paths = before.select(-2 - label, 0) * completed
        entering.append(paths.view(-1, len(p)).sum(0))
    return new, entering


def _merge(
    ends: Tensor, owed: Tensor, real: Tensor, smallest: float | None
) -> tuple[Tensor, Tensor | None]:
    """From chunks (2, .., 2, c * b): their union product at the full label set (b,).

    A binary tree, up and down again: the second answer, (2, .., 2, c * b), is the derivative of the
    logarithm with respect to `ends`, what the other chunks leave; None without a `smallest`, from
    which on a value has one.
    """
    bags, labels = real.shape
    plain = _unscaled(ends)
    pairs, owed = _pairs(min(labels, plain), ends), owed[plain:]
    levels = [ends.view(2**labels, -1)]
    while levels[-1].shape[1] > bags:
        levels.append(_union(*levels[-1].chunk(2, 1), owed, pairs))
    everything = 2 ** real.sum(1)[None] - 1  # (1, b)
    full = levels[-1].gather(0, everything)
    if smallest is None:
        return full[0], None
    slope = torch.where(full > smallest, full, torch.ones_like(full)).reciprocal()
    outside = torch.zeros_like(levels[-1]).scatter(0, everything, slope)
    for level in levels[-2::-1]:
        others = level.roll(outside.shape[1], 1)
        outside = _union(outside.repeat(1, 2), others, owed, pairs[::-1], adjoint=True)
    return full[0], outside.view_as(ends)


def _union(
    a: Tensor, b: Tensor, owed: Tensor, pairs: list[Tensor], adjoint: bool = False
) -> Tensor:
    """Sum over S | T = U of a(S) b(T), a label in both paying what it owes: (2**K, M) each.

    The adjoint takes the derivative with respect to the product for `a` and gives that of a factor.
    """
    columns = max(1, _block_size(a) // (2 * 3 ** (len(a).bit_length() - 1)))  # fit the cache
    owed = owed[:, : a.shape[1]]
    if a.shape[1] <= columns:
        return _products(a, b, owed, pairs, adjoint)
    blocks = zip(*(x.split(columns, 1) for x in (a, b, owed)), strict=True)
    return torch.cat([_products(*block, pairs, adjoint) for block in blocks], 1)


def _products(a: Tensor, b: Tensor, owed: Tensor, pairs: list[Tensor], adjoint: bool) -> Tensor:
    """(a0, a1) (b0, b1) = (a0 b0, a0 b1 + a1 (b0 + owed b1)), label by label down to `pairs`.

    3**K products, no minus.
    """
    if len(owed) == 0:
        left, right, union = pairs
        return union.T @ ((left @ a) * (right @ b))
    (a0, a1), (b0, b1) = a.chunk(2), b.chunk(2)
    a = torch.cat([a0, a1 if adjoint else a0, a1], 1)
    b = torch.cat([b0, b1, torch.addcmul(b0, owed[-1], b1)], 1)
    x, y, z = _products(a, b, owed[:-1].repeat(1, 3), pairs, adjoint).chunk(3, 1)
    return torch.cat([x + y, z] if adjoint else [x, y + z])


def _pairs(labels: int, like: Tensor) -> list[Tensor]:
    """The same for labels that owe nothing, as (3**K, 2**K) tables of 0 and 1 of S, T and S | T.

    Of each label, neither set holds it, or T alone, or S does and T may.
    """
    subsets = _members(labels, like)[:, :-1]
    digits = torch.arange(3**labels, device=like.device)[:, None, None]
    digits = digits // 3 ** torch.arange(labels, device=like.device) % 3  # (3**K, 1, K)
    left, union = (digits == 2) == subsets, (digits > 0) == subsets
    return [x.all(2).to(like) for x in (left, (digits == 2) | (digits == subsets), union)]


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    return logsumexp(torch.stack(torch.broadcast_tensors(a, b)), 0)


def _log_recursion(log_w: Tensor, real: Tensor) -> Tensor:
    """Eq. (2.1) on restricted log-probabilities (B, K+1, N), one position after the other."""
    labels = log_w.shape[1] - 1
    state = log_w.new_full((len(log_w), 2**labels), -torch.inf)
    state[:, 0] = 0  # before the first position nothing is covered
    for p in log_w.unbind(2):  # (B, K+1)
        again = p[:, -1:]
        for l in range(labels):
            again = torch.cat([again, _logaddexp(again, p[:, l, None])], 1)  # (B, 2**(l+1))
        new = state + again
        for l in range(labels):
            entered = state.unflatten(1, (-1, 2, 2**l))[:, :, 0] + p[:, l, None, None]
            without, with_l = new.unflatten(1, (-1, 2, 2**l)).unbind(2)
            new = torch.stack([without, _logaddexp(with_l, entered)], 2).flatten(1)
        state = new
    return cut(state.gather(1, 2 ** real.sum(1, keepdim=True) - 1)[:, 0])


def _recursion_posterior(
    log_w: Tensor, real: Tensor, with_posterior: bool
) -> tuple[Tensor, Tensor | None]:
    """The log-space recursion and its gradient, for bags beyond the range of the scan."""
    if not with_posterior:
        return _log_recursion(log_w, real), None
    second_order = torch.is_grad_enabled() and log_w.requires_grad
    with torch.enable_grad():
        log_w = log_w if log_w.requires_grad else log_w.detach().requires_grad_()
        value = _log_recursion(log_w, real)
        (weight,) = torch.autograd.grad(value.sum(), log_w, create_graph=second_order)
    return value.detach(), weight
