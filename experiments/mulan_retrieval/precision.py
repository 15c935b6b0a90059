"""How early the relevant keys of a query come: scores [N, M] -> [N]."""

import numpy as np


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
