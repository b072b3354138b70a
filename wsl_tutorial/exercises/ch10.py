"""Chapter 10: patches, the reproduction."""

from random import Random

from .. import metrics
from .core import Question, asked, exercise


@exercise(
    praise="a quarter off along both is not found",
    mistakes={
        "half of the box is shared there: the union is more than one box": (
            lambda: (0.5, 1 - 0.5**0.5)
        ),
        "along both axes the shared part is (1 - u)^2: it falls faster": lambda: (1 / 3, 1 / 3),
        "the shared part is two thirds at an IoU of one half, so 1 - u = 2/3": (
            lambda: (2 / 3, 1 - (2 / 3) ** 0.5)
        ),
        "(1 - u)^2 is two thirds: take the root, then take it from 1": (
            lambda: (1 / 3, (2 / 3) ** 0.5)
        ),
    },
)
def half_found() -> tuple:
    """Return offsets in sides at which the IoU is 1/2, along one axis and both, () -> two."""
    return 1 / 3, 1 - (2 / 3) ** 0.5


def occurs(classes: int, told: int) -> float:
    """Return the probability, in %, that a class is among the labels that are told."""
    return 100 * (1 - (1 - 1 / classes) ** told)


@exercise(
    praise="hedging beats luck",
    cases=[(10, 9, 9), (10, 3, 3), (4, 6, 2), (5, 1, 5)],
    mistakes={
        "a class may be told twice and is guessed once: 1 - (1 - 1/C)^L of it is right": (
            lambda c, n, m: 100 * m / c
        ),
        "divide by the labels told: a share of them is asked for": (
            lambda c, n, m: m * occurs(c, n)
        ),
        "divide by the labels told, not by the guesses": lambda c, n, m: occurs(c, n),
        "a guess is right if its class occurs at all, not only if it occurs once": (
            lambda c, n, m: 100 * m / c * (1 - 1 / c) ** (n - 1)
        ),
        "in %, please": lambda c, n, m: m / n * occurs(c, n) / 100,
    },
)
def constant_answer(classes: int, told: int, guessed: int) -> float:
    """Return labels among different guesses, (classes, told, guessed) -> %."""
    return guessed / told * occurs(classes, told)


@exercise(
    praise="a recall tells most of an AP",
    cases=[(97.5, 9, 9), (60.0, 3, 5), (40.0, 10, 4), (100.0, 2, 8)],
    mistakes={
        "the final precision is r L / K: it is r only for K = L": (
            lambda r, told, guessed: (r * r / 100, r)
        ),
        "turn the fraction: more detections lower the precision": (
            lambda r, told, guessed: (r * r / 100 * guessed / told, r)
        ),
        "the curve ends at the recall r: multiply the precision by it": (
            lambda r, told, guessed: (r * told / guessed, r)
        ),
        "percent times percent: divide by 100": (
            lambda r, told, guessed: (r * r * told / guessed, r)
        ),
        "beyond the recall r there is no curve: the greatest AP is r": (
            lambda r, told, guessed: (r * r / 100 * told / guessed, 100)
        ),
    },
)
def precision_range(recall: float, told: int, guessed: int) -> tuple[float, float]:
    """Return (10.3), (recall in %, told, guessed) -> least and greatest AP in %."""
    return metrics.precision_bounds(recall, told, guessed)


@asked
def least_average_precision(r: Random) -> Question:
    objects, recall = r.randint(2, 5), 5 * r.randint(10, 19)
    answers = objects + r.randint(1, 6)
    return precision_range.question(
        f"Each image holds {objects} objects of one class, and a detector gives {answers} boxes an "
        f"image; over 100 images it finds {recall} % of the objects, each once. What is the least "
        "average precision, the area at all recalls, that this allows, in %?",
        *(recall, objects, answers),
        number=0,
        without="no curve",
        more={"this is the greatest, with all wrong boxes at the end": recall},
    )
