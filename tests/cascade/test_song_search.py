"""The index of songs: what is embedded, what is kept, what is made again."""

import os

import numpy as np
import pytest
import soundfile

from musiclm_jax.cascade import song_search
from musiclm_jax.contracts import atomic_file, ownership
from musiclm_jax.contracts.errors import UsageError
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
  """A function (network) -> (songs, windows embedded, lines)."""

  def run(network='mulan'):
    ear, lines = Ear(), []
    embedder = song_search.SongEmbedder(network, ear, RATE, batch_size=2)
    folder = AudioFolder(music, 'all')
    songs = song_search.update_index(folder, music, embedder, lines.append)
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


def test_only_new_and_changed_songs_are_embedded_again(music, update):
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
  assert lines[-1] == 'index of 4 songs: 2 embedded, 2 known, 0 gone'


def test_a_removed_song_vanishes(music, update):
  update()
  (music / 'b.wav').unlink()
  songs, windows, _ = update()
  assert windows == 0 and sorted(songs) == ['a.wav', 'album/c.wav']
  with np.load(music / song_search.FILE) as file:
    assert sorted(file['names']) == ['a.wav', 'album/c.wav']


@pytest.mark.parametrize(
  'damage', ['truncated', 'empty', 'field', 'method', 'locked']
)
def test_a_damaged_index_is_made_again_with_a_line(music, update, damage):
  first, whole, _ = update()
  path = music / song_search.FILE
  content = path.read_bytes()
  if damage == 'field':
    np.savez(path, names=np.array(['a.wav']))
  else:
    entry = content.index(b'PK\x01\x02')  # of the archive's list
    hurt = {
      'truncated': content[:-200],
      'empty': b'',
      'method': content[: entry + 10] + b'\x63' + content[entry + 11 :],
      'locked': content[: entry + 8] + b'\x01' + content[entry + 9 :],
    }
    path.write_bytes(hurt[damage])
  songs, windows, lines = update()
  assert windows == whole and songs.keys() == first.keys()
  assert 'is damaged: all songs are embedded again' in lines[0]
  assert update()[1] == 0


def test_a_file_that_is_no_index_is_not_replaced(music, update):
  (music / song_search.FILE).write_text('mine')
  with pytest.raises(UsageError, match='move it away'):
    update()
  assert (music / song_search.FILE).read_text() == 'mine'


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

  monkeypatch.setattr(atomic_file, 'atomic_open', full)
  songs, windows, lines = update()
  assert len(songs) == 3 and windows == 5
  assert any('cannot be written (No space left' in line for line in lines)


def interrupted_at(call, ear):
  """Embeds with `ear`, and is interrupted at one of the calls."""
  calls = []

  def embed(rows):
    calls.append(1)
    if len(calls) == call:
      raise KeyboardInterrupt
    return ear(rows)

  return song_search.SongEmbedder('mulan', embed, RATE, batch_size=2)


def test_an_interrupted_run_goes_on_within_a_song(music, update):
  expected, whole, _ = update()
  (music / song_search.FILE).unlink()
  ear = Ear()
  with pytest.raises(KeyboardInterrupt):
    song_search.update_index(
      AudioFolder(music, 'all'), music, interrupted_at(2, ear), print
    )
  assert ear.windows == 2, 'the whole of a.wav and a third of c.wav'
  songs, windows, _ = update()
  assert windows == whole - ear.windows
  for name, song in songs.items():
    np.testing.assert_array_equal(song.embedding, expected[name].embedding)
  assert update()[1] == 0


def test_what_a_song_was_begun_with_is_not_used_if_it_is_replaced(
  music, update
):
  with pytest.raises(KeyboardInterrupt):
    song_search.update_index(
      AudioFolder(music, 'all'), music, interrupted_at(2, Ear()), print
    )
  write_song(music / 'album' / 'c.wav', 2.5, 0.6)
  songs, _, _ = update()
  assert songs['album/c.wav'].embedding[0] == pytest.approx(0.6)


def test_a_replaced_song_of_the_same_size_and_time_is_embedded_again(
  music, update
):
  update()
  old = (music / 'a.wav').stat()
  write_song(music / 'a.wav', 1.0, 0.7)
  os.utime(music / 'a.wav', ns=(old.st_atime_ns, old.st_mtime_ns))
  songs, windows, _ = update()
  assert windows == 1 and songs['a.wav'].embedding[0] == pytest.approx(0.7)


def test_new_times_of_the_same_songs_cost_no_embedding(music, update):
  update()
  os.utime(music / 'a.wav', ns=(1, 1))
  assert update()[1] == 0 and update()[2] == []


def test_a_second_run_is_refused_while_one_hears_and_not_while_none_need(
  music, update
):
  refused = pytest.raises(UsageError, match='another run is listening')
  with ownership.lock(music, 'listening'), refused:
    update()
  update()
  with ownership.lock(music, 'listening'):
    assert update()[1] == 0


def test_progress_counts_windows(music):
  events = []
  embedder = song_search.SongEmbedder('mulan', Ear(), RATE, batch_size=2)
  folder = AudioFolder(music, 'all')
  song_search.update_index(folder, music, embedder, print, events.append)
  assert {event.stage for event in events} == {'embedding 3 songs'}
  assert [event.done for event in events] == [0, 0, 2, 4, 5]
  assert all(event.total == 5 for event in events)


def test_a_song_that_is_gone_is_no_progress(music, update):
  update()
  (music / 'b.wav').unlink()
  events = []
  embedder = song_search.SongEmbedder('mulan', Ear(), RATE, batch_size=2)
  folder = AudioFolder(music, 'all')
  songs = song_search.update_index(
    folder, music, embedder, print, events.append
  )
  assert len(songs) == 2
  assert events == []


def test_a_name_that_is_no_utf8_is_kept_and_found_again(music, update):
  name = os.fsdecode(b'mod\x85.wav')
  (music / 'a.wav').rename(music / name)
  songs, _, _ = update()
  assert name in songs
  assert update()[1] == 0


def test_a_song_that_vanishes_is_skipped_by_name(music):
  folder, lines = AudioFolder(music, 'all'), []
  (music / 'b.wav').unlink()
  embedder = song_search.SongEmbedder('mulan', Ear(), RATE, batch_size=2)
  songs = song_search.update_index(folder, music, embedder, lines.append)
  assert sorted(songs) == ['a.wav', 'album/c.wav']
  assert 'b.wav: skipped (it cannot be read any more)' in lines
