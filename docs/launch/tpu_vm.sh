#!/usr/bin/env bash
# A training on all workers of a Cloud TPU VM slice, from your own machine:
#   docs/launch/tpu_vm.sh NAME ZONE setup
#   docs/launch/tpu_vm.sh NAME ZONE preflight
#   docs/launch/tpu_vm.sh NAME ZONE train --config=configs/semantic.py ...
# Run it from the project's root. --workdir (and --tokens, a source) must be a
# folder that all workers see, such as a mounted Filestore share.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '2,7p' "$0" >&2; exit 2; }
name=$1 zone=$2 verb=$3
shift 3
words=''
[ $# -eq 0 ] || words=$(printf ' %q' "$@")

everywhere() {
  gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd musiclm_jax && $1"
}
python='JAX_COORDINATOR_ADDRESS=auto .venv/bin/python'

case $verb in
  setup)
    # What git knows of, whatever else lies in the folder.
    archive=$(mktemp --suffix=.tar)
    trap 'rm -f "$archive"' EXIT
    git archive --prefix=musiclm_jax/ --output="$archive" HEAD
    gcloud compute tpus tpu-vm scp "$archive" "$name:musiclm_jax.tar" \
      --zone="$zone" --worker=all
    gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
      --command='tar xf musiclm_jax.tar && make -C musiclm_jax .venv/.installed'
    ;;
  preflight) everywhere "$python -m musiclm_jax.preflight$words" ;;
  train)
    # 75: saved because it was asked to stop, so it goes on.
    everywhere "$python -m musiclm_jax.preflight && while true; do
      code=0; $python -m musiclm_jax.train$words || code=\$?
      [ \$code -eq 75 ] || exit \$code; done"
    ;;
  *) echo "error: unknown verb '$verb': give setup, preflight or train" >&2
    exit 2 ;;
esac
