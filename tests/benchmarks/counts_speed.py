"""Measure the speed of the exact E-step: python tests/benchmarks/counts_speed.py

Three ways are compared over 1,430 bags of 2 to 12 instances, and over 1,430 bags of 16: the
released code (a matrix of all configurations of a bag, made beforehand; a Python call for each
row), the same enumeration without a Python call for a row, and `counts.posterior`. Then the
likelihood and its gradient for 64 bags of 1,000 instances. Then three classes: the E-step of 1,600
bags of 10 to 59 instances by frequencies and by the recursion, which was the only way once, and
single bags of 1,000 and 3,000 instances, forward and backward; rows that stand for many instances,
and ten classes in bags of 100, approximately. Last, epochs of EM, of EM that
reuses the logits of its training steps, and of direct ascent, as ratios to DLLP's epochs with one
and with four bags a step. All use one network; methods that learn from instances take as many of
them a step as four bags have. Times are processor time of one thread; slow ways are measured on the
first bags only and scaled.
"""

import statistics
import time
from itertools import combinations

import numpy as np
import torch

from wsl_tutorial import counts
from wsl_tutorial.counts import multiclass, window
from wsl_tutorial.data import bags
from wsl_tutorial.reproduce.counts import data, methods, settings
from wsl_tutorial.reproduce.experiment import changed

BAGS = 1430
MOST = 1.05  # of DLLP's epoch: the paper's, and with four bags a step that of an EM without a pass
LEAST = {"2 to 12": 100, "16": 10_000}  # least ratio to the released code


def configurations(n, y):
    """Return every 0/1 row of n numbers with y ones: (choose(n, y), n), float32."""
    rows = np.zeros((len(list(combinations(range(n), y))), n), np.float32)
    for row, chosen in zip(rows, combinations(range(n), y), strict=True):
        row[list(chosen)] = 1
    return rows


def by_rows(rho, h):
    """Return the posteriors of one bag, with a Python call for each configuration."""

    def probability(row):
        return np.prod(row * rho + (1 - row) * (1 - rho))

    alpha = np.apply_along_axis(probability, 1, h)
    return (alpha / alpha.sum()) @ h


def by_matrix(rho, h):
    """Return the posteriors of one bag, from all configurations in one NumPy expression."""
    alpha = np.where(h > 0, rho, 1 - rho).prod(1)
    return (alpha / alpha.sum()) @ h


def milliseconds(run, repeats=11):
    run()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(1e3 * (time.process_time() - start))
    return statistics.median(times)


def some_bags(sizes, generator):
    n = torch.tensor(sizes)
    mask = torch.arange(max(sizes)) < n[:, None]
    logits = torch.randn(mask.shape, generator=generator)
    y = ((torch.rand(mask.shape, generator=generator) < 0.5) & mask).sum(1)
    return logits, y, mask


def compare(name, sizes, first, generator):
    """Print the ratios; the slow ways run on the `first` bags only."""
    logits, y, mask = some_bags(sizes, generator)
    tables = {}
    bags = []
    for z, positives, real in zip(logits[:first], y[:first].tolist(), mask[:first], strict=True):
        key = int(real.sum()), positives
        tables[key] = tables[key] if key in tables else configurations(*key)
        bags.append((z[real].sigmoid().numpy(), tables[key]))
    phi = counts.posterior(logits, y, mask)
    for b, bag in enumerate(bags):
        np.testing.assert_allclose(phi[b, mask[b]].numpy(), by_rows(*bag), rtol=1e-3, atol=1e-5)
    scale, repeats = len(sizes) / first, 3
    times = {
        "rows, as released": scale * milliseconds(lambda: [by_rows(*b) for b in bags], 1),
        "enumeration, NumPy": scale * milliseconds(lambda: [by_matrix(*b) for b in bags], repeats),
        "counts.posterior": milliseconds(lambda: counts.posterior(logits, y, mask)),
    }
    print(f"E-step, {len(sizes)} bags of {name}" + (f" (slow: {first})" if scale > 1 else ""))
    ours = times["counts.posterior"]
    for way, ms in times.items():
        print(f"  {way:20s} {ms:12.2f} ms   ratio {ms / ours:12.1f}")
    ratio = times["rows, as released"] / ours
    assert ratio >= LEAST[name], f"{ratio:.0f} times, expected {LEAST[name]}"


def epoch(config, name, task):
    """Return a function that trains one epoch of a method."""
    method = settings.METHODS[name]
    model = methods.model_of(config, method, task, 0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-4)
    walk = data.instance_batches if method.by_instance else data.bag_batches

    def run():
        for batch in walk(config, method, task, 0, 0):
            optimizer.zero_grad()
            methods.LOSSES[method.loss](config, method, task, model, batch).backward()
            optimizer.step()

    return run


def epochs(generator, number=60, repeats=5):
    """Print the time of an epoch as a ratio to DLLP's."""
    sizes = torch.randint(2, 13, (number,), generator=generator)
    part = bags.of_sizes(torch.arange(int(sizes.sum())), sizes)
    images = torch.randint(256, (len(part.instances()), 3, 32, 32), generator=generator)
    classes = torch.randint(2, (len(images),), generator=generator)
    y = bags.counts(part, classes)
    task = data.Task(images.byte(), classes, part, part, y, y)
    config = changed(settings.Settings(), widths=(32, 64, 128), batch=28)
    names = ("dllp", "dllp_several", "mle_llp", "mle_llp_reuse", "direct")
    runs = {name: epoch(config, name, task) for name in names}
    times = {name: [] for name in names}
    for _ in range(repeats):  # in turn: all share the machine's load
        for name, run in runs.items():
            times[name].append(milliseconds(run, 1))
    ms = {name: statistics.median(t) for name, t in times.items()}
    print(f"an epoch, {number} bags of 2 to 12: ratio to DLLP with one bag a step, with four")
    for name, t in ms.items():
        print(f"  {name:20s} {t:12.0f} ms {t / ms['dllp']:8.2f} {t / ms['dllp_several']:8.2f}")
    em = task.train_counts, task.train.mask
    z = torch.randn(em[1].shape, generator=generator)
    share = milliseconds(lambda: counts.posterior(z, *em)) / ms["mle_llp"]
    print(f"  of EM's epoch: counts.posterior {100 * share:.2f} %")
    several = "dllp_several"
    for name, other in (("mle_llp", "dllp"), ("mle_llp_reuse", several), ("direct", several)):
        ratio = statistics.median(a / b for a, b in zip(times[name], times[other], strict=True))
        assert ratio <= MOST, f"{name}: {ratio:.2f} of the epoch of {other}, expected {MOST}"


def three_classes(generator, number=1600):
    """Print the speed of the E-step of counts in three classes."""
    sizes = torch.randint(10, 60, (number,), generator=generator)
    for n, most in ((1000, 300), (3000, 2000)):
        log_p, y, real = in_classes(torch.tensor([n]), generator)
        ms = milliseconds(lambda bag=(log_p, y, real): counts.posterior_multiclass(*bag), 3)
        print(f"a bag of {n:,} in three classes, forward and backward: {ms:.0f} ms")
        assert ms < most
    rows_of_many(generator)
    log_p, y, real = in_classes(sizes, generator)
    log_p.requires_grad_()

    def by(way):
        torch.autograd.grad(way(log_p, y, real).sum(), log_p)

    fast = milliseconds(lambda: by(window.log_likelihood), 3)
    slow = milliseconds(lambda: by(multiclass._recursion), 3)
    print(f"E-step, {number:,} bags of 10 to 59 in three classes: {fast:.0f} ms, by the recursion")
    print(f"  {slow:.0f} ms, ratio {slow / fast:.1f}")
    assert slow > 5 * fast


def rows_of_many(generator):
    """Print the speed of rows that stand for many instances, and of ten classes, approximately."""
    two, m = torch.zeros(1, 2), torch.tensor([[2000, 3000]])
    ms = milliseconds(lambda: counts.posterior(two, m.sum(1) // 2, multiplicity=m), 5)
    print(f"two groups of 2,000 and 3,000 voters, E-step: {ms:.1f} ms")
    assert ms < 100
    z, m = torch.randn(1000, 5, generator=generator), torch.randint(1, 1000, (1000, 5))
    ms = milliseconds(lambda: counts.posterior(z, m.sum(1) // 2, multiplicity=m), 3)
    print(f"1,000 precincts of five groups of up to 1,000, E-step: {ms:.0f} ms")
    bag = in_classes(torch.full((64,), 100), generator, 10)
    ms = milliseconds(lambda: counts.posterior_multiclass(*bag, approximate=True), 3)
    print(f"64 bags of 100 in ten classes, approximate E-step: {ms:.0f} ms")
    ms = milliseconds(lambda: counts.map_configuration_multiclass(*bag), 3)
    print(f"  their most probable labels: {ms:.0f} ms")


def in_classes(sizes, generator, classes=3):
    """Return log_p (B, n, C), counts (B, C) drawn from it, and the mask (B, n), of bags."""
    real = torch.arange(int(sizes.max())) < sizes[:, None]
    log_p = torch.randn(*real.shape, classes, generator=generator, dtype=torch.float64)
    log_p = log_p.log_softmax(2)
    drawn = torch.multinomial(log_p.exp().flatten(0, 1), 1, generator=generator).view(real.shape)
    y = torch.nn.functional.one_hot(drawn, classes).masked_fill(~real[..., None], 0).sum(1)
    return log_p.masked_fill(~real[..., None], 0), y, real


def main():
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    print(f"cpu, 1 thread, torch {torch.__version__}, processor time")
    sizes = torch.randint(2, 13, (BAGS,), generator=generator).tolist()
    compare("2 to 12", sizes, BAGS, generator)
    compare("16", [16] * BAGS, 20, generator)

    logits, y, _ = some_bags([1000] * 64, generator)
    logits.requires_grad_()

    def both_ways():
        logits.grad = None
        counts.log_likelihood(logits, y).sum().backward()

    ms = milliseconds(both_ways, 5)
    print(f"64 bags of 1,000, likelihood and gradient: {ms:.0f} ms")
    assert ms < 1000
    three_classes(generator)
    epochs(generator)


if __name__ == "__main__":
    main()
