"""The question bank: answers found anew from the text, no mistake is right, classes differ."""

import re
from decimal import Decimal
from fractions import Fraction
from itertools import product
from math import ceil, comb, exp, isclose, log, log2, log10, prod, sqrt
from pathlib import Path

import numpy as np
import pytest
import torch

from wsl_tutorial import questions
from wsl_tutorial.check import CheckFailed

SEEDS = [f"class {i}" for i in range(60)]
each = pytest.mark.parametrize("name", questions.BANK)


def numbers(text: str) -> list[float]:
    return [float(x) for x in re.findall(r"\d+(?:\.\d+)?(?:e-\d+)?", text)]


def label_sets(p: list[float]) -> dict[frozenset, float]:
    """Probability of every label set of three positions, by enumeration."""
    rows, found = [p[0:3], p[3:6], p[6:9]], {}
    for chosen in product(range(3), repeat=3):
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


# From the numbers in the text, by counting and enumeration.
ANEW = {
    "labellings-that-fit": lambda n, a, b, c: sum(
        (h.count("A"), h.count("B")) == (a, b) for h in product("ABC", repeat=int(n))
    ),
    "posterior-of-a-point": lambda p, q: p / (p + (1 - p) * q),
    "presence-of-two": lambda *p: label_sets(p)[frozenset({0, 1})],
    "only-one-class": lambda *p: label_sets(p)[frozenset({0})],
    "digits-that-are-lost": lambda top, value, digits: ceil(digits - log10(top / value)),
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
    "voters-for-sure": lambda total, row, column: column - (total - row),
}


@each
def test_answers_follow_from_the_text(name):
    for seed in SEEDS:
        question = questions.make(name, seed)
        text = re.sub(r", counted from 0,|class 0", "", question.text)
        assert isclose(question.answer, ANEW[name](*numbers(text)), rel_tol=1e-5, abs_tol=1e-7)


@each
def test_a_check_takes_the_answer_and_names_each_mistake(name, capsys):
    for seed in SEEDS:
        question = questions.make(name, seed)
        questions.check(name, seed, question.answer)
        assert capsys.readouterr().out == f"✓ {name}\n"
        for hint, wrong in question.mistakes.items():
            with pytest.raises(CheckFailed) as failed:
                questions.check(name, seed, wrong)
            assert str(failed.value) in question.mistakes
            assert str(failed.value) == hint or isclose(
                question.mistakes[str(failed.value)], wrong, rel_tol=5e-3
            )
        with pytest.raises(CheckFailed, match="start again"):
            questions.check(name, seed, 1e6)


@each
def test_classes_have_their_own_numbers_and_keep_them(name):
    texts = {questions.make(name, seed).text for seed in SEEDS}
    assert len(texts) > 20
    assert questions.make(name, SEEDS[0]) == questions.make(name, SEEDS[0])


def test_the_sheet_keeps_the_key_to_itself(capsys):
    assert questions.main(["spring", "--chapters", "5", "12"]) == 0
    plain = capsys.readouterr().out
    assert "Answer" not in plain
    assert "(chapter 5)" in plain
    assert "(chapter 1)" not in plain
    assert questions.main(["spring", "--key"]) == 0
    assert capsys.readouterr().out.count("Answer: ") == len(questions.BANK)
    with pytest.raises(SystemExit):
        questions.main(["spring", "--chapters", "99"])


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


def test_every_chapter_has_a_question():
    files = (Path(__file__).parents[2] / "notebooks").glob("*.py")
    assert {chapter for chapter, _ in questions.BANK.values()} == {int(f.name[:2]) for f in files}
