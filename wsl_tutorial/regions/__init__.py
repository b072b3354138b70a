"""Regions: the class of an *image* is observed; each pixel hides whether it helps to decide it.

A localiser M gives each image a soft mask R+ between 0 and 1. A classifier C has to name the class
of X+ = X R+ with little entropy, and must not be able to name it on X- = X (1 - R+).

Shapes used throughout: `images` is (B, channels, H, W), 0 where a pixel is erased; `mask` is
(B, 1, H, W); `logits` is (B, C), of M or of C; `target` is int64 (B,); `maps` is (B, C, h, w), one
class activation map for each class, `scores` (B, H, W) one map for an image; `features` is
(B, D, *positions). Everything computes in the dtype it is given, float32 or float64. Nothing is
averaged over the batch unless the docstring says so.

Source of all of this: Belharbi, Rony, Dolz, Ben Ayed, McCaffrey & Granger (2020), "Min-max entropy
for weakly supervised pointwise localization", arXiv 1907.12934; "paper (8)" below is its equation
8. Where the released program differs from the paper, the docstring says which is which.
"""

from .entropy import (
    conditional_entropy,
    cross_entropy_to_prior,
    cross_entropy_to_uniform,
    min_max_loss,
)
from .erasing import (
    Erased,
    Look,
    Rule,
    accumulate,
    as_printed,
    as_released,
    erase,
    lazy_looks,
    looks,
    recursive_erasing,
    trust,
)
from .maps import class_map, normalise, region, soft_mask
from .pooling import (
    attention_pooling,
    average_pooling,
    gated_scores,
    log_sum_exp_pooling,
    max_pooling,
    wildcat_pooling,
)

__all__ = [
    "Erased",
    "Look",
    "Rule",
    "accumulate",
    "as_printed",
    "as_released",
    "attention_pooling",
    "average_pooling",
    "class_map",
    "conditional_entropy",
    "cross_entropy_to_prior",
    "cross_entropy_to_uniform",
    "erase",
    "gated_scores",
    "lazy_looks",
    "log_sum_exp_pooling",
    "looks",
    "max_pooling",
    "min_max_loss",
    "normalise",
    "recursive_erasing",
    "region",
    "soft_mask",
    "trust",
    "wildcat_pooling",
]
