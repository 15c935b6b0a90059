"""Our numbers: expressions over the paper configs and what they build.

The networks are only traced (`jax.eval_shape`), so that hundreds of millions
of parameters cost no memory.
"""

import functools
import math
import runpy
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from musiclm_jax import stages
from musiclm_jax.cascade import inputs, windows
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts.task import Task
from musiclm_jax.data import noise
from musiclm_jax.dsp import framing, panns_mel, vggish_mel
from musiclm_jax.evaluation import (
  continuations,
  copies,
  embedders,
  musiccaps,
  published,
  tagger,
)
from musiclm_jax.evaluation import panns as panns_network
from musiclm_jax.interop import panns, vggish
from musiclm_jax.metrics import kld, memorization
from musiclm_jax.mulan import model as mulan_model
from musiclm_jax.soundstream import discriminators, losses
from musiclm_jax.token_lm.layout import make_layout
from musiclm_jax.w2v_bert import frontend

ROOT = Path(__file__).parents[2]


@functools.cache
def config(stage: str, size: str = 'paper') -> ConfigDict:
  """Reads a config."""
  path = ROOT / 'configs' / f'{stage}.py'
  return runpy.run_path(str(path))['get_config'](size)


@functools.cache
def task(stage: str, size: str = 'paper') -> Task:
  """Builds what a config describes."""
  return stages.build(config(stage, size))


@functools.cache
def shapes(stage: str, size: str = 'paper') -> dict[str, tuple[int, ...]]:
  """Traces a stage's `init`: path of a parameter -> its shape."""
  data = config(stage, size).data
  frames = round(25 * data.crop_seconds)
  takes = (2,) if stage == 'melody' else ()

  def ids(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2, *shape), jnp.int32)

  batch = {
    'waveform': jax.ShapeDtypeStruct((2, *takes, 960 * frames), jnp.float32),
    'text_ids': ids(1, data.get('text_length', 2)),
    'group': ids(),
    'mulan': ids(12),
    'semantic': ids(frames),
    'acoustic': ids(2 * frames, 12),
  }
  found, _ = jax.eval_shape(task(stage, size).init, jax.random.key(0), batch)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
    for path, leaf in jax.tree_util.tree_leaves_with_path(nn.unbox(found))
  }


def parameters(stage: str, under: str = '', size: str = 'paper') -> int:
  """Counts the parameters whose path begins with `under`."""
  return sum(
    math.prod(shape)
    for path, shape in shapes(stage, size).items()
    if path.startswith(under)
  )


def kernel(stage: str, layer: str, size: str = 'paper') -> tuple[int, ...]:
  """Finds the shape of a layer's kernel."""
  return shapes(stage, size)[f'{layer}/kernel']


def of_all_stages(key: str) -> Any:
  """Finds a key that the language models share; all values if they do not."""
  values = []
  for stage in ('semantic', 'coarse', 'fine'):
    found = config(stage)
    for part in key.split('.'):
      found = found[part]
    values.append(found)
  return values[0] if len(set(values)) == 1 else tuple(values)


def tokens_with_melody(stage: str, seconds: float) -> int:
  """Counts the tokens of a crop with a melody."""
  settings = config(stage).layout.to_dict() | {'melody': True}
  return make_layout(stage, crop_seconds=seconds, **settings).num_tokens


def millions(count: int, digits: int = 0) -> float:
  """Rounds to millions, with so many digits after the point."""
  rounded = round(count / 1e6, digits)
  return rounded if digits else int(rounded)


def windows_in(seconds: float, windowing: str) -> int:
  """Counts the windows of a clip at VGGish's rate."""
  rate = vggish_mel.SAMPLE_RATE
  silence = np.zeros(round(seconds * rate), np.float32)
  return len(embedders.WINDOWINGS[windowing].cut(silence, rate))


NAMES = {
  **{stage: config(stage) for stage in stages.STAGES},
  'mulan_ast': config('mulan', 'paper_ast'),
  'SamplingConfig': SamplingConfig,
  'continuations': continuations,
  'copies': copies,
  'embedders': embedders,
  'framing': framing,
  'kld': kld,
  'memorization': memorization,
  'discriminators': discriminators,
  'frontend': frontend,
  'kernel': kernel,
  'inputs': inputs,
  'losses': losses,
  'math': math,
  'millions': millions,
  'mulan_model': mulan_model,
  'musiccaps': musiccaps,
  'noise': noise,
  'panns': panns,
  'panns_mel': panns_mel,
  'panns_network': panns_network,
  'of_all_stages': of_all_stages,
  'parameters': parameters,
  'published': published,
  'shapes': shapes,
  'tagger': tagger,
  'task': task,
  'tokens_with_melody': tokens_with_melody,
  'vggish': vggish,
  'vggish_mel': vggish_mel,
  'windows': windows,
  'windows_in': windows_in,
}


@functools.cache
def value(expression: str) -> Any:
  """Evaluates an expression of a row; sequences come as tuples."""
  found = eval(expression, dict(NAMES))
  return tuple(found) if isinstance(found, list | tuple) else found
