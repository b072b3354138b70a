#!/usr/bin/env bash
# Which loss the class DLLP of llp-learn, deep learning from label proportions, trains with.
#
# Guess from the paper (Ardehaly and Culotta 2017), before the run: the divergence between a bag's
# proportions and the mean of the predicted probabilities; sure and right predictions have loss 0.
# Seen with llp-learn 1.6.0, torch 2.15.0: it takes the mean of the log probabilities. That is a
# cross-entropy of each instance with its bag's proportions: right predictions (log odds +-10 in a
# bag of two) cost 2.2 and 1/2 for both costs 0. On two clusters that are far apart and bags with
# shares 0.7 and 0.4 both clusters get about 1/2 (accuracy 0.57); with the paper's loss 1.00.
# Fails if right predictions have loss 0, or if the accuracy by the library's loss is above 0.8.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 torchvision==0.29.2 numpy==2.2.6 scikit-learn==1.9.1 tqdm==4.70.1
"$folder/env/bin/pip" install --quiet --no-deps llp-learn==1.6.0
OMP_NUM_THREADS=1 "$folder/env/bin/python" - <<'PY'
import contextlib
import io
from importlib.metadata import version

import numpy as np
import torch
from llp_learn.dllp import DLLP

print("llp-learn", version("llp-learn"), "torch", torch.__version__)


def new_model():
    return DLLP(lr=0.01, n_epochs=60, model_type="simple-mlp", device="cpu", n_jobs=0, random_state=0)


def paper(scores, proportions):
    return torch.nn.functional.kl_div(scores.softmax(1).mean(0).log(), proportions, reduction="sum")


theirs, half = new_model().loss_train, torch.tensor([0.5, 0.5])
right = torch.tensor([[5.0, -5.0], [-5.0, 5.0]])  # one instance of each class
loss = {(name, at): f(scores, half).item() for name, f in (("llp-learn", theirs), ("paper", paper))
        for at, scores in (("right", right), ("undecided", 0 * right))}
print({key: round(value, 4) for key, value in loss.items()})
assert loss["llp-learn", "right"] > 2 > 1e-6 > abs(loss["llp-learn", "undecided"])
assert abs(loss["paper", "right"]) < 1e-6

rng = np.random.default_rng(0)
share = np.array([0.7] * 20 + [0.4] * 20, dtype=np.float32)
y = np.concatenate([np.arange(50) < round(50 * s) for s in share]).astype(int)
bags = np.repeat(np.arange(len(share)), 50)
X = rng.normal(4.0 * y - 2, 0.3)[:, None].astype(np.float32)
accuracy = {}
for name, loss_train in (("llp-learn", theirs), ("paper", paper)):
    model = new_model()
    model.loss_train = loss_train
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model.fit(X, bags, share)
        accuracy[name] = (model.predict(X) == y).mean()
    with torch.no_grad():
        p = model.model(torch.from_numpy(X)).softmax(1)[:, 1].numpy()
    print(f"{name}: accuracy {accuracy[name]:.2f}, p of the positive cluster {p[y == 1].mean():.2f}, "
          f"of the negative {p[y == 0].mean():.2f}")
assert accuracy["llp-learn"] < 0.8 and accuracy["paper"] > 0.95, accuracy
PY
