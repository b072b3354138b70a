"""Chapter 6: counts, the learning."""

from math import log
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from .. import counts
from .core import Question, asked, choice, double, essay, exam, exercise, listed, solution, some


def towards(logits: Tensor, observed: Tensor, n: int) -> Tensor:
    """Return the mean cross-entropy of logits (B, ..) to the proportions observed / n."""
    q = (observed / n).to(logits).view(-1, *[1] * (logits.ndim - 1))
    return F.binary_cross_entropy_with_logits(logits, q.expand_as(logits))


@exercise(
    praise="log of the mean",
    # float32: counts divided by n are float32, and binary_cross_entropy takes one dtype
    cases=[(torch.tensor([[2.0, 0.3, -1.0], [-2.0, 1.0, 0.2]]), torch.tensor([2, 1]))],
    mistakes={
        "take the logarithm of the mean, not the mean of the logarithms": (
            lambda logits, observed: towards(logits, observed, logits.shape[1])
        ),
        "average the probabilities, not the logits": (
            lambda logits, observed: towards(logits.mean(1), observed, logits.shape[1])
        ),
        "the negatives are missing: add the term (1 - q) log(1 - mean)": (
            lambda logits, observed: (
                -(observed / logits.shape[1] * logits.sigmoid().mean(1).log()).mean()
            )
        ),
        "a loss is minimised: change the sign": (
            lambda logits, observed: -counts.proportion_loss(logits, observed)
        ),
        "take the mean over the bags, not the sum": (
            lambda logits, observed: len(observed) * counts.proportion_loss(logits, observed)
        ),
        "this is minus the log-likelihood of the count, not DLLP's cross-entropy": (
            lambda logits, observed: -counts.log_likelihood(logits, observed).mean()
        ),
    },
)
def dllp_loss(logits: Tensor, observed: Tensor) -> Tensor:
    """Return the proportion loss, (logits (B, n), counts (B,)) -> scalar."""
    return counts.proportion_loss(logits, observed)


@asked
def proportion_loss_of_a_bag(r: Random) -> Question:
    rho, y = some(r, 0.1, 0.9, 4), r.randint(1, 3)
    logits, observed = double([rho]).logit(), torch.tensor([y])
    return dllp_loss.question(
        f"A bag of four instances contains {y} positive ones. The network gives the instances the "
        f"probabilities {listed(rho)} of being positive. What is DLLP's loss of this bag, in nats?",
        *(logits, observed),
        without="over the bags",
        more={
            "this is in bits, not nats": counts.proportion_loss(logits, observed).item() / log(2)
        },
        solution=f"The mean probability is {sum(rho) / 4:.4g}, the proportion is {y / 4:g}; their "
        f"cross-entropy is $-{y / 4:g} \\log {sum(rho) / 4:.4g} - {1 - y / 4:g} "
        f"\\log {1 - sum(rho) / 4:.4g}$.",
    )


def curvatures(n: int, y: int) -> tuple[float, float]:
    """Return the eigenvalues at rho = y/n."""
    spread = y / n * (1 - y / n)
    return -spread, spread / (n - 1)


@exercise(
    praise="for a given y/n, the push along a contrast is stronger in smaller bags",
    cases=[(4, 2), (6, 2), (12, 3)],
    mistakes={
        "1/4 is q(1 - q) for q = 1/2 only; here q = y/n": lambda n, y: curvatures(n, n / 2),
        "the covariances with the n - 1 other labels add up to -q(1 - q): divide by n - 1, not n": (
            lambda n, y: (curvatures(n, y)[0], curvatures(n, y)[1] * (n - 1) / n)
        ),
        "a difference between instances grows: along a contrast the curvature is positive": (
            lambda n, y: (curvatures(n, y)[0], -curvatures(n, y)[1])
        ),
        "along all logits together the curvature is negative": (
            lambda n, y: (-curvatures(n, y)[0], curvatures(n, y)[1])
        ),
        "return the value for all logits together first, then the one for a contrast": (
            lambda n, y: curvatures(n, y)[::-1]
        ),
    },
)
def constant_curvature(n: int, y: int) -> tuple[float, float]:
    """Return the two eigenvalues at rho = y/n, (n, y) -> together, contrast."""
    return curvatures(n, y)


@exercise(
    praise="the probability of the upper tail",
    cases=[(double([[2.0, 0.3, -1.0, 0.5], [-2.0, 1.0, 0.2, 0.1]]), torch.tensor([1, 3]))],
    mistakes={
        "this is the probability of exactly `observed`; larger counts are allowed too": (
            counts.log_likelihood
        ),
        "this is the probability of at most `observed`": (
            lambda logits, observed: counts.log_likelihood_interval(logits, 0 * observed, observed)
        ),
        "this is the probability of more than `observed`; `observed` itself is allowed too": (
            lambda logits, observed: solution.at_least_count(logits, observed + 1)
        ),
        "the exercise asks for the logarithm": (
            lambda logits, observed: solution.at_least_count(logits, observed).exp()
        ),
        "add the probabilities of the counts, not their logarithms": (
            lambda logits, observed: [
                p[y:].sum() for p, y in zip(counts.log_distribution(logits), observed, strict=True)
            ]
        ),
    },
)
def at_least_count(logits: Tensor, observed: Tensor) -> Tensor:
    """Return log P(at least y), (logits (B, n), counts (B,)) -> (B,)."""
    most = torch.full_like(observed, logits.shape[1])
    return counts.log_likelihood_interval(logits, observed, most)


@asked
def constant_answer_of_dllp(r: Random) -> Question:
    n = 2 * r.randint(2, 9) + 1
    y = r.randint(1, n - 1)
    answers = {
        y / n: "",
        0.5: "the loss depends on the proportion, and this probability ignores it",
        1 - y / n: "this is the proportion of the negatives",
        (y + 1) / (n + 2): "the loss has no prior that pulls the probability to one half",
    }

    def loss(rho: float) -> float:
        return counts.proportion_loss(double([[rho] * n]).logit(), torch.tensor([y])).item()

    best = min(map(loss, answers))
    return choice(
        r,
        f"A bag of {n} instances has {y} positives. A network gives every instance the same "
        "probability. For which probability is DLLP's loss smallest?",
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
            without="contrast|covariances",
            solution=f"It is $-q (1 - q)$ with $q = {y}/{n}$, that is {together:.4g}.",
        ),
        constant_curvature.question(
            "And what is it along a contrast, a direction whose entries sum to zero?",
            *(n, y),
            number=1,
            without="together",
            solution=f"It is $q (1 - q) / (n - 1)$, that is {contrast:.4g}. This is positive, so "
            "the constant answer is a minimum of the likelihood along contrasts.",
        ),
        essay(
            "DLLP's loss is at its minimum here. Explain in two sentences, with the word "
            "contrast, where the likelihood pushes the network and DLLP does not.",
            "DLLP depends only on the mean probability, so it has no slope along a contrast that "
            "keeps this mean",
            "near the constant answer the likelihood grows along every contrast: it separates the "
            "instances of the bag",
            solution="A contrast that does not change the mean probability does not change "
            "DLLP's loss. The likelihood of the count rises along every contrast near the constant "
            "answer, so it separates the instances of the bag.",
        ),
    )
