"""Test that scripts touch only what they made, and report in one line what goes wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import clean_run
import offline
import own_bags
import pytest
import report
import teaching
import votes
from browsers import BROWSERS

MAINS = {"offline": offline, "report": report, "teaching": teaching, "clean_run": clean_run}
MAINS |= {"own_bags": own_bags, "votes": votes}


@pytest.fixture
def built(tmp_path):
    """Make a book of one page that loads nothing, two folders deep."""
    folder = tmp_path / "work" / "html"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("<p>a book</p>", "utf-8")
    return folder


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


@pytest.mark.parametrize("script", ["offline", "teaching"])
def test_a_folder_of_others_is_refused_and_left_alone(script, built, mine, monkeypatch, capsys):
    before = [built, mine] if script == "offline" else ["--out", mine]
    assert main(monkeypatch, script, *before) == 1
    assert f"{mine} is not empty, and {script}.py did not make it" in one_line(capsys)
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("where", [".", "..", "../..", "new", "../html/a/b"])
def test_the_built_book_is_never_its_own_target(built, where, monkeypatch, capsys):
    assert main(monkeypatch, "offline", built, built / where) == 1
    assert "is, holds or lies in the built book" in one_line(capsys)
    assert [file.name for file in built.iterdir()] == ["index.html"]


def test_a_link_to_the_built_book_is_the_built_book(built, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(built)
    with pytest.raises(ValueError, match="target"):
        offline.offline(built, link)
    assert (built / "index.html").exists()


def test_what_a_script_made_before_it_makes_anew(built, tmp_path):
    target = tmp_path / "deep" / "offline"
    offline.offline(built, target)
    (target / "old.html").touch()
    offline.offline(built, target)
    assert not (target / "old.html").exists()
    assert (target / "index.html").read_text("utf-8") == "<p>a book</p>"
    with pytest.raises(FileExistsError, match=r"teaching\.py did not make it"):
        offline.fresh(target, "teaching.py")
    offline.fresh(tmp_path / "empty", "teaching.py")
    assert [f.name for f in (tmp_path / "empty").iterdir()] == [".made-by-teaching.py"]


def test_a_run_that_was_cut_short_is_made_anew(built, tmp_path, monkeypatch):
    def cut(*_, **__):
        raise KeyboardInterrupt

    target = tmp_path / "offline"
    with monkeypatch.context() as patch:
        patch.setattr(offline.shutil, "copytree", cut)
        with pytest.raises(KeyboardInterrupt):
            offline.offline(built, target)
    offline.offline(built, target)
    assert (target / "index.html").exists()


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


def test_offline_takes_two_folders_and_names_a_missing_book(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as ended:
        main(monkeypatch, "offline", "a", "b", "c")
    assert ended.value.code == 2
    capsys.readouterr()
    assert main(monkeypatch, "offline", tmp_path, tmp_path / "b") == 1
    assert "holds no book" in one_line(capsys)


def test_a_target_that_cannot_be_written_is_a_line(built, mine, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "document", lambda: "text")
    assert main(monkeypatch, "report", tmp_path) == 1
    assert str(tmp_path) in one_line(capsys)
    for script, first in (("offline", [built]), ("teaching", ["--out"])):
        assert main(monkeypatch, script, *first, mine / "thesis.txt") == 1
        assert "thesis.txt" in one_line(capsys)
    assert (mine / "thesis.txt").read_text("utf-8") == "years of work"


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("own_bags", ["cv", "musk9"], "'musk9' is none of musk1, musk2, elephant"),
        ("own_bags", ["tests", "--methods", "ours,none"], "'none' is none of ours, means"),
        ("own_bags", ["tests", "--repeats", "five"], "'five' is not of the form 0-9 or 0,3,5"),
        ("votes", ["fitted"], "'fitted' is none of heldout, fits, exact, eipack, check"),
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
    assert not out.exists()


def test_a_unit_test_is_appended_to_the_records(tmp_path, monkeypatch):
    out, words = tmp_path / "records.jsonl", ["tests", "single", "--methods", "means"]
    for repeat in (1, 2):
        assert main(monkeypatch, "own_bags", *words, "--repeats", repeat, "--out", out) == 0
    assert [json.loads(line)["repeat"] for line in out.read_text("utf-8").splitlines()] == [1, 2]


def test_a_clean_run_without_its_tools_is_a_line(monkeypatch, capsys):
    def missing(*command, **_):
        raise FileNotFoundError(f"no {Path(command[0][0]).name}")

    monkeypatch.setattr(subprocess, "run", missing)
    assert main(monkeypatch, "clean_run", "none.ipynb") == 1
    assert one_line(capsys) == "no uv\n"


def test_a_quarter_hour_that_is_over_runs_nothing_and_shows_the_table(tmp_path):
    script = Path(__file__).parents[1] / "scripts" / "quarter_hour.sh"
    words = ["bash", script, tmp_path / "out", "1"]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHON": sys.executable}
    )
    assert done.returncode == 0, done.stderr
    assert "mcmil-002" in done.stdout
    assert not list((tmp_path / "out").glob("*.txt"))
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


@pytest.mark.parametrize("name", BROWSERS)
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
