"""The picture of the house in CONTRIBUTING.md is true: its folders, its arrows, its commands."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import only
import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "wsl_tutorial"
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FOLDERS, ARROWS = re.findall(r"^```\n(.*?)^```$", TEXT.partition("## Changes")[0], re.M | re.S)
ROOMS = ("presence", "counts", "patches", "regions")
# A folder that is a module, or modules, in an older tree.
MODULES = {"exercises": ("check.py", "questions.py"), **{room: (f"{room}.py",) for room in ROOMS}}
# Names of parts in an older tree.
EARLIER = {"check": "exercises", "questions": "exercises", "automaton": "finite_automaton"}
NOT_OURS = {"_build", "build", "dist", "runs", "__pycache__"}


def drawn() -> set[str]:
    """Return the folders of the picture, as paths."""
    found, above = set(), []
    for line in FOLDERS.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        names = re.match(r"(?:\S+/\s*)+", line.strip())[0].split()
        above = [*above[:depth], names[-1].rstrip("/")]
        found |= {"/".join([*above[:depth], name.rstrip("/")]) for name in names}
    return found


def built() -> set[str]:
    """Return the folders of the tree that contain a file or a folder of ours."""
    found = set()
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        skipped = NOT_OURS if here == Path() else {"__pycache__"}
        folders[:] = [f for f in folders if f not in skipped and not f.startswith(".")]
        folders[:] = [f for f in folders if not f.endswith(".egg-info")]
        if files and here != Path():
            found |= {str(part) for part in (here, *here.parents) if part != Path()}
    return found


def modules(folder: str) -> list[Path]:
    """Return the modules that are there instead of a folder of the package."""
    path = Path(folder)
    names = MODULES.get(path.name, ()) if path.parent == Path("wsl_tutorial") else ()
    return [ROOT / path.parent / name for name in names]


def test_the_picture_has_the_folders_of_the_tree():
    papers = {str(p.parent.relative_to(ROOT)) for p in PACKAGE.glob("reproduce/*/__init__.py")}
    assert built() - drawn() - papers == set()  # a further paper needs no line in the picture
    absent = drawn() - built()
    assert [f for f in sorted(absent) if not any(m.exists() for m in modules(f))] == []


def layers() -> list[list[str]]:
    """Return the parts of the house, layer by layer, from the top."""
    return [line.removeprefix("-> ").split() for line in ARROWS.splitlines()]


LAYER = {part: depth for depth, parts in enumerate(layers()) for part in parts}


def part_of(path: Path) -> str:
    """Return the part of the house that a file belongs to: a name of the arrows."""
    inside = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else ROOT)
    name = inside.parts[0].removesuffix(".py")
    return EARLIER.get(name, name)


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, with full names."""
    package, found = path.relative_to(ROOT).with_suffix("").parts[:-1], set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def parts_in(path: Path) -> set[str]:
    """Return the other parts of the package that a file imports."""
    ours = (name.split(".") for name in imports(path) if name.startswith("wsl_tutorial."))
    names = {part_of(PACKAGE / name[1]) for name in ours}
    return (names & LAYER.keys()) - {part_of(path)}


FILES = sorted(PACKAGE.rglob("*.py"))


def test_the_arrows_have_every_part_of_the_package():
    parts = {part_of(path) for path in FILES if path.parent != PACKAGE or path.stem != "__init__"}
    assert parts == {name for parts in layers()[1:] for name in parts}
    assert all((ROOT / name).is_dir() for name in layers()[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_what_is_below_it(path):
    if path != PACKAGE / "__init__.py":
        assert {p for p in parts_in(path) if LAYER[p] <= LAYER[part_of(path)]} == set()


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_torch_and_shapes_only(room):
    for path in (p for p in FILES if part_of(p) == room):
        assert parts_in(path) <= {"_shapes"}
        others = {name.partition(".")[0] for name in imports(path)} - {"wsl_tutorial"}
        assert others - set(sys.stdlib_module_names) <= {"torch"}


def test_only_reproduce_imports_reproduce():
    assert [p for p in FILES if "reproduce" in parts_in(p)] == []


def test_no_file_of_the_engine_imports_a_paper():
    engine = PACKAGE / "reproduce"
    papers = {f"wsl_tutorial.reproduce.{path.parent.name}" for path in engine.glob("*/__init__.py")}
    for path in engine.glob("*.py"):
        taken = {".".join(name.split(".")[:3]) for name in imports(path)}
        assert not taken & papers, path.name


# Docstrings ---------------------------------------------------------------------------------------


def docstrings(path: Path) -> list[str]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    nodes = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, kinds))
    return [text for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_docstring_begins_with_a_question_word(path):
    texts = [text for text in docstrings(path) if re.match("(What|How|Whether|Where) ", text)]
    assert texts == []


# The tests of one thing ---------------------------------------------------------------------------


def test_a_room_has_its_tests_its_demo_and_its_equations():
    parts = only.choices()["counts"]
    assert parts[:2] == ["tests/counts", "tests/book/test_demos_counts.py"]
    numbers = {int(m[1]) for part in parts if (m := re.search(r"::test_eq_(\d+)_", part))}
    assert numbers == {5, 6, 7}
    assert not any(part.startswith("notebooks") for part in parts)
    assert "notebooks/06_counts_learning.ipynb" in only.choices()["6"]
    assert all((ROOT / part.partition("::")[0]).exists() for part in parts)


def test_every_room_chapter_and_equation_has_a_name():
    known = only.choices()
    assert {name for name in known if name.isalpha()} == {*ROOMS, "worth"}
    assert known["2.3"] == [test for test in known["2"] if "::test_eq_2_3_" in test]
    chapters = {int(path.name[:2]) for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert {int(name) for name in known if name.isdecimal()} == chapters
    folders = {path.parent.name for path in (ROOT / "tests" / "reproduce").glob("*/test_*.py")}
    assert {name.partition("/")[2] for name in known if "/" in name} == folders


def test_tests_are_shared_out_one_by_one_but_for_the_cells_of_a_notebook(capsys):
    for words, apart in ((["worth"], True), (["2"], False), (["worth", "2"], False)):
        assert only.main(words) == 0
        assert capsys.readouterr().out.startswith("--dist worksteal ") == apart


@pytest.mark.parametrize(("words", "why"), [(["attic"], "'attic' is unknown"), ([], "is missing")])
def test_an_unknown_name_is_an_error_that_lists_the_rooms(words, why, capsys):
    assert only.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert why in shown.err
    assert all(room in shown.err for room in ROOMS)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("name", ["", "presence"])
def test_make_runs_the_tests_of_one_name_or_all(name):
    command = ["make", "-n", "test", *([f"ONLY={name}"] if name else [])]
    own = {
        k: v for k, v in os.environ.items() if not k.startswith("MAKE")
    }  # make may run this test
    options = {"capture_output": True, "text": True, "check": True, "env": own}
    done = subprocess.run(command, cwd=ROOT, **options)
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("what="))
    chosen = "$(.venv/bin/python scripts/only.py presence)" if name else "tests notebooks"
    assert line == f'what="{chosen}" && set -x && \\'
    assert done.stdout.rstrip().endswith("--nbval-sanitize-with tests/nbval.cfg $what")
