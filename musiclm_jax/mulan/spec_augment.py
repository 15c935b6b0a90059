"""SpecAugment (Park et al. 2019): hides stripes of a spectrogram [B, T, F]."""

import jax
import jax.numpy as jnp

from musiclm_jax.contracts.array_types import Mask, PRNGKey, Spectrogram


def hide_stripes(
  rng: PRNGKey, x: Spectrogram, *, frames: float, bands: float
) -> Spectrogram:
  """Sets a stripe of frames and a stripe of bands to 0, the mean of a band.

  Each is as wide as a uniform draw between nothing and the given share, and
  lies anywhere; every example has its own.

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
