"""Test how tables of bags are read, and what is said of those that do not fit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from worlds import bags_of_one_class

from wsl_tutorial.estimators import BagKFold, CountClassifier, PresenceClassifier
from wsl_tutorial.estimators.tables import numbered, observed

X = np.arange(12.0).reshape(6, 2)
BAGS = ["a", "a", "b", "b", "b", "c"]
Y = [0, 1, 1]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_observations_by_row_by_id_and_in_order_are_the_same(ids, random):
    ids = sorted(ids)
    known, code = numbered(ids)
    assert [known[c] for c in code] == ids
    label = {i: random.randint(0, 1) for i in known}
    expected = [label[i] for i in known]
    rows = [label[i] for i in ids]
    order = random.sample(known, len(known))
    by_id = pd.Series([label[i] for i in order], index=order)
    for form in (rows, pd.Series(rows), np.array(rows), dict(by_id)):
        assert observed(form, known, code)[0].tolist() == expected
    for form in (expected, by_id, by_id.to_frame().iloc[:, 0]):
        assert observed(form, known, code, by_bag=True)[0].tolist() == expected


@pytest.mark.parametrize("bags", [BAGS, np.array(BAGS), pd.Series(BAGS, name="bag"), tuple(BAGS)])
def test_bags_are_any_sequence(bags):
    model = PresenceClassifier().fit(X, bags, Y)
    assert model.score(X, bags, pd.Series(Y, index=["a", "b", "c"])) >= 0


def test_bags_are_a_column_of_a_frame_its_index_or_a_number():
    frame = pd.DataFrame(X, columns=["u", "v"])
    expected = PresenceClassifier().fit(frame, BAGS, Y).predict_proba(frame)
    column = frame.assign(bag=BAGS)
    forms = {
        "column": column,
        "index": column.set_index("bag"),
        "level": column.set_index(["bag", pd.RangeIndex(6)]),
    }
    for name, given_frame in forms.items():
        model = PresenceClassifier(bags="bag").fit(given_frame, Y)
        assert np.array_equal(model.predict_proba(given_frame), expected), name
        assert model.predict_bags(given_frame).index.tolist() == ["a", "b", "c"]
        named = PresenceClassifier(bags="bag").fit(given_frame, "bag", Y)
        assert np.array_equal(named.predict_proba(given_frame), expected)
        other = model.predict_bags(given_frame, ["z"] * 6)  # other bags than those of the column
        assert other.index.tolist() == ["z"]
    numbers = np.column_stack([[1, 1, 2, 2, 2, 3], X])
    model = PresenceClassifier(bags=0).fit(numbers, Y)
    assert np.array_equal(model.predict_proba(numbers), expected)
    assert len(list(BagKFold(2, bags=0).split(numbers))) == 2


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
@pytest.mark.parametrize(
    ("x", "bags", "y", "text"),
    [
        (
            X,
            BAGS[:5],
            Y,
            r"bags must name the bag of each of the 6 rows of X, got 5 values; the or",
        ),
        (X, Y, BAGS, r"the order of arguments is \(X, bags, labels\)"),
        (X, [*BAGS[:5], None], Y, "bags contains NaN in row 5"),
        (X, [1, 1, 2, 2, np.nan, 3], Y, "bags contains NaN in row 4"),
        (X, BAGS, [0, 1], "a value for each of 3 bags or 6 rows, got 2 values"),
        (X, pd.Series([pd.NA, 1, 2, 2, 2, 3], dtype="Int64"), Y, "bags contains NaN in row 0"),
        (X, [[1]] * 6, Y, r"bags must be one id a row, such as a number or a name, got \[1\]"),
        (X, BAGS, [[0], [1, 2], []], "lists of different lengths; pass sets of labels"),
        (X, BAGS, {"a": 0, "b": 1}, "y must have a value for every bag, got none for bag 'c'"),
        (X, BAGS, dict(zip("abcd", [0, 1, 1, 0], strict=True)), "got none for bag 'd'"),
        (X, BAGS, pd.Series(Y, index=["a", "b", "b"]), "got several for bag 'b'"),
        (X, BAGS, [0, 0, 1, 0, 1, 1], "the same on all rows of a bag, got 1 and 0 for bag 'b'"),
        (X, list("bbaaac"), Y, "y without ids is ambiguous, because the bags do not appear in so"),
        (X, BAGS, [0, 1, np.nan], "y contains NaN"),
        (X, BAGS, 1, "y should be a 1d array"),
        (X, "bag", Y, "bags must be a column of X, got 'bag' for an array of shape"),
        (X, 7, Y, "bags must be a column of X, got 7 for an array of shape"),
        (
            pd.DataFrame(X),
            "bag",
            Y,
            "bags must be a column of X or a level of its index, got 'bag'",
        ),
        (X, BAGS, np.zeros((3, 2, 2)), r"\(n_bags,\) or \(n_bags, C\)"),
        (np.where(X == 3, np.nan, X), BAGS, Y, "Input X contains NaN"),
        (np.where(X == 3, np.inf, X), BAGS, Y, "Input X contains infinity"),
        (X[:, :0], BAGS, Y, r"0 feature\(s\)"),
        (X[:0], [], [], r"0 sample\(s\)"),
        (X.ravel(), BAGS * 2, Y, "Expected 2D array, got 1D array"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error_that_names_the_bag(kind, x, bags, y, text):
    with pytest.raises(ValueError, match=text):
        kind().fit(x, bags, y)


def test_bags_twice_or_missing_labels_are_errors():
    with pytest.raises(ValueError, match="bags must be passed once"):
        PresenceClassifier().fit(X, BAGS, Y, bags=BAGS)
    with pytest.raises(ValueError, match="requires y to be passed"):
        PresenceClassifier().fit(X, bags=BAGS)
    by_name = PresenceClassifier().fit(X, labels=Y, bags=BAGS)
    assert np.array_equal(
        by_name.predict_proba(X), PresenceClassifier().fit(X, BAGS, Y).predict_proba(X)
    )


@pytest.mark.parametrize(
    "ids",
    [pd.to_datetime([0, 0, 1, 1, 1, 2]), pd.Categorical(BAGS), [("a", k // 2) for k in range(6)]],
)
def test_ids_are_anything_that_can_be_told_apart(ids):
    model = PresenceClassifier(max_iter=1, tol=9).fit(X, ids, Y)
    assert len(model.predict_bags(X, ids)) == 3


def test_sparse_rows_are_refused_with_a_remedy():
    x, bags, y, _ = bags_of_one_class(10)
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        PresenceClassifier().fit(sparse.csr_array(x), bags, y)


def test_a_frame_with_words_is_refused():
    frame = pd.DataFrame({"bag": BAGS, "u": list("stuvwx")})
    with pytest.raises(ValueError, match="could not convert string to float"):
        PresenceClassifier(bags="bag").fit(frame, Y)
