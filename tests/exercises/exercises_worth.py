"""Right and well-known wrong answers to exercises of chapter 14, run by `test_check`."""

from math import log, log2
from statistics import fmean

import torch

from wsl_tutorial import check


def h(p, base=2):
    return -sum(q * log(q, base) for q in (p, 1 - p) if q > 0)


def numbers(k):
    return range(k[0], k[1] + 1)


def no_seven(k):
    return fmean(0.9**n for n in numbers(k))


def any_of(log_p, label, seen):
    missing = torch.log1p(-log_p[:, label].exp()).sum(1)
    return torch.where(seen, torch.log(-torch.expm1(missing)), missing)


def blunt(log_p, label, seen):
    missing = (1 - log_p[:, label].exp()).log().sum(1)
    return torch.where(seen, (1 - missing.exp()).log(), missing)


def swapped(log_p, label, seen):
    return any_of(log_p, label, ~seen)


def near(n, d):
    return sum(abs(a - b) < d for a in range(n) for b in range(n))


def pairs(n, d):
    return (n**4 - near(n, d) ** 2) // 2


CASES = [
    (
        check.seven_bits,
        lambda k: h(no_seven(k)),
        [
            (lambda k: h(0.1), "any of them may be the 7"),
            (lambda k: fmean(h(0.9**n) for n in numbers(k)), "not the bits"),
            (lambda k: h(0.9 ** fmean(numbers(k))), "not the mean of the powers"),
            (lambda k: -(1 - no_seven(k)) * log2(1 - no_seven(k)), "add its term"),
            (lambda k: h(no_seven(k), 2.718281828459045), "nats"),
            (lambda k: None, "end it with a return"),
            (lambda k: 0.3, "expected"),
        ],
    ),
    (
        check.any_of,
        any_of,
        [
            (blunt, "log1p and expm1"),
            (
                lambda p, l, s: torch.where(s, p[:, l].amax(1), any_of(p, l, s & False)),
                "any cell may hold it",
            ),
            (lambda p, l, s: any_of(p, l, s | True), "occurs nowhere"),
            (swapped, "exchanged"),
            (
                lambda p, l, s: torch.where(s, p[:, l].sum(1), any_of(p, l, s & False)),
                "every. cell",
            ),
            (lambda p, l, s: None, "end it with a return"),
            (lambda p, l, s: any_of(p, l, s)[:2], "shape"),
            (lambda p, l, s: torch.zeros(len(p)), "expected"),
        ],
    ),
    (
        check.pairs_apart,
        pairs,
        [
            (lambda n, d: n**2 * (n**2 - 1) // 2, "too near are not allowed"),
            (lambda n, d: 2 * pairs(n, d), "counted twice"),
            (lambda n, d: (n**2 - near(n, d)) ** 2 // 2, "near in both"),
            (lambda n, d: pairs(n, d + 1), "is allowed"),
            (lambda n, d: (n**4 - n**2 - near(n, d) ** 2) // 2, "near itself"),
            (lambda n, d: None, "end it with a return"),
            (lambda n, d: 1, "expected"),
        ],
    ),
    (
        check.break_even,
        lambda c, f, s, m: (f / c - 1) * s / m,
        [
            (lambda c, f, s, m: f / c * s / m, "take them off"),
            (lambda c, f, s, m: (f / c - 1) * s, "divide by the clicks"),
            (lambda c, f, s, m: (c / f - 1) * s / m, "wrong way round"),
            (lambda c, f, s, m: 0.0, "not equal seconds"),
            (lambda c, f, s, m: None, "end it with a return"),
            (lambda c, f, s, m: 1.0, "expected"),
        ],
    ),
]
