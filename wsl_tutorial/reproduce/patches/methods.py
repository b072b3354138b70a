"""The methods of the experiments: what each minimises, how it is trained, and what is measured."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import metrics, patches, train
from ..common import Optimisers, Salt, fit, needed, padded_softmax, placed, seeded
from . import networks
from .data import Batch, Rendered, Stored, worlds
from .settings import Settings

# Heat maps, places and outputs --------------------------------------------------------------------


def heatmap(config: Settings, model: networks.Pair, images: Tensor) -> Tensor:
    """Return the heat map (B, H, W) after the local softmax."""
    c = config.extraction
    score = train.logits(needed(model.heat), images, config.optimiser.bf16)[:, 0]
    return padded_softmax(score, c.window, c.strength, c.floor)


def extracted(config: Settings, heat: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the places (B, k, 3) and values (B, k) extracted from a heat map."""
    return patches.extract(heat, k, config.extraction.nms, config.data.box)


def outputs(config: Settings, model: networks.Pair, images: Tensor, places: Tensor) -> Tensor:
    """Return what the task network computes from each patch: logits (B, K, 10), or patches."""
    seen = patches.sample(images, places, config.network.patch)  # (B, K, 1, patch, patch)
    made = train.logits(model.task, seen.flatten(0, 1), config.optimiser.bf16)
    return made.unflatten(0, seen.shape[:2])


def task_loss(config: Settings, model: networks.Pair, batch: Batch, places: Tensor) -> Tensor:
    """Return the task loss (B,): paper (9), or paper (8) as a mean over pixels."""
    made = outputs(config, model, batch.images, places)
    if config.task == "classification":
        return patches.proportion_loss(made, batch.counts)
    return patches.reconstruction_loss(batch.images, made, places)


def middle(boxes: Tensor) -> Tensor:
    """Return the centres (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the distances (B, K, L) of points (B, K, 2) and (B, L, 2).

    By differences: for more than 25 points torch multiplies matrices, and near points cancel.
    """
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def true_places(config: Settings, batch: Batch) -> Tensor:
    """Return the true centres with the detector's side, (B, L, 3); padding repeats the first."""
    centre = middle(batch.boxes)
    centre = torch.where(batch.present[..., None], centre, centre[:, :1])
    return torch.cat([centre, torch.full_like(centre[..., :1], config.data.box)], -1)


def channel_places(config: Settings, model: networks.Pair, images: Tensor) -> Tensor:
    """Return one place for each of K heat maps, (B, K, 3)."""
    score = train.logits(needed(model.heat), images, config.optimiser.bf16)
    return patches.soft_argmax(score, config.extraction.strength, config.data.box)


def grid_places(config: Settings, images: Tensor) -> Tensor:
    """Return the cells of a grid that covers the image, (B, K, 3); K is a square."""
    k = config.extraction.k
    cells = math.isqrt(k)
    side = config.data.size / cells
    rank = torch.arange(k, device=images.device)
    centre = (torch.stack([rank % cells, rank // cells], -1) + 0.5) * side - 0.5
    places = F.pad(centre.to(images.dtype), (0, 1), value=side)
    return places.expand(len(images), -1, -1)


def candidates(config: Settings, model: networks.Pair, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores (B, n) and places (B, n, 3) of a grid of candidates."""
    with train.in_bfloat16(images.device.type, config.optimiser.bf16):
        scores, offsets = needed(model.heat)(images.contiguous(memory_format=torch.channels_last))
    stride, n = config.special.stride, scores.shape[1]
    columns, rank = images.shape[3] // stride, torch.arange(n, device=images.device)
    cell = torch.stack([rank % columns, rank // columns], -1)
    centre = (cell + 0.5) * stride - 0.5 + offsets.to(images.dtype)
    return scores.to(images.dtype), F.pad(centre, (0, 1), value=config.data.box)


def generator(device: torch.device) -> torch.Generator:
    """Return the device's own generator, whose state is in every checkpoint."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


# What the methods minimise ------------------------------------------------------------------------


def mist(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the loss of MIST, Algorithm 1; one backward pass serves both networks."""
    lifting, k = config.lifting, config.extraction.k
    heat = heatmap(config, model, batch.images)
    start, _ = extracted(config, heat.detach(), k)
    step = patches.lifted_step(
        heat,
        start,
        lambda places: task_loss(config, model, batch, places),
        lifting.inner_steps,
        lifting.inner_lr,
        penalty=lifting.penalty,
        normalise=lifting.normalise,
        weights=lambda loss: (-lifting.weighting * loss).exp(),
        update_task=model.update if lifting.order == "task first" else None,
    )
    distance = (step.places - start)[..., :2].norm(dim=-1).median()
    model.note(step.task.mean(), step.heat.mean(), distance)
    return (step.task + step.heat).mean()


def supervised(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the loss of a heat map regressed onto the true places, and of a classifier there."""
    places = true_places(config, batch)
    heat = patches.heatmap_loss(heatmap(config, model, batch.images), places)
    off = config.special.jitter * (2 * torch.rand_like(places) - 1)
    off[..., 2] = 0
    made = outputs(config, model, batch.images, places + off)
    task = F.cross_entropy(made.flatten(0, 1), batch.classes.flatten(), ignore_index=-1)
    model.note(task, heat.mean(), heat.new_zeros(()))
    return task + heat.mean()


def task_alone(model: networks.Pair, loss: Tensor) -> Tensor:
    """Return the mean of a task loss, for methods without a heat map loss."""
    model.note(loss.mean(), *loss.new_zeros(2))
    return loss.mean()


def channel_wise(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the task loss at the soft-argmax of K heat maps, trained end to end."""
    places = channel_places(config, model, batch.images)
    return task_alone(model, task_loss(config, model, batch, places))


def grid(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the task loss at the cells of a grid."""
    places = grid_places(config, batch.images)
    return task_alone(model, task_loss(config, model, batch, places))


def frozen(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the task loss at the places of a heat map network that is not trained."""
    with torch.no_grad():
        heat = heatmap(config, model, batch.images)
        places, _ = extracted(config, heat, config.extraction.k)
    return task_alone(model, task_loss(config, model, batch, places))


def straight_through(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the task loss with a gate of 1 on each patch that has the heat map's gradient."""
    places, values = extracted(config, heatmap(config, model, batch.images), config.extraction.k)
    gate = patches.straight_through(torch.ones_like(values), values)
    p = outputs(config, model, batch.images, places).softmax(2) * gate[..., None]
    return task_alone(model, patches.proportion_distance(p.mean(1), batch.counts))


def reinforce(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the loss of REINFORCE, with places drawn without replacement and with suppression."""
    extraction, box = config.extraction, config.data.box
    score = train.logits(needed(model.heat), batch.images, config.optimiser.bf16)[:, 0]
    g, draws = generator(score.device), []
    for _ in range(config.special.draws):
        draws.append(patches.draw_places(score, extraction.k, extraction.nms, box, g))
    places = torch.cat([p for p, _ in draws], 1)  # (B, draws K, 3)
    made = outputs(config, model, batch.images, places)
    losses = [patches.proportion_loss(z, batch.counts) for z in made.split(extraction.k, 1)]
    loss = patches.reinforce(torch.stack(losses), torch.stack([log_p for _, log_p in draws]))
    return task_alone(model, loss)


def soft_top_k(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the loss of Xie et al. (2020): candidates are weighted by their soft membership."""
    scores, places = candidates(config, model, batch.images)
    k = config.extraction.k
    member = patches.soft_top_k(scores, k, config.special.temperature)  # (B, n)
    p = outputs(config, model, batch.images, places).softmax(2)  # (B, n, 10)
    mean = (member[..., None] * p).sum(1) / k
    return task_alone(model, patches.proportion_distance(mean, batch.counts))


def perturbed_top_k(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return the loss of Cordonnier et al. (2021): patches averaged over noisy selections."""
    special, k = config.special, config.extraction.k
    scores, places = candidates(config, model, batch.images)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    scores = (scores - low) / (high - low).clamp_min(1e-6)  # a constant map stays finite
    g = generator(scores.device)
    chosen = patches.perturbed_top_k(scores, k, special.sigma, special.samples, g)
    seen = patches.sample(batch.images, places, config.network.patch)  # (B, n, 1, patch, patch)
    mixed = torch.einsum("bkn,bncij->bkcij", chosen, seen).flatten(0, 1)
    z = train.logits(model.task, mixed, config.optimiser.bf16).unflatten(0, chosen.shape[:2])
    return task_alone(model, patches.proportion_loss(z, batch.counts))


def air(config: Settings, model: networks.Pair, batch: Batch) -> Tensor:
    """Return minus the evidence bound of attend, infer, repeat; Gaussian pixels with sd 0.3."""
    canvas, divergence = model.task(batch.images)
    error = (canvas - batch.images).square().flatten(1).sum(1) / (2 * 0.3**2)
    return task_alone(model, error + divergence)


METHODS: dict[str, Callable[[Settings, networks.Pair, Batch], Tensor]] = {
    "mist": mist,
    "supervised": supervised,
    "channel-wise": channel_wise,
    "grid": grid,
    "frozen": frozen,
    "straight-through": straight_through,
    "reinforce": reinforce,
    "soft-top-k": soft_top_k,
    "perturbed-top-k": perturbed_top_k,
    "air": air,
}
ON_CANDIDATES = ("soft-top-k", "perturbed-top-k")


def model_of(config: Settings, seed: int, device: str) -> networks.Pair:
    """Return the two networks of a config, initialised by the seed."""
    size, network = config.data.size, config.network

    def build() -> networks.Pair:
        common = (1, network.width, network.blocks)
        sizes = {"widths": network.task_widths, "blocks": network.task_blocks}
        if config.method == "air":
            task = networks.Air(size, config.extraction.k, side=config.data.box / size)
        elif config.task == "classification":
            task = networks.Classifier(channels=1, **sizes)
        else:
            task = networks.AutoEncoder(bounded=network.bounded, **sizes)
        if config.method in ON_CANDIDATES:
            heat = networks.Candidates(*common, config.special.stride)
        elif config.method in ("grid", "air"):
            heat = None
        else:
            maps = config.extraction.k if config.method == "channel-wise" else 1
            heat = networks.Heatmap(*common, maps)
        return networks.Pair(heat, task)

    model = seeded(build, train.generator(seed, Salt.PATCHES_WEIGHTS))
    return placed(model, device)


# Measures -----------------------------------------------------------------------------------------


def detections(
    config: Settings, model: networks.Pair, images: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Return the k places that a trained model detects, (B, k, 3), and their scores (B, k)."""
    if config.method == "channel-wise":
        places = channel_places(config, model, images)
        return places, torch.ones_like(places[..., 0])
    if config.method == "grid":
        places = grid_places(config, images)
        return places, torch.ones_like(places[..., 0])
    if config.method in ON_CANDIDATES:
        scores, places = candidates(config, model, images)
        scores, index = scores.topk(k, 1)
        return places.gather(1, index[..., None].expand(-1, -1, 3)), scores.sigmoid()
    if config.method == "reinforce":
        score = train.logits(needed(model.heat), images, config.optimiser.bf16)[:, 0]
        return extracted(config, score.flatten(1).softmax(1).view_as(score), k)
    return extracted(config, heatmap(config, model, images), k)


@torch.no_grad()
def measures(config: Settings, model: networks.Pair, split: Rendered | Stored) -> dict[str, float]:
    """Return all measures on some canvases; each image is given its true number of instances."""
    chunks = torch.arange(len(split)).split(250)
    parts = [measured_batch(config, model, split[rows]) for rows in chunks]
    held = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    point = {}
    if "squared" in held:
        point["rmse"] = held["squared"].double().mean().sqrt().item()
    if "places" not in held:
        return point
    present, places, true = held["classes"] >= 0, held["places"], held["boxes"]
    iou = metrics.box_iou(metrics.boxes(places), true) * held["kept"][..., None]
    away = distances(places[..., :2], middle(true))
    away = away.masked_fill(~held["kept"][..., None], math.inf)
    point |= {
        "iou50": metrics.detected(iou, present),
        "matched50": metrics.matched(iou, present),
        "within_3px": metrics.detected(-away, present, -3),
        "centre_error": metrics.centre_error(away, present),
    }
    if "guess" in held:
        guess, truth = held["guess"].masked_fill(~held["kept"], -1), held["classes"]
        point |= {
            "both": metrics.detected_and_classified(iou, guess, truth),
            "classification": metrics.label_recall(guess, truth, 10, leave_out=0),
            "classification_all": metrics.label_recall(guess, truth, 10),
        }
        for at in config.special.ap_at:
            ap = metrics.mean_average_precision(iou, guess, held["scores"], truth, at)
            point[f"ap{round(100 * at):02d}"] = ap
    return point


def measured_batch(config: Settings, model: networks.Pair, batch: Batch) -> dict[str, Tensor]:
    """Return the squared errors of the pixels, or detections and guesses, of one batch."""
    if config.method == "air":
        canvas, _ = model.task(batch.images)
        return {"squared": (canvas - batch.images).square().flatten(1).mean(1)}
    places, scores = detections(config, model, batch.images, batch.classes.shape[1])
    rank = torch.arange(places.shape[1], device=places.device)
    kept = rank < batch.present.sum(1, keepdim=True)  # (B, K)
    held = {"places": places, "kept": kept, "boxes": batch.boxes, "classes": batch.classes}
    made = outputs(config, model, batch.images, places)
    if config.task == "classification":
        best, guess = made.softmax(2).max(2)
        return held | {"guess": guess, "scores": best * scores}
    h, w = batch.images.shape[2:]
    together = patches.place(made * kept[..., None, None, None], places, (h, w))
    squared = (together.sum(1) - batch.images).square().flatten(1).mean(1)
    return held | {"squared": squared}


# Runs ---------------------------------------------------------------------------------------------


def parts_of(config: Settings, model: networks.Pair) -> list[dict]:
    """Return the parameters of the task network and of the heat map network, with their rates."""
    pairs = ((model.task, config.optimiser.lr), (model.heat, config.optimiser.heat_lr))
    return [{"params": net.parameters(), "lr": lr} for net, lr in pairs if net is not None]


class TaskFirst(Optimisers):
    """Train in the order that Algorithm 1 prints.

    While the loss is computed, an Adam step updates the task network. Then the places move under
    the new network, and another Adam step updates the heat map network.
    """

    def __init__(self, config: Settings, model: networks.Pair) -> None:
        task, heat = parts_of(config, model)
        super().__init__(task=torch.optim.Adam([task]), heat=torch.optim.Adam([heat]))
        model.update = self.update

    def update(self, losses: Tensor) -> None:
        """Update the task network; `losses` (B,) are those at the extracted places."""
        self.parts["task"].zero_grad()
        losses.mean().backward()
        self.parts["task"].step()

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        """Compute the loss, which updates the task network, and update the heat map network."""
        loss = closure()
        self.parts["heat"].zero_grad()
        loss.backward()
        self.parts["heat"].step()
        return loss.detach()


def run_method(config: Settings, seed: int, run) -> dict[str, float]:
    """Train one method and return its test measures at the epoch that validation chooses.

    The measures `last_*` are those of the last epoch.
    """
    world, optimiser = worlds(config, seed, run.device), config.optimiser
    model = model_of(config, seed, run.device)
    n, steps = len(world["train"]), len(world["train"]) // optimiser.batch
    if config.lifting.order == "task first":
        optimizer = TaskFirst(config, model)
    else:
        optimizer = torch.optim.Adam(parts_of(config, model))
    cosine = train.cosine(optimiser.epochs, steps) if optimiser.schedule == "cosine" else None

    sign = 1 if config.task == "classification" else -1
    aim = "both" if config.task == "classification" else "rmse"

    def batches(epoch: int):
        g = train.generator(seed, Salt.PATCHES_ORDER, epoch)
        order = torch.randperm(n, generator=g).to(run.device)
        for rows in order[: steps * optimiser.batch].split(optimiser.batch):
            yield world["train"][rows]

    def evaluate(model: networks.Pair) -> dict[str, float]:
        names = ("task_loss", "heat_loss", "moved")
        diary = dict(zip(names, model.diary.tolist(), strict=True))
        held_out = sign * measures(config, model, world["validation"])[aim]
        return {**diary, "validation": held_out, **measures(config, model, world["test"])}

    torch.manual_seed(train.generator(seed, Salt.PATCHES_NOISE).initial_seed())
    curve = fit(
        model,
        lambda model, batch: METHODS[config.method](config, model, batch),
        batches,
        optimizer,
        epochs=optimiser.epochs,
        schedule=cosine,
        evaluate=evaluate,
        run=run,
        capture=run.capture,
    )
    chosen = train.best(curve, "validation", largest=True)
    left_out = ("epoch", "loss", "validation")
    last = {f"last_{k}": v for k, v in curve[-1].items() if k not in left_out}
    return {"chosen_epoch": chosen["epoch"], **chosen, **last}


def run_chance(config: Settings, seed: int, run) -> dict[str, float]:
    """Return the measures at chance level: a grid, and the places and labels of other canvases.

    With them go the errors of an image of zeros and of the mean of all pixels.
    """
    world, k = worlds(config, seed, run.device), config.extraction.k
    rows = slice(0, config.data.validation_canvases)
    true, other = world["test"][rows], world["validation"][rows]
    detected = {"other": other.boxes}
    if math.isqrt(k) ** 2 == k:
        centres = grid_places(config, true.images)[..., :2]
        detected["grid"] = metrics.boxes(F.pad(centres, (0, 1), value=config.data.box))
    point = {
        f"iou50_{name}": metrics.detected(metrics.box_iou(boxes, true.boxes), true.present)
        for name, boxes in detected.items()
    }
    away = distances(middle(other.boxes), middle(true.boxes))
    away = away.masked_fill(~other.present[..., None], math.inf)
    point["within_3px_other"] = metrics.detected(-away, true.present, -3)
    if config.data.scene != "gabor":  # all its impulses are of one class
        labels = (other.classes, true.classes, 10)
        point["classification"] = metrics.label_recall(*labels, leave_out=0)
        point["classification_all"] = metrics.label_recall(*labels)
    images = true.images.double()
    point["rmse_zeros"] = images.square().mean().sqrt().item()
    point["rmse_mean"] = images.std(correction=0).item()
    run.log(epoch=1, **point)
    return point
