"""One step of ours, of a training or a whole sequence: `ours.py VARIANT`."""

import math
import runpy
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict
from worker import serve

from musiclm_jax import stages
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.tensor_file import DType
from musiclm_jax.nn.conv import CausalConv, CausalTransposedConv
from musiclm_jax.token_lm.decode import SamplingParams
from musiclm_jax.token_lm.sampler import Sampler
from musiclm_jax.training.assembly import assemble

_CONFIGS = Path(__file__).parents[2] / 'configs'
# The transformers of the peers: depth, width, heads, width of the MLP.
_EQUAL = {'num_layers': 6, 'embed_dim': 512, 'num_heads': 8, 'mlp_dim': 2048}
_LM = {
  **_EQUAL,
  'head_dim': 64,
  'gated': False,
  'dropout_rate': 0.0,
  'relative_max_distance': 1024,
  'dtype': 'float32',
  'remat': 'none',
  'scan_unroll': 6,
}
_TOKENS = 750  # of a sequence, 30 s of semantic tokens
_TOWER = {**_EQUAL, 'dropout_rate': 0.0, 'dtype': 'float32', 'remat': 'none'}


def read_config(stage: str, size: str) -> ConfigDict:
  """The config of a stage, open to new keys."""
  path = str(_CONFIGS / f'{stage}.py')
  return runpy.run_path(path)['get_config'](size).unlock()


def language_model(**model: Any) -> ConfigDict:
  """The semantic LM with the peers' sizes: 1,024 positions, all predicted.

  Of MuLan's tokens there is one, of one code, in the place of a start token.
  """
  config = read_config('semantic', 'paper')
  config.model.update({**_LM, **model})
  config.layout.update(mulan_levels=1, mulan_codebook_size=1)
  config.data.update(crop_seconds=1024 / 25, batch_size=4)
  return config


def codec() -> ConfigDict:
  """SoundStream as in the paper, with its discriminators, no averages."""
  config = read_config('soundstream', 'paper')
  config.data.update(crop_seconds=1.0, batch_size=4)
  config.training.ema_decay = 0.0
  config.model.dtype = config.discriminators.dtype = 'float32'
  return config


def mulan(dtype: str = 'float32') -> ConfigDict:
  """MuLan with the peer's towers: 8 x 62 patches, 64 of 49,408 word pieces."""
  config = read_config('mulan', 'paper_ast')
  tower = {**_TOWER, 'dtype': dtype}
  config.model.audio = {**tower, 'patch_size': 16, 'patch_stride': 16}
  config.model.text.update(**tower, vocab_size=49_408, max_length=256)
  config.data.update(batch_size=8, text_length=64)
  return config


def fitted(stage: str) -> ConfigDict:
  """A fit of codebooks in the phase that most of its steps are."""
  config = read_config(stage, 'tiny')
  config.loss.statistics_steps = 1
  return config


def semantic_network() -> ConfigDict:
  """w2v-BERT with both of its losses from the first step on."""
  config = read_config('w2v_bert', 'tiny')
  config.loss.contrastive_only = 0.0
  return config


# Variant -> its config. The first ones have peers, the others are `tiny`.
VARIANTS: Mapping[str, Callable[[], ConfigDict]] = {
  'lm_f32': language_model,
  'lm_gated_f32': lambda: language_model(gated=True, mlp_dim=1365),
  'lm_bf16': lambda: language_model(dtype='bfloat16'),
  'codec_f32': codec,
  'mulan_f32': mulan,
  'mulan_bf16': lambda: mulan('bfloat16'),
  'w2v_bert': semantic_network,
  'kmeans': lambda: fitted('kmeans'),
  'mulan_rvq': lambda: fitted('mulan_rvq'),
  'melody': lambda: read_config('melody', 'tiny'),
  'melody_rvq': lambda: fitted('melody_rvq'),
  'semantic': lambda: read_config('semantic', 'tiny'),
  'coarse': lambda: read_config('coarse', 'tiny'),
  'fine': lambda: read_config('fine', 'tiny'),
}


def make_batch(config: ConfigDict) -> dict[str, np.ndarray]:
  """Random inputs of a stage; speed does not depend on them."""
  rng = np.random.default_rng(0)
  data, size, stage = config.data, config.data.batch_size, config.stage
  seconds = data.crop_seconds

  def noise(*shape: int) -> np.ndarray:
    return 0.1 * rng.standard_normal((size, *shape), dtype=np.float32)

  def ids(largest: int, *shape: int) -> np.ndarray:
    return rng.integers(0, largest, (size, *shape), dtype=np.int32)

  if stage == 'kmeans':
    width = read_config('w2v_bert', 'tiny').model.embed_dim
    return {'features': noise(round(25 * seconds), width)}
  if stage == 'mulan_rvq':
    return {'audio': noise(128), 'text': noise(128)}
  if stage == 'melody_rvq':
    return {'audio': noise(192)}
  if 'layout' in config:
    layout = config.layout
    frames = round(layout.semantic_frame_rate * seconds)
    acoustic = round(layout.acoustic_frame_rate * seconds)
    return {
      'mulan': ids(layout.mulan_codebook_size, layout.mulan_levels),
      'semantic': ids(layout.semantic_codebook_size, frames),
      'acoustic': ids(
        layout.acoustic_codebook_size, acoustic, layout.acoustic_levels
      ),
    }
  takes = (2,) if stage == 'melody' else ()
  batch = {'waveform': noise(*takes, round(24_000 * seconds))}
  if stage in ('melody', 'mulan'):
    batch['group'] = np.arange(size, dtype=np.int32)
  if stage == 'mulan':
    shape = data.captions_per_crop, data.text_length
    batch['text_ids'] = 1 + ids(data.vocabulary_size - 1, *shape)
  return batch


def make_decoding(
  config: ConfigDict, rows: int, weights: DType
) -> Callable[[], None]:
  """A call draws 750 tokens, top-k 100; the first one compiles."""
  task = stages.build(config)
  batch = make_batch(config)
  params = jax.jit(lambda key: task.init(key, batch)[0])(jax.random.key(0))
  sampler = Sampler(task.lm, nn.unbox(params), weights=weights)
  keys = jax.random.split(jax.random.key(1), rows)
  mulan = np.zeros((rows, 1), np.int32)

  def step() -> None:
    window = sampler.begin({'mulan': mulan}, keys=keys)
    window = sampler.advance(window, _TOKENS, SamplingParams(top_k=100))
    assert sampler.codes(window).shape == (rows, _TOKENS, 1)

  return step


def make_training_step(config: ConfigDict) -> Callable[[], float]:
  """Compiles the step as the loop does; a call makes one and waits for it."""
  task = stages.build(config)
  mesh = sharding.make_mesh()
  batch = sharding.put_batch(make_batch(config), mesh)
  training = assemble(
    task,
    batch,
    mesh,
    optimizers=config.optimizer.to_dict(),
    total_steps=config.schedule.total_steps,
    **config.training,
  )
  state, compiled = training.create_state(), training.step(task)

  def step() -> float:
    nonlocal state
    state, metrics = jax.block_until_ready(compiled(state, batch))
    return float(metrics['loss'])

  return step


def work_of(config: ConfigDict) -> tuple[float, str]:
  """What a step works on: how many of what unit."""
  data = config.data
  if config.stage in ('mulan_rvq', 'melody_rvq'):
    return data.batch_size, 'embeddings'
  if config.stage in ('mulan', 'melody'):
    return data.batch_size, 'pairs'
  if config.stage == 'kmeans':
    return data.batch_size * 25 * data.crop_seconds, 'frames'
  if 'layout' in config:
    positions = stages.build(config).lm.layout.num_tokens - 1
    return data.batch_size * positions, 'tokens'
  return data.batch_size * data.crop_seconds, 'audio s'


def codec_flops(config: ConfigDict) -> float:
  """FLOPs of the codec's forward pass, a second of audio.

  2 a multiply-add of its convolutions and of the nearest entries' products,
  from shapes: what PyTorch's counter finds in the peer's.
  """
  network = stages.build_inference(config.to_dict()).model
  macs = 0

  def count(following, args, kwargs, context):
    nonlocal macs
    out = following(*args, **kwargs)
    module = context.module
    if isinstance(module, CausalConv | CausalTransposedConv):
      frames = args[0].shape[1] // getattr(module, 'stride', 1)
      if isinstance(module, CausalTransposedConv):
        frames = args[0].shape[1]
      macs += frames * math.prod(module.variables['params']['kernel'].shape)
    return out

  waveform = jax.ShapeDtypeStruct((1, 24_000), np.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), waveform)
  variables = nn.unbox(variables)
  with nn.intercept_methods(count):
    jax.eval_shape(network.apply, variables, waveform)
  entries = network.num_quantizers * network.codebook_size
  macs += 24_000 // network.hop_length * entries * network.latent_dim
  return 2 * macs


def serve_decoding(variant: str) -> None:
  """Serves `decode_WEIGHTS_bROWS`: the language model in float32."""
  _, weights, rows = variant.split('_')
  config = language_model()
  config.data.crop_seconds = _TOKENS / 25
  step = make_decoding(config, int(rows[1:]), weights)
  begun = time.monotonic()
  step()
  first = time.monotonic() - begun
  about = {
    'work': int(rows[1:]) * _TOKENS,
    'unit': 'tokens',
    'first_s': round(first, 1),
    'dtype': f'float32, kernels {weights}',
    'versions': {'jax': jax.__version__},
  }
  serve(about, step, warm_ups=1)


def main() -> None:
  """Serves the step of one variant."""
  if sys.argv[1].startswith('decode_'):
    serve_decoding(sys.argv[1])
    return
  config = VARIANTS[sys.argv[1]]()
  work, unit = work_of(config)
  about = {
    'work': work,
    'unit': unit,
    'shape': {'batch': config.data.batch_size, **config.model.to_dict()},
    'dtype': config.model.get('dtype', 'float32'),
    'versions': {'jax': jax.__version__},
  }
  if config.stage == 'soundstream':
    about['codec_flops'] = codec_flops(config)
  # The first step of a codec or a fit is another one, with k-means.
  serve(about, make_training_step(config), warm_ups=3)


if __name__ == '__main__':
  main()
