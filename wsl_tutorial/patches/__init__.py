"""Patches: an image shows K things that matter; their places and sizes are hidden.

Shapes used throughout: `heatmap` is (B, H, W), or (B, S, H, W) with one map for each of S scales;
`scales` is (S,), the sides in pixels that the maps stand for, in increasing order. A place is
(x, y, s): the centre of a square box and its side, in pixels, where pixel centres are integers and
x runs along the width; `places` is (B, K, 3). All floats are float32 or float64. Any other shape,
dtype or device raises ValueError with the argument's name, the value received and the one expected.
Values are documented and not checked: no function loops over images or patches or waits for a
device, so a training step can be captured in a CUDA graph. NaN is never hidden: if an input is NaN,
everything that depends on it is NaN.

`extract` goes from heat maps to places and back, `sample` from places to patches and back,
`lifting` holds the losses and the training step, `choices` the estimators it is compared with.

Source: Angles, Jin et al. (2021), "MIST: Multiple Instance Spatial Transformer", CVPR, arXiv
1811.10725; "paper (7)" is its equation 7, "the release" the authors' code.
"""

from .choices import (
    draw_places,
    perturbed_top_k,
    reinforce,
    sinkhorn_top_k,
    soft_argmax,
    soft_top_k,
    straight_through,
)
from .extract import (
    extract,
    first_moment,
    ideal_heatmap,
    local_softmax,
    pool_scales,
    suppress,
    top_k,
)
from .lifting import (
    Lifted,
    heatmap_loss,
    lifted_step,
    move,
    proportion_distance,
    proportion_loss,
    reconstruction_loss,
)
from .sample import place, sample

__all__ = [
    "Lifted",
    "draw_places",
    "extract",
    "first_moment",
    "heatmap_loss",
    "ideal_heatmap",
    "lifted_step",
    "local_softmax",
    "move",
    "perturbed_top_k",
    "place",
    "pool_scales",
    "proportion_distance",
    "proportion_loss",
    "reconstruction_loss",
    "reinforce",
    "sample",
    "sinkhorn_top_k",
    "soft_argmax",
    "soft_top_k",
    "straight_through",
    "suppress",
    "top_k",
]
