"""Exercise checks: each takes the reader's function, and names the mistake where it knows it.

A check draws a small case from a fixed seed, computes the right answer with the package (which is
the solution sheet), and beside it the answers of well-known mistakes. It prints one line when the
function is right and raises `CheckFailed` with a hint when it is not. `attempt` prints the hint
instead, so that a notebook goes on.
"""

from collections.abc import Callable
from itertools import permutations
from math import comb, factorial, prod

import torch
from torch import Tensor
from torch.nn import functional as F

from . import automaton, counts, presence, toy


class CheckFailed(AssertionError):
    """The answer is not right yet; the message says what to look at."""


def attempt(check: Callable[[Callable], None], function: Callable) -> None:
    """Run a check on a reader's function, and print its hint if it fails."""
    try:
        check(function)
    except CheckFailed as hint:
        print("✗ not yet:", hint)


def _judge(name: str, answer, right, mistakes: dict[str, object], praise: str) -> None:
    """Compare with the right answer, then with the known mistakes: a hint for each."""
    if answer is None:
        raise CheckFailed(f"{name} returns nothing: end it with a return")
    right, answer = torch.as_tensor(right), torch.as_tensor(answer)
    if answer.shape != right.shape:
        raise CheckFailed(f"the shape should be {tuple(right.shape)}, not {tuple(answer.shape)}")
    if not _close(answer, right):
        hints = [hint for hint, wrong in mistakes.items() if _close(answer, torch.as_tensor(wrong))]
        raise CheckFailed(hints[0] if hints else f"expected {_row(right)}, got {_row(answer)}")
    print(f"✓ {name}: {praise}")


def _close(a: Tensor, b: Tensor) -> bool:
    same = a.shape == b.shape
    return same and torch.allclose(a.double(), b.double(), rtol=1e-4, atol=1e-6, equal_nan=True)


def _row(values: Tensor) -> str:
    """The first four numbers, for a hint."""
    flat = values.flatten()
    return ", ".join(f"{v:.4g}" for v in flat[:4].tolist()) + (", ..." if len(flat) > 4 else "")


def _log_p(*shape: int, seed: int = 0) -> Tensor:
    """Random log-probabilities (B, k, *positions) over the channel axis, float64."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).log_softmax(1)


# Chapter 0: one idea


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
    answers = [function(case) for case in cases]
    answer = None if None in answers else answers
    _judge("consistent_with_counts", answer, right, mistakes, "the multinomial coefficient")


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
    answers = [function(L, n) for L, n in cases]
    answer = None if None in answers else answers
    _judge("count_labellings", answer, right, mistakes, "Eq. (1.2) with every p set to 1")


def _phi(channels: int) -> Tensor:
    return torch.arange(channels) == channels - 1


def _exactly(L: int, n: int, extra: int = 1) -> int:
    """Words of length n over L + extra letters that use each of the L letters."""
    return sum((-1) ** (L - s) * comb(L, s) * (s + extra) ** n for s in range(L + 1))


# Chapter 2: presence, computed safely


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


# Chapter 5: counts, the likelihood


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


def count_probability(function: Callable) -> None:
    """Chapter 5: P(y | X) by the recursion, rho (n,) and y -> number, for several counts."""
    rho = torch.tensor([0.9, 0.3, 0.6, 0.2, 0.5], dtype=torch.float64)
    every = counts.log_distribution(rho.logit()[None])[0].exp()  # (6,)
    answers = [function(rho.clone(), y) for y in range(6)]
    answer = None if any(a is None for a in answers) else [float(a) for a in answers]
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


def constant_curvature(function: Callable) -> None:
    """Chapter 6: the two eigenvalues at rho = y/n, (n, y) -> together, contrast."""
    cases = [(4, 2), (6, 2), (12, 3)]
    spread = [y / n * (1 - y / n) for n, y in cases]
    right = [(-s, s / (n - 1)) for s, (n, _) in zip(spread, cases, strict=True)]
    answers = [function(n, y) for n, y in cases]
    answer = None if None in answers else answers
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
