"""Run experiments so that they can be stopped, killed and resumed."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from . import plan, records
from .experiment import Experiment
from .records import say, write_whole

Job = tuple[Experiment, int, str]  # experiment, seed, protocol
FINISHED, FAILED, UNFINISHED = 0, 1, 3  # how a run ends, and the exit status of the command
PARENT = "WSL_PARENT"  # the variable with the id of the process that started a child
FORMAT = 2  # of checkpoints; format 1 had no number, and only torch's random state
SEAL = b"\nsha256:"  # ends a checkpoint, followed by the digest of the bytes before it
TELL = 0.5  # seconds between two reports of a run


class Interrupted(Exception):
    """Stop a run: an experiment raises it after its last checkpoint, if `Run.out_of_time()`."""


class Unreadable(OSError):
    """Refuse a checkpoint whose bytes are whole, but which this version cannot read."""


class Run:
    """Give an experiment its device and seed, and let it save, log and stop.

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
        expected: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.capture, self.captured = capture, False
        self.seed, self.protocol, self.device = seed, protocol, device
        self.folder = None if folder is None else Path(folder)
        self.deadline, self.interval, self.report = deadline, interval, report
        self.parent = int(os.environ.get(PARENT, 0))  # the process that started this one
        self.curve: list[dict[str, float]] = []
        self.seconds, self.peak = 0.0, 0.0  # of earlier sittings
        self.stop = stop or threading.Event()
        self.started = self.saved = time.monotonic()
        self.expected = functools.cache(expected)  # seconds that other seeds took
        self.own_peak = device == "cuda"  # whether the peak is of this run, not of the process
        self.told, self.share = float("-inf"), 0.0  # of the last report
        self.began = self.started, 0.0  # the first one of a training

    def log(self, **point: float) -> None:
        """Add one point to the curve.

        Points logged after the last checkpoint are lost if the process is killed.
        Raises ValueError for a value that is not a number.
        """
        self.curve.append({name: number(name, value) for name, value in point.items()})
        if self.report is not None:
            self.report(" ".join(f"{name}={x:.4g}" for name, x in self.curve[-1].items()))

    def tell(self, epoch: int, epochs: int, step: int, steps: int | None, loss: Any) -> None:
        """Report where a training is, twice a second at most, with the remaining time.

        `epoch` and `step` count from 1; `steps` is the number of an epoch, where it is known.
        """
        now = time.monotonic()
        if self.report is None or now - self.told < TELL:
            return
        share = None if steps is None else (epoch - 1 + min(step / steps, 1)) / epochs
        if self.told == float("-inf") or (share or 0) < self.share:
            self.began = now, share or 0.0  # a training begins, or goes on
        self.told, self.share = now, share or 0.0
        text = f"epoch {epoch} of {epochs}, step {step}" + (f" of {steps}" if steps else "")
        left = self._left(now, share)
        text += f", loss {float(loss):.4g}" + (f", {duration(left)} left" if left else "")
        self.report(text)

    def _left(self, now: float, share: float | None) -> float | None:
        """Estimate the remaining seconds by the steps of this sitting, else by other seeds."""
        began, first = self.began
        if share is not None and share > first:
            return (now - began) * (1 - share) / (share - first)
        left = (self.expected() or 0.0) - self.total_seconds()
        return left if left > 0 else None  # it already takes longer than the other seeds

    def due(self) -> bool:
        """Return whether it is time for a checkpoint (always, once out of time)."""
        return time.monotonic() - self.saved >= self.interval or self.out_of_time()

    def out_of_time(self) -> bool:
        """Return whether to save and raise Interrupted: budget spent, signal, or parent gone."""
        orphaned = self.parent and os.getppid() != self.parent
        return bool(self.stop.is_set() or orphaned or time.time() >= self.deadline)

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Save `state` (tensors, arrays, plain values), the curve and the random state, atomically.

        If the disk refuses, a message says so, the old checkpoint stays and the run goes on. Raises
        ValueError if `state` could not be read back.
        """
        self.saved = time.monotonic()
        if self.folder is None:
            return
        import torch

        from .. import train

        held = {
            "format": FORMAT,
            "state": state,
            "curve": self.curve,
            "seconds": self.total_seconds(),
            "peak": self.peak_memory(),
            "random": train.random_state(),
        }
        buffer = io.BytesIO()
        torch.save(held, buffer)
        try:
            _read(buffer, "meta")  # the structure alone
        except Exception as error:
            raise ValueError(
                f"checkpoint: its state could not be read back ({_reason(error)}); hold numbers, "
                "strings, tensors and arrays in it, and lists, tuples and dicts of these"
            ) from None
        target = self.folder / "checkpoint.pt"
        mark = SEAL + hashlib.sha256(buffer.getbuffer()).hexdigest().encode()
        buffer.seek(0, io.SEEK_END)
        buffer.write(mark)
        try:
            write_whole(target, buffer.getbuffer())
        except OSError as error:
            say(f"checkpoint {target} not written ({error.strerror}); the one before it stays.")

    def resume(self) -> dict[str, Any] | None:
        """Return the state of the last checkpoint, its tensors on the CPU, or None.

        Sets the random state as well. A checkpoint whose bytes are damaged is named on stderr and
        moved to *.corrupt. Raises Unreadable for one that is intact but of another kind or a newer
        version, and OSError or MemoryError if it cannot be read now; it then stays where it is.
        """
        if self.folder is None:
            return None
        from .. import train

        path = self.folder / "checkpoint.pt"
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if not intact(content):
            os.replace(path, path.with_suffix(".pt.corrupt"))
            say(f"checkpoint {path} is corrupt (cut off or altered); moved to *.corrupt.")
            return None
        try:
            held = _read(io.BytesIO(content), "cpu")
        except MemoryError:
            raise
        except Exception as error:
            raise Unreadable(_unreadable(path, _reason(error))) from error
        if not isinstance(held, dict) or held.get("format", 1) > FORMAT:
            raise Unreadable(_unreadable(path, "it is of another version"))
        if missing := {"state", "curve", "seconds", "peak"} - held.keys():
            raise Unreadable(_unreadable(path, f"it holds no {', '.join(sorted(missing))}"))
        self.curve, self.seconds, self.peak = (held[k] for k in ("curve", "seconds", "peak"))
        before = {"torch": held.get("rng"), "cuda": held.get("rng_cuda")}  # of the first format
        train.set_random_state(
            held.get("random") or {k: v for k, v in before.items() if v is not None and len(v)}
        )
        return held["state"]

    def total_seconds(self) -> float:
        """Return the seconds of this run, over all its sittings up to now."""
        return self.seconds + time.monotonic() - self.started

    def reset_peak(self) -> None:
        """Count peak memory from now on, where the device or the system can (CUDA, Linux)."""
        import torch

        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            return
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to what is in use now
            self.own_peak = _high_water() is not None

    def peak_memory(self) -> float:
        """Return the peak memory in MB: allocated by torch on CUDA, else resident.

        Without `own_peak` it is the peak of the whole process, earlier runs included; 0 where the
        system does not report it (Windows).
        """
        import torch

        if self.device == "cuda":
            return max(self.peak, torch.cuda.max_memory_allocated() / 2**20)
        if self.own_peak and (peak := _high_water()) is not None:
            return max(self.peak, peak)
        try:
            import resource
        except ImportError:  # Windows
            return self.peak
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale)


def _high_water() -> float | None:
    """Return Linux's peak resident memory in MB, which can be reset; None elsewhere."""
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**10
    return None


def number(name: str, value: Any) -> float:
    """Return a value as Python's own number: numpy's, and tensors of one element, among them.

    Raises ValueError for anything else.
    """
    if type(value) in (bool, int, float):
        return value
    try:
        plain = value.item() if hasattr(value, "item") else value
        return plain if type(plain) in (bool, int, float) else float(plain)
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise ValueError(f"{name}: got {value!r} ({kind}), expected a number") from None


def duration(seconds: float) -> str:
    """Return seconds in words: `45 s`, `12 min`, `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def intact(content: bytes) -> bool:
    """Return whether a checkpoint has its bytes: by the digest at its end, else as a zip file.

    Torch checks neither: it reads altered numbers as they are.
    """
    from .. import data

    end = len(content) - 64 - len(SEAL)
    if end < 0 or content[end : end + len(SEAL)] != SEAL:
        return not data.damaged(content)  # of the first format
    return hashlib.sha256(memoryview(content)[:end]).hexdigest().encode() == content[-64:]


def _read(file: IO[bytes], device: str) -> Any:
    """Read a checkpoint without running any code in it."""
    import torch

    allowed = getattr(torch.serialization, "safe_globals", None)  # since torch 2.5
    file.seek(0)
    with allowed(_numpy_kinds()) if allowed else contextlib.nullcontext():
        return torch.load(file, map_location=device, weights_only=True)


def _numpy_kinds() -> list[Any]:
    """List the classes that numpy's numbers and arrays consist of in a checkpoint."""
    import numpy as np

    core: Any = getattr(np, "_core", None) or np.core
    kinds = {type(np.dtype(code)) for code in np.typecodes["All"] if code not in "OMm"}
    made = (core.multiarray.scalar, core.multiarray._reconstruct)
    return [bytes, np.ndarray, np.dtype, *made, *kinds]


def _reason(error: Exception) -> str:
    """Say in one line why torch did not read a checkpoint; its own messages fill pages."""
    if found := re.search(r"GLOBAL (\S+)", str(error)):
        return f"it holds a {found[1]}"
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
    return f"{type(error).__name__}: {text.splitlines()[0][:120]}"


def _unreadable(path: Path, why: str) -> str:
    return (
        f"checkpoint {path} is whole, but this version cannot go on from it ({why}); it stays. "
        "Use the version that wrote it, or remove it to start this run again."
    )


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
    """Execute one run in this process, under its lock; return FINISHED or UNFINISHED.

    `deadline` (of time.time()) and `stop` end it at a checkpoint; one is due every `interval` s.
    `keep(out, record)` is called with the record while the lock is held; without it, `settle`.
    Of processes that share every batch (`train.fit`), only the first one writes.

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

        def expected() -> float | None:
            return plan.measured(experiment, protocol, device, records.published())

        run = Run(
            seed, protocol, device, folder, deadline, interval, stop, report, capture, expected
        )
        torch.manual_seed(seed)
        run.reset_peak()
        try:
            metrics = experiment.run(experiment.settings(protocol), seed, run)
        except Interrupted:
            return UNFINISHED
        if first:
            (keep or settle)(out, records.make(experiment, metrics, run))
        return FINISHED


@contextlib.contextmanager
def _claim(out: Path, identity: str, over: bool) -> Iterator[int | None]:
    """Hold the lock of a run. Yields its end if it must not start (held elsewhere, finished or out
    of time), else None.
    """
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
    """Write the record of a finished run, then remove its checkpoint.

    Raises SystemExit if it cannot be written, after printing it on stderr.
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
    """Return the folder of a run's lock and checkpoint."""
    return out / "runs" / identity.replace("/", "_").replace(":", "_")


def spent(out: Path, identity: str) -> float:
    """Return the seconds that a stopped run has used, by its checkpoint; 0 if it cannot be read."""
    try:
        with open(folder_of(out, identity) / "checkpoint.pt", "rb") as file:
            return float(_read(file, "meta")["seconds"])
    except Exception:  # `Run.resume` reports it when the run is resumed
        return 0.0


def finished(out: Path) -> set[str]:
    """Return the ids of the records in a run folder."""
    return {record["id"] for record in records.load(out / "records.jsonl")}


def local(
    jobs: Sequence[Job],
    *,
    workers: int = 1,
    device: str | None,
    needs: Callable[[Job], float] | None = None,
    threads: int | None = None,
    **options: Any,
) -> list[int]:
    """Execute runs on this machine, `workers` of them side by side; return how each ended.

    One worker runs them here, one after the other; several give each run a process of its own.
    Without a `device` it is cuda if there is a GPU. A run that `needs` more seconds than remain at
    its turn is skipped. Each run has `threads` threads (default: its share of the cores). `options`
    are those of `execute`: out, deadline, interval, capture.
    """
    stop, children = threading.Event(), set()
    options["device"] = device or auto_device()
    if options.get("capture") and options["device"] != "cuda":
        raise ValueError("--capture: a CUDA graph is of a GPU, and the runs go to the CPU.")
    if device == "cuda" and time.time() < options["deadline"] and auto_device() != "cuda":
        raise ValueError("--device cuda: torch finds no GPU on this machine; leave the option out.")
    workers = min(workers, len(jobs)) or 1
    alone = workers == 1
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), **os.environ}
    if threads is not None:
        environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        if alone:
            import torch

            torch.set_num_threads(threads)

    def work(job: Job) -> int:
        need = needs(job) if needs else 0.0
        if stop.is_set() or time.time() + need >= options["deadline"]:
            return UNFINISHED
        if alone:
            end = here(job, board, stop, options)
        else:
            end = _child(_command(job, options), job, environment, board, stop, children)
        board.end(job, end)
        return end

    def halt() -> None:
        stop.set()
        if os.name != "nt":  # there, Ctrl-C reaches the children too, and terminate() kills
            for child in list(children):
                child.terminate()

    with Board(len(jobs), PARENT not in os.environ) as board, on_signals(halt):
        if alone:
            return [work(job) for job in jobs]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(work, jobs))


def auto_device() -> str:
    """Return "cuda" if there is a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def here(job: Job, board: Board, stop: threading.Event, options: dict[str, Any]) -> int:
    """Execute one run in this process; a child prints its progress for the parent to show."""

    def tell(text: str) -> None:
        if PARENT not in os.environ:
            board.show(job, text)
            return
        with contextlib.suppress(OSError):  # Run.out_of_time notices that the parent has gone
            print(text, flush=True)

    return attempt(job, stop=stop, report=tell, **options)


def attempt(job: Job, **options: Any) -> int:
    """Call `execute`; if it raises, report that on stderr and return FAILED."""
    try:
        return execute(*job, **options)
    except OSError as error:  # no data, no network, a full disk: the message says it all
        say(f"{label(job)}: {error}")
        return FAILED
    except Exception:
        traceback.print_exc()
        return FAILED


def _child(
    command: list[str],
    job: Job,
    environment: dict[str, str],
    board: Board,
    stop: threading.Event,
    children: set[subprocess.Popen],
) -> int:
    """Execute one run in a process of its own."""
    environment = {**environment, PARENT: str(os.getpid())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        children.add(child)
        if stop.is_set():
            child.terminate()
        for line in child.stdout or ():
            board.show(job, line.strip())
    children.discard(child)
    if stop.is_set() and child.returncode == -signal.SIGTERM:  # before it could listen
        return UNFINISHED
    return child.returncode if child.returncode in (FINISHED, UNFINISHED) else FAILED


def _command(job: Job, options: dict[str, Any]) -> list[str]:
    """Return the command for one run alone, within the remaining time."""
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


def label(job: Job) -> str:
    """Return the name of a run for messages."""
    return f"{job[0].name} seed {job[1]}"


class Board:
    """Show the current runs: a line each below a bar, or messages if stderr is not a terminal.

    A context manager; its methods may be called from several threads.
    """

    EVERY = 30.0  # seconds between two sentences on one run

    def __init__(self, total: int, shown: bool = True) -> None:
        self.terminal = shown and sys.stderr.isatty()
        self.sentences = shown and not self.terminal
        self.bar = tqdm(total=total, unit="run", disable=not self.terminal)
        self.total, self.done, self.lock = total, 0, threading.Lock()
        self.lines: dict[str, tqdm] = {}
        self.said: dict[str, float] = {}

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *error: object) -> None:
        for line in [*self.lines.values(), self.bar]:
            line.close()

    def show(self, job: Job, text: str) -> None:
        """Show the latest report of a run."""
        name, now = label(job), time.monotonic()
        with self.lock:
            if self.terminal:
                if name not in self.lines:
                    self.lines[name] = tqdm(
                        total=0, position=self._place(), bar_format="{desc}", leave=False
                    )
                width = shutil.get_terminal_size().columns - 1
                self.lines[name].set_description_str(f"{name}: {text}"[:width])
            elif self.sentences and now - self.said.get(name, float("-inf")) >= self.EVERY:
                self.said[name] = now
                say(f"{name}: {text}")

    def _place(self) -> int:
        """Return the first free line below the bar."""
        taken = {-line.pos for line in self.lines.values()}
        return next(place for place in range(1, len(taken) + 2) if place not in taken)

    def end(self, job: Job, end: int) -> None:
        """Report that a run has ended."""
        with self.lock:
            if (line := self.lines.pop(label(job), None)) is not None:
                line.close()
            self.bar.update(end == FINISHED)
            self.done += end == FINISHED
            if self.sentences and end == FINISHED:
                say(f"{label(job)}: finished, {self.done} of {self.total}.")


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
