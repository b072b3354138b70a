"""Measure a training step of MIST, launched and as a graph: python tests/benchmarks/step_speed.py

The step of "mist/hard" under the paper's protocol: 32 canvases of 80 x 80 pixels, nine places, both
networks at their full size. On a GPU: ordinary steps, steps recorded as a CUDA graph, and graphs of
several seeds side by side, each on its own stream; the released step took 73 ms on one H200 (torch
2.6). On a CPU, which has no graphs: the ordinary step, and the number of operations it launches.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

from wsl_tutorial import train
from wsl_tutorial.reproduce.experiment import changed
from wsl_tutorial.reproduce.patches import PAPER, data, methods

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from fake_cuda_graph import Launches

RELEASED = 73.0  # ms


def step_of(config, seed, device, kind):
    """Return a step of one seed, and its batches."""
    world = data.worlds(config, seed, device)["train"]
    model = methods.model_of(config, seed, device).train()
    optimizer = torch.optim.Adam(methods.parts_of(config, model), foreach=True)  # as on a GPU
    method = methods.METHODS[config.method]
    step = kind(model, lambda m, batch: method(config, m, batch), optimizer)
    rows = torch.arange(len(world), device=device).split(config.optimiser.batch)
    return step, [world[part] for part in rows]


def milliseconds(steps, device, rounds):
    """Return the median time of one step of all seeds, side by side."""
    gpu, times = device == "cuda", []
    streams = [torch.cuda.Stream() if gpu else None for _ in steps]
    if gpu:
        torch.cuda.synchronize()  # other streams do not wait for networks and batches to be made
    for i in range(rounds + 5):  # the first ones warm up, and record
        start = time.perf_counter()
        for (step, batches), stream in zip(steps, streams, strict=True):
            with torch.cuda.stream(stream):
                step(batches[i % len(batches)])
        if gpu:
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[5:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=None, help="default: 100, on a CPU 3")
    args = parser.parse_args()
    gpu = args.device == "cuda"
    config = next(e for e in PAPER.experiments if e.name == "mist/hard").config
    few = {"train_canvases": 128, "validation_canvases": 1, "test_canvases": 1, "tiles": "digits"}
    config = changed(config, **few)
    rounds = args.rounds or (100 if gpu else 3)
    print(torch.cuda.get_device_name() if gpu else f"cpu, {torch.get_num_threads()} threads")

    ordinary = step_of(config, 0, args.device, train._Step)
    ms = milliseconds([ordinary], args.device, rounds)
    with Launches() as launches:
        ordinary[0](ordinary[1][0])
    print(f"ordinary step                  {ms:8.1f} ms, {launches.number} operations")
    if not gpu:
        return
    print(f"  released / ordinary          {RELEASED / ms:8.1f}")
    for seeds in (1, 2, 4, 8):
        graphs = [step_of(config, seed, args.device, train.Captured) for seed in range(seeds)]
        each = milliseconds(graphs, args.device, rounds) / seeds
        print(f"graph, {seeds} seeds side by side    {each:8.1f} ms a step and seed")
        print(f"  released / it, ordinary / it {RELEASED / each:8.1f} {ms / each:8.1f}")


if __name__ == "__main__":
    main()
