"""Losses and metrics of the codec: waveforms [B, S], logits -> scalars.

SoundStream §III-E. The paper's sums over frames are means here, and the mel
loss is also a mean over bins and scales, so that neither the crop's length
nor the number of scales changes the balance of the terms.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.dsp import spectrogram
from musiclm_jax.soundstream.discriminators import DiscriminatorOutput

# Windows 2^6 ... 2^11 (equation 5).
WINDOWS = (64, 128, 256, 512, 1024, 2048)
_NUM_MELS = 64
_FLOOR = 1e-5
_QUIET = 1e-3  # RMS below which an error counts as that of silence
# The discriminators' hinge where they tell nothing apart.
SILENT_DISCRIMINATOR = 2.0
# Below this a window is zero-padded: 64 mel filters of 0 ... 12 kHz need
# bins at most 60 Hz apart, or the lowest filters are empty.
_MIN_FFT_SIZE = 512


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
  real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]
) -> Float[Array, '']:
  """Computes the mean distance of features, layer by layer (eq. 3)."""
  terms = []
  for r, f in zip(real, fake, strict=True):
    layers = [
      jnp.mean(jnp.abs(a.astype(jnp.float32) - b.astype(jnp.float32)))
      for a, b in zip(r.features, f.features, strict=True)
    ]
    terms.append(sum(layers) / len(layers))
  return sum(terms) / len(terms)


def reconstruction_loss(
  target: Float[Array, 'B S'], output: Float[Array, 'B S']
) -> Float[Array, '']:
  """Computes the multi-scale mel loss (eq. 4 and 5).

  Per scale s: the L1 distance of 64-bin mel magnitudes plus
  alpha_s = sqrt(s / 2) times the L2 norm (not squared) of the log-mel
  difference of a frame; both are divided by frames and bins alike, so their
  ratio is the paper's. Windows longer than the signal are left out.
  """
  terms = []
  for window in _windows(target.shape[-1]):
    mel, out_mel = _mel(target, window), _mel(output, window)
    difference = _log(mel) - _log(out_mel)
    # The root's gradient at 0 is infinite: equal silences have distance 0.
    square = jnp.sum(jnp.square(difference), axis=-1)
    norm = jnp.sqrt(jnp.where(square > 0.0, square, 1.0))
    norm = jnp.where(square > 0.0, norm, 0.0)
    alpha = (window / 2.0) ** 0.5
    terms.append(
      jnp.mean(jnp.abs(mel - out_mel)) + alpha * jnp.mean(norm) / _NUM_MELS
    )
  return sum(terms) / len(terms)


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
  for window in _windows(target.shape[-1]):
    difference = _log(_mel(target, window)) - _log(_mel(output, window))
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


def _windows(samples: int) -> list[int]:
  return [window for window in WINDOWS if window <= samples]


def _mel(x: Float[Array, 'B S'], window: int) -> Float[Array, 'B T M']:
  return spectrogram.magnitudes(
    x,
    sample_rate=SAMPLE_RATE,
    window_length=window,
    hop_length=window // 4,
    fft_size=max(window, _MIN_FFT_SIZE),
    num_mels=_NUM_MELS,
    low_hz=0.0,
    high_hz=SAMPLE_RATE / 2,
  )


def _log(mel: Array) -> Array:
  return jnp.log(jnp.maximum(mel, _FLOOR))
