"""Which class is positive, which classes there are, and what is unknown."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_score
from worlds import bags_of_one_class

from wsl_tutorial import models
from wsl_tutorial.estimators import BagKFold, CountClassifier, PresenceClassifier, bag_scorer


@pytest.fixture
def world():
    """Return a table with its bags in a column, the labels 0/1 of its rows, and a plain fit."""
    x, bags, y, _ = bags_of_one_class(40)
    frame = pd.DataFrame(x, columns=list("abc")).assign(bag=bags)
    return frame, y, PresenceClassifier(bags="bag").fit(frame, y)


WORDS = np.array(["control", "case"])  # the positive one is the first in the alphabet


@pytest.mark.parametrize("said", ["classes", "category", "partial_fit"])
def test_the_positive_class_is_chosen(world, said):
    frame, y, plain = world
    words = pd.Series(WORDS[y], index=frame.index)
    if said == "category":
        words = pd.Series(pd.Categorical(words, categories=WORDS, ordered=True), frame.index)
    model = PresenceClassifier(bags="bag", random_state=0)
    model.set_params(classes=list(WORDS) if said == "classes" else None)
    with warnings.catch_warnings(action="error"):
        if said == "partial_fit":
            model.partial_fit(frame, words, classes=WORDS)
            plain = PresenceClassifier(bags="bag", random_state=0).partial_fit(frame, y)
        else:
            model.fit(frame, words)
        assert model.classes_.tolist() == WORDS.tolist()
        assert np.array_equal(
            model.predict_bags_proba(frame)["case"], plain.predict_bags_proba(frame)[1]
        )
        assert model.score(frame, words) == plain.score(frame, y)
        assert (model.predict_bags(frame) == WORDS[plain.predict_bags(frame)]).all()
        for name in ("accuracy", "roc_auc", "f1", "neg_log_loss", "average_precision"):
            score = bag_scorer(name)
            assert score(model, frame, words) == score(plain, frame, y)
        named = bag_scorer(partial(f1_score, pos_label="case"))
        assert named(model, frame, words) == bag_scorer("f1")(plain, frame, y)


def test_a_guess_of_the_positive_class_is_a_warning(world):
    frame, y, plain = world
    text = r"'control' is taken for the positive class.*\['case', 'control'\], or the reverse"
    with pytest.warns(UserWarning, match=text) as seen:
        other = PresenceClassifier(bags="bag").fit(frame, WORDS[y])
    assert len(seen) == 1
    assert seen[0].filename == __file__
    assert other.score(frame, WORDS[y]) < plain.score(frame, y)
    with warnings.catch_warnings(action="error"):
        for values in ([0, 1], [False, True], [1, 2]):
            PresenceClassifier(bags="bag").fit(frame, np.array(values)[y])


def test_minus_one_without_a_zero_is_a_warning_unless_classes_say_what_it_is(world):
    frame, y, _ = world
    with pytest.warns(
        UserWarning, match=r"-1 is unknown beside a 0 only, or with classes=\[0, 1\]"
    ):
        model = PresenceClassifier(bags="bag").fit(frame, 2 * y - 1)
    assert model.classes_.tolist() == [-1, 1]
    with warnings.catch_warnings(action="error"):
        model = PresenceClassifier(bags="bag", classes=[-1, 1]).fit(frame, 2 * y - 1)
        assert model.score(frame, 2 * y - 1) > 0.9
        some = y == 1
        model = PresenceClassifier(bags="bag", classes=[0, 1], max_iter=500)
        model.fit(frame, np.where(some, 1, -1))
    assert model.classes_.tolist() == [0, 1]
    assert (model.predict_bags(frame) == 1).all()  # nothing speaks against it
    assert model.score(frame, np.where(some, 1, -1)) == 1


def test_folds_are_stratified_by_unknown_labels_too(world):
    frame, y, _ = world
    bag = frame["bag"].to_numpy()
    label = np.where(bag % 4 == 2, -1, y)
    for _, test in BagKFold(5, bags="bag").split(frame, label):
        found = [label[bag == b][0] for b in set(bag[test])]
        assert [found.count(v) for v in (-1, 0, 1)] == [2, 2, 4]


SIZES = np.bincount(bags_of_one_class(40)[1])
SETS = [
    ({"cat"}, {"cat", "dog"} if n > 1 else {"dog"}, set(), {"dog"})[k % 4]
    for k, n in enumerate(SIZES)
]


def test_classes_that_do_not_occur_may_be_named(world):
    frame, _, _ = world
    model = PresenceClassifier(bags="bag", classes=["horse", "dog", "cat"]).fit(frame, SETS)
    assert list(model.predict_bags_proba(frame).columns) == ["horse", "dog", "cat"]
    assert 0 < model.score(frame, [{"horse"}, *SETS[1:]]) <= model.score(frame, SETS)
    plain = PresenceClassifier(bags="bag").fit(frame, SETS)
    with pytest.raises(ValueError, match="got 'horse' for bag 0; to fit with classes that the tra"):
        plain.score(frame, [{"horse"}, *SETS[1:]])
    matrix = pd.DataFrame({c: [int(c in s) for s in SETS] for c in ("cat", "dog", "horse")})
    same = PresenceClassifier(bags="bag", classes=["horse", "dog", "cat"]).fit(frame, matrix)
    array = PresenceClassifier(bags="bag", classes=["horse", "dog", "cat"])
    array.fit(frame, matrix[["horse", "dog", "cat"]].to_numpy())
    for other in (same, array):
        assert np.array_equal(other.predict_proba(frame), model.predict_proba(frame))
    assert same.score(frame, matrix) == model.score(frame, SETS)
    with pytest.raises(ValueError, match="classes must be the columns of the matrix"):
        same.fit(frame, matrix[["cat", "dog"]])


def test_a_network_may_have_channels_for_classes_that_do_not_occur():
    images, labels = torch.rand(6, 1, 28, 28), [{3, 7}, {1}, set()] * 2
    network = models.reader(torch.Generator().manual_seed(0), classes=10)
    with pytest.raises(ValueError, match=r"the classes \[1, 3, 7\] and.*if others can occur, pass"):
        PresenceClassifier(network, max_iter=1).fit(images, labels=labels)


def test_a_set_may_be_unknown(world):
    frame, _, _ = world
    matrix = np.array([[c in s for c in ("cat", "dog")] for s in SETS]).astype(int)
    matrix[[3, 8]] = -1
    sets = [-1 if k in (3, 8) else own for k, own in enumerate(SETS)]
    model = PresenceClassifier(bags="bag").fit(frame, sets)
    by_id = PresenceClassifier(bags="bag").fit(frame, pd.Series(sets))
    same = PresenceClassifier(bags="bag").fit(frame, matrix)
    for other in (by_id, same):
        assert np.array_equal(model.predict_proba(frame), other.predict_proba(frame))
    assert model.score(frame, sets) == same.score(frame, matrix)
    rows = [sets[b] for b in frame["bag"]]
    assert model.score(frame, pd.Series(rows, frame.index)) == same.score(frame, matrix)
    known = ~frame["bag"].isin([3, 8])
    labels = pd.Series(SETS).drop([3, 8])
    for name in ("f1_macro", "roc_auc"):
        score = bag_scorer(name)
        assert score(model, frame, sets) == score(model, frame[known], labels)
    with pytest.raises(ValueError, match=r"got \{-1\} for bag 3; pass -1 in place of a set"):
        model.score(frame, [{-1} if k == 3 else own for k, own in enumerate(SETS)])


def test_metrics_of_sets_are_those_of_their_matrix(world):
    frame, _, _ = world
    matrix = np.array([[c in s for c in ("cat", "dog")] for s in SETS]).astype(int)
    model = PresenceClassifier(bags="bag").fit(frame, SETS)
    expected = f1_score(matrix, model.predict_bags(frame), average="macro", zero_division=0)
    assert bag_scorer("f1_macro")(model, frame, SETS) == expected
    rows = pd.Series([frozenset(SETS[b]) for b in frame["bag"]])
    found = cross_val_score(
        PresenceClassifier(bags="bag"),
        frame,
        rows,
        cv=BagKFold(2, bags="bag"),
        scoring=bag_scorer("roc_auc"),
    )
    for k, (train, test) in enumerate(BagKFold(2, bags="bag").split(frame, rows)):
        fitted = PresenceClassifier(bags="bag").fit(frame.iloc[train], rows.iloc[train])
        p = fitted.predict_bags_proba(frame.iloc[test])
        assert found[k] == roc_auc_score(matrix[p.index], p)


def test_a_metric_of_classes_is_refused_for_counts_with_a_remedy(world):
    frame, _, _ = world
    number = np.stack([SIZES - 1, np.ones(40)], 1)
    model = CountClassifier(bags="bag").fit(frame, number)
    with pytest.raises(ValueError, match="counts are compared by a metric of regression, such as"):
        bag_scorer("accuracy")(model, frame, number)
    assert bag_scorer("r2")(model, frame, number) <= 1


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_a_model_that_gets_no_bags_says_so(world, kind):
    frame, y, _ = world
    features = frame[list("abc")]
    text = f"each row is a bag of its own; pass bags=COLUMN to {kind.__name__}"
    with pytest.warns(UserWarning, match=text) as seen:
        cross_val_score(kind(), features, y, cv=GroupKFold(3), groups=frame["bag"])
    assert len(seen) == 3
    with warnings.catch_warnings(action="error"):
        kind().fit(features, np.arange(len(frame)), y)  # said so


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ({"cat", "dog"}, "must be a list, because their order counts"),
        ("cat", "must be a list, because their order counts"),
        (2, "must be a list, because their order counts"),
        ([], "must name each class once"),
        (["cat", "dog", "cat"], "must name each class once"),
    ],
)
def test_classes_are_a_list_of_different_names(world, classes, says):
    frame, y, _ = world
    for labels in (SETS, y):
        with pytest.raises(ValueError, match=f"^classes {says}"):
            PresenceClassifier(bags="bag", classes=classes).fit(frame, labels)
        with pytest.raises(ValueError, match=f"^classes {says}"):
            PresenceClassifier(bags="bag").partial_fit(frame, labels, classes=classes)
    with pytest.raises(ValueError, match="classes must be the negative and the positive for"):
        PresenceClassifier(bags="bag", classes=[0, 1, 2]).fit(frame, y)
    with pytest.raises(ValueError, match="class_weight must name classes of"):
        PresenceClassifier(bags="bag", classes=["cat", "dog"], class_weight={"cow": 2}).fit(
            frame, SETS
        )


@pytest.mark.parametrize("labels", [-1, [-1, -1]])
def test_labels_that_are_all_unknown_teach_nothing(world, labels):
    frame, _, _ = world
    for classes in (None, ["cat", "dog"]):
        with pytest.raises(ValueError, match="labels must be known for a bag at least, got -1 on"):
            PresenceClassifier(bags="bag", classes=classes).fit(frame, np.array([labels] * 40))


def test_words_may_be_unknown_and_a_raw_category_has_an_order(world):
    frame, y, _ = world
    some = np.where(frame["bag"] % 5 == 0, -1, y)
    plain = PresenceClassifier(bags="bag").fit(frame, some)
    words = pd.Series(WORDS[y], frame.index).where(some != -1, -1)
    model = PresenceClassifier(bags="bag", classes=list(WORDS))
    for labels in (words, words.tolist()):
        assert np.array_equal(
            model.fit(frame, labels).predict_proba(frame), plain.predict_proba(frame)
        )
    assert model.score(frame, words) == plain.score(frame, some)
    auc = bag_scorer("roc_auc")
    assert auc(model, frame, words) == auc(plain, frame, some)
    raw = pd.Categorical(WORDS[y], categories=WORDS, ordered=True)
    assert PresenceClassifier(bags="bag").fit(frame, raw).classes_.tolist() == WORDS.tolist()


def test_a_table_of_labels_is_read_by_the_names_of_its_columns(world):
    frame, _, _ = world
    matrix = pd.DataFrame({c: [int(c in s) for s in SETS] for c in ("cat", "dog")})
    model = PresenceClassifier(bags="bag").fit(frame, matrix)
    expected = model.posterior(frame, matrix)
    assert expected.equals(model.posterior(frame, matrix[["dog", "cat"]]))
    with pytest.raises(ValueError, match="labels must have the columns"):
        model.score(frame, matrix.rename(columns={"cat": "cow"}))
    with pytest.raises(ValueError, match="labels must have the columns"):
        model.score(frame, np.ones((40, 3)))
