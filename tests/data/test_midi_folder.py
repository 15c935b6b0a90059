"""Claims on folders of MIDI files."""

import os
import random
import struct

import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import file_folder, midi_folder, sources
from musiclm_jax.data.folder_listing import list_files


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
  assert source.describe(0, 0.0, 1.0, np.random.default_rng(0))[0] is None
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
  files = file_folder.scan(str(folder), midi_folder.KIND).files
  assert len(files) == 12
  said = capfd.readouterr().err
  assert 'skipped 3 of 15' in said and 'empty.mid' in said


def _garbage(number):
  """A track of notes and then noise, of which parsers die."""
  notes = b''.join(
    b'\0\x90' + bytes([60 + k, 80]) + b'\x83\x60\x80' + bytes([60 + k, 0])
    for k in range(12)
  )
  track = notes + random.Random(number).randbytes(200) + b'\0\xff\x2f\0'
  head = b'MThd' + struct.pack('>IHHH', 6, 0, 1, 480)
  return head + b'MTrk' + struct.pack('>I', len(track)) + track


def test_however_its_parser_dies_a_file_is_skipped_by_name(folder):
  for number in range(24, 48):  # some of them end the process
    (folder / f'garbage{number}.mid').write_bytes(_garbage(number))
  listing = list_files(folder, midi_folder.KIND.suffixes)
  good, broken = file_folder.probe_all(folder, midi_folder.KIND, listing)
  assert len([name for name, _ in good if 'song' in name]) == 12
  assert len(good) + len(broken) == 36
  assert all(name and reason for name, reason in broken)


def test_what_cannot_be_rendered_is_silence_and_said_once(folder, capfd):
  source = _open(folder)['train']
  path = folder / source.piece_id(0)
  path.write_bytes(b'MThd')
  for _ in range(2):
    source._rendered.cache_clear()
    assert not source.read(0, 0, 500).any()
  (line,) = capfd.readouterr().err.strip().splitlines()
  assert source.piece_id(0) in line and 'silence is used' in line


def test_links_and_names_that_are_no_utf8_are_read(tmp_path):
  elsewhere = tmp_path / 'elsewhere'
  for name in (b'\x85.mid', b'b.mid', b'c.mid'):
    _midi(elsewhere / os.fsdecode(name))
  (tmp_path / 'music').mkdir()
  (tmp_path / 'music' / 'linked').symlink_to(elsewhere)
  found = [
    name
    for name, _ in file_folder.scan(tmp_path / 'music', midi_folder.KIND).files
  ]
  assert found == ['linked/b.mid', 'linked/c.mid', 'linked/\udc85.mid']
  assert sum(map(len, _open(tmp_path / 'music').values())) == 3


def test_folder_without_midi_is_refused(tmp_path):
  (tmp_path / 'letter.txt').write_text('dear')
  with pytest.raises(UsageError, match='MIDI'):
    sources.open_source(f'midi_folder:{tmp_path}', 'train')


def test_other_rates_are_refused(folder):
  with pytest.raises(UsageError, match='24000'):
    midi_folder.MidiFolder(str(folder), 'train', 16000)


def test_splits_and_order_are_those_that_stores_were_made_with(
  tmp_path, monkeypatch
):
  names = [f'{"abc"[k % 3]}{" x" * (k % 2)}/{k}.mid' for k in range(40)]
  found = tuple((name, None) for name in sorted(names))
  scan = file_folder.Scan(found)
  monkeypatch.setattr(file_folder, 'scan', lambda folder, kind: scan)
  ids = {
    split: [o.piece_id(i) for i in range(len(o))]
    for split, o in _open(tmp_path).items()
  }
  assert ids['train'][:3] == ['a/0.mid', 'a/12.mid', 'a/18.mid']
  assert ids['validation'] == ['a x/3.mid', 'a x/33.mid']
  assert ids['test'] == ['b/4.mid', 'b x/13.mid']
