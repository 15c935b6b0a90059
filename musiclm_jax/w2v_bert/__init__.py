"""w2v-BERT and its k-means: semantic tokens (2108.06209)."""
