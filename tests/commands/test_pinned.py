"""What must not move while the code does: tokens, sound and first losses.

Values are of `pinned.json`: whole numbers exactly, others to 1e-4, so that
other processors and versions agree. `PIN=1` writes what is found instead: only
for a change that is meant to move them, in a commit that says why.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from musiclm_jax import MusicLM
from musiclm_jax.data.token_store import TokenStore

PINNED = Path(__file__).parent / 'pinned.json'
STEPS = 10
# Stage -> flags beside its minute config's, for ten steps of little data.
TRAININGS = {
  'soundstream': {
    'discriminators.num_scales': 1,
    'loss.adversarial_start': 0.3,
    'loss.adversarial_warmup': 0.2,
    'data.batch_size': 2,
    'data.crop_seconds': 0.12,
  },
  'w2v_bert': {'data.batch_size': 2, 'data.crop_seconds': 1.0},
  'kmeans': {
    'loss.statistics_steps': 2,
    'loss.frames_per_centroid': 1,
    'data.batch_size': 2,
    'data.crop_seconds': 2.0,
  },
  'mulan': {'data.batch_size': 2, 'data.crop_seconds': 2.0},
  'mulan_rvq': {
    'model.codebook_size': 4,
    'loss.statistics_steps': 2,
    'loss.pieces_per_code': 1,
    'data.batch_size': 8,
    'data.crop_seconds': 2.0,
  },
  'melody': {'data.batch_size': 2, 'data.tunes': 64, 'data.crop_seconds': 0.24},
  'melody_rvq': {
    'model.codebook_size': 4,
    'loss.statistics_steps': 2,
    'loss.pieces_per_code': 1,
    'data.batch_size': 8,
    'data.crop_seconds': 2.0,
  },
  'semantic': {'data.batch_size': 2, 'model.dropout_rate': 0.0},
  'coarse': {'data.batch_size': 2},
  'fine': {'data.batch_size': 2},
}
FITTED = {'kmeans': 'w2v_bert', 'mulan_rvq': 'mulan', 'melody_rvq': 'melody'}


def check(name, found):
  """Compares with what is pinned under a name, or pins it."""
  pinned = json.loads(PINNED.read_text()) if PINNED.exists() else {}
  if os.environ.get('PIN'):
    pinned[name] = found
    PINNED.write_text(json.dumps(pinned, indent=1, sort_keys=True) + '\n')
  if isinstance(found, str):
    assert found == pinned[name]
  else:
    np.testing.assert_allclose(found, pinned[name], rtol=1e-4, atol=1e-4)


def test_the_tokens_of_a_corpus_do_not_move(tokens):
  folder, done = tokens
  assert done.returncode == 0, done.stderr
  for split in ('train', 'validation', 'test'):
    store, digests = TokenStore(folder, split), {}
    for i in range(len(store)):
      for stream in ('mulan', 'semantic', 'acoustic'):
        codes = np.asarray(getattr(store.record(i), stream), np.int32)
        digests.setdefault(stream, hashlib.sha256()).update(codes.tobytes())
    for stream, digest in digests.items():
      check(f'{split} {stream} tokens', digest.hexdigest())


def test_the_sound_of_a_seed_does_not_move(bundle):
  assert bundle[1].returncode == 0, bundle[1].stderr
  model = MusicLM.load(bundle[0])
  music = model.generate('slow piano', seconds=1.23, seed=7)
  waveform = music.waveform / np.abs(music.waveform).max()
  check('waveform', waveform[::97].tolist())


@pytest.mark.soak
@pytest.mark.parametrize('stage', TRAININGS)
def test_the_first_losses_of_a_training_do_not_move(
  stage,
  tmp_path,
  request,
  run_command,
  command_flags,
  music_folder,
  monkeypatch,
):
  # As the values were made: another compiler rounds otherwise, which MuLan's
  # batch of two magnifies beyond the tolerance within ten steps.
  monkeypatch.setenv('XLA_FLAGS', '--xla_backend_optimization_level=0')
  flags = [*command_flags(stage, **TRAININGS[stage]), f'--workdir={tmp_path}/w']
  if stage in ('semantic', 'coarse', 'fine'):
    flags.append(f'--tokens={request.getfixturevalue("tokens")[0]}')
  elif stage != 'melody':
    flags.append(f'--config.data.source=audio_folder:{music_folder}')
  if stage in FITTED:
    workdirs = request.getfixturevalue('workdirs')
    network = workdirs / FITTED[stage]
    if not network.exists():
      request.getfixturevalue('write_stage')(network, FITTED[stage])
    flags.append(f'--network={network}')
  schedule = {'total_steps': STEPS, 'log_every': 1, 'eval_every': 50}
  flags += [f'--config.schedule.{k}={v}' for k, v in schedule.items()]
  done = run_command('train', *flags, '--config.data.eval_batches=0')
  assert done.returncode == 0, done.stderr
  lines = (tmp_path / 'w' / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert len(rows) == STEPS
  check(f'{stage} losses', [row['loss'] for row in rows])
