"""Test the tables and figures of chapter 7 on made-up records, and on none."""

import math

import matplotlib.pyplot as plt
import pytest
import torch
from scipy import stats

from wsl_tutorial.reproduce import audit
from wsl_tutorial.reproduce.counts import methods, page
from wsl_tutorial.reproduce.experiment import settings_of

ACCURACY = {"supervised": 90.0, "dllp": 85.0, "llp_gan": 80.0, "mle_llp": 86.0, "direct": 87.0}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def accuracy(name, method, seed):
    """Return an accuracy: a split shifts all methods alike, MLE-LLP slightly more; bags help."""
    bags = name.rpartition("-")[2]
    bonus = int(bags) / 200 if bags.isdigit() and method != "supervised" else 0
    return ACCURACY.get(method, 84.0) + seed + 0.1 * seed * (method == "mle_llp") + bonus


def records(name, seeds=3, protocol="short"):
    """Return records of an experiment whose five epochs alternate by +-(seed + 1) points."""
    experiment = page.EXPERIMENTS[name]
    config = experiment.settings(protocol)
    found = []
    for seed in range(seeds):
        metrics, curve = {}, [{"epoch": t} for t in range(1, 6)]
        for m in config.method.methods:
            value = accuracy(name, m, seed)
            known = {"accuracy": value, "epochs": 2 + seed, "seconds": 3.0 + len(m)}
            known["accuracy_with_counts"] = value + 5
            metrics |= {f"{m}_{key}": x for key, x in known.items()}
            for t, point in enumerate(curve):
                point[f"{m}_accuracy"] = value + (seed + 1) * (-1) ** t
        found.append(
            {
                "experiment": name,
                "seed": seed,
                "protocol": protocol,
                "id": experiment.record_id(seed, protocol),
                "metrics": metrics,
                "curve": curve,
            }
        )
    return found


def searched(seeds=2):
    """Return records of the grid search: the larger the rate, the larger the error of counts."""
    experiment = page.EXPERIMENTS["llp/choice"]
    points = methods.grid(experiment.settings("short"))
    return [
        {
            "experiment": experiment.name,
            "seed": seed,
            "protocol": "short",
            "id": experiment.record_id(seed, "short"),
            "metrics": {key: 1000 * p.optimiser.lr + seed for key, p in points.items()},
            "curve": [
                {"epoch": t, **{f"{key}_count_error": 4.0 if t < 3 else 1.0 for key in points}}
                for t in (1, 2, 3, 4)
            ],
        }
        for seed in range(seeds)
    ]


def lines(table):
    """Return the cells of a Markdown table, without its head."""
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


# From the ledger and the settings -----------------------------------------------------------------


def test_places_count_every_row_of_the_ledger_once():
    found = lines(page.rows_by_place())
    assert sum(int(row[-1]) for row in found) == len(page.ROWS) == 58
    assert sum(int(row[-1]) for row in found if row[2] == "a number") == 10  # 8 in Table 1


def test_table_1_is_made_of_the_printed_seconds():
    (data, *ratios), _ = lines(page.table_1())
    t = {method: x for (where, method), x in page.printed().items() if where == data}
    step = t["MLE-LLP"] - t["supervised"]
    expected = (t["MLE-LLP"] / t["supervised"], t["MLE-LLP"] / t["DLLP"], step, t["supervised"] / 3)
    assert ratios == [f"{x:.2f}" for x in expected]


def test_methods_and_settings_are_all_there():
    assert [row[0] for row in lines(page.methods_table())] == [f"`{m}`" for m in page.METHODS]
    config = page.EXPERIMENTS["llp/cifar-curves"].config
    rows, differ = page.settings_rows(config)
    assert {name: ours for name, ours, *_ in rows} == settings_of(config)
    assert ("lr", 3e-4, "not stated") in [line[:3] for line in differ]
    assert "smallest" not in [line[0] for line in differ]  # 2 in the paper
    assert [row[0] for row in lines(page.settings_table([]))] == [line[0] for line in differ]


def test_further_tables_of_the_page_are_made_from_records():
    (paper,) = audit.audited(page.PAPER.key)
    assert len(audit.further(paper, [])) == len(page.FURTHER) > 0


# From records -------------------------------------------------------------------------------------


def test_curves_keep_the_place_of_a_number_that_was_not_finite():
    runs = records("llp/cifar-curves", 2)
    runs[1]["curve"][2]["dllp_accuracy"] = None
    steps, a = page.curves(runs, "dllp")
    assert steps == [1, 2, 3, 4, 5]
    assert a.isnan().nonzero().tolist() == [[1, 2]]
    assert a[0].tolist() == [86.0, 84.0, 86.0, 84.0, 86.0]


def test_the_wobble_is_that_of_neighbouring_late_epochs():
    runs = records("llp/cifar-curves", 1)
    for point, value in zip(runs[0]["curve"], (0.0, 9.0, 9.0, 10.0, 14.0), strict=True):
        point["dllp_accuracy"] = value
    expected = torch.tensor([1.0, 4.0]).std().item() / math.sqrt(2)
    assert page.wobble(runs, "dllp") == pytest.approx(expected)


def test_learning_curves_show_each_method_where_there_are_records():
    fig, alt, text = page.learning_curves(records("llp/cifar-curves"))
    labels = [line.get_label() for line in fig.axes[0].lines]
    assert labels == ["supervised", "DLLP", "LLP-GAN", "MLE-LLP"]
    assert fig.axes[0].lines[1].get_ydata().tolist() == [88.0, 84.0, 88.0, 84.0, 88.0]
    assert not fig.axes[1].lines
    ends = "birds and cats, 3 seeds: supervised 91.00 %, DLLP 86.00 %, LLP-GAN 81.00 %, MLE-LLP"
    assert ends in alt
    assert ends in text
    assert text.endswith("stand-in, 0 seeds: no record yet.")


def test_speed_and_paired_tests_have_a_line_for_each_data_set_with_records():
    held = records("llp/stand-in-curves")
    table = lines(page.speed(held))
    assert [row[1] for row in table] == ["supervised", "DLLP", "LLP-GAN", "MLE-LLP"]
    assert table[1][:4] == ["stand-in", "DLLP", "86.0 ± 1.0", "3.0 ± 1.0"]
    ((data, gap, splits, textbook, corrected),) = lines(page.paired_tests(held))
    d = [1.0, 1.1, 1.2]
    assert (data, gap, splits) == ("stand-in", "1.10 ± 0.10", "3")
    assert textbook == f"{stats.ttest_1samp(d, 0).pvalue:.3f}"
    assert float(corrected) > float(textbook)


def test_the_share_that_tests_is_that_of_the_bags():
    config = page.EXPERIMENTS["llp/cifar-curves"]
    assert page.tested(config.config) == 0.2
    assert page.tested(config.settings("short")) == pytest.approx(250 * 7 / 10_000)
    stand_in = page.EXPERIMENTS["llp/stand-in-curves"].settings("short")
    assert page.tested(stand_in) == pytest.approx(250 / 1_913)


def test_seconds_are_ratios_to_dllp():
    rows = {row[0]: row[1:] for row in lines(page.seconds(records("llp/cifar-seconds", 1)))}
    assert rows["`dllp`"] == ["1.00", "1.00", f"{7 / 15:.2f}"]
    assert rows["`direct`"] == ["not in the paper", f"{9 / 7:.2f}", f"{9 / 15:.2f}"]
    assert {row[2] for row in lines(page.seconds([]))} == {"not run"}


def test_figure_3_is_behind_supervised_by_the_bags_that_train():
    names = [f"llp/cifar-{m}" for m in page.SIZES]
    held = [r for name in names for r in records(name)]
    fig, alt, text = page.behind_supervised(held)
    assert "DLLP 4.0, 3.0, 2.0, 1.0, 0.0; LLP-GAN 9.0, 8.0, 7.0, 6.0, 5.0" in text
    assert text.removeprefix("Points")[-40:] in alt
    line = fig.axes[0].containers[0].lines[0]
    assert line.get_xdata().tolist() == [m // 5 for m in page.SIZES]
    held += records(names[0], protocol="desk")
    fig, alt, text = page.behind_supervised(held)  # the strongest first, each in its panel
    assert [a.get_title().partition(",")[0] for a in fig.axes] == [
        "protocol desk",
        "protocol short",
    ]
    assert fig.axes[0].containers[0].lines[0].get_xdata().tolist() == [page.SIZES[0]]
    assert "Protocol desk, 3 seeds, 200 bags: DLLP 4.0; LLP-GAN 9.0" in text
    assert page.behind_supervised([])[2].lower().endswith("no record yet.")


def test_variants_are_paired_with_the_method_that_they_vary():
    held = records("llp/cifar-curves") + records("llp/cifar-ablation", 2)
    held += records("llp/cifar-gan-several", 1)
    rows = {row[0]: row[1:] for row in lines(page.variants(held))}
    assert rows["`mle_llp`"] == ["87.10 ± 1.10", "92.10 ± 1.10", "", "", "3"]
    assert rows["`direct`"][2:] == ["`mle_llp`", "0.95 ± 0.07", "2"]
    assert rows["`dllp_several`"][2:] == ["`dllp`", "-1.00 ± 0.00", "2"]
    assert rows["`llp_gan_several`"] == ["84.00", "89.00", "`llp_gan`", "4.00", "1"]


def test_ten_classes_say_the_final_accuracies():
    fig, alt = page.ten_classes(records("llp/cifar10-jpeg75-classes"))
    assert alt.endswith("supervised 91.0 %, direct 88.0 %.")
    assert len(fig.axes[0].lines) == 3
    assert page.ten_classes([])[1].endswith("no record yet.")


def test_fresh_records_are_shown_with_the_stored_ones():
    name = "llp/cifar-curves"
    new, old = lines(page.fresh(name, [], records(name, protocol="paper")))
    assert new == ["fresh, from here", *["not run"] * 4]
    assert old == ["stored, in the package", "90.00", "85.00", "80.00", "86.00"]


# The grid search ----------------------------------------------------------------------------------


def test_the_chosen_points_of_the_grid_are_marked():
    table, edge = page.grid_search(searched())
    rows = lines(table)
    assert rows[0] == ["supervised", "16", "0.60 ± 0.71 (chosen)", "0.80 ± 0.71", "1.50 ± 0.71"]
    assert table.count("(chosen)") == len(page.searched([])[1].method.methods)
    assert edge.endswith("`supervised`, `dllp`, `dllp_several`, `llp_gan`, `mle_llp`, `direct`.")
    assert page.grid_search([])[1].endswith("none.")


def test_the_plateau_is_counted_by_epochs():
    rows = lines(page.on_the_plateau(searched()))
    assert rows[0] == ["DLLP", "0.0001", "50 %"]
    assert len(rows) == 6
    assert lines(page.on_the_plateau([])) == []
    fig, alt = page.plateau(searched())
    assert [len(axis.lines) for axis in fig.axes] == [3 * 3 + 1] * 2  # two seeds, mean; constant
    assert "no record yet" in page.plateau([])[1]
    assert "2 seeds" in alt


# Derivations --------------------------------------------------------------------------------------


def test_figures_of_the_derivations_draw_what_they_are_given():
    fig = page.passages([0.1, 1], [9, 8], [5, 4])
    assert [line.get_ydata().tolist() for line in fig.axes[0].lines] == [[9, 8], [5, 4]]
    fig = page.errors_of_counts([0, 0.5], [0, 2])
    assert fig.axes[0].lines[0].get_xdata().tolist() == [0, 50]
    fig = page.bag_sizes({"equal": torch.ones(4), "one": torch.tensor([0.0, 3])})
    assert [bar.get_height() for bar in fig.axes[0].patches] == [25, 25, 25, 25, 0, 100]
