"""Tables made from records: the papers' numbers beside ours, judged. No number is typed."""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from . import ledger, papers, records
from .experiment import PROTOCOLS, Cell, Claim, Experiment, Paper
from .ledger import Row

NAN = re.compile(r"\bnan\b")
DECIDED = ("holds", "fails", "undecided", "not tested")  # a claim
HEAD = ("id", "method", "data", "metric", "paper", "ours", "seeds", "verdict", "from")
Records = Sequence[dict[str, Any]]


def current(experiment: Experiment, protocol: str, held: Records) -> list[dict[str, Any]]:
    """The records of an experiment as it is defined now, one a seed, in the order of the seeds."""
    if protocol != "paper" and protocol not in experiment.protocols:
        return []
    found = {
        record["seed"]: record
        for record in held
        if record["experiment"] == experiment.name
        and record["id"] == experiment.record_id(record["seed"], protocol)
    }
    return [found[seed] for seed in sorted(found)]


def fullest(
    paper: Paper, names: Iterable[str], held: Records
) -> tuple[str, str, dict[str, list[dict[str, Any]]]]:
    """What to show of some experiments: the protocol under which most of them have records (`paper`
    in a tie), what a caption says of it, and the records by experiment.
    """
    wanted = [{e.name: e for e in paper.experiments}[name] for name in names]
    found = {p: {e.name: current(e, p, held) for e in wanted} for p in ("paper", "short")}
    protocol = max(found, key=lambda p: sum(map(bool, found[p].values())))
    numbers = sorted({len(runs) for runs in found[protocol].values() if runs})
    seeds = " to ".join(map(str, dict.fromkeys((*numbers[:1], *numbers[-1:]))))
    seeds += " seed" if seeds == "1" else " seeds"
    named = f"protocol {protocol}, {seeds}" if numbers else "no record yet"
    return protocol, named, found[protocol]


def filled(paper: Paper | None) -> dict[str, tuple[Experiment, Cell]]:
    """The cells of a paper by ledger id."""
    return {c.id: (e, c) for e in (paper.experiments if paper else ()) for c in e.cells}


def judge(row: Row, experiment: Experiment, cell: Cell, found: Records) -> dict[str, Any]:
    """State, ours, sd, seeds, protocol and reason of one cell, from records of one protocol."""
    values = {r["seed"]: r["metrics"][cell.metric] for r in found if cell.metric in r["metrics"]}
    ours, sd = ledger.summary(values, cell.rule)
    if cell.claim is not None:
        holds, reason = cell.claim(list(found))
        state = "holds" if holds else "fails"
    elif len(values) < len(found) or (cell.rule.startswith("seed:") and ours is None):
        state, reason = "not run", f"no {cell.metric} by the rule {cell.rule} in these runs"
    else:
        lower = ledger.lower_is_better(row.metric)
        v = ledger.verdict(row.value, row.sd, row.rounding, values, lower, cell.rule)
        lost = sum(value is None for value in values.values())
        state = v.state
        reason = f"no finite value from {lost} of {len(values)} seeds; " if lost else ""
        reason += "" if v.gap is None else f"{v.gap:+.3g} from the paper, {v.tolerance:.2g} allowed"
    if len(found) < experiment.seeds:
        reason += f" ({len(found)} of {experiment.seeds} seeds)"
    result = {"id": row.id, "state": state, "ours": ours, "sd": sd, "seeds": len(found)}
    return result | {"protocol": found[0]["protocol"], "reason": reason}


def state(row: Row, paper: Paper | None, held: Records) -> dict[str, Any]:
    """The state of one ledger row. Only records of the paper's protocol give a verdict."""
    result = {"id": row.id, "state": "not written yet", "ours": None, "sd": None, "seeds": 0}
    result |= {"protocol": None, "reason": "no experiment of ours fills this cell yet"}
    if paper is not None and row.id in paper.quoted:
        return result | {"state": "not run", "reason": paper.quoted[row.id]}
    if row.id not in filled(paper):
        return result
    experiment, cell = filled(paper)[row.id]
    if found := current(experiment, "paper", held):
        return judge(row, experiment, cell, found)
    result |= {"state": "not run", "reason": experiment.reason("paper")}
    if found := current(experiment, "short", held):
        reason = f"only the short protocol has run: {result['reason']}"
        result = judge(row, experiment, cell, found) | {"state": "not run", "reason": reason}
    return result


def states(held: Records) -> list[dict[str, Any]]:
    """The state of every ledger row, in the order of the ledger."""
    written = {paper.key: paper for paper in papers()}
    return [state(row, written.get(row.paper), held) for row in ledger.load().values()]


class Verdict(NamedTuple):
    """A claim: its state (one of DECIDED), what that rests on, and what the short runs say."""

    state: str
    claim: Claim
    why: str
    short: str


def verdicts(paper: Paper, held: Records) -> list[Verdict]:
    """Every claim of a paper, by state, the book's own questions last."""
    found = [verdict(paper, claim, held) for claim in paper.claims]
    return sorted(found, key=lambda v: (v.claim.own, DECIDED.index(v.state)))


def word(holds: bool | None, why: str, yes: str, no: str) -> str:
    """Undecided where the answer is None, or its reason holds a nan (one seed, say)."""
    return "undecided" if holds is None or NAN.search(why) else yes if holds else no


def verdict(paper: Paper, claim: Claim, held: Records) -> Verdict:
    """Only protocol `paper` decides."""
    wanted = [e for e in paper.experiments if e.name in claim.experiments]
    under = {p: on_common_seeds(wanted, p, held) for p in ("paper", "short")}
    state, why, short = "not tested", "", "none"
    if all(under["paper"].values()):
        holds, why = claim.test(under["paper"])
        state = word(holds, why, "holds", "fails")
        why += f" ({rests_on(under['paper'])})"
    else:
        reasons = missing(paper, claim, held).items()
        why = "; ".join(f"{reason} ({n} of {len(wanted)})" for reason, n in reasons)
        why = why or "no seed that all have run"
    if all(under["short"].values()):
        agrees, text = claim.test(under["short"])
        said = word(agrees, text, "agree", "disagree")
        short = f"{said} ({rests_on(under['short'])}): {text}"
    return Verdict(state, claim, why, short)


def on_common_seeds(
    wanted: Sequence[Experiment], protocol: str, held: Records
) -> dict[str, list[dict[str, Any]]]:
    """Records by experiment, of the seeds that all have; one that needs a single seed keeps it."""
    found = {e.name: current(e, protocol, held) for e in wanted}
    several = [found[e.name] for e in wanted if e.seeds > 1]
    common = set.intersection(*({r["seed"] for r in runs} for runs in several)) if several else {}
    return {
        e.name: [r for r in found[e.name] if e.seeds == 1 or r["seed"] in common] for e in wanted
    }


def rests_on(under: dict[str, list[dict[str, Any]]]) -> str:
    """How many seeds a claim rests on."""
    n = max(map(len, under.values()))
    return f"{n} seed{'s' * (n > 1)}"


def missing(paper: Paper, claim: Claim, held: Records) -> Counter:
    """Why experiments of a claim have no record of protocol `paper`: how many for each reason."""
    return Counter(
        e.reason("paper")
        for e in paper.experiments
        if e.name in claim.experiments and not current(e, "paper", held)
    )


def claims(paper: Paper, held: Records) -> str:
    """What records say of a paper's claims, and of this book's questions to it."""
    lines = [(v.state, v.claim.text, v.claim.source, v.why, v.short) for v in verdicts(paper, held)]
    head = ("state", "claim", "where", "records of protocol paper", "short runs, no verdict")
    return grid(head, lines)


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def number(value: float | None, sd: float | None, decimals: int | None) -> str:
    """`0.37 ± 0.04` with so many decimals (None: three significant digits)."""
    if value is None:
        return "none"
    if decimals is None:
        decimals = max(0, 2 - math.floor(math.log10(abs(value) or 1)))
    return f"{value:.{decimals}f}" + ("" if sd is None else f" ± {sd:.{decimals}f}")


def beside(
    experiment: Experiment,
    fresh: Records,
    held: Records,
    cells: Callable[[Records], Sequence[object]],
    columns: int,
) -> list[tuple[object, ...]]:
    """Seed 0 of protocol `paper` from fresh records and from stored ones: `cells` of each."""
    lines = []
    for who, records_of in (("fresh, from here", fresh), ("stored, in the package", held)):
        runs = [r for r in current(experiment, "paper", records_of) if r["seed"] == 0]
        lines.append((who, *(cells(runs) if runs else ["not run"] * columns)))
    return lines


def origin(found: Records) -> str:
    """Commits, devices and last date of some records; + marks uncommitted code, ? unknown."""
    origins = [record["provenance"] for record in found]
    commits = {(p["commit"] or "?")[:7] + ("+" if p["dirty"] else "") for p in origins}
    devices = {p["device"] for p in origins}
    date = max(p["utc"] for p in origins)[:10]
    return f"{', '.join(sorted(commits))}; {', '.join(sorted(devices))}; {date}"


def line(row: Row, paper: Paper | None, held: Records, protocol: str) -> tuple[object, ...]:
    """One row of a table: the paper's number beside ours under one protocol."""
    printed = row.printed + ("" if row.sd is None else f" ± {row.sd:g}") or "not printed"
    metric = row.metric + (f", {row.unit}" if row.unit else "")
    head = (f"`{row.id}`", row.method, row.data, metric, printed)
    experiment, cell = filled(paper).get(row.id, (None, None))
    found = current(experiment, protocol, held) if experiment else []
    if not found:
        now = state(row, paper, held)
        return (*head, "not run", 0, f"{now['state']}: {now['reason']}", "no record")
    now = judge(row, experiment, cell, found)
    ours = number(now["ours"], now["sd"], max(2, row.decimals) if row.printed else None)
    verdict = f"{now['state']}: {now['reason']}"
    if protocol != "paper":
        verdict = "no verdict from this protocol"
    seeds = f"{len(found)} of {experiment.seeds}"
    return (*head, ours, seeds, verdict, origin(found))


def sections(
    rows: Iterable[Row], paper: Paper | None, held: Records, level: str, protocols: Iterable[str]
) -> str:
    """A table a protocol, never mixed, with the deviations under it; `paper` holds every row."""
    parts, rows = [], list(rows)
    for protocol in protocols:
        found = {i: current(e, protocol, held) for i, (e, _) in filled(paper).items()}
        shown = [row for row in rows if found.get(row.id) or protocol == "paper"]
        if not shown:
            continue
        lines = [line(row, paper, held, protocol) for row in shown]
        parts.append(f"{level} Protocol: {protocol}\n\n" + grid(HEAD, lines))
        notes = deviations(record for row in shown for record in found.get(row.id, []))
        parts += [f"Deviations in these runs:\n\n{notes}"] if notes else []
    return "\n".join(parts)


def deviations(found: Iterable[dict[str, Any]]) -> str:
    """Each deviation and note of some records once, with the experiments it belongs to.

    The deviations of current records follow from their settings: in the words of today.
    """
    experiments = {e.name: e for paper in papers() for e in paper.experiments}
    names: dict[str, dict[str, None]] = defaultdict(dict)  # an ordered set for each text
    for record in found:
        name = record["experiment"]
        for text in [*experiments[name].departures(record["protocol"]), *record["notes"]]:
            names[text][f"`{name}`"] = None
    return "".join(f"- {text} ({', '.join(of)})\n" for text, of in names.items())


def metrics(key: str, held: Records) -> str:
    """Every metric of a paper's experiments under every protocol but `smoke`, as CSV.

    Raises ValueError for no paper.
    """
    written = {paper.key: paper for paper in papers()}
    if key not in written:
        raise ValueError(f"key: {key!r} is no paper with experiments, only {', '.join(written)}.")
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("experiment", "protocol", "metric", "mean", "sd", "seeds", "from"))
    for experiment in written[key].experiments:
        for protocol in ("paper", "short"):
            found = current(experiment, protocol, held)
            for name in found[0]["metrics"] if found else ():
                summary = ledger.summary({r["seed"]: r["metrics"].get(name) for r in found}, "mean")
                ours = ("" if value is None else f"{value:.6g}" for value in summary)
                rows.writerow((experiment.name, protocol, name, *ours, len(found), origin(found)))
    return file.getvalue()


def table(what: str, held: Records) -> str:
    """The tables of `mcmil`, `mcmil/Sec 5.2` (or `mist/2` for Table 2), or an experiment.

    Raises ValueError with the nearest name for anything else.
    """
    rows, written = ledger.load(), {paper.key: paper for paper in papers()}
    known: dict[str, list[Row]] = defaultdict(list)
    for row in rows.values():
        known[row.paper].append(row)
        known[f"{row.paper}/{row.table}"].append(row)
    for paper in written.values():
        for experiment in paper.experiments:
            known[experiment.name] = [rows[cell.id] for cell in experiment.cells]
    key, _, rest = what.partition("/")
    name = next((n for n in (what, f"{key}/Table {rest}") if n in known), None)
    if name is None:
        near = difflib.get_close_matches(what, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"no table {what!r}; did you mean {near!r}?")
    return f"# {name}\n\n" + sections(known[name], written.get(key), held, "##", PROTOCOLS)


def markdown(key: str, held: Records | None = None) -> str:
    """The reproduction of one paper as a page: every number, every claim, every command.

    `held` are the records to show (default: the published ones). Raises ValueError for no paper.
    """
    held = records.published() if held is None else held
    paper = {paper.key: paper for paper in papers()}.get(key)
    rows = [row for row in ledger.load().values() if row.paper == key]
    if not rows:
        raise ValueError(f"key: {key!r} is no paper of the ledger, only {', '.join(ledger.KEYS)}.")
    tally = Counter(state(row, paper, held)["state"] for row in rows)
    listed = ", ".join(f"{tally[name]} {name}" for name in ledger.STATES if tally[name])
    parts = [f"{len(rows)} numbers: {listed}.\n"]
    for name in dict.fromkeys(row.table for row in rows):
        group = [row for row in rows if row.table == name]
        parts.append(f"## {name}\n\n" + sections(group, paper, held, "###", ("paper", "short")))
    if paper is not None:
        parts += ["## Claims\n\n" + claims(paper, held)] if paper.claims else []
        parts.append("## How to run it\n\n" + how(paper))
    return "\n".join(parts)


def how(paper: Paper) -> str:
    """Every experiment with its data, cost, deviations and the command that runs it."""
    texts = list(dict.fromkeys(text for e in paper.experiments for text in e.deviations))
    lines = []
    for e in paper.experiments:
        seeds = f"0-{e.seeds - 1}" if e.seeds > 1 else "0"
        words = f"run {e.name} --seeds {seeds} --protocol paper --out runs"
        numbers = ", ".join(map(str, sorted(texts.index(text) + 1 for text in e.deviations)))
        about = (e.title, ", ".join(e.data) or "none", e.cost or "not known", numbers or "none")
        lines.append((*about, f"`python -m wsl_tutorial.reproduce {words}`"))
    table = grid(("experiment", "data", "cost", "deviations", "command"), lines)
    listed = "".join(f"{number}. {text}\n" for number, text in enumerate(texts, 1))
    return f"{table}\nDeviations from the paper:\n\n{listed}" if texts else table


def summary_markdown(held: Records | None = None) -> str:
    """The state of all the reproductions, one line a paper."""
    tally: dict[str, Counter] = {key: Counter() for key in ledger.KEYS}
    for result in states(records.published() if held is None else held):
        tally[result["id"].rpartition("-")[0]][result["state"]] += 1
    rows = [
        (ledger.KEYS[key], c.total(), *(c[name] for name in ledger.STATES))
        for key, c in tally.items()
    ]
    return grid(("paper", "numbers", *ledger.STATES), rows)


def listing(held: Records) -> str:
    """For the terminal: experiments, cost, data here or missing, the state of every cell."""
    from .. import data

    rows, lines = ledger.load(), []
    written = {paper.key: paper for paper in papers()}
    for paper in written.values():
        lines.append(f"{paper.key}: {paper.title} ({paper.authors}, {paper.year}) {paper.link}")
        for experiment in paper.experiments:
            here = [f"{n} ({'here' if data.available(n) else 'not here'})" for n in experiment.data]
            ran = {name: len(current(experiment, name, held)) for name in PROTOCOLS}
            seeds = ", ".join(f"{n} {name}" for name, n in ran.items() if n) or "none"
            lines += [
                f"\n  {experiment.name}: {experiment.title}",
                f"    cost: {experiment.cost or 'not known'}; data: {', '.join(here) or 'none'}",
                f"    seeds run: {seeds} (of {experiment.seeds})",
            ]
            for cell in experiment.cells:
                row, now = rows[cell.id], state(rows[cell.id], paper, held)
                where = f"{row.table}, {row.method}, {row.data}, {row.metric}"
                lines.append(f"    {cell.id}  {where}: {now['state']} ({now['reason']})")
        lines += [f"\n  {i}: not run ({reason})" for i, reason in paper.quoted.items()]
    for key, count in Counter(row.paper for row in rows.values()).items():
        if key not in written:
            lines.append(f"\n{key}: {ledger.KEYS[key]}: {count} numbers, not written yet")
    return "\n".join(lines) + "\n"
