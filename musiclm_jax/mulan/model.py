"""MuLan: 10 s of music and a text -> two unit vectors [B, 128].

waveform [B, S] -> log-mel [B, T, F] -> tower -> linear -> unit vector
word pieces [B, L]                   -> tower -> linear -> unit vector
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from musiclm_jax.contracts.array_types import (
  Embedding,
  Mask,
  PRNGKey,
  Spectrogram,
  TextIds,
  Waveform,
)
from musiclm_jax.contracts.bounds import look_up
from musiclm_jax.contracts.errors import UsageError
from musiclm_jax.dsp import spectrogram
from musiclm_jax.dsp.framing import centre_on_hops
from musiclm_jax.mulan.towers import AST, ResNet, TextTower
from musiclm_jax.nn.einsum import Einsum
from musiclm_jax.nn.embedding import unit

TOWER_RATE = 16_000  # Hz, of what the audio tower reads; MuLan resamples to it
AUDIO_TOWERS = {'resnet': ResNet, 'ast': AST}
_TEMPERATURES = 0.01, 1.0  # bounds


class Mulan(nn.Module):
  """Two towers into one space (Huang et al. 2022).

  Log-mels are standardised per band with the statistics of the batch in
  training and running statistics after, the collection `batch_stats`; so
  neither tower depends on the level or the mel scale of a corpus.

  Attributes:
    audio_tower: Log-mel [B, T, F] -> [B, D].
    text_tower: Word pieces [B, L] -> [B, D].
    embed_dim: Of the common space.
    num_mels: F; 64 for ResNet-50, 128 for AST.
    window_length: Of the spectrogram, in samples at 16 kHz.
    hop_length: Of the spectrogram, in samples; 160 gives T = 1000 in 10 s.
    fft_size: Of the spectrogram.
    low_hz: Lower end of the mel bands.
    high_hz: Upper end of the mel bands.
    initial_temperature: Of the loss; trainable between 0.01 and 1.
    norm_decay: Of the running statistics of log-mels.
    norm_features: Whether what leaves the towers is standardised by batch
      before the linear layer. A mean over time and words hardly differs from
      clip to clip, and a short run spends itself on that; MuLan has none.
    frame_mask: Widest stripe of frames that training hides, as a share.
    band_mask: Widest stripe of bands that training hides, as a share.
  """

  audio_tower: nn.Module
  text_tower: nn.Module
  embed_dim: int = 128
  num_mels: int = 64
  window_length: int = 400
  hop_length: int = 160
  fft_size: int = 512
  low_hz: float = 60.0
  high_hz: float = 7600.0
  initial_temperature: float = 0.1
  norm_decay: float = 0.9
  norm_features: bool = False
  frame_mask: float = 0.0
  band_mask: float = 0.0

  def setup(self):
    """Makes what both entry points share."""
    norm = functools.partial(
      nn.BatchNorm,
      momentum=self.norm_decay,
      epsilon=1e-5,
      use_scale=False,
      use_bias=False,
    )
    self.standardise = norm()
    if self.norm_features:
      self.audio_norm, self.text_norm = norm(), norm()
    self.audio_head = self._head(self.audio_tower.features)
    self.text_head = self._head(self.text_tower.features)
    self.free_temperature = self.param(
      'free_temperature',
      lambda _: jnp.float32(
        free_temperature(self.initial_temperature, *_TEMPERATURES)
      ),
    )

  def __call__(
    self, waveform: Waveform, text_ids: TextIds, *, training: bool = False
  ) -> tuple[Embedding, Embedding, Float[Array, '']]:
    """Returns audio and text embeddings and the temperature."""
    return (
      self.embed_window(waveform, training=training),
      self.embed_text(text_ids, training=training),
      self.temperature(),
    )

  def embed_window(
    self, waveform: Waveform, *, training: bool = False
  ) -> Embedding:
    """Embeds one window a row, 16 kHz, as unit vectors."""
    x = self.standardise(
      self.log_mel(waveform), use_running_average=not training
    )
    if training:
      x = hide_stripes(
        self.make_rng('dropout'),
        x,
        frames=self.frame_mask,
        bands=self.band_mask,
      )
    x = self.audio_tower(x, training=training)
    if self.norm_features:
      x = self.audio_norm(x, use_running_average=not training)
    return unit(self.audio_head(x))

  def embed_text(
    self, text_ids: TextIds, *, training: bool = False
  ) -> Embedding:
    """Embeds one text a row as unit vectors."""
    x = self.text_tower(text_ids, training=training)
    if self.norm_features:
      x = self.text_norm(x, use_running_average=not training)
    return unit(self.text_head(x))

  def temperature(self) -> Float[Array, '']:
    """The loss's temperature, between its bounds."""
    return bounded_temperature(self.free_temperature, *_TEMPERATURES)

  def log_mel(self, waveform: Waveform) -> Spectrogram:
    """Computes S / hop_length frames, each centred on its hop."""
    return spectrogram.log_mel(
      centre_on_hops(waveform, self.window_length, self.hop_length),
      sample_rate=TOWER_RATE,
      window_length=self.window_length,
      hop_length=self.hop_length,
      fft_size=self.fft_size,
      num_mels=self.num_mels,
      low_hz=self.low_hz,
      high_hz=self.high_hz,
    )

  def _head(self, features: int) -> Einsum:
    return Einsum(
      'bd,de->be', (features, self.embed_dim), ('embed', None), use_bias=True
    )


def make_mulan(
  *,
  audio_tower: str,
  audio: Mapping[str, Any],
  text: Mapping[str, Any],
  **options: Any,
) -> Mulan:
  """Builds MuLan from a config's section: the one place that knows names.

  Args:
    audio_tower: Name in `AUDIO_TOWERS`.
    audio: Arguments of the audio tower.
    text: Arguments of the text tower.
    **options: Arguments of `Mulan`.

  Raises:
    UsageError: If the name is unknown.
  """
  tower = look_up(AUDIO_TOWERS, audio_tower, 'audio tower')
  return Mulan(tower(**audio), TextTower(**text), **options)


def hide_stripes(
  rng: PRNGKey, x: Spectrogram, *, frames: float, bands: float
) -> Spectrogram:
  """Hides a stripe of frames and a stripe of bands: SpecAugment.

  They become 0, the mean of a band (Park et al. 2019). Each is as wide as a
  uniform draw between nothing and the given share, and lies anywhere; every
  example has its own.

  Args:
    rng: Of widths and places.
    x: Standardised per band.
    frames: Widest stripe along time, as a share of T.
    bands: Widest stripe along frequency, as a share of F.
  """
  batch, num_frames, num_bands = x.shape
  frame_rng, band_rng = jax.random.split(rng)
  hidden = (
    _stripe(frame_rng, batch, num_frames, frames)[:, :, None]
    | _stripe(band_rng, batch, num_bands, bands)[:, None, :]
  )
  return jnp.where(hidden, 0.0, x)


def _stripe(rng: PRNGKey, batch: int, length: int, share: float) -> Mask:
  """Marks one stripe of each row [B, length]."""
  width_rng, start_rng = jax.random.split(rng)
  width = length * share * jax.random.uniform(width_rng, (batch, 1))
  start = (length - width) * jax.random.uniform(start_rng, (batch, 1))
  at = jnp.arange(length)
  return (at >= start) & (at < start + width)


def bounded_temperature(
  x: Float[Array, ''], low: float, high: float
) -> Float[Array, '']:
  """Maps a free parameter to a temperature between two bounds.

  The logarithm moves along a sigmoid: a hard clip would have no gradient
  beyond a bound, and a temperature that once crosses it would never return.
  """
  return low * (high / low) ** jax.nn.sigmoid(x)


def free_temperature(temperature: float, low: float, high: float) -> float:
  """Undoes `bounded_temperature`.

  Raises:
    UsageError: If the temperature is not between the bounds.
  """
  if not 0 < low < temperature < high:
    raise UsageError(
      f'expected 0 < {low} < temperature < {high}, got {temperature}'
    )
  share = math.log(temperature / low) / math.log(high / low)
  return math.log(share / (1.0 - share))
