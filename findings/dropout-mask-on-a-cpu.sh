#!/usr/bin/env bash
# What a mask of dropout costs on a CPU.
#
# Guess before the run: nothing beside a convolution; drawing a bit is cheaper than drawing a
# uniform number.
# Seen with torch 2.15.0 (AMD EPYC, one thread): bernoulli_, from which dropout makes its mask,
# takes 3 to 4 times as long as uniform_ and a comparison, and dropout takes as long as its mask.
# In a small network in bfloat16 (nine convolutions, seven images of 32 x 32) three layers of
# dropout took 6 % of a training step.
# Fails if bernoulli_ takes less than twice as long.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import time

import torch
from torch.nn import functional as F

torch.set_num_threads(1)
x = torch.ones(7, 64, 16, 16)


def seconds(f):
    best = float("inf")
    for _ in range(50):
        start = time.perf_counter()
        f()
        best = min(best, time.perf_counter() - start)
    return best


drawn = seconds(lambda: torch.empty_like(x).bernoulli_(0.5))
compared = seconds(lambda: torch.empty_like(x).uniform_() >= 0.5)
whole = seconds(lambda: F.dropout(x, 0.5))
print("torch", torch.__version__)
print(f"bernoulli_ {1e3 * drawn:.2f} ms, uniform_ and >= {1e3 * compared:.2f} ms, dropout {1e3 * whole:.2f} ms")
assert drawn > 2 * compared, (drawn, compared)
PY
