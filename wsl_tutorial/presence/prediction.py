"""Predictions for a bag: the probability of each label, and the most probable label set."""

import math

import torch
from torch import Tensor

from wsl_tutorial._shapes import log_any, per_bag

from ._inputs import MAX_LABELS, flatten, restrict, scores_like, slots_of
from .fast import best_sets, log_likelihood
from .limits import bracket

_MARGIN = 1e-3  # nats, far above the rounding of both sides


def _set_like(log_p: Tensor, background: bool = True) -> Tensor:
    """Return an empty bool (B, C)."""
    return scores_like(log_p, background).bool()


@per_bag(answer=scores_like)
def marginals(log_p: Tensor, mask: Tensor | None = None, *, background: bool = True) -> Tensor:
    """Eq. (3.5): Prb(label occurs), one minus the product over the positions of 1 - p.

    `marginals(log_p) > 0.5` predicts each label by itself, with the fewest wrong labels expected;
    `most_probable_set` has the best chance that all of them are right.

    Args: log_p (B, C+1, *positions); mask, background: as `log_likelihood`.
    Returns: (B, C); 0 for a bag without positions. A small one keeps its relative precision.
    Raises: ValueError, as `log_likelihood`.
    Source: noisy-OR, Maron & Lozano-Perez (1998).
    """
    flat = flatten(log_p, mask, background)
    return log_any(flat[:, :-1].double()).exp().to(log_p.dtype)


@per_bag(answer=scores_like)
def log_marginals(log_p: Tensor, mask: Tensor | None = None, *, background: bool = True) -> Tensor:
    """Return the logarithms of `marginals`, which do not underflow.

    Args and errors: as `marginals`.
    Returns: (B, C) in nats; -inf, with gradient 0, for a class of probability 0 at all positions.
        The gradient is 0, too, where p is exactly 1, and so in `marginals` and `noisy_or`.
    """
    flat = flatten(log_p, mask, background)
    return log_any(flat[:, :-1].double()).to(log_p.dtype)


@per_bag(answer=_set_like)
def most_probable_set(
    log_p: Tensor, mask: Tensor | None = None, *, background: bool = True
) -> Tensor:
    """Return the label set of largest probability, exactly; ties are broken by rounding.

    A set is at most as probable as each of its labels. A class whose marginal is below the
    probability of some set is in no better set, and is left out. The probabilities of all sets of
    the remaining classes, at most 16 a bag, come from Eq. (1.2), or from Eq. (2.1) where rounding
    could matter, with time and memory in proportion to 2**classes. Up to 16 classes this always
    works, and with more if the network is sure enough.

    Args: log_p (B, C+1, *positions); mask, background: as `log_likelihood`.
    Returns: bool (B, C). Its probability is that of `log_likelihood`.
    Raises: ValueError, as `log_likelihood`, or for a bag with more than 16 remaining classes.
    Source: chapter 3.
    """
    with torch.no_grad():
        flat = flatten(log_p, mask, background).detach().double()
        index, real = _candidates(flat)
        share = restrict(flat, index, real).softmax(1)  # (B, K+1, N)
        chosen = torch.zeros(flat.shape[:2], dtype=torch.bool, device=flat.device)
        bits = torch.arange(real.shape[1], device=flat.device)
        inside = (best_sets(share)[:, None] >> bits & 1).bool()  # (B, K)
        chosen.view(-1)[index[:, :-1][inside]] = True
        return chosen[:, :-1]


def _candidates(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Return index (B, K+1) and real (B, K) of the classes that the most probable set may have."""
    log_pi = log_any(flat[:, :-1])  # (B, C)
    likely = log_pi > math.log(0.5)
    first = likely.scatter(1, log_pi.argmax(1, keepdim=True), True)
    lower = torch.maximum(*(bracket(flat, guess)[0] for guess in (likely, first)))
    within = _within_reach(log_pi, lower)
    hard = ((within.sum(1) > MAX_LABELS) & (first.sum(1) <= MAX_LABELS)).nonzero()[:, 0]
    if len(hard):
        exact = (log_likelihood(flat[hard], guess[hard]) for guess in (likely, first))
        within[hard] = _within_reach(log_pi[hard], torch.maximum(*exact))
    most = int(within.sum(1).max()) if len(within) else 0
    if most > MAX_LABELS:
        raise ValueError(
            f"log_p leaves {most} classes of a bag that the most probable set may have, at most "
            f"{MAX_LABELS} can be compared; take marginals(log_p) > 0.5"
        )
    return slots_of(within, most)


def _within_reach(log_pi: Tensor, bound: Tensor) -> Tensor:
    """Return the classes (B, C) whose marginal is not below the log-probability (B,) of a set."""
    return (log_pi >= bound[:, None] - _MARGIN) & (log_pi > -torch.inf)
