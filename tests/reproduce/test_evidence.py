"""One rule of verdicts: its formulas, its level, and that nothing is decided past it."""

import itertools
import math
import random
from pathlib import Path
from statistics import fmean

import pytest
import torch
from scipy import stats

from wsl_tutorial.reproduce import evidence, ledger, papers, tables
from wsl_tutorial.reproduce.counts import claims as counts
from wsl_tutorial.reproduce.counts.experiments import NAMES, in_place
from wsl_tutorial.reproduce.evidence import contrast, decided
from wsl_tutorial.reproduce.worth import claims as worth

CLAIMS = {c.id: c for paper in papers() for c in paper.claims}
CELLS = {c.id: c for paper in papers() for e in paper.experiments for c in e.cells if c.claim}
# What no seed changes: durations of one run, the number of All-ones.
CERTAIN = {
    row.id
    for row in ledger.load().values()
    if row.id in CELLS and (row.unit in ("s", "min") or row.method == "All-ones")
}
CERTAIN |= {f"llp-comparable-seconds-{data}" for data in ("cifar", "photos")} | {"minmax-e-seconds"}

# Printed numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paper", "sd", "rounding", "ours", "lower", "rule", "state"),
    [
        (0.37, 0.04, 0.005, [0.36, 0.40], True, "mean", "reproduced"),
        (0.37, 0.04, 0.005, [0.43], True, "mean", "worse"),  # one seed has no ± of its own
        (0.37, 0.04, 0.005, [0.40, 0.46], True, "mean", "reproduced"),  # 0.06 < 0.04 + 0.042
        (0.37, 0.04, 0.005, [0.45, 0.46], True, "mean", "worse"),
        (0.37, 0.04, 0.005, [0.29, 0.30], True, "mean", "better"),
        (97.8, None, 0.05, [97.84], False, "mean", "reproduced"),  # within rounding
        (97.8, None, 0.05, [97.85], False, "mean", "reproduced"),
        (97.8, None, 0.05, [97.9], False, "mean", "better"),
        (97.8, None, 0.05, [97.7], False, "mean", "worse"),
        (97.8, None, 0.05, [97.3, 98.1], False, "mean", "reproduced"),  # within our own ±
        (0.32, None, 0.005, [0.40, 0.324, 0.40], True, "min", "reproduced"),
        (0.32, None, 0.005, [0.401, 0.4, 0.402], True, "min", "worse"),
        (90.0, None, 0.05, [88.0, 91.9], False, "max", "reproduced"),
        (8.9, None, 0.05, [1.0, 8.92], True, "seed:1", "reproduced"),
        (8.9, None, 0.05, [8.92, 1.0, 1.1, 0.9], True, "seed:1", "better"),
        (0.37, 0.04, 0.005, [0.37, None], True, "mean", "worse"),  # a diverged seed is not dropped
        (0.37, 0.04, 0.005, [None], True, "min", "worse"),
    ],
)
def test_verdict(paper, sd, rounding, ours, lower, rule, state):
    values = dict(enumerate(ours))
    assert evidence.verdict(paper, sd, rounding, values, lower, rule).state == state


def test_verdict_reports_what_it_judged():
    v = evidence.verdict(0.37, 0.04, 0.005, {0: 0.5, 1: 0.6, 4: 0.7}, True)
    assert v.ours == pytest.approx(0.6)
    assert v.sd == pytest.approx(0.1)  # n - 1 in the denominator
    assert v.gap == pytest.approx(0.23)
    assert v.tolerance == pytest.approx(0.14)


# Gaps ---------------------------------------------------------------------------------------------


def test_the_half_width_is_that_of_welchs_interval():
    x, y = [1.0, 2.0, 4.0], [0.5, 0.7, 0.6, 0.9]
    gap, error = contrast((1, x), (-1, y))
    interval = stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
    assert (gap - error, gap + error) == pytest.approx(tuple(interval), rel=1e-12)


def test_the_half_width_of_one_group_is_students():
    d = [0.3, -0.1, 0.4, 0.2]
    gap, error = contrast((2, d), plus=1.0)
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert (gap - error, gap + error) == pytest.approx((2 * low + 1, 2 * high + 1), rel=1e-12)
    shared = contrast((1, d), level=0.01)
    assert shared.error == pytest.approx(
        fmean(d) - stats.ttest_1samp(d, 0).confidence_interval(0.99)[0]
    )


def test_a_gap_of_gaps_has_satterthwaites_degrees_of_freedom():
    groups = [[1.0, 2.0, 4.0], [0.5, 0.7], [3.0, 3.3, 3.1], [2.0, 2.9]]
    gap, error = contrast(*zip((-1, 1, 1, -1), groups, strict=True))
    v = [stats.tstd(g) ** 2 / len(g) for g in groups]
    freedom = sum(v) ** 2 / sum(a**2 / (len(g) - 1) for a, g in zip(v, groups, strict=True))
    assert gap == pytest.approx(-fmean(groups[0]) + 0.6 + fmean(groups[2]) - 2.45)
    assert error == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(sum(v)))


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_two_equal_experiments_are_called_different_no_more_often_than_the_level(seeds):
    generator = torch.Generator().manual_seed(seeds)
    draws = torch.randn(2_000, 2, seeds, generator=generator, dtype=torch.float64).tolist()
    answers = [decided(contrast((1, a), (-1, b))) for a, b in draws]
    called = sum(answer is not None for answer in answers) / 2_000
    assert 0.015 < called < evidence.LEVEL + 0.01  # two standard errors of 2,000 tosses
    failing = answers.count(False) / 2_000  # only intervals below 0: one side of the level
    assert failing < evidence.LEVEL / 2 + 0.007


def test_the_rate_of_true_claims_that_fail_is_approximate():
    """Welch's interval keeps its level about: a small group beside a large one exceeds it."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randn(4_000, 12, generator=generator, dtype=torch.float64).tolist()
    answers = [decided(contrast((1, x[:2]), (-1, x[2:]))) for x in draws]
    failing = answers.count(False) / 4_000
    assert evidence.LEVEL / 2 + 0.01 < failing < 0.07
    page = (Path(__file__).parents[2] / "notebooks" / "15_audit.py").read_text("utf-8")
    assert "about 2.5 % for one difference" in page


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([(1.0, 0.5)], True),
        ([(1.0, 1.5)], None),
        ([(-1.0, 0.5)], False),
        ([(1.0, math.nan)], None),  # one seed
        ([(math.nan, 0.0)], None),
        ([(0.0, 0.0)], None),
        ([(1.0, 0.5), (1.0, 1.5)], None),
        ([(-1.0, 0.5), (1.0, math.nan)], False),  # a wrong gap decides, whatever another leaves
        ([], None),
    ],
)
def test_decided(facts, expected):
    assert decided(*facts) is expected


def test_a_run_without_a_finite_number_is_worse_than_every_number():
    lost = [{"metrics": {"x": 1.0}}, {"metrics": {"x": None}}]
    fine = [{"metrics": {"x": 0.0}}, {"metrics": {"x": 0.1}}]
    assert evidence.ahead(fine, lost, "x") == (math.inf, 0.0)
    assert decided(evidence.ahead(lost, fine, "x")) is False
    assert decided(evidence.behind(lost, fine, "x")) is False
    assert decided(evidence.behind(fine, lost, "x")) is True
    assert decided(evidence.ahead(lost, lost, "x")) is None
    other = [{"metrics": {"y": 1.0}}] * 2  # it has no such metric: nothing is known
    assert decided(evidence.ahead(other, fine, "x")) is None
    assert decided(evidence.ahead(lost[:1], lost[1:], "x")) is None  # one seed decides nothing


# Every claim of every paper -----------------------------------------------------------------------


class Anything(dict):
    """Metrics, or a point of a curve, that have a number for every key."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def __missing__(self, key):
        self[key] = self.draw(key)
        return self[key]

    def get(self, key, default=None):
        return self[key]


def invented(seeds, draw):
    """Records of some seeds, all of whose numbers are drawn."""
    return [
        {"seed": s, "metrics": Anything(draw), "curve": [Anything(draw) for _ in range(6)]}
        for s in range(seeds)
    ]


def judged(key, seeds, draw):
    """Return the ruling of a claim, or of a cell judged by one, on invented records."""
    if key in CELLS:
        return CELLS[key].claim(invented(seeds, draw))
    return CLAIMS[key].test({name: invented(seeds, draw) for name in CLAIMS[key].experiments})


@pytest.mark.parametrize("key", sorted({*CLAIMS, *CELLS} - CERTAIN))
def test_one_seed_decides_nothing(key):
    r = random.Random(key)
    answers = {judged(key, 1, lambda _: r.uniform(0.0, 100.0)).state for _ in range(20)}
    assert answers == {"undecided"}


@pytest.mark.parametrize("key", sorted(CERTAIN))
def test_what_no_seed_changes_is_decided_by_one_run(key):
    r = random.Random(key)
    answers = {judged(key, 1, lambda _: r.uniform(1.0, 10.0)).state for _ in range(40)}
    assert "undecided" not in answers


@pytest.mark.parametrize("key", sorted({*CLAIMS, *CELLS} - CERTAIN))
def test_no_claim_goes_by_the_sign_of_noise(key):
    """Numbers about one value, 50, with a spread of ten: an order of methods is seldom seen.

    Claims about a limit may be decided by it; then they are, at any noise that is small beside it.
    """
    r = random.Random(key)
    answers = [judged(key, 3, lambda _: r.gauss(50.0, 10.0)).state for _ in range(60)]
    still = {judged(key, 3, lambda _: 50.0 + 1e-9 * r.random()).state for _ in range(3)}
    if still == {"undecided"}:  # an order, and no limit decides it
        assert answers.count("holds") <= 9  # 3 are expected at the level of 5 %
        assert answers.count("undecided") >= 30


def test_one_rule_gives_equal_facts_one_verdict():
    """Two methods, 0.05 points apart with a spread of 28: no paper's rule calls them ordered."""
    a, b = [60.0, 88.2], [60.05, 88.15]
    runs = [
        {"seed": s, "metrics": {"dllp_accuracy": x, "mle_llp_accuracy": y, "both": x}}
        for s, (x, y) in enumerate(zip(a, b, strict=True))
    ]
    other = [{"seed": s, "metrics": {"both": y}} for s, y in enumerate(b)]
    assert counts.better("mle_llp", "dllp")(runs, runs).state == "undecided"
    assert worth.marginal_leads(runs, other).state == "undecided"


def splits(*rows):
    """Records of splits from accuracies in the order of `NAMES`."""
    names = [f"{m}_accuracy" for m in NAMES]
    return [
        {"seed": s, "metrics": dict(zip(names, row, strict=True)), "curve": []}
        for s, row in enumerate(rows)
    ]


@pytest.mark.parametrize(
    "runs",
    [
        splits((91, 88, 70, 89), (92, 88, 72, 89), (91, 87, 71, 88)),
        splits((91, 88, None, 89), (92, 88, 72, 89), (91, 87, 71, 88)),
        splits((None, 88, 70, 89), (92, 88, 72, 89), (91, 87, 71, 88)),
        splits((None, None, None, None), (92, 88, 72, 89)),
        splits((91, 88, 70, 89)),
        splits((60, 90, 70, 50), (90, 60, 72, 80)),
        splits((80, 88, 70, 89), (81, 88, 72, 89), (80, 87, 71, 88)),
    ],
)
def test_a_cell_and_a_claim_never_disagree_on_one_fact(runs):
    cells = {m: in_place(m)(runs).state for m in NAMES}
    best, least = counts.supervised_best(runs).state, counts.gan_least(runs).state
    assert cells["supervised"] == best
    if best == "fails":  # one of the others is not in its place either
        assert "fails" in {cells[m] for m in ("dllp", "llp_gan", "mle_llp")}
    if least == "fails":
        assert cells["llp_gan"] == "fails"
    if set(cells.values()) == {"holds"}:
        assert best == least == "holds"


def test_a_number_and_a_claim_agree_on_a_diverged_run():
    """The ratio of epochs is a printed number (0.5) and a claim (at most 0.65)."""
    row = ledger.load()["llp-310"]
    for ratios in ([0.5, 0.52], [0.5, None], [0.9, 0.91]):
        runs = [{"seed": s, "metrics": {"epochs_ratio": x}} for s, x in enumerate(ratios)]
        found = dict(enumerate(ratios))
        state = evidence.verdict(row.value, row.sd, row.rounding, found, row.lower).state
        claim = counts.half_the_epochs(runs).state
        assert (state, claim) in {("reproduced", "holds"), ("worse", "fails")}


def test_every_test_of_a_claim_gives_a_ruling():
    for key in (*CLAIMS, *CELLS):
        assert isinstance(judged(key, 2, lambda _: 1.0), evidence.Ruling)


def test_a_claim_names_who_makes_it():
    own = {key for key, claim in CLAIMS.items() if claim.own}
    assert {c.id for paper in papers() if paper.key == "worth" for c in paper.claims} <= own
    assert {"mist-learns-where", "minmax-drift", "llp-fair-dllp"} <= own
    assert not own & {"minmax-a-pets", "mist-svhn-crosses", "mcmil-rules-agree"}


# Curves -------------------------------------------------------------------------------------------


def points(*numbers):
    return [{"epoch": i, "error": n} for i, n in enumerate(numbers, 1)]


@pytest.mark.parametrize(
    ("numbers", "improving"),
    [
        ((9, 5, 3, 2, 1.5, 1.2), True),
        ((9, 5, 1, 2, 1.5, 1.2), False),  # its best is earlier
        ((9, 1, 1, 1, 1, 1), False),
        ((9, 5, 3, 2, 2, 1), True),  # the median of 2 and 1
        ((9, 5, 3, 2, 2.5, 1.8), False),  # one lucky epoch at the end is none
        ((4, 3, 2, 1), True),
        ((None, 3, 2, 1), True),
    ],
)
def test_a_curve_still_improves_if_its_last_quarter_is_better_than_all_before(numbers, improving):
    found = evidence.trend(points(*numbers), "error", lower=True)
    assert found.improving is improving
    upward = points(*(None if n is None else -n for n in numbers))
    assert evidence.trend(upward, "error", lower=False).improving is improving


@pytest.mark.parametrize("numbers", [(3, 2, 1), (), (4, 3, 2, None), (None, None, None, 1)])
def test_a_curve_that_cannot_tell_is_not_asked(numbers):
    assert evidence.trend(points(*numbers), "error", lower=True) is None
    assert evidence.trend(points(*numbers), "other", lower=True) is None


def test_a_curve_of_noise_is_seldom_said_to_improve():
    r = random.Random(0)
    for length in (6, 20, 60):
        curves = (points(*(r.random() for _ in range(length))) for _ in range(400))
        assert sum(evidence.trend(c, "error", True).improving for c in curves) / 400 < 0.12


def test_the_sentence_on_the_end_of_a_training_has_its_numbers():
    falling, flat = points(9, 5, 3, 2, 1.5, 1.2), points(9, 1, 1, 1, 1, 1)
    said = evidence.ended([{"curve": falling}, {"curve": flat}], "error", lower=True)
    assert said.startswith("still falling at the end in 1 of 2 seeds: `error` was 2 at best before")
    assert "1.35 (median)" in said
    assert evidence.ended([{"curve": flat}], "error", True).startswith("no longer falling at the")
    assert evidence.ended([{"curve": []}], "error", True) == ""


def test_experiments_select_by_what_their_curves_hold():
    from wsl_tutorial.reproduce import records

    experiments = {e.name: (p.key, e) for p in papers() for e in p.experiments}
    seen = set()
    for record in records.published():
        key, e = experiments[record["experiment"]]
        if len(record["curve"]) >= 4 and key != "llp":
            assert e.selects[0] in record["curve"][0], e.name
            seen.add(key)
    assert seen >= {"mcmil", "mist", "minmax", "worth"}


# Strength -----------------------------------------------------------------------------------------


def test_protocols_are_ordered_by_the_strength_of_their_evidence():
    from wsl_tutorial.reproduce.experiment import PROTOCOLS

    assert PROTOCOLS[: len(evidence.STRENGTH)] == evidence.STRENGTH
    assert evidence.STRENGTH[: len(evidence.JUDGING)] == evidence.JUDGING
    assert set(evidence.MARKS) == set(evidence.STRENGTH)
    assert "short" not in evidence.JUDGING
    assert set(itertools.chain(ledger.VERDICTS, ["no verdict", "not run"])) < set(ledger.STATES)
    assert tables.DECIDED[:3] == ("holds", "fails", "undecided")
