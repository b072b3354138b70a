"""The methods of Baručić & Kybic (2022): losses, EM, LLP-GAN's two networks, measures and runs.

One run trains several methods, one after the other, on the same split of the same bags.
"""

import time
from collections.abc import Callable, Iterator
from statistics import fmean, median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ... import counts, train
from ...data.bags import Bags
from ..common import Optimisers, Salt, fit, needed, placed
from ..experiment import changed
from . import networks
from .data import Batch, Task, bag_batches, instance_batches, padded, pixels, splits
from .settings import METHODS, Choice, Method, Settings

# Networks and optimisers --------------------------------------------------------------------------


class Em(nn.Module):
    """A network with the targets (m, n) of its M-step and its last training logits (m, n).

    Both are buffers, so checkpoints have them.
    """

    targets: Tensor
    logits: Tensor

    def __init__(self, net: nn.Module, mask: Tensor) -> None:
        super().__init__()
        self.net = net
        for name in ("targets", "logits"):
            self.register_buffer(name, torch.zeros(mask.shape, device=mask.device))

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images)


class Adversaries(nn.Module):
    """LLP-GAN's two networks; `turn` names the network whose loss is computed."""

    def __init__(self, discriminator: networks.Classifier, generator: nn.Module) -> None:
        super().__init__()
        self.discriminator, self.generator = discriminator, generator
        self.turn = "discriminator"

    def forward(self, images: Tensor) -> Tensor:
        return self.discriminator(images)


def model_of(config: Settings, method: Method, task: Task, seed: int) -> nn.Module:
    """Return the network or networks of a method, initialised by the seed."""
    g, (channels, h, w) = train.generator(seed, Salt.COUNTS_WEIGHTS), task.images.shape[1:]
    classes = config.data.classes
    outputs = classes if classes > 2 else 1 + (method.loss == "adversarial")
    if config.network.network == "resnet18":
        net = networks.resnet18(g, outputs)
    else:
        widths, dropout = config.network.widths, config.network.dropout
        net = networks.discriminator(g, outputs, widths, dropout, channels)
    if method.loss == "adversarial":
        widths = config.network.generator_widths
        net = Adversaries(net, networks.images_from_noise(g, (h, w), widths, channels))
    net = placed(net, task.images.device)
    return Em(net, task.train.mask) if method.loss == "targets" else net


def adam(parameters, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Return Adam in one kernel where PyTorch has it for the device (on CPUs from 2.4 on)."""
    parameters = list(parameters)
    one_kernel = all(p.device.type in ("cpu", "cuda") for p in parameters)
    try:
        return torch.optim.Adam(parameters, lr, betas, fused=one_kernel or None)
    except RuntimeError:  # a version without the kernel
        return torch.optim.Adam(parameters, lr, betas)


class Turns(Optimisers):
    """Update the discriminator, then the generator, at each step of `train.fit`, both by Adam."""

    def __init__(self, model: Adversaries, lr: float, betas: tuple[float, float]) -> None:
        names = ("discriminator", "generator")
        super().__init__(**{n: adam(getattr(model, n).parameters(), lr, betas) for n in names})
        self.model = model

    def step(self, closure: Callable[[], Tensor]) -> Tensor:
        losses = []
        for name, part in self.parts.items():
            self.model.turn = name
            self.model.zero_grad(set_to_none=True)
            losses.append(closure())
            losses[-1].backward(inputs=part.param_groups[0]["params"])
            part.step()
        return losses[0].detach()


# Losses -------------------------------------------------------------------------------------------


def logits_of(config: Settings, net: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of images in [0, 1]: (B,) for two classes, else (B, classes)."""
    z = train.logits(net, pixels(images), config.network.bf16)
    return z[:, 1] - z[:, 0] if config.data.classes == 2 and z.ndim == 2 else z


def logits_of_bags(config: Settings, net: nn.Module, task: Task, part: Bags) -> Tensor:
    """Return the logits of all instances of some bags, without augmentation, bag after bag."""
    chunks = part.instances().split(500)
    return torch.cat([logits_of(config, net, task.images[i].float() / 255) for i in chunks])


@torch.no_grad()
def e_step(config: Settings, method: Method, model: Em, task: Task) -> Tensor:
    """Return the targets of the M-step for all training bags, (m, n): paper (10) and (11)."""
    training = model.training
    model.eval()
    z = model.logits
    if not method.reuse:
        z = padded(task.train, logits_of_bags(config, model, task, task.train))
    model.train(training)
    estimate = counts.map_configuration if method.hard else counts.posterior
    return estimate(z, task.train_counts, task.train.mask).to(z.dtype)


def labels(config, method, task, model, batch: Batch) -> Tensor:
    """Return the loss of supervised learning: cross-entropy with the instances' own classes."""
    z, target = logits_of(config, model, batch.images), task.classes[batch.instance]
    if config.data.classes > 2:
        return F.cross_entropy(z, target)
    return F.binary_cross_entropy_with_logits(z, target.to(z.dtype))


def targets(config, method, task, model: Em, batch: Batch) -> Tensor:
    """Return the loss of MLE-LLP: cross-entropy with the last E-step's posteriors, paper (11)."""
    if batch.refresh:
        model.targets.copy_(e_step(config, method, model, task))
    z = logits_of(config, model, batch.images)
    model.logits[batch.row, batch.column] = z.detach()
    return F.binary_cross_entropy_with_logits(z, model.targets[batch.row, batch.column])


def proportion(config, method, task, model, batch: Batch) -> Tensor:
    """Return the loss of DLLP: cross-entropy of the proportion with the mean probability."""
    z = batch.table(logits_of(config, model, batch.images))
    return counts.proportion_loss(z, needed(batch.counts), batch.mask)


def likelihood(config, method, task, model, batch: Batch) -> Tensor:
    """Return minus the marginal log-likelihood of the counts, paper (2), an instance."""
    z, y = logits_of(config, model, batch.images), needed(batch.counts)
    if config.data.classes > 2:
        log_p = batch.table(z.log_softmax(1))  # (k, n, classes)
        value = counts.log_likelihood_multiclass(log_p, y, batch.mask)
    else:
        value = counts.log_likelihood(batch.table(z), y, batch.mask)
    return -value.sum() / len(batch.images)


def adversarial(config, method, task, model: Adversaries, batch: Batch) -> Tensor:
    """Return LLP-GAN's loss of the network whose turn it is.

    The discriminator has two logits; the logit of a fake is 0. The generator matches mean features.
    """
    real, bf16 = pixels(batch.images), config.network.bf16
    number = max(2, len(real))  # one image of 8 x 8 is too little for batch normalisation
    noise = 2 * torch.rand(number, 100, device=real.device) - 1
    net, generates = model.discriminator, model.turn == "generator"
    with (
        torch.set_grad_enabled(generates),
        train.in_bfloat16(real.device.type, bf16),
    ):
        fake = model.generator(noise).float()
    if generates:
        with torch.no_grad():
            wanted = train.logits(net.features, real, bf16).mean(0)
        return (train.logits(net.features, fake, bf16).mean(0) - wanted).square().mean()
    both = train.logits(net, torch.cat([real, fake]), bf16)
    z, of_fake = both.split([len(real), number])  # (b, 2)
    real_or_fake = F.softplus(-z.logsumexp(1)).mean() + F.softplus(of_fake.logsumexp(1)).mean()
    table = batch.table(z[:, 1] - z[:, 0])
    share = counts.proportion_loss(table, needed(batch.counts), batch.mask)
    return real_or_fake + share


LOSSES = {
    "labels": labels,
    "targets": targets,
    "proportion": proportion,
    "likelihood": likelihood,
    "adversarial": adversarial,
}


# Measures -----------------------------------------------------------------------------------------


def measures(config: Settings, model: nn.Module, task: Task) -> dict[str, float]:
    """Return test accuracy in %, the same with the test bags' counts known, and error of counts.

    The error of counts needs no instance labels: the distance between the numbers of predicted
    positives (or members of each class) and the counts, mean over the bags.
    """
    z, truth = logits_of_bags(config, model, task, task.test), task.classes[task.test.instances()]
    if config.data.classes > 2:
        guess = z.argmax(1)
        tables = [padded(task.test, (guess == c).long()) for c in range(config.data.classes)]
        off = (torch.stack([t.sum(1) for t in tables], 1) - task.test_counts).abs().sum(1) / 2
        more = {}
    else:
        guess = (z >= 0).long()
        off = (padded(task.test, guess).sum(1) - task.test_counts).abs()
        best = counts.map_configuration(padded(task.test, z), task.test_counts, task.test.mask)
        with_counts = (best[task.test.mask].long() == truth).double().mean().item()
        more = {"accuracy_with_counts": 100 * with_counts}
    accuracy = 100 * (guess == truth).double().mean().item()
    return {"accuracy": accuracy, "count_error": off.double().mean().item(), **more}


def arrival(curve: list[dict[str, float]], final: float) -> int:
    """Eq. (7.1): the first epoch whose accuracy is 99 % of the final one or more.

    Source: "reaching the final accuracy" in section 3.2; the paper does not define it.
    """
    return next(int(p["epoch"]) for p in curve if p["accuracy"] >= 0.99 * final)


def summary(curve: list[dict[str, float]]) -> dict[str, float]:
    """Return the final values of a curve, the epoch at which it reached them, and its speed.

    Final: mean over the last tenth of the epochs, at least three. `epochs`: see `arrival`;
    `seconds`: median over the epochs after the first one.
    """
    tail = curve[-max(3, len(curve) // 10) :]
    keys = [k for k in ("accuracy", "accuracy_with_counts", "count_error") if k in tail[0]]
    final = {key: fmean(point[key] for point in tail) for key in keys}
    arrived = arrival(curve, final["accuracy"])
    best = max(point["accuracy"] for point in curve)
    seconds = median(point["seconds"] for point in curve[1:] or curve)
    return {**final, "best_accuracy": best, "epochs": arrived, "seconds": seconds}


# Runs ---------------------------------------------------------------------------------------------


class Training:
    """One of several trainings of a run, for `train.fit` in the place of the run.

    Its points are added to the run's curve under its name. Its checkpoint is the run's, and has the
    results of the preceding trainings too. Everything else is the run's.
    """

    def __init__(self, run, name: str, done: dict, state: dict | None) -> None:
        self.run, self.name, self.done, self.state = run, name, done, state
        self.curve: list[dict[str, float]] = list(state["curve"]) if state else []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.run, name)

    def resume(self) -> dict | None:
        return self.state and self.state["fit"]

    def checkpoint(self, state: dict) -> None:
        part = {"name": self.name, "fit": state, "curve": self.curve}
        self.run.checkpoint({"done": self.done, "part": part})

    def log(self, epoch: int, **point: float) -> None:
        self.curve.append({"epoch": epoch, **point})
        named = {f"{self.name}_{key}": value for key, value in point.items()}
        if epoch > len(self.run.curve):
            self.run.log(epoch=epoch, **named)
        else:
            self.run.curve[epoch - 1].update(named)


def in_turn(run, jobs: dict[str, Callable[[Training], dict[str, float]]]) -> dict[str, dict]:
    """Run several trainings one after the other, resuming after interruptions; return all results.

    A job takes its training and returns its result.
    """
    saved = run.resume() or {"done": {}, "part": None}
    done, part = saved["done"], saved["part"]
    for name, job in jobs.items():
        if name not in done:
            own = part if part and part["name"] == name else None
            done[name] = job(Training(run, name, dict(done), own))
            run.checkpoint({"done": done, "part": None})
    return done


def tuned(config: Settings, name: str) -> Settings:
    """Return the settings of one method: with its own learning rate and batch if it has them."""
    rates = config.optimiser.rates
    own = next(({"lr": lr, "batch": n} for m, lr, n in rates if m == name), {})
    return changed(config, **own)


def learn(config: Settings, name: str, task: Task, part: Training) -> list[dict[str, float]]:
    """Train one method; return its curve, with the seconds that each epoch's training took."""
    config, method = tuned(config, name), METHODS[name]
    seed, device, lr = part.run.seed, task.images.device, config.optimiser.lr
    if part.state is None:
        torch.manual_seed(train.generator(seed, Salt.COUNTS_DROPOUT).initial_seed())
    model = model_of(config, method, task, seed)
    if isinstance(model, Adversaries):
        optimizer = Turns(model, lr, (0.5, 0.999))
    else:
        optimizer = adam(model.parameters(), lr)
    walk = instance_batches if method.by_instance else bag_batches
    start = 0.0

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def batches(epoch: int) -> Iterator[Batch]:
        nonlocal start
        start = now()
        yield from walk(config, method, task, seed, epoch)

    def evaluate(model: nn.Module) -> dict[str, float]:
        seconds = now() - start
        return {**measures(config, model, task), "seconds": seconds}

    return fit(
        model,
        lambda model, batch: LOSSES[method.loss](config, method, task, model, batch),
        batches,
        optimizer,
        epochs=config.optimiser.epochs,
        evaluate=evaluate,
        run=part,
    )


def run_methods(config: Settings, seed: int, run) -> dict[str, float]:
    """Train all methods of a config on the bags of a seed; return metrics `METHOD_metric`.

    `epochs_ratio` compares MLE-LLP with DLLP if the config has both.
    """
    task = splits(config.data, seed, run.device)
    methods = config.method.methods
    done = in_turn(
        run, {m: lambda part, m=m: summary(learn(config, m, task, part)) for m in methods}
    )
    result = {f"{name}_{key}": value for name, r in done.items() for key, value in r.items()}
    if {"mle_llp", "dllp"} <= set(done):
        result["epochs_ratio"] = done["mle_llp"]["epochs"] / done["dllp"]["epochs"]
    return result


# The grid search ----------------------------------------------------------------------------------


def grid(config: Choice) -> dict[str, Choice]:
    """Return every point of the grid, `METHOD_lr_batch`, as settings of one method.

    Methods that learn from bags have no batch to choose.
    """
    points, opt = {}, config.optimiser
    for method in config.method.methods:
        for lr in opt.grid_lr:
            for batch in opt.grid_batch if METHODS[method].by_instance else (opt.batch,):
                point = changed(config, methods=(method,), lr=lr, rates=(), batch=batch)
                points[f"{method}_{lr:g}_{batch}"] = point
    return points


def run_choice(config: Choice, seed: int, run) -> dict[str, float]:
    """Return the error of counts on held-out training bags at every point of the grid."""
    task = splits(config.data, seed, run.device, validate=True)

    def job(point: Choice) -> Callable[[Training], dict[str, float]]:
        def work(part):
            curve = learn(point, point.method.methods[0], task, part)
            return {"count_error": summary(curve)["count_error"]}

        return work

    done = in_turn(run, {name: job(point) for name, point in grid(config).items()})
    return {name: result["count_error"] for name, result in done.items()}


def choose(config: Choice, records: list[dict]) -> dict[str, tuple[float, int]]:
    """Return learning rate and batch of every method with the least error of counts over all seeds.

    Raises ValueError without records.
    """
    if not records:
        raise ValueError("records: none to choose from")
    best: dict[str, tuple[float, tuple[float, int]]] = {}
    for name, point in grid(config).items():
        values = [r["metrics"][name] for r in records]
        error = float("inf") if None in values else fmean(values)
        (method,) = point.method.methods
        if method not in best or error < best[method][0]:
            best[method] = (error, (point.optimiser.lr, point.optimiser.batch))
    return {method: pair for method, (_, pair) in best.items()}
