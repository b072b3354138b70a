"""The input checks of all functions of counts."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    BOOL,
    SOFTMAX,
    WHOLE,
    check_layout,
    check_normalised,
    check_tensor,
    described,
)

MAX_REPEATED = 2**20  # instances of a bag that are written out one by one


def checked(
    logits: Tensor,
    counts: Tensor | None,
    mask: Tensor | None,
    name: str = "counts",
    multiplicity: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return checked input: logits in float64, 0 where padded, and the multiplicity, each (B, n).

    `name` is that of the counts in errors; None instead of counts checks none.
    """
    check_layout("logits", logits, "(B, n)", (2,), empty=True)
    m = checked_multiplicity(multiplicity, mask, logits)
    if counts is not None:
        check_counts(name, counts, (len(logits),), logits)
        size = m.sum(1)
        wrong = (counts < 0) | (counts > size)
        if bool(wrong.any()):
            raise ValueError(
                f"{name} must lie between 0 and the size of each bag, got "
                f"{counts[wrong][0].item()} for a bag of {size[wrong][0].item()}"
            )
    z = logits.double().masked_fill(m == 0, 0)
    if bool(z.isnan().any()):
        raise ValueError(f"logits of shape {tuple(logits.shape)} must not hold NaN")
    return z, m


def checked_classes(
    log_p: Tensor, counts: Tensor | None, mask: Tensor | None, multiplicity: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return checked input: log_p in float64, 0 where padded; and the multiplicity, (B, n).

    Counts (B, C) are checked to sum to the size of each bag, unless they are None.
    """
    check_layout("log_p", log_p, "(B, n, C)", (3,), SOFTMAX.format(dim=2), empty=True)
    _check_order(log_p, mask)
    m = checked_multiplicity(multiplicity, mask, log_p)
    if bool(log_p.isnan().any(2).logical_and(m > 0).any()):
        raise ValueError(
            f"log_p of shape {tuple(log_p.shape)} must hold log-probabilities (B, n, C), got NaN "
            "in a real instance; pass mask if it is padding, else see why the model gives NaN"
        )
    check_normalised(log_p, m > 0)
    if counts is not None:
        check_counts("counts", counts, (log_p.shape[0], log_p.shape[2]), log_p)
        check_sums(counts.long(), m)
    return log_p.double().masked_fill((m == 0)[:, :, None], 0), m


def check_sums(counts: Tensor, m: Tensor) -> None:
    """Raise ValueError unless counts (B, C) sum to the sizes of the bags."""
    wrong = (counts < 0).any(1) | (counts.sum(1) != m.sum(1))
    if bool(wrong.any()):
        bag = int(wrong.nonzero()[0])
        raise ValueError(
            "counts must not be negative and must sum to the size of each bag, got "
            f"{counts[bag].tolist()} for bag {bag} of {int(m[bag].sum())} instances; "
            "pass mask if bags are padded"
        )


def _check_order(log_p: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError where classes come before instances, as dim 1 of another layout."""
    with torch.no_grad():
        p = log_p.exp()
        off = (p.sum(2) - 1).abs() > 1e-3
        if isinstance(mask, Tensor) and mask.shape == off.shape and mask.dtype == torch.bool:
            off = off & mask
        if bool(off.any()) and bool(((p.sum(1) - 1).abs() <= 1e-3).all()):
            raise ValueError(
                f"log_p must be (B, n, C), instances before classes, got {described(log_p)}, which "
                "sums to 1 over dim 1; pass log_p.transpose(1, 2)"
            )


def checked_mask(mask: Tensor | None, like: Tensor) -> Tensor:
    """Return the mask, checked, (B, n) of `like`; all true for None."""
    shape = tuple(like.shape[:2])
    if mask is None:
        return torch.ones(shape, dtype=torch.bool, device=like.device)
    check_tensor("mask", mask, shape, like, BOOL)
    return mask


def checked_multiplicity(multiplicity: Tensor | None, mask: Tensor | None, like: Tensor) -> Tensor:
    """Return how many instances each row stands for, int64 (B, n): 1 for None, 0 where padded."""
    real = checked_mask(mask, like)
    if multiplicity is None:
        return real.long()
    check_tensor("multiplicity", multiplicity, tuple(like.shape[:2]), like, WHOLE)
    if bool((multiplicity < 0).any()):
        raise ValueError(
            f"multiplicity must not be negative, got {int(multiplicity.min())}; 0 leaves a row out"
        )
    size = (multiplicity.double() * real).sum(1)
    if bool((size > 2**53).any()):
        raise ValueError(
            f"multiplicity must give bags of at most 2**53 instances, got {size.max():.3g}; beyond "
            "that, float64 does not hold whole numbers"
        )
    return multiplicity.long() * real


def check_counts(name: str, counts: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Raise ValueError unless counts are whole numbers of this shape."""
    remedy = ""
    if isinstance(counts, Tensor) and counts.is_floating_point():
        remedy = f"take {name}.long() if its numbers are whole, counts_from_proportions(p, n) if "
        remedy += "they are proportions"
    elif isinstance(counts, Tensor) and 1 not in counts.shape and counts.dim() != len(shape):
        remedy = "the functions called _multiclass take one count a class, all others one a bag"
    check_tensor(name, counts, shape, like, WHOLE, remedy)


def repeated(x: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    """Return every row of x (B, n, ...) m times, (B, N, ...), and which rows are real, (B, N).

    N is the size of the largest bag.
    """
    size = m.sum(1)
    if bool((size > MAX_REPEATED).any()):
        raise ValueError(
            f"multiplicity gives a bag of {int(size.max())} instances, at most {MAX_REPEATED} are "
            "written out one by one; use log_likelihood or log_likelihood_multiclass"
        )
    place = torch.arange(int(size.max()) if len(m) else 0, device=m.device).expand(len(m), -1)
    real = place < size[:, None]
    row = torch.searchsorted(m.cumsum(1), place.contiguous(), right=True).masked_fill(~real, 0)
    row = row.view(*row.shape, *[1] * (x.dim() - 2))
    return x.gather(1, row.expand(-1, -1, *x.shape[2:])), real
