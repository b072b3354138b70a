"""Test that scripts touch only what they made, and report in one line what goes wrong."""

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import assignments
import bank
import book_sources
import clean_run
import handouts
import own_bags
import paper
import pytest
import readme
import report
import teaching
import votes

from wsl_tutorial.reproduce import records

MAINS = {"report": report, "teaching": teaching, "clean_run": clean_run, "votes": votes}
MAINS |= {"own_bags": own_bags, "handouts": handouts, "bank": bank, "assignments": assignments}


def main(monkeypatch, script: str, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    return MAINS[script].main()


def one_line(capsys) -> str:
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.fixture
def mine(tmp_path):
    """Make a folder that belongs to the reader."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work", "utf-8")
    return folder


@pytest.mark.parametrize("script", ["teaching", "bank", "assignments"])
def test_a_folder_of_others_is_refused_and_left_alone(script, mine, monkeypatch, capsys):
    assert main(monkeypatch, script, "--out", mine) == 1
    assert f"{mine} is not empty, and {script}.py did not make it" in one_line(capsys)
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]


def test_what_a_script_made_before_it_makes_anew(tmp_path):
    target = tmp_path / "deep" / "out"
    for name in ("old.html", "new.html"):
        with paper.fresh(target, "teaching.py") as new:
            (new / name).touch()
        assert {f.name for f in target.iterdir()} == {".made-by-teaching.py", name}
    with pytest.raises(FileExistsError, match=r"bank\.py did not make it"):
        paper.fresh(target, "bank.py").__enter__()
    (target / "grades").mkdir()
    (target / "grades" / "class.csv").touch()  # a lecturer's, beside what the script made
    with pytest.raises(FileExistsError, match=r"teaching\.py did not make .*grades/class\.csv"):
        paper.fresh(target, "teaching.py").__enter__()
    assert (target / "new.html").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_script_that_ends_halfway_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "out"
    with paper.fresh(target, "bank.py") as new:
        (new / "old.xml").touch()
    halfway = paper.fresh(target, "bank.py")
    (halfway.__enter__() / "half.xml").touch()
    with pytest.raises(InterruptedError if error is KeyboardInterrupt else error):
        halfway.gen.throw(error)
    assert [f.name for f in tmp_path.iterdir()] == ["out"]
    assert {f.name for f in target.iterdir()} == {".made-by-bank.py", "old.xml"}


def test_ctrl_c_is_a_line(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bank, "moodle", stop)
    assert main(monkeypatch, "bank", "--chapters", 1, "--out", tmp_path / "out") == 1
    assert one_line(capsys) == f"stopped; {tmp_path / 'out'} is as it was before\n"
    assert list(tmp_path.iterdir()) == []


def test_a_browser_that_fails_is_an_os_error(tmp_path, monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setattr(paper, "browser_path", lambda: str(tmp_path / "chromium"))
    with pytest.raises(OSError, match=r"chromium failed: .+"), paper.opened():
        pass


def test_the_readme_without_its_marks_is_a_sentence():
    assert readme.between("<!-- a -->1<!-- /a -->", "a", "2") == "<!-- a -->2<!-- /a -->"
    with pytest.raises(SystemExit, match="no <!-- b -->"):
        readme.between("<!-- a -->1<!-- /a -->", "b", "2")


@pytest.mark.parametrize("script", MAINS)
def test_help_is_printed_and_a_wrong_argument_ends_with_2(script, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(monkeypatch, script, "--help")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("usage:")
    with pytest.raises(SystemExit) as ended:
        main(monkeypatch, script, "--no-such-option", "b", "c")
    assert ended.value.code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_a_line(mine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "document", lambda: "text")
    assert main(monkeypatch, "report", tmp_path) == 1
    assert str(tmp_path) in one_line(capsys)
    for script in ("teaching", "bank", "assignments"):
        assert main(monkeypatch, script, "--out", mine / "thesis.txt") == 1
        assert "thesis.txt" in one_line(capsys)
    assert (mine / "thesis.txt").read_text("utf-8") == "years of work"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("own_bags", ["cv", "musk9"], "'musk9' is none of musk1, musk2, elephant"),
        ("own_bags", ["tests", "--methods", "ours,none"], "'none' is none of ours, means"),
        ("own_bags", ["tests", "--repeats", "five"], "'five' is not of the form 0-9 or 0,3,5"),
        ("votes", ["fitted"], "'fitted' is none of heldout, fits, exact, linear, eipack, king"),
    ],
)
def test_a_wrong_argument_is_named(tmp_path, monkeypatch, capsys, script, arguments, said):
    out = ["--out", tmp_path / "records.jsonl"] if script == "own_bags" else []
    with pytest.raises(SystemExit) as ended:
        main(monkeypatch, script, *arguments, *out)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_missing_bags_are_a_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WSL_DATA", str(tmp_path))
    out = tmp_path / "records.jsonl"
    assert main(monkeypatch, "own_bags", "cv", "elephant", "--methods", "means", "--out", out) == 1
    assert "elephant.csv.gz" in one_line(capsys)
    assert out.read_text("utf-8") == ""


def test_a_unit_test_is_appended_to_the_records(tmp_path, monkeypatch):
    out, words = tmp_path / "records.jsonl", ["tests", "single", "--methods", "means"]
    for repeat in (1, 2, 2):  # the last one is there already
        assert main(monkeypatch, "own_bags", *words, "--repeats", repeat, "--out", out) == 0
    assert [json.loads(line)["repeat"] for line in out.read_text("utf-8").splitlines()] == [1, 2]


def test_a_file_that_cannot_be_written_is_a_line_before_the_first_run(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(own_bags, "record", lambda *_: pytest.fail("it began"))
    assert main(monkeypatch, "own_bags", "tests", "--out", tmp_path / "none" / "records.jsonl") == 1
    assert "none/records.jsonl" in one_line(capsys)


def test_a_clean_run_keeps_what_it_measured_until_a_notebook_replaces_pytorch(
    tmp_path, monkeypatch, capsys
):
    versions = iter(["2.9 0.24", "commit", "2.9 0.24", "2.9 0.24", "3.0 0.24"])
    monkeypatch.setattr(clean_run, "RECORD", tmp_path / "measured.json")
    monkeypatch.setattr(clean_run, "output", lambda *_: next(versions))
    monkeypatch.setattr(clean_run.os, "environ", {})
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)

    def run(notebook, folder):
        return {"seconds": 1.0} if notebook.stem == "00" else 1 / 0

    monkeypatch.setattr(clean_run, "run", run)
    assert clean_run.inside([Path("00.ipynb"), Path("01.ipynb"), Path("02.ipynb")]) == 1
    assert list(json.loads((tmp_path / "measured.json").read_text("utf-8"))) == ["00"]
    said = capsys.readouterr().err
    assert "02.ipynb replaced PyTorch: 2.9 0.24 before, 3.0 0.24 after" in said


def test_a_clean_run_without_its_tools_is_a_line(monkeypatch, capsys):
    def missing(*command, **_):
        raise FileNotFoundError(f"no {Path(command[0][0]).name}")

    monkeypatch.setattr(subprocess, "run", missing)
    assert main(monkeypatch, "clean_run", "none.ipynb") == 1
    assert one_line(capsys) == "no uv\n"


def test_a_quarter_hour_that_is_over_runs_nothing_and_shows_the_table(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "quarter_hour.sh"
    words = {"env": {**os.environ, "PYTHON": sys.executable}, "cwd": tmp_path}
    done = subprocess.run(["bash", script, "out", "1"], capture_output=True, text=True, **words)
    assert done.returncode == 0, done.stderr
    assert "mcmil-002" in done.stdout
    assert list((tmp_path / "out").iterdir()) == []
    assert subprocess.run(["bash", script], capture_output=True, check=False).returncode == 1


# The whole check ----------------------------------------------------------------------------------

STUBS = {
    "id": "echo ${USER_ID:-0}",
    "make": 'echo "make $* browser=${WSL_BROWSER:-}"',
    "apt-get": 'echo "apt-get $*"; [ "$1" = update ] || $INSTALL',
}


def whole_check(folder, browser="", install="true", user="0"):
    """Return exit status and output of .ci/run among programs that only print their calls."""
    for name, line in STUBS.items() | ({(browser, "true")} if browser else set()):
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    for name in ("bash", "dirname", "sh", "cp"):
        (folder / name).symlink_to(shutil.which(name))
    environment = {"PATH": str(folder), "INSTALL": install, "USER_ID": user}
    script = Path(__file__).parents[1] / ".ci" / "run"
    command = [shutil.which("bash"), script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize("name", paper.BROWSERS)
def test_the_whole_check_takes_the_browsers_that_the_tests_take(name, tmp_path):
    status, said, _ = whole_check(tmp_path, browser=name)
    assert (status, said) == (0, ["make book browser=", "make test browser=needed"])


def test_the_whole_check_installs_a_browser_as_root(tmp_path):
    install = f"cp {tmp_path / 'make'} {tmp_path / 'chromium'}"
    status, said, _ = whole_check(tmp_path, install=install)
    assert status == 0
    assert said[1].startswith("apt-get install")
    assert said[1].endswith("chromium")
    assert said[-1] == "make test browser=needed"


@pytest.mark.parametrize("user", ["0", "1000"])
def test_the_whole_check_fails_where_no_browser_can_be_had(user, tmp_path):
    status, said, why = whole_check(tmp_path, install="false", user=user)
    assert status == 1
    assert not [line for line in said if line.startswith("make")]
    assert "install the package chromium" in why
    assert [line for line in said if line.startswith("apt-get")] == [] or user == "0"


def test_a_built_book_is_current_until_one_of_its_files_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(book_sources, "ROOT", tmp_path)
    assert book_sources.digest() is None  # no checkout
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    page = tmp_path / "book" / "page.md"
    page.parent.mkdir()
    page.write_text("# A page", "utf-8")
    (tmp_path / ".gitignore").write_text("made.md\n_build\n", "utf-8")
    build = [sys.executable, "-c"]
    made = f"open({str(page.with_name('made.md'))!r}, 'w').close()"
    (tmp_path / "_build").mkdir()
    assert book_sources.current() is None
    assert book_sources.main([*build, made]) == 0
    assert book_sources.current() == tmp_path / "_build" / "html"
    page.write_text("# B page", "utf-8")
    assert book_sources.current() is None
    assert book_sources.main([*build, made]) == 0
    assert book_sources.main([*build, "raise SystemExit(1)"]) == 1  # a build that fails
    assert book_sources.current() is None


@pytest.mark.parametrize("module", [votes, own_bags, clean_run, records], ids=lambda m: m.__name__)
def test_a_record_is_not_rounded(module):
    """The page that prints a number rounds it; two roundings may change its last digit."""
    assert "round(" not in inspect.getsource(module)
