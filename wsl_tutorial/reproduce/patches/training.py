"""How the experiments of Angles, Jin et al. (2021) run: settings, canvases, methods, measures."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import metrics, patches, train
from ...data import canvases, digits, mnist, svhn
from ..experiment import setting
from ..runner import Interrupted
from . import networks

CODE = "released code"
EARLIER = "earlier version (arXiv v3)"
UNSTATED = "not stated"


# The settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """One method on one kind of canvas. Lengths are in pixels."""

    method: str = setting("mist", "mist", "section 3")
    task: str = setting("classification", "classification", "section 5.2")
    tiles: str = setting("mnist", "MNIST", "section 5.1")
    shrink: int = setting(1, UNSTATED, f"digits keep their size: {CODE}, boxes of 20")
    scene: str = setting("hard", "Poisson disks, Bridson (2007)", "section 5.1")
    size: int = setting(80, 80, CODE)
    box: float = setting(20.0, 20, f"{CODE}: a quarter of the canvas")
    radius: float = setting(16.0, UNSTATED, "section 5.1; at 16 nine digits fit almost surely")
    instances: tuple[int, int] = setting((9, 9), 9, "section 5.2; least and greatest number")
    k: int = setting(9, 9, "section 5.2: patches to extract in training")
    train_canvases: int = setting(50_000, UNSTATED, "section 5.1")
    validation_canvases: int = setting(1_000, "at most 52 batches", CODE)
    test_canvases: int = setting(5_000, UNSTATED, "section 5.1")
    width: int = setting(32, 32, f"{EARLIER}, appendix A")
    blocks: int = setting(4, 4, f"{EARLIER}, appendix A")
    window: int = setting(15, 15, f"{EARLIER}, appendix A: side of the local softmax")
    strength: float = setting(10.0, 10, CODE)
    floor: float = setting(1e-6, 1e-6, f"{CODE}: a threshold under the global maximum")
    nms: int = setting(5, 5, f"{CODE}: side of the suppression; one survivor of equals, not all")
    patch: int = setting(32, 32, f"{EARLIER}, appendix C: samples a side")
    task_widths: tuple[int, ...] = setting((8, 16, 32, 64, 128), (8, 16, 32, 64, 128), CODE)
    task_blocks: int = setting(3, 3, f"{EARLIER}, appendix C: residual blocks a level")
    bounded: bool = setting(True, "sigmoid", f"{EARLIER}, appendix C: end of the auto-encoder")
    order: str = setting(
        "places first", "task, places, heat map", f"Algorithm 1; {CODE}: places first"
    )
    inner_steps: int = setting(2, 2, CODE)
    inner_lr: float = setting(1e4 / 64, "1e4 on the batch's mean of half the loss", CODE)
    normalise: bool = setting(False, False, f"{CODE}: steps along g, not g / |g|")
    penalty: float = setting(0.0, "lambda, no value", f"equation (6); none in the {CODE}")
    weighting: float = setting(2.5, "none", f"{CODE}: exp(-5 l), l half of equation (9)")
    epochs: int = setting(32, 10, f"{CODE}, of an unknown size; 50,000 steps here")
    batch: int = setting(32, 32, CODE)
    lr: float = setting(1e-4, 1e-4, f"{CODE}: Adam of the task network")
    heat_lr: float = setting(1e-4, 1e-4, f"{CODE}: Adam of the heat map network")
    schedule: str = setting("constant", "constant", CODE)
    bf16: bool = setting(True, UNSTATED, f"precision of convolutions; {CODE}: float32")
    # of the baselines
    fewer: bool = setting(False, True, f"AIR: any number in training; {EARLIER}, appendix C")
    jitter: float = setting(1.0, UNSTATED, "supervised: true places move by up to this")
    stride: int = setting(8, UNSTATED, "candidate grid: section 5.2, supplement C.1 not public")
    temperature: float = setting(0.1, UNSTATED, "soft top-K: half of Xie et al.'s eps, 0.1 there")
    sigma: float = setting(0.05, 0.05, "perturbed top-K: Cordonnier et al. (2021)")
    draws: int = setting(4, UNSTATED, "REINFORCE: draws an image")
    ap_at: tuple[float, ...] = setting((0.5,), 0.5, "table 5: least IoU of a detection")
    samples: int = setting(100, 500, "perturbed top-K: Cordonnier et al. (2021)")


# Canvases ---------------------------------------------------------------------------------------


class Batch(NamedTuple):
    """Images (B, 1, H, W), true boxes (B, L, 4) and classes (B, L), both padded with -1."""

    images: Tensor
    boxes: Tensor
    classes: Tensor

    @property
    def present(self) -> Tensor:
        return self.classes >= 0

    @property
    def counts(self) -> Tensor:
        """How many instances of each class: what the bag tells, (B, 10)."""
        return (self.classes[..., None] == torch.arange(10, device=self.classes.device)).sum(1)


@dataclass(frozen=True)
class Drawn:
    """Canvases of digits, rendered when they are asked for."""

    scenes: canvases.Scenes
    tiles: Tensor
    labels: Tensor
    size: int
    box: float

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        scenes = self.scenes[rows]
        places = scenes.places(self.tiles.shape[-2:], self.box)
        true = metrics.boxes(places).masked_fill(~scenes.present[..., None], -1)
        return Batch(scenes.render(self.tiles, self.size), true, scenes.classes(self.labels))


@dataclass(frozen=True)
class Stored:
    """Images kept as they are: Gabor noise and house numbers."""

    images: Tensor
    boxes: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor | slice) -> Batch:
        return Batch(self.images[rows], self.boxes[rows], self.classes[rows])


def tiles(config: Settings, seed: int, device: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Digits (N, h, w) in [0, 1] and labels of "train", "validation" (by the seed) and "test"."""
    loader = mnist if config.tiles == "mnist" else digits
    pools = {split: loader.load(split) for split in ("train", "test")}
    order = torch.randperm(len(pools["train"][1]), generator=train.generator(seed, 41))
    held_out = len(order) // 12  # 5,000 of MNIST's 60,000
    chosen = {
        "train": ("train", order[held_out:]),
        "validation": ("train", order[:held_out]),
        "test": ("test", slice(None)),
    }
    parts = {}
    for name, (pool, index) in chosen.items():
        images, labels = (x[index].to(device) for x in pools[pool])
        images = images.reshape(len(labels), 1, *images.shape[-2:]).float()
        images = images / (255 if loader is mnist else 1)
        parts[name] = (F.avg_pool2d(images, config.shrink)[:, 0], labels)
    return parts


SALT = {"train": 42, "validation": 43, "test": 44}


def worlds(config: Settings, seed: int, device: str) -> dict[str, Drawn | Stored]:
    """The canvases of "train" and "validation" (by the seed) and "test" (the same for all seeds).

    Every kind of device draws its own.
    """
    if config.scene in ("svhn", "houses"):
        return numbers(config, seed, device)
    number = {s: getattr(config, f"{s}_canvases") for s in SALT}
    g = {s: train.generator(0 if s == "test" else seed, SALT[s], device=device) for s in SALT}
    if config.scene == "gabor":
        return {s: noise(config, number[s], g[s]) for s in SALT}
    parts, common = tiles(config, seed, device), {"size": config.size, "box": config.box}
    made = {}
    for s, (images, labels) in parts.items():
        arguments = (number[s], labels, images.shape[1:], g[s])
        if config.scene == "easy":
            scenes = canvases.easy(*arguments, **common)
        else:
            more = {"radius": config.radius, "k": config.instances}
            scenes = canvases.hard(*arguments, **common, **more, uneven=config.scene == "uneven")
        if config.fewer and s == "train":
            scenes = thinned(scenes, g[s])
        made[s] = Drawn(scenes, images, labels, config.size, config.box)
    return made


def thinned(scenes: canvases.Scenes, g: torch.Generator) -> canvases.Scenes:
    """The scenes with only some of their digits: any number from none to all, any of them."""
    n, k = scenes.chosen.shape
    rank = torch.rand(n, k, generator=g, device=g.device).argsort(1)
    number = torch.randint(k + 1, (n, 1), generator=g, device=g.device)
    return replace(scenes, present=scenes.present & (rank < number))


def noise(config: Settings, n: int, g: torch.Generator) -> Stored:
    """Gabor noise around zero, as a sum of patches is; its impulses are all of one class."""
    shape = {"size": config.size, "k": config.k, "box": config.box}
    images, places = canvases.gabor(n, g, **shape, frequency=2 / config.box)
    absent = places[..., 2] < 0
    boxes = metrics.boxes(places).masked_fill(absent[..., None], -1)
    return Stored(images - 0.5, boxes, -absent.long())


def numbers(config: Settings, seed: int, device: str) -> dict[str, Stored]:
    """House numbers of two digits, four times as wide as high, standardised image by image.

    SVHN's own, or generated ones ("houses").
    """
    held_out, shape = config.validation_canvases, (config.size, 4 * config.size)
    if config.scene == "houses":
        n = config.train_canvases + held_out
        pool = canvases.streets(n, train.generator(seed, SALT["train"]), shape)
        test = canvases.streets(config.test_canvases, train.generator(0, SALT["test"]), shape)
    else:
        pool = svhn.two_digits("train", size=shape)
        test = svhn.two_digits("test", size=shape, least_height=config.size / 2)
    order = torch.randperm(len(pool["images"]), generator=train.generator(seed, 41))
    train_rows = order[held_out:][: config.train_canvases]
    chosen = {
        "train": (pool, train_rows),
        "validation": (pool, order[:held_out]),
        "test": (test, slice(config.test_canvases)),
    }
    made = {}
    for s, (source, rows) in chosen.items():
        images, boxes, classes = (
            source[k][rows].to(device) for k in ("images", "boxes", "classes")
        )
        images = images.float()
        sd, mean = torch.std_mean(images, (1, 2, 3), keepdim=True)
        made[s] = Stored((images - mean) / sd.clamp_min(1), boxes, classes)  # a blank stays 0
    return made


# What the networks do ---------------------------------------------------------------------------


def heatmap(config: Settings, model: networks.Pair, images: Tensor) -> Tensor:
    """The heat map (B, H, W) after the local softmax.

    The scores go on beyond the border with their border values, so that every window is full. In
    windows that end at the border an empty corner has few rivals and would be the first place.
    """
    score = train.logits(model.heat, images, config.bf16)[:, 0]
    (h, w), r = score.shape[1:], config.window // 2
    wide = F.pad(score[:, None], [r] * 4, mode="replicate")[:, 0]
    p = patches.local_softmax(wide, config.window, config.strength, config.floor)
    return p[:, r : r + h, r : r + w]


def answers(config: Settings, model: networks.Pair, images: Tensor, places: Tensor) -> Tensor:
    """What the task network makes of every patch: (B, K, 10), or patches again."""
    seen = patches.sample(images, places, config.patch)  # (B, K, 1, patch, patch)
    return train.logits(model.task, seen.flatten(0, 1), config.bf16).unflatten(0, seen.shape[:2])


def task_loss(config, model, batch: Batch, places: Tensor) -> Tensor:
    """Paper (9), or paper (8) as a mean over pixels; (B,)."""
    made = answers(config, model, batch.images, places)
    if config.task == "classification":
        return patches.proportion_loss(made, batch.counts)
    return patches.reconstruction_loss(batch.images, made, places)


def found(config: Settings, heat: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Places (B, k, 3) and values (B, k) of a heat map."""
    return patches.extract(heat, k, config.nms, config.box)


# What the methods minimise ------------------------------------------------------------------------


def lifted(config, model: networks.Pair, batch: Batch) -> Tensor:
    """MIST: Algorithm 1; one backward pass serves both networks."""
    heat = heatmap(config, model, batch.images)
    start, _ = found(config, heat.detach(), config.k)
    step = patches.lifted_step(
        heat,
        start,
        lambda places: task_loss(config, model, batch, places),
        config.inner_steps,
        config.inner_lr,
        penalty=config.penalty,
        normalise=config.normalise,
        weights=lambda loss: (-config.weighting * loss).exp(),
        update_task=model.update if config.order == "task first" else None,
    )
    distance = (step.places - start)[..., :2].norm(dim=-1).median()
    model.note(step.task.mean(), step.heat.mean(), distance)
    return (step.task + step.heat).mean()


def middle(boxes: Tensor) -> Tensor:
    """The centres (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def true_places(config: Settings, batch: Batch) -> Tensor:
    """Centres of the true boxes with the detector's side, (B, L, 3); the first pads."""
    centre = middle(batch.boxes)
    centre = torch.where(batch.present[..., None], centre, centre[:, :1])
    return torch.cat([centre, torch.full_like(centre[..., :1], config.box)], -1)


def supervised(config, model: networks.Pair, batch: Batch) -> Tensor:
    """The heat map is regressed onto the true places, the classifier learns at them."""
    places = true_places(config, batch)
    heat = patches.heatmap_loss(heatmap(config, model, batch.images), places)
    off = config.jitter * (2 * torch.rand_like(places) - 1)
    off[..., 2] = 0
    made = answers(config, model, batch.images, places + off)
    task = F.cross_entropy(made.flatten(0, 1), batch.classes.flatten(), ignore_index=-1)
    model.note(task, heat.mean(), heat.new_zeros(()))
    return task + heat.mean()


def plain(model: networks.Pair, loss: Tensor) -> Tensor:
    """The mean of a loss without a heat map loss."""
    model.note(loss.mean(), *loss.new_zeros(2))
    return loss.mean()


def channel_places(config, model: networks.Pair, images: Tensor) -> Tensor:
    """A place for each of K heat maps, (B, K, 3)."""
    score = train.logits(model.heat, images, config.bf16)
    return patches.soft_argmax(score, config.strength, config.box)


def channel_wise(config, model: networks.Pair, batch: Batch) -> Tensor:
    """Soft-argmax in K heat maps, trained end to end."""
    places = channel_places(config, model, batch.images)
    return plain(model, task_loss(config, model, batch, places))


def grid_places(config: Settings, images: Tensor) -> Tensor:
    """The cells of a grid that covers the image, (B, K, 3); K is a square."""
    cells = math.isqrt(config.k)
    side = config.size / cells
    rank = torch.arange(config.k, device=images.device)
    centre = (torch.stack([rank % cells, rank // cells], -1) + 0.5) * side - 0.5
    places = F.pad(centre.to(images.dtype), (0, 1), value=side)
    return places.expand(len(images), -1, -1)


def grid(config, model: networks.Pair, batch: Batch) -> Tensor:
    """The auto-encoder on every cell of a grid."""
    return plain(model, task_loss(config, model, batch, grid_places(config, batch.images)))


def frozen(config, model: networks.Pair, batch: Batch) -> Tensor:
    """The heat map network stays as it was drawn; the floor of the comparison."""
    with torch.no_grad():
        places, _ = found(config, heatmap(config, model, batch.images), config.k)
    return plain(model, task_loss(config, model, batch, places))


def gated(config, model: networks.Pair, batch: Batch) -> Tensor:
    """Straight-through: every patch passes a gate of 1 that has the heat map's gradient."""
    places, values = found(config, heatmap(config, model, batch.images), config.k)
    gate = patches.straight_through(torch.ones_like(values), values)
    p = answers(config, model, batch.images, places).softmax(2) * gate[..., None]
    return plain(model, patches.proportion_distance(p.mean(1), batch.counts))


def drawn(config, model: networks.Pair, batch: Batch) -> Tensor:
    """REINFORCE: places drawn without replacement and with suppression."""
    score = train.logits(model.heat, batch.images, config.bf16)[:, 0]
    g, draws = generator(score.device), []
    for _ in range(config.draws):
        draws.append(patches.draw_places(score, config.k, config.nms, config.box, g))
    places = torch.cat([p for p, _ in draws], 1)  # (B, draws K, 3)
    made = answers(config, model, batch.images, places)
    losses = [patches.proportion_loss(z, batch.counts) for z in made.split(config.k, 1)]
    loss = patches.reinforce(torch.stack(losses), torch.stack([log_p for _, log_p in draws]))
    return plain(model, loss)


def generator(device: torch.device) -> torch.Generator:
    """The device's own generator, whose state is in every checkpoint."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


def candidates(config, model: networks.Pair, images: Tensor) -> tuple[Tensor, Tensor]:
    """Scores (B, n) and places (B, n, 3) of a grid of candidates."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=config.bf16):
        scores, offsets = model.heat(images.contiguous(memory_format=torch.channels_last))
    columns, n = images.shape[3] // config.stride, scores.shape[1]
    rank = torch.arange(n, device=images.device)
    cell = torch.stack([rank % columns, rank // columns], -1)
    centre = (cell + 0.5) * config.stride - 0.5 + offsets.to(images.dtype)
    return scores.to(images.dtype), F.pad(centre, (0, 1), value=config.box)


def soft_top_k(config, model: networks.Pair, batch: Batch) -> Tensor:
    """Xie et al. (2020): every candidate is classified and counts by its soft membership."""
    scores, places = candidates(config, model, batch.images)
    member = patches.soft_top_k(scores, config.k, config.temperature)  # (B, n)
    p = answers(config, model, batch.images, places).softmax(2)  # (B, n, 10)
    mean = (member[..., None] * p).sum(1) / config.k
    return plain(model, patches.proportion_distance(mean, batch.counts))


def perturbed(config, model: networks.Pair, batch: Batch) -> Tensor:
    """Cordonnier et al. (2021): patches averaged over noisy selections."""
    scores, places = candidates(config, model, batch.images)
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    scores = (scores - low) / (high - low).clamp_min(1e-6)  # a constant map stays finite
    g = generator(scores.device)
    chosen = patches.perturbed_top_k(scores, config.k, config.sigma, config.samples, g)
    seen = patches.sample(batch.images, places, config.patch)  # (B, n, 1, patch, patch)
    mixed = torch.einsum("bkn,bncij->bkcij", chosen, seen).flatten(0, 1)
    z = train.logits(model.task, mixed, config.bf16).unflatten(0, chosen.shape[:2])
    return plain(model, patches.proportion_loss(z, batch.counts))


def attended(config, model: networks.Pair, batch: Batch) -> Tensor:
    """Attend, infer, repeat: minus the evidence bound, Gaussian pixels with sd 0.3."""
    canvas, divergence = model.task(batch.images)
    error = (canvas - batch.images).square().flatten(1).sum(1) / (2 * 0.3**2)
    return plain(model, error + divergence)


METHODS: dict[str, Callable[[Settings, networks.Pair, Batch], Tensor]] = {
    "mist": lifted,
    "supervised": supervised,
    "channel-wise": channel_wise,
    "grid": grid,
    "frozen": frozen,
    "straight-through": gated,
    "reinforce": drawn,
    "soft-top-k": soft_top_k,
    "perturbed-top-k": perturbed,
    "air": attended,
}
ON_CANDIDATES = ("soft-top-k", "perturbed-top-k")


def model_of(config: Settings, seed: int, device: str) -> networks.Pair:
    """The two networks of a config, initialised by the seed."""

    def build() -> networks.Pair:
        common = (1, config.width, config.blocks)
        sizes = {"widths": config.task_widths, "blocks": config.task_blocks}
        if config.method == "air":
            task = networks.Air(config.size, config.k, side=config.box / config.size)
        elif config.task == "classification":
            task = networks.Classifier(channels=1, **sizes)
        else:
            task = networks.AutoEncoder(bounded=config.bounded, **sizes)
        if config.method in ON_CANDIDATES:
            heat = networks.Candidates(*common, config.stride)
        elif config.method in ("grid", "air"):
            heat = None
        else:
            heat = networks.Heatmap(*common, config.k if config.method == "channel-wise" else 1)
        return networks.Pair(heat, task)

    model = networks.seeded(build, train.generator(seed, 45))
    return model.to(device, memory_format=torch.channels_last)


# Measures ---------------------------------------------------------------------------------------


def detections(config, model: networks.Pair, images: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k places that a trained model looks at, (B, k, 3), and their scores (B, k)."""
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
        score = train.logits(model.heat, images, config.bf16)[:, 0]
        return found(config, score.flatten(1).softmax(1).view_as(score), k)
    return found(config, heatmap(config, model, images), k)


@torch.no_grad()
def measures(config: Settings, model: networks.Pair, split: Drawn | Stored) -> dict[str, float]:
    """What is measured on some canvases; every image is given its true number of instances."""
    seen = [measured(config, model, split[rows]) for rows in torch.arange(len(split)).split(250)]
    held = {name: torch.cat([part[name] for part in seen]) for name in seen[0]}
    point = {}
    if "squared" in held:
        point["rmse"] = held["squared"].double().mean().sqrt().item()
    if "places" not in held:
        return point
    present, places, true = held["classes"] >= 0, held["places"], held["boxes"]
    iou = metrics.box_iou(metrics.boxes(places), true) * held["kept"][..., None]
    away = torch.cdist(places[..., :2], middle(true)).masked_fill(
        ~held["kept"][..., None], math.inf
    )
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
        for at in config.ap_at:
            ap = metrics.mean_average_precision(iou, guess, held["scores"], truth, at)
            point[f"ap{round(100 * at):02d}"] = ap
    return point


def measured(config: Settings, model: networks.Pair, batch: Batch) -> dict[str, Tensor]:
    """Squared errors of the pixels, or detections and guesses, of one batch."""
    if config.method == "air":
        canvas, _ = model.task(batch.images)
        return {"squared": (canvas - batch.images).square().flatten(1).mean(1)}
    places, scores = detections(config, model, batch.images, batch.classes.shape[1])
    rank = torch.arange(places.shape[1], device=places.device)
    kept = rank < batch.present.sum(1, keepdim=True)  # (B, K)
    held = {"places": places, "kept": kept, "boxes": batch.boxes, "classes": batch.classes}
    made = answers(config, model, batch.images, places)
    if config.task == "classification":
        best, guess = made.softmax(2).max(2)
        return held | {"guess": guess, "scores": best * scores}
    together = patches.place(made * kept[..., None, None, None], places, batch.images.shape[2:])
    squared = (together.sum(1) - batch.images).square().flatten(1).mean(1)
    return held | {"squared": squared}


# Runs ---------------------------------------------------------------------------------------------


def parts_of(config: Settings, model: networks.Pair) -> list[dict]:
    """The parameters of the task network and of the heat map network, with their rates."""
    pairs = ((model.task, config.lr), (model.heat, config.heat_lr))
    return [{"params": net.parameters(), "lr": lr} for net, lr in pairs if net is not None]


class TaskFirst:
    """The order that Algorithm 1 prints: an Adam step of the task network while the loss is made,
    then, with the places moved under the new network, one of the heat map network."""

    second_order = True  # it asks for the loss itself

    def __init__(self, config: Settings, model: networks.Pair) -> None:
        task, heat = parts_of(config, model)
        self.parts = {"task": torch.optim.Adam([task]), "heat": torch.optim.Adam([heat])}
        model.update = self.update

    @property
    def param_groups(self) -> list[dict]:
        return [group for adam in self.parts.values() for group in adam.param_groups]

    def state_dict(self) -> dict:
        return {name: adam.state_dict() for name, adam in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, adam in self.parts.items():
            adam.load_state_dict(state[name])

    def update(self, losses: Tensor) -> None:
        """The task network's step; `losses` (B,) at the extracted places."""
        self.parts["task"].zero_grad()
        losses.mean().backward()
        self.parts["task"].step()

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        loss = closure()
        self.parts["heat"].zero_grad()
        loss.backward()
        self.parts["heat"].step()
        return loss.detach()


def run_method(config: Settings, seed: int, run) -> dict[str, float]:
    """Train one method; its measures on the test canvases, at the epoch that validation chooses.

    `last_*` are those of the last epoch.
    """
    world = worlds(config, seed, run.device)
    model = model_of(config, seed, run.device)
    n, steps = len(world["train"]), len(world["train"]) // config.batch
    if config.order == "task first":
        optimizer = TaskFirst(config, model)
    else:
        optimizer = torch.optim.Adam(parts_of(config, model))
    cosine = train.cosine(config.epochs, steps) if config.schedule == "cosine" else None

    sign = 1 if config.task == "classification" else -1
    aim = "both" if config.task == "classification" else "rmse"

    def batches(epoch: int):
        order = torch.randperm(n, generator=train.generator(seed, 46, epoch)).to(run.device)
        for rows in order[: steps * config.batch].split(config.batch):
            yield world["train"][rows]

    def evaluate(model: networks.Pair) -> dict[str, float]:
        names = ("task_loss", "heat_loss", "moved")
        diary = dict(zip(names, model.diary.tolist(), strict=True))
        held_out = sign * measures(config, model, world["validation"])[aim]
        return {**diary, "validation": held_out, **measures(config, model, world["test"])}

    torch.manual_seed(train.generator(seed, 47).initial_seed())  # noise of the baselines
    curve = train.fit(
        model,
        lambda model, batch: METHODS[config.method](config, model, batch),
        batches,
        optimizer,
        epochs=config.epochs,
        schedule=cosine,
        evaluate=evaluate,
        run=run,
        capture=run.capture,
    )
    if len(curve) < config.epochs:
        raise Interrupted
    chosen = train.best(curve, "validation", largest=True)
    left_out = ("epoch", "loss", "validation")
    last = {f"last_{k}": v for k, v in curve[-1].items() if k not in left_out}
    return {"chosen_epoch": chosen["epoch"], **chosen, **last}


def run_chance(config: Settings, seed: int, run) -> dict[str, float]:
    """What knows nothing of the image scores: places and labels of other canvases, and a grid.

    With them the errors of an image of zeros and of the mean of all pixels.
    """
    world = worlds(config, seed, run.device)
    rows = slice(0, config.validation_canvases)
    true, other = world["test"][rows], world["validation"][rows]
    detections = {"other": other.boxes}
    if math.isqrt(config.k) ** 2 == config.k:
        centres = grid_places(config, true.images)[..., :2]
        detections["grid"] = metrics.boxes(F.pad(centres, (0, 1), value=config.box))
    point = {
        f"iou50_{name}": metrics.detected(metrics.box_iou(boxes, true.boxes), true.present)
        for name, boxes in detections.items()
    }
    away = torch.cdist(middle(other.boxes), middle(true.boxes))
    away = away.masked_fill(~other.present[..., None], math.inf)
    point["within_3px_other"] = metrics.detected(-away, true.present, -3)
    if config.scene != "gabor":  # all its impulses are of one class
        labels = (other.classes, true.classes, 10)
        point["classification"] = metrics.label_recall(*labels, leave_out=0)
        point["classification_all"] = metrics.label_recall(*labels)
    images = true.images.double()
    point["rmse_zeros"] = images.square().mean().sqrt().item()
    point["rmse_mean"] = images.std(correction=0).item()
    run.log(epoch=1, **point)
    return point
