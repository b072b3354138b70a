"""Add up what all runs cost: GPU hours, recorded or estimated, and peak memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from enum import StrEnum
from operator import add

from . import ledger, papers, tables
from .evidence import Records
from .experiment import Experiment, Why, settings_of


class Basis(StrEnum):
    """Name the basis of a number of GPU hours."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    EXTRAPOLATED = "extrapolated"
    UNKNOWN = "not known"


HEAD = (
    *("paper", "data", "source of the hours", "experiments", "runs", "GPU hours"),
    "GPU hours for printed numbers",
)


def cost(experiment: Experiment, held: Records) -> tuple[float, Basis]:
    """Return the GPU hours of all seeds under the paper's protocol, and their basis.

    *Measured*: the mean of the records made on GPUs, for every seed. *Estimated*: stated by the
    experiment. *Extrapolated*: stated from runs on other data, where its own data are missing.
    """
    found = tables.current(experiment, "paper", held)
    seconds = [
        r["seconds"] * r["provenance"].get("processes", 1)
        for r in found
        if r["provenance"].get("backend") == "cuda"
    ]
    if seconds:
        return experiment.seeds * sum(seconds) / len(seconds) / 3600, Basis.MEASURED
    if experiment.gpu_minutes is None:
        return 0.0, Basis.UNKNOWN
    far = experiment.not_run is Why.NO_DATA
    basis = Basis.EXTRAPOLATED if far else Basis.ESTIMATED
    return experiment.seeds * experiment.gpu_minutes / 60, basis


def markdown(held: Records) -> str:
    """Return a line for each paper, data and basis, the sums, and how many numbers are open."""
    lines: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
    sums: dict[tuple[str, ...], list[float]] = defaultdict(lambda: [0, 0, 0.0, 0.0])
    filled: set[str] = set()
    for paper in papers():
        filled |= set(tables.filled(paper)) | set(paper.quoted)
        for e in paper.experiments:
            hours, basis = cost(e, held)
            name = paper.name
            more = (1, e.seeds, hours, hours if e.cells else 0.0)
            data = ", ".join(e.data) or settings_of(e.config).get("dataset", "none")
            place = lines[name, data, basis]
            for row in (place, sums["all", "", basis]):
                row[:] = map(add, row, more)
    rows = [
        (*key, *row[:2], *(f"{h:.1f}" if key[2] != Basis.UNKNOWN else "?" for h in row[2:]))
        for key, row in (lines | sums).items()
    ]
    missing = len(ledger.load().keys() - filled)
    return f"{tables.grid(HEAD, rows)}\nPrinted numbers without an experiment: {missing}.\n"


def memory(held: Records) -> str:
    """Return a line for each paper, protocol and device: the run with the largest peak, in GB."""
    most: dict[tuple[str, ...], tuple[float, str]] = {}
    runs: Counter[tuple[str, ...]] = Counter()
    for r in held:
        device = "GPU" if r["provenance"].get("backend") == "cuda" else "CPU"
        key = (r["experiment"].partition("/")[0], r["protocol"], device)
        runs[key] += 1
        most[key] = max(most.get(key, (0.0, "")), (r["peak_memory_mb"], r["experiment"]))
    head = ("paper", "protocol", "device", "records", "largest peak, GB", "experiment")
    rows = [
        (
            paper.name,
            *key[1:],
            runs[key],
            f"{peak * 2**20 / 1e9:.1f}",
            f"`{name}`",
        )
        for paper in papers()
        for key, (peak, name) in sorted(most.items())
        if key[0] == paper.key
    ]
    return tables.grid(head, rows)
