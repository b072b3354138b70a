"""Run scikit-learn's own checks of estimators, and its tools, on the estimators for bags."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from wsl_tutorial.estimators import CountClassifier, PresenceClassifier


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
