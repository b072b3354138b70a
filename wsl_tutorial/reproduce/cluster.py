"""Run beyond one machine: many runs on a Ray cluster, or one run on several devices."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import papers, records, runner
from .records import say
from .runner import FAILED, FINISHED, UNFINISHED, Job

LEASE = 120  # seconds for which a file server may keep the lock of a dead node
Answer = tuple[int, dict[str, Any] | None, str]  # how a run ended, its record, its messages


# Many runs, on Ray --------------------------------------------------------------------------------


def on_ray(
    jobs: Sequence[Job],
    *,
    out: Path,
    device: str | None,
    deadline: float,
    interval: float,
    gpus: float | None = None,
    cpus: float = 1.0,
    retries: int = 3,
) -> list[int]:
    """Execute runs on a running Ray cluster, each with `gpus` and `cpus`; return how each ended.

    Ray places the runs, and starts one again, up to `retries` times, when its worker or node is
    lost. Locks and checkpoints are files below `out`; if a node does not see that folder, a run
    starts again. Records come back to this process, which writes each of them once.

    Raises ValueError without Ray or a cluster, and if the shares do not fit.
    """
    ray = _connected()
    gpus, device = _shares(ray, device, gpus, cpus)
    task = ray.remote(
        num_cpus=cpus,
        num_gpus=gpus,
        max_retries=retries,
        max_calls=1,  # each run in a process of its own
        scheduling_strategy="SPREAD",
    )(on_node)
    out, stop, ends = out.resolve(), threading.Event(), {}
    with tqdm(total=len(jobs), unit="run") as bar, runner.on_signals(stop.set):
        refs = []
        for e, seed, protocol in jobs:
            identity = e.record_id(seed, protocol)
            runner.folder_of(out, identity).mkdir(parents=True, exist_ok=True)
            refs.append(task.remote(e.name, seed, protocol, identity, out, device, interval))
        for ref in _done(ray, refs, stop, deadline):
            ends[ref], record, said = _answer(ray, ref)
            sys.stderr.write(said)
            if record is not None:
                runner.settle(out, record)
            bar.update(ends[ref] == FINISHED)
    return [ends[ref] for ref in refs]


def _connected() -> Any:
    """Return Ray, connected to the cluster of $RAY_ADDRESS or of this machine."""
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            "--engine ray: Ray is not installed here; pip install 'wsl-tutorial[cluster]'."
        ) from None
    try:
        ray.init(address="auto", log_to_driver=False, logging_level="warning")
    except ConnectionError:
        where = os.environ.get("RAY_ADDRESS", "this machine")
        raise ValueError(
            f"--engine ray: no Ray cluster answers at {where}; start one with `ray start --head`."
        ) from None
    return ray


def _shares(ray: Any, device: str | None, gpus: float | None, cpus: float) -> tuple[float, str]:
    """Return GPUs a run and their device: if neither is given, one GPU if the cluster has any."""
    if gpus is None:
        has = device is None and ray.cluster_resources().get("GPU", 0) > 0
        gpus = float(device == "cuda" or has)
    if device not in (None, "cuda" if gpus else "cpu"):
        raise ValueError(f"--gpus-per-run: {gpus:g} does not go with --device {device}.")
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
        say(f"no node of the cluster has {cpus:g} CPUs and {gpus:g} GPUs; the runs wait for one.")
    return gpus, "cuda" if gpus else "cpu"


def _done(ray: Any, waiting: list, stop: threading.Event, deadline: float) -> Iterator[Any]:
    """Yield the tasks as they end; at `stop` or the deadline, cancel the remaining ones."""
    cancelled = False
    while waiting:
        if not cancelled and (stop.is_set() or time.time() >= deadline):
            cancelled = True
            for ref in waiting:
                ray.cancel(ref)  # like Ctrl-C in a run
        done, waiting = ray.wait(waiting, timeout=1)
        yield from done


def _answer(ray: Any, ref: Any) -> Answer:
    """Return the answer of `on_node`, or why there is none."""
    try:
        return ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return UNFINISHED, None, ""
    except ray.exceptions.RayError as error:
        return FAILED, None, f"reproduce: a run was lost: {error}\n"


def on_node(
    name: str, seed: int, protocol: str, identity: str, out: Path, device: str, interval: float
) -> Answer:
    """Execute one run in a process on a node; it writes locks and checkpoints, but no record."""
    experiment = {e.name: e for paper in papers() for e in paper.experiments}.get(name)
    if experiment is None or experiment.record_id(seed, protocol) != identity:
        other = f"reproduce: {platform.node()} has another version of {name} than the driver.\n"
        return FAILED, None, other
    stop, kept, said = threading.Event(), [], io.StringIO()
    options = {"device": device, "deadline": float("inf"), "interval": interval, "stop": stop}
    options["keep"] = lambda _, record: kept.append(record)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stderr(said))
        stack.enter_context(runner.on_signals(stop.set))
        if not runner.folder_of(out, identity).is_dir():
            say(f"{platform.node()} does not see {out}; {name} seed {seed} starts anew there.")
            out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _await(runner.folder_of(out, identity) / "lock", stop)
        end = runner.attempt((experiment, seed, protocol), out=out, **options)
    return end, (kept or [None])[0], said.getvalue()


def _await(lock: Path, stop: threading.Event) -> None:
    """Wait for a lock that an earlier try of this run, on a lost node, may still hold."""
    for _ in range(LEASE if lock.exists() else 0):
        with records.hold(lock, wait=False) as mine:
            if mine or stop.wait(1):
                return


# One run, on several devices ----------------------------------------------------------------------


def together(jobs: Sequence[Job], *, device: str | None, **options: Any) -> list[int]:
    """Execute runs under torchrun, one after the other; its processes share every batch.

    The first process writes records and checkpoints and reports how the runs ended. A run that
    fails ends all processes, since the others would wait for it.

    Raises ValueError for an experiment that cannot be shared, and for a process without a GPU.
    """
    import torch

    options["device"] = device = device or runner.auto_device()
    rank, local = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    for experiment, _, _ in jobs if rank == 0 else ():
        if experiment.alone is not None:
            raise ValueError(
                f"several processes cannot share {experiment.name}: {experiment.alone}."
            )
    if device == "cuda":
        if local >= (number := torch.cuda.device_count()):
            raise ValueError(f"--nproc-per-node: {local + 1} or more, but {number} GPUs are here.")
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    stop, ends = threading.Event(), []
    with runner.Board(len(jobs), rank == 0) as board, runner.on_signals(stop.set):
        for job in jobs:
            ends.append(runner.here(job, board, stop, options))
            if ends[-1] == FAILED:
                raise SystemExit(FAILED)
            board.end(job, ends[-1])
    torch.distributed.destroy_process_group()
    return ends if rank == 0 else [FINISHED]
