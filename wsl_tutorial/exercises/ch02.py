"""Chapter 2: presence, computed safely."""

from itertools import permutations
from math import ceil, log, log10
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import presence
from .core import (
    Question,
    asked,
    choice,
    double,
    emissions,
    essay,
    exam,
    exercise,
    gradient,
    random_log_p,
    solution,
)


@exercise(
    praise="phi does not enter f_2(L)",
    mistakes={
        "the last number is a sum of two products: label 0 may come first or second": (
            lambda: (0.3, 0.6, 0.36)
        ),
        "a covered label needs no background: phi takes no part in f_2(L) here": (
            lambda: (0.3, 0.6, 0.46)
        ),
        "before the first position f_0(empty) = 1; f_1(empty) has emitted phi once": (
            lambda: (1.0, 0.6, 0.37)
        ),
        "f_1({0}) is the probability that position 1 emits label 0, not 0 or phi": (
            lambda: (0.3, 0.9, 0.37)
        ),
    },
)
def two_steps() -> tuple:
    """Return f_1(empty), f_1({0}) and f_2(L) of two positions and two labels."""
    return 0.3, 0.6, 0.6 * 0.6 + 0.1 * 0.1


def once(p: Tensor) -> Tensor:
    """Return the sum over three labels at one position each, background elsewhere."""
    terms = (
        p[0, i] * p[1, j] * p[2, k] * p[3, [m for m in range(5) if m not in (i, j, k)]].prod()
        for i, j, k in permutations(range(5), 3)
    )
    return sum(terms, p.new_zeros(()))


def without_phi(p: Tensor) -> Tensor:
    """Return the probability of all labels where no position emits the background."""
    total = p[:-1].sum(0)  # (n,)
    return total.prod() * solution.covered(F.pad(p[:-1] / total, (0, 0, 0, 1)))


@exercise(
    praise="nothing is subtracted",
    cases=[(random_log_p(1, 4, 5, seed=3)[0].exp(),)],
    mistakes={
        "a label that is covered already may be emitted again: then the set does not change": once,
        "the background may be emitted too: then the set does not change": without_phi,
        "this is the probability that any covered set results: return f(L) alone": (
            lambda p: p.sum(0).prod()
        ),
        "the exercise asks for the probability, not its logarithm": (
            lambda p: solution.covered(p).log()
        ),
    },
)
def covered(p: Tensor) -> Tensor:
    """Return the walk over covered sets, p (L+1, n), background last -> Prb(L | P)."""
    labels = torch.ones(1, len(p) - 1, dtype=torch.bool)
    return presence.log_likelihood(p.log()[None], labels)[0].exp()


def restricted(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return p over the labels of the set and the background alone, normalised."""
    on = torch.cat([labels, labels.new_ones(len(labels), 1)], 1)[:, :, None, None]
    return log_p.masked_fill(~on, -torch.inf).softmax(1)


@exercise(
    praise="the gradient in log p is the E-step",
    cases=[
        (
            random_log_p(2, 4, 2, 3, seed=4),
            torch.tensor([[True, True, False], [False, False, True]]),
        )
    ],
    mistakes={
        "this is the gradient in p; (2.3) differentiates in log p: multiply by p": (
            lambda log_p, labels: solution.posterior(log_p, labels) / log_p.exp()
        ),
        "the sign is wrong: you differentiated the loss": (
            lambda log_p, labels: -solution.posterior(log_p, labels)
        ),
        "this is the gradient in the logits, r - p: stop at log_p": (
            lambda log_p, labels: solution.posterior(log_p, labels) - log_p.exp()
        ),
        "you differentiated Prb, not its logarithm": (
            lambda log_p, labels: gradient(
                lambda x: presence.log_likelihood(x, labels).exp(), log_p
            )
        ),
        "this only removes the absent classes: use also that each label of the set appears": (
            restricted
        ),
    },
)
def posterior(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return the posterior by one gradient, (log_p, labels) -> (B, C+1, *positions)."""
    return presence.posterior(log_p, labels)


@exercise(
    praise="known before training",
    cases=[(double([1.0, -0.9, -0.3, 0.2003]),)],
    mistakes={
        "the numerator is the sum of the sizes of all terms, not only the largest size": (
            lambda terms: (terms.abs().max() / terms.sum().abs()).log10()
        ),
        "the ratio is upside down: divide the sum of sizes by the sum": lambda terms: (
            -solution.digits_lost(terms)
        ),
        "natural logarithm: digits are counted by log10": (
            lambda terms: (terms.abs().sum() / terms.sum().abs()).log()
        ),
        "this is kappa; its logarithm counts the digits": (
            lambda terms: terms.abs().sum() / terms.sum().abs()
        ),
        "you added the terms with their signs in the numerator too": lambda terms: 0,
    },
)
def digits_lost(terms: Tensor) -> Tensor:
    """Return log10 of the condition number of a sum, terms (n,) with signs -> scalar."""
    return (terms.abs().sum() / terms.sum().abs()).log10()


@asked
def digits_that_are_lost(r: Random) -> Question:
    sizes, value = r.randint(2, 9), r.randint(2, 9) * 10.0 ** -r.randint(3, 5)
    lost = log10(sizes / value)
    return Question(
        f"The sizes of the terms of an alternating series add up to {sizes}, its sum is {value:g}, "
        "and each term is right to 7 digits. How many digits of the sum are right, rounded up?",
        ceil(7 - lost),
        {
            "this is the number of digits that are lost": ceil(lost),
            "subtraction of close numbers loses digits: all 7 do not survive": 7,
        },
        solution="The sum is smaller than the sum of the sizes by the factor $\\kappa$, here "
        f"{sizes / value:.3g}. So it loses {lost:.2f} digits of the 7.",
    )


@asked
def sum_that_cancels(r: Random) -> Question:
    def terms(digits: int) -> list[float]:
        a = r.randint(5, 9) / 10
        b = r.randint(1, round(10 * a) - 3) / 10
        return [a, -b, -round(a - b - 10.0**-digits, digits)]

    sums = [terms(4), terms(2), terms(1), [float(r.randint(50, 90)), r.randint(1, 9) / 10, 0.2]]
    lost = [solution.digits_lost(double(x)).item() for x in sums]

    def option(i: int) -> tuple[str, bool, str]:
        shown = "$" + "".join(f"{x:+.10g}" for x in sums[i]).lstrip("+") + "$"
        hint = f"it is {sum(sums[i]):.3g} and loses {abs(lost[i]):.1f} digits"
        large = "large terms alone lose nothing: here all signs are equal"
        return shown, lost[i] == max(lost), large if i == 3 else f"{hint}; another loses more"

    return choice(
        r,
        "Which of these sums loses the most digits to cancellation?",
        *map(option, range(4)),
        solution="Digits lost are $\\log_{10}$ of the sum of the sizes over the size of the sum. "
        f"The sum that comes closest to 0, compared with its terms, loses most: {max(lost):.1f}.",
    )


@asked
def walk_over_two_labels(r: Random) -> Question:
    text, log_p = emissions(r, 2)
    (a, b, n), (c, d, m) = log_p[0].exp().T.tolist()
    labels = torch.tensor([[True, True]])
    both = presence.log_likelihood(log_p, labels).exp().item()
    first = presence.posterior(log_p, labels)[0, 0, 0].item()
    series = double([1, -(a + n) * (c + m), -(b + n) * (d + m), n * m])
    lost = solution.digits_lost(series).item()
    return exam(
        f"{text} The label set is {{A, B}}.",
        Question(
            "Walk over the covered sets. What is the probability of the label set?",
            both,
            {
                "either label may come first: add the two orders": a * d,
                "both labels have to be covered; the background covers none": (1 - n * m),
            },
            solution=f"After the first position {{A}} has {a:g} and {{B}} has {b:g}. The second "
            f"completes them: ${a:g} \\cdot {d:g} + {b:g} \\cdot {c:g} = {both:.4g}$.",
        ),
        Question(
            "With which probability does the first position emit A, given the label set?",
            first,
            {
                "this is the prior": a,
                "divide by the probability of the label set": a * d,
                "this is the probability that the first position emits B": 1 - first,
            },
            solution=f"If it emits A, the second has to emit B: ${a:g} \\cdot {d:g}$, divided by "
            f"{both:.4g}, is {first:.4g}.",
        ),
        Question(
            "The alternating series has the terms "
            + ", ".join(f"{x:g}" for x in series.tolist())
            + ". How many decimal digits does it lose, $\\log_{10} \\kappa$?",
            lost,
            {
                "digits are counted by the logarithm to base 10": lost * log(10),
                "this is kappa; take its logarithm": 10**lost,
                "the numerator sums the sizes of all terms": -log10(both),
            },
            solution="$\\kappa$ is the sum of the sizes over the size of the sum, "
            f"{series.abs().sum().item():.4g} / {both:.4g}; its logarithm is {lost:.3g}.",
        ),
        essay(
            "Explain in two sentences why the walk loses none of these digits.",
            "the walk only adds and multiplies numbers that are not negative",
            "digits are lost where close numbers are subtracted, and it never subtracts",
            solution="All that the walk does is to add products of probabilities. A relative error "
            "is multiplied by a large factor only where close numbers are subtracted.",
        ),
    )
