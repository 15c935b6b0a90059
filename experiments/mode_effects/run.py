"""Are the ways to play heard? Story, mixture, guidance, negative, and so on.

    python -m experiments.mode_effects.run --out=runs/mode_effects

Held-out pieces are rendered, the bundle plays their captions in each way, and
what is heard is written to --results. An interrupted run goes on.
"""

import dataclasses
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments.mode_effects import ears, effects, pieces
from experiments.mode_effects.ears import Asked
from musiclm_jax import cli, path_flags
from musiclm_jax.cascade import bundle, provenance, source_code
from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.cascade.prompts import Mixture, Story
from musiclm_jax.contracts import atomic_file, bounds
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.kept_parts import Keep, KeptParts

SECONDS, CHANGE, RECORDING = 10.0, 15.0, 5.0
ALONE = 32  # prompts of the effects whose clips are made one by one
SHARES = (0.7, 0.3)
SCALES = (1.0, 2.0, 3.0, 5.0)

_BUNDLE = path_flags.DEFINE_path('bundle', None, cli.BUNDLE)
_OUT = path_flags.DEFINE_path('out', 'runs/mode_effects', 'Folder of clips.')
_RESULTS = path_flags.DEFINE_path(
  'results',
  str(Path(__file__).with_name('results.json')),
  'File of the figures.',
)
_PIECES = flags.DEFINE_integer(
  'pieces', 128, 'Rendered; 16 give each family a prompt.', *bounds.COUNT
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of music and model.', *bounds.SEED)
_ONLY = flags.DEFINE_list(
  'only', None, 'Effects, the others stay as --results has them; None: all.'
)


class Player:
  """Makes groups of clips, a clip a prompt; the first of each is written.

  Attributes:
    model: That plays.
    asked: What the prompts ask for.
    seed: Of music and model.
  """

  def __init__(
    self, model: MusicLM, asked: Asked, seed: int, keep: Keep, folder: Path
  ):
    """Takes what plays, what is asked for, and where clips are written."""
    self.model, self.asked, self.seed = model, asked, seed
    self._keep, self._folder = keep, folder

  def play(self, group: str, prompts: Any, **how: Any) -> np.ndarray:
    """Clips [P, S] of a list of prompts, [S] of one."""
    how = {'seconds': SECONDS, 'seed': self.seed, **how}

    def make() -> dict[str, np.ndarray]:
      made = self.model.generate(
        prompts, progress=cli.progress(), report=lambda line: None, **how
      )
      return {'waveform': made.waveform.astype(np.float16)}

    made = np.asarray(self._keep(group, make)['waveform'], np.float32)
    file = self._folder / f'{group}.wav'
    first = np.atleast_2d(made)[0]
    provenance.write_sound(file, first, SAMPLE_RATE, {'group': group})
    return made

  def plain(self) -> np.ndarray:
    """Clips of the prompts as they are."""
    return self.play('plain', self.asked.texts)


def story(player: Player) -> dict[str, effects.Figures]:
  """Another text from half of a piece on."""
  asked = player.asked
  half = len(asked.texts) // 2
  then = asked.rolled(half)
  stories = [
    Story([(0, a), (CHANGE, b)])
    for a, b in zip(asked.texts, then.texts, strict=True)
  ]
  made = player.play('story', stories, seconds=2 * CHANGE)
  parts = np.split(made, [round(CHANGE * SAMPLE_RATE)], axis=1)
  groups = dict(zip(('before', 'after'), parts, strict=True))
  heard = ears.hear(player.model, then, groups)
  return {ear: effects.story(**scores) for ear, scores in heard.items()}


def mixture(player: Player) -> dict[str, effects.Figures]:
  """Two texts in unequal shares, beside each alone."""
  first = player.asked
  second = first.rolled(len(first.texts) // 2)
  groups = {'first': player.plain()}
  for name, shares in (('mix', SHARES), ('xim', SHARES[::-1])):
    mixed = [
      Mixture(list(zip(pair, shares, strict=True)))
      for pair in zip(first.texts, second.texts, strict=True)
    ]
    groups[name] = player.play(name, mixed)
  groups['second'] = player.play('second', second.texts)
  heard = [ears.hear(player.model, asked, groups) for asked in (first, second)]
  return {
    ear: effects.mixture(heard[0][ear], heard[1][ear]) for ear in heard[0]
  }


def guidance(player: Player) -> dict[str, effects.Figures]:
  """One scale of guidance for all stages, from none upwards."""
  texts = player.asked.texts
  groups = {
    str(scale): player.play(f'guidance {scale:g}', texts, guidance=scale)
    for scale in SCALES
  }
  heard = ears.hear(player.model, player.asked, groups)
  return {
    ear: effects.guidance({float(k): scores[k] for k in groups})
    for ear, scores in heard.items()
  }


def negative(player: Player) -> dict[str, effects.Figures]:
  """What a prompt would bring by itself, its lead, as what is not wanted.

  Of each family the first prompt is what the others of it are pushed from.
  """
  asked = player.asked
  first_of = np.array(
    [asked.families.index(family) for family in asked.families]
  )
  others = np.flatnonzero(first_of != np.arange(len(first_of)))
  rows = []
  for first in np.unique(first_of[others]):
    of_family = others[first_of[others] == first]
    rows.append(
      player.play(
        f'without what prompt {first} says',
        [asked.texts[row] for row in of_family],
        negative=asked.texts[first],
        first_row=int(of_family[0]),
      )
    )
  groups = {
    'without': player.plain()[others],
    'with_it': np.concatenate(rows),
  }
  unwanted = asked.chosen(first_of[others])
  heard = ears.hear(player.model, unwanted, groups)
  return {ear: effects.negative(**scores) for ear, scores in heard.items()}


def continuation(player: Player) -> dict[str, effects.Figures]:
  """What follows five seconds of a held-out piece."""
  asked = player.asked
  given = round(RECORDING * SAMPLE_RATE)
  asked = asked.chosen(_spread(len(asked.texts)))
  recordings = asked.crops[:, :given]
  rows = [
    player.play(
      f'continuation {row}',
      None,
      continue_from=recording,
      seconds=RECORDING + SECONDS,
    )
    for row, recording in enumerate(recordings)
  ]
  made = np.stack(rows)
  equal = np.array_equal(
    made[:, :given], recordings.astype(np.float16).astype(np.float32)
  )
  if not equal:
    raise ValueError('a continuation does not begin with its recording')
  recorded = dataclasses.replace(asked, crops=recordings)
  heard = ears.hear(player.model, recorded, {'made': made[:, given:]})
  return {
    ear: effects.continuation(scores['made'])
    for ear, scores in heard.items()
    if ear != ears.MULAN  # which would ask for the text
  }


def melody(player: Player) -> dict[str, effects.Figures]:
  """Hums that the music is to follow, beside the same music without."""
  texts = player.asked.chosen(_spread(len(player.asked.texts))).texts
  hums = pieces.melodies(len(texts), SECONDS, player.seed)
  rows = [
    player.play(f'melody {row}', text, melody=hum, first_row=row)
    for row, (text, hum) in enumerate(zip(texts, hums, strict=True))
  ]
  free = player.play('no melody', texts)
  groups = {'with': rows, 'without': free}
  return {'chroma': effects.melody(hums, groups)}


def _spread(count: int) -> np.ndarray:
  """Places of `ALONE` prompts of all families, of calls that play one each."""
  return np.arange(count)[:: max(count // ALONE, 1)]


EFFECTS: dict[str, Callable[[Player], dict[str, effects.Figures]]] = {
  'story': story,
  'mixture': mixture,
  'guidance': guidance,
  'negative': negative,
  'continuation': continuation,
  'melody': melody,
}


def main() -> None:
  """Renders, plays, listens, and writes the figures."""
  out, seed = _OUT.value, _SEED.value
  model = MusicLM.load(_BUNDLE.value, cli.report)
  prompts, crops = pieces.prompted(_PIECES.value, seed)
  asked = Asked(prompts.texts, prompts.families, crops)
  out.mkdir(parents=True, exist_ok=True)
  key = json.dumps(
    {
      'model': model.bundle.sha256,
      'code': source_code.digest(MusicLM.__module__, bundle.STAGES),
      'calls': Path(__file__).read_text(),
      'seed': seed,
      'pieces': _PIECES.value,
    }
  )
  found = _found_before(model.bundle.sha256) if _ONLY.value else {}
  with KeptParts(out / 'kept', key) as keep:
    player = Player(model, asked, seed, keep, out)
    for name in _ONLY.value or EFFECTS:
      found[name] = {
        ear: {k: dataclasses.asdict(v) for k, v in figures.items()}
        for ear, figures in EFFECTS[name](player).items()
      }
      print(table(name, found[name]), flush=True)
  record = {
    'date': datetime.date.today().isoformat(),
    'bundle_sha256': model.bundle.sha256,
    'prompts': len(asked.texts),
    'seed': seed,
    'effects': found,
  }
  atomic_file.write_text(_RESULTS.value, json.dumps(record, indent=1) + '\n')


def _found_before(sha256: str) -> dict[str, Any]:
  """Effects that --results has of the same bundle and seed."""
  if not _RESULTS.value.is_file():
    return {}
  record = json.loads(_RESULTS.value.read_text())
  same = record['bundle_sha256'], record['seed']
  return record['effects'] if same == (sha256, _SEED.value) else {}


def table(name: str, found: dict[str, dict[str, dict[str, float]]]) -> str:
  """Rows of an effect: ear, figure, value and bounds."""
  return '\n'.join(
    f'| {name} | {ear} | {figure} | {x["value"]:.3f} '
    f'[{x["low"]:.3f}, {x["high"]:.3f}] |'
    for ear, figures in found.items()
    for figure, x in figures.items()
  )


if __name__ == '__main__':
  cli.run(main)
