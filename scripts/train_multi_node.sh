#!/usr/bin/env bash
# One training on several machines. The same command on each of them (Slurm: scripts/slurm.sbatch does it):
#
#   NODES=8 NODE_RANK=0 HEAD_ADDRESS=10.0.0.1 bash scripts/train_multi_node.sh --config ... --actor.num_nodes 8
#
# The machine of rank 0 starts the head of a Ray cluster, waits until all have joined, submits the training and ends with
# its exit code; the others join, and leave when the head does. Set-up, code and data are on a shared file system.
#
#   NODES, NODE_RANK, HEAD_ADDRESS   how many machines, which one this is, the first one's address (Slurm: found)
#   NODE_ADDRESS                     this machine's address, where it has several
#   GPUS_PER_NODE                    where Ray should not count them
#   JOIN_SECONDS                     deadline for head and workers to find each other (600)
#   RAY_PORT, DASHBOARD_PORT         of the head (6379, 8265); jobs are taken on DASHBOARD_HOST (127.0.0.1)
#   STOP_SECONDS                     what a SIGTERM leaves the training to save (120)
#   RAY_START_OPTIONS                further words for `ray start`
set -euo pipefail

fail() {
  echo "train_multi_node: $1" >&2
  exit 2
}

NODES="${NODES:-${SLURM_JOB_NUM_NODES:-}}"
NODE_RANK="${NODE_RANK:-${SLURM_PROCID:-}}"
if [[ -z "${HEAD_ADDRESS:-}" && -n "${SLURM_JOB_NODELIST:-}" ]]; then
  HEAD_ADDRESS="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
fi
[[ -n "$NODES" && -n "$NODE_RANK" && -n "${HEAD_ADDRESS:-}" ]] ||
  fail "set NODES (how many), NODE_RANK (0 to NODES - 1) and HEAD_ADDRESS (of rank 0)"
head_ip="$(getent ahostsv4 "$HEAD_ADDRESS" | awk 'NR == 1 { print $1 }')" ||
  fail "HEAD_ADDRESS '$HEAD_ADDRESS' has no address here: give an IP, or a name that this machine resolves"
JOIN_SECONDS="${JOIN_SECONDS:-600}"
RAY_PORT="${RAY_PORT:-6379}"
DASHBOARD_PORT="${DASHBOARD_PORT:-8265}"
export STOP_SECONDS="${STOP_SECONDS:-120}"
export VENV="${VENV:-$(cd "$(dirname "$0")/.." && pwd)/.venv}"
[[ -x "$VENV/bin/ray" ]] || fail "there is no $VENV/bin/ray: run scripts/setup.sh once, on the shared file system"
export PYTHONPATH="${PYTHONPATH:-$(cd "$(dirname "$0")/.." && pwd)}"

read -ra options <<<"${RAY_START_OPTIONS:-}"
options+=(--block --disable-usage-stats)
[[ -z "${GPUS_PER_NODE:-}" ]] || options+=("--num-gpus=$GPUS_PER_NODE")

ray_pid=""
export PREFIX_LAUNCH="$HOSTNAME-$$-$RANDOM" # in the environment of all that is started below
leave() {
  [[ -n "$ray_pid" ]] || return 0
  { kill "$ray_pid" && wait "$ray_pid"; } 2>/dev/null || true # `ray start --block` takes its own processes along,
  for process in /proc/[0-9]*; do                             # but not the engines, which are their children
    [[ "${process#/proc/}" != "$$" ]] || continue
    ! grep -qzFx "PREFIX_LAUNCH=$PREFIX_LAUNCH" "$process/environ" 2>/dev/null || kill -9 "${process#/proc/}" 2>/dev/null || true
  done
}
trap leave EXIT
trap 'exit 143' TERM INT

head_answers() { timeout 5 bash -c ": </dev/tcp/$head_ip/$RAY_PORT" 2>/dev/null; }

start() { # with a log of its own: the terminal is the training's
  log="$(mktemp -t "ray-start-$NODE_RANK-XXXXXX.log")"
  "$VENV/bin/ray" start "${options[@]}" "$@" >"$log" 2>&1 &
  ray_pid=$!
}

if [[ "$NODE_RANK" == 0 ]]; then
  ! head_answers || fail "something listens on $head_ip:$RAY_PORT already: set RAY_PORT, or stop it"
  start --head "--node-ip-address=$head_ip" "--port=$RAY_PORT" \
    "--dashboard-host=${DASHBOARD_HOST:-127.0.0.1}" "--dashboard-port=$DASHBOARD_PORT"
  deadline=$((SECONDS + JOIN_SECONDS))
  until head_answers; do
    if ((SECONDS >= deadline)) || ! kill -0 "$ray_pid" 2>/dev/null; then
      tail -n 20 "$log" >&2
      fail "the head did not start; the lines above say why"
    fi
    sleep 1
  done
  "$VENV/bin/python" -W ignore -m openrlhf_prefix.runtime.driver.join "$head_ip:$RAY_PORT" "$NODES" "$JOIN_SECONDS" || {
    code=$?
    tail -n 20 "$log" >&2
    exit "$code"
  }
  export RAY_API_SERVER_ADDRESS="http://${DASHBOARD_HOST:-127.0.0.1}:$DASHBOARD_PORT"
  bash "$(dirname "$0")/submit.sh" "$@" &
  submit_pid=$!
  trap 'kill -TERM "$submit_pid" 2>/dev/null || true' TERM INT # which stops the job
  code=0
  wait "$submit_pid" || code=$?
  while kill -0 "$submit_pid" 2>/dev/null; do # a signal ends `wait` before its time
    code=0
    wait "$submit_pid" || code=$?
  done
  exit "$code"
fi

deadline=$((SECONDS + JOIN_SECONDS))
until head_answers; do
  ((SECONDS < deadline)) || fail "the head at $head_ip:$RAY_PORT did not answer within $JOIN_SECONDS s: is rank 0 \
running, and can this machine reach it?"
  sleep 2
done
[[ -z "${NODE_ADDRESS:-}" ]] || options+=("--node-ip-address=$NODE_ADDRESS")
start "--address=$head_ip:$RAY_PORT"
trap 'leave_at=$((SECONDS + STOP_SECONDS))' TERM INT # the job may still save: leave after the head
misses=0 leave_at=""
while ((misses < 3)); do
  [[ -z "$leave_at" ]] || ((SECONDS < leave_at)) || exit 143
  sleep 2
  if head_answers; then misses=0; else misses=$((misses + 1)); fi
  if ((misses == 0)) && ! kill -0 "$ray_pid" 2>/dev/null; then
    tail -n 20 "$log" >&2
    echo "train_multi_node: Ray ended on rank $NODE_RANK while the head still answers" >&2
    exit 1
  fi
done
echo "train_multi_node: the head is gone, rank $NODE_RANK leaves"
