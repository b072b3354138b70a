#!/usr/bin/env bash
# Which of several equal scores torch.topk takes.
#
# Guess before the run: the first ones, as argmax does, at every length; so top-K pooling with K = 1
# and max-pooling choose the same instance.
# Seen with torch 2.15.0 on a CPU: of n equal scores topk(1) takes the first if n is 100 or more,
# and one in the middle if n is 50 or less (of 10 the ninth); topk(3) takes the first three of 200,
# but the 66th to 68th of 100. argmax takes the first always. So with equal scores (a last layer
# that begins with zeros, a saturated heat map) the choice depends on the size of the bag, and the
# gradient of top-K pooling with K = 1 reaches another instance than that of max-pooling.
# Fails if topk agrees with argmax in bags of 4 to 50 instances.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import torch

print("torch", torch.__version__)
first = {}
for n in (4, 10, 16, 50, 100, 128, 200, 1000):
    scores = torch.zeros(n, requires_grad=True)
    one, three = torch.topk(scores, 1), torch.topk(scores, 3).indices
    pooled = torch.autograd.grad(one.values.sum(), scores)[0].argmax()
    most = torch.autograd.grad(scores.max(0).values, scores)[0].argmax()
    first[n] = one.indices.item()
    print(f"n = {n}: topk(1) {one.indices.tolist()}, topk(3) {three.tolist()}, "
          f"argmax {scores.argmax().item()}; gradient: topk(1) to {pooled}, max to {most}")
    assert scores.argmax() == 0
    assert pooled == first[n]
assert all(first[n] > 0 for n in (4, 10, 16, 50)), first
assert all(first[n] == 0 for n in (100, 128, 200, 1000)), first
PY
