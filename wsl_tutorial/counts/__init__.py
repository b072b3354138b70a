"""Counts: the bag shows *how many* of its instances are positive; each instance's label is hidden.

Shapes used throughout: `logits` is (B, n), one number for each instance of a bag, so that
rho = sigmoid(logits) is the probability of a positive; `counts` is an integer tensor (B,), the
number of positives; `mask` is bool (B, n), true for the instances of a bag and false for padding
(None: no padding), so bags of any sizes share a batch. With C classes, `log_p` is (B, n, C) and
`counts` is (B, C). All functions compute in float64 whatever the dtype of the input, and return the
dtype of their first argument, float32 for half precision; those of `ecological` return float64 and
refuse half precision. A logit may be infinite: that label is known.

A row may stand for several identical instances, such as the voters of one group in a precinct:
`multiplicity` is an integer tensor (B, n) with their numbers, and the size of a bag is its sum.

`binary` has the likelihood and the posterior for two classes, `multiclass` for more, `assignment`
the most probable labels, `noisy` the likelihoods of counts that are noisy or known to a range,
`losses` the baselines, `proportions` the counts of shares, and `ecological` cross tables estimated
from their margins, by its own name. `window` and `saddlepoint` compute what
`multiclass` needs for large bags: the former exactly, the latter approximately.

Source of all of this: Baručić & Kybic (2022), "Fast learning from label proportions with small
bags", arXiv 2110.03426; "paper (6)" below is its equation 6. The paper enumerates all choose(n, y)
configurations; the recursion, the tilt and the multiclass form are derived in the chapters.
"""

from . import ecological
from .assignment import map_configuration_multiclass
from .binary import (
    MAX_ENUMERATED,
    enumeration,
    log_distribution,
    log_likelihood,
    map_configuration,
    posterior,
)
from .losses import (
    normal_approximation,
    normal_approximation_multiclass,
    proportion_loss,
    proportion_loss_multiclass,
)
from .multiclass import MAX_STATES, log_likelihood_multiclass, posterior_multiclass
from .noisy import (
    log_likelihood_interval,
    log_likelihood_interval_multiclass,
    log_likelihood_noisy,
    log_likelihood_noisy_multiclass,
)
from .proportions import counts_from_proportions

__all__ = [
    "MAX_ENUMERATED",
    "MAX_STATES",
    "counts_from_proportions",
    "ecological",
    "enumeration",
    "log_distribution",
    "log_likelihood",
    "log_likelihood_interval",
    "log_likelihood_interval_multiclass",
    "log_likelihood_multiclass",
    "log_likelihood_noisy",
    "log_likelihood_noisy_multiclass",
    "map_configuration",
    "map_configuration_multiclass",
    "normal_approximation",
    "normal_approximation_multiclass",
    "posterior",
    "posterior_multiclass",
    "proportion_loss",
    "proportion_loss_multiclass",
]
