"""One likelihood for every observation that a finite automaton can check: general, but slower.

An automaton reads the hidden labels of a bag one by one. It is a table `transition` (S, k): in
state s, label l leads to state transition[s, l], or nowhere (-1). It begins in state `start`, and
`accept` marks the final states that agree with the observation. For presence the state is the set
of classes seen so far; for counts it is the number of positives. Tests compare both with it.
"""

import torch
from torch import Tensor

from wsl_tutorial._shapes import (
    BOOL,
    SOFTMAX,
    WHOLE,
    check_floats,
    check_int,
    check_normalised,
    check_tensor,
    cut,
    logsumexp,
    per_bag,
)


def log_marginal(
    log_p: Tensor, transition: Tensor, accept: Tensor, start: int = 0, mask: Tensor | None = None
) -> Tensor:
    """Return the log-probability that the automaton ends in an accepted state.

    The forward recursion f_i(t) = sum of f_(i-1)(s) p_(i,l) over the edges (s, l) that lead to t,
    in log space; O(n S E) steps, where E is the largest number of edges that lead to one state.

    Args:
        log_p: (B, n, k), log-probabilities of each instance's label, float32 or float64.
        transition: int64 (S, k), next states; -1 forbids the label.
        accept: bool (B, S) or (S,), the final states that agree with the observation.
        start: the first state.
        mask: bool (B, n), true for real instances; None where there is no padding.
    Returns:
        (B,) in nats; -inf, with gradient 0, where no path is possible.
    Raises:
        ValueError: shapes or dtypes disagree, `log_p` does not normalise, the mask is not bool, or
            a state lies outside the table.
    Source: the forward algorithm of hidden Markov models; chapter 5.
    """
    return _log_marginal(*_checked(log_p, transition, accept, start, mask))


def posterior(
    log_p: Tensor, transition: Tensor, accept: Tensor, start: int = 0, mask: Tensor | None = None
) -> Tensor:
    """Return the probability of each label given that the automaton accepts.

    This is the gradient of `log_marginal` with respect to `log_p`: autograd runs backwards.

    Args and errors: as `log_marginal`.
    Returns: (B, n, k); 0 for padding and where impossible. Differentiable.
    """
    return _posterior(*_checked(log_p, transition, accept, start, mask))


def presence(classes: int) -> Tensor:
    """Return (2**C, C+1): the state is the set of classes seen, class l its bit l; phi comes last.

    The state to accept is sum(2**l for l in the label set).
    """
    check_int("classes", classes)
    seen = torch.arange(2**classes)[:, None]
    return torch.cat([seen | (1 << torch.arange(classes)), seen], 1)


def counts(most: int) -> Tensor:
    """Return (most+1, 2): the state is the number of positives, at most `most`; labels are 0 and 1.

    The state to accept is the number y of positives. One more than `most` is forbidden.
    """
    check_int("most", most)
    positives = torch.arange(most + 1)
    one_more = torch.where(positives < most, positives + 1, -1)
    return torch.stack([positives, one_more], 1)


@per_bag(shared=("transition",), classes=2)
def _log_marginal(
    log_p: Tensor, accept: Tensor, real: Tensor, transition: Tensor, start: int
) -> Tensor:
    """Return `log_marginal` of checked arguments."""
    check_normalised(log_p, real)
    edge, entered = _incoming(transition)  # (S, E) edges s * k + l
    f = log_p.new_full((len(log_p), len(transition)), -torch.inf)
    f[:, start] = 0
    log_p = log_p.masked_fill(~real[:, :, None], 0)
    for p, there in zip(log_p.unbind(1), real.unbind(1), strict=True):  # (B, k)
        paths = (f[:, :, None] + p[:, None]).flatten(1)[:, edge]  # (B, S, E)
        f = torch.where(there[:, None], logsumexp(paths.masked_fill(~entered, -torch.inf), 2), f)
    none = log_p[:, :0].sum()  # 0, and part of the graph even without instances
    return cut(logsumexp(f.masked_fill(~accept, -torch.inf), 1)) + none


@per_bag(shared=("transition",), answer=torch.empty_like, classes=2)
def _posterior(
    log_p: Tensor, accept: Tensor, real: Tensor, transition: Tensor, start: int
) -> Tensor:
    """Return `posterior` of checked arguments."""
    graph = torch.is_grad_enabled() and log_p.requires_grad
    with torch.enable_grad():
        log_p = log_p if log_p.requires_grad else log_p.detach().requires_grad_()
        value = _log_marginal(log_p, accept, real, transition, start)
        (r,) = torch.autograd.grad(value.sum(), log_p, create_graph=graph)
        return r + log_p[:, :0].sum() if graph else r


def _incoming(transition: Tensor) -> tuple[Tensor, Tensor]:
    """Return the edges that enter each state: their numbers (S, E), and which are not padding."""
    target = transition.flatten()
    entering = [(target == t).nonzero()[:, 0] for t in range(len(transition))]
    edge = torch.nn.utils.rnn.pad_sequence(entering, batch_first=True, padding_value=-1)
    edge = edge if edge.shape[1] else edge.new_full((len(edge), 1), -1)
    return edge.clamp_min(0), edge >= 0


def _checked(
    log_p: Tensor, transition: Tensor, accept: Tensor, start: int, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, int]:
    """Return log_p, accept (B, S), which instances are real (B, n), transition, start."""
    check_floats("log_p", log_p, SOFTMAX.format(dim=2))
    check_tensor("transition", transition, ("S", "k"), None, WHOLE)
    if log_p.dim() != 3 or log_p.shape[2] != transition.shape[1]:
        raise ValueError(
            f"log_p must be (B, n, k) and transition (S, k), got {tuple(log_p.shape)} "
            f"and {tuple(transition.shape)}"
        )
    states = len(transition)
    check_int("start", start, None)
    if not 0 <= start < states or not bool(((transition >= -1) & (transition < states)).all()):
        raise ValueError(
            f"transition and start must be states 0 .. {states - 1}, in transition -1 for none, "
            f"got start {start} and transition {transition.tolist()}"
        )
    one = isinstance(accept, Tensor) and accept.dim() == 1
    check_tensor("accept", accept, (states,) if one else (log_p.shape[0], states), None, BOOL)
    if mask is None:
        mask = torch.ones(log_p.shape[:2], dtype=torch.bool, device=log_p.device)
    check_tensor("mask", mask, tuple(log_p.shape[:2]), log_p, BOOL)
    accept = accept.expand(len(log_p), states)
    return log_p, accept, mask, transition.to(log_p.device).long(), start
