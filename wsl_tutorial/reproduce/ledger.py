"""Read the ledger: the numbers that the papers print, and which metric of ours answers each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .evidence import REDUCE, VERDICTS, State, only_seed, summary, verdict  # noqa: F401
from .experiment import Cell, Paper

CSV = Path(__file__).parents[1] / "results" / "paper-values.csv"
COLUMNS = "id,paper,table,method,data,measure,value,sd,unit,better,experiment,metric,rule,runs,note"
STATES = (*VERDICTS, State.NO_VERDICT, State.NOT_RUN, State.NOT_WRITTEN)


@dataclass(frozen=True)
class Row:
    """One number of a paper; `printed` is the value as the paper prints it ("" in a figure).

    `paper` is the key of the paper; `id` is a name and no more. `measure` is the paper's word.
    `metric` is the key of our records that answers it, in the runs of `experiment`, by `rule` (see
    `Cell`); all three are "" if no run of ours answers it.
    """

    id: str
    paper: str
    table: str
    method: str
    data: str
    measure: str
    printed: str
    value: float | None
    sd: float | None
    unit: str
    better: str
    experiment: str
    metric: str
    rule: str
    runs: int | None
    note: str

    @property
    def lower(self) -> bool:
        """Return whether lower is better."""
        return self.better == "lower"

    @property
    def number(self) -> float:
        """Return the printed number. Raises ValueError if the paper prints none."""
        if self.value is None:
            raise ValueError(f"{self.id}: the paper prints no number")
        return self.value

    @property
    def decimals(self) -> int:
        """Return the number of decimals that the paper prints."""
        return len(self.printed.partition(".")[2])

    @property
    def rounding(self) -> float:
        """Return half a unit of the last printed decimal."""
        return 0.5 * 10.0**-self.decimals


def load(path: Path | None = None) -> dict[str, Row]:
    """Return the ledger (default: CSV) by id.

    Raises ValueError for wrong columns, repeated ids and unknown directions.
    """
    return _load(path or CSV)


def paper_keys() -> list[str]:
    """Return the keys of the papers in the order of the ledger."""
    return list(dict.fromkeys(row.paper for row in load().values()))


@lru_cache
def _load(path: Path) -> dict[str, Row]:
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
    if line["better"] not in ("lower", "higher"):
        raise ValueError(
            f"ledger: better is {line['better']!r} in {line['id']}, not lower or higher."
        )
    texts = {k: v for k, v in line.items() if k not in ("value", "sd", "runs")}
    return Row(
        **texts,
        printed=line["value"],
        value=float(line["value"]) if line["value"] else None,
        sd=float(line["sd"]) if line["sd"] else None,
        runs=int(line["runs"]) if line["runs"] else None,
    )


def cells(experiment: str, claims: Mapping[str, Callable] | None = None) -> tuple[Cell, ...]:
    """Return the cells of an experiment, as the ledger has them; `claims` are by metric."""
    return tuple(
        Cell(row.id, row.metric, row.rule, (claims or {}).get(row.metric))
        for row in load().values()
        if row.experiment == experiment
    )


def check(papers: Sequence[Paper], ledger: Mapping[str, Row]) -> None:
    """Raise ValueError if the experiments and the ledger do not fit together."""
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
            if cell.rule not in REDUCE and only_seed(cell.rule) is None:
                raise ValueError(f"cell: {cell.id} has the unknown rule {cell.rule!r}.")
            if ledger[cell.id].value is None and cell.claim is None:
                raise ValueError(f"cell: {cell.id} has no printed value and needs a claim.")
        for claim in paper.claims:
            if missing := set(claim.experiments) - names:
                raise ValueError(f"claim: {claim.id} names unknown experiments {sorted(missing)}.")
