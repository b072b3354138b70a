"""Collect the audits of all papers: what they claim, and the record or test that decides it.

Records decide a *claim* (`tables.verdicts`). Mathematics decides a *sentence*, which names its
test. A *finding* is a difference between a public program and its formula; a cell of chapter 15
shows it. Sentences and findings are in `audit.py` of the package of their paper.
"""

from __future__ import annotations

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Sequence
from importlib import import_module

from . import ledger, papers, records, tables
from .evidence import Records, State
from .experiment import Audit, Paper

STANDS = {True: "stands", False: "does not stand", None: "remark"}


def audited(key: str | None = None) -> list[Paper]:
    """Return the papers that have an audit, in the book's order, or the one of a key."""
    return [paper for paper, _ in _audits(key)]


def _audits(key: str | None = None) -> list[tuple[Paper, Audit]]:
    """Return the papers with numbers in the ledger, or the one of a key, each with its audit."""
    keys = ledger.paper_keys() if key is None else [key]
    return [(paper, paper.audit) for paper in papers() if paper.key in keys and paper.audit]


def numbers_table(key: str, held: Records) -> str:
    """Return a table of a paper's printed numbers by place and state."""
    rows = {i: row for i, row in ledger.load().items() if row.paper == key}
    tally: dict[str, Counter] = {row.table: Counter() for row in rows.values()}
    for result in (s for s in tables.states(held) if s["id"] in rows):
        tally[rows[result["id"]].table][result["state"]] += 1
    lines = [(place, c.total(), *(c[s] for s in ledger.STATES)) for place, c in tally.items()]
    return tables.grid(("where", "numbers", *ledger.STATES), lines)


def sentences_table(key: str | None = None, stands: Sequence[bool | None] = tuple(STANDS)) -> str:
    """Return a table of the sentences of one paper or of all; `pytest -k` finds the tests.

    `stands` are the verdicts to show.
    """
    lines = [
        (
            s.source if key else f"{paper.cited}, {s.source}",
            s.text,
            STANDS[s.stands],
            s.why,
            f"`{s.tests}`",
        )
        for paper, audit in _audits(key)
        for s in audit.sentences
        if s.stands in stands
    ]
    return tables.grid(("where", "sentence", "verdict", "because", "test"), lines)


def findings_table(key: str | None = None) -> str:
    """Return a table of the findings in public programs, for one paper or for all."""
    lines = [
        (f.title, f.program, f"`{f.file}`", f.commit, f.matters)
        for _, audit in _audits(key)
        for f in audit.findings
    ]
    return tables.grid(
        ("section of chapter 15", "program", "file", "commit", "where it matters"), lines
    )


def programs_table() -> str:
    """Return a table of the public programs that were read, with the number of findings in each."""
    found: dict[str, list[str]] = defaultdict(list)
    for _, audit in _audits():
        for finding in audit.findings:
            found[finding.program].append(finding.commit)
    lines = [(name, ", ".join(dict.fromkeys(of)), len(of)) for name, of in found.items()]
    return tables.grid(("program", "commit", "findings"), lines)


def failing(held: Records) -> str:
    """Return a table of the claims of all papers that fail, or a sentence if none does."""
    lines = [
        (v.claim.text, f"{paper.cited}, {v.claim.source}", tables.MARKS[v.evidence], v.why)
        for paper in audited()
        for v in tables.verdicts(paper, held)
        if v.state is State.FAILS and v.evidence and not v.claim.own
    ]
    head = ("claim that fails", "where", "evidence", "measured")
    return tables.grid(head, lines) if lines else "No claim fails."


def page(key: str, held: Records) -> str:
    """Return the last part of the page of a paper, in MyST: its audit and its further tables."""
    parts = []
    for paper, audit in _audits(key):
        tests = "`pytest -k` finds each test by the name in the last column."
        shown = f"{tests}\n\n{sentences_table(key)}"
        parts += ["## Sentences, decided by mathematics\n", tables.folded("All sentences", shown)]
        if audit.findings:
            text = "[Chapter 15](../notebooks/15_audit.ipynb) shows each finding in a few lines."
            shown = f"{text}\n\n{findings_table(key)}"
            parts += ["## Public programs\n", tables.folded("All findings", shown)]
        if more := further(paper, held):
            parts += ["## More from the records\n", *more]
    return "\n".join(parts)


def further(paper: Paper, held: Records) -> list[str]:
    """Return, folded, the tables that `page.py` of a paper lists in FURTHER, if there are any."""
    name = f"{__package__}.{paper.room}.page"
    if importlib.util.find_spec(name) is None:
        return []
    listed = getattr(import_module(name), "FURTHER", {})
    return [tables.folded(title, f"{table(held).strip()}\n") for title, table in listed.items()]


def summary(held: Records) -> str:
    """Return a line for each paper: claims by state, sentences, and numbers with a verdict."""
    lines, numbers = [], tables.states(held)
    for paper, audit in _audits():
        states = Counter(v.state for v in tables.verdicts(paper, held) if not v.claim.own)
        decided = [s.stands for s in audit.sentences if s.stands is not None]
        rows = [s for s in numbers if ledger.load()[s["id"]].paper == paper.key]
        judged = sum(s["state"] in ledger.VERDICTS for s in rows)
        proved = f"{sum(decided)} of {len(decided)}"
        claims = (states.total(), *(states[name] for name in tables.DECIDED))
        lines.append((paper.name, *claims, proved, f"{judged} of {len(rows)}"))
    head = ("paper", "claims", *tables.DECIDED, "sentences proved", "numbers judged")
    return tables.grid(head, lines)


def report(held: Records | None = None) -> str:
    """Return the audit as a document: the tables of all papers, without date and citation."""
    held = records.published() if held is None else held
    parts = ["## Summary", summary(held)]
    for paper in audited():
        parts += [
            f"## {paper.name}",
            f"{paper.authors} ({paper.year}), *{paper.title}*, <{paper.link}>.",
            "### Claims, decided by records",
            tables.claims(paper, held),
            "### Sentences, decided by mathematics",
            sentences_table(paper.key),
            "### Printed numbers",
            numbers_table(paper.key, held),
            "### Public programs",
            findings_table(paper.key),
        ]
    return "\n\n".join(part.strip() for part in parts) + "\n"
