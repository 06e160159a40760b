#!/usr/bin/env bash
# Writes scripts/locks/: every version of both stacks, for every Python, from the pins of openrlhf_prefix/pins.py. To be
# run again when those change (a test says so); needs a package index, and no particular machine.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${VENV:-.venv}/bin/uv"
[[ -x "$uv" ]] || {
  echo "lock: there is no $uv: run scripts/setup.sh first, or say where the environment is in VENV" >&2
  exit 2
}
pins() { python3 openrlhf_prefix/pins.py "$@"; }
# PyTorch's CPU build lies on an index of its own, with a wheel for each Python: set-up finds it, a lock need not.
without_torch() { [[ "$1" != cpu ]] || echo "torch ; sys_platform == 'never'"; }

mkdir -p scripts/locks
for stack in cpu gpu; do
  for version in 3.10 3.11 3.12; do
    lock="scripts/locks/$stack-py$version.txt"
    {
      echo "# of the pins $(pins "$stack" | cksum | cut -d ' ' -f 1), by scripts/lock.sh"
      "$uv" pip compile --quiet --no-header --no-annotate --python-version "$version" \
        --python-platform x86_64-manylinux_2_28 --override <(pins overrides "$stack" && without_torch "$stack") \
        <(pins "$stack") | sed 's/^torch==/torch===/' # not 2.13.0+cpu, which counts as newer
    } >"$lock.new"
    mv "$lock.new" "$lock"
    echo "lock: $lock has $(grep -vc '^#' "$lock") packages"
  done
done
