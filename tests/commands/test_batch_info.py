"""What each stage says of itself, and the samples of its codec."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from musiclm_jax.contracts.task import HasAudioSamples, HasBatchInfo
from musiclm_jax.training.detectors import DETECTORS

WORTH = {  # of two rows, or of 80 embeddings
  'soundstream': (4.0, 'audio seconds'),
  'w2v_bert': (4.0, 'audio seconds'),
  'mulan': (4.0, 'audio seconds'),
  'melody': (0.96, 'audio seconds'),
  'kmeans': (100, 'frames'),
  'mulan_rvq': (80, 'embeddings'),
  'melody_rvq': (80, 'embeddings'),
  'semantic': (2 * (12 + 50), 'tokens'),
  'coarse': (2 * (12 + 10 + 20 * 2), 'tokens'),
}


def metrics_of(task, batch):
  """Names of what a step reports, without the step."""
  params, collections = nn.unbox(
    jax.eval_shape(task.init, jax.random.key(0), batch)
  )
  names, key = set(), jax.random.key(0)
  for index, (player, loss) in enumerate(task.losses().items()):
    _, (_, metrics) = jax.eval_shape(
      loss, params, collections, batch, key, np.int32(0)
    )
    end = f'_{player}' if index else ''
    names |= {f'loss{end}', f'grad_norm_{player}', *metrics}
  return names


@pytest.mark.parametrize('stage', WORTH)
def test_a_stage_says_what_a_batch_is_worth(stage, minute_game):
  task, batch = minute_game(stage)
  assert isinstance(task, HasBatchInfo)
  batch_info = task.batch_info(batch)
  assert (batch_info.amount, batch_info.unit) == WORTH[stage]
  assert batch_info.health_checks
  assert all(check.detector in DETECTORS for check in batch_info.health_checks)


@pytest.mark.parametrize(
  'stage',
  [
    pytest.param('soundstream', marks=pytest.mark.soak),
    pytest.param('w2v_bert', marks=pytest.mark.soak),
    'mulan',
    'melody',
    'kmeans',
    'melody_rvq',
    'semantic',
  ],
)
def test_what_a_stage_watches_is_what_it_reports(stage, minute_game):
  task, batch = minute_game(stage)
  names = metrics_of(task, batch)
  for check in task.batch_info(batch).health_checks:
    assert check.metric in names
    assert not isinstance(check.reference, str) or check.reference in names


def test_the_codec_lets_hear_originals_beside_what_comes_of_their_codes(
  minute_game,
):
  task, batch = minute_game('soundstream')
  assert isinstance(task, HasAudioSamples) and task.sample_rate == 24000
  batch['waveform'] = np.zeros((3, 4800), np.float32)
  params, collections = nn.unbox(
    jax.eval_shape(task.init, jax.random.key(0), batch)
  )
  samples = jax.eval_shape(task.audio_samples, params, collections, batch)
  assert {k: v.shape for k, v in samples.items()} == {
    'original': (2, 4800),
    'reconstruction': (2, 4800),
  }
  watched = [check.metric for check in task.batch_info(batch).health_checks]
  assert watched[:2] == ['perplexity_level_1', 'perplexity_level_2']
