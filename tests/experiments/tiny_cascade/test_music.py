"""Pitches, onsets, level and noise of planted clips."""

import numpy as np
import pytest

from experiments.tiny_cascade import music
from experiments.tiny_cascade.cascade_checks import is_music, is_sane
from musiclm_jax.rendered_music import composer, performer

RATE = 24_000


def tone(pitch, seconds=0.5, decay=4.0, harmonics=6):
  time = np.arange(round(seconds * RATE)) / RATE
  hz = 440 * 2 ** ((pitch - 69) / 12)
  wave = sum(np.sin(2 * np.pi * hz * h * time) / h for h in range(1, harmonics))
  return 0.2 * wave * np.exp(-decay * time)


def melody(pitches):
  return np.concatenate([tone(pitch) for pitch in pitches])


def test_a_melody_is_music():
  clip = music.measure(melody([60, 62, 64, 65, 67] * 4))
  assert clip.distinct_pitches == 5
  assert clip.onsets_per_second == pytest.approx(2.0, abs=0.3)
  assert is_music(clip) and is_sane(clip)


@pytest.mark.parametrize('pitch', [45, 57, 69, 81])
def test_a_constant_tone_is_one_pitch_and_no_onset(pitch):
  clip = music.measure(tone(pitch, 10.0, decay=0.0))
  assert clip.distinct_pitches == 1
  assert clip.onsets_per_second <= 0.1
  assert not is_music(clip)


def pink_noise(samples, rng):
  spectrum = np.fft.rfft(rng.standard_normal(samples))
  spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
  noise = np.fft.irfft(spectrum, samples)
  return noise / noise.std()


def band_noise(centre, rng):
  """Noise of 1 s, two thirds of an octave wide."""
  spectrum = np.fft.rfft(rng.standard_normal(RATE))
  hz = np.arange(len(spectrum))
  outside = (hz < centre / 2 ** (1 / 3)) | (hz > centre * 2 ** (1 / 3))
  noise = np.fft.irfft(np.where(outside, 0, spectrum), RATE)
  return 0.1 * noise / noise.std()


def test_composed_pieces_are_music_even_under_noise():
  """A measure that real music does not pass says nothing of generated one.

  With as much pink noise as music a melody is still found, and so it is here;
  its onsets may drown.
  """
  seconds, start = 10, 15
  rng = np.random.default_rng(0)
  plain, noisy = [], []
  for index in range(12):
    played = performer.perform(composer.compose(5, 'train', index))
    part = played.waveform[start * RATE : (start + seconds) * RATE]
    plain.append(is_music(music.measure(part)))
    mixed = part + part.std() * pink_noise(len(part), rng)
    noisy.append(music.distinct_pitches(mixed) >= 3)
  assert np.mean(plain) >= 0.75, plain
  assert np.mean(noisy) >= 0.75, noisy


def test_bands_of_noise_are_no_pitches():
  rng = np.random.default_rng(0)
  for _ in range(4):
    centres = rng.permutation(np.geomspace(120, 3000, 10))
    clip = np.concatenate([band_noise(centre, rng) for centre in centres])
    assert not is_music(music.measure(clip))


def test_pink_noise_has_no_pitch():
  noise = 0.1 * pink_noise(10 * RATE, np.random.default_rng(1))
  assert music.distinct_pitches(noise) == 0


def test_an_octave_is_no_second_pitch():
  clip = music.measure(melody([57, 69] * 10))
  assert clip.distinct_pitches == 1


def test_noise_is_no_music_and_not_sane():
  rng = np.random.default_rng(0)
  clip = music.measure(0.1 * rng.standard_normal(RATE * 10))
  assert clip.distinct_pitches == 0
  assert not is_music(clip)
  assert clip.flatness > 0.5 and not is_sane(clip)


def test_dead_air_is_counted_in_tenths_of_a_second():
  clip = np.concatenate([melody([60, 64, 67]), np.zeros(RATE), [0.1]])
  assert music.measure(clip).dead_share == pytest.approx(10 / 25)
  assert music.dead_share(1.1e-3 * np.sign(clip[:RATE])) == 0.0
  assert music.dead_share(np.zeros(10)) == 0.0, 'no whole frame'


def test_tremolo_begins_no_notes():
  time = np.arange(RATE * 10) / RATE
  wave = tone(60, 10.0, decay=0.0) * (1 + 0.8 * np.sin(2 * np.pi * 5 * time))
  assert music.onsets_per_second(wave) <= 0.2


@pytest.mark.parametrize(
  ('name', 'clip'),
  [
    ('silence', np.zeros(RATE * 10)),
    ('too quiet', 1e-3 * melody([60, 64, 67] * 6)),
    ('too loud', np.sign(melody([60, 64, 67] * 6))),
    ('above 1', 8.0 * melody([60, 64, 67] * 6)),
    ('NaN', np.where(np.arange(RATE) == 9, np.nan, 0.1)),
  ],
)
def test_what_is_not_sane_is_told(name, clip):
  assert not is_sane(music.measure(clip)), name
