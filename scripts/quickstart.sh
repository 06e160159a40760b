#!/usr/bin/env bash
# From nothing to a trained, exported model: set-up, embedded task and model, training, evaluation, export.
# Further arguments are flags of `openrlhf-prefix train`: bash scripts/quickstart.sh --hybrid.preset rft
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
VENV="${VENV:-.venv}"
"$VENV/bin/openrlhf-prefix" embed .cache/quickstart
exec "$VENV/bin/openrlhf-prefix" train --config configs/quickstart.yaml "$@"
