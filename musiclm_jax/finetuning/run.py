"""A folder of songs and a bundle -> the bundle that has learned from them.

Under the folder of the fine-tuning:
  fine_tuning.json           what was asked, and how each training ended
  tokens/                    of the songs, by the bundle's own networks
  workdirs/<stage>/          of each language model
  bundle/                    what came out
  report.html, report.json   before and after, on songs that were held out
"""

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from musiclm_jax.cascade import bundle as bundles
from musiclm_jax.cascade import corpus, networks, provenance, tokenizer
from musiclm_jax.cascade.bundle import Bundle
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.cascade.weights import Weights
from musiclm_jax.contracts import bounds, ownership, paths
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.progress import ProgressCallback, ignore
from musiclm_jax.contracts.terminal import printable
from musiclm_jax.data import prepared, token_store
from musiclm_jax.data.origins import ShardOrigins
from musiclm_jax.data.sources import SPLITS, open_source
from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.evaluation import page
from musiclm_jax.evaluation.report_card import ReportCard
from musiclm_jax.evaluation.reporting import Steps
from musiclm_jax.finetuning import measures, training
from musiclm_jax.finetuning.before_after import BeforeAfter
from musiclm_jax.stages import LANGUAGE_MODELS
from musiclm_jax.training import workdir

RECORD = 'fine_tuning.json'
BUNDLE, TOKENS, WORKDIRS = 'bundle', 'tokens', 'workdirs'
FOLDER = ownership.Kind(
  'fine-tuning', (RECORD, page.HTML, page.JSON), alone=True
)
# What chooses a checkpoint, and what is measured with it: none is trained on.
CHOOSING, HELD_OUT = 'validation', ('validation', 'test')
MIN_DBFS = -50.0  # softer crops are left out, as `tokenize` does
# Fields of the record: what was asked, of which songs, how trainings ended.
_ASKED, _SONGS, _STAGES = 'asked', 'songs', 'stages'
_DEPENDS = 'depends_on_sha256'  # in the report
_BOUNDS = {
  'steps': bounds.COUNT,
  'minutes': (0.01, 1e6),
  'learning_rate_scale': (1e-6, 1000.0),
  'clips': (2, 1000),
  'seconds': (1.0, 600.0),
  'seed': bounds.SEED,
}


@dataclasses.dataclass(frozen=True)
class FineTuning:
  """What is asked for.

  Attributes:
    bundle: Folder of the bundle that goes on learning.
    songs: Folder of sound files, or of what `prepare` made of one.
    out: Folder for everything that is made.
    steps: Of each language model, at most.
    stages: Which language models.
    minutes: Of training in this call; what is reached then counts.
    learning_rate_scale: Share of each stage's own learning rate.
    clips: That each bundle makes for the report, at most.
    seconds: Of each clip.
    seed: Of everything that is drawn.
    overwrite: Whether to begin again where another fine-tuning is at `out`,
      and to replace files of one that were changed.
  """

  bundle: Path
  songs: Path
  out: Path
  steps: int = 200
  stages: Sequence[str] = LANGUAGE_MODELS
  minutes: float | None = None
  learning_rate_scale: float = 0.02
  clips: int = 16
  seconds: float = 10.0
  seed: int = 0
  overwrite: bool = False

  @property
  def source(self) -> str:
    """The songs as `kind:DIR`."""
    kind = 'audio_folder'
    if (self.songs / prepared.PLAN).exists():
      kind = 'prepared'
    return f'{kind}:{self.songs}'


def check(asked: FineTuning) -> None:
  """Checks what can be known before a song is read; leaves nothing behind.

  Raises:
    UsageError: If a number is out of bounds, a stage is no language model, or
      something would be replaced that is not ours.
  """
  for flag, between in _BOUNDS.items():
    if (value := getattr(asked, flag)) is not None:
      bounds.check(f'--{flag}', value, between)
  unknown = [name for name in asked.stages if name not in LANGUAGE_MODELS]
  if unknown or not asked.stages or len(set(asked.stages)) < len(asked.stages):
    raise UsageError(
      f'--stages={",".join(asked.stages)}: name one or more of '
      f'{", ".join(LANGUAGE_MODELS)}, each once'
    )
  out = asked.out
  if asked.bundle.resolve() in (out.resolve(), (out / BUNDLE).resolve()):
    raise UsageError(
      f"--bundle='{printable(asked.bundle)}' is what would be written: choose "
      'another --out'
    )
  paths.check_folder(out)
  ownership.check(out, FOLDER)
  page.check_out(out, (page.HTML,), asked.overwrite, 'finetune')
  if out.is_dir():
    bundles.check_out(out / BUNDLE, asked.overwrite)


def fine_tune(
  asked: FineTuning,
  tell: Callable[[str], None] = lambda line: None,
  progress: ProgressCallback | None = None,
  train_progress: ProgressCallback = ignore,
) -> ReportCard | None:
  """Makes what is missing of the bundle and of the report.

  The same call goes on where it was interrupted.

  Args:
    asked: See `check`.
    tell: Takes lines for the user.
    progress: Takes events; their stages say which step of how many they are.
    train_progress: Takes those of the trainings, which print lines of their
      own.

  Returns:
    The report; None where all was done already.

  Raises:
    UsageError: As `check`; if the bundle is damaged, there are too few songs,
      they are too short, or `out` holds another fine-tuning.
    SystemExit: As `loop.train`.
  """
  check(asked)
  model = MusicLM.load(asked.bundle, tell)
  sources = {split: open_source(asked.source, split) for split in SPLITS}
  with ownership.hold(asked.out, FOLDER, 'fine-tuning'):
    record = _begin(asked, model)
    steps = Steps(progress, len(asked.stages) + 4)
    _tokenize(asked, model, tell, steps.begin(TOKENS))
    _take_songs(asked, record)
    depends = _digest(record[_ASKED], record[_SONGS], *_report_choices(asked))
    if _is_done(asked, depends):
      tell(f"done: '{asked.out / BUNDLE}' and the report beside it are whole")
      return None
    songs = {
      split: measures.read_songs(asked.out / TOKENS, split)
      for split in HELD_OUT
    }
    tuned = _train(
      asked, model, record, songs[CHOOSING], tell, steps, train_progress
    )
    written = _write(asked, model, tuned)
    card = BeforeAfter(
      models=(model, MusicLM(written)),
      stages=asked.stages,
      songs={name: r for found in songs.values() for name, r in found.items()},
      chose=len(songs[CHOOSING]),
      sources=[sources[split] for split in HELD_OUT],
      folder=asked.out,
      count=asked.clips,
      seconds=asked.seconds,
      seed=asked.seed,
    ).card(
      {
        'language models': {
          stage: _told(record[_STAGES][stage], stage in tuned)
          for stage in asked.stages
        },
        'songs': {
          split: [printable(source.piece_id(i)) for i in range(len(source))]
          for split, source in sources.items()
        },
        **record[_ASKED],
        _DEPENDS: depends,
      },
      {stage: _losses(asked, stage) for stage in asked.stages},
      steps,
    )
    card.write(asked.out)
  tell(f"wrote the bundle '{written.path}' and '{asked.out / page.HTML}'")
  return card


def _begin(asked: FineTuning, model: MusicLM) -> dict[str, Any]:
  """Opens the record of a fine-tuning, which is begun where there is none.

  Raises:
    UsageError: If it is of another one.
  """
  wanted = {
    'bundle': model.bundle.sha256,
    'steps': asked.steps,
    'learning_rate_scale': asked.learning_rate_scale,
    'seed': asked.seed,
  }
  record = ownership.object_in(asked.out / RECORD)
  if asked.overwrite:
    ownership.clear(asked.out / TOKENS, token_store.FOLDER)
    _clear_trainings(asked)
    record = {}
  if record and not ownership.is_sealed(record):
    raise UsageError(
      f"'{printable(asked.out / RECORD)}' was changed since it was written: "
      'give another --out, or --overwrite to begin again'
    )
  begun = record.get(_ASKED, wanted)
  for name, value in wanted.items():
    if begun[name] != value:
      raise UsageError(
        f"'{printable(asked.out)}' was begun with {name} {begun[name]}, now it "
        f'is {value}: give another --out, or --overwrite to begin again'
      )
  return {_ASKED: wanted, _SONGS: '', _STAGES: {}, **record}


def _clear_trainings(asked: FineTuning) -> None:
  """Removes what is left of earlier trainings."""
  for stage in LANGUAGE_MODELS:
    ownership.clear(asked.out / WORKDIRS / stage, workdir.FOLDER)


def _tokenize(
  asked: FineTuning,
  model: MusicLM,
  tell: Callable[[str], None],
  progress: ProgressCallback | None,
) -> None:
  """Turns all songs into tokens, by the bundle's own networks."""
  crops = [
    model.networks[stage].config['data'].get('crop_seconds', 0.0)
    for stage in ('kmeans', 'mulan_rvq', *LANGUAGE_MODELS)
  ]
  out = asked.out / TOKENS
  with ownership.hold(out, token_store.FOLDER, 'writing tokens'):
    corpus.tokenize(
      asked.bundle,
      asked.source,
      out,
      corpus.Cutting(max(crops), min_dbfs=MIN_DBFS),
      splits=SPLITS,
      coarse_levels=model.bundle.contract.coarse_levels,
      report=tell,
      progress=progress,
    )


def _take_songs(asked: FineTuning, record: dict[str, Any]) -> None:
  """Notes which songs are learned from.

  Raises:
    UsageError: If trainings have begun with others.
  """
  shards = sorted((asked.out / TOKENS).glob('*/[0-9]*.json'))
  found = [ShardOrigins.read(path) for path in shards]
  songs = _digest([origins and origins.digest() for origins in found])
  if record[_SONGS] and record[_SONGS] != songs:
    raise UsageError(
      f"the songs have changed since '{printable(asked.out)}' was begun: give "
      'another --out, or --overwrite to begin again'
    )
  record[_SONGS] = songs
  _save(asked, record)


def _save(asked: FineTuning, record: Mapping[str, Any]) -> None:
  plain = {name: v for name, v in record.items() if name != ownership.SEAL}
  ownership.write_sealed(asked.out / RECORD, plain)


def _train(
  asked: FineTuning,
  model: MusicLM,
  record: dict[str, Any],
  songs: Mapping[str, Sequence[TokenRecord]],
  tell: Callable[[str], None],
  steps: Steps,
  progress: ProgressCallback,
) -> dict[str, Weights]:
  """Trains the stages that are not done, one after the other.

  Returns:
    Stage -> its new weights, where they cost less than the old ones on the
    songs that choose.
  """
  begun, better = time.monotonic(), {}
  for number, stage in enumerate(asked.stages):
    network, show = model.networks[stage], steps.begin('training', progress)
    place, deadline = asked.out / WORKDIRS / stage, None
    if asked.minutes is not None:
      now = time.monotonic()
      left = begun + 60 * asked.minutes - now
      deadline = now + left / (len(asked.stages) - number)
    if stage not in record[_STAGES]:
      tell(f'training the {stage} stage, {asked.steps} steps at most')
      outcome = training.train(
        network.weights,
        training.config_of(
          network.config,
          steps=asked.steps,
          rate_scale=asked.learning_rate_scale,
          seed=asked.seed,
        ),
        tokens=asked.out / TOKENS,
        workdir=place,
        deadline=deadline,
        progress=show,
      )
      record[_STAGES][stage] = dataclasses.asdict(outcome)
      _save(asked, record)
    trained = networks.read_workdir(place).rounded(model.bundle.dtype)
    old, new = (
      measures.song_losses(one, songs)
      for one in (network, networks.build(trained))
    )
    if sum(new.values()) < sum(old.values()):
      better[stage] = trained
    tell(f'{stage}: {_told(record[_STAGES][stage], stage in better)}')
  return better


def _told(outcome: Mapping[str, Any], is_better: bool) -> str:
  """Says in words how a training ended and what came of it."""
  why = {
    'steps': 'as many as were asked for',
    'patience': 'the held-out loss fell no more',
    'time': 'the time was up',
  }[outcome['ended']]
  taken = f'step {outcome["best_step"]} of {outcome["steps"]} was the best'
  if not is_better:
    taken = 'no step was better than the bundle, whose weights stay'
  return f'{outcome["steps"]} steps ({why}); {taken}'


def _write(
  asked: FineTuning, model: MusicLM, tuned: Mapping[str, Weights]
) -> Bundle:
  """Writes the bundle with the new weights of some stages."""
  opened = model.bundle
  return bundles.write(
    asked.out / BUNDLE,
    {stage: opened.weights(stage) for stage in opened.stages} | dict(tuned),
    opened.contract,
    tokenizer.vocabulary_of(opened.path),
    opened.settings,
    provenance.versions(),
    asked.overwrite,
    opened.dtype,
    tokenizer.caption_words_of(opened.path),
  )


def _losses(asked: FineTuning, stage: str) -> dict[int, float]:
  return training.held_out_losses(asked.out / WORKDIRS / stage)


def _report_choices(asked: FineTuning) -> tuple:
  return tuple(asked.stages), asked.clips, asked.seconds


def _digest(*parts: Any) -> str:
  text = json.dumps(parts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _is_done(asked: FineTuning, depends: str) -> bool:
  """Whether bundle and report are there and depend on nothing else."""
  record = ownership.object_in(asked.out / page.JSON)
  if not ownership.is_sealed(record) or not (asked.out / page.HTML).exists():
    return False
  try:
    written = bundles.read(asked.out / BUNDLE)
  except UsageError:
    return False
  return (
    record['conditions'].get(_DEPENDS) == depends
    and record['compare']['bundle']['sha256'] == written.sha256
  )
