"""Test the classifier of counts: its likelihood, counts of all forms, EM and proportions."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from worlds import bags_of_one_class, bags_of_several_classes

from wsl_tutorial import counts
from wsl_tutorial.counts.losses import proportion_losses_multiclass
from wsl_tutorial.estimators import CountClassifier, bag_scorer


def counted(n_bags=40, classes=3, seed=0):
    x, bags, hidden = bags_of_several_classes(n_bags, classes - 1, seed)
    number = np.array([np.bincount(hidden[bags == b], minlength=classes) for b in range(n_bags)])
    return x, bags, hidden, number


def enumerated(p, number):
    """Return P(counts) of rows with class probabilities p (n, C), and each row's posterior."""
    joint = np.zeros_like(p)
    for hidden in itertools.product(range(p.shape[1]), repeat=len(p)):
        if np.array_equal(np.bincount(hidden, minlength=p.shape[1]), number):
            weight = np.prod([p[i, h] for i, h in enumerate(hidden)])
            joint[np.arange(len(p)), list(hidden)] += weight
    total = joint[0].sum()
    return total, joint / total


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_and_the_posterior_are_enumerations(classes):
    x, bags, _, number = counted(10, classes)
    model = CountClassifier(alpha=0.1, tol=1e-7).fit(x, bags, number)
    p, posterior = model.predict_proba(x), model.posterior(x, bags, number)
    values = []
    for b in range(10):
        total, given = enumerated(p[bags == b], number[b])
        values.append(-np.log(total))
        assert np.allclose(posterior[bags == b], given)
    weight = model.module_[1].weight.detach().numpy()
    assert np.isclose(model.loss_curve_[-1], np.mean(values) + 0.05 * (weight**2).sum())


@pytest.mark.parametrize("method", ["exact", "em", "proportions"])
@pytest.mark.parametrize("classes", [2, 3])
def test_instances_are_found_from_counts(method, classes):
    x, bags, hidden, number = counted(60, classes)
    model = CountClassifier(method=method).fit(x, bags, number)
    assert (model.predict(x) == hidden).mean() > 0.95
    assert model.score(x, bags, number) > 0.95


def test_counts_of_positives_shares_frames_and_rows_are_the_same():
    x, bags, _, number = counted(40, 2)
    model = CountClassifier().fit(x, bags, number)
    sizes = number.sum(1)
    forms = {
        "positives": number[:, 1],
        "series": pd.Series(number[:, 1]).sample(frac=1, random_state=0),
        "float": number.astype(float),
        "rows": number[bags],
        "frame": pd.DataFrame(number[::-1], index=range(39, -1, -1)),
    }
    for name, y in forms.items():
        other = CountClassifier().fit(x, bags, y)
        assert np.allclose(other.predict_proba(x), model.predict_proba(x)), name
        assert other.score(x, bags, y) == model.score(x, bags, number)
    for shares in (number / sizes[:, None], (number / sizes[:, None]).round(4)):
        other = CountClassifier(proportions=True).fit(x, bags, shares)
        assert np.allclose(other.predict_proba(x), model.predict_proba(x))
    mixed = number / sizes[:, None]
    mixed[::2] = mixed[::2].round(4)
    other = CountClassifier(proportions=True).fit(x, bags, mixed)
    assert np.allclose(other.predict_proba(x), model.predict_proba(x))
    positive = CountClassifier().fit(x, bags, number[:, 1])
    assert np.array_equal(positive.predict_bags(x, bags), model.predict_bags(x, bags)[:, 1])


def test_a_share_that_fits_several_counts_of_a_large_bag_is_refused():
    x, bags = np.linspace(0, 1, 30_000)[:, None], np.zeros(30_000, dtype=int)
    with pytest.raises(ValueError, match=r"and of one vector only, got .* for bag 0 of 30000"):
        CountClassifier(proportions=True).fit(x, bags, [0.12341])


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_on_proportions_takes_shares_of_a_population(classes):
    x, bags, _, number = counted(40, classes)
    sizes = number.sum(1)
    model = CountClassifier(method="proportions", proportions=True)
    whole = CountClassifier(method="proportions").fit(x, bags, number)
    shares = number / sizes[:, None] + 1e-7 * np.arange(classes)  # shares of no whole counts
    shares /= shares.sum(1, keepdims=True)
    near = model.fit(x, bags, shares)
    assert np.allclose(near.predict_proba(x), whole.predict_proba(x), atol=1e-4)
    assert np.isclose(near.score(x, bags, shares), whole.score(x, bags, number), atol=1e-5)
    half = np.full((40, classes), 1 / classes) + 0.01234 * (np.arange(classes) - (classes - 1) / 2)
    drawn = model.fit(np.ones((len(x), 1)), bags, half)
    assert np.allclose(drawn.predict_proba(np.ones((1, 1))), half[0], atol=2e-3)
    with pytest.raises(ValueError, match="posterior needs whole counts"):
        model.posterior(np.ones((len(x), 1)), bags, half)
    with pytest.raises(ValueError, match=r"proportions must sum to 1, got .* for bag 0"):
        model.fit(x, bags, half - 0.1)


@pytest.mark.parametrize("digits", [2, 3])
def test_the_loss_on_proportions_takes_rounded_shares(digits):
    x, bags, _, _ = counted(40, 3)
    shares = np.tile([0.12345, 0.23456, 0.64199], (40, 1))
    shares[1::2] = [0.33333, 0.33333, 0.33334]  # rounded they sum to less than 1
    shares[2::4] = [0.16666, 0.16667, 0.66667]  # to more
    model = CountClassifier(method="proportions", proportions=True)
    exact = model.fit(x, bags, shares).predict_proba(x)
    rounded = shares.round(digits)
    assert (np.abs(rounded.sum(1) - 1) > 1e-4).any()
    assert np.allclose(model.fit(x, bags, rounded).predict_proba(x), exact, atol=10.0**-digits)
    assert 0 < model.score(x, bags, rounded) <= 1
    missing = rounded - [0, 0, 2 * 10.0**-digits]  # more than three roundings
    with pytest.raises(ValueError, match=r"proportions must sum to 1, got .* which sum to 0\.9"):
        model.fit(x, bags, missing)


def test_shares_of_a_population_name_the_method_that_takes_them():
    x, bags, _, _ = counted(40, 3)
    with pytest.raises(ValueError, match=r"a sample .* pass method='proportions'"):
        CountClassifier(proportions=True).fit(x, bags, np.tile([0.123, 0.234, 0.643], (40, 1)))


@pytest.mark.parametrize("classes", [2, 3])
def test_bag_scorer_compares_shares_with_shares(classes):
    x, bags, _, number = counted(40, classes)
    seen = number[:, 1] if classes == 2 else number
    sizes = number.sum(1)
    shares = number / sizes[:, None]
    y = shares[:, 1] if classes == 2 else shares
    model = CountClassifier(proportions=True).fit(x, bags, y)
    error = bag_scorer("neg_mean_absolute_error")
    hard = pd.get_dummies(model.predict(x)).groupby(bags).mean().to_numpy()
    assert np.isclose(error(model, x, y, bags=bags), -np.abs(hard - shares).mean())
    plain = CountClassifier().fit(x, bags, seen)
    gap = np.abs(np.asarray(plain.predict_bags(x, bags)) - seen).mean()
    assert np.isclose(error(plain, x, seen, bags=bags), -gap)


def test_results_for_bags_are_sums_over_rows():
    x, bags, _, number = counted()
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(bag=bags)
    parties = pd.DataFrame(number, columns=["red", "green", "blue"])
    model = CountClassifier(bags="bag").fit(frame, parties)
    assert model.columns_.tolist() == ["red", "green", "blue"]
    one_hot = pd.get_dummies(model.predict(frame))[["red", "green", "blue"]]
    found = model.predict_bags(frame)
    assert np.array_equal(found, one_hot.groupby(frame["bag"]).sum())
    assert found.columns.tolist() == ["red", "green", "blue"]
    mean = pd.DataFrame(model.predict_proba(frame)).groupby(frame["bag"]).mean()
    assert np.allclose(model.predict_bags_proba(frame), mean)
    sizes = number.sum(1, keepdims=True)
    gap = np.abs(found.to_numpy() - number).sum(1) / 2 / sizes[:, 0]
    assert np.isclose(model.score(frame, parties), 1 - gap.mean())
    weight = np.arange(40.0)
    weighted = model.score(frame, parties, sample_weight=weight)
    assert np.isclose(weighted, np.average(1 - gap, weights=weight))


@pytest.mark.parametrize("classes", [2, 3])
def test_em_raises_the_likelihood_to_that_of_the_direct_fit(classes):
    x, bags, _, number = counted(40, classes)
    em = CountClassifier(method="em", alpha=0.1, tol=1e-7).fit(x, bags, number)
    assert (np.diff(em.loss_curve_) <= 1e-9).all()
    assert em.n_iter_ == len(em.loss_curve_) > 2
    direct = CountClassifier(alpha=0.1, tol=1e-7).fit(x, bags, number)
    assert np.isclose(em.loss_curve_[-1], direct.loss_curve_[-1], atol=1e-5)
    assert np.allclose(em.predict_proba(x), direct.predict_proba(x), atol=1e-2)


def test_an_epoch_of_em_in_one_step_is_a_step_on_the_likelihood():
    x, bags, _, number = counted(20, 3)
    options = {"solver": "adam", "batch_size": 20, "max_iter": 3, "random_state": 0}
    em, direct = (
        CountClassifier(method=m, **options).fit(x, bags, number) for m in ("em", "exact")
    )
    assert np.allclose(em.predict_proba(x), direct.predict_proba(x), atol=1e-9)


def test_expectation_maximisation_warns_where_it_ends_too_early():
    x, bags, _, hidden = bags_of_one_class(20)
    number = np.bincount(bags, hidden).astype(int)
    with pytest.warns(ConvergenceWarning, match="em did not converge in max_iter=2 E-steps"):
        CountClassifier(method="em", max_iter=2, tol=1e-9).fit(x, bags, number)
    with warnings.catch_warnings(action="error"):
        CountClassifier(method="em").fit(x, bags, number)


def test_the_loss_on_proportions_is_that_of_counts():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 4, generator=g, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([1, 4, 2, 3, 4])[:, None]
    positives = torch.tensor([1, 4, 0, 2, 2])
    log_p = torch.stack([-logits, logits], 1).mul(0.5).log_softmax(1)
    own = torch.stack([mask.sum(1) - positives, positives], 1)
    ours = proportion_losses_multiclass(log_p.movedim(1, 2), own, mask).mean()
    assert torch.isclose(ours, counts.proportion_loss(logits, positives, mask))


def test_one_or_several_bags_a_step():
    x, bags, _, hidden = bags_of_one_class(40)
    number = np.array([hidden[bags == b].sum() for b in range(40)])
    for method, size in itertools.product(("exact", "proportions"), (1, 8)):
        model = CountClassifier(method=method, batch_size=size, max_iter=40, random_state=0)
        assert (model.fit(x, bags, number).predict(x) == hidden).mean() > 0.95
        assert model.n_iter_ <= 40


def test_early_stopping_and_partial_fit_work_on_counts():
    x, bags, hidden, number = counted()
    model = CountClassifier(early_stopping=True, random_state=0).fit(x, bags, number)
    assert len(model.validation_scores_) == model.n_iter_
    model = CountClassifier(method="em", learning_rate=0.05, random_state=0)
    for _ in range(60):
        for part in (bags < 20, bags >= 20):
            model.partial_fit(x[part], bags[part], number[np.unique(bags[part])])
    assert (model.predict(x) == hidden).mean() > 0.9


def test_counts_that_do_not_fit_are_named():
    x, bags, _, number = counted()
    wrong = number.copy()
    wrong[7, 0] += 1
    with pytest.raises(ValueError, match=r"sum to the rows of each bag, got .* for bag 7 of"):
        CountClassifier().fit(x, bags, wrong)
    with pytest.raises(ValueError, match=r"must be whole numbers, got 0\.5 for bag 0"):
        CountClassifier().fit(x, bags, np.full(40, 0.5))
    with pytest.raises(ValueError, match=r"proportions times sizes must be whole numbers"):
        CountClassifier(proportions=True).fit(x, bags, np.full(40, 0.123))
    with pytest.raises(ValueError, match="must be numbers, got sets"):
        CountClassifier().fit(x, bags, [{1}] * 40)
    with pytest.raises(ValueError, match="must be numbers, got dtype"):
        CountClassifier().fit(x, bags, np.full((40, 3), "a"))
    with pytest.raises(ValueError, match="counts must not be negative"):
        CountClassifier().fit(x, bags, np.full(40, -1))
    model = CountClassifier().fit(x, bags, number)
    with pytest.raises(ValueError, match="must have 3 columns, got 2"):
        model.score(x, bags, number[:, 0])
    with pytest.raises(ValueError, match=r"module must return \(n_rows, 3\)"):
        CountClassifier(torch.nn.Linear(2, 2)).fit(x, bags, number)


@pytest.mark.parametrize("class_weight", [{0: 3.0, 2: 0.5}, "balanced"])
def test_weights_of_classes_are_those_of_logistic_regression_without_bags(class_weight):
    x, _, hidden, _ = counted(40)
    keep = np.flatnonzero((hidden != 1) | (np.arange(len(x)) % 3 == 0))
    x, y = StandardScaler().fit_transform(x[keep]), hidden[keep]
    theirs = LogisticRegression(class_weight=class_weight, C=1 / (0.1 * len(x)), tol=1e-8)
    ours = CountClassifier(class_weight=class_weight, alpha=0.1, tol=1e-8, max_iter=2000)
    assert np.allclose(
        ours.fit(x, y).predict_proba(x), theirs.fit(x, y).predict_proba(x), atol=1e-4
    )


def test_a_bag_weighs_the_mean_of_its_instances():
    x, bags, _, number = counted(12)
    model = CountClassifier(class_weight={0: 2.0, 1: 0.0}).fit(x, bags, number)
    table = model._read(x, bags, number, False, reset=False)
    expected = number @ [2.0, 0.0, 1.0] / number.sum(1)
    assert np.allclose(table.weight.numpy(), expected)
    with pytest.raises(ValueError, match="class_weight must name classes of"):
        CountClassifier(class_weight={7: 1}).fit(x, bags, number)
