"""Run scikit-learn's own checks of estimators, and its tools, on the estimators for bags."""

import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from worlds import bags_of_one_class

from wsl_tutorial.estimators import (
    BagKFold,
    CountClassifier,
    PresenceClassifier,
    bag_scorer,
    tables,
)


@parametrize_with_checks([PresenceClassifier(), CountClassifier()])
def test_scikit_learns_checks(estimator, check):
    """Every row is a bag of its own. No check is expected to fail."""
    check(estimator)


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_bags_of_one_row_are_logistic_regression(kind):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    y = (x[:, 0] + rng.normal(size=40) > 0).astype(int)
    ours = kind(alpha=0.1, standardize=False, tol=1e-9).fit(x, y)
    theirs = LogisticRegression(C=1 / (0.1 * 40), tol=1e-9).fit(x, y)
    assert np.allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)


def test_counts_of_one_row_are_multinomial_regression():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = np.array(["a", "b", "c"])[(x @ rng.normal(size=(3, 3))).argmax(1)]
    ours = CountClassifier(alpha=0.1, standardize=False, tol=1e-9).fit(x, y)
    theirs = LogisticRegression(C=1 / (0.1 * 60), tol=1e-9).fit(x, y)
    assert np.allclose(ours.predict_proba(x), theirs.predict_proba(x), atol=1e-6)
    assert ours.score(x, y) == theirs.score(x, y)


@pytest.fixture
def table():
    x, bags, y, _ = bags_of_one_class(40)
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(x.shape[1])])
    return frame.assign(bag=[f"b{b:02}" for b in bags]), pd.Series(y, name="label")


def by_hand(model, x, y, folds):
    """Return the share of test bags whose label is predicted, fold by fold."""
    scores = []
    for train, test in folds:
        fitted = clone(model).fit(x.iloc[train], y.iloc[train])
        found = fitted.predict_bags(x.iloc[test])
        truth = y.iloc[test].groupby(x["bag"].iloc[test]).first()
        scores.append((found == truth.loc[found.index]).mean())
    return scores


@pytest.mark.parametrize(
    ("folds", "groups"),
    [
        (BagKFold(4, bags="bag", shuffle=True, random_state=0), False),
        (GroupKFold(4), True),
        (StratifiedGroupKFold(4), True),
    ],
    ids=["BagKFold", "GroupKFold", "StratifiedGroupKFold"],
)
def test_cross_validation_scores_bags(table, folds, groups):
    x, y = table
    model, given = PresenceClassifier(bags="bag"), x["bag"] if groups else None
    scores = cross_val_score(model, x, y, cv=folds, groups=given)
    assert scores.tolist() == by_hand(model, x, y, folds.split(x, y, given))
    assert scores.mean() > 0.8


@pytest.mark.parametrize(
    "scoring",
    [None, bag_scorer("roc_auc"), "roc_auc", "accuracy", "neg_log_loss"],
    ids=["score", "bag_scorer", "decision_function", "predict", "predict_proba"],
)
def test_folds_that_split_bags_are_named(table, scoring):
    x, y = table
    model, rows = PresenceClassifier(bags="bag"), KFold(3, shuffle=True, random_state=0)
    with pytest.warns(UserWarning, match=r"bags, such as 'b.*BagKFold\(5, bags='bag'\)") as seen:
        cross_val_score(model, x, y, cv=rows, scoring=scoring)
    assert len(seen) == 3  # one a fold
    with warnings.catch_warnings(action="error"):
        folds = BagKFold(3, bags="bag")
        cross_validate(model, x, y, cv=folds, scoring=scoring, return_train_score=True)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_rows_predicted_across_folds_that_split_bags_are_named(table, method):
    x, y = table
    with pytest.warns(UserWarning, match="bags, such as 'b.*with other rows"):
        cross_val_predict(PresenceClassifier(bags="bag"), x, y, cv=10, method=method)
    scale = StandardScaler().set_output(transform="pandas")
    indexed = x.set_index("bag")
    model = make_pipeline(scale, PresenceClassifier(bags="bag")).fit(indexed, y)
    predict = getattr(model, method)
    with warnings.catch_warnings(action="error"):
        for part in (slice(None), slice(None, None, -1), slice(7), slice(1, 2)):
            predict(indexed[part])  # rows of the training set
        predict(x.assign(bag="new").set_index("bag"))
    moved = indexed + (indexed.index == "b07")[:, None]
    with pytest.warns(UserWarning, match="1 of 40 bags, such as 'b07', were in the training set"):
        predict(moved)


def test_new_rows_of_zeros_and_ones_are_told_from_those_of_the_training():
    rows = list(itertools.product((0.0, 1.0), repeat=6))
    frame = pd.DataFrame(rows).assign(bag=np.arange(64) % 2)
    model = PresenceClassifier(bags="bag", max_iter=5, tol=1).fit(frame[:60], frame.bag[:60])
    for row in range(64):
        with warnings.catch_warnings(record=True, action="always") as seen:
            model.predict(frame[row : row + 1])
        assert len(seen) == (row >= 60)


def test_bags_of_all_calls_of_partial_fit_are_known_when_scored(table):
    x, y = table
    model, first = PresenceClassifier(bags="bag"), (x["bag"] < "b20").to_numpy()
    for part in (first, ~first):
        model.partial_fit(x[part], y[part])
    with warnings.catch_warnings(action="error"):
        model.score(x[::-1], y[::-1])  # the same rows in another order
    x.iloc[:1, 0] += 1
    with pytest.warns(UserWarning, match="1 of 40 bags, such as 'b00', were in the training"):
        model.score(x, y)


def test_a_pipeline_reads_the_bags_from_the_index(table):
    x, y = table
    indexed = x.set_index("bag")
    scale = StandardScaler().set_output(transform="pandas")
    plain = PresenceClassifier(bags="bag", standardize=False)
    folds = BagKFold(4, bags="bag")
    scores = cross_val_score(make_pipeline(scale, plain), indexed, y, cv=folds)
    own = cross_val_score(PresenceClassifier(bags="bag"), x, y, cv=folds)
    assert np.allclose(scores, own)  # the model standardises in the same way
    areas = cross_val_score(
        make_pipeline(scale, plain), indexed, y, cv=folds, scoring=bag_scorer("roc_auc")
    )
    assert areas.mean() > 0.9


def test_metadata_routing_hands_the_bags_to_the_last_step(table):
    x, y = table
    features, bags = x.drop(columns="bag"), x["bag"]
    with sklearn.config_context(enable_metadata_routing=True):
        last = PresenceClassifier(standardize=False)
        last = last.set_fit_request(bags=True).set_score_request(bags=True)
        routed = cross_val_score(
            make_pipeline(StandardScaler(), last),
            features,
            y,
            cv=GroupKFold(4),
            params={"bags": bags, "groups": bags},
        )
    direct = cross_val_score(PresenceClassifier(bags="bag"), x, y, cv=GroupKFold(4), groups=bags)
    assert np.allclose(routed, direct)


def test_grid_search_chooses_by_bags(table):
    x, y = table
    search = GridSearchCV(PresenceClassifier(bags="bag"), {"alpha": [1e-3, 1e3]}, cv=GroupKFold(3))
    search.fit(x, y, groups=x["bag"])
    assert search.best_params_ == {"alpha": 1e-3}
    assert search.best_estimator_.score(x, y) > 0.9


def test_a_scorer_of_bags_is_the_metric_of_bags(table):
    x, y = table
    model = PresenceClassifier(bags="bag", alpha=1.0).fit(x, y)
    truth = y.groupby(x["bag"]).first()
    proba = model.predict_bags_proba(x)[1]
    assert bag_scorer("roc_auc")(model, x, y) == roc_auc_score(truth, proba.loc[truth.index])
    assert bag_scorer("accuracy")(model, x, truth) == model.score(x, y)
    log_loss = -np.log(np.where(truth == 1, proba, 1 - proba)).mean()
    assert np.isclose(-bag_scorer("neg_log_loss")(model, x, y), log_loss)
    mistakes = bag_scorer(lambda y_true, y_pred: (y_true != y_pred).sum())(model, x, y)
    assert mistakes == round((1 - model.score(x, y)) * len(truth))
    both = {name: bag_scorer(name) for name in ("roc_auc", "accuracy")}
    found = cross_validate(model, x, y, cv=BagKFold(3, bags="bag"), scoring=both)
    assert {"test_roc_auc", "test_accuracy"} <= found.keys()


@pytest.mark.parametrize("kind", [PresenceClassifier, CountClassifier])
def test_a_score_reads_its_table_once(table, kind, monkeypatch):
    x, y = table
    model, read, seen = kind(bags="bag", max_iter=5, tol=1).fit(x, y), tables.of_rows, []
    monkeypatch.setattr(tables, "of_rows", lambda *given: seen.append(given) or read(*given))
    for name in ("accuracy", "roc_auc")[: 1 + (kind is PresenceClassifier)]:
        bag_scorer(name)(model, x, y)
        assert len(seen) == 1
        seen.clear()
    model.score(x, y, sample_weight=np.ones(len(x)))
    assert len(seen) == 1


def test_rows_are_predicted_across_folds(table):
    x, y = table
    p = cross_val_predict(
        PresenceClassifier(bags="bag"), x, y, cv=BagKFold(4, bags="bag"), method="predict_proba"
    )
    assert p.shape == (len(x), 2)
    assert np.allclose(p.sum(1), 1)


def test_folds_have_equally_many_bags_of_each_class(table):
    x, y = table
    truth = y.groupby(x["bag"]).first()
    seen = []
    for train, test in BagKFold(4, bags="bag", shuffle=True, random_state=1).split(x, y):
        inside, outside = set(x["bag"].iloc[test]), set(x["bag"].iloc[train])
        assert not inside & outside
        assert len(inside) == 10
        assert truth.loc[sorted(inside)].sum() == truth.sum() / 4
        seen += test.tolist()
    assert sorted(seen) == list(range(len(x)))
    with pytest.raises(ValueError, match="groups must be the bag of each row"):
        next(BagKFold(4).split(x, y))
    with pytest.raises(ValueError, match="n_splits=50"):
        next(BagKFold(50, bags="bag").split(x, y))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_fits_repeat_bit_for_bit_and_pickle(table, solver):
    x, y = table
    model = PresenceClassifier(bags="bag", solver=solver, random_state=3, max_iter=5)
    first, again = (clone(model).fit(x, y).predict_proba(x) for _ in range(2))
    assert np.array_equal(first, again)
    fitted = model.fit(x, y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(loaded.predict_bags_proba(x), fitted.predict_bags_proba(x))
    assert np.array_equal(
        loaded.partial_fit(x, y).predict_proba(x), fitted.partial_fit(x, y).predict_proba(x)
    )


def test_results_are_frames_by_bag_where_x_is_one_and_arrays_elsewhere(table):
    x, y = table
    model = PresenceClassifier(bags="bag").fit(x, y)
    found = model.predict_bags(x)
    assert found.index.tolist() == sorted(set(x["bag"]))
    assert found.index.name == "bag"
    assert list(model.predict_bags_proba(x).columns) == [0, 1]
    posterior = model.posterior(x, y)
    assert posterior.index.equals(x.index)
    assert isinstance(model.predict_proba(x), np.ndarray)
    assert list(model.set_output(transform="pandas").predict_proba(x).columns) == [0, 1]
    assert clone(model)._sklearn_output_config == {"transform": "pandas"}
    array = PresenceClassifier().fit(x.drop(columns="bag").to_numpy(), x["bag"], y)
    for method in ("predict_bags", "predict_bags_proba", "decision_function_bags"):
        values = getattr(array, method)(x.drop(columns="bag").to_numpy(), x["bag"])
        assert isinstance(values, np.ndarray)
        assert np.allclose(values, getattr(model, method)(x))
    with pytest.raises(ValueError, match="transform must be"):
        model.set_output(transform="polars")


def test_names_of_features_are_checked_by_scikit_learn(table):
    x, y = table
    model = PresenceClassifier(bags="bag").fit(x, y)
    assert model.feature_names_in_.tolist() == [c for c in x.columns if c != "bag"]
    assert model.n_features_in_ == x.shape[1] - 1
    with pytest.raises(ValueError, match="feature names"):
        model.predict(x.rename(columns={"f0": "other"}))
    assert np.array_equal(model.predict(x), model.predict(x.drop(columns="bag")))
