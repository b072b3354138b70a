"""Checks and shapes of the bags that every function of this package takes."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from wsl_tutorial._shapes import (
    BOOL,
    FLAGS,
    SOFTMAX,
    check_floats,
    check_tensor,
    check_values,
    logsumexp,
)

MAX_LABELS = 16  # per bag: time and memory grow as 2**labels; `bracket` has no such limit


def scores_like(log_p: Tensor, background: bool = True) -> Tensor:
    """Return an empty (B, C)."""
    return log_p.new_empty(log_p.shape[0], log_p.shape[1] - background)


def two_like(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return two empty (B,)."""
    return log_p.new_empty(log_p.shape[0]), log_p.new_empty(log_p.shape[0])


def flatten(
    log_p: Tensor, mask: Tensor | None = None, background: bool = True, normalised: bool = True
) -> Tensor:
    """Return log_p as (B, C+1, N), checked.

    Without a background, a channel of -inf is appended. Padding surely emits the background, so it
    does not count.
    """
    _check_layout(log_p, background)
    real = flat_mask(log_p, mask)  # (B, N)
    flat = log_p.flatten(2) if log_p.dim() > 2 else log_p[:, :, None]
    flat = flat if background else pad(flat, (0, 0, 0, 1), value=-torch.inf)
    if real is not None:
        only_phi = flat.new_full((flat.shape[1], 1), -torch.inf)
        only_phi[-1] = 0
        flat = torch.where(real[:, None], flat, only_phi)
    with torch.no_grad():
        off = (flat.exp().sum(1) - 1).abs() if normalised else flat
        if not bool((off <= 1e-3).all()):
            _refuse_transposed(log_p, mask)
            raise ValueError(
                f"log_p of shape {tuple(log_p.shape)} must hold log-probabilities"
                + (f" that sum to 1 over dim 1; {SOFTMAX.format(dim=1)}" if normalised else "")
            )
    return flat


def _check_layout(log_p: Tensor, background: bool) -> None:
    """Raise ValueError unless log_p is a float tensor with a class and a position."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=1))
    fewest, channels = (2, "C+1") if background else (1, "C")
    if log_p.dim() < 2 or log_p.shape[1] < fewest or math.prod(log_p.shape[2:]) == 0:
        parts = "a class, a background and a position" if background else "a class and a position"
        raise ValueError(
            f"log_p must be (B, {channels}, *positions) with {parts}, "
            f"got shape {tuple(log_p.shape)}"
        )


def flat_mask(log_p: Tensor, mask: Tensor | None) -> Tensor | None:
    """Return the mask, checked, as (B, N), or None."""
    if mask is None:
        return None
    shape = (log_p.shape[0], *log_p.shape[2:])
    if isinstance(mask, Tensor) and tuple(mask.shape) != shape:
        _refuse_transposed(log_p, mask)
    check_tensor("mask", mask, shape, log_p, BOOL)
    return mask.flatten(1) if mask.dim() > 1 else mask[:, None]


def _refuse_transposed(log_p: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError if the classes lie in the last dimension, or in the first, as of one bag.

    The probabilities sum to 1 over this dimension where real.
    """
    remedies = {-1: "take log_p.movedim(-1, 1)"} if log_p.dim() > 2 else {}
    remedies[0] = "for one bag pass log_p[None], with labels[None] and mask[None]"
    for dim, remedy in remedies.items():
        off = (log_p.detach().exp().sum(dim) - 1).abs()
        if isinstance(mask, Tensor) and mask.shape == off.shape and mask.dtype == torch.bool:
            off = off.masked_fill(~mask, 0)
        if len(off) and bool((off <= 1e-3).all()):
            raise ValueError(
                f"log_p must be (B, C+1, *positions), got shape {tuple(log_p.shape)} whose "
                f"probabilities sum to 1 over dim {dim % log_p.dim()}; {remedy}"
            )


def split_labels(
    labels: Tensor, flat: Tensor, background: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Return which labels are present and which are unknown, bool (B, C) each, checked.

    None stands for no unknown label in the batch. `flat` is the result of `flatten`.
    """
    shape, remedy = (flat.shape[0], flat.shape[1] - 1), ""
    if isinstance(labels, Tensor) and labels.dim() == 2 and labels.dtype in FLAGS:
        extra = labels.shape[1] - shape[1]
        if background and extra == 1:
            remedy = (
                f"log_p has {shape[1] + 1} channels, and the last is the background; append one, "
                "or pass background=False"
            )
        elif not background and extra == -1:
            remedy = "pass background=True if the last channel of log_p is the background"
    check_tensor("labels", labels, shape, flat, FLAGS, remedy)
    if labels.dtype == torch.bool:
        return labels, None
    check_marks(labels)
    unknown = labels.long() == -1
    return labels == 1, unknown if bool(unknown.any()) else None


def check_marks(labels: Tensor) -> None:
    """Raise ValueError unless all of labels, bool or integer, is 1, 0 or -1."""
    fits = (labels <= 1) & (labels.long() >= -1)
    check_values(
        fits,
        lambda: (
            "labels must be 1 where present, 0 where absent and -1 where unknown, got "
            f"{labels[~fits][0].item()}; from class numbers make them with one_hot"
        ),
    )


def bags_of(
    log_p: Tensor,
    labels: Tensor,
    mask: Tensor | None = None,
    background: bool = True,
    limit: int | None = MAX_LABELS,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return checked input: log_p (B, C+1, N), index (B, K+1), real (B, K).

    K is the largest number of labels of a bag. `index` holds the rows of log_p.flatten(0, 1) that
    belong to a bag's labels, then those of padding, and last that of phi; `real` is true for labels
    and false for padding. Classes whose label is unknown count as phi, and log_p is then float64.
    """
    flat = flatten(log_p, mask, background)
    present, unknown = split_labels(labels, flat, background)
    if unknown is not None:
        flat = merge_unknown(flat, unknown)
    most = int(present.sum(1).max()) if len(present) else 0
    if limit is not None and most > limit:
        raise ValueError(
            f"labels holds a bag of {most} labels, the exact likelihood takes at most {limit} "
            "(its cost doubles with each); use bracket for more"
        )
    return flat, *slots_of(present, most)


def slots_of(present: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return index (B, K+1) and real (B, K), as `bags_of`, for bags of up to `most` = K labels."""
    real, index = present.sort(dim=1, descending=True, stable=True)
    index = pad(index[:, :most], (0, 1), value=present.shape[1])
    bag = torch.arange(len(present), device=present.device)[:, None]
    return (present.shape[1] + 1) * bag + index, real[:, :most]


def merge_unknown(flat: Tensor, unknown: Tensor) -> Tensor:
    """Return log_p, float64, with the unknown classes added to phi: a position may emit them.

    Rounded to float32, the sums would be off to the same side at positions that are alike.
    """
    flat, free = flat.double(), pad(unknown, (0, 1), value=True)[:, :, None]
    phi = logsumexp(flat.masked_fill(~free, -torch.inf), 1)
    return torch.cat([flat[:, :-1], phi[:, None]], 1)


def split_posterior(
    posterior: Tensor,
    flat: Tensor,
    log_p: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    background: bool,
) -> Tensor:
    """Return a posterior (B, C+1, N) of `bags_of` in the shape of log_p, 0 where padded.

    Unknown classes and phi share the mass of the merged phi in proportion to their probabilities.
    """
    real = flat_mask(log_p, mask)
    if labels.dtype != torch.bool:
        free = pad(labels.long() == -1, (0, 1), value=True)[:, :, None]
        merged = flat[:, -1:]
        absent = ~free | (merged == -torch.inf)
        absent = absent if real is None else absent | ~real[:, None]
        own = log_p.reshape(*log_p.shape[:2], flat.shape[2])
        own = own if background else pad(own, (0, 0, 0, 1), value=-torch.inf)
        share = (own - merged).masked_fill(absent, -torch.inf).exp()
        posterior = torch.where(free, posterior[:, -1:] * share, posterior)
    if real is not None:
        posterior = posterior.masked_fill(~real[:, None], 0)
    return posterior[:, : log_p.shape[1]].reshape(log_p.shape).to(log_p.dtype)


def restrict(flat: Tensor, index: Tensor, real: Tensor) -> Tensor:
    """Return log p of each bag's own labels (padding: -inf), phi last: (B, K+1, N)."""
    padding = pad(~real, (0, 1))
    return flat.flatten(0, 1)[index].masked_fill(padding[:, :, None], -torch.inf)


def log_shares(log_w: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log of the sum over classes (B, N), and of each class's share (B, K+1, N)."""
    total = logsumexp(log_w, 1)
    return total, log_w - total.masked_fill(total == -torch.inf, 0)[:, None]
