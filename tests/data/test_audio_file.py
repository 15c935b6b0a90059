"""Claims on one sound file: read whole, finite, in [-1, 1], or refused."""

import io
import os

import numpy as np
import pytest
import soundfile

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.data import audio_file
from musiclm_jax.data.audio_file import Sound

RATE = 24000


def tone(seconds, rate=RATE, hertz=440.0):
  return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def encoded(samples, rate=RATE, **options):
  file = io.BytesIO()
  soundfile.write(file, samples, rate, **options)
  return file.getvalue()


def level(waveform):
  return np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))


@pytest.fixture
def read(tmp_path):
  """A function (bytes, suffix) -> (Sound or reason, waveform at 24 kHz)."""

  def run(data, suffix):
    path = str(tmp_path / f'x{suffix}')
    with open(path, 'wb') as file:
      file.write(data)
    sound = audio_file.probe(path)
    if isinstance(sound, str):
      return sound, None
    count = sound.num_samples(RATE)
    waveform, reason = audio_file.read_stretch(path, sound, 0, count, RATE)
    assert reason is None
    assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 1
    start, length = count // 3, count // 4
    part, _ = audio_file.read_stretch(path, sound, start, length, RATE)
    np.testing.assert_allclose(
      part, waveform[start : start + length], rtol=0, atol=2e-4
    )
    return sound, waveform

  return run


@pytest.mark.parametrize(
  ('suffix', 'options'),
  [
    ('.wav', {'format': 'WAV'}),
    ('.wav', {'format': 'WAVEX', 'subtype': 'PCM_24'}),
    ('.wav', {'format': 'WAV', 'subtype': 'GSM610'}),
    ('.flac', {'format': 'FLAC'}),
    ('.mp3', {'format': 'MP3'}),
    ('.ogg', {'format': 'OGG'}),
    ('.opus', {'format': 'OGG', 'subtype': 'OPUS'}),
    ('.aiff', {'format': 'AIFF'}),
    ('.caf', {'format': 'CAF', 'subtype': 'ALAC_16'}),
    ('.au', {'format': 'AU'}),
    ('.w64', {'format': 'W64'}),
    ('.rf64', {'format': 'RF64'}),
    ('.wav', {'format': 'MP3'}),
  ],
)
def test_every_format_that_libsndfile_has_is_read(read, suffix, options):
  sound, waveform = read(encoded(tone(1), **options), suffix)
  assert suffix in audio_file.SUFFIXES and sound.remark == ''
  assert abs(len(waveform) - RATE) < 400
  assert level(waveform[2000:20000]) == pytest.approx(0.212, rel=0.1)


def test_one_bad_sample_is_cleaned_and_spares_the_others(read):
  samples = np.stack([tone(1, 8000)] * 2, axis=1).astype(np.float32)
  clean = read(encoded(samples, 8000, format='WAV', subtype='FLOAT'), '.wav')[1]
  for bad in (3e38, -3e38, np.inf, np.nan):
    samples[4000:4003] = bad
    data = encoded(samples, 8000, format='WAV', subtype='FLOAT')
    sound, waveform = read(data, '.wav')
    assert isinstance(sound, Sound)
    np.testing.assert_allclose(waveform[:11000], clean[:11000], atol=0.02)
    np.testing.assert_allclose(waveform[13000:], clean[13000:], atol=0.02)


@pytest.mark.parametrize(
  ('scale', 'reason'), [(32767, r'not in \[-1, 1\]'), (np.nan, 'not numbers')]
)
def test_samples_in_another_scale_are_refused(read, scale, reason):
  samples = (tone(1) * scale).astype(np.float32)
  data = encoded(samples, format='WAV', subtype='FLOAT')
  with pytest.raises(AssertionError, match=reason):
    found = read(data, '.wav')[0]
    raise AssertionError(found)


def test_a_loud_mix_is_no_other_scale(read):
  samples = (4 * tone(1)).astype(np.float32)  # peaks of 1.2
  sound, _ = read(encoded(samples, format='WAV', subtype='FLOAT'), '.wav')
  assert isinstance(sound, Sound)


@pytest.mark.parametrize(
  ('suffix', 'options'),
  [('.mp3', {'format': 'MP3'}), ('.ogg', {'format': 'OGG'}), ('.flac', {})],
)
def test_recordings_put_one_after_the_other_are_all_read(read, suffix, options):
  first = encoded(tone(2), **{'format': 'FLAC', **options})
  second = encoded(tone(1, hertz=880.0), **{'format': 'FLAC', **options})
  sound, waveform = read(first + second, suffix)
  assert len(waveform) == 3 * RATE
  assert sound.remark == '3.00 s, its header says 2.00'
  for begin, hertz in ((RATE // 2, 440), (2 * RATE + RATE // 4, 880)):
    spectrum = np.abs(np.fft.rfft(waveform[begin : begin + RATE // 2]))
    assert abs(2 * np.argmax(spectrum) - hertz) <= 2


def test_an_mp3_is_as_long_as_its_frames(read):
  samples = np.concatenate([np.zeros(2 * RATE), tone(2)])
  data = encoded(samples, format='MP3', bitrate_mode='VARIABLE')
  place = data.find(b'Xing')
  bare = data[data.find(data[:2], place + 40) :]
  sound, waveform = read(bare, '.mp3')
  assert abs(len(waveform) - 4 * RATE) < 0.1 * RATE and not sound.remark
  sound, waveform = read(data + b'<html>404</html>' * 500, '.mp3')
  assert len(waveform) == 4 * RATE and not sound.remark
  at = len(data) * 3 // 4
  sound, waveform = read(data[:at] + data[at + 611 :], '.mp3')
  assert sound.remark.startswith('damaged in 1 place; 3.')
  assert sound.remark.endswith(' s, its header says 4.00')


def test_a_flac_of_unknown_length_is_read(read):
  data = bytearray(encoded(tone(2), format='FLAC'))
  data[21] &= 0xF0
  data[22:26] = bytes(4)
  sound, waveform = read(bytes(data), '.flac')
  assert len(waveform) == 2 * RATE and not sound.remark


@pytest.mark.parametrize('size', [0, 0xFFFFFFFF, 0x7FFFFFFF, 96044, 1000])
def test_a_wav_whose_sizes_are_wrong_is_read_whole(read, size):
  data = bytearray(encoded(tone(2), format='WAV'))
  assert data[36:40] == b'data'
  data[4:8] = data[40:44] = size.to_bytes(4, 'little')
  _, waveform = read(bytes(data), '.wav')
  assert len(waveform) == 2 * RATE


def test_what_follows_the_samples_of_a_wav_is_no_sound(read):
  data = encoded(tone(1), format='WAV')
  chunk = b'LIST' + (4000).to_bytes(4, 'little') + bytes(range(250)) * 16
  _, waveform = read(data + chunk, '.wav')
  assert len(waveform) == RATE


@pytest.mark.parametrize('suffix', ['.flac', '.wav', '.mp3'])
def test_what_is_left_of_a_cut_file_is_read_and_said(read, suffix):
  data = encoded(tone(4), format=suffix[1:].upper())
  sound, waveform = read(data[: len(data) // 2], suffix)
  seconds = len(waveform) / RATE
  assert 1.6 < seconds < 2.2
  assert sound.remark == f'{seconds:.2f} s, its header says 4.00'


def test_where_channels_cancel_the_louder_one_is_taken(read):
  inverted = np.stack([tone(2), -0.9 * tone(2)], axis=1)
  sound, waveform = read(encoded(inverted, format='WAV'), '.wav')
  assert 'channels cancel each other: channel 1 is taken' in sound.remark
  assert level(waveform) == pytest.approx(level(tone(2)), rel=0.01)


@pytest.mark.parametrize('other', [0.0, 0.5, 1.0, -0.4])
def test_other_channels_are_mixed(read, other):
  pair = np.stack([tone(2), other * tone(2)], axis=1)
  sound, waveform = read(encoded(pair, format='WAV'), '.wav')
  assert sound.channel is None
  expected = level(tone(2)) * (1 + other) / 2
  assert level(waveform) == pytest.approx(expected, rel=0.01)


def test_only_around_damage_is_silence(tmp_path):
  path = str(tmp_path / 'x.flac')
  noise = np.random.default_rng(0).uniform(-0.5, 0.5, 10 * RATE)
  data = bytearray(encoded(noise, format='FLAC'))
  data[len(data) // 2] ^= 0x55
  with open(path, 'wb') as file:
    file.write(data)
  sound = audio_file.probe(path)
  waveform, reason = audio_file.read_stretch(path, sound, 0, 10 * RATE, RATE)
  silent = (waveform == 0).mean()
  assert reason and 0.01 < silent < 0.15


def test_a_file_that_is_no_sound_is_refused_with_its_reason(tmp_path):
  for name, data, reason in (
    ('empty.wav', b'', '0 bytes'),
    ('text.wav', b'hello' * 900, 'Format not recognised'),
    ('blip.wav', encoded(np.zeros(9), format='WAV'), 'shorter than 0.1 s'),
    ('two\nlines.mp3', b'\xff\xfb\x90\0' * 9, 'holds no sound'),
  ):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UsageError, match=reason) as refused:
      audio_file.read(tmp_path / name, RATE)
    assert '\n' not in str(refused.value)
  with pytest.raises(UsageError, match='there is no file'):
    audio_file.read(tmp_path / 'nowhere.wav', RATE)


def test_a_name_that_is_no_utf8_is_read(tmp_path):
  path = os.fsdecode(os.fsencode(tmp_path) + b'/mod\x85.wav')
  with open(path, 'wb') as file:
    file.write(encoded(tone(1), format='WAV'))
  assert len(audio_file.read(path, RATE)) == RATE
