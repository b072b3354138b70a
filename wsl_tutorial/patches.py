"""Patches: the bag tells that *K* things matter, the image hides where they are and how large.

Shapes used throughout: `heatmap` is (B, H, W), or (B, S, H, W) with one map for each of S scales;
`scales` is (S,), the sides in pixels that the maps stand for, in increasing order. A place is
(x, y, s): the centre of a square box and its side, in pixels, where pixel centres are integers and
x runs along the width; `places` is (B, K, 3). All floats are float32 or float64. Another shape,
dtype or device raises ValueError with the argument's name, what it got and what was expected.
Values are described and not checked: nothing here loops over images or patches or waits for a
device, so that a training step may be captured in a CUDA graph. A NaN is never hidden: where one
goes in, what depends on it is NaN.

Source: Angles, Jin et al. (2021), "MIST: Multiple Instance Spatial Transformer", CVPR, arXiv
1811.10725; "paper (7)" below is its equation 7, "the release" the authors' code. The estimators at
the end are what it is compared with.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_FAR = 1e300  # beyond every score: inf - inf would be NaN
_FLOATS = (torch.float32, torch.float64)

# From a heat map to places: E_K ------------------------------------------------------------------


def local_softmax(heatmap: Tensor, size: int, strength: float, floor: float = 0.0) -> Tensor:
    """Eq. (8.1): softmax of every pixel among the `size` x `size` pixels around it.

    exp(a h_i) over the sum of exp(a h_j), j in the window of i, a the strength. The window is
    clipped at the borders. Summed one axis after the other, relative to the window's own maximum:
    nothing overflows, and no peak vanishes or loses digits beside a greater one. A peak with no
    rival in its window gets 1 whatever its height, a constant map one over the size of the window.
    For great strength: 1 at maxima of their window, shared where they are equal, and 0 elsewhere.

    `floor` > 0 adds a rival to every window: floor exp(a M), M the maximum of the whole map. So a
    peak more than log(1 / floor) / a below M fades. The release has floor = 1e-6 at a = 10 (1.4
    below M), and takes the sums of windows that leave the map from the nearest one inside.

    Args: heatmap (B, H, W) or (B, S, H, W), finite scores; size odd; strength > 0; floor >= 0.
    Returns: probabilities in the shape of `heatmap`.
    Raises: ValueError for an even or non-positive size, or strength or floor out of range.
    Source: Ono et al. (2018), LF-Net; paper, appendix A of arXiv version 3 (15 x 15 pixels).
    """
    _check_heatmap(heatmap)
    _check_odd(size)
    _check_positive("strength", strength)
    _check_not_negative("floor", floor)
    r = size // 2
    peak, mass = heatmap, torch.ones_like(heatmap)  # the sum so far is mass exp(strength peak)
    for pad, dim in (((r, r), -1), ((0, 0, r, r), -2)):
        near = F.pad(peak, pad, value=-torch.inf).unfold(dim, size, 1)
        peak = near.detach().amax(-1)  # any constant gives the same sum
        masses = F.pad(mass, pad).unfold(dim, size, 1)
        mass = (masses * (strength * (near - peak[..., None])).exp()).sum(-1)
    score = strength * (heatmap - peak)
    if floor > 0:  # relative to the rival of all windows, where that is the greater
        ahead = strength * (peak - heatmap.amax((-2, -1), keepdim=True)) - math.log(floor)
        behind = ahead.detach().clamp_max(0)
        mass = mass * behind.exp() + (behind - ahead).exp()
        score = score + behind
    return score.exp() / mass


def pool_scales(heatmap: Tensor) -> Tensor:
    """Softmax pooling over scale: the mean of h_s weighted by h_s itself, sum h_s**2 / sum h_s.

    The maps are already exponentials, so the weights need none.

    Args: heatmap (B, S, H, W), not negative.
    Returns: (B, H, W), between the mean and the maximum over s; 0, with gradient 0, where all are,
        or their sum is below 1e-19 (1e-154 in float64).
    Source: paper, appendix A of arXiv version 3, which adds 1e-6 to the sum instead.
    """
    _check_heatmap(heatmap, (4,))
    return (heatmap * _shares(heatmap)[0]).sum(1)


def first_moment(heatmap: Tensor, scales: Tensor) -> Tensor:
    """Eq. (8.6): the side of the box at every pixel, sum h_s s / sum h_s.

    The paper prints sum h_s s without the division. That is no inverse of `ideal_heatmap` where the
    h_s do not sum to 1, and the terms of the pooling, h_s**2 / sum h_s, do only where sum h_s**2 =
    sum h_s: of maps that sum to 1, where one scale has it all. Two equal neighbours, (1/2, 1/2) at
    1 and 2, pool to (1/4, 1/4) and give 3/4 instead of 3/2. Normalising the pooled terms is no
    cure either, as pooling squares the weights. So the weights are the maps before pooling.

    Args: heatmap (B, S, H, W), not negative; scales (S,) in pixels.
    Returns: (B, H, W) in pixels, differentiable; the mean of `scales` where all h_s are 0, or
        their sum is below 1e-19 (1e-154 in float64), which is taken for 0.
    Source: paper, section 4.1; Suwajanakorn et al. (2018) for the moments.
    """
    _check_heatmap(heatmap, (4,))
    _check_scales(scales, heatmap)
    share, empty = _shares(heatmap)
    moment = (share * scales[:, None, None]).sum(1)
    return torch.where(empty, scales.mean(), moment)


def suppress(heatmap: Tensor, size: int) -> Tensor:
    """Non-maximum suppression: keep a pixel that is the greatest in its window, else -inf.

    The window has `size` x `size` pixels and is clipped at the borders. Of equals, the first in
    reading order is the greater: so no survivor lies in the window around another, they are more
    than size // 2 apart along an axis, and of a constant map only the first pixel survives (with
    size 1 all do). The release lets all equals pass, and sets the rest to 0, which beats maxima
    below 0.

    Args: heatmap (B, H, W) or (B, S, H, W), each map by itself; size odd.
    Returns: in the shape of `heatmap`; pixels of -inf never survive, those of NaN always.
    Raises: ValueError for an even or non-positive size.
    Source: paper, section 4.1; 5 x 5 pixels in the release.
    """
    _check_heatmap(heatmap)
    _check_odd(size)
    r, (h, w) = size // 2, heatmap.shape[-2:]
    if r == 0:
        return heatmap
    x = heatmap.detach().reshape(-1, 1, h, w)
    rows = F.max_pool2d(x, (1, size), 1, (0, r))  # of the window, each by itself
    greatest = F.max_pool2d(rows, (size, 1), 1, (r, 0))
    above = F.max_pool2d(F.pad(rows, (0, 0, r, -1), value=-torch.inf), (r, 1), 1)
    left = F.max_pool2d(F.pad(x, (r, -1), value=-torch.inf), (1, r), 1)
    keep = (x == greatest) & (x > torch.maximum(above, left)) | x.isnan()
    return heatmap.masked_fill(~keep.view(heatmap.shape), -torch.inf)


def top_k(heatmap: Tensor, k: int, side: float | Tensor) -> tuple[Tensor, Tensor]:
    """The places of the K greatest values, in falling order; of equals the first in reading order.

    -inf means nobody is there. Where a map has fewer than K finite values, its best place is
    repeated, with value -inf; an empty map gives its first pixel, also with value -inf. All places
    of a map with a NaN are NaN.

    Args:
        heatmap: (B, H, W), as `suppress` returns it.
        k: between 1 and H W.
        side: of the boxes in pixels; a number, or (B, H, W) as `first_moment` returns it.
    Returns:
        places (B, K, 3) and values (B, K), differentiable in heatmap and side but not in x and y.
    Raises: ValueError for k out of range.
    Source: paper, section 4.1.
    """
    _check_heatmap(heatmap, (3,))
    flat = heatmap.flatten(1)
    if not isinstance(k, int) or not 1 <= k <= flat.shape[1]:
        raise ValueError(f"k must be whole, between 1 and the {flat.shape[1]} pixels, got {k!r}")
    values, index = (t[:, :k] for t in flat.sort(dim=1, descending=True, stable=True))
    index = torch.where(values > -torch.inf, index, index[:, :1])  # (B, K)
    if isinstance(side, Tensor):
        _check_like("side", side, heatmap.shape, heatmap)
        side = side.flatten(1).gather(1, index)
    width, lost = heatmap.shape[2], values[:, :1, None].isnan()  # NaN sorts first
    places = _places(index % width, index // width, side, heatmap)
    return places.masked_fill(lost, torch.nan), values


def extract(heatmap: Tensor, k: int, size: int, scales: float | Tensor) -> tuple[Tensor, Tensor]:
    """Eq. (8.2): E_K: pool scales, suppress, take the K greatest; sides by the first moment.

    Args:
        heatmap: (B, H, W), or (B, S, H, W) and then not negative.
        k, size: as in `top_k`, `suppress`.
        scales: (S,) in pixels for S maps; a number, the side of every box, for one map.
    Returns and errors: as `top_k`.
    Source: paper, section 4.1.
    """
    _check_heatmap(heatmap)
    if heatmap.dim() == 3:
        if isinstance(scales, Tensor):
            raise ValueError(f"scales must be a number for one map, got {_got(scales)}")
        return top_k(suppress(heatmap, size), k, scales)
    return top_k(suppress(pool_scales(heatmap), size), k, first_moment(heatmap, scales))


def ideal_heatmap(places: Tensor, shape: tuple[int, int], scales: Tensor | None = None) -> Tensor:
    """Eq. (8.7): G, the heat map whose extracted places are `places`, 1 at rounded centres.

    With scales the 1 is split between the two nearest so that their mean is the side, sides beyond
    the ends counting as the ends. Hence E_K(G(x)) = x for centres on pixels, sides within the
    scales, and places of which none lies in the window of suppression around another. Centres
    outside the image move to its border; where centres collide the greater value stays. A place
    that is not finite makes a pixel NaN.

    Args: places (B, K, 3); shape (H, W); scales (S,) in pixels, None for one map.
    Returns: (B, H, W) or (B, S, H, W); a target, so no gradient flows to the places.
    Source: paper, section 4.1, and appendix B of arXiv version 3; one scale in the release.
    """
    _check_places(places)
    _check_shape(shape)
    places, (h, w) = places.detach(), shape
    needed = places[..., :2] if scales is None else places
    lost = ~needed.isfinite().all(-1, keepdim=True)  # has no pixel, and must not hide that
    x, y = (places[..., :2] + 0.5).floor().masked_fill(lost, 0).unbind(-1)
    x, y = x.clamp(0, w - 1).long(), y.clamp(0, h - 1).long()
    share = torch.ones_like(places[..., :1])  # (B, K, S)
    if scales is not None:
        _check_scales(scales, places)
        scales = scales.detach()
        passed = (places[..., 2:] - scales[:-1]) / scales.diff()  # of each interval of scales
        share = -F.pad(F.pad(passed.clamp(0, 1), (1, 0), value=1.0), (0, 1)).diff()
    share = share.masked_fill(lost, torch.nan).transpose(1, 2)
    empty = places.new_zeros(*share.shape[:2], h * w)
    filled = empty.scatter_reduce(2, (y * w + x)[:, None].expand_as(share), share, "amax")
    filled = filled.unflatten(2, (h, w))
    return filled[:, 0] if scales is None else filled


# From places to patches and back: S --------------------------------------------------------------


def sample(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Eq. (8.3): S, the patch under each box, `size` x `size` bilinear samples edge to edge.

    Corner-aligned: the outermost samples lie on the edges, x - s/2 and x + s/2, neighbours are
    s / (size - 1) pixels apart. Outside the image there are zeros, so a patch fades within a pixel
    of the border. Differentiable in images, centres and sides, piecewise: the derivative in x is
    the difference of two neighbouring pixels of a row, or between rows the mean of two such,
    weighted as the rows.

    Args: images (B, C, H, W); places (B, K, 3), sides positive; size at least 2.
    Returns: (B, K, C, size, size); NaN for a place that is not finite.
    Raises: ValueError for a size below 2.
    Source: paper, section 4.1; Jaderberg et al. (2015). 32 x 32 samples in the paper.
    """
    _check_like("images", images, ("B", "C", "H", "W"))
    _check_places(places, images)
    if not isinstance(size, int) or size < 2:
        raise ValueError(f"size must be at least 2 samples from edge to edge, got {size!r}")
    b, c, h, w = images.shape
    step = torch.linspace(-0.5, 0.5, size, dtype=images.dtype, device=images.device)
    at = places[..., :2, None] + places[..., 2:, None] * step  # (B, K, 2, size)
    extent = torch.stack([torch.full_like(step, w), torch.full_like(step, h)])  # (2, size)
    x, y = ((2 * at + 1) / extent - 1).unbind(2)  # pixel centres to grid_sample's coordinates
    shape = (*x.shape, size)
    grid = torch.stack([x[:, :, None, :].expand(shape), y[..., None].expand(shape)], -1)
    flat = F.grid_sample(images, grid.flatten(1, 2), align_corners=False)  # (B, C, K size, size)
    return _unless_lost(flat.view(b, c, *shape[1:]).transpose(1, 2), places)


def place(patches: Tensor, places: Tensor, shape: tuple[int, int]) -> Tensor:
    """Eq. (8.4): the generalised inverse of S, each patch warped into its box among zeros.

    Every pixel reads its patch by bilinear interpolation at the position that `sample` would have
    taken there. Beyond the box the patch continues with zeros, so it fades within one step of its
    samples, s / (size - 1) pixels: the value is continuous in the centre at the edge as well. Its
    derivative jumps there, as at every sample.
    The exact inverse of `sample` where the samples are the pixels of the box (side = size - 1,
    edges on pixels), but for pixels outside the box, which are lost.

    Args: patches (B, K, C, size, size), size at least 2; places (B, K, 3); shape (H, W).
    Returns: (B, K, C, H, W), one image for each patch, NaN for a place that is not finite; the
        reconstruction is the sum over K.
    Source: paper (8) and section 4.2, where the way is left open.
    """
    _check_like("patches", patches, ("B", "K", "C", "size", "size"))
    _check_places(places, patches)
    b, k, _, size, across = patches.shape
    if size < 2 or size != across or places.shape[1] != k:
        raise ValueError(
            f"patches must be (B, {places.shape[1]}, C, size, size) with size at least 2, "
            f"got shape {tuple(patches.shape)}"
        )
    _check_shape(shape)
    h, w = shape
    kind = {"dtype": places.dtype, "device": places.device}
    x, y, s = places.flatten(0, 1)[:, :, None].unbind(1)  # each (B K, 1)
    x = 2 * (torch.arange(w, **kind) - x) / s  # -1 and 1 on the edges of the box
    y = 2 * (torch.arange(h, **kind) - y) / s
    grid = torch.stack([x[:, None, :].expand(-1, h, w), y[:, :, None].expand(-1, h, w)], -1)
    flat = F.grid_sample(patches.flatten(0, 1), grid, align_corners=True)
    return _unless_lost(flat.unflatten(0, (b, k)), places)


def _unless_lost(patches: Tensor, places: Tensor) -> Tensor:
    """NaN where a place is not finite: grid_sample takes such a position for the outside, 0."""
    lost = ~places.isfinite().all(-1)
    return patches.masked_fill(lost[..., None, None, None], torch.nan)


# Losses ------------------------------------------------------------------------------------------


def proportion_loss(logits: Tensor, counts: Tensor) -> Tensor:
    """Eq. (8.10): squared distance of the labels' proportions and the places' mean softmax.

    Both sides are proportions, so the number of labels may differ from the number of places.

    Args: logits (B, K, C), a class for every place; counts (B, C), how many labels of each class,
        any real dtype, not negative. A bag without labels has proportions 0.
    Returns: (B,).
    Source: paper (9). The release takes half of it.
    """
    _check_like("logits", logits, ("B", "K", "C"))
    return proportion_distance(logits.softmax(2).mean(1), counts)


def proportion_distance(p: Tensor, counts: Tensor) -> Tensor:
    """Eq. (8.10) for mean probabilities that are at hand: those of gated or weighted places.

    Args: p (B, C), the mean over the places; counts (B, C) as in `proportion_loss`.
    Returns: (B,).
    Source: paper (9).
    """
    _check_like("p", p, ("B", "C"))
    fits = isinstance(counts, Tensor) and counts.shape == p.shape and not counts.is_complex()
    if not fits or counts.device != p.device:
        where = f"{tuple(p.shape)} on {p.device}"
        raise ValueError(f"counts must be real, of shape {where}, got {_got(counts)}")
    counts = counts.to(p.dtype)  # whose sum neither wraps nor rounds more than p
    total = counts.sum(1, keepdim=True)
    share = counts / total.masked_fill(total == 0, 1)
    return (share - p).square().sum(1)


def reconstruction_loss(images: Tensor, patches: Tensor, places: Tensor) -> Tensor:
    """Eq. (8.5): mean squared difference of the image and the sum of its patches, put back.

    Args: images (B, C, H, W); patches (B, K, C, size, size); places (B, K, 3).
    Returns: (B,), the mean over pixels and channels.
    Source: paper (8), a sum over pixels there.
    """
    _check_like("images", images, ("B", "C", "H", "W"))
    _check_like("patches", patches, (len(images), "K", images.shape[1], "size", "size"), images)
    together = place(patches, places, images.shape[2:]).sum(1)
    return (images - together).square().flatten(1).mean(1)


def heatmap_loss(
    heatmap: Tensor, places: Tensor, scales: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Eq. (8.8): mean squared difference of the heat map and the ideal one of `places`.

    Args:
        heatmap: (B, H, W), or (B, S, H, W) and then `scales` (S,) in pixels.
        places: (B, K, 3); the target is constant.
        weights: (B,), constant factors of the images; the release has exp(-5 l), l its task loss,
            which is half of `proportion_loss`.
    Returns: (B,), the mean over pixels (and scales) times the weight.
    Source: paper (7), a sum over pixels there; the weight is in the release only.
    """
    _check_heatmap(heatmap, (3,) if scales is None else (4,))
    _check_places(places, heatmap)
    if scales is not None:
        _check_scales(scales, heatmap)
    target = ideal_heatmap(places, heatmap.shape[-2:], scales)
    loss = (heatmap - target).square().flatten(1).mean(1)
    if weights is None:
        return loss
    _check_like("weights", weights, loss.shape, loss)
    return weights.detach() * loss


# The lifting: Algorithm 1 ------------------------------------------------------------------------


def move(
    places: Tensor,
    task_loss: Callable[[Tensor], Tensor],
    steps: int,
    lr: float,
    penalty: float = 0.0,
    normalise: bool = False,
    side_lr: float = 0.0,
    scales: Tensor | None = None,
) -> Tensor:
    """Eq. (8.9): gradient steps on the places, from x0, for task loss + penalty |x - x0|**2.

    One step is x <- (x - lr g + 2 lr penalty x0) / (1 + 2 lr penalty), g the gradient of the task
    loss: the penalty is minimised exactly beside the linear model of the task loss, so that no
    penalty is too great for the step; without penalty it is x - lr g. m steps without a penalty
    stop about where the penalty 1 / (2 m lr) would have held them while the slope of the loss
    hardly changes on the whole way, m lr times its curvature far below 1. In the papers a place
    moves with its side, which takes `side_lr` here; the release has one scale, and sides stay.
    The gradient is taken under `no_grad` and `inference_mode` as well; the task loss must not read
    tensors made in inference mode then, which torch refuses.

    Args:
        places: (B, K, 3), the extracted ones.
        task_loss: places (B, K, 3) -> (B,), each image's loss, a function of its own places; its
            parameters receive no gradient here.
        steps, lr: the release takes 2 steps with 1e4 on the mean over a batch of 32 of half of
            `proportion_loss`: here, where every image has its own loss, lr = 1e4 / 64.
        penalty: in units of loss per squared pixel; the papers' lambda, without a value there,
            absent from the release.
        normalise: take g / |g| for every centre, and for every side, so that the rates are lengths
            of a step in pixels, whatever the scale of the loss; what has no gradient takes no step
            of its own (a penalty still pulls it back).
        side_lr: the rate of the sides; needs `scales`.
        scales: (S,) in pixels; sides stay within their ends.
    Returns: (B, K, 3), constant.
    Raises: ValueError for a negative number of steps, rate or penalty, for `side_lr` without
        `scales`, and for a task loss that is not (B,).
    Source: paper (6) and Algorithm 1, line 4.
    """
    _check_places(places)
    if not isinstance(steps, int) or steps < 0:
        raise ValueError(f"steps must be whole and not negative, got {steps!r}")
    for name, x in {"lr": lr, "penalty": penalty, "side_lr": side_lr}.items():
        _check_not_negative(name, x)
    if scales is not None:
        _check_scales(scales, places)
    elif side_lr > 0:
        raise ValueError("scales must be given where side_lr > 0, to keep the sides within")
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):  # which knows no gradient
            kept = None if scales is None else scales.clone()
            return move(places.clone(), task_loss, steps, lr, penalty, normalise, side_lr, kept)
    start = places.detach().split((2, 1), -1)  # centres, sides
    now, rates = list(start), (lr, side_lr) if side_lr > 0 else (lr,)
    for _ in range(steps):
        free = [x.detach().requires_grad_() for x in now[: len(rates)]]
        with torch.enable_grad():
            loss = _losses(task_loss, torch.cat([*free, *now[len(rates) :]], -1))
            slopes = torch.autograd.grad(loss.sum(), free)
        for i, (g, rate) in enumerate(zip(slopes, rates, strict=True)):
            step = now[i] - rate * (_direction(g) if normalise else g)
            now[i] = torch.lerp(start[i], step, 1 / (1 + 2 * rate * penalty))
        if side_lr > 0:
            now[1] = now[1].clamp(scales[0], scales[-1])
    return torch.cat(now, -1).detach()


def _losses(task_loss: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    loss = task_loss(places)
    if not isinstance(loss, Tensor) or loss.shape != places.shape[:1]:
        raise ValueError(f"task_loss must return shape ({len(places)},), got {_got(loss)}")
    return loss


def _direction(g: Tensor) -> Tensor:
    """g / |g| along the last axis, 0 where g is; no square of a small number underflows."""
    greatest = g.abs().amax(-1, keepdim=True)
    none = greatest == 0
    g = g / greatest.masked_fill(none, 1)
    return (g / g.norm(dim=-1, keepdim=True)).masked_fill(none, 0)


class Lifted(NamedTuple):
    """What `lifted_step` returns: losses (B,), and the places (B, K, 3) after they moved."""

    task: Tensor
    heat: Tensor
    places: Tensor


def lifted_step(
    heatmap: Tensor,
    places: Tensor,
    task_loss: Callable[[Tensor], Tensor],
    steps: int,
    lr: float,
    *,
    penalty: float = 0.0,
    normalise: bool = False,
    side_lr: float = 0.0,
    scales: Tensor | None = None,
    weights: Callable[[Tensor], Tensor] | None = None,
    update_task: Callable[[Tensor], None] | None = None,
) -> Lifted:
    """Eq. (8.11): Algorithm 1 up to the optimiser: places move, both networks get a loss.

    The two losses share no parameter: the task loss sees the heat map's network only through
    places that are constants, the heat map loss sees the task network only through its target. So
    one backward pass of (task + heat).mean() and one Adam over both networks are the separate
    steps of the algorithm, in the order of the release: places, then task and heat map.

    The papers print another order: task, places, heat map. For it hand over `update_task`, which
    gets the task losses at the extracted places, and takes the optimiser step of the task network;
    the places then move under the new network, and the returned task losses are constants.

    Args:
        heatmap: (B, H, W) or (B, S, H, W), of the heat map network, with its graph.
        places: (B, K, 3), extracted from it.
        task_loss, steps, lr, penalty, normalise, side_lr: as in `move`.
        scales: (S,) in pixels, for S maps.
        weights: task losses (B,) -> the weights of `heatmap_loss`, for example that of the
            release, `lambda loss: (-2.5 * loss).exp()` for `proportion_loss`; None for 1.
    Returns: `Lifted`.
    Source: paper, Algorithm 1.
    """
    start = places.detach()
    if update_task is not None:
        task = _losses(task_loss, start)
        update_task(task)
        task = task.detach()
    moved = move(start, task_loss, steps, lr, penalty, normalise, side_lr, scales)
    if update_task is None:
        task = _losses(task_loss, moved)
    weight = None if weights is None else weights(task.detach())
    return Lifted(task, heatmap_loss(heatmap, moved, scales, weight), moved)


# What the lifting is compared with ---------------------------------------------------------------


def soft_top_k(scores: Tensor, k: int, temperature: float) -> Tensor:
    """Eq. (9.1): soft top-K in closed form, p_i = sigmoid((s_i - t) / temperature), sum p_i = K.

    The optimum of entropic optimal transport between n scores and two anchors, so the limit of
    `sinkhorn_top_k`, at O(n) memory. Bisection finds t; a step of Chebyshev's, of value 0, carries
    its first and second derivative: dp/ds = (diag(v) - v v' / sum v) / temperature with v = p (1 -
    p). Differentiable twice; a third derivative would be wrong.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; temperature > 0.
    Returns: (B, n) in [0, 1], summing to K; where no more than K are finite these get 1; a row with
        a NaN or inf is NaN.
    Raises: ValueError for k or temperature out of range.
    Source: Xie et al. (2020), arXiv 2002.06504, for the operator; the threshold form is derived.
    """
    _check_scores(scores, k)
    _check_positive("temperature", temperature)
    z, log_n = _or_lost(scores).double() / temperature, math.log(scores.shape[1])
    real = z.detach().isfinite()
    best = z.detach().masked_fill(~real, -torch.inf).topk(k + 1, 1).values
    few = best[:, k:] == -torch.inf  # no choice: 1 for all that are finite
    least = z.detach().masked_fill(~real, _FAR).amin(1, keepdim=True)
    base = torch.where(few, least, best[:, k:])
    z = z - base  # the first that is not chosen at 0: differences keep their digits
    fixed, gap = z.detach(), (best[:, k - 1 : k] - base).masked_fill(few, 0)
    # n sigmoids of -log n are below 1, and one of log n is above 1 - 1 / n
    low, high = (torch.where(few, -40.0, t) for t in (-log_n, gap + log_n))
    for _ in range(60):
        t = (low + high) / 2
        many = (fixed - t).sigmoid().sum(1, keepdim=True) > k
        low, high = torch.where(many, t, low), torch.where(many, high, t)
    t = torch.where(gap > 100, gap / 2, t)  # in so wide a gap any t will do
    p = (z - t).sigmoid()  # (B, n)
    v, total = p * (1 - p), p.sum(1, keepdim=True)
    slope = v.sum(1, keepdim=True)
    slope = slope.masked_fill(slope < 1 / _FAR, torch.inf)
    newton = (total - total.detach()) / slope  # 0
    bend = ((v * (1 - 2 * p)).sum(1, keepdim=True) / (2 * slope)).detach()
    return (z - (t + newton + bend * newton.square())).sigmoid().to(scores.dtype)


def sinkhorn_top_k(scores: Tensor, k: int, temperature: float, iterations: int) -> Tensor:
    """Soft top-K by Sinkhorn's iterations: transport of n scores to the anchors 0 and 1.

    Cost (s_i - anchor)**2, mass n - K and K at the anchors, in log space, and 1 at each score in
    the limit of many iterations: each ends with the anchors, so the answer sums to K at once, but
    after a few an entry may lie far above 1. The anchors' costs differ by 2 s_i - 1, which is all
    that matters, so the limit is `soft_top_k` at half the temperature. The gradient, of any order,
    passes through all iterations.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; temperature > 0;
        iterations at least 1.
    Returns: (B, n), the mass that goes to anchor 1; sums to K; where no more than K are finite
        these get 1; a row with a NaN or inf is NaN.
    Raises: ValueError for k, temperature or iterations out of range.
    Source: Xie et al. (2020), arXiv 2002.06504, section 3.
    """
    _check_scores(scores, k)
    _check_positive("temperature", temperature)
    _check_number("iterations", iterations)
    scores = _or_lost(scores)
    n, never = scores.shape[1], scores == -torch.inf
    forced = (~never).sum(1, keepdim=True) <= k  # (B, 1): nothing to choose
    s = scores.double().masked_fill(never | forced, 0)
    closed = F.pad((never & ~forced)[..., None], (1, 0))  # the way to anchor 1
    log_kernel = F.pad((2 * s - 1)[..., None] / temperature, (1, 0))  # (B, n, 2), but for s**2
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


def perturbed_top_k(
    scores: Tensor, k: int, sigma: float, samples: int, generator: torch.Generator
) -> Tensor:
    """Eq. (9.2): perturbed top-K, the mean of hard indicators over Gaussian noise on the scores.

    The expectation is smooth in the scores s, with derivative E[Y z'] / sigma, z the noise, Y the
    indicators: it is that of the density of s + sigma z at the drawn points. The same samples
    estimate the value and all derivatives, without bias: the weight of each is the ratio of the
    density to itself.

    Args: scores (B, n), -inf for what cannot be chosen; k between 1 and n - 1; sigma > 0, the
        standard deviation of the noise; samples at least 1.
    Returns: (B, K, n), row j for the j-th of the chosen in the order of their index; rows sum to
        1, but where fewer than K scores are finite the last rows are 0. NaN for scores with a NaN
        or inf.
    Raises: ValueError for k, sigma or samples out of range.
    Source: Cordonnier et al. (2021), arXiv 2104.03059; Berthet et al. (2020) for the gradient.
    """
    _check_scores(scores, k)
    _check_positive("sigma", sigma)
    _check_number("samples", samples)
    b, n = scores.shape
    scores = _or_lost(scores)
    noise = torch.randn(
        b, samples, n, generator=generator, dtype=scores.dtype, device=scores.device
    )
    best = (scores.detach()[:, None] + sigma * noise).topk(k, 2)
    chosen = best.indices.masked_fill(best.values == -torch.inf, n).sort(2).values  # n: nobody
    s = scores.masked_fill(scores == -torch.inf, 0)
    a = (s[:, None] * noise).sum(2) / sigma
    moved = (s - s.detach()).square().sum(1, keepdim=True) / (2 * sigma**2)  # 0
    weight = (a - a.detach() - moved).exp() / samples  # (B, M): 1 / M
    chosen = chosen.transpose(1, 2)  # (B, K, M)
    total = scores.new_zeros(b, k, n + 1)
    total = total.scatter_add(2, chosen, weight[:, None].expand_as(chosen))[..., :n]
    return total.masked_fill(scores.isnan().any(1)[:, None, None], torch.nan)


def straight_through(hard: Tensor, soft: Tensor) -> Tensor:
    """Eq. (9.3): the values of `hard` with the gradient of `soft`; biased.

    With ones for `hard` and the K greatest values of a heat map for `soft` it is a gate of 1 on
    each patch, through which the task loss reaches the heat map.

    Args: hard, soft of one shape, soft float32 or float64; -inf in `soft` (nobody is there) passes
        no gradient.
    Returns: exactly `hard`, in the dtype of `soft`; NaN where `soft` is NaN or inf. All derivatives
        are those of `soft`.
    Raises: ValueError for two shapes, or another dtype.
    Source: Bengio, Léonard & Courville (2013), arXiv 1308.3432.
    """
    if not isinstance(hard, Tensor) or hard.is_complex() or not hard.numel():
        raise ValueError(f"hard must be a real tensor with an element, got {_got(hard)}")
    if not isinstance(soft, Tensor) or hard.shape != soft.shape or soft.dtype not in _FLOATS:
        raise ValueError(
            f"soft must have the shape of hard, {tuple(hard.shape)}, in float32 or float64, "
            f"got {_got(soft)}"
        )
    gradient = torch.where(soft == -torch.inf, 0, soft - soft.detach())  # of value 0
    return hard.detach().to(soft.dtype) + gradient


def draw_places(
    heatmap: Tensor, k: int, size: int, side: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Eq. (9.4): K places drawn in turn, each suppressing its window, and their log-probability.

    A sequential Plackett-Luce model: a pixel is drawn with probability softmax(h) over the pixels
    left, then it and its neighbours within the window of `size` x `size` pixels leave. Drawn by
    adding Gumbel noise once and taking the greatest left K times, which has the same law, as an
    exponential race has no memory. When no pixel is left the first place is repeated, for sure.

    Args: heatmap (B, H, W), log-odds, -inf for never; k at least 1; size odd; side in pixels.
    Returns: places (B, K, 3), and the exact log-probability (B,) of the sequence, in nats; NaN for
        a map with a NaN or inf. A map of -inf alone gives its first pixel, with 0.
    Raises: ValueError for a k below 1, an even or non-positive size.
    Source: Kool, van Hoof & Welling (2019), arXiv 1903.06059, without suppression.
    """
    _check_heatmap(heatmap, (3,))
    _check_odd(size)
    _check_number("k", k)
    score, width = heatmap.flatten(1), heatmap.shape[2]
    noisy = score.detach() - torch.empty_like(score).exponential_(generator=generator).log()
    pixel = torch.arange(score.shape[1], device=score.device)
    left, log_prob, drawn = score.detach() != -torch.inf, score.new_zeros(len(score)), []
    for _ in range(k):  # draws, for all images at once
        any_left = left.any(1, keepdim=True)
        index = noisy.masked_fill(~left, -torch.inf).argmax(1, keepdim=True)  # (B, 1)
        log_p = score.gather(1, index) - score.masked_fill(~left, -torch.inf).logsumexp(1, True)
        log_prob = log_prob + torch.where(any_left, log_p, 0)[:, 0]
        drawn.append(torch.where(any_left, index, drawn[0]) if drawn else index)
        across, down = index % width - pixel % width, index // width - pixel // width
        left = left & (torch.maximum(across.abs(), down.abs()) > size // 2)
    index = torch.cat(drawn, 1)
    places = _places(index % width, index // width, side, heatmap)
    return places.masked_fill(log_prob.isnan()[:, None, None], torch.nan), log_prob


def reinforce(losses: Tensor, log_prob: Tensor) -> Tensor:
    """Eq. (9.5): the mean loss over M draws, with the unbiased gradient of its expectation.

    The baseline of a draw is the mean loss of the others, which is independent of it. The second
    derivative is unbiased as well: each draw has its probability over itself as a factor.

    Args: losses and log_prob (M, B), of M >= 2 independent draws for each image.
    Returns: (B,), the mean of `losses`, differentiable in them and in `log_prob`.
    Raises: ValueError for a single draw.
    Source: Williams (1992); Foerster et al. (2018), "DiCE", for the factor; Kool, van Hoof &
        Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!".
    """
    _check_like("losses", losses, ("M", "B"))
    _check_like("log_prob", log_prob, losses.shape, losses)
    draws = len(losses)
    if draws < 2:
        raise ValueError(f"losses must hold at least 2 draws, got shape {tuple(losses.shape)}")
    gain = (losses - losses.mean(0)).detach() * draws / (draws - 1)
    gain = gain + (losses - losses.detach())  # the loss has a slope, its baseline has none
    return (losses + gain * (log_prob - log_prob.detach()).expm1()).mean(0)


def soft_argmax(heatmap: Tensor, strength: float, side: float) -> Tensor:
    """Eq. (9.6): the channel-wise baseline, the mean pixel of each of K maps under its softmax.

    Args: heatmap (B, K, H, W), a map for each place; strength > 0; side in pixels.
    Returns: places (B, K, 3), differentiable.
    Raises: ValueError for a strength that is not positive.
    Source: Zhang et al. (2018), "Unsupervised discovery of object landmarks", CVPR.
    """
    _check_like("heatmap", heatmap, ("B", "K", "H", "W"))
    _check_positive("strength", strength)
    p = (strength * heatmap).flatten(2).softmax(2).view(heatmap.shape)
    x = (p.sum(2) * torch.arange(p.shape[3], device=p.device)).sum(2)  # (B, K)
    y = (p.sum(3) * torch.arange(p.shape[2], device=p.device)).sum(2)
    return _places(x, y, side, heatmap)


# Small parts and checks --------------------------------------------------------------------------


def _shares(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """h_s / sum h_s (B, S, H, W), and where the sum is 0 (B, H, W); the shares are 0 there.

    Below 1e-19 (1e-154 in float64) counts as 0: the derivative, its reciprocal, must stay finite.
    """
    total = heatmap.sum(1)
    empty = total < torch.finfo(total.dtype).tiny ** 0.5
    return heatmap.masked_fill(empty[:, None], 0) / total.masked_fill(empty, 1)[:, None], empty


def _or_lost(scores: Tensor) -> Tensor:
    """Scores (B, n), and rows that hold a NaN or inf as NaN."""
    return scores.masked_fill(~(scores < torch.inf).all(1, keepdim=True), torch.nan)


def _places(x: Tensor, y: Tensor, side: float | Tensor, like: Tensor) -> Tensor:
    x, y = x.to(like.dtype), y.to(like.dtype)
    side = side if isinstance(side, Tensor) else torch.full_like(x, side)
    return torch.stack([x, y, side], -1)


def _got(x: object) -> str:
    return f"{x.dtype} {tuple(x.shape)} on {x.device}" if isinstance(x, Tensor) else str(type(x))


def _check_like(name: str, x: Tensor, shape: tuple, like: Tensor | None = None) -> None:
    """`shape` holds sizes, or letters for sizes above 0, of which B may be 0: no image.

    dtype and device are those of `like`.
    """
    fits = isinstance(x, Tensor) and x.dim() == len(shape)
    pairs = tuple(zip(shape, x.shape, strict=True)) if fits else ()
    fits = fits and all((m > 0 or n == "B") if isinstance(n, str) else n == m for n, m in pairs)
    kind = "float32 or float64" if like is None else f"{like.dtype} on {like.device}"
    if like is None:
        fits = fits and x.dtype in _FLOATS
    else:
        fits = fits and (x.dtype, x.device) == (like.dtype, like.device)
    if not fits:
        expected = "(" + ", ".join(map(str, shape)) + ")"
        expected += ", none but B 0" if isinstance(x, Tensor) and 0 in x.shape else ""
        half = isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16)
        remedy = f"; take {name}.float()" if half else ""
        raise ValueError(f"{name} must be {kind} of shape {expected}, got {_got(x)}{remedy}")


def _check_heatmap(heatmap: Tensor, dims: tuple[int, ...] = (3, 4)) -> None:
    three = isinstance(heatmap, Tensor) and heatmap.dim() == 3 and 3 in dims
    four = ("B", "S", "H", "W")
    _check_like("heatmap", heatmap, ("B", "H", "W") if three or 4 not in dims else four)


def _check_places(places: Tensor, like: Tensor | None = None) -> None:
    _check_like("places", places, ("B" if like is None else len(like), "K", 3), like)


def _check_scales(scales: Tensor, like: Tensor) -> None:
    _check_like("scales", scales, (like.shape[1] if like.dim() == 4 else "S",), like)


def _check_scores(scores: Tensor, k: int) -> None:
    _check_like("scores", scores, ("B", "n"))
    if not isinstance(k, int) or not 1 <= k < scores.shape[1]:
        raise ValueError(
            f"k must be whole, between 1 and {scores.shape[1] - 1} for these scores, got {k!r}"
        )


def _check_number(name: str, x: int) -> None:
    if not isinstance(x, int) or x < 1:
        raise ValueError(f"{name} must be whole and at least 1, got {x!r}")


def _check_positive(name: str, x: float) -> None:
    if not x > 0:
        raise ValueError(f"{name} must be greater than 0, got {x!r}")


def _check_not_negative(name: str, x: float) -> None:
    if not x >= 0:
        raise ValueError(f"{name} must not be negative, got {x!r}")


def _check_shape(shape: tuple[int, int]) -> None:
    whole = isinstance(shape, tuple) and all(isinstance(n, int) and n > 0 for n in shape)
    if not whole or len(shape) != 2:
        raise ValueError(f"shape must be (H, W), two whole numbers above 0, got {shape!r}")


def _check_odd(size: int) -> None:
    if not isinstance(size, int) or size < 1 or size % 2 == 0:
        raise ValueError(f"size must be odd and positive, a window with a centre, got {size!r}")
