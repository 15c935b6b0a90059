"""Soak: every training, killed with 9 at random moments, resumes bit for bit.

The whole cascade through its commands: corpus, soundstream, w2v_bert, kmeans,
mulan, mulan_rvq, melody, melody_rvq, tokens, semantic, coarse, fine, parallel.
Each training runs once in one piece and once with kills: in two of compiling,
evaluating and saving, in turn, and at any moment. Metrics, parameters and
codebooks must be equal. With $SOAK_RESULT=FILE.json the kills are recorded.
"""

import collections
import dataclasses
import datetime
import importlib.metadata
import itertools
import json
import os
import platform
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax.contracts import atomic_file
from musiclm_jax.training import checkpoint

sys.path.insert(0, str(Path(__file__).parent))
import kills

pytestmark = pytest.mark.soak

ROOT = kills.ROOT
PIECES, SEED = 100, 0
LEAST_KILLS = 20
# 80 training pieces carry 4 codes a MuLan level.
OPTIONS = {
  'soundstream': ('model.channels=4', 'model.codebook_size=32', 'steps=24'),
  'w2v_bert': ('data.batch_size=4', 'steps=16'),
  'kmeans': ('model.codebook_size=16', 'data.batch_size=4', 'steps=20'),
  'mulan': ('data.batch_size=8', 'steps=12'),
  'mulan_rvq': ('model.codebook_size=4', 'data.batch_size=16', 'steps=16'),
  'melody': ('data.batch_size=8', 'data.tunes=64', 'steps=24'),
  'melody_rvq': ('model.codebook_size=4', 'data.batch_size=16', 'steps=16'),
  'semantic': ('steps=24',),
  'coarse': ('steps=12',),
  'fine': ('steps=12',),
  'parallel': ('steps=12',),
}
NETWORKS = {'kmeans': 'w2v_bert', 'mulan_rvq': 'mulan', 'melody_rvq': 'melody'}
LMS = {
  'semantic': ('layout.semantic_codebook_size=16',),
  'coarse': ('layout.semantic_codebook_size=16',),
  'fine': (),
  'parallel': ('layout.semantic_codebook_size=16',),
}


def command(command: str, *arguments: str) -> list[str]:
  return [sys.executable, '-m', f'musiclm_jax.{command}', *arguments]


def training(stage: str, folder: Path) -> list[str]:
  """Arguments of the train command for `stage`, but for --workdir."""
  calls = [f'--config=configs/{stage}.py:tiny']
  options = list(OPTIONS[stage])
  if stage in LMS:
    calls.append(f'--tokens={folder / "tokens"}')
    options += [
      *LMS[stage],
      'layout.mulan_codebook_size=4',
      'layout.acoustic_codebook_size=32',
    ]
  elif stage != 'melody':  # which composes as it goes
    options.append(f'data.source=prepared:{folder / "corpus"}')
  if stage in NETWORKS:
    calls.append(f'--network={folder / "whole" / NETWORKS[stage]}')
  for option in (*options, 'data.eval_batches=1'):
    key = option.replace('steps=', 'schedule.total_steps=', 1)
    calls.append(f'--config.{key if option.startswith("steps=") else option}')
  every = {'log_every': 1, 'eval_every': 8, 'save_every': 4}
  calls += [f'--config.schedule.{k}={v}' for k, v in every.items()]
  return calls


def run(call: list[str]) -> None:
  done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('soak')
  run(
    command(
      'prepare',
      '--source=rendered_music',
      f'--out={folder / "corpus"}',
      f'--pieces={PIECES}',
      '--seed=0',
    )
  )
  return folder


@pytest.fixture(scope='module')
def record():
  """Stage -> (seconds in one piece, kills); written at the end."""
  rows = {}
  yield rows
  if file := os.environ.get('SOAK_RESULT'):
    said = {
      'date': datetime.date.today().isoformat(),
      'machine': f'{os.cpu_count()} cores, {platform.machine()}',
      'python': platform.python_version(),
      'versions': {
        name: importlib.metadata.version(name)
        for name in ('jax', 'flax', 'optax', 'orbax-checkpoint')
      },
      'trainings': rows,
    }
    atomic_file.write_text(Path(file), json.dumps(said, indent=1) + '\n')


def aims(stage: str, chance: random.Random) -> list[str]:
  """Two of the three phases, in turn over the stages, and any moment."""
  pairs = itertools.combinations(kills.PHASES, 2)
  pair = list(pairs)[list(OPTIONS).index(stage) % 3]
  return chance.sample([*pair, 'any moment'], 3)


@pytest.mark.parametrize('stage', OPTIONS)
def test_killed_at_random_moments(stage, folder, record):
  if stage == 'semantic':  # the first that reads tokens
    run(
      command(
        'tokenize',
        f'--workdirs={folder / "whole"}',
        f'--source=prepared:{folder / "corpus"}',
        f'--out={folder / "tokens"}',
        '--hop_seconds=40',
      )
    )
  whole, cut = folder / 'whole' / stage, folder / 'cut' / stage
  cut.parent.mkdir(exist_ok=True)
  call = training(stage, folder)
  started = time.monotonic()
  run([*command('train'), *call, f'--workdir={whole}'])
  seconds = time.monotonic() - started
  chance = random.Random(f'{SEED}{stage}')
  killed = []
  for aim in aims(stage, chance):
    one = kills.kill(call, cut, aim, seconds, chance)
    if one:
      killed.append(one)
      print(f'{stage} {one}')
  assert killed, 'was never killed'
  run([*command('train'), *call, f'--workdir={cut}'])
  file = 'metrics.jsonl'
  assert (cut / file).read_bytes() == (whole / file).read_bytes()
  one, other = checkpoint.read(whole), checkpoint.read(cut)
  for part in ('params', 'collections'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(one, part), getattr(other, part)
    )
  record[stage] = {
    'seconds': round(seconds, 1),
    'resumed_equal': True,
    'kills': [dataclasses.asdict(k) | {'hit': k.hit} for k in killed],
  }


def test_enough_kills_hit_every_phase(record):
  """Of all trainings; where only some were chosen there is nothing to say."""
  if record.keys() != OPTIONS.keys():
    pytest.skip('not all trainings were killed')
  hits = [kill['hit'] for row in record.values() for kill in row['kills']]
  assert len(hits) >= LEAST_KILLS
  assert collections.Counter(hits).keys() >= set(kills.PHASES), hits
