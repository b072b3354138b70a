"""Right and well-known wrong answers to exercises of chapters 11 to 13, run by `test_check`."""

from math import log, log2

import torch

from wsl_tutorial import check, metrics, regions

L3 = log2(3)
PRIOR_ENTROPY = -sum(q * log(q) for q in (0.5, 0.3, 0.2))


def entropy_slope(logits, masked=True, sign=1, h=1):
    p = logits.softmax(1)
    log_p = p.log().masked_fill(p == 0, 0) if masked else p.log()
    entropy = -(p * log_p).sum(1, keepdim=True)
    return sign * p * (log_p + h * entropy)


def divergence(logits, prior):
    return (prior * (prior.log() - logits.log_softmax(1))).sum(1)


def entropy(p):
    return -torch.special.xlogy(p, p).sum()


def mutual_information(joint, swap=False, second="plus"):
    joint = joint.mT if swap else joint
    y, plus, minus = joint.sum((1, 2)), joint.sum(2), joint.sum(1)
    told = {
        "plus": entropy(y) + entropy(plus.sum(0)) - entropy(plus),
        "minus": entropy(y) + entropy(minus.sum(0)) - entropy(minus),
        "both": entropy(y) + entropy(joint.sum(0)) - entropy(joint),
    }
    of = {"plus": told["both"] - told["plus"], "minus": told["both"] - told["minus"]}
    return told["minus"], {**of, "both": told["both"], "alone": told["minus"]}[second]


def left_open(joint):
    minus = joint.sum(1)
    return entropy(minus) - entropy(minus.sum(0)), entropy(joint) - entropy(joint.sum(0))


def blind(f, one=lambda f: 2 * f / (1 + f), zero=lambda f: 2 * (1 - f) / (2 - f)):
    return one(f), 0.0, 0.0, zero(f)


def trusted(p, first, named, t, sigma, fade=True, of=None, conditions=None):
    psi = p if of is None else of(p, first)
    kept = named & (p >= first) if conditions is None else conditions(p, first, named)
    return (torch.tensor(-t / sigma).exp() if fade else 1) * psi * kept


def correlation(p, t, dtype=torch.float64, guard=True):
    tp, fp, fn, tn = metrics.confusion([p], [t])[0].to(dtype)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    if guard and product == 0:
        return torch.tensor(0.0)
    return (tp * tn - fp * fn) / product.sqrt()


CASES = [
    (
        check.three_entropies,
        lambda: (1.5, 5 / 3, 5 / 3 - L3),
        [
            (lambda: (1.5, L3, 0.0), "that is its least value"),
            (lambda: (1.5, 1.5, L3 - 1.5), "not under p"),
            (lambda: (1.5, 5 / 3, L3 - 1.5), "KL\\(p \\|\\| u\\)"),
            (lambda: (1.5, 5 / 3, 5 / 3 - 1.5), "entropy \\*of u\\*"),
            (lambda: tuple(log(2) * v for v in (1.5, 5 / 3, 5 / 3 - L3)), "these are nats"),
        ],
    ),
    (
        check.entropy_gradient,
        entropy_slope,
        [
            (lambda z: entropy_slope(z, masked=False), "0 times -inf is NaN"),
            (lambda z: entropy_slope(z, sign=-1), "gradient of H"),
            (lambda z: z.softmax(1) - 1 / 3, "gradient of \\(11.2\\)"),
            (lambda z: entropy_slope(z, h=0), "the normaliser brings"),
            (lambda z: z.softmax(1).log().masked_fill(z < -1e9, 0) + 1, "derivative in p"),
            (lambda z: entropy_slope(z, h=-1), "the sign of H"),
        ],
    ),
    (
        check.divergence_from_prior,
        divergence,
        [
            (
                lambda z, q: (z.softmax(1) * (z.log_softmax(1) - q.log())).sum(1),
                "the prior weighs",
            ),
            (regions.cross_entropy_to_prior, "take off the entropy"),
            (lambda z, q: regions.cross_entropy_to_prior(z, q) + PRIOR_ENTROPY, "not added"),
            (lambda z, q: divergence(z, torch.full_like(q, 1 / 3)), "not the uniform"),
            (lambda z, q: (q * (q.log() - z)).sum(1), "not normalised"),
            (lambda z, q: divergence(z, q).mean(), "no mean over the batch"),
            (
                lambda z, q: (q * (q / z.softmax(1).float().sub(1e-9).clamp_min(0)).log()).sum(1),
                "underflows",
            ),
            (lambda z, q: None, "end it with a return"),
        ],
    ),
    (
        check.mutual_information,
        mutual_information,
        [
            (lambda p: (torch.tensor(torch.nan), torch.tensor(torch.nan)), "xlogy"),
            (lambda p: mutual_information(p, second="alone"), "differ"),
            (lambda p: mutual_information(p, second="both"), "minus I\\(Y; X\\+\\)"),
            (lambda p: mutual_information(p, second="minus"), "conditioned on X-"),
            (
                lambda p: (mutual_information(p, swap=True)[0], mutual_information(p)[1]),
                "of X- alone",
            ),
            (lambda p: [v / log(2) for v in mutual_information(p)], "these are bits"),
            (left_open, "not what is told"),
            (lambda p: None, "end it with a return"),
        ],
    ),
    (
        check.three_looks,
        lambda: (0.881, 0, 0.881, 0.79716),
        [
            (lambda: (1, 0, 1, 1), "weighed with its trust"),
            (lambda: (0.797, 0, 0.881, 0.721), "not the greatest alone"),
            (lambda: (0, 0, 0.881, 0.797), "pixel 1 lies above"),
            (lambda: (0.881, 0, 0.881, 0), "second look is trusted"),
            (lambda: (0.881, 0, 0.881, 0.881), "trust fades"),
            (lambda: (0.797, 0, 0.797, 0.721), "at t = 0"),
            (lambda: None, "end it with a return"),
        ],
    ),
    (
        check.blind_dice,
        blind,
        [
            (lambda f: (f, 0, 0, 1 - f), "not the share of right pixels"),
            (
                lambda f: blind(f, lambda f: f / (1 + f), lambda f: (1 - f) / (2 - f)),
                "above 2 \\|A and B\\|",
            ),
            (lambda f: (0, blind(f)[3], blind(f)[0], 0), "exchange the pairs"),
            (lambda f: blind(f, zero=lambda f: 2 * f / (1 + f)), "in place of f"),
            (lambda f: (blind(f)[0], 1 - f, 1 - f, blind(f)[3]), "its F1- is 0"),
        ],
    ),
    (
        check.trust_of_a_look,
        trusted,
        [
            (lambda *a: trusted(*a, fade=False), "trust fades"),
            (lambda *a: trusted(*a, conditions=lambda p, q, n: n & (p > q)), ">=, not >"),
            (lambda *a: trusted(*a, conditions=lambda p, q, n: n), "less sure than the first"),
            (lambda *a: trusted(*a, conditions=lambda p, q, n: p >= q), "names another class"),
            (lambda *a: trusted(*a, of=lambda p, q: q), "not the first one's"),
            (lambda *a: trusted(*a, of=lambda p, q: 1), "holds p itself"),
        ],
    ),
    (
        check.matthews,
        correlation,
        [
            (lambda p, t: correlation(p, t, torch.int64, guard=False), "does not fit"),
            (lambda p, t: correlation(p, t, guard=False), "return 0 there"),
            (lambda p, t: (p == t).double().mean(), "share of right pixels"),
            (lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()), "Dice index"),
            (lambda p, t: (p & t).sum() / (p | t).sum(), "Jaccard's"),
            (lambda p, t: None, "end it with a return"),
        ],
    ),
    (
        check.images_apart,
        lambda: (6, 7.5),
        [
            (lambda: (2, 2.5), "Table 1 shows no difference"),
            (lambda: (5, 6.25), "two-sided"),
            (lambda: (6, 6), "m images of 80"),
            (lambda: None, "end it with a return"),
        ],
    ),
    (
        check.shares_behind,
        metrics.counts_behind,
        [
            (lambda e, n: [k for k in range(n + 1) if round(100 * k / n, 2) == e], "not rounded"),
            (lambda e, n: [k for k in range(n + 1) if 100 * k // n == round(100 * e)], "in %"),
            (lambda e, n: metrics.counts_behind(e, n)[:1], "not the first alone"),
            (lambda e, n: metrics.counts_behind(e, n) or [round(e * n / 100)], "list empty"),
            (lambda e, n: None, "end it with a return"),
        ],
    ),
    (
        check.zeros_from_ones,
        lambda d: 400 * (100 - d) / (400 - 3 * d),
        [
            (lambda d: 100 - d, "the chord"),
            (lambda d: 200 * (100 - d) / (200 - d), "takes d for f"),
            (lambda d: 4 * (100 - d) / (400 - 3 * d), "in %, please"),
            (lambda d: None, "end it with a return"),
        ],
    ),
    (
        check.slower_by,
        lambda u, k, b: (1 - b) * (u + 2 * k) / (1 + 2 * k) + b,
        [
            (lambda u, k, b: (u + 2 * k) / (1 + 2 * k), "only 1 - b grows"),
            (lambda u, k, b: (u + 2 * k) / (1 + 2 * k) + b, "1 - b of it are steps"),
            (lambda u, k, b: b * (u + 2 * k) / (1 + 2 * k) + 1 - b, "exchanged"),
            (lambda u, k, b: (1 - b) * (u + k) / (1 + k) + b, "two passes"),
            (lambda u, k, b: (1 - b) * u + b, "does not look again"),
            (lambda u, k, b: None, "end it with a return"),
        ],
    ),
]
