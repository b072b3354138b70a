"""Right and well-known wrong answers to exercises of chapter 4, run by `test_check`."""

from itertools import groupby
from statistics import pstdev, stdev

from wsl_tutorial import check


def sd(x):
    return stdev(x) if len(x) > 1 else 0.0


def allowed(paper_sd, rounding, ours):
    return max(rounding, (paper_sd or 0.0) + sd(ours))


def winners(h, pick=min, phi_votes=False):
    """The winner of each column of h (M, N); `pick` decides ties."""
    columns = []
    for column in h.T.tolist():
        voters = column if phi_votes else [c for c in column if c != 10]
        most = max(map(voters.count, voters), default=0)
        columns.append(pick([c for c in voters if voters.count(c) == most], default=10))
    return columns


def digits(columns):
    return [c for c in columns if c != 10]


def runs(columns):
    return [c for c, _ in groupby(columns)]


CASES = [
    (
        check.tolerance,
        allowed,
        [
            (lambda p, r, x: max(r, p or 0), "our own standard deviation"),
            (lambda p, r, x: max(r, sd(x)), "the paper's ± is missing"),
            (lambda p, r, x: (p or 0) + sd(x), "take the larger"),
            (lambda p, r, x: r + (p or 0) + sd(x), "not added"),
            (lambda p, r, x: max(r, (p or 0) + sd(x) / len(x) ** 0.5), "standard error"),
            (lambda p, r, x: max(r, (p or 0) + pstdev(x)), "n - 1"),
            (lambda p, r, x: max(r, ((p or 0) ** 2 + sd(x) ** 2) ** 0.5), "root of squares"),
            (lambda p, r, x: max(r, (p or 0) + stdev(x)), "one run alone"),
            (lambda p, r, x: max(r, p + sd(x)), "None counts as 0"),
            (lambda p, r, x: p, "None counts as 0"),
            (lambda p, r, x: None, "end it with a return"),
            (lambda p, r, x: 1.0, "expected 0.07"),
        ],
    ),
    (
        check.transcription,
        lambda h: digits(runs(winners(h))),
        [
            (lambda h: digits(winners(h)), "counts once"),
            (lambda h: runs(digits(winners(h))), "a blank column ends a run"),
            (lambda h: digits(runs(winners(h, phi_votes=True))), "background does not vote"),
            (lambda h: digits(runs(winners(h, pick=max))), "smallest digit wins"),
            (lambda h: digits(h[len(h) // 2].tolist()), "every row"),
            (lambda h: sorted(set(digits(h.flatten().tolist()))), "the set of digits"),
            (lambda h: digits(runs(winners(h)))[::-1], "the map .* reads"),
            (lambda h: None, "end it with a return"),
        ],
    ),
]
