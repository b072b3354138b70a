"""The ledger: every number the papers print, and the rule that judges ours against it."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .experiment import Paper

CSV = Path(__file__).parents[1] / "results" / "paper-values.csv"
COLUMNS = "id,paper,table,method,data,metric,value,sd,unit,runs,note"
KEYS = {
    "mcmil": "Li 2018 (presence)",
    "mist": "Angles, Jin et al. 2021 (patches)",
    "minmax": "Belharbi et al. 2020 (regions)",
    "llp": "Baručić & Kybic 2022 (counts)",
}
STATES = ("reproduced", "better", "worse", "holds", "fails", "not run", "not written yet")


@dataclass(frozen=True)
class Row:
    """One number of a paper; `printed` is the value as the paper prints it ("" where a figure)."""

    id: str
    paper: str
    table: str
    method: str
    data: str
    metric: str
    printed: str
    value: float | None
    sd: float | None
    unit: str
    runs: int | None
    note: str

    @property
    def decimals(self) -> int:
        """How many decimals the paper prints."""
        return len(self.printed.partition(".")[2])

    @property
    def rounding(self) -> float:
        """Half a unit of the last printed decimal."""
        return 0.5 * 10.0**-self.decimals


def load(path: Path = CSV) -> dict[str, Row]:
    """The ledger by id. Raises ValueError for wrong columns, repeated ids, unknown papers."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if ",".join(reader.fieldnames or []) != COLUMNS:
            raise ValueError(f"ledger: columns {reader.fieldnames}, not {COLUMNS}.")
        rows = [_row(line) for line in reader]
    ledger = {row.id: row for row in rows}
    if len(ledger) < len(rows):
        raise ValueError(f"ledger: {len(rows) - len(ledger)} ids in {path.name} are repeated.")
    return ledger


def _row(line: dict[str, str]) -> Row:
    if line["paper"] not in KEYS or line["id"].rpartition("-")[0] != line["paper"]:
        raise ValueError(f"ledger: id {line['id']!r} of paper {line['paper']!r} is unknown.")
    lower_is_better(line["metric"])
    texts = {
        k: line[k] for k in ("id", "paper", "table", "method", "data", "metric", "unit", "note")
    }
    return Row(
        **texts,
        printed=line["value"],
        value=float(line["value"]) if line["value"] else None,
        sd=float(line["sd"]) if line["sd"] else None,
        runs=int(line["runs"]) if line["runs"] else None,
    )


def lower_is_better(metric: str) -> bool:
    """Errors, times and epochs: lower. Accuracies, overlaps and precisions: higher."""
    words = metric.lower().replace(",", " ").split()
    if {"error", "rmse", "seconds", "time", "epochs"} & set(words):
        return True
    if {"accuracy", "iou", "ap", "auc", "precision", "recall", "f1", "f1+", "f1-"} & set(words):
        return False
    if metric in ("classification", "both"):
        return False
    raise ValueError(f"metric: is lower or higher better for {metric!r}?")


class Verdict(NamedTuple):
    """`ours` and `sd` summarise the seeds; `gap` is ours - paper, `tolerance` what it may be."""

    state: str
    ours: float | None
    sd: float | None
    gap: float | None
    tolerance: float


def summary(values: Mapping[int, float | None], rule: str) -> tuple[float | None, float | None]:
    """One number over the seeds by a cell's rule, and the standard deviation over all seeds."""
    finite = [value for value in values.values() if value is not None]
    sd = statistics.stdev(finite) if len(finite) > 1 else None
    if rule.startswith("seed:"):
        return values.get(int(rule[5:])), sd
    reduce = {"mean": statistics.fmean, "min": min, "max": max}[rule]
    return (reduce(finite) if finite else None), sd


def verdict(
    paper: float,
    paper_sd: float | None,
    rounding: float,
    values: Mapping[int, float | None],
    lower: bool,
    rule: str = "mean",
) -> Verdict:
    """Eq. (4.1): the verdict on our seeds against a printed value.

    *Reproduced*: ours differs from the paper's value by no more than the larger of the rounding of
    that value and the sum of the two standard deviations (the paper's printed ±, and ours over the
    seeds; each 0 where there is none). Otherwise *better* or *worse*. A mean over seeds of which
    some gave no finite value (None) is *worse*, and so is a rule that is left with no value.
    """
    ours, sd = summary(values, rule)
    tolerance = max(rounding, (paper_sd or 0.0) + (sd or 0.0))
    lost = rule == "mean" and None in values.values()
    if ours is None or lost:
        return Verdict("worse", ours, sd, None if ours is None else ours - paper, tolerance)
    gap = ours - paper
    if abs(gap) <= tolerance + 1e-9:
        state = "reproduced"
    else:
        state = "better" if (gap < 0) == lower else "worse"
    return Verdict(state, ours, sd, gap, tolerance)


def check(papers: Sequence[Paper], ledger: Mapping[str, Row]) -> None:
    """Raise ValueError where the experiments and the ledger do not fit together."""
    seen: set[str] = set()
    for paper in papers:
        names = {experiment.name for experiment in paper.experiments}
        cells = [cell for experiment in paper.experiments for cell in experiment.cells]
        for name in names:
            if not name.startswith(f"{paper.key}/"):
                raise ValueError(f"experiment: {name!r} does not begin with '{paper.key}/'.")
        if len(names) < len(paper.experiments):
            raise ValueError(f"experiment: two of {paper.key} have one name.")
        for identity in [*(cell.id for cell in cells), *paper.quoted]:
            if identity not in ledger or ledger[identity].paper != paper.key:
                raise ValueError(f"cell: {identity!r} is no ledger id of {paper.key}.")
            if identity in seen:
                raise ValueError(f"cell: {identity!r} is filled twice.")
            seen.add(identity)
        for cell in cells:
            if cell.rule not in ("mean", "min", "max") and not cell.rule[5:].isdecimal():
                raise ValueError(f"cell: {cell.id} has the unknown rule {cell.rule!r}.")
            if ledger[cell.id].value is None and cell.claim is None:
                raise ValueError(f"cell: {cell.id} has no printed value and needs a claim.")
        for claim in paper.claims:
            if missing := set(claim.experiments) - names:
                raise ValueError(f"claim: {claim.id} names unknown experiments {sorted(missing)}.")
