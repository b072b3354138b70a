"""The demo of chapter 14 computes in JavaScript what the package computes in Python."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from wsl_tutorial import worth

DEMO = Path(__file__).parents[2] / "book" / "_static" / "demos" / "worth.mjs"
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
CASES = [(0, 3, 10), (1, 3, 10), (0, 1, 2), (1, 1, 26), (3, 3, 2), (0, 2, 5)]
COSTS = {"look": 1.0, "name": 1.5, "click": 2.4}
SCRIPT = """
const [demo, cases, costs] = JSON.parse(require("fs").readFileSync(0));
import(demo).then((d) => {
  const counted = [0, 1, 2, 3].map((n) => d.choices(14, 5, n));
  const small = [0, 1, 2, 3].map((n) => d.choices(4, 2, n));
  const row = ([a, b, c]) => d.OBSERVERS.map((o) => ({
    bits: d.bits(o, [a, b], counted, c),
    acts: d.acts(o, [a, b], c),
    effort: d.effort(o, [a, b], costs, c),
  }));
  const moved = [];
  for (let least = 0; least < 4; least++) for (let most = Math.max(least, 1); most < 4; most++)
    for (const [end, from] of [["least", 0], ["most", 1]])
      for (let value = from; value < 4; value++) {
        const state = { least, most, classes: 7 };
        d.move(state, end, value);
        moved.push([least, most, end, value, state]);
      }
  const state = { least: 1, most: 2, classes: 7 };
  d.move(state, "classes", 26);
  console.log(JSON.stringify({ counted, small, rows: cases.map(row), moved, state }));
});
"""


@pytest.fixture(scope="module")
def answers():
    sent = json.dumps([DEMO.as_uri(), CASES, COSTS])
    result = subprocess.run(["node", "-e", SCRIPT], input=sent, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@needs_node
def test_choices(answers):
    assert answers["counted"] == [worth.choices(14, 5, n) for n in range(4)]
    assert answers["small"] == [worth.choices(4, 2, n) for n in range(4)]


@needs_node
@pytest.mark.parametrize("case", range(len(CASES)))
def test_bits_acts_and_effort(answers, case):
    least, most, classes = CASES[case]
    for observer, row in zip(worth.OBSERVERS, answers["rows"][case], strict=True):
        k = (least, most)
        told = worth.bits(observer, k, 14, 5, classes)
        assert row["bits"] == pytest.approx(told, rel=1e-9, abs=1e-9), observer
        assert row["acts"] == pytest.approx(worth.acts(observer, k, classes))
        assert row["effort"] == pytest.approx(worth.effort(observer, k, **COSTS, classes=classes))


@needs_node
def test_the_sliders_show_the_range_that_is_computed(answers):
    """The end that was not moved stays, unless it would stand on the wrong side."""
    assert len(answers["moved"]) > 40
    for least, most, end, value, state in answers["moved"]:
        expected = [value, max(value, most)] if end == "least" else [min(least, value), value]
        assert [state["least"], state["most"]] == expected
    assert answers["state"] == {"least": 1, "most": 2, "classes": 26}


def test_the_chapter_shows_the_demo():
    chapter = DEMO.parents[3] / "notebooks" / "14_worth.py"
    assert 'data-demo="worth"' in chapter.read_text("utf-8")
