"""The tables and figures of chapter 10, on records made up here and on none."""

import math
import statistics

import pytest
import torch
from matplotlib import pyplot as plt

from wsl_tutorial import metrics
from wsl_tutorial.reproduce import tables
from wsl_tutorial.reproduce.experiment import settings_of
from wsl_tutorial.reproduce.patches import page

HARD = page.EXPERIMENTS["mist/hard"]
MEASURED = {key: 50.0 for key in page.MEASURES}
CHANCE = {"MNIST-3": 7.0, "MNIST hard": 23.0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def records(name, *seeds, protocol="short", **more):
    """Return records of an experiment as it is now, with two epochs; `more` goes into metrics."""
    e = page.EXPERIMENTS[name]
    losses = {"task_loss": 0.5, "heat_loss": 0.25}
    curve = [{"epoch": i, "moved": i + 0.5, "iou50": 10.0 * i, **losses} for i in (1, 2)]
    return [
        {
            "experiment": name,
            "seed": seed,
            "protocol": protocol,
            "id": e.record_id(seed, protocol),
            "metrics": {**MEASURED, **more},
            "curve": curve,
            "seconds": 60.0 + seed,
            "notes": [],
            "provenance": {"commit": None, "dirty": False, "device": "a device", "utc": "2026"},
        }
        for seed in seeds
    ]


def line_of(table, start):
    """Return the cells of the only line of a Markdown table that begins with these words."""
    (line,) = (line for line in table.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def points(fig):
    """Return (x, y) of all lines with a point, by panel."""
    lines = [[line.get_xydata().tolist() for line in axis.lines] for axis in fig.axes]
    return [[line for line in axis if line] for axis in lines]


def test_printed_rates_are_those_of_the_ledger():
    rows = [r for r in page.ROWS.values() if r.table in ("Table 2", "Table 3")]
    lines = {tuple(line.split(" | ")[:2]): line for line in page.printed().splitlines()[2:]}
    assert set(lines) == {(f"| {r.data}", r.method) for r in rows}
    for r in rows:
        cells = lines[f"| {r.data}", r.method].strip("| ").split(" | ")
        assert cells[2 + list(page.RATES).index(r.measure)] == r.printed


def test_rates_have_the_numbers_of_both():
    held = records("mist/hard", 0, 1, classification=60.0)
    table = page.rates(held)
    (mist,) = (line for line in table.splitlines() if line.startswith("| MNIST hard | MIST "))
    cells = [cell.strip() for cell in mist.strip("|").split("|")]
    assert cells[2:] == [
        *("97.8", "50.00 ± 0.00", "98.8", "60.00 ± 0.00", "97.5", "50.00 ± 0.00"),
        "reduced size, 2",
    ]
    assert len(table.splitlines()) == len(page.printed().splitlines())


def test_the_reproduction_page_has_the_further_tables_by_title():
    held = records("mist/three", 0, 1)
    titles = page.further(held)
    assert page.moved(held) in titles["How far places move"]
    text = tables.markdown("mist", held)
    assert all(f":::{{dropdown}} {title}\n" in text for title in titles)


def test_table_2_has_the_product_of_its_measures():
    _, iou, classified, product, both, ratio = line_of(page.products(), "channel-wise")
    assert float(product) == pytest.approx(float(iou) * float(classified) / 100, abs=0.05)
    assert float(ratio) == pytest.approx(100 * float(both) / float(iou), abs=0.05)


def test_rates_by_chance_are_drawn_from_one_digit_on():
    fig = page.label_rates({"luck": [10.0, 20.0, 30.0], "fixed": [5.0]}, dashed="fixed")
    luck, fixed, *marks = fig.axes[0].lines
    assert luck.get_xydata().tolist() == [[1, 10], [2, 20], [3, 30]]
    assert (luck.get_linestyle(), fixed.get_linestyle()) == ("-", "--")
    drawn = [tuple(line.get_xydata()[0]) for line in marks if len(line.get_xydata())]
    rows = [r for r in page.ROWS.values() if r.measure == "classification"]
    assert sorted(drawn) == sorted((3 if r.data == "MNIST-3" else 9, r.value) for r in rows)


def test_a_region_is_drawn_around_each_cell_of_the_grid():
    cells = torch.tensor([[10.0, 20.0], [30.0, 40.0]])
    fig = page.centres({"a": (torch.ones(70, 3, 3), 12.3), "b": (torch.ones(5, 1, 3), 4)}, cells)
    assert [axis.get_title() for axis in fig.axes] == ["a: 12 %", "b: 4 %"]
    assert [len(axis.lines[0].get_xydata()) for axis in fig.axes] == [180, 5]  # 60 canvases at most
    drawn = torch.as_tensor(fig.axes[0].patches[1].get_xy())
    assert drawn.amin(0).tolist() == pytest.approx([30 - 20 / 3, 40 - 20 / 3], abs=1e-4)


@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_a_region_ends_where_the_overlap_is_the_threshold(threshold):
    outline = page.found_region(20.0, threshold).double()  # (160, 2)
    guess = torch.tensor([[[0.0, 0.0, 20.0]]]).double()
    at = torch.cat([outline, torch.full((len(outline), 1), 20.0).double()], 1)
    iou = metrics.box_iou(metrics.boxes(guess), metrics.boxes(at[None]))
    assert iou.flatten().tolist() == pytest.approx([threshold] * len(outline), abs=1e-5)


def test_boxes_are_drawn_where_digits_are_and_crosses_in_noise():
    image, place = (
        torch.zeros(1, 1, 80, 80),
        torch.tensor([[[40.0, 30.0, 20.0], [-1.0, -1.0, -1.0]]]),
    )
    fig = page.canvases({"MNIST-3": (image, place), "Gabor noise": (image, place[:, :1])})
    (box,) = fig.axes[0].patches
    assert (box.get_xy(), box.get_width()) == ((30, 20), 20)
    assert not fig.axes[1].patches
    assert fig.axes[1].lines[0].get_xydata().tolist() == [[40, 30]]


def test_costs_are_those_of_all_steps():
    table = page.costs({"mist": (27, 2_000_000_000, (11, 22))}, HARD.config)
    assert "Heat map network 11 parameters, classifier 22." in table
    steps = 32 * (50_000 // 32)
    assert f"PFLOP, {steps} steps" in table
    flops = steps * 32 * 2e9
    line = line_of(table, "MIST")
    assert line[1:] == ["27", "2.0", f"{flops / 1e15:.1f}", f"{flops / 5e12 / 60:.0f}"]


def test_settings_that_differ_from_the_text_are_listed():
    number, lines = page.settings(HARD.config)
    assert number == len(settings_of(HARD.config))
    names = [name for name, *_ in lines]
    assert {"inner_lr", "epochs", "order"} <= set(names)
    assert not {"lr", "k", "nms"} & set(names)
    assert all(ours != paper for _, ours, paper, _ in lines)


def test_a_loss_that_is_not_finite_is_a_gap_in_its_curve():
    runs = [{"curve": [{"epoch": 1, "loss": 3.0}, {"epoch": 2, "loss": None}]}]
    epochs, values = page.by_epoch(runs, "loss")
    assert epochs == [1, 2]
    assert values[0, 0] == 3
    assert math.isnan(values[0, 1])


def test_curves_are_means_over_the_seeds():
    fig, caption, text = page.curves(records("mist/hard", 0, 1))
    assert caption.startswith("protocol short")
    assert text == (
        "MNIST hard, seeds 2: task loss 0.5 to 0.5, heat map loss 0.25 to 0.25, "
        "digits found / % 10 to 20."
    )
    found, level = points(fig)[2]
    assert found == [[1, 10], [2, 20]]
    assert level[0][1] == pytest.approx(25.2, abs=0.1)  # (10.2), the same at half the lengths


def test_a_measure_is_a_mean_with_its_spread():
    runs = [r for k in (0, 1) for r in records("mist/hard", k, both=40.0 + 20 * k, ap50=38.0)]
    cells = page.measured(runs)
    assert dict(zip(page.MEASURES, cells, strict=False))["both"] == "50.0 ± 14.1"
    assert cells[-1] == "inside"
    assert page.measured(records("mist/hard", 0, both=90.0, ap50=50.0))[-1] == "outside"
    line = line_of(page.measures(runs), "`mist/hard`")
    assert line[1:] == ["2", *cells]


def test_a_method_has_a_dot_for_each_measure_on_its_line():
    held = records("mist/three", 0, matched50=80.0) + records("mist/three-frozen", 0)
    fig, _, text = page.choices(held, CHANCE)
    assert "MIST: matched 80.0, all classes 50.0, both 50.0" in text
    assert "REINFORCE: not run" in text
    left, right = points(fig)
    labels = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert [80, labels.index("MIST") - 0.2] in [line[0] for line in left]
    assert [7, 0] in [line[0] for line in left]  # dotted: chance
    assert [23, 0] in [line[0] for line in right]


def test_places_move_from_the_first_epoch_to_the_last():
    line = line_of(page.moved(records("mist/three", 0, 1)), "`mist/three`")
    assert line[1:] == ["2", "1.50 to 1.50", "2.50 to 2.50"]


def test_a_start_is_what_the_untrained_network_finds():
    held = records("mist/three", 0, 1) + records("mist/three-frozen", 0)
    held[-1]["curve"][0]["iou50"] = 3.0
    fig, _, text = page.starts(held, CHANCE)
    assert text == "MNIST-3, seed 0: 3, 10, 20."  # seed 1 has no start
    assert points(fig)[0] == [[[0, 3], [1, 10], [2, 20]], [[0, 7], [1, 7]]]


def test_the_first_heat_map_does_not_decide_which_seed_of_the_records_ends_best():
    _, _, text = page.starts(tables.records.published(), CHANCE)
    seeds = {"MNIST-3": [], "MNIST hard": []}
    for sentence in text.removesuffix(".").split(". "):
        title, _, rates = sentence.partition(", seed ")
        seeds[title].append([int(x) for x in rates.partition(": ")[2].split(", ")])
    for title, runs in seeds.items():
        worst = min(runs, key=lambda rates: rates[0])
        if title == "MNIST-3":
            assert worst[0] > CHANCE[title] > max(worst[1:])
        else:
            assert worst == max(runs, key=lambda rates: rates[-1])


def test_straight_through_finds_more_than_an_untrained_map_on_three_digits_of_the_records():
    def matched(name):
        found = tables.current(page.EXPERIMENTS[name], "short", tables.records.published())
        return statistics.fmean(r["metrics"]["matched50"] for r in found)

    assert matched("mist/three-straight-through") > matched("mist/three-frozen") + 20
    assert matched("mist/hard-straight-through") < matched("mist/hard-frozen") - 20


def test_our_recipe_has_fewer_steps_and_higher_rates():
    for name in ("mist/hard", "mist/hard-supervised", "mist/three"):
        ours, paper = (page.EXPERIMENTS[name].settings(p) for p in ("desk", "paper"))
        steps = [c.optimiser.epochs * (c.data.train_canvases // 32) for c in (ours, paper)]
        assert steps == [3124, 49984]
        assert ours.optimiser.lr > paper.optimiser.lr
        assert ours.optimiser.heat_lr > paper.optimiser.heat_lr


def test_at_full_size_the_rate_of_the_places_is_in_proportion_to_their_number():
    with_labels = [e for e in page.EXPERIMENTS.values() if e.config.task == "classification"]
    with_labels = [e for e in with_labels if not e.config.lifting.normalise]
    for e in with_labels:
        for protocol in {"paper", "desk"} & {"paper", *e.protocols}:
            config = e.settings(protocol)
            assert config.lifting.inner_lr == pytest.approx(1e4 / 64 * config.extraction.k / 9)


def test_needs_hold_the_mean_time():
    line = line_of(page.needs(records("mist/hard", 0, 1)), "`mist/hard`")
    assert line[-1] == "60 s, short"
    assert line[1] == "mnist"


def test_fresh_records_stand_beside_the_stored_ones():
    fresh = records("mist/three", 0, protocol="paper")
    table = page.beside("mist/three", fresh, [])
    assert line_of(table, "fresh, from here")[1:] == ["50.0"] * len(page.MEASURES)
    assert set(line_of(table, "stored, in the package")[1:]) == {"not run"}


def test_chance_has_no_grid_where_the_number_of_places_is_no_square():
    held = records("mist/hard-chance", 0, protocol="paper", rmse_zeros=0.2, iou50_grid=28.0)
    line = line_of(page.chance(held), "MNIST hard")
    assert line[1] == "28.0"
    assert line[2] == "none"  # not measured
    assert line[-2] == "0.200"
    assert "no record" in line_of(page.chance(held), "MNIST-3")


def test_every_table_is_made_without_a_record():
    for table in (page.rates, page.chance, page.measures, page.moved, page.needs):
        assert table([])
    assert page.curves([])[2] == page.starts([], CHANCE)[2] == "No record yet."
    assert "not run" in page.choices([], CHANCE)[2]
