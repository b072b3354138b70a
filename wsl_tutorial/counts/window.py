"""Counts of large bags in several classes: a tilted characteristic function on a window.

The recursion over vectors of counts visits all of them. This module finds the same probability from
far fewer numbers, in three steps.

1. *Tilt.* Multiply the weight of class c by exp(t_c) in all instances and normalise each of them.
   Then P(y) = exp(sum_i log Z_i - t . y) Q(y), with Q the distribution of the counts of the tilted
   instances. This holds for every t. Choose the t for which the expected counts are y: now y lies
   in the middle of Q, and Q(y) is not the small difference of large numbers.
2. *Window.* Q(y) is the mean of F(w) exp(-i w . y) over the frequencies w_c = 2 pi k_c / N_c, with
   F(w) = prod_i sum_c q_ic exp(i w_c), if N_c exceeds the range of the counts. One class has the
   frequency 0, since the counts sum to n. With a smaller N_c the counts y_c + N_c, y_c - N_c,
   y_c + 2 N_c, ... look like y_c, and their probability is added to Q(y): the first error. By the
   bounds of Bennett and Hoeffding it is beyond rounding from about nine standard deviations on.
3. *Decay.* With D_ab = 1 - cos(w_a - w_b), |sum_c q_ic exp(i w_c)|^2 = 1 - x_i, where
   x_i = 2 sum_{a<b} q_ia q_ib D_ab, and -log(1 - x) >= x + x^2 / 2. The sums over i of q_ia q_ib
   and of the products of two of these are computed once; they bound F at every frequency.
   Frequencies for which the bound is beyond rounding are left out: the second error. F has a peak
   at 0 whose width falls with n as the distance of the grid's points does, so their number hardly
   depends on n: a few hundred for three classes, some ten thousand for four.

Both errors are bounded beforehand, and the bounds are compared with the result. The posterior needs
the products over all instances but one; a tree of products gives them without a division.

Source: Daniels (1954) for the tilt, Fernandez and Williams (2010) for the characteristic function
of sums of unequal trials, Bennett (1962) and Hoeffding (1963) for the tails; the rest is derived.
"""

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_GRID = 2**22  # frequencies of one bag at a time, before those that decay are left out
MAX_SIZE = 2**32  # instances of a bag: each adds the rounding of a logarithm, 1e-16
TOLERANCE = 1e-13  # of each error, as a share of a lower estimate of Q(y)
ACCEPTED = 1e-11  # bound of the errors as a share of Q(y); above it the tolerance is lowered
ROWS = 64  # bags that share a grid
CHUNK = 2**17  # complex numbers at a time
HALL = 10  # classes up to which every set of them is looked at
STEPS = 80  # of Newton's method at most
GENTLE = 16.0  # differences of log_p up to which its search may begin anywhere
UNSURE = 1e-6  # rounding as a share of Q(y) above which there is no answer
SQUARED = 64  # exponents up to here are powers by squaring


def log_likelihood(log_p: Tensor, counts: Tensor, m: Tensor) -> Tensor:
    """Return log P(counts) of checked bags, (B,), -inf where the counts are impossible.

    NaN, with gradient 0, where rounding leaves no answer: no tilt was found for nearly sure labels.

    This is Eq. (5.5) by another way than the recursion. It is differentiable any number of times in
    log_p.

    Args:
        log_p: float64 (B, n, C), finite or -inf, 0 where padded; real rows come first.
        counts: int64 (B, C), summing to the number of instances; at best without classes that no
            bag has: `is_possible` may look at every set of classes.
        m: int64 or bool (B, n), the number of identical instances that a row stands for.
    Raises:
        TooMany: a bag needs more than MAX_GRID frequencies.
        ValueError: a bag has more than MAX_SIZE instances.
    """
    size = int(m.sum(1).max()) if len(m) else 0
    if size > MAX_SIZE:
        raise ValueError(
            f"multiplicity gives a bag of {size} instances, at most {MAX_SIZE} are counted "
            "exactly; beyond that rounding leaves too few digits: take the normal approximation"
        )
    slope = torch.is_grad_enabled() and log_p.requires_grad
    return _Counts.apply(log_p, counts, m.long(), slope)


def most_points(counts: Tensor) -> Tensor:
    """Return an upper estimate of the frequencies that counts (B, C) ask for, float64 (B,).

    The variance of a count with mean y among n instances is at most y (1 - y / n).
    """
    y, n = counts.double(), counts.sum(1, keepdim=True).double()
    spread = (y * (1 - y / n.clamp_min(1))).sqrt()
    points = torch.minimum(10 * spread + 12, torch.maximum(y, n - y) + 1)
    points = points.masked_fill(counts == 0, 1).sort(1).values[:, :-1]  # the last class needs none
    return points.prod(1) / 2


class TooMany(ValueError):
    """More frequencies than memory is meant for."""


class _Counts(torch.autograd.Function):
    """Compute the value; its gradient is the posterior, which comes from the same products."""

    @staticmethod
    def forward(ctx, log_p: Tensor, counts: Tensor, m: Tensor, slope: bool) -> Tensor:
        value, posterior = _both(log_p, counts, m, slope)
        ctx.save_for_backward(log_p, counts, m, posterior)
        return value

    @staticmethod
    def backward(ctx, slope: Tensor):
        log_p, counts, m, posterior = ctx.saved_tensors
        if torch.is_grad_enabled() and log_p.requires_grad:  # for derivatives of higher order
            posterior = _both(log_p, counts, m, True)[1]
        return slope[:, None, None] * posterior, None, None, None


def _both(log_p: Tensor, counts: Tensor, m: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
    """Return the value (B,) and, if `slope`, the posterior (B, n, C), else zeros."""
    wanted = (m > 0)[:, :, None] & (counts > 0)[:, None]
    z = log_p.masked_fill(~wanted, -torch.inf)
    with torch.no_grad():
        possible = is_possible(z, counts, m)
        safe = torch.where(possible[:, None], counts, 0)
        z_safe = z.masked_fill(~possible[:, None, None], -torch.inf)
        tilt = tilt_to(z_safe, safe, m)
    tilted = z + tilt[:, None]
    m = m * possible[:, None]
    used = m > 0
    total = tilted.masked_fill(~used[:, :, None], 0).logsumexp(2)  # 0s: no NaN in a gradient
    q = (tilted - total[:, :, None]).exp().masked_fill(~used[:, :, None], 0)
    middle, share = _middle(q, safe, m, slope)
    value = (total * m).sum(1) - (tilt * counts).sum(1) + middle
    return value.masked_fill(~possible, -torch.inf).clamp_max(0), share


# Step 1 -----------------------------------------------------------------------------------------


def is_possible(z: Tensor, counts: Tensor, m: Tensor) -> Tensor:
    """Return whether each instance can get a class such that the counts come out: Hall's condition.

    z (B, n, C) is -inf where an instance cannot be of a class. Every set of classes needs at least
    as many instances that can be in it as its counts ask for. With many classes, the largest flow
    answers instead.
    """
    can = z > -torch.inf
    if bool((can | (m == 0)[:, :, None] | (counts == 0)[:, None]).all()):
        return torch.ones_like(counts[:, 0], dtype=torch.bool)
    if z.shape[2] > HALL:
        return _has_flow(can & (m > 0)[:, :, None] & (counts > 0)[:, None], counts, m)
    held, fine = torch.arange(z.shape[2], device=z.device), torch.ones_like(counts[:, 0]).bool()
    for size in range(1, z.shape[2] + 1):
        for chosen in itertools.combinations(held.tolist(), size):
            able = (can[:, :, chosen].any(2) * m).sum(1)
            fine &= able >= counts[:, chosen].sum(1)
    return fine


def _has_flow(can: Tensor, counts: Tensor, m: Tensor) -> Tensor:
    """Return `is_possible` for many classes: instances move along shortest paths until all fit.

    can (B, n, C) says which classes a row may have. The rows start in their first class; a path
    leads from a class with too many instances to one with too few.
    """
    stuck = ((m > 0) & ~can.any(2)).any(1)
    k = F.one_hot(can.long().argmax(2), can.shape[2]) * m[:, :, None]
    while bool((unmet := ~stuck & (k.sum(1) != counts).any(1)).any()):
        for bag in unmet.nonzero()[:, 0].tolist():
            path = _path(can[bag], k[bag], k[bag].sum(0) - counts[bag])
            stuck[bag] = not path
            if path:
                _move(k[bag], path, k[bag].sum(0) - counts[bag])
    return ~stuck


def _path(can: Tensor, k: Tensor, excess: Tensor) -> list[tuple[int, int, int]]:
    """Return moves (row, from class, to class) from a class in excess to a lacking one, or none."""
    came: dict[int, tuple[int, int] | None] = {
        c: None for c in (excess > 0).nonzero()[:, 0].tolist()
    }
    queue = list(came)
    for a in queue:
        if excess[a] < 0:
            path = []
            while (step := came[a]) is not None:
                path.append((step[0], step[1], a))
                a = step[1]
            return path[::-1]
        movable = can & (k[:, a] > 0)[:, None]  # (n, C)
        row = movable.long().argmax(0)
        for c in movable.any(0).nonzero()[:, 0].tolist():
            if c not in came:
                came[c] = int(row[c]), a
                queue.append(c)
    return []


def _move(k: Tensor, path: list[tuple[int, int, int]], excess: Tensor) -> None:
    """Move as many instances as fit along a path, in place."""
    rows, a, b = torch.tensor(path, device=k.device).T
    ends = torch.stack([excess[a[0]], -excess[b[-1]]])
    amount = torch.cat([ends, k[rows, a]]).min()
    k.index_put_((rows, a), -amount.expand_as(rows), accumulate=True)
    k.index_put_((rows, b), amount.expand_as(rows), accumulate=True)


def tilt_to(z: Tensor, counts: Tensor, m: Tensor) -> Tensor:
    """Return the tilt (B, C) for which the expected counts are `counts`; 0 where a count is 0.

    With labels that are nearly sure, the way there from 0 may be long and flat. Where it ends too
    early, z is divided by a power of two, and the tilt of half of z, doubled, begins the search for
    that of z.
    """
    t = _newton(z, counts, m, torch.zeros_like(counts, dtype=torch.float64))
    off = _distance(z, counts, m, t)
    if not bool((off > 0.1).any()):
        return t
    finite = z.masked_fill(z == -torch.inf, 0)
    ratio = (finite.amax() - finite.amin()).item() / GENTLE
    again = torch.zeros_like(t)
    for halvings in range(min(60, math.frexp(ratio)[1]), 0, -1):
        again = 2 * _newton(z / 2.0**halvings, counts, m, again)
    again = _newton(z, counts, m, again)
    return torch.where((_distance(z, counts, m, again) < off)[:, None], again, t)


def _distance(z: Tensor, counts: Tensor, m: Tensor, t: Tensor) -> Tensor:
    """Return how far the expected counts are from `counts` at most, (B,)."""
    empty = ((m == 0) | ~(z > -torch.inf).any(2))[:, :, None]
    q = (z + t[:, None]).masked_fill(empty, 0).softmax(2).masked_fill(empty, 0)
    return ((q * m[:, :, None]).sum(1) - counts).abs().amax(1)


def _newton(z: Tensor, counts: Tensor, m: Tensor, t: Tensor) -> Tensor:
    """Return the tilt (B, C) of `tilt_to`, from a first guess t.

    Newton's method on sum_i log Z_i - t . y; where a step does not lower it, a step of generalised
    iterative scaling, t_c += log(y_c / E_c), which always does (Darroch and Ratcliff, 1972).
    """
    has = counts > 0
    y = counts.double()
    eye = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    empty = (m == 0) | ~(z > -torch.inf).any(2)
    weight = m[:, :, None].double()

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        shifted = (z + t[:, None]).masked_fill(empty[:, :, None], 0)
        total = shifted.logsumexp(2, keepdim=True)
        q = (shifted - total).exp().masked_fill(empty[:, :, None], 0)
        level = (total * weight)[:, :, 0].masked_fill(empty, 0).sum(1) - (t * y).sum(1)
        return level + 5e-9 * (t * t).sum(1), q

    level, q = at(t)
    for _ in range(STEPS):
        expected = (q * weight).sum(1)
        slope = expected - y + 1e-8 * t
        spread = torch.diag_embed(expected) - (q * weight).mT @ q
        ridge = (1e-14 * expected.sum(1)).clamp_min(1e-8)[:, None, None]
        spread = spread + ridge * eye + torch.diag_embed((~has).double())
        step = torch.linalg.solve(spread, -slope * has)
        if bool((-(step * slope * has).sum(1) < 1e-4).all()):
            break
        further, its_q = at(t + step)
        scaled = t + torch.where(has, (y / expected.clamp_min(1e-300)).log(), 0)
        worse = ~(further < level)
        t = torch.where(worse[:, None], scaled, t + step)
        level, q = further, its_q
        if bool(worse.any()):
            level, q = at(t)
    return t


# Steps 2 and 3 ------------------------------------------------------------------------------------


def _middle(q: Tensor, counts: Tensor, m: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
    """Return log Q(y), (B,), and the posterior (B, n, C), of tilted instances q (B, n, C).

    The posterior is zero unless it is asked for by `slope`.
    """
    with torch.no_grad():
        two = q.shape[2] == 2  # they vary alike: the rare one, whose digits count, has the phase
        order = ((q * m[:, :, None]).sum(1) if two else _variance(q, m)).argsort(1)
        y, size = counts.gather(1, order), (m > 0).sum(1)
    place = order[:, None].expand_as(q)
    q = q.gather(2, place)
    if not len(q):
        return q.sum((1, 2)), q
    with torch.no_grad():
        window = _window(q, y, m, TOLERANCE)[:, :-1]
        by_cost = (size * window.double().prod(1)).argsort()
    value, share, groups = [], [], list(by_cost.split(ROWS))
    while groups:
        rows = groups.pop(0)
        n = max(1, int(size[rows].max()))
        try:
            log_q, r = _group(q[rows, :n], y[rows], m[rows, :n], window[rows].amax(0), slope)
        except TooMany:
            if len(rows) == 1:
                raise
            groups = [*rows.chunk(2), *groups]
            continue
        value.append(log_q)
        share.append(F.pad(r, (0, 0, 0, q.shape[1] - n)))
    rows = by_cost.argsort()
    return torch.cat(value)[rows], torch.cat(share)[rows].gather(2, place.argsort(2))


def _group(q: Tensor, y: Tensor, m: Tensor, window: Tensor, slope: bool) -> tuple[Tensor, Tensor]:
    """Return `_middle` for bags of similar size, on one grid.

    window (C - 1,): the points for TOLERANCE, which falls until the errors are accepted.
    """
    for tolerance in (TOLERANCE, TOLERANCE**2, TOLERANCE**4, 0.0):
        with torch.no_grad():
            if tolerance < TOLERANCE:
                window = _window(q, y, m, tolerance).amax(0)[:-1]
            k, weight, error = _frequencies(q, m, window, tolerance)
            error = error + _alias(q, y, m, F.pad(window, (0, 1)))[:, :-1].sum(1)
        total, others, rounding = _sums(q, y, m, window, k, weight, slope)
        error = error + 1e-16 * q.shape[1] * rounding * (tolerance > 0)
        if bool((error <= ACCEPTED * total).all()):
            break
    unsure = ~(1e-16 * q.shape[1] * rounding <= UNSURE * total)
    total = total.masked_fill(unsure, 1)
    share = (q * others / total[:, None, None]).clamp_min(0)
    return total.log().masked_fill(unsure, torch.nan), share.masked_fill(unsure[:, None, None], 0)


def _variance(q: Tensor, m: Tensor) -> Tensor:
    """Return the variances of the counts, (B, C)."""
    return (q * (1 - q) * m[:, :, None]).sum(1)


def _lower_estimate(q: Tensor, m: Tensor) -> Tensor:
    """Return an estimate of Q(y), (B,), rather too low: that of independent normal counts."""
    return (1 + 2 * math.pi * _variance(q, m)[:, :-1]).rsqrt().prod(1)


def _alias(q: Tensor, y: Tensor, m: Tensor, window: Tensor) -> Tensor:
    """Return a bound of P(a count differs from y by the window or more), (B, C).

    It is the smaller of Bennett's bound and Hoeffding's first one; 0 where no count is so far from
    y. window: (B, C) or (C,).
    """
    size, mean = _able(q, m).double(), (q * m[:, :, None]).sum(1)
    variance = _variance(q, m).clamp_min(torch.finfo(q.dtype).tiny)
    total = torch.zeros_like(mean)
    for mu, n in ((mean, y), (size - mean, size - y)):  # counts above, and below as rests above
        end = n + window
        a = (end - mu).clamp_min(0)
        bennett = a - (variance + a) * torch.log1p(a / variance)
        rest = (size - end).clamp_min(0)
        hoeffding = torch.special.xlogy(end, mu / end) + torch.special.xlogy(
            rest, (size - mu) / rest
        )
        hoeffding = torch.where(a > 0, hoeffding.nan_to_num(0), 0)
        total += torch.minimum(bennett, hoeffding).exp().masked_fill(end > size, 0)
    return total


def _able(q: Tensor, m: Tensor) -> Tensor:
    """Return how many instances can be of each class, int64 (B, C)."""
    return ((q > 0) * m[:, :, None]).sum(1)


def _window(q: Tensor, y: Tensor, m: Tensor, tolerance: float) -> Tensor:
    """Return the fewest points N (B, C) of a grid for which `_alias` is within the tolerance."""
    high = torch.maximum(_able(q, m) - y, y) + 1  # no count is further from y
    low = torch.zeros_like(high)
    wanted = (tolerance * _lower_estimate(q, m))[:, None]
    while tolerance and bool((high - low > 1).any()):
        middle = (low + high) // 2
        enough = _alias(q, y, m, middle) <= wanted
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def _frequencies(
    q: Tensor, m: Tensor, window: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the frequencies k (K, C - 1) that matter, their weights (K,), and an error (B,).

    k and -k give conjugate numbers, so half of the last axis is enough. The axes join one by one:
    the factors of the bound that need no further axis already leave out most frequencies.
    """
    pairs = torch.triu_indices(q.shape[2], q.shape[2], 1, device=q.device)  # (2, P)
    together = q[..., pairs[0]] * q[..., pairs[1]]  # (B, n, P)
    weighted = together * m[:, :, None]
    least = (tolerance * _lower_estimate(q, m))[:, None]
    bounds = weighted.sum(1), weighted.mT @ together, pairs, least
    n, k, error = window.tolist(), window[None, :0], least[:, 0] * 0
    weight = torch.full((1,), 1 / math.prod(n), dtype=q.dtype, device=q.device)
    for c, points in enumerate(n):
        half = points // 2 + 1 if c == len(n) - 1 else points
        axis, rest = _matter(torch.arange(half, device=q.device)[:, None], c, window, *bounds)
        k, more = _matter(_product(k, axis), 0, window, *bounds)
        error = error + 2 * (rest / points + more / math.prod(n[: c + 1]))
    if n:
        weight = weight * (1 + ((k[:, -1] > 0) & (2 * k[:, -1] < n[-1])).double())
    return k, weight, error


def _product(k: Tensor, axis: Tensor) -> Tensor:
    """Return frequencies (K, c) with all of a further axis (A, 1), as (K A, c + 1)."""
    if len(k) * len(axis) > MAX_GRID:
        raise TooMany(f"{len(k) * len(axis):.3g} frequencies, at most {MAX_GRID} are allowed")
    return torch.cat([k.repeat_interleave(len(axis), 0), axis.repeat(len(k), 1)], 1)


def _matter(k: Tensor, start: int, window: Tensor, first, second, pairs, least):
    """Return those of the frequencies k (K, c) that matter for some bag, and the sum of the others.

    k are those of the classes from `start` on; the others' may be any. The bound of step 3 from the
    pairs of these classes and the last one decides; it also bounds the sum, (B,).
    """
    end, last = start + k.shape[1], len(window)
    chosen = (pairs[0] >= start) & (pairs[0] < end) & ((pairs[1] < end) | (pairs[1] == last))
    (a, b), first, second = pairs[:, chosen], first[:, chosen], second[:, chosen][:, :, chosen]
    kept, rest = [], 0
    for part in k.split(max(1, CHUNK // max(1, len(first)))):
        omega = F.pad(2 * math.pi * part.double() / window[start:end], (start, last + 1 - end))
        fall = 1 - (omega[:, a] - omega[:, b]).cos()  # (K, P)
        bound = (-first @ fall.mT - ((fall @ second) * fall).sum(2)).exp()
        keep = (bound >= least).any(0)
        rest = rest + (bound * ~keep).sum(1)
        kept.append(part[keep])
    return torch.cat(kept), rest


def _sums(
    q: Tensor, y: Tensor, m: Tensor, window: Tensor, k: Tensor, weight: Tensor, slope: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return Q(y), (B,), and its derivatives in q, (B, n, C), zeros unless `slope`.

    The derivative is Q(y) of the others without the instance, times its multiplicity. The third
    result is the sum of absolute values, (B,), to which rounding is relative.
    """
    b, n = q.shape[:2]
    q, m = F.pad(q, (0, 0, 0, -n % 8)), F.pad(m, (0, -n % 8))  # even on the three largest levels
    last = 1 - q[..., :-1].sum(2, keepdim=True)  # 1 where padded: a factor of 1
    q = torch.cat([q[..., :-1], last], 2)
    total = size = q.new_zeros(())
    others = torch.zeros_like(q)
    step = max(1, CHUNK // max(1, b * n))
    for part, w in zip(k.split(step), weight.split(step), strict=True):
        omega = F.pad(2 * math.pi * part.double() / window, (0, 1)).mT  # (C, K)
        wave = torch.polar(torch.ones_like(omega), omega)
        phi = torch.view_as_complex((q @ torch.view_as_real(wave).flatten(1)).unflatten(2, (-1, 2)))
        rest_of_row = _power(phi, q, omega, m - 1) if bool((m > 1).any()) else None
        turns = (part * y[:, None, :-1]) % window / window.double()  # exact in integers
        lead = torch.polar(w.expand(b, -1), -2 * math.pi * turns.sum(2))
        levels = _product_tree(phi if rest_of_row is None else phi * rest_of_row)
        product = levels.pop()[:, 0]
        total = total + (lead * product).real.sum(1)
        size = size + (w * product.detach().abs()).sum(1)
        if not slope:
            continue
        out = lead[:, None]
        for level in reversed(levels):
            rest, out = out[:, : level.shape[1] // 2], torch.empty_like(level)
            out[:, 0::2] = rest * level[:, 1::2]
            out[:, 1::2] = rest * level[:, 0::2]
        out = out if rest_of_row is None else out * rest_of_row * m[:, :, None]
        wave = torch.view_as_real(wave.conj().resolve_conj()).flatten(1)
        others = others + torch.view_as_real(out).flatten(2) @ wave.mT
    return total, others[:, :n], size


def _power(phi: Tensor, q: Tensor, omega: Tensor, e: Tensor) -> Tensor:
    """Return phi ** e for phi = sum_c q_c exp(i omega_c), complex (B, n, K); e: int64 (B, n).

    Repeated squaring multiplies the rounding of phi by e; it serves up to SQUARED. Above, the
    logarithm of phi is taken from its differences from 1 in both parts, which keeps it accurate
    near omega = 0, where phi ** e is not negligible.
    """
    small = e.clamp(0, SQUARED)[:, :, None]
    power = torch.ones_like(phi)
    for bit in range(int(small.max()).bit_length()):
        power = torch.where(small >> bit & 1 > 0, power * phi, power)
        phi = phi * phi
    large = (e > SQUARED)[:, :, None]
    if not bool(large.any()):
        return power
    drop, rise = q @ (2 * (omega / 2).sin().square()), q @ omega.sin()  # 1 - Re, Im
    x = drop * drop - 2 * drop + rise * rise  # |phi|^2 - 1
    near = x > -0.5
    far = ((1 - drop).square() + rise * rise).masked_fill(near, 1).clamp_min(1e-300)
    log_size = (torch.log1p(x.masked_fill(~near, 0)) + far.log()) / 2
    angle = torch.atan2(rise, 1 - drop)
    e = e[:, :, None].masked_fill(~large, 0)
    return torch.where(large, torch.polar((e * log_size).exp(), e * angle), power)


def _product_tree(x: Tensor) -> list[Tensor]:
    """Return x (B, n, K) and the products of 2, 4, ... and all of axis 1; odd ends get a 1."""
    levels = [x]
    while (x := levels[-1]).shape[1] > 1:
        if x.shape[1] % 2:
            x = levels[-1] = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        levels.append(x[:, 0::2] * x[:, 1::2])
    return levels
