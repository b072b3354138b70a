"""The max-pooling baseline, the two decision rules, and the gradient of a decision."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import cut, per_bag, refuse_transforms

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
    refuse_transforms("input_gradient", images)
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; convert them")
    with torch.inference_mode(False), torch.enable_grad():
        images = (images.clone() if images.is_inference() else images).detach().requires_grad_()
        logits = model(images)
        half = logits.dtype in (torch.float16, torch.bfloat16)  # autocast leaves them so
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
