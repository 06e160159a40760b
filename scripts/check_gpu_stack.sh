#!/usr/bin/env bash
# What can be proven of the GPU stack on any machine, for a maintainer to run by hand: its environment without flash-attn
# (9 GB, two minutes), unit and contract tests there, every recipe checked and planned, and what is said where no GPU is
# seen. Prints the table of docs/00-install.md; exit code 1 where a row fails.
#
#   bash scripts/check_gpu_stack.sh [FOLDER]     the environment stays in FOLDER; without one it is thrown away
# shellcheck disable=SC2016,SC2329 # backquotes are the table's; functions are called by row()
set -euo pipefail
cd "$(dirname "$0")/.."
folder="${1:-$(mktemp -d)}"
mkdir -p "$folder"
[[ $# -gt 0 ]] || trap 'rm -rf "$folder"' EXIT
unset OPENRLHF_PREFIX_PLATFORM RAY_ADDRESS
export VENV="$folder/venv" STACK=gpu ATTENTION=sdpa HF_HUB_OFFLINE=1
log="$folder/log"
failed=0

row() { # NAME COMMAND...   its last line is shown
  local name="$1" started="$SECONDS" result=passed
  shift
  echo "$name ..." >&2
  "$@" >"$log" 2>&1 || { result=FAILED && failed=1 && tail -n 30 "$log" >&2; }
  echo "| $name | $result | $((SECONDS - started)) | $(tail -n 1 "$log") |" >>"$folder/table"
}

python() { "$VENV/bin/python" -W ignore "$@"; }
ours() { python -m openrlhf_prefix.cli "$@"; }
tests() { python -m pytest -q -p no:cacheprovider "$@"; }

made() {
  bash scripts/setup.sh &&
    python -c 'import torch; print(f"torch {torch.__version__} for CUDA {torch.version.cuda}")'
}

recipes() { # COMMAND...   each recipe behind it
  local count=0 recipe
  for recipe in configs/*/*rft.yaml configs/*/split.yaml; do
    "$@" "$recipe" || return 1
    count=$((count + 1))
  done
  echo "$count recipes"
}

dry_run() { # with the embedded task: the recipes' models are on a hub
  ours train --dry_run --actor.model_name_or_path .cache/quickstart/model --model.max_position_embeddings 16384 \
    --data.prompt_dataset .cache/quickstart/task/train.jsonl --run.dir "$folder/${1//\//_}" --config "$1"
}

refused() { # VARIABLE=VALUE...   a run whose GPUs are hidden: a sentence and exit code 2, no traceback
  local code=0
  env CUDA_VISIBLE_DEVICES= "$@" "$VENV/bin/python" -W ignore -m openrlhf_prefix.cli train \
    --config configs/quickstart.yaml --run.dir "$folder/run" || code=$?
  rm -rf "$folder/run"
  [[ "$code" -eq 2 ]] && ! grep -q Traceback "$log"
}

printf '| what | result | s | its last line |\n| --- | --- | --- | --- |\n' >"$folder/table"
row '`STACK=gpu ATTENTION=sdpa bash scripts/setup.sh`' made
if [[ "$failed" -eq 0 ]]; then
  row 'the same again' bash scripts/setup.sh
  row '`tests/unit`' tests tests/unit
  row '`tests/contract`' tests tests/contract
  row 'embedded task and model' ours embed .cache/quickstart
  row '`train --dry_run` of every recipe' recipes dry_run
  row '`plan` of every recipe' recipes ours plan --gpus-per-node 8 --gpu-memory 80 --config
  row '`train` without a GPU' refused
  row '`OPENRLHF_PREFIX_PLATFORM=cuda` without a GPU' refused OPENRLHF_PREFIX_PLATFORM=cuda
  row '`OPENRLHF_PREFIX_PLATFORM=cpu`' refused OPENRLHF_PREFIX_PLATFORM=cpu
fi
cat "$folder/table"
exit "$failed"
