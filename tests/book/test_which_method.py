"""The page on which method to take: its functions exist, its times are those of the record."""

import importlib
import json
import re
from pathlib import Path

import book_pages  # noqa: F401  (it puts book/_ext on the path)
import method_costs
import pytest
from wsl_sphinx import method_costs as table

from wsl_tutorial import worth
from wsl_tutorial.reproduce import records

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "which-method.md").read_text("utf-8")
RECORD = json.loads((ROOT / "book" / "method-costs.json").read_text("utf-8"))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(\w+(?:\.\w+)+)`", PAGE))))
def test_a_function_of_the_page_is_public(name):
    room, _, function = name.rpartition(".")
    module = importlib.import_module(f"wsl_tutorial.{room}")
    assert callable(getattr(module, function))
    assert function in getattr(module, "__all__", [function])


def test_the_page_has_no_time_of_its_own():
    assert not re.search(r"\d\s*(ms|milliseconds|seconds)", PAGE)


@pytest.mark.parametrize("level", [50, 70, 80])
def test_networks_need_fewer_images_with_label_sets_than_with_counts(level):
    runs = [r for r in records.published() if r["protocol"] == "short"]

    def needed(observer: str, seed: int) -> float:
        found = {
            int(r["experiment"].rpartition("-")[2]): r["metrics"]["both"]
            for r in runs
            if r["experiment"].startswith(f"worth/{observer}-") and r["seed"] == seed
        }
        return worth.images_needed(sorted(found), [found[n] for n in sorted(found)], level)

    assert all(needed("presence", seed) < needed("counts", seed) for seed in (0, 1))
    assert "networks reached each of three scores with fewer label sets than counts" in " ".join(
        PAGE.split()
    )


def test_every_cell_was_measured_or_says_why_not():
    cells = {(c["function"], c["classes"], c["size"]): c for c in RECORD["cells"]}
    assert {function for function, _, _ in cells} == set(method_costs.METHODS)
    assert len(cells) == len(RECORD["cells"]) == 3 * sum(map(len, method_costs.CLASSES.values()))
    for cell in cells.values():
        assert cell.get("milliseconds", 0) > 0 or "are allowed: use" in cell["refused"]


def test_the_table_shows_the_record():
    shown = table(RECORD)
    for cell in RECORD["cells"]:
        row = next(
            r for r in shown.splitlines() if f"| `{cell['function']}` | {cell['classes']} |" in r
        )
        assert (f"{cell['milliseconds']:g}" if "milliseconds" in cell else "refused") in row


@pytest.mark.parametrize("name", method_costs.METHODS)
def test_what_is_measured_is_finite_and_has_a_gradient(name):
    function, x = method_costs.METHODS[name](7, 3)
    value = function(x)
    value.sum().backward()
    assert value.shape == (method_costs.BAGS,)
    assert value.isfinite().all()
    assert x.grad.abs().sum() > 0
    assert method_costs.cell(name, 5, 2, seconds=0) > 0
