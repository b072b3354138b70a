"""Entropies of a classifier, and the min-max loss made of them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .._shapes import check_layout, check_tensor, check_values, described, widened

_LOWEST = -1e30  # stands for log 0 where it is multiplied by a probability 0: 0 * -inf is NaN


@widened
def conditional_entropy(logits: Tensor) -> Tensor:
    """Eq. (11.1): H(Y | X = x) = -sum of p log p, of the distribution of each row of logits.

    Written as log z + sum of p (max - logit), a sum of terms that are all positive, so that the
    entropy of a sure row keeps its digits. Its gradient in the logits is -p (log p + H).

    Args: logits (B, C); -inf is a class that is ruled out.
    Returns: (B,) in nats, from 0 to log C.
    Raises: ValueError, another shape or dtype, a NaN, or a row without a finite maximum.
    Source: paper (2), (4).

    Example:
        >>> import torch
        >>> from wsl_tutorial import regions
        >>> regions.conditional_entropy(torch.zeros(1, 4))  # log 4: all classes are equal
        tensor([1.3863])
    """
    log_z, below = _split(logits)
    p = (-below - log_z[:, None]).exp()
    return log_z + (p * below).sum(1)


@widened
def cross_entropy_to_uniform(logits: Tensor) -> Tensor:
    """Eq. (11.2): -(1/C) sum of log p = log C + KL(uniform || p), least for a uniform p.

    Args, returns and errors: as `cross_entropy_to_prior`.  Source: paper (5).
    """
    check_layout("logits", logits, "(B, C)", (2,))
    classes = logits.shape[1]
    return cross_entropy_to_prior(logits, logits.new_full((classes,), 1 / classes))


@widened
def cross_entropy_to_prior(logits: Tensor, prior: Tensor) -> Tensor:
    """Eq. (11.3): -sum of q log p = H(q) + KL(q || p); its gradient in the logits is p - q.

    Args: logits (B, C), as `conditional_entropy`; prior: (C,) or (B, C), q.
    Returns: (B,) in nats; inf, with gradient 0, where q asks for a class that is ruled out.
    Raises: ValueError, as `conditional_entropy`, or a prior that is no distribution over C.
    Source: paper (5), there with the uniform q only.
    """
    log_z, below = _split(logits)
    shapes = (tuple(logits.shape), tuple(logits.shape[1:]))
    if not isinstance(prior, Tensor) or prior.shape not in shapes or prior.is_complex():
        wanted = f"real of shape {shapes[0]} or {shapes[1]}"
        raise ValueError(f"prior must be {wanted}, got {described(prior)}")
    check_values(
        (prior >= 0).all(-1) & ((prior.double().sum(-1) - 1).abs() < 1e-4),
        lambda: f"prior must be probabilities that sum to 1, got {prior.tolist()}",
    )
    q = prior.to(logits)
    ruled_out = ((logits == -torch.inf) & (q > 0)).any(1)
    return (log_z + (q * below).sum(1)).masked_fill(ruled_out, torch.inf)


@widened
def min_max_loss(
    positive: Tensor,
    negative: Tensor,
    target: Tensor,
    localiser: Tensor | None = None,
    prior: Tensor | None = None,
) -> Tensor:
    """Eq. (11.4): H+ + H- + H_s: C is sure on X+, undecided on X-, and M is right, too.

    Args:
        positive, negative: logits (B, C) of C on X+ and on X-.
        target: int64 (B,).
        localiser: logits (B, C) of M on X; None leaves out H_s, as paper (6).
        prior: C's target on X-, as `cross_entropy_to_prior`; None: uniform, as in the paper.
    Returns: scalar, the mean over images in nats.
    Raises: ValueError, shapes or dtypes disagree, a class out of range.
    Source: paper (3), (5), (7), (8).

    Example:
        >>> import torch
        >>> from wsl_tutorial import regions
        >>> sure, undecided = torch.tensor([[30.0, 0.0]]), torch.zeros(1, 2)
        >>> regions.min_max_loss(sure, undecided, torch.tensor([0]))  # 0 + log 2
        tensor(0.6931)
    """
    all_logits = {"positive": positive, "negative": negative, "localiser": localiser}
    for name, x in all_logits.items():
        if x is not None:
            check_logits(name, x)
            check_tensor(name, x, positive.shape, positive)
    check_target(target, positive)
    loss = F.cross_entropy(positive, target)
    if prior is None:
        loss = loss + cross_entropy_to_uniform(negative).mean()
    else:
        loss = loss + cross_entropy_to_prior(negative, prior).mean()
    return loss if localiser is None else loss + F.cross_entropy(localiser, target)


def _split(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return log_z (B,) and below (B, C), both >= 0, of log p = -below - log_z.

    Neither cancels: the largest logit is taken by its index, and its own term, exp(0) = 1, is the 1
    of log1p: a constant, so that its gradient is the sum of the others' and keeps its digits, too.
    """
    check_logits("logits", logits)
    most = logits.argmax(1, keepdim=True)
    below = (logits.gather(1, most) - logits).clamp_max(-_LOWEST).scatter(1, most, 0.0)
    others = (-below).exp().scatter(1, most, 0.0)
    return others.sum(1).log1p(), below


def check_logits(name: str, logits: Tensor) -> None:
    """Raise ValueError unless logits are (B, C) with a finite maximum in each row."""
    check_layout(name, logits, "(B, C)", (2,))
    check_values(
        logits.detach().amax(1).isfinite(),
        lambda: f"{name} must have a finite maximum in each row, and no NaN",
    )


def check_target(target: Tensor, logits: Tensor) -> None:
    """Raise ValueError unless target is int64 (B,) of the classes of logits (B, C)."""
    batch, classes = logits.shape
    check_tensor("target", target, (batch,), logits, (torch.int64,))
    check_values(
        (target >= 0) & (target < classes),
        lambda: f"target must hold classes 0..{classes - 1}, got {target.tolist()}",
    )
