"""The ledger is whole, verdicts follow their rule, and tables show records and nothing else."""

import collections
import csv
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from wsl_tutorial.reproduce import ledger, papers, records, tables
from wsl_tutorial.reproduce.__main__ import main
from wsl_tutorial.reproduce.evidence import exactly, ruling
from wsl_tutorial.reproduce.experiment import (
    Audit,
    Cell,
    Claim,
    Experiment,
    Paper,
    Reason,
    Whose,
    Why,
    plain,
    setting,
)

NUMBERS = {"mcmil": 17, "mist": 53, "minmax": 182, "llp": 58}
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
        "protocols": {"desk": {"epochs": 8}, "short": {"epochs": 2}, "smoke": {"epochs": 1}},
        "deviations": ("another optimiser",),
        "gpu_minutes": 60,
        "not_run": Why.NO_GPU,
        "selects": ("error", "lower"),
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
        "mcmil-017",
        "seconds",
        claim=lambda rs: ruling("by the clock", exactly(rs[0]["metrics"]["seconds"] - 1)),
    ),
)
FAR = experiment("far", Cell("mcmil-013", "error"), not_run=Why.NO_DATA, data=("svhn-full",))
TRIES = experiment("tries")
BETTER = Claim(
    "order",
    "nests beat digits",
    "Sec 5.2",
    ("mcmil/nests", "mcmil/digits"),
    lambda r: ruling(
        "by their means",
        exactly(r["mcmil/digits"][0]["metrics"]["error"] - r["mcmil/nests"][0]["metrics"]["error"]),
    ),
)
PAPER = Paper(
    "mcmil",
    "The paper",
    "An Author",
    2018,
    "https://example.org",
    (NESTS, DIGITS, SERIES, TRIES, FAR),
    (BETTER,),
    {"mcmil-016": Reason(Why.QUOTED, "not to be reproduced")},
    "presence",
    Audit("Li", 4),
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


def test_the_ledger_has_every_number_of_the_four_papers_and_no_row_without_a_paper():
    rows = ledger.load()
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"<!-- numbers -->{len(rows)}<!-- /numbers -->" in readme, "run: make readme"
    assert collections.Counter(row.paper for row in rows.values()) >= collections.Counter(NUMBERS)
    assert set(NUMBERS) <= {paper.key for paper in papers()} >= {row.paper for row in rows.values()}
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


def test_whether_lower_is_better_is_known_for_every_number(tmp_path):
    rows = [row for row in ledger.load().values() if row.paper in NUMBERS]
    assert {row.measure for row in rows} == LOWER | HIGHER
    assert {row.measure for row in rows if row.lower} == LOWER
    path = tmp_path / "wrong.csv"
    text = ledger.CSV.read_text(encoding="utf-8").replace(",higher,", ",upwards,", 1)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="better is 'upwards'"):
        ledger.load(path)


def test_the_ledger_says_which_metric_of_which_experiment_answers_each_number():
    cells = {c.id: (e, c) for p in papers() for e in p.experiments for c in e.cells}
    quoted = {i for p in papers() for i in p.quoted}
    for row in ledger.load().values():
        if row.id in quoted:
            assert (row.experiment, row.metric, row.rule) == ("", "", "")
        else:
            e, c = cells[row.id]
            assert (row.experiment, row.metric, row.rule) == (e.name, c.metric, c.rule)


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
    ("change", "said"),
    [
        ({"experiments": (experiment("x", Cell("mcmil-999", "e")),)}, "no ledger id"),
        ({"experiments": (experiment("x", Cell("mist-018", "e")),)}, "no ledger id"),
        ({"experiments": (DIGITS, experiment("x", Cell("mcmil-002", "e")))}, "filled twice"),
        ({"experiments": (experiment("x", Cell("mcmil-014", "e")),)}, "needs a claim"),
        ({"experiments": (experiment("x", Cell("mcmil-002", "e", "median")),)}, "unknown rule"),
        ({"experiments": (dataclasses.replace(DIGITS, name="mist/x"),)}, "does not begin"),
        ({"experiments": (DIGITS, experiment("digits"))}, "one name"),
        ({"quoted": {"mcmil-002": Reason(Why.COST)}}, "filled twice"),
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
    keys = {"id", "state", "evidence", "ours", "sd", "seeds", "protocol", "reason"}
    for result in found:
        assert set(result) == keys
        assert result["state"] in ledger.STATES
        assert result["reason"]
        assert result["evidence"] in ("paper", "desk", "short", None)
        assert (result["state"] in ledger.VERDICTS) == (result["evidence"] in ("paper", "desk"))
    assert [r["id"] for r in found if r["state"] == "not written yet"] == []


@pytest.mark.usefixtures("fake_paper")
def test_states_without_records():
    found = states()
    assert (found["mcmil-005"]["state"], found["mcmil-005"]["reason"]) == (
        "not run",
        "for lack of time",
    )
    assert found["mcmil-016"]["reason"] == "quoted from another paper: not to be reproduced"
    assert found["mcmil-013"]["reason"] == "data not available to us"
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
def test_a_number_shows_its_strongest_evidence():
    short = [record(NESTS, 0, "short", error=0.37), record(NESTS, 1, "smoke", error=0.1)]
    five = states(*short)["mcmil-005"]
    assert (five["state"], five["evidence"], five["ours"]) == ("no verdict", "short", 0.37)
    assert five["reason"] == "only at reduced size: for lack of time"
    assert states(short[1])["mcmil-005"]["evidence"] is None
    desk = record(NESTS, 0, "desk", error=0.5)
    five = states(*short, desk)["mcmil-005"]
    assert (five["state"], five["evidence"], five["ours"]) == ("worse", "desk", 0.5)
    paper = record(NESTS, 1, error=0.36)
    five = states(*short, desk, paper)["mcmil-005"]
    assert (five["state"], five["evidence"], five["seeds"]) == ("reproduced", "paper", 1)


@pytest.mark.usefixtures("fake_paper")
def test_a_number_of_one_seed_takes_the_strongest_evidence_that_has_this_seed(monkeypatch):
    runs = experiment("runs", Cell("mcmil-007", "error", "seed:1"))
    paper = dataclasses.replace(PAPER, experiments=(*PAPER.experiments, runs))
    row = ledger.load()["mcmil-007"]
    desk, other = record(runs, 1, "desk", error=8.9), record(runs, 0, error=1.0)
    found = tables.state(row, paper, [desk, other])
    assert (found["state"], found["evidence"]) == ("reproduced", "desk")
    assert tables.line(row, paper, [desk, other])[6] == "1"
    assert tables.state(row, paper, [other])["evidence"] is None


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
def test_a_place_is_one_table_with_its_evidence():
    held = [record(NESTS, 0, "desk", error=0.5), record(NESTS, 1, "short", error=9.0)]
    text = tables.table("mcmil/Sec 5.2", held)
    head = "| method | data | measure | paper | ours | evidence | seeds | verdict |"
    assert text.count(head) == 1
    assert "| 0.37 ± 0.04 | 0.50 | our recipe | 1 | worse, +0.13 |" in text
    assert "9.0" not in text
    assert "- `mcmil-005`: +0.13 from the paper, 0.04 allowed (1 of 2 seeds)." in text
    assert "- another optimiser (`mcmil/nests`)" in text
    assert "epochs = 8 instead of 20" in text
    assert "epochs = 2" not in text
    assert "0123456; a device; 2025-01-02" in text


@pytest.mark.usefixtures("fake_paper")
def test_a_number_that_is_not_reached_says_whether_the_training_still_improved():
    curve = [{"epoch": i, "error": e} for i, e in enumerate((9, 5, 3, 2, 1.5, 1.2))]
    rising = record(NESTS, 0, "desk", error=0.5) | {"curve": curve}
    text = tables.table("mcmil/Sec 5.2", [rising])
    assert "; still falling at the end: `error` was 2 at best before the last quarter" in text
    five = ledger.load()["mcmil-005"]
    fine = record(NESTS, 0, "desk", error=0.37) | {"curve": curve}
    assert "falling" not in tables.notes([five], PAPER, [fine])
    flat = record(NESTS, 0, error=0.5) | {"curve": [{"epoch": i, "error": 1.0} for i in range(8)]}
    assert "; no longer falling at the end" in tables.table("mcmil/Sec 5.2", [flat])


@pytest.mark.usefixtures("fake_paper")
def test_what_was_tried_stands_beside_a_number_that_is_not_reached():
    tried = dataclasses.replace(DIGITS, tried="tried: three rates, twice the epochs")
    paper = dataclasses.replace(PAPER, experiments=(tried,), claims=())
    row = ledger.load()["mcmil-002"]
    assert "; tried: three rates" in tables.notes([row], paper, [record(tried, 0, error=0.9)])
    assert "tried" not in tables.notes([row], paper, [record(tried, 0, error=0.48)])


@pytest.mark.usefixtures("fake_paper")
def test_numbers_of_unavailable_data_are_folded():
    held = [record(NESTS, 0, error=0.36)]
    page = tables.markdown("mcmil", held)
    fold = page[page.index(":::{dropdown} 1 number whose data are unavailable") :]
    assert "`mcmil-013`" in fold
    assert "`mcmil-013`" not in page.removesuffix(fold)
    assert "Not run: data not available to us." in fold
    shown = tables.markdown("mcmil", [record(FAR, 0, "short", error=50.0)])
    assert "data are unavailable" not in shown


@pytest.mark.usefixtures("fake_paper")
def test_table_names():
    assert tables.table("mist/2", []) == tables.table("mist/Table 2", [])
    held = [record(DIGITS, 0, error=0.5), record(TRIES, 0, error=0.4), record(TRIES, 1, error=0.6)]
    assert "`mcmil-002`" in tables.table("mcmil/digits", held)
    several = tables.table("mcmil/*i*s", held)
    assert "## Sec 5.1.1" in several
    assert "| `mcmil/tries` | paper's settings | 2 | error 0.500 ± 0.141 |" in several
    assert "## Claims" in tables.table("mcmil", held)
    for wrong in ("mcmil/Sec 5.3", "mcmil/x*"):
        with pytest.raises(ValueError, match="did you mean 'mcmil/"):
            tables.table(wrong, [])


@pytest.mark.usefixtures("fake_paper")
def test_list_is_a_line_a_paper_and_more_when_asked(capsys):
    held = [record(DIGITS, 0, "desk", error=0.6), record(NESTS, 0, "short", error=9.0)]
    lines = tables.listing(held).splitlines()
    assert [line.partition(":")[0] for line in lines] == [*ledger.paper_keys(), "More"]
    assert "Our recipe: 1 (1 worse); reduced size: 2; unavailable data: 1; not run: 13." in lines[0]
    assert lines[1].startswith("mist: no experiments yet; 53 numbers.")
    asked = tables.listing(held, ["mcmil/digits"]).splitlines()
    assert asked[1].startswith("  cost: about 1 GPU hour a seed (estimate); data: mnist (")
    assert asked[0] == "mcmil/digits: The digits, exact likelihood"
    assert "  seeds run: 1 desk (of 2)" in asked
    assert sum("mcmil-" in line for line in asked) == 1
    worse = tables.listing(held, only="worse").splitlines()
    assert [line.partition(" ")[0] for line in worse] == ["mcmil-002"]
    assert "worse, our recipe" in worse[0]
    every = tables.listing(held, every=True)
    assert all(f"{row} " in every for row in ledger.load())
    assert all(f"{e.name}:" in every for e in PAPER.experiments)


@pytest.mark.usefixtures("fake_paper")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["list", "nix"], "place or experiment 'nix'; did you mean"),
        (["list", "--state", "lost"], "--state: 'lost' is none of reproduced, better,"),
        (["list", "--json", "mcmil/nix"], "did you mean 'mcmil/"),
        (["table", "mcmil/q*"], "place or experiment 'mcmil/q*'; did you mean 'mcmil/"),
    ],
)
def test_bad_input_gets_one_sentence(words, said, capsys):
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.usefixtures("fake_paper")
def test_list_json_takes_names_and_a_state(capsys):
    assert main(["list", "--json", "mcmil/nests", "--state", "not run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [result["id"] for result in found] == ["mcmil-005", "mcmil-006"]
    assert main(["list", "--json", "mcmil/nests", "--state", "holds"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.usefixtures("fake_paper")
def test_the_summary_counts_every_number_once_by_what_is_known_of_it():
    held = [record(DIGITS, 0, error=0.48), record(NESTS, 0, "desk", error=0.9)]
    held += [record(SERIES, 0, "short", seconds=2.0)]
    known, verdicts = (
        [line.strip("| ").split(" | ") for line in table.splitlines()]
        for table in tables.summary_markdown(held).split("\n\n")
    )
    assert tuple(known[0]) == tables.SUMMARY
    assert known[2] == ["Li 2018 (presence)", "17", "1", "2", "1", "1", "12"]
    for line in known[2:]:
        numbers = [int(cell) for cell in line[1:]]
        assert numbers[0] == sum(numbers[1:])
    assert known[-1][:2] == ["all", str(len(ledger.load()))]
    assert verdicts[0] == ["verdicts", *ledger.VERDICTS]
    assert verdicts[2:] == [
        ["Li 2018 (presence), paper's settings", "1", "0", "0", "0", "0", "0"],
        ["Li 2018 (presence), our recipe", "0", "0", "2", "0", "0", "0"],
    ]


@pytest.mark.parametrize(
    ("change", "protocol", "reason"),
    [
        ({}, "paper", "for lack of time"),  # a CPU can run it under desk
        ({}, "short", "for lack of time"),
        ({}, "desk", "for lack of time"),
        ({"protocols": {}}, "short", "no GPU yet"),  # it has the paper's protocol alone
        ({"not_run": Why.NO_DATA}, "short", "data not available to us"),
        ({"not_run": Why.NO_DATA, "more": "no copy"}, "paper", "data not available to us: no copy"),
        ({"not_run": Why.NO_RUN}, "paper", "no run yet"),
    ],
)
def test_a_missing_record_has_a_reason(change, protocol, reason):
    assert str(dataclasses.replace(NESTS, **change).reason(protocol)) == reason


@pytest.mark.usefixtures("fake_paper")
def test_the_page_of_a_paper_shows_every_number_claim_and_command():
    held = [record(NESTS, s, error=0.36, dirty=True) for s in (0, 1)]
    held += [record(TRIES, 0, error=0.4), record(TRIES, 1, error=0.6)]
    held += [record(DIGITS, 0, error=0.6), record(NESTS, 0, "smoke", error=77.0)]
    page = tables.markdown("mcmil", held)
    for row in ledger.load().values():
        if row.paper == "mcmil":
            assert f"`{row.id}`" in page
            assert f"| {row.method} | {row.data} | " in page
    assert "`mcmil-017`: not run: for lack of time." in page
    head = (
        "17 numbers. Paper's settings: 3 (1 reproduced, 2 worse); unavailable data: 1; not run: 13."
    )
    assert page.startswith(f"## What is known\n\n{head}")
    assert "0123456+; a device" in page  # + marks uncommitted code
    line = (
        "| nests beat digits | Sec 5.2 | holds | paper's settings | by their means (1 to 2 seeds) |"
    )
    assert line in page
    assert ".venv/bin/python -m wsl_tutorial.reproduce run mcmil/nests --protocol paper" in page
    assert "77" not in page
    untested = "| nests beat digits | Sec 5.2 | not tested | none | for lack of time (1 of 2) |"
    assert untested in tables.markdown("mcmil", held[:2])
    rest = tables.markdown("mist", [])
    assert rest.startswith("## What is known\n\n53 numbers. Not run: 53.")
    with pytest.raises(ValueError, match="no paper of the ledger"):
        tables.markdown("mnist", [])


@pytest.mark.usefixtures("fake_paper")
def test_claims_of_the_book_are_left_out_of_the_tally():
    ours = dataclasses.replace(BETTER, text="asked by the book", whose=Whose.BOOK)
    paper = dataclasses.replace(PAPER, claims=(ours, BETTER))
    held = [record(NESTS, 0, error=0.4), record(DIGITS, 0, error=0.5)]
    assert tables.claims_tally(paper, held) == "1 claim of the paper: 1 holds."


@pytest.mark.usefixtures("fake_paper")
def test_a_claim_is_judged_by_the_strongest_protocol_that_all_have_run():
    short = [record(e, 0, "short", error=x) for e, x in ((NESTS, 0.9), (DIGITS, 0.5))]
    found = tables.judge_claim(PAPER, BETTER, short)
    assert found[0] == "no verdict"
    assert found[2:] == ("short", "disagrees: by their means (1 seed)")
    desk = [record(e, 0, "desk", error=x) for e, x in ((NESTS, 0.4), (DIGITS, 0.5))]
    one = record(NESTS, 0, error=0.9)
    found = tables.judge_claim(PAPER, BETTER, [*short, *desk, one])
    assert (found.state, found.evidence) == ("holds", "desk")
    found = tables.judge_claim(PAPER, BETTER, [*short, *desk, one, record(DIGITS, 1, error=0.5)])
    assert (found.state, found.evidence) == ("fails", "paper")
    apart = [record(NESTS, 0, error=0.3), record(DIGITS, 1, "desk", error=0.5)]
    found = tables.judge_claim(PAPER, BETTER, apart)
    assert (found.state, found.why) == ("not tested", "not all under one protocol")


@pytest.mark.usefixtures("fake_paper")
def test_an_experiment_without_a_recipe_of_ours_counts_as_it_is():
    """An experiment without training has no settings for protocol desk."""
    blind = dataclasses.replace(DIGITS, protocols={})
    paper = dataclasses.replace(PAPER, experiments=(NESTS, blind))
    held = [record(NESTS, 0, "desk", error=0.4), record(blind, 0, error=0.5)]
    assert tables.judge_claim(paper, BETTER, held).evidence == "desk"


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
