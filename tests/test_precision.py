"""Codes are equal on every machine: no bfloat16 where a TPU makes them.

Compiled ahead of time for a TPU. There an operand of a float32 product is
rounded to bfloat16 unless its precision is HIGHEST; the compiled program says
so of every product.
"""

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from musiclm_jax.dsp import resample, spectrogram
from musiclm_jax.embedding_rvq.task import EmbeddingRvqTask
from musiclm_jax.melody import intervals
from musiclm_jax.melody import losses as melody_losses
from musiclm_jax.mulan import losses as mulan_losses
from musiclm_jax.nn import kmeans, quantizer
from musiclm_jax.rehearsal import topology
from musiclm_jax.soundstream import losses as codec_losses
from musiclm_jax.soundstream.seanet import SoundStream
from musiclm_jax.w2v_bert import frontend, statistics
from musiclm_jax.w2v_bert.quantizer import GumbelQuantizer

WAVE = (2, 960)
BANDS = {
  'sample_rate': 24_000,
  'window_length': 400,
  'hop_length': 160,
  'fft_size': 512,
  'low_hz': 200.0,
  'high_hz': 7600.0,
}
RVQ = EmbeddingRvqTask('rvq', ('audio',), 2, 8, 9, 1)


@pytest.fixture(scope='module')
def compile_for_tpu(absent_tpu):
  """From a function and shapes of float32 to the optimised HLO of one chip."""
  chip = topology.open_topology('v5e:2x2').devices[0]
  place = jax.sharding.SingleDeviceSharding(chip)

  def compile(function, *arguments):
    described = jax.tree.map(
      lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
      arguments,
    )
    return jax.jit(function).lower(*described).compile().as_text()

  return compile


def log_mel(waveform):
  return spectrogram.log_mel(waveform, num_mels=16, **BANDS)


def pitches(waveform):
  return intervals.salience(waveform, num_bands=16, **BANDS)


def books():
  return quantizer.init_codebooks(None, 2, 16, 8)


CODEC = SoundStream(channels=2, latent_dim=8, strides=(2,), dilations=(1,))
GUMBEL = GumbelQuantizer(16, 8)


def weights(model, *arguments):
  return nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *arguments))


def codec(params, waveform):
  """The encoder's convolutions before the quantizer."""
  latents = CODEC.apply(params, waveform, method='encode')
  return quantizer.codes_of(books(), latents)


def rvq(embeddings):
  own = {
    'audio_sum': jnp.zeros(8),
    'count': jnp.zeros(()),
    'codebooks': books(),
  }
  return RVQ.quantize({'rvq': own}, embeddings, 'audio')


def moved(points, centroids, counts):
  # Not k-means++, whose random draws keep an unused maximum in bfloat16.
  update = kmeans.minibatch_update
  kwargs = {'decay': 0.9, 'dead_share': 0.1}
  return (
    kmeans.lloyd(points, centroids, 2),
    update(jax.random.key(0), points, centroids, counts, **kwargs),
  )


def updated(latents):
  codes = quantizer.quantize(books(), latents).codes
  return quantizer.update(books(), latents, codes, jax.random.key(0))


CODES = {
  'k-means tokens': (kmeans.assign, (64, 8), (16, 8)),
  'k-means': (moved, (64, 8), (16, 8), (16,)),
  'RVQ': (updated, (2, 32, 8)),
  'tokens of embeddings': (rvq, (16, 8)),
  'codec': (codec, weights(CODEC, jnp.zeros((1, 64))), (2, 64)),
  'Gumbel codes': (
    GUMBEL.apply, weights(GUMBEL, jnp.zeros((1, 8, 16))), (2, 8, 16)
  ),
  'log-mel': (log_mel, WAVE),
  'mel loss': (codec_losses.reconstruction_loss, (2, 128), (2, 128)),
  'pitches': (pitches, WAVE),
  'intervals': (lambda x: intervals.compare(x, 2, 4), (2, 9, 16)),
  'resampling': (resample.resample_24k_to_16k, WAVE),
  'cepstra': (frontend.cepstra, (2, 8, 16)),
  'statistics': (
    lambda x: statistics.add_frames(statistics.init_statistics(8), x), (9, 8)
  ),
  'cosines': (mulan_losses.similarities, (8, 16), (8, 16)),
  'distances': (melody_losses.squared_distances, (8, 16), (8, 16)),
}  # fmt: skip


def imprecise(text):
  """Lines of a program that round to bfloat16 before they multiply."""
  lines = [line for line in text.splitlines() if ' = ' in line]
  products = [x for x in lines if ' convolution(' in x or ' dot(' in x]
  return [x for x in lines if 'bf16[' in x] + [
    x for x in products if 'operand_precision={highest,highest}' not in x
  ]


@pytest.mark.parametrize('name', CODES)
def test_nothing_that_makes_codes_is_bfloat16_on_a_tpu(name, compile_for_tpu):
  function, *arguments = CODES[name]
  arguments = [jnp.zeros(x) if isinstance(x, tuple) else x for x in arguments]
  text = compile_for_tpu(function, *arguments)
  assert not imprecise(text)
  assert name == 'statistics' or 'operand_precision={highest' in text


def test_a_product_of_default_precision_is_found(compile_for_tpu):
  points, centroids = jnp.zeros((64, 8)), jnp.zeros((16, 8))
  assert imprecise(compile_for_tpu(lambda x, c: x @ c.T, points, centroids))
