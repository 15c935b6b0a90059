"""SEANet encoder and decoder: waveform [B, S] <-> latents [B, S / hop, D].

Every convolution is causal, has no bias and is not normalised; ELU comes
before each of them except the first. ELU(0) = 0, so silence has zero latents
and zero latents are silence, exactly (SoundStream §III-A, §III-B).
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.nn.conv import CausalConv, CausalTransposedConv


class ResidualUnit(nn.Module):
  """Adds a dilated convolution of 7 and one of 1 to its input.

  Attributes:
    dilation: Of the first convolution.
    dtype: Compute type.
  """

  dilation: int
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, x: Float[Array, 'B T C']) -> Float[Array, 'B T C']:
    """Returns x + conv1(elu(conv7(elu(x))))."""
    channels = x.shape[-1]
    y = CausalConv(
      channels, 7, dilation=self.dilation, use_bias=False, dtype=self.dtype
    )(nn.elu(x))
    y = CausalConv(
      channels,
      1,
      use_bias=False,
      # Twelve units in a row: at their full size each would add its input's
      # variance once more, and the output would start far too loud.
      kernel_init=nn.initializers.variance_scaling(
        0.1, 'fan_in', 'truncated_normal'
      ),
      dtype=self.dtype,
    )(nn.elu(y))
    return x + y


class Encoder(nn.Module):
  """Codes a waveform as one latent vector per hop.

  Attributes:
    channels: C_enc, of the first layer; doubled by every stride.
    latent_dim: D.
    strides: Their product is the hop.
    dilations: Of the residual units before each stride.
    dtype: Compute type.
  """

  channels: int
  latent_dim: int
  strides: tuple[int, ...]
  dilations: tuple[int, ...] = (1, 3, 9)
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, waveform: Float[Array, 'B S']) -> Float[Array, 'B T D']:
    """Returns float32 latents, one row per hop."""
    x = CausalConv(self.channels, 7, use_bias=False, dtype=self.dtype)(
      waveform[..., None]
    )
    for block, stride in enumerate(self.strides):
      for dilation in self.dilations:
        x = ResidualUnit(dilation, self.dtype)(x)
      x = CausalConv(
        self.channels * 2 ** (block + 1),
        2 * stride,
        stride=stride,
        use_bias=False,
        dtype=self.dtype,
      )(nn.elu(x))
    x = CausalConv(self.latent_dim, 3, use_bias=False, dtype=self.dtype)(
      nn.elu(x)
    )
    return x.astype(jnp.float32)


class Decoder(nn.Module):
  """Makes a waveform from latents: the encoder's mirror.

  Attributes:
    channels: C_dec, of the last layer.
    strides: As the encoder's; used in reverse.
    dilations: Of the residual units after each stride.
    dtype: Compute type.
  """

  channels: int
  strides: tuple[int, ...]
  dilations: tuple[int, ...] = (1, 3, 9)
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(self, latents: Float[Array, 'B T D']) -> Float[Array, 'B S']:
    """Returns a float32 waveform of exactly T * hop samples."""
    x = CausalConv(
      self.channels * 2 ** len(self.strides),
      7,
      use_bias=False,
      dtype=self.dtype,
    )(latents)
    for block, stride in reversed(list(enumerate(self.strides))):
      x = CausalTransposedConv(
        self.channels * 2**block, stride, use_bias=False, dtype=self.dtype
      )(nn.elu(x))
      for dilation in self.dilations:
        x = ResidualUnit(dilation, self.dtype)(x)
    x = CausalConv(1, 7, use_bias=False, dtype=self.dtype)(nn.elu(x))
    return x[..., 0].astype(jnp.float32)


class SoundStream(nn.Module):
  """The codec's two networks; the quantizer between them is a collection.

  Attributes:
    channels: Width C of encoder and decoder (32: SoundStream §III).
    latent_dim: D.
    strides: Their product is the hop; (3, 4, 5, 8) gives MusicLM's 480.
    dilations: Of the residual units.
    num_quantizers: Q levels of codes.
    codebook_size: K entries a level.
    gain: Of the waveform on its way in, undone on its way out. Music has an
      RMS of about 0.1, where ELU is all but linear; 10 brings it to 1, and a
      short run learns with what is not linear from its first step.
    dtype: Compute type; latents and waveforms are float32.
  """

  channels: int = 32
  latent_dim: int = 128
  strides: tuple[int, ...] = (3, 4, 5, 8)
  dilations: tuple[int, ...] = (1, 3, 9)
  num_quantizers: int = 12
  codebook_size: int = 1024
  gain: float = 1.0
  dtype: jnp.dtype | str = jnp.float32

  def setup(self) -> None:
    shared = {
      'strides': tuple(self.strides),
      'dilations': tuple(self.dilations),
      'dtype': self.dtype,
    }
    self.encoder = Encoder(self.channels, self.latent_dim, **shared)
    self.decoder = Decoder(self.channels, **shared)

  @property
  def hop_length(self) -> int:
    """Samples from one frame of codes to the next."""
    hop = 1
    for stride in self.strides:
      hop *= stride
    return hop

  def encode(self, waveform: Float[Array, 'B S']) -> Float[Array, 'B T D']:
    """Returns latents before quantization.

    Raises:
      ValueError: If the waveform is no whole number of hops long.
    """
    if waveform.shape[-1] % self.hop_length or not waveform.shape[-1]:
      raise ValueError(
        f'expected a multiple of {self.hop_length} samples, came '
        f'{waveform.shape[-1]}: pad the waveform'
      )
    return self.encoder(self.gain * waveform)

  def decode(self, latents: Float[Array, 'B T D']) -> Float[Array, 'B S']:
    """Returns the waveform of (quantized) latents."""
    return self.decoder(latents) / self.gain

  def __call__(self, waveform: Float[Array, 'B S']) -> Float[Array, 'B S']:
    """Codes and decodes without a quantizer: what `init` needs."""
    return self.decode(self.encode(waveform))
