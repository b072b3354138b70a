"""The ledger is whole, verdicts follow their rule, and tables show records and nothing else."""

import collections
import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsl_tutorial.reproduce import ledger, records, tables
from wsl_tutorial.reproduce.__main__ import main
from wsl_tutorial.reproduce.experiment import Cell, Claim, Experiment, Paper, plain, setting

LOWER = {
    "test error",
    "test error on MNIST",
    "sequence error",
    "classification error",
    "reconstruction RMSE",
    "seconds per evaluation",
    "seconds per epoch",
    "training time, 400 epochs",
    "training time ratio",
    "epochs to final accuracy, ratio",
}
HIGHER = {
    "IoU 50%",
    "classification",
    "both",
    "precision",
    "recall",
    "F1",
    "F1+",
    "F1-",
    "PR AUC (panel as printed)",
    "test accuracy after training (curve)",
    *(f"AP at IoU .{n}" for n in ("00", "50", "60", "70", "80", "90")),
    *(f"test accuracy, {n} bags" for n in (200, 400, 600, 800, 1000)),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    epochs: int = 20


def experiment(name, *cells, **changes):
    settings = {
        "name": f"mcmil/{name}",
        "title": f"The {name}",
        "method": "exact likelihood",
        "config": Settings(),
        "run": lambda config, seed, run: {},
        "cells": cells,
        "seeds": 2,
        "data": ("mnist",),
        "protocols": {"short": {"epochs": 2}, "smoke": {"epochs": 1}},
        "deviations": ("another optimiser",),
        "cost": "an hour",
        "not_run": "no GPU yet",
    }
    return Experiment(**(settings | changes))


@dataclass(frozen=True)
class Grown:
    """A config that has had records, and then got a field."""

    lr: float = setting(0.1, 0.1, "section 1")
    every: int = setting(5, "not stated", "section 1", before=1)


def test_a_later_field_is_left_out_where_it_has_the_value_of_the_code_before_it():
    assert plain(Grown(every=1)) == {"lr": 0.1}
    assert plain(Grown()) == {"lr": 0.1, "every": 5}


NESTS = experiment("nests", Cell("mcmil-005", "error"), Cell("mcmil-006", "error", "min"))
DIGITS = experiment("digits", Cell("mcmil-002", "error"))
SERIES = experiment(
    "series",
    Cell(
        "mcmil-017", "seconds", claim=lambda rs: (rs[0]["metrics"]["seconds"] > 1, "by the clock")
    ),
)
TRIES = experiment("tries")
BETTER = Claim(
    "order",
    "mcmil",
    "nests beat digits",
    "Sec 5.2",
    ("mcmil/nests", "mcmil/digits"),
    lambda r: (
        r["mcmil/nests"][0]["metrics"]["error"] < r["mcmil/digits"][0]["metrics"]["error"],
        "by their means",
    ),
)
PAPER = Paper(
    "mcmil",
    "The paper",
    "An Author",
    2018,
    "https://example.org",
    (NESTS, DIGITS, SERIES, TRIES),
    (BETTER,),
    {"mcmil-016": "quoted from another paper"},
)


@pytest.fixture
def fake_paper(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("WSL_PAPERS", Path(__file__).stem)


def record(of, seed, protocol="paper", dirty=False, commit="0123456789", **metrics):
    return {
        "id": of.record_id(seed, protocol),
        "experiment": of.name,
        "method": of.method,
        "seed": seed,
        "protocol": protocol,
        "config": plain(of.settings(protocol)),
        "deviations": of.departures(protocol),
        "metrics": metrics,
        "curve": [],
        "notes": [],
        "seconds": 1.5,
        "peak_memory_mb": 10.0,
        "provenance": {
            **dict.fromkeys(records.PROVENANCE),
            "commit": commit,
            "dirty": dirty,
            "device": "a device",
            "utc": "2025-01-02T03:04:05+00:00",
        },
    }


def states(*held):
    return {result["id"]: result for result in tables.states(held)}


def test_the_ledger_holds_310_numbers():
    rows = ledger.load()
    assert collections.Counter(row.paper for row in rows.values()) == {
        "mcmil": 17,
        "mist": 53,
        "minmax": 182,
        "llp": 58,
    }
    assert (rows["mcmil-001"].value, rows["mcmil-001"].sd) == (0.54, 0.03)
    assert rows["mcmil-001"].rounding == pytest.approx(0.005)
    assert rows["minmax-103"].rounding == 0.5
    assert rows["mcmil-014"].value is None


def test_a_ledger_with_a_repeated_id_is_refused(tmp_path):
    lines = ledger.CSV.read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "twice.csv"
    path.write_text("".join([*lines, lines[5]]), encoding="utf-8")
    with pytest.raises(ValueError, match="repeated"):
        ledger.load(path)
    path.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(ValueError, match="columns"):
        ledger.load(path)


def test_whether_lower_is_better_is_known_for_every_metric():
    metrics = {row.metric for row in ledger.load().values()}
    assert metrics == LOWER | HIGHER
    assert {metric for metric in metrics if ledger.lower_is_better(metric)} == LOWER
    with pytest.raises(ValueError, match="lower or higher"):
        ledger.lower_is_better("happiness")


def test_the_fullest_protocol_is_shown_and_a_tie_is_the_papers():
    names = [NESTS.name, DIGITS.name]
    assert tables.fullest(PAPER, names, []) == (
        "paper",
        "no record yet",
        {NESTS.name: [], DIGITS.name: []},
    )
    short = [record(e, 0, "short", error=1.0) for e in (NESTS, DIGITS)]
    one = record(DIGITS, 1, error=2.0)
    assert tables.fullest(PAPER, names, [*short, one])[1] == "protocol short, 1 seed"
    protocol, named, found = tables.fullest(PAPER, names, [short[0], one])
    assert (protocol, named) == ("paper", "protocol paper, 1 seed")
    assert found == {NESTS.name: [], DIGITS.name: [one]}
    short += [record(NESTS, 2, "short", error=1.0)]
    assert tables.fullest(PAPER, names, short)[1] == "protocol short, 1 to 2 seeds"


@pytest.mark.parametrize(
    ("paper", "sd", "rounding", "ours", "lower", "rule", "state"),
    [
        (0.37, 0.04, 0.005, [0.36, 0.40], True, "mean", "reproduced"),
        (0.37, 0.04, 0.005, [0.43], True, "mean", "worse"),  # one seed has no ± of its own
        (0.37, 0.04, 0.005, [0.40, 0.46], True, "mean", "reproduced"),  # 0.06 < 0.04 + 0.042
        (0.37, 0.04, 0.005, [0.45, 0.46], True, "mean", "worse"),
        (0.37, 0.04, 0.005, [0.29, 0.30], True, "mean", "better"),
        (97.8, None, 0.05, [97.84], False, "mean", "reproduced"),  # within rounding
        (97.8, None, 0.05, [97.85], False, "mean", "reproduced"),
        (97.8, None, 0.05, [97.9], False, "mean", "better"),
        (97.8, None, 0.05, [97.7], False, "mean", "worse"),
        (97.8, None, 0.05, [97.3, 98.1], False, "mean", "reproduced"),  # within our own ±
        (0.32, None, 0.005, [0.40, 0.324, 0.40], True, "min", "reproduced"),
        (0.32, None, 0.005, [0.401, 0.4, 0.402], True, "min", "worse"),
        (90.0, None, 0.05, [88.0, 91.9], False, "max", "reproduced"),
        (8.9, None, 0.05, [1.0, 8.92], True, "seed:1", "reproduced"),
        (8.9, None, 0.05, [8.92, 1.0, 1.1, 0.9], True, "seed:1", "better"),
        (0.37, 0.04, 0.005, [0.37, None], True, "mean", "worse"),  # a diverged seed is not dropped
        (0.37, 0.04, 0.005, [None], True, "min", "worse"),
    ],
)
def test_verdict(paper, sd, rounding, ours, lower, rule, state):
    values = dict(enumerate(ours))
    assert ledger.verdict(paper, sd, rounding, values, lower, rule).state == state


def test_verdict_reports_what_it_judged():
    v = ledger.verdict(0.37, 0.04, 0.005, {0: 0.5, 1: 0.6, 4: 0.7}, True)
    assert v.ours == pytest.approx(0.6)
    assert v.sd == pytest.approx(0.1)  # n - 1 in the denominator
    assert v.gap == pytest.approx(0.23)
    assert v.tolerance == pytest.approx(0.14)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"experiments": (experiment("x", Cell("mcmil-999", "e")),)}, "no ledger id"),
        ({"experiments": (experiment("x", Cell("mist-018", "e")),)}, "no ledger id"),
        ({"experiments": (DIGITS, experiment("x", Cell("mcmil-002", "e")))}, "filled twice"),
        ({"experiments": (experiment("x", Cell("mcmil-014", "e")),)}, "needs a claim"),
        ({"experiments": (experiment("x", Cell("mcmil-002", "e", "median")),)}, "unknown rule"),
        ({"experiments": (dataclasses.replace(DIGITS, name="mist/x"),)}, "does not begin"),
        ({"experiments": (DIGITS, experiment("digits"))}, "one name"),
        ({"quoted": {"mcmil-002": "why"}}, "filled twice"),
        ({"experiments": (NESTS,)}, "unknown experiments"),
    ],
)
def test_a_paper_that_does_not_fit_the_ledger_is_refused(change, said):
    ledger.check([PAPER], ledger.load())
    with pytest.raises(ValueError, match=said):
        ledger.check([dataclasses.replace(PAPER, **change)], ledger.load())


def test_list_json_has_one_object_for_every_number(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["id"] for result in found] == list(ledger.load())
    keys = {"id", "state", "ours", "sd", "seeds", "protocol", "reason"}
    for result in found:
        assert set(result) == keys
        assert result["state"] in ledger.STATES
        assert result["reason"]
    unwritten = {r["id"].rpartition("-")[0] for r in found if r["state"] == "not written yet"}
    assert unwritten == set()


@pytest.mark.usefixtures("fake_paper")
def test_states_without_records():
    found = states()
    assert (found["mcmil-005"]["state"], found["mcmil-005"]["reason"]) == ("not run", "no GPU yet")
    assert found["mcmil-016"]["reason"] == "quoted from another paper"
    assert found["mcmil-001"]["state"] == found["mist-018"]["state"] == "not written yet"
    assert found["mcmil-005"]["ours"] is found["mcmil-005"]["protocol"] is None


@pytest.mark.usefixtures("fake_paper")
def test_states_with_records_of_the_papers_protocol():
    found = states(
        record(NESTS, 0, error=0.36),
        record(NESTS, 1, error=0.40),
        record(NESTS, 0, "short", error=9.0),
        record(DIGITS, 0, error=0.6),
        record(SERIES, 0, seconds=4.0),
        record(SERIES, 1, seconds=5.0),
    )
    five = found["mcmil-005"]
    assert five["state"] == "reproduced"
    assert five["ours"] == pytest.approx(0.38)
    assert (five["seeds"], five["protocol"]) == (2, "paper")
    assert found["mcmil-006"]["ours"] == 0.36
    assert found["mcmil-002"]["state"] == "worse"
    assert "1 of 2 seeds" in found["mcmil-002"]["reason"]
    assert (found["mcmil-017"]["state"], found["mcmil-017"]["ours"]) == ("holds", 4.5)
    assert states(record(SERIES, 0, seconds=0.1))["mcmil-017"]["state"] == "fails"


@pytest.mark.usefixtures("fake_paper")
def test_short_records_give_numbers_but_no_verdict():
    found = states(record(NESTS, 0, "short", error=0.37), record(NESTS, 1, "smoke", error=0.1))
    five = found["mcmil-005"]
    assert (five["state"], five["protocol"], five["ours"]) == ("not run", "short", 0.37)
    assert "no GPU yet" in five["reason"]
    assert states(record(NESTS, 1, "smoke", error=0.1))["mcmil-005"]["ours"] is None


@pytest.mark.usefixtures("fake_paper")
def test_records_of_another_config_do_not_count():
    old = dataclasses.replace(NESTS, config=Settings(epochs=19))
    assert states(record(old, 0, error=0.37))["mcmil-005"]["state"] == "not run"


@pytest.mark.usefixtures("fake_paper")
def test_a_diverged_seed_is_said():
    found = states(record(NESTS, 0, error=0.37), record(NESTS, 1, error=None))["mcmil-005"]
    assert found["state"] == "worse"
    assert "no finite value from 1 of 2 seeds" in found["reason"]


@pytest.mark.usefixtures("fake_paper")
def test_a_table_never_mixes_protocols():
    held = [record(NESTS, 0, error=0.36), record(NESTS, 1, "short", error=9.0)]
    text = tables.table("mcmil/Sec 5.2", held)
    paper, short = text.split("## Protocol: short")
    assert "| 0.37 ± 0.04 | 0.36 | 1 of 2 | reproduced" in paper
    assert "9.0" not in paper
    assert "9.00" in short
    assert "no verdict from this protocol" in short
    assert "reproduced" not in short
    assert "- another optimiser (`mcmil/nests`)" in paper
    assert "epochs = 2 instead of 20" in short
    assert "epochs = 2" not in paper
    assert "0123456; a device; 2025-01-02" in paper


@pytest.mark.usefixtures("fake_paper")
def test_table_names():
    assert tables.table("mist/2", []) == tables.table("mist/Table 2", [])
    assert "`mcmil-002`" in tables.table("mcmil/digits", [])
    with pytest.raises(ValueError, match=r"did you mean 'mcmil/Sec 5\.2'"):
        tables.table("mcmil/Sec 5.3", [])


@pytest.mark.parametrize(
    ("change", "protocol", "reason"),
    [
        ({}, "paper", "no GPU yet"),
        ({}, "short", "for want of time"),
        ({"protocols": {}}, "short", "no GPU yet"),  # it has the paper's protocol alone
        ({"not_run": "no data"}, "short", "no data"),
        ({"not_run": ""}, "paper", "no run yet"),
    ],
)
def test_a_missing_record_has_a_reason(change, protocol, reason):
    assert dataclasses.replace(NESTS, **change).reason(protocol) == reason


@pytest.mark.usefixtures("fake_paper")
def test_the_page_of_a_paper_shows_every_number_claim_and_command():
    held = [record(NESTS, s, error=0.36, dirty=True) for s in (0, 1)]
    held += [record(TRIES, 0, error=0.4), record(TRIES, 1, error=0.6)]
    held += [record(DIGITS, 0, error=0.6), record(NESTS, 0, "smoke", error=77.0)]
    page = tables.markdown("mcmil", held)
    for row in ledger.load().values():
        if row.paper == "mcmil":
            assert page.count(f"| `{row.id}` |") == 1
    assert page.startswith("17 numbers: 1 reproduced, 2 worse, 2 not run, 12 not written yet.")
    assert "0123456+; a device" in page  # + marks uncommitted code
    assert "| holds | nests beat digits | Sec 5.2 | by their means (1 seed) | none |" in page
    command = "python -m wsl_tutorial.reproduce run mcmil/nests --seeds 0-1 --protocol paper"
    assert command in page
    assert "77" not in page
    untested = "| not tested | nests beat digits | Sec 5.2 | no GPU yet (1 of 2) | none |"
    assert untested in tables.markdown("mcmil", held[:2])
    assert tables.markdown("mist", []).startswith("53 numbers: 53 not written yet.")
    with pytest.raises(ValueError, match="no paper of the ledger"):
        tables.markdown("mnist", [])


@pytest.mark.usefixtures("fake_paper")
def test_a_claim_compares_the_seeds_that_all_have_run():
    ran = [record(NESTS, s, error=s) for s in (0, 1, 2)] + [record(DIGITS, 1, error=9.0)]
    common = tables.on_common_seeds((NESTS, DIGITS), "paper", ran)
    assert {name: [r["seed"] for r in runs] for name, runs in common.items()} == {
        "mcmil/nests": [1],
        "mcmil/digits": [1],
    }
    once = dataclasses.replace(DIGITS, name="mcmil/once", seeds=1)
    ran += [record(once, 0, error=1.0)]
    common = tables.on_common_seeds((NESTS, once), "paper", ran)
    assert [len(common[name]) for name in ("mcmil/nests", "mcmil/once")] == [3, 1]
    apart = [record(NESTS, 0, error=0.3), record(DIGITS, 1, error=0.5)]
    assert tables.verdict(PAPER, BETTER, apart).why == "no seed that all have run"


def test_a_fresh_seed_stands_beside_the_stored_one():
    fresh = [record(NESTS, 0, error=0.4), record(NESTS, 0, "short", error=9.0)]
    stored = [record(NESTS, 1, error=0.5)]
    lines = tables.beside(NESTS, fresh, stored, lambda runs: [runs[0]["metrics"]["error"]], 1)
    assert lines == [("fresh, from here", 0.4), ("stored, in the package", "not run")]


@pytest.mark.usefixtures("fake_paper")
def test_deviations_are_those_of_the_settings_with_the_notes_of_the_records():
    held = record(NESTS, 0, "short") | {"deviations": ["worded before"], "notes": ["resumed"]}
    changed = "short protocol: epochs = 2 instead of 20"
    expected = [f"- {text} (`mcmil/nests`)\n" for text in ("another optimiser", changed, "resumed")]
    assert tables.deviations([held]) == "".join(expected)


@pytest.mark.usefixtures("fake_paper")
def test_every_metric_is_a_line_of_csv():
    held = [record(TRIES, 0, error=0.4), record(TRIES, 1, error=0.6), record(NESTS, 0, error=None)]
    held += [record(NESTS, 0, "smoke", error=77.0)]
    rows = list(csv.DictReader(io.StringIO(tables.metrics("mcmil", held))))
    shown = [tuple(row[k] for k in ("experiment", "metric", "mean", "sd", "seeds")) for row in rows]
    assert ("mcmil/tries", "error", "0.5", "0.141421", "2") in shown  # fills no cell
    assert ("mcmil/nests", "error", "", "", "1") in shown
    assert len(rows) == 2
    with pytest.raises(ValueError, match="'mnist' is no paper with experiments"):
        tables.metrics("mnist", held)


@pytest.mark.usefixtures("fake_paper")
def test_the_summary_counts_every_number_once():
    lines = tables.summary_markdown([record(NESTS, 0, error=0.37)]).splitlines()
    counts = [[int(cell) for cell in line.split("|")[2:-1]] for line in lines[2:]]
    assert sum(row[0] for row in counts) == 310
    assert all(row[0] == sum(row[1:]) for row in counts)
    assert lines[2].startswith("| Li 2018 (presence) | 17 | 1 | 0 | 1 |")


@pytest.mark.usefixtures("fake_paper")
def test_the_list_names_cost_data_and_state(capsys):
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "cost: an hour; data: mnist (" in said
    assert "mcmil-005  Sec 5.2, exact likelihood, extended MNIST" in said
    assert "minmax: Belharbi et al. 2020 (regions): 182 numbers, not written yet" in said


@pytest.mark.usefixtures("fake_paper")
def test_publish_adds_each_record_once_and_no_smoke(tmp_path):
    source, target = tmp_path / "runs", tmp_path / "package"
    source.mkdir()
    for held in (record(NESTS, 0, error=0.36), record(NESTS, 0, "smoke", error=0.1)):
        records.append(source / "records.jsonl", held)
    assert records.publish(source, folder=target) == 1
    before = (target / "mcmil.jsonl").read_bytes()
    assert records.publish(source, folder=target) == 0
    assert (target / "mcmil.jsonl").read_bytes() == before
    records.append(source / "records.jsonl", record(NESTS, 1, "short", error=0.4))
    assert records.publish(source, folder=target) == 1
    assert records.published(target) == [
        record(NESTS, 0, error=0.36),
        record(NESTS, 1, "short", error=0.4),
    ]


@pytest.mark.usefixtures("fake_paper")
@pytest.mark.parametrize("unknown", [{"dirty": True}, {"commit": None, "dirty": None}])
def test_publish_refuses_code_that_no_commit_knows(tmp_path, unknown):
    records.append(tmp_path / "records.jsonl", record(NESTS, 0, error=0.36, **unknown))
    with pytest.raises(ValueError, match="uncommitted or unknown code"):
        records.publish(tmp_path, folder=tmp_path / "package")
    assert not (tmp_path / "package").exists()
    assert records.publish(tmp_path, allow_dirty=True, folder=tmp_path / "package") == 1


def test_publish_wants_a_run_folder(tmp_path, capsys):
    assert main(["publish", str(tmp_path)]) == 2
    assert "holds no records.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 3}, "does not fit"),
        ({"seed": "0"}, "seed is a str"),
        ({"protocol": "long"}, "unknown protocol"),
        ({"metrics": {"error": "0.3"}}, "numbers or null"),
        ({"curve": [{"step": 1}] * 61}, "61 points"),
        ({"provenance": {}}, "lacks version"),
        ({"more": 1}, "not those of a record"),
    ],
)
def test_a_record_that_is_not_whole_is_refused(change, said):
    records.validate(record(NESTS, 0, error=0.36))
    with pytest.raises(ValueError, match=said):
        records.validate(record(NESTS, 0, error=0.36) | change)


def test_the_published_records_are_valid_and_committed():
    for path in records.PUBLISHED.glob("*.jsonl"):
        good, bad = records.parse(path)
        assert not bad
        assert len({one["id"] for one in good}) == len(good)
        for one in good:
            assert one["experiment"].startswith(f"{path.stem}/")
            assert one["protocol"] != "smoke"
            assert one["provenance"]["commit"]
            assert not one["provenance"]["dirty"]
