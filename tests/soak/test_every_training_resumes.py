"""Soak: every training, killed with 9 at a random moment, resumes bit for bit.

The whole cascade through its doors: corpus, soundstream, w2v_bert, kmeans,
mulan, mulan_rvq, melody, melody_rvq, tokens, semantic, coarse, fine. Each
training runs once in one piece and once with kills; metrics, parameters and
codebooks must be equal.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from musiclm_jax.training import checkpoint

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
PIECES, KILLS, SEED = 100, 2, 0
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
}
NETWORKS = {'kmeans': 'w2v_bert', 'mulan_rvq': 'mulan', 'melody_rvq': 'melody'}
LMS = {
  'semantic': ('layout.semantic_codebook_size=16',),
  'coarse': ('layout.semantic_codebook_size=16',),
  'fine': (),
}


def command(door: str, *arguments: str) -> list[str]:
  return [sys.executable, '-m', f'musiclm_jax.{door}', *arguments]


def training(stage: str, folder: Path) -> list[str]:
  """The call that trains `stage`, but for its --workdir."""
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
    options.append(f'data.source=rendered_music:{folder / "corpus"}')
  if stage in NETWORKS:
    calls.append(f'--network={folder / "whole" / NETWORKS[stage]}')
  for option in (*options, 'data.eval_batches=1'):
    key = option.replace('steps=', 'schedule.total_steps=', 1)
    calls.append(f'--config.{key if option.startswith("steps=") else option}')
  every = {'log_every': 1, 'eval_every': 8, 'save_every': 4}
  calls += [f'--config.schedule.{k}={v}' for k, v in every.items()]
  return command('train', *calls)


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


@pytest.mark.parametrize('stage', OPTIONS)
def test_killed_at_random_moments(stage, folder):
  if stage == 'semantic':  # the first that reads tokens
    run(
      command(
        'tokenize',
        f'--workdirs={folder / "whole"}',
        f'--source=rendered_music:{folder / "corpus"}',
        f'--out={folder / "tokens"}',
        '--hop_seconds=40',
      )
    )
  whole, cut = folder / 'whole' / stage, folder / 'cut' / stage
  call = training(stage, folder)
  started = time.monotonic()
  run([*call, f'--workdir={whole}'])
  seconds = time.monotonic() - started
  chance = random.Random(f'{SEED}{stage}')
  for _ in range(KILLS):
    process = subprocess.Popen(
      [*call, f'--workdir={cut}'],
      cwd=ROOT,
      env=os.environ,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    moment = chance.uniform(0.3, 0.95) * seconds
    time.sleep(moment)
    process.kill()
    process.wait()
    print(f'{stage}: killed after {moment:.1f} s of {seconds:.1f} s')
  run([*call, f'--workdir={cut}'])
  record = 'metrics.jsonl'
  assert (cut / record).read_bytes() == (whole / record).read_bytes()
  one, other = checkpoint.read(whole), checkpoint.read(cut)
  for part in ('params', 'collections'):
    jax.tree.map(
      np.testing.assert_array_equal, getattr(one, part), getattr(other, part)
    )
