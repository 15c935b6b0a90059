"""SpecAugment: one stripe of frames and one of bands, of each example's own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from musiclm_jax.mulan.model import Mulan, hide_stripes
from musiclm_jax.mulan.towers import TextTower


def test_hides_one_stripe_along_each_axis():
  x = jnp.ones((256, 50, 32))
  y = np.asarray(hide_stripes(jax.random.key(0), x, frames=0.2, bands=0.375))
  for hidden, widest in (
    ((y == 0).all(axis=2), 10),
    ((y == 0).all(axis=1), 12),
  ):
    width = hidden.sum(axis=1)
    assert width.max() in (widest, widest + 1) and width.min() <= 1
    assert abs(width.mean() - widest / 2) < 1
    begins = (np.diff(hidden, prepend=False, axis=1) & hidden).sum(axis=1)
    assert begins.max() == 1
    assert hidden.any(axis=0).mean() > 0.9  # anywhere
    assert len(np.unique(hidden, axis=0)) > 20
  frames, bands = (y == 0).all(axis=2), (y == 0).all(axis=1)
  np.testing.assert_array_equal(y == 0, frames[:, :, None] | bands[:, None])


def test_shares_of_zero_hide_nothing():
  x = jnp.ones((4, 20, 16))
  y = hide_stripes(jax.random.key(0), x, frames=0.0, bands=0.0)
  np.testing.assert_array_equal(y, x)


_TEXT = {
  'vocab_size': 8,
  'max_length': 4,
  'num_layers': 1,
  'embed_dim': 8,
  'num_heads': 1,
  'mlp_dim': 8,
}


class _Listener(nn.Module):
  """Keeps what the audio tower is given."""

  @property
  def features(self):
    return 1

  @nn.compact
  def __call__(self, x, *, training=False):
    self.sow('intermediates', 'masked', x)
    return x.mean(axis=(1, 2))[:, None]


def test_the_tower_hears_stripes_in_training_only_and_as_wide_as_configured():
  waveform = np.random.default_rng(0).normal(size=(128, 8_000))
  waveform = waveform.astype(np.float32)
  ids = np.ones((128, 4), np.int32)

  def hidden(training, **masks):
    model = Mulan(_Listener(), TextTower(**_TEXT), num_mels=32, **masks)
    variables = jax.jit(model.init)(jax.random.key(0), waveform[:2], ids[:2])
    apply = functools.partial(
      model.apply,
      method='embed_window',
      training=training,
      mutable=['batch_stats', 'intermediates'],
    )
    rngs = {'dropout': jax.random.key(1)}
    _, state = jax.jit(apply)(variables, waveform, rngs=rngs)
    (masked,) = state['intermediates']['audio_tower']['masked']
    return np.asarray(masked == 0)

  masks = {'frame_mask': 0.4, 'band_mask': 0.0}
  assert not hidden(False, **masks).any()
  assert not hidden(True, frame_mask=0.0, band_mask=0.0).any()
  assert abs(hidden(True, **masks).mean() - 0.4 / 2) < 0.03
