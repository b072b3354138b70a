"""Solutions by other means than those of the exercises: by hand, by definition, by enumeration."""

from itertools import groupby, product
from math import comb, log2, prod
from statistics import fmean, stdev

import torch
from torch.autograd import grad
from torch.nn import functional as F

from wsl_tutorial import counts, finite_automaton, metrics, presence, toy


def slope(function, at):
    leaf = at.detach().requires_grad_()
    return grad(function(leaf).sum(), leaf)[0]


def words(L, n):
    return sum(set(range(L)) <= set(word) for word in product(range(L + 1), repeat=n))


def one_label(log_p, label):
    alpha = log_p[:, [label, -1]].logsumexp(1).flatten(1).sum(-1)
    return alpha + torch.log1p(-(log_p[:, -1].flatten(1).sum(-1) - alpha).exp())


def at_least(log_p, labels):
    """By enumeration, one bag after the other."""
    bags = []
    for bag, on in zip(log_p.flatten(2).mT, labels, strict=True):
        named = on.nonzero()[:, 0]

        def observe(h, named=named):
            return toy.presence(h, log_p.shape[1])[..., named]

        bags.append(toy.log_marginal(bag, observe, torch.ones_like(named).bool()))
    return torch.stack(bags)


def for_the_first_labels(log_p, labels):
    return presence.log_likelihood(log_p, presence.at_least(labels[:1]).expand_as(labels))


def walk(p):
    size = len(p) - 1
    f = torch.zeros(2**size, dtype=p.dtype)
    f[0] = 1
    for column in p.T:
        g = f * column[-1]
        for S, l in product(range(2**size), range(size)):
            g[S | 1 << l] += f[S] * column[l]
        f = g
    return f[-1]


def winners(h):
    for column in h.T.tolist():
        voters = sorted(c for c in column if c != 10)
        yield max(voters, key=voters.count, default=10)


def recursion(rho, y):
    f = [1.0] + [0.0] * y
    for p in rho.tolist():
        for j in range(y, -1, -1):
            f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
    return f[y]


def saturating(y):
    table = finite_automaton.counts(y)
    table[y, 1] = y
    return table


def dllp(logits, told):
    mean, q = logits.sigmoid().mean(1), told / logits.shape[1]
    return -(q * mean.log() + (1 - q) * (1 - mean).log()).mean()


def local_softmax_row(scores, size, strength):
    e = (strength * scores).exp()
    return [e[i] / e[max(0, i - size // 2) : i + size // 2 + 1].sum() for i in range(len(e))]


def entropies():
    p = torch.tensor([0.5, 0.25, 0.25])
    return -(p * p.log2()).sum(), -p.log2().mean(), -(3 * p).log2().mean()


def entropy_slope(logits):
    p = logits.softmax(1)
    log_p = p.log().masked_fill(p == 0, 0)
    return p * (log_p - (p * log_p).sum(1, keepdim=True))


def information(joint):
    """I(Y; X) of a joint law (2, n), by definition."""
    apart = joint.sum(0) * joint.sum(1, keepdim=True)
    return torch.special.xlogy(joint, joint / apart.where(joint > 0, 1)).sum()


def trusted(p, first, named, t, sigma):
    return torch.tensor(-t / sigma).exp() * p * (named & (p >= first))


def correlation(p, t):
    tp, fp, fn, tn = metrics.confusion([p], [t])[0].double()
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / product.sqrt() if product else 0


def seven_bits(k):
    p = fmean(0.9**n for n in range(k[0], k[1] + 1))
    return -p * log2(p) - (1 - p) * log2(1 - p)


def pairs(n, d):
    near = sum(abs(a - b) < d for a in range(n) for b in range(n))
    return (n**4 - near**2) // 2


SOLUTIONS = {
    "two_points": lambda: (0.8, 0.75, 0.625),
    "any_foreground": lambda h: toy.presence(h).any(-1, keepdim=True),
    "consistent_with_counts": lambda c: (
        (toy.counts(toy.labellings(sum(c))) == torch.tensor(c)).all(-1).sum()
    ),
    "posterior_by_autograd": lambda z, *seen: (
        z.softmax(-1) + slope(lambda x: toy.log_marginal(x.log_softmax(-1), *seen), z)
    ),
    "one_label": one_label,
    "at_least": at_least,
    "count_labellings": words,
    "two_steps": lambda: (0.3, 0.6, 0.37),
    "covered": walk,
    "posterior": lambda log_p, y: slope(lambda x: presence.log_likelihood(x, y), log_p),
    "one_class": lambda: (1 - 0.4 * 0.5, 0.6, 0.6 / 0.8),
    "floored": lambda x, eta: (x.exp() + eta).log(),
    "transcription": lambda h: [c for c, _ in groupby(winners(h)) if c != 10],
    "three_instances": lambda: (0.45, 4 / 9, 4 / 9, 1 / 9),
    "count_probability": recursion,
    "e_step": lambda z, y: z.sigmoid() + slope(lambda x: counts.log_likelihood(x, y), z),
    "at_least_table": saturating,
    "dllp_loss": dllp,
    "at_least_count": lambda z, y: [
        p[k:].logsumexp(0) for p, k in zip(counts.log_distribution(z), y, strict=True)
    ],
    "three_sides": lambda: (22.0, 11.0, 4.6),
    "local_softmax_row": local_softmax_row,
    "lucky_labels": lambda: (0.5, 0.625),
    "leave_one_out": lambda x: [
        x[i] - torch.cat([x[:i], x[i + 1 :]]).mean() for i in range(len(x))
    ],
    "half_found": lambda: (0.333, 0.184),
    "precision_range": lambda r, n, k: (r * r / 100 * n / k, r),
    "three_entropies": entropies,
    "entropy_gradient": entropy_slope,
    "divergence_from_prior": lambda z, q: (q * (q.log() - z.log_softmax(1))).sum(1),
    "mutual_information": lambda p: (
        information(p.sum(1)),
        information(p.flatten(1)) - information(p.sum(2)),
    ),
    "three_looks": lambda: (0.881, 0, 0.881, 0.79716),
    "trust_of_a_look": trusted,
    "matthews": correlation,
    "images_apart": lambda: (6, 7.5),
    "shares_behind": lambda e, n: [k for k in range(n + 1) if 10**4 * k // n == round(100 * e)],
    "zeros_from_ones": lambda d: 400 * (100 - d) / (400 - 3 * d),
    "seven_bits": seven_bits,
    "pairs_apart": pairs,
    "twenty_claims": lambda: [
        *(comb(20, k) * 0.05**k * 0.95 ** (20 - k) for k in (0, 1)),
        sum(k * comb(20, k) * 0.05**k * 0.95 ** (20 - k) for k in range(21)),
    ],
}


def naive_sigmoids(logits, labels):
    absent = (1 - logits.sigmoid()).flatten(2).prod(-1)
    return torch.where(labels, 1 - absent, absent).log().sum(1)


def underflowing(logits, prior):
    return (prior * (prior.log() - logits.softmax(1).log())).sum(1)


def without_xlogy(joint):
    q = joint.sum(1)  # (2, b): y and X-
    alone = (q * (q / q.sum(0) / q.sum(1, keepdim=True)).log()).sum()
    return alone, information(joint.flatten(1)) - information(joint.sum(2))


# What the checks say of answers that are none of the known mistakes, or that raise.
UNKNOWN = [
    ("two_points", lambda: (0.8, 0.75, 0.6), "expected 0.8, 0.75, 0.625, got 0.8, 0.75, 0.6"),
    ("any_foreground", lambda h: (h < 3).any(-1), "the shape should be"),
    ("any_foreground", lambda h: (h < 3).any(1, keepdim=True), "the shape should be"),
    ("at_least", for_the_first_labels, "expected"),
    ("consistent_with_counts", lambda c: 7, "expected 12, 1, 120, got 7"),
    ("two_steps", lambda: (0.3, 0.6, 0.4), "expected 0.3, 0.6, 0.37, got 0.3, 0.6, 0.4"),
    ("posterior", lambda p, y: presence.posterior(p, y).flatten(2), "the shape should be"),
    ("one_class", lambda: (0.8, 0.5, 0.75), "expected 0.8, 0.6, 0.75, got 0.8, 0.5, 0.75"),
    ("sigmoids", naive_sigmoids, "use logsigmoid"),
    ("floored", lambda x, eta: SOLUTIONS["floored"](x.detach(), eta) + 0 * x, "is not w"),
    ("tolerance", lambda p, r, x: max(r, (p or 0) + stdev(x)), "one run alone"),
    ("tolerance", lambda p, r, x: max(r, p + max(x) - min(x)), "None counts as 0"),
    ("tolerance", lambda p, r, x: p, "None counts as 0"),
    ("tolerance", lambda p, r, x: 1.0, "expected 0.07"),
    ("transcription", lambda h: SOLUTIONS["transcription"](h)[::-1], "the map .* reads"),
    ("three_instances", lambda: (0.4, 0.4, 0.4, 0.1), "expected 0.45, 0.4444, 0.4444, 0.1111"),
    ("e_step", lambda z, y: z.sigmoid().sum(1), "the shape should be"),
    ("arrival", lambda a: 2, "expected 6, 7"),
    ("three_sides", lambda: (22.0, 10.0, 10.0), "expected 22, 11, 4.6, got 22, 10, 10"),
    ("soft_member", lambda s, k, e, cdf: cdf(s).sum(), "the shape should be"),
    ("half_found", lambda: (0.5, 0.5), "expected 0.3333, 0.1835"),
    ("entropy_gradient", lambda z: z.softmax(1) * z.softmax(1).log(), "0 times -inf is NaN"),
    ("divergence_from_prior", lambda z, q: torch.tensor(1.0), "no mean over the batch"),
    ("divergence_from_prior", underflowing, "underflows"),
    ("mutual_information", without_xlogy, "xlogy"),
    ("any_of", lambda p, l, s: torch.zeros(2), "shape"),
    ("log_occurs", lambda z, w: torch.log1p(-(w * F.logsigmoid(-z)).sum(1).exp()), "digits are"),
    ("log_occurs", lambda z, w: (-(w * (1 - z.sigmoid()).log()).sum(1).expm1()).log(), "digits ar"),
    ("exactly", lambda a: F.pad((a[1:].exp() - a[:-1].exp()).log(), (1, 0)), "digits are gone"),
    ("exactly", lambda a: a[1:], "shape"),
    ("attended", lambda a, label, times: a > times / a[0].numel(), "shape"),
    ("share_found", lambda a, p: prod(a.shape), "expected"),
]
