"""Fingerprints: planted copies are found, other music is not taken for one."""

import numpy as np
import pytest

from musiclm_jax.metrics import fingerprint, memorization


def piece(seed, seconds=5.0):
  """Notes of random pitches, times and lengths, a tune of its own."""
  rng = np.random.default_rng(seed)
  total = round(seconds * fingerprint.SAMPLE_RATE)
  out = np.zeros(total)
  for start in rng.integers(0, total, 60):
    length = min(int(rng.integers(2000, 12000)), total - start)
    time = np.arange(length) / fingerprint.SAMPLE_RATE
    pitch = 220 * 2 ** (rng.integers(0, 36) / 12)
    tone = sum(np.sin(2 * np.pi * h * pitch * time) / h for h in (1, 2, 3))
    out[start : start + length] += tone * np.exp(-4 * time)
  return (0.2 * out / out.std()).astype(np.float32)


@pytest.fixture(scope='module')
def index():
  found = fingerprint.FingerprintIndex()
  for seed in range(16):
    found.add(f'{seed}', fingerprint.words(piece(seed)))
  return found


def damaged(waveform, rng):
  """As a codec would: noise, another level, cut out of its middle."""
  noise = rng.normal(size=len(waveform)) * 0.15 * waveform.std()
  start = int(rng.integers(0, 8000))
  return (0.3 * (waveform + noise))[start : start + 60_000].astype(np.float32)


def test_planted_copies_are_found_and_held_out_music_is_not(index):
  rng = np.random.default_rng(0)
  copies = [
    index.nearest(fingerprint.words(damaged(piece(seed), rng)))
    for seed in range(16)
  ]
  others = np.array(
    [
      index.nearest(fingerprint.words(piece(1000 + k, 3.9))).bit_error_rate
      for k in range(30)
    ]
  )
  threshold = memorization.threshold_at(others[:15], 0.0) - 0.05
  found = [m.bit_error_rate < threshold for m in copies]
  assert np.mean(found) >= 0.95
  assert all(m.clip == f'{k}' for k, m in enumerate(copies) if found[k])
  assert not (others[15:] < threshold).any()


def test_the_same_sound_differs_in_no_bit(index):
  match = index.nearest(fingerprint.words(piece(7)))
  assert match.clip == '7' and match.bit_error_rate == 0


def test_what_is_too_short_has_no_words():
  assert fingerprint.words(np.zeros(1000, np.float32)).size == 0
  empty = fingerprint.FingerprintIndex().match(np.zeros(3, np.uint32))
  assert empty.clip is None and empty.bit_error_rate == fingerprint.CHANCE


def test_the_rate_is_over_clips():
  found = fingerprint.duplicate_rate(np.array([0.1, 0.4, 0.5, 0.5]), 0.35)
  assert found.value == 0.25 and found.low <= 0.25 <= found.high
