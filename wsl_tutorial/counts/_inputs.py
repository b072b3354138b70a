"""The input checks of all functions of counts."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import BOOL, WHOLE, check_layout, check_tensor

LOGITS = "convert it with .float()"


def checked(
    logits: Tensor, counts: Tensor | None, mask: Tensor | None, name: str = "counts"
) -> tuple[Tensor, Tensor]:
    """Return checked input: logits in float64, 0 where padded, and the bool mask, each (B, n).

    `name` is that of the counts in errors; None instead of counts checks none.
    """
    check_layout("logits", logits, "(B, n)", (2,), LOGITS, empty=True)
    real = checked_mask(mask, logits)
    if counts is not None:
        check_tensor(name, counts, (len(logits),), logits, WHOLE)
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


def checked_mask(mask: Tensor | None, like: Tensor) -> Tensor:
    """Return the mask, checked, (B, n) of `like`; all true for None."""
    shape = tuple(like.shape[:2])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    check_tensor("mask", mask, shape, like, BOOL)
    return mask
