"""Right and well-known wrong answers to exercises of chapters 5 and 6, run by `test_check`."""

import torch
from torch.nn import functional as F

from wsl_tutorial import check, counts, finite_automaton


def recursion(rho, y, in_place=False):
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        order = range(y + 1) if in_place else range(y, -1, -1)
        for j in order:
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


def gradient(logits, told, sign=1):
    z = logits.detach().requires_grad_()
    return torch.autograd.grad(sign * counts.log_likelihood(z, told).sum(), z)[0]


def saturating(y):
    return torch.stack([torch.arange(y + 1), (torch.arange(y + 1) + 1).clamp_max(y)], 1)


def stuck(y):
    table = saturating(y)
    table[y] = -1
    return table


def dllp(logits, told, of=lambda z: z.sigmoid().mean(1)):
    mean, q = of(logits), told / logits.shape[1]
    return -(q * mean.log() + (1 - q) * (1 - mean).log()).mean()


def curvature(n, y, of=None, swap=1):
    q = y / n
    return -q * (1 - q), swap * q * (1 - q) / ((n - 1) if of is None else of)


CASES = [
    (
        check.three_instances,
        lambda: (0.45, 4 / 9, 4 / 9, 1 / 9),
        [
            (lambda: (1.2, 0.5 / 1.2, 0.5 / 1.2, 0.2 / 1.2), "two negatives"),
            (lambda: (0.45, 0.5, 0.5, 0.2), "these are the priors"),
            (lambda: (0.45, 0.2, 0.2, 0.05), "sum to the count"),
            (lambda: (0.8, 0.625, 0.625, 0.25), "exactly one"),
            (lambda: (0.4, 0.4, 0.4, 0.1), "expected 0.45, 0.4444, 0.4444, 0.1111"),
        ],
    ),
    (
        check.count_probability,
        recursion,
        [
            (lambda rho, y: recursion(rho, y, in_place=True), "must be the old one"),
            (lambda rho, y: sum(recursion(rho, j) for j in range(y + 1)), "at most y"),
            (lambda rho, y: torch.tensor(recursion(rho, y)).log(), "not its logarithm"),
            (lambda rho, y: recursion(rho.mean().expand(len(rho)), y), "binomial"),
            (lambda rho, y: recursion(1 - rho, y), "swapped"),
            (lambda rho, y: None, "end it with a return"),
        ],
    ),
    (
        check.e_step,
        lambda z, y: z.sigmoid() + gradient(z, y),
        [
            (gradient, "add rho"),
            (lambda z, y: z.sigmoid() + gradient(z, y, sign=-1), "differentiated the loss"),
            (lambda z, y: z + gradient(z, y), "not the logit"),
            (lambda z, y: z.sigmoid(), "has not been used"),
            (lambda z, y: (y / 4)[:, None].expand(2, 4), "the proportion"),
            (lambda z, y: counts.map_configuration(z, y).double(), "hard EM"),
            (lambda z, y: z.sigmoid().sum(1), "the shape should be"),
        ],
    ),
    (
        check.at_least_table,
        saturating,
        [
            (finite_automaton.counts, "forbids one positive more"),
            (stuck, "everything that follows"),
            (lambda y: saturating(y).flip(1), "label 0 is the negative one"),
            (lambda y: torch.arange(y + 1)[:, None].expand(-1, 2), "must raise the state"),
        ],
    ),
    (
        check.dllp_loss,
        dllp,
        [
            (
                lambda z, y: F.binary_cross_entropy_with_logits(z, (y / 3)[:, None].expand_as(z)),
                "not the mean of the logarithms",
            ),
            (lambda z, y: dllp(z, y, of=lambda z: z.mean(1).sigmoid()), "not the logits"),
            (lambda z, y: -(y / 3 * z.sigmoid().mean(1).log()).mean(), "negatives are missing"),
            (lambda z, y: -dllp(z, y), "turn the sign"),
            (lambda z, y: 2 * dllp(z, y), "not the sum"),
            (lambda z, y: -counts.log_likelihood(z, y).mean(), "likelihood of the count"),
        ],
    ),
    (
        check.constant_curvature,
        curvature,
        [
            (lambda n, y: (-0.25, 0.25 / (n - 1)), "for q = 1/2 only"),
            (lambda n, y: curvature(n, y, of=n), "n - 1 others"),
            (lambda n, y: curvature(n, y, swap=-1), "contrast grows"),
            (lambda n, y: (-curvature(n, y)[0], curvature(n, y)[1]), "level is held"),
            (lambda n, y: curvature(n, y)[::-1], "together first"),
            (lambda n, y: None, "end it with a return"),
        ],
    ),
    (
        check.at_least_count,
        lambda z, y: torch.stack(
            [p[k:].logsumexp(0) for p, k in zip(counts.log_distribution(z), y, strict=True)]
        ),
        [
            (counts.log_likelihood, "exactly y"),
            (lambda z, y: counts.log_likelihood_interval(z, 0 * y, y), "at most y"),
            (
                lambda z, y: torch.stack(
                    [
                        p[k + 1 :].logsumexp(0)
                        for p, k in zip(counts.log_distribution(z), y, strict=True)
                    ]
                ),
                "more than y",
            ),
            (
                lambda z, y: counts.log_likelihood_interval(z, y, torch.full_like(y, 4)).exp(),
                "asks for the logarithm",
            ),
            (
                lambda z, y: torch.stack(
                    [p[k:].sum() for p, k in zip(counts.log_distribution(z), y, strict=True)]
                ),
                "not their logarithms",
            ),
        ],
    ),
]
