"""What the papers claim, and what stands: every sentence with the record or the test it rests on.

Three kinds of sentence. A *claim* is decided by records (`tables.verdicts`), a *sentence* by
mathematics (`SENTENCES`, each with the test that decides it), and a *finding* is what a public
program computes (`FINDINGS`, each with a cell of chapter 15 that shows it). `report` puts them into
one document.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from . import ledger, papers, records, tables
from .experiment import Paper

Held = Sequence[dict[str, Any]]


class Sentence(NamedTuple):
    """A sentence of a paper that mathematics decides, and the test that holds the decision.

    Where `stands` is None nothing is decided: `text` is a remark of this book, which no sum counts.
    """

    paper: str
    source: str
    text: str
    stands: bool | None
    why: str
    test: str


SENTENCES = (
    Sentence(
        "mcmil",
        "Proposition 1",
        "an alternating sum over subsets is the probability of a label set",
        True,
        "Eq. (1.2): it is the sum over all labellings with these labels",
        "test_eq_1_2_is_the_sum_over_grids",
    ),
    Sentence(
        "mcmil",
        "paper (9)-(11)",
        "the recursion by subtraction gives the same probability",
        True,
        "Eq. (1.3)",
        "test_eq_1_3_gives_what_the_series_gives_and_sums_to_one",
    ),
    Sentence(
        "mcmil",
        "section 3.2",
        "in general, the truncated series gives neither an upper nor a lower bound",
        True,
        "cut inside a size it lies on either side; Eq. (2.4): cut after all subsets of a size, it "
        "bounds from above and below in turn",
        "test_a_series_cut_inside_a_size_lies_on_either_side",
    ),
    Sentence(
        "mcmil",
        "paper (13), (14)",
        "the mean probability stands in for the exact decision",
        True,
        "Eq. (3.3): it is the first order of (3.2) where evidence is weak",
        "test_eq_3_3_is_the_first_order_of_eq_3_2",
    ),
    Sentence(
        "llp",
        "paper (10)",
        "the weights of the E-step are the posteriors of the instances given the count",
        True,
        "Eq. (5.3): they are shares of the configurations with this count",
        "test_eq_5_3_is_the_share_of_configurations_with_the_instance",
    ),
    Sentence(
        "llp",
        "section 1.2",
        "the paper looks at bags of fewer than 10 to 20 instances; its sum is exact for any size",
        None,
        "Eq. (5.2): a scope is no claim; n y steps instead of C(n, y) configurations widen it",
        "test_eq_5_2_is_the_binomial_for_equal_instances_at_any_size",
    ),
    Sentence(
        "mist",
        "section 3, (3)",
        "lambda is a Lagrange multiplier",
        False,
        "it is the weight of the least-squares penalty; the constraint holds only in its limit",
        "test_the_constraint_of_a_penalty_holds_only_in_its_limit",
    ),
    Sentence(
        "mist",
        "section 4.1",
        "extraction undoes the ideal heat map",
        True,
        "Eq. (8.7), for one scale, or with (8.6) in place of the printed moment: for centres on "
        "pixels, none in the window of suppression around another",
        "test_eq_8_7_is_undone_by_the_extraction_of_places_that_are_apart",
    ),
    Sentence(
        "mist",
        "section 4.1",
        "the scale is the sum of responses times scales",
        False,
        "Eq. (8.6): not without division by the sum of the responses",
        "test_eq_8_6_returns_the_scale_that_was_split_and_the_printed_form_does_not",
    ),
    Sentence(
        "mist",
        "tables 2, 5",
        "97.5 % found and read, and an AP of 92.2 %, both with nine digits and K = 9, are two runs",
        None,
        "Eq. (10.3): no ranking gives this AP to this recall if AP is the area at all recalls; "
        "at eleven recalls, class by class, or without interpolation one does, and the paper "
        "defines no AP",
        "test_eq_10_3_has_no_room_for_both_printed_numbers",
    ),
    Sentence(
        "minmax",
        "paper (5)",
        "being unable to tell is least cross-entropy to the uniform answer",
        True,
        "Eq. (11.2)",
        "test_eq_11_2_is_log_c_and_a_divergence_least_at_uniform",
    ),
    Sentence(
        "minmax",
        "section 1",
        "the min-max terms favour models with few false positives",
        False,
        "Eq. (11.4): where no image is constant, the mask of all ones attains the least value of "
        "the loss",
        "test_eq_11_4_is_least_for_the_mask_of_all_ones",
    ),
    Sentence(
        "minmax",
        "sections 1, A.2",
        "conditional entropy drives a localiser whose mask is detached",
        False,
        "its head gets exactly none of their gradient; the shared body is moved for the "
        "classifier's sake",
        "test_detached_c_does_not_move_the_localiser",
    ),
)


class Finding(NamedTuple):
    """What a public program computes instead of a formula; `title` heads its cell of chapter 15."""

    paper: str
    title: str
    program: str
    file: str
    commit: str
    matters: str


FINDINGS = (
    Finding(
        "mcmil",
        "A sum that turns negative",
        "lixilinx/MCMIL, released with the paper",
        "utilities.py",
        "a5d8148",
        "weak evidence in float32; the experiments on CIFAR-10 and SVHN compute it in float64",
    ),
    Finding(
        "mcmil",
        "A maximum that knows its neighbours",
        "lixilinx/MCMIL, released with the paper",
        "TraditionalMIL_ExtendedMNISTExperiment.py",
        "21ee5e7",
        "the baseline of supplementary A",
    ),
    Finding(
        "llp",
        "Nothing divided by nothing",
        "barucden/mlellp, released with the paper",
        "em.py",
        "e7c1641",
        "eight or more positives in a bag, all thought impossible",
    ),
    Finding(
        "llp",
        "Every configuration, one by one",
        "barucden/mlellp, released with the paper",
        "em.py",
        "e7c1641",
        "time and memory from twenty instances on; the numbers are right",
    ),
    Finding(
        "llp",
        "So many or fewer",
        "UCLA-StarAI/CountLoss, of Shukla et al. (2023)",
        "LLP/utils/log_space_algo.py",
        "afde1e0",
        "`prob_x_equals_k_final`, which its training calls; `ret_entire_tensor_k`, in log space "
        "too, and the linear form begin right",
    ),
    Finding(
        "llp",
        "The last positive",
        "Hhhhhhao/General-Framework-Weak-Supervision, of Chen et al. (2024)",
        "src/core/nfa.py",
        "4167850",
        "targets of EM for counts other than 0 and n",
    ),
    Finding(
        "llp",
        "The mean of logarithms",
        "gaabrielfranco/llp-learn, a library",
        "src/llp_learn/dllp/_classes.py",
        "9ee832d",
        "a baseline by the name of DLLP",
    ),
    Finding(
        "mist",
        "One detection, two digits",
        "ubc-vision/mist, released with the paper",
        "utils/torch_utils.py",
        "3de57d2",
        "objects nearer than two thirds of a box",
    ),
    Finding(
        "mist",
        "Counting what was answered",
        "ubc-vision/mist, released with the paper",
        "utils/torch_utils.py",
        "3de57d2",
        "images without background class, where K is not the number of objects",
    ),
    Finding(
        "mist",
        "A zero is not missed",
        "ubc-vision/mist, released with the paper",
        "utils/torch_utils.py",
        "3de57d2",
        "digits; with a background class 0 the rule is right",
    ),
    Finding(
        "mist",
        "Peaks that fade",
        "ubc-vision/mist, released with the paper",
        "models/detector.py",
        "3de57d2",
        "heat maps with peaks of unequal height",
    ),
    Finding(
        "mist",
        "Zero beats a negative maximum",
        "ubc-vision/mist, released with the paper",
        "models/detector.py",
        "3de57d2",
        "heat maps without softmax, as for PASCAL + COCO",
    ),
    Finding(
        "minmax",
        "A mask cut from the graph",
        "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
        "deepmil/models.py",
        "0134bf9",
        "all experiments; the paper says so in A.2",
    ),
    Finding(
        "minmax",
        "One scale for a batch",
        "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
        "deepmil/models.py",
        "0134bf9",
        "training; a test image is alone in its batch",
    ),
    Finding(
        "minmax",
        "A weight without effect",
        "sbelharbi/wsol-min-max-entropy-interpretability, released with the paper",
        "deepmil/decision_pooling.py",
        "e52078a",
        "none for the paper, whose weight is 0",
    ),
    Finding(
        "minmax",
        "Attention above nothing",
        "jeromerony/survey_wsl_histology, the baselines",
        "localization_mil.py",
        "4f0196c",
        "Deep MIL's masks, of GlaS as of birds",
    ),
    Finding(
        "minmax",
        "The greatest class, and no background",
        "jeromerony/survey_wsl_histology, the baselines",
        "localization_mil.py",
        "4f0196c",
        "the masks of CAM and WILDCAT on GlaS; it reads the label of the test image",
    ),
)


def numbers_table(key: str, held: Held) -> str:
    """How many printed numbers of a paper are in which state, by place."""
    rows = {i: row for i, row in ledger.load().items() if row.paper == key}
    tally: dict[str, Counter] = {row.table: Counter() for row in rows.values()}
    for result in (s for s in tables.states(held) if s["id"] in rows):
        tally[rows[result["id"]].table][result["state"]] += 1
    lines = [(place, c.total(), *(c[s] for s in ledger.STATES)) for place, c in tally.items()]
    return tables.grid(("where", "numbers", *ledger.STATES), lines)


def sentences_table(key: str | None = None) -> str:
    """What mathematics decides, of one paper or of all; `pytest -k` finds the tests."""
    lines = []
    for s in SENTENCES:
        if key in (None, s.paper):
            where = s.source if key else f"{ledger.KEYS[s.paper].partition(' (')[0]}, {s.source}"
            test = re.match(r"test_eq_\d+_\d+|.*", s.test)[0]
            stands = {True: "stands", False: "does not stand", None: "remark"}[s.stands]
            lines.append((where, s.text, stands, s.why, f"`{test}`"))
    return tables.grid(("where", "sentence", "verdict", "because", "test"), lines)


def findings_table(key: str | None = None) -> str:
    """What public programs compute otherwise, of one paper or of all."""
    lines = [
        (f.title, f.program, f"`{f.file}`", f.commit, f.matters)
        for f in FINDINGS
        if key in (None, f.paper)
    ]
    return tables.grid(
        ("cells of chapter 15", "program", "file", "commit", "where it matters"), lines
    )


def summary(held: Held) -> str:
    """One line a paper: its claims by state, its sentences, and its numbers with a verdict."""
    lines, numbers = [], tables.states(held)
    for paper in audited():
        states = Counter(v.state for v in tables.verdicts(paper, held) if not v.claim.own)
        decided = [s.stands for s in SENTENCES if s.paper == paper.key and s.stands is not None]
        rows = [s for s in numbers if s["id"].rpartition("-")[0] == paper.key]
        judged = sum(s["state"] in ledger.VERDICTS for s in rows)
        proved = f"{sum(decided)} of {len(decided)}"
        claims = (states[name] for name in tables.DECIDED)
        lines.append((ledger.KEYS[paper.key], *claims, proved, f"{judged} of {len(rows)}"))
    head = (
        "paper",
        *(f"claims: {s}" for s in tables.DECIDED),
        "by mathematics: stand",
        "numbers judged",
    )
    return tables.grid(head, lines)


def audited() -> list[Paper]:
    """The papers of the ledger that have experiments here, in the order of the book."""
    return [paper for paper in papers() if paper.key in ledger.KEYS]


def report(held: Held | None = None) -> str:
    """The audit as a document: the tables of all papers, without date and citation."""
    held = records.published() if held is None else held
    parts = ["## Summary", summary(held)]
    for paper in audited():
        parts += [
            f"## {ledger.KEYS[paper.key]}",
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
