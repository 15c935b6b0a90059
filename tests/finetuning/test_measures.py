"""What a fine-tuning has changed: losses of songs, distances of music."""

import types

import numpy as np
import pytest
from small_layouts import small_layout

from musiclm_jax.data.token_store import TokenRecord
from musiclm_jax.evaluation.embedders import Embedder, Windowing
from musiclm_jax.finetuning import measures
from musiclm_jax.finetuning.measures import SongClip

RATE = 24_000


def record(song, start=0.0, seconds=2.0, seed=0):
  rng = np.random.default_rng(seed)
  frames = round(25 * seconds)
  return TokenRecord(
    piece_id=song,
    start_seconds=start,
    crop_seconds=seconds,
    mulan=rng.integers(0, 16, 12),
    piece_mulan=np.zeros((1, 12), int),
    piece_starts=np.zeros(1),
    semantic=rng.integers(0, 16, frames),
    acoustic=rng.integers(0, 16, (2 * frames, 4)),
  )


@pytest.mark.parametrize('stage', ['semantic', 'coarse', 'fine'])
def test_a_song_is_scored_by_the_mean_of_its_windows(stage):
  """The stand-in says of a window what its first predicted codes are."""
  stream = 'semantic' if stage == 'semantic' else 'acoustic'

  class Model:
    layout = small_layout(stage, 0.8)

    def nll(self, params, collections, batch):
      assert batch['mulan'].shape == (measures.BATCH_SIZE, 12)
      codes = batch[stream].reshape(measures.BATCH_SIZE, -1)
      return codes[:, :1].astype(float)

  network = types.SimpleNamespace(model=Model(), params={}, collections={})
  songs = {'a': [record('a', seed=1), record('a', 2.0, seed=2)]}
  songs['b'] = [record('b', seed=3)]
  found = measures.song_losses(network, songs)
  for name, records in songs.items():
    codes = [getattr(r, stream).reshape(len(r.semantic), -1) for r in records]
    # Two whole windows of 20 frames in 50.
    firsts = [rows[start, 0] for rows in codes for start in (0, 20)]
    assert found[name] == pytest.approx(np.mean(firsts)), name


def embedder():
  """The mean and the loudness of windows of 0.1 s."""

  def apply(batch):
    return np.stack([batch.mean(axis=1), batch.std(axis=1)], axis=1)

  return Embedder(
    'stand-in',
    '0' * 64,
    RATE,
    Windowing('0.1 s', 0.1, 0.1),
    2,
    np.ascontiguousarray,
    apply,
  )


def music(level, count, seed):
  rng = np.random.default_rng(seed)
  return (level + 0.1 * rng.standard_normal((count, RATE // 2))).astype('f4')


@pytest.mark.parametrize(('num_songs', 'unit'), [(8, 'songs'), (2, 'clips')])
def test_music_that_comes_nearer_has_a_distance_that_falls(num_songs, unit):
  songs = [str(k % num_songs) for k in range(16)]
  clips = [
    SongClip(song, row, np.zeros(12, int))
    for song, row in zip(songs, music(0.0, 16, 0), strict=True)
  ]
  far, near = music(0.02, 16, 1), music(0.001, 16, 2)
  found = measures.distances(embedder(), clips, far, near)
  assert (found.unit, found.num_units) == (
    unit,
    num_songs if unit == 'songs' else 16,
  )
  assert found.after.value < found.before.value
  assert found.difference.value == pytest.approx(
    found.after.value - found.before.value
  )
  assert found.difference.high < 0
  same = measures.distances(embedder(), clips, far, far)
  assert same.difference.value == same.difference.low == 0.0


def test_clips_are_spread_over_songs_and_places():
  rows = {'a': np.arange(4.0 * RATE), 'b': np.arange(3.0 * RATE)}
  names = ['b', 'a']

  class Songs:
    def __len__(self):
      return 2

    def piece_id(self, i):
      return names[i]

    def read(self, i, start, num_samples):
      return rows[names[i]][start : start + num_samples]

  songs = {
    'a': [record('a', s, 1.0) for s in (0.0, 1.0, 2.0, 3.0)],
    'b': [record('b', s, 1.0) for s in (0.0, 1.0)],
  }
  clips = measures.read_clips(songs, [Songs()], count=5, seconds=1.0)
  assert [clip.song for clip in clips] == ['a', 'a', 'a', 'b', 'b']
  starts = [clip.waveform[0] / RATE for clip in clips]
  assert starts == [0.0, 2.0, 3.0, 0.0, 1.0]
  assert all(len(clip.waveform) == RATE for clip in clips)
