"""How the experiments of Baručić & Kybic (2022) run: settings, bags, methods and measures.

One run trains several methods, one after the other, on the same split of the same bags.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import fmean, median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import counts, train
from ...data import bags, cifar, digits, groups
from ..experiment import setting
from ..runner import Interrupted
from . import networks

CODE = "authors' code"
GAN = "Liu et al. (2019), program"
UNSTATED = "not stated"
GRID = "section 3: best by grid search, of which neither grid nor choice is printed"


# The settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """Methods compared on one split of bags; 0 bags means all, 80 % of which train."""

    dataset: str = setting("cifar10-bird-cat", "CIFAR-10, bird and cat", "section 3.1")
    methods: tuple[str, ...] = setting(
        ("supervised", "dllp", "llp_gan", "mle_llp"), "these four", "section 3"
    )
    classes: int = setting(2, 2, "section 2.1")
    network: str = setting("discriminator", "LLP-GAN's discriminator", "section 3.1")
    widths: tuple[int, int, int] = setting((64, 128, 256), (64, 128, 256), GAN)
    generator_widths: tuple[int, int, int] = setting((512, 256, 128), (512, 256, 128), GAN)
    dropout: tuple[float, float, float] = setting((0.2, 0.5, 0.5), (0.2, 0.5, 0.5), GAN)
    sizes: str = setting("uniform", "uniform", "section 3.1")
    smallest: int = setting(2, 2, "section 3.1: least bag size")
    largest: int = setting(12, 12, "section 3.1: greatest bag size")
    negatives: int = setting(0, 0, "section 3.1: all of the first class")
    positives: int = setting(0, 0, "section 3.1: all of the second class")
    train_bags: int = setting(0, "80 % of the bags", "section 3")
    test_bags: int = setting(0, "20 % of the bags", "section 3")
    epochs: int = setting(100, UNSTATED, "figure 1 has no printed axis")
    lr: float = setting(3e-4, UNSTATED, GRID)
    batch: int = setting(16, UNSTATED, f"{GRID}; 16 in the example of the {CODE}; instances")
    rates: tuple[tuple[str, float, int], ...] = setting(
        (), UNSTATED, f"{GRID}; method, lr and batch, instead of the two above"
    )
    bags_per_step: int = setting(4, UNSTATED, "DLLP and LLP-GAN take one, `several` forms these")
    flip: bool = setting(True, "flipping", "section 3; strength not stated")
    blur: float = setting(0.7, "blurring", "section 3; strength (sigma, pixels) not stated")
    jitter: float = setting(0.2, "color adjustments", "section 3; strength not stated")
    bf16: bool = setting(True, UNSTATED, "precision of convolutions")


@dataclass(frozen=True)
class Choice(Settings):
    """The grid of hyper-parameters; judged on held-out training bags by their counts alone."""

    methods: tuple[str, ...] = setting(
        ("supervised", "dllp", "dllp_several", "llp_gan", "mle_llp", "direct"),
        "the four of section 3",
        f"{GRID}; two more methods",
    )
    grid_lr: tuple[float, ...] = setting((1e-4, 3e-4, 1e-3), UNSTATED, GRID)
    grid_batch: tuple[int, ...] = setting((16, 64), UNSTATED, GRID)
    epochs: int = setting(30, UNSTATED, GRID)


@dataclass(frozen=True)
class Method:
    """What a method minimises, and how it walks through the data.

    loss: a key of LOSSES; period: epochs from one E-step to the next; hard: E-step by the most
    likely configuration; reuse: E-step by the logits of the training steps before it, without a
    pass of its own; several: `bags_per_step` bags a step instead of one.
    """

    loss: str
    period: float = 1.0
    hard: bool = False
    reuse: bool = False
    several: bool = False


METHODS = {
    "supervised": Method("labels"),
    "dllp": Method("proportion"),
    "dllp_several": Method("proportion", several=True),
    "llp_gan": Method("adversarial"),
    "llp_gan_several": Method("adversarial", several=True),
    "mle_llp": Method("targets"),
    "mle_llp_quarter": Method("targets", period=0.25),
    "mle_llp_two": Method("targets", period=2),
    "mle_llp_five": Method("targets", period=5),
    "mle_llp_hard": Method("targets", hard=True),
    "mle_llp_reuse": Method("targets", reuse=True),
    "direct": Method("likelihood", several=True),  # an E-step every step
}


# Bags -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """Images uint8 (N, C, H, W), classes (N,), and bags with their counts, on one device."""

    images: Tensor
    classes: Tensor
    train: bags.Bags
    test: bags.Bags
    train_counts: Tensor
    test_counts: Tensor


def load(config: Settings) -> tuple[Tensor, Tensor, bags.Bags]:
    """Images, classes and all bags of a config; the bags are the same for every seed."""
    if config.dataset == "photos":
        return groups.load()
    if config.dataset == "digits":
        images, classes = digits.load()
        images, classes = (255 * images).byte(), classes if config.classes > 2 else classes % 2
    elif config.dataset == "cifar10-bird-cat":
        images, classes = cifar.bird_cat()
        classes = (classes == cifar.CLASSES.index("cat")).long()
    else:
        images, classes = cifar.load(copy=config.dataset.partition("-")[2] or "official")
    wanted = ((0, config.negatives), (1, config.positives))
    if any(n for _, n in wanted):
        kept = torch.cat([(classes == c).nonzero()[:, 0][: n or None] for c, n in wanted])
        images, classes = images[kept], classes[kept]
    if config.sizes == "photos":
        faces = groups.PAPER["male"] + groups.PAPER["female"]
        shares = bags.geometric(faces / groups.PAPER["bags"], groups.LARGEST)
    else:
        shares = bags.uniform(config.smallest, config.largest)
    return images, classes, bags.draw(len(images), shares, train.generator(0, 21))


def splits(config: Settings, seed: int, device: str, validate: bool = False) -> Task:
    """The bags of a seed, the same for all methods; `validate` tests on a fifth of the training."""
    images, classes, every = load(config)
    g = train.generator(seed, 22)
    if config.train_bags:
        rows, test = bags.nested(len(every), g, config.train_bags, config.test_bags)
    else:
        rows, test = bags.split(len(every), g)
    if validate:
        kept, held_out = bags.split(len(rows), g)
        rows, test = rows[kept], rows[held_out]
    parts = [every[r].to(device) for r in (rows, test)]
    images, classes = images.to(device), classes.to(device)
    told = [bags.counts(p, classes, config.classes if config.classes > 2 else None) for p in parts]
    return Task(images, classes, *parts, *told)


def augment(images: Tensor, config: Settings, g: torch.Generator) -> Tensor:
    """Images (B, C, H, W) in [0, 1], each flipped, jittered in colour and blurred on its own."""

    def factors(low: float, high: float) -> Tensor:
        u = torch.rand(len(images), 1, 1, 1, generator=g, device=images.device)
        return low + (high - low) * u

    images = torch.where(factors(0, 1) < 0.5 * config.flip, images.flip(-1), images)
    brightness, contrast, saturation = (
        factors(1 - config.jitter, 1 + config.jitter) for _ in range(3)
    )
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + contrast * (images - mean)
    grey = images.mean(1, keepdim=True)
    images = (grey + saturation * (images - grey)).clamp(0, 1)
    return blurred(images, factors(0, config.blur)) if config.blur else images


def blurred(images: Tensor, sigma: Tensor, radius: int = 1) -> Tensor:
    """Gaussian blur of its own strength for each image; edges repeat.

    images (B, C, H, W), sigma (B, 1, 1, 1) in pixels; taps -radius..radius in both directions.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    spread = sigma.flatten().clamp_min(1e-3)[:, None]  # below it the neighbours' weight is 0
    taps = (-0.5 * (offsets / spread) ** 2).softmax(1)  # (B, 2 radius + 1)
    taps = taps.T[..., None, None, None]
    for axis, pad in ((2, [0, 0, radius, radius]), (3, [radius, radius, 0, 0])):
        wide, n = F.pad(images, pad, mode="replicate"), images.shape[axis]
        images = sum(w * wide.narrow(axis, k, n) for k, w in enumerate(taps))
    return images


def pixels(images: Tensor) -> Tensor:
    """Images of [0, 1] as the networks see them, in [-1, 1]."""
    return 2 * images - 1


# What the methods minimise ------------------------------------------------------------------------


class Em(nn.Module):
    """A network, the targets (m, n) of its M-step, and the last logits (m, n) that it gave in it.

    Both travel with its checkpoints.
    """

    def __init__(self, net: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.net = net
        for name in ("targets", "logits"):
            self.register_buffer(name, torch.zeros(mask.shape, device=mask.device))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class Adversaries(nn.Module):
    """LLP-GAN's two networks; `turn` says whose loss is asked for."""

    def __init__(self, discriminator: nn.Module, generator: nn.Module) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.turn = "discriminator"

    def forward(self, images: Tensor) -> Tensor:
        return self.discriminator(images)


def adam(parameters, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Return Adam in one kernel where PyTorch has it for the device (on CPUs from 2.4 on)."""
    parameters = list(parameters)
    one_kernel = all(p.device.type in ("cpu", "cuda") for p in parameters)
    try:
        return torch.optim.Adam(parameters, lr, betas, fused=one_kernel or None)
    except RuntimeError:  # a version without the kernel
        return torch.optim.Adam(parameters, lr, betas)


class Turns:
    """At each step of `train.fit` an Adam step of the discriminator, then one of the generator."""

    second_order = True  # it asks for the loss itself, once a turn

    def __init__(self, model: Adversaries, lr: float, betas: tuple[float, float]) -> None:
        self.model = model
        self.parts = {
            name: adam(getattr(model, name).parameters(), lr, betas)
            for name in ("discriminator", "generator")
        }

    @property
    def param_groups(self) -> list[dict]:
        return [group for part in self.parts.values() for group in part.param_groups]

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(state[name])

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        losses = []
        for name, part in self.parts.items():
            self.model.turn = name
            self.model.zero_grad(set_to_none=True)
            losses.append(closure())
            losses[-1].backward(inputs=part.param_groups[0]["params"])
            part.step()
        return losses[0].detach()


@dataclass(frozen=True)
class Batch:
    """Augmented images (b, C, H, W) and where they stand: row, column (b,) of a table of bags.

    For methods that learn from instances the table is that of all training bags. For methods that
    learn from bags it holds the bags of this batch: mask (k, n), counts (k,) or (k, classes).
    """

    images: Tensor
    instance: Tensor
    row: Tensor
    column: Tensor
    mask: Tensor | None = None
    counts: Tensor | None = None
    refresh: bool = False  # whether an E-step comes first

    def table(self, z: Tensor) -> Tensor:
        """Values of instances, (b,) or (b, classes), as a table (k, n) or (k, n, classes)."""
        empty = z.new_zeros(*self.mask.shape, *z.shape[1:])
        return empty.index_put((self.row, self.column), z)


def answer(config: Settings, net: nn.Module, images: Tensor) -> Tensor:
    """Logits of images in [0, 1]: (B,) for two classes, else (B, classes)."""
    z = train.logits(net, pixels(images), config.bf16)
    return z[:, 1] - z[:, 0] if config.classes == 2 and z.ndim == 2 else z


def answers(config: Settings, net: nn.Module, task: Task, part: bags.Bags) -> Tensor:
    """The logits of all instances of some bags, without augmentation, bag after bag."""
    chunks = part.instances().split(500)
    return torch.cat([answer(config, net, task.images[i].float() / 255) for i in chunks])


def padded(part: bags.Bags, z: Tensor) -> Tensor:
    """Logits of all instances of some bags, (N,), as a table (m, n)."""
    table = z.new_zeros(part.mask.shape)
    table[part.mask] = z
    return table


@torch.no_grad()
def e_step(config: Settings, method: Method, model: Em, task: Task) -> Tensor:
    """The targets of the M-step for all training bags, (m, n): paper (10) and (11)."""
    training = model.training
    model.eval()
    z = model.logits
    if not method.reuse:
        z = padded(task.train, answers(config, model, task, task.train))
    model.train(training)
    estimate = counts.map_configuration if method.hard else counts.posterior
    return estimate(z, task.train_counts, task.train.mask).to(z.dtype)


def labels(config, method, task, model, batch: Batch) -> Tensor:
    """Supervised: cross-entropy with the instances' own classes."""
    z, target = answer(config, model, batch.images), task.classes[batch.instance]
    if config.classes > 2:
        return F.cross_entropy(z, target)
    return F.binary_cross_entropy_with_logits(z, target.to(z.dtype))


def targets(config, method, task, model: Em, batch: Batch) -> Tensor:
    """MLE-LLP: cross-entropy with the posteriors of the last E-step, paper (11)."""
    if batch.refresh:
        model.targets.copy_(e_step(config, method, model, task))
    z = answer(config, model, batch.images)
    model.logits[batch.row, batch.column] = z.detach()
    return F.binary_cross_entropy_with_logits(z, model.targets[batch.row, batch.column])


def proportion(config, method, task, model, batch: Batch) -> Tensor:
    """DLLP: cross-entropy of the bag's proportion with the mean of its probabilities."""
    z = batch.table(answer(config, model, batch.images))
    return counts.proportion_loss(z, batch.counts, batch.mask)


def likelihood(config, method, task, model, batch: Batch) -> Tensor:
    """The marginal likelihood of the counts itself, paper (2), over the number of instances."""
    z = answer(config, model, batch.images)
    if config.classes > 2:
        log_p = batch.table(z.log_softmax(1))  # (k, n, classes)
        value = counts.log_likelihood_multiclass(log_p, batch.counts, batch.mask)
    else:
        value = counts.log_likelihood(batch.table(z), batch.counts, batch.mask)
    return -value.sum() / len(batch.images)


def adversarial(config, method, task, model: Adversaries, batch: Batch) -> Tensor:
    """LLP-GAN: two logits beside a fake's, which is 0; the mean features of fakes match."""
    real = pixels(batch.images)
    number = max(2, len(real))  # one image of 8 x 8 is too little for batch normalisation
    noise = 2 * torch.rand(number, 100, device=real.device) - 1
    net, generates = model.discriminator, model.turn == "generator"
    with (
        torch.set_grad_enabled(generates),
        torch.autocast(real.device.type, torch.bfloat16, enabled=config.bf16),
    ):
        fake = model.generator(noise).float()
    if generates:
        with torch.no_grad():
            wanted = train.logits(net.features, real, config.bf16).mean(0)
        return (train.logits(net.features, fake, config.bf16).mean(0) - wanted).square().mean()
    both = train.logits(net, torch.cat([real, fake]), config.bf16)
    z, of_fake = both.split([len(real), number])  # (b, 2)
    told_apart = F.softplus(-z.logsumexp(1)).mean() + F.softplus(of_fake.logsumexp(1)).mean()
    share = counts.proportion_loss(batch.table(z[:, 1] - z[:, 0]), batch.counts, batch.mask)
    return told_apart + share


LOSSES = {
    "labels": labels,
    "targets": targets,
    "proportion": proportion,
    "likelihood": likelihood,
    "adversarial": adversarial,
}


def model_of(config: Settings, method: Method, task: Task, seed: int) -> nn.Module:
    """The network or networks of a method, initialised by the seed."""
    g, (channels, *size) = train.generator(seed, 23), task.images.shape[1:]
    outputs = config.classes if config.classes > 2 else 1 + (method.loss == "adversarial")
    if config.network == "resnet18":
        net = networks.resnet18(g, outputs)
    else:
        net = networks.discriminator(g, outputs, config.widths, config.dropout, channels)
    if method.loss == "adversarial":
        widths = config.generator_widths
        net = Adversaries(net, networks.images_from_noise(g, tuple(size), widths, channels))
    net = net.to(task.images.device, memory_format=torch.channels_last)
    return Em(net, task.train.mask) if method.loss == "targets" else net


# The walk through the data ------------------------------------------------------------------------


def instance_batches(config, method: Method, task: Task, seed: int, epoch: int) -> Iterator[Batch]:
    """One pass over the instances of the training bags, in random order."""
    device = task.images.device
    row, column = task.train.mask.nonzero(as_tuple=True)
    order = torch.randperm(len(row), generator=train.generator(seed, 24, epoch)).to(device)
    g = train.generator(seed, 25, epoch, device=device)
    chunks = order.split(config.batch)
    every = max(1, round(method.period * len(chunks)))  # steps from one E-step to the next
    for step, chosen in enumerate(chunks):
        r, c = row[chosen], column[chosen]
        instance = task.train.index[r, c]
        images = augment(task.images[instance].float() / 255, config, g)
        refresh = method.loss == "targets" and (epoch * len(chunks) + step) % every == 0
        yield Batch(images, instance, r, c, refresh=refresh)


def bag_batches(config, method: Method, task: Task, seed: int, epoch: int) -> Iterator[Batch]:
    """One pass over the training bags, in random order, whole bags in every batch."""
    device, k = task.images.device, config.bags_per_step if method.several else 1
    order = torch.randperm(len(task.train), generator=train.generator(seed, 24, epoch))
    g = train.generator(seed, 25, epoch, device=device)
    lengths = [int(s.sum()) for s in task.train.sizes.cpu()[order].split(k)]
    order = order.to(device)
    part, told = task.train[order], task.train_counts[order]
    row, column = part.mask.nonzero(as_tuple=True)
    tables = zip(part.mask.split(k), told.split(k), strict=True)
    flat = (t.split(lengths) for t in (part.instances(), row % k, column))
    for (mask, known), instance, r, c in zip(tables, *flat, strict=True):
        images = augment(task.images[instance].float() / 255, config, g)
        yield Batch(images, instance, r, c, mask, known)


def measures(config: Settings, model: nn.Module, task: Task) -> dict[str, float]:
    """Test accuracies in %, the second one with the test bags' counts known; the error of counts.

    The last needs no instance labels: how far the numbers of predicted positives (or members of
    each class) are from the counts, a bag.
    """
    z, truth = answers(config, model, task, task.test), task.classes[task.test.instances()]
    if config.classes > 2:
        guess = z.argmax(1)
        tables = [padded(task.test, (guess == c).long()) for c in range(config.classes)]
        off = (torch.stack([t.sum(1) for t in tables], 1) - task.test_counts).abs().sum(1) / 2
        more = {}
    else:
        guess = (z >= 0).long()
        off = (padded(task.test, guess).sum(1) - task.test_counts).abs()
        best = counts.map_configuration(padded(task.test, z), task.test_counts, task.test.mask)
        known = (best[task.test.mask].long() == truth).double().mean().item()
        more = {"accuracy_with_counts": 100 * known}
    accuracy = 100 * (guess == truth).double().mean().item()
    return {"accuracy": accuracy, "count_error": off.double().mean().item(), **more}


# Runs ---------------------------------------------------------------------------------------------


class Part:
    """One training within a run: what `train.fit` is given as its run.

    Its points go into the run's curve under its name; the run's checkpoint holds the results of
    the trainings before it beside its own state.
    """

    def __init__(self, run, name: str, done: dict, state: dict | None) -> None:
        self.run, self.name, self.done, self.state = run, name, done, state
        self.curve: list[dict[str, float]] = list(state["curve"]) if state else []

    def resume(self) -> dict | None:
        return self.state and self.state["fit"]

    def checkpoint(self, state: dict) -> None:
        held = {"name": self.name, "fit": state, "curve": self.curve}
        self.run.checkpoint({"done": self.done, "part": held})

    def log(self, epoch: int, **point: float) -> None:
        self.curve.append({"epoch": epoch, **point})
        named = {f"{self.name}_{key}": value for key, value in point.items()}
        if epoch > len(self.run.curve):
            self.run.log(epoch=epoch, **named)
        else:
            self.run.curve[epoch - 1].update(named)

    def tell(self, *at) -> None:
        self.run.tell(*at)

    def due(self) -> bool:
        return self.run.due()

    def out_of_time(self) -> bool:
        return self.run.out_of_time()


def tuned(config: Settings, name: str) -> Settings:
    """The settings of one method: with its own learning rate and batch if `rates` names it."""
    own = next(({"lr": lr, "batch": n} for m, lr, n in config.rates if m == name), {})
    return replace(config, **own)


def learn(config: Settings, name: str, task: Task, part: Part) -> list[dict[str, float]]:
    """Train one method; its curve, with the seconds that each epoch's training took."""
    config, method = tuned(config, name), METHODS[name]
    seed, device = part.run.seed, task.images.device
    if part.state is None:
        torch.manual_seed(train.generator(seed, 26).initial_seed())  # dropout and noise
    model = model_of(config, method, task, seed)
    if method.loss == "adversarial":
        optimizer = Turns(model, config.lr, (0.5, 0.999))
    else:
        optimizer = adam(model.parameters(), config.lr)
    walk = instance_batches if method.loss in ("labels", "targets") else bag_batches
    clock = [0.0]

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def batches(epoch: int) -> Iterator[Batch]:
        clock[0] = now()
        yield from walk(config, method, task, seed, epoch)

    def evaluate(model: nn.Module) -> dict[str, float]:
        seconds = now() - clock[0]
        return {**measures(config, model, task), "seconds": seconds}

    curve = train.fit(
        model,
        lambda model, batch: LOSSES[method.loss](config, method, task, model, batch),
        batches,
        optimizer,
        epochs=config.epochs,
        evaluate=evaluate,
        run=part,
    )
    if len(curve) < config.epochs:
        raise Interrupted
    return curve


def arrival(curve: list[dict[str, float]], final: float) -> int:
    """Eq. (7.1): the first epoch whose accuracy is 99 % of the final one or more.

    Source: "reaching the final accuracy" in section 3.2; the paper does not say how it is read.
    """
    return next(point["epoch"] for point in curve if point["accuracy"] >= 0.99 * final)


def summary(curve: list[dict[str, float]]) -> dict[str, float]:
    """What a curve comes to: the means of its end, when it got there, and its speed.

    The end: the last tenth of the epochs, but no fewer than three. `epochs`: see `arrival`;
    `seconds`: the median over the epochs after the first.
    """
    tail = curve[-max(3, len(curve) // 10) :]
    keys = [k for k in ("accuracy", "accuracy_with_counts", "count_error") if k in tail[0]]
    final = {key: fmean(point[key] for point in tail) for key in keys}
    arrived = arrival(curve, final["accuracy"])
    best = max(point["accuracy"] for point in curve)
    seconds = median(point["seconds"] for point in curve[1:] or curve)
    return {**final, "best_accuracy": best, "epochs": arrived, "seconds": seconds}


def in_turn(run, jobs: dict[str, Callable[[Part], dict[str, float]]]) -> dict[str, dict]:
    """The results of several trainings, done one after the other and resumed where they stopped."""
    held = run.resume() or {"done": {}, "part": None}
    done, part = held["done"], held["part"]
    for name, job in jobs.items():
        if name not in done:
            own = part if part and part["name"] == name else None
            done[name] = job(Part(run, name, dict(done), own))
            run.checkpoint({"done": done, "part": None})
    return done


def run_methods(config: Settings, seed: int, run) -> dict[str, float]:
    """All methods of a config on the bags of a seed: metrics named `METHOD_metric`.

    `epochs_ratio` compares MLE-LLP with DLLP where both are there.
    """
    task = splits(config, seed, run.device)
    done = in_turn(
        run,
        {m: lambda part, m=m: summary(learn(config, m, task, part)) for m in config.methods},
    )
    result = {f"{name}_{key}": value for name, r in done.items() for key, value in r.items()}
    if {"mle_llp", "dllp"} <= set(done):
        result["epochs_ratio"] = done["mle_llp"]["epochs"] / done["dllp"]["epochs"]
    return result


def grid(config: Choice) -> dict[str, Settings]:
    """Every point of the grid, `METHOD_lr_batch`, as settings of one method.

    Methods that learn from one bag a step have no batch to choose.
    """
    points = {}
    for method in config.methods:
        by_instance = METHODS[method].loss in ("labels", "targets")
        for lr in config.grid_lr:
            for batch in config.grid_batch if by_instance else (config.batch,):
                point = replace(config, methods=(method,), lr=lr, rates=(), batch=batch)
                points[f"{method}_{lr:g}_{batch}"] = point
    return points


def run_choice(config: Choice, seed: int, run) -> dict[str, float]:
    """The error of counts on held-out training bags at every point of the grid."""
    task = splits(config, seed, run.device, validate=True)

    def job(name: str, point: Settings) -> Callable[[Part], dict[str, float]]:
        def work(part):
            curve = learn(point, point.methods[0], task, part)
            return {"count_error": summary(curve)["count_error"]}

        return work

    done = in_turn(run, {name: job(name, point) for name, point in grid(config).items()})
    return {name: result["count_error"] for name, result in done.items()}


def choose(config: Choice, records: list[dict]) -> dict[str, tuple[float, int]]:
    """Learning rate and batch of every method with the least error of counts, over all seeds.

    Raises ValueError without records.
    """
    if not records:
        raise ValueError("records: none to choose from")
    best: dict[str, tuple[float, tuple[float, int]]] = {}
    for name, point in grid(config).items():
        values = [r["metrics"][name] for r in records]
        error = float("inf") if None in values else fmean(values)
        (method,) = point.methods
        if method not in best or error < best[method][0]:
            best[method] = (error, (point.lr, point.batch))
    return {method: pair for method, (_, pair) in best.items()}
