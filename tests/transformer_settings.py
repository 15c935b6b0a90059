"""Small Transformers for tests: a language model's and a text tower's."""

LM = {
  'num_layers': 2,
  'embed_dim': 16,
  'num_heads': 2,
  'head_dim': 8,
  'mlp_dim': 32,
  'causal': True,
  'relative_buckets': 8,
  'relative_max_distance': 20,
}
BERT = {
  'num_layers': 2,
  'embed_dim': 16,
  'num_heads': 2,
  'head_dim': 8,
  'mlp_dim': 32,
  'norm': 'layer',
  'norm_first': False,
  'norm_epsilon': 1e-12,
  'final_norm': False,
  'use_bias': True,
  'gated': False,
  'activation': 'gelu',
  'scale_logits': True,
}
