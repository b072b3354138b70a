"""Chapter 1: presence, the likelihood."""

from math import comb
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import presence
from .core import Question, asked, choice, emissions, essay, exam, exercise, random_log_p, solution


def alpha(log_p: Tensor, label: int) -> Tensor:
    """Return log Prb(every position emits the label or phi)."""
    return log_p[:, [label, -1]].logsumexp(1).flatten(1).sum(-1)


@exercise(
    praise="alpha with phi, minus phi alone",
    cases=[(random_log_p(2, 4, 2, 2), 1)],
    mistakes={
        "you forgot that phi may be emitted too: every position emits the label *or* phi": (
            lambda log_p, label: log_p[:, label].flatten(1).sum(-1)
        ),
        "alpha counts the grid of phi alone too, without any instance of the label: subtract it": (
            alpha
        ),
        "this is the probability; the exercise asks for its logarithm": (
            lambda log_p, label: solution.one_label(log_p, label).exp()
        ),
        "a difference of probabilities is not a difference of logarithms": (
            lambda log_p, label: alpha(log_p, label) - log_p[:, -1].flatten(1).sum(-1)
        ),
        "this is noisy-OR: it forgets that no *other* class may appear": (
            lambda log_p, label: (1 - (1 - log_p[:, label].exp()).flatten(1).prod(-1)).log()
        ),
    },
)
def one_label(log_p: Tensor, label: int) -> Tensor:
    """Return log Prb({l}), (log_p (B, C+1, M, N), label) -> (B,)."""
    labels = F.one_hot(torch.tensor([label] * len(log_p)), log_p.shape[1] - 1)
    return presence.log_likelihood(log_p, labels.bool())


@asked
def only_one_class(r: Random) -> Question:
    text, log_p = emissions(r)
    return one_label.question(
        f"{text} With which probability is the label set exactly {{A}}?",
        *(log_p, 0),
        number=torch.exp,
        without="logarithm",
        solution="Every position emits A or the background: multiply these sums. Subtract the "
        "probability that all three are background.",
    )


def missing(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return the probability that a label is emitted nowhere, 0 for labels not asked for."""
    return (1 - log_p[:, :-1].exp()).flatten(2).prod(-1) * labels  # (B, C)


@exercise(
    praise="a label that may grow",
    cases=[
        (
            random_log_p(2, 4, 2, 2, seed=2),
            torch.tensor([[True, False, True], [True, True, False]]),
        )
    ],
    mistakes={
        "this is *exactly* these labels; other classes may appear too": presence.log_likelihood,
        "the labels are not independent: a position that emits one cannot emit the other": (
            lambda log_p, labels: (1 - missing(log_p, labels)).prod(-1).log()
        ),
        "grids that miss both labels were subtracted twice: add them back once": (
            lambda log_p, labels: (1 - missing(log_p, labels).sum(-1)).log()
        ),
        "this is the probability that a label is *missing*": (
            lambda log_p, labels: (1 - solution.at_least(log_p, labels).exp()).log()
        ),
        "the exercise asks for the logarithm": (
            lambda log_p, labels: solution.at_least(log_p, labels).exp()
        ),
    },
)
def at_least(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return log Prb(at least L), (log_p (B, C+1, M, N), labels (B, C)) -> (B,)."""
    return presence.log_likelihood(log_p, presence.at_least(labels))


@asked
def presence_of_two(r: Random) -> Question:
    text, log_p = emissions(r)
    alone = sum(solution.one_label(log_p, label).exp().item() for label in range(2))
    return at_least.question(
        f"{text} With which probability is the label set {{A, B}}?",
        *(log_p, torch.tensor([[True, True]])),
        number=torch.exp,
        without="exactly|logarithm",
        more={
            "1 minus {A} alone minus {B} alone still contains the bags without any label": 1 - alone
        },
        solution="Subtract from 1 the label maps without A and those without B, and add back those "
        "without either: $1 - \\prod (1 - p_A) - \\prod (1 - p_B) + \\prod p_\\phi$.",
    )


def words(L: int, n: int, extra: int = 1) -> int:
    """Return how many words of length n over L + extra letters use each of the L letters."""
    return sum((-1) ** (L - s) * comb(L, s) * (s + extra) ** n for s in range(L + 1))


@exercise(
    praise="Eq. (1.2) with every p set to 1",
    cases=[(1, 4), (2, 3), (3, 3), (3, 2), (0, 5)],
    mistakes={
        "you forgot phi: each position has L + 1 choices, not L": lambda L, n: words(L, n, extra=0),
        "these are all labellings with the L labels and phi: subtract those that miss a label": (
            lambda L, n: (L + 1) ** n
        ),
        "you subtracted the grids that miss two labels twice: add them back once": (
            lambda L, n: (L + 1) ** n - L * L**n
        ),
    },
)
def count_labellings(L: int, n: int) -> int:
    """Return how many labellings show exactly L labels on n positions, (L, n) -> int."""
    return words(L, n)


@asked
def grids_with_one_label(r: Random) -> Question:
    n = r.randint(3, 9)
    label = r.choice("ABCD")

    def option(number: int, hint: str) -> tuple[str, bool, str]:
        return str(number), number == solution.count_labellings(1, n), hint

    return choice(
        r,
        f"How many label maps of {n} positions show label {label}, and no other label, if each "
        "position may also be background?",
        option(words(1, n), ""),
        option((1 + 1) ** n, "the map of background alone does not show the label: subtract it"),
        option(1, "not every position needs the label: some may be background"),
        option(n, f"these are the maps with exactly one position of {label}"),
        solution=f"Each position is {label} or background: $2^{n}$ maps. One of them, background "
        f"everywhere, does not show the label: $2^{n} - 1 = {words(1, n)}$.",
    )


@asked
def label_sets_of_two_positions(r: Random) -> Question:
    text, log_p = emissions(r, 2)
    (a, b, n), (c, d, m) = log_p[0].exp().T.tolist()

    def prb(*labels: bool) -> float:
        return presence.log_likelihood(log_p, torch.tensor([labels])).exp().item()

    empty, only, both = prb(False, False), prb(True, False), prb(True, True)
    occurs = [1 - (1 - a) * (1 - c), 1 - (1 - b) * (1 - d)]
    return exam(
        f"{text} The positions are independent.",
        Question(
            "With which probability is the label set empty?",
            empty,
            {
                "this is the probability that it is not empty": 1 - empty,
                "both positions have to be background: multiply": n + m,
            },
            solution=f"Both positions emit the background: ${n:g} \\cdot {m:g} = {empty:.4g}$.",
        ),
        Question(
            "With which probability is the label set exactly {A}?",
            only,
            {
                "subtract the case that both positions are background": (a + n) * (c + m),
                "a position may be background while the other emits A": a * c,
                "this allows B to occur too": occurs[0],
            },
            solution="Each position emits A or the background, and not both the background: "
            f"${a + n:g} \\cdot {c + m:g} - {empty:.4g} = {only:.4g}$.",
        ),
        Question(
            "With which probability is the label set {A, B}?",
            both,
            {
                "A may come from either position: add the other order": a * d,
                "the two labels are not independent": occurs[0] * occurs[1],
                "subtract {B} alone, too": 1 - empty - only,
            },
            solution="Two positions, two labels: one emits A and the other B, in either order, "
            f"${a:g} \\cdot {d:g} + {b:g} \\cdot {c:g} = {both:.4g}$.",
        ),
        essay(
            "A colleague multiplies the probability that A occurs with the probability that B "
            f"occurs and gets {occurs[0] * occurs[1]:.3g} for {{A, B}}. Explain the mistake.",
            "a position emits one class: if it emits A, it does not emit B",
            "so the two events are not independent, and their probabilities must not be multiplied",
            solution="A position that emits A cannot emit B: the classes compete for positions. "
            "That A occurs makes it less probable that B does, and a product would need "
            "independence.",
        ),
    )
