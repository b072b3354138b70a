"""From class maps to a soft mask."""

from torch import Tensor, einsum
from torch.nn import functional as F

from .._shapes import (
    check_layout,
    check_sides,
    check_tensor,
    check_values,
    full_precision,
    widened,
)
from .entropy import check_logits


@widened
def class_map(maps: Tensor, logits: Tensor) -> Tensor:
    """Eq. (11.7): T = sum of p_s(k) A_k: the class maps, weighted with M's own probabilities.

    Args: maps (B, C, h, w); logits (B, C) of M.
    Returns: (B, h, w).
    Raises: ValueError, shapes or dtypes disagree.
    Source: paper, section 3, before (9).
    """
    check_layout("maps", maps, "(B, C, h, w)", (4,))
    check_logits("logits", logits)
    check_tensor("logits", logits, maps.shape[:2], maps)
    with full_precision(maps):
        return einsum("bkxy,bk->bxy", maps, logits.softmax(1))


@widened
def normalise(scores: Tensor, whole_batch: bool = False) -> Tensor:
    """Eq. (11.8): scores (B, H, W) moved and scaled to [0, 1], by image or over the batch.

    1/2 of the result is half-way between the smallest and the largest score. A constant map becomes
    1/2 everywhere, with gradient 0.

    Returns: as scores.
    Raises: ValueError, another shape or dtype, or a number that is not finite.
    Source: not in the paper; the released program does it, over the batch in training.
    """
    check_layout("scores", scores, "(B, H, W)", (3,))
    dims = (0, 1, 2) if whole_batch else (1, 2)
    least, most = scores.amin(dims, keepdim=True), scores.amax(dims, keepdim=True)
    check_values(
        least.isfinite() & most.isfinite(),
        lambda: f"scores of shape {tuple(scores.shape)} must be finite",
    )
    flat = most == least
    return ((scores - least) / (most - least).masked_fill(flat, 1)).masked_fill(flat, 0.5)


@widened
def soft_mask(scores: Tensor, omega: float, threshold: float) -> Tensor:
    """Eq. (11.9): R+ = sigmoid(omega (T - threshold)), (B, H, W) -> (B, 1, H, W).

    With omega = 8 and threshold 1/2, as printed, scores in [0, 1] give R+ in [0.018, 0.982]. A NaN
    stays NaN at its pixel: checking for one would make a GPU wait, and `normalise` has checked.

    Raises: ValueError, another shape or dtype, or omega <= 0.
    Source: paper (9).
    """
    check_layout("scores", scores, "(B, H, W)", (3,))
    if not omega > 0:
        raise ValueError(f"omega must be positive, got {omega}")
    return (omega * (scores - threshold)).sigmoid()[:, None]


@widened
def region(
    maps: Tensor,
    logits: Tensor,
    size: tuple[int, int],
    omega: float,
    threshold: float,
    whole_batch: bool = False,
) -> Tensor:
    """Return R+ of M's maps and logits: T, enlarged to the image's size, normalised, softly cut.

    Args: maps (B, C, h, w), logits (B, C), size (H, W); the rest as `normalise`, `soft_mask`.
    Returns: (B, 1, H, W), with its graph, which `looks` cuts off as the released program does.
    Raises: ValueError, as the functions it calls.
    Source: paper (9) and section A.2.
    """
    check_sides("size", size)
    scores = class_map(maps, logits)[:, None]
    scores = F.interpolate(scores, size, mode="bilinear", align_corners=True)[:, 0]
    return soft_mask(normalise(scores, whole_batch), omega, threshold)
