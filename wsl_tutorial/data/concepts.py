"""Generate the unit tests of Raff and Holt (2023): training bags in which a wrong rule looks right.

The three tests of "Reproducibility in multiple instance learning: a case for algorithmic unit
tests" (https://arxiv.org/abs/2310.17867), algorithms 1 to 3. In each, training bags can be told
apart perfectly by something that is not the rule, and test bags have it the other way round. A
model that cannot express the wrong rule passes; one that learned it has a test AUC below 1/2.

Instances are vectors with independent normal entries. Every bag has 1 to 10 background instances
N(0, 1), besides:

    single      positive: 1 to 4 instances, each N(0, 3) or N(1, 1).   The poison N(-10, 0.1)
                is in every negative bag of training and every positive bag of the test.
    both        positive: 1 to 4 pairs of N(2, 0.1) and N(3, 0.1); negative: one of either.
                The same poison.
    frequency   positive: 1 or 2 of each of N(2, 0.1) and N(3, 0.1); negative: of one of them
                1 or 2 in training, 35 to 45 in the test.

N(mean, standard deviation). Ranges include both ends.
"""

import torch
from torch import Tensor

TESTS = ("single", "both", "frequency")
SINGLE = ((0.0, 3.0), (1.0, 1.0))
PAIR = ((2.0, 0.1), (3.0, 0.1))
POISON = (-10.0, 0.1)


def bags(
    test: str, part: str, number: int, generator: torch.Generator, features: int = 16
) -> dict[str, Tensor]:
    """Draw bags of a test, the first half of them (rounded down) positive.

    test: "single", "both" or "frequency"; part: "train" or "test"; number of bags, at least 2.
    Returns instances float32 (N, features); bags int64 (N,); labels bool (number,); concept int64
    (N,): 0 background, 1 and 2 the concepts, -1 poison.
    Raises ValueError for another test or part, fewer bags, or no feature.
    """
    if test not in TESTS or part not in ("train", "test"):
        raise ValueError(
            f"test must be one of {', '.join(TESTS)} and part train or test, got {test!r}, {part!r}"
        )
    if number < 2 or features < 1:
        raise ValueError(
            f"number must be at least 2 and features at least 1, got {number} and {features}"
        )
    labels = torch.arange(number) < number // 2
    kinds, owners = [], []
    for bag, positive in enumerate(labels.tolist()):
        kind = _concepts(test, part, positive, generator)
        kinds += kind + [0] * _uniform(1, 10, generator)
        owners += [bag] * (len(kinds) - len(owners))
    concept = torch.tensor(kinds)
    laws = {0: (0.0, 1.0), -1: POISON}
    laws |= dict(enumerate(SINGLE if test == "single" else PAIR, 1))
    mean, sd = torch.tensor([laws[kind] for kind in kinds]).T[:, :, None]
    noise = torch.randn(len(kinds), features, generator=generator)
    return {
        "instances": mean + sd * noise,
        "bags": torch.tensor(owners),
        "labels": labels,
        "concept": concept,
    }


def _concepts(test: str, part: str, positive: bool, g: torch.Generator) -> list[int]:
    """Return the concepts and the poison of a bag."""
    poison = [-1] if test != "frequency" and positive == (part == "test") else []
    if test == "single":
        return poison + [_uniform(1, 2, g) for _ in range(_uniform(1, 4, g) if positive else 0)]
    if test == "both":
        return poison + ([1, 2] * _uniform(1, 4, g) if positive else [_uniform(1, 2, g)])
    if positive:
        return [1] * _uniform(1, 2, g) + [2] * _uniform(1, 2, g)
    times = _uniform(1, 2, g) if part == "train" else _uniform(35, 45, g)
    return [_uniform(1, 2, g)] * times


def _uniform(low: int, high: int, g: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=g))
