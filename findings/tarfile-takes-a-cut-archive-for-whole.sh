#!/usr/bin/env bash
# Python's tarfile iterates over a tar archive that is cut off inside, or right before, a later
# header without an error: the remaining files are missing silently (CPython 3.11 to 3.13). Only the
# first header, and the data of a member, are checked. `wsl_tutorial.data.members` raises instead.
# Prints the names that are found in the whole archive, and in the archive without its second half.
set -euo pipefail
python3 - <<'PYTHON'
import io
import sys
import tarfile

out = io.BytesIO()
with tarfile.open(fileobj=out, mode="w") as archive:
    for name in ("first", "second"):
        member = tarfile.TarInfo(name)
        member.size = 600
        archive.addfile(member, io.BytesIO(bytes(600)))
whole = out.getvalue()
print(sys.version.split()[0])
for length in (len(whole), 512 + 1024 + 300, 512 + 1024):
    with tarfile.open(fileobj=io.BytesIO(whole[:length])) as archive:
        print(f"{length:6} bytes: {[member.name for member in archive]}")
PYTHON
