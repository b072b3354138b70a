"""Public functions of patches, regions, metrics and crf, each on a small input: for the walks."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from wsl_tutorial import crf, metrics, patches, regions


class Case(NamedTuple):
    """`call` of `inputs` gives a tensor or a tuple of them; `slopes`: which inputs have one."""

    call: Callable
    inputs: tuple[Tensor, ...]
    slopes: bool = True  # the inputs have a gradient


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fresh(seed=0):
    return torch.Generator().manual_seed(seed)


PLACES = torch.tensor([[[3.3, 2.6, 3.1], [5.2, 4.7, 2.3]], [[2.4, 4.2, 2.7], [6.1, 3.3, 3.2]]])
PLACES = PLACES.double()  # off the kinks of interpolation
SCALES = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)
COUNTS = torch.tensor([[1, 0, 2], [0, 3, 0]])
TARGET = torch.tensor([0, 2])


WEIGHTS = torch.tensor([0.3, 0.8], dtype=torch.float64)


def bowl(places):
    """A task loss for `move`: smooth, so that every derivative is known."""
    return ((places[..., :2] - 3).square() * WEIGHTS.to(places)[: len(places), None, None]).sum(
        (1, 2)
    )


def moved(places):
    return patches.move(places, bowl, 2, 0.1, penalty=0.3)


def lifted(heatmap):
    step = patches.lifted_step(heatmap, PLACES.to(heatmap), bowl, 2, 0.1)
    return step.task, step.heat


def localise(weights, images):
    maps = torch.stack([images.mean(1), (images * weights[:, None, None]).sum(1)], 1)
    logits = regions.average_pooling(maps)
    return logits, regions.region(maps, logits, tuple(images.shape[2:]), 8.0, 0.5)


def believe(logits, *_):
    """A constant: the trust is one in every derivative, but not in a finite difference."""
    return torch.full_like(logits[:, 0], 0.5).detach()


def erased(images, weights):
    rule = regions.Rule(2, "never", believe)
    found = regions.looks(partial(localise, weights), images, TARGET % 2, rule, 10.0, attached=True)
    totals, losses = zip(*((look.total, look.losses.mean()) for look in found), strict=True)
    return totals[-1], sum(losses)


def erased_mask(images):
    """As released: the mask is cut from the graph."""
    weights = torch.tensor([1.0, -1.0, 0.5]).to(images)
    return regions.recursive_erasing(partial(localise, weights), images, TARGET % 2, 2, 10.0).mask


def lazily_erased(images):
    weights = torch.tensor([1.0, -1.0, 0.5]).to(images)

    def again(x, changed):
        return localise(weights, x)

    rule = regions.as_released(2)
    *_, last = regions.lazy_looks(again, images, TARGET % 2, rule, 10.0)
    return last.total


H, W = 6, 7
MAP, MAPS = randn(2, H, W), rand(2, 3, H, W)
SCORES, LOGITS, CLASS_MAPS = randn(2, 6), randn(2, 3), randn(2, 3, 4, 5)
IMAGES, MASK = rand(2, 3, 4, 5), rand(2, 1, 4, 5, seed=3)

PATCHES = {
    "local_softmax": Case(lambda h: patches.local_softmax(h, 3, 2.0, 0.01), (MAP,)),
    "pool_scales": Case(patches.pool_scales, (MAPS,)),
    "first_moment": Case(patches.first_moment, (MAPS, SCALES)),
    "suppress": Case(lambda h: patches.suppress(h, 3), (MAP,)),
    "top_k": Case(lambda h: patches.top_k(h, 3, 2.0)[1], (MAP,)),
    "extract": Case(lambda h, s: patches.extract(h, 2, 3, s), (MAPS, SCALES)),
    "ideal_heatmap": Case(
        lambda p, s: patches.ideal_heatmap(p, (H, W), s), (PLACES, SCALES), False
    ),
    "sample": Case(lambda i, p: patches.sample(i, p, 4), (rand(2, 1, H, W), PLACES)),
    "place": Case(lambda q, p: patches.place(q, p, (H, W)), (rand(2, 2, 1, 4, 4), PLACES)),
    "proportion_loss": Case(lambda z: patches.proportion_loss(z, COUNTS), (randn(2, 4, 3),)),
    "proportion_distance": Case(
        lambda p: patches.proportion_distance(p, COUNTS), (rand(2, 3) / 2,)
    ),
    "reconstruction_loss": Case(
        patches.reconstruction_loss, (rand(2, 1, H, W), rand(2, 2, 1, 4, 4), PLACES)
    ),
    "heatmap_loss": Case(lambda h: patches.heatmap_loss(h, PLACES.to(h)), (MAP,)),
    "move": Case(moved, (PLACES,), False),
    "lifted_step": Case(lifted, (MAP,)),
    "soft_top_k": Case(lambda s: patches.soft_top_k(s, 2, 0.5), (SCORES,)),
    "sinkhorn_top_k": Case(lambda s: patches.sinkhorn_top_k(s, 2, 0.5, 6), (SCORES,)),
    "perturbed_top_k": Case(lambda s: patches.perturbed_top_k(s, 2, 0.5, 9, fresh()), (SCORES,)),
    "straight_through": Case(lambda s: patches.straight_through(torch.ones_like(s), s), (SCORES,)),
    "draw_places": Case(lambda h: patches.draw_places(h, 2, 3, 2.0, fresh())[1], (MAP,)),
    "reinforce": Case(patches.reinforce, (rand(4, 2), randn(4, 2))),
    "soft_argmax": Case(lambda h: patches.soft_argmax(h, 2.0, 3.0), (randn(2, 3, H, W),)),
}
REGIONS = {
    "conditional_entropy": Case(regions.conditional_entropy, (LOGITS,)),
    "cross_entropy_to_uniform": Case(regions.cross_entropy_to_uniform, (LOGITS,)),
    "cross_entropy_to_prior": Case(
        lambda z: regions.cross_entropy_to_prior(z, torch.tensor([0.5, 0.25, 0.25])), (LOGITS,)
    ),
    "min_max_loss": Case(
        lambda a, b, c: regions.min_max_loss(a, b, TARGET, c),
        (LOGITS, randn(2, 3, seed=1), randn(2, 3, seed=2)),
    ),
    "class_map": Case(regions.class_map, (CLASS_MAPS, LOGITS)),
    "normalise": Case(regions.normalise, (MAP,)),
    "soft_mask": Case(lambda s: regions.soft_mask(s, 8.0, 0.5), (MAP,)),
    "region": Case(lambda m, z: regions.region(m, z, (8, 9), 8.0, 0.5), (CLASS_MAPS, LOGITS)),
    "trust": Case(lambda z: regions.trust(z, TARGET, None, 1, 10.0), (LOGITS,), False),
    "accumulate": Case(regions.accumulate, (MASK, rand(2, 1, 4, 5), rand(2))),
    "erase": Case(lambda x, r: regions.erase(x, r, torch.tensor([0.5, 0.0]).to(x)), (IMAGES, MASK)),
    "looks, attached": Case(erased, (IMAGES[..., :2, :3], torch.tensor([1.0, -1.0, 0.5]).double())),
    "lazy_looks": Case(lazily_erased, (IMAGES,), False),
    "recursive_erasing": Case(erased_mask, (IMAGES,), False),
    "average_pooling": Case(regions.average_pooling, (CLASS_MAPS,)),
    "max_pooling": Case(regions.max_pooling, (CLASS_MAPS,)),
    "log_sum_exp_pooling": Case(lambda m: regions.log_sum_exp_pooling(m, 3.0), (CLASS_MAPS,)),
    "wildcat_pooling": Case(
        lambda m: regions.wildcat_pooling(m, 4, 2, 0.6, 0.5, fresh()), (CLASS_MAPS,)
    ),
    "gated_scores": Case(
        regions.gated_scores,
        (CLASS_MAPS, randn(4, 3), randn(2, 4, seed=1), randn(4, 3, seed=2)),
    ),
    "attention_pooling": Case(regions.attention_pooling, (CLASS_MAPS, randn(2, 2, 4, 5))),
}
CRF = {
    "mean_field": Case(
        lambda p, i: crf.mean_field(p, i, (1.0, 1.0), (2.0, 0.5, 1.0), 2),
        (randn(2, 2, 4, 5), IMAGES),
        False,
    ),
}
BOXES = {
    "boxes": Case(metrics.boxes, (PLACES,)),
    "box_iou": Case(metrics.box_iou, (metrics.boxes(PLACES), metrics.boxes(PLACES.flip(0) + 0.3))),
}


def parts(out) -> list[Tensor]:
    return list(out) if isinstance(out, tuple) else [out]


def total(case: Case, *inputs: Tensor) -> Tensor:
    """A scalar of all finite outputs, weighted so that none of them cancels another."""
    value = 0.0
    for k, x in enumerate(parts(case.call(*inputs))):
        weight = 2 + torch.arange(1.0 + k, 1 + k + x.numel()).sin().view(x.shape).to(x)
        value = value + (torch.where(x.isfinite(), x, 0) * weight).sum()
    return value
