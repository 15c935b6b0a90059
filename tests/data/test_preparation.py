"""Claims on preparing: the same sound in short records, whatever happens."""

import dataclasses
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts import ownership
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import parser_process, preparable, prepared, sources
from musiclm_jax.data.preparation import prepare

ROOT = Path(__file__).parents[2]
GOOD = 12
HALF_A_STEP = 0.5 / 32767 + 1e-5  # and the resampler's rounding


def write_sound(folder):
  """Files of several rates, mono and stereo, some with captions."""
  rng, rows = np.random.default_rng(1), ['path,caption']
  for number in range(GOOD):
    rate = (22_050, 24_000, 44_100)[number % 3]
    time_ = np.arange(rate * (3 + number % 4)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 + 50 * number) * time_)
    tone += 0.02 * rng.standard_normal(len(time_))
    stereo = np.stack([tone, 0.5 * tone], axis=1)
    name = f'{"ab"[number % 2]}/{number}.{"wav" if number % 3 else "flac"}'
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / name, stereo if number % 2 else tone, rate)
    rows += [f'{name},tone {number} {k}' for k in range(number % 3)]
  (folder / 'captions.csv').write_text('\n'.join(rows) + '\n')


@pytest.fixture
def folder(tmp_path):
  write_sound(tmp_path / 'in')
  return tmp_path / 'in'


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
  monkeypatch.setattr(preparable, 'SHARD_BYTES', 5e5)


def run(folder, out, **options):
  music = preparable.open_music(f'audio_folder:{folder}')
  return prepare(music, out, **({'processes': 2} | options))


def hashes(out):
  return {
    p.name: hashlib.sha256(p.read_bytes()).hexdigest()
    for p in out.glob('*array_record*')
  }


def test_crops_of_prepared_sound_are_those_of_the_folder(folder, tmp_path):
  run(folder, tmp_path / 'out')
  for split in sources.SPLITS:
    before = sources.open_source(f'audio_folder:{folder}', split)
    after = sources.open_source(f'prepared:{tmp_path / "out"}', split)
    assert list(before.captioned()) == list(after.captioned())
    assert len(before) == len(after) > 0
    for i in range(len(before)):
      assert before.piece_id(i) == after.piece_id(i)
      assert before.num_samples(i) == after.num_samples(i)
      assert before.written_captions(i) == after.written_captions(i)
      said = [
        s.describe(i, 0.0, 1.0, np.random.default_rng(2))
        for s in (before, after)
      ]
      assert said[0] == said[1] and after.attributes(i, 0.0, 1.0) is None
      for start, count in (
        *((0, 100), (47_990, 20), (47_999, 1), (48_000, 48_000)),
        *((30_000, 120_000), (70_000, None), (500_000, 9), (0, None)),
      ):
        there, here = before.read(i, start, count), after.read(i, start, count)
        assert here.dtype == np.float32
        np.testing.assert_allclose(here, there, rtol=0, atol=HALF_A_STEP)


def test_samples_are_the_nearest_integers_and_peaks_are_cut():
  waveform = np.array([0.0, 1.0, -1.0, 1.7, -3.0, 0.4 / 32767, 0.6 / 32767])
  pcm = prepared.to_pcm(waveform.astype(np.float32))
  np.testing.assert_array_equal(pcm, [0, 32767, -32767, 32767, -32767, 0, 1])
  every = np.arange(-32767, 32768).astype(np.int16)
  read = every * np.float32(1 / 32767)
  np.testing.assert_array_equal(prepared.to_pcm(read), every)


def test_tfds_opens_short_records_that_say_piece_and_start(folder, tmp_path):
  import tensorflow_datasets as tfds

  out = tmp_path / 'out'
  run(folder, out)
  made = tfds.builder_from_directory(out)
  assert made.name == 'prepared'
  for split in sources.SPLITS:
    ours = sources.open_source(f'prepared:{out}', split)
    whole = {ours.piece_id(i): ours.read(i) for i in range(len(ours))}
    count = 0
    for row in made.as_data_source(split):
      pcm, start = row['waveform'], row['start']
      assert 0 < len(pcm) <= prepared.RECORD_SAMPLES
      there = whole[row['piece'].decode()][start : start + len(pcm)]
      np.testing.assert_array_equal(pcm * np.float32(1 / 32767), there)
      count += len(pcm)
    assert count == sum(map(len, whole.values()))


def test_equal_records_are_equal_bytes_in_any_process():
  code = (
    'import numpy as np, hashlib\n'
    'from musiclm_jax.data import prepared\n'
    'row = prepared.to_record("a", 7, np.arange(9, dtype=np.int16))\n'
    'print(hashlib.sha256(row).hexdigest())\n'
  )
  digests = {
    subprocess.run(
      [sys.executable, '-c', code],
      capture_output=True,
      text=True,
      check=True,
      env={**os.environ, 'PYTHONHASHSEED': str(seed)},
    ).stdout
    for seed in range(3)
  }
  assert len(digests) == 1


def test_the_same_again_changes_nothing_whatever_the_processes(
  folder, tmp_path
):
  first = run(folder, tmp_path / 'out', processes=1)
  before = hashes(tmp_path / 'out')
  assert len(before) > 6 and len(before) % 2 == 0
  stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / 'out').iterdir()}
  assert run(folder, tmp_path / 'out') == first
  assert stamps == {p: p.stat().st_mtime_ns for p in stamps}
  run(folder, tmp_path / 'other', processes=3)
  assert hashes(tmp_path / 'other') == before


def test_a_folder_that_has_moved_is_the_same_music(folder, tmp_path):
  run(folder, tmp_path / 'out')
  before = hashes(tmp_path / 'out')
  folder.rename(tmp_path / 'moved')
  run(tmp_path / 'moved', tmp_path / 'out')
  assert hashes(tmp_path / 'out') == before


def break_files(folder):
  """Files that cannot be read, in ten ways two of each -> their names."""
  made = []

  def put(name, data):
    (folder / name).write_bytes(data)
    made.append(name)

  flac = next(folder.rglob('*.flac')).read_bytes()
  wav = next(folder.rglob('*.wav')).read_bytes()
  rng = random.Random(3)
  for k in range(2):
    put(f'bad{k}_empty.wav', b'')
    put(f'bad{k}_text.wav', b'hello ' * 999)
    put(f'bad{k}_header.wav', wav[:30])
    put(f'bad{k}_noise.flac', rng.randbytes(50_000))
    put(f'bad{k}_tag.mp3', b'ID3' + rng.randbytes(5000))
    put(f'bad{k}_torn.flac', flac[:60])
    put(f'bad{k}_other.m4a', b'\0\0\0\x20ftypM4A ' + rng.randbytes(900))
    numbers = np.full(24_000, (np.nan, 1e30)[k], np.float32)
    soundfile.write(folder / f'bad{k}_scale.wav', numbers, 24_000, 'FLOAT')
    soundfile.write(folder / f'bad{k}_short.wav', np.zeros(9), 24_000)
    (folder / f'bad{k}_link.wav').symlink_to(folder / 'nowhere.wav')
    made += [f'bad{k}_{way}.wav' for way in ('scale', 'short', 'link')]
  return made


def test_broken_files_are_named_and_no_good_one_is_lost(folder, tmp_path):
  broken = break_files(folder)
  assert len(broken) == 20
  found = run(folder, tmp_path / 'out').to_json()
  assert found['prepared'] == GOOD and not found['damaged']
  assert sorted(row['path'] for row in found['rejected']) == sorted(broken)
  assert all(row['reason'] for row in found['rejected'])


def test_what_fails_while_it_is_decoded_is_left_out_or_silent_in_places(
  folder, tmp_path, monkeypatch
):
  """Of one file nothing can be read, of another its second half."""
  call = parser_process.call

  def die(function, path, *arguments, **options):
    if path.endswith('a/6.flac') or ('b/7.wav' in path and arguments[1]):
      raise parser_process.ParserError('its parser died of SIGSEGV')
    return call(function, path, *arguments, **options)

  music = preparable.open_music(f'audio_folder:{folder}')
  monkeypatch.setattr(parser_process, 'call', die)
  monkeypatch.setattr(
    type(music.splits['train']._source), 'stretch_seconds', 2.0
  )
  found = prepare(music, tmp_path / 'out', processes=1)
  assert [row.path for row in found.rejected] == ['a/6.flac']
  assert [row.path for row in found.damaged] == ['b/7.wav']
  assert 'SIGSEGV' in found.rejected[0].reason + found.damaged[0].reason
  ids = []
  for split in sources.SPLITS:
    before = sources.open_source(f'audio_folder:{folder}', split)
    after = sources.open_source(f'prepared:{tmp_path / "out"}', split)
    place = {before.piece_id(i): i for i in range(len(before))}
    for i in range(len(after)):
      ids.append(name := after.piece_id(i))
      assert after.written_captions(i) == before.written_captions(place[name])
      if name != 'b/7.wav':
        there, here = before.read(place[name]), after.read(i)
        np.testing.assert_allclose(here, there, rtol=0, atol=HALF_A_STEP)
      else:
        assert after.read(i, 0, 48_000).any()
        assert not after.read(i, 48_000).any()
        assert after.num_samples(i) == before.num_samples(place[name])
  assert len(ids) == GOOD - 1


def test_an_interrupted_run_keeps_shards_and_continues_to_the_same_bytes(
  folder, tmp_path
):
  whole, out = tmp_path / 'whole', tmp_path / 'out'
  run(folder, whole)

  def interrupt(event):
    if event.done >= 8:
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    run(folder, out, processes=1, progress=interrupt)
  kept = hashes(out)
  assert 0 < len(kept) < len(hashes(whole))
  assert not list(out.glob('*.part'))
  with pytest.raises(UsageError, match='no complete prepared corpus'):
    sources.open_source(f'prepared:{out}', 'train')
  stamps = {name: (out / name).stat().st_mtime_ns for name in kept}
  run(folder, out)
  whole_shards = [n for n in kept if n.replace('prepared', 'pieces') in kept]
  assert whole_shards
  for name in whole_shards:
    assert (out / name).stat().st_mtime_ns == stamps[name]
  assert hashes(out) == hashes(whole)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(folder, tmp_path):
  whole, out = tmp_path / 'whole', tmp_path / 'out'
  run(folder, whole)
  code = (
    'import pathlib, sys\n'
    'from musiclm_jax.data import preparable, preparation\n'
    'preparable.SHARD_BYTES = 5e5\n'
    f'music = preparable.open_music("audio_folder:{folder}")\n'
    'print("begun", flush=True)\n'
    f'preparation.prepare(music, pathlib.Path("{out}"), processes=2)\n'
  )
  chance = random.Random(4)
  for _ in range(3):
    with subprocess.Popen(
      [sys.executable, '-c', code], stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
      process.stdout.readline()
      time.sleep(chance.uniform(0.0, 2.0))
      process.kill()
  run(folder, out)
  assert hashes(out) == hashes(whole)
  assert {p.name for p in out.iterdir()} == {p.name for p in whole.iterdir()}


def test_music_that_has_changed_is_prepared_again(folder, tmp_path):
  out, lines = tmp_path / 'out', []
  run(folder, out)
  before = hashes(out)
  path = folder / 'b' / '1.wav'
  sound, rate = soundfile.read(path)
  soundfile.write(path, -sound, rate)
  rows = (folder / 'captions.csv').read_text()
  (folder / 'captions.csv').write_text(rows.replace('tone 5 0', 'silver'))
  run(folder, out, report=lines.append)
  assert "'b/1.wav'" in lines[0] and "'b/5.wav'" in lines[0]
  changed = {name for name, each in hashes(out).items() if before[name] != each}
  assert 2 <= len(changed) < len(before)
  run(folder, tmp_path / 'anew')
  assert hashes(out) == hashes(tmp_path / 'anew')


def test_another_source_is_refused_unless_it_may_replace(folder, tmp_path):
  out = tmp_path / 'out'
  run(folder, out)
  before = hashes(out)
  with pytest.raises(UsageError, match=r'kind=audio_folder.*--overwrite'):
    prepare(preparable.rendered_music(3, 0), out, processes=1)
  (folder / 'a' / '0.flac').unlink()
  with pytest.raises(UsageError, match=r'holds another corpus.*--overwrite'):
    run(folder, out)
  assert hashes(out) == before
  other = tmp_path / 'other'
  write_sound(other)
  sound, rate = soundfile.read(other / 'b' / '1.wav')
  soundfile.write(other / 'b' / '1.wav', -sound, rate)
  with pytest.raises(UsageError, match='other music of the same names'):
    run(other, out)
  assert hashes(out) == before
  (out / 'mine.txt').write_text('mine')
  with pytest.raises(UsageError, match=r"'mine\.txt'"):
    run(folder, out, overwrite=True)
  assert hashes(out) == before
  (out / 'mine.txt').unlink()
  assert run(folder, out, overwrite=True).pieces['train']
  assert hashes(out) != before


def test_two_at_once_and_folders_of_others_are_refused(folder, tmp_path):
  out = tmp_path / 'out'
  with (
    ownership.hold(out, prepared.FOLDER, 'preparing'),
    pytest.raises(UsageError, match='another run is preparing in'),
  ):
    run(folder, out)
  with pytest.raises(UsageError, match='stays as it is'):
    run(folder, folder)
  assert (folder / 'captions.csv').exists()


def test_a_disk_that_is_too_small_is_said_before_the_work(
  folder, tmp_path, monkeypatch
):
  usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage)
  with pytest.raises(UsageError, match=r'the pieces need .* are free'):
    run(folder, tmp_path / 'out')
  assert not (tmp_path / 'out').exists()


def test_a_damaged_shard_is_one_line_and_is_made_again(folder, tmp_path):
  out = tmp_path / 'out'
  run(folder, out)
  before = hashes(out)
  source = sources.open_source(f'prepared:{out}', 'test')
  victim = source.path(0)
  victim.write_bytes(victim.read_bytes()[:1000])
  with pytest.raises(UsageError, match='run the command that has made it'):
    source.read(0)
  run(folder, out)
  assert hashes(out) == before


def test_a_corpus_of_another_schema_says_how_to_make_it_again(folder, tmp_path):
  out = tmp_path / 'out'
  run(folder, out)
  plan = json.loads((out / prepared.PLAN).read_text())
  (out / prepared.PLAN).write_text(json.dumps(plan | {'schema_version': 99}))
  with pytest.raises(UsageError, match='prepare --source=audio_folder'):
    sources.open_source(f'prepared:{out}', 'train')


def test_midi_is_rendered_once_into_the_same_sound(tmp_path):
  from symusic import Note, Score, Track

  for number in range(4):
    score = Score(480, ttype='second')
    track = Track('', 0, False, ttype='second')
    track.notes.append(Note(0.0, 3.0, 60 + number, 90, 'second'))
    score.tracks.append(track)
    path = tmp_path / 'in' / f'{number}.mid'
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(score.to('tick').dumps_midi())
  (tmp_path / 'in' / 'torn.mid').write_bytes(b'MThd')
  music = preparable.open_music(f'midi_folder:{tmp_path / "in"}')
  found = prepare(music, tmp_path / 'out', processes=1)
  assert [row.path for row in found.rejected] == ['torn.mid']
  for split in sources.SPLITS:
    before = sources.open_source(f'midi_folder:{tmp_path / "in"}', split)
    after = sources.open_source(f'prepared:{tmp_path / "out"}', split)
    for i in range(len(before)):
      np.testing.assert_allclose(
        after.read(i), before.read(i), rtol=0, atol=HALF_A_STEP
      )


def test_shards_hold_neighbours_up_to_a_size_whatever_the_lengths(
  monkeypatch,
):
  @dataclasses.dataclass
  class Lengths:
    lengths: list

    def __len__(self):
      return len(self.lengths)

    def num_samples(self, i):
      return self.lengths[i]

  monkeypatch.setattr(preparable, 'SHARD_BYTES', 20)
  splits = {'train': Lengths([5, 5, 5, 99, 1]), 'test': Lengths([])}
  music = preparable.Preparable('x', 'x', splits, {})
  found = [(s.first, s.last, s.number, s.count) for s in music.shards]
  assert found == [(0, 2, 0, 3), (2, 4, 1, 3), (4, 5, 2, 3)]


def test_the_command_says_what_it_has_done_and_refuses_in_one_line(
  folder, tmp_path
):
  (folder / 'broken.wav').write_text('no sound')
  source, out = f'--source=audio_folder:{folder}', f'--out={tmp_path / "out"}'
  report = tmp_path / 'report.json'

  def command(*arguments):
    return subprocess.run(
      [sys.executable, '-m', 'musiclm_jax.prepare', *arguments],
      capture_output=True,
      text=True,
      cwd=ROOT,
    )

  for _ in range(2):
    made = command(source, out, f'--json={report}')
    assert made.returncode == 0, made.stderr
    assert '1 files cannot be read and are left out: broken.wav' in made.stderr
    found = json.loads(report.read_text())
    assert found['prepared'] == GOOD
    assert [row['path'] for row in found['rejected']] == ['broken.wav']
  (tmp_path / 'mine.json').write_text('{}')
  for bad in (
    (source,),
    (source, out, '--pieces=4'),
    (f'--source=prepared:{tmp_path / "out"}', f'--out={tmp_path / "o"}'),
    ('--source=nothing', out),
    (source, '--out=/proc/nowhere'),
    (source, out, f'--json={tmp_path / "mine.json"}'),
    (out, '--pieces=3'),
  ):
    refused = command(*bad)
    assert refused.returncode == 2, bad
    assert refused.stderr.splitlines()[-1].startswith('error: ')
    assert 'Traceback' not in refused.stderr
  assert (tmp_path / 'mine.json').read_text() == '{}'
