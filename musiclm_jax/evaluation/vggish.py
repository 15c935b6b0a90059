"""VGGish in Flax: log-mels [B, 96, 64] -> embedding [B, 128] (Hershey 2017).

Layers are named as in the TF checkpoint, whose kernels are these unchanged
(`interop/vggish.py`). The embedding has no activation: a ReLU after it, as a
published PyTorch port has one, gives other distances.
"""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

EMBED_DIM = 128
# Name of a layer -> its channels; a pooling follows each group.
GROUPS = (
  {'conv1': 64},
  {'conv2': 128},
  {'conv3_1': 256, 'conv3_2': 256},
  {'conv4_1': 512, 'conv4_2': 512},
)
DENSE = {'fc1_1': 4096, 'fc1_2': 4096, 'fc2': EMBED_DIM}


class Vggish(nn.Module):
  """The network of six convolutions and three dense layers."""

  @nn.compact
  def __call__(self, log_mels: Float[Array, 'B T M']) -> Float[Array, 'B D']:
    """Embeds examples of 96 frames by 64 mels."""
    x = log_mels[..., None]
    for group in GROUPS:
      for name, channels in group.items():
        x = nn.relu(nn.Conv(channels, (3, 3), name=name)(x))
      x = nn.max_pool(x, (2, 2), (2, 2), 'SAME')
    x = x.reshape(len(x), -1)
    for name, width in DENSE.items():
      x = nn.Dense(width, name=name)(x if name == 'fc1_1' else nn.relu(x))
    return jnp.asarray(x)
