"""Recursive erasing: look, trust, collect, erase, and look again."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import exp
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from .._shapes import check_int, check_layout, check_tensor, widened
from .entropy import check_logits, check_target

# The three steps ----------------------------------------------------------------------------------


@widened
def trust(logits: Tensor, target: Tensor, first: Tensor | None, t: int, sigma: float) -> Tensor:
    """Eq. (12.1): Psi = exp(-t / sigma) p_s(y) where M answers y, no less surely than at t = 0.

    Args:
        logits: (B, C) of M on the images as erased at step t.  target: (B,).
        first: (B,), the cross-entropies at t = 0, or None to compare with nothing.
        sigma: the number of steps in which the trust falls by a factor e.
    Returns: (B,) without graph; 0 where M is wrong, or its cross-entropy has grown; NaN where
        `first` is NaN.
    Raises: ValueError, shapes or dtypes disagree, t < 0, sigma <= 0.
    Source: paper (11), (12).
    """
    check_logits("logits", logits)
    check_target(target, logits)
    if first is not None:
        check_tensor("first", first, target.shape, logits)
    if t < 0 or not sigma > 0:
        raise ValueError(f"t must be at least 0 and sigma positive, got {t} and {sigma}")
    logits = logits.detach()
    loss = F.cross_entropy(logits, target, reduction="none")
    trusted = logits.argmax(1) == target
    if first is not None:
        trusted = (trusted & (loss <= first)).to(loss).masked_fill(first.isnan(), torch.nan)
    return exp(-t / sigma) * (-loss).exp() * trusted


def accumulate(total: Tensor, mask: Tensor, psi: Tensor) -> Tensor:
    """Eq. (12.2): R* <- max(R*, Psi R+).

    Args: total, mask (B, 1, H, W), R* and R+; psi (B,). A NaN of the mask stays, whatever psi is.
    Raises: ValueError, shapes or dtypes disagree.
    Source: paper (10).
    """
    check_layout("total", total, "(B, 1, H, W)", (4,))
    for name, x in (("total", total), ("mask", mask)):
        check_tensor(name, x, (len(total), 1, *total.shape[2:]), total)
    check_tensor("psi", psi, total.shape[:1], total)
    return torch.maximum(total, psi[:, None, None, None] * mask)


def erase(images: Tensor, total: Tensor, psi: Tensor) -> Tensor:
    """Eq. (12.3): X* <- X* (1 - R*) where the trust is positive; other images stay as they are.

    A region is erased again at every later trusted step: what remains of it is the product of
    1 - R* over them, (1 - R*)^j after j steps in which R* did not grow there.

    Args: images (B, channels, H, W), as erased so far; total (B, 1, H, W), R*; psi (B,), of which
        only the sign counts; an image whose psi is NaN becomes NaN.
    Raises: ValueError, shapes or dtypes disagree.
    Source: paper, Algorithm 1.
    """
    check_layout("images", images, "(B, channels, H, W)", (4,))
    check_tensor("total", total, (len(images), 1, *images.shape[2:]), images)
    check_layout("psi", psi, "(B,)", (1,))
    check_tensor("psi", psi, images.shape[:1], images, (psi.dtype,))
    trusted = (psi > 0).to(total.dtype).masked_fill(psi.isnan(), torch.nan)
    return images * (1 - total * trusted[:, None, None, None])


# The loop -----------------------------------------------------------------------------------------

Localiser = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Rule:
    """The number of looks, the trust in each, and what ends the search in an image.

    looks: the largest number of looks; they stop early when the search has ended in all images.
    ends: "error": once M is wrong about an image, no later look at it is trusted; "doubt": the same
        after any look without trust, whose loss is then left out; "never".
    trust: called as `trust`; None: the trust is 1.
    """

    looks: int
    ends: str
    trust: Callable[..., Tensor] | None = trust

    def __post_init__(self) -> None:
        check_int("looks", self.looks, 1)
        if self.ends not in ("error", "doubt", "never"):
            raise ValueError(f"ends must be error, doubt or never, got {self.ends!r}")


def as_released(u: int) -> Rule:
    """Return the rule of the released program: u looks; u = 0 is one look, its mask taken as it is.

    Raises: ValueError, u < 0.
    """
    check_int("u", u)
    return Rule(max(u, 1), "error", trust if u else None)


def as_printed(u: int) -> Rule:
    """Return the rule of Algorithm 1: u + 1 looks, and any trust of 0 is final.

    The loss of a look without trust is left out, so M never learns from an image that it gets wrong
    at t = 0.

    Raises: ValueError, u < 0.
    """
    check_int("u", u)
    return Rule(u + 1, "doubt")


class Look(NamedTuple):
    """One look of `looks`."""

    region: Tensor  # (B, 1, H, W), R+ of this look
    total: Tensor  # (B, 1, H, W), R* up to this look
    trust: Tensor  # (B,), Psi
    losses: Tensor  # (B,), the cross-entropies of M
    alive: Tensor  # bool (B,), where the search goes on


def looks(
    localise: Localiser,
    images: Tensor,
    target: Tensor,
    rule: Rule,
    sigma: float,
    attached: bool = False,
) -> Iterator[Look]:
    """Yield the looks of Algorithm 1, one after the other.

    As released, the masks are cut from the graph. The graph of a look then hangs on its losses
    alone: back-propagate their mean before you ask for the next look, and a training step needs the
    memory of one look, whatever their number.

    Args:
        localise: images -> logits (B, C) and mask (B, 1, H, W) of M. Within a step it must give
            equal outputs for equal images: draw dropout from a generator made inside.
        images: (B, channels, H, W); where they have a graph, all looks share it.
        target: (B,).  sigma: as `trust`.
        attached: keep the graph of masks and erased images, the trust being a constant, so that the
            gradient of C's losses reaches M. Of the graph only the erased images are stored;
            backward computes each look again (batch-norm statistics move twice).
    Raises: ValueError, images, target, logits or a mask that do not fit. A NaN of a mask is not
        checked for: it stays in R* and in the next images.
    Source: paper (10)-(12), Algorithm 1, section A.2.
    """
    _check_looks(images, target, rule)
    if attached and rule.looks > 1:
        localise = partial(checkpoint, localise, use_reentrant=False)
    return _looks(localise, images, target, rule, sigma, attached)


def _check_looks(images: Tensor, target: Tensor, rule: Rule) -> None:
    check_layout("images", images, "(B, channels, H, W)", (4,))
    check_tensor("target", target, images.shape[:1], images, (torch.int64,))
    if not isinstance(rule, Rule):
        raise ValueError(f"rule must be a Rule, such as as_released(4), got {type(rule).__name__}")


def _looks(localise, images, target, rule, sigma, attached) -> Iterator[Look]:
    total = images.new_zeros(len(images), 1, *images.shape[2:])
    alive, first = torch.ones_like(target, dtype=torch.bool), None
    for t in range(rule.looks):
        logits, mask = localise(images)
        check_layout("logits", logits, "(B, C)", (2,))
        check_tensor("logits", logits, (len(images), logits.shape[1]), images)
        check_tensor("mask", mask, total.shape, total)
        if t == 0:
            check_target(target, logits)
        mask = mask if attached else mask.detach()
        losses = F.cross_entropy(logits, target, reduction="none")
        if rule.trust is None:
            psi = torch.ones_like(losses)
        else:
            psi = rule.trust(logits, target, first, t, sigma)
        if rule.ends != "never":
            psi = psi * alive
            alive = psi > 0 if rule.ends == "doubt" else alive & (logits.argmax(1) == target)
        first = losses.detach() if first is None else first
        total = accumulate(total, mask, psi)
        images = erase(images, total, psi)
        yield Look(mask, total, psi, losses * alive if rule.ends == "doubt" else losses, alive)
        if not bool(alive.any()):
            return


def lazy_looks(
    localise: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    images: Tensor,
    target: Tensor,
    rule: Rule,
    sigma: float,
) -> Iterator[Look]:
    """Yield the looks of `looks`, but look no second time at an image that did not change.

    An image whose look is not trusted stays as it is, and so do M's outputs for it, if M uses no
    batch statistics. Its loss then counts once for this look and each that remains: the same
    gradients for less work, unless all trust ends before the last look, or the rule trusts a look
    after one without trust (`trust` does not, of equal outputs).

    Args: as `looks`; localise: (images, changed) -> logits and mask; changed bool (B,): for the
        other images it repeats its last outputs.
    Raises: ValueError, as `looks`, or a rule that leaves losses out.
    """
    _check_looks(images, target, rule)
    if rule.ends == "doubt":
        raise ValueError("lazy looks need the loss of every look, got a rule that ends in doubt")
    changed = torch.ones_like(target, dtype=torch.bool)
    found = looks(lambda x: localise(x, changed), images, target, rule, sigma)
    for t, look in enumerate(found):
        remaining = rule.looks - t if bool(look.alive.any()) else 1
        weight = changed * torch.where(look.trust > 0, 1, remaining)
        changed = changed & (look.trust > 0)
        yield look._replace(losses=look.losses * weight)


class Erased(NamedTuple):
    """The result of all looks."""

    mask: Tensor  # (B, 1, H, W), R*
    trust: Tensor  # (looks made, B), Psi
    loss: Tensor  # scalar, H_s: the mean over images, the sum over looks


def recursive_erasing(
    localise: Localiser,
    images: Tensor,
    target: Tensor,
    u: int,
    sigma: float,
    attached: bool = False,
    printed: bool = False,
) -> Erased:
    """Return the mask R* of all looks, which C is to see, and M's own loss with its graph.

    `min_max_loss(..) + loss` is paper (8). Its memory grows with u; a training step that needs the
    memory of one look goes through `looks`.

    Args: as `looks`; u: as `as_released`, or with `printed` as `as_printed`.
    Raises: ValueError, as `looks`, or u < 0.
    Source: paper (10)-(12), Algorithm 1, section A.2.
    """
    rule = as_printed(u) if printed else as_released(u)
    made = list(looks(localise, images, target, rule, sigma, attached))
    loss = images.new_zeros(())
    for look in made:
        loss = loss + look.losses.mean()
    return Erased(made[-1].total, torch.stack([look.trust for look in made]), loss)
