"""Claims on folders of MIDI files."""

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import midi_folder, sources


def _midi(path, pitch=60, seconds=3.0):
  from symusic import Note, Score, Track

  score = Score(480, ttype='second')
  track = Track('', 0, False, ttype='second')
  track.notes = Note.from_numpy(
    np.array([0.0, seconds / 2], np.float32),
    np.array([seconds / 2, seconds / 2], np.float32),
    np.array([pitch, pitch + 4], np.int8),
    np.array([90, 90], np.int8),
    ttype='second',
  )
  score.tracks.append(track)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(score.to('tick').dumps_midi())


@pytest.fixture
def folder(tmp_path):
  for i in range(12):
    suffix = '.mid' if i % 2 else '.MIDI'
    _midi(tmp_path / f'album{i % 3}' / f'song{i}{suffix}', 50 + i)
  return tmp_path


def _open(folder):
  return {
    split: sources.open_source(f'midi_folder:{folder}', split)
    for split in sources.SPLITS
  }


def test_splits_are_disjoint_and_stay_when_files_are_added(folder):
  before = {
    s: {o.piece_id(i) for i in range(len(o))} for s, o in _open(folder).items()
  }
  assert sum(map(len, before.values())) == 12
  assert len(set().union(*before.values())) == 12
  assert all(before.values())


def test_reads_music_and_pads(folder):
  source = _open(folder)['train']
  whole = source.read(0)
  assert whole.dtype == np.float32 and len(whole) == source.num_samples(0)
  assert 0.001 < np.abs(whole).max() <= 1.0
  np.testing.assert_array_equal(source.read(0, 1000, 500), whole[1000:1500])
  assert not source.read(0, len(whole) + 5, 50).any()
  assert source.caption(0, 0.0, 1.0, np.random.default_rng(0)) is None
  assert source.attributes(0, 0.0, 1.0) is None


def test_reading_order_does_not_change_what_is_read(folder):
  first, second = _open(folder)['train'], _open(folder)['train']
  order = list(range(len(first)))
  a = {i: first.read(i) for i in order * 2}
  b = {i: second.read(i) for i in reversed(order)}
  assert all(np.array_equal(a[i], b[i]) for i in order)


def test_corrupt_files_are_skipped_counted_and_reported(folder, capfd):
  (folder / 'empty.mid').write_bytes(b'')
  (folder / 'noise.mid').write_bytes(b'MThd' + bytes(range(200)))
  (folder / 'text.mid').write_text('not music')
  files = midi_folder.scan(str(folder))
  assert len(files) == 12
  said = capfd.readouterr().err
  assert 'skipped 3 of 15' in said and 'empty.mid' in said


def test_folder_without_midi_is_refused(tmp_path):
  (tmp_path / 'letter.txt').write_text('dear')
  with pytest.raises(UsageError, match='MIDI'):
    sources.open_source(f'midi_folder:{tmp_path}', 'train')


def test_other_rates_are_refused(folder):
  with pytest.raises(UsageError, match='24000'):
    midi_folder.MidiFolder(str(folder), 'train', 16000)
