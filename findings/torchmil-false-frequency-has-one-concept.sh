#!/usr/bin/env bash
# Which concepts the negative bags of torchmil's FalseFrequencyMILDataset show.
#
# Guess before the run: a negative bag has instances of one of two concepts, around 2 or around 3,
# each in about half of the bags; a positive bag has both.
# Seen with torchmil 1.0.2, torch 2.15.0: it is the concept around 2 in every negative bag, never the
# one around 3, so that one instance near 3 is enough to tell a positive bag. The index comes from
# torch.randint(low=0, high=1), whose `high` is excluded. In the same way the number of instances of
# a concept, torch.randint(low=1, high=2), is always 1 in training.
# Fails if a negative bag has an instance near 3.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torchmil==1.0.2 torch==2.15.0 numpy==2.2.6
"$folder/env/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from torchmil.datasets import FalseFrequencyMILDataset

print("torchmil", version("torchmil"), "torch", torch.__version__)
torch.manual_seed(0)
for train in (True, False):
    bags = FalseFrequencyMILDataset(D=2, num_bags=400, train=train)
    negative = [bag for bag in (bags[i] for i in range(len(bags))) if bag["Y"] == 0]
    of_concept = [bag["y_inst"].sum().item() for bag in negative]
    concept = torch.cat([bag["X"][bag["y_inst"] == 1] for bag in negative])
    print("train" if train else "test", len(negative), "negative bags; instances of a concept:",
          f"{concept.min():.1f} to {concept.max():.1f}, {min(of_concept):.0f} to {max(of_concept):.0f} a bag")
    assert len(negative) > 100
    assert concept.max() < 2.6
    if train:
        assert set(of_concept) == {1}
PY
