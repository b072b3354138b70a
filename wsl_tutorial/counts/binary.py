"""The count of positives: its likelihood, the posteriors of the labels, and all of their sums."""

from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import cut, log, logsumexp, per_bag

from . import window
from ._inputs import checked, repeated

MAX_ENUMERATED = 20  # instances: choose(20, 10) is 184,756 configurations a bag
MAX_CELLS = 2**28  # numbers at a time in a convolution in log space
_SCAN = 64  # instances that one chunk of the recursion visits one by one


def _chosen_like(logits: Tensor, multiplicity: Tensor | None = None) -> Tensor:
    """Return an empty answer of `map_configuration`."""
    return torch.empty_like(logits, dtype=torch.bool if multiplicity is None else torch.int64)


def _distribution_like(logits: Tensor, multiplicity: Tensor | None = None) -> Tensor:
    """Return an empty answer of `log_distribution`, whose size is data with a multiplicity."""
    known = multiplicity is None
    size = logits.shape[1] + 1 if known else torch.library.get_ctx().new_dynamic_size()
    return logits.new_empty(logits.shape[0], size)


@per_bag
def log_likelihood(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.3): log P(y | X), the Poisson-binomial distribution by a recursion over instances.

    One instance after the other, f(j) <- f(j) (1 - rho) + f(j - 1) rho: O(n y) steps. The logits
    of each bag are first shifted by a constant, so that no relevant term can underflow: with more
    than 64 instances y is then the most probable count; with up to 64 the most probable
    configuration with y positives has a probability of at least 2**-n. The shift is undone exactly.
    Long bags are cut into chunks whose distributions are multiplied in a tree. Where a row stands
    for several instances, `window` takes the coefficient from powers of its characteristic
    function: thousands of them cost no more than one. The gradient is posterior - rho (Fisher), the
    latter times the multiplicity.

    Args:
        logits: (B, n), float32 or float64; infinite where a label is known.
        counts: integer (B,), between 0 and the number of instances of the bag.
        mask: bool (B, n), true for real instances; None where there is no padding.
        multiplicity: integer (B, n), the number of identical instances that a row stands for, such
            as the voters of one group; None: one each. The size of a bag is its sum, here at most
            2**32.
    Returns:
        (B,) in nats; -inf, with gradient 0, where known labels contradict the count.
    Raises:
        ValueError: shapes, dtypes or devices disagree, a count is out of range, a logit is NaN.
    Source: paper (2), (3) for what is computed; chapter 5 for how.

    Example:
        >>> import torch
        >>> from wsl_tutorial import counts
        >>> logits = torch.zeros(1, 3)  # three instances, each positive with probability 1/2
        >>> counts.log_likelihood(logits, torch.tensor([1])).exp()  # 3/8
        tensor([0.3750])
    """
    bag = _Bag(logits, counts, mask, multiplicity)
    return bag.finish(bag.log_coefficient(bag.log_b) + bag.undo_shift())


@per_bag(answer=torch.empty_like)
def posterior(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.2): r, the probability that each instance is positive given the count: the E-step.

    The paper calls it phi; in the rest of this package phi is the background.

    Args and errors: as `log_likelihood`.
    Returns:
        (B, n) in the dtype of `logits`; sums to `counts`; 0 for padding, and throughout where the
        count is impossible. Differentiable. Adding a constant to all logits of a bag does not
        change it. With `multiplicity`, the expected number of positives among the instances of a
        row.
    Source: paper (10) and the coefficients phi below paper (11).

    Example:
        >>> import torch
        >>> from wsl_tutorial import counts
        >>> logits = torch.tensor([[0.9, 0.5]]).logit()
        >>> counts.posterior(logits, torch.tensor([1]))  # 0.9 * 0.5 against 0.1 * 0.5
        tensor([[0.9000, 0.1000]])
    """
    graph = torch.is_grad_enabled()
    with torch.enable_grad():
        bag = _Bag(logits, counts, mask, multiplicity)
        log_b = bag.log_b if logits.requires_grad else bag.log_b.requires_grad_()
        value = bag.log_coefficient(log_b)
        graph = graph and logits.requires_grad
        (phi,) = torch.autograd.grad(value.sum(), log_b, create_graph=graph)
    return bag.unflip(torch.minimum(phi.clamp_min(0), bag.m))


@per_bag
def enumeration(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.1): log P(y | X) as the sum over all configurations with y positives, as printed.

    For teaching, and for testing the other forms; choose(n, y) terms, so at most 20 instances.

    Args, returns and errors: as `log_likelihood`.
    Source: paper (2), (3), (6).
    """
    z, m = checked(logits, counts, mask, multiplicity=multiplicity)
    z, real = (z, m > 0) if multiplicity is None else repeated(z, m)
    size = z.shape[1]
    if size > MAX_ENUMERATED:
        raise ValueError(
            f"logits holds bags of {size} instances, enumeration takes at most {MAX_ENUMERATED}; "
            "use log_likelihood"
        )
    sides = F.logsigmoid(z).masked_fill(~real, -torch.inf), F.logsigmoid(-z).masked_fill(~real, 0)
    never = [side == -torch.inf for side in sides]
    log_rho, log_not = (x.masked_fill(no, 0) for x, no in zip(sides, never, strict=True))
    value = log_rho[:, :0].sum(1)  # zeros, in the graph even if there are no bags
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


@per_bag(answer=_chosen_like)
def map_configuration(
    logits: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.4): the most probable configuration: the y instances with the largest logits.

    Args and errors: as `log_likelihood`.
    Returns:
        bool (B, n), `counts` of them true; of equal logits the first is chosen. With
        `multiplicity`, int64 (B, n), the number of positives among the instances of a row.
    Source: chapter 5; as an E-step it is hard EM, the labelling step of Alter-SVM.
    """
    z, m = checked(logits, counts, mask, multiplicity=multiplicity)
    z = z.detach().masked_fill(m == 0, -torch.inf)
    order = z.argsort(dim=1, descending=True, stable=True)
    padding_last = (m == 0).gather(1, order).long().argsort(dim=1, stable=True)
    chosen = _first(order.gather(1, padding_last), counts.long(), m)
    return chosen > 0 if multiplicity is None else chosen


@per_bag(answer=_distribution_like)
def log_distribution(
    logits: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Eq. (5.7): log P(j | X) for every count j = 0 .. n, by the recursion in log space, unshifted.

    Accurate in relative terms even for very improbable counts, but slower than `log_likelihood`,
    which computes one count only.

    Args: logits (B, n), mask and multiplicity as `log_likelihood`.
    Returns:
        (B, n+1) in nats; -inf for counts beyond the size of the bag. With `multiplicity`, (B, N+1)
        with N the size of the largest bag; time and memory grow with the square of N.
    Raises: ValueError, as `log_likelihood`.
    Source: chapter 5.
    """
    z, m = checked(logits, None, mask, multiplicity=multiplicity)
    return log_distribution_of(z, m, multiplicity is not None).to(logits.dtype)


# The recursion ---------------------------------------------------------------------------------


class _Bag:
    """Checked bags without known labels: the rarer label is counted, and the logits are shifted."""

    def __init__(
        self,
        logits: Tensor,
        counts: Tensor,
        mask: Tensor | None,
        multiplicity: Tensor | None = None,
    ):
        z, m = checked(logits, counts, mask, multiplicity=multiplicity)
        self.dtype, self.known = logits.dtype, m * (z == torch.inf)
        self.m = m * z.isfinite()
        self.real, self.several = self.m > 0, bool((self.m > 1).any())
        y, size = counts.long() - self.known.sum(1), self.m.sum(1)
        self.possible = (y >= 0) & (y <= size)
        y = torch.where(self.possible, y, 0)
        self.flip = 2 * y > size  # count negatives instead: fewer states, and y = n becomes y = 0
        self.y = torch.where(self.flip, size - y, y)
        z = z.masked_fill(~self.real, 0)
        self.z = torch.where(self.flip[:, None], -z, z)
        with torch.no_grad():
            self.order, centre, tilt = _tilt(self.z, self.y, self.m)
        # centre first: added to a large centre, a small tilt would be rounded away
        shifted = (self.z - centre[:, None]) + tilt[:, None]
        self.log_b = F.logsigmoid(shifted).masked_fill(~self.real, -torch.inf)
        self.log_a = F.logsigmoid(-shifted).masked_fill(~self.real, 0)

    def log_coefficient(self, log_b: Tensor) -> Tensor:
        """Return the log of the coefficient of x**y in the product of (a + b x)**m, (B,)."""
        if not self.several:
            return _log_coefficient(self.log_a, log_b, self.y)
        first = (~self.real).long().argsort(dim=1, stable=True)
        log_p = torch.stack([self.log_a, log_b.masked_fill(~self.real, 0)], 2)
        log_p = log_p.gather(1, first[:, :, None].expand_as(log_p))
        both = torch.stack([self.m.sum(1) - self.y, self.y], 1)
        return window.log_likelihood(log_p, both, self.m.gather(1, first))

    def undo_shift(self) -> Tensor:
        """Return the logarithm of P(y) before the shift over P(y) after it, (B,); exact.

        The ratio is the same for all configurations with y positives. It is taken from the most
        probable one: the shift makes none of its labels improbable, so no large terms cancel.
        """
        ones = _first(self.order, self.y, self.m)
        change = 0
        for k, z, after in ((ones, self.z, self.log_b), (self.m - ones, -self.z, self.log_a)):
            none = k == 0
            change += (F.logsigmoid(z) - after.masked_fill(none, 0)).masked_fill(none, 0) * k
        return change.sum(1)

    def finish(self, value: Tensor) -> Tensor:
        """Return log-likelihoods in the dtype of the input, -inf where the count is impossible."""
        value = torch.where(self.possible, value, 0).clamp_max(0)
        return value.masked_fill(~self.possible, -torch.inf).to(self.dtype)

    def unflip(self, phi: Tensor) -> Tensor:
        """Return the posteriors of positives, known labels too, from those of the counted label."""
        phi = torch.where(self.flip[:, None], self.m - phi, phi) * self.real + self.known.to(phi)
        return (phi * self.possible[:, None]).to(self.dtype)


def _first(order: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """Return how many of each row's m instances are among the first y in this order, (B, n)."""
    sizes = m.gather(1, order)
    before = sizes.cumsum(1) - sizes
    taken = torch.minimum((y[:, None] - before).clamp_min(0), sizes)
    return torch.zeros_like(m).scatter(1, order, taken)


def _tilt(z: Tensor, y: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the shift that makes y a probable count: subtract a centre (B,), add a tilt (B,).

    The first result is the order of the logits (B, n), descending, padding last.

    The centre is half-way between the y-th and the next logit. There the most probable
    configuration has a probability of at least 2**-n, which suffices for one chunk. For longer bags
    bisection finds the tilt with expected count y; y is then the mode (Darroch, 1964), with a
    probability of at least 1 / (n + 1). The tilt stays below log(n) + 1: beyond, one of these two
    logits alone outweighs all instances on the other side.
    """
    size = m.sum(1).clamp_min(1)
    ordered, order = z.masked_fill(m == 0, -torch.inf).sort(1, descending=True)
    tilt = torch.where(y == 0, -size.to(z).log(), 0)
    if z.shape[1] == 0:
        return order, tilt, tilt
    last = m.gather(1, order).cumsum(1)
    rows = torch.searchsorted(last, torch.stack([y - 1, y], 1).clamp_min(0), right=True)
    pair = ordered.gather(1, rows.clamp_max(z.shape[1] - 1))
    centre = torch.where((m > 0).any(1), pair[:, 0] / 2 + pair[:, 1] / 2, 0)
    if z.shape[1] > _SCAN or bool((m > 1).any()):
        centred, high = z - centre[:, None], size.to(z).log() + 1
        low = -high
        for _ in range(20):
            tilt = low / 2 + high / 2
            few = ((centred + tilt[:, None]).sigmoid() * m).sum(1) < y.clamp_min(0.5)
            low, high = torch.where(few, tilt, low), torch.where(few, high, tilt)
    return order, centre, tilt


def _log_coefficient(log_a: Tensor, log_b: Tensor, y: Tensor) -> Tensor:
    """Return the log of the coefficient of x**y in the product over instances of a + b x, (B,).

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


def log_distribution_of(z: Tensor, m: Tensor, several: bool = False) -> Tensor:
    """Return the distribution of the count, (B, n+1), by the recursion in log space.

    m, (B, n): the multiplicity, or bool where each row is an instance or padding. With `several`
    the result is (B, N+1), N the size of the largest bag.
    """
    log_rho = F.logsigmoid(z).masked_fill(m == 0, -torch.inf)
    log_not = F.logsigmoid(-z).masked_fill(m == 0, 0)
    f = z[:, :0].sum(1, keepdim=True)  # zeros, in the graph even if n = 0
    if several:
        _check_cells(m)
        for i in range(z.shape[1]):
            f = _log_convolve(f, _log_binomial(log_rho[:, i], log_not[:, i], m[:, i]))
        size = int(m.sum(1).max()) if len(m) else 0
        return cut(f[:, : size + 1])
    for i in range(z.shape[1]):
        stays = F.pad(f + log_not[:, i, None], (0, 1), value=-torch.inf)
        moves = F.pad(f + log_rho[:, i, None], (1, 0), value=-torch.inf)
        f = logsumexp(torch.stack([stays, moves]), 0)
    return cut(f)


def _check_cells(m: Tensor) -> None:
    """Raise ValueError where the largest convolution would hold too many numbers."""
    size, row = (int(x.max()) if x.numel() else 0 for x in (m.sum(1), m))
    cells = len(m) * (size + 1) * (min(row, size - row) + 1)
    if cells > MAX_CELLS:
        raise ValueError(
            f"multiplicity gives {len(m)} bags of up to {size} instances, whose distributions take "
            f"{cells:.3g} numbers at a time, at most {MAX_CELLS} are allowed; take fewer bags, or "
            "log_likelihood, which computes one count of any bag"
        )


def _log_binomial(log_rho: Tensor, log_not: Tensor, m: Tensor) -> Tensor:
    """Return the log-distribution of the positives among m instances, (B, largest m + 1)."""
    m = m[:, None].double()
    k = torch.arange(int(m.max()) + 1 if len(m) else 1, device=m.device, dtype=m.dtype)
    rest = (m - k).clamp_min(0)
    ways = torch.lgamma(m + 1) - torch.lgamma(k + 1) - torch.lgamma(rest + 1)
    terms = [x[:, None].masked_fill(t == 0, 0) * t for x, t in ((log_rho, k), (log_not, rest))]
    return (ways + terms[0] + terms[1]).masked_fill(k > m, -torch.inf)


def _log_convolve(f: Tensor, g: Tensor) -> Tensor:
    """Return log of the convolution of exp f (B, s) and exp g (B, t), (B, s + t - 1)."""
    f, g = (g, f) if g.shape[1] > f.shape[1] else (f, g)
    short = g.shape[1]
    padded = F.pad(f, (short - 1, short - 1), value=-torch.inf)
    return logsumexp(padded.unfold(1, short, 1) + g.flip(1)[:, None], 2)


def _product(f: Tensor, g: Tensor) -> Tensor:
    """Return products of polynomials over the last axis, with absolute errors near 1e-16.

    The errors are small relative to the coefficient at the mode.
    """
    size = f.shape[-1] + g.shape[-1] - 1
    return torch.fft.irfft(torch.fft.rfft(f, size) * torch.fft.rfft(g, size), size)
