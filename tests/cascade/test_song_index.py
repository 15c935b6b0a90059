"""The index of songs: what is heard, what is kept, what is made again."""

import os

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade import song_index
from musiclm_jax.data.audio_folder import AudioFolder

RATE = 24000


def write_song(path, seconds, level):
  """A constant, so that a window's mean is its level."""
  samples = np.full(round(seconds * RATE), level, np.float32)
  soundfile.write(path, samples, RATE, subtype='FLOAT')


class Ear:
  """Embeds a window as (mean, 1) and counts the windows that sound."""

  def __init__(self):
    self.windows = 0

  def __call__(self, rows):
    assert rows.shape == (2, RATE) and rows.dtype == np.float32
    self.windows += int((rows != 0).any(axis=1).sum())
    return np.stack([rows.mean(axis=1), np.ones(len(rows))], axis=1)


@pytest.fixture
def music(tmp_path):
  """Two songs of 1 s and 0.4 s, and one of 2.5 s in a folder of its own."""
  (tmp_path / 'album').mkdir()
  write_song(tmp_path / 'a.wav', 1.0, 0.1)
  write_song(tmp_path / 'b.wav', 0.4, 0.2)
  write_song(tmp_path / 'album' / 'c.wav', 2.5, 0.3)
  return tmp_path


@pytest.fixture
def update(music):
  """A function (network) -> (songs, windows heard, lines)."""

  def run(network='mulan'):
    ear, lines = Ear(), []
    hearing = song_index.Hearing(network, ear, RATE, batch_size=2)
    folder = AudioFolder(music, 'all')
    songs = song_index.update(folder, music, hearing, lines.append)
    return songs, ear.windows, lines

  return run


def test_a_song_is_the_mean_of_windows_that_cover_it(music, update):
  half = np.concatenate([np.full(RATE, 0.2), np.full(RATE // 2, 0.4)])
  soundfile.write(music / 'd.wav', half, RATE, subtype='FLOAT')
  songs, windows, _ = update()
  assert sorted(songs) == ['a.wav', 'album/c.wav', 'b.wav', 'd.wav']
  # 1 + 3 + 1 (repeated to a whole one) + 2, the last one reaching back.
  assert windows == 7
  levels = {name: song.embedding[0] for name, song in songs.items()}
  assert levels == pytest.approx(
    {'a.wav': 0.1, 'b.wav': 0.2, 'album/c.wav': 0.3, 'd.wav': 0.25}, abs=1e-6
  )


def test_only_new_and_changed_songs_are_heard_again(music, update):
  first, _, _ = update()
  again, windows, lines = update()
  assert windows == 0 and lines == []
  assert again.keys() == first.keys()
  for name, song in again.items():
    assert song.stamp == first[name].stamp
    np.testing.assert_array_equal(song.embedding, first[name].embedding)
  write_song(music / 'new.wav', 1.0, 0.5)
  write_song(music / 'a.wav', 1.0, 0.7)  # as long as before
  os.utime(music / 'a.wav', ns=(1, 1))
  songs, windows, lines = update()
  assert windows == 2
  assert songs['a.wav'].embedding[0] == pytest.approx(0.7)
  assert lines[-1] == 'index of 4 songs: 2 heard, 2 known, 0 gone'


def test_a_removed_song_vanishes(music, update):
  update()
  (music / 'b.wav').unlink()
  songs, windows, _ = update()
  assert windows == 0 and sorted(songs) == ['a.wav', 'album/c.wav']
  with np.load(music / song_index.FILE) as file:
    assert sorted(file['names']) == ['a.wav', 'album/c.wav']


@pytest.mark.parametrize(
  'damage', ['truncated', 'text', 'empty', 'field', 'method', 'locked']
)
def test_a_damaged_index_is_made_again_with_a_line(music, update, damage):
  first, whole, _ = update()
  path = music / song_index.FILE
  content = path.read_bytes()
  if damage == 'field':
    np.savez(path, names=np.array(['a.wav']))
  else:
    entry = content.index(b'PK\x01\x02')  # of the archive's list
    hurt = {
      'truncated': content[:-200],
      'text': b'words',
      'empty': b'',
      'method': content[: entry + 10] + b'\x63' + content[entry + 11 :],
      'locked': content[: entry + 8] + b'\x01' + content[entry + 9 :],
    }
    path.write_bytes(hurt[damage])
  songs, windows, lines = update()
  assert windows == whole and songs.keys() == first.keys()
  assert 'is damaged: all songs are heard again' in lines[0]
  assert update()[1] == 0


def test_an_index_of_another_network_is_made_again_with_a_line(update):
  _, whole, _ = update('one')
  _, windows, lines = update('two')
  assert windows == whole and 'another bundle' in lines[0]
  assert update('two')[1] == 0


def test_an_index_that_cannot_be_written_is_no_obstacle(
  music, update, monkeypatch
):
  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(song_index.atomic_file, 'atomic_open', full)
  songs, windows, lines = update()
  assert len(songs) == 3 and windows == 5
  assert any('cannot be written (No space left' in line for line in lines)


def test_an_interrupted_run_keeps_what_it_has_heard(music, monkeypatch):
  monkeypatch.setattr(song_index, '_SAVE_SECONDS', 0.0)
  ear, calls = Ear(), []

  def interrupted(rows):
    calls.append(1)
    if len(calls) == 2:
      raise KeyboardInterrupt
    return ear(rows)

  hearing = song_index.Hearing('mulan', interrupted, RATE, batch_size=2)
  folder = AudioFolder(music, 'all')
  with pytest.raises(KeyboardInterrupt):
    song_index.update(folder, music, hearing, print)
  with np.load(music / song_index.FILE) as file:
    assert list(file['names']) == ['a.wav']


def test_progress_tells_rate_and_time_to_go(music, monkeypatch):
  monkeypatch.setattr(song_index, '_REPORT_SECONDS', 0.0)
  lines = []
  hearing = song_index.Hearing('mulan', Ear(), RATE, batch_size=2)
  song_index.update(AudioFolder(music, 'all'), music, hearing, lines.append)
  assert lines[0] == 'hearing 3 songs in 5 windows of 1 s'
  assert 'heard 3/3 songs' in lines[-2] and 'x real time  ETA 0:00' in lines[-2]
