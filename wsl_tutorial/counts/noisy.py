"""Counts that are noisy, or known to a range: likelihoods from the whole distribution."""

import torch
from torch import Tensor

from wsl_tutorial._shapes import check_floats, check_layout, logsumexp, per_bag

from ._inputs import LOGITS, checked, checked_multiplicity
from .binary import log_distribution_of


def log_likelihood_noisy(
    logits: Tensor,
    log_noise: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Eq. (6.3): log-likelihood of an observation of the count with noise: the sum over the counts.

    Args:
        logits: (B, n).
        log_noise: (B, n+1) or (n+1,), log-probability of the observation given each true count j;
            with `multiplicity`, n is the size of the largest bag.
        mask, multiplicity: as `log_likelihood`.
    Returns: (B,) in nats; -inf, with gradient 0, where the observation is impossible.
    Raises: ValueError, as `log_likelihood`, or for another shape of log_noise.
    Source: chapter 6.
    """
    check_layout("logits", logits, "(B, n)", (2,), LOGITS, empty=True)
    check_floats("log_noise", log_noise, LOGITS)
    m = checked_multiplicity(multiplicity, mask, logits)
    most = logits.shape[1] if multiplicity is None else int(m.sum(1).max()) if len(m) else 0
    shape = (logits.shape[0], most + 1)
    if tuple(log_noise.shape) not in (shape, shape[1:]):
        got = tuple(log_noise.shape)
        raise ValueError(f"log_noise must have shape {shape} or {shape[1:]}, got {got}")
    return _log_likelihood_noisy(logits, log_noise.expand(shape), mask, multiplicity)


@per_bag
def _log_likelihood_noisy(
    logits: Tensor, log_noise: Tensor, mask: Tensor | None, multiplicity: Tensor | None
) -> Tensor:
    z, m = checked(logits, None, mask, multiplicity=multiplicity)
    log_f = log_distribution_of(z, m, multiplicity is not None)
    if not bool((log_noise <= 1e-3).all()):
        raise ValueError(
            f"log_noise of shape {tuple(log_noise.shape)} must hold log-probabilities, got "
            f"{log_noise.max().item()}; take the logarithm of P(observation | j)"
        )
    return logsumexp(log_f + log_noise.double(), 1).to(logits.dtype)


@per_bag
def log_likelihood_interval(
    logits: Tensor,
    low: Tensor,
    high: Tensor,
    mask: Tensor | None = None,
    multiplicity: Tensor | None = None,
) -> Tensor:
    """Eq. (6.4): log P(low <= y <= high | X).

    Args:
        logits: (B, n).
        low, high: integer (B,), both ends included.
        mask, multiplicity: as `log_likelihood`.
    Returns: (B,) in nats.
    Raises: ValueError, as `log_likelihood`, or for an empty interval.
    Source: chapter 6.
    """
    checked(logits, low, mask, "low", multiplicity)
    z, m = checked(logits, high, mask, "high", multiplicity)
    if not bool((low <= high).all()):
        raise ValueError("low must not exceed high")
    log_f = log_distribution_of(z, m, multiplicity is not None)
    j = torch.arange(log_f.shape[1], device=logits.device)
    inside = (j >= low[:, None]) & (j <= high[:, None])
    return logsumexp(log_f.masked_fill(~inside, -torch.inf), 1).to(logits.dtype)
