"""Runs experiments so that they can be stopped, killed and resumed."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from pathlib import Path
from typing import Any


class Interrupted(Exception):
    """Raised by an experiment after its last checkpoint, when `Run.out_of_time()` is true."""


class Run:
    """What an experiment is given: where it runs, and how it saves, logs and stops.

    Attributes: `device` ("cuda" or "cpu"), `seed`, `protocol`, `curve` (the points logged so far).
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
    ) -> None:
        self.seed, self.protocol, self.device = seed, protocol, device
        self.folder = None if folder is None else Path(folder)
        self.deadline, self.interval = deadline, interval
        self.curve: list[dict[str, float]] = []
        self.seconds, self.peak = 0.0, 0.0  # of the sittings before this one
        self.stopped = False  # set by a signal
        self.started = self.saved = time.monotonic()

    def log(self, **point: float) -> None:
        """Add one point to the curve; points after the last checkpoint go with a kill."""
        self.curve.append(point)

    def due(self) -> bool:
        """Whether it is time for a checkpoint (always, once out of time)."""
        return time.monotonic() - self.saved >= self.interval or self.out_of_time()

    def out_of_time(self) -> bool:
        """Whether the budget is spent or a signal asked to stop: checkpoint, raise Interrupted."""
        return self.stopped or time.time() >= self.deadline

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
        """The state of the last checkpoint, or None. A corrupt one is set aside and named."""
        path = None if self.folder is None else self.folder / "checkpoint.pt"
        if path is None or not path.exists():
            return None
        import torch

        try:
            held = torch.load(path, map_location=self.device, weights_only=True)
            state, self.curve = held["state"], held["curve"]
            self.seconds, self.peak = held["seconds"], held["peak"]
        except Exception as error:
            os.replace(path, path.with_suffix(".pt.corrupt"))
            say(f"checkpoint {path} is corrupt ({type(error).__name__}); moved to *.corrupt.")
            return None
        torch.set_rng_state(held["rng"].cpu())
        if self.device == "cuda" and held["rng_cuda"]:
            torch.cuda.set_rng_state_all([s.cpu() for s in held["rng_cuda"]])
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


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one, never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def say(sentence: str) -> None:
    """One sentence on stderr."""
    print(f"reproduce: {sentence}", file=sys.stderr, flush=True)
