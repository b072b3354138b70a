"""Every numbered equation stands in the prose, in one docstring and in one test; and it is true.

The lint comes first. Below it, `test_eq_2_3` holds Eq. (2.3) against something independent.
"""

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FUNCTION = (ast.FunctionDef, ast.ClassDef)


def tags() -> Counter:
    """The numbers of the equations that the chapters display."""
    prose = "\n".join(path.read_text("utf-8") for path in (ROOT / "notebooks").glob("*.py"))
    return Counter(re.findall(r"\\tag\{([^}]*)\}", prose))


def docstrings() -> Counter:
    """The numbers that docstrings of the package begin with."""
    files = [ast.parse(path.read_text("utf-8")) for path in (ROOT / "wsl_tutorial").rglob("*.py")]
    nodes = (node for tree in files for node in ast.walk(tree) if isinstance(node, FUNCTION))
    heads = ((ast.get_docstring(node) or "").partition("\n")[0] for node in nodes)
    return Counter(m[1] for head in heads if (m := re.match(r"Eq\. \((\d+\.\d+)\): \S", head)))


def proofs() -> Counter:
    """The numbers that the functions of this file test."""
    found = re.findall(r"^def test_eq_(\d+)_(\d+)", Path(__file__).read_text("utf-8"), re.MULTILINE)
    return Counter(".".join(number) for number in found)


def test_every_equation_is_displayed_once_and_coded_once():
    assert {number for number, times in tags().items() if times > 1} == set()
    assert {number for number, times in docstrings().items() if times > 1} == set()
    assert set(tags()) == set(docstrings())


def test_every_equation_is_tested():
    assert set(proofs()) == set(docstrings())


def test_an_equation_is_displayed_in_its_own_chapter():
    for path in (ROOT / "notebooks").glob("*.py"):
        for number in re.findall(r"\\tag\{([^}]*)\}", path.read_text("utf-8")):
            assert int(number.partition(".")[0]) == int(path.name[:2]), f"{number} in {path.name}"
