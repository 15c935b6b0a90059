"""SEANet encoder and decoder: waveform [B, S] <-> latents [B, S / hop, D].

Every convolution is causal, has no bias and is not normalised; ELU comes
before each of them except the first. ELU(0) = 0, so silence has zero latents
and zero latents are silence, exactly (SoundStream §III-A, §III-B).

Signals come whole or in chunks of whole hops. A chunk goes in with the pasts
of all convolutions and comes out with new ones; None begins a signal. The
result of all chunks is that of the whole: a frame of codes is there when its
last sample is, and gives its samples at once, so the latency is one hop.
"""

import functools
import itertools
import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float

from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.conv import CausalConv, CausalTransposedConv, Past

Pasts = tuple[Past, ...]  # of the convolutions, in the order of their calls


def _elu(x: Float[Array, '...']) -> Float[Array, '...']:
  """ELU by `exp`, which takes a third of the time of `expm1` on CPU.

  Near zero it is off by float32's rounding of 1, whatever the compute type.
  """
  negative = jnp.where(x > 0, 0.0, x.astype(jnp.float32))
  return jnp.where(x > 0, x, (jnp.exp(negative) - 1.0).astype(x.dtype))


class _Stream:
  """Gives each convolution its past and gathers the new ones."""

  def __init__(self, pasts: Pasts | None):
    self._pasts = itertools.repeat(None) if pasts is None else iter(pasts)
    self.pasts: Pasts = ()  # the new ones

  def through(
    self, conv: CausalConv | CausalTransposedConv, x: Float[Array, 'B T C']
  ) -> Float[Array, 'B T2 D']:
    """Applies the next convolution."""
    x, new = conv(x, next(self._pasts))
    self.pasts += (new,)
    return x


class ResidualUnit(nn.Module):
  """Adds a dilated convolution of 7 and one of 1 to its input.

  Attributes:
    dilation: Of the first convolution.
    dtype: Compute type.
  """

  dilation: int
  dtype: jnp.dtype | str = jnp.float32

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B T C'], stream: _Stream
  ) -> Float[Array, 'B T C']:
    """Returns x + conv1(elu(conv7(elu(x))))."""
    conv = functools.partial(CausalConv, x.shape[-1], dtype=self.dtype)
    y = stream.through(conv(kernel_size=7, dilation=self.dilation), _elu(x))
    # Twelve units in a row: at their full size each would add its input's
    # variance once more, and the output would start far too loud.
    small = nn.initializers.variance_scaling(0.1, 'fan_in', 'truncated_normal')
    y = stream.through(conv(kernel_size=1, kernel_init=small), _elu(y))
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
  def __call__(
    self, waveform: Float[Array, 'B S'], pasts: Pasts | None = None
  ) -> tuple[Float[Array, 'B T D'], Pasts]:
    """Returns float32 latents, one row per hop, and the new pasts."""
    stream = _Stream(pasts)
    conv = functools.partial(CausalConv, dtype=self.dtype)
    x = stream.through(conv(self.channels, 7), waveform[..., None])
    for block, stride in enumerate(self.strides):
      for dilation in self.dilations:
        x = ResidualUnit(dilation, self.dtype)(x, stream)
      wider = self.channels * 2 ** (block + 1)
      x = stream.through(conv(wider, 2 * stride, stride=stride), _elu(x))
    x = stream.through(conv(self.latent_dim, 3), _elu(x))
    return x.astype(jnp.float32), stream.pasts


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
  def __call__(
    self, latents: Float[Array, 'B T D'], pasts: Pasts | None = None
  ) -> tuple[Float[Array, 'B S'], Pasts]:
    """Returns float32, exactly T * hop samples, and the new pasts."""
    stream = _Stream(pasts)
    conv = functools.partial(CausalConv, dtype=self.dtype)
    widest = self.channels * 2 ** len(self.strides)
    x = stream.through(conv(widest, 7), latents)
    for block, stride in reversed(list(enumerate(self.strides))):
      raised = CausalTransposedConv(
        self.channels * 2**block, stride, dtype=self.dtype
      )
      x = stream.through(raised, _elu(x))
      for dilation in self.dilations:
        x = ResidualUnit(dilation, self.dtype)(x, stream)
    x = stream.through(conv(1, 7), _elu(x))
    return x[..., 0].astype(jnp.float32), stream.pasts


class Film(nn.Module):
  """Scales and shifts latents by a flag of each frame (SoundStream §III-F).

  a'[c] = gamma[c] a[c] + beta[c], both linear in the flag as a one-hot pair;
  an untrained one changes nothing.
  """

  @nn.compact
  def __call__(
    self, latents: Float[Array, 'B T D'], flag: Bool[Array, 'B #T']
  ) -> Float[Array, 'B T D']:
    """Returns the latents as the flag has them."""
    shape = 2, latents.shape[-1]
    gamma = self.param('gamma', nn.initializers.ones_init(), shape)
    beta = self.param('beta', nn.initializers.zeros_init(), shape)
    row = flag.astype(jnp.int32)
    return gamma[row] * latents + beta[row]


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
    denoises: Whether the encoder takes noise out where it is told to, by a
      `Film` before the quantizer. Silence is then as silent as it has learned.
    dtype: Compute type; latents and waveforms are float32.
  """

  channels: int = 32
  latent_dim: int = 128
  strides: tuple[int, ...] = (3, 4, 5, 8)
  dilations: tuple[int, ...] = (1, 3, 9)
  num_quantizers: int = 12
  codebook_size: int = 1024
  gain: float = 1.0
  denoises: bool = False
  dtype: jnp.dtype | str = jnp.float32

  def setup(self) -> None:
    shared = {
      'strides': tuple(self.strides),
      'dilations': tuple(self.dilations),
      'dtype': self.dtype,
    }
    self.encoder = Encoder(self.channels, self.latent_dim, **shared)
    self.decoder = Decoder(self.channels, **shared)
    if self.denoises:
      self.film = Film()

  @property
  def hop_length(self) -> int:
    """Samples from one frame of codes to the next."""
    return math.prod(self.strides)

  def encode(
    self,
    waveform: Float[Array, 'B S'],
    pasts: Pasts | None = None,
    denoise: Bool[Array, ' B'] | None = None,
  ) -> tuple[Float[Array, 'B T D'], Pasts]:
    """Returns latents before quantization and the encoder's new pasts.

    Args:
      waveform: A whole one, or what follows the last chunk.
      pasts: What came with the last chunk's latents; None begins a waveform.
      denoise: Rows of which noise shall be taken out; None is none.

    Raises:
      UsageError: If it is no whole number of hops long.
      UsageError: If it shall be denoised by a codec that does not.
    """
    if denoise is not None and not self.denoises:
      raise UsageError(
        'this codec does not take noise out: set config.model.denoises=True, '
        'or config.data.noise_probability=0'
      )
    samples = waveform.shape[-1]
    if samples % self.hop_length or not samples:
      raise UsageError(
        f'expected a multiple of {self.hop_length} samples, got '
        f'{samples}: pad the waveform'
      )
    latents, pasts = self.encoder(self.gain * waveform, pasts)
    if self.denoises:
      flag = jnp.zeros(len(waveform), bool) if denoise is None else denoise
      latents = self.film(latents, flag[:, None])
    return latents, pasts

  def decode(
    self, latents: Float[Array, 'B T D'], pasts: Pasts | None = None
  ) -> tuple[Float[Array, 'B S'], Pasts]:
    """Returns the waveform of latents and the decoder's new pasts."""
    waveform, pasts = self.decoder(latents, pasts)
    return waveform / self.gain, pasts

  def __call__(self, waveform: Float[Array, 'B S']) -> Float[Array, 'B S']:
    """Codes and decodes without a quantizer: what `init` needs."""
    return self.decode(self.encode(waveform)[0])[0]
