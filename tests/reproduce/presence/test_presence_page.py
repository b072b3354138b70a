"""The tables and figures of chapter 4, with no record, and with records made up by the test."""

import matplotlib as mpl
import pytest
import torch

from wsl_tutorial.data import houses
from wsl_tutorial.reproduce import audit
from wsl_tutorial.reproduce.presence import page

mpl.use("agg")


@pytest.fixture
def drawn(monkeypatch):
    """The figures shown, each with its description."""
    figures = []
    monkeypatch.setattr(page.show, "figure", lambda fig, alt: figures.append((fig, alt)))
    return figures


def record(name, seed, last, best, held_out, curve=(), protocol="short"):
    metrics = {"last_test_error": last, "best_test_error": best, "validation_test_error": held_out}
    provenance = {"commit": "0123abc", "dirty": False, "data": [], "device": "cpu", "utc": "2026"}
    return {
        "id": page.EXPERIMENTS[name].record_id(seed, protocol),
        "experiment": name,
        "seed": seed,
        "protocol": protocol,
        "seconds": 1.5,
        "metrics": metrics,
        "curve": [{"epoch": k, "test_error": e} for k, e in enumerate(curve, 1)],
        "provenance": provenance,
        "notes": [],
    }


def rows_of(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith("| ---")
    ]


def test_a_number_is_printed_as_in_the_paper():
    assert page.printed(page.ROWS["mcmil-005"]) == "0.37 ± 0.04 %"
    assert page.printed(page.ROWS["mcmil-006"]) == "0.32 %"
    assert {page.printed(page.ROWS[f"mcmil-{k:03d}"]) for k in (14, 15)} == {"no number"}
    lines = rows_of(page.numbers())[1:]
    printed = [text for line in lines for text in line[3].split(", ")]
    assert printed == [page.printed(row) for row in page.ROWS.values()]
    assert ["Suppl A", "max-pooling MIL"] in [line[:2] for line in lines]


def test_only_settings_that_differ_from_the_paper_are_listed():
    count, table = page.settings(page.EXPERIMENTS["mcmil/extended-mnist"].config)
    names = [row[0] for row in rows_of(table)[1:]]
    assert count == f"23 settings, {len(names)} listed"
    assert names[:3] == ["dataset", "network", "lr"]
    assert "epochs" not in names


def test_one_record_is_of_extended_mnist_where_it_has_run():
    other = record("mcmil/cifar10-jpeg75", 0, 9, 8, 8)
    nests = record("mcmil/extended-mnist", 2, 4, 3, 3)
    for held, name in (([other], "mcmil/cifar10-jpeg75"), ([other, nests], "mcmil/extended-mnist")):
        facts = dict(rows_of(page.one_record(held))[1:])
        assert facts["experiment"] == name
        assert facts["data"] == "embedded"
    assert "none of this paper is published yet" in page.one_record([])


def test_pictures_have_a_panel_for_each_image(drawn):
    images = [(torch.rand(1, 28, 28), torch.arange(10) == k) for k in range(5)]
    page.canvases(torch.nn.AvgPool2d(2), images)
    numbers = houses.house_numbers(60, torch.Generator().manual_seed(0), size=128)
    lengths = [len(s) for s in numbers["sequences"]]
    chosen = [lengths.index(n) for n in range(1, 6)]
    page.crops([numbers["images"][i] for i in chosen], [numbers["boxes"][i] for i in chosen])
    (canvases, _), (crops, alt) = drawn
    assert [a.get_title() for a in canvases.axes] == [f"{{{k}}}\n14 x 14" for k in range(5)]
    titles = [a.get_title() for a in crops.axes]
    assert titles[0] == "1 digit: 58 %"
    assert titles[4] == "5 digits: 88 %"
    assert {t.partition(": ")[2] for t in titles[5:]} == {"64 %"}
    assert all(f"{t.partition(': ')[2][:2]}" in alt for t in titles)


def test_curves_show_every_seed_and_read_out_the_mean(drawn):
    runs = [
        record("mcmil/extended-mnist", 0, 4.0, 4.0, 4.0, (20, 4)),
        record("mcmil/extended-mnist", 1, 6.0, 6.0, 6.0, (None, 6)),  # an epoch without a number
    ]
    text = page.curves(runs)
    ((fig, alt),) = drawn
    left = fig.axes[0]
    assert "exact likelihood 5.00 %. With AdamW: no record yet." in text
    assert text.partition("). ")[2] in alt
    assert left.get_title() == "the authors' optimiser; protocol short, 2 seeds"
    assert len(left.lines) == 2 + 2 + 1  # the paper's two values, two seeds, their mean
    assert left.lines[-1].get_ydata().tolist() == [20, 5]
    assert "no record yet. With AdamW: no record yet." in page.curves([])


def test_sections_hold_the_rows_of_their_places():
    rows = rows_of(page.section([], "Sec 5.1.1", "Sec 5.2"))[1:]
    places = ("Sec 5.1.1", "Sec 5.2")
    assert len(rows) == sum(row.table in places for row in page.ROWS.values()) > 0
    assert all("not run" in row[-1] for row in rows)


def test_rules_of_choosing_an_epoch_are_averaged_over_seeds():
    runs = [record("mcmil/houses", s, 90 + s, 80 + s, 85 + s) for s in (0, 2)]
    head, row = rows_of(page.chosen_epochs(runs))
    assert head == ["experiment", "last", "best on test", "held-out", "seeds"]
    assert row[1:] == ["91.00 ± 1.41", "81.00 ± 1.41", "86.00 ± 1.41", "2"]
    assert rows_of(page.chosen_epochs([])) == []


def test_readings_name_the_gap_and_the_networks_that_fail():
    runs = [
        record("mcmil/cifar10-jpeg75", 0, 30, 30, 30),
        record("mcmil/cifar10-jpeg75-cross-entropy", 0, 25.5, 25, 25),
        record("mcmil/houses", 0, 95, 94, 94),
    ]
    text = page.readings(runs)
    assert "(protocol short, 1 seed): +4.5 points with PSGD. " in text
    assert text.endswith(": `mcmil/houses`.")
    assert "(no record yet): not run. " in page.readings([])
    assert page.readings([]).endswith(": none.")


def test_further_tables_of_the_page_are_made_from_records():
    assert len(page.FURTHER) > 0
    (paper,) = audit.audited(page.PAPER.key)
    assert len(audit.further(paper, [])) == len(page.FURTHER)


def test_flattery_is_the_mean_share_of_the_error():
    runs = [record("mcmil/mnist", 0, 2.0, 1.0, 4.0), record("mcmil/mnist", 1, 2.0, 2.0, 2.0)]
    runs.append(record("mcmil/houses", 0, None, None, None))  # it diverged: left out
    text = page.flattery(runs)
    assert text.startswith("Mean over 2 runs")
    assert "25.0 % lower than that of the last epoch" in text
    assert "37.5 % lower than that of the epoch chosen on held-out images" in text
    assert "not measured" in page.flattery([])


def test_fresh_records_stand_beside_the_stored_ones():
    name = "mcmil/extended-mnist"
    stored = [record(name, 0, 0.4, 0.3, 0.35, protocol="paper")]
    _, new, old = rows_of(page.fresh(name, [], stored))
    assert new == ["fresh, from here", "not run", "not run", "not run"]
    assert old == ["stored, in the package", "0.40", "0.30", "0.35"]
