"""The experiments of Li (2018): settings, data, losses, decisions, claims, a run of each."""

import math

import pytest
import torch
from interrupted_runs import resumed
from real_data import REAL, needs
from torch import nn

from wsl_tutorial import presence, train
from wsl_tutorial.data import houses, svhn
from wsl_tutorial.reproduce import ledger
from wsl_tutorial.reproduce.experiment import changed, leaves, settings_of
from wsl_tutorial.reproduce.presence import PAPER, data, methods, settings
from wsl_tutorial.reproduce.presence.psgd import PSGDNewton
from wsl_tutorial.reproduce.runner import Run

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
TRAINED = [e for e in PAPER.experiments if e.name != "mcmil/evaluation-time"]
ROWS = [row for row in ledger.load().values() if row.paper == "mcmil"]


def gen(seed=0):
    return torch.Generator().manual_seed(seed)


# Settings and ledger ------------------------------------------------------------------------------


def test_every_ledger_number_is_filled_once_or_quoted():
    filled = [cell.id for e in PAPER.experiments for cell in e.cells] + list(PAPER.quoted)
    assert sorted(filled) == sorted(row.id for row in ROWS)
    assert len(ROWS) == 17
    ledger.check([PAPER], ledger.load())


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_every_setting_has_the_papers_value_and_its_source(experiment):
    for f, _ in leaves(experiment.config):
        assert "paper" in f.metadata, f.name
        assert f.metadata["source"], f.name


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_cells_belong_to_the_papers_own_optimiser_and_data(experiment):
    if experiment.cells and experiment in TRAINED:
        ours = settings_of(experiment.config)
        assert ours["optimizer"] == "psgd"
        assert ours["dataset"] in ("mnist", "cifar10", "svhn-full")
        paper = {f.name: f.metadata["paper"] for f, _ in leaves(experiment.config)}
        for name in ("epochs", "batch", "stages", "clip", "test_images"):
            assert ours[name] == paper[name]
        assert ours["train_images"] + ours["validation_images"] == paper["train_images"]


def test_seeds_are_the_papers_where_it_states_them():
    assert EXPERIMENTS["mcmil/extended-mnist"].seeds == 10
    assert EXPERIMENTS["mcmil/max-pooling-as-coded"].seeds == 6


def test_both_losses_see_one_augmentation_on_cifar10():
    exact, baseline = (
        settings_of(EXPERIMENTS[f"mcmil/cifar10{s}"].config) for s in ("", "-cross-entropy")
    )
    differing = {name for name, value in exact.items() if value != baseline[name]}
    assert differing == {"loss", "rule", "per_position"}


@pytest.mark.parametrize(
    ("name", "bound"),
    [("mnist", 65.5), ("cifar10", 168.3), ("svhn-1m", 51.0), ("svhn-4m", 101.3)],
)
def test_steps_are_bounded_as_the_authors_bound_them(name, bound):
    config = EXPERIMENTS[f"mcmil/{name}"].config
    model = methods.network(config, 0)
    optimizer, _ = methods.optimiser(config, model, 10, 0, "cpu")
    assert isinstance(optimizer, PSGDNewton)
    assert optimizer.param_groups[0]["max_norm"] == pytest.approx(bound, abs=0.05)


# Every experiment runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", PAPER.experiments, ids=lambda e: e.name)
def test_smoke_protocol_runs_on_embedded_data(experiment, monkeypatch, tmp_path):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))
    monkeypatch.setattr("wsl_tutorial.data.files.fetch", None)  # nothing is downloaded
    config, run = experiment.settings("smoke"), Run()
    result = experiment.run(config, 0, run)
    assert all(math.isfinite(v) for v in result.values())
    assert {cell.metric for cell in experiment.cells} <= set(result)
    if experiment in TRAINED:
        assert len(run.curve) == config.optimiser.epochs
        assert result["best_test_error"] <= result["last_test_error"] <= 100
        assert result["last_test_error"] == run.curve[-1]["test_error"]


@pytest.mark.parametrize(
    "name", ["mcmil/mnist", "mcmil/cifar10-adamw", "mcmil/extended-mnist", "mcmil/houses-adamw"]
)
def test_interrupted_experiment_resumes_to_the_same_result(name, tmp_path):
    experiment = EXPERIMENTS[name]
    config = experiment.settings("smoke")
    whole = experiment.run(config, 1, Run(seed=1))
    assert resumed(experiment, config, tmp_path, seed=1, steps=3)[0] == whole


def test_exact_likelihood_learns_the_embedded_digits():
    config = changed(
        EXPERIMENTS["mcmil/mnist-adamw"].settings("smoke"),
        widths=(12,),
        epochs=5,
        lr=4e-3,
        train_images=800,
        test_images=300,
    )
    result = methods.run_classification(config, 0, Run())
    assert result["last_test_error"] < 30
    assert result["rules_agree"] > 90


# Data ---------------------------------------------------------------------------------------------


def test_splits_do_not_overlap_and_depend_on_the_seed():
    config = changed(EXPERIMENTS["mcmil/mnist"].settings("smoke"), train_images=700)
    one, again, other = (data.splits(config, s, "cpu") for s in (0, 0, 1))
    rows = {k: {tuple(x.flatten().tolist()) for x in one[k][0]} for k in ("train", "validation")}
    assert len(rows["train"]) == 700
    assert not rows["train"] & rows["validation"]
    assert torch.equal(one["train"][0], again["train"][0])
    assert not torch.equal(one["train"][0], other["train"][0])
    assert torch.equal(one["test"][0], other["test"][0])


def test_shift_and_flip_is_a_window_of_the_padded_image():
    images = torch.arange(2 * 3 * 5 * 5.0).reshape(2, 3, 5, 5) + 1
    corners = torch.tensor([[0, 3], [2, 4]])
    out = data.shift_and_flip(images, corners, torch.tensor([False, True]), 2)
    padded = nn.functional.pad(images, [2] * 4)
    assert torch.equal(out[0], padded[0, :, 0:5, 3:8])
    assert torch.equal(out[1], padded[1, :, 2:7, 4:9].flip(-1))
    same = data.shift_and_flip(images, torch.zeros(2, 2).long(), torch.zeros(2).bool(), 0)
    assert torch.equal(same, images)


def test_nests_cover_an_epoch_in_pairs_and_repeat():
    config = EXPERIMENTS["mcmil/extended-mnist"].settings("smoke")
    images, classes = data.splits(config, 0, "cpu")["train"]
    one, again = (list(data.nest_batches(config, images, classes, gen(3), "cpu")) for _ in range(2))
    assert sum(len(y) for _, y in one) == 32
    for (x, y), (x_again, y_again) in zip(one, again, strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)
        assert 56 <= min(x.shape[2:]) <= max(x.shape[2:]) <= 84
        assert set(y.sum(1).tolist()) <= {1, 2}
    assert len({x.shape for x, _ in one}) > 1


def test_house_numbers_hold_out_a_share_of_every_source():
    pool = houses.house_numbers(30, gen())
    sources = [pool, {k: pool[k][10:20] for k in ("images", "labels")}]
    config = changed(
        EXPERIMENTS["mcmil/houses"].settings("smoke"), train_images=28, validation_images=8
    )
    kept, held_out = data.divide(config, sources, 0, "cpu")
    assert [len(y) for _, y in kept] == [21, 7]
    assert len(held_out[1]) == 8
    with pytest.raises(ValueError, match="train_images"):
        data.divide(changed(config, train_images=40), sources, 0, "cpu")


def test_svhn_trains_from_three_sources(monkeypatch):
    """Generated crops replace the official loader: train, odd and even extra."""
    crops = {
        s: houses.house_numbers(n, gen(n)) for s, n in (("train", 40), ("extra", 61), ("test", 9))
    }
    asked = []

    def load(split, copy="official", zoom="authors"):
        asked.append((split, copy, zoom))
        return crops[split]

    monkeypatch.setattr(svhn, "load", load)
    experiment = EXPERIMENTS["mcmil/svhn-1m-count-free"]
    config = changed(
        experiment.settings("smoke"), dataset="svhn-full", train_images=80, test_images=9
    )
    sources, test = data.load_numbers(config, 0)
    assert [len(s["labels"]) for s in sources] == [40, 30, 31]
    assert torch.equal(sources[1]["images"], crops["extra"]["images"][1::2])
    assert test is crops["test"]
    assert {a[1:] for a in asked} == {("official", "count-free")}
    assert experiment.run(config, 0, Run())["last_test_error"] <= 100


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "change"),
    [
        pytest.param("mcmil/mnist-adamw", {}, marks=needs("mnist")),
        pytest.param("mcmil/extended-mnist-adamw", {}, marks=needs("mnist")),
        pytest.param("mcmil/cifar10-jpeg75-adamw", {}, marks=needs("cifar10-jpeg75")),
        pytest.param(
            "mcmil/svhn-1m-adamw", {"dataset": "svhn-full-512"}, marks=needs("svhn-full-512")
        ),
    ],
)
def test_runs_on_real_data(name, change, monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    experiment = EXPERIMENTS[name]
    smoke = {**experiment.protocols["smoke"], "dataset": experiment.config.data.dataset, **change}
    result = experiment.run(changed(experiment.config, **smoke), 0, Run())
    assert 0 <= result["last_test_error"] <= 100


# Losses and decisions -----------------------------------------------------------------------------


class Constant(nn.Module):
    """A network that returns given logits."""

    def __init__(self, z):
        super().__init__()
        self.z = z

    def forward(self, images):
        return self.z


def loss_of(name, z, labels, **change):
    config = changed(settings.Mnist(), loss=name, **change)
    return methods.LOSSES[name](config, Constant(z), (torch.zeros(len(z), 1, 2, 2), labels))


def test_exact_loss_is_the_likelihood_over_the_number_of_positions():
    z = torch.randn(3, 11, 2, 4, generator=gen())
    labels = torch.rand(3, 10, generator=gen(1)) < 0.3
    whole = -presence.log_likelihood(z.log_softmax(1), labels).mean()
    assert torch.allclose(loss_of("exact", z, labels), whole / 8)
    assert torch.allclose(loss_of("exact", z, labels, per_position=False), whole)


def test_exact_loss_on_one_position_is_the_cross_entropy_of_eleven_classes():
    z, classes = torch.randn(5, 11, 1, 1, generator=gen()), torch.arange(5)
    labels = data.presence_of(classes)
    expected = nn.functional.cross_entropy(z.flatten(1), classes)
    assert torch.allclose(loss_of("exact", z, labels), expected)
    assert torch.allclose(
        loss_of("cross-entropy", z[:, :10], labels),
        nn.functional.cross_entropy(z[:, :10].flatten(1), classes),
    )


def test_the_two_max_pooling_losses_differ_by_normalisation_and_label_count():
    z = torch.randn(2, 11, 3, 3, generator=gen())
    labels = torch.zeros(2, 10, dtype=torch.bool)
    labels[0, [1, 4]] = labels[1, 2] = True
    q = z.exp()
    printed = coded = 0.0
    for b, members in enumerate(([1, 4], [2])):
        for l in members:
            printed -= (q[b, l].max() / q[b].sum()).log() / len(members) / 2
            coded -= (q[b, l].max() / q.sum()).log() / 2
    assert torch.allclose(loss_of("max-pooling-as-printed", z, labels), printed)
    assert torch.allclose(loss_of("max-pooling-as-coded", z, labels), coded)


def test_both_rules_are_reported_and_can_differ():
    config = settings.Mnist()
    p = torch.full((1, 11, 1, 2), 1e-6)
    p[0, 0] = torch.tensor([0.8, 1e-6])  # nearly sure here, impossible there
    p[0, 1] = torch.tensor([0.2, 0.3])
    p[0, 2] = torch.tensor([1e-6, 0.7])
    z = p.log()
    scores = methods.decisions(config, z)
    assert scores["mean"].argmax().item() == 0
    assert scores["exact"].argmax().item() != 0
    point = methods.classification_errors(
        config, Constant(z), torch.zeros(1, 1, 2, 2).byte(), torch.tensor([0])
    )
    assert point == {
        "test_error": 100,
        "test_error_exact_rule": 100,
        "test_error_mean_rule": 0,
        "rules_agree": 0,
    }


def test_choosing_the_background_is_an_error_under_max_pooling():
    z = torch.zeros(1, 11, 2, 2)
    z[0, 3, 0, 0], z[0, 10, 1, 1] = 1, 2
    config = changed(settings.ExtendedMnist(), loss="max-pooling-as-coded", rule="max")
    images, classes = torch.zeros(1, 1, 2, 2).byte(), torch.tensor([3])
    assert methods.classification_errors(config, Constant(z), images, classes) == {
        "test_error": 100
    }
    z[0, 3, 0, 0] = 3
    assert methods.classification_errors(config, Constant(z), images, classes) == {"test_error": 0}


# Claims -------------------------------------------------------------------------------------------


def records(**metrics):
    """Return the records of two seeds with the same metrics."""
    return [{"metrics": metrics}] * 2


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        ("rules-agree", [99.6], [98.0]),
        ("mnist-no-worse", [0.48, 0.54], [0.70, 0.54]),
        ("cifar10-no-loss", [8.7, 8.4], [9.6, 8.4]),
        ("never-saw-a-digit", [0.37], [0.60]),
        ("max-pooling-as-coded-worse", [8.0, 0.37], [0.9, 0.37]),
        ("max-pooling-as-printed-worse", [None, 0.37], [0.9, 0.37]),  # None: it diverged
    ],
)
def test_claims_hold_for_the_papers_numbers_and_can_fail(key, good, bad):
    (claim,) = (c for c in PAPER.claims if c.id == f"mcmil-{key}")
    for values, expected in ((good, True), (bad, False)):
        found = {
            name: records(best_test_error=v, rules_agree=v)
            for name, v in zip(claim.experiments, values, strict=True)
        }
        holds, reason = claim.test(found)
        assert holds is expected
        assert reason


def test_cells_without_a_printed_value_are_judged_by_claims():
    cells = {cell.id: cell for e in PAPER.experiments for cell in e.cells}
    for key in ("mcmil-014", "mcmil-015"):
        assert cells[key].claim(records(best_test_error=6.0))[0]
        assert not cells[key].claim(records(best_test_error=4.0))[0]
    fast = records(seconds_as_printed=20.0, seconds_package=2.0)
    assert cells["mcmil-017"].claim(fast)[0]
    assert not cells["mcmil-017"].claim(records(seconds_as_printed=90.0, seconds_package=2.0))[0]


def test_evaluation_time_compares_two_likelihoods_that_agree():
    experiment = EXPERIMENTS["mcmil/evaluation-time"]
    result = experiment.run(experiment.settings("smoke"), 0, Run())
    assert result["difference_nats"] < 1e-6
    assert result["seconds_package"] > 0


def test_network_of_a_config_follows_its_seed():
    config = EXPERIMENTS["mcmil/mnist"].settings("smoke")
    a, b, c = (methods.network(config, s)[0].weight for s in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert train.generator(0).initial_seed() != train.generator(1).initial_seed()


def test_max_pooling_as_coded_weighs_shares_of_mass_against_shares_of_labels():
    """A constant on an image has the slope (its mass - its share of the labels), times a factor."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 11, 4, 4, generator=generator, dtype=torch.float64)
    labels = torch.zeros(2, 10, dtype=torch.bool)
    labels[0, 1], labels[1, [3, 7]] = True, True  # one label, and two
    for lift, raised in ((0.0, 1), (2.0, 0)):  # with more mass the image of more labels is lowered
        z = logits.clone()
        z[1] += lift
        z.requires_grad_()
        config = EXPERIMENTS["mcmil/max-pooling-as-coded"].config
        loss = methods.max_pooling_as_coded(config, torch.nn.Identity(), (z, labels))
        (slope,) = torch.autograd.grad(loss, z)
        mass = z.detach().flatten(1).exp().sum(1) / z.detach().exp().sum()
        share = labels.sum(1) / labels.sum()
        right = (mass - share) * labels.sum() / 2
        torch.testing.assert_close(slope.sum((1, 2, 3)), right)
        assert int(slope.sum((1, 2, 3)).argmin()) == raised
