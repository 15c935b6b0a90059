"""Small BERT checkpoints for tests: drawn tensors, written as published."""

import json

import numpy as np
from safetensors.numpy import save_file

SIZES = {
  'vocab_size': 30,
  'max_length': 9,
  'num_layers': 2,
  'embed_dim': 12,
  'num_heads': 3,
  'mlp_dim': 20,
}
CONFIG = {
  'model_type': 'bert',
  'vocab_size': 30,
  'max_position_embeddings': 9,
  'num_hidden_layers': 2,
  'hidden_size': 12,
  'num_attention_heads': 3,
  'intermediate_size': 20,
  'hidden_act': 'gelu',
}


def drawn_tensors():
  """Tensors by BertModel's names, (out, in), large enough to matter."""
  rng = np.random.default_rng(0)
  dim, mlp = SIZES['embed_dim'], SIZES['mlp_dim']
  shapes = {
    'embeddings.word_embeddings.weight': (SIZES['vocab_size'], dim),
    'embeddings.position_embeddings.weight': (SIZES['max_length'], dim),
    'embeddings.token_type_embeddings.weight': (2, dim),
    'embeddings.LayerNorm.weight': (dim,),
    'embeddings.LayerNorm.bias': (dim,),
    'pooler.dense.weight': (dim, dim),
    'pooler.dense.bias': (dim,),
  }
  for layer in range(SIZES['num_layers']):
    for name, shape in (
      ('attention.self.query', (dim, dim)),
      ('attention.self.key', (dim, dim)),
      ('attention.self.value', (dim, dim)),
      ('attention.output.dense', (dim, dim)),
      ('attention.output.LayerNorm', (dim,)),
      ('intermediate.dense', (mlp, dim)),
      ('output.dense', (dim, mlp)),
      ('output.LayerNorm', (dim,)),
    ):
      shapes[f'encoder.layer.{layer}.{name}.weight'] = shape
      shapes[f'encoder.layer.{layer}.{name}.bias'] = shape[:1]
  return {
    name: rng.normal(0.0, 0.4, shape).astype(np.float32)
    for name, shape in shapes.items()
  }


def write_checkpoint(folder, tensors, config=CONFIG, lines=30):
  """Writes a folder; its vocabulary is the special pieces and `piece<k>`."""
  folder.mkdir(exist_ok=True)
  save_file(tensors, folder / 'model.safetensors')
  pieces = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  pieces += [f'piece{k}' for k in range(lines - len(pieces))]
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  if config is not None:
    (folder / 'config.json').write_text(json.dumps(config))
  return folder
