"""What a reproduction is: papers, their experiments, and the ledger cells these fill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import nan, sqrt
from statistics import fmean, variance
from typing import Any

PROTOCOLS = ("paper", "desk", "short", "smoke")  # from the strongest evidence to the weakest
NO_GPU = "no GPU yet"  # why an experiment has not run
NO_DATA = "data not available to us"


def setting(value: Any, paper: Any, source: str, **before: Any) -> Any:
    """Return a field of a config: our value, the paper's, and where the paper's stands.

    A field that joins a config with records also gets `before`, the value that stands for the code
    without it: `plain` leaves the field out where it has this value, so old records keep their ids.
    """
    return field(default=value, metadata={"paper": paper, "source": source, **before})


@dataclass(frozen=True)
class Cell:
    """One ledger row filled by an experiment.

    `metric` is a key of the dict that `Experiment.run` returns. `rule` turns the seeds into one
    number: "mean", "min" or "max" (the best seed), or "seed:K" (the run of seed K alone).
    `claim` (records of one protocol -> holds?, one sentence) replaces the comparison of numbers;
    it is needed where the paper prints no value.
    """

    id: str
    metric: str
    rule: str = "mean"
    claim: Callable[[list[dict]], tuple[bool, str]] | None = None


@dataclass(frozen=True)
class Claim:
    """A statement of the paper that no single number holds, tested on records by experiment."""

    id: str
    paper: str
    text: str
    source: str
    experiments: tuple[str, ...]
    test: Callable[[dict[str, list[dict]]], tuple[bool, str]]

    @property
    def own(self) -> bool:
        """Whether it is a question of this book, and no sentence of the paper."""
        return self.source.startswith(("not in the paper", "ours"))


@dataclass(frozen=True)
class Experiment:
    """The settings of one group of cells, and the function that runs them for one seed.

    `config` is an instance of a frozen dataclass whose fields carry metadata "paper" and "source".
    `protocols` holds the fields that "desk", "short" and "smoke" replace; "paper" is `config` as it
    stands. Under "desk" only the recipe of training is ours; data, network, sizes and measures are
    the paper's.
    `run(config, seed, run)` returns the metrics; `run` is a `runner.Run`.
    `alone` says why processes cannot share its batches, as `train.fit` divides them; "": they can.
    """

    name: str
    title: str
    method: str
    config: Any
    run: Callable[[Any, int, Any], dict[str, float]]
    cells: tuple[Cell, ...]
    seeds: int
    data: tuple[str, ...] = ()
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    cost: str = ""
    not_run: str = ""
    alone: str = "its loss is not known to be a mean over the elements of a batch"

    def settings(self, protocol: str) -> Any:
        """The config under a protocol. Raises ValueError for a protocol it does not have."""
        if protocol == "paper":
            return self.config
        if protocol not in self.protocols:
            have = ", ".join(["paper", *self.protocols])
            raise ValueError(f"protocol: {self.name} has no {protocol!r}, only {have}.")
        return dataclasses.replace(self.config, **self.protocols[protocol])

    def reason(self, protocol: str) -> str:
        """Why a protocol has no record; a smaller one than the paper's waits for no GPU."""
        applies = protocol not in self.protocols or self.not_run != NO_GPU
        return (self.not_run if applies else "for want of time") or "no run yet"

    def departures(self, protocol: str) -> list[str]:
        """All deviations from the paper under a protocol, the replaced fields among them."""
        changed = self.protocols[protocol] if protocol != "paper" else {}
        replaced = [
            f"{protocol} protocol: {name} = {value!r} instead of {getattr(self.config, name)!r}"
            for name, value in changed.items()
            if value != getattr(self.config, name)
        ]
        return [*self.deviations, *replaced]

    def record_id(self, seed: int, protocol: str) -> str:
        """The identity of one run: experiment, protocol, seed, and a hash of the whole config."""
        return record_id(self.name, seed, protocol, plain(self.settings(protocol)))


@dataclass(frozen=True)
class Paper:
    """One paper: its experiments, its claims, and the ledger ids that are never run, with why."""

    key: str
    title: str
    authors: str
    year: int
    link: str
    experiments: tuple[Experiment, ...]
    claims: tuple[Claim, ...] = ()
    quoted: dict[str, str] = field(default_factory=dict)


def claim(
    id: str, text: str, source: str, experiments: Iterable[Experiment], test: Callable
) -> Claim:
    """The claim `paper-key`; `test` gets the records of each experiment, in their order."""
    names = tuple(e.name for e in experiments)
    paper, _, _ = id.partition("-")
    return Claim(id, paper, text, source, names, lambda found: test(*(found[n] for n in names)))


def values(found: Sequence[dict], metric: str, missing: float = nan) -> list[float]:
    """A metric of every record; `missing` where one has none, or none that is finite."""
    held = [record["metrics"].get(metric) for record in found]
    return [missing if value is None else value for value in held]


def mean(found: Sequence[dict], metric: str, missing: float = nan) -> float:
    """A metric, mean over the records."""
    return fmean(values(found, metric, missing))


def ahead(a: Sequence[dict], b: Sequence[dict], metric: str) -> tuple[float, float]:
    """How much the mean of a is above that of b, and two standard errors of the difference.

    With one seed the error is not a number, and no comparison with it holds.
    """
    gap = mean(a, metric) - mean(b, metric)
    if min(len(a), len(b)) < 2:
        return gap, nan
    return gap, 2 * sqrt(sum(variance(values(r, metric)) / len(r) for r in (a, b)))


def above(a: Sequence[dict], b: Sequence[dict], metric: str) -> bool:
    """Clearly better: by more than two standard errors."""
    gap, error = ahead(a, b, metric)
    return gap > error


def below(a: Sequence[dict], b: Sequence[dict], metric: str) -> bool:
    """Clearly worse: by more than two standard errors."""
    gap, error = ahead(a, b, metric)
    return -gap > error


def decided(*gaps: tuple[float, float]) -> bool | None:
    """Are all gaps above 0? Each comes with two standard errors; None: they leave it open."""
    if any(gap < -error for gap, error in gaps):
        return False
    return True if all(gap > error for gap, error in gaps) else None


def told(a: Sequence[dict], b: Sequence[dict], *metrics: str) -> str:
    """The gaps with two standard errors."""
    gaps = ((m, *ahead(a, b, m)) for m in metrics)
    return ", ".join(f"{m} {gap:+.1f} ± {error:.1f}" for m, gap, error in gaps)


def plain(config: Any) -> dict[str, Any]:
    """Return a config as JSON would give it back: tuples become lists, see `setting` for more."""
    held = dataclasses.asdict(config)
    for f in dataclasses.fields(config):
        if f.metadata.get("before", dataclasses.MISSING) == held[f.name]:
            del held[f.name]
    return json.loads(json.dumps(held))


def record_id(name: str, seed: int, protocol: str, config: dict[str, Any]) -> str:
    """`experiment:protocol:seed:hash`, the same on every machine."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    return f"{name}:{protocol}:{seed}:{digest}"
