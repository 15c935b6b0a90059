"""Batches: a pure function of (seed, step), the same on any hosts."""

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.contracts.token_contract import TokenSpec
from musiclm_jax.data import batches
from musiclm_jax.data.loading import HostShard
from musiclm_jax.mulan.task import FACT_WORDS
from musiclm_jax.rendered_music import facts

AUDIBLE = {
  **dict.fromkeys(('style', 'tempo_class', 'key', 'mode', 'metre', 'mood')),
  **dict.fromkeys(('brightness', 'loudness', 'density', 'texture')),
  **dict.fromkeys(('lead_family', 'lead_program')),
  'instruments': ('drums',),
  'near_silence': False,
}


class Ramp:
  """Seven pieces of 1 s to 7 s whose samples tell piece and place."""

  sample_rate = 100

  def __init__(self, captioned=range(7)):
    self.captioned_pieces = captioned

  def __len__(self):
    return 7

  def piece_id(self, i):
    return f'piece {i}'

  def num_samples(self, i):
    return 100 * (i + 1)

  def captioned(self):
    return list(self.captioned_pieces)

  def read(self, i, start=0, num_samples=None):
    return (1000 * i + np.arange(start, start + num_samples)).astype(np.float32)

  def describe(self, i, start_seconds, end_seconds, rng):
    return (f'caption {i}' if i in self.captioned_pieces else None), None

  def attributes(self, i, start_seconds, end_seconds):
    return {'family': 'piano' if i % 2 else 'organ', 'bpm': 120}


class Silent(Ramp):
  """Fails where a caption is asked for."""

  def describe(self, *args):
    raise AssertionError('captions must not be read')

  attributes = describe


class Letters:
  def encode(self, text, length):
    ids = np.zeros(length, np.int32)
    ids[: len(text)] = [ord(c) for c in text][:length]
    return ids


class Records:
  """Ten records of 10 s; a token tells record and time."""

  crop_seconds = 10.0

  def __init__(self, windows=4, numbered=False):
    self.specs = {
      'semantic': TokenSpec(1024, 1, 25.0),
      'acoustic': TokenSpec(1024, 4, 50.0),
      'melody': TokenSpec(512, 24, 1 / 3, window_seconds=4.0),
    }
    self.windows = windows
    self.numbered = numbered

  def __len__(self):
    return 10

  def read(self, i):
    starts = 10.0 * np.arange(self.windows)
    return {
      'start_seconds': 10.0 * (i % self.windows),
      'crop_seconds': 10.0,
      'mulan': np.full(12, i % self.windows),
      'piece_mulan': np.arange(self.windows)[:, None].repeat(12, 1),
      'piece_starts': starts,
      'semantic': (
        np.full(250, i % self.windows) if self.numbered else 2 * np.arange(250)
      ),
      'acoustic': np.arange(500)[:, None].repeat(4, 1),
      'melody': np.arange(3)[:, None].repeat(24, 1),
    }


def take(iterator, count):
  return [next(iterator) for _ in range(count)]


def audio(**options):
  options = {'batch_size': 8, 'crop_seconds': 1.0, 'seed': 3} | options
  return batches.audio_batches(Silent(), **options)


def tokens(store=None, **options):
  defaults = {
    'batch_size': 8,
    'crop_seconds': 3.0,
    'other_window_probability': 0.0,
    'seed': 5,
  }
  return batches.token_batches(store or Records(), **(defaults | options))


@pytest.mark.parametrize('hosts', [2, 4, 8])
@pytest.mark.parametrize('make', [audio, tokens])
def test_hosts_together_read_the_batch_of_one_host(make, hosts):
  whole = take(make(), 3)
  parts = [take(make(shard=HostShard(h, hosts)), 3) for h in range(hosts)]
  for step in range(3):
    for name in whole[step]:
      joined = np.concatenate([parts[h][step][name] for h in range(hosts)])
      np.testing.assert_array_equal(joined, whole[step][name])


@pytest.mark.parametrize('make', [audio, tokens])
def test_resuming_continues_the_stream_on_other_hosts(make):
  whole = take(make(), 30)
  resumed = take(make(start_step=25, shard=HostShard(1, 2)), 5)
  for a, b in zip(whole[25:], resumed, strict=True):
    for name in a:
      np.testing.assert_array_equal(a[name][4:], b[name])


def test_seeds_and_epochs_differ():
  first, second = (
    np.stack([b['waveform'][:, 0] for b in take(audio(seed=s), 7)])
    for s in (0, 1)
  )
  assert (first != second).any()
  later = [b['waveform'][:, 0] for b in take(audio(seed=0, start_step=7), 7)]
  assert (first != np.stack(later)).any()


def test_an_epoch_hears_long_pieces_as_much_longer():
  # 28 s of music in 1 s crops: seven batches of four are one epoch.
  starts = np.concatenate(
    [b['waveform'][:, 0] for b in take(audio(batch_size=4), 7)]
  )
  drawn = np.bincount((starts // 1000).astype(int), minlength=7)
  np.testing.assert_array_equal(drawn, np.arange(1, 8))


def test_audio_batches_never_read_captions():
  assert next(audio()).keys() == {'waveform'}  # Silent raises if they did


def test_pieces_shorter_than_the_crop_are_read_from_their_start():
  for batch in take(audio(crop_seconds=5.0), 4):
    short = batch['waveform'][:, 0] < 4000
    np.testing.assert_array_equal(batch['waveform'][short, 0] % 1000, 0)


def test_equal_attributes_are_one_group():
  batch = next(
    batches.text_audio_batches(
      Ramp(),
      Letters(),
      batch_size=32,
      crop_seconds=1.0,
      text_length=16,
      captions_per_crop=3,
      seed=0,
    )
  )
  odd = (batch['waveform'][:, 0] // 1000).astype(int) % 2 == 1
  assert len(set(batch['group'][odd])) == 1
  assert len(set(batch['group'])) == 2
  assert batch['group'].dtype == np.int32
  assert batch['text_ids'].shape == (32, 3, 16)


class Told(Ramp):
  """Says what captions of even pieces state; other pieces have two captions."""

  def attributes(self, i, start_seconds, end_seconds):
    return AUDIBLE | {'bpm': 100.0 + i} if i % 2 == 0 else None

  def describe(self, i, start_seconds, end_seconds, rng):
    stated = {'bpm': 100.0 + i, 'others': ('drums',)}
    caption = f'caption {i}{rng.choice(["a", "b"])}'
    return caption, None if i % 2 else stated


def test_marks_say_what_is_true_of_whom_on_any_hosts():
  def draw(shard=None, mark=True):
    return next(
      batches.text_audio_batches(
        Told(),
        Letters(),
        batch_size=32,
        crop_seconds=1.0,
        text_length=10,
        captions_per_crop=3,
        mark_true_pairs=mark,
        seed=0,
        shard=shard,
      )
    )

  whole, plain = draw(), draw(mark=False)
  for name, values in plain.items():  # the same draws
    np.testing.assert_array_equal(whole[name], values)
  assert whole.keys() - plain.keys() == {'piece', 'facts', 'claims'}
  halves = [draw(HostShard(k, 2)) for k in range(2)]
  for name, values in whole.items():
    parts = [half[name] for half in halves]
    np.testing.assert_array_equal(np.concatenate(parts), values)
  piece = (whole['waveform'][:, 0] // 1000).astype(int)
  np.testing.assert_array_equal(whole['piece'], piece)
  words = facts.num_words()
  assert words == FACT_WORDS
  assert whole['facts'].shape == (32, words)
  assert whole['claims'].shape == (32, 3, words)
  for i, crop, claims in zip(
    piece, whole['facts'], whole['claims'], strict=True
  ):
    assert crop.any() == claims.any() == (i % 2 == 0)
    assert not (claims & ~crop).any()
  # Captions of one file are told apart by no group, hence the pieces.
  odd = whole['group'][piece == 3]
  assert len(set(odd)) == 2


def test_text_belongs_to_its_audio_and_uncaptioned_pieces_are_passed_over():
  stream = batches.text_audio_batches(
    Ramp(captioned=(2, 5)),
    Letters(),
    batch_size=16,
    crop_seconds=1.0,
    text_length=9,
    captions_per_crop=2,
    seed=0,
  )
  batch = next(stream)
  piece = (batch['waveform'][:, 0] // 1000).astype(int)
  for caption in range(2):
    np.testing.assert_array_equal(
      batch['text_ids'][:, caption, 8], ord('0') + piece
    )
  assert set(piece) == {2, 5}


def test_captioned_pieces_are_drawn_by_their_length_whatever_is_between():
  """A piece after many without a caption is not drawn in their place."""
  stream = batches.text_audio_batches(
    Ramp(captioned=(0, 5, 6)),
    Letters(),
    batch_size=14,
    crop_seconds=1.0,
    text_length=9,
    captions_per_crop=1,
    seed=0,
  )
  starts = np.concatenate([b['waveform'][:, 0] for b in take(stream, 3)])
  drawn = np.bincount((starts // 1000).astype(int), minlength=7)
  np.testing.assert_array_equal(drawn, [3, 0, 0, 0, 0, 18, 21])


def test_a_source_without_captions_is_refused():
  with pytest.raises(UsageError, match=r'captions\.csv'):
    batches.text_audio_batches(
      Ramp(captioned=()),
      Letters(),
      batch_size=2,
      crop_seconds=1.0,
      text_length=9,
      captions_per_crop=2,
      seed=0,
    )


def test_streams_of_a_crop_are_aligned():
  """Mistakes 33 and 34: nested crops, exactly 1:2 in length and place."""
  seen = set()
  for batch in take(tokens(), 20):
    assert batch['semantic'].shape == (8, 75)
    assert batch['acoustic'].shape == (8, 150, 4)
    np.testing.assert_array_equal(
      batch['semantic'], batch['acoustic'][:, ::2, 0]
    )
    seen |= set(batch['semantic'][:, 0])
  assert min(seen) < 30 and max(seen) > 300, 'crops come from everywhere'


def test_streams_that_do_not_fit_a_short_crop_are_left_out():
  batch = next(tokens(crop_seconds=1.5))
  assert batch['acoustic'].shape == (8, 75, 4)
  assert 'semantic' not in batch


@pytest.mark.parametrize('seconds, count', [(4.0, 1), (6.0, 1), (10.0, 3)])
def test_crops_begin_with_a_melody_window_and_hold_whole_ones(seconds, count):
  """Windows of 4 s every 3 s are those of the crop's own time."""
  streams, firsts = ('semantic', 'acoustic', 'melody'), set()
  for batch in take(tokens(crop_seconds=seconds, streams=streams), 9):
    assert batch['melody'].shape == (8, count, 24)
    assert batch['semantic'].shape == (8, 25 * seconds)
    np.testing.assert_array_equal(
      batch['acoustic'][:, 0, 0], 150 * batch['melody'][:, 0, 0]
    )
    np.testing.assert_array_equal(
      batch['semantic'], batch['acoustic'][:, ::2, 0]
    )
    np.testing.assert_array_equal(
      batch['melody'][0, :, 5] - batch['melody'][0, 0, 5], np.arange(count)
    )
    firsts |= set(batch['melody'][:, 0, 0].tolist())
  assert firsts == set(range(1 + int((10 - seconds) / 3)))


def test_a_melody_that_is_not_asked_for_changes_nothing():
  for plain in (tokens(), tokens(streams=('acoustic', 'semantic'))):
    batch = next(plain)
    assert 'melody' not in batch
    assert (batch['semantic'][:, 0] % 150).any(), 'any frame begins a crop'


def test_windows_that_begin_between_frames_are_refused():
  """Mistake 34: rounding makes streams drift against each other."""
  store = Records()
  store.specs['melody'] = TokenSpec(512, 24, 1 / 2.5, window_seconds=4.0)
  with pytest.raises(UsageError, match=r'every 2\.5 s'):
    tokens(store, streams=('semantic', 'melody'), crop_seconds=6.0)


@pytest.mark.parametrize('seconds', [11.0, 0.0, 0.011])
def test_crops_that_do_not_fit_the_store_are_refused(seconds):
  with pytest.raises(UsageError, match='crop_seconds'):
    tokens(crop_seconds=seconds)


def test_other_windows_never_overlap_the_crop():
  counts = [0, 0]
  for probability in (0.5, 1.0):
    stream = tokens(
      Records(numbered=True), other_window_probability=probability
    )
    for batch in take(stream, 9):
      own = batch['mulan'][:, 0] == batch['semantic'][:, 0]
      counts[0] += own.sum()
      counts[1] += (~own).sum()
      assert probability < 1.0 or not own.any()
  assert min(counts) > 15


def test_a_piece_of_one_window_is_conditioned_on_itself():
  store = Records(windows=1)
  batch = next(tokens(store, other_window_probability=1.0))
  assert (batch['mulan'] == 0).all()


def test_a_batch_that_does_not_divide_is_refused():
  with pytest.raises(UsageError, match='multiple of 3'):
    audio(shard=HostShard(0, 3))


def test_a_share_of_noise_that_is_no_probability_is_refused():
  with pytest.raises(UsageError, match='noise_probability=1'):
    batches.audio_batches(
      Ramp(), batch_size=1, crop_seconds=1.0, noise_probability=1.5, seed=0
    )
