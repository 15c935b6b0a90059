"""Writes the PyTorch twin of MuLan's text tower: `transformers`' BertModel.

Run under a Python that has torch and transformers:

  python experiments/parity/bert.py tests/fixtures/bert.npz
"""

import sys

import numpy as np
import torch
import transformers

SETTINGS = {
  'vocab_size': 50,
  'max_length': 12,
  'num_layers': 2,
  'embed_dim': 24,
  'num_heads': 3,
  'mlp_dim': 40,
}
LENGTHS = (12, 5, 2)  # of the texts, padding follows


def main() -> None:
  """Writes settings, weights, ids and output to the path in argv[1]."""
  torch.manual_seed(0)
  config = transformers.BertConfig(
    vocab_size=SETTINGS['vocab_size'],
    max_position_embeddings=SETTINGS['max_length'],
    num_hidden_layers=SETTINGS['num_layers'],
    hidden_size=SETTINGS['embed_dim'],
    num_attention_heads=SETTINGS['num_heads'],
    intermediate_size=SETTINGS['mlp_dim'],
  )
  twin = transformers.BertModel(config, add_pooling_layer=False).eval()
  with torch.no_grad():
    for name, value in twin.named_parameters():
      # Large enough that norms, biases and attention matter.
      spread = 1.0 if 'LayerNorm' in name or 'embeddings' in name else 0.3
      value.copy_(torch.randn_like(value) * spread)
    ids = torch.randint(1, SETTINGS['vocab_size'], (3, max(LENGTHS)))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = ids * mask
    hidden = twin(ids, attention_mask=mask.long()).last_hidden_state
  np.savez_compressed(
    sys.argv[1],
    text_ids=ids.numpy().astype(np.int32),
    output=hidden[:, 0].numpy(),
    output_mean=np.stack(
      [row[:n].mean(0).numpy() for row, n in zip(hidden, LENGTHS, strict=True)]
    ),
    versions=np.array([torch.__version__, transformers.__version__]),
    **{f'settings/{key}': np.array(value) for key, value in SETTINGS.items()},
    **{
      f'weights/{name}': value.detach().numpy()
      for name, value in twin.named_parameters()
    },
  )


if __name__ == '__main__':
  main()
