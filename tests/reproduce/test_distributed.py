"""One run on two processes equals the run on one; it stops, resumes and is recorded once.

This module is itself the paper that some runs here use: $WSL_PAPERS names it.
"""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from wsl_tutorial import train
from wsl_tutorial.reproduce import papers, records, runner
from wsl_tutorial.reproduce.__main__ import main
from wsl_tutorial.reproduce.experiment import Experiment, Paper
from wsl_tutorial.reproduce.runner import Interrupted, Run

SAME = 1e-5  # relative: float32, whose sums two processes add up in another order


@dataclass(frozen=True)
class Line:
    epochs: int = 6


def fit_line(config, seed, run):
    """Least squares in float64 on batches of 5 and of 1, which two processes divide unevenly."""
    model = nn.Linear(3, 1).double()

    def batches(epoch):
        for step, n in enumerate((5, 1, 4)):
            if epoch == 3 and step == 1 and train.processes()[0] == 1:
                fault()
            g = train.generator(seed, epoch, step)
            x = torch.randn(n, 3, generator=g, dtype=torch.float64)
            yield x, x.sum(1, keepdim=True) + 1

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().mean()

    adam = torch.optim.Adam(model.parameters(), 0.05)
    curve = train.fit(model, loss, batches, adam, epochs=config.epochs, run=run)
    if len(curve) < config.epochs:
        raise Interrupted
    return {f"weight_{k}": w for k, w in enumerate(model.weight[0].tolist())}


def fault():
    """Stop the second process in its fourth epoch in one of several ways."""
    if os.environ.get("LINE_FAULT") == "sigterm":
        os.kill(os.getpid(), signal.SIGTERM)
    if os.environ.get("LINE_FAULT") == "raise":
        raise RuntimeError("the line broke")


PAPER = Paper(
    key="mcmil",
    title="Lines",
    authors="A. Ruler",
    year=2018,
    link="",
    experiments=(
        Experiment(
            name="mcmil/line",
            title="A line",
            method="least squares",
            config=Line(),
            run=fit_line,
            cells=(),
            seeds=1,
            protocols={"smoke": {}},
            alone=None,
        ),
    ),
)


def torchrun(out, *words, **environment):
    """The words under torchrun with two processes; (exit status, what they said)."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += ["-m", "wsl_tutorial.reproduce", "run", *words, "--out", str(out)]
    command += ["--device", "cpu", "--protocol", "smoke", "--seeds", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=400)
    return done.returncode, done.stderr


def held(out):
    return records.parse(out / "records.jsonl")[0]


@pytest.fixture
def line(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("WSL_PAPERS", Path(__file__).stem)


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Both optimisers of Li (2018): the losses and errors of every epoch, and one record each."""
    names = ("mcmil/mnist", "mcmil/mnist-adamw")
    status, said = torchrun(tmp_path / "two", *names)
    assert status == 0, said
    words = ["--protocol", "smoke", "--seeds", "0", "--device", "cpu", "--out"]
    assert main(["run", *names, *words, str(tmp_path / "one")]) == runner.FINISHED
    two, one = (held(tmp_path / name) for name in ("two", "one"))
    assert [r["experiment"] for r in two] == list(names)
    assert [r["provenance"]["processes"] for r in (*one, *two)] == [1, 1, 2, 2]
    for a, b in zip(one, two, strict=True):
        assert a["id"] == b["id"]
        for point, other in zip(a["curve"], b["curve"], strict=True):
            assert other == pytest.approx(point, rel=SAME)
    assert not list((tmp_path / "two").glob("runs/*/checkpoint*"))


@pytest.mark.slow
def test_a_stopped_run_resumes_as_if_it_had_not_been_stopped(tmp_path, line):
    """A signal to the second process stops both after the same step; the first one has saved."""
    status, said = torchrun(tmp_path, "mcmil/line", LINE_FAULT="sigterm")
    assert status != 0
    assert said.count("runs left: 1") == 1
    assert held(tmp_path) == []
    (saved,) = tmp_path.glob("runs/*/checkpoint.pt")
    at = torch.load(saved, weights_only=True)["state"]["at"]
    assert (at["epoch"], at["step"]) == (3, 2)
    status, said = torchrun(tmp_path, "mcmil/line")
    assert status == 0, said
    (record,) = held(tmp_path)
    run = Run()
    torch.manual_seed(0)
    assert record["metrics"] == pytest.approx(fit_line(Line(), 0, run), rel=1e-12)
    for point, other in zip(run.curve, record["curve"], strict=True):
        assert other == pytest.approx(point, rel=1e-12)


def test_a_process_that_fails_ends_the_others(tmp_path, line):
    status, said = torchrun(tmp_path, "mcmil/line", LINE_FAULT="raise")
    assert status != 0
    assert "the line broke" in said
    assert held(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["mcmil/max-pooling-as-coded"], "its probabilities sum to 1 over a whole batch"),
        (["llp/cifar-curves"], "several processes cannot share llp/cifar-curves"),
        (["mist/hard"], "several processes cannot share mist/hard"),
        (["mcmil/mnist", "--jobs", "2"], "--jobs is for the engine local, and this is torchrun"),
        (["mcmil/mnist", "--engine", "ray"], "torchrun starts processes for one run"),
    ],
)
def test_what_cannot_be_shared_is_refused_in_a_sentence(
    tmp_path, monkeypatch, capsys, words, sentence
):
    for name, value in {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(["run", *words, "--protocol", "smoke", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_a_loss_over_the_whole_batch_is_not_shared():
    """Every experiment that may be shared: its loss is the weighted mean of the parts' losses."""
    from wsl_tutorial.reproduce.experiment import changed
    from wsl_tutorial.reproduce.presence import methods, settings

    torch.manual_seed(0)
    shared = [e for paper in papers() for e in paper.experiments if e.alone is None]
    assert {e.name.partition("/")[0] for e in shared} == {"mcmil"}
    z = torch.randn(5, 11, 2, 2, dtype=torch.float64)
    labels = torch.nn.functional.one_hot(torch.arange(5), 10).bool()
    apart = set()
    for loss in methods.LOSSES:
        config = changed(settings.Mnist(), loss=loss)
        take = slice(10) if loss == "cross-entropy" else slice(None)
        images = z[:, take, :1, :1] if loss == "cross-entropy" else z
        parts = [(images, labels), (images[:2], labels[:2]), (images[2:], labels[2:])]
        whole, first, second = (methods.LOSSES[loss](config, nn.Identity(), p) for p in parts)
        if not torch.isclose(whole, 0.4 * first + 0.6 * second, rtol=1e-12):
            apart.add(loss)
    assert apart == {"max-pooling-as-coded"}
    assert apart.isdisjoint(e.config.method.loss for e in shared)


def test_batches_that_are_no_tuples_of_rows_are_refused(monkeypatch):
    monkeypatch.setattr(train, "processes", lambda: (1, 2))
    with pytest.raises(ValueError, match=re.escape("batches: 2 processes can share a tuple")):
        train._part({"images": torch.zeros(4)})
    x = torch.arange(5)
    (part,), weight = train._part((x,))
    assert (part.tolist(), weight) == ([2, 3, 4], 0.6)
    (part,), weight = train._part((x[:1],))
    assert (part.tolist(), weight) == ([0], 1.0)
