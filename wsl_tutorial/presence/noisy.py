"""Labels that are observed in part, or with errors of known rates."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from wsl_tutorial._shapes import FLAGS, check_tensor, cut, described, log, per_bag

from ._inputs import (
    MAX_LABELS,
    check_marks,
    flatten,
    merge_unknown,
    slots_of,
    split_labels,
    split_posterior,
)
from .fast import LogLikelihood, evaluate

Rate = float | Sequence[float] | Tensor


def at_least(labels: Tensor) -> Tensor:
    """Return labels of bags that have these labels and perhaps others: the rest is unknown.

    Args: labels: bool (B, C), or integer as in `log_likelihood`; any shape will do.
    Returns: int8 of the same shape, 1 where labels is 1 and -1 elsewhere.
    Raises: ValueError where labels is neither bool nor integer, or holds another number.
    Source: chapter 2; exercise 4 of chapter 1.
    """
    check_tensor("labels", labels, tuple(getattr(labels, "shape", ())), None, FLAGS)
    check_marks(labels)
    return 2 * (labels == 1).to(torch.int8) - 1


def log_likelihood_noisy(
    log_p: Tensor,
    labels: Tensor,
    false_positive: Rate,
    false_negative: Rate,
    mask: Tensor | None = None,
    *,
    background: bool = True,
) -> Tensor:
    """Eq. (3.6): log Prb of labels that are observed with errors, independent given the true set.

    All true label sets are summed. With both rates 0 this is `log_likelihood`; with rates strictly
    between 0 and 1 no observation is impossible. The series has a term for each set of classes that
    may occur, given the observation. If the rates of each label sum to less than 1, only observed
    labels have minus signs in it. Its certificate and the recursion that takes over are those of
    `log_likelihood`.

    Args:
        log_p, labels, mask, background: as `log_likelihood`; labels are those observed.
        false_positive, false_negative: (C,), or one number for all classes, or (B, C): the
            probabilities that a label is observed though it does not occur, and that it is not
            observed though it occurs. A class that may occur unobserved counts towards the limit
            of 16 labels.
    Returns:
        (B,) in nats; -inf, with gradient 0, where the observation is impossible. Differentiable in
        `log_p`, not in the rates.
    Raises:
        ValueError: as `log_likelihood`; a rate outside of 0 to 1, of another shape, or with a
            gradient; more than 16 classes that may occur.
    Source: chapter 3.
    """
    fp, fn = _rates(labels, false_positive, false_negative)
    return _log_likelihood_noisy(log_p, labels, fp, fn, mask, background)


def posterior_noisy(
    log_p: Tensor,
    labels: Tensor,
    false_positive: Rate,
    false_negative: Rate,
    mask: Tensor | None = None,
    *,
    background: bool = True,
) -> Tensor:
    """Return Prb(position emits class | labels observed with errors), the E-step of Eq. (3.6).

    Args and errors: as `log_likelihood_noisy`.  Returns: as `posterior`.
    Source: chapter 3.
    """
    fp, fn = _rates(labels, false_positive, false_negative)
    return _posterior_noisy(log_p, labels, fp, fn, mask, background)


@per_bag
def _log_likelihood_noisy(
    log_p: Tensor, labels: Tensor, fp: Tensor, fn: Tensor, mask: Tensor | None, background: bool
) -> Tensor:
    *bags, constant = _noisy_bags(log_p, labels, fp, fn, mask, background)
    return cut((LogLikelihood.apply(*bags) + constant).to(log_p.dtype))


@per_bag(answer=torch.empty_like)
def _posterior_noisy(
    log_p: Tensor, labels: Tensor, fp: Tensor, fn: Tensor, mask: Tensor | None, background: bool
) -> Tensor:
    flat, index, real, weights, constant = _noisy_bags(log_p, labels, fp, fn, mask, background)
    _, responsibility = evaluate(flat, index, real, True, weights)
    responsibility = responsibility.masked_fill((constant == -torch.inf)[:, None, None], 0)
    return split_posterior(responsibility, flat, log_p, labels, mask, background)


def _rates(labels: Tensor, *rates: Rate) -> list[Tensor]:
    """Return both rates as float64 (B, C)."""
    check_tensor("labels", labels, ("B", "C"), None, FLAGS)
    shape, found = tuple(labels.shape), []
    for name, rate in zip(("false_positive", "false_negative"), rates, strict=True):
        if isinstance(rate, Tensor) and rate.requires_grad:
            raise ValueError(f"{name} must not require a gradient; take {name}.detach()")
        try:
            values = torch.as_tensor(rate, dtype=torch.float64, device=labels.device)
        except (TypeError, ValueError, RuntimeError):
            got = described(rate)
            raise ValueError(f"{name} must hold numbers of one shape, got {got}") from None
        if tuple(values.shape) not in ((), shape[1:], shape):
            raise ValueError(
                f"{name} must be a number or of shape {shape[1:]} or {shape}, got shape "
                f"{tuple(values.shape)}"
            )
        found.append(values.expand(shape))
    return found


def _probability(name: str, rate: Tensor) -> Tensor:
    """Return the rate without a graph; raise ValueError unless it lies between 0 and 1."""
    fits = (rate >= 0) & (rate <= 1)
    if not bool(fits.all()):
        raise ValueError(f"{name} must lie between 0 and 1, got {rate[~fits][0].item()}")
    return rate.detach()


def _noisy_bags(
    log_p: Tensor, labels: Tensor, fp: Tensor, fn: Tensor, mask: Tensor | None, background: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return flat, index and real as `bags_of`, the weights (B, K, 2), and a log factor (B,).

    The slots of a bag are the classes that may occur. Those that may not have the factor.
    """
    fp, fn = _probability("false_positive", fp), _probability("false_negative", fn)
    flat = flatten(log_p, mask, background)
    present, unknown = split_labels(labels, flat, background)
    absent = torch.where(present, fp, 1 - fp)  # (B, C): Prb(observation | class does not occur)
    occurs = torch.where(present, 1 - fn, fn)  # (B, C): Prb(observation | class occurs)
    active = occurs > 0
    constant = log(absent).masked_fill(active, 0)
    if unknown is not None:
        flat, active = merge_unknown(flat, unknown), active & ~unknown
        constant = constant.masked_fill(unknown, 0)
    most = int(active.sum(1).max()) if len(active) else 0
    if most > MAX_LABELS:
        raise ValueError(
            f"labels has a bag in which {most} classes may occur, observed or not, at most "
            f"{MAX_LABELS} are summed (the cost doubles with each); give the others a "
            "false_negative of 0"
        )
    index, real = slots_of(active, most)
    pairs = pad(torch.stack([absent, occurs], 2), (0, 0, 0, 1)).flatten(0, 1)[index[:, :-1]]
    padding = torch.tensor([1.0, 0]).to(pairs)
    return flat, index, real, torch.where(real[:, :, None], pairs, padding), constant.sum(1)
