"""From class maps to class scores: CAM, log-sum-exp, WILDCAT and attention."""

from math import log

import torch
from torch import Tensor

from .._shapes import check_int, check_layout, check_tensor, full_precision, widened
from .._shapes import log as log_of


@widened
def average_pooling(maps: Tensor) -> Tensor:
    """Return the mean over positions: maps (B, C, *positions) -> (B, C).

    Source: Zhou et al. (2016).
    """
    return _flat(maps).mean(2)


@widened
def max_pooling(maps: Tensor) -> Tensor:
    """Return the largest value: maps (B, C, *positions) -> (B, C).

    Source: Oquab et al. (2015).
    """
    return _flat(maps).amax(2)


@widened
def log_sum_exp_pooling(maps: Tensor, r: float) -> Tensor:
    """Eq. (11.5): (1/r) log mean exp(r A): the mean for r -> 0, the maximum for r -> infinity.

    The maximum of A is subtracted first, so that the weights in the gradient sum to 1 whatever is
    added to A. For r < 1 it is the mean where r A varies little about it: the difference of two
    nearly equal logarithms, divided by r, would keep no digit.

    Args: maps (B, C, *positions).  Returns: (B, C).  Raises: ValueError, as others, or r <= 0.
    Source: Pinheiro & Collobert (2015); Sun et al. (2016).
    """
    if not r > 0:
        raise ValueError(f"r must be positive, got {r}")
    maps, r = _flat(maps), max(r, 1e-30)  # a smaller r is 0 in float32; the mean is exact there
    most = maps.detach().amax(2, keepdim=True)
    most = most.masked_fill(most.isinf(), 0)
    total = log_of((r * (maps - most)).exp().sum(2))
    value = (total - log(maps.shape[2])) / r + most[..., 0]
    if r >= 1:
        return value
    mean = maps.detach().mean(2, keepdim=True)  # any constant gives the same
    x = r * (maps - mean)
    near = x.detach().abs().amax(2, keepdim=True) <= 1
    small = x.masked_fill(~near, 0).expm1().mean(2).log1p() / r + mean[..., 0]
    return torch.where(near[..., 0], small, value)


@widened
def wildcat_pooling(
    maps: Tensor,
    k_max: int,
    k_min: int = 0,
    alpha: float = 0.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Eq. (11.6): the mean of the k_max largest values, and alpha times that of the k_min smallest.

    Args:
        maps: (B, C, *positions); several maps a class are averaged before.
        k_max, k_min: numbers of positions; in the paper the share 0.09 of all, rounded.
        dropout: the probability that one of the largest is dropped (the others weigh more).
        generator: draws what is dropped, on the device of the maps; needed with dropout.
    Returns: (B, C).
    Raises: ValueError, another shape or dtype, k out of range, an alpha without k_min, dropout
        outside [0, 1).
    Source: Durand et al. (2017); dropout on the sorted values: paper, section B.2.
    """
    maps = _flat(maps)
    n = maps.shape[2]
    check_int("k_max", k_max, 1)
    check_int("k_min", k_min)
    if max(k_max, k_min) > n:
        raise ValueError(f"k_max, k_min must be 1..{n} and 0..{n}, got {k_max} and {k_min}")
    if alpha and not k_min:
        raise ValueError(f"alpha must be 0 without k_min, got {alpha}")
    if not 0 <= dropout < 1 or (dropout > 0 and generator is None):
        raise ValueError(f"dropout must be in [0, 1), with a generator, got {dropout}, {generator}")
    largest = maps.topk(k_max, 2).values
    if dropout > 0:
        drawn = torch.rand(largest.shape, generator=generator, device=maps.device)
        largest = largest * (drawn >= dropout) / (1 - dropout)
    value = largest.mean(2)
    return value + alpha * maps.topk(k_min, 2, largest=False).values.mean(2) if k_min else value


@widened
def gated_scores(features: Tensor, v: Tensor, w: Tensor, gate: Tensor | None = None) -> Tensor:
    """Return w tanh(V f), attention scores of every class; a gate multiplies tanh by sigmoid(U f).

    Args: features (B, D, *positions); v, gate (L, D), V and U; w (C, L).
    Returns: (B, C, *positions), for `attention_pooling`.
    Raises: ValueError, shapes or dtypes disagree.
    Source: Ilse, Tomczak & Welling (2018), (8), (9), there for one class.
    """
    f = _flat(features, "features", "(B, D, *positions)")
    check_layout("w", w, "(C, L)", (2,))
    check_tensor("w", w, w.shape, f)
    for name, x in (("v", v), ("gate", v if gate is None else gate)):
        check_tensor(name, x, (w.shape[1], f.shape[1]), f)
    with full_precision(f):
        hidden = (v @ f).tanh()  # (B, L, positions)
        hidden = hidden if gate is None else hidden * (gate @ f).sigmoid()
        return (w @ hidden).unflatten(2, features.shape[2:])


@widened
def attention_pooling(features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each class, the mean of the features weighted by the softmax of its scores.

    Args: features (B, D, *positions); scores (B, C, *positions).
    Returns: means (B, C, D) and weights (B, C, *positions), which sum to 1 over positions.
    Raises: ValueError, shapes or dtypes disagree.
    Source: Ilse, Tomczak & Welling (2018), (7), with a branch for each class.
    """
    f = _flat(features, "features", "(B, D, *positions)")
    s = _flat(scores, "scores", "(B, C, *positions)")
    check_tensor("scores", scores, (len(f), scores.shape[1], *features.shape[2:]), features)
    weights = s.softmax(2)
    with full_precision(f):
        return weights @ f.transpose(1, 2), weights.view_as(scores)


def _flat(x: Tensor, name: str = "maps", shape: str = "(B, C, *positions)") -> Tensor:
    """Return (B, C, *positions) as (B, C, positions), checked."""
    check_layout(name, x, shape, tuple(range(3, 9)))
    return x.flatten(2)
