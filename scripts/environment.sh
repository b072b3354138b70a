#!/usr/bin/env bash
# Make .venv as requirements.lock says; an existing .venv is brought up to date, not replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'; }

if ! { [ -x .venv/bin/python ] && fits .venv/bin/python; } 2>/dev/null; then
    # Run each candidate: a version manager's shim is found on the path even when nothing is behind it.
    for python in ${PYTHON:-python3.13 python3.14 python3.12 python3.11 python3 python}; do
        if fits "$python" 2>/dev/null; then break; else python=""; fi
    done
    if [ -z "$python" ]; then
        echo "No Python 3.11 to 3.14 with venv found; name one: make PYTHON=/path/to/python" >&2
        exit 1
    fi
    echo "Making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv
fi
if [ -n "${NEWEST:-}" ]; then
    echo "Installing the newest versions that pyproject.toml allows"
    .venv/bin/python -m pip install --quiet --upgrade --editable '.[book,test]'
    exit
fi
if [ ! -x .venv/bin/uv ]; then
    echo "Installing uv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.5'
fi
echo "Installing requirements.lock (the first time 2.6 GB to download, 5.5 GB on disk)"
.venv/bin/uv pip install --python .venv/bin/python --require-hashes -r requirements.lock
.venv/bin/uv pip install --python .venv/bin/python --no-deps --editable .
