"""How much single tokens tell about the music at their frame.

Token streams [U, T] and label streams [U, T] -> how much the tokens
tell about the labels, beside what they tell about those of other pieces: a
stream that names its piece would otherwise seem to name all that is constant
in it.
"""

from collections.abc import Callable

import numpy as np

from musiclm_jax.metrics.probe import NO_LABEL

Measure = Callable[[np.ndarray, np.ndarray], float]


def purity(tokens: np.ndarray, labels: np.ndarray) -> float:
  """Share of frames that carry the likeliest label of their token."""
  counts = _table(tokens, labels)
  return float(counts.max(axis=1).sum() / counts.sum())


def known_share(tokens: np.ndarray, labels: np.ndarray) -> float:
  """I(token; label) / H(label): the share of the labels' entropy known."""
  joint = _table(tokens, labels)
  joint = joint / joint.sum()
  by_token, by_label = joint.sum(axis=1), joint.sum(axis=0)
  entropy = _entropy(by_label)
  if entropy == 0:
    return 0.0
  return (_entropy(by_token) + entropy - _entropy(joint.ravel())) / entropy


def chance(
  measure: Measure,
  tokens: np.ndarray,
  labels: np.ndarray,
  *,
  seed: int = 0,
  permutations: int = 20,
) -> float:
  """The measure between tokens and the labels of other rows, on average.

  Args:
    measure: `purity` or `known_share`.
    tokens: [U, T].
    labels: [U, T], `NO_LABEL` where there is none.
    seed: Of the permutations.
    permutations: Their number.
  """
  rng = np.random.default_rng([seed, len(tokens)])
  return float(
    np.mean(
      [
        measure(tokens, labels[rng.permutation(len(labels))])
        for _ in range(permutations)
      ]
    )
  )


def _table(tokens: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """How often each token has each label, [K, C], labelled frames alone."""
  labelled = labels != NO_LABEL
  table = np.zeros((tokens.max() + 1, labels.max() + 1), np.int64)
  np.add.at(table, (tokens[labelled], labels[labelled]), 1)
  return table


def _entropy(shares: np.ndarray) -> float:
  shares = shares[shares > 0]
  return float(-np.sum(shares * np.log(shares)))
