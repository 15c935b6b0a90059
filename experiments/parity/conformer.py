"""Writes the Conformer fixture: transformers' Wav2Vec2Conformer layer.

Where the two coincide: relative positions of Transformer-XL, BatchNorm with
running statistics, Swish, evaluation mode. `conformer.py OUT.npz`.
"""

import sys

import numpy as np
import torch
import transformers
from transformers import Wav2Vec2ConformerConfig
from transformers.models.wav2vec2_conformer import (
  modeling_wav2vec2_conformer as reference,
)

DIM, HEADS, MLP, KERNEL, BATCH, FRAMES = 16, 2, 32, 5, 2, 7


def twin() -> tuple[torch.nn.Module, torch.nn.Module]:
  """Makes the layer and its position table, all weights from seed 0."""
  torch.manual_seed(0)
  config = Wav2Vec2ConformerConfig(
    hidden_size=DIM,
    num_attention_heads=HEADS,
    intermediate_size=MLP,
    conv_depthwise_kernel_size=KERNEL,
    position_embeddings_type='relative',
    hidden_act='swish',
    max_source_positions=64,
  )
  config._attn_implementation = 'eager'
  layer = reference.Wav2Vec2ConformerEncoderLayer(config).eval()
  with torch.no_grad():
    for name, tensor in layer.state_dict().items():
      if name.endswith('running_var'):
        tensor.uniform_(0.5, 2.0)
      elif tensor.is_floating_point():
        # Biases, norms and running means too: zeros would hide mistakes.
        scale = 0.3 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
        tensor.add_(scale * torch.randn(tensor.shape))
  return layer, reference.Wav2Vec2ConformerRelPositionalEmbedding(config)


def main() -> None:
  """Writes weights, input, output and versions to argv[1]."""
  layer, positions = twin()
  x = torch.randn(BATCH, FRAMES, DIM)
  with torch.no_grad():
    y = layer(x, relative_position_embeddings=positions(x))
  np.savez(
    sys.argv[1],
    x=x.numpy(),
    y=(y[0] if isinstance(y, tuple) else y).numpy(),
    versions=f'torch {torch.__version__}, '
    f'transformers {transformers.__version__}',
    **{f'weight.{k}': v.numpy() for k, v in layer.state_dict().items()},
  )


if __name__ == '__main__':
  main()
