"""Claims on parts of MP3 files: they are what the whole file has there."""

import io

import numpy as np
import pytest
import soundfile

from musiclm_jax.data import mpeg_frames


def encode(samples, rate, mode='VARIABLE', level=0.5):
  file = io.BytesIO()
  soundfile.write(
    file,
    samples,
    rate,
    format='MP3',
    bitrate_mode=mode,
    compression_level=level,
  )
  return file.getvalue()


def music(seconds, rate, channels=1, seed=0):
  """A tone that swells, and noise that comes and goes."""
  time = np.arange(int(seconds * rate))[:, None] / rate
  noise = np.random.default_rng(seed).standard_normal((len(time), channels))
  tone = np.sin(2 * np.pi * 440 * time) * np.sin(2 * time)
  return 0.3 * tone + 0.1 * noise * (np.sin(3 * time) > 0.5)


def decode(data, run, start, count):
  begin, end = run.locate(start, count)
  excerpt, offset = run.excerpt(data[begin:end], start, count)
  assert len(excerpt) < 200_000 + 200 * count
  samples, _ = soundfile.read(
    io.BytesIO(excerpt), dtype='float32', always_2d=True
  )
  return samples[offset : offset + count]


def whole(data):
  return soundfile.read(io.BytesIO(data), dtype='float32', always_2d=True)[0]


@pytest.mark.parametrize('rate', [11025, 24000, 44100])
@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize(
  ('mode', 'level'), [('VARIABLE', 0.5), ('CONSTANT', 0.99), ('AVERAGE', 0.9)]
)
def test_a_part_is_what_the_whole_has_there(rate, channels, mode, level):
  """Seeking in libsndfile loses up to a tenth of a second behind the place."""
  data = encode(music(4, rate, channels), rate, mode, level)
  expected = whole(data)
  (run,) = mpeg_frames.find_runs(data)
  assert run.num_samples == len(expected) and run.sample_rate == rate
  rng = np.random.default_rng(0)
  starts = [0, 1, len(expected) - 500, *rng.integers(0, len(expected), 9)]
  for start in starts:
    count = min(int(rng.integers(1, 6000)), len(expected) - start)
    part = decode(data, run, int(start), count)
    np.testing.assert_allclose(
      part, expected[start : start + count], rtol=0, atol=1e-6
    )


def test_the_length_is_that_of_the_frames_whatever_headers_say():
  samples = music(3, 24000)
  data = encode(samples, 24000)
  (run,) = mpeg_frames.find_runs(data)
  assert run.num_samples == run.claimed == len(samples)
  bare = data[run.marks[0] :]
  (rest,) = mpeg_frames.find_runs(bare)
  assert rest.claimed is None
  assert rest.num_samples == round(3 * 24000 / 576 + 2) * 576
  (half,) = mpeg_frames.find_runs(data[: len(data) // 2])
  assert half.claimed == len(samples) and half.num_samples < len(samples)


def test_recordings_that_were_joined_are_runs_of_their_own():
  first = encode(music(2, 44100), 44100)
  second = encode(music(1, 22050, 2), 22050)
  tag = b'ID3\3\0\0\0\0\1\0' + bytes(128)
  joined = tag + first + b'TAG'.ljust(128, b'\0') + tag + second + b'<html>'
  runs = mpeg_frames.find_runs(joined)
  assert [run.sample_rate for run in runs] == [44100, 22050]
  assert [run.num_samples for run in runs] == [2 * 44100, 22050]
  assert not any(run.gaps for run in runs)
  for run, data in zip(runs, (first, second), strict=True):
    part = decode(joined, run, 5000, 3000)
    np.testing.assert_allclose(part, whole(data)[5000:8000], rtol=0, atol=1e-6)


def test_a_hole_costs_its_frames_and_is_no_noise():
  tone = 0.3 * np.sin(np.arange(176400) * 0.06)
  data = encode(tone, 44100)
  (run,) = mpeg_frames.find_runs(data)
  at = run.marks[1] + 20
  damaged = data[:at] + data[at + 611 :]
  (left,) = mpeg_frames.find_runs(damaged)
  assert left.gaps == 1
  sound = decode(damaged, left, 0, left.num_samples)
  assert np.abs(sound).max() < 0.4
  expected = whole(data)
  lost = [  # frames
    k
    for k in range(1, 9)
    if np.ptp(sound[100000:110000] - expected[100000 + k * 1152 :][:10000])
    < 1e-5
  ]
  assert lost


def test_noise_and_pieces_of_headers_are_no_frames():
  rng = np.random.default_rng(0)
  assert mpeg_frames.find_runs(rng.bytes(200_000)) == ()
  assert mpeg_frames.find_runs(b'\xff\xfb\x90\x00' * 1000) == ()
  for size in range(40):
    data = encode(music(0.2, 24000), 24000)
    mpeg_frames.find_runs(data[:size])
    mpeg_frames.find_runs(data[-size:])
