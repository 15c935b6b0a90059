"""Losses and metrics of the codec: waveforms [B, S], logits -> scalars.

SoundStream §III-E. The paper's sums over frames are means here, and the mel
loss is also a mean over bins and scales, so that neither the crop's length
nor the number of scales changes the balance of the terms.

Where the paper's terms fall short there are others beside them. Its 64 mels
over 12 kHz lie 120 Hz apart at 2 kHz, whatever the window: harmonics and noise
of the same envelope are one to them. `FINE_SCALES` have as many mels as their
window can tell apart, and `log_stft_loss` has no mels.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.dsp import spectrogram
from musiclm_jax.soundstream.discriminators import DiscriminatorOutput

# Windows 2^6 ... 2^11 (equation 5).
WINDOWS = (64, 128, 256, 512, 1024, 2048)
_NUM_MELS = 64
# Scales of a mel loss: (window, mels) each. The paper's ...
SCALES = tuple((window, _NUM_MELS) for window in WINDOWS)
# ... and 5 mels at 2^5 to 320 at 2^11: 5 mels for 16 bins of the transform.
FINE_SCALES = tuple((2**i, 5 * 2 ** (i - 5)) for i in range(5, 12))
_FLOOR = 1e-5
# Of `log_stft_loss`: long enough to tell harmonics apart, 47 to 12 Hz a bin.
_STFT_WINDOWS = (512, 1024, 2048)
_STFT_FLOOR = 1e-4  # relative to a full-scale sine: -80 dB
_QUIET = 1e-3  # RMS below which an error counts as that of silence
# The discriminators' hinge where they tell nothing apart.
SILENT_DISCRIMINATOR = 2.0
_SILENT_FEATURES = 1e-5  # a mean below it is no scale to divide by


def discriminator_loss(
  real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> Float[Array, '']:
  """Computes the hinge loss, averaged over discriminators and time (eq. 1)."""
  terms = [
    jnp.mean(jnp.maximum(0.0, 1.0 - r.logits))
    + jnp.mean(jnp.maximum(0.0, 1.0 + f.logits))
    for r, f in zip(real, fake, strict=True)
  ]
  return sum(terms) / len(terms)


def adversarial_loss(fake: Sequence[DiscriminatorOutput]) -> Float[Array, '']:
  """Computes the codec's clipped hinge, averaged likewise (eq. 2)."""
  terms = [jnp.mean(jnp.maximum(0.0, 1.0 - f.logits)) for f in fake]
  return sum(terms) / len(terms)


def feature_loss(
  real: Sequence[DiscriminatorOutput],
  fake: Sequence[DiscriminatorOutput],
  *,
  relative: bool = False,
) -> Float[Array, '']:
  """Computes the mean distance of features, layer by layer (eq. 3).

  Args:
    real: Of the target.
    fake: Of the codec's output.
    relative: Whether the distance of a layer is divided by the mean absolute
      value of its real features, so that every layer counts alike and none
      counts more for growing.
  """
  terms = []
  for r, f in zip(real, fake, strict=True):
    layers = [
      _feature_distance(
        a.astype(jnp.float32), b.astype(jnp.float32), relative=relative
      )
      for a, b in zip(r.features, f.features, strict=True)
    ]
    terms.append(sum(layers) / len(layers))
  return sum(terms) / len(terms)


def _feature_distance(
  real: Array, fake: Array, *, relative: bool
) -> Float[Array, '']:
  distance = jnp.mean(jnp.abs(real - fake))
  if relative:
    size = jax.lax.stop_gradient(jnp.mean(jnp.abs(real)))
    distance /= jnp.maximum(size, _SILENT_FEATURES)
  return distance


def reconstruction_loss(
  target: Float[Array, 'B S'],
  output: Float[Array, 'B S'],
  scales: Sequence[tuple[int, int]] = SCALES,
  *,
  log_only: bool = False,
) -> Float[Array, '']:
  """Computes the multi-scale mel loss (eq. 4 and 5).

  Per scale s: the L1 distance of mel magnitudes plus alpha_s = sqrt(s / 2)
  times the L2 norm (not squared) of the log-mel difference of a frame; both
  are divided by frames and bins alike, so their ratio is the paper's. Windows
  longer than the signal are left out.

  Args:
    target: What shall come out.
    output: What comes out.
    scales: (window in samples, mel bins) each; the hop is a quarter of the
      window.
    log_only: Whether a scale is the mean absolute log-mel difference instead,
      in nepers. Magnitudes and alpha give the weight to the loudest frames
      and the longest windows.
  """
  terms = []
  for window, num_mels in scales:
    if window > target.shape[-1]:
      continue
    mel, out_mel = (_mel(x, window, num_mels) for x in (target, output))
    difference = _log(mel) - _log(out_mel)
    if log_only:
      terms.append(jnp.mean(jnp.abs(difference)))
      continue
    # The root's gradient at 0 is infinite: equal silences have distance 0.
    square = jnp.sum(jnp.square(difference), axis=-1)
    norm = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
    norm = jnp.where(square > 0.0, norm, 0.0)
    alpha = (window / 2.0) ** 0.5
    terms.append(
      jnp.mean(jnp.abs(mel - out_mel)) + alpha * jnp.mean(norm) / num_mels
    )
  return sum(terms) / len(terms)


def log_stft_loss(
  target: Float[Array, 'B S'], output: Float[Array, 'B S']
) -> Float[Array, '']:
  """Computes the mean absolute difference of log magnitudes, in nepers.

  Bins are evenly spaced in frequency, so that harmonics are told from noise
  up to 12 kHz. Quiet bins fade into a floor 80 dB below a full-scale sine: a
  logarithm that is cut off there would have no gradient below it. No term of
  SoundStream's. Windows longer than the signal are left out.
  """
  terms = [
    jnp.mean(jnp.abs(_log_stft(target, window) - _log_stft(output, window)))
    for window in _STFT_WINDOWS
    if window <= target.shape[-1]
  ]
  return sum(terms) / max(len(terms), 1)


def waveform_loss(
  target: Float[Array, 'B S'], output: Float[Array, 'B S']
) -> Float[Array, '']:
  """Computes the mean absolute error in units of each target's RMS.

  No term of SoundStream's; the mel loss does not see phases, and a short run
  that has nothing else learns a vocoder of noise instead of tones.
  """
  power = jnp.mean(jnp.square(target), axis=-1, keepdims=True)
  return jnp.mean(jnp.abs(target - output) / (jnp.sqrt(power) + _QUIET))


def log_mel_distance(
  target: Float[Array, 'B S'], output: Float[Array, 'B S']
) -> Float[Array, ' B']:
  """Computes the mean absolute log-mel difference over all scales, nepers."""
  terms = []
  for window, num_mels in SCALES:
    if window > target.shape[-1]:
      continue
    mel, out_mel = (_mel(x, window, num_mels) for x in (target, output))
    difference = _log(mel) - _log(out_mel)
    terms.append(jnp.mean(jnp.abs(difference), axis=(1, 2)))
  return sum(terms) / len(terms)


def si_sdr(
  target: Float[Array, 'B S'], output: Float[Array, 'B S']
) -> Float[Array, ' B']:
  """Computes the scale-invariant signal-to-distortion ratio in dB."""
  target = target - target.mean(axis=-1, keepdims=True)
  output = output - output.mean(axis=-1, keepdims=True)
  energy = jnp.sum(jnp.square(target), axis=-1) + 1e-8
  scale = jnp.sum(target * output, axis=-1) / energy
  part = scale[:, None] * target
  signal = jnp.sum(jnp.square(part), axis=-1) + 1e-8
  noise = jnp.sum(jnp.square(output - part), axis=-1) + 1e-8
  return 10.0 * jnp.log10(signal / noise)


def _mel(
  x: Float[Array, 'B S'], window: int, num_mels: int
) -> Float[Array, 'B T M']:
  return spectrogram.magnitudes(
    x,
    sample_rate=SAMPLE_RATE,
    window_length=window,
    hop_length=window // 4,
    fft_size=fft_size(window, num_mels),
    num_mels=num_mels,
    low_hz=0.0,
    high_hz=SAMPLE_RATE / 2,
  )


def fft_size(window: int, num_mels: int) -> int:
  """Says to how many samples a window is zero-padded for so many mels.

  A transform whose bins lie further apart than the lowest filter is wide
  leaves filters empty: 64 filters over 12 kHz need 512 points.
  """
  step = spectrogram.hz_to_mel(SAMPLE_RATE / 2) / (num_mels + 1)
  size = window
  while spectrogram.hz_to_mel(SAMPLE_RATE / size) >= 2.0 * step:
    size *= 2
  return size


def _log_stft(x: Float[Array, 'B S'], window: int) -> Float[Array, 'B T F']:
  """Log magnitudes; 0 is a full-scale sine, whose windowed sum is window/4."""
  spectrum = spectrogram.stft(
    x, window_length=window, hop_length=window // 4, fft_size=window
  )
  return jnp.log(jnp.abs(spectrum) * (4.0 / window) + _STFT_FLOOR)


def _log(mel: Array) -> Array:
  return jnp.log(jnp.maximum(mel, _FLOOR))
