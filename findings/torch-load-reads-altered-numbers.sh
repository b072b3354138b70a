#!/usr/bin/env bash
# What torch.load makes of a checkpoint in which one byte of a tensor has changed.
#
# Guess before the run: an error, as the file is a zip archive with a checksum for every member.
# Seen with torch 2.15.0: no error, and the wrong number. Python's zipfile finds the damage.
# Fails if torch.load raises.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet torch==2.15.0 numpy==2.2.6
"$folder/env/bin/python" - <<'PY'
import io
import zipfile

import torch

file = io.BytesIO()
torch.save({"weight": torch.tensor([1.0, 2.0, 3.0])}, file)
content = bytearray(file.getvalue())
place = content.index(torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes())
content[place + 3] ^= 1
damaged = zipfile.ZipFile(io.BytesIO(content)).testzip()
read = torch.load(io.BytesIO(content), weights_only=True)["weight"].tolist()
print("torch", torch.__version__, "reads", read, "and zipfile names", damaged)
assert damaged is not None
assert read != [1.0, 2.0, 3.0]
PY
