"""Token specs and contracts: frames of a clip, JSON that old readers know."""

import dataclasses
import json

import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenContract, TokenSpec

MELODY = TokenSpec(512, 24, 1 / 3.0, window_seconds=4.0)
CONTRACT = TokenContract(
  sample_rate=24000,
  streams={
    'mulan': TokenSpec(1024, 12, 0.0),
    'semantic': TokenSpec(1024, 1, 25.0),
  },
  coarse_levels=4,
  mulan_audio_mean=(0.5,),
  mulan_text_mean=(-0.5,),
  networks={'mulan': 'a'},
)


@pytest.mark.parametrize(
  'seconds, frames',
  [(0.0, 0), (3.96, 0), (4.0, 1), (6.96, 1), (7.0, 2), (10.0, 3), (30.0, 9)],
)
def test_windows_of_a_crop_lie_in_it_as_a_whole(seconds, frames):
  """Correction 1: 4 s every 3 s, 3 x 24 = 72 tokens in 10 s."""
  assert MELODY.num_frames(seconds) == frames
  assert MELODY.divides(seconds)


def test_frames_that_tile_a_clip_leave_no_rest():
  spec = TokenSpec(1024, 1, 25.0)
  assert spec.num_frames(2.4) == 60 and spec.divides(2.4)
  assert not spec.divides(2.5)
  with pytest.raises(UsageError, match=r'multiple of 0\.04'):
    spec.num_frames(2.5)


def test_a_contract_without_windows_reads_as_it_always_did():
  fields = json.loads(CONTRACT.to_json())
  expected = {'codebook_size', 'num_levels', 'frame_rate'}
  assert all(spec.keys() == expected for spec in fields['streams'].values())
  assert TokenContract.from_json(CONTRACT.to_json()) == CONTRACT


def test_a_melody_is_part_of_the_contract():
  streams = {**CONTRACT.streams, 'melody': MELODY}
  with_melody = dataclasses.replace(CONTRACT, streams=streams)
  assert TokenContract.from_json(with_melody.to_json()) == with_melody
  longer = dataclasses.replace(MELODY, window_seconds=5.0)
  other = dataclasses.replace(
    with_melody, streams={**streams, 'melody': longer}
  )
  with pytest.raises(UsageError, match=r'melody\.window_seconds.*4\.0.*5\.0'):
    with_melody.check(other, 'here', 'there')
  with pytest.raises(UsageError, match=r'streams\.melody.*nothing'):
    with_melody.check(CONTRACT, 'here', 'there')


@pytest.mark.parametrize(
  'text',
  [
    '',
    '[]',
    'null',
    '{}',
    CONTRACT.to_json()[:-9],
    *(
      json.dumps(json.loads(CONTRACT.to_json()) | {'streams': streams})
      for streams in (None, 5, 'x', [], {'mulan': {}}, {'mulan': 5})
    ),
  ],
)
def test_a_text_that_is_no_contract_is_refused_in_one_line(text):
  with pytest.raises(UsageError, match='not a token contract'):
    TokenContract.from_json(text)
