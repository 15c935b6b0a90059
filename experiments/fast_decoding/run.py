"""What do faster ways to draw acoustic codes bring, and what do they cost?

    python -m experiments.fast_decoding.run --fast=runs/fast

A bundle plays captions of held-out music with its coarse and fine stage, with a
draft of the coarse one, and with a parallel LM in the place of both. README.md
tells how draft and parallel LM of the package's model are trained.
"""

import dataclasses
import datetime
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.clips import clips
from experiments.mode_effects import ears, pieces
from experiments.mode_effects.ears import Asked
from experiments.tiny_cascade import music
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import drafts, provenance
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts import atomic_file, bounds
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.metrics import bootstrap
from musiclm_jax.metrics.bootstrap import Interval
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.sampler import Sampler

SECONDS = 10.0
ROWS = (1, 8)  # pieces of a call that is timed
ALONE = 16  # pieces whose passes are counted
CASCADE, DRAFT, PARALLEL = 'cascade', 'draft', 'parallel'

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_FAST = path_flags.DEFINE_path(
  'fast', 'runs/fast', 'Folder of drafts/ and workdirs/parallel.'
)
_OUT = path_flags.DEFINE_path('out', 'runs/fast_decoding', 'Folder of clips.')
_RESULTS = path_flags.DEFINE_path(
  'results',
  str(Path(__file__).with_name('results.json')),
  'File of the figures.',
)
_PIECES = flags.DEFINE_integer(
  'pieces', 128, 'Rendered; 16 give each family a prompt.', *bounds.COUNT
)
_ROUNDS = flags.DEFINE_integer(
  'rounds', 5, 'Of each way, in turns, after one that compiles.', *bounds.COUNT
)
_ONLY = flags.DEFINE_multi_enum(
  'only',
  None,
  ['tokens_a_pass', 'speed', 'quality'],
  'Of these, the others stay as --results has them; None: all.',
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of music and model.', *bounds.SEED)


def ways(bundle: Path | None, fast: Path) -> dict[str, MusicLM]:
  """The model in each of the ways to play."""
  how = {
    CASCADE: {},
    DRAFT: {'drafts': fast / 'drafts'},
    PARALLEL: {'parallel': fast / 'workdirs' / 'parallel'},
  }
  return {
    way: MusicLM.load(bundle, cli.report, **options)
    for way, options in how.items()
  }


def play(
  model: MusicLM, texts: list[str], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Clips [P, S] of texts, and their tokens."""
  made = model.generate(
    texts,
    seconds=SECONDS,
    seed=seed,
    progress=cli.progress(),
    report=lambda line: None,
  )
  return made.waveform, made.tokens


def quality(
  models: dict[str, MusicLM], asked: Asked, seed: int, out: Path
) -> dict[str, Any]:
  """Each way beside held-out music, and each against the cascade.

  Returns:
    `ways`: way -> distances and shares; `above_cascade`: way -> ear -> by how
    much its clips fit their prompts better, with bounds over prompts; `equal`:
    share of the cascade's tokens that come out with the draft.
  """
  groups, tokens = {}, {}
  for way, model in models.items():
    groups[way], tokens[way] = play(model, list(asked.texts), seed)
    folder = out / way
    folder.mkdir(parents=True, exist_ok=True)
    for number, clip in enumerate(groups[way]):
      path = folder / f'{number:02d}.wav'
      provenance.write_sound(path, clip, SAMPLE_RATE, {'way': way})
  heard = ears.hear(models[CASCADE], asked, groups)
  fit = {
    ear: {way: ears.above_others(scores[way]) for way in groups}
    for ear, scores in heard.items()
  }
  return {
    'ways': {way: _alone(made, out / way) for way, made in groups.items()},
    'above_cascade': {
      way: {
        ear: bootstrap.difference(rows[way], rows[CASCADE])
        for ear, rows in fit.items()
      }
      for way in (DRAFT, PARALLEL)
    },
    'equal': float(
      (tokens[DRAFT]['acoustic'] == tokens[CASCADE]['acoustic']).mean()
    ),
  }


def _alone(waveforms: np.ndarray, folder: Path) -> dict[str, float]:
  found = [music.measure(clip) for clip in waveforms]
  return clips.distance(folder) | {
    name: statistics.mean(getattr(one, name) for one in found)
    for name in ('distinct_pitches', 'onsets_per_second', 'dead_share')
  }


def speed(
  models: Mapping[str, MusicLM], texts: list[str], seed: int, rounds: int
) -> dict[str, dict[str, dict[str, float]]]:
  """Seconds of a call: pieces of it -> way -> medians, all ways in turns."""
  found = {}
  for rows in ROWS:
    took = {way: [] for way in models}
    for turn in range(rounds + 1):
      for way, model in models.items():
        begun = time.perf_counter()
        play(model, texts[:rows], seed)
        if turn:  # the first one compiles
          took[way].append(time.perf_counter() - begun)
    median = {way: statistics.median(them) for way, them in took.items()}
    found[str(rows)] = {
      way: {'seconds': own, 'times_as_fast': median[CASCADE] / own}
      for way, own in median.items()
    }
  return found


def tokens_a_pass(
  model: MusicLM, fast: Path, texts: list[str], seed: int
) -> Interval:
  """Tokens that the coarse LM draws a pass with the draft, over pieces.

  Without one it is 1, and with one that is always right `GUESSES` + 1.
  """
  network = model.networks['coarse']
  guessing = drafts.read(fast / 'drafts', model.networks, model.bundle.contract)
  sampler = Sampler(
    network.model, network.weights.params, draft=guessing['coarse']
  )
  settings = model.bundle.settings
  how = SamplingParams(
    **{
      field.name: getattr(settings, f'{field.name}_coarse')
      for field in dataclasses.fields(SamplingParams)
    }
  )
  _, tokens = play(model, texts, seed)
  layout = network.model.layout
  frames = layout.predicted.num_frames
  drawn = frames * layout.predicted.num_levels
  counts = []
  for row in range(len(texts)):
    window = sampler.begin(
      {
        'mulan': tokens['mulan'][row : row + 1],
        'semantic': tokens['semantic'][row : row + 1, : frames // 2],
      },
      keys=jax.random.split(jax.random.key(seed + row), 1),
      guided=how.guidance != 1.0,
      num_mulan_levels=settings.mulan_levels,
    )
    window = sampler.advance(window, frames, how)
    counts.append(drawn / int(window.sequence.guessed.passes))
  return bootstrap.mean(counts)


def main() -> None:
  """Plays in each way, measures and writes the figures."""
  seed, fast = _SEED.value, _FAST.value
  models = ways(_BUNDLE.value, fast)
  prompts, crops = pieces.prompted(_PIECES.value, seed)
  asked = Asked(prompts.texts, prompts.families, crops)
  texts = list(asked.texts)
  some = texts[:: max(len(texts) // ALONE, 1)]
  measures = {
    'tokens_a_pass': lambda: tokens_a_pass(models[CASCADE], fast, some, seed),
    'speed': lambda: speed(models, texts, seed, _ROUNDS.value),
    'quality': lambda: quality(models, asked, seed, _OUT.value),
  }
  key = {
    'bundle_sha256': models[CASCADE].bundle.sha256,
    'prompts': len(texts),
    'seed': seed,
  }
  found = _found_before(key) if _ONLY.value else {}
  for name in _ONLY.value or measures:
    found[name] = {
      'date': datetime.date.today().isoformat(),
      'found': measures[name](),
    }
  text = json.dumps(key | found, indent=1, default=dataclasses.asdict)
  atomic_file.write_text(_RESULTS.value, text + '\n')
  print(text)


def _found_before(key: Mapping[str, Any]) -> dict[str, Any]:
  """Measures that --results has of the same bundle, prompts and seed."""
  if not _RESULTS.value.is_file():
    return {}
  record = json.loads(_RESULTS.value.read_text())
  if any(record.pop(name) != value for name, value in key.items()):
    return {}
  return record


if __name__ == '__main__':
  cli.run(main)
