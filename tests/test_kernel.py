"""The kernel classifier of bags: its columns, its sums, its tests, and what it refuses."""

import copy
from dataclasses import replace

import pytest
import torch

from wsl_tutorial import presence
from wsl_tutorial.data import concepts
from wsl_tutorial.kernel import Candidate, Columns, KernelPresence, Landmarks, Scale, _folds, _sums

GRID = [Candidate(3.0, copies, k, 0.03) for copies in ("all", "kernel") for k in (1, 2)]
SMALL = {"grid": GRID, "landmarks": 60, "steps": 60, "folds": 3}


def draw(test="single", part="train", number=60, seed=0):
    return concepts.bags(test, part, number, torch.Generator().manual_seed(seed))


def auc(p, labels):
    return (p[labels][:, None] > p[~labels]).float().mean().item()


@pytest.fixture(scope="module")
def fitted():
    d = draw()
    return KernelPresence(**SMALL).fit(d["instances"], d["bags"], d["labels"]), d


def test_the_poison_is_not_learned(fitted):
    model, train = fitted
    test = draw(part="test", seed=1)
    assert auc(model.predict_proba(train["instances"], train["bags"]), train["labels"]) > 0.9
    assert auc(model.predict_proba(test["instances"], test["bags"]), test["labels"]) > 0.8


def test_scaling_and_landmarks_use_the_bags_whose_labels_are_left_out(fitted):
    model, d = fitted
    every = Scale(d["instances"])
    torch.testing.assert_close(model._scale.mean, every.mean)
    features, _ = next(iter(model._fitted.values()))
    at = every(d["instances"])[:, None] == features.at
    owners = d["bags"][at.all(2).any(1)]
    held = _folds(d["labels"], model.folds, torch.Generator().manual_seed(0))
    assert set(held[owners].tolist()) == set(range(model.folds))


def test_shares_sum_to_one_and_the_largest_is_chosen(fitted):
    model, _ = fitted
    assert sum(model.share_.values()) == pytest.approx(1)
    assert model.chosen_ == max(model.validation_, key=model.validation_.__getitem__)
    assert all(value < 0 for value in model.validation_.values())


def test_the_columns_state_the_likelihood_of_the_room():
    d, g = draw(number=8), torch.Generator().manual_seed(0)
    z = Scale(d["instances"])(d["instances"])
    features = Landmarks(z, d["bags"], 1.0, 20, g)(z)
    model = Columns([Candidate(1.0, copies, k, 0.0) for copies in ("none", "kernel", "all")
                     for k in (1, 2)], 0.02)  # fmt: skip
    model.weight = torch.randn(features.shape[1], 9, generator=g)
    model.bias = torch.randn(9, generator=g)
    sums = _sums(z, d["bags"], {"none", "kernel", "all"}, 1.0)
    got = model.log_likelihood(features, sums, d["labels"])
    logits = model.logits(features)
    for bag, label in enumerate(d["labels"]):
        rows = d["bags"] == bag
        for k, c in enumerate(model.candidates):
            own = logits[rows][:, model.of == k].T[None].double()
            width = {"none": 0.0, "kernel": (16 / 2) ** 0.5, "all": torch.inf}[c.copies]
            w = presence.copy_weights(z[rows][None].double(), width)
            exact = presence.log_likelihood_concepts(own, label[None], w, 0.02)
            torch.testing.assert_close(got[bag, k].double(), exact[0], rtol=1e-4, atol=1e-5)


def test_without_copies_each_of_two_equal_instances_has_the_weight_one():
    """As the docstring of a candidate says; width 0 makes them one."""
    z, bags = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    assert _sums(z, bags, {"none"}, 1.0)["none"].tolist() == [[1.0] * 3]
    assert presence.copy_weights(z[None], 0.0).sum() == 1
    assert '"none", weights 1, also for exact copies' in " ".join(Candidate.__doc__.split())


def test_a_column_learns_what_it_learns_alone():
    d = draw(number=20)
    z = Scale(d["instances"])(d["instances"])
    g = torch.Generator().manual_seed(0)
    features = Landmarks(z, d["bags"], 1.0, 20, g)(z)
    sums = _sums(z, d["bags"], {"all"}, 1.0)
    use = torch.ones(20, 2)
    use[:5, 1] = 0
    found = []
    for columns in ([0, 1], [0], [1]):
        model = Columns([Candidate(1.0, "all", 1, 0.03)] * len(columns), 0.02)
        zero = torch.Generator().manual_seed(0)
        model.fit(features, sums, d["labels"], use[:, columns], 30, 0.1, zero)
        found.append(model.log_positive(features, sums))
    # first weights differ by 0.01 draws; the penalised problem of one concept has one solution
    torch.testing.assert_close(found[0][:, :1], found[1], atol=0.2, rtol=0.2)
    torch.testing.assert_close(found[0][:, 1:], found[2], atol=0.2, rtol=0.2)
    assert not torch.allclose(found[0][:, 0], found[0][:, 1], atol=0.02)


def test_prediction_does_not_depend_on_the_order_of_rows(fitted):
    model, d = fitted
    order = torch.randperm(len(d["bags"]), generator=torch.Generator().manual_seed(3))
    p = model.predict_proba(d["instances"], d["bags"])
    again = model.predict_proba(d["instances"][order], d["bags"][order])
    torch.testing.assert_close(p, again, atol=1e-4, rtol=1e-3)
    alone = model.predict_proba(d["instances"][d["bags"] == 0], d["bags"][d["bags"] == 0])
    torch.testing.assert_close(p[:1], alone, atol=1e-4, rtol=1e-3)


def test_folds_are_of_equal_size_and_stratified():
    labels = torch.arange(47) < 20
    held = _folds(labels, 5, torch.Generator().manual_seed(0))
    sizes, positive = torch.bincount(held), torch.bincount(held[labels])
    assert sizes.max() - sizes.min() <= 1
    assert positive.tolist() == [4] * 5


def test_constant_features_are_left_out_and_outliers_are_clipped():
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 0.1  # its computed deviation may be rounding alone
    x[0, 2] = 1e6
    z = Scale(x)(x)
    assert z.shape == (50, 2)
    assert z.abs().max() <= 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x": torch.zeros(3)}, "x must be floating point"),
        ({"x": [[0.0, 1.0]] * 4}, r"x must be floating point of shape \(N, D\).* got list"),
        ({"bags": [0, 0, 1, 1]}, r"bags must be int64 of shape \(4,\).* got list"),
        ({"labels": [True, False]}, r"labels must be bool of shape \(2,\), got list"),
        ({"x": torch.full((4, 2), torch.nan)}, "x must be floating point .* all finite"),
        ({"bags": torch.tensor([0, 0, 2, 2])}, "bags must be int64 .* none missing"),
        ({"bags": torch.tensor([0, 0, 1])}, r"bags must be int64 of shape \(4,\)"),
        ({"labels": torch.tensor([0, 1])}, "labels must be bool"),
        ({"labels": torch.tensor([True])}, r"labels must be bool of shape \(2,\)"),
        ({}, "labels must hold at least 4 positive and 4 negative bags, got 1 and 1"),
    ],
)
def test_a_wrong_input_is_named(change, says):
    given = {"x": torch.zeros(4, 2), "bags": torch.tensor([0, 0, 1, 1]),
             "labels": torch.tensor([True, False])} | change  # fmt: skip
    with pytest.raises(ValueError, match=says):
        KernelPresence().fit(**given)


@pytest.mark.parametrize("wrong", [{"grid": ()}, {"noise": 0.7}, {"noise": -0.1}, {"folds": 1},
                                   {"landmarks": 2.5}, {"steps": 0}, {"lr": 0.0},
                                   {"grid": (1.0,)}, {"seed": 1.5}])  # fmt: skip
def test_a_setting_out_of_range_is_named(wrong):
    d = draw(number=8)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KernelPresence(**wrong).fit(d["instances"], d["bags"], d["labels"])


@pytest.mark.parametrize("wrong", [(1.0, "Kernel", 1, 0.1), (-1.0, "all", 1, 0.1),
    (torch.nan, "all", 1, 0.1), (1.0, "all", 0, 0.1), (1.0, "all", 1.5, 0.1),
    (1.0, "all", 1, -0.1), (1.0, "all", 1, 0.1, 0.0), (1.0, "all", 1, 0.1, "2")])  # fmt: skip
def test_a_candidate_that_is_none_is_refused(wrong):
    says = "scale and slope must be positive, copies none, kernel or all|concepts must be an int"
    with pytest.raises(ValueError, match=says):
        Candidate(*wrong)


def test_instances_have_the_features_of_fit(fitted):
    model, d = fitted
    x, bags = d["instances"], d["bags"]
    for call in (lambda x: model.predict_proba(x, bags), model.evidence):
        with pytest.raises(ValueError, match="x must have the 16 features of fit, got 1"):
            call(x[:, :1])
        for wrong in (x[0], x * torch.nan):
            with pytest.raises(ValueError, match="x must be floating point"):
                call(wrong)
    with pytest.raises(RuntimeError, match="KernelPresence must be fitted first"):
        KernelPresence().evidence(x)
    with pytest.raises(ValueError, match="x must have a feature that varies, got 16 constant"):
        KernelPresence(**SMALL).fit(torch.ones_like(x), bags, d["labels"])


def test_a_prediction_is_the_mean_over_candidates_weighted_by_their_shares(fitted):
    model, d = copy.copy(fitted[0]), fitted[1]
    x, bags = d["instances"], d["bags"]
    alone = []
    for c in model.share_:
        model.share_ = {c: 1.0}
        alone.append(model.predict_proba(x, bags))
    mean = torch.stack(alone).mean(0)
    for share in (5e-5, 0.25):  # only their ratios count
        model.share_ = dict.fromkeys(fitted[0].share_, share)
        torch.testing.assert_close(model.predict_proba(x, bags), mean)


def test_candidates_that_differ_in_slope_share_one_training():
    d = draw(number=40)
    x, bags, labels = d["instances"], d["bags"], d["labels"]
    plain = Candidate(3.0, "all", 1, 0.1)
    steep = replace(plain, slope=2.0)
    settings = {"landmarks": 30, "steps": 30, "folds": 2}
    model = KernelPresence([steep, plain], **settings).fit(x, bags, labels)
    alone = KernelPresence([steep], **settings).fit(x, bags, labels)
    assert model.validation_[steep] == pytest.approx(alone.validation_[steep])
    assert model.validation_[steep] != pytest.approx(model.validation_[plain])
    odds = []
    for c in (plain, steep):
        model.share_ = {c: 1.0}
        p = model.predict_proba(x, bags).double()
        odds.append(p / (1 - p))
    torch.testing.assert_close(odds[1], odds[0] ** 2, rtol=1e-3, atol=1e-5)
