"""The measures of Belharbi et al. (2020): masks and scores read from class maps, and rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import crf, metrics, regions
from ..common import needed
from . import networks
from .data import Part, resized, scaled
from .networks import classified, features, pooled
from .settings import Settings

# From maps to masks and scores --------------------------------------------------------------------


class Reading(NamedTuple):
    """Scores in [0, 1] and masks by the paper's rule, both (B, H, W), of one map of some images;
    log-probabilities (B, K, H, W) for the random field, and the class of it to keep."""

    scores: Tensor
    masks: Tensor
    log_p: Tensor | None
    keep: Tensor | None


def of_class(maps: Tensor, k: Tensor) -> Tensor:
    """Return the map (B, H, W) of class k (B,) of each image."""
    return maps[torch.arange(len(maps), device=maps.device), k]


def by_rules(maps: Tensor, guess: Tensor, labels: Tensor, uniform: bool = False) -> Reading:
    """Read class maps (B, C, H, W) as the survey's code does and as min-max masks are read.

    The paper's mask is where the true class's map is the largest; of attention, where it is more
    than 1 / (C h w) (`uniform`: maps are attention times h w). Scores: the map of the guess.
    """
    scores = regions.normalise(of_class(maps, guess))
    if uniform:
        return Reading(scores, of_class(maps, labels) > 1 / maps.shape[1], None, None)
    masks = maps.argmax(1) == labels[:, None, None]
    return Reading(scores, masks, maps.log_softmax(1), labels)


@torch.no_grad()
def readings(config: Settings, model: networks.Pair, images: Tensor, labels: Tensor, masks: Tensor):
    """Return readings by prefix and logits by name, of images (B, 3, H, W), scaled, of one size.

    As released, images are reflected to multiples of 32 and masks cut back.
    """
    method = config.method.method
    (h, w), step = images.shape[2:], 32
    down, right = -h % step, -w % step
    sides = (right // 2, right - right // 2, down // 2, down - down // 2)
    x = F.pad(images, sides, mode="reflect") if down or right else images
    f = features(config, model, x)

    def cut(maps: Tensor) -> Tensor:
        return maps[..., sides[2] : sides[2] + h, sides[0] : sides[0] + w]

    def enlarged(maps: Tensor) -> Tensor:
        return F.interpolate(maps, x.shape[2:], mode="bilinear", align_corners=True)

    if method == "u-net":
        log_p = cut(f).log_softmax(1)
        return {"": Reading(log_p[:, 1].exp(), log_p.argmax(1) == 1, None, None)}, {}
    if method == "deep-mil":
        attention, logits = needed(model.head)(f)
        maps = cut(enlarged(attention)) * attention[0, 0].numel()
        return {"": by_rules(maps, logits.argmax(1), labels, uniform=True)}, {"": logits}
    head = needed(model.head)
    maps = head(f)
    logits = pooled(config, maps)
    if method != "min-max":
        found = {"": by_rules(cut(enlarged(maps)), logits.argmax(1), labels)}
        if method == "cam-avg":  # the gradient of a mean is the weight of its map
            *_, bias = head.parameters()  # of the only convolution
            bias = bias.unflatten(0, (-1, config.network.modes)).mean(1)
            graded = (maps - bias[:, None, None]).relu()
            found["grad_cam_"] = by_rules(cut(enlarged(graded)), logits.argmax(1), labels)
        return found, {"": logits}
    omega, threshold = config.method.omega, config.method.threshold
    mask = regions.region(maps, logits, (x.shape[2], x.shape[3]), omega, threshold)
    m = cut(mask)[:, 0]
    undone = (threshold + m.logit() / omega).clamp(0, 1)  # T of (9)
    scores = regions.normalise(undone)  # of the part that was cut out, as the baselines' maps
    log_p = torch.stack([(1 - m).log(), m.log()], 1)
    outputs = {"localiser": logits}
    if model.head_c is not None:
        true = F.pad(masks[:, None].float(), sides, mode="reflect") if down or right else None
        true = masks[:, None].float() if true is None else true
        shown = {"own": mask, "true": true, "all": torch.ones_like(mask)}
        for name, r in shown.items():
            outputs |= {f"plus_{name}": classified(config, model, x * r)}
            outputs |= {f"minus_{name}": classified(config, model, x * (1 - r))}
    return {"": Reading(scores, undone >= 0.5, log_p, torch.ones_like(labels))}, outputs


@dataclass
class Answers:
    """A model's masks and scores for all images of a part, one by one, and its logits."""

    readings: dict[str, dict[str, list[Tensor]]]
    logits: dict[str, Tensor]


def answers(
    config: Settings, model: networks.Pair, part: Part, device: str, field: bool = False
) -> Answers:
    """Return a model's answers to a part, images of one size together.

    field: whether to add the masks after the random field.
    """
    found: dict[str, dict[str, list[Tensor]]] = {}
    logits: dict[str, list[Tensor]] = {}
    for rows in groups_of_one_size(part, 100 if config.data.source == "glands" else 16):
        raw = torch.stack([part.images[i] for i in rows]).to(device)
        labels, size = part.labels[rows].to(device), part.masks[rows[0]].shape
        masks = torch.stack(
            [resized(part.masks[i][None], raw.shape[2:], "nearest-exact")[0] for i in rows]
        )
        images = scaled(config, raw.float() / 255)
        read, outputs = readings(config, model, images, labels, masks.to(device))
        for name, value in outputs.items():
            logits.setdefault(name, []).append(value)
        for prefix, reading in read.items():
            made = {"scores": reading.scores, "printed": reading.masks}
            if field and reading.log_p is not None:
                for weights in config.field.crf_weights:
                    made[f"crf{weights[0]}"] = smoothed(config, raw.float(), reading, weights)
            for key, value in made.items():
                values = found.setdefault(prefix, {}).setdefault(key, [])
                values.extend(at_size(value, size).cpu())
    return Answers(found, {name: torch.cat(parts).cpu() for name, parts in logits.items()})


def groups_of_one_size(part: Part, most: int) -> list[list[int]]:
    """Return the indices in order, in groups of one size and of at most `most` images."""
    sizes = [(a.shape, b.shape) for a, b in zip(part.images, part.masks, strict=True)]
    groups: list[list[int]] = []
    for i, size in enumerate(sizes):
        if i == 0 or size != sizes[i - 1] or len(groups[-1]) == most:
            groups.append([])
        groups[-1].append(i)
    return groups


def at_size(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return scores or masks (B, H, W) at the size of the true masks."""
    if values.shape[1:] == tuple(size):
        return values
    large = F.interpolate(values[:, None].float(), list(size), mode="bilinear", align_corners=True)
    return large[:, 0] if values.dtype != torch.bool else large[:, 0] >= 0.5


def smoothed(config: Settings, images: Tensor, reading: Reading, weights) -> Tensor:
    """Return the masks (B, H, W) after the conditional random field."""
    c = config.field
    size = [max(1, n // c.crf_shrink) for n in images.shape[2:]]
    small, log_p = (F.interpolate(v, size, mode="area") for v in (images, needed(reading.log_p)))
    alpha, beta, gamma = c.crf_thetas
    shrink = c.crf_shrink * config.data.shrink  # the widths are meant for images of full size
    thetas = (alpha / shrink, beta, gamma / shrink)
    log_q = crf.mean_field(log_p, small, weights, thetas, c.crf_steps)
    q = F.interpolate(log_q.exp(), images.shape[2:], mode="bilinear")
    return q.argmax(1) == needed(reading.keep)[:, None, None]


# Rates --------------------------------------------------------------------------------------------


def dice_by_threshold(scores: Sequence[Tensor], true: Sequence[Tensor], steps: int = 100) -> Tensor:
    """Return F1+ and F1- (2, steps + 1), in %, of scores >= 0, 1/steps, .. 1; means over images."""
    found = []
    for s, t in zip(scores, true, strict=True):
        bins = (s * steps).long().flatten()
        hits, pixels = (
            b.bincount(minlength=steps + 1).double().flip(0).cumsum(0).flip(0)
            for b in (bins[t.flatten()], bins)
        )
        inside, total = t.sum(), t.numel()
        true_negatives = total - pixels - (inside - hits)
        plus = 2 * hits / (pixels + inside).clamp_min(1)
        minus = 2 * true_negatives / (2 * total - pixels - inside).clamp_min(1)
        found.append(torch.stack([plus, minus]))
    return 100 * torch.stack(found).mean(0)


def localisation(scores, true, validation: Tensor) -> dict[str, float]:
    """Return the measures that do not depend on a method's own cut.

    midrange_*: cut half-way; chosen_*: cut where the sum of `validation`, `dice_by_threshold` of
    held-out images, is largest; f1_minus_matched: the largest F1- of a cut whose F1+ is not below
    All-ones'; ap_plus, ap_minus, pxap: no cut.
    """
    both = [k for k, t in enumerate(true) if t.any() and not t.all()]
    s, t = [scores[k] for k in both], [true[k] for k in both]
    plus, minus = dice_by_threshold(scores, true)
    best = int(validation.sum(0).argmax())
    halves = metrics.mask_scores([x >= 0.5 for x in scores], true)
    return {
        **{f"midrange_{name}": value for name, value in halves.items()},
        "chosen_f1_plus": plus[best].item(),
        "chosen_f1_minus": minus[best].item(),
        "f1_minus_matched": minus[plus >= plus[0]].max().item(),
        "ap_plus": metrics.area_under(*metrics.precision_recall(s, t)),
        "ap_minus": metrics.area_under(*metrics.precision_recall([-x for x in s], [~x for x in t])),
        "pxap": metrics.pxap(scores, true),
    }


def measured_pixels(part: Part, values: Sequence[Tensor] | Tensor) -> list[Tensor]:
    """Return masks or scores at the pixels that count: (1, pixels) where some do not."""
    if part.measured is None:
        return list(values)
    return [v[m][None] for v, m in zip(values, part.measured, strict=True)]


def errors_and_entropies(labels: Tensor, logits: dict[str, Tensor]) -> dict[str, float]:
    """Return errors, and both entropies of the loss at M's mask, at the true one and at All-ones.

    The error of the min-max method is C's on X+, as in the paper, where there is a C.
    """
    point = {}
    for name, value in logits.items():
        if name.startswith("minus"):
            uniform = regions.cross_entropy_to_uniform(value).mean().item()
            point[name.replace("minus", "h_minus")] = uniform
        elif name.startswith("plus"):
            point[name.replace("plus", "h_plus")] = F.cross_entropy(value, labels).item()
        if name in ("", "localiser"):
            point["error"] = point["localiser_error"] = metrics.error_rate(value, labels)
        if name in ("plus_own", "minus_own"):
            point[name.replace("own", "error")] = metrics.error_rate(value, labels)
    return point | ({"error": point["plus_error"]} if "plus_error" in point else {})


def measures(config: Settings, model: networks.Pair, parts: dict[str, Part], device: str):
    """Return all measures of a trained model on the test images."""
    part, held_out = parts["test"], parts["valid"]
    found = answers(config, model, part, device, config.field.crf)
    before = answers(config, model, held_out, device)
    true = measured_pixels(part, part.masks)
    known = measured_pixels(held_out, held_out.masks)
    point: dict[str, float] = errors_and_entropies(part.labels, found.logits)
    for prefix, reading in found.readings.items():
        scores = measured_pixels(part, reading["scores"])
        validation = dice_by_threshold(
            measured_pixels(held_out, before.readings[prefix]["scores"]), known
        )
        rates = metrics.mask_scores(measured_pixels(part, reading["printed"]), true)
        rates |= localisation(scores, true, validation)
        for key in reading.keys() - {"scores", "printed"}:
            after = metrics.mask_scores(measured_pixels(part, reading[key]), true)
            rates |= {f"{key}_{name}": value for name, value in after.items()}
        point |= {prefix + name: value for name, value in rates.items()}
    return point | {"auc_minus": point["ap_minus"] / 100}  # the unit of Fig. 6
