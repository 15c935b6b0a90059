"""Melodies played twice: same notes, other sound; voices at their pitch."""

import itertools

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data.batches import HostShard, MelodyBook, melody_batches
from musiclm_jax.rendered_music import melody_takes, splits, voice

SECONDS = 4.0


def _pair(index, seed=0, split='train', variety=None, take=0):
  composed = melody_takes.compose(seed, split, index, SECONDS)
  rng = np.random.default_rng([take, index])
  return melody_takes.pair(
    composed, variety or melody_takes.Variety(), SECONDS, rng
  )


@pytest.fixture(scope='module')
def pairs():
  return [_pair(index) for index in range(10)]


def test_both_takes_have_one_contour_up_to_transposition(pairs):
  for one, other in pairs:
    a, b = one.notes[:, 2] - one.transpose, other.notes[:, 2] - other.transpose
    # Where the melody begins is rounded to what sounds there: drop the ends.
    a, b = a[1:-1], b[1:-1]
    shared = min(len(a), len(b)) - 2
    assert shared >= 2
    assert any(
      (a[i : i + shared] == b[j : j + shared]).all()
      for i, j in itertools.product(range(2), range(2))
    )


def test_both_takes_begin_at_one_place_of_the_score(pairs):
  """Onsets of the slower take are those of the faster one, stretched."""
  for one, other in pairs:
    a, b = (np.sort(t.notes[:, 0]) * t.bpm for t in (one, other))
    a, b = a[a > 30.0], b[b > 30.0]  # half a beat and more into the take
    common = [x for x in a if x < min(a.max(), b.max()) - 30.0]
    distances = [np.abs(b - x).min() / 60.0 for x in common]
    assert max(distances) < 0.25, 'in beats: swing is none, players err'


def test_takes_differ_in_player_tempo_and_key(pairs):
  assert sum(a.player != b.player for a, b in pairs) > 6
  assert sum(a.transpose % 12 != b.transpose % 12 for a, b in pairs) > 5
  assert sum(abs(a.bpm / b.bpm - 1) > 0.03 for a, b in pairs) > 4
  takes = [take for pair in pairs for take in pair]
  assert {bool(take.parts) for take in takes} == {True, False}
  assert {*voice.VOICES} & {take.player for take in takes}
  for take in takes:
    assert take.waveform.shape == (96_000,)
    assert take.waveform.dtype == np.float32
    assert 0.01 < np.abs(take.waveform).max() <= 1.0


def test_tempo_changes_stay_within_their_limit(pairs):
  for index, pair in enumerate(pairs):
    bpm = melody_takes.compose(0, 'train', index, SECONDS).bpm
    assert all(abs(take.bpm / bpm - 1) <= 0.2 for take in pair)


def test_takes_can_keep_their_key():
  variety = melody_takes.Variety(same_key=True)
  shifts = {t.transpose for i in range(10) for t in _pair(i, variety=variety)}
  assert len(shifts) > 2
  assert {shift % 12 for shift in shifts} == {0}


def test_the_same_seed_and_index_give_the_same_samples(pairs):
  for one, again in zip(pairs[3], _pair(3), strict=True):
    np.testing.assert_array_equal(one.waveform, again.waveform)
    np.testing.assert_array_equal(one.notes, again.notes)
  assert (_pair(3, take=1)[0].waveform != pairs[3][0].waveform).any()
  assert _pair(3, seed=1)[0].bpm != pairs[3][0].bpm


def test_splits_share_no_motif():
  numbers = {
    split: {
      melody_takes.motif_number(seed, split, index)
      for seed, index in itertools.product(range(2), range(100))
    }
    for split in splits.SPLITS
  }
  for split, found in numbers.items():
    assert len(found) == 200
    assert {splits.of_number(n) for n in found} == {split}


def test_only_named_leads_play():
  variety = melody_takes.Variety(leads=('violin', 'flute'), voice_share=0.0)
  players = {t.player for i in range(4) for t in _pair(i, variety=variety)}
  assert players <= {'violin', 'flute'}
  with pytest.raises(UsageError, match='kazoo'):
    melody_takes.Variety(leads=('kazoo',))


@pytest.mark.parametrize('name', voice.VOICES)
@pytest.mark.parametrize('place', [0.2, 0.8])
def test_a_voice_sings_at_the_right_pitch(name, place):
  singer = voice.VOICES[name]
  pitch = round(singer.low + place * (singer.high - singer.low))
  errors = []
  for seed in range(5):
    sound = voice.sing(
      np.array([[0.0, 2.0, pitch, 100.0]]),
      singer,
      48_000,
      np.random.default_rng(seed),
    )
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 18))
    hertz = np.argmax(spectrum) * 24_000 / (1 << 18)
    errors.append(12 * np.log2(hertz / 440) + 69 - pitch)
  assert np.abs(errors).max() < 0.75, errors  # an untrained singer's
  assert abs(np.median(errors)) < 0.4, errors


def test_a_voice_is_silent_in_rests_and_glides_between_notes():
  notes = np.array([[0.1, 0.4, 60.0, 100.0], [1.0, 0.4, 67.0, 100.0]])
  sound = voice.sing(
    notes, voice.VOICES['hum'], 48_000, np.random.default_rng(0)
  )
  assert sound.shape == (48_000,) and sound.dtype == np.float32
  power = np.sqrt(np.mean(sound.reshape(20, -1) ** 2, axis=1))
  assert power[7] < 1e-3 * power[2] and power[-1] < 1e-3 * power[2]
  assert power[12] > 0.3 * power[2]


def _stream(**options):
  book = MelodyBook('train', 8, melody_takes.Variety(band_share=0.0))
  defaults = {'batch_size': 4, 'crop_seconds': 1.0, 'seed': 3}
  return melody_batches(book, **(defaults | options))


def test_batches_are_a_function_of_seed_and_step_on_any_hosts():
  stream = _stream()
  whole = [next(stream) for _ in range(3)]
  assert whole[0]['waveform'].shape == (4, 2, 24_000)
  assert whole[0]['group'].dtype == np.int32
  both = np.concatenate([batch['group'] for batch in whole[:2]])
  assert sorted(both) == list(range(8)), 'an epoch plays each melody once'
  part = next(_stream(start_step=2, shard=HostShard(1, 2)))
  for name, rows in part.items():
    np.testing.assert_array_equal(rows, whole[2][name][2:])


def test_a_batch_of_more_melodies_than_there_are_is_refused():
  with pytest.raises(UsageError, match='tunes'):
    _stream(batch_size=16)
