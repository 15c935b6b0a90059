"""A folder of sound files: what is read, skipped, split and said."""

import os

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import audio_folder, file_folder, parser_process
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
  assert len(found) == 6, 'half of cut.flac is there'
  lines = capfd.readouterr().err.strip().splitlines()
  assert len(lines) == 2 and 'skipped 5 of 11' in lines[0]
  assert 'empty.wav (0 bytes)' in lines[0]
  assert '1 of 11 files are read, but unusual: cut.flac (1.' in lines[1]
  assert ' s, its header says 3.00)' in lines[1]


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
  names = [f'{k}.wav' for k in range(2000)]
  splits = list(file_folder._splits(names, audio_folder.KIND).values())
  shares = [splits.count(split) / 2000 for split in SPLITS]
  np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.03)
  assert file_folder._splits(names[:500], audio_folder.KIND) == dict(
    zip(names[:500], splits[:500], strict=True)
  )


def test_captions_come_from_the_csv(folder):
  (folder / 'captions.csv').write_text(
    'path,caption\ndeep/0.wav,"a tone, low"\ndeep/0.wav,a hum\ndeep/9.wav,x\n'
  )
  rng = np.random.default_rng(0)
  found = pieces(folder)
  source, i = found['deep/0.wav']
  drawn = {source.describe(i, 0.0, 1.0, rng) for _ in range(20)}
  assert drawn == {('a tone, low', None), ('a hum', None)}
  source, i = found['deep/1.flac']
  assert source.describe(i, 0.0, 1.0, rng) == (None, None)
  assert source.attributes(i, 0.0, 1.0) is None


def test_captions_are_read_when_they_are_wanted_and_remarked_on_once(
  folder, capfd
):
  (folder / 'captions.csv').write_text('path,caption\ndeep/9.wav,x\n')
  found = [AudioFolder(folder, split) for split in SPLITS]
  assert capfd.readouterr().err == ''
  assert [source.captioned() for source in found] == [[], [], []]
  lines = capfd.readouterr().err.splitlines()
  assert len(lines) == 2 and '1 of 1 rows' in lines[0]
  (folder / 'captions.csv').write_text('path,caption\ndeep/0.wav,x\n')
  found = [AudioFolder(folder, split) for split in SPLITS]
  assert sum(len(source.captioned()) for source in found) == 1


def test_a_bad_captions_file_is_no_obstacle_to_what_needs_no_captions(folder):
  (folder / 'captions.csv').write_text('file;text\n')
  source = AudioFolder(folder, 'train')
  source.read(0)
  with pytest.raises(UsageError, match='path,caption'):
    source.captioned()


def test_whatever_a_reader_raises_is_silence_and_said_once(
  folder, capfd, monkeypatch
):
  source = AudioFolder(folder, 'all')

  def die(*_, **__):
    raise parser_process.ParserError('its parser died of SIGSEGV')

  monkeypatch.setattr(parser_process, 'call', die)
  for _ in range(2):
    assert not source.read(0, 24000, 500).any()
  (line,) = capfd.readouterr().err.strip().splitlines()
  assert line == (
    'deep/0.wav: cannot be decoded at 1.0 s (its parser died of SIGSEGV); '
    'silence is used in its place'
  )


def test_odd_names_are_read_and_printed_on_one_line(tmp_path, capfd):
  names = [b'mod\x85.wav', b'two\nlines.wav', b'red\x1b[31m.wav', b'-rf.wav']
  names += [b'x' * 251 + b'.wav', 'e\u0301 \U0001f3b5.wav'.encode(), b' a.wav']
  root = os.fsencode(tmp_path)
  for name in names:
    with open(os.path.join(root, name), 'wb') as file:
      soundfile.write(file, tone(0.5, 8000), 8000, format='WAV')
    with open(os.path.join(root, b'torn ' + name[-200:]), 'wb') as file:
      file.write(b'RIFF')
  assert sorted(os.fsencode(name) for name in pieces(tmp_path)) == sorted(names)
  line = capfd.readouterr().err
  assert 'skipped 7 of 14' in line and line.count('\n') == 1
  assert line.isprintable() or line[:-1].isprintable()


def test_the_split_of_a_name_does_not_change():
  places = {'a.wav': 0.46863, 'deep/señal.flac': 0.07033}
  places['mod\udc85.wav'] = 0.50245
  for name, place in places.items():
    found = file_folder._place(name, audio_folder.KIND)
    assert found == pytest.approx(place, abs=1e-5)


def test_what_is_not_read_of_a_folder_is_said_once(tmp_path, capfd):
  for k in range(3):
    soundfile.write(tmp_path / f'{k}.aiff', tone(0.5, 8000), 8000)
    (tmp_path / f'{k}.M4A').write_bytes(b'ftypM4A')
  (tmp_path / 'old.wma').write_bytes(b'x')
  (tmp_path / '._0.wav').write_bytes(b'\0\5\x16\7')
  (tmp_path / 'gone.wav').symlink_to(tmp_path / 'nowhere')
  assert len(pieces(tmp_path)) == 3
  lines = capfd.readouterr().err.splitlines()
  assert lines == [
    f'{tmp_path}: skipped 1 of 4 files: gone.wav (a link to nothing)',
    f'{tmp_path}: kinds of files that are not read: .m4a 3, .wma 1; convert '
    'them to flac',
  ]


def test_a_folder_of_other_kinds_alone_says_which(tmp_path):
  (tmp_path / 'a.m4a').write_bytes(b'x')
  with pytest.raises(UsageError, match=r'no audio: kinds .* not read: \.m4a 1'):
    AudioFolder(tmp_path, 'train')
