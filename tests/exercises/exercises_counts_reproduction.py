"""Right and well-known wrong answers to exercises of chapter 7, run by `test_check`."""

from statistics import fmean, pstdev, stdev

from wsl_tutorial import check


def final(accuracy):
    return fmean(accuracy[-max(3, len(accuracy) // 10) :])


def first(accuracy, level):
    return next((t for t, a in enumerate(accuracy, 1) if a >= level), len(accuracy))


def arrival(accuracy):
    return first(accuracy, 0.99 * final(accuracy))


def t(gaps, share, sd=stdev):
    return fmean(gaps) / (sd(gaps) * (1 / len(gaps) + share / (1 - share)) ** 0.5)


def off(logits, told, mask):
    return ((logits >= 0) & mask).sum(1) - told


def error_of_counts(logits, told, mask):
    return off(logits, told, mask).abs().double().mean()


CASES = [
    (
        check.arrival,
        arrival,
        [
            (lambda a: first(a, 0.99 * max(a)), "not the best epoch"),
            (lambda a: first(a, 0.99 * a[-1]), "not the last one"),
            (lambda a: first(a, 0.99 * fmean(a[-max(1, len(a) // 10) :])), "no fewer than three"),
            (lambda a: first(a, 0.99 * fmean(a[-3:])), "not the last three"),
            (lambda a: first(a, final(a)), "99 % of the final accuracy is enough"),
            (lambda a: arrival(a) - 1, "counted from 1"),
            (lambda a: None, "end it with a return"),
            (lambda a: 2, "expected 6, 7"),
        ],
    ),
    (
        check.resampled_t,
        t,
        [
            (lambda d, q: t(d, 0), "share is missing"),
            (lambda d, q: fmean(d) / (stdev(d) * (1 / len(d) + q) ** 0.5), "not share"),
            (lambda d, q: fmean(d) / (stdev(d) * (1 / len(d) + q / (1 - q))), "take the root"),
            (lambda d, q: t(d, q, pstdev), "K - 1"),
            (lambda d, q: abs(t(d, q)), "sign"),
            (lambda d, q: None, "end it with a return"),
            (lambda d, q: 0.5, "expected"),
        ],
    ),
    (
        check.error_of_counts,
        error_of_counts,
        [
            (lambda z, y, m: ((z >= 0).sum(1) - y).abs().double().mean(), "use the mask"),
            (lambda z, y, m: off(z, y, m).double().mean().abs(), "must not cancel"),
            (lambda z, y, m: off(z, y, m).double().mean(), "take the absolute value"),
            (lambda z, y, m: ((z.sigmoid() * m).sum(1) - y).abs().mean(), "not probabilities"),
            (lambda z, y, m: off(z, y, m).double().square().mean(), "not its square"),
            (lambda z, y, m: off(z, y, m).abs().sum(), "not the sum"),
            (lambda z, y, m: off(z, y, m).abs().sum() / m.sum(), "an error a bag"),
            (lambda z, y, m: None, "end it with a return"),
            (lambda z, y, m: 0.1, "expected"),
        ],
    ),
]
