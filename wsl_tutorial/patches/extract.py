"""From heat maps to places, E_K, and back: the ideal heat map."""

import math
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .._shapes import check_int, check_sides, check_tensor, described, widened
from ._inputs import (
    check_heatmap,
    check_not_negative,
    check_odd,
    check_places,
    check_positive,
    check_scales,
    places_at,
)


@widened
def local_softmax(heatmap: Tensor, size: int, strength: float, floor: float = 0.0) -> Tensor:
    """Eq. (8.1): softmax of every pixel among the `size` x `size` pixels around it.

    exp(a h_i) over the sum of exp(a h_j), j in the window of i, a the strength. The window is
    clipped at the borders. The sum runs over one axis after the other, relative to the maximum of
    the window: nothing overflows, and no peak vanishes or loses digits beside a higher one. A peak
    that is alone in its window gets 1 whatever its height; in a constant map each pixel gets 1 over
    the number of pixels in its window. For large strength the result is 1 at the maximum of a
    window, shared among equal maxima, and 0 elsewhere.

    `floor` > 0 adds floor exp(a M) to the sum of every window, M the maximum of the whole map. So a
    peak more than log(1 / floor) / a below M fades. The release has floor = 1e-6 at a = 10 (1.4
    below M); for a window that leaves the map, it takes the sum of the nearest window inside.

    Args: heatmap (B, H, W) or (B, S, H, W), finite scores; size odd; strength > 0; floor >= 0.
    Returns: probabilities in the shape of `heatmap`.
    Raises: ValueError for an even or non-positive size, or strength or floor out of range.
    Source: Ono et al. (2018), LF-Net; paper, appendix A of arXiv version 3 (15 x 15 pixels).
    """
    check_heatmap(heatmap)
    check_odd(size)
    check_positive("strength", strength)
    check_not_negative("floor", floor)
    r = size // 2
    peak, mass = heatmap, torch.ones_like(heatmap)  # the sum so far is mass exp(strength peak)
    for pad, dim in (((r, r), -1), ((0, 0, r, r), -2)):
        near = F.pad(peak, pad, value=-torch.inf).unfold(dim, size, 1)
        peak = near.detach().amax(-1)  # any constant gives the same sum
        masses = F.pad(mass, pad).unfold(dim, size, 1)
        mass = (masses * (strength * (near - peak[..., None])).exp()).sum(-1)
    score = strength * (heatmap - peak)
    if floor > 0:  # relative to the term added to all windows, where that is larger
        ahead = strength * (peak - heatmap.amax((-2, -1), keepdim=True)) - math.log(floor)
        behind = ahead.detach().clamp_max(0)
        mass = mass * behind.exp() + (behind - ahead).exp()
        score = score + behind
    return score.exp() / mass


@widened
def pool_scales(heatmap: Tensor) -> Tensor:
    """Return the mean of h_s over scale, weighted by h_s itself: sum h_s**2 / sum h_s.

    This is softmax pooling: the maps are already exponentials, so the weights need no exp.

    Args: heatmap (B, S, H, W), not negative.
    Returns: (B, H, W), between the mean and the maximum over s; 0, with gradient 0, where all h_s
        are 0 or their sum is below 1e-19 (1e-154 in float64).
    Source: paper, appendix A of arXiv version 3, which adds 1e-6 to the sum instead.
    """
    check_heatmap(heatmap, (4,))
    return (heatmap * _shares(heatmap)[0]).sum(1)


@widened
def first_moment(heatmap: Tensor, scales: Tensor) -> Tensor:
    """Eq. (8.6): the side of the box at every pixel, sum h_s s / sum h_s.

    The paper prints sum h_s s without the division. Where the weights do not sum to 1, this does
    not invert `ideal_heatmap`. The terms of the pooling, h_s**2 / sum h_s, sum to 1 only where sum
    h_s**2 = sum h_s; if the h_s sum to 1, only where a single scale has all of it. For example, the
    weights (1/2, 1/2) at the scales 1 and 2 pool to (1/4, 1/4), which gives 3/4 instead of 3/2.
    Normalising the pooled terms does not help either, since pooling squares the weights. So the
    weights are the maps before pooling.

    Args: heatmap (B, S, H, W), not negative; scales (S,) in pixels.
    Returns: (B, H, W) in pixels, differentiable; the mean of `scales` where all h_s are 0, or
        their sum is below 1e-19 (1e-154 in float64), which is taken for 0.
    Source: paper, section 4.1; Suwajanakorn et al. (2018) for the moments.
    """
    check_heatmap(heatmap, (4,))
    check_scales(scales, heatmap)
    share, empty = _shares(heatmap)
    moment = (share * scales[:, None, None]).sum(1)
    return torch.where(empty, scales.mean(), moment)


def _shares(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """Return h_s / sum h_s (B, S, H, W), and where the sum is 0 (B, H, W); the shares are 0 there.

    A sum below 1e-19 (1e-154 in float64) counts as 0, since the derivative has its reciprocal.
    """
    total = heatmap.sum(1)
    empty = total < torch.finfo(total.dtype).tiny ** 0.5
    return heatmap.masked_fill(empty[:, None], 0) / total.masked_fill(empty, 1)[:, None], empty


@widened
def suppress(heatmap: Tensor, size: int) -> Tensor:
    """Return the heat map with -inf at each pixel that is not the maximum of its window.

    The window has `size` x `size` pixels and is clipped at the borders. Of equal pixels, the first
    in reading order counts as larger. So no remaining pixel lies in the window of another: they
    are more than size // 2 apart along an axis. Of a constant map only the first pixel remains
    (with size 1, all do). The release keeps all equal maxima, and sets the other pixels to 0, which
    ranks them above maxima below 0.

    Args: heatmap (B, H, W) or (B, S, H, W), each map by itself; size odd.
    Returns: in the shape of `heatmap`; pixels that are -inf or NaN stay as they are.
    Raises: ValueError for an even or non-positive size.
    Source: paper, section 4.1; 5 x 5 pixels in the release.
    """
    check_heatmap(heatmap)
    check_odd(size)
    r, (h, w) = size // 2, heatmap.shape[-2:]
    if r == 0:
        return heatmap
    x = heatmap.detach().reshape(-1, 1, h, w)
    rows = F.max_pool2d(x, (1, size), 1, (0, r))  # of the window, each by itself
    largest = F.max_pool2d(rows, (size, 1), 1, (r, 0))
    above = F.max_pool2d(F.pad(rows, (0, 0, r, -1), value=-torch.inf), (r, 1), 1)
    left = F.max_pool2d(F.pad(x, (r, -1), value=-torch.inf), (1, r), 1)
    keep = (x == largest) & (x > torch.maximum(above, left)) | x.isnan()
    return heatmap.masked_fill(~keep.view(heatmap.shape), -torch.inf)


@widened
def top_k(heatmap: Tensor, k: int, side: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of the K largest values, in falling order; equal ones in reading order.

    -inf marks a pixel that is no place. If a map has fewer than K finite values, its best place is
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

    Example:
        >>> import torch
        >>> from wsl_tutorial import patches
        >>> heatmap = torch.zeros(1, 4, 4)
        >>> heatmap[0, 1, 2] = 5.0  # row 1, column 2: y = 1, x = 2
        >>> places, values = patches.top_k(heatmap, k=1, side=3)
        >>> places, values
        (tensor([[[2., 1., 3.]]]), tensor([[5.]]))
    """
    check_heatmap(heatmap, (3,))
    flat = heatmap.flatten(1)
    check_int("k", k, 1)
    if k > flat.shape[1]:
        raise ValueError(f"k must be between 1 and the {flat.shape[1]} pixels, got {k}")
    values, index = (t[:, :k] for t in flat.sort(dim=1, descending=True, stable=True))
    index = torch.where(values > -torch.inf, index, index[:, :1])  # (B, K)
    if isinstance(side, Tensor):
        check_tensor("side", side, heatmap.shape, heatmap)
        side = side.flatten(1).gather(1, index)
    width, lost = heatmap.shape[2], values[:, :1, None].isnan()  # NaN sorts first
    places = places_at(index % width, index // width, side, heatmap)
    return places.masked_fill(lost, torch.nan), values


@widened
def extract(heatmap: Tensor, k: int, size: int, scales: float | Tensor) -> tuple[Tensor, Tensor]:
    """Eq. (8.2): E_K: pool scales, suppress, take the K largest; sides by the first moment.

    Args:
        heatmap: (B, H, W), or (B, S, H, W) and then not negative.
        k, size: as in `top_k`, `suppress`.
        scales: (S,) in pixels for S maps; a number, the side of every box, for one map.
    Returns and errors: as `top_k`.
    Source: paper, section 4.1.
    """
    check_heatmap(heatmap)
    if heatmap.dim() == 3:
        if isinstance(scales, Tensor):
            raise ValueError(f"scales must be a number for one map, got {described(scales)}")
        return top_k(suppress(heatmap, size), k, scales)
    largest = suppress(pool_scales(heatmap), size)
    side = first_moment(heatmap, cast(Tensor, scales))  # raises ValueError for a number
    return top_k(largest, k, side)


def ideal_heatmap(places: Tensor, shape: tuple[int, int], scales: Tensor | None = None) -> Tensor:
    """Eq. (8.7): G, the heat map whose extracted places are `places`, 1 at rounded centres.

    With scales, the 1 is split between the scales next below and above the side so that their mean
    is the side. A side beyond the smallest or largest scale counts as that scale. Hence
    E_K(G(x)) = x if centres are on pixels, sides are within the scales, and no place lies in the
    suppression window of another. Centres outside the image move to its border; where centres
    collide, the larger value stays. A place that is not finite makes a pixel NaN.

    Args: places (B, K, 3); shape (H, W); scales (S,) in pixels, None for one map.
    Returns: (B, H, W) or (B, S, H, W); a target, so no gradient flows to the places.
    Source: paper, section 4.1, and appendix B of arXiv version 3; one scale in the release.
    """
    check_places(places)
    check_sides("shape", shape)
    places, (h, w) = places.detach(), shape
    needed = places[..., :2] if scales is None else places
    lost = ~needed.isfinite().all(-1, keepdim=True)  # gets NaN, as it has no pixel
    x, y = (places[..., :2] + 0.5).floor().masked_fill(lost, 0).unbind(-1)
    x, y = x.clamp(0, w - 1).long(), y.clamp(0, h - 1).long()
    share = torch.ones_like(places[..., :1])  # (B, K, S)
    if scales is not None:
        check_scales(scales, places)
        scales = scales.detach()
        passed = (places[..., 2:] - scales[:-1]) / scales.diff()  # of each interval of scales
        share = -F.pad(F.pad(passed.clamp(0, 1), (1, 0), value=1.0), (0, 1)).diff()
    share = share.masked_fill(lost, torch.nan).transpose(1, 2)
    empty = places.new_zeros(*share.shape[:2], h * w)
    filled = empty.scatter_reduce(2, (y * w + x)[:, None].expand_as(share), share, "amax")
    filled = filled.unflatten(2, (h, w))
    return filled[:, 0] if scales is None else filled
