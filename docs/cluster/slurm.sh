#!/bin/bash
# One run on one or several nodes, which is stopped and requeued as often as Slurm likes:
#     sbatch docs/cluster/slurm.sh --preset ta-lpg-cpu --run-dir runs/mine
# The arguments are meta-train's; the run directory must be on a disk that all nodes share.
#SBATCH --job-name=rl-discovery
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=rl-discovery-%j.log
# Ten minutes before the limit the tasks are told to stop; preemption and requeueing tell them too. What the cluster then
# waits (GraceTime of the partition, KillWait) must be longer than a generation.
#SBATCH --signal=TERM@600
set -uo pipefail

RL_DISCOVERY=${RL_DISCOVERY:-.venv/bin/rl-discovery}

# The script outlives the signal, to see how the run ended. `trap ""` would be inherited by the tasks.
trap : TERM

# With several tasks meta-train finds the others by itself.
srun "$RL_DISCOVERY" meta-train "$@"
status=$?

# 143: the run was told to stop and has saved its state.
if [ "$status" -eq 143 ]; then
    echo "stopped and saved; requeueing $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
