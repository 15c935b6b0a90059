"""One cascade's pieces on one device and on eight, as arrays: argument OUT."""

import sys
import tempfile
from pathlib import Path

import conftest
import jax
import numpy as np
from flax import traverse_util

from musiclm_jax.cascade.conditioning import Conditioning
from musiclm_jax.cascade.generator import Generator
from musiclm_jax.cascade.networks import over_devices
from musiclm_jax.cascade.sampling import SamplingConfig
from musiclm_jax.contracts import sharding
from musiclm_jax.contracts.kept_parts import KeptParts, unkept
from musiclm_jax.token_lm.decoding_weights import prepare

PIECES = 16
MULAN = np.random.default_rng(0).integers(16, size=(PIECES, 12))
SAMPLING = SamplingConfig(mulan_levels=12).changed(
  {'guidance': 2.0, 'top_p_coarse': 0.9}
)


def made(networks, pieces, keep=unkept):
  """Waveform and tokens of some of the pieces."""
  waveform, tokens = Generator(networks).generate(
    Conditioning(MULAN[pieces]),
    seconds=0.5,
    seed=[(0, int(row)) for row in pieces],
    sampling=SAMPLING,
    keep=keep,
  )
  return {'waveform': waveform, **tokens}


def forced(networks, mesh):
  """Teacher-forced logits of the coarse stage."""
  lm, params = networks['coarse'].model, networks['coarse'].weights.params
  rng = np.random.default_rng(1)
  frames = lm.layout.predicted.num_frames
  batch = {
    'mulan': MULAN,
    'semantic': rng.integers(16, size=(PIECES, frames // 2)),
    'acoustic': rng.integers(16, size=(PIECES, frames, 4)),
  }
  params = {'lm': prepare(lm, params, mesh)}
  if mesh is not None:
    batch = jax.device_put(batch, sharding.batch_sharding(mesh))
  logits = jax.jit(lm.logits)(params, {}, batch)
  return np.asarray(logits), params


def cascade(mesh=None):
  """The cascade of the tests, on a mesh."""
  stages = {stage: conftest.language_model(stage) for stage in conftest.CROPS}
  stages['soundstream'] = conftest.codec()
  for network in stages.values():
    object.__setattr__(network, 'mesh', mesh)
  return stages


def main(out: str) -> None:
  everything = np.arange(PIECES)
  order = np.random.default_rng(2).permutation(PIECES)
  one, found = cascade(), {}
  for first in (0, 6, 14):
    pieces = everything[first : first + 2]
    found[f'one {first}'] = made(one, pieces)
  eight = cascade(over_devices())
  found['eight'] = made(eight, everything)
  found['mixed'] = made(eight, order)
  found['nine'] = made(eight, everything[:9])
  with (
    tempfile.TemporaryDirectory() as folder,
    KeptParts(Path(folder) / 'kept', 'a') as keep,
  ):
    made(one, everything[:2], keep)
    found['resumed'] = made(eight, everything[:9], keep)
  found['tensor'] = made(cascade(over_devices(2)), everything)
  arrays = traverse_util.flatten_dict(found, sep='/')
  arrays['order'] = order
  arrays['logits of one'], _ = forced(one, None)
  mesh = over_devices(2)
  arrays['logits of tensor'], params = forced(cascade(mesh), mesh)
  kernel = params['lm']['transformer']['layers_0']['mlp']['wide']['kernel']
  arrays['kernel'] = np.array(kernel.shape)
  arrays['part'] = np.array(kernel.addressable_shards[0].data.shape)
  np.savez(out, **arrays)


if __name__ == '__main__':
  main(sys.argv[1])
