"""What the ledger costs: from records where there are any, else as stated, and marked as such."""

from dataclasses import replace
from pathlib import Path

import pytest

from wsl_tutorial.reproduce import costs, papers, records, runner
from wsl_tutorial.reproduce.mcmil.experiments import CIFAR10, SVHN


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        ("about 10 GPU minutes a seed (estimate)", 1 / 6),
        ("about 1 GPU minute a seed (estimate)", 1 / 60),
        ("about 2 GPU hours a seed (estimate)", 2),
        ("about 3 GPU minutes a seed (estimate)", 1 / 20),
        ("one CPU minute", 0),
        ("seconds", 0),
        ("minutes on a GPU (estimate)", None),
        ("", None),
    ],
)
def test_stated_costs_are_read(words, hours):
    assert costs.stated(words) == hours


def test_a_cost_is_stated_or_extrapolated_until_it_is_measured():
    near = replace(CIFAR10, not_run="no GPU yet", seeds=4)
    assert costs.cost(near, []) == (4, "estimated")
    assert costs.cost(SVHN, []) == (10, "extrapolated")
    run = runner.Run(seed=1, protocol="paper")
    record = records.make(near, {}, run)
    assert costs.cost(near, [record]) == (4, "estimated")  # from a CPU
    record["provenance"] |= {"backend": "cuda", "processes": 2}
    record["seconds"] = 900.0
    assert costs.cost(near, [record]) == (4 * 0.5, "measured")
    assert costs.cost(replace(near, cost="", not_run=""), []) == (0, "not known")


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


def test_every_experiment_states_a_cost_that_is_read():
    unread = [e.name for p in papers() for e in p.experiments if costs.stated(e.cost) is None]
    assert unread == []


def test_the_page_explains_each_basis_of_the_table():
    page = (Path(__file__).parents[1] / "book" / "past-one-machine.md").read_text("utf-8")
    for basis in costs.BASES:
        assert f"*{basis.capitalize()}*:" in page


def test_memory_is_the_greatest_of_the_records():
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
