"""Writes the PyTorch twin of the LM's Transformer: T5 v1.1's decoder.

The twin is `transformers`' T5 stack with gated GELU and without
cross-attention: two layers that share one causal, bucketed relative bias.
Run under a Python that has torch and transformers:

  python experiments/parity/lm_block.py tests/fixtures/lm_block.npz
"""

import sys

import numpy as np
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention, T5Stack

SETTINGS = {
  'num_layers': 2,
  'embed_dim': 24,
  'num_heads': 3,
  'head_dim': 8,
  'mlp_dim': 40,
  'relative_buckets': 16,
  'relative_max_distance': 50,
}
LENGTH = 90  # beyond the maximal distance
# (buckets, maximal distance, bidirectional)
BUCKETINGS = ((32, 128, False), (128, 2262, False), (32, 128, True))
DISTANCES = np.arange(-2300, 2301)  # query minus key


def main() -> None:
  """Writes settings, weights, input and output to the path in argv[1]."""
  torch.manual_seed(0)
  config = transformers.T5Config(
    vocab_size=2,
    d_model=SETTINGS['embed_dim'],
    d_kv=SETTINGS['head_dim'],
    d_ff=SETTINGS['mlp_dim'],
    num_layers=SETTINGS['num_layers'],
    num_heads=SETTINGS['num_heads'],
    relative_attention_num_buckets=SETTINGS['relative_buckets'],
    relative_attention_max_distance=SETTINGS['relative_max_distance'],
    feed_forward_proj='gated-gelu',
    is_decoder=True,
    use_cache=False,
  )
  twin = T5Stack(config).eval()
  weights = {}
  for name, value in twin.named_parameters():
    if 'EncDecAttention' in name or 'embed_tokens' in name:
      continue
    if name.startswith('block') and '.layer.1.' in name:
      continue  # cross-attention's norm
    # Large enough that norms and biases matter.
    spread = 1.0 if 'norm' in name or 'bias' in name else 0.3
    with torch.no_grad():
      value.copy_(torch.randn_like(value) * spread)
    weights[name] = value.detach().numpy()
  x = torch.randn(2, LENGTH, SETTINGS['embed_dim'])
  with torch.no_grad():
    y = twin(inputs_embeds=x).last_hidden_state
  buckets = [
    T5Attention._relative_position_bucket(
      torch.from_numpy(-DISTANCES),
      bidirectional=bidirectional,
      num_buckets=count,
      max_distance=distance,
    ).numpy()
    for count, distance, bidirectional in BUCKETINGS
  ]
  np.savez_compressed(
    sys.argv[1],
    bucketings=np.array(BUCKETINGS, np.int32),
    distances=DISTANCES.astype(np.int32),
    buckets=np.array(buckets, np.int32),
    input=x.numpy(),
    output=y.numpy(),
    versions=np.array([torch.__version__, transformers.__version__]),
    **{f'settings/{key}': np.array(value) for key, value in SETTINGS.items()},
    **{f'weights/{name}': value for name, value in weights.items()},
  )


if __name__ == '__main__':
  main()
