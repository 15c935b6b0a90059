"""Baselines of language models: unigrams and bigrams of training tokens.

Training tokens -> tables of log-probabilities -> nats per held-out token,
which a language model has to undercut.
"""

from collections.abc import Sequence

import numpy as np


def unigram(tokens: np.ndarray, codebook_size: int) -> np.ndarray:
  """Add-one log-probabilities [K] of training tokens."""
  counts = np.bincount(np.ravel(tokens), minlength=codebook_size) + 1.0
  return np.log(counts / counts.sum())


def bigram(streams: Sequence[np.ndarray], codebook_size: int) -> np.ndarray:
  """Add-one log-probabilities [K, K] of the next training token."""
  counts = np.ones((codebook_size, codebook_size))
  for stream in streams:
    np.add.at(counts, (stream[:-1], stream[1:]), 1.0)
  return np.log(counts / counts.sum(axis=1, keepdims=True))


def unigram_nll(tokens: np.ndarray, table: np.ndarray) -> np.ndarray:
  """Nats per token of each example [B, T] -> [B]."""
  return -table[tokens].mean(axis=1)


def bigram_nll(
  tokens: np.ndarray, table: np.ndarray, first: np.ndarray
) -> np.ndarray:
  """Nats per token of each example [B, T] -> [B].

  Args:
    tokens: Held-out tokens.
    table: Of `bigram`.
    first: Unigram log-probabilities of the first token.
  """
  rest = table[tokens[:, :-1], tokens[:, 1:]]
  return -np.concatenate([first[tokens[:, :1]], rest], axis=1).mean(axis=1)
