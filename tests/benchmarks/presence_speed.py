"""Speed of the exact likelihood, as ratios of one run: python tests/benchmarks/presence_speed.py

Compared at the SVHN setting (32 bags, 28 x 28 positions, 10 classes, 1 to 5 labels, forward and
backward): a literal loop over bags and subsets, one batched subset matrix product, and
`presence.log_likelihood` on bags that keep the series (strong evidence) and on bags that need the
recursion (weak evidence). On strong evidence also: labels of which a third is unknown, labels
observed with errors, and the most probable set. Then one evaluation at M = N = C = 100, L = 16, the
paper's footnote 1.
"""

import argparse
import time
from functools import partial
from itertools import combinations

import torch

from wsl_tutorial import presence
from wsl_tutorial.presence import _inputs, fast


def literal(log_p, labels):
    """Paper (6) as one would type it: a loop over bags, a loop over subsets, float64."""
    values = []
    for bag, mask in zip(log_p.double().flatten(2), labels, strict=True):
        chosen = mask.nonzero().flatten().tolist()
        p = bag.exp()
        full = p[[*chosen, -1]].sum(0).log().sum()
        total = torch.zeros_like(full)
        for missing in range(len(chosen) + 1):
            for kept in combinations(chosen, len(chosen) - missing):
                alpha = p[[*kept, -1]].sum(0).log().sum()
                total = total + (-1) ** missing * (alpha - full).exp()
        values.append(full + total.log())
    return torch.stack(values)


def product(log_p, labels):
    """The same series as one batched product with the matrix of subsets; it can cancel."""
    flat, index, real = _inputs.bags_of(log_p.double(), labels)
    w = _inputs.restrict(flat, index, real).exp()  # (B, K+1, N)
    members = fast._members(real.shape[1], w)
    log_alpha = (members @ w).log().sum(-1)  # (B, 2**K)
    signs = fast._signs(real, members)
    full = log_alpha.amax(1, keepdim=True)
    return full[:, 0] + (signs * (log_alpha - full).exp()).sum(1).log()


def fastest(runs, device, repeats=40):
    """Least milliseconds of each run, taken in turn, so that all meet the same machine."""
    least = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, run in runs.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            least[name] = min(least[name], 1e3 * (time.perf_counter() - start))
    return least


def svhn_bags(device, background):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(32, 11, 28, 28, generator=generator)
    logits[:, -1] += background
    labels = torch.zeros(32, 10, dtype=torch.bool)
    for bag, row in enumerate(labels):
        row[torch.randperm(10, generator=generator)[: 1 + bag % 5]] = True
    return logits.to(device).requires_grad_(), labels.to(device)


def further(device, both_ways):
    """Print what unknown labels, errors and a prediction cost, as multiples of the likelihood."""
    logits, labels = svhn_bags(device, 0.0)
    unknown = labels.int()
    unknown[:, ::3] = -1
    log_p = logits.detach().log_softmax(1)
    runs = {
        "log_likelihood": partial(both_ways, presence.log_likelihood, logits, labels),
        "a third unknown": partial(both_ways, presence.log_likelihood, logits, unknown),
        "all may be missed": partial(
            both_ways, lambda p, l: presence.log_likelihood_noisy(p, l, 0.1, 0.1), logits, labels
        ),
        "none is missed": partial(
            both_ways, lambda p, l: presence.log_likelihood_noisy(p, l, 0.1, 0), logits, labels
        ),
        "most_probable_set": partial(presence.most_probable_set, log_p),
    }
    times = fastest(runs, device, repeats=10)
    print("strong evidence                                ms   / log_likelihood")
    for name, ms in times.items():
        print(f"  {name:30s} {ms:16.2f} {ms / times['log_likelihood']:18.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(parser.parse_args().device)
    name = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{torch.get_num_threads()} threads"
    )
    print(f"{device.type}, {name}, torch {torch.__version__}")

    def both_ways(likelihood, logits, labels):
        logits.grad = None
        likelihood(logits.log_softmax(1), labels).sum().backward()

    print("32 bags, 28 x 28, forward + backward           ms    loop / it   it / product")
    for evidence, background in (("strong", 0.0), ("weak", 20.0)):
        logits, labels = svhn_bags(device, background)
        ways = (literal, product, presence.log_likelihood)
        runs = {way.__name__: partial(both_ways, way, logits, labels) for way in ways}
        times = fastest(runs, device)
        for which, ms in times.items():
            print(
                f"  {evidence:6s} evidence  {which:16s} {ms:12.2f} "
                f"{times['literal'] / ms:12.1f} {ms / times['product']:14.2f}"
            )

    further(device, both_ways)

    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(1, 101, 100, 100, generator=generator).log_softmax(1).to(device)
    labels = (torch.arange(100) < 16)[None].to(device)
    ways = (literal, presence.log_likelihood)
    with torch.no_grad():
        runs = {way.__name__: partial(way, log_p, labels) for way in ways}
        slow, quick = fastest(runs, device, repeats=3).values()
    print(
        f"M = N = C = 100, L = 16, one evaluation: loop {slow:.0f} ms, ours {quick:.2f} ms, "
        f"ratio {slow / quick:.1f}"
    )


if __name__ == "__main__":
    main()
