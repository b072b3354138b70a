"""Compute the papers' measures, and others of the same tasks. Rates are in per cent.

Scores, distances and boxes may have any real dtype, and are compared in float64 (boxes stay in
float32 where they are): a dtype of few digits or without a sign changes no answer. A threshold is
rounded as the values are, so that an IoU of 7/10 reaches 0.7 in float32 too. Labels are whole
numbers, masks are bool. A rate is NaN where a number that it depends on is NaN; what cannot give
NaN (a sequence, a mask, a curve) raises ValueError instead.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import index

import numpy as np
import torch
from torch import Tensor

from wsl_tutorial._shapes import check_int, check_number


def error_rate(scores: torch.Tensor, target: torch.Tensor) -> float:
    """Return the share of rows whose largest score is not the target's, in %.

    scores (B, C), any real dtype, -inf for a class that is ruled out; target (B,), whole numbers.
    NaN where a score is NaN, or a row has no finite maximum. Raises `ValueError` for other shapes
    or dtypes, a target that is none of the classes, or an empty batch.
    """
    _check_kind("scores", scores)
    _check_kind("target", target)
    if scores.ndim != 2 or target.shape != scores.shape[:1] or not scores.numel():
        shapes = f"{tuple(scores.shape)} and {tuple(target.shape)}"
        raise ValueError(f"scores, target: got shapes {shapes}, expected (B, C) and (B,), B > 0")
    if not bool(((target >= 0) & (target < scores.shape[1])).all()):
        low, high = int(target.min()), int(target.max())
        raise ValueError(f"target: got {low} .. {high}, expected 0 .. {scores.shape[1] - 1}")
    best, winner = scores.double().max(1)
    return 100 * (winner != target).double().mean().item() if best.isfinite().all() else math.nan


def transcribe(scores: torch.Tensor) -> list[list[int]]:
    """Eq. (4.2): the digit sequence of every image, its label map read from left to right.

    scores (B, C+1, M, N), any increasing function of the class probabilities, background last.
    Each position votes for its largest score; a column shows the digit with most votes (the
    smallest of equals), or a blank where all vote background; runs of one digit count once, and a
    blank ends a run. So neighbouring equal digits merge without a blank column between them, and
    digits above one another compete for their columns.
    Raises `ValueError` for another shape, a NaN, or a position without a finite maximum: such
    scores have no winner. Source: Li (2018), section 5.3 and test program.
    """
    _check_kind("scores", scores)
    if scores.ndim != 4 or scores.shape[1] < 2 or 0 in scores.shape[2:]:
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected (B, C+1, M, N)")
    best, winners = scores.double().max(1)  # (B, M, N)
    if not best.isfinite().all():
        raise ValueError("scores: got a position without a finite maximum, or a NaN")
    digits = range(scores.shape[1] - 1)
    votes = torch.stack([(winners == d).sum(1) for d in digits], -1)  # (B, N, C)
    columns = votes.argmax(-1).masked_fill(votes.amax(-1) == 0, -1)  # (B, N)
    before = torch.nn.functional.pad(columns, (1, 0), value=-1)[:, :-1]
    kept = (columns >= 0) & (columns != before)
    return [c[k].tolist() for c, k in zip(columns.cpu(), kept.cpu(), strict=True)]


def sequence_error(predicted: list[list[int]], true: list[list[int]]) -> float:
    """Return the share of sequences that differ from the truth in digits, order or length, in %.

    Raises `ValueError` if the numbers of sequences differ or are 0, and for an entry that is not a
    digit.
    """
    if len(predicted) != len(true) or not len(true):
        raise ValueError(f"predicted, true: got {len(predicted)} and {len(true)} sequences")
    pairs = zip(_digits("predicted", predicted), _digits("true", true), strict=True)
    return 100 * sum(p != t for p, t in pairs) / len(true)


def _digits(name: str, sequences: list[list[int]]) -> list[list[int]]:
    try:
        return [[index(d) for d in sequence] for sequence in sequences]
    except TypeError as error:
        raise ValueError(f"{name}: expected lists of whole numbers, {error}") from None


def coverage(predicted: list[list[int]]) -> float:
    """Return the share of images in which at least one digit was detected, in %.

    Raises `ValueError` without any sequence.
    """
    if not len(predicted):
        raise ValueError("predicted: got no sequences")
    return 100 * sum(len(p) > 0 for p in predicted) / len(predicted)


# Boxes: (left, top, right, bottom) in pixels, padded along the second axis ------------------------


def boxes(places: Tensor) -> Tensor:
    """Return places (..., 3), centre x, y and side, as boxes (..., 4): left, top, right, bottom.

    float32 stays so, all else becomes float64. Raises ValueError for another shape.
    """
    places = _wide("places", places)
    if not places.ndim or places.shape[-1] != 3:
        raise ValueError(f"places: got shape {tuple(places.shape)}, expected (..., 3)")
    centre, half = places[..., :2], places[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of every two boxes of an image: (B, K, 4), (B, L, 4) -> (B, K, L).

    Boxes without area overlap nothing. float32 stays so, all else is computed in float64; NaN for
    a box of NaN. Raises ValueError for other shapes.
    """
    a, b = _wide("a", a), _wide("b", b)
    if a.ndim != 3 or b.ndim != 3 or a.shape[::2] != (len(b), 4) or b.shape[2] != 4:
        raise ValueError(
            f"a, b: got shapes {tuple(a.shape)} and {tuple(b.shape)}, "
            "expected (B, K, 4) and (B, L, 4)"
        )
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b)]
    union = area[0][:, :, None] + area[1][:, None] - shared
    return torch.where(union == 0, 0, shared / union)


_BOOL, _WHOLE = ("present", "hits", "predicted", "true"), ("guess", "truth", "target")


def _check_kind(name: str, x: Tensor) -> None:
    """Raise ValueError unless x is a tensor of a dtype that an argument of this name may have."""
    real = isinstance(x, Tensor) and not x.is_complex()
    fits = real and not (name in _BOOL and x.dtype != torch.bool)
    if not fits or (name in _WHOLE and x.is_floating_point()):
        expected = "bool" if name in _BOOL else f"{'whole' * (name in _WHOLE) or 'real'} numbers"
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: got {got}, expected {expected}, as a tensor")


def _wide(name: str, x: Tensor) -> Tensor:
    """Return x in float32 or float64: whole numbers would wrap, float16 overflows an area."""
    _check_kind(name, x)
    return x if x.dtype == torch.float32 else x.double()


def _check(there: Callable[[], Tensor] | None, **given: tuple[Tensor, str]) -> None:
    """Raise ValueError for wrong dtypes, if the sizes of one letter differ, or without any object.

    given: each argument with its axes, such as "BKL"; the last one marks the true objects.
    """
    for name, (x, _) in given.items():
        _check_kind(name, x)
    sizes = {pair for x, axes in given.values() for pair in zip(axes, x.shape, strict=False)}
    fits = all(x.ndim == len(axes) for x, axes in given.values())
    if not fits or len(sizes) > len({axis for axis, _ in sizes}):
        got = " and ".join(str(tuple(x.shape)) for x, _ in given.values())
        expected = " and ".join(str(tuple(axes)).replace("'", "") for _, axes in given.values())
        raise ValueError(f"{', '.join(given)}: got shapes {got}, expected {expected}")
    if there is not None and not there().any():
        raise ValueError(f"{list(given)[-1]}: got no true object")


def _percent(part: Tensor, present: Tensor) -> float:
    return 100 * (part & present).sum().item() / present.sum().item()


def _unknown(values: Tensor, present: Tensor, threshold: float = 0.0) -> bool:
    """Return whether a value (B, K, L) of true objects (B, L), or the threshold, is undefined."""
    return math.isnan(threshold) or bool((~(values < torch.inf) & present[:, None]).any())


def _rounded(threshold: float, values: Tensor) -> float:
    """Return the threshold as the dtype of the values rounds it."""
    dtype = values.dtype if values.is_floating_point() else torch.float64
    return torch.tensor(threshold, dtype=dtype).item()


def _of_guesses(iou: Tensor, guess: Tensor) -> Tensor:
    """Return the IoU (B, K, L), 0 where a detection is padding."""
    return iou.masked_fill((guess < 0)[..., None], 0)


def detected(iou: Tensor, present: Tensor, threshold: float = 0.5) -> float:
    """Return the share of true boxes with which any detection has an IoU above the threshold, in %.

    iou (B, K, L), present bool (B, L): false for padding. One detection may serve several boxes.
    NaN where an IoU of a true box is NaN. Raises ValueError for other shapes or dtypes, or without
    any true box.
    Source: the program released with Angles, Jin et al. (2021); their "IOU 50%".
    """
    _check(lambda: present, iou=(iou, "BKL"), present=(present, "BL"))
    if _unknown(iou, present, threshold):
        return math.nan
    return _percent((iou > threshold).any(1), present)


def matched(iou: Tensor, present: Tensor, threshold: float = 0.5) -> float:
    """Return the share of true boxes in the largest one-to-one matching above the threshold, in %.

    As `detected`, but a detection serves one box. The largest matching (Hungarian algorithm) needs
    no scores, so it is fair to methods whose detections have none.
    """
    from scipy.optimize import linear_sum_assignment

    _check(lambda: present, iou=(iou, "BKL"), present=(present, "BL"))
    if _unknown(iou, present, threshold):
        return math.nan
    able = (iou > threshold) & present[:, None]
    found = 0
    for image in able.cpu().numpy():
        rows, columns = linear_sum_assignment(image, maximize=True)
        found += int(image[rows, columns].sum())
    return 100 * found / present.sum().item()


def detected_and_classified(
    iou: Tensor, guess: Tensor, truth: Tensor, threshold: float = 0.5
) -> float:
    """Return the share of true boxes that get a detection of their class, one to one, in %.

    iou (B, K, L), guess (B, K), truth (B, L), padded with -1. True boxes choose in their order:
    each takes the free detection of its class with the largest IoU, which must reach the
    threshold. Raises ValueError as `detected`.
    Source: the program released with Angles, Jin et al. (2021); their "Both".
    """
    _check(lambda: truth >= 0, iou=(iou, "BKL"), guess=(guess, "BK"), truth=(truth, "BL"))
    iou = _of_guesses(iou, guess)
    if _unknown(iou, truth >= 0, threshold):
        return math.nan
    return _percent(_hits(iou, guess, truth, threshold), truth >= 0)


def precision_recall_f1(inside: Tensor, guess: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Return precision, recall and F1, in %, of detections that may be background.

    inside bool (B, K, L): whether the detection's centre lies in the true box; guess (B, K), 0 for
    background; truth (B, L), padded with -1. A detection is right for one box of its class, chosen
    as in `detected_and_classified`. Without detections precision is 0, and so is F1 without hits.
    Raises ValueError as `detected`.
    Source: the program released with Angles, Jin et al. (2021), PASCAL+COCO.
    """
    _check(lambda: truth > 0, inside=(inside, "BKL"), guess=(guess, "BK"), truth=(truth, "BL"))
    if not bool(((inside == 0) | (inside == 1) | ~inside.isfinite()).all()):
        raise ValueError(
            f"inside: got numbers from {inside.min()} to {inside.max()}, expected bool; compare "
            "the distance with the size of the box"
        )
    truth = truth.long()
    hits = _hits(inside, guess, truth.masked_fill(truth == 0, -1), 0.5).sum().item()
    hits = math.nan if _unknown(inside, truth > 0) else hits
    found, there = (guess > 0).sum().item(), (truth > 0).sum().item()
    return 100 * hits / max(1, found), 100 * hits / there, 200 * hits / (found + there)


def _hits(iou: Tensor, guess: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """Return which true boxes (B, L) get a detection of their class, one to one."""
    threshold, iou = _rounded(threshold, iou), iou.double()
    free = torch.ones_like(guess, dtype=torch.bool)
    hits = torch.zeros_like(truth, dtype=torch.bool)
    row = torch.arange(len(iou), device=iou.device)
    for k in range(truth.shape[1] if guess.shape[1] else 0):
        able = free & (guess == truth[:, k, None])
        best, index = iou[:, :, k].masked_fill(~able, -1).max(1)
        hits[:, k] = (best >= threshold) & (truth[:, k] >= 0)
        free[row, index] &= ~hits[:, k]
    return hits


def label_recall(guess: Tensor, truth: Tensor, classes: int, leave_out: int | None = None) -> float:
    """Return the share of true labels among the guesses, counted with multiplicity, in %.

    guess (B, K) and truth (B, L) int64, padded with -1; places play no role. Missing labels of
    class `leave_out` do not count: the released program does so with class 0, the background in
    its other data set and the digit 0 here. Raises ValueError as `detected`, and for true labels
    or a `leave_out` that are none of the classes. Source: the program released with Angles, Jin et
    al. (2021); their "Classif."
    """
    _check(lambda: truth >= 0, guess=(guess, "BK"), truth=(truth, "BL"))
    if (largest := int(truth.max())) >= classes:
        raise ValueError(f"truth, classes: got label {largest}, expected less than {classes}")
    if leave_out is not None and not 0 <= leave_out < classes:
        raise ValueError(f"leave_out: got {leave_out}, expected 0 to {classes - 1}, or None")
    given, guessed = (_tally(x, classes) for x in (truth, guess))
    missing = (given - guessed).clamp(min=0)
    if leave_out is not None:
        missing[:, leave_out] = 0
    return 100 * (1 - missing.sum().item() / given.sum().item())


def _tally(x: Tensor, classes: int) -> Tensor:
    """Count each class in every row: (B, K) -> (B, classes); -1 is not a class."""
    return (x[..., None] == torch.arange(classes, device=x.device)).sum(1)


def centre_error(distance: Tensor, present: Tensor) -> float:
    """Return the mean distance of true centres and detections, one to one, as given in `distance`.

    distance (B, K, L), infinite where a detection is left out, present bool (B, L). The pairs of an
    image are those of least total distance; a true centre without a detection does not
    count; without any pair, or where a distance of a true centre is NaN, the mean is NaN. Raises
    ValueError as `detected`, and for a detection infinitely far from some centres only.
    """
    from scipy.optimize import linear_sum_assignment

    _check(lambda: present, distance=(distance, "BKL"), present=(present, "BL"))
    if _unknown(-distance.double(), present):
        return math.nan
    total, pairs = 0.0, 0
    for image, there in zip(distance.detach().double().cpu(), present.cpu(), strict=True):
        d = image[:, there]
        d = d[(d != torch.inf).any(1)].numpy()
        if not np.isfinite(d).all():
            raise ValueError("distance: got a detection that is infinitely far from some centres")
        rows, columns = linear_sum_assignment(d)
        total, pairs = total + d[rows, columns].sum(), pairs + len(rows)
    return float(total / pairs) if pairs else math.nan


def average_precision(scores: Tensor, hits: Tensor, total: int) -> float:
    """Return the area under the precision-recall curve of ranked detections, in % ("all points").

    scores (N,), hits bool (N,): whether the detection is right; total: true objects. Precision is
    made to fall with recall (at each recall the largest to its right); of equal scores the wrong
    ones rank first. NaN where a score is NaN. Raises ValueError for other shapes or dtypes, and for
    a total below 1 or the right ones.
    Source: Everingham et al. (2010), as evaluated since VOC 2010.
    """
    _check(None, scores=(scores, "N"), hits=(hits, "N"))
    if not total >= (least := max(1, int(hits.sum()))):
        raise ValueError(f"total: got {total}, expected {least} or more")
    scores = scores.double()
    if scores.isnan().any():
        return math.nan
    order = torch.argsort(hits.int(), stable=True)  # wrong ones first
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    right = hits[order].double().cumsum(0)
    precision = right / torch.arange(1, len(right) + 1, device=right.device)
    best = precision.flip(0).cummax(0).values.flip(0)
    return 100 * (best * hits[order]).sum().item() / total


def mean_average_precision(
    iou: Tensor, guess: Tensor, scores: Tensor, truth: Tensor, threshold: float = 0.5
) -> float:
    """Return the mean of the average precisions of the classes that occur, in %.

    iou (B, K, L), guess (B, K), scores (B, K), truth (B, L); -1 pads classes. A detection is right
    where the true box of its class with the largest IoU reaches the threshold and no detection of
    a higher score has taken that box; at threshold 0, where places play no role, the first box of
    the class that is free. Raises ValueError as `detected`.
    Source: Everingham et al. (2010); the papers do not define theirs.
    """
    given = {"iou": (iou, "BKL"), "guess": (guess, "BK"), "scores": (scores, "BK")}
    _check(lambda: truth >= 0, **given, truth=(truth, "BL"))
    threshold = _rounded(threshold, iou)
    iou, scores, guess = _of_guesses(iou.double(), guess), scores.double(), guess.long()
    if _unknown(iou, truth >= 0, threshold) or scores[guess >= 0].isnan().any():
        return math.nan
    scores = scores.masked_fill(guess < 0, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    iou = iou.gather(1, order[..., None].expand_as(iou))
    guess, scores = guess.gather(1, order), scores.gather(1, order)
    free, hits = truth >= 0, torch.zeros_like(guess, dtype=torch.bool)
    row = torch.arange(len(iou), device=iou.device)
    for k in range(guess.shape[1]):
        same = guess[:, k, None] == truth
        rank = iou[:, k] if threshold > 0 else free.to(iou.dtype)
        best, index = rank.masked_fill(~same, -1).max(1)
        hits[:, k] = (best >= threshold) & (guess[:, k] >= 0) & free[row, index]
        free[row, index] &= ~hits[:, k]
    found = [
        average_precision(scores[guess == c], hits[guess == c], int((truth == c).sum()))
        for c in truth[truth >= 0].unique().tolist()
    ]
    return sum(found) / len(found)


# Scores at chance level ---------------------------------------------------------------------------


def label_recall_by_chance(classes: int, true: int, guessed: int) -> float:
    """Eq. (10.1): the expected `label_recall` of guesses independent of the image, in %.

    All labels, `true` observed and `guessed` predicted ones, are independent and uniform over the
    classes. For each class, the smaller of two binomial counts is right. Raises `ValueError` unless
    all numbers are whole and at least 1.
    """
    from scipy.special import bdtrc

    for name, x in (("classes", classes), ("true", true), ("guessed", guessed)):
        check_int(name, x, 1)
    below = np.arange(min(true, guessed))  # at least 1, 2, ...: more than 0, 1, ...
    both = bdtrc(below, true, 1 / classes) * bdtrc(below, guessed, 1 / classes)
    return float(100 * classes / true * both.sum())


def found_by_chance(k: int, side: float, room: float, threshold: float = 0.5) -> float:
    """Eq. (10.2): an upper bound of the share of true boxes that k fixed boxes find, in %.

    All boxes, true and fixed, are squares of one side, and the true centres uniform in a square of
    side `room`, in one unit. A true box is found where its IoU with any fixed box exceeds the
    threshold. The bound is attained where the k regions in which the fixed boxes find, diamonds
    around their centres, do not overlap and lie inside; fixed boxes of another size may find more
    (of 1.12 sides, 6.8 % more at a threshold of 1/2). Raises `ValueError` for a k below 1, lengths
    that are not positive and finite, and thresholds outside (0, 1).
    """
    check_int("k", k, 1)
    if not (0 < side < math.inf and 0 < room < math.inf and 0 < threshold < 1):
        raise ValueError(
            f"side, room, threshold: got {side}, {room}, {threshold}, "
            "expected positive numbers and a threshold in (0, 1)"
        )
    d = (1 - threshold) / (1 + threshold)  # how far a box may be off along one axis, in sides
    if d > 0.01:
        area = d + (1 - d) * math.log1p(-d)
    else:  # the same as a series, where the two terms would cancel
        area = sum(d**i / (i * (i - 1)) for i in range(2, 9))
    return min(100.0, 100 * k * 4 * area * (side / room) ** 2)


def precision_bounds(recall: float, true: float, guessed: float) -> tuple[float, float]:
    """Eq. (10.3): the smallest and the largest average precision that a recall allows, in %.

    recall: share of `true` objects an image, in the mean, that its `guessed` detections find, in %.
    Scores only move the average precision between the bounds; so they do for the mean over classes
    that occur equally often. It is the area of `average_precision`, of all points: for AP at eleven
    recalls, or without interpolation, the lower bound is another. Raises `ValueError` for a recall
    that so many detections cannot have, and for numbers that are not positive and finite.
    """
    if not (0 < true < math.inf and 0 < guessed < math.inf):
        raise ValueError(f"true, guessed: got {true}, {guessed}, expected positive numbers")
    if not 0 <= recall <= 100 * min(1, guessed / true) + 1e-9:
        raise ValueError(
            f"recall: got {recall} % with {guessed} detections of {true} objects, "
            "expected 0 to what as many detections can find"
        )
    return recall**2 / 100 * true / guessed, recall


# Values that a printed number allows --------------------------------------------------------------


def counts_behind(rate: float, n: int, decimals: int = 2, cut: bool = True) -> list[int]:
    """Eq. (13.1): the numbers k of n images whose share, in %, is printed as `rate`.

    cut: the decimals that are not printed were cut off; else the share was rounded, halves up.
    Raises `ValueError` for a rate outside [0, 100] or of more decimals, n below 1 or decimals below
    0.
    """
    check_int("n", n, 1)
    check_int("decimals", decimals)
    check_number("rate", rate, least=0, most=100)
    unit = 10**decimals
    units = round(rate * unit)
    if not math.isclose(rate * unit, units, rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(f"rate: got {rate}, expected a rate of {decimals} decimals")

    def printed(k: int) -> int:
        return 100 * unit * k // n if cut else (200 * unit * k + n) // (2 * n)

    first = max(0, units * n // (100 * unit) - 1)
    last = min(n, (units + 1) * n // (100 * unit) + 1)
    return [k for k in range(first, last + 1) if printed(k) == units]


def wilson_interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Eq. (13.2): the error rates, in %, that k errors on n images do not refute.

    All p for which k/n is no more than z standard deviations of a binomial share from p. For 1.96
    it covers p in 95 % of all samples in the mean over p, and in fewer, down to 84 %, at some p
    near 0 and 1. Raises `ValueError` for k outside 0 .. n, or a z that is not positive and finite.
    Source: Wilson (1927).
    """
    check_int("n", n, 1)
    check_int("k", k)
    if not (k <= n and 0 < z < math.inf):
        raise ValueError(f"k, n, z: got {k}, {n}, {z}, expected k <= n and a positive z")
    share, w = k / n, z * z / n
    reach = math.sqrt(w * share * (1 - share) + w * w / 4)
    low = share**2 / (share + w / 2 + reach)  # the product of the ends is share**2 / (1 + w)
    return 100 * low, 100 * min(1.0, (share + w / 2 + reach) / (1 + w))


def all_zeros_bounds(all_ones: float) -> tuple[float, float]:
    """Eq. (13.3): what the F1- of All-zeros can be where All-ones has this F1+, both means, in %.

    The upper one is attained where all regions cover the same share, the lower one where each image
    is all region or has none. Raises `ValueError` for a rate outside [0, 100].
    """
    check_number("all_ones", all_ones, least=0, most=100)
    rest = 100 - all_ones
    return rest, 400 * rest / (100 + 3 * rest)


def area_for_f1(f1: float, steps: bool = False) -> float:
    """Eq. (13.4): the largest area under a precision-recall curve without a cut above f1, in %.

    Attained by the curve of straight lines from precision 1 at recall 0 over (r, 1) to (1, r), with
    r = f1 / (2 - f1): `precision_recall` draws such lines between its cuts, and two cuts suffice.
    With `steps` the curve has at each recall the precision of a cut of at least this recall, as in
    `average_precision` and `pxap`: there the bound is less, and takes ever more cuts to attain.

    f1: the F1 score of the best cut, in %. Raises `ValueError` for an f1 outside (0, 100].
    """
    if not 0 < f1 <= 100:
        raise ValueError(f"f1: got {f1}, expected a score in (0, 100]")
    f = f1 / 100
    r = f / (2 - f)
    return 100 * (f + f * f / 2 * math.log1p(2 * (1 - f) / f) if steps else 0.5 + r - r * r / 2)


# Masks -----------------------------------------------------------------------------------------
# Masks and score maps come as a tensor (N, H, W), or as N tensors (H, W) of any sizes; true is the
# region of interest. A score is greater where a pixel is thought to be inside.


def confusion(predicted: Sequence[Tensor], true: Sequence[Tensor]) -> Tensor:
    """Count the pixels of every mask: true positive, false positive, false negative, true negative.

    predicted, true: bool masks. Returns int64 (N, 4). Raises `ValueError` where they are not bool,
    not equally many or not of equal shapes, or none.
    """
    _check_pairs("predicted", predicted, true)
    pairs = zip(predicted, true, strict=True)
    rows = [torch.stack([(a & b).sum() for a in (p, ~p) for b in (t, ~t)]) for p, t in pairs]
    return torch.stack(rows)


def mask_scores(
    predicted: Sequence[Tensor], true: Sequence[Tensor], pooled: bool = False
) -> dict[str, float]:
    """Eq. (12.4): scores of binary masks, in %: the mean over images, or of pooled pixels.

    "f1_plus", "f1_minus": Dice index of the region and of its complement (100 where both masks of
    a pair are empty); "mcc": Matthews correlation, 0 for a constant mask, on either side; "area":
    share of pixels predicted. The paper's F1+ and F1- are means over images at the images' own
    sizes. Raises `ValueError` as `confusion`. Source: Belharbi et al. (2020), section 4; Matthews
    (1975), with Chicco & Jurman (2020) for the constant mask.
    """
    counts = confusion(predicted, true).double().cpu()
    tp, fp, fn, tn = (counts.sum(0, keepdim=True) if pooled else counts).T

    def dice(hit: Tensor) -> Tensor:
        return torch.where(2 * hit + fp + fn > 0, 2 * hit / (2 * hit + fp + fn), 1.0)

    sides = (tp + fp).sqrt() * (tp + fn).sqrt() * (tn + fp).sqrt() * (tn + fn).sqrt()
    mcc = torch.where(sides > 0, (tp * tn - fp * fn) / sides, 0.0)
    area = (tp + fp) / (tp + fp + fn + tn)
    rates = {"f1_plus": dice(tp), "f1_minus": dice(tn), "mcc": mcc, "area": area}
    return {name: 100 * rate.mean().item() for name, rate in rates.items()}


def trivial_masks(true: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Return the constant masks "All-ones" and "All-zeros", which any method has to beat.

    For a region that covers a share f, All-ones has F1+ = 2 f / (1 + f), and F1- = 0. Raises
    `ValueError` for masks that are not bool.
    """
    for t in true:
        _check_kind("true", t)
    return {
        "All-ones": [torch.ones_like(t) for t in true],
        "All-zeros": [torch.zeros_like(t) for t in true],
    }


def precision_recall(
    scores: Sequence[Tensor], true: Sequence[Tensor], step: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """Return the average precision-recall curve: recalls 0, step, .. 1, the mean precision at each.

    step: above 0, at most 1, and rounded so that 1 / step is whole.
    Each image's curve, from precision 1 at recall 0 to where recall 1 is reached, is interpolated
    linearly between its thresholds. Where several thresholds have one recall, the curve reaches it
    at the largest of their precisions and drops to the lowest, which is the value at this recall
    itself: 0 at recall 0 if the largest score is of a wrong pixel. The lines flatter a curve of few
    points (Davis & Goadrich 2006): a constant score, without any information, has the area
    (1 + f) / 2 at a region of share f, more than `pxap` gives it. Then comes the mean over
    images. For the background give negative scores (of a dtype with a sign) and complements. Raises
    `ValueError` as `confusion`, for a mask without any true pixel, and for scores that are not
    finite. Source: Belharbi et al. (2020), Fig. 6.
    """
    _check_pairs("scores", scores, true)
    grid = np.linspace(0, 1, _steps(step) + 1)
    curves = []
    for s, t in zip(scores, true, strict=True):
        if not t.any() or not s.isfinite().all():
            raise ValueError("scores, true: expected finite scores and a true pixel in each image")
        values, truth = s.detach().flatten().double().cpu().numpy(), t.flatten().cpu().numpy()
        order = np.argsort(-values)
        taken = np.r_[np.flatnonzero(np.diff(values[order])), values.size - 1]  # last of equal ones
        hits = truth[order].cumsum()[taken]
        hits, taken = (x[: np.searchsorted(hits, hits[-1]) + 1] for x in (hits, taken))
        curves.append(np.interp(grid, np.r_[0, hits / hits[-1]], np.r_[1, hits / (taken + 1)]))
    return torch.from_numpy(grid), torch.from_numpy(np.mean(curves, 0))


def area_under(recall: Tensor, precision: Tensor) -> float:
    """Return the area under a curve by the trapezoid rule, in %. Source: as `precision_recall`.

    recall, precision (N,), N of at least 2. Raises `ValueError` for other shapes.
    """
    _check(None, recall=(recall, "N"), precision=(precision, "N"))
    if len(recall) < 2:
        raise ValueError(f"recall: got {len(recall)} points, expected 2 or more")
    return 100 * torch.trapezoid(precision.double(), recall.double()).item()


def _steps(step: float) -> int:
    if not 0 < step <= 1:
        raise ValueError(f"step: got {step}, expected a number above 0, at most 1")
    return round(1 / step)


def pxap(scores: Sequence[Tensor], true: Sequence[Tensor], step: float = 1e-3) -> float:
    """Return PxAP, the average precision over the pixels of all images together, in %.

    The sum over thresholds 0, step, .. 1 of precision times the growth of recall; a score reaches a
    threshold that it equals but for rounding in float32. Scores are in [0, 1]; normalise each
    image's on its own. Raises `ValueError` as `confusion`, for scores outside [0, 1], and where no
    pixel is true. Source: Choe et al. (2020), section 4.1.
    """
    _check_pairs("scores", scores, true)
    last = _steps(step)
    hits, pixels = torch.zeros(2, last + 1, dtype=torch.float64)
    grid = torch.arange(last + 2, dtype=torch.float64) / last
    grid[-1] = torch.inf  # score 1 has a bin of its own
    for s, t in zip(scores, true, strict=True):
        if not bool(((s >= 0) & (s <= 1)).all()):
            raise ValueError(f"scores: got {s.min()} .. {s.max()}, expected [0, 1]")
        values = s.flatten().cpu().double()
        bins = (values * last).long()  # one too low where the product or the score was rounded down
        bins += values >= grid[bins + 1] * (1 - torch.finfo(torch.float32).eps)
        pixels += bins.bincount(minlength=last + 1)
        hits += bins[t.flatten().cpu()].bincount(minlength=last + 1)
    hits, pixels = hits.flip(0).cumsum(0), pixels.flip(0).cumsum(0)  # above falling thresholds
    if not hits[-1] > 0:
        raise ValueError("true: got no true pixel in any image")
    growth = torch.diff(hits, prepend=hits.new_zeros(1)) / hits[-1]
    return 100 * (hits / pixels.clamp_min(1) * growth).sum().item()


def max_box_accuracy(
    scores: Sequence[Tensor], boxes: Sequence[Tensor], overlap: float = 0.5
) -> float:
    """Return MaxBoxAcc: the share of images whose box is right, at the best threshold, in %.

    At each of 255 thresholds, the box around the largest connected part (8 neighbours, by pixels)
    above it is right if its intersection over union with one of the image's true boxes reaches
    `overlap`. scores: maps in [0, 1], cut to 8 bits as the authors do; boxes: for each image
    (k, 4) with k of at least 1, left, top, right, bottom in pixels. Raises `ValueError` for other
    scores or boxes, not equally many of both, or an overlap outside (0, 1].
    Source: Choe et al. (2020), section 4.1.
    """
    if len(scores) != len(boxes) or not len(boxes):
        raise ValueError(f"scores, boxes: got {len(scores)} and {len(boxes)} images")
    if not 0 < overlap <= 1:
        raise ValueError(f"overlap: got {overlap}, expected a number above 0, at most 1")
    right = np.zeros(255)
    for i, (s, true) in enumerate(zip(scores, boxes, strict=True)):
        s, true = _wide("scores", s), _wide("boxes", true)
        fits = s.ndim == 2 and s.numel() and bool(((s >= 0) & (s <= 1)).all())
        if not fits or true.ndim != 2 or true.shape[1] != 4 or not true.isfinite().all():
            raise ValueError("scores, boxes: expected maps (H, W) in [0, 1] and boxes (k, 4)")
        if bool((true[:, 2:] < true[:, :2]).any()):
            raise ValueError(
                f"boxes: got right < left or bottom < top in image {i}, expected left, top, "
                "right, bottom"
            )
        if not len(true):
            raise ValueError(f"boxes: got no true box of image {i}, expected one or more")
        levels = (s.cpu() * 255).byte().numpy()
        values = np.unique(np.r_[0, levels.ravel()]).astype(int)
        for low, high in pairwise(values):  # thresholds from low to high - 1 cut alike
            found = _largest_part(levels > low)
            iou = box_iou(found[None, None], true.double().cpu()[None])
            right[low:high] += iou.max().item() >= overlap
    return 100 * right.max() / len(boxes)


def _largest_part(mask: np.ndarray) -> Tensor:
    """Return left, top, right, bottom of the box around the largest connected part."""
    from scipy import ndimage

    parts: np.ndarray = ndimage.label(mask, np.ones((3, 3)))[0]  # pyright: ignore
    largest = np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(parts)[largest]
    return torch.tensor([columns.start, rows.start, columns.stop, rows.stop]).double()


def _check_pairs(name: str, first: Sequence[Tensor], true: Sequence[Tensor]) -> None:
    if len(first) != len(true) or not len(true):
        raise ValueError(f"{name}, true: got {len(first)} and {len(true)} images")
    for a, t in zip(first, true, strict=True):
        _check_kind(name, a)
        _check_kind("true", t)
        if a.shape != t.shape or a.ndim != 2 or not a.numel():
            raise ValueError(
                f"{name}, true: got shapes {tuple(a.shape)} and {tuple(t.shape)}, "
                "expected equal (H, W) with a pixel"
            )
