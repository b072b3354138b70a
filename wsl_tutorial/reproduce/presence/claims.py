"""The claims of Li (2018) that no single number decides, tested on records of experiments."""

from math import inf

from ..evidence import Ruling, at_least, at_most, behind, contrast, mean, plus_minus, ruling, values
from ..experiment import claim
from .experiments import (
    AS_CODED,
    AS_PRINTED,
    CIFAR10,
    CIFAR10_CROSS_ENTROPY,
    EXTENDED,
    MNIST,
    MNIST_CROSS_ENTROPY,
    error_of,
)


def rules_agree(records: list[dict]) -> Ruling:
    """Test that the two rules agree on 99 % of the images, our reading of "most of the time"."""
    text = f"they agree on {mean(records, 'rules_agree'):.2f} % of the test images"
    return ruling(text, at_least(records, "rules_agree", 99))


def gap_below(limit: float):
    """Return a test: the first mean error exceeds the second by at most `limit`."""

    def test(ours, other):
        gap = behind(other, ours, "best_test_error")
        text = (
            f"{error_of(ours):.2f} % against {error_of(other):.2f} %, {plus_minus(gap, 2)} points"
        )
        return ruling(text, behind(ours, other, "best_test_error", plus=limit))

    return test


def ratio_above(limit: float):
    """Return a test: the first mean error is at least `limit` times the second."""

    def test(ours, other):
        a, b = (values(records, "best_test_error", inf) for records in (ours, other))
        text = f"{error_of(ours):.2f} % against {error_of(other):.2f} %"
        return ruling(text, contrast((1, a), (-limit, b)))

    return test


def below_half_a_percent(records: list[dict]) -> Ruling:
    """Test that the error is below 0.5 %; the paper prints 0.37 %."""
    return ruling(f"{error_of(records):.2f} %", at_most(records, "best_test_error", 0.5))


CLAIMS = (
    claim(
        "mcmil-rules-agree",
        "(13) and (14) give identical decisions most of the time (we require 99 %)",
        "section 4.1",
        (MNIST,),
        rules_agree,
    ),
    claim(
        "mcmil-mnist-no-worse",
        "on MNIST the exact likelihood is no worse than cross-entropy (within 0.05 points)",
        "section 5.1.1",
        (MNIST, MNIST_CROSS_ENTROPY),
        gap_below(0.05),
    ),
    claim(
        "mcmil-cifar10-no-loss",
        "on CIFAR-10 the exact likelihood loses nothing meaningful against cross-entropy (at most "
        "1 point)",
        "section 5.1.2",
        (CIFAR10, CIFAR10_CROSS_ENTROPY),
        gap_below(1.0),
    ),
    claim(
        "mcmil-never-saw-a-digit",
        "trained on canvases of two digits, the network misreads less than 0.5 % of single digits",
        "section 5.2",
        (EXTENDED,),
        below_half_a_percent,
    ),
    claim(
        "mcmil-max-pooling-as-coded-worse",
        "max pooling as programmed is much worse than the exact likelihood (5 times the error)",
        "supplementary A",
        (AS_CODED, EXTENDED),
        ratio_above(5),
    ),
    claim(
        "mcmil-max-pooling-as-printed-worse",
        "max pooling as printed is much worse than the exact likelihood (5 times the error)",
        "supplementary A",
        (AS_PRINTED, EXTENDED),
        ratio_above(5),
    ),
)
