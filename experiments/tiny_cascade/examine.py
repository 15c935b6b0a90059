"""Evaluates what a run has learned and writes its report.

`python -m experiments.tiny_cascade.examine --demo=runs/cascade --seed=0` reads
the run's corpus, tokens, bundle and logs, and writes report.html, report.json
and picture.png beside them. A failed gate is a result, not an error: the exit
code is 0 when the report was written. `--strict` is for a model that is
shipped: the exit code is 1 where any gate, of machinery or of size, does not
hold.

`--only_features` computes the features of its classifiers and keeps them in the
demo: that needs corpus, tokens and codec alone, so it can run beside a
training.
"""

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError

_DEMO = path_flags.DEFINE_path('demo', None, 'Folder of a demo.')
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Of classifiers, prompts and samples.', *bounds.DEMO_SEED
)
_ONLY_FEATURES = flags.DEFINE_bool(
  'only_features',
  False,
  'Compute the features of the classifiers, and no more.',
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace the report and its picture, whoever wrote them.'
)
_STRICT = flags.DEFINE_bool(
  'strict', False, 'Exit code 1 where any gate does not hold.'
)


def main() -> int:
  """Evaluates the demo and writes its report."""
  if not _DEMO.value:
    raise UsageError('--demo is missing: give the folder of a demo')
  folder = _DEMO.value
  if not folder.is_dir():
    raise UsageError(f"there is no demo at '{folder}': run make cascade first")
  from experiments.tiny_cascade import (
    evaluation,
    feature_cache,
    gates,
    report,
  )
  from musiclm_jax.contracts import ownership
  from musiclm_jax.launch import devices

  ownership.check(folder / 'features', feature_cache.FOLDER)
  if not _ONLY_FEATURES.value:
    report.check_out(folder, _OVERWRITE.value)
  devices.check()
  if _ONLY_FEATURES.value:
    evaluation.compute_features(folder, cli.progress())
    return 0
  written = evaluation.write_report(folder, _SEED.value, cli.progress())
  rows = [gate.to_json() for gate in written.gates]
  print(gates.verdict(rows))
  return 1 if _STRICT.value and gates.failing(rows, strict=True) else 0


if __name__ == '__main__':
  cli.run(main)
