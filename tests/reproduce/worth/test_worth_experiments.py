"""What a weak label is worth, as experiments: one world, one network; only the labels differ."""

import math

import pytest
import torch
from interrupted_runs import resumed
from real_data import REAL, needs

from wsl_tutorial import patches, train, worth
from wsl_tutorial.reproduce import costs, evidence, papers, tables
from wsl_tutorial.reproduce.experiment import changed, leaves
from wsl_tutorial.reproduce.runner import Run
from wsl_tutorial.reproduce.worth import PAPER, claims, data, experiments, methods
from wsl_tutorial.reproduce.worth.settings import Settings

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
CLAIMS = {c.id.removeprefix("worth-"): c for c in PAPER.claims}


def smoke(observer, **change):
    return changed(EXPERIMENTS[f"worth/{observer}-100"].settings("smoke"), **change)


def truth(config, split):
    """A map that is sure of the truth, as logits (B, 11, M, N)."""
    n, side = len(split["images"]), data.cells(config)
    logits = torch.full((n, 11, side * side), -20.0)
    logits[:, -1] = 0
    for i, (cells, classes) in enumerate(
        zip(data.flat(config, split).tolist(), split["classes"].tolist(), strict=True)
    ):
        for cell, c in zip(cells, classes, strict=True):
            if c >= 0:
                logits[i, :, cell] = -20.0
                logits[i, c, cell] = 0.0
    return logits.view(n, 11, side, side)


# Settings -----------------------------------------------------------------------------------------


def test_it_is_known_and_fills_no_row_of_the_ledger():
    assert PAPER.experiments in [paper.experiments for paper in papers()]
    assert all(not e.cells for e in PAPER.experiments)
    assert len(EXPERIMENTS) == len(worth.OBSERVERS) * len(experiments.NUMBERS)
    assert "worth/full-100" in tables.listing([], ["worth"])


@pytest.mark.parametrize("observer", worth.OBSERVERS)
def test_experiments_differ_in_observer_and_number_alone(observer):
    for n in experiments.NUMBERS:
        e = EXPERIMENTS[f"worth/{observer}-{n}"]
        assert e.config == changed(Settings(), observer=observer, images=n)
        assert ("short" in e.protocols) == (n <= 3_000)
    for f, _ in leaves(e.config):
        assert f.metadata["source"], f.name


def test_both_protocols_have_the_same_cells():
    e = EXPERIMENTS["worth/full-100"]
    assert {data.cells(e.settings(p)) for p in ("paper", "short")} == {14}
    for protocol in ("paper", "short", "smoke"):
        config = e.settings(protocol)
        answer = methods.network(config, 0)(torch.zeros(1, 1, config.data.size, config.data.size))
        assert answer.shape[2:] == (data.cells(config),) * 2


def test_the_network_expects_the_mean_number_of_digits():
    config = EXPERIMENTS["worth/full-100"].settings("short")
    p = methods.network(config, 0)(torch.zeros(1, 1, 40, 40)).softmax(1)
    assert p[:, :-1].sum().item() == pytest.approx(1.5, rel=1e-4)


def test_sets_are_nested_and_test_canvases_are_everyones():
    small, large = (data.world(smoke("full", images=n), 3, "cpu") for n in (5, 9))
    for name in small["train"]:
        assert torch.equal(small["train"][name], large["train"][name][:5])
    other = data.world(smoke("full"), 4, "cpu")
    assert torch.equal(other["test"]["images"], small["test"]["images"])
    assert not torch.equal(other["train"]["images"][:5], small["train"]["images"])


# Learning -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("observer", worth.OBSERVERS)
def test_a_sure_and_right_answer_costs_no_bits_and_gets_all_points(observer):
    config = smoke(observer)
    split = data.world(config, 0, "cpu")["test"]
    point = methods.measured(config, truth(config, split), split)
    for name in ("reading", "found", "both"):
        assert torch.equal(point[name], point["present"]), name
    if observer != "patches":
        assert point["bits"].max() < 1e-3


def test_a_digit_that_is_seen_elsewhere_is_not_found():
    config = smoke("full")
    split = data.world(config, 0, "cpu")["test"]
    far = {**split, "cells": torch.where(split["cells"] < 0, -1, 9 - split["cells"])}
    point = methods.measured(config, truth(config, far), split)
    gap = (2 * split["cells"] - 9).abs().amax(-1)  # from a digit to its own mirror image
    alone = point["present"].sum(1) == 1
    assert torch.equal(point["found"][alone, 0], gap[alone, 0] < config.data.apart / 2)


def test_the_loss_depends_on_the_observation_alone():
    """Moving the digits changes nothing where no places are observed."""
    split = data.world(smoke("full"), 0, "cpu")["test"]
    side = data.cells(smoke("full"))
    moved = {**split, "cells": torch.where(split["cells"] < 0, -1, (split["cells"] + 1) % side)}
    log_p = torch.randn(16, 11, 10, 10, generator=torch.Generator().manual_seed(1)).log_softmax(1)
    for observer in worth.OBSERVERS:
        config = smoke(observer)
        a, b = (methods.log_likelihood(config, log_p, x) for x in (split, moved))
        assert torch.equal(a, b) == (observer not in ("places", "full")), observer


@pytest.mark.parametrize("observer", worth.OBSERVERS)
def test_a_few_steps_on_few_canvases_lower_the_loss(observer):
    config = smoke(observer, images=8, clutter=0, lr=1e-2)
    split = data.world(config, 0, "cpu")["train"]
    model, loss = methods.network(config, 0), methods.objective(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.optimiser.lr)
    values = []
    for _ in range(25):
        value = loss(model, split)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.9 * values[0]


def test_lifting_looks_with_the_eyes_of_the_network():
    """The patch of a place holds what the network sees from that cell."""
    config = smoke("patches")
    images = data.world(config, 0, "cpu")["test"]["images"][:4]
    model = methods.network(config, 0)
    row, column = 3, 7
    place = torch.tensor([[[2.0 * column + 6, 2.0 * row + 6, 12.0]]]).expand(4, -1, -1)
    seen = patches.sample(images, place, 13)[:, 0]
    answer = train.logits(model, seen)[:, :, 0, 0]
    assert torch.allclose(answer, model(images)[:, :, row, column], atol=1e-4)


@pytest.mark.parametrize("observer", ["counts", "patches"])
def test_a_run_is_repeatable_and_resumes(observer, tmp_path):
    config = smoke(observer, steps=6, points=3)
    whole = methods.run_observer(config, 1, Run())
    assert set(whole) == {"reading", "found", "both"} | (
        {"bits"} if observer == "counts" else set()
    )
    experiment = EXPERIMENTS[f"worth/{observer}-30"]
    assert resumed(experiment, config, tmp_path, seed=1, steps=3)[0] == whole


@needs("mnist")
def test_the_short_world_is_mnist_of_half_the_size(monkeypatch):
    monkeypatch.setenv("WSL_DATA", str(REAL))
    config = EXPERIMENTS["worth/full-100"].settings("short")
    config = changed(config, most_images=20, images=20, test_images=20)
    split = data.world(config, 0, "cpu")["train"]
    assert split["images"].shape == (20, 1, 40, 40)
    assert split["images"].amax((1, 2, 3)).min() > 0.5  # clutter, if nothing else


# Claims -------------------------------------------------------------------------------------------


def fake(name, **metrics):
    return [{"experiment": name, "seed": s, "metrics": metrics} for s in (0, 1)]


@pytest.mark.parametrize(
    ("key", "good", "bad"),
    [
        (
            "more-is-more",
            [{"both": b} for b in (10, 30, 40, 60)],
            [{"both": b} for b in (10, 40, 30, 60)],
        ),
        ("marginal-leads", [{"both": 30}, {"both": 40}], [{"both": 40}, {"both": 30}]),
        ("places-from-classes", [{"found": 90}, {"found": 94}], [{"found": 70}, {"found": 94}]),
        ("places-do-not-read", [{"reading": 11}], [{"reading": 40}]),
    ],
)
def test_claims_hold_and_fail(key, good, bad):
    names = CLAIMS[key].experiments
    for metrics, expected in ((good, True), (bad, False)):
        found = {n: fake(n, **m) for n, m in zip(names, metrics, strict=True)}
        holds, reason = CLAIMS[key].test(found)
        assert holds == expected
        assert reason
    single = {n: fake(n, **m)[:1] for n, m in zip(names, good, strict=True)}
    holds, reason = CLAIMS[key].test(single)
    assert holds is None  # one seed has no spread
    nothing = {n: fake(n, both=math.nan, found=math.nan, reading=math.nan) for n in names}
    assert not CLAIMS[key].test(nothing)[0]


def test_a_step_within_two_standard_errors_decides_nothing():
    """88.6 ± 0.6 against 88.0 ± 1.1 of two seeds: neither more nor less."""
    names = CLAIMS["more-is-more"].experiments

    def tested(*pairs):
        found = {
            n: [{"experiment": n, "seed": s, "metrics": {"both": b}} for s, b in enumerate(pair)]
            for n, pair in zip(names, pairs, strict=True)
        }
        holds, _ = CLAIMS["more-is-more"].test(found)
        return "undecided" if holds is None else holds

    narrow = ((60.0, 60.4), (80.0, 80.4), (85.0, 85.4), (90.0, 90.4))
    assert tested(*narrow) is True
    assert tested(narrow[0], (88.2, 89.0), (87.2, 88.8), narrow[3]) == "undecided"
    assert tested(narrow[0], (88.2, 88.6), (77.2, 77.8), narrow[3]) is False
    # A wrong step decides, whatever another leaves open.
    assert tested(narrow[0], (88.2, 89.0), (87.2, 88.8), (70.0, 71.0)) is False


def test_equal_observers_are_seldom_ordered():
    """The level is two-sided: one in forty steps of nothing is called a lead."""
    g = torch.Generator().manual_seed(0)
    draws = torch.randn(2000, 2, 20, generator=g, dtype=torch.float64)
    answers = []
    for a, b in draws.tolist():
        runs = [[{"metrics": {"both": x}} for x in side] for side in (a, b)]
        answers.append(claims.marginal_leads(*runs)[0] is True)
    assert sum(answers) / 2000 == pytest.approx(evidence.LEVEL / 2, abs=0.01)


def test_the_cost_is_stated_so_that_the_sums_can_read_it():
    assert {costs.cost(e, [])[0] for e in PAPER.experiments} == {2 * 3 / 60}
