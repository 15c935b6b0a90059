"""Pitch classes: where a note lies, what they ignore, and what they keep."""

import jax
import numpy as np
import pytest

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.melody.model import MelodyViT, pitch_classes

# 24 bands an octave from 80 Hz, the E flat below C3, on.
SPECTROGRAM = {
  'window_length': 3072,
  'hop_length': 1200,
  'fft_size': 4096,
  'low_hz': 80.0,
  'high_hz': 80.0 * 2 ** (127 / 24),
}
LOWEST = 69 + 12 * np.log2(80.0 / 440.0)


@jax.jit
def _classes(waveform):
  return pitch_classes(
    waveform, sample_rate=24_000, num_bands=128, **SPECTROGRAM
  )


def _held(pitch, partials=1):
  """A second of a harmonic tone, [24_000]."""
  phase = 2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * np.arange(24_000) / 24e3
  tones = [np.sin(k * phase) / k for k in range(1, partials + 1)]
  return 0.1 * np.sum(tones, axis=0).astype(np.float32)


@pytest.mark.parametrize('pitch', [60, 66, 71])
def test_a_held_note_is_in_its_class_in_every_octave(pitch):
  rows = np.asarray(_classes(np.stack([_held(pitch), _held(pitch + 12)])))
  assert rows.shape == (2, 20, 24)
  found = rows[:, 2:-2].mean(axis=1).argmax(axis=1)
  expected = round(2 * (pitch - LOWEST)) % 24
  assert all((found - expected + 1) % 24 <= 2)


def test_notes_a_semitone_apart_differ_and_octaves_hardly_do():
  clips = [_held(p, partials=6) for p in (60, 72, 61, 66)]
  rows = np.asarray(_classes(np.stack(clips))).reshape(4, -1)
  rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  cosines = rows @ rows.T
  assert cosines[0, 1] > max(cosines[0, 2], cosines[0, 3]) + 0.2


def test_level_is_ignored_and_silence_is_finite():
  sound = _held(60)
  rows = np.asarray(_classes(np.stack([sound, 0.01 * sound, 0.0 * sound])))
  np.testing.assert_allclose(rows[0], rows[1], atol=2e-3)
  np.testing.assert_array_equal(rows[2], 0.0)


def test_the_network_reads_them_and_tells_a_key_from_another():
  network = MelodyViT(
    num_layers=1, segments=5, pitch_classes=True, **SPECTROGRAM
  )
  clips = np.stack([_held(p, partials=6) for p in (60, 72, 66)])
  rows, _ = jax.jit(network.init_with_output)(jax.random.key(0), clips)
  rows = np.asarray(rows)
  assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.1


def test_bands_must_be_24_an_octave():
  network = MelodyViT(
    num_layers=1, pitch_classes=True, **SPECTROGRAM | {'high_hz': 3200.0}
  )
  with pytest.raises(UsageError, match=r'config\.model\.high_hz to 3133\.6'):
    network.init(jax.random.key(0), np.zeros((1, 24_000), np.float32))
