"""Writes the PyTorch twin of MuLan's AST: `transformers`' ASTModel.

(A file named ast.py would hide Python's own module of that name.) Run under a
Python that has torch and transformers:

  python experiments/parity/audio_transformer.py \
    tests/fixtures/audio_transformer.npz
"""

import sys

import numpy as np
import torch
import transformers

SETTINGS = {
  'num_layers': 2,
  'embed_dim': 24,
  'num_heads': 3,
  'mlp_dim': 40,
  'patch_size': 8,
  'patch_stride': 5,
}
FRAMES, BANDS = 34, 20  # neither is covered by whole strides


def main() -> None:
  """Writes settings, weights, input and output to the path in argv[1]."""
  torch.manual_seed(0)
  config = transformers.ASTConfig(
    num_hidden_layers=SETTINGS['num_layers'],
    hidden_size=SETTINGS['embed_dim'],
    num_attention_heads=SETTINGS['num_heads'],
    intermediate_size=SETTINGS['mlp_dim'],
    patch_size=SETTINGS['patch_size'],
    time_stride=SETTINGS['patch_stride'],
    frequency_stride=SETTINGS['patch_stride'],
    max_length=FRAMES,
    num_mel_bins=BANDS,
  )
  twin = transformers.ASTModel(config).eval()
  with torch.no_grad():
    for name, value in twin.named_parameters():
      spread = 1.0 if 'layernorm' in name or 'embeddings' in name else 0.3
      value.copy_(torch.randn_like(value) * spread)
    x = torch.randn(2, FRAMES, BANDS)
    y = twin(x).pooler_output
  np.savez_compressed(
    sys.argv[1],
    input=x.numpy(),
    output=y.numpy(),
    versions=np.array([torch.__version__, transformers.__version__]),
    **{f'settings/{key}': np.array(value) for key, value in SETTINGS.items()},
    **{
      f'weights/{name}': value.detach().numpy()
      for name, value in twin.named_parameters()
    },
  )


if __name__ == '__main__':
  main()
