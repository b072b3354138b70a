"""What the papers measure. Rates are in per cent."""

import torch


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
