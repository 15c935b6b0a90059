"""What every sequence layer promises: one table of layers, four contracts.

*Causal*: no output depends on a later input. *Receptive field*: it depends on
the inputs that the layer says, the first and the last of them included.
*Step equals whole*: chunks with the past between them give the whole's result.
*Padding*: what a mask hides changes nothing, NaN included.
"""

import dataclasses
import fractions
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from transformer_settings import BERT, LM

from musiclm_jax.nn.conformer import Conformer
from musiclm_jax.nn.conv import CausalConv, CausalTransposedConv
from musiclm_jax.nn.transformer import Transformer
from musiclm_jax.soundstream.seanet import Decoder, Encoder


@dataclasses.dataclass(frozen=True)
class Layer:
  """A sequence layer and what it promises.

  Attributes:
    module: Called on `shape`; returns (output, what it keeps) or the output.
    shape: Of an input, [B, T] or [B, T, D].
    first: Output frame -> the first input frame that it depends on.
    rate: Input frames that one output frame takes.
    spacing: From one input frame that it depends on to the next.
    causal: Whether the last input frame it depends on is its own.
    ahead: If not, how many after its own it depends on; None: all.
    chunks: Lengths in which the input may come; () where it comes whole.
    begin: Module and batch -> what a step takes at the beginning.
    keeps: Name of the argument that takes what a step keeps.
    masked: Whether it takes `mask`.
  """

  module: nn.Module
  shape: tuple[int, ...]
  first: Callable[[int], int] = lambda frame: 0
  rate: fractions.Fraction = fractions.Fraction(1)
  spacing: int = 1
  causal: bool = True
  ahead: int | None = None
  chunks: tuple[int, ...] = ()
  begin: Callable = lambda module, batch: None
  keeps: str = 'past'
  masked: bool = False

  @functools.cached_property
  def variables(self) -> dict:
    return nn.unbox(jax.jit(self.module.init)(jax.random.key(1), self.signal))

  @property
  def signal(self) -> jax.Array:
    return jax.random.normal(jax.random.key(0), self.shape)

  def __call__(self, x, **options):
    y = jax.jit(self.module.apply)(self.variables, x, **options)
    return y if isinstance(y, tuple) else (y, None)

  def inputs_of(self, frame: int) -> range:
    """The input frames that output `frame` depends on."""
    last = math.ceil((frame + 1) * self.rate) - 1
    total = self.shape[1]
    if not self.causal:
      ahead = total if self.ahead is None else self.ahead
      last = min(last + ahead, total - 1)
    first = self.first(frame)
    while first < 0:
      first += self.spacing
    return range(first, last + 1, self.spacing)


def _empty_cache(module, batch):
  return module.empty_cache(batch, 12)


# What a codec of these numbers has before each stride or after it: a unit of
# dilation 1 and one of 3, each a convolution of 7 and one of 1.
_CODEC = {'strides': (2, 4), 'dilations': (1, 3)}
_UNITS = 6 * (1 + 3)


def _first_of_encoder(frame):
  """Goes back from a frame of latents to a sample: a frame is 8 of them."""
  frame -= 2
  for stride in (4, 2):
    frame = (frame + 1) * stride - 1  # the last one under the convolution
    frame -= 2 * stride - 1 + _UNITS
  return frame - 6


def _first_of_decoder(sample):
  """Goes back from a sample to a frame of latents."""
  sample -= 6
  for stride in (2, 4):
    sample = (sample - _UNITS) // stride - 1
  return sample - 6


LAYERS = {
  'conv': Layer(
    CausalConv(3, 7, dilation=3),
    (1, 24, 2),
    lambda frame: frame - 18,
    spacing=3,
    chunks=(1, 23),
  ),
  'strided conv': Layer(
    CausalConv(3, 8, stride=4),
    (1, 24, 2),
    lambda frame: 4 * frame - 4,
    rate=fractions.Fraction(4),
    chunks=(4, 8, 12),
  ),
  'transposed conv': Layer(
    CausalTransposedConv(3, 4),
    (1, 6, 2),
    lambda sample: sample // 4 - 1,
    rate=fractions.Fraction(1, 4),
    chunks=(1, 3, 2),
  ),
  'codec encoder': Layer(
    Encoder(4, 6, **_CODEC),
    (1, 160),
    _first_of_encoder,
    rate=fractions.Fraction(8),
    chunks=(8, 16, 80, 56),
    keeps='pasts',
  ),
  'codec decoder': Layer(
    Decoder(4, **_CODEC),
    (1, 20, 6),
    _first_of_decoder,
    rate=fractions.Fraction(1, 8),
    chunks=(1, 2, 10, 7),
    keeps='pasts',
  ),
  'language model': Layer(
    Transformer(**LM),
    (2, 12, 16),
    chunks=(5, 1, 1, 5),
    begin=_empty_cache,
    keeps='cache',
    masked=True,
  ),
  'tower': Layer(Transformer(**BERT), (2, 12, 16), causal=False, masked=True),
  'conformer': Layer(
    Conformer(num_layers=2, num_heads=2, mlp_dim=24, kernel_size=3),
    (2, 12, 16),
    causal=False,
  ),
  'limited conformer': Layer(
    Conformer(
      num_layers=2, num_heads=2, mlp_dim=24, kernel_size=3, attention_frames=2
    ),
    (2, 19, 16),
    lambda frame: frame - 2 * (2 + 1),
    causal=False,
    ahead=2 * (2 + 1),
  ),
}


def _that(**wanted):
  return pytest.mark.parametrize(
    'name',
    [
      name
      for name, layer in LAYERS.items()
      if all(bool(getattr(layer, k)) == v for k, v in wanted.items())
    ],
  )


@_that()
def test_an_output_depends_on_the_inputs_that_its_layer_declares(name):
  """Causal layers have none ahead; mistake 1: a stride that pads wrongly."""
  layer = LAYERS[name]
  x = layer.signal
  frames = layer(x)[0].shape[1]
  assert frames * layer.rate == x.shape[1]

  @jax.jit
  @jax.grad
  def gradient(x, frame):
    y = layer.module.apply(layer.variables, x)
    y = y[0] if isinstance(y, tuple) else y
    weights = 1.0 + jnp.arange(y[0, 0].size).reshape(y[0, 0].shape)
    return (weights * y[0, frame]).sum()

  for frame in (0, frames // 2, frames - 1):
    moved = np.abs(gradient(x, frame)[0])
    seen = np.flatnonzero(moved.reshape(len(moved), -1).max(axis=1))
    np.testing.assert_array_equal(seen, layer.inputs_of(frame))


@_that(chunks=True)
def test_steps_equal_the_whole(name):
  layer = LAYERS[name]
  x = layer.signal
  whole, _ = layer(x)
  past, parts, start = layer.begin(layer.module, len(x)), [], 0
  for count in layer.chunks:
    part = x[:, start : start + count]
    y, past = layer(part, **{layer.keeps: past})
    parts.append(y)
    start += count
  assert start == x.shape[1]
  np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, atol=1e-5)


@_that(masked=True)
def test_padding_changes_nothing_even_as_nan(name):
  layer = LAYERS[name]
  short, _ = layer(layer.signal[:, :7])
  padded = layer.signal.at[:, 7:].set(jnp.nan)
  mask = jnp.broadcast_to(jnp.arange(12) < 7, (2, 12))

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def gradient(variables):
    y = layer.module.apply(variables, padded, mask=mask)
    y = y[0] if isinstance(y, tuple) else y
    return (y[:, :7] ** 2).sum(), y

  gradient, y = gradient(layer.variables)
  np.testing.assert_allclose(y[:, :7], short, atol=1e-5)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
