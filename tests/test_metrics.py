"""Test the measures of sequences, with the known weaknesses of the transcription rule."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import metrics


def label_map(rows: list[str]) -> torch.Tensor:
    """Make scores (1, 11, M, N) whose winners are given: a digit, or a point for background."""
    winners = torch.tensor([[10 if c == "." else int(c) for c in row] for row in rows])
    return torch.nn.functional.one_hot(winners, 11).permute(2, 0, 1)[None].float()


def read(*rows: str) -> list[int]:
    return metrics.transcribe(label_map(list(rows)))[0]


def column_by_column(scores: np.ndarray) -> list[int]:
    """Apply the rule literally to one image (C+1, M, N)."""
    classes, rows, columns = scores.shape
    result, last = [], None
    for j in range(columns):
        votes = [0] * (classes - 1)
        for i in range(rows):
            winner = max(range(classes), key=lambda c: scores[c, i, j])
            if winner < classes - 1:
                votes[winner] += 1
        symbol = votes.index(max(votes)) if max(votes) else None
        if symbol is not None and symbol != last:
            result.append(symbol)
        last = symbol
    return result


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 3), st.integers(2, 11), st.integers(1, 5), st.integers(1, 9)),
    background=st.floats(0, 2),
)
@settings(max_examples=100, deadline=None)
def test_transcribe_is_the_rule_in_plain_words(seed, shape, background):
    scores = np.random.default_rng(seed).normal(size=shape)
    scores[:, -1] += background
    found = metrics.transcribe(torch.from_numpy(scores))
    assert found == [column_by_column(s) for s in scores]


def test_columns_vote_and_runs_collapse():
    assert read("..11.22.", "..17.2..", "..1...22") == [1, 2]
    assert read("3", "3", "7") == [3]
    assert read("....", "....") == []


def test_ties_go_to_the_smallest_digit():
    assert read("8", "4", ".") == [4]


def test_a_blank_column_ends_a_run():
    assert read("11.11") == [1, 1]
    assert read("11211") == [1, 2, 1]


def test_known_weakness_equal_neighbours_merge():
    assert read("1111", "1111") == [1]  # the truth may be 1, 1


def test_known_weakness_digits_above_one_another_compete():
    assert read("33", "..", "44", "44") == [4]  # the truth is 3, 4
    assert read("334", "..4", "443") == [3, 4]


def test_known_weakness_one_stray_cell_is_a_digit():
    assert read("..7..1", ".....1") == [7, 1]


def test_scores_may_be_log_probabilities_of_any_dtype():
    scores = torch.randn(4, 11, 6, 7, generator=torch.Generator().manual_seed(0))
    expected = metrics.transcribe(scores)
    assert metrics.transcribe(scores.log_softmax(1).double()) == expected
    assert metrics.transcribe(scores.softmax(1)) == expected
    with pytest.raises(ValueError, match=r"scores: got shape \(11, 6, 7\)"):
        metrics.transcribe(scores[0])


def test_error_rate_is_in_per_cent():
    scores = torch.tensor([[0.0, 1], [1, 0], [0, 1], [1, 0]])
    assert metrics.error_rate(scores, torch.tensor([1, 0, 1, 1])) == 25
    assert metrics.error_rate(scores, torch.tensor([1, 0, 1, 0])) == 0
    for wrong in (torch.tensor([1]), torch.zeros(4, 1).long()):
        with pytest.raises(ValueError, match="scores, target"):
            metrics.error_rate(scores, wrong)
    with pytest.raises(ValueError, match="B > 0"):
        metrics.error_rate(scores[:0], torch.tensor([]).long())


def test_sequence_error_counts_order_and_length():
    true = [[1, 2], [3], [4, 4], [5]]
    assert metrics.sequence_error(true, true) == 0
    assert metrics.sequence_error([[2, 1], [3], [4], []], true) == 75
    with pytest.raises(ValueError, match="got 1 and 4"):
        metrics.sequence_error([[1]], true)
    with pytest.raises(ValueError, match="got 0 and 0"):
        metrics.sequence_error([], [])


def test_coverage_is_the_share_with_a_detection():
    assert metrics.coverage([[1], [], [2, 3], [4]]) == 75
    with pytest.raises(ValueError, match="no sequences"):
        metrics.coverage([])
