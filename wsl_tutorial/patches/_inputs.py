"""Checks of the arguments that several modules of patches take, and places from coordinates."""

import torch
from torch import Tensor

from .._shapes import check_int, check_tensor, described


def places_at(x: Tensor, y: Tensor, side: float | Tensor, like: Tensor) -> Tensor:
    """Return places (..., 3) in the dtype of `like`; raise ValueError for a side that is none."""
    x, y = x.to(like.dtype), y.to(like.dtype)
    if not isinstance(side, Tensor):
        try:
            side = torch.full_like(x, side)
        except TypeError:
            raise ValueError(f"side must be a number of pixels, got {described(side)}") from None
    if side.shape != x.shape:
        raise ValueError(f"side must be a number of pixels, got {described(side)}")
    return torch.stack([x, y, side], -1)


def check_heatmap(heatmap: Tensor, dims: tuple[int, ...] = (3, 4)) -> None:
    """Raise ValueError unless the heat map is (B, H, W) or (B, S, H, W), as `dims` allows."""
    three = isinstance(heatmap, Tensor) and heatmap.dim() == 3 and 3 in dims
    four = ("B", "S", "H", "W")
    check_tensor("heatmap", heatmap, ("B", "H", "W") if three or 4 not in dims else four)


def check_places(places: Tensor, like: Tensor | None = None) -> None:
    """Raise ValueError unless places are (B, K, 3), with the images and the dtype of `like`."""
    check_tensor("places", places, ("B" if like is None else len(like), "K", 3), like)


def check_scales(scales: Tensor, like: Tensor) -> None:
    """Raise ValueError unless scales are (S,), one for each map if `like` is a heat map."""
    check_tensor("scales", scales, (like.shape[1] if like.dim() == 4 else "S",), like)


def check_odd(size: int) -> None:
    """Raise ValueError unless a window of this size has a centre."""
    check_int("size", size, 1)
    if size % 2 == 0:
        raise ValueError(f"size must be odd, a window with a centre, got {size!r}")


def check_positive(name: str, x: float) -> None:
    """Raise ValueError unless x is above 0."""
    if not x > 0:
        raise ValueError(f"{name} must be greater than 0, got {x!r}")


def check_not_negative(name: str, x: float) -> None:
    """Raise ValueError unless x is at least 0."""
    if not x >= 0:
        raise ValueError(f"{name} must not be negative, got {x!r}")
