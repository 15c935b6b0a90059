"""Runs the whole cascade, small: corpus, eight trainings, music, report.

`python -m experiments.tiny_cascade.run --out=runs/cascade --seed=0` in the root
of the repository (or `make cascade`). Every stage is a process of its own; one
that was finished with the same inputs is not run again, and an interrupted one
continues. Exit code 1 says that the machinery fails, by a gate that names the
stage to look at; gates of size bind with `--strict` alone.
"""

import os

from absl import flags

from experiments.tiny_cascade import plan, run_folder, scheduler
from experiments.tiny_cascade.status_line import ProgressLine
from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.launch import devices

_OUT = path_flags.DEFINE_path('out', 'runs/cascade', 'Folder of all.')
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Reaches corpus, trainings, samples.', *bounds.DEMO_SEED
)
_SIZE = flags.DEFINE_string('size', 'tiny', 'Size of every config.')
_PIECES = flags.DEFINE_integer(
  'pieces', 1600, 'Pieces of the corpus.', *bounds.PIECES
)
_STEPS = flags.DEFINE_integer(
  'steps',
  None,
  'Steps of every training, instead of its config; for trials.',
  *bounds.COUNT,
)
_UNTIL = flags.DEFINE_string('until', None, 'Last stage to run.')
_IGNORE_CODE_CHANGES = flags.DEFINE_bool(
  'ignore_code_changes', False, 'Keep finished stages though code has changed.'
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace another demo, and files that were changed.'
)
_STRICT = flags.DEFINE_bool(
  'strict', False, 'Fail where a gate of size is not reached, too.'
)


def main() -> int:
  """Runs every stage, then says which gates hold."""
  out = _OUT.value
  stages = plan.CascadePlan(
    out, _SEED.value, _SIZE.value, _PIECES.value, _STEPS.value
  ).stages()
  names = [stage.name for stage in stages]
  if _UNTIL.value and _UNTIL.value not in names:
    raise UsageError(
      f"unknown stage '{_UNTIL.value}' in --until: choose one of "
      f'{", ".join(names)}'
    )
  hashes = plan.input_hashes(stages, with_code=not _IGNORE_CODE_CHANGES.value)
  if os.environ.get('JAX_PLATFORMS', 'cpu') != 'cpu':
    devices.ask()  # whether it is there, before all
  if _UNTIL.value:
    stages = stages[: names.index(_UNTIL.value) + 1]
  overwrite = _OVERWRITE.value
  metadata = {flag.name: flag.value for flag in (_SEED, _SIZE, _PIECES, _STEPS)}
  with run_folder.hold(out, metadata, overwrite):
    run_folder.check(stages, hashes, out, overwrite)
    line = ProgressLine(stages)
    scheduler.run_all(stages, hashes, out, line, overwrite)
    if _UNTIL.value:
      return 0
    return scheduler.finish(out, stages, _STRICT.value)


if __name__ == '__main__':
  cli.run(main)
