"""How much faster training has become: python tests/benchmarks/training_speed.py CHECKOUT

CHECKOUT is a work tree of an earlier commit, for example of 87d3db7:
git worktree add /somewhere 87d3db7. Both trees train the same networks on the same made-up images,
one core each, under the settings of protocol `paper`, and take turns step by step, so that a busy
machine slows them alike. Printed are the seconds of each, the median of their ratios, and what
share of the core's peak the new step reaches: the peak is that of a matrix product of bfloat16, the
work is that of convolutions and products as PyTorch counts it. What is missing to one is
normalisation, activations, pooling, dropout, the optimiser, and convolutions of few channels.

--same STEPS trains both trees instead, under the settings of protocol `short`, for three seeds and
so many steps, and prints the mean loss of the last quarter of the steps with its standard deviation
over the seeds: what is faster has to learn the same.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

SEEDS = (0, 1, 2)
BEFORE = {"presence": "mcmil", "counts": "mlellp", "patches": "mist", "regions": "minmax"}


def modules_of(room):
    """The experiments and the training of a room, under the name that the checkout has for it."""
    reproduce = importlib.util.find_spec("wsl_tutorial.reproduce")
    folder = Path(reproduce.origin).parent
    name = room if (folder / room).exists() else BEFORE[room]
    parts = ("experiments", "training")
    return [importlib.import_module(f"wsl_tutorial.reproduce.{name}.{part}") for part in parts]


def mnist(protocol, seed):
    """A step of MNIST with PSGD, 64 images."""
    from wsl_tutorial.data import digits

    home = "wsl_tutorial.reproduce.presence"
    try:
        experiments, data, methods = (
            importlib.import_module(f"{home}.{part}") for part in ("experiments", "data", "methods")
        )
    except ModuleNotFoundError:  # an earlier checkout
        experiments, methods = modules_of("presence")
        data = methods

    config = experiments.MNIST.settings(protocol)
    size = getattr(config, "optimiser", config).batch  # an earlier checkout has no groups
    loss = getattr(config, "method", config).loss
    model = methods.network(config, seed).to(memory_format=torch.channels_last)
    optimizer, _ = methods.optimiser(config, model, 860, seed, "cpu")
    images, classes = digits.load("train")
    images = torch.nn.functional.interpolate(images.reshape(-1, 1, 8, 8).float(), (28, 28))
    labels = data.presence_of(classes)

    def step(k):
        rows = (torch.arange(size) + k * size) % len(images)
        batch = images[rows], labels[rows]
        return optimizer.step(lambda: methods.LOSSES[loss](config, model, batch)).item()

    return step


def mist(protocol, seed):
    """Return a step of MIST on MNIST hard, 32 canvases."""
    home = "wsl_tutorial.reproduce.patches"
    try:
        experiments, data, methods = (
            importlib.import_module(f"{home}.{part}") for part in ("experiments", "data", "methods")
        )
        from wsl_tutorial.reproduce.experiment import changed
    except ModuleNotFoundError:  # an earlier checkout, with flat settings
        experiments, methods = modules_of("patches")
        data, changed = methods, replace

    few = {"train_canvases": 256, "validation_canvases": 1, "test_canvases": 1, "tiles": "digits"}
    config = changed(experiments.HARD.settings(protocol), **few, shrink=1)
    size = getattr(config, "optimiser", config).batch
    world = data.worlds(config, seed, "cpu")["train"]
    model = methods.model_of(config, seed, "cpu").train()
    optimizer = torch.optim.Adam(methods.parts_of(config, model))

    def step(k):
        rows = (torch.arange(size) + k * size) % len(world)
        return descend(optimizer, methods.METHODS[config.method](config, model, world[rows]))

    return step


def glas(protocol, seed):
    """A step of CAM-Avg on GlaS, 32 crops of 416, with the making of its batch."""
    home = "wsl_tutorial.reproduce.regions"
    try:
        experiments, data, methods = (
            importlib.import_module(f"{home}.{part}") for part in ("experiments", "data", "methods")
        )
        from wsl_tutorial.reproduce.experiment import changed
    except ModuleNotFoundError:  # an earlier checkout, with flat settings
        experiments, methods = modules_of("regions")
        data, changed = methods, replace

    config = experiments.PRINTED["glas", "cam-avg", 0].settings(protocol)
    config = changed(config, weights="none")
    shrink = getattr(config, "data", config).shrink
    g, n, h, w = torch.Generator().manual_seed(seed), 32, 522 // shrink, 775 // shrink
    labels = torch.arange(n) % 2
    images = [torch.randint(128 + 127 * int(k), (3, h, w), generator=g).byte() for k in labels]
    part = data.Part(images, [x[0] > 64 for x in images], labels)
    model = methods.model_of(config, seed, "cpu").train()
    optimizer = methods.optimizer_of(config, model)
    make = data.batches(config, part, seed, "cpu")
    batches = (batch for epoch in range(10_000) for batch in make(epoch))

    def step(k):
        return descend(optimizer, methods.METHODS["cam-avg"](config, model, next(batches)))

    return step


def bags_of(method):
    """An epoch of `method` on bags of 400 made-up images, with the test after it."""

    def make(protocol, seed):
        try:
            experiments, settings, data, methods = (
                importlib.import_module(f"wsl_tutorial.reproduce.counts.{part}")
                for part in ("experiments", "settings", "data", "methods")
            )
            config = experiments.CIFAR_CURVES.settings(protocol)
            config = experiments.changed(config, train_bags=0, test_bags=0)
        except ModuleNotFoundError:  # an earlier checkout: one module, settings without groups
            experiments, methods = modules_of("counts")
            settings = data = methods
            config = experiments.CIFAR_CURVES.settings(protocol)
            config = replace(config, train_bags=0, test_bags=0)
        g = torch.Generator().manual_seed(7)
        classes = torch.arange(400) % 2
        images = (
            torch.randint(156, (400, 3, 32, 32), generator=g) + 99 * classes[:, None, None, None]
        )
        data.cifar.bird_cat = lambda: (
            images.byte(),
            classes + data.cifar.CLASSES.index("bird"),
        )
        task = data.splits(getattr(config, "data", config), seed, "cpu")
        chosen = settings.METHODS[method]
        config = methods.tuned(config, method)
        lr = getattr(config, "optimiser", config).lr
        torch.manual_seed(seed)
        model = methods.model_of(config, chosen, task, seed)
        if chosen.loss == "adversarial":
            optimizer = methods.Turns(model, lr, (0.5, 0.999))
        else:
            optimizer = getattr(methods, "adam", torch.optim.Adam)(model.parameters(), lr)

        def epoch(k):
            model.train()
            losses = []
            for batch in data.bag_batches(config, chosen, task, seed, k):

                def loss(batch=batch):
                    return methods.LOSSES[chosen.loss](config, chosen, task, model, batch)

                adversarial = chosen.loss == "adversarial"
                value = optimizer.step(loss).item() if adversarial else descend(optimizer, loss())
                losses.append(value)
            model.eval()
            with torch.no_grad():
                methods.measures(config, model, task)
            return statistics.fmean(losses)

        return epoch

    return make


def descend(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


JOBS = {
    "MNIST, PSGD": mnist,
    "MNIST hard, MIST": mist,
    "GlaS, CAM-Avg": glas,
    "birds and cats, DLLP, epoch": bags_of("dllp"),
    "birds and cats, LLP-GAN, epoch": bags_of("llp_gan"),
}


def child(job, protocol, seed):
    """Take a step for every line of input; print its loss, its seconds and its operations."""
    from torch.utils.flop_counter import FlopCounterMode

    torch.set_num_threads(1)
    step = JOBS[job](protocol, seed)
    for k, line in enumerate(sys.stdin):
        with FlopCounterMode(display=False) if "count" in line else memoryview(b"") as counter:
            start = time.perf_counter()
            loss = step(k)
        seconds = time.perf_counter() - start
        operations = counter.get_total_flops() if "count" in line else 0
        print(f"answer {loss} {seconds} {operations}", flush=True)


class Tree:
    """A process that trains with the package of one work tree."""

    def __init__(self, root, job, protocol, seed=0):
        one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        words = [sys.executable, __file__, ".", "--child", job, protocol, str(seed)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(words, env={**os.environ, **one}, **pipes)

    def __call__(self, word="go"):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("answer"):
                return [float(x) for x in line.split()[1:]]
        raise SystemExit(f"training_speed: a step of {self.process.args[4]} failed")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def peak(n=2048):
    """Operations a second of one core in a product of bfloat16 matrices."""
    torch.set_num_threads(1)
    a, b = (torch.randn(n, n, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(6):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * n**3 / (time.perf_counter() - start))
    return best


def race(old, new, job, rounds, top):
    with Tree(old, job, "paper") as before, Tree(new, job, "paper") as after:
        before(), after()  # kernels are prepared
        operations = statistics.fmean(after("count")[2] for _ in range(5))
        pairs = [(before()[1], after()[1]) for _ in range(rounds)]
    a, b = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(x / y for x, y in pairs)
    # the mean: an optimiser may do more at every fifth step
    seconds = statistics.fmean(y for _, y in pairs)
    overall = sum(x for x, _ in pairs) / sum(y for _, y in pairs)
    share = 100 * operations / seconds / top
    print(
        f"{job:32} {a:8.3f} s {b:8.3f} s   median ratio {ratio:5.2f}   ratio of sums {overall:5.2f}"
        f"   {share:3.0f} % of the peak",
        flush=True,
    )


def learn_the_same(trees, job, steps):
    told = []
    for root in trees:
        ends = []
        for seed in SEEDS:
            with Tree(root, job, "short", seed) as tree:
                losses = [tree()[0] for _ in range(steps)]
            ends.append(statistics.fmean(losses[-max(1, steps // 4) :]))
        told.append(f"{statistics.fmean(ends):.4f} ± {statistics.stdev(ends):.4f}")
    print(f"{job:32} loss at the end, {steps} steps: {told[0]} before, {told[1]} now", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="a work tree of the earlier commit")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--same", type=int, metavar="STEPS")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        job, protocol, seed = args.child
        return child(job, protocol, int(seed))
    if not (args.checkout / "wsl_tutorial").is_dir():
        parser.error(f"checkout: {args.checkout} holds no wsl_tutorial")
    trees = (args.checkout.resolve(), Path(__file__).resolve().parents[2])
    top = peak()
    print(f"peak of the core: {top / 1e9:.0f} Gflop/s in bfloat16")
    for job in args.jobs:
        if args.same:
            learn_the_same(trees, job, args.same if "epoch" not in job else args.same // 10)
        else:
            race(*trees, job, args.rounds, top)


if __name__ == "__main__":
    main()
