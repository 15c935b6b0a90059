"""The way to a report card: bundles -> music -> measures -> page.

Under the folder of the report:
  report.html, report.json
  reference/           held-out music, where no reference is given
  generated/           what the bundle made of the reference's captions
  generated_compare/   what the second bundle made of them
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import ownership, paths
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import Meter, ProgressCallback
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.evaluation import (
  clips,
  codec,
  comparison,
  held_out,
  page,
  run,
)
from musiclm_jax.evaluation.clips import ClipFolder
from musiclm_jax.evaluation.inputs import EvaluationInputs
from musiclm_jax.evaluation.page import Clip
from musiclm_jax.evaluation.report_card import ClipRow, ReportCard
from musiclm_jax.evaluation.results import Results, Side

HELD_OUT_CLIPS = 16
_SHOWN_ROWS = 4  # of clips on the page
_SHOWN_SECONDS = 10.0  # of each
_REFERENCE, _GENERATED = 'reference', ('generated', 'generated_compare')


@dataclasses.dataclass(frozen=True)
class ReportRequest:
  """What a report is asked for.

  Attributes:
    folder: Of the report.
    bundle: That it is about; None only where both folders are given.
    compare: A second bundle.
    reference: Folder of references, or an .npz of their statistics; None:
      held-out music, which is rendered.
    generated: Folder of what is measured; None: the bundle makes it.
    training: Folder of what was trained on.
    measures: Of `run.MEASURES`; None: all that these inputs permit.
    clips: That are rendered, or generated at most; None: 16, or all captions.
    seconds: Of each of these.
    seed: Of everything that is drawn.
    save_statistics: See `run.evaluate`.
    overwrite: Whether files are replaced that were changed since.
  """

  folder: Path
  bundle: Path | None = None
  compare: Path | None = None
  reference: Path | None = None
  generated: Path | None = None
  training: Path | None = None
  measures: Sequence[str] | None = None
  clips: int | None = None
  seconds: float = 10.0
  seed: int = 0
  save_statistics: Path | None = None
  overwrite: bool = False


def check(request: ReportRequest) -> None:
  """Checks what can be known before a network is loaded.

  Raises:
    UsageError: If something is missing, does not go together, or would replace
      what is not ours.
  """
  if request.generated and not request.reference:
    raise UsageError(
      '--reference is missing: give the folder that --generated is measured '
      'against, or leave both out'
    )
  if request.compare and request.generated:
    raise UsageError(
      '--compare lets both bundles make music of the same captions: leave '
      '--generated out'
    )
  paths.check_folder(request.folder)
  page.check_out(request.folder, (page.HTML,), request.overwrite)
  if not request.reference:
    held_out.check_folder(
      request.folder / _REFERENCE, held_out.REFERENCE, request.overwrite
    )
  if not request.generated:
    for name in _GENERATED[: 1 + bool(request.compare)]:
      held_out.check_folder(
        request.folder / name, held_out.GENERATED, request.overwrite
      )


def make(
  request: ReportRequest,
  open_inputs: Callable[..., EvaluationInputs],
  progress: ProgressCallback | None = None,
  report: Callable[[str], None] = lambda line: None,
) -> ReportCard:
  """Makes what is missing, measures, and writes report.html and report.json.

  The same request goes on where it was interrupted.

  Args:
    request: See `check`.
    open_inputs: `inputs.open_inputs` but for `reference`, `generated`,
      `training`, `measures`, `bundle` and `progress`.
    progress: Takes events; their stages say which step of how many they are.
    report: Takes lines for the user.

  Raises:
    UsageError: As `check`, `run.evaluate` and `MusicLM.generate`; if no clip of
      the reference has a caption and there is nothing to measure.
  """
  check(request)
  models = [
    MusicLM.load(path, report)
    for path in (request.bundle, request.compare)
    if path
  ]
  count = max(len(models), 1)
  made = 0 if request.generated else count
  steps = Steps(progress, (not request.reference) + made + count + 1)
  with ownership.lock(request.folder, 'writing a report into'):
    reference = _reference(request, steps)
    asked = []
    if isinstance(reference, ClipFolder):
      asked = held_out.prompted_clips(reference)[: request.clips]
    generated = _generated(request, models, reference, asked, steps, report)
    sides, opened, left_out = [], [], {}
    for number in range(count):
      model = models[number] if models else None
      measures, reasons = request.measures, {}
      if measures is None:
        measures, reasons = permitted(
          reference, generated[number], model, request.training
        )
      inputs = open_inputs(
        reference=_path(reference),
        generated=generated[number].path,
        training=request.training,
        measures=measures,
        bundle=model,
        progress=steps.begin(f'measuring {_name(model)}' if model else ''),
      )
      results = run.evaluate(
        inputs, measures, None if number else request.save_statistics
      )
      sides.append(Side(_name(model), results, bundle_facts(model)))
      opened.append(inputs)
      left_out |= reasons
    sides = _told_apart(sides)
    card = ReportCard(
      sides,
      _conditions(request, sides[0].results, asked, reference, opened[0]),
      left_out,
      _clip_rows(sides, opened, asked, steps.begin('')),
      _differences(sides, asked, request.seed),
    )
    card.write(request.folder)
  report(f'wrote {request.folder / page.HTML}')
  return card


class Steps:
  """Puts the number of a step before the stages of its events."""

  def __init__(self, progress: ProgressCallback | None, total: int):
    """Begins before the first of so many steps."""
    self._progress, self._total, self._done = progress, total, 0

  def begin(
    self, words: str, progress: ProgressCallback | None = None
  ) -> ProgressCallback | None:
    """The callback of the next step.

    Args:
      words: What it is.
      progress: Takes its events in the place of the callback of all steps.
    """
    self._done += 1
    show = progress or self._progress
    if show is None:
      return None
    told = ', '.join(filter(None, (f'{self._done}/{self._total}', words)))
    return lambda event: show(
      dataclasses.replace(event, stage=f'{told}, {event.stage}')
    )


def _reference(request: ReportRequest, steps: Steps) -> ClipFolder | Path:
  """Opens the reference, which is rendered where none is given."""
  if request.reference and request.reference.suffix == '.npz':
    return request.reference
  if request.reference:
    return ClipFolder(request.reference)
  folder = request.folder / _REFERENCE
  held_out.write_reference(
    folder,
    clips=request.clips or HELD_OUT_CLIPS,
    seconds=request.seconds,
    seed=request.seed,
    progress=steps.begin(''),
  )
  return ClipFolder(folder)


def _generated(
  request: ReportRequest,
  models: Sequence[MusicLM],
  reference: ClipFolder | Path,
  asked: list[held_out.PromptedClip],
  steps: Steps,
  report: Callable[[str], None],
) -> list[ClipFolder]:
  """Opens what is measured, which each bundle makes where it is not given."""
  if request.generated:
    return [ClipFolder(request.generated)]
  if not asked:
    raise UsageError(
      f"no clip of '{printable(_path(reference))}' has a caption to make music "
      'of: write captions.csv (path,caption) beside them, or give '
      '--generated=DIR'
    )
  found = []
  for model, name in zip(models, _GENERATED, strict=False):
    held_out.generate(
      request.folder / name,
      model,
      asked,
      seconds=request.seconds,
      seed=request.seed,
      progress=steps.begin(f'generating with {_name(model)}'),
      report=report,
    )
    found.append(ClipFolder(request.folder / name))
  return found


def permitted(
  reference: ClipFolder | Path,
  generated: ClipFolder,
  model: MusicLM | None,
  training: Path | None,
) -> tuple[tuple[str, ...], dict[str, str]]:
  """Chooses the measures that these inputs permit.

  Returns:
    Names of `run.MEASURES`, and what stands against each of the others.
  """
  against: dict[str, str] = {}
  is_folder = isinstance(reference, ClipFolder)
  if not is_folder:
    for name in ('kld', 'codec', 'attribution'):
      against[name] = f'{name}: the reference is a file of statistics'
  else:
    try:
      clips.pair(reference, generated)
    except UsageError as error:
      against['kld'] = f'kld: {error}'
    if not any(_is_long(reference, index) for index in range(len(reference))):
      against['codec'] = (
        f'codec: no clip has {codec.WINDOW_SECONDS:g} s of sound'
      )
  if importlib.util.find_spec('librosa') is None:
    against['codec'] = 'codec: the package librosa is not installed'
  if not held_out.prompted_clips(generated):
    for name in ('mcc', 'text_score'):
      against[name] = f'{name}: no generated clip has a prompt'
  if model is None:
    against |= {name: f'{name}: needs --bundle' for name in run.OF_BUNDLE}
  if training is None or not is_folder:
    for name in ('memorization', 'continuation', 'fingerprint'):
      against[name] = f'{name}: needs --training and folders of clips'
  chosen = tuple(name for name in run.MEASURES if name not in against)
  return chosen, {k: v for k, v in against.items() if k in run.MEASURES}


def _is_long(folder: ClipFolder, index: int) -> bool:
  source = folder.source(SAMPLE_RATE)
  return source.num_samples(index) >= codec.WINDOW_SECONDS * SAMPLE_RATE


def _path(reference: ClipFolder | Path) -> Path:
  return reference.path if isinstance(reference, ClipFolder) else reference


def _name(model: MusicLM | None) -> str:
  """Names a bundle by its folder and the one above, as most are `bundle`."""
  if model is None:
    return 'generated'
  return printable('/'.join(model.bundle.path.resolve().parts[-2:]))


def _told_apart(sides: Sequence[Side]) -> list[Side]:
  """Gives bundles of one name the beginning of their hash as well."""
  names = {side.name for side in sides}
  if len(names) == len(sides):
    return list(sides)
  return [
    dataclasses.replace(
      side, name=f'{side.name} {number} ({side.facts["sha256"][:8]})'
    )
    for number, side in enumerate(sides, 1)
  ]


def bundle_facts(model: MusicLM | None) -> dict[str, Any]:
  """What the card of a bundle says: hash, networks, training, sampling."""
  if model is None:
    return {}
  networks = {}
  for stage, network in model.networks.items():
    arrays = network.weights.arrays().values()
    config = network.config
    networks[stage] = {
      'stored numbers': sum(array.size for array in arrays),
      'steps of its training': config.get('schedule', {}).get('total_steps'),
      'seed': config.get('seed'),
    }
  return {
    'sha256': model.bundle.sha256,
    'networks': networks,
    'tokens': {
      name: {
        'codebook': spec.codebook_size,
        'levels': spec.num_levels,
        'frames a second': round(spec.frame_rate, 3) or 'one a clip',
      }
      for name, spec in model.bundle.contract.streams.items()
    },
    'sampling': dataclasses.asdict(model.sampling),
    'versions': dict(model.bundle.versions),
  }


def _conditions(
  request: ReportRequest,
  results: Results,
  asked: Sequence[held_out.PromptedClip],
  reference: ClipFolder | Path,
  inputs: EvaluationInputs,
) -> dict[str, Any]:
  """How it was measured, without places of this machine but their names."""
  told = f'clips of the folder {printable(_path(reference).resolve().name)}'
  if not request.reference:
    told = (
      'composed and rendered music of the test split, which no training reads, '
      'each clip of a piece of its own with its caption'
    )
  elif not isinstance(reference, ClipFolder):
    told = f'statistics of {printable(reference.name)}'
  made = 'a folder that was given'
  if not request.generated:
    made = (
      f'{len(asked)} captions of the reference, {request.seconds:g} s each, '
      f'seed {request.seed}'
    )
  return {
    'reference': told,
    'generated': made,
    'seed': request.seed,
    'embedders': [embedder.name for embedder in inputs.embedders],
    'files': results.details['files'],
    'versions': results.details['versions'],
  }


def _differences(
  sides: Sequence[Side], asked: Sequence[held_out.PromptedClip], seed: int
) -> dict[str, comparison.Difference]:
  if len(sides) < 2:
    return {}
  prompts = {clips.stem(clip.name): clip.prompt for clip in asked}
  return comparison.compare(sides[0].results, sides[1].results, prompts, seed)


def _clip_rows(
  sides: Sequence[Side],
  opened: Sequence[EvaluationInputs],
  asked: Sequence[held_out.PromptedClip],
  progress: ProgressCallback | None,
) -> list[ClipRow]:
  """A few references, the codec's copies, and what was generated for each."""
  reference = opened[0].reference
  places = [_by_stem(inputs.generated) for inputs in opened]
  captions = {clips.stem(clip.name): clip.prompt for clip in asked}
  known = _by_stem(reference) if isinstance(reference, ClipFolder) else {}
  stems = [s for s in known if s in places[0]] or [*known] or [*places[0]]
  spread = np.linspace(0, len(stems) - 1, min(len(stems), _SHOWN_ROWS))
  chosen = [stems[round(place)] for place in spread]
  coders = [
    inputs.model and codec.open_coder(inputs.model.networks['soundstream'])
    for inputs in opened
  ]
  meter = Meter('clips of the page', len(chosen), 'rows', progress)
  rows = []
  for stem in chosen:
    shown, apart = [], len(sides) > 1
    if stem in known:
      waveform = _read(reference, known[stem])
      shown.append(Clip('reference', waveform))
      for side, inputs, coder in zip(sides, opened, coders, strict=True):
        if coder is None:
          continue
        windows = codec.cut(inputs.model.networks['soundstream'], waveform)
        if len(windows):
          told = f'codec of {side.name}' if apart else 'codec'
          shown.append(Clip(told, coder(windows)[1].reshape(-1)))
    for side, inputs, place in zip(sides, opened, places, strict=True):
      if stem in place:
        told = f'generated by {side.name}' if apart else 'generated'
        shown.append(Clip(told, _read(inputs.generated, place[stem])))
    caption = captions.get(stem)
    title = f'{stem}: “{caption}”' if caption else stem
    rows.append(ClipRow(printable(title), shown))
    meter.advance()
  return rows


def _by_stem(folder: ClipFolder) -> dict[str, int]:
  return {clips.stem(name): i for i, name in enumerate(folder.names)}


def _read(folder: ClipFolder, index: int) -> np.ndarray:
  waveform = folder.read(index, SAMPLE_RATE).waveform
  return waveform[: round(_SHOWN_SECONDS * SAMPLE_RATE)]
