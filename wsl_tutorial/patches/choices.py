"""Other ways to choose K of many with a gradient; the lifting is compared with them."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from .._shapes import FLOATS, check_int, check_tensor, described, widened
from ._inputs import check_heatmap, check_odd, check_positive, places_at

_FAR = 1e300  # beyond every score: inf - inf would be NaN


@widened
def soft_top_k(scores: Tensor, k: int, temperature: float) -> Tensor:
    """Eq. (9.1): soft top-K in closed form, p_i = sigmoid((s_i - t) / temperature), sum p_i = K.

    This is the optimum of entropic optimal transport between n scores and two anchors, the limit of
    `sinkhorn_top_k`, with O(n) memory. Bisection finds t. One more step, by Chebyshev's method, has
    the value 0 and the first and second derivative of t: dp/ds = (diag(v) - v v' / sum v) /
    temperature with v = p (1 - p). Differentiable twice; a third derivative would be wrong.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; temperature > 0.
    Returns: (B, n) in [0, 1], summing to K; if at most K scores are finite, these get 1; a row with
        a NaN or inf is NaN.
    Raises: ValueError for k or temperature out of range.
    Source: Xie et al. (2020), arXiv 2002.06504, for the operator; the threshold form is derived.
    """
    _check_scores(scores, k)
    check_positive("temperature", temperature)
    z, log_n = _nan_rows(scores).double() / temperature, math.log(scores.shape[1])
    real = z.detach().isfinite()
    best = z.detach().masked_fill(~real, -torch.inf).topk(k + 1, 1).values
    few = best[:, k:] == -torch.inf  # at most k are finite: each gets 1
    smallest = z.detach().masked_fill(~real, _FAR).amin(1, keepdim=True)
    base = torch.where(few, smallest, best[:, k:])
    z = z - base  # 0 is the best score that is not chosen: differences keep their digits
    fixed, gap = z.detach(), (best[:, k - 1 : k] - base).masked_fill(few, 0)
    # n sigmoids of -log n are below 1, and one of log n is above 1 - 1 / n
    low, high = (torch.where(few, -40.0, t) for t in (-log_n, gap + log_n))
    for _ in range(60):
        t = (low + high) / 2
        many = (fixed - t).sigmoid().sum(1, keepdim=True) > k
        low, high = torch.where(many, t, low), torch.where(many, high, t)
    t = torch.where(gap > 100, gap / 2, t)  # in so wide a gap any t gives the same p
    p = (z - t).sigmoid()  # (B, n)
    v, total = p * (1 - p), p.sum(1, keepdim=True)
    slope = v.sum(1, keepdim=True)
    slope = slope.masked_fill(slope < 1 / _FAR, torch.inf)
    newton = (total - total.detach()) / slope  # 0
    bend = ((v * (1 - 2 * p)).sum(1, keepdim=True) / (2 * slope)).detach()
    return (z - (t + newton + bend * newton.square())).sigmoid().to(scores.dtype)


@widened
def sinkhorn_top_k(scores: Tensor, k: int, temperature: float, iterations: int) -> Tensor:
    """Return soft top-K by Sinkhorn's iterations: transport of n scores to the anchors 0 and 1.

    The cost is (s_i - anchor)**2, the masses are n - K and K at the anchors and 1 at each score;
    all in log space. An iteration ends with the anchors, so the result sums to K after the first
    one, but an entry may be far above 1 until many are done. Only the difference of the two costs
    matters, 2 s_i - 1, so the limit is `soft_top_k` at half the temperature. The gradient, of any
    order, passes through all iterations.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; temperature > 0;
        iterations at least 1.
    Returns: (B, n), the mass that goes to anchor 1; sums to K; if at most K scores are finite,
        these get 1; a row with a NaN or inf is NaN.
    Raises: ValueError for k, temperature or iterations out of range.
    Source: Xie et al. (2020), arXiv 2002.06504, section 3.
    """
    _check_scores(scores, k)
    check_positive("temperature", temperature)
    check_int("iterations", iterations, 1)
    scores = _nan_rows(scores)
    n, never = scores.shape[1], scores == -torch.inf
    forced = (~never).sum(1, keepdim=True) <= k  # (B, 1): nothing to choose
    s = scores.double().masked_fill(never | forced, 0)
    closed = F.pad((never & ~forced)[..., None], (1, 0))  # no transport to anchor 1
    log_kernel = F.pad((2 * s - 1)[..., None] / temperature, (1, 0))  # (B, n, 2), up to s**2
    log_kernel = log_kernel.masked_fill(closed, -torch.inf)
    log_mass = torch.log(
        torch.stack([torch.full_like(s[:, 0], n - k), torch.full_like(s[:, 0], k)], 1)
    )[:, None]
    column = torch.zeros_like(log_mass)
    for _ in range(iterations):
        row = -(log_kernel + column).logsumexp(2, keepdim=True)
        column = log_mass - (log_kernel + row).logsumexp(1, keepdim=True)
    share = (log_kernel + row + column)[..., 1].exp()
    return torch.where(forced, (~never).to(share.dtype), share).to(scores.dtype)


@widened
def perturbed_top_k(
    scores: Tensor, k: int, sigma: float, samples: int, generator: torch.Generator
) -> Tensor:
    """Eq. (9.2): perturbed top-K, the mean of hard indicators over Gaussian noise on the scores.

    The expectation is smooth in the scores s, with derivative E[Y z'] / sigma, where z is the noise
    and Y the indicators: the derivative acts on the density of s + sigma z at the drawn points. The
    same samples estimate the value and all derivatives without bias: each sample is weighted by the
    density divided by its own constant copy.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; sigma > 0, the
        standard deviation of the noise; samples at least 1.
    Returns: (B, K, n), row j for the j-th chosen in the order of the index; rows sum to 1, but if
        fewer than K scores are finite the last rows are 0. NaN for scores with a NaN or inf.
    Raises: ValueError for k, sigma or samples out of range.
    Source: Cordonnier et al. (2021), arXiv 2104.03059; Berthet et al. (2020) for the gradient.
    """
    _check_scores(scores, k)
    check_positive("sigma", sigma)
    check_int("samples", samples, 1)
    b, n = scores.shape
    scores = _nan_rows(scores)
    noise = torch.randn(
        b, samples, n, generator=generator, dtype=scores.dtype, device=scores.device
    )
    fixed = scores.detach()
    height = fixed.topk(k, 1).values[:, -1:]  # subtracted first, it rounds away no noise
    fixed = fixed - height.masked_fill(height.isinf(), 0)
    best = (fixed[:, None] + sigma * noise).topk(k, 2)
    chosen = best.indices.masked_fill(best.values == -torch.inf, n).sort(2).values  # n: none
    s = scores.masked_fill(scores == -torch.inf, 0)
    a = (s[:, None] * noise).sum(2) / sigma
    moved = (s - s.detach()).square().sum(1, keepdim=True) / (2 * sigma**2)  # 0
    weight = (a - a.detach() - moved).exp() / samples  # (B, M): 1 / M
    chosen = chosen.transpose(1, 2)  # (B, K, M)
    total = scores.new_zeros(b, k, n + 1)
    total = total.scatter_add(2, chosen, weight[:, None].expand_as(chosen))[..., :n]
    return total.masked_fill(scores.isnan().any(1)[:, None, None], torch.nan)


@widened
def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Eq. (9.3): the values of `hard` with the gradient of `soft`; biased.

    With ones for `hard` and the K largest values of a heat map for `soft`, it is a gate of 1 on
    each patch that passes the gradient of the task loss to the heat map.

    Args: hard, soft of one shape, soft float32 or float64; -inf in `soft` (no place) passes no
        gradient.
    Returns: exactly `hard`, in the dtype of `soft`; NaN where `soft` is NaN or inf. All derivatives
        are those of `soft`.
    Raises: ValueError if the shapes differ, or for another dtype.
    Source: Bengio, Léonard & Courville (2013), arXiv 1308.3432.
    """
    if not isinstance(hard, Tensor) or hard.is_complex() or not hard.numel():
        raise ValueError(f"hard must be a real tensor with an element, got {described(hard)}")
    if not isinstance(soft, Tensor) or hard.shape != soft.shape or soft.dtype not in FLOATS:
        raise ValueError(
            f"soft must have the shape of hard, {tuple(hard.shape)}, in float32 or float64, "
            f"got {described(soft)}"
        )
    gradient = torch.where(soft == -torch.inf, 0, soft - soft.detach())  # of value 0
    return hard.detach().to(soft.dtype) + gradient


@widened
def draw_places(
    heatmap: Tensor, k: int, size: int, side: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Eq. (9.4): K places drawn in turn, each suppressing its window, and their log-probability.

    This is a sequential Plackett-Luce model: a pixel is drawn with probability softmax(h) over the
    remaining pixels; then it and all pixels in its window of `size` x `size` pixels are removed. To
    draw, add Gumbel noise once and take the largest remaining pixel K times; this has the same
    distribution, because an exponential race has no memory. When no pixel remains, the first place
    is repeated with probability 1.

    Args: heatmap (B, H, W), logits, -inf for a pixel never drawn; k at least 1; size odd; side in
        pixels.
    Returns: places (B, K, 3), and the exact log-probability (B,) of the sequence, in nats; NaN for
        a map with a NaN or inf. A map of -inf alone gives its first pixel, with 0.
    Raises: ValueError for a k below 1, an even or non-positive size.
    Source: Kool, van Hoof & Welling (2019), arXiv 1903.06059, without suppression.
    """
    check_heatmap(heatmap, (3,))
    check_odd(size)
    check_int("k", k, 1)
    score, width = heatmap.flatten(1), heatmap.shape[2]
    gumbel = -torch.empty_like(score).exponential_(generator=generator).log()
    pixel = torch.arange(score.shape[1], device=score.device)
    left, log_prob, drawn = score.detach() != -torch.inf, score.new_zeros(len(score)), []
    for _ in range(k):  # draws, for all images at once
        any_left = left.any(1, keepdim=True)
        top = score.detach().masked_fill(~left, -torch.inf).amax(1, keepdim=True)
        ahead = score - top.masked_fill(top.isinf(), 0)  # keeps digits, whatever the height
        noisy = (ahead.detach() + gumbel).masked_fill(~left, -torch.inf)
        index = noisy.argmax(1, keepdim=True)  # (B, 1)
        log_p = ahead.gather(1, index) - ahead.masked_fill(~left, -torch.inf).logsumexp(1, True)
        log_prob = log_prob + torch.where(any_left, log_p, 0)[:, 0]
        drawn.append(torch.where(any_left, index, drawn[0]) if drawn else index)
        across, down = index % width - pixel % width, index // width - pixel // width
        left = left & (torch.maximum(across.abs(), down.abs()) > size // 2)
    index = torch.cat(drawn, 1)
    places = places_at(index % width, index // width, side, heatmap)
    return places.masked_fill(log_prob.isnan()[:, None, None], torch.nan), log_prob


@widened
def reinforce(losses: Tensor, log_prob: Tensor) -> Tensor:
    """Eq. (9.5): the mean loss over M draws, with the unbiased gradient of its expectation.

    The baseline of a draw is the mean loss of the other draws, which are independent of it. The
    second derivative is unbiased too: each draw has as a factor its probability divided by its own
    constant copy.

    Args: losses and log_prob (M, B), of M >= 2 independent draws for each image.
    Returns: (B,), the mean of `losses`, differentiable in them and in `log_prob`.
    Raises: ValueError for a single draw.
    Source: Williams (1992); Foerster et al. (2018), "DiCE", for the factor; Kool, van Hoof &
        Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    check_tensor("losses", losses, ("M", "B"))
    check_tensor("log_prob", log_prob, losses.shape, losses)
    draws = len(losses)
    if draws < 2:
        raise ValueError(f"losses must hold at least 2 draws, got shape {tuple(losses.shape)}")
    gain = (losses - losses.mean(0)).detach() * draws / (draws - 1)
    gain = gain + (losses - losses.detach())  # the loss has a gradient, its baseline has none
    return (losses + gain * (log_prob - log_prob.detach()).expm1()).mean(0)


@widened
def soft_argmax(heatmap: Tensor, strength: float, side: float) -> Tensor:
    """Eq. (9.6): the channel-wise baseline, the mean pixel of each of K maps under its softmax.

    Args: heatmap (B, K, H, W), a map for each place; strength > 0; side in pixels.
    Returns: places (B, K, 3), differentiable.
    Raises: ValueError for a strength that is not positive.
    Source: Zhang et al. (2018), "Unsupervised discovery of object landmarks", CVPR.
    """
    check_tensor("heatmap", heatmap, ("B", "K", "H", "W"))
    check_positive("strength", strength)
    flat = heatmap.flatten(2)
    ahead = flat - flat.detach().amax(2, keepdim=True)  # its product with strength keeps digits
    p = (strength * ahead).softmax(2).view(heatmap.shape)
    x = (p.sum(2) * torch.arange(p.shape[3], device=p.device)).sum(2)  # (B, K)
    y = (p.sum(3) * torch.arange(p.shape[2], device=p.device)).sum(2)
    return places_at(x, y, side, heatmap)


def _nan_rows(scores: Tensor) -> Tensor:
    """Return the scores (B, n), with each row that has a NaN or inf set to NaN."""
    return scores.masked_fill(~(scores < torch.inf).all(1, keepdim=True), torch.nan)


def _check_scores(scores: Tensor, k: int) -> None:
    """Raise ValueError unless the scores are (B, n) and k is between 1 and n - 1."""
    check_tensor("scores", scores, ("B", "n"))
    check_int("k", k, 1)
    if k >= scores.shape[1]:
        raise ValueError(f"k must be between 1 and {scores.shape[1] - 1} for these scores, got {k}")
