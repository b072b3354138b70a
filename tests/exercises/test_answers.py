"""Every exercise of the chapters has a worked answer, and what the answers compute is right."""

import doctest
import importlib
import math
import re
import statistics
from itertools import combinations, product
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import wsl_tutorial
from wsl_tutorial.exercises import EXERCISES
from wsl_tutorial.exercises.answers import REFERENCE, answers

ROOT = Path(__file__).parents[2]
SECTION = re.compile(
    r"^# \*\*(\d+), (.+?)\.\*\*(.*?)(?=^# \*\*\d+, |^# ## Further|\Z)", re.M | re.S
)
USED = (
    *("check", "counts", "finite_automaton", "metrics", "patches", "presence", "regions", "toy"),
    *("estimators", "worth"),
)
NAMES = {name: importlib.import_module(f"{wsl_tutorial.__name__}.{name}") for name in USED}
NAMES |= {"torch": torch, "F": F, "math": math, "statistics": statistics}
NAMES |= {"product": product, "combinations": combinations}


def exercises() -> dict[tuple[int, int], tuple[str, str]]:
    """Kind and text of each exercise of the chapters, by chapter and number."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.py")):
        text = path.read_text("utf-8").partition("# ## Exercises\n")[2]
        for number, kind, body in SECTION.findall(text):
            found[int(path.name[:2]), int(number)] = kind, body
    return found


ASKED, ANSWERED = exercises(), answers()
CHECKED = {
    key: re.findall(r"check\.attempt\(check\.(\w+), (\w+)\)", body)
    for key, (_, body) in ASKED.items()
}
FILES = sorted((ROOT / "wsl_tutorial" / "exercises").glob("ch*.md"))


def of(keys):
    """Run a test for each of some exercises."""
    return pytest.mark.parametrize("key", keys, ids=lambda key: f"{key[0]}-{key[1]}")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_every_exercise_has_an_answer_and_every_answer_an_exercise():
    assert len(ASKED) > 90
    assert set(ANSWERED) == set(ASKED)


@of([key for key in CHECKED if CHECKED[key]])
def test_an_answer_in_code_is_accepted_by_the_check(key, capsys):
    for check, function in CHECKED[key]:
        shown, names = ANSWERED[key], dict(NAMES)
        if re.search(rf"^\{{\{{ {check} \}}\}}$", source(key), re.MULTILINE):
            assert f"def {check}(" in shown
            continue
        exec("\n".join(blocks(shown, "python")), names)
        EXERCISES[check](names[function])
        assert capsys.readouterr().out.startswith("✓")


def source(key: tuple[int, int]) -> str:
    """The answer as it is written, with the names of the checks instead of their solutions."""
    text = (ROOT / "wsl_tutorial" / "exercises" / f"ch{key[0]:02}.md").read_text("utf-8")
    return re.split(r"^## \d+$", text, flags=re.MULTILINE)[key[1]]


@of([key for key in ANSWERED if ">>>" in ANSWERED[key]])
def test_the_numbers_of_an_answer_are_what_the_package_computes(key):
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for block in blocks(ANSWERED[key], "pycon"):
        test = doctest.DocTestParser().get_doctest(block, dict(NAMES), str(key), None, 0)
        runner.run(test, out=said.append)
        assert test.examples
    assert said == [], "".join(said)


@of([key for key, (kind, _) in ASKED.items() if "by hand" in kind])
def test_what_is_done_by_hand_is_computed_too(key):
    assert CHECKED[key] or blocks(ANSWERED[key], "pycon")


@of([key for key, (kind, _) in ASKED.items() if "explain" in kind])
def test_an_explanation_has_three_points(key):
    points = re.findall(r"^(\d)\. \S", ANSWERED[key], re.MULTILINE)
    assert points == ["1", "2", "3"]
    assert '"' in ANSWERED[key], "the words to the colleague"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_answers_is_in_order_and_names_checks(path):
    text = path.read_text("utf-8")
    numbers = [int(n) for n in re.findall(r"^## (\d+)$", text, re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert set(REFERENCE.findall(text)) <= set(EXERCISES)
    assert text.count("```") % 2 == 0
