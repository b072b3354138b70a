#!/usr/bin/env bash
# The gradient of attention over bags of different sizes in torch's nested tensors (layout jagged).
#
# Guess before the run: softmax over the ragged dimension has the value and the gradient of a
# softmax bag by bag.
# Seen with torch 2.15.0 on a CPU: the value agrees, the gradient does not, and there is no error.
# The backward pass reduces the packed values over the next dimension: scores of one head get
# p (1 - p) g, without the terms between instances, so a constant loss moves the scores, and scores
# of two heads get terms between heads. With bags of equal size the same is wrong. So attention
# pooling on nested tensors trains with another gradient; a padded or scattered softmax has the right one.
# Fails if a gradient is right, or if a value is wrong.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import torch

print("torch", torch.__version__)
torch.manual_seed(0)


def attention(scores, sizes):
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    return torch.nested.nested_tensor_from_jagged(scores, offsets).softmax(1).values()


def bag_by_bag(scores, sizes):
    return torch.cat([bag.softmax(0) for bag in scores.split(sizes)])


for heads in (1, 2):
    for sizes in ([3, 2], [4, 4]):
        scores = torch.randn(sum(sizes), heads, dtype=torch.float64, requires_grad=True)
        g = torch.randn_like(scores)
        p, q = attention(scores, sizes), bag_by_bag(scores, sizes)
        assert torch.allclose(p, q)
        nested, true = (torch.autograd.grad(value, scores, g, retain_graph=True)[0] for value in (p, q))
        by_row = p * (g - (p * g).sum(1, keepdim=True))
        print(f"sizes {sizes}, {heads} head(s): nested {nested[:, 0].tolist()}, bag by bag {true[:, 0].tolist()}")
        assert torch.allclose(nested, by_row)
        assert not torch.allclose(nested, true, atol=1e-2)
scores = torch.randn(5, 1, dtype=torch.float64, requires_grad=True)
total = [torch.autograd.grad(f(scores, [3, 2]).sum(), scores)[0].abs().max().item() for f in (attention, bag_by_bag)]
print(f"gradient of the sum of the weights, which is 2: nested {total[0]:.3f}, bag by bag {total[1]:.1e}")
assert total[0] > 0.1 and total[1] < 1e-12
PY
