"""The most probable labels of a bag given its counts of C classes: a transportation problem."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import per_bag

from . import window
from ._inputs import checked_classes

SLACK = 1e-12  # a path must be shorter by this share to replace another: no cycles from rounding


def _labels_like(log_p: Tensor, multiplicity: Tensor | None = None) -> Tensor:
    """Return an empty answer of `map_configuration_multiclass`."""
    return torch.empty_like(log_p.sum(2) if multiplicity is None else log_p, dtype=torch.int64)


@per_bag(answer=_labels_like, classes=2)
def map_configuration_multiclass(
    log_p: Tensor, counts: Tensor, mask: Tensor | None = None, multiplicity: Tensor | None = None
) -> Tensor:
    """Return the most probable labels of all instances, given the counts: Eq. (5.4) for C classes.

    Instances supply one label each and classes demand as many as their counts, at the cost -log p.
    The labels start at each instance's best class after a tilt, which is the cheapest way to the
    counts it gives. Then shortest paths from classes with too many instances to classes with too
    few move one instance a step (or several identical ones), so that the labels stay the cheapest
    for the counts they have. Exact up to rounding; the paths number at most the instances.

    Args and errors: as `log_likelihood_multiclass`.
    Returns:
        int64 (B, n), the class of each instance, -1 for padding. With `multiplicity`, int64
        (B, n, C), the number of instances of a row in each class. Where the counts are impossible,
        as few labels as possible have probability 0.
    Source: successive shortest paths, Ahuja, Magnanti and Orlin (1993), section 9.7.
    """
    z, m = checked_classes(log_p, counts, mask, multiplicity)
    z = z.detach()
    y = counts.long()
    if not z.numel():
        k = torch.zeros_like(z, dtype=torch.int64)
    else:
        k = _transport(_finite(z), _first_guess(z, y, m), y)
    if multiplicity is not None:
        return k
    return k.argmax(2).masked_fill(m == 0, -1) if k.shape[2] else m - 1


def _finite(z: Tensor) -> Tensor:
    """Return z with -inf replaced by a value below all sums of the others' differences."""
    never = z == -torch.inf
    highest = z.masked_fill(never, 0).abs().sum((1, 2), keepdim=True).clamp_max(1e300)
    return torch.where(never, -4 * highest - 1, z)


def _first_guess(z: Tensor, y: Tensor, m: Tensor) -> Tensor:
    """Return labels k (B, n, C) that are the most probable ones for the counts they give."""
    wanted = (m > 0)[:, :, None] & (y > 0)[:, None]
    inner = z.masked_fill(~wanted, -torch.inf)
    possible = window.is_possible(inner, y, m)[:, None]
    tilt = window.tilt_to(inner.masked_fill(~possible[:, :, None], -torch.inf), y * possible, m)
    best = (_finite(z) + (tilt * possible)[:, None]).argmax(2)
    return torch.nn.functional.one_hot(best, z.shape[2]) * m[:, :, None]


def _transport(z: Tensor, k: Tensor, y: Tensor) -> Tensor:
    """Return the labels k (B, n, C) of highest log-probability with counts y (B, C)."""
    k = k.clone()
    while bool((active := (k.sum(1) != y).any(1)).any()):
        rows = active.nonzero()[:, 0]
        k[rows] = _augmented(z[rows], k[rows], y[rows])
    return k


def _augmented(z: Tensor, k: Tensor, y: Tensor) -> Tensor:
    """Return labels with instances moved along one shortest path, in each bag."""
    bag, classes = torch.arange(len(z), device=z.device), z.shape[2]
    loss = z[:, :, :, None] - z[:, :, None]  # (B, n, from, to)
    cost, mover = loss.masked_fill((k == 0)[..., None], torch.inf).min(1)  # (B, from, to)
    excess = k.sum(1) - y
    far = torch.where(excess > 0, 0.0, torch.inf).to(z)
    came = []  # the class before each, for paths of at most 1, 2, ... steps
    itself = torch.arange(classes, device=z.device).expand_as(far)
    for _ in range(classes - 1):
        through, before = (far[:, :, None] + cost).min(1)
        closer = through < far - SLACK * (1 + far.abs().nan_to_num(posinf=0))
        far = torch.where(closer, through, far)
        came.append(torch.where(closer, before, itself))
    end = far.masked_fill(excess >= 0, torch.inf).argmin(1)
    path, here = [], end
    for before in reversed(came):
        there = before[bag, here]
        path.append((there, here))
        here = there
    amount = torch.minimum(excess[bag, here], -excess[bag, end])
    for a, b in path:
        most = k[bag, mover[bag, a, b], a]
        amount = torch.where(a == b, amount, torch.minimum(amount, most))
    for a, b in path:
        move = amount * (a != b)
        k.index_put_((bag, mover[bag, a, b], a), -move, accumulate=True)
        k.index_put_((bag, mover[bag, a, b], b), move, accumulate=True)
    return k
