"""Measure what the likelihoods cost, for the page on which method to take.

python scripts/method_costs.py            write book/method-costs.json, in about a minute

Each cell is a batch of 32 random bags, forward and backward, on one core. The time is that of the
processor, so other programs on the machine hardly count; the smallest of several repetitions is
kept.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wsl_tutorial import counts, presence

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "book" / "method-costs.json"
BAGS = 32
SIZES = (10, 100, 1000)


def softmax(size: int, classes: int, last: bool) -> torch.Tensor:
    """Return random log-probabilities, the classes last or second, which want a gradient."""
    shape = (BAGS, size, classes) if last else (BAGS, classes, size)
    return torch.randn(shape).log_softmax(-1 if last else 1).requires_grad_()


def labels_of(size: int, classes: int) -> tuple[Callable, torch.Tensor]:
    """Return the likelihood of a label set: half of the classes occur, in every bag."""
    labels = torch.zeros(BAGS, classes, dtype=torch.bool)
    labels[:, : min(size, (classes + 1) // 2)] = True
    return lambda x: presence.log_likelihood(x, labels), softmax(size, classes + 1, last=False)


def one_count(size: int, classes: int) -> tuple[Callable, torch.Tensor]:
    """Return the likelihood of the count of positives, half of the bag."""
    y = torch.full((BAGS,), size // 2)
    return lambda x: counts.log_likelihood(x, y), torch.randn(BAGS, size, requires_grad=True)


def all_counts(size: int, classes: int) -> tuple[Callable, torch.Tensor]:
    """Return the likelihood of the counts of all classes, as equal as they can be."""
    y = torch.full((BAGS, classes), size // classes)
    y[:, : size % classes] += 1
    return lambda x: counts.log_likelihood_multiclass(x, y), softmax(size, classes, last=True)


METHODS = {
    "presence.log_likelihood": labels_of,
    "counts.log_likelihood": one_count,
    "counts.log_likelihood_multiclass": all_counts,
}
CLASSES = {
    "presence.log_likelihood": (2, 5, 10),
    "counts.log_likelihood": (2,),
    "counts.log_likelihood_multiclass": (2, 3),
}


def milliseconds(function: Callable, x: torch.Tensor, seconds: float) -> float:
    """Return the processor time of forward and backward, the smallest within some seconds."""
    function(x).sum().backward()
    best, end = math.inf, time.process_time() + seconds
    while best == math.inf or time.process_time() < end:
        x.grad, start = None, time.process_time()
        function(x).sum().backward()
        best = min(best, time.process_time() - start)
    return 1000 * best


def cell(name: str, size: int, classes: int, seconds: float) -> float | str:
    """Return milliseconds, or the reason why the function refuses a bag of this kind."""
    torch.manual_seed(0)
    function, x = METHODS[name](size, classes)
    try:
        return float(f"{milliseconds(function, x, seconds):.2g}")
    except ValueError as error:
        return str(error)


def measure(sizes=SIZES, seconds: float = 0.5) -> dict:
    """Return the record: where it was measured, and a list of cells."""
    torch.set_num_threads(1)
    cells = []
    for name in METHODS:
        for number in CLASSES[name]:
            for size in sizes:
                value = cell(name, size, number, seconds)
                key = "milliseconds" if isinstance(value, float) else "refused"
                cells.append({"function": name, "size": size, "classes": number, key: value})
                print(cells[-1], flush=True)
    where = {"date": time.strftime("%Y-%m-%d"), "torch": torch.__version__}
    return {**where, "python": platform.python_version(), "bags": BAGS, "cells": cells}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    options.out.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
