"""Retrieval: does text find its audio.

scores [N, M] of N queries and M keys, or embeddings of pairs -> figures per
query [N].
"""

import numpy as np

_DRAWS = 50


def recall_at(scores: np.ndarray, k: int) -> np.ndarray:
  """How likely each query has its own key among the first k.

  A tie is broken at random and counted by its expectation, so that a network
  that scores everything alike has what chance has.

  Args:
    scores: [N, N]; key i is query i's own, higher is better.
    k: At least 1.

  Returns:
    Probabilities over the order of ties, [N]; 0 or 1 where there are none.
  """
  own = np.diagonal(scores)[:, None]
  better = (scores > own).sum(axis=1)
  tied = (scores == own).sum(axis=1)  # own key included
  return np.clip((k - better) / tied, 0.0, 1.0)


def gallery_recall(
  text: np.ndarray, audio: np.ndarray, *, gallery: int, seed: int = 0
) -> np.ndarray:
  """How often each text ranks its own audio first among `gallery` pairs.

  Args:
    text: Unit embeddings [N, D]; row i belongs to row i of `audio`.
    audio: Unit embeddings [N, D].
    gallery: Pairs that compete; N > gallery averages over 50 draws, which
      takes the luck of one gallery out of the figure.
    seed: Of the draws.

  Returns:
    Share of the draws that were won, per pair [N].

  Raises:
    ValueError: If there are fewer pairs than the gallery needs.
  """
  count = len(text)
  if count < gallery:
    raise ValueError(f'expected {gallery} distinct pairs, got {count}')
  scores = text @ audio.T
  rng = np.random.default_rng([seed, count])
  hits, drawn = np.zeros(count), np.zeros(count)
  for _ in range(_DRAWS if count > gallery else 1):
    chosen = rng.permutation(count)[:gallery]
    hits[chosen] += recall_at(scores[np.ix_(chosen, chosen)], 1)
    drawn[chosen] += 1
  return hits[drawn > 0] / drawn[drawn > 0]
