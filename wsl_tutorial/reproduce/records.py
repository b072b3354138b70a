"""Make, check, store and publish records: one JSON line for each finished run."""

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
TEXTS = {"commit": str | None, "device": str, "utc": str}  # of the provenance


def make(experiment: Experiment, metrics: dict[str, float], run: Any) -> dict[str, Any]:
    """Make the record of a finished `runner.Run`."""
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
        "seconds": run.total_seconds(),
        "peak_memory_mb": run.peak_memory(),
        "provenance": provenance(experiment, run),
    }
    validate(record)
    return record


def _finite(point: dict[str, Any], where: str, notes: list[str]) -> dict[str, float | None]:
    """Return plain numbers; one that is not finite becomes None and a note (JSON has no NaN)."""
    numbers: dict[str, float | None] = {}
    for name, value in point.items():
        number = value if isinstance(value, int) else float(value)
        numbers[name] = number if math.isfinite(number) else None
        if numbers[name] is None:
            notes.append(f"{where}: {name} was {number}")
    return numbers


def provenance(experiment: Experiment, run: Any) -> dict[str, Any]:
    """Return where a number comes from: code, libraries, device, data and date."""
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
    """Return commit and dirty flag of the package's checkout; else ($WSL_COMMIT or pip's, None)."""

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
    """Return the CPU's model name."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def validate(record: Any) -> None:
    """Raise ValueError if a record is incomplete or contradicts itself."""
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
    if wrong := [name for name, kind in TEXTS.items() if not isinstance(origin[name], kind)]:
        raise ValueError(f"record: {', '.join(wrong)} of the provenance is not text.")
    if not isinstance(origin.get("processes", 1), int):
        raise ValueError("record: processes of the provenance is not a number.")


def parse(path: Path) -> tuple[list[dict], list[tuple[int, bytes, str]]]:
    """Read the records of a file, and its other lines as (line number, line, what is wrong)."""
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
            encode(record)  # refuses NaN, infinity and invalid text
            good.append(record)
        except (ValueError, RecursionError) as error:
            bad.append((number, line, str(error)))
    return good, bad


def load(path: Path, repair: bool = True) -> list[dict]:
    """Load the records of a file; name other lines on stderr and move them to *.corrupt."""
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
    """Return a record as its line in a file."""
    return (json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n").encode()


def append(path: Path, record: dict) -> None:
    """Append a record under the file's lock, completely or not at all, unless its id is there."""
    with hold(path.with_suffix(".lock")):
        if record["id"] in {other["id"] for other in parse(path)[0]}:
            return
        with open(path, "a+b", buffering=0) as file:
            size, line = file.seek(0, os.SEEK_END), encode(record)
            try:
                file.seek(max(0, size - 1))
                if file.read(1) not in (b"", b"\n"):
                    line = b"\n" + line
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    file.truncate(size)
                raise


def published(folder: Path = PUBLISHED) -> list[dict]:
    """Load the records that come with the package."""
    paths = sorted(folder.glob("*.jsonl"))
    return [record for path in paths for record in load(path, repair=False)]


def publish(source: Path, allow_dirty: bool = False, folder: Path = PUBLISHED) -> int:
    """Copy records of a run folder into another folder (default: the package's); count the new.

    Each refused record is named on stderr with the reason, see `refusal`. Raises ValueError if
    `source` has no records or `folder` cannot be written to, and, after publishing the others, if
    some records come from code outside any commit (`allow_dirty` takes these too).
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
            lines = [line + b"\n" for _, line, _ in other]  # not records, so not ours to remove
            _write(path, b"".join([*lines, *map(encode, there.values())]))
        count += len(fresh)
    for why, ids in refused.items():
        say(f"not taken, as {why}: {', '.join(ids)}")
    if unknown := len(refused[UNKNOWN]):
        raise ValueError(
            f"records: {unknown} from uncommitted or unknown code, {count} others published; "
            "commit and run again, or pass --allow-dirty."
        )
    return count


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}.") from None


UNKNOWN = "their code is in no commit"


def refusal(record: dict, there: Mapping[str, dict], allow_dirty: bool = False) -> str | None:
    """Return why a record must not join the published ones, or None if it may."""
    origin, protocol = record["provenance"], record["protocol"]
    if protocol == "smoke":
        return "the protocol smoke is no evidence"
    if record["id"] in there:
        same = there[record["id"]] == record
        return f"{'they' if same else 'other runs with the same settings'} are published already"
    experiments = {e.name: e for paper in papers() for e in paper.experiments}
    experiment = experiments.get(record["experiment"])
    if experiment is None:
        return f"there is no experiment {record['experiment']}"
    if protocol != "paper" and protocol not in experiment.protocols:
        return f"{experiment.name} has no protocol {protocol} now"
    both = plain(experiment.settings(protocol)), record["config"]
    now, then = ({k: json.dumps(v, sort_keys=True) for k, v in c.items()} for c in both)
    names = sorted(k for k in now.keys() | then.keys() if now.get(k) != then.get(k))
    if names:
        return f"the config of {experiment.name} is another now ({', '.join(names)})"
    if (origin["dirty"] or not origin["commit"]) and not allow_dirty:
        return UNKNOWN
    return None


@contextlib.contextmanager
def hold(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold a file lock, which the system releases if the process dies; yield whether we got it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=-1 if wait else 0)
    with contextlib.suppress(Timeout):
        lock.acquire()
    try:
        yield lock.is_locked
    finally:
        lock.release()


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file so that a reader, even after a kill, finds all of the old or the new one."""
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
    """Print one sentence on stderr."""
    print(f"reproduce: {sentence}", file=sys.stderr, flush=True)
