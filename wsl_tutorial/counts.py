"""Counts: the bag tells *how many* of its instances are positive, each instance hides its label.

Shapes used throughout: `logits` is (B, n), one number for each instance of a bag, so that
rho = sigmoid(logits) is the probability of a positive; `counts` is an integer tensor (B,), the
number of positives; `mask` is bool (B, n), true for the instances of a bag and false for padding
(None: no padding), so bags of any sizes share a batch. With C classes, `log_p` is (B, n, C) and
`counts` is (B, C). Everything computes in float64 whatever it is given and answers in the dtype of
its first argument. A logit may be infinite: that label is known.

Source of all of this: Baručić & Kybic (2022), "Fast learning from label proportions with small
bags", arXiv 2110.03426; "paper (6)" below is its equation 6. The paper enumerates all choose(n, y)
configurations; the recursion, the tilt and the multiclass form are derived in the chapters.
"""

import math
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import (
    SOFTMAX,
    check_floats,
    check_normalised,
    cut,
    log,
    logsumexp,
    per_bag,
)

MAX_STATES = 2**20  # of one bag in the multiclass recursion: the product of (count + 1)
MAX_ENUMERATED = 20  # instances: choose(20, 10) is 184,756 configurations a bag
LOGITS = "convert it with .float()"
_SCAN = 64  # instances that one chunk of the recursion visits one by one


@per_bag
def log_likelihood(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.2): log P(y | X), the Poisson-binomial distribution by a recursion over instances.

    One instance after the other, f(j) <- f(j) (1 - rho) + f(j - 1) rho: O(n y) steps. The logits
    are first shifted by one constant a bag, so that nothing that matters can underflow: for more
    than 64 instances y then is the most probable count, up to 64 its most probable configuration
    has a probability of at least 2**-n. The shift is undone exactly. Long bags are cut into chunks
    whose distributions are multiplied in a tree. The gradient is posterior - rho (Fisher).

    Args:
        logits: (B, n), float32 or float64; infinite where a label is known.
        counts: integer (B,), between 0 and the number of instances of the bag.
        mask: bool (B, n), true for real instances; None where there is no padding.
    Returns:
        (B,) in nats; -inf, with gradient 0, where known labels contradict the count.
    Raises:
        ValueError: shapes, dtypes or devices disagree, a count is out of range, a logit is NaN.
    Source: paper (2), (3) for what is computed; chapter 5 for how.
    """
    bag = _Bag(logits, counts, mask)
    return bag.finish(_log_coefficient(bag.log_a, bag.log_b, bag.y) + bag.undo_shift())


@per_bag
def posterior(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.3): r, the probability that each instance is positive given the count: the E-step.

    The paper calls it phi, which is the background everywhere else in this package.

    Args and errors: as `log_likelihood`.
    Returns:
        (B, n) in the dtype of `logits`; sums to `counts`; 0 for padding, and throughout where the
        count is impossible. Differentiable. It does not change when a constant is added to all
        logits of a bag.
    Source: paper (10) and the coefficients phi below paper (11).
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        bag = _Bag(logits, counts, mask)
        log_b = bag.log_b if logits.requires_grad else bag.log_b.requires_grad_()
        value = _log_coefficient(bag.log_a, log_b, bag.y)
        graph = graph and logits.requires_grad
        (phi,) = torch.autograd.grad(value.sum(), log_b, create_graph=graph)
    return bag.unflip(phi.clamp(0, 1))


@per_bag
def enumeration(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.1): log P(y | X) as the sum over all configurations with y positives, as printed.

    The teaching form and the oracle of the others; choose(n, y) terms, so at most 20 instances.

    Args, returns and errors: as `log_likelihood`.
    Source: paper (2), (3), (6).
    """
    z, real = _check(logits, counts, mask)
    size = logits.shape[1]
    if size > MAX_ENUMERATED:
        raise ValueError(
            f"logits holds bags of {size} instances, enumeration takes at most {MAX_ENUMERATED}; "
            "use log_likelihood"
        )
    sides = F.logsigmoid(z).masked_fill(~real, -torch.inf), F.logsigmoid(-z).masked_fill(~real, 0)
    never = [side == -torch.inf for side in sides]
    log_rho, log_not = (x.masked_fill(no, 0) for x, no in zip(sides, never, strict=True))
    value = log_rho.new_zeros(len(z))
    for y in counts.unique().tolist():
        rows = (counts == y).nonzero()[:, 0]
        chosen = torch.tensor(list(combinations(range(size), y)), device=z.device)  # (H, y)
        h = z.new_zeros(len(chosen), size)  # (H, n)
        h = h.scatter(1, chosen.long(), 1.0) if y else h
        log_h = log_rho[rows] @ h.T + log_not[rows] @ (1 - h).T  # (rows, H)
        wrong = never[0][rows].to(h) @ h.T + never[1][rows].to(h) @ (1 - h).T
        log_h = log_h.masked_fill(wrong > 0, -torch.inf)
        value = value.index_copy(0, rows, logsumexp(log_h, 1))
    return value.to(logits.dtype)


@per_bag
def map_configuration(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.6): the most probable configuration: the y instances with the largest logits.

    Args and errors: as `log_likelihood`.
    Returns: bool (B, n), `counts` of them true; of equal logits the first is chosen.
    Source: chapter 5; as an E-step it is hard EM, the labelling step of Alter-SVM.
    """
    z, real = _check(logits, counts, mask)
    order = z.detach().masked_fill(~real, -torch.inf).argsort(dim=1, descending=True, stable=True)
    padding_last = (~real.gather(1, order)).long().argsort(dim=1, stable=True)
    rank = order.gather(1, padding_last).argsort(dim=1)  # the inverse permutation
    return rank < counts[:, None]


@per_bag
def log_distribution(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.7): log P(j | X) for every count j = 0 .. n, by the recursion in log space, unshifted.

    Accurate in relative terms however improbable a count is, and slower than `log_likelihood`,
    which needs one count only.

    Args: logits (B, n) and mask as `log_likelihood`.
    Returns: (B, n+1) in nats; -inf for counts beyond the size of the bag.
    Raises: ValueError, as `log_likelihood`.
    Source: chapter 5.
    """
    return _log_distribution(*_check(logits, None, mask)).to(logits.dtype)


def log_likelihood_noisy(logits: Tensor, log_noise: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (6.3): log P(what is told | X) when the teller errs: the sum over the true counts.

    Args:
        logits: (B, n).
        log_noise: (B, n+1) or (n+1,), log-probability of what is told for each true count j.
        mask: as `log_likelihood`.
    Returns: (B,) in nats; -inf, with gradient 0, where nothing told is possible.
    Raises: ValueError, as `log_likelihood`, or for another shape of log_noise.
    Source: chapter 6.
    """
    _check_floats("logits", logits, 2, "(B, n)", LOGITS)
    check_floats("log_noise", log_noise, LOGITS)
    shape = (logits.shape[0], logits.shape[1] + 1)
    if tuple(log_noise.shape) not in (shape, shape[1:]):
        got = tuple(log_noise.shape)
        raise ValueError(f"log_noise must have shape {shape} or its last, got {got}")
    return _log_likelihood_noisy(logits, log_noise.expand(shape), mask)


@per_bag
def _log_likelihood_noisy(logits: Tensor, log_noise: Tensor, mask: Tensor | None) -> Tensor:
    log_f = _log_distribution(*_check(logits, None, mask))
    if not bool((log_noise <= 1e-3).all()):
        raise ValueError(
            f"log_noise of shape {tuple(log_noise.shape)} must hold log-probabilities, got "
            f"{log_noise.max().item()}; take the logarithm of P(what is told | j)"
        )
    return logsumexp(log_f + log_noise.double(), 1).to(logits.dtype)


@per_bag
def log_likelihood_interval(
    logits: Tensor, low: Tensor, high: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Eq. (6.4): log P(low <= y <= high | X).

    Args: logits (B, n); low, high: integer (B,), both ends included; mask as `log_likelihood`.
    Returns: (B,) in nats.
    Raises: ValueError, as `log_likelihood`, or for an empty interval.
    Source: chapter 6.
    """
    _, real = _check(logits, low, mask, "low")
    _check(logits, high, mask, "high")
    if not bool((low <= high).all()):
        raise ValueError("low must not exceed high")
    j = torch.arange(logits.shape[1] + 1, device=logits.device)
    inside = (j >= low[:, None]) & (j <= high[:, None])
    log_f = _log_distribution(*_check(logits, None, real))
    return logsumexp(log_f.masked_fill(~inside, -torch.inf), 1).to(logits.dtype)


def proportion_loss(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (6.1): the loss of DLLP, cross-entropy of the bag's proportion against its mean rho.

    The logarithm of the mean, not the mean of logarithms, which would be another loss.

    Args and errors: as `log_likelihood`.
    Returns: scalar, the mean over bags in nats; an empty bag counts as 0.
    Source: Ardehaly & Culotta (2017), as described in section 1.1 of the paper.
    """
    loss = _proportion_losses(logits, counts, mask)
    if len(loss) == 0:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} holds no bag to take the mean over"
        )
    return loss.mean().to(logits.dtype)


@per_bag
def _proportion_losses(logits: Tensor, counts: Tensor, mask: Tensor | None) -> Tensor:
    """The loss of each bag (B,), float64."""
    z, real = _check(logits, counts, mask)
    size = real.sum(1).clamp_min(1).double()
    share = counts / size
    loss = z.new_zeros(len(z))
    for side, weight in ((z, share), (-z, 1 - share)):
        log_mean = logsumexp(F.logsigmoid(side).masked_fill(~real, -torch.inf), 1) - size.log()
        counted = (weight > 0) & real.any(1)  # 0 log 0 is 0
        loss = loss - weight * log_mean.masked_fill(~counted, 0)
    return loss


@per_bag
def normal_approximation(logits: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (6.2): log density at y of the normal with the mean and variance of the count.

    A density: it may exceed 0. As all rho go to 0 or 1 it grows without bound if these labels sum
    to y, and falls without bound otherwise. It is close where the variance is large, which a large
    bag alone does not ensure. The variance is kept as a logarithm, so it vanishes only where all
    labels are known or the bag is empty.

    Args and errors: as `log_likelihood`.
    Returns:
        (B,); the limit where the variance vanishes: +inf, with gradient 0, where y is the mean,
        else -inf. -inf, with gradient 0, also where the dtype of `logits` cannot hold the value.
    Source: chapter 6; the baseline for counts of large variance.
    """
    z, real = _check(logits, counts, mask)
    unsure = real & z.isfinite()
    vanishes = ~unsure.any(1)
    log_parts = (F.logsigmoid(z) + F.logsigmoid(-z)).masked_fill(~unsure, -torch.inf)
    log_variance = log_parts.masked_fill(vanishes[:, None], 0).logsumexp(1)
    gap = counts - (z.sigmoid() * real).sum(1)
    far = 2 * gap.abs().log() - log_variance > math.log(torch.finfo(logits.dtype).max)
    scale = (-log_variance.masked_fill(far | (gap == 0), 0) / 2).exp()  # 0 inf would be NaN
    value = -((gap * scale).square() + log_variance + math.log(2 * math.pi)) / 2
    value = value.masked_fill(vanishes, torch.inf)
    return value.masked_fill(far | vanishes & (gap != 0), -torch.inf).to(logits.dtype)


@per_bag
def log_likelihood_multiclass(log_p: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.4): log P(counts | X) with C classes, by a recursion over vectors of counts.

    A bag has product of (count + 1) states, each visited once, in log space.

    Args:
        log_p: (B, n, C), log-probabilities of each instance's class; -inf is allowed.
        counts: integer (B, C); a row sums to the number of instances of the bag.
        mask: bool (B, n), true for real instances; None where there is no padding.
    Returns:
        (B,) in nats; -inf, with gradient 0, where the counts are impossible.
    Raises:
        ValueError: shapes, dtypes or devices disagree, `log_p` does not normalise, counts do not
            sum to the bag, or a bag has more than 2**20 states.
    Source: chapter 5; Sun, Sheldon & O'Connor (2017) for the messages.
    """
    flat, counts, real = _check_multiclass(log_p, counts, mask)
    return _multiclass(flat, counts, real).to(log_p.dtype)


@per_bag
def posterior_multiclass(log_p: Tensor, counts: Tensor, mask: Tensor | None = None) -> Tensor:
    """Eq. (5.5): P(instance i has class c | counts), the multiclass E-step.

    Args and errors: as `log_likelihood_multiclass`.
    Returns:
        (B, n, C) in the dtype of `log_p`; sums to 1 over the classes and to `counts` over the
        instances; 0 for padding, and throughout where the counts are impossible. Differentiable.
    Source: chapter 5.
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        flat, counts, real = _check_multiclass(log_p, counts, mask)
        flat = flat if log_p.requires_grad else flat.requires_grad_()
        value = _multiclass(flat, counts, real)
        graph = graph and log_p.requires_grad
        (r,) = torch.autograd.grad(value.sum(), flat, create_graph=graph)
    return r.to(log_p.dtype)


# Checks ----------------------------------------------------------------------------------------


def _check(
    logits: Tensor, counts: Tensor | None, mask: Tensor | None, name: str = "counts"
) -> tuple[Tensor, Tensor]:
    """Checked input as (logits in float64, 0 where padded; bool mask), each (B, n)."""
    _check_floats("logits", logits, 2, "(B, n)", LOGITS)
    real = _check_mask(mask, logits)
    if counts is not None:
        _check_counts(name, counts, (len(logits),), logits)
        size = real.sum(1)
        if not bool(((counts >= 0) & (counts <= size)).all()):
            raise ValueError(
                f"{name} must lie between 0 and the size of each bag, got "
                f"{counts[(counts < 0) | (counts > size)][0].item()} for a bag of "
                f"{size[(counts < 0) | (counts > size)][0].item()}"
            )
    z = logits.double().masked_fill(~real, 0)
    if bool(z.isnan().any()):
        raise ValueError(f"logits of shape {tuple(logits.shape)} must not hold NaN")
    return z, real


def _check_floats(name: str, x: Tensor, dims: int, shape: str, remedy: str) -> None:
    check_floats(name, x, remedy)
    if x.dim() != dims:
        raise ValueError(f"{name} must be {shape}, got shape {tuple(x.shape)}")


def _check_mask(mask: Tensor | None, like: Tensor) -> Tensor:
    shape = tuple(like.shape[:2])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or tuple(mask.shape) != shape:
        got = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask)
        raise ValueError(f"mask must be a bool tensor of shape {shape}, got {got}")
    if mask.device != like.device:
        raise ValueError(f"mask is on {mask.device}, expected {like.device}")
    return mask


def _check_counts(name: str, counts: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    whole = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
    if not isinstance(counts, Tensor) or counts.dtype not in whole or tuple(counts.shape) != shape:
        tensor = isinstance(counts, Tensor)
        got = f"{counts.dtype} {tuple(counts.shape)}" if tensor else type(counts).__name__
        raise ValueError(f"{name} must be an integer tensor of shape {shape}, got {got}")
    if counts.device != like.device:
        raise ValueError(f"{name} is on {counts.device}, expected {like.device}")


def _check_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    _check_floats("log_p", log_p, 3, "(B, n, C)", SOFTMAX.format(dim=2))
    real = _check_mask(mask, log_p)
    _check_counts("counts", counts, (log_p.shape[0], log_p.shape[2]), log_p)
    counts = counts.long()
    check_normalised(log_p, real)
    with torch.no_grad():
        if not bool(((counts >= 0).all(1) & (counts.sum(1) == real.sum(1))).all()):
            raise ValueError("counts must not be negative and must sum to the size of each bag")
        states = (counts + 1).double().prod(1)
        if len(counts) and states.max() > MAX_STATES:
            raise ValueError(
                f"counts gives a bag {states.max().item():.3g} states, the product of (count + 1), "
                f"more than {MAX_STATES}"
            )
    return log_p.double().masked_fill(~real[:, :, None], 0), counts, real


# Two classes -----------------------------------------------------------------------------------


class _Bag:
    """Checked bags: known labels taken out, the rarer label counted, the logits shifted."""

    def __init__(self, logits: Tensor, counts: Tensor, mask: Tensor | None):
        z, real = _check(logits, counts, mask)
        self.dtype, self.real, self.known = logits.dtype, real & z.isfinite(), z == torch.inf
        y, size = counts.long() - self.known.sum(1), self.real.sum(1)
        self.possible = (y >= 0) & (y <= size)
        y = torch.where(self.possible, y, 0)
        self.flip = 2 * y > size  # count the negatives there: fewer states, and y = n is y = 0
        self.y = torch.where(self.flip, size - y, y)
        z = z.masked_fill(~self.real, 0)
        self.z = torch.where(self.flip[:, None], -z, z)
        with torch.no_grad():
            self.order, centre, tilt = _tilt(self.z, self.y, self.real)
        shifted = (self.z - centre[:, None]) + tilt[:, None]  # a great centre swallows the tilt
        self.log_b = F.logsigmoid(shifted).masked_fill(~self.real, -torch.inf)
        self.log_a = F.logsigmoid(-shifted).masked_fill(~self.real, 0)

    def undo_shift(self) -> Tensor:
        """log of what the shift multiplied P(y) by, taken off: exact for every shift.

        Any configuration with y positives tells it: its log-probability before, less that after.
        Of the most probable one no label is improbable after, so nothing great cancels.
        """
        rank = torch.arange(self.z.shape[1], device=self.z.device).expand_as(self.order)
        chosen = torch.zeros_like(self.real).scatter(1, self.order, rank < self.y[:, None])
        before = F.logsigmoid(torch.where(chosen, self.z, -self.z))
        after = torch.where(chosen, self.log_b, self.log_a)
        return ((before - after) * self.real).sum(1)

    def finish(self, value: Tensor) -> Tensor:
        value = torch.where(self.possible, value, 0).clamp_max(0)
        return value.masked_fill(~self.possible, -torch.inf).to(self.dtype)

    def unflip(self, phi: Tensor) -> Tensor:
        phi = torch.where(self.flip[:, None], 1 - phi, phi) * self.real + self.known.to(phi)
        return (phi * self.possible[:, None]).to(self.dtype)


def _tilt(z: Tensor, y: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What makes y a probable count: a centre (B,) to take off a bag's logits, a tilt (B,) to add.

    Before them it returns the order of the logits (B, n), falling, padding last.

    Half-way between the y-th and the next logit the most probable configuration has at least
    2**-n: enough for one chunk. Beyond, bisection brings the expected count to y, where y is the
    mode (Darroch, 1964), of probability at least 1 / (n + 1). The tilt stays below log(n) + 1: from
    there on one of these two logits outweighs all that others add on the other side.
    """
    size = real.sum(1).clamp_min(1)
    ordered, order = z.masked_fill(~real, -torch.inf).sort(1, descending=True)
    tilt = torch.where(y == 0, -size.to(z).log(), 0)
    if z.shape[1] == 0:
        return order, tilt, tilt
    below = ordered.gather(1, y.clamp_max(z.shape[1] - 1)[:, None])[:, 0]
    above = ordered.gather(1, (y - 1).clamp_min(0)[:, None])[:, 0]
    centre = torch.where(real.any(1), above / 2 + below / 2, 0)
    if z.shape[1] > _SCAN:
        centred, high = z - centre[:, None], size.to(z).log() + 1
        low = -high
        for _ in range(20):
            tilt = low / 2 + high / 2
            few = ((centred + tilt[:, None]).sigmoid() * real).sum(1) < y.clamp_min(0.5)
            low, high = torch.where(few, tilt, low), torch.where(few, high, tilt)
    return order, centre, tilt


def _log_coefficient(log_a: Tensor, log_b: Tensor, y: Tensor) -> Tensor:
    """(B,): log of the coefficient of x**y in the product over instances of a + b x.

    Chunks of instances are scanned side by side, then multiplied pair by pair.
    """
    n = log_a.shape[1]
    most = int(y.max()) if len(y) else 0
    chunks = 1
    while n > _SCAN * chunks:
        chunks *= 2
    pad = -n % chunks
    a = F.pad(log_a.exp(), (0, pad), value=1.0).unflatten(1, (chunks, -1)).permute(2, 0, 1)
    b = F.pad(log_b.exp(), (0, pad)).unflatten(1, (chunks, -1)).permute(2, 0, 1)
    f = 1 + b[:0].sum(0, keepdim=True)  # (states, B, chunks): ones, in the graph even if n = 0
    for one, zero in zip(b, a, strict=True):
        grown = int(len(f) <= most)
        stays = F.pad(f, (0, 0, 0, 0, 0, grown))
        moves = F.pad(f[: len(f) - 1 + grown], (0, 0, 0, 0, 1, 0))
        f = stays * zero + moves * one
    f = f.movedim(0, 2)
    while f.shape[1] > 1:
        f = _product(f[:, ::2], f[:, 1::2])[..., : most + 1]
    return log(f[:, 0].gather(1, y[:, None])[:, 0])


def _log_distribution(z: Tensor, real: Tensor) -> Tensor:
    """(B, n+1): the recursion in log space, one instance after the other."""
    log_rho = F.logsigmoid(z).masked_fill(~real, -torch.inf)
    log_not = F.logsigmoid(-z).masked_fill(~real, 0)
    f = z.new_zeros(len(z), 1)
    for one, zero in zip(log_rho.split(1, 1), log_not.split(1, 1), strict=True):
        stays = F.pad(f + zero, (0, 1), value=-torch.inf)
        f = logsumexp(torch.stack([stays, F.pad(f + one, (1, 0), value=-torch.inf)]), 0)
    return cut(f)


def _product(f: Tensor, g: Tensor) -> Tensor:
    """Products of polynomials over the last axis: absolute errors near 1e-16, small at the mode."""
    size = f.shape[-1] + g.shape[-1] - 1
    return torch.fft.irfft(torch.fft.rfft(f, size) * torch.fft.rfft(g, size), size)


# More classes ----------------------------------------------------------------------------------


def _multiclass(log_p: Tensor, counts: Tensor, real: Tensor) -> Tensor:
    """Eq. (5.4) on checked input, one level after the other: level i holds the states that i
    instances can reach, vectors of counts of sum i."""
    log_p, owed = _own_classes(log_p, counts, real)  # (B, n, K), (B, K)
    stride = F.pad((owed + 1).cumprod(1), (1, 0), value=1)  # mixed radix: state = counts . stride
    full, stride = stride[:, -1], stride[:, :-1]
    n, most = log_p.shape[1], int(full.max()) if len(full) else 1
    state = torch.arange(most, device=log_p.device).expand(len(full), -1)  # (B, S)
    digit = state[:, :, None] // stride[:, None] % (owed + 1)[:, None]  # (B, S, K)
    level = digit.sum(2).masked_fill(state >= full[:, None], n + 1)
    level, by_level = level.sort(dim=1, stable=True)
    begin = torch.searchsorted(
        level, torch.arange(n + 2, device=level.device).repeat(len(level), 1)
    )
    place = torch.empty_like(state).scatter(1, by_level, state - begin.gather(1, level))
    f = log_p[:, :0].sum((1, 2))[:, None]  # zeros: before the first instance nothing is counted
    value = f[:, 0]
    size = real.sum(1)
    for i in range(1, int(size.max()) + 1 if len(size) else 1):
        width = int((begin[:, i + 1] - begin[:, i]).max())
        here = begin[:, i, None] + state[:, :width]
        inside = here < begin[:, i + 1, None]
        s = by_level.gather(1, here.clamp_max(most - 1))  # (B, W)
        has = digit.gather(1, s[:, :, None].expand(-1, -1, digit.shape[2])) > 0
        has = has & inside[:, :, None]  # (B, W, K): the last instance can be of this class
        came = place.gather(1, (s[:, :, None] - stride[:, None]).clamp_min(0).flatten(1))
        came = f.gather(1, came.clamp_max(f.shape[1] - 1)).view(has.shape)
        f = logsumexp((came + log_p[:, i - 1, None]).masked_fill(~has, -torch.inf), 2)
        value = torch.where(size == i, f[:, 0], value)  # a bag's last level is one state
    return cut(value)


def _own_classes(log_p: Tensor, counts: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Real instances first and the bag's own classes only: (B, n, K), and their counts (B, K)."""
    first = (~real).long().argsort(dim=1, stable=True)[:, :, None]
    owed, classes = counts.sort(dim=1, descending=True, stable=True)
    kinds = int((counts > 0).sum(1).max()) if len(counts) else 0
    log_p = log_p.gather(1, first.expand_as(log_p))
    classes = classes[:, None, :kinds].expand(-1, log_p.shape[1], -1)
    return log_p.gather(2, classes), owed[:, :kinds]
