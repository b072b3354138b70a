"""Cross-validate by bags: folds of whole bags, and scores of bags instead of rows."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import get_scorer, make_scorer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.multiclass import type_of_target

from .tables import by_id, numbered, observed, split_ids


class BagKFold:
    """Split bags into folds of equally many bags, stratified by label where that is 0/1 or -1.

    It needs no `groups` where X has the column `bags`. scikit-learn's `GroupKFold` keeps bags
    together too, but balances rows instead of bags. `groups` reaches the folds only: a model
    without `bags` takes every row for a bag.

    Parameters: n_splits, shuffle, random_state as for `KFold`; bags as for `PresenceClassifier`.
    """

    def __init__(self, n_splits=5, *, bags=None, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.bags = bags
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X=None, y=None, groups=None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def split(self, X, y=None, groups=None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows of the training bags and of the test bags of each fold.

        groups: the bag of each row; default: the column `bags` of X.
        Raises: ValueError, neither is given, or there are fewer bags than folds.
        """
        _, ids, _ = split_ids(X, groups, self.bags)
        if ids is None:
            raise ValueError("groups must be the bag of each row, got None; or pass bags=COLUMN")
        known, code = numbered(ids)
        options = {"shuffle": self.shuffle, "random_state": self.random_state}
        label = None if y is None else observed(y, known, code, by_id(y, X, known))[0]
        kind, values = "", set()
        if isinstance(label, np.ndarray):
            kind, values = type_of_target(label), set(label.ravel().tolist())
        if kind == "binary" or (kind == "multiclass" and values == {-1, 0, 1}):
            folds = StratifiedKFold(self.n_splits, **options).split(known, label)
        else:
            folds = KFold(self.n_splits, **options).split(known)
        for training, test in folds:
            yield np.flatnonzero(np.isin(code, training)), np.flatnonzero(np.isin(code, test))


def bag_scorer(scoring: str | Callable) -> Callable:
    """Return a scorer that compares bags, where scikit-learn's own would compare rows.

    `cross_val_score(model, X, y, scoring=bag_scorer("roc_auc"))` is the AUC of bags.

    Args: scoring: a name of scikit-learn's, or a metric (y_true, y_pred).
    Returns: a function (estimator, X, y, bags=None) -> score; y comes once a bag or once a row.
        Bags whose labels are all unknown (-1) are left out. Of one class, a name's metric compares
        1, the positive class, with 0. A metric of predictions gets the counts of `predict_bags`, as
        shares of the bag if `proportions=True`.
    Raises: ValueError, another kind of scoring, or a bag of which some labels are unknown.
    """
    named = isinstance(scoring, str)
    if not named and not callable(scoring):
        raise ValueError(
            "scoring must be a name of scikit-learn's or a function (y_true, y_pred), got "
            f"{scoring!r}; for several metrics pass scikit-learn a dict of names to bag_scorers"
        )
    scorer = get_scorer(scoring) if named else make_scorer(scoring)

    def score(estimator, X, y, bags=None) -> float:
        given = X
        if hasattr(estimator, "steps"):  # a pipeline
            X, estimator = estimator[:-1].transform(X), estimator[-1]
        table = estimator._table(X, bags)
        estimator._warn_of_split(table.x, table.owners())
        by_bag = not table.single and by_id(y, given, table.ids)
        label, columns = observed(y, table.ids, table.code, by_bag)
        coded, keep = estimator._coded(label, columns, table), slice(None)
        if coded is not None:
            unknown = (coded == -1).reshape(len(coded), -1)
            keep = ~unknown.all(1)
            part = unknown.any(1) & keep
            if part.any():
                raise ValueError(
                    "bag_scorer needs all labels of a bag, or none, got some -1 for bag "
                    f"{table.ids[int(part.argmax())]!r}; `score` leaves single labels out"
                )
        pair = named and coded is not None and coded.ndim == 1
        if coded is not None and (pair or isinstance(label, list)):
            label = coded
        try:
            return scorer(_Bags(estimator, keep, pair), table, label[keep])
        except ValueError as error:
            raise ValueError(f"{error}{estimator.METRICS}") from error

    return score


class _Bags(ClassifierMixin, BaseEstimator):
    """Show a fitted estimator to a scorer as a classifier of the bags of a table.

    keep: which bags; pair: whether the two classes are called 0 and 1.
    """

    def __init__(self, estimator: Any = None, keep=None, pair=False):
        self.estimator, self.keep, self.pair = estimator, keep, pair
        self.classes_ = np.arange(2) if pair else getattr(estimator, "classes_", None)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X):
        found = np.asarray(self.estimator._as_observed(X, None))[self.keep]
        return (found == self.estimator.classes_[1]).astype(int) if self.pair else found

    def predict_proba(self, X):
        return np.asarray(self.estimator.predict_bags_proba(X))[self.keep]

    def decision_function(self, X):
        return np.asarray(self.estimator.decision_function_bags(X))[self.keep]
