"""Measures a folder of generated music against a folder of references.

`python -m musiclm_jax.evaluate --reference=DIR --generated=DIR --json=FILE`

`--metrics` are fad (with FAD∞ and the FAD of each song), kad, kld (clips of one
name are pairs), mcc and text_score (prompts from captions.csv, else from what
generate wrote into the WAV), codec, attribution, memorization and fingerprint
(against `--training`) and continuation (of `--training` by the semantic model).
Embedders are `tagger`, which comes with the package and is not VGGish, `vggish`
with `--vggish=FILE`, `panns` with `--panns=FILE` (which also is a classifier of
kld), and `codec` and `mulan` of a `--bundle`.

`attribution` tells which stage of the bundle loses the quality: it makes the
first `--seconds` of the reference clips again with one stage more from row to
row, and a row without semantic tokens with `--ablation`. It and continuation
need no `--generated`.

`--save_statistics=FILE.npz` keeps what FAD and KAD need of the reference, and
`--reference=FILE.npz` reads it. Each figure's hash, windowing, n, seed, bounds
and values of clips stand under `details` of the JSON.

`--musiccaps=CSV` measures clips of MusicCaps, files named by ytid on both
sides, and prints the paper's table; without --generated the --bundle makes them
of the captions, and keeps them beside --json.

`python -m musiclm_jax.evaluate --bundle=DIR --report=DIR`

writes a report card, report.html and report.json: all measures that the inputs
permit (or `--metrics`), curves, and clips to listen to. Without `--reference`
the bundle is judged on held-out music that is rendered; without `--generated`
it makes music of the captions of the reference. Both are kept in the folder of
the report, and the same command goes on where it was interrupted. With
`--compare=DIR` a second bundle stands beside the first.
"""

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from musiclm_jax import cli, path_flags
from musiclm_jax.contracts import bounds
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.terminal import printable

if TYPE_CHECKING:
  from musiclm_jax.evaluation.inputs import EvaluationInputs
  from musiclm_jax.evaluation.reporting import ReportRequest

_REFERENCE = path_flags.DEFINE_path(
  'reference', None, 'Folder of references, or an .npz of --save_statistics.'
)
_GENERATED = path_flags.DEFINE_path(
  'generated', None, 'Folder of the music that is measured.'
)
_METRICS = flags.DEFINE_list('metrics', ['fad', 'kad'], 'See above.')
_JSON = path_flags.DEFINE_path('json', None, 'File of the results.')
_EMBEDDERS = flags.DEFINE_list(
  'embedders', None, 'Of fad and kad; None: all that are at hand.'
)
_WINDOWING = flags.DEFINE_enum(
  'windowing',
  'vggish',
  ('vggish', 'fad_tool'),
  'vggish: 0.96 s; fad_tool: 1.0 s every 0.5 s, clips scaled to their peak.',
)
_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_ABLATION = path_flags.DEFINE_path(
  'ablation', None, 'Bundle whose coarse stage reads no semantic tokens.'
)
_VGGISH = path_flags.DEFINE_path(
  'vggish', None, "File of VGGish's published weights."
)
_PANNS = path_flags.DEFINE_path(
  'panns', None, "File of PANNs' published weights, Cnn14."
)
_TRAINING = path_flags.DEFINE_path(
  'training', None, 'Folder of sound that was trained on.'
)
_SAVE = path_flags.DEFINE_path(
  'save_statistics', None, "File for the reference's statistics, .npz."
)
_SCORES = flags.DEFINE_enum(
  'kld_scores',
  None,
  ('softmax', 'sigmoid'),
  'Scores of kld; None: as each classifier was trained.',
)
_DIRECTION = flags.DEFINE_enum(
  'kld_direction',
  'reference_to_generated',
  ('reference_to_generated', 'generated_to_reference'),
  'Direction of kld: the first is p of KL(p ‖ q).',
)
_POOLING = flags.DEFINE_enum(
  'kld_pooling',
  'mean_scores',
  ('mean_scores', 'mean_logits', 'segments'),
  'How kld puts the segments of a clip together.',
)
_REPORT = path_flags.DEFINE_path('report', None, 'Folder of a report card.')
_COMPARE = path_flags.DEFINE_path(
  'compare', None, 'Bundle that stands beside the first in the report.'
)
_CLIPS = flags.DEFINE_integer(
  'clips',
  None,
  'Of --report: clips to render, or to generate at most; None: 16, or all that '
  'have a caption.',
  1,
  100_000,
)
_SECONDS = flags.DEFINE_float(
  'seconds',
  10.0,
  'Of each clip that is made, for the report and by attribution.',
  0.04,
  600.0,
)
_OVERWRITE = flags.DEFINE_bool(
  'overwrite', False, 'Replace files of --report that were changed since.'
)
_MUSICCAPS = path_flags.DEFINE_path(
  'musiccaps', None, "MusicCaps' CSV as it is published."
)
_SPLIT = flags.DEFINE_enum(
  'musiccaps_split',
  'all',
  ('all', 'eval', 'train', 'balanced'),
  'Which clips of MusicCaps; balanced: 1,000 of all genres alike.',
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of all that is drawn.', *bounds.SEED)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 32, 'Windows of one call of a network.', 1, 4096
)


def main() -> None:
  """Checks all arguments before a clip is read, then measures."""
  from musiclm_jax.contracts import atomic_file, paths
  from musiclm_jax.evaluation import inputs, reporting, run

  metrics = _metrics()
  _check_flags(run.MEASURES)
  for file in filter(None, (_JSON.value, _SAVE.value)):
    paths.check_file(file)
  request = _report_request()
  if request:
    reporting.check(request)
  from musiclm_jax.launch import devices

  devices.check()
  open_inputs = functools.partial(
    inputs.open_inputs,
    embedder_names=_EMBEDDERS.value,
    windowing=_WINDOWING.value,
    vggish=_VGGISH.value,
    panns=_PANNS.value,
    ablation=_ABLATION.value,
    seconds=_SECONDS.value,
    seed=_SEED.value,
    batch_size=_BATCH_SIZE.value,
    kld_scores=_SCORES.value,
    kld_direction=_DIRECTION.value,
    kld_pooling=_POOLING.value,
    report=cli.report,
  )
  if request:
    with cli.resumable(_REPORT.value):
      card = reporting.make(request, open_inputs, cli.progress(), cli.report)
    record, lines = card.to_json(), card.lines()
  else:
    opened = open_inputs(
      reference=_REFERENCE.value,
      generated=_GENERATED.value,
      training=_TRAINING.value,
      measures=metrics,
      bundle=_bundle(metrics),
      progress=cli.progress(),
    )
    record, lines = _measure(opened, metrics)
  if _JSON.value:
    text = json.dumps(record, indent=1, allow_nan=False)
    atomic_file.write_text(_JSON.value, text + '\n')
  for line in lines:
    print(printable(line))


def _measure(
  opened: 'EvaluationInputs', metrics: list[str]
) -> tuple[dict[str, Any], list[str]]:
  """Takes the measures of two folders, or of clips of MusicCaps."""
  from musiclm_jax.evaluation import musiccaps, run

  if not _MUSICCAPS.value:
    results = run.evaluate(opened, metrics, _SAVE.value)
    return results.to_json(), results.lines()
  songs = musiccaps.open_songs(
    opened, _MUSICCAPS.value, _SPLIT.value, _made_clips()
  )
  results = run.evaluate(songs.inputs, metrics, _SAVE.value)
  table = songs.add_table(results, _WINDOWING.value)
  return results.to_json(), [*results.lines(), *table]


def _report_request() -> 'ReportRequest | None':
  """What `--report` asks for; None without it."""
  from musiclm_jax.evaluation import reporting

  if not _REPORT.value:
    return None
  return reporting.ReportRequest(
    folder=_REPORT.value,
    bundle=_bundle(_METRICS.value if _METRICS.present else []),
    compare=_COMPARE.value,
    reference=_REFERENCE.value,
    generated=_GENERATED.value,
    training=_TRAINING.value,
    measures=tuple(_METRICS.value) if _METRICS.present else None,
    clips=_CLIPS.value,
    seconds=_SECONDS.value,
    seed=_SEED.value,
    save_statistics=_SAVE.value,
    overwrite=_OVERWRITE.value,
  )


def _metrics() -> list[str]:
  """The measures: of MusicCaps those of the paper, unless others are given."""
  if _MUSICCAPS.value and not _METRICS.present:
    return ['fad', 'kad', 'kld', *(['mcc'] if _BUNDLE.value else [])]
  return _METRICS.value


def _bundle(measures: list[str]) -> Path | None:
  """The bundle: the package's own where something asks for one."""
  from musiclm_jax.cascade import bundle
  from musiclm_jax.evaluation import run

  makes = (_REPORT.value or _MUSICCAPS.value) and not _GENERATED.value
  asked = {*measures, *(_EMBEDDERS.value or ())}
  if makes or asked & {*run.OF_BUNDLE, 'codec', 'mulan'}:
    return _BUNDLE.value or bundle.SHIPPED
  return _BUNDLE.value


def _made_clips() -> Path | None:
  """Folder for what a bundle makes; another split or seed has another one."""
  if not _JSON.value:
    return None
  return _JSON.value.with_suffix(f'.clips_{_SPLIT.value}_{_SEED.value}')


def _check_flags(measures: tuple[str, ...]) -> None:
  from musiclm_jax.evaluation import run

  run.check_measures(_METRICS.value)
  if _SAVE.value and _SAVE.value.suffix != '.npz':
    raise UsageError(
      f"--save_statistics='{_SAVE.value}': the name must end in .npz"
    )
  if not _REPORT.value:
    _check_folders(measures)
  elif _MUSICCAPS.value:
    raise UsageError('--musiccaps and --report do not go together: leave one')


def _check_folders(measures: tuple[str, ...]) -> None:
  """Refuses a call without a report that has nothing to measure."""
  from musiclm_jax.evaluation import run

  for flag in (_COMPARE, _CLIPS):
    if flag.value is not None:
      raise UsageError(f'--{flag.name} is for --report=DIR: give that as well')
  if not _REFERENCE.value and not _GENERATED.value:
    raise UsageError('--reference and --generated are missing: give folders')
  wanted = set(_METRICS.value)
  made = bool(wanted) and wanted <= set(run.OF_REFERENCE)
  if not (_GENERATED.value or _SAVE.value or _MUSICCAPS.value or made):
    raise UsageError('--generated is missing: give the folder to measure')
  if not _METRICS.value and not _SAVE.value:
    raise UsageError(f'--metrics is empty: choose of {", ".join(measures)}')


if __name__ == '__main__':
  cli.run(main)
