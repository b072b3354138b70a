"""Classify small sets of bags by the presence of hidden concepts, on features of a kernel.

Everything is chosen by cross-validation inside `fit`, on bags: the width of the kernel, how far the
instances of a bag count as copies, the number of concepts, the penalty, the slope. All candidates
on all folds are columns of one matrix and train side by side; no column sees another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from numbers import Real

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import check_int, described
from wsl_tutorial.presence import copy_weights

CLIP = 3.0  # standard deviations: rare outliers would rule all distances


@dataclass(frozen=True)
class Candidate:
    """Describe one setting.

    scale: exp(-scale d^2 / D) is the kernel, d^2 / D the mean squared difference of a standardised
    feature; copies: "kernel" or "all", the weights of copy_weights for the width of the kernel and
    for infinity, or "none", weights 1, also for exact copies; concepts: how many have to occur;
    penalty: times the squared weights / 2; slope: of the log odds of a bag, by Eq. (16.5).
    """

    scale: float
    copies: str
    concepts: int
    penalty: float
    slope: float = 1.0

    def __post_init__(self) -> None:
        check_int("concepts", self.concepts, 1)
        numbers = self.scale, self.slope, self.penalty
        fits = self.copies in ("none", "kernel", "all") and all(
            isinstance(x, Real) for x in numbers
        )
        if not (fits and 0 < self.scale < inf and 0 < self.slope < inf and 0 <= self.penalty < inf):
            raise ValueError(
                "scale and slope must be positive, copies none, kernel or all, and penalty at "
                f"least 0, got {self}"
            )


GRID = tuple(
    Candidate(*values)
    for values in product((1.0, 3.0, 10.0), ("all", "kernel"), (1, 2), (0.03, 0.1), (1.0, 2.0, 4.0))
)


class KernelPresence:
    """Classify bags: positive if each of K hidden concepts occurs, by Eq. (16.3).

    grid: the candidates; landmarks: most features of a kernel; folds: of the inner
    cross-validation; noise: rate of wrong bag labels; steps and lr: of Adam; seed: of landmarks,
    folds and first weights. No setting sees a test bag, and all act on every candidate alike.

    After `fit`: `validation_` ({Candidate: log-likelihood of the labels of all training bags, each
    label left out once, nats}), `share_` ({Candidate: its share in the prediction}, by Eq. (16.6)),
    `chosen_` (the Candidate with the largest share). Scaling and landmarks use the instances of all
    training bags, also of those whose label is left out.
    """

    def __init__(
        self,
        grid: Sequence[Candidate] = GRID,
        landmarks: int = 400,
        folds: int = 4,
        noise: float = 0.02,
        steps: int = 120,
        lr: float = 0.1,
        seed: int = 0,
    ) -> None:
        self.grid, self.landmarks, self.folds = tuple(grid), landmarks, folds
        self.noise, self.steps, self.lr, self.seed = noise, steps, lr, seed

    def fit(self, x: Tensor, bags: Tensor, labels: Tensor) -> "KernelPresence":
        """Fit to instances x (N, D), their bags int64 (N,) of 0..M-1, and bag labels bool (M,).

        Raises ValueError where these do not fit, a feature is not finite, all are constant, a class
        has fewer bags than there are folds, or a setting is out of range.
        """
        self._check_settings()
        _check(x, bags, labels, self.folds)
        g = torch.Generator().manual_seed(self.seed)
        self._scale = Scale(x)
        z, held = self._scale(x), _folds(labels, self.folds, g)
        self.validation_, self._fitted = {}, {}
        for scale in dict.fromkeys(c.scale for c in self.grid):
            grid = [c for c in self.grid if c.scale == scale]
            features = Landmarks(z, bags, scale, self.landmarks, g)
            trained = list(dict.fromkeys(replace(c, slope=1.0) for c in grid))
            columns = [(c, fold) for c in trained for fold in range(self.folds + 1)]
            use = torch.stack([held != fold for _, fold in columns], 1).float()  # (M, columns)
            model, shown = Columns([c for c, _ in columns], self.noise), features(z)
            sums = _sums(z, bags, {c.copies for c in grid}, scale)
            model.fit(shown, sums, labels, use, self.steps, self.lr, g)
            log_p = model.log_positive(shown, sums)  # (M, columns)
            for c in grid:
                k = trained.index(replace(c, slope=1.0)) * (self.folds + 1)
                own = slice(k, k + self.folds)  # column k + folds leaves out no bag
                left_out = model.of_labels(log_p[:, own], labels, c.slope) * (1 - use[:, own])
                self.validation_[c] = left_out.sum().item()
                self._fitted[c] = features, model.column(k + self.folds)
        self.share_ = shares(self.validation_)
        self.chosen_ = max(self.share_, key=self.share_.__getitem__)
        return self

    def predict_proba(self, x: Tensor, bags: Tensor) -> Tensor:
        """Return P(positive) of each bag, (M,)."""
        z = self._scaled(x)
        _check_bags(x, bags)
        total, least = torch.zeros(int(bags.max()) + 1), 1e-4 * max(self.share_.values())
        kept = {c: share for c, share in self.share_.items() if share > least}
        for scale in dict.fromkeys(c.scale for c in kept):
            grid = [c for c in kept if c.scale == scale]
            shown = self._fitted[grid[0]][0](z)  # the same features for all of a scale
            sums = _sums(z, bags, {c.copies for c in grid}, scale)
            for c in grid:
                log_p = self._fitted[c][1].log_positive(shown, sums)[:, 0]
                total += kept[c] * sharpen(log_p, c.slope)
        return (total / sum(kept.values())).clamp(0, 1)

    def evidence(self, x: Tensor) -> Tensor:
        """Return P(concept) of every instance by the chosen candidate, (N, K)."""
        z = self._scaled(x)
        features, model = self._fitted[self.chosen_]
        return model.logits(features(z)).sigmoid()

    def _scaled(self, x: Tensor) -> Tensor:
        """Return x standardised, checked to have the features of `fit`."""
        if not hasattr(self, "chosen_"):
            raise RuntimeError("KernelPresence must be fitted first; call fit(x, bags, labels)")
        _check_x(x)
        if x.shape[1] != len(self._scale.mean):
            raise ValueError(
                f"x must have the {len(self._scale.mean)} features of fit, got {x.shape[1]}"
            )
        return self._scale(x)

    def _check_settings(self) -> None:
        """Raise ValueError where a setting is out of range."""
        if not self.grid or not all(isinstance(c, Candidate) for c in self.grid):
            raise ValueError(f"grid must hold Candidates, got {self.grid}")
        if not (0 <= self.noise < 0.5 and 0 < self.lr < inf):
            raise ValueError(
                f"noise must be in [0, 1/2) and lr positive, got {self.noise} and {self.lr}"
            )
        for name, least in (("landmarks", 1), ("folds", 2), ("steps", 1), ("seed", None)):
            check_int(name, getattr(self, name), least)


def shares(validation: dict[Candidate, float]) -> dict[Candidate, float]:
    """Eq. (16.6): the share of each candidate, in proportion to its left-out likelihood."""
    values = torch.tensor(list(validation.values()), dtype=torch.float64)
    return dict(zip(validation, values.softmax(0).tolist(), strict=True))


def sharpen(log_p: Tensor, slope: float) -> Tensor:
    """Eq. (16.5): P after its log odds are multiplied by slope, from log P; shapes are kept."""
    if slope == 1:
        return log_p.exp()  # the gradient of the log odds is not finite where P rounds to 1
    return (slope * (log_p - torch.log(-torch.expm1(log_p)))).sigmoid()


def _check_x(x: Tensor) -> None:
    fits = isinstance(x, Tensor) and x.is_floating_point() and x.dim() == 2 and 0 not in x.shape
    if not fits or not bool(x.isfinite().all()):
        raise ValueError(
            f"x must be floating point of shape (N, D), no size 0, all finite, got {described(x)}"
        )


def _check_bags(x: Tensor, bags: Tensor) -> None:
    fits = isinstance(bags, Tensor) and bags.shape == x.shape[:1] and bags.dtype == torch.int64
    fits = fits and int(bags.min()) >= 0
    if not fits or bool((torch.bincount(bags) == 0).any()):
        raise ValueError(
            f"bags must be int64 of shape ({len(x)},), numbers 0..M-1 with none missing, got "
            f"{described(bags)}; number them with torch.unique"
        )


def _check(x: Tensor, bags: Tensor, labels: Tensor, folds: int) -> None:
    _check_x(x)
    _check_bags(x, bags)
    number = int(bags.max()) + 1
    if not isinstance(labels, Tensor) or labels.shape != (number,) or labels.dtype != torch.bool:
        raise ValueError(
            f"labels must be bool of shape ({number},), got {described(labels)}; give one label "
            "a bag"
        )
    if min(int(labels.sum()), int((~labels).sum())) < folds:
        raise ValueError(
            f"labels must hold at least {folds} positive and {folds} negative bags, got "
            f"{int(labels.sum())} and {int((~labels).sum())}; lower folds"
        )


class Scale:
    """Standardise features by those of the training instances, without constant ones."""

    def __init__(self, x: Tensor) -> None:
        x = x.double()
        self.mean, self.sd = x.mean(0), x.std(0, correction=0)
        self.keep = self.sd > 1e-9 * x.abs().amax(0).clamp_min(1e-300)
        if not bool(self.keep.any()):
            raise ValueError(f"x must have a feature that varies, got {x.shape[1]} constant ones")

    def __call__(self, x: Tensor) -> Tensor:
        z = (x.double() - self.mean)[:, self.keep] / self.sd[self.keep]
        return z.clamp(-CLIP, CLIP).float()


class Landmarks:
    """Eq. (16.4): Nystrom features, whose inner product is the kernel on the landmarks.

    Landmarks are training instances, each bag with the same chance; directions with less than 1e-4
    of the largest eigenvalue are left out. Called on z (N, D), it returns (N, rank).
    """

    def __init__(self, z: Tensor, bags: Tensor, scale: float, most: int, g) -> None:
        self.scale = scale / z.shape[1]
        share = 1 / torch.bincount(bags).float()[bags]  # each bag the same chance
        chosen = torch.multinomial(share, min(most, len(z)), generator=g)
        self.at = z[chosen]
        values, vectors = torch.linalg.eigh(self.kernel(self.at).double())
        kept = values > 1e-4 * values.max()
        self.turn = (vectors[:, kept] / values[kept].sqrt()).float()

    def kernel(self, z: Tensor) -> Tensor:
        near = z.square().sum(1)[:, None] + self.at.square().sum(1) - 2 * z @ self.at.T
        return (-self.scale * near.clamp_min(0)).exp()

    def __call__(self, z: Tensor) -> Tensor:
        return self.kernel(z) @ self.turn


class Columns:
    """Linear models that train side by side: column k has a candidate and K concepts."""

    def __init__(self, candidates: list[Candidate], noise: float) -> None:
        self.candidates, self.noise = candidates, noise
        self.of = torch.tensor([k for k, c in enumerate(candidates) for _ in range(c.concepts)])
        self.each = [candidates[k] for k in self.of.tolist()]  # the candidate of each concept
        self.weight = self.bias = torch.empty(0)

    def logits(self, features: Tensor) -> Tensor:
        return features @ self.weight + self.bias  # (N, all concepts)

    def log_positive(self, features: Tensor, sums: dict[str, Tensor]) -> Tensor:
        """Return log P(positive), (M, columns)."""
        spread = F.softplus(self.logits(features))
        kinds = [c.copies for c in self.each]
        parts, order = [], []
        for kind, matrix in sums.items():
            own = [k for k, other in enumerate(kinds) if other == kind]
            parts.append(matrix @ spread[:, own])
            order += own
        evidence = torch.cat(parts, 1)[:, torch.tensor(order).argsort()].clamp_min(1e-30)
        occurs = torch.log(-torch.expm1(-evidence))
        shape = len(occurs), len(self.candidates)
        return occurs.new_zeros(shape).index_add(1, self.of, occurs)

    def log_likelihood(self, features: Tensor, sums: dict[str, Tensor], labels: Tensor) -> Tensor:
        """Return log P(label), (M, columns)."""
        return self.of_labels(self.log_positive(features, sums), labels)

    def of_labels(self, log_p: Tensor, labels: Tensor, slope: float = 1.0) -> Tensor:
        """Return log P(label) from log P(positive), both (M, columns)."""
        p = self.noise + (1 - 2 * self.noise) * sharpen(log_p, slope)
        return torch.where(labels[:, None], p.log(), torch.log1p(-p.clamp_max(1 - 1e-7)))

    def fit(self, features, sums, labels, use, steps, lr, g) -> None:
        """Minimise penalty minus log-likelihood of the bags in `use` (M, columns), all at once."""
        several = torch.tensor([c.concepts > 1 for c in self.each])
        first = torch.randn(features.shape[1], len(self.of), generator=g)
        first *= torch.where(several, 1.0, 0.01)
        sizes = torch.stack([sums[c.copies].sum(1).mean() for c in self.each])
        start = torch.log(torch.expm1(0.7 / sizes))
        self.weight, self.bias = first.requires_grad_(), start.requires_grad_()
        penalty = torch.tensor([c.penalty for c in self.each])
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            fit = (self.log_likelihood(features, sums, labels) * use).sum()
            (0.5 * (penalty * self.weight.square()).sum() - fit).backward()
            optimizer.step()
            schedule.step()
        self.weight, self.bias = self.weight.detach(), self.bias.detach()

    def column(self, k: int) -> "Columns":
        """Return the model of column k alone."""
        alone = Columns([self.candidates[k]], self.noise)
        alone.weight, alone.bias = self.weight[:, self.of == k], self.bias[self.of == k]
        return alone


def _folds(labels: Tensor, folds: int, g) -> Tensor:
    """Return the number of each bag's fold (M,): shuffled, and both classes spread evenly."""
    held = torch.empty(len(labels), dtype=torch.int64)
    start = 0
    for label in (False, True):
        own = (labels == label).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=g)]
        held[own] = (start + torch.arange(len(own))) % folds
        start += len(own)
    return held


def _sums(z: Tensor, bags: Tensor, kinds: set[str], scale: float) -> dict[str, Tensor]:
    """Return for each kind of copies the matrix (M, N) that sums over a bag with its weights."""
    width = (z.shape[1] / (2 * scale)) ** 0.5
    here = bags == torch.arange(int(bags.max()) + 1)[:, None]  # (M, N)
    found = {}
    for kind in sorted(kinds):
        if kind == "kernel":
            weights = torch.cat([copy_weights(z[rows][None], width)[0] for rows in here])
            order = torch.cat([rows.nonzero()[:, 0] for rows in here])
            weights = torch.empty_like(weights).index_copy(0, order, weights)
        else:
            weights = torch.ones(len(z)) if kind == "none" else 1 / here.sum(1).float()[bags]
        found[kind] = here * weights
    return found
