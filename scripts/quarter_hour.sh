#!/usr/bin/env bash
# What to run on a GPU that is free for a quarter of an hour: scripts/quarter_hour.sh OUT [SECONDS]
#
# In this order, until the time is over: the benchmarks of speed; `paper` runs of MNIST, of its
# baseline and of extended MNIST side by side; MIST on MNIST hard with CUDA graphs. OUT gets what
# the benchmarks print, the records, and the checkpoints of what is unfinished: the same command
# goes on with them. Then: python -m wsl_tutorial.reproduce publish OUT
# The data have to be there ($WSL_DATA); without a .git set WSL_COMMIT, so that records name their commit.
set -uo pipefail
out=$(realpath -m "${1:?usage: scripts/quarter_hour.sh OUT [SECONDS]}") || exit
end=$(($(date +%s) + ${2:-780}))
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
mkdir -p "$out"
export PYTHONPATH=$PWD TQDM_MININTERVAL=10

left() { echo $((end - $(date +%s))); }

for name in presence_speed step_speed patches_speed; do
    [ "$(left)" -gt 60 ] || break
    timeout 90 "$python" "tests/benchmarks/$name.py" 2>&1 | tee "$out/$name.txt"
done

reproduce() {  # share of what is left, then the words of `run`
    local budget=$(($(left) * $1 / 100 - 15))
    shift
    [ "$budget" -gt 30 ] || return 0
    "$python" -m wsl_tutorial.reproduce run "$@" --protocol paper --budget "$budget" --out "$out"
}

reproduce 60 mcmil/mnist mcmil/mnist-cross-entropy mcmil/extended-mnist --seeds 0-1 --jobs 6
reproduce 100 mist/hard --seeds 0 --capture
"$python" -m wsl_tutorial.reproduce table mcmil --out "$out" | head -40
exit 0
