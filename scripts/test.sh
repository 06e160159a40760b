#!/usr/bin/env bash
# Sets up and runs all tests; further arguments go to pytest: bash scripts/test.sh tests/unit -k sampler
# LONG=1 runs the tests of many minutes, too.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
VENV="${VENV:-.venv}"
# The real-stack tests come last: a broken unit is found within seconds.
[[ $# -gt 0 ]] || set -- tests/unit tests/integration tests/contract tests/e2e
exec "$VENV/bin/python" -m pytest -q "$@"
