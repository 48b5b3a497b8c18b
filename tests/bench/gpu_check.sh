#!/usr/bin/env bash
# Tests marked gpu, then timings, on one CUDA device in at most 8 minutes. Every line starts with the name of the card.
# Run from the repository: PYTHON=.venv/bin/python bash tests/bench/gpu_check.sh
set -uo pipefail
PYTHON=${PYTHON:-python}
END=$((SECONDS + 470))
export PYTHONPATH=$PWD

CARD=$("$PYTHON" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "")') || exit 1
if [ -z "$CARD" ]; then
    echo "gpu_check: torch finds no CUDA device on this machine; run it where there is one" >&2
    exit 1
fi
FAILED=0
FOLDER=$(mktemp -d)
trap 'rm -rf "$FOLDER"' EXIT

# check NAME SECONDS COMMAND...: its output, wall time and exit status, within its own limit and the common one.
check() {
    local name=$1 limit=$2 left=$((END - SECONDS)) start=$SECONDS status
    shift 2
    if [ "$left" -le 0 ]; then
        echo "[$CARD] $name: not run, no time left"
        FAILED=1
        return
    fi
    timeout -k 5 "$((limit < left ? limit : left))" "$@" 2>&1 | sed -u "s|^|[$CARD] |"
    status=${PIPESTATUS[0]}
    echo "[$CARD] $name: exit status $status after $((SECONDS - start)) s"
    [ "$status" -eq 0 ] || FAILED=1
}

check "tests marked gpu" 180 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests
check "train" 60 "$PYTHON" -P -m experiments.train updates=30 runs_folder="$FOLDER"
check "sampling, small" 60 "$PYTHON" tests/bench/bench_sampling.py small
check "sampling, b" 90 "$PYTHON" tests/bench/bench_sampling.py b
check "quantizers, on the CPU" 80 "$PYTHON" tests/bench/bench_quantizers.py
exit "$FAILED"
