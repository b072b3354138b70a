"""Chapter 12: regions, erasing."""

from collections.abc import Callable
from math import exp
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import metrics, regions
from .core import Question, asked, choice, double, essay, exam, exercise, some


@exercise(
    praise="the third look is not trusted",
    mistakes={
        "multiply each look by its trust: 0.881 at t = 0": lambda: (1, 0, 1, 1),
        "the mask contains every pixel above the midrange 2, not only the largest": (
            lambda: (0.797, 0, 0.881, 0.721)
        ),
        "pixel 1 is above the midrange 2 too": lambda: (0, 0, 0.881, 0.797),
        "the second look is trusted: its score saturates too, so p is not lower": (
            lambda: (0.881, 0, 0.881, 0)
        ),
        "trust decays: the second look has the factor exp(-1/10)": lambda: (0.881, 0, 0.881, 0.881),
        "at t = 0 the factor exp(-t/10) is 1": lambda: (0.797, 0, 0.797, 0.721),
    },
)
def three_looks() -> tuple:
    """Return R* of the evidence (2.5, 0, 4, 1) after three looks, () -> four numbers."""
    return 0.881, 0, 0.881, 0.797


def dice(f: float) -> float:
    """Return the Dice index of a full mask and a region of share f."""
    return 2 * f / (1 + f)


@exercise(
    praise="a method has to beat at least these",
    cases=[(0.2,), (0.5,)],
    mistakes={
        "F1 is not the share of right pixels: divide twice the overlap by |A| + |B|": (
            lambda f: (f, 0, 0, 1 - f)
        ),
        "the numerator is 2 |A and B|, the denominator |A| + |B|, here 1 + f": (
            lambda f: (dice(f) / 2, 0, 0, dice(1 - f) / 2)
        ),
        "All-ones covers the region, All-zeros the complement: exchange the pairs": (
            lambda f: (0, dice(1 - f), dice(f), 0)
        ),
        "the complement covers 1 - f: put that in place of f": lambda f: (dice(f), 0, 0, dice(f)),
        "All-ones predicts no pixel of the complement: its F1- is 0": (
            lambda f: (dice(f), 1 - f, 1 - f, dice(1 - f))
        ),
    },
)
def blind_dice(f: float) -> tuple:
    """Return F1+ and F1- of All-ones, then of All-zeros, share f -> four numbers."""
    return dice(f), 0, 0, dice(1 - f)


@asked
def dice_of_all_ones(r: Random) -> Question:
    (f,) = some(r, 0.1, 0.9)
    return blind_dice.question(
        f"Glands cover {100 * f:g} % of an image. A mask marks every pixel as gland. What is its "
        "Dice score F1+, between 0 and 1?",
        f,
        number=0,
        without="complement",
        more={"this is the score of the background for an empty mask": dice(1 - f)},
        solution=f"Twice the overlap over the sum of the sizes: $2 f / (1 + f)$ with $f = {f:g}$.",
    )


def answers(p: Tensor, named: Tensor) -> Tensor:
    """Return logits of three classes: p for the first, the rest shared, or for a greater one."""
    second = torch.where(named, (1 - p) / 2, 1 - p)
    return torch.stack([p, second, 1 - p - second], 1).log()


@exercise(
    praise="the trust can be lost in two ways, and it decays",
    cases=[
        (
            *double([[0.9, 0.6, 0.8, 0.4], [0.8, 0.7, 0.8, 0.3]]),
            torch.tensor([True, True, True, False]),
            *(2, 10.0),
        )
    ],
    mistakes={
        "trust decays with t: the factor exp(-t / sigma) is missing": (
            lambda p, first, named, t, sigma: p * named * (p >= first)
        ),
        "a probability equal to the first is enough: >=, not >": (
            lambda p, first, named, t, sigma: exp(-t / sigma) * p * named * (p > first)
        ),
        "a look with a lower probability than the first is not trusted": (
            lambda p, first, named, t, sigma: exp(-t / sigma) * p * named
        ),
        "a look that predicts another class is not trusted": (
            lambda p, first, named, t, sigma: exp(-t / sigma) * p * (p >= first)
        ),
        "use the p of this look, not of the first one": (
            lambda p, first, named, t, sigma: exp(-t / sigma) * first * named * (p >= first)
        ),
        "p itself is a factor of the trust, not only the conditions": (
            lambda p, first, named, t, sigma: exp(-t / sigma) * named * (p >= first)
        ),
    },
)
def trust_of_a_look(p: Tensor, first: Tensor, named: Tensor, t: int, sigma: float) -> Tensor:
    """Return (12.1), (p (B,), p_first (B,), named bool (B,), t, sigma) -> (B,)."""
    target = torch.zeros(len(p), dtype=torch.int64)
    at_first = F.cross_entropy(answers(first, named), target, reduction="none")
    return regions.trust(answers(p, named), target, at_first, t, sigma)


@asked
def trust_of_a_step(r: Random) -> Question:
    t, p = r.randint(1, 4), some(r, 0.5, 0.95)
    return trust_of_a_look.question(
        f"In step t = {t} of the erasing with sigma = 10 the localiser is right and surer than at "
        f"first: it answers {p[0]:g} for the true class. What is the trust?",
        *(double(p), double(p) - 0.1, torch.tensor([True]), t, 10.0),
        number=0,
        without="look|>=",
        more={"the decay is exp(-t / sigma), not exp(-t)": exp(-t) * p[0]},
        solution=f"All conditions hold, so the trust is $e^{{-t/\\sigma}} \\hat p = "
        f"e^{{-{t}/10}} \\cdot {p[0]:g}$.",
    )


def _masks() -> list[tuple[Tensor, Tensor]]:
    """Return three pairs of masks: alike, a blind one, and the opposite."""
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(500, 500, generator=generator) < 0.4
    predicted = true ^ (torch.rand(500, 500, generator=generator) < 0.2)
    return [(predicted, true), (torch.ones_like(true), true), (~true, true)]


def of_confusion(formula: Callable, dtype: torch.dtype = torch.float64) -> Callable:
    """Return a function of two masks that applies a formula to TP, FP, FN and TN."""
    return lambda p, t: formula(*metrics.confusion([p], [t])[0].to(dtype))


def ratio(tp: Tensor, fp: Tensor, fn: Tensor, tn: Tensor) -> Tensor:
    """Return Matthews' correlation, 0/0 for a blind mask."""
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / product.sqrt()


@exercise(
    praise="0 for a blind mask, -1 for the opposite",
    cases=_masks(),
    mistakes={
        "the product of four counts does not fit into 64 bits: count in floats": (
            of_confusion(ratio, torch.int64)
        ),
        "a blind mask is 0/0: return 0 there": of_confusion(ratio),
        "this is the share of right pixels": lambda p, t: (p == t).double().mean(),
        "this is the Dice index, which ignores true negatives": (
            of_confusion(lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn))
        ),
        "this is Jaccard's index, intersection over union": (
            of_confusion(lambda tp, fp, fn, tn: tp / (tp + fp + fn))
        ),
    },
)
def matthews(predicted: Tensor, true: Tensor) -> float:
    """Return Matthews' correlation of bool masks (H, W), 0 where it is 0/0 -> scalar."""
    return metrics.mask_scores([predicted], [true])["mcc"] / 100


@asked
def look_that_is_trusted(r: Random) -> Question:
    low, high = some(r, 0.55, 0.75), some(r, 0.8, 0.95)
    unsure = some(r, 0.3, 0.44, 2)
    looks = [
        (low[0], high[0], True, ""),
        (high[0], low[0], True, "it is less sure than the first look"),
        (min(unsure), max(unsure), False, "another class has a larger probability"),
        (high[0], min(unsure), False, "it is less sure, and another class has more"),
    ]

    def option(first: float, now: float, named: bool, hint: str) -> tuple[str, bool, str]:
        case = (double([now]), double([first]), torch.tensor([named]), 1, 10.0)
        rank = "largest of all classes" if named else "another class has more"
        text = f"at first {first:g} for the true class; now {now:g}, {rank}"
        return text, trust_of_a_look.right(*case).item() > 0, hint

    return choice(
        r,
        "A localiser looks at an image again after a part of it has been erased. Of which of "
        "these second looks is the trust above zero?",
        *(option(*look) for look in looks),
        solution="A look is trusted if the true class has the largest probability and the look is "
        "at least as sure of it as the first one.",
    )


@asked
def scores_of_blind_masks(r: Random) -> Question:
    (f,) = some(r, 0.1, 0.9)
    tp, fp, fn, tn = counted = r.sample(range(5, 60), 4)
    predicted, true = (
        torch.tensor([x for x, n in zip(marks, counted, strict=True) for _ in range(n)])[None]
        for marks in ([True, True, False, False], [True, False, True, False])
    )
    ones, _, _, zeros = blind_dice.right(f)
    mcc = float(matthews.right(predicted, true))
    return exam(
        f"The region of interest covers {100 * f:g} % of an image.",
        Question(
            "What is the Dice score $F_1^+$ of the mask that is one everywhere, between 0 and 1?",
            ones,
            {
                "this is the share of right pixels": f,
                "this is the background's score for an empty mask": zeros,
                "twice the overlap belongs above": ones / 2,
            },
            solution=f"$2 f / (1 + f) = {ones:.4g}$.",
        ),
        Question(
            "What is the Dice score $F_1^-$ of the background for the mask that is zero "
            "everywhere, between 0 and 1?",
            zeros,
            {
                "this is the share of right pixels": 1 - f,
                "the background covers 1 - f": ones,
                "twice the overlap belongs above": zeros / 2,
            },
            solution=f"$2 (1 - f) / (2 - f) = {zeros:.4g}$.",
        ),
        Question(
            f"Another mask has {tp} true positive pixels, {fp} false positive, {fn} false negative "
            f"and {tn} true negative ones. What is Matthews' correlation, between -1 and 1?",
            mcc,
            {
                "this is the share of right pixels": (tp + tn) / sum(counted),
                "this is the Dice score; it does not see the true negatives": (
                    2 * tp / (2 * tp + fp + fn)
                ),
                "the sign says which product is larger": -mcc,
            },
            solution=f"$({tp} \\cdot {tn} - {fp} \\cdot {fn}) / \\sqrt{{{tp + fp} \\cdot {tp + fn} "
            f"\\cdot {tn + fp} \\cdot {tn + fn}}} = {mcc:.4g}$.",
        ),
        essay(
            "A paper reports $F_1^+$ alone. Explain in two sentences what is missing.",
            "the score of a mask that looks at nothing: All-ones already has 2 f / (1 + f)",
            "a score that sees the complement, F1- or Matthews' correlation, which is 0 for it",
            solution="A large region gives a blind mask a high $F_1^+$, so the row All-ones is "
            "needed beside the method's. $F_1^+$ does not see true negatives: $F_1^-$ or Matthews' "
            "correlation shows whether the background is found.",
        ),
    )
