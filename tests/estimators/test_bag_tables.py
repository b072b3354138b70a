"""Test how tables of bags are read, and what is said of those that do not fit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from worlds import bags_of_one_class

from wsl_tutorial.estimators import BagKFold, CountClassifier, PresenceClassifier, bag_scorer
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
    for number in (0, np.int64(0), np.uint8(0)):
        model = PresenceClassifier(bags=number).fit(numbers, Y)
        assert np.array_equal(model.predict_proba(numbers), expected)
        PresenceClassifier().fit(numbers, number, Y)
    wide = pd.concat({"id": column[["bag"]], "x": frame}, axis=1)
    for model in (PresenceClassifier(bags=("id", "bag")), PresenceClassifier()):
        model.fit(wide, ("id", "bag"), Y)
        assert np.array_equal(model.predict_proba(wide[["x"]]), expected)
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
        (X, BAGS, [[0], [1, 2], []], r"got a list, such as \[0\]; pass sets of labels"),
        (X, BAGS, [["u"], ["v"], ["u"]], r"got a list, such as \['u'\]; pass sets of labels"),
        (X, BAGS, pd.Series([[0, 1]] * 3, list("abc")), r"y.map\(set\)\), or a DataFrame"),
        (X, BAGS, {"a": {1}, "b": {2}, "c": "AB"}, "got 'AB' for bag 'c'"),
        (X, BAGS, {"a": {1}, "b": None, "c": {2}}, "or -1 where it is unknown, got None for bag"),
        (X, BAGS, {"a": 0, "b": 1}, "got none for bag 'c'; y has ids such as 'a'"),
        (X, [0, 1, 1, 0, 1, 0], BAGS, r"for bag 1; the order of arguments is \(X, bags, labels\)"),
        ([X[:2], X[2:5], X[5:]], None, [0, 1, 1], r"pass np.concatenate\(X\), and bags=np.repeat"),
        (np.stack([X[:2]] * 3), None, [0, 1, 1], r"pass np.concatenate\(X\), and bags=np.repeat"),
        (dict.fromkeys("abc", X), None, [0, 1, 1], "got a dict; pass pd.DataFrame"),
        ([{"u": 1}] * 6, BAGS, Y, "got a dict; pass pd.DataFrame"),
        (X, BAGS, {b: np.array(["u"]) for b in "abc"}, r"pass sets of labels, such as \{1, 2\}"),
        (X, BAGS, {b: {"u": 1} for b in "abc"}, r"pass sets of labels, such as \{1, 2\}"),
        (pd.Series(X[0]), None, [1], r"got a Series; for the row k of a DataFrame pass X.iloc"),
        (X, BAGS, dict(zip("abcd", [0, 1, 1, 0], strict=True)), "got none for bag 'd'"),
        (X, BAGS, pd.Series(Y, index=["a", "b", "b"]), "got several for bag 'b'"),
        (X, BAGS, [0, 0, 1, 0, 1, 1], "the same on all rows of a bag, got 1 and 0 for bag 'b'"),
        (X, list("bbaaac"), Y, "y without ids is ambiguous, because the bags do not appear in so"),
        (X, ["b", "b", 1, 1, 1, "a"], Y, "y without ids is ambiguous, because the bags do not"),
        (X, [*map(frozenset, ["a", "a", "b", "b", "b", "c"])], Y, "y without ids is ambiguous"),
        (X, BAGS, [0, 1, np.nan], "y contains NaN"),
        (sparse.csr_array(X), 1, Y, r"Sparse data was passed for X.* use .toarray\(\)"),
        (pd.concat({"id": pd.DataFrame(X)}, axis=1), "id", Y, "several columns 'id'; name one of"),
        (X, BAGS, np.array([[1j, 1], [1, 1], [1, 0]]), "y must be real numbers, got dtype complex"),
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
    with pytest.raises((ValueError, TypeError), match=text):
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


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (list("stuvwx"), "got (str|object) in column 'u'; drop it, or turn it into numbers"),
        (pd.Categorical(list("stuvwx")), "got category in column 'u'"),
        (pd.Timestamp("2020-01-01"), "got datetime64.* in column 'u'"),
        (pd.Timedelta(1), "got timedelta64.* in column 'u'"),
        ([1j] * 6, "got complex128 in column 'u'"),
        ([1, 2, 3, None, 5, 6], "Input X contains NaN in column 'u'; drop these rows, or fill"),
        (pd.array([1, 2, 3, None, 5, 6], dtype="Int64"), "contains NaN in column 'u'"),
        ([1, 2, 3, np.inf, 5, 6], "Input X contains infinity"),
    ],
)
def test_a_column_that_is_not_of_numbers_is_named(values, says):
    frame = pd.DataFrame({"bag": BAGS, "t": range(6), "u": values})
    with pytest.raises(ValueError, match=says):
        PresenceClassifier(bags="bag").fit(frame, Y)
    model = PresenceClassifier(bags="bag").fit(frame.assign(u=[3, 1, 2, 6, 5, 4]), Y)
    with pytest.raises(ValueError, match=says):
        model.predict(frame)
    with pytest.raises(ValueError, match="got a Series; for the row k"):
        model.predict_bags(frame.iloc[0])
    frame["u"] = list("123456")
    model.predict(frame)  # words that are numbers


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_values_by_id_are_found_by_id_where_every_bag_has_one_row(kind):
    ids = list("abcdef")
    label = pd.Series([0, 1, 1, 0, 1, 0], index=ids)
    frame = pd.DataFrame(X, columns=["u", "v"]).assign(bag=ids)
    expected = kind(bags="bag").fit(frame, label.to_numpy()).predict_proba(frame)
    for x in (frame, frame.set_index("bag")):
        for given_label in (label, label[::-1]):
            model = kind(bags="bag").fit(x, given_label)
            assert np.array_equal(model.predict_proba(x), expected)
    turned = frame.assign(bag=range(5, -1, -1))  # the index of y is that of the rows, not of bags
    for order in (range(6), [3, 1, 0, 2, 5, 4]):
        x, y = turned.iloc[order], pd.Series(label.to_numpy()).iloc[order]
        assert np.allclose(kind(bags="bag").fit(x, y).predict_proba(frame), expected, atol=1e-3)
    folds = [
        [test.tolist() for _, test in BagKFold(3, bags="bag").split(frame, y)]
        for y in (label, label[::-1])
    ]
    assert folds[0] == folds[1]


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_a_column_of_bags_in_y_or_of_y_in_x_is_noticed(kind):
    frame = pd.DataFrame(X, columns=["u", "v"]).assign(bag=BAGS)
    named = pd.DataFrame({"bag": list("abc"), "label": Y})
    with pytest.raises(ValueError, match=r"pass y.set_index\('bag'\)"):
        kind(bags="bag").fit(frame, named)
    rows = frame.assign(label=[0, 0, 1, 1, 1, 1])
    with pytest.warns(UserWarning, match=r"pass X.drop\(columns='label'\)"):
        kind(bags="bag").fit(rows, rows["label"])
    twice = pd.concat([frame, frame[["bag"]]], axis=1)
    with pytest.raises(ValueError, match="got several columns 'bag'"):
        kind(bags="bag").fit(twice, Y)


@pytest.mark.parametrize(
    ("y", "where"),
    [
        ([[1, 0], [np.nan, 1], [0, 1]], "for bag 'b' in column 0; PresenceClassifier takes -1"),
        (
            pd.DataFrame([[1, pd.NA], [pd.NA, 1]], index=list("cb"), columns=["u", "v"]).reindex(
                list("cab"), fill_value=1
            ),
            "for bag 'b' in column 'u'",
        ),
        ([{1}, {np.nan}, {2}], "as a label of bag 'b'; leave it out of the set"),
        (["u", None, "v"], "for bag 'b'; P"),
        (np.array([[0, 1]] * 2 + [[1, np.nan]] * 4), "for bag 'b' in column 1"),
        ({"c": 1.0, "b": np.nan, "a": 0.0}, "for bag 'b'; P"),
    ],
)
def test_a_missing_label_is_named_by_its_bag_and_column(y, where):
    with pytest.raises(ValueError, match=f"Input y contains NaN {where}"):
        PresenceClassifier().fit(X, BAGS, y)


def test_a_label_that_is_none_is_named_by_its_bag_and_column():
    matrix = pd.DataFrame([[1, 0], [0, 3], [1, 1]], index=list("abc"), columns=["u", "v"])
    with pytest.raises(ValueError, match="got 3 for bag 'b' in column 'v'; multilabel"):
        PresenceClassifier().fit(X, BAGS, matrix)
    one = PresenceClassifier().fit(X, BAGS, Y)
    with pytest.raises(ValueError, match=r"labels must be of \[0 1\], got 7 for bag 'c'"):
        one.score(X, BAGS, [0, 1, 7])
    rows = CountClassifier().fit(X, [0, 1] * 3)
    with pytest.raises(ValueError, match=r"y must be of \[0 1\], got 7 for bag 2"):
        rows.score(X, [0, 1, 7, 0, 1, 1])


def test_a_missing_count_is_not_told_to_be_minus_one():
    with pytest.raises(ValueError, match="contains NaN for bag 'c'; leave out bags of which"):
        CountClassifier().fit(X, BAGS, [0, 1, np.nan])
    shares = pd.DataFrame([[0.5, 0.5], [1, 0], [np.inf, 0]], index=list("abc"), columns=["r", "g"])
    with pytest.raises(ValueError, match="infinity for bag 'c' in column 'r'; every value must be"):
        CountClassifier(proportions=True).fit(X, BAGS, shares)
    twice = pd.DataFrame([[1, 1], [1, 2], [0, 1]], index=list("abc"), columns=["r", "r"])
    with pytest.raises(ValueError, match=r"counts must name each class once, got \['r', 'r'\]"):
        CountClassifier().fit(X, BAGS, twice)


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
@pytest.mark.parametrize("rows", [1, 2])
def test_weights_by_id_are_found_by_id(kind, rows):
    ids = [10, 11, 12, 13]
    frame = pd.DataFrame({"u": [3.0, -3, 2.5, -2.5], "bag": ids}).loc[np.repeat(range(4), rows)]
    model = kind(bags="bag").fit(frame, pd.Series([1, 0, 1, 0], index=ids))
    y, weight = pd.Series([1, 0, 1, 1], index=ids), pd.Series([1.0, 1, 1, 5], index=ids)
    alone = [model.score(frame[frame.bag == i], y[[i]]) for i in ids]
    expected = np.average(alone, weights=weight)
    by_row = weight.loc[frame["bag"]].to_numpy()
    for given_weight in (weight, weight[::-1], dict(weight), weight.to_numpy(), by_row):
        assert np.isclose(model.score(frame, y, sample_weight=given_weight), expected)
    x, bags = frame[["u"]], frame["bag"]
    assert np.isclose(model.score(x, bags, y, sample_weight=weight[::-1]), expected)


@pytest.mark.parametrize(
    ("weight", "says"),
    [
        ([0, 0, 0], "sample_weight must be one number .* positive .*, got 0 .. 0"),
        ([1, -1, 1], "sample_weight must be one number of at least 0 .*, got -1 .. 1"),
        (np.ones((3, 2)), r"sample_weight must be .* of shape \(3, 2\)"),
        (list("uvw"), "sample_weight must be one number"),
        ([{1}, {2}, {3}], "sample_weight must be one number"),
        (
            [1, np.nan, 1],
            "Input sample_weight contains NaN for bag 'b'; every weight must be known",
        ),
        ([1, np.inf, 1], "Input sample_weight contains infinity"),
        ([1, 1], "sample_weight must have a value for each of 3 bags"),
    ],
)
def test_a_weight_that_is_none_is_named(weight, says):
    model = PresenceClassifier().fit(X, BAGS, Y)
    with pytest.raises(ValueError, match=says):
        model.score(X, BAGS, Y, sample_weight=weight)


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
@pytest.mark.parametrize("y", [Y, [bool(v) for v in Y], [0.0, 1.0, 1.0]])
def test_numbers_among_objects_are_numbers(kind, y):
    expected = kind().fit(X, BAGS, y)
    for given_y in (pd.Series(y, dtype=object), np.array(y, object)):
        model = kind().fit(X, BAGS, given_y)
        assert model.classes_.tolist() == expected.classes_.tolist()
        assert np.array_equal(model.predict_proba(X), expected.predict_proba(X))
    one = kind().fit(X, np.array([*Y, *Y], object))
    assert one.classes_.tolist() == [0, 1]


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_a_matrix_has_the_classes_that_were_promised(kind):
    y = pd.DataFrame({"u": [1, 0, 1], "v": [1, 3, 0]}, index=list("abc")).clip(
        upper=1 if kind is PresenceClassifier else 3
    )
    model = kind().partial_fit(X, BAGS, y, classes=["v", "u"])
    assert model.classes_.tolist() == ["u", "v"]
    kind().partial_fit(X, BAGS, y.to_numpy(), classes=[0, 1])
    for given_y in (y, y.to_numpy()):
        with pytest.raises(ValueError, match=r"classes must be the columns .* got \['u', 'w'\]"):
            kind().partial_fit(X, BAGS, given_y, classes=["u", "w"])


def test_columns_of_counts_are_those_of_fit():
    votes = pd.DataFrame({"r": [1, 1, 0], "g": [1, 2, 1]}, index=list("abc"))
    model = CountClassifier().fit(X, BAGS, votes)
    other = votes.rename(columns={"r": "R"})
    with pytest.raises(ValueError, match=r"counts must have the columns \['r' 'g'\], got"):
        model.posterior(X, BAGS, other)
    with pytest.raises(ValueError, match="counts must have the columns"):
        model.score(X, BAGS, other)
    expected = model.posterior(X, BAGS, votes.to_numpy())
    for same in (votes, votes[["g", "r"]]):  # a column is found by its name
        assert np.array_equal(model.posterior(X, BAGS, same), expected)


def test_shares_and_counts_are_told_apart():
    shares = [[0.5, 0.5], [1 / 3, 2 / 3], [0, 1]]
    with pytest.raises(ValueError, match="pass proportions=True for shares"):
        CountClassifier().fit(X, BAGS, shares)
    with pytest.raises(ValueError, match="proportions must be from 0 to 1, got 50 for bag 'a'"):
        CountClassifier(proportions=True).fit(X, BAGS, 100 * np.array(shares))


def test_a_weight_of_no_class_is_an_error():
    for wrong in (np.inf, np.nan, -1):
        with pytest.raises(ValueError, match="class_weight must not be negative, and finite"):
            PresenceClassifier(class_weight={1: wrong}).fit(X, BAGS, Y)
    with pytest.raises(ValueError, match="class_weight must name classes of"):
        PresenceClassifier(class_weight={2: 1}).fit(X, BAGS, Y)


@pytest.mark.parametrize("scoring", [None, ["f1"], 1])
def test_a_metric_of_bags_is_a_name_or_a_function(scoring):
    with pytest.raises(ValueError, match="scoring must be a name of scikit-learn's or a function"):
        bag_scorer(scoring)


def test_a_scorer_of_bags_leaves_out_those_without_a_label():
    x, bags, y, _ = bags_of_one_class(20)
    model = PresenceClassifier().fit(x, bags, y)
    kept = bags % 3 > 0
    some = np.where(kept, y, -1)
    for name in ("accuracy", "roc_auc"):
        expected = bag_scorer(name)(model, x[kept], y[kept], bags=bags[kept])
        assert bag_scorer(name)(model, x, some, bags=bags) == expected
    assert bag_scorer("accuracy")(model, x, some, bags=bags) == model.score(x, bags, some)
    sets = PresenceClassifier().fit(X, BAGS, [[1, 0], [0, 1], [1, 0]])
    with pytest.raises(
        ValueError, match="needs all labels of a bag, or none, got some -1 for bag 'b'"
    ):
        bag_scorer("accuracy")(sets, X, [[1, 0], [-1, 1], [1, 1]], bags=BAGS)
