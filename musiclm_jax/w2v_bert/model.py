"""w2v-BERT (2108.06209): log-mels [B, 4T, M] -> predictions [B, T, K].

log-mels -> subsampling -> latents [B, T, F] -> (masked) -> projection ->
contrastive module -> masked-prediction module; the quantizer reads the latents
that are not masked, centred per dimension.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import (
  Latents,
  Mask,
  PRNGKey,
  PyTree,
  Spectrogram,
)
from musiclm_jax.contracts.audio import SAMPLE_RATE
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.nn.conformer import Conformer
from musiclm_jax.nn.conv import Conv
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.w2v_bert.frontend import (
  SAMPLES_PER_FRAME,
  add_frames,
  envelope,
  standardise,
)
from musiclm_jax.w2v_bert.quantizer import GumbelCodes, GumbelQuantizer

# Batches over which the latents' statistics follow the subsampling.
_MEMORY = 10.0

# A masked frame is replaced by noise of this standard deviation, small beside
# the latents' 1: the network can tell which frames it has to guess.
_NOISE = 0.1


@struct.dataclass
class W2vBertOutput:
  """What the losses need.

  Attributes:
    context: Of the contrastive module, as wide as code vectors.
    quantized: Code vectors and ids of the unmasked latents.
    logits: Of the masked-prediction module over the code ids.
    latent_statistics: Of the latents, this batch included in training.
  """

  context: Latents
  quantized: GumbelCodes
  logits: Float[Array, 'B T K']
  latent_statistics: PyTree


class Subsampling(nn.Module):
  """Two convolutions of stride 2 x 2: [B, 4T, M] -> [B, T, M / 4 * channels].

  The second pads where the first does not, so that output frame t is centred
  within its own 40 ms.

  Attributes:
    channels: Of the two convolutions.
    dtype: Compute type.
  """

  channels: tuple[int, int]
  dtype: jnp.dtype | str

  @nn.compact
  def __call__(self, mels: Spectrogram) -> Latents:
    """Returns latents of unit variance."""
    y = mels[..., None]
    for channels, pad in zip(self.channels, ((0, 1), (1, 0)), strict=True):
      conv = Conv(
        channels, (3, 3), (2, 2), padding=(pad, pad), dtype=self.dtype
      )
      y = nn.relu(conv(y))
    y = y.reshape(*y.shape[:2], -1)
    return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name='norm')(y)


class W2vBert(nn.Module):
  """The whole network.

  Attributes:
    embed_dim: Width of the Conformer blocks, D.
    num_heads: H.
    mlp_dim: Inner width of their feed-forwards.
    contrastive_blocks: Blocks of the contrastive module.
    masked_blocks: Blocks of the masked-prediction module.
    codebook_size: K.
    code_dim: Width of a code vector.
    num_mels: M, a multiple of 4.
    num_cepstra: 0: it reads log-mels, every band standardised (the paper).
      Above: cepstra, of which so many are read, see `frontend.envelope`.
    conv_channels: Of the two subsampling convolutions.
    kernel_size: Of the depthwise convolutions.
    conv_norm: `batch` (the paper) or `layer` (below batch 64).
    dropout_rate: In the blocks.
    quantizer_gradient: Share of the quantizer's gradient that reaches the
      subsampling. In a short run every step that the quantizer moves the
      latents moves its own codes, the targets, faster than they are learned;
      0.0 stops that.
    quantizer_inertia: See `GumbelQuantizer`.
    attention_seconds: How far a frame attends to before and after it, to the
      nearest frame of 40 ms; None: to the whole clip, so that what comes out
      for a frame depends on how long its clip is.
    feature_depth: Blocks below the layer that makes semantic tokens, of both
      modules together; 0 is the projection, None is 7/12 of the second's. Which
      layer knows notes best is a question to a trained network.
    dtype: Compute type of the blocks.
    remat: See `Conformer`.
    scan_unroll: See `Conformer`.
  """

  embed_dim: int
  num_heads: int
  mlp_dim: int
  contrastive_blocks: int
  masked_blocks: int
  codebook_size: int
  code_dim: int
  num_mels: int = 80
  num_cepstra: int = 0
  conv_channels: tuple[int, int] = (128, 32)
  kernel_size: int = 5
  conv_norm: str = 'layer'
  dropout_rate: float = 0.0
  quantizer_gradient: float = 1.0
  quantizer_inertia: float = 1.0
  attention_seconds: float | None = None
  feature_depth: int | None = None
  dtype: jnp.dtype | str = jnp.float32
  remat: str = 'none'
  scan_unroll: int = 1

  @property
  def latent_dim(self) -> int:
    """Width of the latents, F."""
    return self.num_mels // 4 * self.conv_channels[1]

  @property
  def attention_frames(self) -> int | None:
    """Frames that a frame attends to before and after it; None: all.

    Raises:
      UsageError: If they are none.
    """
    if self.attention_seconds is None:
      return None
    frames = round(self.attention_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
    if frames < 1:
      raise UsageError(
        f'attention_seconds={self.attention_seconds}: choose '
        f'{SAMPLES_PER_FRAME / SAMPLE_RATE} or more, a frame on either side'
      )
    return frames

  @property
  def context_frames(self) -> int | None:
    """How far the last block's output sees, before and after; None: all.

    A block adds what its attention sees and half of its convolution's kernel.
    Mel windows, resampling and subsampling, which see 30 ms before a frame and
    20 ms after it, add one. Nothing else looks at other frames: relative
    positions are distances, layer norms are of one frame, standardisation and
    BatchNorm are of stored statistics, and nothing is masked in use.
    """
    blocks = self.contrastive_blocks + self.masked_blocks
    if not blocks:
      return 1
    if self.attention_frames is None:
      return None
    return blocks * (self.attention_frames + self.kernel_size // 2) + 1

  def setup(self):
    blocks = functools.partial(
      Conformer,
      num_heads=self.num_heads,
      mlp_dim=self.mlp_dim,
      kernel_size=self.kernel_size,
      conv_norm=self.conv_norm,
      dropout_rate=self.dropout_rate,
      dtype=self.dtype,
      remat=self.remat,
      scan_unroll=self.scan_unroll,
      attention_frames=self.attention_frames,
    )

    def linear(inputs, outputs, axes):
      return Einsum(
        'bti,io->bto', (inputs, outputs), axes, use_bias=True, dtype=self.dtype
      )

    self.subsampling = Subsampling(tuple(self.conv_channels), self.dtype)
    self.quantizer = GumbelQuantizer(
      self.codebook_size,
      self.code_dim,
      inertia=self.quantizer_inertia,
      encoder_gradient=self.quantizer_gradient,
    )
    self.projection = linear(self.latent_dim, self.embed_dim, (None, 'embed'))
    self.contrastive = blocks(self.contrastive_blocks)
    self.context = linear(self.embed_dim, self.code_dim, ('embed', None))
    self.masked_prediction = blocks(self.masked_blocks)
    self.prediction = linear(
      self.embed_dim, self.codebook_size, ('embed', 'vocab')
    )

  def __call__(
    self,
    mels: Spectrogram,
    mask: Mask,
    latent_statistics: PyTree,
    rng: PRNGKey,
    *,
    temperature: Array | float = 1.0,
    deterministic: bool = True,
  ) -> W2vBertOutput:
    """Predicts what is hidden under `mask`.

    Args:
      mels: Standardised log-mels, or cepstra.
      mask: Frames that the modules must not see.
      latent_statistics: Of the latents so far. The quantizer reads them
        standardised: a layer norm leaves what all frames share, and few codes
        would be used.
      rng: Of the vectors in their place and of the Gumbel noise.
      temperature: Of the quantizer.
      deterministic: Leaves out Gumbel noise and dropout, not the mask.
    """
    noise_rng, gumbel_rng = jax.random.split(rng)
    latents = self._latents(mels)
    if not deterministic:
      latent_statistics = add_frames(
        latent_statistics, jax.lax.stop_gradient(latents), _MEMORY
      )
    quantized = self.quantizer(
      standardise(latent_statistics, latents),
      temperature,
      None if deterministic else gumbel_rng,
    )
    noise = _NOISE * jax.random.normal(noise_rng, latents.shape, latents.dtype)
    x = self.projection(jnp.where(mask[..., None], noise, latents))
    x = self.contrastive(x, deterministic=deterministic)
    context = self.context(x)
    x = self.masked_prediction(x, deterministic=deterministic)
    logits = self.prediction(x)
    return W2vBertOutput(context, quantized, logits, latent_statistics)

  def features(self, mels: Spectrogram) -> Latents:
    """Returns the last block's output, nothing hidden."""
    x = self.projection(self._latents(mels))
    if self.contrastive_blocks:
      x = self.contrastive(x)
    if self.masked_blocks:
      x = self.masked_prediction(x)
    return x.astype(jnp.float32)

  def network_input(self, mels: Spectrogram) -> Spectrogram:
    """What the subsampling reads: log-mels, or the envelope of cepstra."""
    return envelope(mels, self.num_cepstra) if self.num_cepstra else mels

  def _latents(self, mels: Spectrogram) -> Latents:
    return self.subsampling(self.network_input(mels))
