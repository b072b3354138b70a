"""The audit: every sentence has a test that exists, every finding a cell, every claim a state."""

import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nbformat
import report
import yaml

from wsl_tutorial.reproduce import audit, ledger, records, tables
from wsl_tutorial.reproduce.evidence import Ruling, ruling
from wsl_tutorial.reproduce.experiment import Claim, Experiment, Paper, Whose, Why

ROOT = Path(__file__).parents[2]
HELD = records.published()
SENTENCES = [s for paper in audit.audited() for s in paper.audit.sentences]
FINDINGS = [f for paper in audit.audited() for f in paper.audit.findings]
RELEASE = (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")


def squeezed(text: str) -> str:
    return " ".join(text.split())


# What a sentence rests on -------------------------------------------------------------------------


def test_every_sentence_names_a_test_that_exists():
    files = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    names = set(re.findall(r"^def (test_\w+)", "\n".join(files), re.MULTILINE))
    assert [s.test for s in SENTENCES if s.test not in names] == []
    assert [p.key for p in audit.audited() if not p.audit.sentences] == []


def test_a_sentence_with_an_equation_names_the_test_of_this_equation():
    numbered = [s for s in SENTENCES if s.equation]
    assert all(s.test.startswith(f"{s.tests}_") for s in numbered)
    assert all(f"({s.equation})" in s.why for s in numbered)
    assert {s.tests for s in SENTENCES if not s.equation} >= {
        "test_a_series_cut_inside_a_size_lies_on_either_side",
        "test_the_constraint_of_a_penalty_holds_only_in_its_limit",
        "test_detached_c_does_not_move_the_localiser",
    }


def test_what_a_paper_does_not_say_is_a_remark_and_is_not_counted():
    """A scope is no claim, nor is it one that two tables come from one run."""
    papers = audit.audited()
    remarks = {(p.key, s.source) for p in papers for s in p.audit.sentences if s.stands is None}
    assert remarks == {("llp", "section 1.2"), ("mist", "tables 2, 5")}
    assert audit.sentences_table().count("| remark |") == len(remarks)
    head, _, *lines = (line.split(" | ") for line in audit.summary([]).splitlines())
    column = head.index("sentences proved")
    counted = [line[column].split(" of ") for line in lines]
    assert sum(int(n) for _, n in counted) == len(SENTENCES) - len(remarks)
    assert sum(int(n) for n, _ in counted) == sum(s.stands is True for s in SENTENCES)


def test_every_finding_has_a_cell_that_asserts_it():
    notebook = nbformat.read(ROOT / "notebooks" / "15_audit.ipynb", as_version=4)
    shown, title = Counter(), None
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            title = line.lstrip("# ") if line.startswith("#") else title
        if cell.cell_type == "code":
            shown[title] += cell.source.count("assert ")
    titles = [finding.title for finding in FINDINGS]
    assert len(titles) == len(set(titles))
    assert {t: shown[t] for t in titles if shown[t] == 0} == {}
    assert all(re.fullmatch("[0-9a-f]{7}", finding.commit) for finding in FINDINGS)


# States -------------------------------------------------------------------------------------------


def invented(*answers: bool | None) -> tuple[Paper, list[dict]]:
    """A paper with one experiment and claim for each answer, None without a record; its records."""
    experiments, claims, held = [], [], []
    for i, answer in enumerate(answers):
        e = Experiment(
            f"x/{i}",
            "",
            "",
            Settings(),
            lambda *_: {},
            (),
            1,
            protocols={"short": {}},
            not_run=(Why.NO_GPU, Why.COST)[i % 2],
        )
        experiments.append(e)
        whose = Whose.BOOK if i == len(answers) - 1 else Whose.PAPER
        test = (lambda a: lambda _: Ruling(a, f"measured {a}"))(answer)
        claims.append(Claim(f"x-{i}", f"claim {i}", "not in the paper", (e.name,), test, whose))
        if answer is not None:
            run = {"experiment": e.name, "seed": 0, "protocol": "paper"}
            held.append(run | {"id": e.record_id(0, "paper")})
    return Paper("x", "T", "A", 2000, "", tuple(experiments), tuple(claims)), held


def Settings():
    from dataclasses import dataclass

    return dataclass(frozen=True)(type("Settings", (), {}))()


def test_claims_are_sorted_by_state_and_the_books_own_come_last():
    paper, held = invented(None, False, True, True)
    found = tables.verdicts(paper, held)
    assert [v.state for v in found] == ["holds", "fails", "not tested", "holds"]
    assert [v.claim.own for v in found] == [False, False, False, True]
    assert found[0].why == "measured True (1 seed)"
    assert found[2].why == "no GPU yet (1 of 1)"
    assert [v.evidence for v in found] == ["paper", "paper", None, "paper"]


def test_nothing_is_decided_by_a_number_that_is_not_one():
    """One seed gives no half-width, and the text of a ruling decides nothing."""
    paper, held = invented(False, False)
    nan = replace(paper.claims[0], test=lambda _: ruling("+1.0 points", (1.0, math.nan)))
    word = replace(paper.claims[1], test=lambda _: ruling("nan, undecided", (-1.0, 0.5)))
    even = replace(paper.claims[1], test=lambda _: ruling("+0.1 ± 5.0", (0.1, 5.0)))
    states = [tables.judge_claim(paper, c, held).state for c in (nan, word, even)]
    assert states == ["undecided", "fails", "undecided"]
    short = [
        r | {"id": e.record_id(0, "short"), "protocol": "short"}
        for e, r in zip(paper.experiments, held, strict=True)
    ]
    found = [tables.judge_claim(paper, c, short) for c in (nan, even, word)]
    assert {(v.state, v.evidence) for v in found} == {("no verdict", "short")}
    assert [v.why.partition(":")[0] for v in found] == ["undecided", "undecided", "disagrees"]


def test_every_reason_is_given_once_with_its_number():
    paper, held = invented(None, None, None, True)
    everything = Claim("x-all", "all", "section 2", tuple(f"x/{i}" for i in range(4)), None)
    assert tables.missing(paper, everything, held) == {"no GPU yet": 2, "too costly": 1}


def test_the_claims_that_fail_are_shown_with_their_measured_gap():
    failing = [
        (paper, v)
        for paper in audit.audited()
        for v in tables.verdicts(paper, HELD)
        if v.state == "fails" and not v.claim.own
    ]
    lines = audit.failing(HELD).splitlines()[2:]
    assert len(lines) == len(failing)
    for line, (paper, v) in zip(lines, failing, strict=True):
        assert all(text in line for text in (v.claim.text, paper.cited, v.claim.source, v.why))
    assert audit.failing([]) == "No claim fails."


def test_claims_are_counted_by_verdict_and_those_that_fail_are_named():
    paper, held = invented(None, False, True, True)
    text = tables.claims_tally(paper, held)
    assert text.startswith("3 claims of the paper: 1 holds, 1 fails, 1 not tested.")
    assert text.endswith("Fails: claim 1 (measured False (1 seed)).")
    assert tables.claims_tally(paper, []) == "3 claims of the paper: 3 not tested."


def test_every_program_is_listed_once_with_its_findings():
    _, _, *lines = audit.programs_table().splitlines()
    assert sum(int(line.split("|")[3]) for line in lines) == len(FINDINGS)
    assert len(lines) == len({f.program for f in FINDINGS})
    assert all(any(f.program in x and f.commit in x for x in lines) for f in FINDINGS)


def test_the_page_of_a_paper_ends_with_its_audit_and_its_further_tables():
    for paper in audit.audited():
        text = audit.page(paper.key, HELD)
        assert all(s.text in text and s.tests in text for s in paper.audit.sentences)
        assert all(f.title in text and f.file in text for f in paper.audit.findings)
        assert text.count(":::{dropdown}") == 2 + len(audit.further(paper, HELD))
    chosen = audit.sentences_table(stands=(False,))
    assert {s.text in chosen: s.stands is False for s in SENTENCES} == {True: True, False: False}


def test_no_claim_and_no_number_is_left_out():
    for paper in audit.audited():
        table = tables.claims(paper, HELD)
        assert all(claim.text.replace("|", "\\|") in table for claim in paper.claims)
        rows = [row for row in ledger.load().values() if row.paper == paper.key]
        counted = [line.split("|")[2] for line in audit.numbers_table(paper.key, HELD).splitlines()]
        assert sum(int(n) for n in counted[2:]) == len(rows)
    assert {paper.key for paper in audit.audited()} == set(ledger.paper_keys())


# The report ---------------------------------------------------------------------------------------


def test_the_report_says_what_it_was_made_from_and_how_to_cite_it(tmp_path, monkeypatch):
    target = tmp_path / "made" / "report.md"
    monkeypatch.setattr("sys.argv", ["report.py", str(target)])
    assert report.main() == 0
    text = target.read_text("utf-8")
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    date, commit = report.state()
    head = squeezed(text.partition("## Summary")[0])
    assert f"State of {date}, commit {commit} of" in head
    assert all(str(cff[key]) in head for key in ("version", "title", "repository-code"))
    assert "@misc{" in head
    assert head.count("{") == head.count("}")
    for paper in audit.audited():
        assert f"## {paper.name}\n" in text
        assert paper.link in text
        assert tables.claims(paper, HELD).strip() in text
    assert all(s.text in text and s.why in text and s.tests in text for s in SENTENCES)
    assert all(f.title in text and f.commit in text for f in FINDINGS)
    assert audit.summary(HELD).strip() in text


def test_the_report_is_plain_markdown():
    text = re.sub(r"```.*?```", "", report.document(), flags=re.DOTALL)
    heads = [line for line in text.splitlines() if line.startswith("#")]
    assert [line.partition(" ")[0] for line in heads].count("#") == 1
    assert not re.search(r"\{[a-z:]+\}`|^:::|<(?!https?://)[a-z]+[ >]", text, re.MULTILINE)
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(columns) == 1


def test_a_checkout_without_git_has_no_date(monkeypatch):
    monkeypatch.setattr(report, "git", lambda *_: "")
    assert report.state() == ("unknown date", "unknown commit")
    assert "(n.d.)" in report.citation(*report.state())


# The release --------------------------------------------------------------------------------------


def test_the_release_attaches_what_its_steps_make():
    workflow = yaml.safe_load(RELEASE)
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML reads `on` as true
    assert workflow["permissions"] == {"contents": "write"}
    steps = [step.get("run", "") for step in workflow["jobs"]["publish"]["steps"]]
    for script in re.findall(r"scripts/\w+\.py", RELEASE):
        assert (ROOT / script).exists()
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"make ([a-z]+)", RELEASE)) <= set(targets)
    (parts,) = re.findall(r"for part in (.*); do", RELEASE)
    upload = next(line for line in steps[-1].splitlines() if "gh release upload" in line)
    assert upload.split("--clobber ")[1].split() == [f"{p}.zip" for p in parts.split()] + [
        "report.md"
    ]


def test_the_release_uses_the_actions_of_the_other_workflows():
    others = [p for p in (ROOT / ".github" / "workflows").glob("*.yml") if p.name != "release.yml"]
    known = set(re.findall(r"uses: (\S+)", "\n".join(p.read_text("utf-8") for p in others)))
    assert set(re.findall(r"uses: (\S+)", RELEASE)) <= known
