"""Exercise checks: each takes the reader's function, and names the mistake where it knows it.

A check draws a small case from a fixed seed, computes the right answer with the package (which is
the solution sheet), and beside it the answers of well-known mistakes. It prints one line when the
function is right and raises `CheckFailed` with a hint when it is not, whatever the function does:
it gets copies of the case, and what it raises or returns becomes a hint. Only `KeyboardInterrupt`
passes, for it is the reader who stops the cell. `attempt` prints the hint instead, so that a
notebook goes on.
"""

import math
import reprlib
import statistics
from collections.abc import Callable, Iterator
from copy import deepcopy
from decimal import Decimal
from functools import wraps
from itertools import islice, permutations
from math import comb, factorial, prod
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from . import counts, metrics, patches, presence, regions, toy, worth
from . import finite_automaton as automaton


class CheckFailed(AssertionError):
    """The answer is not right yet; the message says what to look at."""


def attempt(check: Callable[[Callable], None], function: Callable) -> None:
    """Run a check on a reader's function, and print its hint if it fails."""
    try:
        check(function)
    except CheckFailed as hint:
        print("✗ not yet:", hint)


MOST = 100_000  # entries of an answer: more are not looked at


def _exercise(check: Callable[[Callable], None]) -> Callable[[Callable], None]:
    """Return the check so that it prints its line of praise or raises `CheckFailed`, nothing else.

    Its function gets copies of the arguments; `_plain` decides which answers are compared at all.
    """
    name, form = check.__name__, check.__doc__.partition(": ")[2]

    @wraps(check)
    def judged(function: Callable) -> None:
        def asked(*arguments):
            try:
                return _plain(name, function(*map(_copy, arguments)), [MOST])
            except (CheckFailed, KeyboardInterrupt):
                raise
            except BaseException as error:  # SystemExit, too: the notebook goes on
                said = f"{type(error).__name__}: {_short(error)}"
                raise CheckFailed(f"{name} raises {said}") from error

        try:
            check(asked)
        except CheckFailed:
            raise
        except Exception as error:  # the comparison cannot take the answer
            raise CheckFailed(f"the answer has another form than this: {form}") from error

    return judged


def _copy(argument):
    """Return what a function may change; a leaf of autograd stays itself, for its gradient."""
    if torch.is_tensor(argument):
        return argument if argument.requires_grad else argument.clone()
    return deepcopy(argument) if isinstance(argument, list) else argument


def _short(value) -> str:
    """The beginning of a text, in one line."""
    try:
        text = " ".join(str(value).split())
    except Exception:
        return "..."
    return text if len(text) <= 120 else f"{text[:120]}..."


def _plain(name: str, value, room: list[int]):
    """Return an answer as numbers, dense tensors and lists of them.

    room: one number, how many entries may still come. Raises `CheckFailed` for anything else.
    """
    if value is None:
        raise CheckFailed(f"{name} returns nothing: end it with a return")
    if isinstance(value, range | Iterator):
        value = list(islice(value, room[0] + 1))
    is_array = isinstance(value, np.ndarray | np.generic)
    size = value.numel() if torch.is_tensor(value) else len(value) if _is_list(value) else 1
    room[0] -= max(value.size if is_array else size, 1)
    if room[0] < 0:
        raise CheckFailed(f"{name} returns more than {MOST:,} numbers")
    if is_array:
        numbers = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        value = torch.as_tensor(np.array(value)) if numbers else value.tolist()
    if torch.is_tensor(value):
        return _dense(name, value)
    if _is_list(value):
        return [_plain(name, v, room) for v in value]
    if isinstance(value, complex):
        if value.imag:
            raise CheckFailed(f"{name} returns a complex number, {value:.4g}: it should be real")
        value = value.real
    if not isinstance(value, Real | Decimal):
        kind = f"{type(value).__name__}, {reprlib.repr(value)}"
        raise CheckFailed(f"{name} returns a {_short(kind)}: numbers are asked for")
    try:
        return value if isinstance(value, bool | float) else _whole(value)
    except (OverflowError, ValueError):
        raise CheckFailed(f"{name} returns a number that is too large") from None


def _is_list(value) -> bool:
    return isinstance(value, list | tuple)


def _whole(value: Real | Decimal) -> int | float:
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)


def _dense(name: str, value: Tensor) -> Tensor:
    if value.is_meta:
        raise CheckFailed(f"{name} returns a tensor without values")
    if value.is_quantized:
        value = value.dequantize()
    if value.layout != torch.strided:
        value = value.to_dense()
    if value.is_complex():
        if (value.imag != 0).any():
            raise CheckFailed(f"{name} returns complex numbers: they should be real")
        value = value.real
    return value.cpu()


def _tensor(value) -> Tensor:
    """Return numbers, tensors and lists of them as one tensor, float64.

    Raises `CheckFailed` where the parts of a list differ in shape.
    """
    if not _is_list(value):
        return torch.as_tensor(value).detach().double()
    parts = [_tensor(v) for v in value]
    if len(shapes := {tuple(p.shape): None for p in parts}) > 1:
        first, second = list(shapes)[:2]
        raise CheckFailed(f"the parts of the answer differ in shape: {first} and {second}")
    return torch.stack(parts) if parts else torch.zeros(0, dtype=torch.float64)


def _judge(name: str, answer, right, mistakes: dict[str, object], praise: str) -> None:
    """Compare with the right answer, then with the known mistakes: a hint for each."""
    right, answer = _tensor(right), _tensor(answer)
    if answer.shape != right.shape:
        raise CheckFailed(f"the shape should be {tuple(right.shape)}, not {tuple(answer.shape)}")
    if not _close(answer, right):
        hints = [hint for hint, wrong in mistakes.items() if _close(answer, wrong)]
        raise CheckFailed(hints[0] if hints else f"expected {_row(right)}, got {_row(answer)}")
    print(f"✓ {name}: {praise}")


def _close(a, b) -> bool:
    a, b = _tensor(a), _tensor(b)
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)


def _row(values: Tensor) -> str:
    """The first four numbers, for a hint."""
    flat = values.flatten()
    return ", ".join(f"{v:.4g}" for v in flat[:4].tolist()) + (", ..." if len(flat) > 4 else "")


def _log_p(*shape: int, seed: int = 0) -> Tensor:
    """Random log-probabilities (B, k, *positions) over the channel axis, float64."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(1)


# Chapter 0: one idea


@_exercise
def two_points(function: Callable) -> None:
    """Chapter 0: P(o), r_1 and r_2 of label 0 for two points, by hand, () -> three numbers."""
    p = torch.tensor([[0.6, 0, 0, 0.4], [0.5, 0, 0, 0.5]])
    seen = torch.tensor([True, False, False])
    r = toy.posterior(p.log(), toy.presence, seen)
    right = (toy.log_marginal(p.log(), toy.presence, seen).exp(), r[0, 0], r[1, 0])
    mistakes = {
        "you took *exactly* one point of class 0; both may be of class 0": (0.5, 0.6, 0.4),
        "you took *both* points of class 0; one is enough": (0.3, 1.0, 1.0),
        "two points of background do not show class 0: their product is missing from P(o)": (
            (1.0, 0.6, 0.5)
        ),
        "r is conditional on the observation: divide what is left by P(o)": (right[0], 0.6, 0.5),
    }
    _judge("two_points", function(), right, mistakes, "both grow by the factor 1 / P(o)")


@_exercise
def any_foreground(function: Callable) -> None:
    """Chapter 0: the observer of binary multiple-instance learning, labels (..., n) -> (..., 1)."""
    h = toy.labellings(3)  # (64, 3)
    is_foreground = h < toy.CLASSES - 1
    mistakes = {
        "this is true when *every* point is foreground; one is enough: any, not all": (
            is_foreground.all(-1, keepdim=True)
        ),
        "this is true when there is *background*: it is label 3, the last, not label 0": (
            (~is_foreground).any(-1, keepdim=True)
        ),
        "label 0 is a foreground class too; the background is the last label, 3": (
            (h > 0).any(-1, keepdim=True)
        ),
        "you count the foreground points; the observer only says whether there is one": (
            is_foreground.sum(-1, keepdim=True)
        ),
    }
    right = is_foreground.any(-1, keepdim=True)
    _judge("any_foreground", function(h), right, mistakes, "one bit a bag, keepdim kept")


@_exercise
def consistent_with_counts(function: Callable) -> None:
    """Chapter 0: how many labellings have given counts, list of int -> int."""
    cases = [[2, 1, 0, 1], [0, 0, 0, 3], [1, 1, 1, 3]]
    n = [sum(c) for c in cases]
    mistakes = {
        "you counted every labelling of the bag: only those with these counts are left": (
            [toy.CLASSES**m for m in n]
        ),
        "you told apart points of one class: divide by the orders within each class": (
            [factorial(m) for m in n]
        ),
        "the order of the points matters: n! in the numerator, not the product of the counts": (
            [prod(factorial(c) for c in case) for case in cases]
        ),
        "you chose the places of one class only; the other classes must be placed too": (
            [comb(sum(case), case[0]) for case in cases]
        ),
    }
    all_counts = [toy.counts(toy.labellings(m)) for m in n]
    right = [
        int((a == torch.tensor(c)).all(-1).sum()) for a, c in zip(all_counts, cases, strict=True)
    ]
    answer = [function(case) for case in cases]
    _judge("consistent_with_counts", answer, right, mistakes, "the multinomial coefficient")


@_exercise
def posterior_by_autograd(function: Callable) -> None:
    """Chapter 0: the posterior from one backward pass, (logits, observe, observed) -> (n, k)."""
    logits = _log_p(3, toy.CLASSES, seed=1) + torch.tensor([[0.5], [-1.0], [0.2]])
    observed = toy.presence(torch.tensor([0, 0, 3]))
    log_p = logits.log_softmax(-1)
    prior, r = log_p.exp(), toy.posterior(log_p, toy.presence, observed)
    mistakes = {
        "this is the gradient, posterior minus prior: add the prior to it": r - prior,
        "the sign is turned: you differentiated -log P(o)": 2 * prior - r,
        "this is the prior: the observation has not been used": prior,
        "you differentiated P(o), not its logarithm": (
            prior + toy.log_marginal(log_p, toy.presence, observed).exp() * (r - prior)
        ),
        "you added the logits; they are no probabilities before the softmax": r - prior + logits,
    }
    answer = function(logits.clone(), toy.presence, observed)
    _judge("posterior_by_autograd", answer, r, mistakes, "one backward pass is an E-step")


# Chapter 1: presence, the likelihood


@_exercise
def one_label(function: Callable) -> None:
    """Chapter 1: log Prb({l}), (log_p (B, C+1, M, N), label) -> (B,)."""
    log_p, label = _log_p(2, 4, 2, 2), 1
    flat = log_p.flatten(2)
    labels = F.one_hot(torch.tensor([label] * 2), 3).bool()
    alpha = presence.log_alpha(log_p, F.one_hot(torch.tensor([label] * 2), 4).bool() | _phi(4))
    alpha_phi, right = flat[:, -1].sum(-1), presence.log_likelihood(log_p, labels)
    noisy_or = (1 - (1 - flat[:, label].exp()).prod(-1)).log()
    mistakes = {
        "you forgot that phi may be emitted too: every position emits the label *or* phi": (
            flat[:, label].sum(-1)
        ),
        "alpha counts the grid of phi alone too, without any instance of the label: take it off": (
            alpha
        ),
        "this is the probability; the exercise asks for its logarithm": right.exp(),
        "a difference of probabilities is not a difference of logarithms": alpha - alpha_phi,
        "this is noisy-OR: it forgets that no *other* class may appear": noisy_or,
    }
    _judge("one_label", function(log_p, label), right, mistakes, "alpha with phi, minus phi alone")


@_exercise
def at_least(function: Callable) -> None:
    """Chapter 1: log Prb(at least L), (log_p (B, C+1, M, N), labels (B, C)) -> (B,)."""
    log_p = _log_p(1, 4, 2, 2, seed=2)
    labels = torch.tensor([[True, False, True]])
    p, h = log_p.exp().flatten(2)[0], toy.labellings(4)  # (4, 4), (256, 4)
    chance = p[h, torch.arange(4)].prod(-1)  # (256,)
    right = chance[(toy.presence(h) | ~labels).all(-1)].sum()
    miss = (1 - p[:3]).prod(-1)[[0, 2]]  # (2,): Prb that 0, or 2, is emitted nowhere
    mistakes = {
        "this is *exactly* these labels; other classes may appear too": (
            presence.log_likelihood(log_p, labels).exp()
        ),
        "the labels are not independent: a position that emits one cannot emit the other": (
            (1 - miss).prod()
        ),
        "grids that miss both labels were taken off twice: put them back once": 1 - miss.sum(),
        "this is the probability that a label is *missing*": 1 - right,
        "the exercise asks for the logarithm": right.exp(),
    }
    mistakes = {hint: torch.as_tensor(v).log().reshape(1) for hint, v in mistakes.items()}
    _judge(
        "at_least", function(log_p, labels), right.log()[None], mistakes, "a label that may grow"
    )


@_exercise
def count_labellings(function: Callable) -> None:
    """Chapter 1: how many labellings show exactly L labels on n positions, (L, n) -> int."""
    cases = [(1, 4), (2, 3), (3, 3), (3, 2), (0, 5)]
    mistakes = {
        "you forgot phi: each position has L + 1 choices, not L": (
            [_exactly(L, n, extra=0) for L, n in cases]
        ),
        "these are all labellings with the L labels and phi: take off those that miss a label": (
            [(L + 1) ** n for L, n in cases]
        ),
        "you took off each missing label once; grids that miss two labels went twice": (
            [(L + 1) ** n - L * L**n for L, n in cases]
        ),
    }
    right = [_exactly(L, n) for L, n in cases]
    answer = [function(L, n) for L, n in cases]
    _judge("count_labellings", answer, right, mistakes, "Eq. (1.2) with every p set to 1")


def _phi(channels: int) -> Tensor:
    return torch.arange(channels) == channels - 1


def _exactly(L: int, n: int, extra: int = 1) -> int:
    """Words of length n over L + extra letters that use each of the L letters."""
    return sum((-1) ** (L - s) * comb(L, s) * (s + extra) ** n for s in range(L + 1))


# Chapter 2: presence, computed safely


@_exercise
def two_steps(function: Callable) -> None:
    """Chapter 2: f_1(empty), f_1({0}) and f_2(L) of two positions and two labels."""
    mistakes = {
        "label 0 may come first or second: the last number is a sum of two products": (
            (0.3, 0.6, 0.36)
        ),
        "a covered label needs no background: phi takes no part in f_2(L) here": (
            (0.3, 0.6, 0.6 * 0.6 + 0.1 * 0.1 + 0.3 * 0.3)
        ),
        "before the first position f_0(empty) = 1; f_1(empty) has emitted phi once": (
            (1.0, 0.6, 0.37)
        ),
        "f_1({0}) asks that position 1 emits label 0, not that it emits 0 or phi": (
            (0.3, 0.9, 0.37)
        ),
    }
    answer = function()
    _judge("two_steps", answer, (0.3, 0.6, 0.37), mistakes, "and phi drops out of the last")


@_exercise
def covered(function: Callable) -> None:
    """Chapter 2: the walk over covered sets, p (L+1, n), background last -> Prb(L | P)."""
    p = _log_p(1, 4, 5, seed=3)[0].exp()  # (4, 5)
    labels, full = torch.ones(1, 3, dtype=torch.bool), p.sum(0).prod()
    once = sum(  # each label at one position, background elsewhere
        p[0, i] * p[1, j] * p[2, k] * p[3, [m for m in range(5) if m not in (i, j, k)]].prod()
        for i, j, k in permutations(range(5), 3)
    )
    no_phi = toy.log_marginal(
        p.T.log(), lambda h: toy.counts(h)[..., :-1].clamp_max(1) * (h < 3).all(-1, True), labels[0]
    )
    mistakes = {
        "a label that is covered already may be emitted again: the set then stays": once,
        "the background may be emitted too: the set then stays": no_phi.exp(),
        "this is everything that may be emitted: read off f(L), do not sum over the sets": full,
        "the exercise asks for the probability, not its logarithm": (
            presence.log_likelihood(p.log()[None], labels)[0]
        ),
    }
    right = presence.log_likelihood(p.log()[None], labels)[0].exp()
    _judge("covered", function(p.clone()), right, mistakes, "nothing is subtracted")


@_exercise
def posterior(function: Callable) -> None:
    """Chapter 2: the posterior by one gradient, (log_p, labels) -> (B, C+1, *positions)."""
    log_p = _log_p(2, 4, 2, 3, seed=4)
    labels = torch.tensor([[True, True, False], [False, False, True]])
    right, p = presence.posterior(log_p, labels), log_p.exp()
    share = (p * torch.cat([labels, labels.new_ones(2, 1)], 1)[:, :, None, None]).clone()
    mistakes = {
        "this is the gradient in p; (2.3) takes it in log p, a factor p": right / p,
        "the sign is turned: you differentiated the loss": -right,
        "this is the gradient in the logits, r - p: stop at log_p": right - p,
        "you differentiated Prb, not its logarithm": (
            right * presence.log_likelihood(log_p, labels).exp()[:, None, None, None]
        ),
        "this only removes the absent classes: the labels that must appear raise r further": (
            share / share.sum(1, keepdim=True)
        ),
    }
    answer = function(log_p.clone(), labels)
    _judge("posterior", answer, right, mistakes, "the gradient in log p is the E-step")


@_exercise
def digits_lost(function: Callable) -> None:
    """Chapter 2: log10 of the condition number of a sum, terms (n,) with signs -> scalar."""
    terms = torch.tensor([1.0, -0.9, -0.3, 0.2003], dtype=torch.float64)
    total, size = terms.sum(), terms.abs().sum()
    mistakes = {
        "the numerator sums the sizes of all terms, not the largest alone": (
            (terms.abs().max() / total.abs()).log10()
        ),
        "the ratio is upside down: sizes over sum": (total.abs() / size).log10(),
        "natural logarithm: digits are counted by log10": (size / total.abs()).log(),
        "this is kappa; its logarithm counts the digits": size / total.abs(),
        "you added the terms with their signs in the numerator too": torch.zeros(()),
    }
    answer = function(terms.clone())
    _judge("digits_lost", answer, (size / total.abs()).log10(), mistakes, "known before training")


# Chapter 4: presence, the reproduction


@_exercise
def tolerance(function: Callable) -> None:
    """Chapter 4: the gap that (4.1) allows, (paper_sd or None, rounding, ours: list) -> float."""
    cases = [(0.04, 0.005, [0.38, 0.32, 0.39, 0.41]), (None, 0.05, [5.4]), (0.0, 0.05, [8.5, 8.52])]

    def each(combine: Callable) -> list[float]:
        return [
            combine(sd or 0.0, r, statistics.stdev(x) if x[1:] else 0.0, x) for sd, r, x in cases
        ]

    mistakes = {
        "our own standard deviation over the seeds is missing": each(lambda p, r, s, x: max(r, p)),
        "the paper's ± is missing": each(lambda p, r, s, x: max(r, s)),
        "nothing below half a unit of the last printed decimal can be told: take the larger": (
            each(lambda p, r, s, x: p + s)
        ),
        "the rounding is not added; it is the least that is allowed": (
            each(lambda p, r, s, x: r + p + s)
        ),
        "this is the standard error; (4.1) takes the standard deviation over the seeds": (
            each(lambda p, r, s, x: max(r, p + s / len(x) ** 0.5))
        ),
        "the sample standard deviation divides by n - 1": (
            each(lambda p, r, s, x: max(r, p + statistics.pstdev(x)))
        ),
        "the rule adds the two deviations; it takes no root of squares": (
            each(lambda p, r, s, x: max(r, (p * p + s * s) ** 0.5))
        ),
    }
    answer = []
    for sd, r, x in cases:
        try:
            answer.append(function(sd, r, list(x)))
        except CheckFailed as failed:
            if isinstance(failed.__cause__, statistics.StatisticsError):
                raise CheckFailed(
                    "one run alone has no standard deviation: count it as 0"
                ) from None
            if sd is None:
                raise CheckFailed("the paper may print no ±: None counts as 0") from None
            raise
    _judge("tolerance", answer, each(lambda p, r, s, x: max(r, p + s)), mistakes, "two bars touch")


@_exercise
def transcription(function: Callable) -> None:
    """Chapter 4: the sequence of a label map by (4.2), h (M, N) with 10 for phi -> list of ints."""
    generator = torch.Generator().manual_seed(6)
    maps = torch.tensor([1, 2, 10, 10])[torch.randint(4, (30, 4, 9), generator=generator)]
    scores = F.one_hot(maps, 11).permute(0, 3, 1, 2)
    right = metrics.transcribe(scores)

    def columns(h: Tensor, least: int = 1, last: bool = False) -> list[int]:
        votes = F.one_hot(h, 11).sum(0)  # (N, 11)
        ties = votes[:, :10] == votes[:, :10].amax(1, keepdim=True)
        digit = 9 - ties.flip(1).int().argmax(1) if last else ties.int().argmax(1)
        return digit.masked_fill(votes[:, :10].amax(1) < least, 10).tolist()

    def reading(c: list[int]) -> list[int]:
        return [x for x, before in zip(c, [10, *c], strict=False) if x not in (10, before)]

    def shown(c: list[int]) -> list[int]:
        return [x for x in c if x != 10]

    mistakes = {
        "a digit that fills several columns in a row counts once": lambda h: shown(columns(h)),
        "a blank column ends a run: the same digit after it counts again": (
            lambda h: reading(shown(columns(h)))
        ),
        "the background does not vote: one digit in a column is enough": (
            lambda h: reading([int(v) for v in F.one_hot(h, 11).sum(0).argmax(1)])
        ),
        "of equal votes the smallest digit wins": lambda h: reading(columns(h, last=True)),
        "every row of a column votes, not one row alone": lambda h: shown(h[len(h) // 2].tolist()),
        "a sequence keeps order and repeats; this is the set of digits": (
            lambda h: sorted(set(shown(h.flatten().tolist())))
        ),
    }
    answers = [_tensor(function(h)) for h in maps]
    answer = [a.tolist() for a in answers]
    for hint, wrong in mistakes.items():
        if answer != right and answer == [wrong(h) for h in maps]:
            raise CheckFailed(hint)
    for h, a, b in zip(maps, answers, right, strict=True):
        if a.tolist() != b:
            rows = " / ".join("".join("0123456789."[k] for k in row) for row in h.tolist())
            raise CheckFailed(f"the map {rows} reads {b}, not [{_row(a)}]")
    print("✓ transcription: columns vote, and changes are written down")


# Chapter 3: presence, learned


@_exercise
def one_class(function: Callable) -> None:
    """Chapter 3: Prb, largest p and posterior of position 1, for one class and p = (0.6, 0.5)."""
    mistakes = {
        "probabilities of events that can both happen do not add: take 1 - prod(1 - p)": (
            (1.1, 0.6, 0.6)
        ),
        "Prb is the chance of *at least one*; 0.6 x 0.5 is the chance of both": (0.3, 0.6, 1.0),
        "the posterior is not the prior: divide by Prb": (0.8, 0.6, 0.6),
        "position 1 may emit the class while position 2 does too: 0.6 / Prb": (0.8, 0.6, 0.375),
    }
    _judge(
        "one_class", function(), (0.8, 0.6, 0.75), mistakes, "the maximum misses a quarter of it"
    )


@_exercise
def sigmoids(function: Callable) -> None:
    """Chapter 3: independent sigmoids, (logits (B, C, M, N), labels (B, C)) -> (B,)."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(4, 3, 2, 3, generator=generator, dtype=torch.float64) - 1
    logits[3] = 40.0  # sure of every class everywhere
    labels = torch.tensor([[True, False, True], [False] * 3, [True] * 3, [True] * 3])
    absent = F.logsigmoid(-logits).flatten(2).sum(-1)  # (4, 3)
    present = torch.log(-torch.expm1(absent))
    right = torch.where(labels, present, absent).sum(1)
    everywhere = F.logsigmoid(logits).flatten(2).sum(-1)
    best = F.logsigmoid(logits.flatten(2).amax(-1))
    mistakes = {
        "absent classes count too: each position says no to them": (
            torch.where(labels, present, torch.zeros_like(present)).sum(1)
        ),
        "a class occurs if *some* position emits it, not if all do": (
            torch.where(labels, everywhere, absent).sum(1)
        ),
        "this takes the best position only; sum over all ways to occur": (
            torch.where(labels, best, absent).sum(1)
        ),
        "this is the probability; the exercise asks for its logarithm": right.exp(),
        "the sign is turned: this is the loss": -right,
    }
    answer, large = function(logits.clone(), labels), torch.full((1, 1, 1, 1), 40.0)
    if _close(answer, right):
        wild = function(large, torch.tensor([[False]]))
        if not _close(wild, torch.tensor([-40.0])):
            raise CheckFailed("1 - sigmoid(40) is 0 in float32: use logsigmoid(-logits)")
    _judge("sigmoids", answer, right, mistakes, "no 2**L, for the classes do not compete")


@_exercise
def collapse(function: Callable) -> None:
    """Chapter 3: a row of classes to its reading, (list of int, background) -> list of int."""
    rows = [[10, 1, 1, 10, 1, 5, 5], [7, 7, 10, 10, 7, 7, 10], [10] * 7, [3, 4, 4, 3, 10, 10, 3]]

    def merged(row):
        return [c for i, c in enumerate(row) if i == 0 or c != row[i - 1]]

    def table(readings):
        return torch.tensor([[*r, *[-1] * (8 - len(r)), len(r)] for r in readings])

    digits = [[c for c in row if c != 10] for row in rows]
    mistakes = {
        "merge first, then drop: background between two equal digits keeps them apart": (
            table([merged(row) for row in digits])
        ),
        "repeats are one digit: merge them": table(digits),
        "the background is no digit: drop it at the end": table([merged(row) for row in rows]),
        "a digit may come back later: merge neighbours, not all equal digits": (
            table([list(dict.fromkeys(row)) for row in digits])
        ),
    }
    right = table([[c for c in merged(row) if c != 10] for row in rows])
    answers = [function(list(row), 10) for row in rows]
    answer = table(answers)
    _judge("collapse", answer, right, mistakes, "the reading rule of the paper's house numbers")


@_exercise
def floored(function: Callable) -> None:
    """Chapter 3: log(Prb + eta) and its gradient, (log_prb (B,), eta) -> (B,)."""
    log_prb = torch.tensor([-0.1, -3.0, -7.0, -1000.0], dtype=torch.float64, requires_grad=True)
    eta = 1e-3
    floor = torch.tensor(eta, dtype=torch.float64).log()
    right = torch.logaddexp(log_prb, floor).detach()
    weight = torch.sigmoid(log_prb.detach() - floor)
    mistakes = {
        "a clamp has no gradient below the floor: mix the two, do not choose": (
            log_prb.clamp_min(floor.item()).detach()
        ),
        "eta is added to Prb, not to its logarithm": (log_prb + eta).detach(),
        "you added the logarithms: that is log(Prb * eta)": (log_prb + floor).detach(),
        "this is the probability; the exercise asks for its logarithm": right.exp(),
    }
    answer = function(log_prb, eta)
    if _close(answer, right):
        slope = None
        if torch.is_tensor(answer) and answer.requires_grad:
            (slope,) = torch.autograd.grad(answer.sum(), log_prb, allow_unused=True)
        if slope is None or not _close(slope, weight):
            raise CheckFailed("the value is right, its gradient is not w: let autograd see log_prb")
    _judge("floored", answer, right, mistakes, "its gradient is w, at no extra cost")


# Chapter 5: counts, the likelihood


@_exercise
def three_instances(function: Callable) -> None:
    """Chapter 5: P(1) and the posteriors of three instances, by hand, () -> four numbers."""
    logits, told = torch.tensor([[0.5, 0.5, 0.2]]).double().logit(), torch.tensor([1])
    r = counts.posterior(logits, told)[0]
    right = (counts.log_likelihood(logits, told).exp()[0], *r)
    mistakes = {
        "P(1) counts one positive *and* two negatives: multiply by 1 - rho of the others": (
            (1.2, 0.5 / 1.2, 0.5 / 1.2, 0.2 / 1.2)
        ),
        "these are the priors: divide the probability of each configuration by P(1)": (
            (right[0], 0.5, 0.5, 0.2)
        ),
        "the posteriors sum to the count, 1: divide by P(1)": (right[0], 0.2, 0.2, 0.05),
        "this is 'at least one'; the count is exactly one": (0.8, 0.625, 0.625, 0.25),
    }
    praise = "the odds decide, and doubling all of them changes nothing"
    _judge("three_instances", function(), right, mistakes, praise)


@_exercise
def count_probability(function: Callable) -> None:
    """Chapter 5: P(y | X) by the recursion, rho (n,) and y -> number, for several counts."""
    rho = torch.tensor([0.9, 0.3, 0.6, 0.2, 0.5], dtype=torch.float64)
    every = counts.log_distribution(rho.logit()[None])[0].exp()  # (6,)
    answer = [function(rho, y) for y in range(6)]
    mistakes = {
        "f(j - 1) must be the old one: go from y down to 0, or write into a new list": (
            _in_place(rho)
        ),
        "this is the probability of at most y: return f(y) alone": every.cumsum(0),
        "the exercise asks for the probability, not its logarithm": every.log(),
        "this takes the mean of rho for every instance: the binomial distribution": (
            counts.log_distribution(rho.mean().logit().expand(1, 5))[0].exp()
        ),
        "positives and negatives are swapped": every.flip(0),
    }
    _judge("count_probability", answer, every, mistakes, "n times y steps, nothing subtracted")


def _in_place(rho: Tensor) -> list[float]:
    """Eq. (5.2) with the mistake of overwriting f(j - 1) before it is used."""
    values = []
    for y in range(len(rho) + 1):
        f = [1.0] + [0.0] * y
        for p in rho.tolist():
            for j in range(y + 1):
                f[j] = f[j] * (1 - p) + (f[j - 1] * p if j else 0)
        values.append(f[y])
    return values


@_exercise
def e_step(function: Callable) -> None:
    """Chapter 5: the posterior from one gradient, (logits (B, n), counts (B,)) -> (B, n)."""
    logits = torch.tensor([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]], dtype=torch.float64)
    told = torch.tensor([1, 3])
    right, rho = counts.posterior(logits, told), logits.sigmoid()
    mistakes = {
        "this is the gradient, r - rho: add rho": right - rho,
        "the sign is turned: you differentiated the loss": 2 * rho - right,
        "add the probability, not the logit": right - rho + logits,
        "this is rho: the count has not been used": rho,
        "this is the proportion y / n of each bag": (told / 4)[:, None].expand(2, 4),
        "this is the most probable configuration, hard EM; the E-step is soft": (
            counts.map_configuration(logits, told)
        ),
    }
    answer = function(logits.clone(), told)
    _judge("e_step", answer, right, mistakes, "rho plus the gradient")


@_exercise
def at_least_table(function: Callable) -> None:
    """Chapter 5: the automaton of 'at least y positives', y -> transition (y + 1, 2)."""
    y = 3
    right = automaton.counts(y)
    right[y, 1] = y
    stuck, swapped = right.clone(), right.flip(1)
    stuck[y] = -1
    mistakes = {
        "-1 forbids one positive more: that is 'exactly y'. Where should it lead?": (
            automaton.counts(y)
        ),
        "once y is reached, everything that follows is allowed": stuck,
        "label 0 is the negative one and keeps the state; label 1 raises it": swapped,
        "a positive must raise the state by one until it is y": (
            torch.arange(y + 1)[:, None].expand(-1, 2)
        ),
    }
    _judge("at_least_table", function(y), right, mistakes, "a counter that saturates")


# Chapter 6: counts, the learning


@_exercise
def dllp_loss(function: Callable) -> None:
    """Chapter 6: the proportion loss, (logits (B, n), counts (B,)) -> scalar."""
    logits = torch.tensor([[2.0, 0.3, -1.0], [-2.0, 1.0, 0.2]], dtype=torch.float64)
    told = torch.tensor([2, 1])
    right, q = counts.proportion_loss(logits, told), told / 3
    mean, target = logits.sigmoid().mean(1), q[:, None].expand(2, 3).double()
    mistakes = {
        "the logarithm of the mean, not the mean of the logarithms": (
            F.binary_cross_entropy_with_logits(logits, target)
        ),
        "average the probabilities, not the logits": (
            F.binary_cross_entropy_with_logits(logits.mean(1), q.double())
        ),
        "the negatives are missing: add (1 - q) log(1 - mean)": -(q * mean.log()).mean(),
        "a loss is to be minimised: turn the sign": -right,
        "the mean over the bags, not the sum": 2 * right,
        "this is the likelihood of the count, not of the proportion": (
            -counts.log_likelihood(logits, told).mean()
        ),
    }
    _judge("dllp_loss", function(logits.clone(), told), right, mistakes, "log of the mean")


@_exercise
def constant_curvature(function: Callable) -> None:
    """Chapter 6: the two eigenvalues at rho = y/n, (n, y) -> together, contrast."""
    cases = [(4, 2), (6, 2), (12, 3)]
    spread = [y / n * (1 - y / n) for n, y in cases]
    right = [(-s, s / (n - 1)) for s, (n, _) in zip(spread, cases, strict=True)]
    answer = [function(n, y) for n, y in cases]
    mistakes = {
        "1/4 is q(1 - q) for q = 1/2 only; here q = y/n": [
            (-0.25, 0.25 / (n - 1)) for n, _ in cases
        ],
        "the covariance of two labels is shared by n - 1 others, not n": (
            [(-s, s / n) for s, (n, _) in zip(spread, cases, strict=True)]
        ),
        "the contrast grows: its curvature is positive": [(a, -b) for a, b in right],
        "the level is held: its curvature is negative": [(-a, b) for a, b in right],
        "together first, contrast second": [(b, a) for a, b in right],
    }
    _judge("constant_curvature", answer, right, mistakes, "small bags push harder")


@_exercise
def at_least_count(function: Callable) -> None:
    """Chapter 6: log P(at least y), (logits (B, n), counts (B,)) -> (B,)."""
    logits = torch.tensor([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]], dtype=torch.float64)
    told = torch.tensor([1, 3])
    right = counts.log_likelihood_interval(logits, told, torch.full_like(told, 4))
    below = counts.log_likelihood_interval(logits, torch.zeros_like(told), told)
    mistakes = {
        "this is exactly y; more are allowed": counts.log_likelihood(logits, told),
        "this is at most y": below,
        "this is more than y: y itself is allowed": torch.log1p(-below.exp()),
        "the exercise asks for the logarithm": right.exp(),
        "add the probabilities of the counts, not their logarithms": torch.stack(
            [p[y:].sum() for p, y in zip(counts.log_distribution(logits), told, strict=True)]
        ),
    }
    _judge("at_least_count", function(logits.clone(), told), right, mistakes, "the upper tail")


# Chapter 7: counts, the reproduction


@_exercise
def arrival(function: Callable) -> None:
    """Chapter 7: the first epoch at 99 % of the final accuracy, list of accuracies -> int."""
    cases = [
        [50, 70, 84.5, 86, 88, 89.5, 90.5, 95, *[89] * 14, 93, 92, 85],
        [50, 60, 70, 80, 81.5, 82.5, 84, 85, 86, 87, *[83] * 26, 90, 84, 80, 82],
    ]

    def each(final: Callable, share: float = 0.99, first: int = 1) -> list[int]:
        return [next(t for t, a in enumerate(x, first) if a >= share * final(x)) for x in cases]

    def tail(x: list[float]) -> float:
        return statistics.fmean(x[-max(3, len(x) // 10) :])

    mistakes = {
        "the final accuracy is a mean of the last epochs, not the best epoch": each(max),
        "the final accuracy is a mean of the last epochs, not the last one": each(lambda x: x[-1]),
        "the last tenth has no fewer than three epochs": (
            each(lambda x: statistics.fmean(x[-max(1, len(x) // 10) :]))
        ),
        "of a long curve the last tenth, not the last three": (
            each(lambda x: statistics.fmean(x[-3:]))
        ),
        "99 % of the final accuracy is enough": each(tail, share=1.0),
        "epochs are counted from 1": each(tail, first=0),
    }
    answer = [function(list(x)) for x in cases]
    _judge("arrival", answer, each(tail), mistakes, "a first passage")


@_exercise
def resampled_t(function: Callable) -> None:
    """Chapter 7: the statistic of (7.2), (gaps: list, share) -> float."""
    cases = [
        ([0.4, -0.1, 0.6, 0.3], 0.2),
        ([1.2, 0.4, -0.3, 0.8, 0.1], 0.0),
        ([-0.2, -0.5, 0.1], 0.5),
    ]

    def each(combine: Callable) -> list[float]:
        return [combine(statistics.fmean(d), statistics.stdev(d), len(d), q, d) for d, q in cases]

    mistakes = {
        "this takes the splits for independent: share is missing": (
            each(lambda m, s, n, q, d: m / s * n**0.5)
        ),
        "the bags that splits share add share / (1 - share), not share": (
            each(lambda m, s, n, q, d: m / (s * (1 / n + q) ** 0.5))
        ),
        "1/K and the share are variances: take the root of their sum": (
            each(lambda m, s, n, q, d: m / (s * (1 / n + q / (1 - q))))
        ),
        "the sample standard deviation divides by K - 1": (
            each(lambda m, s, n, q, d: m / (statistics.pstdev(d) * (1 / n + q / (1 - q)) ** 0.5))
        ),
        "the sign of the mean gap belongs to t": (
            each(lambda m, s, n, q, d: abs(m) / (s * (1 / n + q / (1 - q)) ** 0.5))
        ),
    }
    answer = [function(list(d), q) for d, q in cases]
    right = each(lambda m, s, n, q, d: m / (s * (1 / n + q / (1 - q)) ** 0.5))
    _judge("resampled_t", answer, right, mistakes, "splits of one data set are relatives")


@_exercise
def error_of_counts(function: Callable) -> None:
    """Chapter 7: mean |predicted - told|, (logits (B, n), counts (B,), mask (B, n)) -> scalar."""
    generator = torch.Generator().manual_seed(8)
    logits = torch.randn(5, 6, generator=generator).masked_fill(torch.arange(6) > 3, 0.0)
    mask = torch.arange(6) < torch.tensor([4, 3, 2, 4, 1])[:, None]
    told = torch.tensor([1, 3, 1, 4, 1])
    off = ((logits >= 0) & mask).sum(1) - told
    right = off.abs().double().mean()
    soft = (logits.sigmoid() * mask).sum(1) - told
    mistakes = {
        "padding is no instance: use the mask": (
            ((logits >= 0).sum(1) - told).abs().double().mean()
        ),
        "errors of different bags must not cancel: absolute value first, then the mean": (
            off.double().mean().abs()
        ),
        "take the absolute value": off.double().mean(),
        "count decisions, logits of 0 and more, not probabilities": soft.abs().mean(),
        "the absolute error, not its square": off.double().square().mean(),
        "the mean over the bags, not the sum": off.abs().sum(),
        "an error a bag, not an instance": off.abs().sum() / mask.sum(),
    }
    answer = function(logits.clone(), told.clone(), mask.clone())
    _judge("error_of_counts", answer, right, mistakes, "no label was used")


# Chapter 8: patches, lifting


@_exercise
def three_sides(function: Callable) -> None:
    """Chapter 8: (8.6), the printed moment, and that of pooled terms, () -> three numbers."""
    h, scales = torch.tensor([0.1, 0.3, 0.1]).double(), torch.tensor([10.0, 20.0, 40.0]).double()
    right = patches.first_moment(h[None, :, None, None], scales).item()
    terms = h.square() / h.sum()
    printed, pooled = (h @ scales).item(), (terms @ scales).item()
    mistakes = {
        "the terms h**2 / sum h are not the h: square first": (right, printed, printed),
        "divide by the sum of h, which is not 1": (printed, printed, pooled),
        "the printed moment is not divided by anything": (right, right, pooled),
        "the third moment is printed, so not normalised either": (
            (right, printed, (terms @ scales / terms.sum()).item())
        ),
        "this is the plain mean of the scales: weigh them": (scales.mean().item(), printed, pooled),
    }
    _judge("three_sides", function(), (right, printed, pooled), mistakes, "one of three is a side")


@_exercise
def local_softmax_row(function: Callable) -> None:
    """Chapter 8: Eq. (8.1) in one dimension, (scores (n,), size, strength) -> (n,)."""
    scores, size, strength = torch.tensor([0.3, 1.0, 0.2, -0.4, 0.8, 0.1]).double(), 3, 4.0

    def row(a: float, window: int, pad: float = 0.0) -> Tensor:
        e = (a * scores).exp()
        return e / F.pad(e, (window // 2, window // 2), value=pad).unfold(0, window, 1).sum(1)

    mistakes = {
        "padding is no pixel: outside there is nobody, with weight 0": row(strength, size, 1.0),
        "the softmax is local: sum over the window, not over the row": (
            (strength * scores).softmax(0)
        ),
        "multiply the scores by the strength": row(1.0, size),
        "size is the whole window, size // 2 to each side": row(strength, 2 * size + 1),
        "divide by the sum over the window": (strength * scores).exp(),
        "this is its logarithm": row(strength, size).log(),
    }
    right = patches.local_softmax(scores[None, None], size, strength)[0, 0]
    answer = function(scores.clone(), size, strength)
    _judge("local_softmax_row", answer, right, mistakes, "every window by itself")


@_exercise
def proximal_step(function: Callable) -> None:
    """Chapter 8: Eq. (8.9), (x, x0, g (K, 2), lr, penalty) -> (K, 2)."""
    x, x0 = torch.tensor([[4.0, 2.0], [1.0, 7.0]]), torch.tensor([[3.0, 2.5], [1.0, 5.0]])
    g, lr, lam = torch.tensor([[0.2, -0.1], [0.4, 0.3]]), 2.0, 0.75
    free, c = x - lr * g, 2 * lr * lam
    mistakes = {
        "an explicit step on the penalty runs away for great penalties: divide instead": (
            free - c * (x - x0)
        ),
        "the derivative of |x - x0|**2 has a factor 2": (free + lr * lam * x0) / (1 + lr * lam),
        "the penalty pulls to x0, where the round began, not to x": (free + c * x) / (1 + c),
        "the penalty is missing": free,
        "the loss falls along -g": (x + lr * g + c * x0) / (1 + c),
        "divide everything, not the start alone": free + c * x0 / (1 + c),
    }
    answer = function(x.clone(), x0.clone(), g.clone(), lr, lam)
    _judge("proximal_step", answer, (free + c * x0) / (1 + c), mistakes, "no penalty is too great")


@_exercise
def implicit_penalty(function: Callable) -> None:
    """Chapter 8: the penalty of one image that early stopping amounts to, (steps, lr, batch)."""
    cases = [(2, 1e4, 32), (1, 50.0, 1), (5, 300.0, 8)]

    def each(rule: Callable) -> list[float]:
        return [rule(*case) for case in cases]

    mistakes = {
        "the mean divides the gradient of each image by the batch": (
            each(lambda m, a, b: 1 / (2 * m * a))
        ),
        "a larger batch means smaller steps, so a greater penalty": (
            each(lambda m, a, b: 1 / (2 * m * a * b))
        ),
        "the derivative of lambda |x - x0|**2 has a factor 2": each(lambda m, a, b: b / (m * a)),
        "all steps together go the way: m belongs in it": each(lambda m, a, b: b / (2 * a)),
        "more steps hold less: turn the fraction round": each(lambda m, a, b: 2 * m * a / b),
    }
    answer = [function(*case) for case in cases]
    right = each(lambda m, a, b: b / (2 * m * a))
    _judge("implicit_penalty", answer, right, mistakes, "8e-4 for the release")


# Chapter 9: patches, the learning


@_exercise
def lucky_labels(function: Callable) -> None:
    """Chapter 9: the share of two-class labels told by luck, for K = 1 and 2, () -> two numbers."""
    bags = {k: torch.cartesian_prod(*[torch.arange(2)] * k).view(-1, k) for k in (1, 2)}
    right = [
        statistics.fmean(metrics.label_recall(g[None], t[None], 2) / 100 for g in b for t in b)
        for b in bags.values()
    ]
    mistakes = {
        "for K = 2 the labels need not come in order: 01 contains the labels of 10": (0.5, 0.5),
        "this is the chance that *all* labels are right": (0.5, 0.375),
        "one of two right counts a half: average over the 16 pairs of bags": (0.5, 0.875),
        "with K = 1 one guess in two is right": (1.0, right[1]),
    }
    _judge("lucky_labels", function(), right, mistakes, "and 0.477 for nine labels of ten classes")


@_exercise
def soft_member(function: Callable) -> None:
    """Chapter 9: Eq. (9.1), (scores (n,), k, temperature, cdf) -> (n,)."""
    scores, k, eps = torch.tensor([0.9, 0.7, 0.65, 0.2, -0.3]).double(), 2, 0.2

    def clipped(x: Tensor) -> Tensor:
        return (x + 0.5).clamp(0, 1)

    def each(rule: Callable) -> Tensor:
        return torch.stack([rule(cdf) for cdf in (torch.sigmoid, clipped)])

    def bisect(cdf: Callable, s: Tensor, total: float) -> Tensor:
        low, high = s.min() - 50, s.max() + 50
        for _ in range(100):
            t = (low + high) / 2
            low, high = (t, high) if cdf(s - t).sum() > total else (low, t)
        return cdf(s - t)

    mistakes = {
        "a factor makes degrees above 1: move a threshold until the sum is K": (
            each(lambda cdf: k * cdf(scores / eps) / cdf(scores / eps).sum())
        ),
        "there is no threshold: the degrees do not sum to K": each(lambda cdf: cdf(scores / eps)),
        "divide by the temperature": each(lambda cdf: bisect(cdf, scores, k)),
        "*divide* by the temperature": each(lambda cdf: bisect(cdf, scores * eps, k)),
        "the degrees sum to K, not to 1": each(lambda cdf: bisect(cdf, scores / eps, 1)),
        "cdf is an argument; this is the logistic one": (
            each(lambda cdf: bisect(torch.sigmoid, scores / eps, k))
        ),
        "a hard choice has no slope": (
            each(lambda cdf: (scores >= scores.topk(k).values[-1]).double())
        ),
    }
    answers = [function(scores.clone(), k, eps, cdf) for cdf in (torch.sigmoid, clipped)]
    right = each(lambda cdf: bisect(cdf, scores / eps, k))
    _judge("soft_member", answers, right, mistakes, "one threshold for every F")


@_exercise
def leave_one_out(function: Callable) -> None:
    """Chapter 9: the factors of (9.5), losses (M,) -> (M,)."""
    losses = torch.tensor([0.7, 0.2, 0.4, 1.1]).double()
    n = len(losses)
    right = (losses - losses.mean()) * n / (n - 1)
    mistakes = {
        "the mean of all draws holds the draw itself: too small by (M - 1) / M": (
            losses - losses.mean()
        ),
        "subtract the baseline": losses,
        "the sum of the others is not their mean": losses - (losses.sum() - losses),
        "this is for a reward; a loss keeps its sign": -right,
        "the others are M - 1": losses - (losses.sum() - losses) / n,
    }
    _judge("leave_one_out", function(losses.clone()), right, mistakes, "they sum to zero")


@_exercise
def with_background(function: Callable) -> None:
    """Chapter 9: counts with the background as class 0, (counts (B, C), k) -> (B, C+1)."""
    counts, k = torch.tensor([[1, 0, 1], [0, 0, 0], [2, 1, 1]]), 4
    spare = k - counts.sum(1, keepdim=True)
    mistakes = {
        "places with an object are no background: K minus the objects": (
            torch.cat([torch.full_like(spare, k), counts], 1)
        ),
        "the background is class 0, the first column": torch.cat([counts, spare], 1),
        "the number of places without an object, not whether there is one": (
            torch.cat([(spare > 0).long(), counts], 1)
        ),
        "K counts the places, not the classes": (
            torch.cat([(counts == 0).sum(1, keepdim=True), counts], 1)
        ),
        "take the objects from K, not K from the objects": torch.cat([-spare, counts], 1),
    }
    right = torch.cat([spare, counts], 1)
    _judge(
        "with_background", function(counts.clone(), k), right, mistakes, "every place has a label"
    )


# Chapter 10: patches, the reproduction


@_exercise
def half_found(function: Callable) -> None:
    """Chapter 10: offsets in sides at which the IoU is 1/2, along one axis and both, () -> two."""
    right = (1 / 3, 1 - (2 / 3) ** 0.5)
    mistakes = {
        "half of the box is shared there: the union is more than one box": (0.5, 1 - 0.5**0.5),
        "along both axes the shared part is (1 - u)^2: it falls faster": (1 / 3, 1 / 3),
        "the shared part is two thirds at an IoU of one half, so 1 - u = 2/3": (2 / 3, right[1]),
        "(1 - u)^2 is two thirds: take the root, then take it from 1": (1 / 3, (2 / 3) ** 0.5),
    }
    _judge("half_found", function(), right, mistakes, "a quarter off along both is not found")


@_exercise
def constant_answer(function: Callable) -> None:
    """Chapter 10: labels among different guesses, (classes, told, guessed) -> %."""
    cases = [(10, 9, 9), (10, 3, 3), (4, 6, 2), (5, 1, 5)]

    def each(rate: Callable) -> list[float]:
        return [100 * rate(c, n, m) for c, n, m in cases]

    mistakes = {
        "a class may be told twice and is guessed once: 1 - (1 - 1/C)^L of it is right": (
            each(lambda c, n, m: m / c)
        ),
        "divide by the labels told: a share of them is asked for": (
            each(lambda c, n, m: m * (1 - (1 - 1 / c) ** n))
        ),
        "divide by the labels told, not by the guesses": each(lambda c, n, m: 1 - (1 - 1 / c) ** n),
        "a guess is right if its class occurs at all, not only if it occurs once": (
            each(lambda c, n, m: m * (1 / c) * (1 - 1 / c) ** (n - 1))
        ),
        "in %, please": [x / 100 for x in each(lambda c, n, m: m / n * (1 - (1 - 1 / c) ** n))],
    }
    answer = [function(*case) for case in cases]
    right = each(lambda c, n, m: m / n * (1 - (1 - 1 / c) ** n))
    _judge("constant_answer", answer, right, mistakes, "hedging beats luck")


@_exercise
def precision_range(function: Callable) -> None:
    """Chapter 10: (10.3), (recall in %, told, guessed) -> least and greatest AP in %."""
    cases = [(97.5, 9, 9), (60.0, 3, 5), (40.0, 10, 4), (100.0, 2, 8)]
    right = [metrics.precision_bounds(*case) for case in cases]

    def each(least: Callable, most: Callable = lambda r, n, k: r) -> list[tuple]:
        return [(least(*case), most(*case)) for case in cases]

    mistakes = {
        "the final precision is r L / K: it is r only for K = L": each(lambda r, n, k: r * r / 100),
        "turn the fraction: more detections lower the precision": (
            each(lambda r, n, k: r * r / 100 * k / n)
        ),
        "the curve ends at the recall r: multiply the precision by it": (
            each(lambda r, n, k: r * n / k)
        ),
        "percent times percent: divide by 100": each(lambda r, n, k: r * r * n / k),
        "beyond the recall r there is no curve: the greatest AP is r": (
            each(lambda r, n, k: r * r / 100 * n / k, lambda r, n, k: 100.0)
        ),
    }
    answer = [function(*case) for case in cases]
    _judge("precision_range", answer, right, mistakes, "a recall tells most of an AP")


# Chapter 11: regions, entropy


@_exercise
def three_entropies(function: Callable) -> None:
    """Chapter 11: H, (11.2) and KL(u || p) of the answer (1/2, 1/4, 1/4), () -> bits."""
    p, u = torch.tensor([0.5, 0.25, 0.25]).double(), torch.full((3,), 1 / 3).double()
    entropy, cross = -(p * p.log2()).sum().item(), -p.log2().mean().item()
    log3 = torch.tensor(3.0).double().log2().item()
    mistakes = {
        "(11.2) is not log C: that is its least value, for p = u": (entropy, log3, 0.0),
        "(11.2) is the mean surprise under u, not under p": (entropy, entropy, log3 - entropy),
        "this is KL(p || u) = log C - H(p); the exercise asks for the other one": (
            (entropy, cross, log3 - entropy)
        ),
        "KL = cross-entropy minus entropy *of u*, which is log C": (
            entropy,
            cross,
            cross - entropy,
        ),
        "in units of log 2, please: these are nats": (
            tuple(x * torch.tensor(2.0).log().item() for x in (entropy, cross, cross - log3))
        ),
    }
    right = (entropy, cross, (u * (u / p).log2()).sum().item())
    _judge("three_entropies", function(), right, mistakes, "H below log C, and (11.2) above")


@_exercise
def entropy_gradient(function: Callable) -> None:
    """Chapter 11: gradient of -H in the logits (B, C), some of them -inf -> (B, C)."""
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.3, -torch.inf, 0.1]], dtype=torch.float64)
    leaf = logits.clone().requires_grad_()
    (right,) = torch.autograd.grad(-regions.conditional_entropy(leaf).sum(), leaf)
    p, H = logits.softmax(1), regions.conditional_entropy(logits)[:, None]
    log_p = p.log().masked_fill(p == 0, 0)
    mistakes = {
        "this is the gradient of H; the exercise asks for -H": -right,
        "this is the gradient of (11.2), p - 1/C": p - 1 / 3,
        "p depends on all logits: the normaliser brings the + H": p * log_p,
        "this is the derivative in p, not in the logits": log_p + 1,
        "the sign of H: it is minus the mean of log p": p * (log_p - H),
    }
    answer = function(logits.clone())
    if _tensor(answer).isnan().any():
        raise CheckFailed("0 times -inf is NaN: where p is 0, the entry is 0")
    _judge("entropy_gradient", answer, right, mistakes, "it dies where p is sure")


@_exercise
def divergence_from_prior(function: Callable) -> None:
    """Chapter 11: KL(prior || p) of logits (B, C) and prior (C,) -> (B,)."""
    logits = torch.tensor([[1.0, -0.5, 0.2], [-2.0, 60.0, 0.0]], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    cross, entropy = (
        regions.cross_entropy_to_prior(logits, prior),
        -(prior * prior.log()).sum(),
    )
    log_p, right = logits.log_softmax(1), cross - entropy
    uniform = torch.full_like(prior, 1 / 3)
    mistakes = {
        "this is KL(p || prior): the prior weighs the logarithms, not p": (
            (log_p.exp() * (log_p - prior.log())).sum(1)
        ),
        "this is (11.3); take off the entropy of the prior": cross,
        "H(prior) has the sign of a surprise: it is taken off, not added": cross + entropy,
        "the target is the prior, not the uniform distribution": (
            regions.cross_entropy_to_prior(logits, uniform) - torch.tensor(3.0).double().log()
        ),
        "the logits are not normalised: take log_softmax": (prior * (prior.log() - logits)).sum(1),
    }
    answer = function(logits.clone(), prior)
    if _tensor(answer).shape == ():
        raise CheckFailed("one number an image: no mean over the batch")
    if not _tensor(answer).isfinite().all():
        raise CheckFailed("a sure row underflows: stay with log_softmax, not the log of softmax")
    _judge("divergence_from_prior", answer, right, mistakes, "zero for an honest answer")


@_exercise
def mutual_information(function: Callable) -> None:
    """Chapter 11: I(Y; X-) and I(Y; X- | X+) of joint (2, a, b) -> two numbers, in nats."""
    joint = torch.rand(2, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    joint[0, 1] = 0
    joint = joint / joint.sum()

    def entropy(p):
        return -torch.special.xlogy(p, p).sum().item()

    y, plus, minus = entropy(joint.sum((1, 2))), joint.sum(2), joint.sum(1)
    of = {"y+": entropy(plus), "+": entropy(plus.sum(0)), "-": entropy(minus.sum(0))}
    of |= {"y-": entropy(minus), "+-": entropy(joint.sum(0)), "y+-": entropy(joint)}
    alone, first = y + of["-"] - of["y-"], y + of["+"] - of["y+"]
    both = y + of["+-"] - of["y+-"]
    right = (alone, both - first)
    mistakes = {
        "conditional and marginal information differ: use X+ in the second": (alone, alone),
        "the second is I(Y; X) minus I(Y; X+), not I(Y; X) itself": (alone, both),
        "you conditioned on X-: I(Y; X+ | X-)": (alone, both - alone),
        "the first is of X- alone, not of X+": (first, both - first),
        "these are bits; the exercise asks for nats": (
            tuple(x / torch.tensor(2.0).log().item() for x in right)
        ),
        "these are entropies of Y, what is left open, not what is told": (
            (of["y-"] - of["-"], of["y+-"] - of["+-"])
        ),
    }
    answer = function(joint.clone())
    if _tensor(answer).isnan().any():
        raise CheckFailed("0 log 0 is 0: use torch.special.xlogy")
    _judge("mutual_information", answer, right, mistakes, "complete and sufficient are two things")


# Chapter 12: regions, erasing


@_exercise
def three_looks(function: Callable) -> None:
    """Chapter 12: R* of the evidence (2.5, 0, 4, 1) after three looks, () -> four numbers."""
    mistakes = {
        "each look is weighed with its trust: 0.881 at t = 0": (1.0, 0.0, 1.0, 1.0),
        "the mask is all that lies above the midrange 2, not the greatest alone": (
            (0.797, 0.0, 0.881, 0.721)
        ),
        "pixel 1 lies above the midrange 2 as well": (0.0, 0.0, 0.881, 0.797),
        "the second look is trusted: its score saturates too, so it is no less sure": (
            (0.881, 0.0, 0.881, 0.0)
        ),
        "trust fades: the second look has the factor exp(-1/10)": (0.881, 0.0, 0.881, 0.881),
        "at t = 0 the factor exp(-t/10) is 1": (0.797, 0.0, 0.797, 0.721),
    }
    answer = _tensor(function()).mul(1000).round() / 1000
    _judge("three_looks", answer, (0.881, 0.0, 0.881, 0.797), mistakes, "the third is not trusted")


@_exercise
def blind_dice(function: Callable) -> None:
    """Chapter 12: F1+ and F1- of All-ones, then of All-zeros, share f -> four numbers."""
    shares = (0.2, 0.5)
    mistakes = {
        "F1 is not the share of right pixels: |A| + |B| is below, twice the overlap above": (
            [(f, 0, 0, 1 - f) for f in shares]
        ),
        "below stands |A| + |B|, here 1 + f, and above 2 |A and B|": (
            [(f / (1 + f), 0, 0, (1 - f) / (2 - f)) for f in shares]
        ),
        "All-zeros hits all of the complement, All-ones all of the region: exchange the pairs": (
            [(0, 2 * (1 - f) / (2 - f), 2 * f / (1 + f), 0) for f in shares]
        ),
        "the complement covers 1 - f: put that in place of f": (
            [(2 * f / (1 + f), 0, 0, 2 * f / (1 + f)) for f in shares]
        ),
        "All-ones predicts no pixel of the complement: its F1- is 0": (
            [(2 * f / (1 + f), 1 - f, 1 - f, 2 * (1 - f) / (2 - f)) for f in shares]
        ),
    }
    answer = [function(f) for f in shares]
    right = [(2 * f / (1 + f), 0, 0, 2 * (1 - f) / (2 - f)) for f in shares]
    _judge("blind_dice", answer, right, mistakes, "the least that a method has to beat")


@_exercise
def trust_of_a_look(function: Callable) -> None:
    """Chapter 12: (12.1), (p (B,), p_first (B,), named bool (B,), t, sigma) -> (B,)."""

    def logits(p: Tensor, named: Tensor) -> Tensor:
        """Of three classes, y the first: the rest is shared, or goes to one that is greater."""
        second = torch.where(named, (1 - p) / 2, 1 - p)
        return torch.stack([p, second, 1 - p - second], 1).log()

    p, first = torch.tensor([[0.9, 0.6, 0.8, 0.4], [0.8, 0.7, 0.8, 0.3]], dtype=torch.float64)
    named, t, sigma = torch.tensor([True, True, True, False]), 2, 10.0
    target = torch.zeros(4, dtype=torch.int64)
    at_first = F.cross_entropy(logits(first, named), target, reduction="none")
    right = regions.trust(logits(p, named), target, at_first, t, sigma)
    fade, sure = torch.tensor(-t / sigma).exp(), p >= first
    mistakes = {
        "trust fades with t: the factor exp(-t / sigma) is missing": p * named * sure,
        "as sure as at first is enough: >=, not >": fade * p * named * (p > first),
        "a look that is less sure than the first is not trusted": fade * p * named,
        "a look that names another class is not trusted": fade * p * sure,
        "the trust is this look's own p, not the first one's": fade * first * named * sure,
        "the trust holds p itself, not only the conditions": fade * named * sure,
    }
    answer = function(p.clone(), first.clone(), named.clone(), t, sigma)
    _judge("trust_of_a_look", answer, right, mistakes, "three ways to lose it")


@_exercise
def matthews(function: Callable) -> None:
    """Chapter 12: Matthews' correlation of bool masks (H, W), 0 where it is 0/0 -> scalar."""
    generator = torch.Generator().manual_seed(0)
    true = torch.rand(500, 500, generator=generator) < 0.4
    predicted = true ^ (torch.rand(500, 500, generator=generator) < 0.2)
    pairs = [(predicted, true), (torch.ones_like(true), true), (~true, true)]
    counts = [metrics.confusion([p], [t])[0] for p, t in pairs]

    def each(formula) -> list[float]:
        return [float(formula(*row)) for row in counts]

    def product(tp, fp, fn, tn):
        return (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)

    def ratio(dtype):
        rows = [row.to(dtype) for row in counts]
        return [float((a * d - b * c) / product(a, b, c, d).sqrt()) for a, b, c, d in rows]

    mistakes = {
        "the product of four counts does not fit into 64 bits: count in floats": (
            ratio(torch.int64)
        ),
        "a blind mask is 0/0: return 0 there": ratio(torch.float64),
        "this is the share of right pixels": each(lambda a, b, c, d: (a + d) / (a + b + c + d)),
        "this is the Dice index; it does not see the complement": (
            each(lambda a, b, c, d: 2 * a / (2 * a + b + c))
        ),
        "this is Jaccard's index, intersection over union": each(
            lambda a, b, c, d: a / (a + b + c)
        ),
    }
    right = [metrics.mask_scores([p], [t])["mcc"] / 100 for p, t in pairs]
    answer = [function(p, t) for p, t in pairs]
    _judge("matthews", answer, right, mistakes, "0 for a blind mask, -1 for the opposite")


# Chapter 13: regions, the reproduction


@_exercise
def images_apart(function: Callable) -> None:
    """Chapter 13: images that differ until a sign test sees it, and points of error, () -> two."""
    m = next(m for m in range(1, 80) if 2 * 0.5**m < 0.05)
    mistakes = {
        "two tosses agree in one case of two: Table 1 shows no difference": (2, 2.5),
        "two-sided: either method might be the better one, 2 / 2^m, and 2 / 2^5 is above 5 %": (
            (m - 1, 100 * (m - 1) / 80)
        ),
        "m images of 80 are m / 80 of 100 %": (m, m),
    }
    praise = "no pair of Table 1 on GlaS is so far apart"
    _judge("images_apart", function(), (m, 100 * m / 80), mistakes, praise)


@_exercise
def shares_behind(function: Callable) -> None:
    """Chapter 13: (13.1), (rate in % with two decimals, cut, n) -> the list of all k."""
    cases = [(69.65, 145), (1.25, 80), (33.33, 12), (24.62, 5794), (19.98, 145), (0.0, 30_000)]

    def marks(behind: Callable) -> Tensor:
        """1 for every k of every case that is in the list."""
        found = []
        for rate, n in cases:
            marked = torch.zeros(n + 1)
            marked[[k for k in behind(rate, n) if 0 <= k <= n]] = 1
            found.append(marked)
        return torch.cat(found)

    def by(printed: Callable) -> Tensor:
        return marks(lambda e, n: [k for k in range(n + 1) if printed(k, n) == round(100 * e)])

    mistakes = {
        "the decimals are cut, not rounded": by(lambda k, n: round(10_000 * k / n)),
        "the rate is in %: 100 k / n, and two decimals more": by(lambda k, n: 100 * k // n),
        "all k, not the first alone: large n have several": marks(
            lambda e, n: metrics.counts_behind(e, n)[:1]
        ),
        "some rates have no k: leave the list empty": marks(
            lambda e, n: metrics.counts_behind(e, n) or [round(e * n / 100)]
        ),
    }
    right, answers = marks(metrics.counts_behind), [function(*case) for case in cases]
    for (_, n), answer in zip(cases, answers, strict=True):
        if any(k != int(k) or not 0 <= k <= n for k in answer):
            raise CheckFailed(f"k of {n} images is a whole number from 0 to {n}")
    found = iter(answers)
    answer = marks(lambda e, n: [int(k) for k in next(found)])
    _judge("shares_behind", answer, right, mistakes, "decimals tell the size of a test set")


@_exercise
def zeros_from_ones(function: Callable) -> None:
    """Chapter 13: the upper end of (13.3), mean F1+ of All-ones in % -> %."""
    cases = (66.01, 23.72, 0.0, 100.0)
    mistakes = {
        "this is the chord, the least; the arc lies above": [100 - d for d in cases],
        "this takes d for f; f = d / (2 - d) first, then 2 (1 - f) / (2 - f)": (
            [200 * (1 - d / 100) / (2 - d / 100) for d in cases]
        ),
        "in %, please": [metrics.all_zeros_bounds(d)[1] / 100 for d in cases],
    }
    answer = [function(d) for d in cases]
    right = [metrics.all_zeros_bounds(d)[1] for d in cases]
    _judge("zeros_from_ones", answer, right, mistakes, "the row that was not printed")


@_exercise
def slower_by(function: Callable) -> None:
    """Chapter 13: epochs of u looks over epochs of one, (u, kappa, b) -> ratio."""
    cases = [(4, 0.25, 0.5), (2, 0.25, 0.0), (1, 0.3, 0.2), (8, 1.0, 0.9)]

    def each(ratio: Callable) -> list[float]:
        return [ratio(*case) for case in cases]

    def steps(u: int, kappa: float) -> float:
        return (u + 2 * kappa) / (1 + 2 * kappa)

    mistakes = {
        "the share b of an epoch stays as it is: only 1 - b grows": each(
            lambda u, k, b: steps(u, k)
        ),
        "b is a share of the epoch with one look, so that 1 - b of it are steps": (
            each(lambda u, k, b: steps(u, k) + b)
        ),
        "b and 1 - b are exchanged": each(lambda u, k, b: b * steps(u, k) + 1 - b),
        "the classifier makes two passes, on X+ and on X-": (
            each(lambda u, k, b: (1 - b) * (u + k) / (1 + k) + b)
        ),
        "the classifier does not look again: its passes do not grow with u": (
            each(lambda u, k, b: (1 - b) * u + b)
        ),
    }
    answer = each(function)
    right = each(lambda u, k, b: (1 - b) * steps(u, k) + b)
    _judge("slower_by", answer, right, mistakes, "a fast loader makes erasing look dear")


# Chapter 14: what a weak label is worth


@_exercise
def seven_bits(function: Callable) -> None:
    """Chapter 14: bits of "is there a 7?", k = (least, greatest) number of digits, (k) -> bits."""
    cases = [(0, 3), (1, 3), (2, 2), (1, 1)]
    numbers = [range(a, b + 1) for a, b in cases]

    def bits(missing: float) -> float:
        p = torch.tensor([missing, 1 - missing], dtype=torch.float64)
        return worth.entropy(p)

    right = [bits(statistics.fmean(0.9**n for n in ns)) for ns in numbers]
    mistakes = {
        "a canvas holds K digits, and any of them may be the 7": [bits(0.9)] * len(cases),
        "average the probability over K, not the bits": [
            statistics.fmean(bits(0.9**n) for n in ns) for ns in numbers
        ],
        "the power of the mean number of digits is not the mean of the powers": [
            bits(0.9 ** statistics.fmean(ns)) for ns in numbers
        ],
        "the answer *no* is news as well: add its term": [
            -(1 - q) * math.log2(1 - q)
            for q in (statistics.fmean(0.9**n for n in ns) for ns in numbers)
        ],
        "these are nats; bits take the logarithm to base 2": [b * math.log(2) for b in right],
    }
    answer = [function(k) for k in cases]
    _judge("seven_bits", answer, right, mistakes, "at most one bit, and only where both are likely")


@_exercise
def any_of(function: Callable) -> None:
    """Chapter 14: log P(a class occurs, or not), (log_p (B, C+1, N), label, seen (B,)) -> (B,)."""
    log_p = torch.cat([_log_p(3, 4, 5, seed=14)] * 2)
    log_p[[2, 5], 1] -= 40  # the class is improbable everywhere
    log_p = log_p.log_softmax(1)
    seen = torch.tensor([True] * 3 + [False] * 3)
    log_not = torch.log1p(-log_p[:, 1].exp())
    missing = log_not.sum(1)
    occurs = (-torch.expm1(missing)).log()
    blunt = (1 - log_p[:, 1].exp()).log().sum(1)
    best = log_p[:, 1].amax(1)
    mistakes = {
        "the digits are gone: use log1p and expm1 where a probability is near 0": (
            torch.where(seen, (1 - blunt.exp()).log(), blunt)
        ),
        "that is the best cell alone; any cell may hold it": torch.where(seen, best, missing),
        "where seen is false the class occurs nowhere: the product of 1 - p": occurs,
        "seen and not seen are exchanged": torch.where(seen, missing, occurs),
        "you asked whether *every* cell holds it": torch.where(seen, log_p[:, 1].sum(1), missing),
    }
    right = torch.where(seen, occurs, missing)
    _judge("any_of", function(log_p.clone(), 1, seen), right, mistakes, "digits kept down to e-40")


@_exercise
def pairs_apart(function: Callable) -> None:
    """Chapter 14: pairs of cells at least `apart` rows or columns apart, (cells, apart) -> int."""
    cases = [(4, 2), (10, 4), (14, 5), (5, 1)]

    def near(n: int, d: int) -> int:
        """Ordered pairs along one axis that are nearer than d."""
        return n + 2 * sum(n - i for i in range(1, min(d, n)))

    mistakes = {
        "you counted all pairs: those that are too near are not allowed": (
            [n**2 * (n**2 - 1) // 2 for n, _ in cases]
        ),
        "every pair is counted twice: a set has no order": [
            n**4 - near(n, d) ** 2 for n, d in cases
        ],
        "rows *or* columns: only pairs that are near in both are out": (
            [(n**2 - near(n, d)) ** 2 // 2 for n, d in cases]
        ),
        "a distance of exactly `apart` is allowed": (
            [(n**4 - near(n, d + 1) ** 2) // 2 for n, d in cases]
        ),
        "a cell is near itself: it is among the pairs that you take off": (
            [(n**4 - n**2 - near(n, d) ** 2) // 2 for n, d in cases]
        ),
    }
    right = [worth.choices(n, d, 2) for n, d in cases]
    answer = [function(n, d) for n, d in cases]
    _judge("pairs_apart", answer, right, mistakes, "the near pairs factorise over the two axes")


@_exercise
def break_even(function: Callable) -> None:
    """Chapter 14: seconds a click for equal bits a second, from (bits, bits, seconds, clicks)."""
    cases = [(6.0, 17.0, 2.5, 1.5), (4.0, 5.0, 1.0, 3.0), (2.0, 8.0, 3.0, 1.0)]
    each = [(f / c, s, m) for c, f, s, m in cases]
    mistakes = {
        "a full label takes the seconds of a counts label too: take them off": (
            [r * s / m for r, s, m in each]
        ),
        "divide by the clicks of a label": [(r - 1) * s for r, s, m in each],
        "that is the ratio the wrong way round": [(1 / r - 1) * s / m for r, s, m in each],
        "equal bits a second, not equal seconds": [0.0 for _ in each],
    }
    right = [(r - 1) * s / m for r, s, m in each]
    answer = [function(*case) for case in cases]
    _judge("break_even", answer, right, mistakes, "slower clicks make counts the quicker teller")


# Chapter 15: the audit


@_exercise
def twenty_claims(function: Callable) -> None:
    """Chapter 15: 20 true claims, 5 % each: P(none fails), P(one fails), expected failures."""
    m, a = 20, 0.05
    none, one = (1 - a) ** m, m * a * (1 - a) ** (m - 1)
    mistakes = {
        "probabilities of independent events multiply; their sum is only the expected number": (
            (0.0, 1.0, m * a)
        ),
        "any of the twenty may be the one that fails: a factor is missing": (
            (none, one / m, m * a)
        ),
        "exactly one: the other nineteen pass": (none, m * a, m * a),
        "that is the probability of one failure or more": (none, 1 - none, m * a),
        "the expected number is a sum of twenty probabilities": (none, one, a),
        "that all twenty fail is not that none does": (a**m, one, m * a),
    }
    praise = "one failure is as likely as none"
    _judge("twenty_claims", function(), (none, one, m * a), mistakes, praise)


@_exercise
def exactly(function: Callable) -> None:
    """Chapter 15: log P(count = k) from log P(count <= k), (at_most (n+1,)) -> (n+1,)."""
    logits = torch.tensor([[0.5, -1.0, 2.0, 0.0, -0.5], [-9.0, -11.0, -8.0, -12.0, -10.0]])
    right = counts.log_distribution(logits.double())  # (2, 6)
    above = right.exp().flip(1).cumsum(1).flip(1)[:, 1:]  # P(count > k), to the last digit
    at_most = F.pad(torch.log1p(-above), (0, 1))
    first, apart = at_most[:, :1], at_most.diff()
    mistakes = {
        "subtract probabilities, not their logarithms": torch.cat([0 * first, apart], 1),
        "exactly 0 is at most 0: the first number stays": right.clone().index_fill(
            1, torch.tensor(0), 0.0
        ),
        "log P(0) belongs at the front: it is at_most[0]": torch.cat([right[:, 1:], first], 1),
        "these are probabilities; the exercise asks for logarithms": right.exp(),
        "this is the logarithm of a difference of logarithms": torch.cat([first, apart.log()], 1),
    }
    answers = [function(row.clone()) for row in at_most]
    if _tensor(answers).isinf().any():
        raise CheckFailed("the digits are gone: factor the larger out, expm1 keeps the rest")
    _judge("exactly", answers, right, mistakes, "expm1 keeps what a difference of exp loses")


@_exercise
def attended(function: Callable) -> None:
    """Chapter 15: positions above times the uniform share, (attention (C, h, w), label, times)."""
    scores = 1.5 * torch.randn(3, 6, 9, generator=torch.Generator().manual_seed(15))
    attention = scores.flatten(1).softmax(1).view_as(scores)
    share = 1 / 54
    cases = [(0, 1.0), (2, 2.0)]

    def each(rule) -> Tensor:
        return torch.stack([rule(attention[label], label, times) for label, times in cases])

    mistakes = {
        "attention adds up to 1 for each class: the uniform share is 1 / (h w)": (
            each(lambda a, _, times: a > times * share / 3)
        ),
        "multiply the uniform share by `times`": each(lambda a, *_: a > share),
        "divide by the number of positions, not by one side": (
            each(lambda a, _, times: a > times / 6)
        ),
        "no arg-max: a position may be above the share for several classes": (
            each(lambda a, label, _: attention.argmax(0) == label)
        ),
        "more than, not less than": each(lambda a, _, times: a < times * share),
    }
    answers = [function(attention.clone(), *case) for case in cases]
    right = each(lambda a, _, times: a > times * share)
    _judge("attended", answers, right, mistakes, "without an opinion it takes nothing")


@_exercise
def share_found(function: Callable) -> None:
    """Chapter 15: share of present digits found, (able (B, K, L), present (B, L)) -> scalar."""
    generator = torch.Generator().manual_seed(15)
    able = torch.rand(4, 3, 7, generator=generator) < 0.3
    present = torch.arange(7) < torch.tensor([7, 4, 5, 2])[:, None]
    found = able.any(1)
    total = present.sum()
    mistakes = {
        "divide by the digits that are there, not by the detections": (found & present).sum() / 12,
        "padding is no digit: divide by the digits that are present": (found & present).sum() / 28,
        "padding is found by accident: leave it out": found.sum() / total,
        "a digit found twice is found once": (able & present[:, None]).sum() / total,
        "these are the detections that hit something, not the digits that are found": (
            (able & present[:, None]).any(2).sum() / total
        ),
        "the mean over images is another measure: count digits of all images together": (
            ((found & present).sum(1) / present.sum(1)).mean()
        ),
    }
    answer = function(able.clone(), present.clone())
    right = (found & present).sum() / total
    _judge("share_found", answer, right, mistakes, "objects below the bar, whatever was answered")
