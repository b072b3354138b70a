"""Judge our numbers against printed ones, and claims against our numbers, by one rule.

A printed number is judged by Eq. (4.1), `verdict`. A claim is a set of gaps, each with the
half-width of its interval over the seeds at the level LEVEL (Welch's t), and `decided` judges them.
Both take numbers alone. In both, a run that gave no finite number is worse than every number. The
evidence of a record is its protocol; STRENGTH has the strongest first.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from enum import StrEnum
from math import ceil, inf, isfinite, isnan, nan, sqrt
from typing import Any, NamedTuple

from scipy.special import stdtrit

STRENGTH = ("paper", "desk", "short")  # protocols that are shown, the strongest evidence first
JUDGING = STRENGTH[:2]  # protocols that give a verdict
MARKS = {"paper": "paper's settings", "desk": "our recipe", "short": "reduced size"}
LEVEL = 0.05  # of each gap, two-sided: two equal experiments are called different this often
REDUCE = {"mean": statistics.fmean, "min": min, "max": max}  # seeds to one number, by rule
Records = Sequence[dict[str, Any]]


class State(StrEnum):
    """The state of a printed number or of a claim."""

    REPRODUCED = "reproduced"
    BETTER = "better"
    WORSE = "worse"
    HOLDS = "holds"
    FAILS = "fails"
    UNDECIDED = "undecided"
    NO_VERDICT = "no verdict"
    NOT_RUN = "not run"
    NOT_WRITTEN = "not written yet"
    NOT_TESTED = "not tested"


VERDICTS = (State.REPRODUCED, State.BETTER, State.WORSE, State.HOLDS, State.FAILS, State.UNDECIDED)


# Printed numbers ----------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """A printed number judged: `ours` and `sd` over the seeds, `gap` = ours - paper, its limit."""

    state: State
    ours: float | None
    sd: float | None
    gap: float | None
    tolerance: float


def only_seed(rule: str) -> int | None:
    """Return the seed K of the rule `seed:K`; None for the rules that take all seeds."""
    name, _, seed = rule.partition(":")
    return int(seed) if name == "seed" and seed.isdecimal() else None


def summary(values: Mapping[int, float | None], rule: str) -> tuple[float | None, float | None]:
    """Return one number over the seeds by a cell's rule, and the standard deviation of all."""
    finite = [value for value in values.values() if value is not None]
    sd = statistics.stdev(finite) if len(finite) > 1 else None
    if (seed := only_seed(rule)) is not None:
        return values.get(seed), sd
    return (REDUCE[rule](finite) if finite else None), sd


def verdict(
    paper: float,
    paper_sd: float | None,
    rounding: float,
    values: Mapping[int, float | None],
    lower: bool,
    rule: str = "mean",
) -> Verdict:
    """Eq. (4.1): the verdict on our seeds against a printed value.

    *Reproduced*: ours differs from the paper's value by no more than the larger of the rounding of
    that value and the sum of the two standard deviations (the paper's printed ±, and ours over the
    seeds; each 0 where there is none). Otherwise *better* or *worse*. A mean over seeds of which
    some gave no finite value (None) is *worse*, and so is a rule that is left with no value.
    """
    ours, sd = summary(values, rule)
    tolerance = max(rounding, (paper_sd or 0.0) + (sd or 0.0))
    lost = rule == "mean" and None in values.values()
    if ours is None or lost:
        return Verdict(State.WORSE, ours, sd, None if ours is None else ours - paper, tolerance)
    gap = ours - paper
    if abs(gap) <= tolerance + 1e-9:
        state = State.REPRODUCED
    else:
        state = State.BETTER if (gap < 0) == lower else State.WORSE
    return Verdict(state, ours, sd, gap, tolerance)


# Claims -------------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """A gap that is above 0 if the claim is right, and the half-width of its interval at LEVEL.

    The half-width is 0 if nothing is drawn at random, and nan if one seed gives none.
    """

    gap: float
    error: float


class Ruling(NamedTuple):
    """The answer to a claim (`holds` is None: undecided), and a sentence with the numbers."""

    holds: bool | None
    text: str

    @property
    def state(self) -> State:
        """Return the answer as a state."""
        return {True: State.HOLDS, False: State.FAILS, None: State.UNDECIDED}[self.holds]


def decided(*facts: tuple[float, float]) -> bool | None:
    """Decide a claim: True if every gap exceeds its half-width, False if one is below minus it.

    None otherwise; a gap or half-width that is not a number decides nothing.
    """
    if any(gap < -error for gap, error in facts):
        return False
    return True if facts and all(gap > error for gap, error in facts) else None


def ruling(text: str, *facts: tuple[float, float]) -> Ruling:
    """Return the ruling on a claim by its facts, with the sentence that shows them."""
    return Ruling(decided(*facts), text)


def values(found: Records, metric: str, worst: float = -inf) -> list[float]:
    """Return a metric of every record: `worst` if a run gave no finite value, as in Eq. (4.1).

    A record without the metric gives nan, which decides nothing.
    """
    held = (record["metrics"].get(metric, nan) for record in found)
    return [worst if value is None else value for value in held]


def mean(found: Records, metric: str, worst: float = -inf) -> float:
    """Return a metric, mean over the records; nan without records."""
    return _mean(values(found, metric, worst))


def _mean(numbers: Sequence[float]) -> float:
    if inf in numbers and -inf in numbers:
        return nan
    return statistics.fmean(numbers) if numbers else nan


def contrast(
    *parts: tuple[float, Sequence[float]], plus: float = 0.0, level: float = LEVEL
) -> Fact:
    """Return a weighted sum of means, sum w_k mean(x_k) + plus, with its half-width at a level.

    Welch's t: the standard error has the variances of the groups apart, the degrees of freedom are
    those of Satterthwaite. Two groups with weights 1 and -1 make Welch's two-sample test, one group
    the one-sample test (paired, if it holds differences). A group of fewer than two values has no
    known spread: the half-width is nan. A mean over a lost run is infinite, with half-width 0.

    Args:
        parts: pairs of a weight and the values of the runs.
        plus: a constant, for gaps from a limit.
        level: two-sided.
    Source: Welch (1947), Biometrika 34; Satterthwaite (1946), Biometrics 2.
    """
    gap = plus + sum(weight * _mean(numbers) for weight, numbers in parts)
    if isnan(gap) or any(len(numbers) < 2 for _, numbers in parts):
        return Fact(gap, nan)
    if not isfinite(gap):
        return Fact(gap, 0.0)
    shares = [(w * w * statistics.variance(x) / len(x), len(x) - 1) for w, x in parts]
    square = sum(share for share, _ in shares)
    if not square:
        return Fact(gap, 0.0)
    freedom = square**2 / sum(share**2 / n for share, n in shares)
    return Fact(gap, float(stdtrit(freedom, 1 - level / 2)) * sqrt(square))


def ahead(a: Records, b: Records, metric: str, worst: float = -inf, plus: float = 0.0) -> Fact:
    """Return how much the mean of a is above that of b, plus a constant, with its half-width."""
    return contrast((1, values(a, metric, worst)), (-1, values(b, metric, worst)), plus=plus)


def behind(a: Records, b: Records, metric: str, worst: float = inf, plus: float = 0.0) -> Fact:
    """Return how much the mean of a is below that of b: `ahead` for errors and costs."""
    return ahead(b, a, metric, worst, plus)


def at_least(found: Records, metric: str, limit: float, worst: float = -inf) -> Fact:
    """Return how much the mean is above a limit, with its half-width."""
    return contrast((1, values(found, metric, worst)), plus=-limit)


def at_most(found: Records, metric: str, limit: float, worst: float = inf) -> Fact:
    """Return how much the mean is below a limit, with its half-width."""
    return contrast((-1, values(found, metric, worst)), plus=limit)


def exactly(gap: float) -> Fact:
    """Return a gap without an error: durations of one run, and numbers that no seed changes."""
    return Fact(gap, 0.0)


def gaps_text(a: Records, b: Records, *metrics: str) -> str:
    """Return the gaps with their half-widths, as text."""
    return ", ".join(f"{m} {plus_minus(ahead(a, b, m))}" for m in metrics)


def plus_minus(fact: tuple[float, float], decimals: int = 1, sign: str = "+") -> str:
    """Return `+1.0 ± 0.3`; without the ± if one seed gives none."""
    gap, error = fact
    spread = "" if isnan(error) or (not error and not isfinite(gap)) else f" ± {error:.{decimals}f}"
    return f"{gap:{sign}.{decimals}f}{spread}"


# Curves -------------------------------------------------------------------------------------------


class Trend(NamedTuple):
    """The end of a curve: was it still improving, the best before the last quarter, the end."""

    improving: bool
    before: float
    end: float


def trend(curve: Sequence[Mapping[str, float | None]], key: str, lower: bool) -> Trend | None:
    """Return how a measure ended: whether it was still improving when a training stopped.

    It was if the median over the last quarter of the points (rounded up) is better than every point
    before it. None for fewer than four points, or if the end or all before it is not finite.

    Args:
        curve: the points of a record, in the order of the epochs.
        key: the measure; lower: whether it gets better downwards.
    """
    numbers = [point.get(key) for point in curve]
    last = ceil(len(numbers) / 4)
    before = [n for n in numbers[:-last] if n is not None]
    final = [n for n in numbers[-last:] if n is not None]
    if len(numbers) < 4 or not before or len(final) < last:
        return None
    best = min(before) if lower else max(before)
    end = statistics.median(final)
    return Trend(end < best if lower else end > best, best, end)


def ended(found: Records, key: str, lower: bool) -> str:
    """Return one sentence on whether the runs still improved when they stopped; "" if unknown."""
    known = [t for record in found if (t := trend(record["curve"], key, lower))]
    if not known:
        return ""
    rising = sum(t.improving for t in known)
    shown = next((t for t in known if t.improving), known[0])
    move = "falling" if lower else "rising"
    state = f"still {move}" if rising else f"no longer {move}"
    seeds = f" in {rising} of {len(known)} seeds" if rising and len(known) > 1 else ""
    return (
        f"{state} at the end{seeds}: `{key}` was {shown.before:.3g} at best before the last "
        f"quarter of the epochs, and {shown.end:.3g} (median) in it"
    )
