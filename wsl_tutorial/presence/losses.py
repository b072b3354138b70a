"""The baselines, the two decision rules, and the gradient of a decision."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    HALVES,
    check_int,
    cut,
    described,
    log_any,
    logsumexp,
    per_bag,
    refuse_transforms,
    shown,
)

from ._inputs import flat_mask, flatten, scores_like, split_labels
from .plain import logaddexp


def max_pooling_loss(
    log_p: Tensor, labels: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (3.1): the traditional multiclass MIL loss, minus the mean log of each label's maximum.

    The paper first normalises over classes *and* positions of one image:
    `log_p = logits.flatten(1).log_softmax(1).view_as(logits)`. With a softmax at each position,
    which is right for the likelihood, a constant output can bring this loss to zero.

    Args:
        log_p: (B, C+1, *positions), no entry above 0; without a background (B, C, *positions).
        labels: bool or integer (B, C), as `log_likelihood`; unknown ones count as absent.
        mask, background: as `log_likelihood`.
    Returns: scalar, the mean over bags in nats; a bag without labels counts as 0, a bag with labels
        and no position as inf.
    Raises: ValueError when shapes or dtypes disagree, a probability exceeds 1, or there is no bag.
    Source: Li (2018), paper (16), supplementary A.
    """
    best = _mean_of_maxima(log_p, labels, mask, background)
    if len(best) == 0:
        raise ValueError(f"log_p of shape {tuple(log_p.shape)} holds no bag to take the mean over")
    return -best.mean()


@per_bag(classes=None)
def _mean_of_maxima(log_p: Tensor, labels: Tensor, mask: Tensor | None, background: bool) -> Tensor:
    """Return the mean over a bag's labels of their largest log-probability: (B,)."""
    flat = flatten(log_p, mask, background, normalised=False)
    present, _ = split_labels(labels, flat, background)
    best = cut(flat[:, :-1].amax(-1).masked_fill(~present, 0))  # (B, C)
    return best.sum(1) / present.sum(1).clamp_min(1)


@per_bag(answer=scores_like)
def log_alpha_scores(
    log_p: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Eq. (3.2): log alpha of {label, phi} for every label; its arg max is the exact decision.

    Args: log_p (B, C+1, *positions); mask, background: as `log_likelihood`.
    Returns: (B, C) in nats; 0 for a bag without positions.  Raises: as `log_likelihood`.
    Source: Li (2018), paper (13), for samples that hold instances of one class.
    """
    flat = flatten(log_p, mask, background)
    return cut(logaddexp(flat[:, :-1], flat[:, -1:]).sum(-1))


@per_bag(answer=scores_like)
def mean_scores(log_p: Tensor, mask: Tensor | None = None, *, background: bool = True) -> Tensor:
    """Eq. (3.3): each label's probability averaged over the positions, the approximate decision.

    Args: log_p (B, C+1, *positions); mask, background: as `log_likelihood`.
    Returns: (B, C); 0 for a bag without positions.  Raises: as `log_likelihood`.
    Source: Li (2018), paper (14).
    """
    p = flatten(log_p, mask, background)[:, :-1].exp()  # 0 at padding
    real = flat_mask(log_p, mask)
    return p.mean(-1) if real is None else p.sum(-1) / real.sum(1, keepdim=True).clamp_min(1)


def input_gradient(
    model: torch.nn.Module, images: Tensor, label: int, position: tuple[int, ...]
) -> Tensor:
    """Eq. (3.4): how strongly each pixel moves log p of `label` at `position`.

    Args:
        model: maps images to logits (B, C+1, *positions).
        images: (B, channels, H, W).
        label: class index, C for the background; position: one index per position axis.
    Returns: (B, H, W), the absolute gradient summed over the channels.
    Raises:
        ValueError: label or position lie outside the model's output, or images are integers.
        RuntimeError: under `torch.func` or forward-mode AD; the result has no derivative.
    Source: Li (2018), section 5.4.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {described(images)}; convert them")
    refuse_transforms("input_gradient", images)
    if not isinstance(position, Sequence):
        raise ValueError(f"position must be a tuple of ints, got {shown(position)}")
    for name, i in (("label", label), *(("position", i) for i in position)):
        check_int(name, i, None)
    with torch.inference_mode(False), torch.enable_grad():
        images = (images.clone() if images.is_inference() else images).detach().requires_grad_()
        logits = model(images)
        half = logits.dtype in HALVES  # autocast leaves them so
        log_p = (logits.float() if half else logits).log_softmax(1)
        if len(position) != log_p.dim() - 2 or not 0 <= label < log_p.shape[1]:
            raise ValueError(
                f"label {label} at position {tuple(position)} does not fit the model's output, "
                f"expected one of {log_p.shape[1]} classes and {log_p.dim() - 2} position indices"
            )
        inside = all(0 <= i < size for i, size in zip(position, log_p.shape[2:], strict=True))
        if not inside:
            raise ValueError(f"position {tuple(position)} lies outside {tuple(log_p.shape[2:])}")
        chosen = log_p[(slice(None), label, *position)].sum()
        (gradient,) = torch.autograd.grad(chosen, images)
    return gradient.abs().sum(1)


# Poolings: each label by itself -----------------------------------------------------------------


def noisy_or(
    log_p: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute for each label the log-probability that some position emits it, and that none does.

    The label is absent with probability prod (1 - p). With one class these are `log_likelihood` of
    a bag with and without the label; the labels of several classes depend on one another, since a
    position emits one class only, and the sum of their logarithms is then not the likelihood.

    Args: log_p (B, C+1, *positions); mask, background: as `log_likelihood`.
    Returns: (log P(present), log P(absent)), each (B, C), in nats; -inf and 0 for a bag without
        positions.
    Raises: as `log_likelihood`.
    Source: Maron & Lozano-Pérez (1998), section 3.
    """
    return _pool(log_p, mask, background, "noisy-or")


def max_pooling(
    log_p: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute for each label the log of its largest probability, and of one minus that.

    Args, returns and errors: as `noisy_or`.
    Source: Ramon & De Raedt (2000); `max_pooling_loss` is a form for several classes.
    """
    return _pool(log_p, mask, background, "max")


def mean_pooling(
    log_p: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> tuple[Tensor, Tensor]:
    """Compute for each label the log of its mean probability, and of one minus that.

    Args, returns and errors: as `noisy_or`.
    Source: Wang, Yan, Tang, Bai & Liu (2018), mi-Net with the mean.
    """
    return _pool(log_p, mask, background, "mean")


def _pair_like(log_p: Tensor, background: bool = True) -> tuple[Tensor, Tensor]:
    """Return two empty (B, C)."""
    return scores_like(log_p, background), scores_like(log_p, background)


@per_bag(answer=_pair_like)
def _pool(log_p: Tensor, mask: Tensor | None, background: bool, way: str) -> tuple[Tensor, Tensor]:
    """Return log P(present) and log P(absent), each (B, C), by one of the three ways."""
    flat = flatten(log_p, mask, background).double()
    yes, no = flat[:, :-1], _log_not(flat)  # (B, C, N); -inf and 0 where padded
    if way == "noisy-or":
        pair = log_any(yes), no.sum(2)
    elif way == "max":
        pair = yes.amax(2), no.amin(2)
    else:
        real = flat_mask(log_p, mask)
        real = torch.ones_like(flat[:, 0], dtype=torch.bool) if real is None else real
        size = real.sum(1, keepdim=True).clamp_min(1)
        pads = (~real & real.any(1, keepdim=True))[:, None]  # an empty bag keeps its log 1
        absent = logsumexp(no.masked_fill(pads, -torch.inf), 2)
        shift = torch.where(real.any(1, keepdim=True), size, real.shape[1]).to(yes).log()
        pair = logsumexp(yes, 2) - size.to(yes).log(), absent - shift
    present, absent = (cut(x).to(log_p.dtype) for x in pair)
    return present, absent


def _log_not(flat: Tensor) -> Tensor:
    """Return log(1 - p) of each class, (B, C, N): the sum of all others, without a subtraction."""
    rest = range(flat.shape[1] - 1)
    others = [torch.cat([flat[:, :c], flat[:, c + 1 :]], 1) for c in rest]
    return torch.stack([logsumexp(x, 1) for x in others], 1)
