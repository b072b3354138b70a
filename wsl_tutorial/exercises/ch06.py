"""Chapter 6: counts, the learning."""

from math import log
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import counts
from .core import Question, asked, choice, double, essay, exam, exercise, listed, solution, some


def towards(logits: Tensor, told: Tensor, n: int) -> Tensor:
    """Return the mean cross-entropy of logits (B, ..) to the proportions told / n."""
    q = (told / n).to(logits).view(-1, *[1] * (logits.ndim - 1))
    return F.binary_cross_entropy_with_logits(logits, q.expand_as(logits))


@exercise(
    praise="log of the mean",
    cases=[(double([[2.0, 0.3, -1.0], [-2.0, 1.0, 0.2]]), torch.tensor([2, 1]))],
    mistakes={
        "the logarithm of the mean, not the mean of the logarithms": (
            lambda logits, told: towards(logits, told, logits.shape[1])
        ),
        "average the probabilities, not the logits": (
            lambda logits, told: towards(logits.mean(1), told, logits.shape[1])
        ),
        "the negatives are missing: add (1 - q) log(1 - mean)": (
            lambda logits, told: -(told / logits.shape[1] * logits.sigmoid().mean(1).log()).mean()
        ),
        "a loss is to be minimised: turn the sign": (
            lambda logits, told: -counts.proportion_loss(logits, told)
        ),
        "the mean over the bags, not the sum": (
            lambda logits, told: len(told) * counts.proportion_loss(logits, told)
        ),
        "this is the likelihood of the count, not of the proportion": (
            lambda logits, told: -counts.log_likelihood(logits, told).mean()
        ),
    },
)
def dllp_loss(logits: Tensor, told: Tensor) -> Tensor:
    """Return the proportion loss, (logits (B, n), counts (B,)) -> scalar."""
    return counts.proportion_loss(logits, told)


@asked
def proportion_loss_of_a_bag(r: Random) -> Question:
    rho, y = some(r, 0.1, 0.9, 4), r.randint(1, 3)
    logits, told = double([rho]).logit(), torch.tensor([y])
    return dllp_loss.question(
        f"A bag of four instances holds {y} positive ones; the network answers {listed(rho)}. What "
        "is DLLP's loss of this bag, in nats?",
        *(logits, told),
        without="over the bags",
        more={"these are bits": counts.proportion_loss(logits, told).item() / log(2)},
        solution=f"The mean probability is {sum(rho) / 4:.4g}, the proportion {y / 4:g}; their "
        f"cross-entropy is "
        f"$-{y / 4:g} \\log {sum(rho) / 4:.4g} - {1 - y / 4:g} \\log {1 - sum(rho) / 4:.4g}$.",
    )


def curvatures(n: int, y: int) -> tuple[float, float]:
    """Return the eigenvalues at rho = y/n."""
    spread = y / n * (1 - y / n)
    return -spread, spread / (n - 1)


@exercise(
    praise="small bags push harder",
    cases=[(4, 2), (6, 2), (12, 3)],
    mistakes={
        "1/4 is q(1 - q) for q = 1/2 only; here q = y/n": lambda n, y: curvatures(n, n / 2),
        "the covariance of two labels is shared by n - 1 others, not n": (
            lambda n, y: (curvatures(n, y)[0], curvatures(n, y)[1] * (n - 1) / n)
        ),
        "the contrast grows: its curvature is positive": (
            lambda n, y: (curvatures(n, y)[0], -curvatures(n, y)[1])
        ),
        "the level is held: its curvature is negative": (
            lambda n, y: (-curvatures(n, y)[0], curvatures(n, y)[1])
        ),
        "together first, contrast second": lambda n, y: curvatures(n, y)[::-1],
    },
)
def constant_curvature(n: int, y: int) -> tuple[float, float]:
    """Return the two eigenvalues at rho = y/n, (n, y) -> together, contrast."""
    return curvatures(n, y)


@exercise(
    praise="the upper tail",
    cases=[(double([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]]), torch.tensor([1, 3]))],
    mistakes={
        "this is exactly y; more are allowed": counts.log_likelihood,
        "this is at most y": (
            lambda logits, told: counts.log_likelihood_interval(logits, 0 * told, told)
        ),
        "this is more than y: y itself is allowed": (
            lambda logits, told: solution.at_least_count(logits, told + 1)
        ),
        "the exercise asks for the logarithm": (
            lambda logits, told: solution.at_least_count(logits, told).exp()
        ),
        "add the probabilities of the counts, not their logarithms": (
            lambda logits, told: [
                p[y:].sum() for p, y in zip(counts.log_distribution(logits), told, strict=True)
            ]
        ),
    },
)
def at_least_count(logits: Tensor, told: Tensor) -> Tensor:
    """Return log P(at least y), (logits (B, n), counts (B,)) -> (B,)."""
    most = torch.full_like(told, logits.shape[1])
    return counts.log_likelihood_interval(logits, told, most)


@asked
def constant_answer_of_dllp(r: Random) -> Question:
    n = 2 * r.randint(2, 9) + 1
    y = r.randint(1, n - 1)
    answers = {
        y / n: "",
        0.5: "the loss knows the proportion, and this answer ignores it",
        1 - y / n: "this is the proportion of the negatives",
        (y + 1) / (n + 2): "the loss has no prior that pulls to one half",
    }

    def loss(rho: float) -> float:
        return counts.proportion_loss(double([[rho] * n]).logit(), torch.tensor([y])).item()

    best = min(map(loss, answers))
    return choice(
        r,
        f"A bag of {n} instances has {y} positives. A network gives every instance the same "
        "probability. For which one is DLLP's loss smallest?",
        *((f"{rho:.3g}", loss(rho) == best, hint) for rho, hint in answers.items()),
        solution="The loss is the cross-entropy of the proportion and the mean probability. It is "
        f"smallest where both are equal: {y}/{n} = {y / n:.3g}.",
    )


@asked
def curvature_of_a_bag(r: Random) -> Question:
    n = r.randint(4, 16)
    y = r.randint(1, n - 1)
    together, contrast = constant_curvature.right(n, y)
    return exam(
        f"A bag of {n} instances has {y} positives, and a network gives every instance the "
        f"probability {y}/{n}.",
        constant_curvature.question(
            "What is the second derivative of the log-likelihood of the count along all logits "
            "together (the eigenvalue)?",
            *(n, y),
            number=0,
            without="contrast|shared",
            solution=f"$-q (1 - q)$ with $q = {y}/{n}$: {together:.4g}.",
        ),
        constant_curvature.question(
            "And along a contrast, a direction whose entries sum to zero?",
            *(n, y),
            number=1,
            without="level|together",
            solution=f"$q (1 - q) / (n - 1)$: {contrast:.4g}. It is positive: the constant answer "
            "is a minimum of the likelihood along contrasts.",
        ),
        essay(
            "DLLP's loss is at its minimum here, too. Explain in two sentences, with the word "
            "contrast, where the likelihood pushes the network and DLLP does not.",
            "DLLP sees only the mean probability, so a contrast that keeps it has no slope",
            "the likelihood grows along a contrast: it separates the instances of the bag",
            solution="A contrast that keeps the mean probability as it is does not change "
            "DLLP's loss. The likelihood of the count rises along every contrast, because decided "
            "instances make an exact count more probable than undecided ones.",
        ),
    )
