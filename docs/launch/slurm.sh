#!/usr/bin/env bash
# A training under Slurm, from the project's root:
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 \
#     docs/launch/slurm.sh --config=configs/semantic.py --workdir=/shared/run ...
# One task a GPU (jax gives each task its own). Two minutes before the time
# limit, or when it is preempted, the run saves, ends with 75 and is queued
# again; it goes on where it was.
#SBATCH --job-name=musiclm_jax
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120
set -uo pipefail
python=${PYTHON:-.venv/bin/python}
srun "$python" -m musiclm_jax.preflight || exit $?
srun --kill-on-bad-exit=0 "$python" -m musiclm_jax.train "$@"
code=$?
[ $code -ne 75 ] || exec scontrol requeue "$SLURM_JOB_ID"
exit $code
