"""Encodes and decodes with our codec at paper size, random weights."""

import math

import jax
import numpy as np
from flax import linen as nn
from worker import noise, serve

from musiclm_jax.nn.conv import CausalConv, CausalTransposedConv
from musiclm_jax.soundstream.codec import Codec
from musiclm_jax.soundstream.seanet import SoundStream


def convolution_macs(codec: SoundStream, params, x, method: str) -> int:
  """Multiply-adds of all convolutions of a call, from their shapes."""
  total = 0

  def count(following, args, kwargs, context):
    nonlocal total
    out = following(*args, **kwargs)
    module = context.module
    if isinstance(module, CausalConv | CausalTransposedConv):
      frames = args[0].shape[1]
      if isinstance(module, CausalConv):
        frames //= module.stride
      total += frames * math.prod(module.variables['params']['kernel'].shape)
    return out

  with nn.intercept_methods(count):
    jax.eval_shape(
      lambda p, x: codec.apply({'params': p}, x, method=method), params, x
    )
  return total


def main() -> None:
  """Serves `encode` and `decode`."""
  network = SoundStream()
  codec = Codec(network)
  waveform = jax.numpy.asarray(noise()[None])
  params = jax.jit(network.init)(jax.random.key(0), waveform[:, :4800])
  params = nn.unbox(params['params'])
  shape = network.num_quantizers, network.codebook_size, network.latent_dim
  books = jax.random.normal(jax.random.key(1), shape)
  books = {'embed': books, 'initialized': jax.numpy.ones((), bool)}
  weights = {'codec': params}, {'codec': books}
  encode = jax.jit(codec.encode).lower(*weights, waveform).compile()
  codes = encode(*weights, waveform)
  decode = jax.jit(codec.decode).lower(*weights, codes).compile()
  latents = jax.ShapeDtypeStruct((*codes.shape[:2], shape[-1]), np.float32)
  nearest = codes.shape[1] * math.prod(shape)
  macs = {
    'encode': nearest + convolution_macs(network, params, waveform, 'encode'),
    'decode': convolution_macs(network, params, latents, 'decode'),
  }
  about = {
    'flops': {name: 2 * number for name, number in macs.items()},
    'counter': {
      name: call.cost_analysis()['flops']
      for name, call in (('encode', encode), ('decode', decode))
    },
    'versions': {'jax': jax.__version__},
  }
  calls = {
    'encode': lambda: jax.block_until_ready(encode(*weights, waveform)),
    'decode': lambda: jax.block_until_ready(decode(*weights, codes)),
  }
  serve(about, calls)


if __name__ == '__main__':
  main()
