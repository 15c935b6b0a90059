"""Discriminators: waveform [B, S] -> logits [B, T_k] and features, K + 1 times.

Three waveform discriminators as in MelGAN, on the signal and on its averages
over 2 and 4 samples, and one on the complex spectrum (SoundStream §III-D), or
several on spectra of different windows.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from musiclm_jax.dsp import spectrogram
from musiclm_jax.nn.conv import Conv

_SLOPE = 0.2


@struct.dataclass
class DiscriminatorOutput:
  """What one discriminator returns.

  Attributes:
    logits: One a time step; real above 0. They may be of any sign and size:
      the hinge pushes fakes below -1, so no absolute value is ever taken.
    features: Outputs of the layers before the logits.
  """

  logits: Float[Array, 'B T']
  features: tuple[Array, ...]


class WaveDiscriminator(nn.Module):
  """Tells real from decoded waveforms at one scale (MelGAN, weight norm).

  Attributes:
    channels: Of the first layer (16); every strided layer has 4 times more.
    max_channels: At most (1024).
    strides: Of the grouped layers (4, 4, 4, 4), which have 4 channels a group.
    dtype: Compute type.
  """

  channels: int = 16
  max_channels: int = 1024
  strides: tuple[int, ...] = (4, 4, 4, 4)
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, waveform: Float[Array, 'B S']) -> DiscriminatorOutput:
    """Returns one logit per product-of-strides samples."""

    conv = functools.partial(Conv, weight_norm=True, dtype=self.dtype)
    x = jnp.pad(waveform, ((0, 0), (7, 7)), mode='reflect')[..., None]
    x = nn.leaky_relu(conv(self.channels, (15,), padding='VALID')(x), _SLOPE)
    features = [x]
    channels = self.channels
    for stride in self.strides:
      groups = max(1, channels // 4)
      channels = min(4 * channels, self.max_channels)
      reach = 5 * stride
      x = conv(
        channels,
        (2 * reach + 1,),
        strides=(stride,),
        padding=((reach, reach),),
        groups=groups,
      )(x)
      features.append(x := nn.leaky_relu(x, _SLOPE))
    x = nn.leaky_relu(conv(channels, (5,), padding=((2, 2),))(x), _SLOPE)
    features.append(x)
    logits = conv(1, (3,), padding=((1, 1),))(x)
    return DiscriminatorOutput(
      logits[..., 0].astype(jnp.float32), tuple(features)
    )


class StftUnit(nn.Module):
  """Residual unit over time and frequency that reduces both.

  Attributes:
    channels: N of its 3 x 3 convolution.
    growth: m, its output has m * N channels.
    strides: Over (time, frequency); the second kernel is 2 longer.
    dtype: Compute type.
  """

  channels: int
  growth: int
  strides: tuple[int, int]
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B T F C']) -> Float[Array, 'B T2 F2 D']:
    """Returns the unit's output, rounded up where a stride does not fit."""
    conv = functools.partial(Conv, weight_norm=True, dtype=self.dtype)
    out = self.channels * self.growth
    time, frequency = self.strides
    y = nn.leaky_relu(conv(self.channels, (3, 3))(x), _SLOPE)
    y = conv(out, (time + 2, frequency + 2), self.strides)(y)
    skip = conv(out, (1, 1), self.strides)(x)
    return nn.leaky_relu(y + skip, _SLOPE)


class StftDiscriminator(nn.Module):
  """Tells real from decoded spectra, real and imaginary part as two channels.

  Attributes:
    channels: C of the first layer (32), 16 C at the end.
    window_length: Of the STFT (1024).
    hop_length: Of the STFT (256).
    dtype: Compute type; the STFT is float32.
  """

  channels: int = 32
  window_length: int = 1024
  hop_length: int = 256
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, waveform: Float[Array, 'B S']) -> DiscriminatorOutput:
    """Returns one logit per 8 hops, rounded up."""
    spectrum = spectrogram.stft(
      waveform,
      window_length=self.window_length,
      hop_length=self.hop_length,
      fft_size=self.window_length,
    )[..., :-1]
    x = jnp.stack([spectrum.real, spectrum.imag], axis=-1)
    conv = functools.partial(Conv, weight_norm=True, dtype=self.dtype)
    x = nn.leaky_relu(conv(self.channels, (7, 7))(x), _SLOPE)
    features = [x]
    widths = ((1, 2), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2))
    for unit, (factor, growth) in enumerate(widths):
      x = StftUnit(
        factor * self.channels, growth, (1 + unit % 2, 2), self.dtype
      )(x)
      features.append(x)
    logits = conv(1, (1, x.shape[2]), padding='VALID')(x)[:, :, 0, 0]
    return DiscriminatorOutput(logits.astype(jnp.float32), tuple(features))


class Discriminators(nn.Module):
  """All discriminators of a waveform.

  Attributes:
    num_scales: Waveform discriminators, each at half the rate of the last.
    wave_channels: See `WaveDiscriminator.channels`.
    wave_max_channels: See `WaveDiscriminator.max_channels`.
    stft_channels: See `StftDiscriminator.channels`.
    stft_windows: Of the spectral discriminators, one each, in samples (1024);
      hops are quarters of them.
    dtype: Compute type.
  """

  num_scales: int = 3
  wave_channels: int = 16
  wave_max_channels: int = 1024
  stft_channels: int = 32
  stft_windows: tuple[int, ...] = (1024,)
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(
    self, waveform: Float[Array, 'B S']
  ) -> tuple[DiscriminatorOutput, ...]:
    """Returns the outputs, the spectral ones last."""
    outputs, scaled = [], waveform
    for scale in range(self.num_scales):
      if scale:
        scaled = halve_rate(scaled)
      outputs.append(
        WaveDiscriminator(
          self.wave_channels, self.wave_max_channels, dtype=self.dtype
        )(scaled)
      )
    for window in self.stft_windows:
      outputs.append(
        StftDiscriminator(
          self.stft_channels, window, window // 4, dtype=self.dtype
        )(waveform)
      )
    return tuple(outputs)


def halve_rate(waveform: Float[Array, 'B S']) -> Float[Array, 'B S2']:
  """Averages 4 samples every 2; at the ends, those that are there."""

  def window_sum(x: Array) -> Array:
    return jax.lax.reduce_window(
      x, 0.0, jax.lax.add, (1, 4), (1, 2), ((0, 0), (1, 1))
    )

  return window_sum(waveform) / window_sum(jnp.ones_like(waveform[:1]))
