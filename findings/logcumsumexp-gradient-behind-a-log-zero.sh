#!/usr/bin/env bash
# The gradient of logcumsumexp where a sequence of log-probabilities begins with log 0.
#
# Guess before the run: -inf adds nothing to a sum, so its gradient is 0, as logsumexp has it, and as
# logcumsumexp has it where the -inf is not in front.
# Seen with torch 2.15.0 on a CPU: the values are right. The gradient with respect to every leading
# -inf is NaN, also if only the last, finite sum is used, and one such entry makes the whole gradient
# of a network NaN. A recursion over counts or over the states of an automaton starts with such
# entries, because impossible states have probability 0. A -inf further back has gradient 0. A
# large negative number instead of -inf, or differences of logsumexp, have the right gradient.
# Fails if the gradient is finite, or a value is wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import math

import torch

print("torch", torch.__version__)


def gradient(function, values):
    x = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    y = function(x)
    assert math.isclose(y.item(), math.log(math.e**0 + math.e**1))
    return torch.autograd.grad(y, x)[0]


def running(x):
    return x.logcumsumexp(0)[-1]


def whole(x):
    return x.logsumexp(0)


inf, share = math.inf, 1 / (1 + math.e)
for values in ([-inf, 0.0, 1.0], [-inf, -inf, 0.0, 1.0]):
    zeros = len(values) - 2
    found, true = gradient(running, values), gradient(whole, values)
    print(f"{values}: logcumsumexp {found.tolist()}, logsumexp {true.tolist()}")
    assert found[:zeros].isnan().all() and found[zeros:].isfinite().all()
    assert torch.allclose(true, torch.tensor([0.0] * zeros + [share, 1 - share], dtype=torch.float64))
later = gradient(running, [0.0, -inf, 1.0])
print(f"[0, -inf, 1]: logcumsumexp {later.tolist()}")
assert torch.allclose(later, torch.tensor([share, 0.0, 1 - share], dtype=torch.float64))
low = gradient(running, [-1e30, 0.0, 1.0])
assert torch.allclose(low, torch.tensor([0.0, share, 1 - share], dtype=torch.float64))
PY
