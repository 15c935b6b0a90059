"""Training is quick and codes are equal on every machine.

Codes are compiled ahead of time for a TPU. There an operand of a float32
product is rounded to bfloat16 unless its precision is HIGHEST; the compiled
program says so of every product. Training must not ask for it: its steps are
read as they are traced.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
import ten_networks
from flax import linen as nn
from ml_collections import ConfigDict

from musiclm_jax import stages
from musiclm_jax.dsp import resample, spectrogram
from musiclm_jax.embedding_rvq.quantizer import EmbeddingQuantizer
from musiclm_jax.melody import model as melody_model
from musiclm_jax.nn import embedding, kmeans, quantizer
from musiclm_jax.nn.conv import Conv
from musiclm_jax.rehearsal import topology
from musiclm_jax.rehearsal.rehearsal import plan
from musiclm_jax.soundstream import losses as codec_losses
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.soundstream.seanet import SoundStream
from musiclm_jax.training.flops import passes
from musiclm_jax.w2v_bert import frontend
from musiclm_jax.w2v_bert.quantizer import GumbelQuantizer

# Not by its name, which a checkout may have too, with an environment inside.
PACKAGE = f'{Path(stages.__file__).parent}{os.sep}'
WAVE = (2, 960)
BANDS = {
  'sample_rate': 24_000,
  'window_length': 400,
  'hop_length': 160,
  'fft_size': 512,
  'low_hz': 200.0,
  'high_hz': 7600.0,
}
RVQ = EmbeddingQuantizer('rvq', 2, 8)


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
  return melody_model.salience(waveform, num_bands=16, **BANDS)


def books():
  return quantizer.init_codebooks(2, 16, 8)


CODEC = SoundStream(channels=2, latent_dim=8, strides=(2,), dilations=(1,))
GUMBEL = GumbelQuantizer(16, 8)


def weights(model, *arguments):
  return nn.unbox(jax.eval_shape(model.init, jax.random.key(0), *arguments))


def codec(params, waveform):
  """The encoder's convolutions before the quantizer, and the decoder's."""
  params, collections = {'codec': params['params']}, {'codec': books()}
  codes = Codec(CODEC).encode(params, collections, waveform)
  return codes, Codec(CODEC).decode(params, collections, codes)


def frozen(stage, method, *inputs):
  """What a network makes when it is frozen: its function and arguments."""
  config = ten_networks.small_config(stage, 10).to_dict()
  task, frozen = stages.build(config), stages.build_inference(config)
  batch = ten_networks.abstract_batch(ConfigDict(config))
  variables = nn.unbox(jax.eval_shape(task.init, jax.random.key(0), batch))
  return getattr(frozen, method), *variables, *inputs


def rvq(rows):
  own = {
    'audio_sum': jnp.zeros(8),
    'count': jnp.zeros(()),
    'codebooks': books(),
  }
  return RVQ.quantize({'rvq': own}, rows, 'audio')


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
  'Conformer': frozen('w2v_bert', 'features', (2, 9600)),
  'ResNet': frozen('mulan', 'embed_audio', (2, 12_000)),
  'text': frozen('mulan', 'embed_text', jnp.ones((2, 8), jnp.int32)),
  'melody': frozen('melody', 'embed_audio', (2, 9600)),
  'Gumbel codes': (
    GUMBEL.apply, weights(GUMBEL, jnp.zeros((1, 8, 16))), (2, 8, 16)
  ),
  'log-mel': (log_mel, WAVE),
  'mel loss': (codec_losses.reconstruction_loss, (2, 128), (2, 128)),
  'log-STFT loss': (codec_losses.log_stft_loss, (2, 512), (2, 512)),
  'pitches': (pitches, WAVE),
  'intervals': (lambda x: melody_model.compare(x, 2, 4), (2, 9, 16)),
  'resampling': (resample.resample_24k_to_16k, WAVE),
  'cepstra': (frontend.cepstra, (2, 8, 16)),
  'statistics': (
    lambda x: frontend.add_frames(frontend.init_statistics(8), x), (9, 8)
  ),
  'cosines': (embedding.cosines, (8, 16), (8, 16)),
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


# Where a product of a training step may be exact: it makes codes, statistics
# or spectra, or is the product of a loss.
EXACT = (
  'dsp/resample.py',
  'dsp/spectrogram.py',
  'melody/model.py',
  'nn/embedding.py',
  'nn/kmeans.py',
  'w2v_bert/frontend.py',
  'w2v_bert/quantizer.py',
)


def products(jaxpr):
  """All products, those of inner programs too."""
  for equation in jaxpr.eqns:
    if equation.primitive.name in ('dot_general', 'conv_general_dilated'):
      yield equation
    for inner in jax.extend.core.jaxprs_in_params(equation.params):
      yield from products(inner)


def needlessly_exact(jaxpr):
  """Files of ours in which exact products stand that need not be."""
  found = set()
  for equation in products(jaxpr):
    files = [
      frame.file_name.removeprefix(PACKAGE)
      for frame in equation.source_info.traceback.frames
      if frame.file_name.startswith(PACKAGE)
    ]
    if passes(equation) > 1 and not set(files) & set(EXACT):
      found.add(files[0])
  return found


@pytest.mark.parametrize('stage', stages.STAGES)
def test_no_product_of_a_training_step_is_needlessly_exact(stage):
  # The sizes are small, the types and with them the policy are the paper's.
  config = ten_networks.small_config(stage, 10).to_dict()
  training = plan(in_bfloat16(config), jax.devices()[:1])
  jaxpr = (
    training.step(training.task).trace(training.state, training.batch).jaxpr
  )
  assert list(products(jaxpr.jaxpr))
  assert not needlessly_exact(jaxpr.jaxpr)


def in_bfloat16(section):
  return {
    key: in_bfloat16(value)
    if isinstance(value, dict)
    else ('bfloat16' if key == 'dtype' else value)
    for key, value in section.items()
  }


def test_a_needlessly_exact_product_is_found():
  layer = Conv(4, (3,))
  x = jnp.ones((1, 8, 2))
  variables = layer.init(jax.random.key(0), x)
  with jax.default_matmul_precision('highest'):
    jaxpr = jax.make_jaxpr(layer.apply)(variables, x)
  assert needlessly_exact(jaxpr.jaxpr) == {
    'nn/convolution.py',
    'nn/cpu/convolution.py',
  }


@pytest.mark.parametrize('stage', stages.STAGES)
def test_only_what_makes_codes_forgets_the_type_that_it_was_trained_in(stage):
  config = ten_networks.paper_config(stage).to_dict()
  inference = stages.build_inference(config)
  reads_codes = stage in (*stages.LANGUAGE_MODELS, 'parallel')
  assert ('bfloat16' in repr(inference)) == reads_codes
  assert ('bfloat16' in repr(stages.build(config))) == (
    stage not in ten_networks.FITS
  )
