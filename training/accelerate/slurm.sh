#!/bin/bash
# A training script on several nodes with SLURM: sbatch training/accelerate/slurm.sh SCRIPT FLAGS...
#
#   sbatch training/accelerate/slurm.sh training/train_qformer.py --recipe training/recipes/seed-1/stage1.yaml \
#       --init_model stage-1-start --dataset DATA --output_dir out/stage1
#
# CONFIG chooses the launch settings. The script stops with a checkpoint ten minutes before the time limit, and the next
# job of the array, which runs alone (%1), goes on from there; jobs that are left over find nothing to do.
# No signals: launchers end their processes on them before a checkpoint is written.
#SBATCH --job-name=seed
#SBATCH --nodes=8
#SBATCH --ntasks-per-node=1
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --array=1-4%1
#SBATCH --requeue

set -euo pipefail
export CONFIG=${CONFIG:-training/accelerate/eight_nodes_v100.yaml}
export PROCESSES=$((SLURM_NNODES * ${GPUS_PER_NODE:-8}))
HEAD_NODE=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p) # not head, which would end scontrol early
export HEAD_NODE

# Single quotes: each node fills in its own rank.
srun --kill-on-bad-exit=1 bash -c 'exec accelerate launch --config_file "$CONFIG" \
    --num_machines "$SLURM_NNODES" --num_processes "$PROCESSES" --machine_rank "$SLURM_NODEID" \
    --main_process_ip "$HEAD_NODE" "$@"' launch "$@" --stop_at $((SLURM_JOB_END_TIME - 600))
