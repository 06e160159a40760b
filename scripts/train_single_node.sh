#!/usr/bin/env bash
# Set-up, then a training on this machine's GPUs, with a Ray of its own. Arguments are flags of `openrlhf-prefix train`:
#
#   bash scripts/train_single_node.sh --config configs/qwen2.5_math_7b/prefix_rft.yaml --data.prompt_dataset data.jsonl
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
unset RAY_ADDRESS
exec "${VENV:-.venv}/bin/openrlhf-prefix" train "$@"
