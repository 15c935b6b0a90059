"""Codec gates pass a good codec and fail each planted bad one."""

import numpy as np
import pytest

from experiments.tiny_cascade import codec_baselines, codec_checks
from musiclm_jax.metrics import codec as codec_metrics

RATE = 24_000
LEVELS, SIZE, HOP, FRAMES = 4, 16, 480, 800


@pytest.fixture(scope='module')
def clips():
  """Plucked melodies [12, S] of 2 s each over a little noise."""
  rng = np.random.default_rng(0)
  count = RATE * 2
  out = np.zeros((12, count))
  for clip in out:
    at = 0
    while at < count - RATE // 2:
      length = rng.integers(RATE // 8, RATE // 2)
      time = np.arange(length) / RATE
      hz = 110 * 2 ** (rng.integers(0, 36) / 12)
      tone = sum(np.sin(2 * np.pi * hz * h * time) / h for h in range(1, 6))
      clip[at : at + length] += 0.15 * tone * np.exp(-6 * time)
      at += length
  return out + 1e-4 * rng.standard_normal(out.shape)


class FakeCodec:
  """Each level halves the error; codes are random but evenly used."""

  def __init__(self, clips, error=0.3):
    rng = np.random.default_rng(1)
    self.clips = clips
    self.noise = rng.standard_normal(clips.shape) * clips.std() * error
    shape = (len(clips), FRAMES, LEVELS)
    self.codes = rng.integers(0, SIZE, shape)
    self.gain = [0.5**level for level in range(LEVELS)]

  def encode(self, waveform):
    if not waveform.any():
      return np.zeros((1, 10, LEVELS), int)
    return self.codes

  def decode(self, codes):
    if codes.shape[0] == 1:
      return np.zeros((1, HOP * 10))
    envelope = np.abs(self.clips) + 0.02
    return self.clips + self.noise * envelope * self.gain[codes.shape[2] - 1]

  def forward(self, waveform):
    return self.decode(self.encode(waveform))


def run(codec):
  figures, _ = codec_checks.measure(
    codec.clips, codec.encode, codec.decode, codec.forward, SIZE
  )
  return {gate.name: gate for gate in codec_checks.all_gates(figures)}, figures


def test_a_good_codec_passes_all_four(clips):
  gates, figures = run(FakeCodec(clips))
  assert all(gate.passed for gate in gates.values()), gates
  assert codec_checks.report_figures(figures)['frames'] >= 8192


def test_a_codec_that_keeps_only_the_envelope_fails_distance(clips):
  codec = FakeCodec(clips)
  spoken = np.stack([codec_baselines.vocoder(clip) for clip in clips])
  codec.decode = lambda codes: spoken if len(codes) > 1 else np.zeros((1, 480))
  gates, _ = run(codec)
  assert not gates['codec_distance'].passed
  assert not gates['codec_levels'].passed


def test_levels_that_add_nothing_fail_levels(clips):
  codec = FakeCodec(clips)
  codec.gain = [0.5, 0.5, 0.5, 0.5]
  gates, _ = run(codec)
  assert not gates['codec_levels'].passed


def test_one_collapsed_level_fails_usage(clips):
  codec = FakeCodec(clips)
  codec.codes[:, :, 2] = codec.codes[:, :, 2] % 4
  gates, _ = run(codec)
  assert not gates['codec_usage'].passed
  assert gates['codec_usage'].value == pytest.approx(4 / SIZE, rel=0.01)


def test_too_few_frames_fail_usage(clips):
  gates, _ = run(FakeCodec(clips[:4]))
  assert not gates['codec_usage'].passed


def test_another_decode_path_than_in_training_fails_roundtrip(clips):
  """Mistake 9b: the decode path differs from the training path."""
  codec = FakeCodec(clips)
  codec.forward = lambda waveform: codec.decode(codec.encode(waveform)) * 1.01
  gates, _ = run(codec)
  assert not gates['codec_roundtrip'].passed


def test_humming_silence_fails_roundtrip(clips):
  codec = FakeCodec(clips)
  decode = codec.decode
  codec.decode = lambda c: decode(c) + (0.01 if len(c) == 1 else 0.0)
  gates, _ = run(codec)
  assert not gates['codec_roundtrip'].passed


def test_distance_is_zero_for_itself_and_grows_with_noise(clips):
  rng = np.random.default_rng(3)
  noise = rng.standard_normal(clips.shape) * 0.02
  at = [
    codec_metrics.distances(clips[:2], clips[:2] + gain * noise[:2]).mean()
    for gain in (0.0, 0.1, 1.0)
  ]
  assert at[0] == 0.0 < at[1] < at[2]


def test_distance_ignores_phase_but_si_sdr_does(clips):
  flipped = -clips[:2]
  assert codec_metrics.distances(clips[:2], flipped).max() < 1e-9
  delayed = np.roll(clips[:2], 12, axis=1)
  assert codec_metrics.distances(clips[:2], delayed).max() < 2.0
  assert codec_metrics.si_sdr(clips[:2], delayed).max() < 20


def test_si_sdr_agrees_with_planted_noise():
  rng = np.random.default_rng(4)
  clean = rng.standard_normal((3, 50_000))
  noisy = 0.5 * (clean + 0.1 * rng.standard_normal(clean.shape))
  np.testing.assert_allclose(codec_metrics.si_sdr(clean, noisy), 20, atol=0.3)


def test_perplexity_counts_evenly_used_entries():
  counts = np.array([[5, 5, 5, 5], [10, 10, 0, 0], [7, 0, 0, 0]])
  np.testing.assert_allclose(codec_metrics.perplexity(counts), [4, 2, 1])
