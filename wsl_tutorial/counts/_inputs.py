"""The input checks of all functions of counts."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import check_bool, check_floats, check_integers

LOGITS = "convert it with .float()"


def checked(
    logits: Tensor, counts: Tensor | None, mask: Tensor | None, name: str = "counts"
) -> tuple[Tensor, Tensor]:
    """Return checked input: logits in float64, 0 where padded, and the bool mask, each (B, n).

    `name` is that of the counts in errors; None instead of counts checks none.
    """
    check_layout("logits", logits, 2, "(B, n)", LOGITS)
    real = checked_mask(mask, logits)
    if counts is not None:
        check_integers(name, counts, (len(logits),), logits)
        size = real.sum(1)
        wrong = (counts < 0) | (counts > size)
        if bool(wrong.any()):
            raise ValueError(
                f"{name} must lie between 0 and the size of each bag, got "
                f"{counts[wrong][0].item()} for a bag of {size[wrong][0].item()}"
            )
    z = logits.double().masked_fill(~real, 0)
    if bool(z.isnan().any()):
        raise ValueError(f"logits of shape {tuple(logits.shape)} must not hold NaN")
    return z, real


def check_layout(name: str, x: Tensor, dims: int, shape: str, remedy: str) -> None:
    """Raise ValueError unless x is a float32 or float64 tensor with this number of dimensions."""
    check_floats(name, x, remedy)
    if x.dim() != dims:
        raise ValueError(f"{name} must be {shape}, got shape {tuple(x.shape)}")


def checked_mask(mask: Tensor | None, like: Tensor) -> Tensor:
    """Return the mask, checked, (B, n) of `like`; all true for None."""
    shape = tuple(like.shape[:2])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    check_bool("mask", mask, shape, like)
    return mask
