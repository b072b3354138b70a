"""Right and well-known wrong answers to exercises of chapter 15, run by `test_check`."""

import torch

from wsl_tutorial import check

NONE, ONE = 0.95**20, 0.95**19  # ONE: 20 * 0.05 is 1


def exactly(at_most):
    rest = at_most[1:] + torch.log(-torch.expm1(at_most[:-1] - at_most[1:]))
    return torch.cat([at_most[:1], rest])


def blunt(at_most):
    return torch.cat([at_most[:1], (at_most[1:].exp() - at_most[:-1].exp()).log()])


def share_found(able, present):
    return (able.any(1) & present).sum() / present.sum()


def per_image(able, present):
    return ((able.any(1) & present).sum(1) / present.sum(1)).mean()


CASES = [
    (
        check.twenty_claims,
        lambda: (NONE, ONE, 1.0),
        [
            (lambda: (0.0, 1.0, 1.0), "multiply"),
            (lambda: (NONE, ONE / 20, 1.0), "a factor is missing"),
            (lambda: (NONE, 1.0, 1.0), "other nineteen"),
            (lambda: (NONE, 1 - NONE, 1.0), "one failure or more"),
            (lambda: (NONE, ONE, 0.05), "sum of twenty"),
            (lambda: (0.05**20, ONE, 1.0), "all twenty fail"),
            (lambda: (0.5, 0.5, 1.0), "expected"),
            (lambda: None, "end it with a return"),
        ],
    ),
    (
        check.exactly,
        exactly,
        [
            (blunt, "digits are gone"),
            (lambda a: a.diff(prepend=a[:1]), "not their logarithms"),
            (lambda a: torch.cat([0 * a[:1], exactly(a)[1:]]), "the first number stays"),
            (lambda a: torch.cat([exactly(a)[1:], a[:1]]), "belongs at the front"),
            (lambda a: exactly(a).exp(), "asks for logarithms"),
            (lambda a: torch.cat([a[:1], a.diff().log()]), "of a difference of logarithms"),
            (lambda a: exactly(a)[1:], "shape"),
            (lambda a: a, "expected"),
            (lambda a: None, "end it with a return"),
        ],
    ),
    (
        check.attended,
        lambda a, label, times: a[label] > times / a[0].numel(),
        [
            (lambda a, label, times: a[label] > times / a.numel(), "for each class"),
            (lambda a, label, times: a[label] > 1 / a[0].numel(), "multiply"),
            (lambda a, label, times: a[label] > times / len(a[0]), "not by one side"),
            (lambda a, label, times: a.argmax(0) == label, "arg-max"),
            (lambda a, label, times: a[label] < times / a[0].numel(), "not less than"),
            (lambda a, label, times: a > times / a[0].numel(), "shape"),
            (lambda a, label, times: a[label] > 0.1, "expected"),
            (lambda a, label, times: None, "end it with a return"),
        ],
    ),
    (
        check.share_found,
        share_found,
        [
            (lambda a, p: (a.any(1) & p).sum() / a[..., 0].numel(), "not by the detections"),
            (lambda a, p: (a.any(1) & p).sum() / p.numel(), "padding is no digit"),
            (lambda a, p: a.any(1).sum() / p.sum(), "found by accident"),
            (lambda a, p: (a & p[:, None]).sum() / p.sum(), "found once"),
            (lambda a, p: (a & p[:, None]).any(2).sum() / p.sum(), "hit something"),
            (per_image, "another measure"),
            (lambda a, p: torch.tensor(0.123), "expected"),
            (lambda a, p: None, "end it with a return"),
        ],
    ),
]
