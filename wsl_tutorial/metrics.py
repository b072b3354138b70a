"""What the papers measure. Rates are in per cent."""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def error_rate(scores: torch.Tensor, target: torch.Tensor) -> float:
    """Share of rows whose greatest score is not the target's, in %.

    scores (B, C), target (B,) int64. Raises `ValueError` for other shapes or an empty batch.
    """
    if scores.ndim != 2 or target.shape != scores.shape[:1] or not len(target):
        shapes = f"{tuple(scores.shape)} and {tuple(target.shape)}"
        raise ValueError(f"scores, target: got shapes {shapes}, expected (B, C) and (B,), B > 0")
    return 100 * (scores.argmax(1) != target).double().mean().item()


def transcribe(scores: torch.Tensor) -> list[list[int]]:
    """Eq. (4.2): the digit sequence of every image, its label map read from left to right.

    scores (B, C+1, M, N), any increasing function of the class probabilities, background last.
    Each position votes for its greatest score; a column shows the digit with most votes (the
    smallest of equals), or a blank where all vote background; runs of one digit count once, and a
    blank ends a run. So neighbouring equal digits merge without a blank column between them, and
    digits above one another compete for their columns.
    Raises `ValueError` for another shape. Source: Li (2018), section 5.3 and test program.
    """
    if scores.ndim != 4 or scores.shape[1] < 2:
        raise ValueError(f"scores: got shape {tuple(scores.shape)}, expected (B, C+1, M, N)")
    winners = scores.argmax(1)  # (B, M, N)
    digits = range(scores.shape[1] - 1)
    votes = torch.stack([(winners == d).sum(1) for d in digits], -1)  # (B, N, C)
    columns = votes.argmax(-1).masked_fill(votes.amax(-1) == 0, -1)  # (B, N)
    before = torch.nn.functional.pad(columns, (1, 0), value=-1)[:, :-1]
    kept = (columns >= 0) & (columns != before)
    return [c[k].tolist() for c, k in zip(columns.cpu(), kept.cpu(), strict=True)]


def sequence_error(predicted: list[list[int]], true: list[list[int]]) -> float:
    """Share of sequences that differ from the truth in any digit, order or length, in %.

    Raises `ValueError` where there are not equally many of both, or none.
    """
    if len(predicted) != len(true) or not true:
        raise ValueError(f"predicted, true: got {len(predicted)} and {len(true)} sequences")
    wrong = sum(list(p) != list(t) for p, t in zip(predicted, true, strict=True))
    return 100 * wrong / len(true)


def coverage(predicted: list[list[int]]) -> float:
    """Share of images in which at least one digit was detected, in %.

    Raises `ValueError` without any sequence.
    """
    if not predicted:
        raise ValueError("predicted: got no sequences")
    return 100 * sum(len(p) > 0 for p in predicted) / len(predicted)


# Boxes: (left, top, right, bottom) in pixels, padded along the second axis ------------------------


def boxes(places: Tensor) -> Tensor:
    """Places (..., 3), centre x, y and side, as boxes (..., 4): left, top, right, bottom."""
    centre, half = places[..., :2], places[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of every two boxes of an image: (B, K, 4), (B, L, 4) -> (B, K, L).

    Boxes without area overlap nothing. Raises ValueError for other shapes.
    """
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
    return torch.where(union > 0, shared / union, 0)


def _check(there: Tensor | bool, **given: tuple[Tensor, str]) -> None:
    """Raises ValueError where one letter of the axes has several sizes, or nothing is there.

    given: each argument with its axes, such as "BKL"; the last one tells which objects are true.
    """
    sizes = {pair for x, axes in given.values() for pair in zip(axes, x.shape, strict=False)}
    fits = all(x.ndim == len(axes) for x, axes in given.values())
    if not fits or len(sizes) > len({axis for axis, _ in sizes}):
        got = " and ".join(str(tuple(x.shape)) for x, _ in given.values())
        expected = " and ".join(str(tuple(axes)).replace("'", "") for _, axes in given.values())
        raise ValueError(f"{', '.join(given)}: got shapes {got}, expected {expected}")
    if not there:
        raise ValueError(f"{list(given)[-1]}: got no true object")


def _percent(part: Tensor, present: Tensor) -> float:
    return 100 * (part & present).sum().item() / present.sum().item()


def detected(iou: Tensor, present: Tensor, threshold: float = 0.5) -> float:
    """Share of true boxes of which any detection has an IoU above the threshold, in %.

    iou (B, K, L), present bool (B, L): false for padding. One detection may serve several boxes.
    Raises ValueError for other shapes, or without any true box.
    Source: the program released with Angles, Jin et al. (2021); their "IOU 50%".
    """
    _check(present.any(), iou=(iou, "BKL"), present=(present, "BL"))
    return _percent((iou > threshold).any(1), present)


def matched(iou: Tensor, present: Tensor, threshold: float = 0.5) -> float:
    """Share of true boxes in the greatest one-to-one matching above the threshold, in %.

    As `detected`, but a detection serves one box. The greatest matching (Hungarian algorithm) needs
    no scores, so it is fair to methods whose detections have none.
    """
    _check(present.any(), iou=(iou, "BKL"), present=(present, "BL"))
    able = (iou > threshold) & present[:, None]
    found = 0
    for image in able.cpu().numpy():
        rows, columns = linear_sum_assignment(image, maximize=True)
        found += int(image[rows, columns].sum())
    return 100 * found / present.sum().item()


def detected_and_classified(
    iou: Tensor, guess: Tensor, truth: Tensor, threshold: float = 0.5
) -> float:
    """Share of true boxes that get a detection of their class, one to one, in %.

    iou (B, K, L), guess (B, K), truth (B, L), padded with -1. True boxes choose in their order:
    each takes the free detection of its class with the greatest IoU, which must reach the
    threshold. Raises ValueError as `detected`.
    Source: the program released with Angles, Jin et al. (2021); their "Both".
    """
    _check((truth >= 0).any(), iou=(iou, "BKL"), guess=(guess, "BK"), truth=(truth, "BL"))
    return _percent(_hits(iou, guess, truth, threshold), truth >= 0)


def precision_recall_f1(inside: Tensor, guess: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean F1 of detections that may be background, in %.

    inside bool (B, K, L): whether the detection's centre lies in the true box; guess (B, K), 0 for
    background; truth (B, L), padded with -1. A detection is right for one box of its class, chosen
    as in `detected_and_classified`. Without detections precision is 0, and so is F1 without hits.
    Raises ValueError as `detected`.
    Source: the program released with Angles, Jin et al. (2021), PASCAL+COCO.
    """
    _check((truth > 0).any(), inside=(inside, "BKL"), guess=(guess, "BK"), truth=(truth, "BL"))
    hits = _hits(inside.float(), guess, truth.masked_fill(truth == 0, -1), 0.5).sum().item()
    found, there = (guess > 0).sum().item(), (truth > 0).sum().item()
    return tuple(100 * hits / x for x in (max(1, found), there, (found + there) / 2))


def _hits(iou: Tensor, guess: Tensor, truth: Tensor, threshold: float) -> Tensor:
    """Which true boxes (B, L) get a detection of their class, one to one."""
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
    """Share of the true labels that occur among the guesses, counted with multiplicity, in %.

    guess (B, K) and truth (B, L) int64, padded with -1; places play no role. What is missing of
    the class `leave_out` is not missed: the released program does so with class 0, the background
    in its other data set and the digit 0 here. Raises ValueError as `detected`, and for true labels
    or a `leave_out` that are none of the classes. Source: the program released with Angles, Jin et
    al. (2021); their "Classif."
    """
    _check((truth >= 0).any(), guess=(guess, "BK"), truth=(truth, "BL"))
    if (greatest := int(truth.max())) >= classes:
        raise ValueError(f"truth, classes: got label {greatest}, expected less than {classes}")
    if leave_out is not None and not 0 <= leave_out < classes:
        raise ValueError(f"leave_out: got {leave_out}, expected 0 to {classes - 1}, or None")
    told, guessed = (_tally(x, classes) for x in (truth, guess))
    missing = (told - guessed).clamp(min=0)
    if leave_out is not None:
        missing[:, leave_out] = 0
    return 100 * (1 - missing.sum().item() / told.sum().item())


def _tally(x: Tensor, classes: int) -> Tensor:
    """How often each class occurs in every row: (B, K) -> (B, classes); -1 is no class."""
    return (x[..., None] == torch.arange(classes, device=x.device)).sum(1)


def centre_error(distance: Tensor, present: Tensor) -> float:
    """Mean distance of true centres and detections, one to one, in the unit of `distance`.

    distance (B, K, L), infinite where a detection is left out, present bool (B, L). The pairs of an
    image are those of least total distance; a true centre that no detection is left for does not
    count; without any pair the mean is NaN. Raises ValueError as `detected`.
    """
    _check(present.any(), distance=(distance, "BKL"), present=(present, "BL"))
    total, pairs = 0.0, 0
    for image, there in zip(distance.cpu(), present.cpu(), strict=True):
        d = image[image.isfinite().any(1)][:, there].numpy()
        rows, columns = linear_sum_assignment(d)
        total, pairs = total + d[rows, columns].sum(), pairs + len(rows)
    return float(total / pairs) if pairs else math.nan


def average_precision(scores: Tensor, hits: Tensor, total: int) -> float:
    """Area under the precision-recall curve of ranked detections, in % ("all points").

    scores (N,), hits bool (N,): whether the detection is right; total: true objects. Precision is
    made to fall with recall (at each recall the greatest to its right); of equal scores the wrong
    ones rank first. Raises ValueError for other shapes, and for a total below 1 or the right ones.
    Source: Everingham et al. (2010), as evaluated since VOC 2010.
    """
    _check(True, scores=(scores, "N"), hits=(hits, "N"))
    if total < (least := max(1, int(hits.sum()))):
        raise ValueError(f"total: got {total}, expected {least} or more")
    order = torch.argsort(hits.int(), stable=True)  # wrong ones first
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    right = hits[order].double().cumsum(0)
    precision = right / torch.arange(1, len(right) + 1, device=right.device)
    best = precision.flip(0).cummax(0).values.flip(0)
    return 100 * (best * hits[order]).sum().item() / total


def mean_average_precision(
    iou: Tensor, guess: Tensor, scores: Tensor, truth: Tensor, threshold: float = 0.5
) -> float:
    """The mean over the classes that occur of their average precision, in %.

    iou (B, K, L), guess (B, K), scores (B, K), truth (B, L); -1 pads classes. A detection is right
    where the true box of its class with the greatest IoU reaches the threshold and no detection of
    a higher score has taken that box; at threshold 0, where places play no role, the first box of
    the class that is free. Raises ValueError as `detected`.
    Source: Everingham et al. (2010); the papers do not define theirs.
    """
    given = {"iou": (iou, "BKL"), "guess": (guess, "BK"), "scores": (scores, "BK")}
    _check((truth >= 0).any(), **given, truth=(truth, "BL"))
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


# What knows nothing of the image scores -----------------------------------------------------------


def label_recall_by_chance(classes: int, told: int, guessed: int) -> float:
    """Eq. (10.1): the expected `label_recall` of guesses that know nothing of the image, in %.

    All labels, `told` of an image and `guessed`, are independent and uniform over the classes. What
    is right is the smaller of two binomial counts for each class. Raises `ValueError` for numbers
    below 1.
    """
    if min(classes, told, guessed) < 1:
        raise ValueError(
            f"classes, told, guessed: got {classes}, {told}, {guessed}, expected 1 or more"
        )
    pairs = zip(_reach(classes, told), _reach(classes, guessed), strict=False)
    return 100 * classes / told * sum(a * b for a, b in pairs)


def _reach(classes: int, n: int) -> list[float]:
    """The probability that a class occurs at least 1, 2, ..., n times among n labels."""
    p = 1 / classes
    exactly = [math.comb(n, t) * p**t * (1 - p) ** (n - t) for t in range(n + 1)]
    return [sum(exactly[t:]) for t in range(1, n + 1)]


def found_by_chance(k: int, side: float, room: float, threshold: float = 0.5) -> float:
    """Eq. (10.2): the greatest share of true boxes that k fixed boxes find, in %.

    All boxes are squares of one side, and the true centres uniform in a square of side `room`, in
    one unit. A true box is found where its IoU with any fixed box exceeds the threshold. Attained
    where the fixed centres' surroundings in which they find do not overlap and lie inside. Raises
    `ValueError` for lengths that are not positive and thresholds outside (0, 1).
    """
    if not (min(k, side, room) > 0 and 0 < threshold < 1):
        raise ValueError(
            f"k, side, room, threshold: got {k}, {side}, {room}, {threshold}, "
            "expected positive numbers and a threshold in (0, 1)"
        )
    q = 2 * threshold / (1 + threshold)  # the share of a box that the other must cover
    return min(100.0, 100 * k * 4 * side**2 * (1 - q + q * math.log(q)) / room**2)


def precision_bounds(recall: float, told: float, guessed: float) -> tuple[float, float]:
    """Eq. (10.3): the least and the greatest average precision that a recall allows, in %.

    recall: share of `told` objects an image, in the mean, that its `guessed` detections find, in %.
    Scores only move the average precision between the bounds; so they do for the mean over classes
    that occur equally often. Raises `ValueError` for a recall that so many detections cannot have.
    """
    if not 0 <= recall <= 100 * min(1, guessed / told) + 1e-9:
        raise ValueError(
            f"recall: got {recall} % with {guessed} detections of {told} objects, "
            "expected 0 to what as many detections can find"
        )
    return recall**2 / 100 * told / guessed, recall


# What a printed number can be --------------------------------------------------------------------


def counts_behind(rate: float, n: int, decimals: int = 2, cut: bool = True) -> list[int]:
    """Eq. (13.1): the numbers k of n images whose share, in %, is printed as `rate`.

    cut: the decimals that are not printed were cut off; else the share was rounded, halves up.
    Raises `ValueError` for a rate outside [0, 100] or n below 1.
    """
    if not (0 <= rate <= 100 and n >= 1):
        raise ValueError(
            f"rate, n: got {rate}, {n}, expected a rate in [0, 100] and n of 1 or more"
        )
    unit = 10**decimals
    units = round(rate * unit)

    def printed(k: int) -> int:
        return 100 * unit * k // n if cut else (200 * unit * k + n) // (2 * n)

    first = max(0, units * n // (100 * unit) - 1)
    last = min(n, (units + 1) * n // (100 * unit) + 1)
    return [k for k in range(first, last + 1) if printed(k) == units]


def wilson_interval(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Eq. (13.2): the error rates, in %, that k errors on n images do not refute.

    All p for which k/n is no more than z standard deviations of a binomial share from p; 1.96: a
    confidence of about 95 %. Raises `ValueError` for k outside 0 .. n. Source: Wilson (1927).
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"k, n: got {k}, {n}, expected 0 <= k <= n and n of 1 or more")
    share, w = k / n, z * z / n
    reach = math.sqrt(w * share * (1 - share) + w * w / 4)
    low, high = ((share + w / 2 + sign * reach) / (1 + w) for sign in (-1, 1))
    return 100 * max(0.0, low), 100 * min(1.0, high)


def all_zeros_bounds(all_ones: float) -> tuple[float, float]:
    """Eq. (13.3): what the F1- of All-zeros can be where All-ones has this F1+, both means, in %.

    The upper one is attained where all regions cover the same share, the lower one where each image
    is all region or has none. Raises `ValueError` for a rate outside [0, 100].
    """
    if not 0 <= all_ones <= 100:
        raise ValueError(f"all_ones: got {all_ones}, expected a rate in [0, 100]")
    d = all_ones / 100
    return 100 * (1 - d), 400 * (1 - d) / (4 - 3 * d)


def area_for_f1(f1: float) -> float:
    """Eq. (13.4): the greatest area under a precision-recall curve without a cut above f1, in %.

    f1: the F1 score of the best cut, in %. Raises `ValueError` for an f1 outside (0, 100].
    """
    if not 0 < f1 <= 100:
        raise ValueError(f"f1: got {f1}, expected a score in (0, 100]")
    f = f1 / 100
    return 100 * (f + f * f / 2 * math.log(2 / f - 1))


# Masks -----------------------------------------------------------------------------------------
# Masks and score maps come as a tensor (N, H, W), or as N tensors (H, W) of any sizes; true is the
# region of interest. A score is greater where a pixel is thought to be inside.


def confusion(predicted: Sequence[Tensor], true: Sequence[Tensor]) -> Tensor:
    """Pixels of every mask: true positive, false positive, false negative, true negative.

    predicted, true: bool masks. Returns int64 (N, 4). Raises `ValueError` where they are not bool,
    not equally many or not of equal shapes, or none.
    """
    _check_pairs("predicted", predicted, true)
    if any(p.dtype != torch.bool for p in predicted):
        raise ValueError(f"predicted: got {predicted[0].dtype}, expected bool masks")
    pairs = zip(predicted, true, strict=True)
    rows = [torch.stack([(a & b).sum() for a in (p, ~p) for b in (t, ~t)]) for p, t in pairs]
    return torch.stack(rows)


def mask_scores(
    predicted: Sequence[Tensor], true: Sequence[Tensor], pooled: bool = False
) -> dict[str, float]:
    """Eq. (12.4): what is said of binary masks, in %: the mean over images, or of pooled pixels.

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
    """Masks that know nothing, "All-ones" and "All-zeros": the least that any method has to beat.

    For a region that covers a share f, All-ones has F1+ = 2 f / (1 + f), and F1- = 0.
    """
    return {
        "All-ones": [torch.ones_like(t) for t in true],
        "All-zeros": [torch.zeros_like(t) for t in true],
    }


def precision_recall(
    scores: Sequence[Tensor], true: Sequence[Tensor], step: float = 1e-3
) -> tuple[Tensor, Tensor]:
    """The average precision-recall curve: recalls 0, step, .. 1 and the mean precision at each.

    Each image's curve, from precision 1 at recall 0 to where recall 1 is reached, is interpolated
    linearly between its thresholds (of equal recalls the lowest precision counts), which flatters a
    curve of few points (Davis & Goadrich 2006); then comes the mean over images. For the background
    give negative scores and complements. Raises `ValueError` as `confusion`, for a mask without any
    true pixel, and for scores that are not finite. Source: Belharbi et al. (2020), Fig. 6.
    """
    _check_pairs("scores", scores, true)
    grid = np.linspace(0, 1, round(1 / step) + 1)
    curves = []
    for s, t in zip(scores, true, strict=True):
        if not t.any() or not s.isfinite().all():
            raise ValueError("scores, true: expected finite scores and a true pixel in each image")
        values, truth = s.flatten().cpu().numpy(), t.flatten().cpu().numpy()
        order = np.argsort(-values)
        taken = np.r_[np.flatnonzero(np.diff(values[order])), values.size - 1]  # last of equal ones
        hits = truth[order].cumsum()[taken]
        hits, taken = (x[: np.searchsorted(hits, hits[-1]) + 1] for x in (hits, taken))
        curves.append(np.interp(grid, np.r_[0, hits / hits[-1]], np.r_[1, hits / (taken + 1)]))
    return torch.from_numpy(grid), torch.from_numpy(np.mean(curves, 0))


def area_under(recall: Tensor, precision: Tensor) -> float:
    """The area under a curve by the trapezoid rule, in %. Source: as `precision_recall`."""
    return 100 * torch.trapezoid(precision, recall).item()


def pxap(scores: Sequence[Tensor], true: Sequence[Tensor], step: float = 1e-3) -> float:
    """PxAP, average precision over the pixels of all images together, in %.

    The sum over thresholds 0, step, .. 1 of precision times the growth of recall. Scores are in
    [0, 1]; normalise each image's on its own. Raises `ValueError` as `confusion`, for scores
    outside [0, 1], and where no pixel is true. Source: Choe et al. (2020), section 4.1.
    """
    _check_pairs("scores", scores, true)
    last = round(1 / step)
    hits, pixels = torch.zeros(2, last + 1, dtype=torch.float64)
    for s, t in zip(scores, true, strict=True):
        if not bool(((s >= 0) & (s <= 1)).all()):
            raise ValueError(f"scores: got {s.min()} .. {s.max()}, expected [0, 1]")
        bins = (s.flatten().cpu().double() * last).long()  # score 1 has a bin of its own
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
    """MaxBoxAcc: share of images with a box found right, at the best threshold of all, in %.

    At each of 255 thresholds, the box around the largest connected part (8 neighbours, by pixels)
    above it is right if its intersection over union with one of the image's true boxes reaches
    `overlap`. scores: maps in [0, 1], cut to 8 bits as the authors do; boxes: for each image
    (k, 4), left, top, right, bottom in pixels. Raises `ValueError` for other scores or not equally
    many of both. Source: Choe et al. (2020), section 4.1.
    """
    if len(scores) != len(boxes) or not len(boxes):
        raise ValueError(f"scores, boxes: got {len(scores)} and {len(boxes)} images")
    right = np.zeros(255)
    for s, true in zip(scores, boxes, strict=True):
        if s.ndim != 2 or not bool(((s >= 0) & (s <= 1)).all()) or true.shape[1:] != (4,):
            raise ValueError("scores, boxes: expected maps (H, W) in [0, 1] and boxes (k, 4)")
        levels = (s.cpu() * 255).byte().numpy()
        values = np.unique(np.r_[0, levels.ravel()]).astype(int)
        for low, high in pairwise(values):  # thresholds from low to high - 1 cut alike
            found = _largest_part(levels > low)
            iou = box_iou(found[None, None], true.double().cpu()[None])
            right[low:high] += iou.max().item() >= overlap
    return 100 * right.max() / len(boxes)


def _largest_part(mask: np.ndarray) -> Tensor:
    """Left, top, right, bottom of the box around the largest connected part."""
    parts, _ = ndimage.label(mask, np.ones((3, 3)))
    largest = np.bincount(parts.ravel())[1:].argmax()
    rows, columns = ndimage.find_objects(parts)[largest]
    return torch.tensor([columns.start, rows.start, columns.stop, rows.stop]).double()


def _check_pairs(name: str, first: Sequence[Tensor], true: Sequence[Tensor]) -> None:
    if len(first) != len(true) or not len(true):
        raise ValueError(f"{name}, true: got {len(first)} and {len(true)} images")
    for a, t in zip(first, true, strict=True):
        if a.shape != t.shape or a.ndim != 2 or t.dtype != torch.bool:
            raise ValueError(
                f"{name}, true: got shapes {tuple(a.shape)} and {tuple(t.shape)} of {t.dtype}, "
                "expected equal (H, W) and bool"
            )
