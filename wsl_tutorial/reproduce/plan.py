"""Order the runs by worth, and estimate the cost of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from . import tables
from .evidence import Records
from .experiment import PROTOCOLS, Experiment

DESK = 100 * 60.0  # seconds that the protocol `desk` allows a seed
ORDER = "most ledger cells per hour first, further seeds of an experiment last"


class Step(NamedTuple):
    """One run of a plan: `cells` it would fill, `seconds` (None: not known) and their `basis`."""

    experiment: Experiment
    seed: int
    protocol: str
    cells: int
    seconds: float | None
    basis: str

    @property
    def job(self) -> tuple[Experiment, int, str]:
        """Return the run as the engines take it."""
        return self.experiment, self.seed, self.protocol


def measured(experiment: Experiment, protocol: str, device: str, held: Records) -> float | None:
    """Return the mean seconds of an experiment's current records from one kind of device."""
    seconds = [
        r["seconds"]
        for r in tables.current(experiment, protocol, held)
        if r["provenance"].get("backend", "cpu") == device
    ]
    return fmean(seconds) if seconds else None


def cost(
    experiment: Experiment, protocol: str, device: str, held: Records
) -> tuple[float | None, str]:
    """Return the seconds of one seed (None: not known), and their basis.

    Measured seconds come first, then the limit of the protocol `desk`; on a GPU and under the
    paper's protocol, the estimate of the experiment.
    """
    if (seconds := measured(experiment, protocol, device, held)) is not None:
        return seconds, "measured"
    if protocol == "desk":
        return DESK, "at most"
    if experiment.gpu_minutes and device == "cuda" and protocol == "paper":
        return 60 * experiment.gpu_minutes, "stated"
    return None, "not known"


def order(
    experiments: Iterable[Experiment],
    seeds: Sequence[int] | None,
    protocol: str,
    device: str,
    held: Records,
) -> list[Step]:
    """Return the runs that have no record yet, by worth, highest first: see `ORDER`.

    `seeds` default to those of each experiment. A run fills the cells of its experiment for which
    `held` has no record under this protocol or a stronger one. Runs of equal worth keep the given
    order; a run of unknown cost has worth 0. Experiments without the protocol are left out.
    """
    stronger = PROTOCOLS[: PROTOCOLS.index(protocol) + 1]
    ranked = []
    for e in experiments:
        if protocol != "paper" and protocol not in e.protocols:
            continue
        there = {p: {r["seed"] for r in tables.current(e, p, held)} for p in stronger}
        seconds, basis = cost(e, protocol, device, held)
        worth = 0.0 if seconds is None else len(e.cells) / max(seconds, 1.0)
        left = [s for s in (range(e.seeds) if seeds is None else seeds) if s not in there[protocol]]
        for turn, seed in enumerate(left, len(there[protocol])):
            further = max(turn, any(there.values()))
            cells = 0 if further else len(e.cells)
            ranked.append((further, -worth, Step(e, seed, protocol, cells, seconds, basis)))
    return [step for *_, step in sorted(ranked, key=lambda row: row[:2])]


def remains(steps: Sequence[Step], seconds: Sequence[float | None], workers: int = 1) -> str:
    """Return the remaining runs and their cost: a line an experiment, and the sum.

    `seconds` (None: not known) are the time that each run still takes.
    """
    from .runner import duration

    if not steps:
        return "nothing of this plan remains.\n"
    groups: dict[str, list[int]] = {}
    for i, step in enumerate(steps):
        groups.setdefault(step.experiment.name, []).append(i)
    rows: list[tuple[object, ...]] = [("remaining", "seeds", "new cells", "time", "which is")]
    for name, of in groups.items():
        known = [s for i in of if (s := seconds[i]) is not None]
        numbers = ", ".join(str(steps[i].seed) for i in of)
        cells = sum(steps[i].cells for i in of)
        rows.append(
            (name, numbers, cells, duration(sum(known)) if known else "?", steps[of[0]].basis)
        )
    known = [s for s in seconds if s is not None]
    total = f"runs that remain: {len(steps)}, {duration(sum(known))}"
    total += f" ({duration(sum(known) / workers)} on {workers} jobs)" if workers > 1 else ""
    if unknown := len(steps) - len(known):
        total += f", without {unknown} of unknown cost"
    return f"{_columns(rows)}{total}.\n"


def _columns(rows: Sequence[Sequence[object]]) -> str:
    """Return rows as text in columns."""
    widths = [max(len(str(row[k])) for row in rows) for k in range(len(rows[0]))]
    lines = ("  ".join(f"{c!s:{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
    return "".join(line.rstrip() + "\n" for line in lines)
