"""How the observers are compared: one world, one network, one budget; only the labels differ."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import models, patches, presence, train, worth
from ...data import digits, lattice, mnist
from ..experiment import setting
from ..runner import Interrupted

BEYOND = "no paper"
OURS = "our choice"
SALT = {"train": 62, "test": 63}


@dataclass(frozen=True)
class Settings:
    """What one observer tells of so many images. Distances are in cells of the network's map."""

    observer: str = setting("full", BEYOND, "one of `worth.OBSERVERS`")
    images: int = setting(100, BEYOND, "how many canvases are labelled: the first of them all")
    most_images: int = setting(30_000, BEYOND, "all canvases, so that a seed's sets are nested")
    test_images: int = setting(2_000, BEYOND, OURS)
    tiles: str = setting("mnist", BEYOND, "MNIST; `digits` are scikit-learn's")
    shrink: int = setting(1, BEYOND, "digits are averaged over so many pixels a side")
    size: int = setting(80, BEYOND, f"{OURS}: 14 x 14 cells")
    instances: tuple[int, int] = setting((0, 3), BEYOND, "least and greatest number of digits")
    apart: int = setting(5, BEYOND, "the ink of two digits, 20 pixels of 28, does not meet")
    clutter: int = setting(2, BEYOND, "pieces of digits, so that ink alone tells no place")
    entry: int = setting(32, BEYOND, "channels of a first layer of 2 x 2 pixels; 0: none")
    widths: tuple[int, ...] = setting((64, 128, 256), BEYOND, "chapter 3's are 24, 32, 48")
    steps: int = setting(20_000, BEYOND, "the same for every number of images")
    batch: int = setting(32, BEYOND, OURS)
    lr: float = setting(1e-3, BEYOND, "AdamW, cosine, the same for every observer")
    weight_decay: float = setting(0.01, BEYOND, "AdamW's default")
    points: int = setting(20, BEYOND, "of the curve")
    strength: float = setting(1.0, BEYOND, "patches: of the local softmax")
    inner_steps: int = setting(2, BEYOND, "patches: as the released code of chapter 10")
    inner_lr: float = setting(0.5, BEYOND, "patches: cells that a place moves in a step")
    weighting: float = setting(2.5, BEYOND, "patches: as the released code of chapter 10")
    bf16: bool = setting(False, BEYOND, OURS)


# World and network --------------------------------------------------------------------------------


def step(config: Settings) -> int:
    """Pixels from cell to cell."""
    return lattice.STEP * (2 if config.entry else 1)


def cells(config: Settings) -> int:
    """How many cells a side of the network's map has."""
    return lattice.side(config.size, step(config))


def world(config: Settings, seed: int, device: str) -> dict[str, dict[str, Tensor]]:
    """The canvases of "train" (by the seed, the first `images` of them) and "test" (the same)."""
    loader = mnist if config.tiles == "mnist" else digits
    made = {}
    for split in ("train", "test"):
        tiles, labels = (x.to(device) for x in loader.load(split))
        tiles = tiles.reshape(len(labels), 1, *tiles.shape[-2:]).float()
        tiles = F.avg_pool2d(tiles / (255 if loader is mnist else 1), config.shrink)
        made[split] = lattice.canvases(
            tiles,
            labels,
            config.most_images if split == "train" else config.test_images,
            config.size,
            train.generator(seed if split == "train" else 0, SALT[split], device=device),
            k=config.instances,
            apart=config.apart,
            clutter=config.clutter,
            step=step(config),
        )
    made["train"] = {name: x[: config.images] for name, x in made["train"].items()}
    return made


def network(config: Settings, seed: int) -> nn.Sequential:
    """The network of chapter 3; `entry` puts a layer before it that halves the image.

    The bias of "nothing" starts where the network expects the mean number of digits.
    """
    g = train.generator(seed, 64)
    model = models.reader(g, widths=(config.entry or 1, *config.widths))
    if config.entry:
        first = nn.utils.skip_init(nn.Conv2d, 1, config.entry, 2, stride=2)
        nn.init.kaiming_normal_(first.weight, 0.1, generator=g)
        nn.init.zeros_(first.bias)
        model = nn.Sequential(first, nn.LeakyReLU(0.1), *model)
    share = sum(config.instances) / 2 / cells(config) ** 2
    with torch.no_grad():
        model[-1].bias[-1] = torch.tensor(10 * (1 - share) / share).log()
        model[-1].weight *= 0.1  # so that this holds for every image
    return model


# What the observers' learners minimise ------------------------------------------------------------


def flat(config: Settings, batch: dict[str, Tensor]) -> Tensor:
    """Cells (B, K) in reading order, padded with -1."""
    row, column = batch["cells"].unbind(-1)
    return torch.where(row >= 0, row * cells(config) + column, -1)


def log_likelihood(config: Settings, log_p: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """log P(what the observer tells | X), (B,), in nats."""
    classes = batch["classes"]
    if config.observer == "class":
        return worth.log_likelihood_class(log_p, classes.amax(1))
    if config.observer == "presence":
        labels = (classes[..., None] == torch.arange(10, device=classes.device)).any(1)
        return presence.log_likelihood(log_p, labels)
    if config.observer in ("counts", "patches"):
        return worth.log_likelihood_counts(log_p, classes)
    if config.observer == "places":
        return worth.log_likelihood_places(log_p, flat(config, batch))
    return worth.log_likelihood_full(log_p, flat(config, batch), classes)


def heat(config: Settings, logits: Tensor) -> Tensor:
    """The map read as a heat map: log-odds of a digit, (B, M, N), after the local softmax."""
    score = logits[:, :-1].logsumexp(1) - logits[:, -1]
    r = config.apart - 1
    wide = F.pad(score[:, None], [r] * 4, mode="replicate")[:, 0]
    return patches.local_softmax(wide, 2 * r + 1, config.strength)[:, r:-r, r:-r]


def found(config: Settings, score: Tensor, number: Tensor) -> Tensor:
    """The places (B, K, 3), in cells, of the `number` (B,) greatest values; the rest repeats."""
    most = config.instances[1]
    places, _ = patches.extract(score, most, 2 * config.apart - 1, 1.0)
    rank = torch.arange(most, device=score.device)
    return torch.where((rank < number[:, None])[..., None], places, places[:, :1])


def lifted(config: Settings, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Patches: Algorithm 1 of chapter 8, heat map and reader being one network, as counts tell it.

    A place is in cells, its patch what the network sees from there, its label the network's answer
    without "nothing".
    """
    score = heat(config, train.logits(model, batch["images"], config.bf16))
    classes, window = batch["classes"], 13 * step(config) // 2  # pixels that the network sees
    number = (classes >= 0).sum(1)  # (B,)
    start = found(config, score.detach(), number)
    counts = (classes[..., None] == torch.arange(10, device=classes.device)).sum(1)
    kept = torch.arange(start.shape[1], device=score.device) < number[:, None]

    def task_loss(places: Tensor) -> Tensor:
        centre = step(config) * places[..., :2] + (window - 1) / 2
        at = torch.cat([centre, torch.full_like(centre[..., :1], window - 1)], -1)
        seen = patches.sample(batch["images"], at, window).flatten(0, 1)
        p = train.logits(model, seen, config.bf16)[:, :-1, 0, 0].softmax(1)
        p = p.unflatten(0, kept.shape) * kept[..., None]  # (B, K, 10)
        return ((counts - p.sum(1)) / number.clamp(min=1)[:, None]).square().sum(1)

    moved = patches.lifted_step(
        score,
        start,
        task_loss,
        config.inner_steps,
        config.inner_lr,
        normalise=True,
        weights=lambda loss: (-config.weighting * loss).exp(),
    )
    empty = score.square().flatten(1).mean(1)  # the ideal map of no places is zero
    return (moved.task + torch.where(number > 0, moved.heat, empty)).mean()


def objective(config: Settings) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    """What is minimised: minus the exact log-likelihood of the label, but for patches."""
    if config.observer == "patches":
        return lambda model, batch: lifted(config, model, batch)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        log_p = train.logits(model, batch["images"], config.bf16).log_softmax(1)
        return -log_likelihood(config, log_p, batch).mean()

    return loss


# Measures -----------------------------------------------------------------------------------------


def around(p: Tensor) -> Tensor:
    """Sums over every cell and its eight neighbours: (B, C, M, N)."""
    return F.avg_pool2d(p, 3, 1, 1) * 9


def measured(config: Settings, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is right of each true digit, bool (B, K), and the bits that the label still costs (B,).

    `reading`: the most probable class at the true place. `found`: one of as many detections as
    there are digits is nearer than half the least distance, so that it serves no other digit.
    `both`: and the most probable class at that detection is right.
    """
    log_p = logits.log_softmax(1)
    near = around(log_p[:, :-1].exp())  # (B, 10, M, N)
    classes, side = batch["classes"], logits.shape[3]
    present = classes >= 0

    def read(index: Tensor) -> Tensor:
        """The class at cells (B, K) in reading order."""
        shape = (-1, near.shape[1], -1)
        return near.flatten(2).gather(2, index[:, None].clamp(min=0).expand(shape)).argmax(1)

    score = logits[:, :-1].logsumexp(1) - logits[:, -1]
    places = found(config, score, present.sum(1))  # x, y
    gap = (batch["cells"].flip(-1)[:, :, None] - places[:, None, :, :2]).abs().amax(-1)
    gap, index = gap.min(2)  # (B, K): the nearest detection of every digit
    hit = present & (gap < config.apart / 2)
    at = (places[..., 1] * side + places[..., 0]).long().gather(1, index)
    point = {
        "present": present,
        "reading": present & (read(flat(config, batch)) == classes),
        "found": hit,
        "both": hit & (read(at) == classes),
    }
    if config.observer != "patches":
        point["bits"] = -log_likelihood(config, log_p, batch).double() / torch.tensor(2.0).log()
    return point


@torch.no_grad()
def measures(config: Settings, model: nn.Module, split: dict[str, Tensor]) -> dict[str, float]:
    """The shares of the true digits that are read, found, and both, in %; the label's bits."""
    n, held = len(split["images"]), []
    for rows in torch.arange(n).split(250):
        batch = {name: x[rows] for name, x in split.items()}
        held.append(measured(config, train.logits(model, batch["images"], config.bf16), batch))
    total = {name: torch.cat([part[name] for part in held]) for name in held[0]}
    digits_there = total.pop("present").sum()
    point = {"bits": total.pop("bits").mean().item()} if "bits" in total else {}
    shares = {name: 100 * (x.sum() / digits_there).item() for name, x in total.items()}
    return shares | point


def run_observer(config: Settings, seed: int, run) -> dict[str, float]:
    """Train with one observer's labels; the measures on the test canvases at the end."""
    parts = world(config, seed, run.device)
    model = network(config, seed).to(run.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, weight_decay=config.weight_decay
    )
    stretch, n = config.steps // config.points, config.images

    def batches(point: int):
        g = train.generator(seed, 65, point)
        rounds = -(-stretch * config.batch // n)
        order = torch.cat([torch.randperm(n, generator=g) for _ in range(rounds)]).to(run.device)
        for rows in order[: stretch * config.batch].split(config.batch):
            yield {name: x[rows] for name, x in parts["train"].items()}

    curve = train.fit(
        model,
        objective(config),
        batches,
        optimizer,
        epochs=config.points,
        schedule=train.cosine(config.points, stretch, warmup=0.05),
        evaluate=lambda model: measures(config, model, parts["test"]),
        run=run,
    )
    if len(curve) < config.points:
        raise Interrupted
    return {name: value for name, value in curve[-1].items() if name not in ("epoch", "loss")}
