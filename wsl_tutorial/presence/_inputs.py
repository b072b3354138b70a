"""Checks and shapes of the bags that every function of this package takes."""

import math

import torch
from torch import Tensor

from wsl_tutorial._shapes import BOOL, SOFTMAX, check_floats, check_tensor, logsumexp

MAX_LABELS = 16  # per bag: time and memory grow as 2**labels; `bracket` has no such limit


def scores_like(log_p: Tensor) -> Tensor:
    """Return an empty (B, C)."""
    return log_p.new_empty(len(log_p), log_p.shape[1] - 1)


def two_like(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return two empty (B,)."""
    return log_p.new_empty(len(log_p)), log_p.new_empty(len(log_p))


def flatten(log_p: Tensor, normalised: bool = True) -> Tensor:
    """Return log_p as (B, C+1, N), checked."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=1))
    if log_p.dim() < 2 or log_p.shape[1] < 2 or math.prod(log_p.shape[2:]) == 0:
        raise ValueError(
            f"log_p must be (B, C+1, *positions) with a class, a background and a position, "
            f"got shape {tuple(log_p.shape)}"
        )
    flat = log_p.flatten(2) if log_p.dim() > 2 else log_p[:, :, None]
    with torch.no_grad():
        off = (flat.exp().sum(1) - 1).abs() if normalised else flat
        if not bool((off <= 1e-3).all()):
            raise ValueError(
                f"log_p of shape {tuple(log_p.shape)} must hold log-probabilities"
                + (f" that sum to 1 over dim 1; {SOFTMAX.format(dim=1)}" if normalised else "")
            )
    return flat


def bags_of(
    log_p: Tensor, labels: Tensor, limit: int | None = MAX_LABELS
) -> tuple[Tensor, Tensor, Tensor]:
    """Return checked input: log_p (B, C+1, N), index (B, K+1), real (B, K).

    K is the largest number of labels of a bag. `index` holds the rows of log_p.flatten(0, 1) that
    belong to a bag's labels, then those of padding, and last that of phi; `real` is true for labels
    and false for padding.
    """
    flat = flatten(log_p)
    check_tensor("labels", labels, (flat.shape[0], flat.shape[1] - 1), flat, BOOL)
    most = int(labels.sum(1).max()) if len(labels) else 0
    if limit is not None and most > limit:
        raise ValueError(
            f"labels holds a bag of {most} labels, the exact likelihood takes at most {limit} "
            "(its cost doubles with each); use bracket for more"
        )
    real, index = labels.sort(dim=1, descending=True, stable=True)
    index = torch.nn.functional.pad(index[:, :most], (0, 1), value=labels.shape[1])
    bag = torch.arange(len(flat), device=flat.device)[:, None]
    return flat, flat.shape[1] * bag + index, real[:, :most]


def restrict(flat: Tensor, index: Tensor, real: Tensor) -> Tensor:
    """Return log p of each bag's own labels (padding: -inf), phi last: (B, K+1, N)."""
    padding = torch.nn.functional.pad(~real, (0, 1))
    return flat.flatten(0, 1)[index].masked_fill(padding[:, :, None], -torch.inf)


def log_shares(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the sum over classes (B, N), and of each class's share (B, K+1, N)."""
    total = logsumexp(log_w, 1)
    return total, log_w - total.masked_fill(total == -torch.inf, 0)[:, None]
