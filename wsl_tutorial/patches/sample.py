"""From places to patches, and back into an image: the operator S and its generalised inverse."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .._shapes import check_int, check_sides, check_tensor, widened
from ._inputs import check_places


@widened
def sample(images: Tensor, places: Tensor, size: int) -> Tensor:
    """Eq. (8.3): S, the patch under each box, `size` x `size` bilinear samples edge to edge.

    Corner-aligned: the outermost samples lie on the edges, x - s/2 and x + s/2; neighbours are
    s / (size - 1) pixels apart. Outside the image there are zeros, so a patch fades to 0 within a
    pixel of the border. Differentiable in images, centres and sides, piecewise: the derivative in x
    is the difference of two neighbouring pixels of a row; between two rows, it is the mean of their
    differences, weighted by how near the rows are.

    Args: images (B, C, H, W); places (B, K, 3), sides positive; size at least 2.
    Returns: (B, K, C, size, size); NaN for a place that is not finite.
    Raises: ValueError for a size below 2.
    Source: paper, section 4.1; Jaderberg et al. (2015). 32 x 32 samples in the paper.

    Example:
        >>> import torch
        >>> from wsl_tutorial import patches
        >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
        >>> place = torch.tensor([[[1.0, 1.0, 2.0]]])  # centre (1, 1), side 2
        >>> patches.sample(image, place, size=3)[0, 0].round(decimals=4)  # the whole image
        tensor([[[0., 1., 2.],
                 [3., 4., 5.],
                 [6., 7., 8.]]])
    """
    check_tensor("images", images, ("B", "C", "H", "W"))
    check_places(places, images)
    check_int("size", size, 2)
    b, c, h, w = images.shape
    step = torch.linspace(-0.5, 0.5, size, dtype=images.dtype, device=images.device)
    at = places[..., :2, None] + places[..., 2:, None] * step  # (B, K, 2, size)
    extent = torch.stack([torch.full_like(step, w), torch.full_like(step, h)])  # (2, size)
    x, y = ((2 * at + 1) / extent - 1).unbind(2)  # pixel centres to grid_sample's coordinates
    shape = (*x.shape, size)
    grid = torch.stack([x[:, :, None, :].expand(shape), y[..., None].expand(shape)], -1)
    flat = F.grid_sample(images, grid.flatten(1, 2), align_corners=False)  # (B, C, K size, size)
    return _nan_where_not_finite(flat.view(b, c, *shape[1:]).transpose(1, 2), places)


@widened
def place(patches: Tensor, places: Tensor, shape: tuple[int, int]) -> Tensor:
    """Eq. (8.4): the generalised inverse of S, each patch warped into its box among zeros.

    Each pixel reads its patch by bilinear interpolation at the position where `sample` would have
    read this pixel. Beyond the box the patch continues with zeros, so it fades to 0 within one step
    of its samples, s / (size - 1) pixels. Hence the value is continuous in the centre, also at the
    edge; its derivative jumps there, as at every sample.
    This is the exact inverse of `sample` where the samples are the pixels of the box (side = size -
    1, edges on pixels), except that pixels outside the box are lost.

    Args: patches (B, K, C, size, size), size at least 2; places (B, K, 3); shape (H, W).
    Returns: (B, K, C, H, W), one image for each patch, NaN for a place that is not finite; the
        reconstruction is the sum over K.
    Source: paper (8) and section 4.2, which leave open how.
    """
    check_tensor("patches", patches, ("B", "K", "C", "size", "size"))
    check_places(places, patches)
    b, k, _, size, across = patches.shape
    if size < 2 or size != across or places.shape[1] != k:
        raise ValueError(
            f"patches must be (B, {places.shape[1]}, C, size, size) with size at least 2, "
            f"got shape {tuple(patches.shape)}"
        )
    check_sides("shape", shape)
    h, w = shape
    kind = {"dtype": places.dtype, "device": places.device}
    x, y, s = places.flatten(0, 1)[:, :, None].unbind(1)  # each (B K, 1)
    x = 2 * (torch.arange(w, **kind) - x) / s  # -1 and 1 on the edges of the box
    y = 2 * (torch.arange(h, **kind) - y) / s
    grid = torch.stack([x[:, None, :].expand(-1, h, w), y[:, :, None].expand(-1, h, w)], -1)
    flat = F.grid_sample(patches.flatten(0, 1), grid, align_corners=True)
    return _nan_where_not_finite(flat.unflatten(0, (b, k)), places)


def _nan_where_not_finite(patches: Tensor, places: Tensor) -> Tensor:
    """Return the patches, NaN where a place is not finite: grid_sample would return 0 there."""
    lost = ~places.isfinite().all(-1)
    return patches.masked_fill(lost[..., None, None, None], torch.nan)
