"""Ten songs of one style: does fine-tuning move a bundle towards the style?

`python experiments/finetuning/run.py --bundle=runs/cascade/bundle
--out=runs/finetuning [FLAGS OF finetune]`

OUT/songs     ten pieces of the style, which the command learns from
OUT/others    other pieces of it, which it never sees
OUT/tuned     what `musiclm_jax.finetune` leaves
OUT/table.json

The report of the command measures on the two or three songs of ten that it
held out. Here both bundles make music for the other pieces as well.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from musiclm_jax.cascade.musiclm import MusicLM
from musiclm_jax.contracts.kept_parts import unkept
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.dsp.level import rms_dbfs
from musiclm_jax.evaluation import embedders
from musiclm_jax.finetuning import measures
from musiclm_jax.finetuning.measures import SongClip
from musiclm_jax.finetuning.run import MIN_DBFS
from musiclm_jax.rendered_music import composer, rendering

SONGS, OTHERS = 10, 16
SECONDS = 5.0
SAMPLE_RATE = 24_000
SEED, SPLIT = 77, 'test'  # music that no training of a bundle has read
GENERATED_SEEDS = (0,)


def main() -> None:
  """Renders, fine-tunes, measures and prints a table."""
  flags = argparse.ArgumentParser(description=__doc__)
  flags.add_argument('--bundle', required=True, type=Path)
  flags.add_argument('--out', required=True, type=Path)
  flags.add_argument('--style', default='techno')
  given, more = flags.parse_known_args()
  write_songs(given.out, given.style)
  begun = time.monotonic()
  tuned = given.out / 'tuned'
  command = [sys.executable, '-m', 'musiclm_jax.finetune']
  command += [f'--bundle={given.bundle}', f'--songs={given.out / "songs"}']
  subprocess.run([*command, f'--out={tuned}', *more], check=True)
  minutes = (time.monotonic() - begun) / 60
  models = [MusicLM.load(path) for path in (given.bundle, tuned / 'bundle')]
  clips = read_others(given.out / 'others', models[0])
  table = {'minutes': minutes}
  for name, mulan_levels in (('conditioned', None), ('unconditional', 0)):
    table[name] = compare(models, clips, mulan_levels)
    print(f'KAD to {len(clips)} other songs, {name}: {table[name]}')
  (given.out / 'table.json').write_text(json.dumps(table, indent=1) + '\n')


def write_songs(out: Path, style: str) -> None:
  """Renders pieces of a style, those to learn from and others."""
  wanted = [out / 'songs' / f'{k}.wav' for k in range(SONGS)]
  wanted += [out / 'others' / f'{k}.wav' for k in range(OTHERS)]
  index = -1
  for path in wanted:
    index += 1
    while composer.compose(SEED, SPLIT, index).style.name != style:
      index += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      waveform, _ = rendering.render(SEED, SPLIT, index)
      soundfile.write(path, waveform, SAMPLE_RATE)


def read_others(folder: Path, model: MusicLM) -> list[SongClip]:
  """The middle of each of the other songs, and its MuLan tokens.

  A piece that is all but silent says nothing about its style.
  """
  songs = AudioFolder(str(folder), 'all')
  samples = round(SECONDS * SAMPLE_RATE)
  rows = {
    songs.piece_id(i): songs.read(
      i, (songs.num_samples(i) - samples) // 2, samples
    )
    for i in range(len(songs))
  }
  loud = {n: row for n, row in rows.items() if rms_dbfs(row) >= MIN_DBFS}
  mulan = model.tokenize(np.stack([*loud.values()]))['mulan']
  return [
    SongClip(name, row, tokens)
    for (name, row), tokens in zip(loud.items(), mulan, strict=True)
  ]


def compare(
  models: list[MusicLM], clips: list[SongClip], mulan_levels: int | None
) -> dict:
  """KAD of both bundles' music to the clips, and its difference."""
  music = [[], []]
  for seed in GENERATED_SEEDS:
    for made, model in zip(music, models, strict=True):
      made.append(
        measures.make_music(
          model,
          np.stack([clip.mulan for clip in clips]),
          seconds=SECONDS,
          seed=1000 * seed,
          mulan_levels=mulan_levels,
          keep=unkept,
        )
      )
  embedder = embedders.open_tagger(embedders.WINDOWINGS['vggish'])
  found = measures.distances(
    embedder,
    clips * len(GENERATED_SEEDS),
    np.concatenate(music[0]),
    np.concatenate(music[1]),
  )
  return {
    name: [round(x, 3) for x in (one.value, one.low, one.high)]
    for name, one in (
      ('before', found.before),
      ('after', found.after),
      ('difference', found.difference),
    )
  }


if __name__ == '__main__':
  main()
