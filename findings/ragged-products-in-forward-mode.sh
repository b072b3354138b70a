#!/usr/bin/env bash
# Which derivatives torch has of noisy-OR, 1 - prod (1 - p), for bags of different sizes that are
# reduced without padding.
#
# Guess before the run: scatter_reduce, index_reduce and segment_reduce with "prod" have the same
# value, reverse and forward derivative and second derivative as prod bag by bag.
# Seen with torch 2.15.0 on a CPU: value and first reverse derivative agree, also where p = 1. The
# forward derivative of scatter_reduce is 0 without an error (reported as pytorch/pytorch#196702);
# those of index_reduce and segment_reduce raise an error, as does the second derivative of
# segment_reduce. So a product of Hessian and vector, as second-order optimisers take it, fails or is
# wrong for some of them. The sum of log (1 - p) by index_add has all derivatives.
# Fails if the forward derivative of scatter_reduce is right, or anything else above changes.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import warnings
import torch
warnings.simplefilter("ignore")
print("torch", torch.__version__)
bag, sizes = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([3, 2])
one = torch.ones(2, dtype=torch.float64)
ways = {
    "bag by bag": lambda q: torch.stack([q[:3].prod(), q[3:].prod()]),
    "scatter_reduce": lambda q: one.scatter_reduce(0, bag, q, "prod"),
    "index_reduce": lambda q: one.index_reduce(0, bag, q, "prod"),
    "segment_reduce": lambda q: torch.segment_reduce(q, "prod", lengths=sizes),
    "index_add of logs": lambda q: (0 * one).index_add(0, bag, q.log()).exp(),
}
p = torch.tensor([0.9, 0.5, 0.3, 0.7, 0.8], dtype=torch.float64)
step = torch.ones_like(p)
found = {}
for name, product in ways.items():
    loss = lambda p: (1 - product(1 - p)).log().sum()
    derivatives = {
        "value": lambda: loss(p),
        "reverse": lambda: torch.func.grad(loss)(p) @ step,
        "forward": lambda: torch.func.jvp(loss, (p,), (step,))[1],
        "second": lambda: torch.autograd.functional.hessian(loss, p).sum(),
    }
    for kind, compute in derivatives.items():
        try:
            found[name, kind] = round(compute().item(), 6)
        except (NotImplementedError, RuntimeError):
            found[name, kind] = "error"
    print(f"{name:18}", *(f"{kind} {found[name, kind]}" for kind in derivatives))
right = {kind: found["bag by bag", kind] for kind in ("value", "reverse", "forward", "second")}
wrong = {key: v for key, v in found.items() if v != right[key[1]]}
assert wrong == {
    ("scatter_reduce", "forward"): 0.0,
    ("index_reduce", "forward"): "error",
    ("segment_reduce", "forward"): "error",
    ("segment_reduce", "second"): "error",
}, wrong
certain = p.clone()
certain[0] = 1  # a sure instance: the other factors remain
for name in list(ways)[:4]:
    g = torch.autograd.grad(ways[name](q := (1 - certain).requires_grad_()).sum(), q)[0]
    assert torch.allclose(g[0], (1 - p[1]) * (1 - p[2])), name
PY
