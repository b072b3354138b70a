"""Runs stop, are killed, meet each other and a full disk; no record is lost, none is made twice.

This module is itself the paper that the runs here use: $WSL_PAPERS names it.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from wsl_tutorial.reproduce import records, runner
from wsl_tutorial.reproduce.__main__ import main, seeds
from wsl_tutorial.reproduce.experiment import Experiment, Paper
from wsl_tutorial.reproduce.runner import Interrupted, Run


@dataclass(frozen=True)
class Walk:
    steps: int = 150
    pause: float = 0.01
    fault: str = ""


def walk(config, seed, run):
    """A random walk from two random sources, so that a step lost or done twice shows."""
    generator = torch.Generator().manual_seed(seed)
    x, start = torch.zeros(2, dtype=torch.float64), 0
    if state := run.resume():
        x, start = state["x"], state["step"]
        generator.set_state(state["generator"])
    elif "WALK_TRACE" in os.environ:
        with open(os.environ["WALK_TRACE"], "a") as file:
            file.write(f"{seed}\n")
    for step in range(start + 1, config.steps + 1):
        x += torch.randn(2, generator=generator) * torch.rand(2)
        run.log(step=step, x=float(x[0]))
        time.sleep(config.pause)
        if config.fault == "raise":
            raise RuntimeError("the walker fell")
        if config.fault == "map":
            raise ConnectionError("the map could not be downloaded")
        if config.fault == "sigterm" and step == start + 20:
            os.kill(os.getpid(), signal.SIGTERM)
        if run.due():
            run.checkpoint({"x": x, "step": step, "generator": generator.get_state()})
        if run.out_of_time():
            raise Interrupted
    return {"best_test_error": float(x.sum()), "lost": float("nan")}


def experiment(name, **config):
    return Experiment(
        name=f"mcmil/{name}",
        title="A random walk",
        method="walking",
        config=Walk(**config),
        run=walk,
        cells=(),
        seeds=3,
        protocols={"smoke": {"pause": 0.0}},
    )


PAPER = Paper(
    key="mcmil",
    title="Walks",
    authors="A. Walker",
    year=2018,
    link="",
    experiments=(
        experiment("walk"),
        experiment("falls", fault="raise"),
        experiment("stops", fault="sigterm"),
        experiment("lost", fault="map"),
    ),
)


@pytest.fixture(autouse=True)
def fake_paper(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("WSL_PAPERS", Path(__file__).stem)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def start(out, *words, **options):
    command = [sys.executable, "-m", "wsl_tutorial.reproduce", "run", *words]
    command += ["--out", str(out), "--device", "cpu"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)


def go(out, *words):
    return main(["run", *words, "--out", str(out), "--device", "cpu"])


def held(out):
    return records.parse(Path(out) / "records.jsonl")[0]


def undisturbed(seed, **config):
    run = Run(seed=seed)
    torch.manual_seed(seed)
    return walk(Walk(pause=0.0, **config), seed, run)["best_test_error"]


def test_resume_after_kill_9(tmp_path):
    words = ("mcmil/walk", "--seeds", "1", "--protocol", "paper", "--checkpoint-every", "0.2")
    child = start(tmp_path, *words)
    folder = tmp_path / "runs"
    while not list(folder.glob("*/checkpoint.pt")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    child.stderr.close()
    assert held(tmp_path) == []
    (saved,) = folder.glob("*/checkpoint.pt")
    assert 0 < torch.load(saved, weights_only=True)["state"]["step"] < 150
    assert go(tmp_path, *words) == runner.FINISHED
    (record,) = held(tmp_path)
    assert record["metrics"]["best_test_error"] == undisturbed(1)
    steps = [point["step"] for point in record["curve"]]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 150)
    assert len(steps) <= records.CURVE_POINTS
    assert record["seconds"] > 1.5  # 150 pauses of 10 ms, over both sittings
    assert not list(folder.glob("*/checkpoint.pt"))


@pytest.mark.slow
def test_two_runners_with_two_jobs_each_share_a_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WALK_TRACE", str(tmp_path / "trace"))
    words = ("mcmil/walk", "--seeds", "0-1", "--protocol", "paper", "--jobs", "2")
    both = [start(tmp_path, *words) for _ in range(2)]
    said = [child.communicate()[1] for child in both]
    assert all(child.returncode in (runner.FINISHED, runner.UNFINISHED) for child in both), said
    assert sorted((tmp_path / "trace").read_text().split()) == ["0", "1"]
    found = {record["seed"]: record["metrics"]["best_test_error"] for record in held(tmp_path)}
    assert len(held(tmp_path)) == 2
    assert found == {seed: undisturbed(seed) for seed in range(2)}
    assert go(tmp_path, *words) == runner.FINISHED  # nothing is left to do


def test_a_run_that_another_process_holds_is_left_alone(tmp_path, capsys):
    go(tmp_path, "mcmil/walk", "--seeds", "0", "--protocol", "paper", "--budget", "0.1")
    (folder,) = (tmp_path / "runs").iterdir()
    with records.hold(folder / "lock") as mine:
        assert mine
        words = ("mcmil/walk", "--seeds", "0", "--protocol", "paper")
        assert go(tmp_path, *words) == runner.UNFINISHED
    assert "at work in another process" in capsys.readouterr().err
    assert held(tmp_path) == []


def test_budget_stops_with_a_checkpoint_and_the_same_command_resumes(tmp_path, capsys):
    words = ("mcmil/walk", "--seeds", "2", "--protocol", "paper", "--budget", "0.4")
    ends = [go(tmp_path, *words)]
    assert len(list((tmp_path / "runs").glob("*/checkpoint.pt"))) == 1
    assert "the same command resumes" in capsys.readouterr().err
    while ends[-1] == runner.UNFINISHED and len(ends) < 30:
        ends.append(go(tmp_path, *words))
    assert ends == [runner.UNFINISHED] * (len(ends) - 1) + [runner.FINISHED]
    assert len(ends) > 3  # 150 pauses of 10 ms
    (record,) = held(tmp_path)
    assert record["metrics"]["best_test_error"] == undisturbed(2)
    go(tmp_path, *words)
    assert "finished already: 1 of 1" in capsys.readouterr().err
    assert len(held(tmp_path)) == 1


def test_sigterm_stops_with_a_checkpoint(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    words = ("mcmil/stops", "--seeds", "0", "--protocol", "smoke", "--checkpoint-every", "100")
    ends = [go(tmp_path, *words) for _ in range(8)]  # 20 steps of 150 a time
    assert ends == [runner.UNFINISHED] * 7 + [runner.FINISHED]
    assert held(tmp_path)[0]["metrics"]["best_test_error"] == undisturbed(0)
    assert signal.getsignal(signal.SIGTERM) is before


def test_one_signal_stops_all_the_runs_of_one_process(tmp_path):
    words = ("mcmil/stops", "--seeds", "0-2", "--protocol", "smoke")
    assert go(tmp_path, *words) == runner.UNFINISHED
    assert len(list((tmp_path / "runs").glob("*"))) == 1


def test_a_worker_whose_parent_is_gone_stops(monkeypatch):
    monkeypatch.setenv("WSL_PARENT", str(os.getppid()))
    assert not Run().out_of_time()
    monkeypatch.setenv("WSL_PARENT", str(os.getpid()))
    assert Run().out_of_time()


@pytest.mark.slow
def test_a_failing_run_is_loud_and_the_others_go_on(tmp_path):
    child = start(tmp_path, "mcmil/[fw]al*", "--seeds", "0", "--protocol", "smoke", "--jobs", "2")
    said = child.communicate()[1]
    assert child.returncode == runner.FAILED
    assert "the walker fell" in said
    assert "runs failed: 1" in said
    assert [record["experiment"] for record in held(tmp_path)] == ["mcmil/walk"]


def test_data_that_cannot_be_had_is_one_sentence(tmp_path, capsys):
    assert go(tmp_path, "mcmil/lost", "--seeds", "0", "--protocol", "smoke") == runner.FAILED
    said = capsys.readouterr().err
    assert "mcmil/lost seed 0: the map could not be downloaded" in said
    assert "Traceback" not in said


def test_a_full_disk_loses_nothing(tmp_path):
    """The kernel's file size limit cuts a write short exactly as a full disk does."""
    words = ("mcmil/walk", "--protocol", "smoke", "--checkpoint-every", "0")
    assert go(tmp_path, *words, "--seeds", "0") == runner.FINISHED
    before = (tmp_path / "records.jsonl").read_bytes()

    def full():
        limit = max(len(before), 4096) + 40
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    (tmp_path / "records.jsonl").write_bytes(before + b" " * max(0, 4096 - len(before)) + b"\n")
    size = (tmp_path / "records.jsonl").stat().st_size
    child = start(tmp_path, *words, "--seeds", "1", preexec_fn=full)
    said = child.communicate()[1]
    assert child.returncode == 1
    assert (tmp_path / "records.jsonl").stat().st_size == size
    assert "could not be written" in said
    assert "Traceback" not in said
    shown = [line for line in said.splitlines() if line.startswith('{"id"')]
    assert json.loads(shown[0])["metrics"]["best_test_error"] == undisturbed(1)
    assert go(tmp_path, *words, "--seeds", "0-1") == runner.FINISHED
    assert [record["seed"] for record in held(tmp_path)] == [0, 1]


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, capsys):
    run = Run(folder=tmp_path)
    run.checkpoint({"step": 1})
    (tmp_path / "checkpoint.pt.part").mkdir()  # opening it for writing fails, for root too
    run.checkpoint({"step": 2})
    assert "the one before it stays" in capsys.readouterr().err
    assert Run(folder=tmp_path).resume() == {"step": 1}


def test_an_unwritable_folder_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert go(tmp_path / "file" / "below", "mcmil/walk", "--protocol", "smoke") == 2
    said = capsys.readouterr().err
    assert "cannot write in" in said
    assert said.count("\n") == 1


def test_corrupt_files_are_named_and_set_aside(tmp_path, capsys):
    words = ("mcmil/walk", "--protocol", "smoke", "--seeds")
    go(tmp_path, *words, "0")
    path = tmp_path / "records.jsonl"
    good = path.read_bytes()
    wrong = good.replace(b'"seed": 0', b'"seed": 7')  # no longer what its id says
    path.write_bytes(b"not json\n" + good + wrong + good[:100])  # the last one torn, no newline
    name = PAPER.experiments[0].record_id(1, "smoke").replace("/", "_").replace(":", "_")
    folder = tmp_path / "runs" / name
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    capsys.readouterr()
    assert go(tmp_path, *words, "0-1", "--jobs", "2") == runner.FINISHED
    said = capsys.readouterr().err
    assert all(f"line {number} is not a record" in said for number in (1, 3, 4))
    assert "checkpoint.pt is corrupt" in said
    assert (folder / "checkpoint.pt.corrupt").exists()
    assert (tmp_path / "records.jsonl.corrupt").read_bytes().startswith(b"not json\n" + wrong)
    assert path.read_bytes().startswith(good)
    assert [record["seed"] for record in held(tmp_path)] == [0, 1]
    assert held(tmp_path)[1]["metrics"]["best_test_error"] == undisturbed(1)
    assert records.parse(path)[1] == []


def test_append_survives_a_torn_line_and_takes_no_id_twice(tmp_path):
    go(tmp_path, "mcmil/walk", "--protocol", "smoke", "--seeds", "0")
    (record,) = held(tmp_path)
    path = tmp_path / "copy.jsonl"
    path.write_bytes(b'{"id": "torn')
    for _ in range(2):
        records.append(path, record)
    good, bad = records.parse(path)
    assert good == [record]
    assert len(bad) == 1


def test_what_is_not_finite_is_null_with_a_note(tmp_path):
    go(tmp_path, "mcmil/walk", "--protocol", "smoke", "--seeds", "0")
    (record,) = held(tmp_path)
    assert record["metrics"]["lost"] is None
    assert record["notes"] == ["metrics: lost was nan"]
    assert record["deviations"] == ["smoke protocol: pause = 0.0 instead of 0.01"]


def test_provenance_names_code_device_and_data(tmp_path, monkeypatch):
    walker = PAPER.experiments[0]
    origin = records.provenance(walker, Run(capture=True))
    assert not origin["captured"]  # nothing was
    assert origin["torch"] == torch.__version__
    assert origin["device"]
    assert origin["data"] == {}
    monkeypatch.setattr(records, "PACKAGE", tmp_path)  # a tree that travelled without its .git
    monkeypatch.setenv("WSL_COMMIT", "c0ffee")
    assert records.commit_and_dirty() == ("c0ffee", None)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mcmil/wolk"], "did you mean mcmil/walk?"),
        (["nothing/*"], "no experiment 'nothing/*'"),
        (["mcmil/walk", "--protocol", "short"], "has no 'short', only paper, smoke"),
        (["mcmil/walk", "--jobs", "0"], "--jobs"),
    ],
)
def test_wrong_words_are_answered(tmp_path, capsys, words, said):
    assert go(tmp_path, *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("records*"))


@pytest.mark.parametrize("text", ["", "a", "5-2", "1,,2", "-1", "1-"])
def test_wrong_seeds_are_refused(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        go(tmp_path, "mcmil/walk", f"--seeds={text}")
    assert "is not of the form 0-9 or 0,3,5" in capsys.readouterr().err


def test_seeds():
    assert seeds("0-3") == [0, 1, 2, 3]
    assert seeds("3,0,5-6,5") == [0, 3, 5, 6]


def test_import_needs_neither_posix_nor_torch():
    code = (
        "import sys; sys.modules.update(fcntl=None, resource=None)\n"
        "import wsl_tutorial.reproduce.__main__, wsl_tutorial.reproduce.runner\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
