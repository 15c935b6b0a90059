"""Ranking: scores [N, M] of N queries and M keys -> figures per query [N].

A tie is broken at random and counted by its expectation, so that a network
that scores everything alike has what chance has, and a retriever that knows
attributes only (`attribute_oracle`) is a matrix of scores like any other.
"""

import numpy as np


def recall_at(scores: np.ndarray, k: int) -> np.ndarray:
  """How likely each query has its own key among the first k.

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


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
  """Precision at each relevant key's place, averaged over these keys.

  Args:
    scores: [N, M]; ties keep the order of the keys.
    relevant: bool [N, M].

  Returns:
    [N]; NaN where a query has no relevant key.
  """
  order = np.argsort(-scores, axis=1, kind='stable')
  found = np.take_along_axis(relevant, order, axis=1)
  precision = found.cumsum(axis=1) / np.arange(1, found.shape[1] + 1)
  count = found.sum(axis=1)
  summed = (precision * found).sum(axis=1)
  return np.where(count > 0, summed / np.maximum(count, 1), np.nan)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
  """How likely a positive scores above a negative, a tie being half.

  Args:
    scores: [N].
    positive: bool [N].

  Raises:
    ValueError: If there are no positives or no negatives.
  """
  from scipy import stats

  positive = np.asarray(positive, bool)
  ours, theirs = int(positive.sum()), int((~positive).sum())
  if not ours or not theirs:
    raise ValueError(f'expected both classes, came {ours} and {theirs}')
  summed = stats.rankdata(scores)[positive].sum()
  return float((summed - ours * (ours + 1) / 2) / (ours * theirs))


def attribute_oracle(fits: np.ndarray) -> np.ndarray:
  """Scores of a retriever that knows what captions state, and nothing else.

  Caption i was written of one of the clips that it fits, each as likely as
  the others. So clips are tied where the caption fits, and a clip ranks the
  captions that fit it by how few others they fit.

  Args:
    fits: bool [captions, clips], whether all that caption i states is true
      of clip j; true on the diagonal.

  Returns:
    Probability that caption i was written of clip j; the transpose ranks
    captions of a clip.

  Raises:
    ValueError: If a caption does not fit its own clip.
  """
  if not np.diagonal(fits).all():
    wrong = np.flatnonzero(~np.diagonal(fits))[:5]
    raise ValueError(f'captions {wrong.tolist()} do not fit their own clips')
  return fits / fits.sum(axis=1, keepdims=True)
