#!/usr/bin/env bash
# Does a DataLoader without shuffling and without workers draw random numbers?
#
# Guess before the run: no; there is nothing to draw.
# Seen with torch 2.15.0: every start of an iteration draws one 64-bit number from the global
# generator, the base of the seeds of workers that do not exist. The data set and the order are the
# same each time, but dropout after it is not: a training that is stopped and goes on at the same
# place draws other masks, unless the loader was started before the random state was put back.
# A loader with a generator of its own draws from that one and leaves the global one alone.
# Fails if the global generator is left alone by the first, or touched by the second.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
"$folder/env/bin/python" - <<'PY'
import torch
from torch.utils.data import DataLoader

data = torch.arange(8)


def draws(**options):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    order = torch.cat(list(DataLoader(data, batch_size=4, shuffle=False, **options))).tolist()
    assert order == list(range(8))
    return not torch.equal(before, torch.get_rng_state())


plain, own = draws(), draws(generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
next(iter(DataLoader(data, batch_size=4)))
after = torch.rand(1)
torch.manual_seed(0)
torch.empty((), dtype=torch.int64).random_()
print("torch", torch.__version__)
print("global generator touched:", plain, "; with a generator of its own:", own)
one = torch.equal(after, torch.rand(1))
print("what it drew is one 64-bit number:", one)
assert plain and not own and one
PY
