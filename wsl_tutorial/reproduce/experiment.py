"""Define a reproduction: papers, their experiments, and the ledger cells these fill."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from .evidence import STRENGTH, Records, Ruling

if TYPE_CHECKING:
    from .runner import Run

PROTOCOLS = (*STRENGTH, "smoke")  # from the strongest evidence to the weakest


class Why(StrEnum):
    """Name why a number has no result."""

    NO_GPU = "no GPU yet"
    NO_DATA = "data not available to us"
    COST = "too costly"
    QUOTED = "quoted from another paper"
    TIME = "for lack of time"
    NO_RUN = "no run yet"
    NOT_WRITTEN = "no experiment of ours fills this cell yet"


NO_GPU, NO_DATA = Why.NO_GPU, Why.NO_DATA


class Whose(StrEnum):
    """Name the author of a claim."""

    PAPER = "the paper's"
    BOOK = "this book's"


class Reason(tuple[Why, str]):
    """Hold a reason and what there is to add to it; `str` joins the two into one sentence."""

    def __new__(cls, why: Why, more: str = "") -> Reason:
        return super().__new__(cls, (why, more))

    @property
    def why(self) -> Why:
        """Return the reason without the addition."""
        return self[0]

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


def setting(value: Any, paper: Any, source: str, **before: Any) -> Any:
    """Return a field of a config: our value, the paper's, and its source in the paper.

    A field that is added to a config with records also gets `before`, the value under which the
    code does what it did without the field: `plain` leaves out a field with this value, so old
    records keep their ids.
    """
    return field(default=value, metadata={"paper": paper, "source": source, **before})


def leaves(config: Any) -> Iterator[tuple[dataclasses.Field, Any]]:
    """Yield each setting of a config with its value; settings may be grouped in dataclasses."""
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value)
        else:
            yield f, value


def sourced(config: Any) -> list[tuple[str, Any, Any, str]]:
    """Return each setting of a config: its name, our value, the paper's, and the source."""
    return [(f.name, x, f.metadata["paper"], f.metadata["source"]) for f, x in leaves(config)]


def settings_of(config: Any) -> dict[str, Any]:
    """Return the value of each setting of a config by its name, without the group it is in.

    Raises ValueError if two groups share the name of a setting.
    """
    found: dict[str, Any] = {}
    for f, value in leaves(config):
        if f.name in found:
            raise ValueError(
                f"config: {type(config).__name__} has two settings {f.name!r}; rename one of them."
            )
        found[f.name] = value
    return found


def changed(config: Any, **values: Any) -> Any:
    """Return a config with some settings replaced, each named without the group it is in.

    Raises TypeError for a name that is not a setting.
    """
    if unknown := values.keys() - settings_of(config):
        raise TypeError(f"{type(config).__name__} has no setting {', '.join(sorted(unknown))}.")
    held = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    new = {}
    for name, value in held.items():
        if not dataclasses.is_dataclass(value):
            new |= {name: values[name]} if name in values else {}
        elif own := values.keys() & settings_of(value):
            new[name] = changed(value, **{k: values[k] for k in own})
    return dataclasses.replace(config, **new)


class Config(Protocol):
    """Hold the settings of an experiment: an instance of a frozen dataclass, see `setting`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C", bound=Config)
Given = TypeVar("Given", bound=Config, contravariant=True)


class Method(Protocol[Given]):
    """Train an experiment with its settings; return the metrics of its record.

    It saves, logs and stops through `run`.
    """

    def __call__(self, config: Given, seed: int, run: Run, /) -> dict[str, float]: ...


@dataclass(frozen=True)
class Cell:
    """Connect one ledger row to the experiment that fills it.

    `metric` is a key of the dict that `Experiment.run` returns. `rule` turns the seeds into one
    number: "mean", "min" or "max" (the best seed), or "seed:K" (the run of seed K alone).
    `claim` (records of one protocol -> `evidence.Ruling`) replaces the comparison of numbers; it is
    needed where the paper prints no value.
    """

    id: str
    metric: str
    rule: str = "mean"
    claim: Callable[[list[dict]], Ruling] | None = None


@dataclass(frozen=True)
class Claim:
    """Test a statement about several numbers on the records of some experiments."""

    id: str
    text: str
    source: str
    experiments: tuple[str, ...]
    test: Callable[[dict[str, list[dict]]], Ruling]
    whose: Whose = Whose.PAPER

    @property
    def own(self) -> bool:
        """Return whether this book asks it, and not the paper."""
        return self.whose is Whose.BOOK


@dataclass(frozen=True)
class Experiment(Generic[C]):
    """Hold the settings of one group of cells, and the function that runs them for one seed.

    `config` is an instance of a frozen dataclass whose fields carry metadata "paper" and "source",
    or are such dataclasses themselves (data, network, method, optimiser).
    `protocols` holds the fields that "desk", "short" and "smoke" replace; "paper" is `config` as it
    stands. Under "desk" only the recipe of training is ours; data, network, sizes and measures are
    the paper's.
    `run(config, seed, run)` returns the metrics; `run` is a `runner.Run`.
    `gpu_minutes` is our estimate for one seed under "paper"; 0: none, a CPU does; None: not known.
    `not_run` says why "paper" has no record, with `more` to add. `selects` is the measure of the
    curve by which an epoch is chosen, and whether *lower* or *higher* is better; `tried` is a
    sentence on what was tried where a number of the paper is not reached.
    `alone` is the reason why processes cannot share its batches, as `train.fit` divides them; None:
    they can.
    """

    name: str
    title: str
    method: str
    config: C
    run: Method[C]
    cells: tuple[Cell, ...]
    seeds: int
    data: tuple[str, ...] = ()
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()
    gpu_minutes: float | None = None
    not_run: Why = Why.NO_RUN
    more: str = ""
    selects: tuple[str, str] = ("validation", "lower")
    tried: str = ""
    alone: str | None = "its loss is not known to be a mean over the elements of a batch"

    def settings(self, protocol: str) -> Any:
        """The config under a protocol. Raises ValueError for a protocol it does not have."""
        if protocol == "paper":
            return self.config
        if protocol not in self.protocols:
            have = ", ".join(["paper", *self.protocols])
            raise ValueError(f"protocol: {self.name} has no {protocol!r}, only {have}.")
        return changed(self.config, **self.protocols[protocol])

    def reason(self, protocol: str) -> Reason:
        """Return why a protocol has no record; what a CPU can run under `desk` needs no GPU."""
        if self.not_run is Why.NO_GPU and {protocol, "desk"} & self.protocols.keys():
            return Reason(Why.TIME)
        return Reason(self.not_run, self.more)

    @property
    def cost(self) -> str:
        """Return the cost of one seed under the paper's protocol, in words."""
        if self.gpu_minutes is None:
            return "not known"
        if not self.gpu_minutes:
            return "minutes of a CPU"
        hours = self.gpu_minutes >= 60
        number = round(self.gpu_minutes / 60 if hours else self.gpu_minutes, 1)
        unit = ("hour" if hours else "minute") + "s" * (number != 1)
        return f"about {number:,g} GPU {unit} a seed (estimate)"

    def departures(self, protocol: str) -> list[str]:
        """Return all deviations from the paper under a protocol, with the replaced settings."""
        ours = self.protocols[protocol] if protocol != "paper" else {}
        paper = settings_of(self.config)
        replaced = [
            f"{protocol} protocol: {name} = {value!r} instead of {paper[name]!r}"
            for name, value in ours.items()
            if value != paper[name]
        ]
        return [*self.deviations, *replaced]

    @cached_property
    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the whole config under each protocol, as in records."""
        return {p: plain(self.settings(p)) for p in ("paper", *self.protocols)}

    def record_id(self, seed: int, protocol: str) -> str:
        """Return the id of one run, as the function `record_id`."""
        if protocol not in self.configs:
            self.settings(protocol)  # raises ValueError
        return record_id(self.name, seed, protocol, self.configs[protocol])


@dataclass(frozen=True)
class Sentence:
    """A sentence of a paper that mathematics decides, and the test that checks the decision.

    `stands` is None for a remark of this book, which decides nothing and is not counted.
    `equation` is the number of the equation that the sentence states, if it is one.
    """

    source: str
    text: str
    stands: bool | None
    why: str
    test: str
    equation: str = ""

    @property
    def tests(self) -> str:
        """Return the words by which `pytest -k` finds its tests."""
        return f"test_eq_{self.equation.replace('.', '_')}" if self.equation else self.test


@dataclass(frozen=True)
class Finding:
    """A public program that computes something else than the formula.

    `title` is the heading of the cell of chapter 15 that shows it; `matters` says where it matters.
    """

    title: str
    program: str
    file: str
    commit: str
    matters: str


@dataclass(frozen=True)
class Audit:
    """The part of this book about a paper: `AUDIT` in `audit.py` of its package.

    `cited` names the authors as a citation does; `chapter` is the one that shows the tables.
    """

    cited: str
    chapter: int
    sentences: tuple[Sentence, ...] = ()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Paper:
    """One paper: its experiments, its claims, and the ledger ids that are never run, with why.

    `further` makes tables from records, by title, that the paper's page has beside its own.

    `papers` fills in `room`, the name of its package, and `audit`.
    """

    key: str
    title: str
    authors: str
    year: int
    link: str
    experiments: tuple[Experiment, ...]
    claims: tuple[Claim, ...] = ()
    quoted: dict[str, Reason] = field(default_factory=dict)
    room: str = ""
    audit: Audit | None = None
    further: Callable[[Records], Mapping[str, str]] | None = None

    @property
    def cited(self) -> str:
        """Return the paper as tables cite it: `Li 2018`, or its title if it has no audit."""
        return f"{self.audit.cited} {self.year}" if self.audit else self.title

    @property
    def name(self) -> str:
        """Return the paper as tables name it: `Li 2018 (presence)`."""
        return f"{self.cited} ({self.room})" if self.audit else self.title


def claim(
    id: str,
    text: str,
    source: str,
    experiments: Iterable[Experiment],
    test: Callable[..., Ruling],
    whose: Whose = Whose.PAPER,
) -> Claim:
    """Return a claim; `test` gets the records of each experiment, in their order."""
    names = tuple(e.name for e in experiments)

    def of_all(found: dict[str, list[dict]]) -> Ruling:
        return test(*(found[name] for name in names))

    return Claim(id, text, source, names, of_all, whose)


def plain(config: Any) -> dict[str, Any]:
    """Return a config as JSON would give it back: flat, with lists for tuples; see `setting`.

    Groups of settings are dissolved, so a config may be regrouped and its records keep their ids.
    """
    held = settings_of(config)
    for f, value in leaves(config):
        if f.metadata.get("before", dataclasses.MISSING) == value:
            del held[f.name]
    return json.loads(json.dumps(held))


def record_id(name: str, seed: int, protocol: str, config: dict[str, Any]) -> str:
    """Return `experiment:protocol:seed:hash`, with ten digits of the hash of the whole config."""
    digits = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:10]
    return f"{name}:{protocol}:{seed}:{digits}"
