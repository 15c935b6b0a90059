"""A folder of sound files: what is read, skipped, split and said."""

import os

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import audio_folder
from musiclm_jax.data.audio_folder import AudioFolder
from musiclm_jax.data.sources import SPLITS


def tone(seconds, rate, hertz=440.0):
  return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'deep' / 'er').mkdir(parents=True)
  for k, (suffix, rate) in enumerate(
    [('wav', 44100), ('flac', 22050), ('ogg', 48000), ('mp3', 44100)]
  ):
    stereo = np.stack([tone(3, rate), tone(3, rate)], axis=1)
    soundfile.write(tmp_path / 'deep' / f'{k}.{suffix}', stereo, rate)
  soundfile.write(tmp_path / 'deep' / 'er' / 'LOUD.WAV', tone(2, 24000), 24000)
  return tmp_path


def pieces(folder):
  return {
    source.piece_id(i): (source, i)
    for source in (AudioFolder(folder, split) for split in SPLITS)
    for i in range(len(source))
  }


def test_every_format_is_found_at_any_depth_in_exactly_one_split(folder):
  sizes = [len(AudioFolder(folder, split)) for split in SPLITS]
  assert sum(sizes) == 5 and min(sizes) >= 1
  assert set(pieces(folder)) == {
    'deep/0.wav',
    'deep/1.flac',
    'deep/2.ogg',
    'deep/3.mp3',
    'deep/er/LOUD.WAV',
  }


def test_audio_arrives_as_24_khz_mono_of_the_same_pitch(folder):
  """Mistake 44: scaled twice, or integers taken for samples."""
  for source, i in pieces(folder).values():
    waveform = source.read(i)
    assert waveform.dtype == np.float32
    assert len(waveform) == source.num_samples(i)
    assert abs(len(waveform) / 24000 - round(len(waveform) / 24000)) < 0.06
    middle = waveform[12000:36000]
    peak = np.argmax(np.abs(np.fft.rfft(middle))) * 24000 / len(middle)
    assert abs(peak - 440) < 2
    assert 0.45 < np.abs(middle).max() < 0.6


@pytest.mark.parametrize('rate', [11025, 22050, 24000, 44099, 44100, 48000])
def test_a_part_equals_the_same_part_of_the_whole(tmp_path, rate):
  """Mistake 34: rounding between rates must not shift a crop."""
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * rate)
  for name in 'abc':
    soundfile.write(tmp_path / f'{name}.wav', noise, rate, subtype='FLOAT')
  source = AudioFolder(tmp_path, 'train')
  whole = source.read(0)
  for start, count in [(0, 100), (7, 24000), (30001, 5000), (60000, 24000)]:
    part = source.read(0, start, count)
    assert part.shape == (count,)
    expected = np.zeros(count, np.float32)
    rest = whole[start : start + count]
    expected[: len(rest)] = rest
    inner = slice(0, max(len(rest) - 300, 0) or None)
    np.testing.assert_allclose(part[inner], expected[inner], atol=2e-3)
    assert not part[len(rest) :].any(), 'past the end is silence'


def test_broken_files_are_skipped_counted_and_reported_once(folder, capfd):
  (folder / 'empty.wav').touch()
  (folder / 'text.wav').write_text('hello' * 999)
  (folder / 'noise.flac').write_bytes(os.urandom(5000))
  soundfile.write(folder / 'blip.wav', np.zeros(1), 24000)
  nan = np.full(24000, np.nan, np.float32)
  soundfile.write(folder / 'nan.wav', nan, 24000, subtype='FLOAT')
  raw = (folder / 'deep' / '1.flac').read_bytes()
  (folder / 'cut.flac').write_bytes(raw[: len(raw) // 2])
  found = pieces(folder)
  assert len(found) == 5
  lines = capfd.readouterr().err.strip().splitlines()
  assert len(lines) == 1 and 'skipped 6 of 11' in lines[0]
  assert 'empty.wav (0 bytes)' in lines[0]


def test_only_broken_files_are_refused(tmp_path):
  (tmp_path / 'empty.wav').touch()
  with pytest.raises(UsageError, match=r'no readable audio.*empty\.wav'):
    AudioFolder(tmp_path, 'train')


def test_a_damaged_middle_is_silence_and_said_once(tmp_path, capfd):
  for name in 'abc':
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 96000)
    soundfile.write(tmp_path / f'{name}.flac', noise, 24000)
  source = AudioFolder(tmp_path, 'train')
  path = tmp_path / source.piece_id(0)
  data = bytearray(path.read_bytes())
  data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
  path.write_bytes(data)
  for _ in range(2):
    assert np.isfinite(source.read(0, 60000, 24000)).all()
  assert len(capfd.readouterr().err.strip().splitlines()) <= 1


def test_few_files_still_give_each_split_one(tmp_path):
  for count in range(1, 8):
    soundfile.write(tmp_path / f'{count}.wav', tone(1, 24000), 24000)
    if count < 3:
      with pytest.raises(UsageError, match='at least 3'):
        AudioFolder(tmp_path, 'validation')
    else:
      sizes = [len(AudioFolder(tmp_path, split)) for split in SPLITS]
      assert min(sizes) >= 1 and sum(sizes) == count


def test_splits_are_about_80_10_10_and_do_not_depend_on_the_folder():
  files = tuple(
    audio_folder.SoundFile(f'{k}.wav', 24000, 24000) for k in range(2000)
  )
  splits = list(audio_folder._splits(files).values())
  shares = [splits.count(split) / 2000 for split in SPLITS]
  np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
  assert audio_folder._splits(files[:500]) == {
    f.name: s for f, s in zip(files[:500], splits[:500], strict=True)
  }


def test_captions_come_from_the_csv(folder):
  (folder / 'captions.csv').write_text(
    'path,caption\ndeep/0.wav,"a tone, low"\ndeep/0.wav,a hum\ndeep/9.wav,x\n'
  )
  rng = np.random.default_rng(0)
  found = pieces(folder)
  source, i = found['deep/0.wav']
  drawn = {source.caption(i, 0.0, 1.0, rng) for _ in range(20)}
  assert drawn == {'a tone, low', 'a hum'}
  source, i = found['deep/1.flac']
  assert source.caption(i, 0.0, 1.0, rng) is None
  assert source.attributes(i, 0.0, 1.0) is None


def test_captions_are_read_when_they_are_wanted_and_remarked_on_once(
  folder, capfd
):
  (folder / 'captions.csv').write_text('path,caption\ndeep/9.wav,x\n')
  found = [AudioFolder(folder, split) for split in SPLITS]
  assert capfd.readouterr().err == ''
  assert [source.num_captioned() for source in found] == [0, 0, 0]
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 2 and '1 of 1 rows' in lines[0]
  (folder / 'captions.csv').write_text('path,caption\ndeep/0.wav,x\n')
  found = [AudioFolder(folder, split) for split in SPLITS]
  assert sum(source.num_captioned() for source in found) == 1


def test_a_bad_captions_file_is_no_obstacle_to_what_needs_no_captions(folder):
  (folder / 'captions.csv').write_text('file;text\n')
  source = AudioFolder(folder, 'train')
  source.read(0)
  with pytest.raises(UsageError, match='path,caption'):
    source.num_captioned()
