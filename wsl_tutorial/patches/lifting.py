"""The lifting: the losses of Algorithm 1, the steps of the places, and the training step."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .._shapes import REAL, check_int, check_tensor, described, widened
from ._inputs import check_heatmap, check_not_negative, check_places, check_scales
from .extract import ideal_heatmap
from .sample import place


@widened
def proportion_loss(logits: Tensor, counts: Tensor) -> Tensor:
    """Eq. (8.10): squared distance of the labels' proportions and the places' mean softmax.

    Both sides are proportions, so the number of labels may differ from the number of places.

    Args: logits (B, K, C), a class for every place; counts (B, C), how many labels of each class,
        any real dtype, not negative. A bag without labels has proportions 0.
    Returns: (B,).
    Source: paper (9). The release takes half of it.
    """
    check_tensor("logits", logits, ("B", "K", "C"))
    return proportion_distance(logits.softmax(2).mean(1), counts)


@widened
def proportion_distance(p: Tensor, counts: Tensor) -> Tensor:
    """Return Eq. (8.10) of given mean probabilities, for gated or weighted places.

    Args: p (B, C), the mean over the places; counts (B, C) as in `proportion_loss`.
    Returns: (B,).
    Source: paper (9).
    """
    check_tensor("p", p, ("B", "C"))
    check_tensor("counts", counts, tuple(p.shape), p, REAL)
    counts = counts.to(p.dtype)  # so the sum cannot overflow, and rounds no more than p
    total = counts.sum(1, keepdim=True)
    share = counts / total.masked_fill(total == 0, 1)
    return (share - p).square().sum(1)


@widened
def reconstruction_loss(images: Tensor, patches: Tensor, places: Tensor) -> Tensor:
    """Eq. (8.5): mean squared difference of the image and the sum of its patches, put back.

    Args: images (B, C, H, W); patches (B, K, C, size, size); places (B, K, 3).
    Returns: (B,), the mean over pixels and channels.
    Source: paper (8), a sum over pixels there.
    """
    check_tensor("images", images, ("B", "C", "H", "W"))
    check_tensor("patches", patches, (len(images), "K", images.shape[1], "size", "size"), images)
    h, w = images.shape[2:]
    together = place(patches, places, (h, w)).sum(1)
    return (images - together).square().flatten(1).mean(1)


@widened
def heatmap_loss(
    heatmap: Tensor, places: Tensor, scales: Tensor | None = None, weights: Tensor | None = None
) -> Tensor:
    """Eq. (8.8): mean squared difference of the heat map and the ideal one of `places`.

    Args:
        heatmap: (B, H, W), or (B, S, H, W) and then `scales` (S,) in pixels.
        places: (B, K, 3); the target is constant.
        weights: (B,), constant factors of the images; the release has exp(-5 l), where l is its
            task loss, half of `proportion_loss`.
    Returns: (B,), the mean over pixels (and scales) times the weight.
    Source: paper (7), a sum over pixels there; the weight is in the release only.
    """
    check_heatmap(heatmap, (3,) if scales is None else (4,))
    check_places(places, heatmap)
    if scales is not None:
        check_scales(scales, heatmap)
    h, w = heatmap.shape[-2:]
    target = ideal_heatmap(places, (h, w), scales)
    loss = (heatmap - target).square().flatten(1).mean(1)
    if weights is None:
        return loss
    check_tensor("weights", weights, loss.shape, loss)
    return weights.detach() * loss


def move(
    places: Tensor,
    task_loss: Callable[[Tensor], Tensor],
    steps: int,
    lr: float,
    penalty: float = 0.0,
    normalise: bool = False,
    side_lr: float = 0.0,
    scales: Tensor | None = None,
) -> Tensor:
    """Eq. (8.9): gradient steps on the places, from x0, for task loss + penalty |x - x0|**2.

    One step is x <- (x - lr g + 2 lr penalty x0) / (1 + 2 lr penalty), g the gradient of the task
    loss. It minimises the linear model of the task loss plus the exact penalty, so no penalty is
    too large for the step; without a penalty it is x - lr g. If the slope of the loss hardly
    changes on the way (m lr times its curvature is far below 1), m steps without a penalty end
    close to the minimum with the penalty 1 / (2 m lr). In the papers the side of a place moves too,
    at the rate `side_lr` here; the release has one scale and fixed sides.
    The gradient is also computed under `no_grad` and `inference_mode`. There the task loss must not
    read tensors made in inference mode; torch would raise RuntimeError.

    Args:
        places: (B, K, 3), the extracted places x0.
        task_loss: places (B, K, 3) -> (B,), the loss of each image, which depends on its own places
            only; parameters receive no gradient.
        steps, lr: the release takes 2 steps with 1e4 on the mean over a batch of 32 of half of
            `proportion_loss`: here, where every image has its own loss, lr = 1e4 / 64.
        penalty: in units of loss per squared pixel; lambda in the papers, which give no value; the
            release has none.
        normalise: take g / |g| for each centre and for each side, so that the rates are the lengths
            of a step in pixels, whatever the scale of the loss; where the gradient is 0 there is no
            step (a penalty still pulls back).
        side_lr: the rate of the sides; needs `scales`.
        scales: (S,) in pixels; sides stay within their ends.
    Returns: (B, K, 3), constant.
    Raises: ValueError for a negative number of steps, rate or penalty, for `side_lr` without
        `scales`, and for a task loss that is not (B,).
    Source: paper (6) and Algorithm 1, line 4.
    """
    check_places(places)
    check_int("steps", steps)
    for name, x in {"lr": lr, "penalty": penalty, "side_lr": side_lr}.items():
        check_not_negative(name, x)
    if scales is not None:
        check_scales(scales, places)
    elif side_lr > 0:
        raise ValueError("scales must be given where side_lr > 0, to keep the sides within")
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):  # in it there is no gradient
            kept = None if scales is None else scales.clone()
            return move(places.clone(), task_loss, steps, lr, penalty, normalise, side_lr, kept)
    start = places.detach().split((2, 1), -1)  # centres, sides
    now, rates = list(start), (lr, side_lr) if side_lr > 0 else (lr,)
    for _ in range(steps):
        free = [x.detach().requires_grad_() for x in now[: len(rates)]]
        with torch.enable_grad():
            loss = _losses(task_loss, torch.cat([*free, *now[len(rates) :]], -1))
            found = (None,)
            if loss.requires_grad:
                found = torch.autograd.grad(loss.sum(), free, allow_unused=True)
        slopes = [g for g in found if g is not None]
        if len(slopes) < len(free):
            raise ValueError(
                "task_loss must depend on the places, got a loss without their graph; compute it "
                "from its argument, without detach or no_grad"
            )
        for i, (g, rate) in enumerate(zip(slopes, rates, strict=True)):
            step = now[i] - rate * (_direction(g) if normalise else g)
            now[i] = torch.lerp(start[i], step, 1 / (1 + 2 * rate * penalty))
        if scales is not None and side_lr > 0:
            now[1] = now[1].clamp(scales[0], scales[-1])
    return torch.cat(now, -1).detach()


def _losses(task_loss: Callable[[Tensor], Tensor], places: Tensor) -> Tensor:
    """Return the task losses. Raises ValueError unless they are (B,)."""
    loss = task_loss(places)
    if not isinstance(loss, Tensor) or loss.shape != places.shape[:1]:
        raise ValueError(f"task_loss must return shape ({len(places)},), got {described(loss)}")
    return loss


def _direction(g: Tensor) -> Tensor:
    """Return g / |g| along the last axis, 0 where g is 0; squares do not underflow."""
    largest = g.abs().amax(-1, keepdim=True)
    none = largest == 0
    g = g / largest.masked_fill(none, 1)
    return (g / g.norm(dim=-1, keepdim=True)).masked_fill(none, 0)


class Lifted(NamedTuple):
    """Hold the result of `lifted_step`: losses (B,), and the places (B, K, 3) after they moved."""

    task: Tensor
    heat: Tensor
    places: Tensor


def lifted_step(
    heatmap: Tensor,
    places: Tensor,
    task_loss: Callable[[Tensor], Tensor],
    steps: int,
    lr: float,
    *,
    penalty: float = 0.0,
    normalise: bool = False,
    side_lr: float = 0.0,
    scales: Tensor | None = None,
    weights: Callable[[Tensor], Tensor] | None = None,
    update_task: Callable[[Tensor], None] | None = None,
) -> Lifted:
    """Eq. (8.11): Algorithm 1 up to the optimiser: places move, both networks get a loss.

    The two losses share no parameter: the task loss depends on the heat map network only through
    places, which are constants; the heat map loss depends on the task network only through its
    target, which is constant too. So one backward pass of (task + heat).mean() and one Adam over
    both networks equal the separate steps of the algorithm, in the order of the release: places,
    then task and heat map.

    The papers print another order: task, places, heat map. For this order pass `update_task`. It
    receives the task losses at the extracted places and takes the optimiser step of the task
    network; then the places move under the new network, and the returned task losses are constants.

    Args:
        heatmap: (B, H, W) or (B, S, H, W), computed by the heat map network, with its graph.
        places: (B, K, 3), extracted from it.
        task_loss, steps, lr, penalty, normalise, side_lr: as in `move`.
        scales: (S,) in pixels, for S maps.
        weights: task losses (B,) -> the weights of `heatmap_loss`; those of the release are
            `lambda loss: (-2.5 * loss).exp()` for `proportion_loss`; None for 1.
    Returns: `Lifted`.
    Source: paper, Algorithm 1.
    """
    check_places(places)
    start = places.detach()
    if update_task is not None:
        task = _losses(task_loss, start)
        update_task(task)
        task = task.detach()
    moved = move(start, task_loss, steps, lr, penalty, normalise, side_lr, scales)
    if update_task is None:
        task = _losses(task_loss, moved)
    weight = None if weights is None else weights(task.detach())
    return Lifted(task, heatmap_loss(heatmap, moved, scales, weight), moved)
