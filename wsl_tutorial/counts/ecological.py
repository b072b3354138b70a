"""Estimate cross tables from their margins: the counts of bags whose instances come in groups.

A bag, a precinct say, has `groups` (B, R), how many of its instances belong to each of R groups,
and `counts` (B, C), how many have each of C labels. Hidden is the cross table (B, R, C), whose
margins these are. A rate is the share of a label within a group. This is the aggregate form of
learning from label proportions: the group is the only feature, and identical instances are
counted. Political science calls it ecological inference, and bags precincts or units.

`logits` (B, R * (C - 1)) are the log-odds of the labels of each group against the last label, group
after group. All functions compute in float64. Sources: Duncan & Davis (1953) for `bounds`, Goodman
(1953) for `goodman`, Wakefield (2004) and Greiner & Quinn (2009) for models of rates that vary
between bags; chapter 17 derives the approximations of `fit` and `sample`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wsl_tutorial._shapes import (
    FLOATS,
    WHOLE,
    check_floats,
    check_int,
    check_number,
    check_tensor,
)

ROUNDING = 1 / 12  # the variance of a number that is uniform on an interval of length one
BASE = 3.0  # standard deviation of the log-odds of a group, before any data
LARGEST = 50.0  # change of a mean logit in one step from which the steps diverge
START = 0.5  # standard deviation of the logits of a group between bags, before any data


def goodman(groups: Tensor, counts: Tensor) -> Tensor:
    """Eq. (17.1): the rates of Goodman's regression, least squares on the shares of each bag.

    Nothing keeps a rate within 0 and 1.
    Args: groups: integer (B, R); counts: integer (B, C).
    Returns: (R, C), each row sums to 1. Where the shares of the groups are collinear or a group is
        empty, it is the solution of smallest norm, whose rows need not sum to 1.
    Raises: ValueError where shapes or dtypes disagree or the sums of a bag differ.
    Source: Goodman (1953).
    """
    groups, counts = _checked(groups, counts)
    size = groups.sum(1, keepdim=True).clamp_min(1)  # an empty bag has a row of zeros
    return torch.linalg.pinv(groups / size) @ (counts / size)


def bounds(groups: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. (17.2): the smallest and the largest value of each cell of each table.

    They hold whatever the rates are; no narrower bounds of a single cell do.
    Args and errors: as `goodman`.  Returns: low, high, each int64 (B, R, C).
    Source: Duncan & Davis (1953).
    """
    rows, columns = (x.long() for x in _checked(groups, counts))
    rows, columns = rows[:, :, None], columns[:, None]
    low = rows + columns - rows.sum(1, keepdim=True)
    return low.clamp_min(0), torch.minimum(rows, columns)


def log_likelihood_normal(logits: Tensor, groups: Tensor, counts: Tensor) -> Tensor:
    """Eq. (17.3): log P(counts | rates) of a sum of multinomials, by the normal approximation.

    The variance of each count has 1/12 added: a count stands for an interval of length one, and
    so the density stays finite where a rate is 0. The exact likelihood is Eq. (5.5).
    Args: logits: (..., B, R * (C - 1)); groups, counts: as `goodman`.
    Returns: (..., B), in nats, float64.
    Raises: ValueError as `goodman`, and where logits have another shape or hold NaN or infinity.
    """
    groups, counts = _checked(groups, counts)
    width = groups.shape[1] * (counts.shape[1] - 1)
    check_floats("logits", logits, shape=" of shape (..., B, R * (C - 1))")
    if logits.dim() < 2 or logits.shape[-2:] != (len(groups), width):
        check_tensor("logits", logits, (len(groups), width))
    if not bool((logits < torch.inf).all()):  # NaN neither; -inf is a rate of 0
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} must not hold NaN or infinity; clamp them"
        )
    return _log_likelihood(logits.double(), groups, counts)


def draw_tables(
    logits: Tensor, groups: Tensor, counts: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Eq. (17.4): draws of the cross tables, given rates and both margins.

    The rows of a table are drawn from their multinomials, in the normal approximation; what is
    missing to the counts is shared out in proportion to the covariances. Cells are not integers and
    may leave `bounds` by the width of the approximation.
    Args and errors: as `log_likelihood_normal`.
    Returns: (..., B, R, C), float64; its sums over C are groups, those over R are counts.
    """
    log_likelihood_normal(logits, groups, counts)  # checks
    groups, counts = groups.double(), counts.double()
    p = _rates(logits.double(), groups.shape[1])  # (..., B, R, C)
    noise = (groups[:, :, None] * p).sqrt()
    noise = noise * torch.randn(noise.shape, generator=generator, dtype=noise.dtype)
    table = groups[:, :, None] * p + noise - p * noise.sum(-1, keepdim=True)
    _, slope, variance = _moments(logits.double(), groups)
    missing = (counts - table.sum(-2))[..., :-1, None]  # (..., B, C-1, 1)
    part = slope.mT @ torch.linalg.solve(variance, missing)
    part = part[..., 0].unflatten(-1, (groups.shape[1], -1))  # (..., B, R, C-1)
    table = table + torch.cat([part, -part.sum(-1, keepdim=True)], -1)
    rest = (counts - table.sum(-2, keepdim=True).squeeze(-2))[..., None, :]
    share = groups / groups.sum(1, keepdim=True).clamp_min(1)
    return table + share[:, :, None] * rest


@dataclass(frozen=True)
class Fit:
    """Hold a fitted model of rates; p is R * (C - 1), d is C - 1.

    groups (B, R) and counts (B, C) float64; design (B, q), a column of ones and the covariates;
    coefficients (q, p) and covariance (q * p, q * p), the posterior of the coefficients; between
    (p, p), the covariance of the logits of bags around their means; logits (B, p), their posterior
    means; slope (B, d, p) and gain (B, p, d) of the linear model; precision (q * p, B, d), by which
    an error of the expected counts moves the coefficients; steps, how many were needed.
    """

    groups: Tensor
    counts: Tensor
    design: Tensor
    coefficients: Tensor
    covariance: Tensor
    between: Tensor
    logits: Tensor
    slope: Tensor
    gain: Tensor
    precision: Tensor
    steps: int


def fit(
    groups: Tensor,
    counts: Tensor,
    covariates: Tensor | None = None,
    scale: float = 1.0,
    most: int = 1000,
    tolerance: float = 1e-3,
) -> Fit:
    """Eq. (17.5): fit rates that vary: logits ~ N(design @ coefficients, between).

    EM on a linear model of each bag, the regression of its counts on logits around their means:
    normal posteriors of the coefficients and of the logits, then `between` from both. (A model that
    is linear around the posterior of each bag would weight a bag by its own counts, and its
    coefficients are biased.) Priors: N(0, 3^2) for the base of each logit, N(0, scale^2) for each
    coefficient of a covariate, inverse Wishart with 2 degrees of freedom for `between`. It is
    improper if p > 2; in the update it counts like p + 3 bags with deviations of mean square 0.5^2.
    Args:
        groups, counts: as `goodman`; B must be positive.
        covariates: (B, q) float, None for none; a column of 0 and 1 for each county, say.
        scale: the standard deviation of their coefficients.
        most: the largest number of steps.
        tolerance: ends the steps, the largest change of a mean logit or of `between`.
    Raises:
        ValueError: as `goodman`; covariates of another length or not finite; a scale or tolerance
            that is not positive; no convergence within `most` steps.
    """
    groups, counts = _checked(groups, counts)
    check_int("most", most, 1)
    for name, x in (("tolerance", tolerance), ("scale", scale)):
        check_number(name, x, above=0)
    design, prior = _design(groups, counts.shape[1], covariates, scale)
    share = (counts.sum(0) + 0.5).log()
    base = (share[:-1] - share[-1]).repeat(groups.shape[1])  # (p,)
    centre, between = base.expand(len(groups), -1), START**2 * torch.eye(len(base)).double()
    for steps in range(1, most + 1):
        try:
            parts = _linear_step(centre, between, design, prior, groups, counts)
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            break
        new = design @ parts["coefficients"]
        change = max(_gap(new, centre), _gap(parts["between"], between))
        if not change < LARGEST:  # NaN as well
            break
        if change < tolerance:
            return Fit(groups, counts, design, steps=steps, **(parts | {"between": between}))
        rate = 0.5 / (1 + steps / 200)  # large steps oscillate where a rate is nearly 0 or 1
        centre, between = centre + rate * (new - centre).clamp(-1, 1), parts["between"]
    raise ValueError(
        f"most must be enough steps, got {most}, and step {steps} did not converge; take more, or "
        "fewer covariates: estimated effects of shares may diverge"
    )


def sample(
    fitted: Fit,
    draws: int = 200,
    context: float = 1.0,
    generator: torch.Generator | None = None,
    steps: int = 40,
) -> Tensor:
    """Eq. (17.6): draws of all cross tables, with slopes of the rates that no data correct.

    Margins cannot show how rates depend on the composition of a bag, so slopes keep their prior:
    between a bag of one group and a bag of another, a logit differs by N(0, context^2). For each
    draw the coefficients follow the slopes; then Metropolis steps, proposals from the linear
    model, bring the logits of each bag to their distribution given its counts.
    Args:
        fitted: what `fit` returns.
        draws: how many.
        context: 0 for rates that do not depend on the composition.
        generator: on the CPU.
        steps: how many Metropolis steps.
    Returns: (draws, B, R, C), float64, as `draw_tables`.
    Raises: ValueError for a negative or infinite context and for no draw.
    """
    check_int("draws", draws, 1)
    check_int("steps", steps)
    independent = "take 0 for rates that do not depend on the composition"
    check_number("context", context, least=0, remedy=independent)
    centre = _centres(fitted, _context(fitted, draws, context, generator), generator)
    logits = _walk(fitted, centre, steps, generator)
    return draw_tables(logits, fitted.groups.long(), fitted.counts.long(), generator)


def region(tables: Tensor, level: float = 0.95) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rates of all bags together: mean and interval of the draws, each (R, C).

    Args: tables: (draws, B, R, C) of `sample`; level: the share of draws inside the interval.
    Returns: mean, low, high; NaN for a group without instances.
    Raises: ValueError where tables have another shape, or level does not lie between 0 and 1.
    """
    check_tensor("tables", tables, ("draws", "B", "R", "C"), dtypes=FLOATS)
    check_number("level", level, above=0, below=1, remedy="take 0.95, not 95")
    total = tables.sum(1)
    rates = total / total.sum(-1, keepdim=True)
    low, high = (1 - level) / 2, (1 + level) / 2
    return rates.mean(0), rates.quantile(low, 0), rates.quantile(high, 0)


# Steps --------------------------------------------------------------------------------------------


def _rates(logits: Tensor, r: int) -> Tensor:
    """Return the rates (..., B, R, C) of logits."""
    return F.pad(logits.unflatten(-1, (r, -1)), (0, 1)).softmax(-1)


def _moments(logits: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (..., B, d), its slope in the logits (..., B, d, p), variance (..., B, d, d).

    The slope of the mean of a multinomial in its logits is its covariance.
    """
    p = _rates(logits, groups.shape[1])[..., :-1]  # (..., B, R, d)
    mean = groups[:, :, None] * p
    each = torch.diag_embed(mean) - mean[..., None] * p[..., None, :]  # (..., B, R, d, d)
    unit = ROUNDING * torch.eye(p.shape[-1], dtype=p.dtype)
    return mean.sum(-2), each.transpose(-3, -2).flatten(-2), each.sum(-3) + unit


def _regression(centre: Tensor, groups: Tensor, spread: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean, slope and variance of the best linear model of the counts, as `_moments`.

    It is the regression of the counts of a bag on its logits ~ N(centre, spread), group by group;
    what is not linear in the logits goes into the variance. The points of `_points` give the slopes
    nearly, but for three or more labels often only half of the variance of what is not linear.
    """
    points = _points(spread, groups)
    mean, slope, noise, bent = _regressions(centre, groups, spread, points)
    unit = ROUNDING * torch.eye(mean.shape[-1], dtype=mean.dtype)
    return mean.sum(1), slope.transpose(-3, -2).flatten(-2), (noise + bent).sum(1) + unit


def _regressions(
    centre: Tensor, groups: Tensor, spread: Tensor, points: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return mean (B, R, d), slope, noise and bent (B, R, d, d) of the counts of each group.

    Noise is the mean variance of the multinomials, bent that of what is not linear in the logits.
    """
    (r, width), (root, offsets, weights) = (groups.shape[1], len(spread)), points
    logits = centre.unflatten(-1, (r, width // r)) + offsets[:, None]  # (S, B, R, d)
    p = F.pad(logits, (0, 1)).softmax(-1)[..., :-1]
    first = torch.einsum("s,sbrd->brd", weights, p)
    second = torch.einsum("s,sbrd,sbre->brde", weights, p, p)
    along = torch.einsum("s,sbrd,sre->brde", weights, p, offsets)  # covariance with the logits
    slope = torch.cholesky_solve(along.mT, root).mT
    n = groups[:, :, None, None]
    bent = second - first[..., None] * first[..., None, :] - slope @ along.mT
    noise = n * (torch.diag_embed(first) - second)
    return groups[:, :, None] * first, n * slope, noise, n**2 * bent


def _points(spread: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the root (R, d, d) of each group's part of spread, points (S, R, d), weights (S,).

    Over the points of a group, polynomials of degree 3 in its d logits have the mean that they have
    under the normal distribution, and those of degree 5 for d = 1. Source: Julier & Uhlmann (1997),
    with kappa = 3 - d, but never negative.
    """
    r = groups.shape[1]
    d = len(spread) // r
    blocks = spread.view(r, d, r, d).diagonal(dim1=0, dim2=2).movedim(-1, 0)
    root, kappa = torch.linalg.cholesky(blocks), max(3 - d, 0)
    axes = root.movedim(-1, 0) * math.sqrt(d + kappa)  # (d, R, d)
    weights = axes.new_full((2 * d + 1,), 0.5 / (d + kappa))
    weights[0] = kappa / (d + kappa)
    return root, torch.cat([0 * axes[:1], axes, -axes]), weights


def _log_likelihood(logits: Tensor, groups: Tensor, counts: Tensor) -> Tensor:
    mean, _, variance = _moments(logits, groups)
    root = torch.linalg.cholesky(variance)
    error = torch.linalg.solve_triangular(root, (counts[:, :-1] - mean)[..., None], upper=False)
    log_root = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return -log_root - (error.square().sum((-1, -2)) + mean.shape[-1] * math.log(2 * math.pi)) / 2


def _gap(new: Tensor, old: Tensor) -> float:
    """Return the largest change, infinite where it is NaN."""
    return (new - old).abs().nan_to_num(math.inf).max().item()


def _linear_step(centre, between, design, prior, groups, counts) -> dict[str, Tensor]:
    """Return the posterior of the linear model around centre (B, p), and the next `between`."""
    (q, p), identity = prior.shape, torch.eye(prior.numel(), dtype=prior.dtype)
    mean, slope, variance = _regression(centre, groups, between)
    seen = counts[:, :-1, None] - mean[..., None] + slope @ centre[..., None]  # (B, d, 1)
    root = torch.linalg.cholesky(slope @ between @ slope.mT + variance)
    rows = (design[:, None, :, None] * slope[:, :, None]).flatten(2)  # (B, d, q * p)
    weighted = torch.cholesky_solve(rows, root)
    full = torch.linalg.cholesky((rows.mT @ weighted).sum(0) + prior.flatten().diag())
    covariance = torch.cholesky_solve(identity, full)
    coefficients = covariance @ (weighted.mT @ seen).sum(0)  # (q * p, 1)
    gain = torch.cholesky_solve(slope @ between, root).mT  # (B, p, d)
    off = (gain @ (seen - rows @ coefficients))[..., 0]  # (B, p)
    pull = gain @ rows
    rest = between - gain @ slope @ between + pull @ covariance @ pull.mT  # (B, p, p)
    weight = p + 3
    scatter = off.mT @ off + rest.sum(0) + weight * START**2 * torch.eye(p, dtype=prior.dtype)
    return {
        "coefficients": coefficients.view(q, p),
        "covariance": covariance,
        "between": scatter / (len(groups) + weight),
        "logits": design @ coefficients.view(q, p) + off,
        "slope": slope,
        "gain": gain,
        "precision": (covariance @ weighted.mT).transpose(0, 1),
    }


def _context(fitted: Fit, draws: int, context: float, generator) -> Tensor:
    """Return what slopes add to the logits of each bag, (draws, B, p), slopes from their prior."""
    share = fitted.groups / fitted.groups.sum(1, keepdim=True).clamp_min(1)
    share = share - share.mean(0)  # (B, R)
    shape = (draws, share.shape[1], len(fitted.between))
    slopes = torch.randn(shape, generator=generator, dtype=share.dtype)
    return share @ slopes * context / math.sqrt(2)


def _centres(fitted: Fit, added: Tensor, generator) -> Tensor:
    """Return draws of the mean logits of each bag, (draws, B, p), given what slopes add."""
    q, p = fitted.coefficients.shape
    expected = (fitted.slope @ added[..., None])[..., 0]  # (draws, B, d)
    root = torch.linalg.cholesky(fitted.covariance)
    noise = torch.randn(len(added), q * p, generator=generator, dtype=added.dtype)
    moved = noise @ root.mT - torch.einsum("kbd,qbd->kq", expected, fitted.precision)
    return fitted.design @ (fitted.coefficients + moved.view(-1, q, p)) + added


def _modes(fitted: Fit, centre: Tensor) -> Tensor:
    """Return the modes of the logits (draws, B, p) around their centres, given the counts."""
    shift = centre - fitted.design @ fitted.coefficients
    logits = fitted.logits + shift - (fitted.gain @ (fitted.slope @ shift[..., None]))[..., 0]
    for _ in range(10):
        mean, slope, variance = _moments(logits, fitted.groups)
        off = (slope @ (logits - centre)[..., None]) + (fitted.counts[:, :-1] - mean)[..., None]
        cross = slope @ fitted.between
        gain = torch.linalg.solve(cross @ slope.mT + variance, off)
        mode = centre + (cross.mT @ gain)[..., 0]
        logits = logits + 0.5 * (mode - logits).clamp(-1, 1)
    return logits


def _walk(fitted: Fit, centre: Tensor, steps: int, generator) -> Tensor:
    """Return logits (draws, B, p) after Metropolis steps from normal draws around the modes."""
    p = len(fitted.between)
    rest = fitted.between - fitted.gain @ fitted.slope @ fitted.between  # of one bag, (B, p, p)
    root, inverse = torch.linalg.cholesky(rest), torch.linalg.inv(fitted.between)

    def move():
        noise = torch.randn(*centre.shape, 1, generator=generator, dtype=centre.dtype)
        return (root @ noise)[..., 0]

    logits = _modes(fitted, centre) + move()
    value = _log_likelihood(logits, fitted.groups, fitted.counts)
    size = torch.full((len(fitted.groups), 1), 2.4 / math.sqrt(p), dtype=centre.dtype)
    for _ in range(steps):
        tried = logits + size * move()
        new = _log_likelihood(tried, fitted.groups, fitted.counts)
        a, b = logits - centre, tried - centre
        ratio = new - value + ((a - b) @ inverse * (a + b)).sum(-1) / 2
        drawn = torch.rand(ratio.shape, generator=generator, dtype=ratio.dtype).log()
        accept = drawn < ratio  # (draws, B)
        logits = torch.where(accept[..., None], tried, logits)
        value = torch.where(accept, new, value)
        size = size * (0.5 * (accept.double().mean(0)[:, None] - 0.25)).exp()
    return logits


def _checked(groups: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return groups (B, R) and counts (B, C) in float64."""
    check_tensor("groups", groups, ("B", "R"), dtypes=WHOLE)
    check_tensor("counts", counts, (len(groups), "C"), groups, WHOLE)
    negative = (groups < 0).any(1) | (counts < 0).any(1)
    wrong = negative | (groups.sum(1) != counts.sum(1))
    if bool(wrong.any()):
        bag = int(wrong.nonzero()[0])
        raise ValueError(
            "groups and counts must not be negative and must have equal sums, got "
            f"{groups[bag].tolist()} and {counts[bag].tolist()} for bag {bag}; count the instances "
            "of no known group or label as one more of each"
        )
    return groups.double(), counts.double()


def _design(
    groups: Tensor, classes: int, covariates: Tensor | None, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the design (B, q) with a column of ones, and its prior precisions (q, p)."""
    if not (len(groups) and classes > 1):
        raise ValueError(
            "groups and counts must hold at least one bag and two labels, got "
            f"{len(groups)} and {classes}; add the remaining instances as a label"
        )
    base = groups.new_ones(len(groups), 1)
    covariates = base[:, :0] if covariates is None else covariates
    check_floats("covariates", covariates, shape=" of shape (B, q)")
    if covariates.dim() != 2 or len(covariates) != len(groups) or not covariates.isfinite().all():
        raise ValueError(
            f"covariates must be finite and of shape ({len(groups)}, q), got shape "
            f"{tuple(covariates.shape)}; give every bag a row, and fill or drop what is missing"
        )
    design = torch.cat([base, covariates.double()], 1)
    deviation = torch.tensor([BASE] + [scale] * covariates.shape[1], dtype=base.dtype)
    width = groups.shape[1] * (classes - 1)
    return design, deviation.pow(-2)[:, None].expand(-1, width)
