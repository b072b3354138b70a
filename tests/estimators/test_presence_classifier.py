"""Test the classifier of label sets: its likelihood, labels of all forms, poolings, training."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn
from worlds import bags_of_one_class, bags_of_several_classes

from wsl_tutorial import models
from wsl_tutorial.estimators import CountClassifier, PresenceClassifier
from wsl_tutorial.estimators.batches import over_bags, over_rows

METHODS = ("exact", "noisy-or", "max", "mean", "attention")


def enumerated(p, label):
    """Return the probability that some row is of the class (1), or none (0), over labellings."""
    total = 0.0
    for hidden in itertools.product([0, 1], repeat=len(p)):
        if max(hidden) == label:
            total += np.prod([q if h else 1 - q for h, q in zip(hidden, p, strict=True)])
    return total


def test_the_fit_is_a_minimum_of_the_enumerated_likelihood():
    x, bags, y, _ = bags_of_one_class(14, most=4)
    label = y[np.unique(bags, return_index=True)[1]]
    alpha = 0.1
    model = PresenceClassifier(alpha=alpha, standardize=False, tol=1e-8).fit(x, bags, label)
    layer = model.module_[1]

    def loss(weight, bias):
        p = 1 / (1 + np.exp(-(x @ weight + bias)))
        terms = [-np.log(enumerated(p[bags == b], label[b])) for b in range(len(label))]
        return np.mean(terms) + alpha / 2 * (weight**2).sum()

    weight, bias = layer.weight.detach().numpy()[0], layer.bias.item()
    best = loss(weight, bias)
    assert np.isclose(best, model.loss_curve_[-1], atol=1e-9)
    for step in np.random.default_rng(0).normal(size=(20, len(weight) + 1)) / 100:
        assert loss(weight + step[:-1], bias + step[-1]) > best


def test_instances_are_found_from_labels_of_bags():
    x, bags, y, hidden = bags_of_one_class(60)
    model = PresenceClassifier().fit(x, bags, y)
    assert (model.predict(x) == hidden).mean() > 0.95
    assert model.score(x, bags, y) > 0.95


@pytest.mark.parametrize("values", [(0, 1), (-1, 1), (False, True), ("fake", "real"), (1.0, 2.0)])
def test_the_larger_of_two_labels_is_the_positive_one(values):
    x, bags, y, _ = bags_of_one_class(20)
    plain = PresenceClassifier().fit(x, bags, y)
    named = np.array(values)[y]
    model = PresenceClassifier().fit(x, bags, named)
    assert model.classes_.tolist() == list(values)
    assert np.array_equal(model.predict_proba(x), plain.predict_proba(x))
    assert np.array_equal(model.predict(x), np.array(values)[plain.predict(x)])
    found = model.predict_bags(x, bags)
    assert np.array_equal(found, np.array(values)[plain.predict_bags(x, bags)])
    assert model.score(x, bags, named) == plain.score(x, bags, y)


def test_probabilities_of_bags_and_posteriors_are_enumerations():
    x, bags, y, _ = bags_of_one_class(12, most=4)
    model = PresenceClassifier(max_iter=3, tol=0.01).fit(x, bags, y)
    p = model.predict_proba(x)[:, 1]
    proba = model.predict_bags_proba(x, bags)
    posterior = model.posterior(x, bags, y)
    for b in range(12):
        own = p[bags == b]
        assert np.isclose(proba[b, 1], enumerated(own, 1))
        given = own / enumerated(own, 1) if y[bags == b][0] else np.zeros(len(own))
        assert np.allclose(posterior[bags == b, 1], given)
    assert np.allclose(posterior.sum(1), 1)
    odds = np.log(proba[:, 1] / proba[:, 0])
    assert np.allclose(model.decision_function_bags(x, bags), odds)
    assert np.array_equal(model.predict_bags(x, bags), (odds > 0).astype(int))


def several(n_bags=40, seed=0):
    x, bags, hidden = bags_of_several_classes(n_bags, seed=seed)
    sets = [set(hidden[bags == b].tolist()) - {3} for b in range(n_bags)]
    return x, bags, hidden, sets


def test_sets_matrices_frames_and_rows_of_labels_are_the_same():
    x, bags, hidden, sets = several()
    matrix = np.array([[c in own for c in range(3)] for own in sets]).astype(int)
    forms = {
        "matrix": matrix,
        "bool": matrix.astype(bool),
        "float": matrix.astype(float),
        "frame": pd.DataFrame(matrix[::-1], index=range(39, -1, -1)),
        "series": pd.Series(sets, index=range(40)).sample(frac=1, random_state=0),
        "dict": dict(reversed(list(enumerate(sets)))),
        "rows": matrix[bags],
        "sets by row": [sets[b] for b in bags],
    }
    model = PresenceClassifier().fit(x, bags, sets)
    assert model.columns_.tolist() == [0, 1, 2, -1]
    assert (model.predict(x) == np.where(hidden == 3, -1, hidden)).mean() > 0.9
    for name, labels in forms.items():
        other = PresenceClassifier().fit(x, bags, labels)
        assert np.array_equal(other.predict_proba(x), model.predict_proba(x)), name
        assert other.score(x, bags, labels) == model.score(x, bags, sets)
        assert np.array_equal(other.posterior(x, bags, labels), model.posterior(x, bags, sets))


def test_names_of_classes_come_from_columns_and_sets():
    x, bags, _, sets = several()
    names = np.array(["cat", "dog", "owl"])
    named = [{names[c] for c in own} for own in sets]
    frame = pd.DataFrame([{n: n in own for n in names} for own in named])
    by_set, by_column = (PresenceClassifier().fit(x, bags, labels) for labels in (named, frame))
    assert by_set.columns_.tolist() == ["cat", "dog", "owl", "background"]
    assert by_column.columns_.tolist() == by_set.columns_.tolist()
    assert set(by_set.predict(x)) == {"cat", "dog", "owl", "background"}
    with pytest.raises(ValueError, match="got 'cow' for bag 0"):
        by_set.score(x, bags, [{"cow"}, *named[1:]])
    assert by_column.score(x, bags, frame[["dog", "cat", "owl"]]) == by_column.score(x, bags, frame)


def test_classes_of_any_kind_keep_their_names():
    x, bags, _, sets = several()
    kinds = ([1.5, 2.5, 3.5], [("a", 1), ("a", 2), ("b", 1)], ["a", 1, 2.5])
    kinds += ([("a",), ("b", 1), ("c", 1, 2)], [False, True, "a"])
    expected = PresenceClassifier().fit(x, bags, sets).predict_proba(x)
    for names in kinds:
        named = [{names[c] for c in own} for own in sets]
        model = PresenceClassifier().fit(x, bags, named)
        assert set(model.classes_.tolist()) == set(names)
        order = [*(model.classes_.tolist().index(n) for n in names), 3]
        assert np.allclose(model.predict_proba(x)[:, order], expected, atol=1e-3)
        assert set(model.predict(x)) <= {*names, model.columns_[-1]}
    pair = PresenceClassifier(max_iter=2, tol=9).fit(
        x, bags, [{c % 2 == 0 for c in s} for s in sets]
    )
    assert [*pair.columns_] == [False, True, "background"]
    with pytest.raises(ValueError, match="name each class once and none"):
        PresenceClassifier().fit(x, bags, [{"background"}, *[set()] * 39])
    with pytest.raises(ValueError, match="pass -1 in place of a set that is unknown"):
        PresenceClassifier().fit(x, bags, [{-1}, *[set()] * 39])


def test_an_unknown_label_is_summed_out():
    x, bags, _, sets = several()
    matrix = np.array([[c in own for c in range(3)] for own in sets]).astype(int)
    model = PresenceClassifier().fit(x, bags, matrix)
    matrix[3] = -1
    matrix[4, 1] = -1
    table = model._read(x, bags, matrix, True, reset=False)
    values = model._values(table, torch.tensor([3, 4])).detach().numpy()
    ways = []
    for bit in (0, 1):
        other = matrix.copy()
        other[4, 1] = bit
        table = model._read(x, bags, other, True, reset=False)
        ways.append(model._values(table, torch.tensor([4])).item())
    assert np.allclose(values, [0, np.logaddexp(*ways)])
    fitted = PresenceClassifier().fit(x, bags, matrix)
    rest, z = bags != 3, (x - x.mean(0)) / x.std(0)
    # a bag of which nothing is known changes the mean only, hence the weight of the penalty
    without = PresenceClassifier(standardize=False, alpha=0.01 * 40 / 39)
    without.fit(z[rest], bags[rest], np.delete(matrix, 3, 0))
    assert np.allclose(fitted.predict_proba(x), without.predict_proba(z), atol=2e-3)
    y = np.array([-1, 0, 1] * 13 + [1])
    binary = PresenceClassifier().fit(x, bags, y)
    assert binary.classes_.tolist() == [0, 1]


def test_without_a_background_every_row_has_a_class():
    x, bags, hidden = bags_of_several_classes(40)
    sets = [set(hidden[bags == b].tolist()) for b in range(40)]
    model = PresenceClassifier(background=False).fit(x, bags, sets)
    assert model.predict_proba(x).shape == (len(x), 4)
    assert (model.predict(x) == hidden).mean() > 0.9
    assert np.allclose(model.posterior(x, bags, sets).sum(1), 1)
    with pytest.raises(ValueError, match="background must be True for one class"):
        PresenceClassifier(background=False).fit(x, bags, np.arange(40) % 2)
    with pytest.raises(ValueError, match="bag 0 is impossible for its"):
        PresenceClassifier(background=False).fit(x, bags, [set(), *sets[1:]])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_and_gives_probabilities(method):
    x, bags, y, _ = bags_of_one_class(60, most=3)
    model = PresenceClassifier(method=method, random_state=0).fit(x, bags, y)
    assert model.score(x, bags, y) > 0.9
    assert np.allclose(model.predict_bags_proba(x, bags).sum(1), 1)
    one = model.predict_bags_proba(x, np.arange(len(x)))  # every row a bag of its own
    assert np.allclose(one, model.predict_proba(x))


def test_noisy_or_is_the_likelihood_for_one_class_and_not_for_several():
    x, bags, y, _ = bags_of_one_class(20)
    exact, noisy = (PresenceClassifier(method=m).fit(x, bags, y) for m in ("exact", "noisy-or"))
    assert np.allclose(exact.predict_proba(x), noisy.predict_proba(x), atol=1e-6)
    x, bags, _, sets = several()
    exact, noisy = (PresenceClassifier(method=m).fit(x, bags, sets) for m in ("exact", "noisy-or"))
    assert not np.allclose(exact.predict_proba(x), noisy.predict_proba(x), atol=1e-3)


def test_attention_of_several_classes_classifies_bags_only():
    x, bags, _, sets = several()
    model = PresenceClassifier(method="attention", random_state=0).fit(x, bags, sets)
    assert model.predict_bags_proba(x, bags).shape == (40, 3)
    assert model.score(x, bags, sets) > 0.6
    with pytest.raises(ValueError, match="classifies bags only"):
        model.predict(x)
    one = PresenceClassifier(method="attention", max_iter=1).fit(x, bags, np.arange(40) % 2)
    with pytest.raises(ValueError, match="has no posterior"):
        one.posterior(x, bags, np.arange(40) % 2)


def test_bags_of_all_sizes_share_a_batch(monkeypatch):
    sizes = torch.tensor([1, 70, 2, 3, 1, 9])
    values = torch.randn(int(sizes.sum()), 4, 2, generator=torch.Generator().manual_seed(0))
    parts = values.split(sizes.tolist())
    monkeypatch.setattr("wsl_tutorial.estimators.batches.ROWS", 1)
    sums = over_bags(values, sizes, lambda p, mask, _: (p * mask[:, None]).sum(2))
    assert torch.allclose(sums, torch.stack([part.sum((0, 2)) for part in parts]))
    assert torch.equal(over_rows(values, sizes, lambda p, mask, _: p), values)
    x, bags, y, _ = bags_of_one_class(20, most=40)
    model = PresenceClassifier(max_iter=5, tol=0.1).fit(x, bags, y)
    whole = model.predict_bags_proba(x, bags)
    alone = [model.predict_bags_proba(x[bags == b], bags[bags == b])[0] for b in range(20)]
    assert np.allclose(whole, alone)
    monkeypatch.setattr("wsl_tutorial.estimators.tables.ROWS", 10)
    assert np.allclose(model.predict_bags_proba(x, bags), whole)
    pieces = PresenceClassifier(max_iter=5, tol=0.1).fit(x, bags, y)
    assert np.allclose(pieces.predict_proba(x), model.predict_proba(x))


def test_rows_of_a_bag_may_lie_anywhere():
    x, bags, y, _ = bags_of_one_class(30)
    model = PresenceClassifier().fit(x, bags, y)
    order = np.random.default_rng(0).permutation(len(x))
    shuffled = PresenceClassifier().fit(x[order], bags[order], y[order])
    assert np.allclose(shuffled.predict_proba(x), model.predict_proba(x), atol=1e-4)
    posterior = model.posterior(x[order], bags[order], y[order])
    assert np.allclose(posterior, model.posterior(x, bags, y)[order])


@pytest.mark.parametrize("kind", ["module", "function"])
def test_a_module_is_trained_as_a_copy(kind):
    x, bags, y, hidden = bags_of_one_class(60)
    torch.manual_seed(0)
    own = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    before = [p.detach().clone() for p in own.parameters()]

    def made(inputs, outputs):
        return nn.Sequential(nn.Linear(inputs, 8), nn.Tanh(), nn.Linear(8, outputs))

    model = PresenceClassifier(own if kind == "module" else made, random_state=0).fit(x, bags, y)
    assert (model.predict(x) == hidden).mean() > 0.95
    assert all(torch.equal(a, b) for a, b in zip(before, own.parameters(), strict=True))
    two = PresenceClassifier(nn.Linear(3, 2), max_iter=1).fit(x, bags, y)  # softmax of two values
    assert two.predict_proba(x).shape == (len(x), 2)
    with pytest.raises(ValueError, match=r"module must return \(n_rows, 2\), got"):
        PresenceClassifier(nn.Linear(3, 3)).fit(x, bags, y)
    with pytest.raises(ValueError, match="module must be a torch module"):
        PresenceClassifier("linear").fit(x, bags, y)


def test_positions_of_an_image_are_instances_of_its_bag():
    g = torch.Generator().manual_seed(0)
    images = torch.randn(6, 1, 21, 25, generator=g).numpy()
    labels = [{0}, {1}, {0, 1}, set(), {1}, {0}]
    network = models.reader(g, classes=2)
    model = PresenceClassifier(network, max_iter=2, random_state=0).fit(images, labels)
    p = model.predict_proba(images)
    assert p.shape == (6, 3, 5, 7)
    assert model.predict(images).shape == (6, 5, 7)
    assert np.allclose(model.posterior(images, labels).sum(1), 1, atol=1e-5)
    bags = model.predict_bags_proba(images)
    assert np.allclose(bags, 1 - (1 - p[:, :2]).prod((2, 3)), atol=1e-5)
    pairs = model.predict_bags_proba(images, [0, 0, 1, 1, 2, 2])
    assert np.allclose(pairs, 1 - (1 - bags[::2]) * (1 - bags[1::2]), atol=1e-5)


def test_adam_finds_the_minimum_of_lbfgs():
    x, bags, y, _ = bags_of_one_class(30)
    quasi = PresenceClassifier(alpha=0.1, tol=1e-7).fit(x, bags, y)
    slow = PresenceClassifier(alpha=0.1, solver="adam", batch_size=30, max_iter=400, tol=1e-9)
    slow.set_params(learning_rate=0.05, n_iter_no_change=100).fit(x, bags, y)
    assert np.allclose(slow.predict_proba(x), quasi.predict_proba(x), atol=1e-3)


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_early_stopping_holds_out_bags_and_returns_to_the_best(solver):
    x, bags, y, _ = bags_of_one_class(60)
    x = np.hstack([x, np.random.default_rng(1).normal(size=(len(x), 10))])  # to overfit
    y = y ^ (bags % 7 == 0)
    model = PresenceClassifier(solver=solver, early_stopping=True, learning_rate=0.1, alpha=0)
    model.set_params(validation_fraction=0.3, random_state=0).fit(x, bags, y)
    scores = list(model.validation_scores_)
    assert model.n_iter_ == len(scores) == len(model.loss_curve_) < 50
    assert 1 <= model.n_iter_ - 1 - int(np.argmax(scores)) <= 10
    table = model._read(x, bags, y, False, reset=False)
    _, held = model._hold_out(table)
    assert len(held) == 18
    assert np.isclose(-model._mean_loss(table, held), max(scores))
    with pytest.raises(ValueError, match=r"of 8 bags with bags of each class .* or pass early"):
        model.set_params(validation_fraction=0.1).fit(x[bags < 8], bags[bags < 8], y[bags < 8])


def test_training_starts_where_rows_alike_explain_the_labels():
    """At the start a bag of the mean size is positive as often as in the training set."""
    x, bags = np.random.default_rng(0).normal(size=(400, 3)), np.repeat(np.arange(40), 10)
    y = (np.arange(40) < 12).astype(int)
    for method in ("exact", "noisy-or", "max", "mean"):
        model = PresenceClassifier(method=method)
        model._start(model._read(x, bags, y, True, reset=True), anew=True)
        assert np.allclose(model.predict_bags_proba(x, bags)[:, 1], 12.5 / 41)
    matrix = np.stack([y, np.arange(40) % 4 == 0, np.full(40, -1)], 1)
    model = PresenceClassifier()
    with pytest.warns(UserWarning, match="no bag has a known label of class 2"):
        model._start(model._read(x, bags, matrix, True, reset=True), anew=True)
    assert np.allclose(model.predict_bags_proba(x, bags), [12.5 / 41, 10.5 / 41, 0.5])
    model = CountClassifier()
    model._start(model._read(x, bags, np.full(40, 3), True, reset=True), anew=True)
    assert np.allclose(model.predict_proba(x)[:, 1], 0.3, atol=1e-3)


def test_a_warm_start_goes_on():
    x, bags, y, _ = bags_of_one_class(40)
    model = PresenceClassifier(solver="adam", max_iter=3, warm_start=True, random_state=0)
    first = model.fit(x, bags, y).loss_curve_[-1]
    model.fit(x, bags, y)
    assert model.n_iter_ == 6
    assert model.loss_curve_[-1] < first
    cold = PresenceClassifier(solver="adam", max_iter=3, random_state=0).fit(x, bags, y)
    assert cold.fit(x, bags, y).n_iter_ == 3
    with pytest.raises(ValueError, match="warm_start needs the features and classes"):
        model.fit(x[:, :2], bags, y)


def test_partial_fit_takes_parts_of_the_bags():
    x, bags, y, hidden = bags_of_one_class(60)
    model = PresenceClassifier(random_state=0, learning_rate=0.05)
    for _ in range(40):
        for part in (bags < 20, (bags >= 20) & (bags < 40), bags >= 40):
            model.partial_fit(x[part], bags[part], y[part], classes=[0, 1])
    assert model.n_iter_ == 120
    assert (model.predict(x) == hidden).mean() > 0.9
    one = y == 0
    with pytest.raises(ValueError, match="one class only"):
        PresenceClassifier().partial_fit(x[one], bags[one], y[one])
    for unknown in (-1, -1.0):
        with pytest.raises(ValueError, match="labels must hold a positive bag, got 0 and -1"):
            PresenceClassifier().fit(x[one], bags[one], np.where(bags[one] % 3, 0, unknown))


def test_weights_of_classes_count_bags_more_often():
    x, bags, y, _ = bags_of_one_class(20)
    twice = np.r_[np.arange(len(x)), np.flatnonzero(y == 1)]
    again = np.r_[bags, bags[y == 1] + 100]
    weighted = PresenceClassifier(class_weight={1: 2.0}, standardize=False, tol=1e-7)
    repeated = PresenceClassifier(standardize=False, tol=1e-7)
    weighted.set_params(alpha=0.1 * 1.5).fit(x, bags, y)  # the mean is over 20 bags, not 30
    repeated.set_params(alpha=0.1).fit(x[twice], again, y[twice])
    assert np.allclose(weighted.predict_proba(x), repeated.predict_proba(x), atol=1e-4)
    few = bags < 15
    balanced = PresenceClassifier(class_weight="balanced").fit(x[few], bags[few], y[few])
    table = balanced._read(x[few], bags[few], y[few], False, reset=False)
    one = table.target[:, 0] == 1
    assert np.isclose(table.weight[one].sum(), table.weight[~one].sum())
    with pytest.raises(ValueError, match="class_weight must not be negative"):
        PresenceClassifier(class_weight={1: -1}).fit(x, bags, y)
    with pytest.raises(ValueError, match="class_weight must be"):
        PresenceClassifier(class_weight="heavy").fit(x, bags, y)


def test_too_few_iterations_warn():
    x, bags, y, _ = bags_of_one_class(20)
    for solver in ("lbfgs", "adam"):
        with pytest.warns(ConvergenceWarning, match=f"{solver} did not converge in max_iter=2"):
            PresenceClassifier(solver=solver, max_iter=2).fit(x, bags, y)
    with warnings.catch_warnings(action="error"):
        PresenceClassifier(solver="adam", tol=0.1).fit(x, bags, y)


def test_progress_is_drawn_on_request(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    x, bags, y, _ = bags_of_one_class(10)
    PresenceClassifier(solver="adam", max_iter=2).fit(x, bags, y)
    assert capsys.readouterr().err == ""
    PresenceClassifier(solver="adam", max_iter=2, verbose=True).fit(x, bags, y)
    assert "epoch" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "inside"), [("float32", torch.float32), ("int8", torch.float64)])
def test_the_dtype_of_x_is_that_of_the_model(given, inside):
    x, bags, y, _ = bags_of_one_class(20)
    model = PresenceClassifier().fit(x.round().astype(given), bags, y)
    assert model.module_[1].weight.dtype == inside
    assert model.predict_proba(x.round()).dtype == str(inside).removeprefix("torch.")
    half = PresenceClassifier().fit(x.astype(np.float16), bags, y)
    assert np.isfinite(half.predict_proba(x)).all()


def test_a_constant_or_huge_feature_does_no_harm():
    x, bags, y, hidden = bags_of_one_class(40)
    wide = np.column_stack([x, np.full(len(x), 1e9), 1e300 * x[:, 1], 1e-300 * x[:, 2]])
    model = PresenceClassifier().fit(wide, bags, y)
    assert (model.predict(wide) == hidden).mean() > 0.95
    assert np.isclose(*model.module_[1].weight.detach()[0, [2, 5]])  # two copies of one feature
    assert model.module_[1].weight[0, 3] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "sum"),
        ("solver", "sgd"),
        ("max_iter", 0),
        ("batch_size", 0),
        ("batch_size", True),
        ("batch_size", 1.5),
        ("n_iter_no_change", None),
        ("alpha", -1),
        ("alpha", True),
        ("tol", float("nan")),
        ("learning_rate", 0),
        ("validation_fraction", "half"),
        ("learning_rate", float("inf")),
        ("validation_fraction", 1.0),
    ],
)
def test_a_wrong_parameter_is_named(name, value):
    x, bags, y, _ = bags_of_one_class(8)
    with pytest.raises(ValueError, match=f"^{name} must be"):
        PresenceClassifier(**{name: value}).fit(x, bags, y)


def test_solvers_that_do_not_fit_are_refused():
    x, bags, y, _ = bags_of_one_class(8)
    with pytest.raises(ValueError, match="for method='em' with early_stopping, got 'lbfgs'"):
        CountClassifier(solver="lbfgs", method="em", early_stopping=True).fit(x, bags, y)
    with pytest.raises(ValueError, match="for method='attention', got 'lbfgs'"):
        PresenceClassifier(solver="lbfgs", method="attention").fit(x, bags, y)


def test_impossible_and_unfitting_labels_are_named():
    x, bags, _, sets = several()
    alone = int(np.flatnonzero(np.bincount(bags) == 1)[0])
    with pytest.raises(ValueError, match=f"bag {alone} is impossible for its 1 rows"):
        PresenceClassifier().fit(x, bags, [*sets[:alone], {0, 1}, *sets[alone + 1 :]])
    with pytest.raises(ValueError, match="1 present, 0 absent or -1 unknown, got 2"):
        PresenceClassifier().fit(x, bags, np.full((40, 3), 2))
    with pytest.raises(
        ValueError, match="must be 1, 0 or -1, got dtype <U1; for words pass y == 'yes'"
    ):
        PresenceClassifier().fit(x, bags, np.full((40, 3), "a"))
    with pytest.raises(ValueError, match="empty sets only"):
        PresenceClassifier().fit(x, bags, [set()] * 40)
    with pytest.raises(ValueError, match="Only binary classification"):
        PresenceClassifier().fit(x, bags, np.arange(40) % 3)
    fitted = PresenceClassifier().fit(x, bags, sets)
    with pytest.raises(ValueError, match="of the form of those at fit"):
        fitted.score(x, bags, np.arange(40) % 2)
    with pytest.raises(ValueError, match="got -1 only"):
        fitted.score(x, bags, np.full((40, 3), -1))


def test_a_diverging_training_is_an_error():
    x, bags, y, _ = bags_of_one_class(8)
    network = nn.Linear(3, 1)
    network.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="returned NaN: the training diverged"):
        PresenceClassifier(network).fit(x, bags, y)


def test_a_class_without_known_labels_is_named():
    x = np.random.default_rng(0).normal(size=(12, 2))
    labels = pd.DataFrame({"a": [-1] * 6, "b": [0, 1] * 3})
    with pytest.warns(UserWarning, match="no bag has a known label of class a"):
        PresenceClassifier(max_iter=2).fit(x, np.repeat(range(6), 2), labels)


@pytest.mark.parametrize("alpha", ["0.1", -1, float("nan"), None])
def test_alpha_is_a_number(alpha):
    with pytest.raises(ValueError, match="alpha must be a finite number of at least 0, got"):
        PresenceClassifier(alpha=alpha).fit(np.eye(4), [0, 1, 0, 1])
