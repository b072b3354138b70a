"""The tables and figures of chapter 13, on the ledger, on settings and on made-up records."""

import re

import matplotlib.pyplot as plt
import pytest

from wsl_tutorial.reproduce import records, tables
from wsl_tutorial.reproduce.experiment import changed, plain
from wsl_tutorial.reproduce.regions import PAPER, page
from wsl_tutorial.reproduce.regions.settings import Settings

EXPERIMENTS = {e.name: e for e in PAPER.experiments}
TABLES = (page.ratios, page.areas, page.ladder, page.entropies, page.families, page.four_cuts)
TABLES += (page.needs,)


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def record(name, seed=0, protocol="short", curve=(), **metrics_):
    e = EXPERIMENTS[name]
    return {
        "id": e.record_id(seed, protocol),
        "experiment": name,
        "method": e.method,
        "seed": seed,
        "protocol": protocol,
        "config": plain(e.settings(protocol)),
        "deviations": e.departures(protocol),
        "metrics": metrics_,
        "curve": list(curve),
        "notes": [],
        "seconds": 60.0 + seed,
        "peak_memory_mb": 1.0,
        "provenance": {**dict.fromkeys(records.PROVENANCE), "device": "a device"},
    }


def rungs(step, seeds=(0, 1), **metrics_):
    full = dict.fromkeys((*page.SHOWN, "true_area"), 10.0) | metrics_
    return [record(f"minmax/graded-{step}", seed, **full) for seed in seeds]


def lines(table):
    return [re.split(r" *\| *", line.strip("| ")) for line in table.splitlines() if "|" in line]


def test_numbers_of_the_ledger():
    assert page.printed("Table 2", "min-max u=4", "F1-")["GlaS"].printed == "66.51"
    assert len(lines(page.claimed())) == 2 + 7
    glas = next(line for line in lines(page.zeros_beside_methods()) if line[0] == "GlaS")
    assert glas[1] == page.printed("Table 2", "All-ones", "F1+")["GlaS"].printed
    low, high = (float(x) for x in glas[2].split(" to "))
    assert low < 64.04 < high  # All-zeros of the masks that we have
    shown = lines(page.areas_beside_cuts(lambda area: area - 10))[2:]
    assert [line[3] for line in shown] == [f"{100 * float(line[2]) - 10:.1f}" for line in shown]


def test_settings_are_shown_where_they_differ():
    other = changed(Settings(), lr=0.5, dropout=0.1, u=4, train_images=7)
    shown = lines(page.settings_beside({"a": Settings(), "b": other}))[2:]
    assert shown == [["`train_images`", "2000", "7"], ["`lr`", "0.001", "0.5"]]
    beside = lines(page.settings_beside_paper(changed(other, train_images=9)))[2:]
    assert ["`lr`", "0.5", "0.001", "section B.2"] in beside
    assert not {"`train_images`", "`crop`"} & {line[0] for line in beside}


def test_values_are_means_over_seeds():
    assert (
        page.value(rungs("u0", pxap=50.0) + rungs("u0", (2, 3), pxap=52.0), "pxap") == "51.0 ± 1.2"
    )
    assert page.value([], "pxap") == page.value(rungs("u0"), "no such metric") == ""


@pytest.mark.parametrize("table", TABLES)
def test_tables_stand_without_records(table):
    assert "%" not in table([]) or "Not run" in table([]) or "no record" in table([]).lower()


def test_glas_has_a_line_for_each_method_with_the_numbers_of_both():
    held = [
        record("minmax/glas-wildcat", error=2.5, f1_plus=60.0, f1_minus=20.0),
        record("minmax/glas-trivial", protocol="paper", all_zeros_f1_minus=64.04),
    ]
    shown = {line[0]: line[1:] for line in lines(page.glas(held))[2:]}
    methods = {r.method for r in page.ROWS.values() if r.data == "GlaS" and r.table == "Table 2"}
    assert methods < set(shown)
    printed = [page.printed("Table 2", "WILDCAT", k)["GlaS"].printed for k in ("F1+", "F1-")]
    error, plus, minus = shown["WILDCAT"][0:2], shown["WILDCAT"][2:4], shown["WILDCAT"][4:6]
    assert (error[1], plus, minus) == ("2.50", [printed[0], "60.00"], [printed[1], "20.00"])
    assert shown["WILDCAT"][6] == "reduced size, 1"
    assert shown["CAM-Max"][6] == "none"  # has not run
    assert not any("CRF" in method for method in shown)  # Table 6
    assert shown["*All-zeros*"][5] == "64.04"


def test_the_reproduction_page_has_the_further_tables_by_title():
    held = rungs("u0", pxap=55.0)
    titles = page.further(held)
    assert page.ladder(held) in titles["The ladder: one network, one budget and one cut"]
    assert page.areas(held) in titles.values()
    assert all(text.strip() for text in titles.values())
    text = tables.markdown("minmax", held)
    assert all(f":::{{dropdown}} {title}\n" in text for title in titles)
    assert "## More measurements" not in tables.markdown("mcmil", [])


def test_the_ladder_holds_the_steps_that_have_run():
    held = [
        *rungs("u0", pxap=55.0),
        *rungs("cam-avg"),
        *rungs("trivial", (0,), majority_error=45.0),
    ]
    text = page.ladder(held)
    first = text.split("**head**")[0]
    assert "protocol short" in first
    assert "55.0 ± 0.0" in first
    assert "*All-ones*" in first
    assert "`minmax/graded-u4`" in first  # has not run
    assert [level for level, _ in page.STEPS] == sorted(
        (level for level, _ in page.STEPS), key=lambda level: int(level[1:])
    )
    assert len(lines(page.steps())) == 2 + len(page.STEPS)
    fig, named = page.ladder_dots(held)
    assert named == "graded cam-avg 10.0 ± 0.0; graded u0 55.0 ± 0.0"
    assert len(fig.axes) == 2


def test_shares_of_trusted_looks_are_those_of_the_curve():
    name = "minmax/glas-min-max-u4"  # nine steps in an epoch
    running = {e: 0.4 * (1 - 0.95 ** (9 * e)) for e in (1, 2)}  # 40 % of every batch
    curve = [{"epoch": e, **{f"accepted_{t}": r for t in range(4)}} for e, r in running.items()]
    held = [record(name, seed, curve=curve) for seed in (0, 1)]
    fig, named, text = page.trusted_looks(held)
    assert named == "protocol short, 2 seeds"
    assert text == f"`{name}`: 40.0, 40.0, 40.0, 40.0 (2 seeds)."
    assert [len(axis.lines) for axis in fig.axes] == [0, 0, 4]
    assert fig.axes[2].lines[0].get_ydata().tolist() == pytest.approx([40, 40])
    assert page.trusted_looks([])[2] == "No record yet."


def test_cuts_are_drawn_for_methods_with_records():
    cut = {f"{rule}{side}": 50.0 for rule in page.CUTS.values() for side in ("f1_plus", "f1_minus")}
    fig, counted = page.cuts_in_the_plane(rungs("u0", **cut))
    assert counted == "GlaS: 0 of 7; GlaS, equal terms: 0 of 7; Pets: 0 of 5; graded: 1 of 8"
    assert len(fig.axes) == 2
    assert "50.0 ± 0.0 / 50.0 ± 0.0" in page.four_cuts(rungs("u0", **cut))


def test_figures_of_the_paper_and_of_glands():
    counts = {("a", "GlaS"): 0, ("b", "GlaS"): 3, ("a", "CUB5"): 15, ("b", "CUB5"): 16}
    fig = page.wilson_intervals(counts, {"GlaS": 80, "CUB5": 145}, {"GlaS": 46.25, "CUB5": 80.0})
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["a", "b"]
    assert [axis.get_title() for axis in page.two_regimes().axes] == ["graded"] * 2 + ["head"] * 2


def test_ones_own_run_stands_beside_the_published():
    text = page.fresh("minmax/graded-u4", [], records.published())
    assert len(lines(text)[0]) == 1 + len(page.SHOWN)
