"""The question bank: answers found anew from the text, no mistake is right, classes differ."""

import re
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from functools import cache
from itertools import groupby, product
from math import ceil, comb, exp, isclose, log, log2, log10, prod, sqrt
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import numpy as np
import pytest
import torch

from wsl_tutorial import check, metrics, questions
from wsl_tutorial.check import CheckFailed
from wsl_tutorial.exercises import core

SEEDS = [f"class {i}" for i in range(25)]
each = pytest.mark.parametrize("name", questions.BANK)
made = cache(questions.make)  # that it makes the same question again is a test of its own


def numbers(text: str) -> list[float]:
    text = re.sub(
        r"\([0-9]+\.[0-9]\)|, counted from 0,|[Cc]lass 0|F_1|10,000|\$K\$|log_\{10\}", "", text
    )
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text)]


def parts(name: str, seed: str) -> list[questions.Question]:
    """The question, or its parts, each with the text that stands before them."""
    question, joined = made(name, seed), []
    for part in question.parts:
        before = f"{question.text} {question.parts[0].text if part.name in FOLLOWS else ''}"
        joined.append(replace(part, text=f"{before} {part.text}"))
    return joined or [question]


def label_sets(p: list[float]) -> dict[frozenset, float]:
    """Probability of every label set of some positions, by enumeration."""
    rows, found = [p[i : i + 3] for i in range(0, len(p), 3)], {}
    for chosen in product(range(3), repeat=len(rows)):
        key = frozenset(chosen) - {2}
        found[key] = found.get(key, 0) + prod(r[c] for r, c in zip(rows, chosen, strict=True))
    return found


def of_count(rho: list[float], y: int, fixed: dict[int, int] | None = None) -> float:
    total = 0.0
    for h in product((0, 1), repeat=len(rho)):
        if sum(h) == y and all(h[i] == v for i, v in (fixed or {}).items()):
            total += prod(p if x else 1 - p for p, x in zip(rho, h, strict=True))
    return total


def second_peak(h: list[float]) -> int:
    peaks = [i for i in range(10) if h[i] == max(h[max(0, i - 1) : i + 2])]
    return sorted(peaks, key=lambda i: -h[i])[1]


def overlap(side: int, right: int, down: int) -> float:
    a = set(product(range(side), repeat=2))
    b = {(x + right, y + down) for x, y in a}
    return len(a & b) / len(a | b)


def slope(p: list[float], eps: float = 1e-6) -> float:
    """Finite difference of minus the entropy of a softmax in its first logit."""

    def negative_entropy(first: float) -> float:
        weights = [p[0] * exp(first), *p[1:]]
        return sum(w / sum(weights) * log(w / sum(weights)) for w in weights)

    return (negative_entropy(eps) - negative_entropy(-eps)) / (2 * eps)


def spread(values: list[float]) -> float:
    """From the pairs of values, without their mean."""
    n = len(values)
    return sqrt(sum((a - b) ** 2 for a in values for b in values) / (2 * n * (n - 1)))


def worst_ranking(objects: int, boxes: int, images: int, recall: float) -> float:
    """Average precision, in %, where all wrong boxes come first, walking down the ranking."""
    hits = round(recall * objects * images / 100)
    wrong = boxes * images - hits
    precision = [i / (wrong + i) for i in range(1, hits + 1)]
    best = [max(precision[i:]) for i in range(0, hits)]
    return 100 * sum(best) / (objects * images)


def not_refuted(k: int, n: int, z: float) -> float:
    """By halving: the p above k/n that lies z of its own standard deviations away, in %."""
    low, high = k / n, 1.0
    for _ in range(80):
        p = (low + high) / 2
        low, high = (p, high) if p - k / n <= z * sqrt(p * (1 - p) / n) else (low, p)
    return 100 * low


def bits(most: int, classes: int, a: int, b: int) -> float:
    rows = product(range(classes), repeat=a + b)
    fit = sum((row.count(0), row.count(1)) == (a, b) for row in rows)
    return -log2(fit / classes ** (a + b) / most)


def uneven(a: int, b: int) -> float:
    """Two-sided probability of tosses at least as uneven, by the distance from the middle."""
    n = a + b
    return sum(comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= abs(a - b)) / 2**n


def bend(n: int, y: int, along: list[float], eps: float = 1e-3) -> float:
    """Second difference of log P(count y) where all logits are equal, per squared length."""

    def value(t: float) -> float:
        total = np.ones(1)
        for v in along:
            p = 1 / (1 + (n - y) / y * exp(-t * v))
            total = np.convolve(total, [1 - p, p])
        return log(total[y])

    return (value(eps) - 2 * value(0.0) + value(-eps)) / eps**2 / sum(v * v for v in along)


def lowest(x: float, start: float, slope: float, rate: float, penalty: float) -> float:
    """Lowest point of slope, distance from x and penalty, by halving where its derivative is 0."""
    low, high = -100.0, 100.0
    for _ in range(80):
        at = (low + high) / 2
        rises = slope + (at - x) / rate + 2 * penalty * (at - start) > 0
        low, high = (low, at) if rises else (at, high)
    return low


@cache
def blind(objects: int, classes: int, guessed: int) -> float:
    """Mean share of labels, in %, that a fixed answer has: over all label lists."""
    lists = list(product(range(classes), repeat=objects))
    return 100 * sum(len(set(x) & set(range(guessed))) for x in lists) / len(lists) / objects


def correlation(tp: float, fp: float, fn: float, tn: float) -> float:
    """Pearson's correlation of the two masks."""
    predicted = np.repeat([1, 1, 0, 0], np.int64([tp, fp, fn, tn]))
    true = np.repeat([1, 0, 1, 0], np.int64([tp, fp, fn, tn]))
    return float(np.corrcoef(predicted, true)[0, 1])


def seven(least: int, most: int) -> float:
    """Bits of the answer to *is there a 7?*, from the bits of its surprise."""
    without = fmean((9 / 10) ** n for n in range(least, most + 1))
    return -log2(without) * without - log2(1 - without) * (1 - without)


FOLLOWS = {"errors-that-can-be-seen-b"}  # parts that need the first part

# From the numbers in the text, by counting and enumeration.
ANEW = {
    "labellings-that-fit": lambda n, a, b, c: sum(
        (h.count("A"), h.count("B")) == (a, b) for h in product("ABC", repeat=int(n))
    ),
    "posterior-of-a-point": lambda p, q: p / (p + (1 - p) * q),
    "presence-of-two": lambda *p: label_sets(p)[frozenset({0, 1})],
    "only-one-class": lambda *p: label_sets(p)[frozenset({0})],
    "digits-that-are-lost": lambda sizes, value, digits: ceil(digits - log10(sizes / value)),
    "loss-of-the-maxima": lambda *p: -log(max(p[0::3]) * max(p[1::3])) / 2,
    "allowed-gap": lambda printed, sd, *ours: sd + spread(ours),
    "count-of-three": lambda *rho: of_count(rho, 2),
    "posterior-of-an-instance": lambda *rho: of_count(rho, 1, {0: 1}) / of_count(rho, 1),
    "proportion-loss-of-a-bag": lambda y, *rho: (
        -(y / 4) * log(sum(rho) / 4) - (1 - y / 4) * log(1 - sum(rho) / 4)
    ),
    "corrected-t": lambda splits, _, gap, sd: gap / (sd**2 * (1 / splits + 0.25)) ** 0.5,
    "second-place": lambda *h: second_peak(h[:10]),
    "overlap-of-boxes": lambda side, right, down: overlap(int(side), int(right), int(down)),
    "least-average-precision": lambda objects, boxes, images, recall: worst_ranking(
        int(objects), int(boxes), int(images), recall
    ),
    "two-gradients": lambda *p: slope(p),
    "entropy-that-is-left": lambda p, q: -p * log(p) - q * log(q),
    "dice-of-all-ones": lambda percent, *_: 2 * percent / (100 + percent),
    "trust-of-a-step": lambda t, sigma, p: p * exp(-t / sigma),
    "rates-not-refuted": lambda k, n, z: not_refuted(k, n, z),
    "bits-of-a-count": lambda least, most, *n: bits(int(most), *map(int, n)),
    "failures-by-luck": lambda m, percent: sum(
        comb(int(m), k) * (percent / 100) ** k * (1 - percent / 100) ** (m - k)
        for k in range(1, int(m) + 1)
    ),
    "copies-of-one": lambda copies, percent: sum(
        comb(int(copies), k) * (percent / 100) ** k * (1 - percent / 100) ** (copies - k)
        for k in range(1, int(copies) + 1)
    ),
    "belief-at-three-points-a": lambda *p: 1 - of_count(p, 0),
    "belief-at-three-points-b": lambda *p: p[0] / (1 - of_count(p, 0)),
    "belief-at-three-points-c": lambda *p: 1 / (1 - of_count(p, 0)),
    "label-sets-of-two-positions-a": lambda *p: label_sets(p)[frozenset()],
    "label-sets-of-two-positions-b": lambda *p: label_sets(p)[frozenset({0})],
    "label-sets-of-two-positions-c": lambda *p: label_sets(p)[frozenset({0, 1})],
    "walk-over-two-labels-a": lambda *p: label_sets(p)[frozenset({0, 1})],
    "walk-over-two-labels-b": lambda *p: p[0] * p[4] / label_sets(p)[frozenset({0, 1})],
    "walk-over-two-labels-c": lambda *p: log10(sum(p[6:]) / label_sets(p[:6])[frozenset({0, 1})]),
    "weight-of-a-bag-a": lambda *p: -log(1 - of_count(p, 0)),
    "weight-of-a-bag-b": lambda *p: -log(max(p)),
    "weight-of-a-bag-c": lambda p, q, eta: 1 / (1 + eta / (p + q - p * q)),
    "methods-on-the-same-images-a": lambda a, b, both: a + b - 2 * both,
    "methods-on-the-same-images-b": lambda a, b, both: uneven(int(a - both), int(b - both)),
    "two-of-three-a": lambda *rho: of_count(rho, 2),
    "two-of-three-b": lambda *rho: of_count(rho, 2, {0: 1}) / of_count(rho, 2),
    "two-of-three-c": lambda *rho: (
        sum(of_count(rho, 2, {i: 1}) for i in range(3)) / of_count(rho, 2)
    ),
    "curvature-of-a-bag-a": lambda n, y, *_: bend(int(n), int(y), [1.0] * int(n)),
    "curvature-of-a-bag-b": lambda n, y, *_: bend(int(n), int(y), [1.0, -1.0] + [0.0] * int(n - 2)),
    "splits-that-overlap-a": lambda k, q, gap, sd: gap / sqrt(sd**2 / k),
    "splits-that-overlap-b": lambda k, q, gap, sd: gap / sqrt(sd**2 / k + sd**2 * q / (100 - q)),
    "side-and-step-a": lambda a, b, c, *h: (a * h[0] + b * h[1] + c * h[2]) / sum(h),
    "side-and-step-b": lambda *n: lowest(*n[-5:]),
    "baseline-of-some-draws-a": lambda m, first, *others: first - sum(others) / (m - 1),
    "baseline-of-some-draws-b": lambda m, *_: (m - 1) / m,
    "detector-without-sight-a": lambda objects, classes, guessed, _: blind(
        int(objects), int(classes), int(guessed)
    ),
    "detector-without-sight-b": lambda objects, classes, guessed, seen: (
        1 - (100 - seen) / (100 - blind(int(objects), int(classes), int(guessed)))
    ),
    "detector-without-sight-c": lambda objects, _, guessed, recall: (
        recall * (recall * objects / (guessed * 100))
    ),
    "entropies-of-an-answer-a": lambda *p: -sum(x * log(x) for x in p),
    "entropies-of-an-answer-b": lambda *p: sum(log(1 / 3 / x) / 3 for x in p),
    "entropies-of-an-answer-c": lambda *p: slope(p),
    "scores-of-blind-masks-a": lambda percent, *_: 2 * percent / (100 + percent),
    "scores-of-blind-masks-b": lambda percent, *_: 2 * (100 - percent) / (200 - percent),
    "scores-of-blind-masks-c": lambda _, tp, fp, fn, tn, *__: correlation(tp, fp, fn, tn),
    "errors-that-can-be-seen-a": lambda n, level: ceil(1 - log2(level / 100)),
    "errors-that-can-be-seen-b": lambda n, level: 100 * ceil(1 - log2(level / 100)) / n,
    "errors-that-can-be-seen-c": lambda n, z: not_refuted(0, n, z),
    "price-of-a-label-a": lambda least, most, _: seven(int(least), int(most)),
    "price-of-a-label-b": lambda least, most: log2(most - least + 1),
    "price-of-a-label-c": lambda _, __, few, seconds, many, clicks: (
        (seconds * many / few - seconds) / clicks
    ),
    "claims-of-a-list-a": lambda m, percent: (
        of_count([percent / 100] * min(int(m), 12), 0) * (1 - percent / 100) ** max(0, m - 12)
    ),
    "claims-of-a-list-b": lambda m, percent: (
        comb(int(m), 1) * exp((m - 1) * log(1 - percent / 100)) * percent / 100
    ),
    "claims-of-a-list-c": lambda m, percent: m * percent / 100,
    "slide-or-molecule-a": lambda n, k, percent: 1 - of_count([percent / 100] * int(k), 0),
    "slide-or-molecule-b": lambda n, k, percent, *_: 1 - exp(k / n * log(1 - percent / 100)),
    "votes-of-a-precinct-a": lambda total, row, column, *_: (
        min(x for x in range(int(row) + 1) if column - x <= total - row) / row
    ),
    "votes-of-a-precinct-b": lambda total, row, _, a, b: (
        row * (a - a * a) + (total - row) * (b - b * b)
    ),
    "voters-for-sure": lambda total, row, column: column - (total - row),
}


def signed(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"[-+]?\d+(?:\.\d+)?", text)]


def condition(sum_of_terms: str) -> float:
    terms = signed(sum_of_terms)
    return sum(map(abs, terms)) / abs(sum(terms))


def reading(row: list[str]) -> str:
    return " ".join(digit for digit, _ in groupby(row) if digit != ".")


def verdict(printed: float, sd: float, *ours: float) -> str:
    gap, allowed = fmean(ours) - printed, max(0.005, sd + stdev(ours))
    return "reproduced" if abs(gap) <= allowed else "better" if gap < 0 else "worse"


def best(question, option, value) -> bool:
    return option == max(question.options, key=value)


def odds_of_pair(question, option) -> float:
    rho = numbers(question.text)
    places = ["first", "second", "third", "fourth"]
    return prod(p / (1 - p) for p, word in zip(rho, places, strict=True) if word in option)


def fit_of_constant(n: float, y: float, rho: float) -> float:
    return y / n * log(rho) + (1 - y / n) * log(1 - rho)


def arrives(curve: list[float]) -> int:
    return 1 + min(i for i, a in enumerate(curve) if a >= 0.99 * sum(curve[-3:]) / 3)


def cell(total: float, row: float, column: float) -> str:
    possible = [x for x in range(int(row) + 1) if 0 <= column - x <= total - row]
    return f"from {possible[0]} to {possible[-1]}"


def is_cut_share(rate: str, n: int) -> bool:
    return any(10_000 * k // n == round(100 * float(rate)) for k in range(n + 1))


# Whether an option is right, from the text and the options alone.
FITS = {
    "labelling-that-fits": lambda q, o: (
        set(o.split()) - {"-"} == set(re.search(r"{(.*)}", q.text)[1].split(", "))
    ),
    "grids-with-one-label": lambda q, o: (
        int(o) == sum("L" in w for w in product("L-", repeat=int(numbers(q.text)[0])))
    ),
    "sum-that-cancels": lambda q, o: best(q, o, condition),
    "reading-of-a-row": lambda q, o: o == reading(re.search("is (.*),", q.text)[1].split()),
    "verdict-by-the-rule": lambda q, o: o == verdict(*numbers(q.text)),
    "most-probable-pair": lambda q, o: best(q, o, lambda x: odds_of_pair(q, x)),
    "constant-answer-of-dllp": lambda q, o: best(
        q, o, lambda x: fit_of_constant(*numbers(q.text), float(x))
    ),
    "arrival-of-a-curve": lambda q, o: int(o) == arrives(numbers(q.text)[:12]),
    "penalty-of-a-setting": lambda q, o: o.endswith(
        f"becomes {numbers(q.text)[0]:g} times {'larger' if 'The batch' in q.text else 'smaller'}"
    ),
    "labels-of-the-places": lambda q, o: (
        numbers(o) == [(n := numbers(q.text))[3] - sum(n[:3]), *n[:3]]
    ),
    "iou-of-a-shifted-box": lambda q, o: o == f"{overlap(*map(int, numbers(q.text)), 0):.3f}",
    "largest-cross-entropy": lambda q, o: best(q, o, lambda x: -prod(numbers(x))),
    "look-that-is-trusted": lambda q, o: "largest" in o and numbers(o)[1] >= numbers(o)[0],
    "rate-that-no-count-has": lambda q, o: not is_cut_share(o[:-2], int(numbers(q.text)[0])),
    "number-with-the-most-bits": lambda q, o: best(
        q, o, lambda x: -abs((1 - 1 / numbers(q.text)[0]) ** int(x) - 0.5)
    ),
    "uniform-share": lambda q, o: o == f"1/{prod(numbers(q.text)[1:]):g}",
    "copies-with-weights": lambda q, o: o == f"{numbers(q.text)[1]:g} %",
    "range-of-a-cell": lambda q, o: o == cell(*numbers(q.text)),
}


@each
def test_answers_follow_from_the_text(name):
    for seed in SEEDS:
        for question in parts(name, seed):
            if question.kind == "number":
                answer = ANEW[question.name](*numbers(question.text))
                assert isclose(question.answer, answer, rel_tol=1e-4, abs_tol=1e-7), question


def test_the_digits_of_a_sum_that_are_right_follow_from_the_sizes_of_all_terms():
    """Two terms have the sizes and the sum of the text; the largest size does not matter."""
    for seed in SEEDS:
        question = questions.make("digits-that-are-lost", seed)
        found = re.search(
            r"sizes of the terms .* add up to (\S+), its sum is (\S+),", question.text
        )
        sizes, total = map(float, found.groups())
        terms = torch.tensor([sizes + total, total - sizes], dtype=torch.float64) / 2
        lost = check.digits_lost.right(terms).item()
        assert question.answer == ceil(7 - lost - 1e-9)


@each
def test_exactly_one_option_follows_from_the_text(name):
    for seed in SEEDS:
        for question in parts(name, seed):
            if question.kind == "choice":
                right = [i for i, o in enumerate(question.options) if FITS[name](question, o)]
                assert right == [question.answer]
                assert len(set(question.options)) == len(question.options) >= 3
                wrong = sorted(question.mistakes.values())
                assert sorted([*wrong, question.answer]) == list(range(len(question.options)))


def test_options_of_which_not_exactly_one_is_right_are_refused():
    for truths in [(True, True), (False, False)]:
        options = [(str(i), true, f"hint {i}") for i, true in enumerate(truths)]
        with pytest.raises(ValueError, match="not exactly one"):
            core.choice(Random(0), "Which?", *options, solution="None.")


@each
def test_a_check_takes_the_answer_and_names_each_mistake(name, capsys, monkeypatch):
    monkeypatch.setattr(questions, "make", made)
    for seed in SEEDS:
        question = made(name, seed)
        steps = parts(name, seed)
        answers = [step.answer for step in steps]
        given = answers if question.parts else answers[0]
        questions.check(name, seed, given)
        assert capsys.readouterr().out == f"✓ {name}\n"
        for i, step in enumerate(steps):
            for hint, wrong in step.mistakes.items():
                if question.parts:
                    given = [*answers[:i], wrong, *answers[i + 1 :]]
                named = refused(name, seed, given if question.parts else wrong)
                named = named.removeprefix(f"{step.name}: ")
                assert named == hint or isclose(step.mistakes[named], wrong, rel_tol=5e-3)


def test_the_key_names_the_number_with_the_most_bits_of_all():
    """It was log 2 times the classes, rounded: 3 for four classes, where 2 has more."""
    seen = set()
    for seed in range(100):
        question = questions.make("number-with-the-most-bits", f"class {seed}")
        classes = int(numbers(question.text)[0])
        named = int(re.search(r"K = (\d+)", question.solution)[1])
        assert named == min(range(1, 60), key=lambda k: abs((1 - 1 / classes) ** k - 0.5))
        assert question.options[question.answer] == str(named)
        seen.add(classes)
    assert {4, 8, 11, 14, 17} <= seen


def test_what_hints_and_keys_say_of_probabilities_is_that_of_the_variant():
    """They said *almost always* of 3 in 4, and *often* of 10 %."""
    for seed in SEEDS:
        question = questions.make("number-with-the-most-bits", seed)
        classes = int(numbers(question.text)[0])
        one = next(h for h, i in question.mistakes.items() if question.options[int(i)] == "1")
        assert one.endswith(f"{classes - 1}/{classes}")
        question = questions.make("claims-of-a-list", seed)
        m, percent = numbers(question.text)
        some = f"{100 * (1 - (1 - percent / 100) ** m):.0f} %"
        essay = question.parts[-1]
        assert some in essay.solution
        assert essay.marks[0].endswith(some)


@each
def test_an_answer_that_is_rounded_to_three_digits_is_right(name, capsys):
    """0.105 was refused for 0.1045, which is more than two thousandths away."""
    for seed in SEEDS:
        steps = parts(name, seed)
        rounded = [
            float(f"{step.answer:.3g}") if step.kind == "number" else step.answer for step in steps
        ]
        questions.check(name, seed, rounded if len(steps) > 1 else rounded[0])
        assert capsys.readouterr().out == f"✓ {name}\n"


@pytest.mark.parametrize(
    ("value", "right", "wrong"),
    [
        (0.1045, [0.104, 0.105, 0.10405], [0.103, 0.106, 0.1]),
        (0.18350342, [0.184, 0.1835], [0.183, 0.18, 0.19]),
        (999.4, [999, 998, 1000], [1005, 990]),
        (-2.5e-7, [-2.5e-7], [2.5e-7, -1.0]),
        (0.0, [0.0], [1e-3]),
    ],
)
def test_three_digits_are_enough_and_two_are_not(value, right, wrong):
    assert all(questions.near(value, answer) for answer in right)
    assert not any(questions.near(value, answer) for answer in wrong)


def refused(name: str, seed: str, answer) -> str:
    with pytest.raises(CheckFailed) as failed:
        questions.check(name, seed, answer)
    return str(failed.value)


@each
def test_an_answer_that_is_far_off_is_no_known_mistake(name):
    steps = parts(name, "spring")
    far = [1e6 if step.answer is not None else None for step in steps]
    assert "start again" in refused(name, "spring", far if len(far) > 1 else far[0])


@each
def test_a_question_is_complete(name):
    question = questions.make(name, "spring")
    assert question.name == name
    assert {"quick": 1, "homework": 2, "exam": sum(p.points for p in question.parts)}[
        question.level
    ] == question.points
    for step in parts(name, "spring"):
        assert step.chapter == questions.BANK[name][0]
        assert step.solution.endswith(".")
        if step.kind == "text":
            assert len(step.marks) == step.points == len(set(step.marks))
        else:
            assert len(step.mistakes) >= 2


def test_letters_choose_options_and_a_text_is_marked_by_a_person():
    letters = [*"abcd"]
    answer = questions.make("labelling-that-fits", "spring").answer
    questions.check("labelling-that-fits", "spring", letters.pop(answer))
    for letter in letters:
        refused("labelling-that-fits", "spring", letter)
    with pytest.raises(ValueError, match="'z' is not a number"):
        questions.check("labelling-that-fits", "spring", "z")
    with pytest.raises(ValueError, match="a person marks it"):
        questions.check("two-of-three", "spring", [None, None, None, "because"])
    with pytest.raises(ValueError, match="has 4 parts"):
        questions.check("two-of-three", "spring", 2)


@each
def test_classes_have_their_own_numbers_and_keep_them(name):
    asked = {repr(questions.make(name, f"class {i}")) for i in range(60)}
    assert len(asked) > 20
    assert questions.make(name, SEEDS[0]) == questions.make(name, SEEDS[0])


def test_the_sheet_keeps_the_key_to_itself(capsys):
    assert questions.main(["spring", "--chapters", "5", "12"]) == 0
    plain = capsys.readouterr().out
    assert "Answer" not in plain
    assert "(chapter 5, 2 points)" in plain
    assert "(chapter 1," not in plain
    assert "[2 points]" in plain
    assert questions.main(["spring", "--key"]) == 0
    steps = [step for name in questions.BANK for step in parts(name, "spring")]
    answered = sum(step.answer is not None for step in steps)
    assert capsys.readouterr().out.count("Answer: ") == answered
    with pytest.raises(SystemExit):
        questions.main(["spring", "--chapters", "99"])


def test_a_count_is_written_with_all_its_digits():
    question = questions.make("labellings-that-fit", "spring")
    values = {362880.0: "362880", 0.0: "0", 2 / 3: "0.6667", 1e12: "1e+12"}
    assert {value: questions.written(question, value) for value in values} == values


def test_unknown_questions_are_named():
    with pytest.raises(ValueError, match="did you mean 'presence-of-two'"):
        questions.make("presence-of-tow", "spring")


@pytest.mark.parametrize("answer", ["0.344", None, [1], True])
def test_an_answer_that_is_no_number_is_named(answer):
    with pytest.raises(ValueError, match=f"answer .*{re.escape(repr(answer))}.* is not a number"):
        questions.check("presence-of-two", "spring", answer)


def right(wrap, capsys) -> None:
    answer = questions.make("presence-of-two", "spring").answer
    questions.check("presence-of-two", "spring", wrap(answer))
    assert capsys.readouterr().out == "✓ presence-of-two\n"


@pytest.mark.parametrize(
    "wrap",
    [
        *(torch.tensor, lambda x: torch.tensor([[x]], dtype=torch.float64, requires_grad=True)),
        *(np.float32, np.float64, np.array, lambda x: np.array([x]), lambda x: Fraction(str(x))),
        *(lambda x: Decimal(str(x)), lambda x: complex(x, 0)),
    ],
)
def test_one_number_in_any_dress_is_taken(wrap, capsys):
    right(wrap, capsys)


@pytest.mark.parametrize(
    "answer", [float("nan"), float("inf"), 10**400, -(10**400), Fraction(10**400), -0.0, 2**70]
)
def test_numbers_that_are_far_off_get_a_hint(answer):
    with pytest.raises(CheckFailed, match="start again"):
        questions.check("presence-of-two", "spring", answer)


@pytest.mark.parametrize(
    "answer",
    [
        *(torch.ones(2), torch.tensor(True), torch.tensor(1j), torch.empty(0)),
        *(torch.ones(1, device="meta"), np.ones(3), np.array("0.3"), np.bool_(True)),
        *(1j, {0.3}, {"a": 0.3}, (0.3,), b"0.3", float, lambda: 0.3, object(), "x" * 10**6),
        *([0.3] * 10**6, Decimal("sNaN")),
    ],
)
def test_an_answer_without_a_number_is_a_hint_in_one_short_line(answer):
    with pytest.raises(CheckFailed, match=r"^answer .* is not a number, as 0\.42 is$") as failed:
        questions.check("presence-of-two", "spring", answer)
    assert len(str(failed.value)) < 300


@pytest.mark.parametrize("word", [None, "", "  ", 3])
def test_a_name_or_a_class_without_a_letter_is_named(word):
    with pytest.raises(ValueError, match=r"name .* is not a word"):
        questions.make(word, "spring")
    with pytest.raises(ValueError, match=r"seed .* is not a word"):
        questions.make("presence-of-two", word)


def test_the_sheet_of_an_empty_class_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        questions.main([""])
    assert ended.value.code == 2
    assert "seed '' is not a word" in capsys.readouterr().err


def test_draws_whose_first_loss_is_the_mean_of_the_others_are_drawn_again():
    question = questions.BANK["baseline-of-some-draws"][1](Random(487))
    assert question.parts[0].answer == 0
    assert question.parts[1].answer == 0.8
    assert not questions.distinct(question)


def test_the_praise_of_lucky_labels_has_the_exact_share():
    share = metrics.label_recall_by_chance(10, 9, 9) / 100
    assert f"it is {share:.3f}" in check.lucky_labels.praise


def test_every_chapter_has_a_quick_question_homework_and_an_exam():
    levels = defaultdict(set)
    for name, (chapter, _) in questions.BANK.items():
        levels[chapter].add(questions.make(name, "spring").level)
    files = (Path(__file__).parents[2] / "notebooks").glob("*.py")
    chapters = {int(f.name[:2]) for f in files if f.name[0].isdigit()}
    assert levels == {chapter: {"quick", "homework", "exam"} for chapter in chapters}
