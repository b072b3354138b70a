"""The network, the loss of each observer, the measures, and the run."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import models, patches, presence, train, worth
from ..common import Salt, fit, padded_softmax
from .data import cells, flat, step, world
from .settings import Settings


def network(config: Settings, seed: int) -> nn.Sequential:
    """Return the network of chapter 3; `entry` puts a layer before it that halves the image.

    The bias of "nothing" starts where the network expects the mean number of digits.
    """
    g, entry = train.generator(seed, Salt.WORTH_WEIGHTS), config.network.entry
    model = models.reader(g, widths=(entry or 1, *config.network.widths))
    if entry:
        first = nn.utils.skip_init(nn.Conv2d, 1, entry, 2, stride=2)
        nn.init.kaiming_normal_(first.weight, 0.1, generator=g)
        nn.init.zeros_(first.bias)
        model = nn.Sequential(first, nn.LeakyReLU(0.1), *model)
    share = sum(config.data.instances) / 2 / cells(config) ** 2
    with torch.no_grad():
        model[-1].bias[-1] = torch.tensor(10 * (1 - share) / share).log()
        model[-1].weight *= 0.1  # so that this holds for every image
    return model


# Losses -------------------------------------------------------------------------------------------


def log_likelihood(config: Settings, log_p: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Return log P(observation | X), (B,), in nats."""
    classes, observer = batch["classes"], config.data.observer
    if observer == "class":
        return worth.log_likelihood_class(log_p, classes.amax(1))
    if observer == "presence":
        labels = (classes[..., None] == torch.arange(10, device=classes.device)).any(1)
        return presence.log_likelihood(log_p, labels)
    if observer in ("counts", "patches"):
        return worth.log_likelihood_counts(log_p, classes)
    if observer == "places":
        return worth.log_likelihood_places(log_p, flat(config, batch))
    return worth.log_likelihood_full(log_p, flat(config, batch), classes)


def heat(config: Settings, logits: Tensor) -> Tensor:
    """Return a heat map (B, M, N): the log-odds of a digit after the local softmax."""
    score = logits[:, :-1].logsumexp(1) - logits[:, -1]
    return padded_softmax(score, 2 * config.data.apart - 1, config.method.strength)


def detections(config: Settings, score: Tensor, number: Tensor) -> Tensor:
    """Return the places (B, K, 3), in cells, of the `number` (B,) largest values, then repeats."""
    most = config.data.instances[1]
    places, _ = patches.extract(score, most, 2 * config.data.apart - 1, 1.0)
    rank = torch.arange(most, device=score.device)
    return torch.where((rank < number[:, None])[..., None], places, places[:, :1])


def lifted(config: Settings, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of patches: Algorithm 1 of chapter 8, one network for heat map and reader.

    A place is in cells, its patch what the network sees from there, its label the network's output
    without "nothing".
    """
    c, bf16 = config.method, config.optimiser.bf16
    score = heat(config, train.logits(model, batch["images"], bf16))
    classes, window = batch["classes"], 13 * step(config) // 2  # pixels that the network sees
    number = (classes >= 0).sum(1)  # (B,)
    start = detections(config, score.detach(), number)
    counts = (classes[..., None] == torch.arange(10, device=classes.device)).sum(1)
    kept = torch.arange(start.shape[1], device=score.device) < number[:, None]

    def task_loss(places: Tensor) -> Tensor:
        centre = step(config) * places[..., :2] + (window - 1) / 2
        at = torch.cat([centre, torch.full_like(centre[..., :1], window - 1)], -1)
        seen = patches.sample(batch["images"], at, window).flatten(0, 1)
        p = train.logits(model, seen, bf16)[:, :-1, 0, 0].softmax(1)
        p = p.unflatten(0, kept.shape) * kept[..., None]  # (B, K, 10)
        return ((counts - p.sum(1)) / number.clamp(min=1)[:, None]).square().sum(1)

    moved = patches.lifted_step(
        score,
        start,
        task_loss,
        c.inner_steps,
        c.inner_lr,
        normalise=True,
        weights=lambda loss: (-c.weighting * loss).exp(),
    )
    empty = score.square().flatten(1).mean(1)  # the ideal map of no places is zero
    return (moved.task + torch.where(number > 0, moved.heat, empty)).mean()


def objective(config: Settings) -> Callable[[nn.Module, dict[str, Tensor]], Tensor]:
    """Return the loss: minus the exact log-likelihood of the observation, but for patches."""
    if config.data.observer == "patches":
        return lambda model, batch: lifted(config, model, batch)

    def loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        log_p = train.logits(model, batch["images"], config.optimiser.bf16).log_softmax(1)
        return -log_likelihood(config, log_p, batch).mean()

    return loss


# Measures -----------------------------------------------------------------------------------------


def around(p: Tensor) -> Tensor:
    """Return sums over every cell and its eight neighbours: (B, C, M, N)."""
    return F.avg_pool2d(p, 3, 1, 1) * 9


def measured(config: Settings, logits: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what is right of each true digit, bool (B, K), and the bits of the label given X (B,).

    `reading`: the most probable class at the true place. `found`: one of as many detections as
    there are digits is nearer than half the least distance, so that it serves no other digit.
    `both`: and the most probable class at that detection is right.
    """
    log_p = logits.log_softmax(1)
    near = around(log_p[:, :-1].exp())  # (B, 10, M, N)
    classes, side = batch["classes"], logits.shape[3]
    present = classes >= 0

    def read(index: Tensor) -> Tensor:
        """Return the class at cells (B, K) in reading order."""
        shape = (-1, near.shape[1], -1)
        return near.flatten(2).gather(2, index[:, None].clamp(min=0).expand(shape)).argmax(1)

    score = logits[:, :-1].logsumexp(1) - logits[:, -1]
    places = detections(config, score, present.sum(1))  # x, y
    gap = (batch["cells"].flip(-1)[:, :, None] - places[:, None, :, :2]).abs().amax(-1)
    gap, index = gap.min(2)  # (B, K): the nearest detection of every digit
    hit = present & (gap < config.data.apart / 2)
    at = (places[..., 1] * side + places[..., 0]).long().gather(1, index)
    point = {
        "present": present,
        "reading": present & (read(flat(config, batch)) == classes),
        "found": hit,
        "both": hit & (read(at) == classes),
    }
    if config.data.observer != "patches":
        point["bits"] = -log_likelihood(config, log_p, batch).double() / torch.tensor(2.0).log()
    return point


@torch.no_grad()
def measures(config: Settings, model: nn.Module, split: dict[str, Tensor]) -> dict[str, float]:
    """Return the shares of true digits that are read, found, and both, in %, and the bits."""
    n, parts = len(split["images"]), []
    for rows in torch.arange(n).split(250):
        batch = {name: x[rows] for name, x in split.items()}
        logits = train.logits(model, batch["images"], config.optimiser.bf16)
        parts.append(measured(config, logits, batch))
    total = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    digits_there = total.pop("present").sum()
    point = {"bits": total.pop("bits").mean().item()} if "bits" in total else {}
    shares = {name: 100 * (x.sum() / digits_there).item() for name, x in total.items()}
    return shares | point


def run_observer(config: Settings, seed: int, run) -> dict[str, float]:
    """Train with one observer's labels, and return the measures on the test canvases at the end."""
    c, parts = config.optimiser, world(config, seed, run.device)
    model = network(config, seed).to(run.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.lr, weight_decay=c.weight_decay)
    stretch, n = c.steps // c.points, config.data.images

    def batches(point: int):
        g = train.generator(seed, Salt.WORTH_ORDER, point)
        rounds = -(-stretch * c.batch // n)
        order = torch.cat([torch.randperm(n, generator=g) for _ in range(rounds)]).to(run.device)
        for rows in order[: stretch * c.batch].split(c.batch):
            yield {name: x[rows] for name, x in parts["train"].items()}

    curve = fit(
        model,
        objective(config),
        batches,
        optimizer,
        epochs=c.points,
        schedule=train.cosine(c.points, stretch, warmup=0.05),
        evaluate=lambda model: measures(config, model, parts["test"]),
        run=run,
    )
    return {name: value for name, value in curve[-1].items() if name not in ("epoch", "loss")}
