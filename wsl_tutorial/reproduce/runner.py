"""Runs experiments so that they can be stopped, killed and resumed."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import records
from .experiment import Experiment
from .records import say, write_whole

Job = tuple[Experiment, int, str]  # experiment, seed, protocol
FINISHED, FAILED, UNFINISHED = 0, 1, 3  # how a run ends; also the exit status of the command
PARENT = "WSL_PARENT"  # names, to a child process, the one that started it


class Interrupted(Exception):
    """Raised by an experiment after its last checkpoint, when `Run.out_of_time()` is true."""


class Run:
    """What an experiment is given: where it runs, and how it saves, logs and stops.

    Attributes: `device` ("cuda" or "cpu"), `seed`, `protocol`, `curve` (the points logged so far),
    `capture` (whether steps may be replayed as a CUDA graph, see `train.Captured`), `captured`
    (whether they were).
    Without a `folder` nothing is saved: the form for tests and notebooks.

        state = run.resume()                 # None at the first start
        ...
        if run.due():
            run.checkpoint({"model": model.state_dict(), "epoch": epoch})
        if run.out_of_time():
            raise Interrupted
    """

    def __init__(
        self,
        seed: int = 0,
        protocol: str = "smoke",
        device: str = "cpu",
        folder: Path | None = None,
        deadline: float = float("inf"),
        interval: float = 60.0,
        stop: threading.Event | None = None,
        report: Callable[[str], None] | None = None,
        capture: bool = False,
    ) -> None:
        self.capture, self.captured = capture, False
        self.seed, self.protocol, self.device = seed, protocol, device
        self.folder = None if folder is None else Path(folder)
        self.deadline, self.interval, self.report = deadline, interval, report
        self.parent = int(os.environ.get(PARENT, 0))  # the process that started this one
        self.curve: list[dict[str, float]] = []
        self.seconds, self.peak = 0.0, 0.0  # of the sittings before this one
        self.stop = stop or threading.Event()
        self.started = self.saved = time.monotonic()

    def log(self, **point: float) -> None:
        """Add one point to the curve; points after the last checkpoint go with a kill."""
        self.curve.append(point)
        if self.report is not None:
            self.report(" ".join(f"{name}={value:.4g}" for name, value in point.items()))

    def due(self) -> bool:
        """Whether it is time for a checkpoint (always, once out of time)."""
        return time.monotonic() - self.saved >= self.interval or self.out_of_time()

    def out_of_time(self) -> bool:
        """Whether to checkpoint and raise Interrupted: budget spent, signal, or parent gone."""
        orphaned = self.parent and os.getppid() != self.parent
        return bool(self.stop.is_set() or orphaned or time.time() >= self.deadline)

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Save `state` (tensors and plain values), the curve and the random state, atomically.

        Where the disk refuses, the old checkpoint stays, a sentence says so, and the run goes on.
        """
        self.saved = time.monotonic()
        if self.folder is None:
            return
        import torch

        held = {
            "state": state,
            "curve": self.curve,
            "seconds": self.total_seconds(),
            "peak": self.peak_memory(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state_all() if self.device == "cuda" else [],
        }
        buffer = io.BytesIO()
        torch.save(held, buffer)
        target = self.folder / "checkpoint.pt"
        try:
            write_whole(target, buffer.getbuffer())
        except OSError as error:
            say(f"checkpoint {target} not written ({error.strerror}); the one before it stays.")

    def resume(self) -> dict[str, Any] | None:
        """The last checkpoint's state, its tensors on the CPU, or None.

        A corrupt checkpoint is named on stderr and moved to *.corrupt.
        """
        path = None if self.folder is None else self.folder / "checkpoint.pt"
        if path is None or not path.exists():
            return None
        import torch

        try:
            held = torch.load(path, map_location="cpu", weights_only=True)
            state, self.curve = held["state"], held["curve"]
            self.seconds, self.peak = held["seconds"], held["peak"]
        except Exception as error:
            os.replace(path, path.with_suffix(".pt.corrupt"))
            say(f"checkpoint {path} is corrupt ({type(error).__name__}); moved to *.corrupt.")
            return None
        torch.set_rng_state(held["rng"])
        if self.device == "cuda" and held["rng_cuda"]:
            torch.cuda.set_rng_state_all(held["rng_cuda"])
        return state

    def total_seconds(self) -> float:
        """Seconds of this run, over all its sittings up to now."""
        return self.seconds + time.monotonic() - self.started

    def peak_memory(self) -> float:
        """Peak memory in MB: allocated by torch on CUDA, else of the process."""
        import torch

        if self.device == "cuda":
            return max(self.peak, torch.cuda.max_memory_allocated() / 2**20)
        import resource  # POSIX only

        scale = 2**20 if sys.platform == "darwin" else 2**10
        return max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


def execute(
    experiment: Experiment,
    seed: int,
    protocol: str,
    *,
    out: Path,
    device: str,
    deadline: float,
    interval: float,
    stop: threading.Event,
    report: Callable[[str], None] | None = None,
    keep: Callable[[Path, dict[str, Any]], None] | None = None,
    capture: bool = False,
) -> int:
    """One run in this process, under its lock, up to its record: FINISHED or UNFINISHED.

    `deadline` (of time.time()) and `stop` end it at a checkpoint; one is due every `interval` s.
    `keep(out, record)` is called with the record while the lock is held; without it, `settle`.
    Processes that share every batch (`train.fit`) do as the first one does, which alone writes.

    Raises what the experiment raises, and what `settle` raises.
    """
    import torch

    from .. import train

    identity, first = experiment.record_id(seed, protocol), train.processes()[0] == 0
    over = stop.is_set() or time.time() >= deadline
    with _claim(out, identity, over) if first else contextlib.nullcontext() as end:
        end = train.from_first(end)
        if end is not None:
            return end
        folder = folder_of(out, identity) if first else None
        run = Run(seed, protocol, device, folder, deadline, interval, stop, report, capture)
        torch.manual_seed(seed)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            metrics = experiment.run(experiment.settings(protocol), seed, run)
        except Interrupted:
            return UNFINISHED
        if first:
            (keep or settle)(out, records.make(experiment, metrics, run))
        return FINISHED


@contextlib.contextmanager
def _claim(out: Path, identity: str, over: bool) -> Iterator[int | None]:
    """Hold the lock of a run; yields how it ends before it begins, or None where it may begin."""
    if over:
        yield UNFINISHED
        return
    folder_of(out, identity).mkdir(parents=True, exist_ok=True)
    with records.hold(folder_of(out, identity) / "lock", wait=False) as mine:
        if not mine:
            say(f"{identity} is at work in another process.")
        there = {record["id"] for record in records.parse(out / "records.jsonl")[0]}
        yield UNFINISHED if not mine else FINISHED if identity in there else None


def settle(out: Path, record: dict[str, Any]) -> None:
    """Write the record of a finished run; only then does its checkpoint go.

    Raises SystemExit where it cannot be written; it then stands on stderr.
    """
    try:
        records.append(out / "records.jsonl", record)
    except OSError as error:
        sys.stderr.write(records.encode(record).decode())
        raise SystemExit(
            f"reproduce: the record above could not be written to {out} ({error.strerror}); "
            "make room and run the same command again."
        ) from None
    with contextlib.suppress(OSError):
        (folder_of(out, record["id"]) / "checkpoint.pt").unlink()


def folder_of(out: Path, identity: str) -> Path:
    """Where a run keeps its lock and its checkpoint."""
    return out / "runs" / identity.replace("/", "_").replace(":", "_")


def finished(out: Path) -> set[str]:
    """The ids of the records in a run folder."""
    return {record["id"] for record in records.load(out / "records.jsonl")}


def local(
    jobs: Sequence[Job], *, workers: int = 1, device: str | None, **options: Any
) -> list[int]:
    """The engine of one machine: how each run ended, `workers` of them side by side.

    One worker runs them here, one after the other; several give each run a process of its own.
    Without a `device` it is cuda where there is one. `options` are those of `execute`: out,
    deadline, interval, capture.
    """
    stop, children = threading.Event(), set()
    options["device"] = device or auto_device()
    if options.get("capture") and options["device"] != "cuda":
        raise ValueError("--capture: a CUDA graph is of a GPU, and the runs go to the CPU.")
    alone = workers == 1 or len(jobs) == 1

    def work(job: Job) -> int:
        if stop.is_set() or time.time() >= options["deadline"]:
            return UNFINISHED
        if alone:
            end = here(job, bar, stop, options)
        else:
            end = _child(_command(job, options), job, workers, bar, stop, children)
        bar.update(end == FINISHED)
        return end

    def halt() -> None:
        stop.set()
        for child in list(children):
            child.terminate()

    with tqdm(total=len(jobs), unit="run", disable=PARENT in os.environ) as bar, on_signals(halt):
        if alone:
            return [work(job) for job in jobs]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, jobs))


def auto_device() -> str:
    """cuda where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def here(job: Job, bar: tqdm, stop: threading.Event, options: dict[str, Any]) -> int:
    """One run in this process; a child prints its progress for the parent to show."""

    def tell(text: str) -> None:
        if PARENT not in os.environ:
            bar.set_postfix_str(f"{job[0].name} seed {job[1]}: {text}")
            return
        with contextlib.suppress(OSError):  # a parent that has gone is for Run.out_of_time to see
            print(text, flush=True)

    return attempt(job, stop=stop, report=tell, **options)


def attempt(job: Job, **options: Any) -> int:
    """`execute` with its options; a run that raises says so on stderr: FAILED."""
    try:
        return execute(*job, **options)
    except OSError as error:  # no data, no network, a full disk: it says what and where
        say(f"{job[0].name} seed {job[1]}: {error}")
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED


def _child(
    command: list[str],
    job: Job,
    workers: int,
    bar: tqdm,
    stop: threading.Event,
    children: set[subprocess.Popen],
) -> int:
    """One run in a process of its own, with its share of the cores."""
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), **os.environ}
    environment[PARENT] = str(os.getpid())
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        children.add(child)
        if stop.is_set():
            child.terminate()
        for line in child.stdout:
            bar.set_postfix_str(f"{job[0].name} seed {job[1]}: {line.strip()}")
    children.discard(child)
    if stop.is_set() and child.returncode == -signal.SIGTERM:  # before it could listen
        return UNFINISHED
    return child.returncode if child.returncode in (FINISHED, UNFINISHED) else FAILED


def _command(job: Job, options: dict[str, Any]) -> list[str]:
    """This program for one run alone, within the time that is left."""
    experiment, seed, protocol = job
    words = {
        "--seeds": seed,
        "--protocol": protocol,
        "--out": options["out"],
        "--device": options["device"],
        "--budget": max(0.0, options["deadline"] - time.time()),
        "--checkpoint-every": options["interval"],
    }
    command = [sys.executable, "-m", __package__, "run", experiment.name]
    command += [str(word) for pair in words.items() for word in pair]
    return command + ["--capture"] * options.get("capture", False)


@contextlib.contextmanager
def on_signals(stop: Callable[[], Any]) -> Iterator[None]:
    """Call `stop` at SIGINT or SIGTERM; a second SIGINT ends the process at once."""

    def handle(number: int, frame: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
