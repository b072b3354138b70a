"""Right and well-known wrong answers to exercises of chapters 8 to 10, run by `test_check`."""

import torch
from torch.nn import functional as F

from wsl_tutorial import check


def row(scores, size, strength, outside=0.0):
    e = (strength * scores).exp()
    return e / F.pad(e, (size // 2, size // 2), value=outside).unfold(0, size, 1).sum(1)


def proximal(x, x0, g, lr, penalty, factor=2, sign=1):
    c = factor * lr * penalty
    return (x - sign * lr * g + c * x0) / (1 + c)


def member(scores, k, temperature, cdf):
    z = scores / temperature
    low, high = z.min() - 60, z.max() + 60
    for _ in range(100):
        t = (low + high) / 2
        low, high = (t, high) if cdf(z - t).sum() > k else (low, t)
    return cdf(z - t)


def others(losses, n=None):
    return losses - (losses.sum() - losses) / (n or len(losses) - 1)


def background(counts, k):
    return torch.cat([k - counts.sum(1, keepdim=True), counts], 1)


CASES = [
    (
        check.three_sides,
        lambda: (22.0, 11.0, 4.6),
        [
            (lambda: (22.0, 11.0, 11.0), "square first"),
            (lambda: (11.0, 11.0, 4.6), "divide by the sum of h"),
            (lambda: (22.0, 22.0, 4.6), "not divided by anything"),
            (lambda: (22.0, 11.0, 4.6 / 0.22), "not normalised either"),
            (lambda: (70 / 3, 11.0, 4.6), "plain mean"),
            (lambda: (22.0, 10.0, 10.0), "expected 22, 11, 4.6, got 22, 10, 10"),
        ],
    ),
    (
        check.local_softmax_row,
        row,
        [
            (lambda s, n, a: row(s, n, a, outside=1.0), "padding is no pixel"),
            (lambda s, n, a: (a * s).softmax(0), "not over the row"),
            (lambda s, n, a: row(s, n, 1.0), "by the strength"),
            (lambda s, n, a: row(s, 2 * n + 1, a), "to each side"),
            (lambda s, n, a: (a * s).exp(), "divide by the sum"),
            (lambda s, n, a: row(s, n, a).log(), "its logarithm"),
            (lambda s, n, a: None, "end it with a return"),
        ],
    ),
    (
        check.proximal_step,
        proximal,
        [
            (lambda x, x0, g, lr, c: x - lr * (g + 2 * c * (x - x0)), "runs away"),
            (lambda *a: proximal(*a, factor=1), "a factor 2"),
            (lambda x, x0, g, lr, c: proximal(x, x, g, lr, c), "not to x$"),
            (lambda x, x0, g, lr, c: x - lr * g, "penalty is missing"),
            (lambda *a: proximal(*a, sign=-1), "falls along -g"),
            (
                lambda x, x0, g, lr, c: x - lr * g + 2 * lr * c * x0 / (1 + 2 * lr * c),
                "divide everything",
            ),
        ],
    ),
    (
        check.implicit_penalty,
        lambda m, a, b: b / (2 * m * a),
        [
            (lambda m, a, b: 1 / (2 * m * a), "of each image by the batch"),
            (lambda m, a, b: 1 / (2 * m * a * b), "larger batch means smaller steps"),
            (lambda m, a, b: b / (m * a), "a factor 2"),
            (lambda m, a, b: b / (2 * a), "m belongs in it"),
            (lambda m, a, b: 2 * m * a / b, "turn the fraction"),
            (lambda m, a, b: None, "end it with a return"),
        ],
    ),
    (
        check.lucky_labels,
        lambda: (0.5, 0.625),
        [
            (lambda: (0.5, 0.5), "need not come in order"),
            (lambda: (0.5, 0.375), "\\*all\\* labels"),
            (lambda: (0.5, 0.875), "counts a half"),
            (lambda: (1.0, 0.625), "one guess in two"),
        ],
    ),
    (
        check.soft_member,
        member,
        [
            (lambda s, k, e, f: k * f(s / e) / f(s / e).sum(), "a factor makes"),
            (lambda s, k, e, f: f(s / e), "no threshold"),
            (lambda s, k, e, f: member(s, k, 1.0, f), "^divide by"),
            (lambda s, k, e, f: member(s, k, 1 / e, f), "\\*divide\\* by"),
            (lambda s, k, e, f: member(s, 1, e, f), "not to 1"),
            (lambda s, k, e, f: member(s, k, e, torch.sigmoid), "cdf is an argument"),
            (lambda s, k, e, f: (s >= s.topk(k).values[-1]).double(), "no slope"),
            (lambda s, k, e, f: member(s, k, e, f).sum(), "the shape should be"),
            (lambda s, k, e, f: None, "end it with a return"),
        ],
    ),
    (
        check.leave_one_out,
        others,
        [
            (lambda x: x - x.mean(), "holds the draw itself"),
            (lambda x: x, "subtract the baseline"),
            (lambda x: others(x, n=1), "is not their mean"),
            (lambda x: -others(x), "keeps its sign"),
            (lambda x: others(x, n=len(x)), "others are M - 1"),
        ],
    ),
    (
        check.with_background,
        background,
        [
            (lambda c, k: torch.cat([torch.full((3, 1), k), c], 1), "K minus the objects"),
            (lambda c, k: background(c, k)[:, [1, 2, 3, 0]], "the first column"),
            (
                lambda c, k: torch.cat([(background(c, k)[:, :1] > 0).long(), c], 1),
                "not whether there is one",
            ),
            (
                lambda c, k: torch.cat([(c == 0).sum(1, keepdim=True), c], 1),
                "not the classes",
            ),
            (
                lambda c, k: torch.cat([-background(c, k)[:, :1], c], 1),
                "take the objects from K",
            ),
        ],
    ),
    (
        check.half_found,
        lambda: (1 / 3, 1 - (2 / 3) ** 0.5),
        [
            (lambda: (0.5, 1 - 0.5**0.5), "the union is more"),
            (lambda: (1 / 3, 1 / 3), "falls faster"),
            (lambda: (2 / 3, 1 - (2 / 3) ** 0.5), "1 - u = 2/3"),
            (lambda: (1 / 3, (2 / 3) ** 0.5), "take the root"),
            (lambda: (0.5, 0.5), "expected 0.3333, 0.1835"),
        ],
    ),
    (
        check.constant_answer,
        lambda c, n, m: 100 * m / n * (1 - (1 - 1 / c) ** n),
        [
            (lambda c, n, m: 100 * m / c, "told twice"),
            (lambda c, n, m: 100 * m * (1 - (1 - 1 / c) ** n), "a share of them"),
            (lambda c, n, m: 100 * (1 - (1 - 1 / c) ** n), "not by the guesses"),
            (lambda c, n, m: 100 * m / c * (1 - 1 / c) ** (n - 1), "occurs at all"),
            (lambda c, n, m: m / n * (1 - (1 - 1 / c) ** n), "in %"),
            (lambda c, n, m: None, "end it with a return"),
        ],
    ),
    (
        check.precision_range,
        lambda r, n, k: (r * r / 100 * n / k, r),
        [
            (lambda r, n, k: (r * r / 100, r), "only for K = L"),
            (lambda r, n, k: (r * r / 100 * k / n, r), "turn the fraction"),
            (lambda r, n, k: (r * n / k, r), "ends at the recall"),
            (lambda r, n, k: (r * r * n / k, r), "divide by 100"),
            (lambda r, n, k: (r * r / 100 * n / k, 100.0), "no curve"),
            (lambda r, n, k: None, "end it with a return"),
        ],
    ),
]
