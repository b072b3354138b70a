"""The 2-D toy world, its four observers, and the general sum over hidden labels by enumeration.

A bag is n points of the plane, and each point hides a label: 0, 1, 2 for the three foreground
classes, k - 1 = 3 for the background, the last as everywhere in this package. Given their labels
the points are independent. An observer maps all hidden labels of a bag to what is observed of
them; it takes labels (..., n) and gives a tensor (..., d). Everything else here takes an observer
as an argument and enumerates all k**n labellings: exact and slow, to test the faster formulas.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    SOFTMAX,
    WHOLE,
    check_floats,
    check_int,
    check_normalised,
    check_tensor,
    check_values,
    cut,
    described,
    logsumexp,
    per_bag,
)

CLASSES = 4  # three arms of a spiral, and the background
PRIOR = (1 / 6, 1 / 6, 1 / 6, 1 / 2)
LIMIT = 2**20  # labellings; the largest table then takes 8 MB for each point of the bag

Observer = Callable[[Tensor], Tensor]


def world(
    n_bags: int, bag_size: int, generator: torch.Generator, prior: Sequence[float] = PRIOR
) -> tuple[Tensor, Tensor]:
    """Draw bags: labels independently from `prior`, then each point given its label.

    Args:
        n_bags, bag_size: how many bags, and how many points in each.
        generator: the source of all randomness, on the CPU.
        prior: probabilities of the three arms and the background.
    Returns:
        points (n_bags, bag_size, 2), float32, and their hidden labels (n_bags, bag_size), int64.
    Raises:
        ValueError: a number below 1, or `prior` is not a distribution over four classes.
    """
    check_int("n_bags", n_bags, 1)
    check_int("bag_size", bag_size, 1)
    weights = torch.tensor(prior, dtype=torch.get_default_dtype())
    if weights.shape != (CLASSES,) or (weights < 0).any() or not abs(weights.sum() - 1) <= 1e-6:
        raise ValueError(f"prior must be {CLASSES} probabilities that sum to 1, got {prior}")
    n = n_bags * bag_size
    labels = torch.multinomial(weights, n, replacement=True, generator=generator)  # (n,)
    along = 0.8 + 1.8 * torch.rand(n, generator=generator)  # distance from the centre
    angle = 2 * math.pi * labels / 3 + 0.5 * along
    arm = along[:, None] * torch.stack((angle.cos(), angle.sin()), -1)  # (n, 2)
    noise = torch.randn(n, 2, generator=generator)
    background = labels[:, None] == CLASSES - 1
    points = torch.where(background, 0.55 * noise, arm + 0.22 * noise)  # (n, 2)
    return points.reshape(n_bags, bag_size, 2), labels.reshape(n_bags, bag_size)


def presence(labels: Tensor, k: int = CLASSES) -> Tensor:
    """Return *which* foreground classes occur: labels (..., n) -> bool (..., k-1)."""
    return counts(labels, k)[..., :-1] > 0


def counts(labels: Tensor, k: int = CLASSES) -> Tensor:
    """Return *how many* points each class has, background included: (..., n) -> (..., k).

    This, `presence` and `regions` raise ValueError where a label is none of 0 .. k-1.
    """
    labels = _whole(labels).long()
    check_int("k", k, 1)
    check_values((labels >= 0) & (labels < k), lambda: _beyond(labels, k))
    return (labels[..., None] == torch.arange(k, device=labels.device)).sum(-2)


def patches(labels: Tensor) -> Tensor:
    """Return *K things* and their labels as a bag: labels (..., n) -> (..., n), sorted.

    The first K entries are the labels of the foreground points; the background, the largest label,
    fills the rest. Sorting forgets which point had which label.
    """
    return _whole(labels).sort(-1).values


def regions(labels: Tensor, k: int = CLASSES) -> Tensor:
    """Return the image's *class*: labels (..., n) -> (..., 1).

    The foreground class with most points, ties to the smaller label; the background if there is no
    foreground. With one class in an image, as in the paper on regions, it is that class.
    """
    check_int("k", k, 2)
    foreground = counts(labels, k)[..., :-1]  # (..., k-1)
    most = foreground.argmax(-1, keepdim=True)  # (..., 1)
    return most.masked_fill(foreground.sum(-1, keepdim=True) == 0, k - 1)


def _whole(labels: Tensor) -> Tensor:
    check_tensor("labels", labels, tuple(getattr(labels, "shape", ())) or ("n",), None, WHOLE)
    return labels


def _beyond(labels: Tensor, k: int) -> str:
    low, high = int(labels.min()), int(labels.max())
    wrong = low if low < 0 else high
    return f"labels must lie between 0 and {k - 1}, got {wrong}; pass k, the number of classes"


OBSERVERS: dict[str, Observer] = {
    "presence": presence,
    "counts": counts,
    "patches": patches,
    "regions": regions,
}


def labellings(n: int, k: int = CLASSES) -> Tensor:
    """Return all ways to label n points with k classes: (k**n, n), int64, in counting order.

    Raises:
        ValueError: n or k is not positive, or there are more than `LIMIT` labellings.
    """
    check_int("n", n, 1)
    check_int("k", k, 1)
    if k**n > LIMIT:
        raise ValueError(
            f"k**n must be at most {LIMIT}, got {k}**{n} labellings; take fewer points"
        )
    place = k ** torch.arange(n - 1, -1, -1)  # (n,)
    return torch.arange(k**n)[:, None] // place % k


def log_marginal(log_p: Tensor, observe: Observer, observed: Tensor) -> Tensor:
    """Eq. (0.1): log P(o), the sum over all labellings h with g(h) = o.

    Args:
        log_p: (..., n, k) log-probabilities of each point's label.
        observe: the map g, labels (..., n) -> (..., d).
        observed: what it gave for each bag, (..., d).
    Returns:
        (...) in nats; -inf where no possible labelling gives `observed`.
    Raises:
        ValueError: `log_p` does not normalise, `observed` has a wrong shape, too many labellings.
    """
    return _flat(_log_marginal, log_p, observe, observed)


def posterior(log_p: Tensor, observe: Observer, observed: Tensor) -> Tensor:
    """Eq. (0.2): r, the probability of each point's label given the observation of its bag.

    Args and errors: as `log_marginal`.
    Returns:
        (..., n, k), sums to 1 over k; 0 throughout for an impossible observation.
    """
    return _flat(_posterior, log_p, observe, observed)


def fisher_gradient(log_p: Tensor, observe: Observer, observed: Tensor) -> Tensor:
    """Eq. (0.3): d log P(o) / d logits = posterior - prior.

    Args, errors: as `log_marginal`.  Returns: (..., n, k); 0 where the observation is impossible.
    """
    r = posterior(log_p, observe, observed)
    return torch.where(r.sum(-1, keepdim=True) > 0, r - log_p.exp(), 0)


def _flat(function: Callable, log_p: Tensor, observe: Observer, observed: Tensor) -> Tensor:
    """Apply a function of bags (B, n, k) and observations (B, d) to any number of axes of bags."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=-1))
    if log_p.dim() < 2 or 0 in log_p.shape[-2:]:
        raise ValueError(f"log_p must be (..., n, k), no size 0, got shape {tuple(log_p.shape)}")
    bags = log_p.shape[:-2]
    tensor = isinstance(observed, Tensor) and observed.dim() > 0
    if not tensor or observed.shape[:-1] != bags:
        raise ValueError(f"observed must be of shape {(*bags, 'd')}, got {described(observed)}")
    count = math.prod(bags)
    flat = log_p.reshape(count, *log_p.shape[-2:])
    value = function(flat, observed.reshape(count, observed.shape[-1]), observe)
    return value.reshape((*bags, *value.shape[1:]))


@per_bag
def _log_marginal(log_p: Tensor, observed: Tensor, observe: Observer) -> Tensor:
    joint, _ = _consistent(log_p, observed, observe)
    return cut(logsumexp(joint, -1)).to(log_p.dtype)


@per_bag
def _posterior(log_p: Tensor, observed: Tensor, observe: Observer) -> Tensor:
    joint, all_h = _consistent(log_p, observed, observe)
    weight = (joint - logsumexp(joint, -1).nan_to_num(neginf=0)[:, None]).exp()  # (B, k**n)
    one_hot = torch.nn.functional.one_hot(all_h, log_p.shape[-1]).to(weight)  # (k**n, n, k)
    return torch.tensordot(weight, one_hot, dims=1).to(log_p.dtype)


def _consistent(log_p: Tensor, observed: Tensor, observe: Observer) -> tuple[Tensor, Tensor]:
    """Return log P(h), -inf where g(h) is not the observation, (B, k**n), and all h (k**n, n)."""
    check_normalised(log_p, dim=-1)
    n, k = log_p.shape[-2:]
    all_h = labellings(n, k).to(log_p.device)  # (k**n, n)
    seen = observe(all_h)  # (k**n, d)
    if observed.shape[-1] != seen.shape[-1]:
        expected = (len(log_p), seen.shape[-1])
        raise ValueError(f"observed must be of shape {expected}, got {tuple(observed.shape)}")
    match = (seen == observed[:, None, :].to(seen.device)).all(-1)  # (B, k**n)
    chosen = [log_p[:, i, :].double()[:, all_h[:, i]] for i in range(n)]  # n of (B, k**n)
    return torch.stack(chosen).sum(0).masked_fill(~match, -torch.inf), all_h
