#!/usr/bin/env bash
# Sets up and runs all tests; further arguments go to pytest: bash scripts/test.sh tests/unit -k sampler
# LONG=1 runs the tests of many minutes, too.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
pytest=("${VENV:-.venv}/bin/python" -m pytest -q)
[[ $# -eq 0 ]] || exec "${pytest[@]}" "$@"
"${pytest[@]}" -n 2 tests/unit # a broken unit is found within seconds
"${VENV:-.venv}/bin/mypy" # the packages of mypy.ini
# Two processes share the cores: much of a run of the stack is one part of it waiting for another.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((($(nproc) + 1) / 2))}"
exec "${pytest[@]}" --durations 12 -n 2 --dist loadscope --no-loadscope-reorder tests/e2e tests/integration tests/contract
