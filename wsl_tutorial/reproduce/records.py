"""Records: one JSON line a finished run, and the files that hold them."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import math
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from . import papers
from .experiment import PROTOCOLS, Experiment, plain, record_id

PACKAGE = Path(__file__).parents[1]
PUBLISHED = PACKAGE / "results" / "runs"
CURVE_POINTS = 60
FIELDS = {
    "id": str,
    "experiment": str,
    "method": str,
    "seed": int,
    "protocol": str,
    "config": dict,
    "deviations": list,
    "metrics": dict,
    "curve": list,
    "notes": list,
    "seconds": (int, float),
    "peak_memory_mb": (int, float),
    "provenance": dict,
}
PROVENANCE = ("version", "commit", "dirty", "torch", "cuda", "device", "threads", "data", "utc")
TEXTS = ("commit", "device", "utc")  # of the provenance: strings or null


def make(experiment: Experiment, metrics: dict[str, float], run: Any) -> dict[str, Any]:
    """The record of a finished `runner.Run`."""
    config = plain(experiment.settings(run.protocol))
    notes: list[str] = []
    step = max(1, math.ceil((len(run.curve) - 1) / (CURVE_POINTS - 1)))
    curve = run.curve[::step]
    if run.curve and curve[-1] is not run.curve[-1]:
        curve.append(run.curve[-1])
    record = {
        "id": record_id(experiment.name, run.seed, run.protocol, config),
        "experiment": experiment.name,
        "method": experiment.method,
        "seed": run.seed,
        "protocol": run.protocol,
        "config": config,
        "deviations": experiment.departures(run.protocol),
        "metrics": _finite(metrics, "metrics", notes),
        "curve": [_finite(point, "curve", notes) for point in curve],
        "notes": sorted(set(notes)),
        "seconds": round(run.total_seconds(), 3),
        "peak_memory_mb": round(run.peak_memory(), 1),
        "provenance": provenance(experiment, run),
    }
    validate(record)
    return record


def _finite(point: dict[str, Any], where: str, notes: list[str]) -> dict[str, float | None]:
    """Plain numbers; what is not finite becomes None and a note (JSON knows no NaN)."""
    numbers: dict[str, float | None] = {}
    for name, value in point.items():
        number = value if isinstance(value, int) else float(value)
        numbers[name] = number if math.isfinite(number) else None
        if numbers[name] is None:
            notes.append(f"{where}: {name} was {number}")
    return numbers


def provenance(experiment: Experiment, run: Any) -> dict[str, Any]:
    """Where a number comes from: code, libraries, device, data and date."""
    import torch

    from .. import data, train

    names = experiment.data if run.protocol != "smoke" else ()
    commit, dirty = commit_and_dirty()
    return {
        "version": metadata.version("wsl-tutorial"),
        "commit": commit,
        "dirty": dirty,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "device": torch.cuda.get_device_name() if run.device == "cuda" else cpu_name(),
        "threads": torch.get_num_threads(),
        "backend": run.device,
        "captured": run.captured,
        "processes": train.processes()[1],
        "peak_memory_of": "run" if run.own_peak else "process",
        "data": {name: data.checksums(name) for name in names if data.available(name)},
        "utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def commit_and_dirty() -> tuple[str | None, bool | None]:
    """Commit and dirty flag of the package's checkout; else ($WSL_COMMIT or pip's, None)."""

    def git(*words: str) -> str | None:
        done = subprocess.run(["git", *words], cwd=PACKAGE, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    with contextlib.suppress(OSError):  # no git on this machine
        if git("ls-files", "--error-unmatch", "__init__.py") and (head := git("rev-parse", "HEAD")):
            return head, git("status", "--porcelain", "--", ".", ":!results") != ""
    if os.environ.get("WSL_COMMIT"):
        return os.environ["WSL_COMMIT"], None
    origin = metadata.distribution("wsl-tutorial").read_text("direct_url.json") or "{}"
    return json.loads(origin).get("vcs_info", {}).get("commit_id"), None


def cpu_name() -> str:
    """The CPU's model name."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def validate(record: Any) -> None:
    """Raise ValueError where a record is not whole and consistent."""
    if not isinstance(record, dict) or set(record) != set(FIELDS):
        raise ValueError("record: its fields are not those of a record.")
    for name, kind in FIELDS.items():
        if not isinstance(record[name], kind):
            raise ValueError(f"record: {name} is a {type(record[name]).__name__}.")
    if record["protocol"] not in PROTOCOLS:
        raise ValueError(f"record: unknown protocol {record['protocol']!r}.")
    if missing := [key for key in PROVENANCE if key not in record["provenance"]]:
        raise ValueError(f"record: the provenance lacks {', '.join(missing)}.")
    keys = (record[key] for key in ("experiment", "seed", "protocol", "config"))
    if record["id"] != record_id(*keys):
        raise ValueError(f"record: the id {record['id']} does not fit its config.")
    if len(record["curve"]) > CURVE_POINTS:
        raise ValueError(f"record: a curve of {len(record['curve'])} points.")
    points = [record["metrics"], *record["curve"]]
    if not all(isinstance(point, dict) for point in points):
        raise ValueError("record: the points of its curve are not objects.")
    for point in points:
        if not all(value is None or isinstance(value, int | float) for value in point.values()):
            raise ValueError("record: metrics and curve hold numbers or null.")
    origin = record["provenance"]
    if not all(isinstance(text, str) for text in [*record["deviations"], *record["notes"]]):
        raise ValueError("record: deviations and notes hold texts.")
    if wrong := [name for name in TEXTS if not isinstance(origin[name], str | None)]:
        raise ValueError(f"record: {', '.join(wrong)} of the provenance is no text.")
    if not isinstance(origin.get("processes", 1), int):
        raise ValueError("record: processes of the provenance is no number.")


def parse(path: Path) -> tuple[list[dict], list[tuple[int, bytes, str]]]:
    """The records of a file, and its other lines as (line number, line, what is wrong)."""
    good, bad = [], []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return good, bad
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            validate(record)
            encode(record)  # refuses NaN, infinity and what is no text
            good.append(record)
        except (ValueError, RecursionError) as error:
            bad.append((number, line, str(error)))
    return good, bad


def load(path: Path, repair: bool = True) -> list[dict]:
    """The records of a file; other lines are named on stderr and moved to *.corrupt."""
    good, bad = parse(path)
    if not bad:
        return good
    for number, _, why in bad:
        what = "is set aside" if repair else "is left out"
        say(f"{path} line {number} is not a record and {what}: {why}")
    if repair:
        try:
            with hold(path.with_suffix(".lock")):
                good, bad = parse(path)
                with open(path.with_name(path.name + ".corrupt"), "ab") as file:
                    file.write(b"".join(line + b"\n" for _, line, _ in bad))
                write_whole(path, b"".join(encode(record) for record in good))
        except OSError as error:
            say(f"{path} keeps these lines ({error.strerror}).")
    return good


def encode(record: dict) -> bytes:
    """A record as its line."""
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def append(path: Path, record: dict) -> None:
    """Add a record under the file's lock, all of it or nothing, unless its id is there already."""
    with hold(path.with_suffix(".lock")):
        if record["id"] in {other["id"] for other in parse(path)[0]}:
            return
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        size, line = os.fstat(file).st_size, encode(record)
        try:
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, size)
            raise
        finally:
            os.close(file)


def published(folder: Path = PUBLISHED) -> list[dict]:
    """The records that travel with the package."""
    paths = sorted(folder.glob("*.jsonl"))
    return [record for path in paths for record in load(path, repair=False)]


def publish(source: Path, allow_dirty: bool = False, folder: Path = PUBLISHED) -> int:
    """Copy records of a run folder into another folder (default: the package's); count the new.

    Each record that is not taken is named on stderr, with the reason: see `refusal`. Raises
    ValueError where `source` has no records, `folder` cannot be written to, or, after the others
    were taken, where the code of some is not known to a commit (`allow_dirty` takes these too).
    """
    if not (source / "records.jsonl").is_file():
        raise ValueError(f"folder: {source} holds no records.jsonl.")
    found: dict[str, list[dict]] = defaultdict(list)
    for record in load(source / "records.jsonl", repair=False):
        found[record["experiment"].partition("/")[0]].append(record)
    count, refused = 0, defaultdict(dict)
    for key, candidates in sorted(found.items()):
        path, fresh = folder / f"{key}.jsonl", {}
        held, other = parse(path)
        there = {record["id"]: record for record in held}
        for record in candidates:
            why = refusal(record, there, allow_dirty)
            if why is None:
                fresh[record["id"]] = there[record["id"]] = record
            elif record["id"] not in fresh:
                refused[why][record["id"]] = None
        if fresh:
            lines = [line + b"\n" for _, line, _ in other]  # no records, and not ours to remove
            _write(path, b"".join([*lines, *map(encode, there.values())]))
        count += len(fresh)
    for why, ids in refused.items():
        say(f"not taken, as {why}: {', '.join(ids)}")
    if unknown := len(refused[UNKNOWN]):
        raise ValueError(
            f"records: {unknown} come from uncommitted or unknown code, {count} others are new "
            "there; commit and run again, or pass --allow-dirty."
        )
    return count


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}.") from None


UNKNOWN = "no commit holds their code"


def refusal(record: dict, there: Mapping[str, dict], allow_dirty: bool = False) -> str | None:
    """Return why a record is not published beside those that are there, or None where it is."""
    origin, protocol = record["provenance"], record["protocol"]
    if protocol == "smoke":
        return "the protocol smoke is no evidence"
    if record["id"] in there:
        same = there[record["id"]] == record
        return "they are there" if same else "other runs with the same settings are there"
    experiments = {e.name: e for paper in papers() for e in paper.experiments}
    experiment = experiments.get(record["experiment"])
    if experiment is None:
        return f"there is no experiment {record['experiment']}"
    if protocol != "paper" and protocol not in experiment.protocols:
        return f"{experiment.name} has no protocol {protocol} now"
    now, then = plain(experiment.settings(protocol)), record["config"]
    names = sorted(k for k in now.keys() | then.keys() if k not in then or now.get(k) != then[k])
    if names:
        return f"the config of {experiment.name} is another now ({', '.join(names)})"
    if (origin["dirty"] or not origin["commit"]) and not allow_dirty:
        return UNKNOWN
    return None


@contextlib.contextmanager
def hold(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a file lock, which dies with its process; yields whether it was got."""
    import fcntl  # POSIX only

    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader, or a kill, sees the old one or the new one, never a part."""
    part = path.with_name(path.name + ".part")
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
