"""The cost of the ledger: from records if there are any, else as stated, and marked as such."""

from dataclasses import replace
from pathlib import Path

import pytest

from wsl_tutorial.reproduce import costs, papers, records, runner
from wsl_tutorial.reproduce.experiment import Why
from wsl_tutorial.reproduce.presence.experiments import CIFAR10, SVHN


@pytest.mark.parametrize(
    ("minutes", "words"),
    [
        (10, "about 10 GPU minutes a seed (estimate)"),
        (1, "about 1 GPU minute a seed (estimate)"),
        (90, "about 1.5 GPU hours a seed (estimate)"),
        (60, "about 1 GPU hour a seed (estimate)"),
        (72_000, "about 1,200 GPU hours a seed (estimate)"),
        (0, "minutes of a CPU"),
        (None, "not known"),
    ],
)
def test_a_cost_is_a_number_and_its_sentence_is_made_from_it(minutes, words):
    experiment = replace(CIFAR10, gpu_minutes=minutes, not_run=Why.NO_GPU, seeds=2)
    assert experiment.cost == words
    hours, basis = costs.cost(experiment, [])
    assert hours == (minutes or 0) / 30
    assert basis is (costs.Basis.UNKNOWN if minutes is None else costs.Basis.ESTIMATED)


def test_a_cost_is_stated_or_extrapolated_until_it_is_measured():
    near = replace(CIFAR10, not_run=Why.NO_GPU, seeds=4)
    assert costs.cost(near, []) == (4, "estimated")
    assert costs.cost(SVHN, []) == (10, "extrapolated")
    run = runner.Run(seed=1, protocol="paper")
    record = records.make(near, {}, run)
    assert costs.cost(near, [record]) == (4, "estimated")  # from a CPU
    record["provenance"] |= {"backend": "cuda", "processes": 2}
    record["seconds"] = 900.0
    assert costs.cost(near, [record]) == (4 * 0.5, "measured")
    assert costs.cost(replace(near, gpu_minutes=None), []) == (0, "not known")


def test_the_sums_count_every_experiment_once():
    lines = [line.strip("| ").split(" | ") for line in costs.markdown([]).splitlines()]
    every = [e for paper in papers() for e in paper.experiments]
    shown = [line for line in lines if line[-4:][0].isdigit()]
    for rows in ([r for r in shown if r[0] != "all"], [r for r in shown if r[0] == "all"]):
        assert sum(int(r[-4]) for r in rows) == len(every)
        assert sum(int(r[-3]) for r in rows) == sum(e.seeds for e in every)
    far = {r[1] for r in shown if "extrapolated" in r}
    assert {"svhn-full", "cub", "photos"} <= far
    assert "none" not in far


def test_every_experiment_states_a_cost():
    unread = [e.name for p in papers() for e in p.experiments if e.gpu_minutes is None]
    assert unread == []


def test_the_page_explains_each_basis_of_the_table():
    page = (Path(__file__).parents[2] / "book" / "past-one-machine.md").read_text("utf-8")
    for basis in costs.Basis:
        assert f"*{basis.capitalize()}*:" in page


def test_memory_is_the_largest_of_the_records():
    held = [
        {"experiment": name, "protocol": protocol, "peak_memory_mb": peak, "provenance": device}
        for name, protocol, peak, device in (
            ("mcmil/a", "short", 1024.0, {}),
            ("mcmil/b", "short", 3072.0, {"backend": "cpu"}),
            ("mcmil/c", "short", 2048.0, {"backend": "cuda"}),
            ("llp/d", "paper", 512.0, {}),
        )
    ]
    rows = [line.strip("| ").split(" | ") for line in costs.memory(held).splitlines()[2:]]
    assert [row[1:] for row in rows if row[1:]] == [
        ["short", "CPU", "2", "3.2", "`mcmil/b`"],
        ["short", "GPU", "1", "2.1", "`mcmil/c`"],
        ["paper", "CPU", "1", "0.5", "`llp/d`"],
    ]
