"""Regions: the image tells its *class*, each pixel hides whether it helps to decide it.

A localiser M gives each image a soft mask R+ between 0 and 1; a classifier C has to tell the class
from X+ = X R+ with little entropy and must not be able to tell it from X- = X (1 - R+).

Shapes used throughout: `images` is (B, channels, H, W), 0 where nothing is seen; `mask` is
(B, 1, H, W); `logits` is (B, C), of M or of C; `target` is int64 (B,); `maps` is (B, C, h, w), one
class activation map for each class, `scores` (B, H, W) one map for an image; `features` is
(B, D, *positions). Everything computes in the dtype it is given, float32 or float64. Nothing is
averaged over the batch unless the docstring says so.

Source of all of this: Belharbi, Rony, Dolz, Ben Ayed, McCaffrey & Granger (2020), "Min-max entropy
for weakly supervised pointwise localization", arXiv 1907.12934; "paper (8)" below is its equation
8. Where the released program differs from the paper, the docstring says which is which.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from math import exp, log
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

_LOWEST = -1e30  # stands for log 0 where it is multiplied by a probability 0: 0 * -inf is NaN


# Entropies -------------------------------------------------------------------------------------


def conditional_entropy(logits: Tensor) -> Tensor:
    """Eq. (11.1): H(Y | X = x) = -sum of p log p, of the distribution of each row of logits.

    Written as log z + sum of p (max - logit), a sum of terms that are all positive, so that the
    entropy of a sure row keeps its digits. Its gradient in the logits is -p (log p + H).

    Args: logits (B, C); -inf is a class that is ruled out.
    Returns: (B,) in nats, from 0 to log C.
    Raises: ValueError, another shape or dtype, a NaN, or a row without a finite maximum.
    Source: paper (2), (4).
    """
    log_z, below = _split(logits)
    p = (-below - log_z[:, None]).exp()
    return log_z + (p * below).sum(1)


def cross_entropy_to_uniform(logits: Tensor) -> Tensor:
    """Eq. (11.2): -(1/C) sum of log p = log C + KL(uniform || p), least for a uniform p.

    Args, returns and errors: as `cross_entropy_to_prior`.  Source: paper (5).
    """
    _check("logits", logits, "(B, C)", (2,))
    classes = logits.shape[1]
    return cross_entropy_to_prior(logits, logits.new_full((classes,), 1 / classes))


def cross_entropy_to_prior(logits: Tensor, prior: Tensor) -> Tensor:
    """Eq. (11.3): -sum of q log p = H(q) + KL(q || p); its gradient in the logits is p - q.

    Args: logits (B, C), as `conditional_entropy`; prior: (C,) or (B, C), q.
    Returns: (B,) in nats; inf, with gradient 0, where q asks for a class that is ruled out.
    Raises: ValueError, as `conditional_entropy`, or a prior that is no distribution over C.
    Source: paper (5), there with the uniform q only.
    """
    log_z, below = _split(logits)
    if not isinstance(prior, Tensor) or prior.shape not in (logits.shape, logits.shape[1:]):
        raise ValueError(f"prior must be {tuple(logits.shape)} or its last, got {_got(prior)}")
    if prior.is_complex():
        raise ValueError(f"prior must be real, got {_got(prior)}")
    if not bool((prior >= 0).all() and ((prior.double().sum(-1) - 1).abs() < 1e-4).all()):
        raise ValueError(f"prior must be probabilities that sum to 1, got {prior.tolist()}")
    q = prior.to(logits)
    ruled_out = ((logits == -torch.inf) & (q > 0)).any(1)
    return (log_z + (q * below).sum(1)).masked_fill(ruled_out, torch.inf)


def min_max_loss(
    positive: Tensor,
    negative: Tensor,
    target: Tensor,
    localiser: Tensor | None = None,
    prior: Tensor | None = None,
) -> Tensor:
    """Eq. (11.4): H+ + H- + H_s: be sure on X+, unable to tell on X-, and let M tell, too.

    Args:
        positive, negative: logits (B, C) of C on X+ and on X-.
        target: int64 (B,).
        localiser: logits (B, C) of M on X; None leaves out H_s, as paper (6).
        prior: what C has to answer on X-, as `cross_entropy_to_prior`; None: uniform, the paper's.
    Returns: scalar, the mean over images in nats.
    Raises: ValueError, shapes or dtypes disagree, a class out of range.
    Source: paper (3), (5), (7), (8).
    """
    all_logits = {"positive": positive, "negative": negative, "localiser": localiser}
    for name, x in all_logits.items():
        if x is not None:
            _check_logits(name, x)
            _check_like(name, x, positive.shape, positive)
    _check_target(target, positive)
    loss = F.cross_entropy(positive, target)
    if prior is None:
        loss = loss + cross_entropy_to_uniform(negative).mean()
    else:
        loss = loss + cross_entropy_to_prior(negative, prior).mean()
    return loss if localiser is None else loss + F.cross_entropy(localiser, target)


def _split(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log p = -below - log_z: log_z (B,) >= 0 and below (B, C) >= 0, both without cancellation.

    The greatest logit is taken by its index, and its own term, exp(0) = 1, is the 1 of log1p: a
    constant, so that its gradient is the sum of the others' and keeps its digits, too.
    """
    _check_logits("logits", logits)
    most = logits.argmax(1, keepdim=True)
    below = (logits.gather(1, most) - logits).clamp_max(-_LOWEST).scatter(1, most, 0.0)
    others = (-below).exp().scatter(1, most, 0.0)
    return others.sum(1).log1p(), below


# From class maps to a mask ---------------------------------------------------------------------


def class_map(maps: Tensor, logits: Tensor) -> Tensor:
    """Eq. (11.5): T = sum of p_s(k) A_k: the class maps, weighted with M's own probabilities.

    Args: maps (B, C, h, w); logits (B, C) of M.
    Returns: (B, h, w).
    Raises: ValueError, shapes or dtypes disagree.
    Source: paper, section 3, before (9).
    """
    _check("maps", maps, "(B, C, h, w)", (4,))
    _check_logits("logits", logits)
    _check_like("logits", logits, maps.shape[:2], maps)
    with _full_precision(maps):
        return torch.einsum("bkxy,bk->bxy", maps, logits.softmax(1))


def normalise(scores: Tensor, whole_batch: bool = False) -> Tensor:
    """Eq. (11.6): scores (B, H, W) moved and scaled to [0, 1], by image or over the batch.

    1/2 of the result is half-way between the least and the greatest score. A constant map says
    nothing: it becomes 1/2 everywhere, with gradient 0.

    Returns: as scores.
    Raises: ValueError, another shape or dtype, or a number that is not finite.
    Source: not in the paper; the released program does it, over the batch in training.
    """
    _check("scores", scores, "(B, H, W)", (3,))
    dims = (0, 1, 2) if whole_batch else (1, 2)
    least, most = scores.amin(dims, keepdim=True), scores.amax(dims, keepdim=True)
    if not bool((least.isfinite() & most.isfinite()).all()):
        raise ValueError(f"scores of shape {tuple(scores.shape)} must be finite")
    flat = most == least
    return ((scores - least) / (most - least).masked_fill(flat, 1)).masked_fill(flat, 0.5)


def soft_mask(scores: Tensor, omega: float, threshold: float) -> Tensor:
    """Eq. (11.7): R+ = sigmoid(omega (T - threshold)), (B, H, W) -> (B, 1, H, W).

    With omega = 8 and threshold 1/2, as printed, scores in [0, 1] give R+ in [0.018, 0.982]. A NaN
    stays NaN at its pixel: looking for one would make a GPU wait, and `normalise` has done it.

    Raises: ValueError, another shape or dtype, or omega <= 0.
    Source: paper (9).
    """
    _check("scores", scores, "(B, H, W)", (3,))
    if not omega > 0:
        raise ValueError(f"omega must be positive, got {omega}")
    return (omega * (scores - threshold)).sigmoid()[:, None]


def region(
    maps: Tensor,
    logits: Tensor,
    size: tuple[int, int],
    omega: float,
    threshold: float,
    whole_batch: bool = False,
) -> Tensor:
    """R+ from M's maps and logits: T, enlarged to the image's size, normalised, softly cut.

    Args: maps (B, C, h, w), logits (B, C), size (H, W); the rest as `normalise`, `soft_mask`.
    Returns: (B, 1, H, W), with its graph: `recursive_erasing` cuts it as the released program does.
    Raises: ValueError, as the functions it calls.
    Source: paper (9) and section A.2.
    """
    scores = class_map(maps, logits)[:, None]
    scores = F.interpolate(scores, size, mode="bilinear", align_corners=True)[:, 0]
    return soft_mask(normalise(scores, whole_batch), omega, threshold)


# Recursive erasing -----------------------------------------------------------------------------


def trust(logits: Tensor, target: Tensor, first: Tensor | None, t: int, sigma: float) -> Tensor:
    """Eq. (12.1): Psi = exp(-t / sigma) p_s(y) where M says y, no less surely than at t = 0.

    Args:
        logits: (B, C) of M on the images as erased at step t.  target: (B,).
        first: (B,), the cross-entropies at t = 0, or None to compare with nothing.
        sigma: the number of steps in which the trust falls by a factor e.
    Returns: (B,) without graph; 0 where M is wrong, or its cross-entropy has grown; NaN where
        `first` is NaN.
    Raises: ValueError, shapes or dtypes disagree, t < 0, sigma <= 0.
    Source: paper (11), (12).
    """
    _check_logits("logits", logits)
    _check_target(target, logits)
    if first is not None:
        _check_like("first", first, target.shape, logits)
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
    _check("total", total, "(B, 1, H, W)", (4,))
    for name, x in (("total", total), ("mask", mask)):
        _check_like(name, x, (len(total), 1, *total.shape[2:]), total)
    _check_like("psi", psi, total.shape[:1], total)
    return torch.maximum(total, psi[:, None, None, None] * mask)


def erase(images: Tensor, total: Tensor, psi: Tensor) -> Tensor:
    """Eq. (12.3): X* <- X* (1 - R*) where the trust is positive; other images stay as they are.

    A region is erased again at every later trusted step: what is left of it is the product of
    1 - R* over them, (1 - R*)^j after j steps in which R* did not grow there.

    Args: images (B, channels, H, W), as erased so far; total (B, 1, H, W), R*; psi (B,), of which
        only the sign counts; an image whose psi is NaN becomes NaN.
    Raises: ValueError, shapes or dtypes disagree.
    Source: paper, Algorithm 1.
    """
    _check("images", images, "(B, channels, H, W)", (4,))
    _check_like("total", total, (len(images), 1, *images.shape[2:]), images)
    _check("psi", psi, "(B,)", (1,))
    _check_like("psi", psi, images.shape[:1], images, psi.dtype)
    trusted = (psi > 0).to(total.dtype).masked_fill(psi.isnan(), torch.nan)
    return images * (1 - total * trusted[:, None, None, None])


class Erased(NamedTuple):
    """What `recursive_erasing` gives."""

    mask: Tensor  # (B, 1, H, W), R*
    trust: Tensor  # (passes, B), Psi of every pass made
    loss: Tensor  # scalar, H_s: the mean over images, the sum over passes


def recursive_erasing(
    localise: Callable[[Tensor], tuple[Tensor, Tensor]],
    images: Tensor,
    target: Tensor,
    u: int,
    sigma: float,
    attached: bool = False,
    printed: bool = False,
    believe: Callable[..., Tensor] | None = None,
    lazy: bool = False,
) -> Erased:
    """Localise, trust, collect, erase, and again: the mask R* that C is to see, and M's own loss.

    As released, the mask is cut from the graph, and each pass is back-propagated into M at once and
    forgotten: the memory of one pass, whatever u is. `loss` then has no graph; `backward` of
    `min_max_loss(..) + loss` adds what is missing of the gradient of paper (8). With `attached`,
    the gradient of C's losses reaches M through masks and erased images (the trust is a constant);
    `loss` has its graph, of which only the erased images are kept, and backward computes each pass
    anew (batch-norm statistics move twice). The caller's lines are the same.

    Args:
        localise: images -> logits (B, C) and mask (B, 1, H, W) of M. Within a step it must give
            equal answers to equal images: draw dropout from a generator made inside.
        images: (B, channels, H, W); where they have a graph, it is kept, and all passes with it.
        target: (B,).  sigma: as `trust`.
        u: as released, M looks u times; u = 0 is one look, whose mask is taken as it is. An error
            of M ends the trust in an image for good; a failed comparison with t = 0 does not.
        printed: as printed instead: u + 1 looks, any trust of 0 is final, and the loss of such a
            look is left out, so that M never learns from an image that it gets wrong at t = 0.
        believe: stands for `trust`, with its arguments; what it says of a look ends nothing.
        lazy: an image whose look is not trusted stays as it is, and so do M's answers to it, if M
            knows no batch statistics. Its loss then counts for the looks left, and `localise` gets
            (images, changed), changed bool (B,): for the others it is to repeat its answers. The
            same gradients for less, unless all trust ends before the last look, or `believe` says
            yes after a no (`trust` does not, of equal answers).
    Raises: ValueError, u < 0, lazy with attached or printed, or images, target, logits or a mask
        that do not fit. A NaN of a mask is not looked for: it stays in R* and in what M sees next.
    Source: paper (10)-(12), Algorithm 1, section A.2.
    """
    _check("images", images, "(B, channels, H, W)", (4,))
    _check_like("target", target, images.shape[:1], images, torch.int64)
    if u < 0:
        raise ValueError(f"u must be at least 0, got {u}")
    if lazy and (attached or printed):
        raise ValueError("lazy is for the detached mask, as released, got attached or printed")
    passes = u + 1 if printed else max(u, 1)
    total = images.new_zeros(len(images), 1, *images.shape[2:])
    alive, first = torch.ones_like(target, dtype=torch.bool), None
    loss, coefficients = images.new_zeros(()), []
    changed = torch.ones_like(alive)
    for t in range(passes):
        if attached and passes > 1:
            logits, mask = checkpoint(localise, images, use_reentrant=False)
        else:
            logits, mask = localise(images, changed) if lazy else localise(images)
        _check("logits", logits, "(B, C)", (2,))
        _check_like("logits", logits, (len(images), logits.shape[1]), images)
        _check_like("mask", mask, total.shape, total)
        if believe is None:
            psi = trust(logits, target, first, t, sigma) * alive
            alive = psi > 0 if printed else alive & (logits.argmax(1) == target)
        else:
            psi = believe(logits, target, first, t, sigma)
        each = F.cross_entropy(logits, target, reduction="none")
        first = each.detach() if first is None else first
        psi = torch.ones_like(psi) if u == 0 and not printed else psi
        if lazy:
            left = passes - t if bool(alive.any()) else 1
            each = each * changed * torch.where(psi > 0, 1, left)
            changed = changed & (psi > 0)
        mean = (each * alive if printed else each).mean()
        if not attached:
            mask = mask.detach()
            if mean.requires_grad:
                mean.backward(retain_graph=images.requires_grad)  # later looks share their graph
                mean = mean.detach()
        loss = loss + mean
        total = accumulate(total, mask, psi)
        images = erase(images, total, psi)
        coefficients.append(psi)
        if not bool(alive.any()):
            break
    return Erased(total, torch.stack(coefficients), loss)


# From class maps to class scores -----------------------------------------------------------------


def average_pooling(maps: Tensor) -> Tensor:
    """The mean over positions: maps (B, C, *positions) -> (B, C).  Source: Zhou et al. (2016)."""
    return _flat(maps).mean(2)


def max_pooling(maps: Tensor) -> Tensor:
    """The greatest value: maps (B, C, *positions) -> (B, C).  Source: Oquab et al. (2015)."""
    return _flat(maps).amax(2)


def log_sum_exp_pooling(maps: Tensor, r: float) -> Tensor:
    """Eq. (11.8): (1/r) log mean exp(r A): the mean for r -> 0, the maximum for r -> infinity.

    For r < 1 the mean of A is taken out where r A varies little about it: two logarithms that are
    nearly equal would leave no digit of their difference over r.

    Args: maps (B, C, *positions).  Returns: (B, C).  Raises: ValueError, as others, or r <= 0.
    Source: Pinheiro & Collobert (2015); Sun et al. (2016).
    """
    if not r > 0:
        raise ValueError(f"r must be positive, got {r}")
    maps, r = _flat(maps), max(r, 1e-30)  # beyond, r vanishes in float32, and the mean is exact
    scaled = r * maps
    value = (scaled.logsumexp(2) - log(maps.shape[2])) / r
    if r >= 1:
        return value
    mean = maps.detach().mean(2, keepdim=True)  # any constant gives the same
    x = r * (maps - mean)
    near = x.detach().abs().amax(2, keepdim=True) <= 1
    small = x.masked_fill(~near, 0).expm1().mean(2).log1p() / r + mean[..., 0]
    return torch.where(near[..., 0], small, value)


def wildcat_pooling(
    maps: Tensor,
    k_max: int,
    k_min: int = 0,
    alpha: float = 0.0,
    dropout: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Eq. (11.9): the mean of the k_max greatest values, and alpha times that of the k_min least.

    Args:
        maps: (B, C, *positions); several maps a class are averaged before.
        k_max, k_min: numbers of positions; in the paper the share 0.09 of all, rounded.
        dropout: the probability that one of the greatest is left out (the others weigh more).
        generator: draws what is left out, on the device of the maps; needed with dropout.
    Returns: (B, C).
    Raises: ValueError, another shape or dtype, k out of range, an alpha without k_min, dropout
        outside [0, 1).
    Source: Durand et al. (2017); dropout on the sorted values: paper, section B.2.
    """
    maps = _flat(maps)
    n = maps.shape[2]
    if not (1 <= k_max <= n and 0 <= k_min <= n):
        raise ValueError(f"k_max, k_min must be 1..{n} and 0..{n}, got {k_max} and {k_min}")
    if alpha and not k_min:
        raise ValueError(f"alpha must be 0 without k_min, got {alpha}")
    if not 0 <= dropout < 1 or (dropout > 0 and generator is None):
        raise ValueError(f"dropout must be in [0, 1), with a generator, got {dropout}, {generator}")
    greatest = maps.topk(k_max, 2).values
    if dropout > 0:
        drawn = torch.rand(greatest.shape, generator=generator, device=maps.device)
        greatest = greatest * (drawn >= dropout) / (1 - dropout)
    value = greatest.mean(2)
    return value + alpha * maps.topk(k_min, 2, largest=False).values.mean(2) if k_min else value


def gated_scores(features: Tensor, v: Tensor, w: Tensor, gate: Tensor | None = None) -> Tensor:
    """w tanh(V f), times sigmoid(U f) inside with a gate: scores of attention for every class.

    Args: features (B, D, *positions); v, gate (L, D), V and U; w (C, L).
    Returns: (B, C, *positions), for `attention_pooling`.
    Raises: ValueError, shapes or dtypes disagree.
    Source: Ilse, Tomczak & Welling (2018), (8), (9), there for one class.
    """
    f = _flat(features, "features", "(B, D, *positions)")
    _check("w", w, "(C, L)", (2,))
    _check_like("w", w, w.shape, f)
    for name, x in (("v", v), ("gate", v if gate is None else gate)):
        _check_like(name, x, (w.shape[1], f.shape[1]), f)
    with _full_precision(f):
        hidden = (v @ f).tanh()  # (B, L, positions)
        hidden = hidden if gate is None else hidden * (gate @ f).sigmoid()
        return (w @ hidden).unflatten(2, features.shape[2:])


def attention_pooling(features: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """For each class the mean of the features, weighted with softmax of its scores over positions.

    Args: features (B, D, *positions); scores (B, C, *positions).
    Returns: means (B, C, D) and weights (B, C, *positions), which sum to 1 over positions.
    Raises: ValueError, shapes or dtypes disagree.
    Source: Ilse, Tomczak & Welling (2018), (7), with a branch for each class.
    """
    f = _flat(features, "features", "(B, D, *positions)")
    s = _flat(scores, "scores", "(B, C, *positions)")
    _check_like("scores", scores, (len(f), scores.shape[1], *features.shape[2:]), features)
    weights = s.softmax(2)
    with _full_precision(f):
        return weights @ f.transpose(1, 2), weights.view_as(scores)


# Checks ----------------------------------------------------------------------------------------


def _full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast would multiply matrices in half precision, and return it."""
    kind = x.device.type
    here = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if here else nullcontext()


def _check(name: str, x: Tensor, shape: str, dims: tuple[int, ...]) -> None:
    if not isinstance(x, Tensor) or x.dtype not in (torch.float32, torch.float64):
        half = isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16)
        remedy = f"; take {name}.float()" if half else ""
        raise ValueError(f"{name} must be a float32 or float64 tensor, got {_got(x)}{remedy}")
    if x.dim() not in dims or 0 in x.shape:
        raise ValueError(f"{name} must be {shape}, got {_got(x)}")


def _check_like(
    name: str, x: Tensor, shape: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None
) -> None:
    """x has this very shape, is on the device of `like`, and of its dtype, or of `dtype`."""
    expected = tuple(shape), dtype or like.dtype, like.device
    if not isinstance(x, Tensor) or (tuple(x.shape), x.dtype, x.device) != expected:
        raise ValueError(f"{name} must be {', '.join(map(str, expected))}, got {_got(x)}")


def _got(x: object) -> str:
    kind = isinstance(x, Tensor)
    return f"shape {tuple(x.shape)}, {x.dtype}, {x.device}" if kind else type(x).__name__


def _check_logits(name: str, logits: Tensor) -> None:
    _check(name, logits, "(B, C)", (2,))
    if not bool(logits.detach().amax(1).isfinite().all()):
        raise ValueError(f"{name} must have a finite maximum in each row, and no NaN")


def _check_target(target: Tensor, logits: Tensor) -> None:
    batch, classes = logits.shape
    _check_like("target", target, (batch,), logits, torch.int64)
    if not bool(((target >= 0) & (target < classes)).all()):
        raise ValueError(f"target must hold classes 0..{classes - 1}, got {target.tolist()}")


def _flat(x: Tensor, name: str = "maps", shape: str = "(B, C, *positions)") -> Tensor:
    """(B, C, *positions) as (B, C, positions)."""
    _check(name, x, shape, tuple(range(3, 9)))
    return x.flatten(2)
