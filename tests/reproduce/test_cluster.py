"""Runs on a Ray cluster of two nodes: one is killed; no record is lost, none is made twice.

This module is itself the paper that the runs here use: $WSL_PAPERS names it. Its runs are the walks
of test_runner, longer ones, so that there is a middle to be disturbed in.
"""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import test_runner
from test_runner import held, undisturbed

from wsl_tutorial.reproduce import cluster, runner
from wsl_tutorial.reproduce.__main__ import main

LONG = {"steps": 150, "pause": 0.04}  # six seconds
PAPER = replace(
    test_runner.PAPER,
    experiments=(
        test_runner.experiment("walk", **LONG),
        test_runner.experiment("falls", fault="raise"),
        test_runner.experiment("lost", fault="map"),
    ),
)
WALK = PAPER.experiments[0]


@pytest.fixture(scope="module")
def surroundings():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parent)
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))
        patch.setenv("WSL_PAPERS", Path(__file__).stem)
        yield patch


@pytest.fixture(autouse=True)
def fake_paper(surroundings):
    """For the tests of this process and, as inherited, for the cluster's."""


# Without a cluster --------------------------------------------------------------------------------


def on_node(out, name="mcmil/walk", identity=None):
    experiment = next(e for e in PAPER.experiments if e.name == name)
    identity = identity or experiment.record_id(0, "smoke")
    return cluster.on_node(name, 0, "smoke", identity, out, "cpu", 60.0)


def test_a_node_that_sees_the_folder_leaves_the_record_to_the_driver(tmp_path):
    folder = runner.folder_of(tmp_path, WALK.record_id(0, "smoke"))
    folder.mkdir(parents=True)
    end, record, said = on_node(tmp_path)
    assert (end, said) == (runner.FINISHED, "")
    assert record["metrics"]["best_test_error"] == undisturbed(0)
    assert held(tmp_path) == []
    assert (folder / "lock").exists()
    (folder / "checkpoint.pt").touch()
    for _ in range(2):  # done twice, as after a node that was cut off and came back
        runner.settle(tmp_path, record)
    assert held(tmp_path) == [record]
    assert not (folder / "checkpoint.pt").exists()
    assert on_node(tmp_path) == (runner.FINISHED, None, "")


def test_a_node_that_does_not_see_the_folder_says_so_and_starts_anew(tmp_path):
    end, record, said = on_node(tmp_path / "elsewhere")
    assert end == runner.FINISHED
    assert record["metrics"]["best_test_error"] == undisturbed(0)
    assert "does not see" in said
    assert "mcmil/walk seed 0 starts anew there" in said
    assert not list(tmp_path.iterdir())


def test_a_node_with_another_version_of_the_experiment_runs_nothing(tmp_path):
    end, record, said = on_node(tmp_path, identity="mcmil/walk:smoke:0:0123456789")
    assert (end, record) == (runner.FAILED, None)
    assert "another version of mcmil/walk" in said


def test_the_lock_of_a_lost_node_is_waited_for(tmp_path):
    folder = runner.folder_of(tmp_path, WALK.record_id(0, "smoke"))
    folder.mkdir(parents=True)
    code = "import sys, time; from filelock import FileLock\n"
    code += "with FileLock(sys.argv[1]): print(flush=True); time.sleep(2)"
    command = [sys.executable, "-c", code, folder / "lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        end, _, said = on_node(tmp_path)
    assert (end, said) == (runner.FINISHED, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "ray"], "Ray is not installed here; pip install 'wsl-tutorial[cluster]'"),
        (["--engine", "ray", "--jobs", "2"], "--jobs is for the engine local, and this is ray"),
        (["--gpus-per-run", "0.25"], "--gpus-per-run is for the engine ray, and this is local"),
        (["--retries", "1"], "--retries is for the engine ray, and this is local"),
        (["--engine", "ray", "--capture"], "--capture is for the engine local, and this is ray"),
        (["--device", "cpu", "--capture"], "--capture: a CUDA graph is of a GPU"),
    ],
)
def test_wrong_words_are_answered_in_a_sentence(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["run", "mcmil/walk", *words, "--protocol", "smoke", "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


# On a cluster -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nodes(surroundings, tmp_path_factory):
    """A cluster of two nodes with a core each, its second node, a file of the walks begun there."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'wsl-tutorial[cluster]'")
    from ray.cluster_utils import Cluster

    trace = tmp_path_factory.mktemp("nodes") / "trace"
    surroundings.setenv("WALK_TRACE", str(trace))
    surroundings.setenv("RAY_raylet_start_wait_time_s", "120")
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "no_monitor": True}
    both = Cluster(initialize_head=True, head_node_args={**small, "include_log_monitor": False})
    second = both.add_node(**small)
    surroundings.delenv("WALK_TRACE")  # the nodes have it
    surroundings.setenv("RAY_ADDRESS", both.address)
    yield both, second, trace
    both.shutdown()


def start(out, *words):
    command = [sys.executable, "-m", "wsl_tutorial.reproduce", "run", *words, "--engine", "ray"]
    command += ["--protocol", "paper", "--checkpoint-every", "0.2", "--out", str(out)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def end_of(child):
    said = child.communicate(timeout=300)[1]
    return child.returncode, said


def wait_for_checkpoints(out, number, child):
    while len(found := list(out.glob("runs/*/checkpoint.pt"))) < number:
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.1)
    return found


@pytest.mark.slow
def test_ctrl_c_and_the_budget_stop_with_checkpoints_and_the_same_command_resumes(tmp_path, nodes):
    words = ("mcmil/walk", "--seeds", "0-2")
    child = start(tmp_path, *words)
    wait_for_checkpoints(tmp_path, 2, child)
    child.send_signal(signal.SIGINT)
    status, said = end_of(child)
    assert status == runner.UNFINISHED, said
    assert "runs left: 3; the same command resumes them" in said
    assert len(list(tmp_path.glob("runs/*/checkpoint.pt"))) == 2
    status, said = end_of(start(tmp_path, *words, "--budget", "1"))
    assert status == runner.UNFINISHED, said
    assert held(tmp_path) == []
    status, said = end_of(start(tmp_path, *words))
    assert status == runner.FINISHED, said
    found = {record["seed"]: record["metrics"]["best_test_error"] for record in held(tmp_path)}
    assert found == {seed: undisturbed(seed) for seed in range(3)}


@pytest.mark.slow
def test_failing_runs_are_loud_and_the_others_go_on(tmp_path, nodes):
    status, said = end_of(start(tmp_path, "mcmil/*", "--seeds", "0", "--retries", "0"))
    assert status == runner.FAILED
    assert "the walker fell" in said
    assert "reproduce: mcmil/lost seed 0: the map could not be downloaded" in said
    assert "runs failed: 2" in said
    assert [record["experiment"] for record in held(tmp_path)] == ["mcmil/walk"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--device", "cuda", "--gpus-per-run", "0"], "0 does not go with --device cuda"),
        (["--gpus-per-run", "1.5"], "1.5"),
        (["--gpus-per-run", "4", "--budget", "1"], "no node of the cluster has 1 CPUs and 4 GPUs"),
    ],
)
def test_shares_that_cannot_be_had_are_said(tmp_path, nodes, words, sentence):
    status, said = end_of(start(tmp_path, "mcmil/walk", "--seeds", "0", *words))
    assert status == (runner.UNFINISHED if "--budget" in words else 2)
    assert sentence in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_a_node_killed_in_the_middle(tmp_path, nodes):
    """Its run goes on elsewhere from the checkpoint: one beginning and one record a seed."""
    both, second, trace = nodes
    trace.write_text("")
    child = start(tmp_path, "mcmil/walk", "--seeds", "0-3")
    wait_for_checkpoints(tmp_path, 2, child)
    both.remove_node(second, allow_graceful=False)
    status, said = end_of(child)
    assert status == runner.FINISHED, said
    assert sorted(trace.read_text().split()) == ["0", "1", "2", "3"]
    assert sorted(record["seed"] for record in held(tmp_path)) == [0, 1, 2, 3]
    for record in held(tmp_path):
        assert record["metrics"]["best_test_error"] == undisturbed(record["seed"])
        steps = [point["step"] for point in record["curve"]]
        assert (steps[0], steps[-1]) == (1, 150)
        assert steps == sorted(set(steps))
    assert not list(tmp_path.glob("runs/*/checkpoint.pt"))
