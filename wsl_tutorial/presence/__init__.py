"""Presence: the bag shows *which* classes occur; the class of each position is hidden.

Shapes used throughout: `log_p` is (B, C+1, *positions), log-probabilities over the channel axis at
each position, the last channel being the background phi; `labels` is bool (B, C), or integer with
1 for present, 0 for absent and -1 for unknown. Positions may have any number of axes, none included
(one position); `mask`, bool (B, *positions), is true where a position is real and false where it is
padding. With `background=False` there is no phi: `log_p` is (B, C, *positions). The likelihoods
compute in float64 for input of any dtype and return the dtype of `log_p`, float32 for half
precision; bags of different label sets share a batch.

`plain` holds the formulas as the chapters derive them, `fast` the same numbers quickly, `limits`
bounds for many labels, `noisy` labels observed with errors, `prediction` the probabilities of
labels and the best set, `losses` the baseline and the decisions.

Source of all of this: Li (2018), "A multiclass multiple instance learning method with exact
likelihood", arXiv 1811.12346; "paper (6)" below is its equation 6. What the paper does not have
(the forward recursion, the certificate, the posterior, the bounds) is derived in the chapters.
"""

from ._inputs import MAX_LABELS
from .copies import copy_weights, log_likelihood_concepts, log_occurrence
from .fast import log_likelihood, posterior
from .limits import bounds, bracket
from .losses import (
    input_gradient,
    log_alpha_scores,
    max_pooling,
    max_pooling_loss,
    mean_pooling,
    mean_scores,
    noisy_or,
)
from .noisy import at_least, log_likelihood_noisy, posterior_noisy
from .plain import alternating_series, beta_recursion, log_alpha, recursion
from .prediction import log_marginals, marginals, most_probable_set

__all__ = [
    "MAX_LABELS",
    "alternating_series",
    "at_least",
    "beta_recursion",
    "bounds",
    "bracket",
    "copy_weights",
    "input_gradient",
    "log_alpha",
    "log_alpha_scores",
    "log_likelihood",
    "log_likelihood_concepts",
    "log_likelihood_noisy",
    "log_marginals",
    "log_occurrence",
    "marginals",
    "max_pooling",
    "max_pooling_loss",
    "mean_pooling",
    "mean_scores",
    "most_probable_set",
    "noisy_or",
    "posterior",
    "posterior_noisy",
    "recursion",
]
