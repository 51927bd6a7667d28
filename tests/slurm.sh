#!/bin/bash
# `make test-slurm`: docs/cluster/slurm.sh on a cluster of one node that lives in a temporary folder. A tiny run is
# requeued in the middle, must resume, and must end with the metrics and the objective of one that was never stopped.
set -euo pipefail
export PATH=$PATH:/usr/sbin:/sbin
for program in munged slurmctld slurmd sbatch scontrol squeue; do
    if ! command -v "$program" >/dev/null; then
        echo "test-slurm needs $program: on Debian, apt-get install slurm-wlm munge" >&2
        exit 1
    fi
done
if [ "$(id -u)" -ne 0 ]; then
    echo "test-slurm needs root, as slurmd does" >&2
    exit 1
fi

root=$(cd "$(dirname "$0")/.." && pwd)
command_path=${RL_DISCOVERY:-$root/.venv/bin/rl-discovery}
work=$(mktemp -d /tmp/test-slurm.XXXXXX)
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "${keep:-1}" -eq 1 ]; then echo "logs are in $work" >&2; else rm -rf "$work"; fi
}
trap finish EXIT

mkdir -m 755 "$work/state" "$work/spool" "$work/munge"
dd if=/dev/urandom of="$work/munge/key" bs=1024 count=1 status=none
chmod 400 "$work/munge/key"
munged --force --foreground --key-file="$work/munge/key" --socket="$work/munge/socket" \
    --pid-file="$work/munge/pid" --log-file="$work/munge/log" --seed-file="$work/munge/seed" &
pids+=($!)

cat >"$work/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
AuthType=auth/munge
AuthInfo=socket=$work/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
MpiDefault=none
KillWait=120
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
EOF
export SLURM_CONF=$work/slurm.conf
slurmctld -D -f "$SLURM_CONF" &
pids+=($!)
slurmd -D -f "$SLURM_CONF" &
pids+=($!)

within() { # seconds, what, command: waits until the command succeeds
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then echo "failed: $what" >&2; exit 1; fi
        sleep 1
    done
}
rows() { [ -f "$1/metrics.jsonl" ] && [ "$(wc -l <"$1/metrics.jsonl")" -ge "$2" ]; }
idle() { sinfo -h -o %T | grep -q idle; }
gone() { ! squeue -h -j "$1" -o %T | grep -qE 'PENDING|RUNNING|COMPLETING|CONFIGURING'; }
restarts() { scontrol show job "$1" | grep -qE "Restarts=[1-9]"; }
within 60 "the node comes up" idle

small=(--preset quickstart --generations 40 --checkpoint.every 100 --es.pairs 8 --devices 1 --levels.horizon 400
    --logging.no-tensorboard)
cd "$work"
export RL_DISCOVERY=$command_path
job=$(sbatch --parsable --cpus-per-task=1 --time=30 --signal=TERM@60 "$root/docs/cluster/slurm.sh" "${small[@]}" --run-dir "$work/stopped")
within 300 "two generations of job $job" rows "$work/stopped" 2
scontrol requeue "$job"
echo "requeued job $job after $(wc -l <"$work/stopped/metrics.jsonl") generations"
within 300 "job $job is started again" restarts "$job"
scontrol release "$job" 2>/dev/null || true
within 400 "job $job ends" gone "$job"
cat rl-discovery-"$job".log

"$command_path" meta-train "${small[@]}" --run-dir "$work/whole" >/dev/null 2>&1
[ "$(wc -l <"$work/stopped/metrics.jsonl")" -eq 40 ]
grep -qE "resumed at generation ([1-9]|[12][0-9])$" "$work/stopped/train.log" # in the middle
python3 - "$work" <<'EOF'
import json, sys
from pathlib import Path

def learned(name):
    lines = (Path(sys.argv[1]) / name / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k in KEPT} for line in lines]

KEPT = ("generation", "env_steps", "fitness_mean", "fitness_best", "meta_param_norm", "update_norm")
assert learned("stopped") == learned("whole"), "the requeued run is another one"
EOF
keep=0
echo "passed: requeued once, resumed, 40 generations equal to a run that was never stopped"
