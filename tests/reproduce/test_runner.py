"""Runs stop, are killed, meet each other and a full disk; no record is lost, none is made twice.

This module is itself the paper that the runs here use: $WSL_PAPERS names it.
"""

import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wsl_tutorial import reproduce, train
from wsl_tutorial.reproduce import ledger, plan, records, runner
from wsl_tutorial.reproduce.__main__ import main, seeds
from wsl_tutorial.reproduce.experiment import Cell, Experiment, Paper
from wsl_tutorial.reproduce.runner import Interrupted, Run, Unreadable


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
        replace(experiment("learns", steps=3), run=lambda *words: learning(*words)),
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
    words = ("mcmil/stops", "--seeds", "0", "--protocol", "smoke")
    assert go(tmp_path, *words) == runner.UNFINISHED
    (folder,) = (tmp_path / "runs").iterdir()
    with records.hold(folder / "lock") as mine:
        assert mine
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
    resource = pytest.importorskip("resource")
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


class Forbidden:
    """Would run code if a checkpoint were unpickled."""

    def __reduce__(self):
        return (os.getcwd, ())


SAVED = {"step": 3, "x": torch.arange(3.0), "array": np.ones((2, 3)), "rate": np.float64(0.1)}


def saved(folder, **held):
    """A checkpoint as the program writes one, with some of what it holds replaced."""
    Run(folder=folder).checkpoint(SAVED)
    path = folder / "checkpoint.pt"
    if held:
        whole = torch.load(path, weights_only=False) | held
        torch.save({name: value for name, value in whole.items() if value is not None}, path)
    return path


def test_what_is_written_can_be_read(tmp_path):
    """Numpy's numbers and arrays, odd numbers in a curve, and the state of every generator."""
    kinds = (np.float32, np.int64, np.bool_, np.float16, np.longdouble)
    points = [{"n": kind(1)} for kind in kinds]
    points += [{"n": torch.tensor(1)}, {"n": torch.ones(1, 1)}, {"n": np.ones(1)}]
    run = Run(folder=tmp_path)
    for point in points:
        run.log(**point)
    assert [type(p["n"]) in (int, float, bool) for p in run.curve] == [True] * 8
    run.checkpoint({**SAVED, "kinds": [kind(1) for kind in kinds], "empty": np.zeros(0)})
    draws = (torch.rand(2).tolist(), random.random(), np.random.rand())  # noqa: NPY002
    again = Run(folder=tmp_path)
    state = again.resume()
    assert again.curve == run.curve
    assert (torch.rand(2).tolist(), random.random(), np.random.rand()) == draws  # noqa: NPY002
    assert state["x"].tolist() == [0, 1, 2]
    assert (state["array"] == 1).all()
    assert state["rate"] == 0.1


@pytest.mark.parametrize("value", ["high", None, [1.0], torch.ones(2), 1j])
def test_a_metric_that_is_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^quality: got .*, expected a number"):
        Run().log(quality=value)


def test_a_state_that_could_not_be_read_back_is_refused_when_it_is_written(tmp_path):
    run = Run(folder=tmp_path)
    run.checkpoint(SAVED)
    with pytest.raises(ValueError, match=r"could not be read back \(it holds a pathlib"):
        run.checkpoint({"where": tmp_path})
    assert Run(folder=tmp_path).resume()["step"] == 3


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"format": 3}, "another version"),
        ({"state": None}, "holds no state"),
        ({"curve": None, "peak": None}, "holds no curve, peak"),
        ({"state": Forbidden()}, "holds a posix.getcwd"),
    ],
)
def test_a_whole_checkpoint_is_never_called_corrupt(tmp_path, held, why):
    path = saved(tmp_path, **held)
    before = path.read_bytes()
    with pytest.raises(Unreadable, match=f"is whole, but .*{why}.* it stays"):
        Run(folder=tmp_path).resume()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("error", [MemoryError(), PermissionError(13, "denied"), OSError(5, "io")])
def test_what_keeps_a_checkpoint_from_being_read_is_not_damage(tmp_path, monkeypatch, error):
    path = saved(tmp_path)

    def refuse(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        if isinstance(error, MemoryError):
            patch.setattr(torch, "load", refuse)
        else:
            patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(type(error)):
            Run(folder=tmp_path).resume()
    with monkeypatch.context() as patch:  # torch's word for too little memory
        error = RuntimeError("DefaultCPUAllocator: can't allocate memory")
        patch.setattr(torch, "load", refuse)
        with pytest.raises(Unreadable, match="can't allocate memory"):
            Run(folder=tmp_path).resume()
    assert path.exists()
    assert Run(folder=tmp_path).resume()["step"] == 3


def test_an_unreadable_checkpoint_is_one_sentence_and_the_run_does_not_start(tmp_path, capsys):
    words = ("mcmil/walk", "--seeds", "0", "--protocol", "paper")
    go(tmp_path, *words, "--budget", "0.3")
    (path,) = tmp_path.glob("runs/*/checkpoint.pt")
    whole = torch.load(path, weights_only=False)
    torch.save({**whole, "format": 99}, path)
    capsys.readouterr()
    assert go(tmp_path, *words) == runner.FAILED
    said = capsys.readouterr().err
    assert "is whole, but this version cannot go on from it" in said
    assert "Traceback" not in said
    torch.save(whole, path)
    assert go(tmp_path, *words) == runner.FINISHED
    assert held(tmp_path)[0]["metrics"]["best_test_error"] == undisturbed(0)


def test_torch_itself_reads_altered_numbers(tmp_path):
    """Which is why a checkpoint carries a digest."""
    content = saved(tmp_path).read_bytes()
    place = content.index(torch.arange(3.0).numpy().tobytes())
    altered = content[: place + 6] + b"\0" + content[place + 7 :]
    assert runner.intact(content)
    assert runner.intact(content[: -64 - len(runner.SEAL)])
    assert not runner.intact(altered)
    assert not runner.intact(altered[: -64 - len(runner.SEAL)])
    assert runner._read(io.BytesIO(altered), "cpu")["state"]["step"] == 3


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_damaged_checkpoint_is_set_aside_and_no_other(tmp_path_factory, data):
    """Cut anywhere, or with a byte changed: read as it was, or named and moved away."""
    folder = tmp_path_factory.mktemp("run")
    path = saved(folder)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    state = Run(folder=folder).resume()
    if state is None:
        assert [file.name for file in folder.iterdir()] == ["checkpoint.pt.corrupt"]
    else:
        assert state["x"].tolist() == [0, 1, 2]
        assert path.exists()


def test_a_checkpoint_of_the_first_format_is_read(tmp_path):
    torch.manual_seed(3)
    rng = torch.get_rng_state()
    held = {"state": {"step": 4}, "curve": [{"step": 1}], "seconds": 2.0, "peak": 1.0}
    torch.save({**held, "rng": rng, "rng_cuda": []}, tmp_path / "checkpoint.pt")
    drawn = torch.rand(3)
    run = Run(folder=tmp_path)
    assert run.resume() == {"step": 4}
    assert (run.curve, run.seconds) == ([{"step": 1}], 2.0)
    assert torch.equal(torch.rand(3), drawn)


def test_the_peak_of_a_run_is_its_own(tmp_path):
    """Two runs in a process: the memory of the first is not that of the second."""
    peaks = []
    for size in (300, 1):
        run = Run()
        run.reset_peak()
        block = np.ones(size * 2**17)  # MB
        del block
        peaks.append(run.peak_memory())
    if not run.own_peak:
        pytest.skip("this system cannot count a process's peak memory anew")
    assert peaks[0] > peaks[1] + 200


def test_a_record_says_whose_peak_it_holds(tmp_path):
    go(tmp_path, "mcmil/walk", "--protocol", "smoke", "--seeds", "0")
    run = Run()
    assert held(tmp_path)[0]["provenance"]["peak_memory_of"] in ("run", "process")
    assert records.provenance(PAPER.experiments[0], run)["peak_memory_of"] == "process"


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


def lines_that_are_no_records(record):
    """JSON, or nearly, and no record."""
    text = json.dumps(record)
    yield json.dumps({**record, "curve": [1.0, 2.0]})
    yield json.dumps({**record, "curve": [None]})
    yield json.dumps({**record, "metrics": {"error": math.nan}})
    yield text.replace('"seconds": ', '"seconds": 1e999, "seconds_": ').replace("seconds_", "more")
    yield json.dumps({**record, "seconds": math.inf})
    yield json.dumps({**record, "notes": [["a"]]})
    yield json.dumps({**record, "deviations": [{}]})
    for wrong in ({"commit": 7}, {"device": None}, {"utc": None}, {"processes": "two"}):
        yield json.dumps({**record, "provenance": {**record["provenance"], **wrong}})
    yield json.dumps({**record, "method": "\ud800"})
    yield "[" * 100_000 + "]" * 100_000
    yield '{"config": ' * 5000
    yield "NaN"
    yield "7"
    yield '"text"'
    yield text[: len(text) // 2]
    yield "\ufeff"


def test_json_that_is_no_record_is_named_and_set_aside(tmp_path, capsys):
    words = ("mcmil/walk", "--protocol", "smoke", "--seeds")
    go(tmp_path, *words, "0")
    (record,) = held(tmp_path)
    path, wrong = tmp_path / "records.jsonl", list(lines_that_are_no_records(record))
    good = path.read_bytes()
    path.write_bytes("\n".join(wrong).encode() + b"\n\xff\xfe\n" + good)
    capsys.readouterr()
    assert go(tmp_path, *words, "0-1") == runner.FINISHED
    said = capsys.readouterr().err
    for number in range(1, len(wrong) + 2):
        assert f"line {number} is not a record and is set aside" in said
    assert [one["seed"] for one in held(tmp_path)] == [0, 1]
    assert held(tmp_path)[0] == record
    assert len((tmp_path / "records.jsonl.corrupt").read_bytes().splitlines()) == len(wrong) + 1
    assert main(["table", "mcmil", "--out", str(tmp_path)]) == 0
    assert "not a record" not in capsys.readouterr().err


def test_records_that_cannot_be_read_are_one_sentence(tmp_path, capsys):
    (tmp_path / "records.jsonl").mkdir()
    assert go(tmp_path, "mcmil/walk", "--protocol", "smoke") == 2
    said = capsys.readouterr().err
    assert "records.jsonl" in said
    assert said.count("\n") == 1


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
        (["mcmil"], "did you mean mcmil/*?"),
    ],
)
def test_wrong_words_are_answered(tmp_path, capsys, words, said):
    assert go(tmp_path, *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("records*"))


def test_ctrl_c_before_the_runs_begin_is_one_sentence(tmp_path, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(reproduce.__main__, "papers", stop)
    assert go(tmp_path, "mcmil/walk") == runner.UNFINISHED
    assert capsys.readouterr().err.startswith("reproduce: stopped; ")


def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(runner, "auto_device", lambda: "cpu")
    words = ["run", "mcmil/walk", "--protocol", "smoke", "--out", str(tmp_path), "--device", "cuda"]
    assert main([*words, "--budget", "0"]) == runner.UNFINISHED  # no run begins
    capsys.readouterr()
    assert main(words) == 2
    assert capsys.readouterr().err.startswith("reproduce: --device cuda: torch finds no GPU")


@pytest.mark.parametrize("text", ["", "a", "5-2", "1,,2", "-1", "1-", "0-1000000"])
def test_wrong_seeds_are_refused(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        go(tmp_path, "mcmil/walk", f"--seeds={text}")
    assert "is not of the form 0-9 or 0,3,5" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", "nan", "-1", ""])
def test_a_budget_is_a_number_of_0_or_more(tmp_path, capsys, text):
    with pytest.raises(SystemExit):
        go(tmp_path, "mcmil/walk", f"--budget={text}")
    assert f"--budget: {text!r} is not a number of 0 or more." in capsys.readouterr().err


def test_seeds():
    assert seeds("0-3") == [0, 1, 2, 3]
    assert seeds("3,0,5-6,5") == [0, 3, 5, 6]


def test_a_kill_releases_a_lock(tmp_path):
    code = "import sys; from pathlib import Path; from wsl_tutorial.reproduce import records\n"
    code += "with records.hold(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as child:
        child.stdout.readline()
        with records.hold(tmp_path / "lock", wait=False) as mine:
            assert not mine
        child.kill()
    with records.hold(tmp_path / "lock", wait=False) as mine:
        assert mine


def test_the_command_does_not_import_torch():
    code = (
        "import sys, wsl_tutorial.reproduce.__main__, wsl_tutorial.reproduce.runner\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What is shown ------------------------------------------------------------------------------------


def test_durations():
    words = [runner.duration(s) for s in (0, 89, 90, 5340, 5400, 7260)]
    assert words == ["0 s", "89 s", "2 min", "89 min", "1 h 30 min", "2 h 1 min"]


def test_a_run_tells_epoch_step_loss_and_time_left(monkeypatch):
    clock, said = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    run = Run(report=said.append)
    for epoch in (1, 2):
        for step in range(1, 11):
            clock[0] += 0.3
            run.tell(epoch, 4, step, 10, torch.tensor(1 / step))
    assert said[0] == "epoch 1 of 4, step 1 of 10, loss 1"
    assert said[1] == "epoch 1 of 4, step 3 of 10, loss 0.3333, 11 s left"  # 37 steps of 0.3 s
    assert said[-1] == "epoch 2 of 4, step 9 of 10, loss 0.1111, 6 s left"
    assert len(said) == 10  # not every step
    clock[0] += 1
    run.tell(1, 2, 1, 10, 0.5)  # the next training of the run
    clock[0] += 10
    run.tell(1, 2, 2, 10, 0.5)
    assert said[-1] == "epoch 1 of 2, step 2 of 10, loss 0.5, 3 min left"


def test_before_the_length_of_an_epoch_is_known_other_seeds_tell_the_time_left(monkeypatch):
    clock, said = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    run = Run(report=said.append, expected=lambda: 600.0)
    clock[0] += 240
    run.tell(1, 4, 7, None, 0.25)
    assert said == ["epoch 1 of 4, step 7, loss 0.25, 6 min left"]
    clock[0] += 600
    run.tell(1, 4, 9, None, 0.25)
    assert said[1:] == ["epoch 1 of 4, step 9, loss 0.25"]  # slower than the others: unknown


def learning(config, seed, run):
    """Two epochs of a small training that reports its steps."""
    model = torch.nn.Linear(2, 1)

    def batches(epoch):
        for _ in range(config.steps):
            time.sleep(config.pause)
            yield torch.ones(3, 2)

    adam = torch.optim.Adam(model.parameters())
    curve = train.fit(model, lambda m, x: m(x).mean(), batches, adam, epochs=2, run=run)
    if len(curve) < 2:
        raise Interrupted
    return {"best_test_error": curve[-1]["loss"]}


@pytest.mark.parametrize("words", [(), ("--jobs", "2")])
def test_run_shows_every_run_and_closes_with_where_the_records_are(tmp_path, capfd, words):
    command = ("mcmil/learns", "--seeds", "0-1", "--protocol", "paper", *words)
    assert go(tmp_path, *command) == runner.FINISHED
    said = capfd.readouterr().err
    for seed in (0, 1):
        assert f"mcmil/learns seed {seed}: epoch 1 of 2, step 1, loss " in said
    assert "finished, 2 of 2" in said
    assert f"records: {tmp_path}/records.jsonl (2)" in said
    assert f"python -m wsl_tutorial.reproduce table mcmil/learns --out {tmp_path}" in said


def test_smoke_runs_close_without_a_table_since_none_shows_them(tmp_path, capsys):
    assert go(tmp_path, "mcmil/walk", "--seeds", "0", "--protocol", "smoke") == runner.FINISHED
    said = capsys.readouterr().err
    assert f"records: {tmp_path}/records.jsonl (1); no table shows the protocol smoke." in said
    assert "reproduce table" not in said
    records.append(tmp_path / "records.jsonl", done(PAPER.experiments[-1], 0, "paper", 1.0))
    go(tmp_path, "mcmil/walk", "--seeds", "0", "--protocol", "smoke")
    assert f"table mcmil --out {tmp_path}" in capsys.readouterr().err  # of the other experiment


def test_runs_side_by_side_share_the_cores(tmp_path, monkeypatch):
    threads = []
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    monkeypatch.setattr(runner, "_child", lambda *words: threads.append(words[2]) or 0)
    jobs = [(PAPER.experiments[0], seed, "smoke") for seed in range(2)]
    options = {"out": tmp_path, "deadline": math.inf, "interval": 60.0}
    assert runner.local(jobs, workers=6, device="cpu", **options) == [runner.FINISHED] * 2
    assert [environment["OMP_NUM_THREADS"] for environment in threads] == ["6", "6"]


def test_on_a_terminal_each_run_has_a_line(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr(runner, "tqdm", partial(runner.tqdm, disable=False))
    jobs = [(PAPER.experiments[0], seed, "smoke") for seed in range(3)]
    with runner.Board(3) as board:
        for job in jobs[:2]:
            board.show(job, "epoch 1 of 2")
        assert [line.pos for line in board.lines.values()] == [-1, -2]
        board.end(jobs[0], runner.FINISHED)
        board.show(jobs[2], "epoch 2 of 2, step " + "9" * 500)
        assert [line.pos for line in board.lines.values()] == [-2, -1]
    assert "mcmil/walk seed 2: epoch 2 of 2" in terminal.getvalue()
    assert "9" * 200 not in terminal.getvalue()


# The plan -----------------------------------------------------------------------------------------

IDS = [i for i in ledger.load() if i.startswith("mcmil-")]


def planned(name, cells, seeds=2, desk=True, **more):
    return replace(
        experiment(name, pause=0.0),
        cells=tuple(Cell(i, "best_test_error") for i in IDS[:cells]),
        seeds=seeds,
        protocols={"smoke": {"steps": 5}, **({"desk": {"steps": 6}} if desk else {})},
        **more,
    )


def done(of, seed, protocol, seconds, backend="cpu"):
    record = records.make(of, {"best_test_error": 1.0}, Run(seed=seed, protocol=protocol))
    record["provenance"]["backend"] = backend
    return {**record, "seconds": seconds}


def brief(steps):
    return [(s.experiment.name[6:], s.seed, s.cells, s.basis) for s in steps]


def test_a_plan_goes_by_cells_an_hour_and_further_seeds_last():
    few, many, none = planned("few", 1), planned("many", 4), planned("none", 0, seeds=1)
    steps = plan.order([none, few, many], None, "desk", "cpu", [])
    assert brief(steps) == [
        ("many", 0, 4, "at most"),
        ("few", 0, 1, "at most"),
        ("none", 0, 0, "at most"),
        ("many", 1, 0, "at most"),
        ("few", 1, 0, "at most"),
    ]
    assert {s.seconds for s in steps} == {6000.0}
    quick = [done(few, 5, "desk", 60.0), done(few, 6, "desk", 120.0)]
    assert plan.cost(few, "desk", "cpu", quick) == (90.0, "measured")
    assert plan.cost(few, "desk", "cuda", quick) == (6000.0, "at most")
    assert plan.cost(few, "paper", "cpu", quick) == (None, "not known")
    stated = replace(few, gpu_minutes=120)
    assert plan.cost(stated, "paper", "cuda", []) == (7200.0, "stated")
    assert plan.cost(stated, "paper", "cpu", []) == (None, "not known")


def test_a_plan_skips_what_has_a_record_and_ranks_what_is_filled_already():
    few, many = planned("few", 1), planned("many", 4)
    there = [done(many, 0, "desk", 60.0)]
    steps = plan.order([many, few], None, "desk", "cpu", there)
    assert brief(steps) == [
        ("few", 0, 1, "at most"),
        ("many", 1, 0, "measured"),
        ("few", 1, 0, "at most"),
    ]
    stronger = [done(many, 0, "paper", 60.0)]  # its cells have better evidence than desk
    assert brief(plan.order([many, few], [0], "desk", "cpu", stronger)) == [
        ("few", 0, 1, "at most"),
        ("many", 0, 0, "at most"),
    ]
    weaker = [done(many, 0, "smoke", 1.0)]
    assert brief(plan.order([few, many], [0], "desk", "cpu", weaker))[0][0] == "many"
    old = replace(many, config=replace(many.config, pause=0.5))  # its config is another now
    assert len(plan.order([old], None, "desk", "cpu", there)) == 2
    assert plan.order([planned("none", 1, desk=False)], None, "desk", "cpu", []) == []


def test_a_plan_runs_what_fits_and_says_what_remains_and_costs(tmp_path, capsys):
    words = ["run", "--plan", "mcmil/walk", "mcmil/learns", "--protocol", "paper"]
    words += ["--device", "cpu", "--out", str(tmp_path), "--seeds", "0-1"]
    records.append(tmp_path / "records.jsonl", done(PAPER.experiments[0], 0, "paper", 3600.0))
    assert main([*words, "--budget", "0"]) == runner.UNFINISHED
    said = capsys.readouterr().err
    assert "plan: 3 runs of protocol paper, most ledger cells per hour first" in said
    assert "runs that remain: 3, 60 min, without 2 of unknown cost." in said
    assert main([*words, "--budget", "60"]) == runner.UNFINISHED
    said = capsys.readouterr().err
    assert [(r["experiment"], r["seed"]) for r in held(tmp_path)] == [
        ("mcmil/walk", 0),
        ("mcmil/learns", 0),
        ("mcmil/learns", 1),
    ]
    assert "mcmil/walk  1" in said  # an hour does not fit into a minute
    assert "runs that remain: 1, 60 min." in said
    assert {r["provenance"]["threads"] for r in held(tmp_path)[1:]} == {1}
    assert main(words) == runner.FINISHED
    said = capsys.readouterr().err
    assert "nothing of this plan remains." in said
    assert f"table mcmil/walk --out {tmp_path}" in said


def test_a_plan_counts_the_runs_whose_data_are_not_here(tmp_path, capsys, monkeypatch):
    walker, learner = PAPER.experiments[0], PAPER.experiments[-1]
    papers = (replace(PAPER, experiments=(replace(walker, data=("cifar10",)), learner)),)
    monkeypatch.setattr(reproduce.__main__, "papers", lambda: papers)
    monkeypatch.setenv("WSL_DATA", str(tmp_path / "none"))
    words = ("--plan", "--protocol", "paper", "--seeds", "0")
    assert go(tmp_path, *words) == runner.FINISHED
    said = capsys.readouterr().err
    assert "runs left out, as their data are not here: 1 (cifar10)." in said
    assert "nothing of this plan remains" not in said
    assert [r["experiment"] for r in held(tmp_path)] == ["mcmil/learns"]
    assert go(tmp_path, *words, "mcmil/walk") == runner.UNFINISHED
    assert "nothing of this plan remains" not in capsys.readouterr().err
    records.append(tmp_path / "records.jsonl", done(walker, 0, "paper", 1.0))
    assert go(tmp_path, *words, "mcmil/walk") == runner.FINISHED
    assert "nothing of this plan remains" in capsys.readouterr().err


def test_a_stopped_run_of_a_plan_costs_what_is_left_of_it(tmp_path):
    go(tmp_path, "mcmil/walk", "--seeds", "1", "--protocol", "paper", "--budget", "0.4")
    identity = PAPER.experiments[0].record_id(1, "paper")
    assert 0.1 < runner.spent(tmp_path, identity) < 100
    assert runner.spent(tmp_path, "mcmil/none:paper:0:0") == 0
    folder = runner.folder_of(tmp_path, identity)
    (folder / "checkpoint.pt").write_bytes(b"cut")
    assert runner.spent(tmp_path, identity) == 0


def test_a_run_that_needs_more_than_is_left_is_passed_over(tmp_path):
    jobs = [(PAPER.experiments[0], seed, "smoke") for seed in range(3)]
    ends = runner.local(
        jobs,
        device="cpu",
        needs=lambda job: 1e4 if job[1] == 1 else 1.0,
        out=tmp_path,
        deadline=time.time() + 1000,
        interval=60.0,
    )
    assert ends == [runner.FINISHED, runner.UNFINISHED, runner.FINISHED]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "give the name of an experiment"),
        (["--plan", "--engine", "ray"], "--plan is for the engine local, and this is ray"),
        (["--plan", "mcmil/wolk"], "did you mean mcmil/walk?"),
        (["--plan", "--jobs", "0"], "--jobs: 0 is not 1 or more"),
        (["--plan", "mcmil/walk", "--protocol", "short"], "has the protocol short"),
    ],
)
def test_a_wrong_plan_is_one_sentence(tmp_path, capsys, words, said):
    assert go(tmp_path, *words) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_the_help_names_the_default_protocol(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "(default: short)" in " ".join(capsys.readouterr().out.split())
