"""Held-out crops of an LM: aligned, with the melody where it is read."""

import types

import numpy as np
import pytest

from experiments.tiny_cascade.lm_checks import HeldOutCrops
from musiclm_jax.token_lm.layout import make_layout


def record(number):
  """Tokens of 30 s that tell their time."""
  return types.SimpleNamespace(
    piece_id=str(number),
    mulan=np.zeros(12, int),
    melody=np.arange(9)[:, None].repeat(24, 1),
    semantic=np.arange(750),
    acoustic=np.arange(1500)[:, None].repeat(6, 1),
  )


@pytest.mark.parametrize('melody', [True, False])
def test_crops_of_all_streams_describe_one_time(melody):
  """Mistakes 33 and 34."""
  layout = make_layout(
    'coarse',
    crop_seconds=10.0,
    mulan_levels=12,
    mulan_codebook_size=8,
    semantic_codebook_size=1000,
    semantic_frame_rate=25.0,
    acoustic_levels=6,
    acoustic_codebook_size=2000,
    acoustic_frame_rate=50.0,
    coarse_levels=2,
    melody=melody,
  )
  lm = types.SimpleNamespace(layout=layout)
  artifacts = types.SimpleNamespace(
    networks={'coarse': types.SimpleNamespace(model=lm)},
    test=types.SimpleNamespace(
      spread_records=lambda *limits: [record(k) for k in range(20)]
    ),
  )
  batch = HeldOutCrops(artifacts, 'coarse').batch
  starts = batch['semantic'][:, 0]
  assert len(set(starts)) > 4
  np.testing.assert_array_equal(
    batch['semantic'], batch['acoustic'][:, ::2, 0] // 2
  )
  assert ('melody' in batch) == melody
  if melody:
    np.testing.assert_array_equal(
      75 * batch['melody'][:, :, 23], starts[:, None] + 75 * np.arange(3)
    )
