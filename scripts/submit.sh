#!/usr/bin/env bash
# Submits a training to a running Ray cluster, follows its log and ends with its exit code. Arguments are flags of train.
#
#   RAY_API_SERVER_ADDRESS=http://head:8265 bash scripts/submit.sh --config configs/qwen3_8b_base/prefix_rft.yaml ...
#
# PASS_ENV="A B" passes on more variables than NCCL_*, GLOO_*, HF_*, VLLM_* and OPENRLHF_PREFIX_*; JOB_PYTHON is the
# Python of the cluster's nodes, where it is not this one.
set -euo pipefail
VENV="${VENV:-$(dirname "$0")/../.venv}"
[[ -x "$VENV/bin/python" ]] || {
  echo "submit: there is no $VENV/bin/python: run scripts/setup.sh, or say where it is in VENV" >&2
  exit 2
}
exec "$VENV/bin/python" -m openrlhf_prefix.cli submit "$@"
