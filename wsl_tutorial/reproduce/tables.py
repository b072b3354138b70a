"""Make tables from records: the papers' numbers beside ours, with their verdicts."""

from __future__ import annotations

import csv
import difflib
import fnmatch
import io
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from . import evidence, ledger, papers, records
from .evidence import JUDGING, MARKS, STRENGTH, Records, State, only_seed
from .experiment import PROTOCOLS, Cell, Claim, Experiment, Paper, Reason, Why
from .ledger import Row

DECIDED = (State.HOLDS, State.FAILS, State.UNDECIDED, State.NO_VERDICT, State.NOT_TESTED)  # a claim
HEAD = ("method", "data", "measure", "paper", "ours", "evidence", "seeds", "verdict")
UNAVAILABLE, NOT_RUN = "unavailable data", "not run"
KNOWN = (*MARKS.values(), UNAVAILABLE, NOT_RUN)  # what is known of a number
SUMMARY = ("paper", "numbers", *KNOWN)
Fold = Callable[[str, str], str]


def by_key() -> dict[str, Paper]:
    """Return the papers by their keys."""
    return {paper.key: paper for paper in papers()}


def current(experiment: Experiment, protocol: str, held: Records) -> list[dict[str, Any]]:
    """Return the records of an experiment as it is defined now, one a seed, in order."""
    if protocol != "paper" and protocol not in experiment.protocols:
        return []
    found = {
        record["seed"]: record
        for record in held
        if record["experiment"] == experiment.name
        and record["protocol"] == protocol
        and record["id"] == experiment.record_id(record["seed"], protocol)
    }
    return [found[seed] for seed in sorted(found)]


def fullest(
    paper: Paper, names: Iterable[str], held: Records
) -> tuple[str, str, dict[str, list[dict[str, Any]]]]:
    """Return what to show of some experiments: a protocol, a caption, and the records by name.

    The protocol is that under which most of them have records; in a tie, the strongest evidence.
    """
    shown = each_protocol(paper, names, held)
    return max(shown, key=lambda found: sum(map(bool, found[2].values())))


def each_protocol(
    paper: Paper, names: Iterable[str], held: Records
) -> list[tuple[str, str, dict[str, list[dict[str, Any]]]]]:
    """Return what `fullest` returns, for every protocol, the strongest evidence first."""
    wanted, shown = [{e.name: e for e in paper.experiments}[name] for name in names], []
    for protocol in STRENGTH:
        found = {e.name: current(e, protocol, held) for e in wanted}
        runs = [r for r in found.values() if r]
        named = f"protocol {protocol}, {seeds_of(runs)}" if runs else "no record yet"
        shown.append((protocol, named, found))
    return shown


def seeds_of(runs: Iterable[Records]) -> str:
    """Return the number of seeds of some experiments: `2 seeds`, or `1 to 3 seeds`."""
    numbers = {len(records) for records in runs}
    low, high = min(numbers), max(numbers)
    if low == high:
        return f"{high} seed{'s' * (high != 1)}"
    return f"{low} to {high} seeds"


# Numbers ------------------------------------------------------------------------------------------


def filled(paper: Paper | None) -> dict[str, tuple[Experiment, Cell]]:
    """Return the cells of a paper by ledger id."""
    return {c.id: (e, c) for e in (paper.experiments if paper else ()) for c in e.cells}


def answers(cell: Cell, found: Records) -> bool:
    """Return whether records contain the metric of a cell, for the seed that it names, if any."""
    seeds = {r["seed"] for r in found if cell.metric in r["metrics"]}
    one = only_seed(cell.rule)
    return bool(found) and (len(seeds) == len(found) if one is None else one in seeds)


def support(row: Row, paper: Paper | None, held: Records) -> Records:
    """Return the records behind a number: those of its strongest evidence, or an empty list."""
    if row.id not in filled(paper):
        return []
    experiment, cell = filled(paper)[row.id]
    every = (current(experiment, protocol, held) for protocol in STRENGTH)
    return next((found for found in every if answers(cell, found)), [])


def why(row: Row, paper: Paper | None) -> Reason:
    """Return why a number has no result under the paper's protocol."""
    if paper is not None and row.id in paper.quoted:
        return paper.quoted[row.id]
    if row.id not in filled(paper):
        return Reason(Why.NOT_WRITTEN)
    return filled(paper)[row.id][0].reason("paper")


def judge(row: Row, experiment: Experiment, cell: Cell, found: Records) -> dict[str, Any]:
    """Return state, ours, sd, seeds, evidence and reason of a cell, from its records."""
    of_cell = {r["seed"]: r["metrics"].get(cell.metric) for r in found}
    ours, sd = evidence.summary(of_cell, cell.rule)
    if cell.claim is not None:
        answer = cell.claim(list(found))
        state, reason = answer.state, answer.text
    else:
        v = evidence.verdict(row.number, row.sd, row.rounding, of_cell, row.lower, cell.rule)
        lost = sum(value is None for value in of_cell.values())
        state = v.state
        reason = f"no finite value from {lost} of {len(of_cell)} seeds; " if lost else ""
        reason += "" if v.gap is None else f"{v.gap:+.3g} from the paper, {v.tolerance:.2g} allowed"
    if len(found) < experiment.seeds:
        reason += f" ({len(found)} of {experiment.seeds} seeds)"
    protocol = found[0]["protocol"]
    if protocol not in JUDGING:
        state = State.NO_VERDICT
        reason = f"only at reduced size: {experiment.reason('paper')}"
    result = {"id": row.id, "state": state, "evidence": protocol, "ours": ours, "sd": sd}
    return result | {"seeds": len(found), "protocol": protocol, "reason": reason}


def state(row: Row, paper: Paper | None, held: Records) -> dict[str, Any]:
    """Return the state of one ledger row by its strongest evidence."""
    if found := support(row, paper, held):
        return judge(row, *filled(paper)[row.id], found)
    reason = why(row, paper)
    now = State.NOT_WRITTEN if reason.why is Why.NOT_WRITTEN else State.NOT_RUN
    result = {"id": row.id, "state": now, "evidence": None, "ours": None, "sd": None}
    return result | {"seeds": 0, "protocol": None, "reason": str(reason)}


def states(held: Records) -> list[dict[str, Any]]:
    """Return the state of every ledger row, in the order of the ledger."""
    written = by_key()
    return [state(row, written.get(row.paper), held) for row in ledger.load().values()]


# Claims -------------------------------------------------------------------------------------------


class Judged(NamedTuple):
    """A claim judged: its state (one of DECIDED), the protocol of its records, and a sentence."""

    state: State
    claim: Claim
    evidence: str | None
    why: str


def verdicts(paper: Paper, held: Records) -> list[Judged]:
    """Return every claim of a paper, by state, the book's own questions last."""
    found = [judge_claim(paper, claim, held) for claim in paper.claims]
    return sorted(found, key=lambda v: (v.claim.own, DECIDED.index(v.state)))


def judge_claim(paper: Paper, claim: Claim, held: Records) -> Judged:
    """Judge a claim under the strongest protocol of which all its experiments have records.

    An experiment that the protocol would not change (it has no settings for it) counts with its
    records of protocol `paper`. Protocol `short` can only agree or disagree: it gives no verdict.
    """
    wanted = [e for e in paper.experiments if e.name in claim.experiments]
    for protocol in STRENGTH:
        found = {
            e.name: current(e, protocol if protocol in e.protocols else "paper", held)
            for e in wanted
        }
        if all(found.values()):
            answer = claim.test(found)
            text = f"{answer.text} ({seeds_of(found.values())})"
            if protocol in JUDGING:
                return Judged(answer.state, claim, protocol, text)
            words = {True: "agrees", False: "disagrees", None: "undecided"}
            return Judged(State.NO_VERDICT, claim, protocol, f"{words[answer.holds]}: {text}")
    reasons = missing(paper, claim, held).items()
    text = "; ".join(f"{reason} ({n} of {len(wanted)})" for reason, n in reasons)
    return Judged(State.NOT_TESTED, claim, None, text or "not all under one protocol")


def missing(paper: Paper, claim: Claim, held: Records) -> Counter:
    """Count the experiments of a claim without a record that can judge it, by reason."""
    return Counter(
        str(e.reason("paper"))
        for e in paper.experiments
        if e.name in claim.experiments and not any(current(e, p, held) for p in JUDGING)
    )


def claims(paper: Paper, held: Records) -> str:
    """Return a table of a paper's claims and of this book's questions, with their verdicts."""
    return claims_grid(verdicts(paper, held))


def claims_grid(found: Iterable[Judged]) -> str:
    """Return a table of claims."""
    lines = [
        (v.claim.text, v.claim.source, v.state, MARKS.get(v.evidence or "", "none"), v.why)
        for v in found
    ]
    return grid(("claim", "where", "verdict", "evidence", "measured"), lines)


def claims_tally(paper: Paper, held: Records) -> str:
    """Return one sentence: the count of a paper's claims by verdict, with those that fail."""
    found = [v for v in verdicts(paper, held) if not v.claim.own]
    count = Counter(v.state for v in found)
    listed = ", ".join(f"{count[state]} {state}" for state in DECIDED if count[state])
    text = f"{len(found)} claim{'s' * (len(found) != 1)} of the paper: {listed}."
    failing = [f"{v.claim.text} ({v.why})" for v in found if v.state is State.FAILS]
    return f"{text} Fails: {'; '.join(failing)}." if failing else text


# Pieces -------------------------------------------------------------------------------------------


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def number(value: float | None, sd: float | None, decimals: int | None) -> str:
    """Return `0.37 ± 0.04` with so many decimals (None: three significant digits)."""
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
    """Return the `cells` of seed 0 of protocol `paper`, for fresh records and for stored ones."""
    lines = []
    for name, records_of in (("fresh, from here", fresh), ("stored, in the package", held)):
        runs = [r for r in current(experiment, "paper", records_of) if r["seed"] == 0]
        lines.append((name, *(cells(runs) if runs else ["not run"] * columns)))
    return lines


def origin(found: Records) -> str:
    """Return commits, devices and last date of records; + marks uncommitted code, ? unknown."""
    origins = [record["provenance"] for record in found]
    commits = {(p["commit"] or "?")[:7] + ("+" if p["dirty"] else "") for p in origins}
    devices = {p["device"] for p in origins}
    date = max(p["utc"] for p in origins)[:10]
    return f"{', '.join(sorted(commits))}; {', '.join(sorted(devices))}; {date}"


def line(row: Row, paper: Paper | None, held: Records) -> tuple[str, ...]:
    """Return one row of a table (HEAD): the paper's number beside ours, by its best evidence."""
    printed = row.printed + ("" if row.sd is None else f" ± {row.sd:g}") or "not printed"
    head = (row.method, row.data, row.measure + (f", {row.unit}" if row.unit else ""), printed)
    now = state(row, paper, held)
    if now["evidence"] is None:
        return (*head, "", "none", "", now["state"])
    _, cell = filled(paper)[row.id]
    ours = number(now["ours"], now["sd"], max(2, row.decimals) if row.printed else None)
    seeds = now["seeds"] if only_seed(cell.rule) is None else 1
    verdict = now["state"]
    if verdict in (State.BETTER, State.WORSE) and now["ours"] is not None:
        verdict = f"{verdict}, {now['ours'] - row.value:+.2g}"
    return (*head, ours, MARKS[now["evidence"]], str(seeds), verdict)


def compared(
    rows: Iterable[Row], measures: Iterable[str], paper: Paper, held: Records
) -> list[tuple[str, ...]]:
    """Return a line for each data set and method: each measure, printed and ours, and evidence."""
    of = {(r.data, r.method, r.measure): r for r in rows}
    lines = []
    for place in dict.fromkeys(key[:2] for key in of if key[2] in measures):
        known = [line(of[*place, m], paper, held) if (*place, m) in of else () for m in measures]
        cells = [cell for found in known for cell in (found[3:5] or ("", ""))]
        seen = dict.fromkeys(f"{f[5]}, {f[6]}".rstrip(", ") for f in known if f)
        lines.append((place[1], place[0], *cells, "; ".join(seen)))
    return lines


def notes(rows: Iterable[Row], paper: Paper | None, held: Records) -> str:
    """Return a list of the reasons: behind the verdict of a row, or for its missing run.

    Rows with the same text share an item. Rows that ran at reduced size only are left out. For a
    number that is not reached (*worse*, *fails*) the text adds whether the training was still
    improving when it stopped, by its curve, and what was tried.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        now = state(row, paper, held)
        if now["state"] is State.NO_VERDICT:
            continue
        parts = [now["reason"]]
        if now["evidence"] is None:
            parts = [f"{now['state']}: {now['reason']}"]
        elif now["state"] in (State.WORSE, State.FAILS):
            experiment, _ = filled(paper)[row.id]
            parts += [ended(row, experiment, support(row, paper, held)), experiment.tried]
        texts["; ".join(part for part in parts if part)].append(f"`{row.id}`")
    return "".join(f"- {', '.join(ids)}: {text}.\n" for text, ids in texts.items())


def ended(row: Row, experiment: Experiment, found: Records) -> str:
    """Return whether the runs behind a number still improved at their end, by the curves.

    The measure is the number's own if the curve has it, else the one that selects the epoch.
    """
    own = any(row.metric in point for record in found for point in record["curve"])
    key, better = (row.metric, row.better) if own else experiment.selects
    return evidence.ended(found, key, better == "lower")


def deviations(found: Iterable[dict[str, Any]]) -> str:
    """Return each deviation and note of some records once, with the experiments it belongs to.

    Deviations are worded anew from the settings of the records.
    """
    experiments = {e.name: e for paper in papers() for e in paper.experiments}
    names: dict[str, dict[str, None]] = defaultdict(dict)  # an ordered set for each text
    for record in found:
        name = record["experiment"]
        for text in [*experiments[name].departures(record["protocol"]), *record["notes"]]:
            names[text][f"`{name}`"] = None
    return "".join(f"- {text} ({', '.join(of)})\n" for text, of in names.items())


def departures(paper: Paper, names: Iterable[str], held: Records) -> str:
    """Return what differs from the paper in the best records of experiments, with a caption."""
    _, caption, found = fullest(paper, names, held)
    return f"Deviations, {caption}.\n\n{deviations(r for runs in found.values() for r in runs)}"


# Places of a paper --------------------------------------------------------------------------------


def plain(title: str, text: str) -> str:
    """Set a part under its title."""
    return f"**{title}**\n\n{text}"


def folded(title: str, text: str) -> str:
    """Fold a part of a page, in MyST."""
    return f":::{{dropdown}} {title}\n{text}:::\n"


def classed(name: str, text: str) -> str:
    """Give a table of a page a class, in MyST."""
    return f":::{{table}}\n:class: {name}\n\n{text}:::\n"


def place(rows: Iterable[Row], paper: Paper | None, held: Records, fold: Fold = plain) -> str:
    """Return one table for some rows of a paper, with notes on its verdicts.

    Rows whose data are not available are folded, and so are the runs behind the other rows.
    """
    rows = list(rows)
    missing = [r for r in rows if is_unavailable(r, paper, held)]
    shown = [row for row in rows if row not in missing]
    parts = []
    if shown:
        table = grid(HEAD, [line(row, paper, held) for row in shown])
        parts += [classed("ledger", table) if fold is folded else table]
        parts += [notes(shown, paper, held)]
    if missing:
        reasons = Counter(str(why(row, paper)) for row in missing)
        lines = [(f"`{r.id}`", *line(r, paper, held)[:4]) for r in missing]
        text = grid(("id", *HEAD[:4]), lines)
        count = f"{len(missing)} number{'s' * (len(missing) > 1)} whose data are unavailable"
        parts.append(fold(count, f"Not run: {'; '.join(reasons)}.\n\n{text}"))
    if runs := {row.id: found for row in shown if (found := support(row, paper, held))}:
        parts.append(fold("The runs behind this table", runs_table(runs)))
    return "\n".join(part for part in parts if part)


def is_unavailable(row: Row, paper: Paper | None, held: Records) -> bool:
    """Return whether a number has no result because its data are not available."""
    return why(row, paper).why is Why.NO_DATA and not support(row, paper, held)


def runs_table(runs: Mapping[str, Records]) -> str:
    """Return the experiments behind some numbers, where they ran, and their deviations."""
    ids: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for i, found in runs.items():
        ids[found[0]["experiment"], found[0]["protocol"], origin(found)].append(i)
    lines = [
        (", ".join(f"`{i}`" for i in i_s), f"`{name}`", *of) for (name, *of), i_s in ids.items()
    ]
    text = grid(("numbers", "experiment", "protocol", "from"), lines)
    once = {r["id"]: r for found in runs.values() for r in found}
    listed = deviations(once.values())
    return text + (f"\nDeviations from the paper:\n\n{listed}" if listed else "")


def places(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return rows by their place in the paper."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.table].append(row)
    return found


def unfilled(experiments: Iterable[Experiment], held: Records) -> str:
    """Return a table of the experiments with records that answer no printed number.

    It shows the metrics that answer numbers of the paper, or else all.
    """
    names, lines = {e.name for e in experiments if not e.cells}, []
    for paper in papers():
        asked = {row.metric for row in ledger.load().values() if row.paper == paper.key}
        for e in (e for e in paper.experiments if e.name in names):
            every = (current(e, protocol, held) for protocol in STRENGTH)
            if found := next(filter(None, every), None):
                numbers = ", ".join(f"{n} {text}" for n, text in measured(found, asked).items())
                lines.append((f"`{e.name}`", MARKS[found[0]["protocol"]], len(found), numbers))
    return grid(("experiment", "evidence", "seeds", "mean ± sd"), lines) if lines else ""


def measured(found: Records, asked: Collection[str]) -> dict[str, str]:
    """Return the metrics of some records, mean ± sd: those asked for, or all if there are none."""
    names = [n for n in found[0]["metrics"] if n in asked] or list(found[0]["metrics"])
    of = {n: {r["seed"]: r["metrics"].get(n) for r in found} for n in names}
    return {n: number(*evidence.summary(v, "mean"), None) for n, v in of.items()}


# Names --------------------------------------------------------------------------------------------


def known() -> dict[str, tuple[list[Row], list[Experiment]]]:
    """Return the rows and experiments behind each name: of a paper, a place or an experiment."""
    found: dict[str, tuple[list[Row], list[Experiment]]] = defaultdict(lambda: ([], []))
    for row in ledger.load().values():
        found[row.paper][0].append(row)
        found[f"{row.paper}/{row.table}"][0].append(row)
    for paper in papers():
        for e in paper.experiments:
            found[paper.key][1].append(e)
            found[e.name][0].extend(ledger.load()[cell.id] for cell in e.cells)
            found[e.name][1].append(e)
    return found


def select(what: str) -> tuple[str, list[Row], list[Experiment]]:
    """Return the name, rows and experiments of `mcmil`, `mist/2`, an experiment, or a pattern.

    Raises ValueError with the nearest name for anything else.
    """
    names = known()
    key, _, rest = what.partition("/")
    if name := next((n for n in (what, f"{key}/Table {rest}") if n in names), None):
        return name, *names[name]
    runnable = {e.name for paper in papers() for e in paper.experiments}
    matches = [names[n] for n in fnmatch.filter(names, what) if n in runnable]
    if not matches:
        of_paper = [n for n in names if n.startswith(f"{key}/")]
        near = difflib.get_close_matches(what, of_paper or names, n=1, cutoff=0.0)[0]
        raise ValueError(f"no paper, place or experiment {what!r}; did you mean {near!r}?")
    rows = [row for found, _ in matches for row in found]
    return what, rows, [e for _, found in matches for e in found]


def table(what: str, held: Records) -> str:
    """Return the tables of a paper, a place (`mist/2` is Table 2), an experiment, or a pattern.

    Raises ValueError with the nearest name for anything else.
    """
    name, rows, experiments = select(what)
    written = by_key()
    parts = [f"# {name}\n"]
    for key in dict.fromkeys(row.paper for row in rows):
        for where, group in places(r for r in rows if r.paper == key).items():
            parts.append(f"## {where}\n\n{place(group, written.get(key), held)}")
    if more := unfilled(experiments, held):
        parts.append(f"## Experiments that answer no printed number\n\n{more}")
    if name in written and written[name].claims:
        parts.append(f"## Claims\n\n{claims(written[name], held)}")
    if len(parts) == 1:
        parts.append("No record yet.\n")
    return "\n".join(parts)


def metrics(key: str, held: Records) -> str:
    """Return every metric of a paper's experiments under every protocol but `smoke`, as CSV.

    Raises ValueError for an unknown key.
    """
    written = by_key()
    if key not in written:
        raise ValueError(f"key: {key!r} is no paper with experiments, only {', '.join(written)}.")
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(("experiment", "protocol", "metric", "mean", "sd", "seeds", "from"))
    for experiment in written[key].experiments:
        for protocol in STRENGTH:
            found = current(experiment, protocol, held)
            for name in found[0]["metrics"] if found else ():
                of_name = {r["seed"]: r["metrics"].get(name) for r in found}
                summary = evidence.summary(of_name, "mean")
                ours = ("" if value is None else f"{value:.6g}" for value in summary)
                rows.writerow((experiment.name, protocol, name, *ours, len(found), origin(found)))
    return file.getvalue()


# Pages --------------------------------------------------------------------------------------------


def markdown(key: str, held: Records | None = None) -> str:
    """Return the reproduction of one paper as a page: every number, claim and experiment.

    `held` are the records to show (default: the published ones). Raises ValueError for a key
    without a number in the ledger.
    """
    held = records.published() if held is None else held
    paper = by_key().get(key)
    rows = [row for row in ledger.load().values() if row.paper == key]
    if not rows:
        raise ValueError(
            f"key: {key!r} is no paper of the ledger, only {', '.join(ledger.paper_keys())}."
        )
    parts = [f"## What is known\n\n{tally(rows, paper, held)}\n"]
    for where, group in places(rows).items():
        parts.append(f"## {where}\n\n{place(group, paper, held, folded)}")
    if paper is not None and paper.claims:
        found = verdicts(paper, held)
        tested = [v for v in found if v.state is not State.NOT_TESTED]
        rest = [v for v in found if v.state is State.NOT_TESTED]
        parts.append("## Claims\n")
        parts += [classed("claims", claims_grid(tested))] if tested else []
        parts += [folded(f"Not tested: {len(rest)}", claims_grid(rest))] if rest else []
    if paper is not None and paper.further:
        parts.append("## More measurements\n")
        parts += [folded(title, f"{text}\n") for title, text in paper.further(held).items()]
    if paper is not None:
        parts.append(f"## How to run it\n\n{instructions(paper)}")
    return "\n".join(parts)


def instructions(paper: Paper) -> str:
    """Return the command to run a paper, and, folded, its experiments with data and cost."""
    texts = list(dict.fromkeys(text for e in paper.experiments for text in e.deviations))
    lines = []
    for e in paper.experiments:
        numbers = ", ".join(map(str, sorted(texts.index(text) + 1 for text in e.deviations)))
        about = (e.title, ", ".join(e.data) or "none", e.seeds, e.cost, numbers or "none")
        lines.append((f"`{e.name}`", *about))
    example = paper.experiments[0]
    program = ".venv/bin/python -m wsl_tutorial.reproduce"
    command = f"{program} run {example.name} --protocol paper --out runs"
    table = grid(("experiment", "what", "data", "seeds", "cost", "deviations"), lines)
    listed = "".join(f"{number}. {text}\n" for number, text in enumerate(texts, 1))
    again = (
        "This command runs one experiment with the paper's settings. To repeat a number of ours, "
        "take its experiment and protocol from *The runs behind this table*.\n\n"
    )
    text = f"```bash\n{command}\n```\n\n" + again + folded(f"All {len(lines)} experiments", table)
    return text + ("\n" + folded("Deviations from the paper", listed) if listed else "")


def kinds(rows: Iterable[Row], paper: Paper | None, held: Records) -> dict[str, Counter]:
    """Count rows by what is known of them (KNOWN), and by state within."""
    count: dict[str, Counter] = {name: Counter() for name in KNOWN}
    for row in rows:
        now = state(row, paper, held)
        without = UNAVAILABLE if is_unavailable(row, paper, held) else NOT_RUN
        count[MARKS.get(now["evidence"], without)][now["state"]] += 1
    return count


def detailed(count: Counter) -> str:
    """Return `3 (1 reproduced, 2 worse)`; without verdicts, the number alone."""
    states = ", ".join(f"{count[s]} {s}" for s in ledger.VERDICTS if count[s])
    return f"{count.total()}" + (f" ({states})" if states else "")


def tally(rows: Sequence[Row], paper: Paper | None, held: Records) -> str:
    """Return one sentence: the count of numbers, by what is known of them."""
    found = kinds(rows, paper, held).items()
    listed = "; ".join(f"{name}: {detailed(count)}" for name, count in found if count.total())
    return f"{len(rows)} numbers. {listed[:1].upper()}{listed[1:]}."


def summary_markdown(held: Records | None = None) -> str:
    """Return two tables: the numbers of every paper by what is known of them, and the verdicts."""
    held = records.published() if held is None else held
    written = by_key()
    lines, verdicts, total = [], [], Counter()
    for key in ledger.paper_keys():
        title = written[key].name if key in written else key
        rows = [row for row in ledger.load().values() if row.paper == key]
        found = kinds(rows, written.get(key), held)
        lines.append((title, len(rows), *(count.total() for count in found.values())))
        total.update({name: count.total() for name, count in found.items()})
        for mark in (MARKS[protocol] for protocol in JUDGING):
            if found[mark]:
                counts = (found[mark][s] for s in ledger.VERDICTS)
                verdicts.append((f"{title}, {mark}", *counts))
    lines.append(("all", total.total(), *(total[name] for name in KNOWN)))
    head = ("verdicts", *ledger.VERDICTS)
    return f"{grid(SUMMARY, lines)}\n{grid(head, verdicts)}"


# For the terminal ---------------------------------------------------------------------------------


def listing(held: Records, what: Sequence[str] = (), only: str = "", every: bool = False) -> str:
    """Return a list for the terminal: one line a paper, or details of the names in `what`.

    `what` are names or patterns as for `table`: the list has their experiments with cost, data and
    the state of every number. `every` takes all; `only` keeps the numbers of one state, a line
    each.

    Raises ValueError with the nearest name for an unknown one.
    """
    chosen = [select(name) for name in what] or [(k, *v) for k, v in whole().items()]
    if only:
        rows = {row.id: row for _, group, _ in chosen for row in group}
        written = by_key()
        found = ((row, state(row, written.get(row.paper), held)) for row in rows.values())
        lines = [of_number(row, now) for row, now in found if now["state"] == only]
        return "\n".join(lines or [f"no number is in the state {only!r}"]) + "\n"
    if what or every:
        rows = {row.id: row for _, group, _ in chosen for row in group}
        names = dict.fromkeys(row.experiment for row in rows.values())
        by_name = {e.name: e for paper in papers() for e in paper.experiments}
        asked = {e.name: e for _, _, group in chosen for e in group}
        asked |= {name: by_name[name] for name in names if name in by_name}
        return details(asked.values(), rows, held)
    return overview(held)


def whole() -> dict[str, tuple[list[Row], list[Experiment]]]:
    """Return rows and experiments by paper."""
    keys = {*ledger.paper_keys(), *by_key()}
    return {name: found for name, found in known().items() if name in keys}


def overview(held: Records) -> str:
    """Return one line a paper."""
    lines = []
    written = by_key()
    for key, (rows, experiments) in whole().items():
        title = f": {written[key].name}" if key in written else ""
        ran = sum(any(current(e, p, held) for p in STRENGTH) for e in experiments)
        text = f"{ran} of {len(experiments)} experiments have records"
        text = text if experiments else "no experiments yet"
        text += f"; {tally(rows, written.get(key), held)}" if rows else "."
        lines.append(f"{key}{title}: {text}")
    lines.append(f"More: list {next(iter(whole()))}, list --state holds, list --all.")
    return "\n".join(lines) + "\n"


def of_number(row: Row, now: Mapping[str, Any]) -> str:
    """Return one line on a number."""
    mark = f", {MARKS[now['evidence']]}" if now["evidence"] else ""
    where = f"{row.table}, {row.method}, {row.data}, {row.measure}"
    return f"{row.id}  {where}: {now['state']}{mark} ({now['reason']})"


def details(experiments: Iterable[Experiment], rows: Mapping[str, Row], held: Records) -> str:
    """Return experiments with cost, data (here or not), seeds run, and their numbers."""
    from .. import data

    here = cache(data.available)
    written = by_key()
    left, lines = dict(rows), []
    for e in experiments:
        needs = [f"{n} ({'here' if here(n) else 'not here'})" for n in e.data]
        ran = {name: len(current(e, name, held)) for name in PROTOCOLS}
        seeds = ", ".join(f"{n} {name}" for name, n in ran.items() if n) or "none"
        lines += [
            f"{e.name}: {e.title}, {e.method}",
            f"  cost: {e.cost}; data: {', '.join(needs) or 'none'}",
            f"  seeds run: {seeds} (of {e.seeds})",
        ]
        mine = [left.pop(cell.id) for cell in e.cells if cell.id in left]
        lines += [f"  {of_number(r, state(r, written.get(r.paper), held))}" for r in mine]
    lines += [of_number(r, state(r, written.get(r.paper), held)) for r in left.values()]
    return "\n".join(lines) + "\n"
