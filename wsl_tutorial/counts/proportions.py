"""Proportions of bags, and the integer counts that they stand for."""

from numbers import Real

import torch
from torch import Tensor

from wsl_tutorial._shapes import BOOL, FLOATS, WHOLE, check_int, check_tensor, per_bag

ROUNDING = 8  # units of the dtype's rounding by which a share may be off when no digits are given


def counts_from_proportions(p: Tensor, n: Tensor | int, digits: int | None = None) -> Tensor:
    """Return the only integer counts that have these proportions in bags of these sizes.

    A count k fits a share p of n instances if k / n differs from p by no more than the rounding of
    p. The counts of a bag fit their shares and sum to n. Where no vector of counts does so, or
    several do, the bag is refused; the method of largest remainders would choose one of them.

    Args:
        p: (B, C), the share of each class, or (B,), the share of positives; between 0 and 1.
        n: integer (B,), sizes of the bags, an int for all of them, or a bool mask (B, N).
        digits: int or None, the number of decimal digits to which the shares are rounded; None:
            they are quotients in the dtype of p, off by at most 8 units of its rounding.
    Returns: int64 (B, C), or (B,) for p (B,). Shares of an empty bag are not looked at.
    Raises: ValueError, where shapes or dtypes disagree, or a bag has no counts or several.
    Source: derived.
    """
    two = isinstance(p, Tensor) and p.dim() == 1
    check_tensor("p", p, ("B",) if two else ("B", "C"), dtypes=FLOATS)
    if isinstance(n, int | Real):
        check_int("n", n, None)
        if not 0 <= n <= 2**53:
            raise ValueError(f"n must lie between 0 and 2**53, got {n}")
        n = torch.full(p.shape[:1], int(n), device=p.device)
    if isinstance(n, Tensor) and n.dtype == torch.bool and n.dim() == 2:
        check_tensor("n", n, (len(p), n.shape[1]), p, BOOL)
        n = n.sum(1)
    check_tensor("n", n, (len(p),), p, WHOLE)
    if digits is not None:
        check_int("digits", digits)
        digits = int(digits)
    off = ROUNDING * torch.finfo(p.dtype).eps + (0 if digits is None else 0.5 * 10**-digits)
    return _counts(p, n.long(), off, digits)


@per_bag(answer=lambda p: torch.empty_like(p, dtype=torch.int64))
def _counts(p: Tensor, n: Tensor, off: float, digits: int | None) -> Tensor:
    two = p.dim() == 1
    share = torch.stack([1 - p, p], 1).double() if two else p.double()
    size, empty = n[:, None].double(), n[:, None] == 0
    inside = (share >= -off) & (share <= 1 + off)  # not NaN either
    if bool((n < 0).any()):
        raise ValueError(f"n must not be negative, got {int(n.min())}; 0 is an empty bag")
    outside, percent = ~(inside | empty).all(1), "divide percentages by 100, or "
    _refuse(outside, p, n, "must lie between 0 and 1 of", digits, percent)
    share = share.masked_fill(empty, 0)
    slack = (off * size) * (1 + 1e-9) + 1e-12 * size
    low = (share * size - slack).ceil().clamp_min(0).long()
    high = torch.minimum((share * size + slack).floor(), size).long()
    fewest, most = low.sum(1), high.sum(1)
    fits = (low <= high).all(1) & (fewest <= n) & (n <= most)
    _refuse(~fits, p, n, "are no counts of", digits)
    free = high > low
    several = (free.sum(1) > 1) & (fewest < n) & (n < most)
    _refuse(several, p, n, "fit several counts of", digits)
    exact = torch.where(free, n[:, None] - (fewest[:, None] - low), low)  # one class is free
    counts = torch.where((n == most)[:, None], high, exact)
    counts = torch.where((n == fewest)[:, None], low, counts)
    return counts[:, 1] if two else counts


def _refuse(
    wrong: Tensor, p: Tensor, n: Tensor, why: str, digits: int | None, first: str = ""
) -> None:
    """Raise ValueError that names the first wrong bag."""
    if bool(wrong.any()):
        bag = int(wrong.nonzero()[0])
        remedy = first + (
            "pass digits, the number of decimal digits of the shares, if they are rounded"
            if digits is None
            else "give the shares more digits, or the counts themselves"
        )
        raise ValueError(
            f"p of shape {tuple(p.shape)}: the shares {p[bag].tolist()} of bag {bag} {why} "
            f"{int(n[bag])} instances; {remedy}"
        )
