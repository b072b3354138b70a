"""Chapter 10: patches, the reproduction."""

from math import isclose
from random import Random

import torch

from .. import metrics
from .core import Question, asked, choice, essay, exam, exercise


@exercise(
    praise="a detection that is off by a quarter along both axes does not find the digit",
    mistakes={
        "an IoU of 1/2 is more than half of the box: the union is larger than one box": (
            lambda: (0.5, 1 - 0.5**0.5)
        ),
        "along both axes the boxes share (1 - u)^2, less than along one axis": lambda: (
            1 / 3,
            1 / 3,
        ),
        "at an IoU of one half the boxes share two thirds: along one axis 1 - u = 2/3": (
            lambda: (2 / 3, 1 - (2 / 3) ** 0.5)
        ),
        "(1 - u)^2 is two thirds: the root is 1 - u, not u": (lambda: (1 / 3, (2 / 3) ** 0.5)),
    },
)
def half_found() -> tuple:
    """Return offsets in sides with IoU 1/2, along one axis and along both, () -> two numbers."""
    return 1 / 3, 1 - (2 / 3) ** 0.5


def occurs(classes: int, true: int) -> float:
    """Return the probability, in %, that a class is among the true labels."""
    return 100 * (1 - (1 - 1 / classes) ** true)


@exercise(
    praise="a fixed prediction is better than luck",
    cases=[(10, 9, 9), (10, 3, 3), (4, 6, 2), (5, 1, 5)],
    mistakes={
        "a class is right once, with probability 1 - (1 - 1/C)^L, even if it occurs twice": (
            lambda c, n, m: 100 * m / c
        ),
        "divide by the true labels: the exercise asks for a share of them": (
            lambda c, n, m: m * occurs(c, n)
        ),
        "divide by the true labels, not by the predicted ones": lambda c, n, m: occurs(c, n),
        "a predicted label is right if its class occurs at all, not only if it occurs once": (
            lambda c, n, m: 100 * m / c * (1 - 1 / c) ** (n - 1)
        ),
        "in %, please": lambda c, n, m: m / n * occurs(c, n) / 100,
    },
)
def constant_answer(classes: int, true: int, guessed: int) -> float:
    """Return labels among different guesses, (classes, true, guessed) -> %."""
    return guessed / true * occurs(classes, true)


@exercise(
    praise="the recall leaves AP only a small range",
    cases=[(97.5, 9, 9), (60.0, 3, 5), (40.0, 10, 4), (100.0, 2, 8)],
    mistakes={
        "the final precision is r L / K: it is r only for K = L": (
            lambda r, true, guessed: (r * r / 100, r)
        ),
        "invert the fraction: more detections lower the precision": (
            lambda r, true, guessed: (r * r / 100 * guessed / true, r)
        ),
        "the curve ends at the recall r: multiply the precision by it": (
            lambda r, true, guessed: (r * true / guessed, r)
        ),
        "percent times percent: divide by 100": (
            lambda r, true, guessed: (r * r * true / guessed, r)
        ),
        "beyond the recall r there is no curve: the largest AP is r": (
            lambda r, true, guessed: (r * r / 100 * true / guessed, 100)
        ),
    },
)
def precision_range(recall: float, true: int, guessed: int) -> tuple[float, float]:
    """Return (10.3), (recall in %, true, guessed) -> smallest and largest AP in %."""
    return metrics.precision_bounds(recall, true, guessed)


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
        more={"this is the largest, with all wrong boxes at the end": recall},
        solution=f"With all wrong boxes first, the precision rises to its final value $r L / K = "
        f"{recall} \\cdot {objects} / {answers}$ % at the recall $r$. The area of that rectangle "
        "is $r^2 L / K$.",
    )


@asked
def iou_of_a_shifted_box(r: Random) -> Question:
    side = r.choice([20, 28, 40, 60])
    d = r.randint(side // 8, side // 2 - 1)
    a, b = metrics.boxes(torch.tensor([[0.0, 0.0, side], [d, 0.0, side]])).double()
    iou = metrics.box_iou(a[None, None], b[None, None]).item()
    values = {
        (side - d) / (side + d): "",
        (side - d) / side: "this divides by one box, not by the union",
        (side - d) / (2 * side): "the shared part counts once in the union",
        ((side - d) / side) ** 2: "the boxes are apart along one axis only",
    }
    return choice(
        r,
        f"Two square boxes of {side} pixels are {d} pixels apart along one axis and level along "
        "the other. What is their intersection over union?",
        *((f"{x:.3f}", isclose(x, iou), hint) for x, hint in values.items()),
        solution=f"They share {side - d} of {side} columns; the union has {side + d}: {iou:.3f}.",
    )


@asked
def detector_without_sight(r: Random) -> Question:
    classes, objects = r.randint(5, 12), r.randint(2, 4)
    guessed = r.randint(objects, 5)
    seen = 5 * r.randint(10, 19)
    blind = constant_answer.right(classes, objects, guessed)
    least, most = precision_range.right(seen, objects, guessed)
    return exam(
        f"Each image has {objects} objects; the class of each is one of {classes}, uniform and "
        f"independent. A detector gives {guessed} answers an image.",
        constant_answer.question(
            f"A detector that never looks answers the same {guessed} different classes for every "
            "image. Which share of the labels, in %, is among its answers in the mean, if each "
            "answer is used once?",
            *(classes, objects, guessed),
            without="in %",
            solution="A class occurs in an image with probability $1 - (1 - 1/C)^L$: "
            f"{blind * objects / guessed:.4g} %. There are {guessed} such classes, and "
            f"{objects} labels to find: {blind:.4g} %.",
        ),
        Question(
            f"Another detector has {seen} % of the labels right. Correct this for chance, with the "
            "share of the blind detector as chance level.",
            (seen - blind) / (100 - blind),
            {
                "divide by what there is to gain, 1 minus the chance level": (seen - blind) / 100,
                "this is the ratio to chance, not the part of the gain": seen / blind,
            },
            solution=f"$(a - a_0) / (1 - a_0) = ({seen / 100:g} - {blind / 100:.4g}) / "
            f"(1 - {blind / 100:.4g}) = {(seen - blind) / (100 - blind):.4g}$.",
        ),
        precision_range.question(
            f"It finds {seen} % of all objects over the test set. Which average precision, in %, "
            "does this guarantee, if all wrong boxes are ranked first?",
            *(seen, objects, guessed),
            number=0,
            without="no curve|percent times",
            more={"this is the largest, with the wrong boxes last": most},
            solution=f"The final precision is $r L / K$, and the area is $r$ times that: "
            f"{least:.4g} %.",
        ),
        essay(
            "Which two things must be known of a new data set before a rate can be corrected for "
            "chance? Answer in two sentences.",
            "the distribution of the labels: classes, their frequencies, labels an image",
            "the rule of counting: how many answers are allowed, and how often each may be used",
            solution="The chance level depends on how often each class occurs in an image, which "
            "uniform classes make easy and real data do not. It also depends on how answers are "
            "counted: how many there are, and whether one answer may serve two labels.",
        ),
    )
